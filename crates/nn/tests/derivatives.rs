//! Every operator's vjp and jet against finite differences of its own forward pass in f64,
//! and every instruction set in f32 against f64.

#[path = "derivatives/several_images.rs"]
mod several_images;
#[path = "derivatives/winograd.rs"]
mod winograd;

use nn::engine::Network;
use nn::graph::{Graph, Op};
use nn::kernel::isa::Isa;
use nn::op::activation::Activation;
use nn::op::attention::{AttentionRule, Part};
use nn::op::binary::{Arithmetic, Binary, Operand};
use nn::op::conv::Window;
use nn::op::matmul::{MatMul, Matrices};
use nn::op::pointwise::Pointwise;
use nn::op::pool::PoolKind;
use nn::op::pool_rows::Statistic;
use nn::op::rearrange::{Rearrangement, ZERO};
use nn::op::reduce::Reduce;
use nn::tap::{Pool, Rows};
use nn::tensor::Shape;

/// Values in [−1, 1) from a linear congruence: the tests need no more.
struct Values(u64);

impl Values {
    fn next(&mut self, scale: f64) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 40) as f64 / (1u64 << 23) as f64 - 1.0) * scale
    }

    fn f32(&mut self, len: usize, scale: f64) -> Vec<f32> {
        (0..len).map(|_| self.next(scale) as f32).collect()
    }

    fn f64(&mut self, len: usize, scale: f64) -> Vec<f64> {
        (0..len).map(|_| self.next(scale)).collect()
    }
}

fn point(v: &mut Values, input: usize, out: usize, rows: (usize, usize)) -> Op {
    Op::Conv {
        window: Window::POINT,
        size: rows,
        weight: v.f32(input * out, 1.0).into(),
        bias: v.f32(out, 0.5),
        groups: 1,
    }
}

/// 9×9×3 → 5 channels by a strided 3×3 convolution with a sloping activation: gives every
/// operator under test an input it can bend.
fn stem(v: &mut Values, channels: usize, activation: Activation) -> (Graph, usize) {
    let mut g = Graph::new(9);
    let op = Op::Affine { scale: v.f32(3, 1.0), shift: v.f32(3, 0.3) };
    let x = g.add("affine", op, &[0]).unwrap();
    let window = Window { kh: 3, kw: 3, stride: 2, top: 0, left: 1 };
    let op = Op::Conv {
        window,
        size: (4, 5),
        weight: v.f32(channels * 27, 0.5).into(),
        bias: v.f32(channels, 0.5),
        groups: 1,
    };
    let x = g.add("conv", op, &[x]).unwrap();
    let x = g.add("bend", Op::Activation(activation), &[x]).unwrap();
    (g, x)
}

fn cases() -> Vec<(&'static str, Graph)> {
    use Activation::{Gelu, GeluTanh, QuickGelu, Relu, Relu6, Silu};
    let mut v = Values(7);
    let mut all = Vec::new();
    for (name, activation) in [
        ("gelu", Gelu),
        ("gelu tanh", GeluTanh),
        ("quick gelu", QuickGelu),
        ("silu", Silu),
        ("relu", Relu),
        ("relu6", Relu6),
    ] {
        let (g, _) = stem(&mut v, 5, activation);
        all.push((name, g));
    }

    // An activation that cannot merge: its input has two readers.
    let (mut g, x) = stem(&mut v, 6, Gelu);
    let y = g.add("silu", Op::Activation(Silu), &[x]).unwrap();
    g.add("add", Op::Add, &[x, y]).unwrap();
    all.push(("activation and add", g));

    // Residual merged into the linear layer, with and without an activation after it.
    for after in [None, Some(Silu), Some(Relu)] {
        let (mut g, x) = stem(&mut v, 6, Gelu);
        let op = point(&mut v, 6, 6, (4, 5));
        let y = g.add("linear", op, &[x]).unwrap();
        let y = g.add("add", Op::Add, &[x, y]).unwrap();
        if let Some(f) = after {
            g.add("after", Op::Activation(f), &[y]).unwrap();
        }
        all.push(("residual", g));
    }

    for (kernel, stride, pad, size) in
        [(3, 1, 1, (4, 5)), (3, 2, 0, (2, 3)), (5, 1, 2, (4, 5)), (5, 2, 2, (2, 3)), (3, 2, 1, (2, 3))]
    {
        let window = Window { kh: kernel, kw: kernel, stride, top: pad, left: pad };
        let taps = kernel * kernel;
        for channels in [16, 21] {
            let (mut g, x) = stem(&mut v, channels, Silu);
            let (weight, bias) = (v.f32(channels * taps, 0.5), v.f32(channels, 0.5));
            let x = g.add("depthwise", Op::Depthwise { window, size, weight, bias }, &[x]).unwrap();
            g.add("act", Op::Activation(if channels == 16 { Gelu } else { Relu6 }), &[x]).unwrap();
            all.push(("depthwise", g));
        }
        let (mut g, x) = stem(&mut v, 7, Silu);
        let (weight, bias) = (v.f32(4 * 7 * taps, 0.3), v.f32(4, 0.5));
        g.add("conv2", Op::Conv { window, size, weight: weight.into(), bias, groups: 1 }, &[x]).unwrap();
        all.push(("conv", g));
    }

    // MobileNet's block, which is one step, with and without its first convolution and its sum.
    for (expand, stride, size) in [(true, 1, (4, 5)), (false, 1, (4, 5)), (true, 2, (2, 3))] {
        let (mut g, x) = stem(&mut v, 6, Silu);
        let (mut y, mut channels) = (x, 6);
        if expand {
            channels = 19;
            let op = point(&mut v, 6, channels, (4, 5));
            y = g.add("expand", op, &[y]).unwrap();
            y = g.add("act", Op::Activation(Relu6), &[y]).unwrap();
        }
        let window = Window { kh: 3, kw: 3, stride, top: 1, left: 1 };
        let (weight, bias) = (v.f32(channels * 9, 0.5), v.f32(channels, 0.5));
        y = g.add("depthwise", Op::Depthwise { window, size, weight, bias }, &[y]).unwrap();
        y = g.add("act", Op::Activation(Relu), &[y]).unwrap();
        let op = point(&mut v, channels, 6, size);
        y = g.add("project", op, &[y]).unwrap();
        if stride == 1 {
            g.add("sum", Op::Add, &[x, y]).unwrap();
        }
        all.push(("inverted residual", g));
    }

    // Asymmetric kernels, and groups; an activation and a sum after a grouped convolution stay steps of their own.
    for (kh, kw, stride, top, left, size, groups) in [
        (1, 7, 1, 0, 3, (4, 5), 1),
        (7, 1, 1, 3, 0, (4, 5), 1),
        (1, 3, 2, 0, 1, (2, 3), 1),
        (1, 1, 1, 0, 0, (4, 5), 2),
        (3, 3, 1, 1, 1, (4, 5), 3),
        (3, 2, 2, 1, 0, (2, 2), 2),
    ] {
        let window = Window { kh, kw, stride, top, left };
        let (mut g, x) = stem(&mut v, 6, Silu);
        let (weight, bias) = (v.f32(6 * 6 / groups * kh * kw, 0.3), v.f32(6, 0.5));
        let y = g.add("conv", Op::Conv { window, size, weight: weight.into(), bias, groups }, &[x]).unwrap();
        let y = if size == (4, 5) { g.add("sum", Op::Add, &[x, y]).unwrap() } else { y };
        g.add("act", Op::Activation(Gelu), &[y]).unwrap();
        all.push(("asymmetric or grouped conv", g));
    }

    // Padding on all sides, and windows that overlap, touch, or leave gaps.
    for (kh, kw, stride, top, left, size) in [
        (3, 3, 1, 1, 1, (4, 5)),
        (3, 3, 2, 1, 0, (2, 2)),
        (2, 2, 2, 0, 0, (2, 2)),
        (2, 3, 2, 1, 2, (3, 3)),
        (1, 2, 3, 0, 1, (2, 2)),
    ] {
        let window = Window { kh, kw, stride, top, left };
        let average = |count_padding| PoolKind::Average { count_padding };
        for kind in [PoolKind::Max, average(true), average(false)] {
            let (mut g, x) = stem(&mut v, 7, Silu);
            let y = g.add("pool", Op::Pool { window, size, kind }, &[x]).unwrap();
            // A second reader, so that the gradients of two windows meet.
            let z = g.add("again", Op::Pool { window, size, kind }, &[x]).unwrap();
            let z = g.add("bend", Op::Activation(Gelu), &[z]).unwrap();
            g.add("sum", Op::Add, &[y, z]).unwrap();
            all.push(("window pool", g));
        }
    }

    // Channels apart and side by side, one of them twice.
    let (mut g, x) = stem(&mut v, 7, Gelu);
    let a = g.add("first", Op::Channels { from: 0, count: 3 }, &[x]).unwrap();
    let b = g.add("middle", Op::Channels { from: 2, count: 4 }, &[x]).unwrap();
    let b = g.add("bend", Op::Activation(Silu), &[b]).unwrap();
    g.add("concat", Op::Concat, &[b, a, x, a]).unwrap();
    all.push(("channels and concat", g));

    for affine in [false, true] {
        let (mut g, x) = stem(&mut v, 19, Gelu);
        let affine = affine.then(|| (v.f32(19, 1.0), v.f32(19, 0.5)));
        g.add("norm", Op::LayerNorm { eps: 1e-3, affine }, &[x]).unwrap();
        all.push(("layer norm", g));
    }

    // Q, K and V in one node, then in two with a single query.
    let (mut g, x) = stem(&mut v, 5, Gelu);
    let op = point(&mut v, 5, 18, (4, 5));
    let qkv = g.add("qkv", op, &[x]).unwrap();
    let part = |input, column| Part { input, column };
    let rule = AttentionRule { heads: 2, dim: 3, query: part(0, 0), key: part(0, 6), value: part(0, 12) };
    let mut shared = g.clone();
    g.add("attention", Op::Attention(rule), &[qkv]).unwrap();
    all.push(("attention", g));
    // Keys that are the queries, and values that overlap both.
    let rule = AttentionRule { heads: 2, dim: 3, query: part(0, 0), key: part(0, 0), value: part(0, 3) };
    shared.add("attention", Op::Attention(rule), &[qkv]).unwrap();
    all.push(("attention of shared columns", shared));
    let (mut g, x) = stem(&mut v, 5, Gelu);
    let first = g.add("first", Op::FirstTokens(1), &[x]).unwrap();
    let (q, kv) = (point(&mut v, 5, 6, (1, 1)), point(&mut v, 5, 12, (4, 5)));
    let q = g.add("q", q, &[first]).unwrap();
    let kv = g.add("kv", kv, &[x]).unwrap();
    let rule = AttentionRule { heads: 2, dim: 3, query: part(0, 0), key: part(1, 0), value: part(1, 6) };
    g.add("attention", Op::Attention(rule), &[q, kv]).unwrap();
    all.push(("attention, class token only", g));

    let (mut g, x) = stem(&mut v, 4, Silu);
    let op = Op::Tokens { prefix: v.f32(8, 1.0), position: v.f32(80, 1.0) };
    let x = g.add("tokens", op, &[x]).unwrap();
    let op = point(&mut v, 4, 6, (22, 1));
    let x = g.add("linear", op, &[x]).unwrap();
    g.add("gate", Op::GatedSilu, &[x]).unwrap();
    all.push(("tokens and gate", g));

    let (mut g, x) = stem(&mut v, 4, Silu);
    let x = g.add("shortcut", Op::Shortcut { stride: 2, pad_channels: 3 }, &[x]).unwrap();
    g.add("pool", Op::GlobalAveragePool, &[x]).unwrap();
    all.push(("shortcut and pool", g));
    for statistic in [Statistic::Mean, Statistic::StdDev] {
        let (mut g, x) = stem(&mut v, 6, Gelu);
        g.add("pool", Op::PoolRows { skip: 2, statistic }, &[x]).unwrap();
        all.push(("rows", g));
    }
    general(&mut v, &mut all);
    winograd::cases(&mut v, &mut all);
    all
}

/// The operators that ONNX files need beside those of the networks by name.
fn general(v: &mut Values, all: &mut Vec<(&'static str, Graph)>) {
    use Activation::Silu;
    use Pointwise::*;
    let kinds = [
        ("sigmoid", Sigmoid),
        ("hard sigmoid", HardSigmoid { slope: 1.0 / 6.0, offset: 0.5 }),
        ("hard swish", HardSwish),
        ("leaky relu", LeakyRelu(0.1)),
        ("clip", Clip { low: 0.1, high: 0.7 }),
        ("elu", Elu(0.8)),
        ("softplus", Softplus),
        ("mish", Mish),
        ("tanh", Tanh),
        ("erf", Erf),
        ("exp", Exp),
        ("absolute", Abs),
        ("square", Power(2.0)),
        ("cube", Power(3.0)),
    ];
    for (name, f) in kinds {
        let (mut g, x) = stem(v, 5, Silu);
        g.add(name, Op::Pointwise(f), &[x]).unwrap();
        all.push((name, g));
    }
    // Those that need positive numbers get e^x.
    for (name, f) in [("log", Log), ("root", Sqrt), ("reciprocal", Power(-1.0)), ("power", Power(-0.5))] {
        let (mut g, x) = stem(v, 5, Silu);
        let x = g.add("exp", Op::Pointwise(Exp), &[x]).unwrap();
        g.add(name, Op::Pointwise(f), &[x]).unwrap();
        all.push((name, g));
    }

    // Broadcasting: same shape, one value a channel, one value a row, a transposed side, a constant; 20 rows of 18.
    use Arithmetic::*;
    let side = |input, strides: &[usize]| Operand { input, offset: 0, strides: strides.to_vec() };
    for kind in [Add, Subtract, Multiply, Divide, Maximum, Minimum] {
        for b in [vec![18, 1], vec![0, 1], vec![18, 0], vec![1, 20]] {
            for constant in [false, true] {
                let (mut g, x) = stem(v, 18, Silu);
                let x = g.add("x", point(v, 18, 18, (4, 5)), &[x]).unwrap();
                let y = g.add("y", Op::Pointwise(Exp), &[x]).unwrap();
                let constants = if constant { v.f32(360, 1.0) } else { vec![] };
                let b = side((!constant).then_some(1), &b);
                let constants: Vec<f32> = constants.iter().map(|c| c + 1.5).collect();
                let op =
                    Binary { kind, dims: vec![20, 18], a: side(Some(0), &[18, 1]), b, constant: constants };
                let inputs = if constant { vec![x] } else { vec![x, y] };
                g.add("binary", Op::Binary(op, Shape::new(4, 5, 18)), &inputs).unwrap();
                all.push(("binary", g));
            }
        }
    }
    // The constant on the left, one node on both sides.
    let (mut g, x) = stem(v, 18, Silu);
    let constant: Vec<f32> = v.f32(18, 1.0);
    let x = g.add("exp", Op::Pointwise(Exp), &[x]).unwrap();
    let a = side(None, &[0, 1]);
    let op = Binary { kind: Divide, dims: vec![20, 18], a, b: side(Some(0), &[18, 1]), constant };
    let x = g.add("divide", Op::Binary(op, Shape::new(20, 1, 18)), &[x]).unwrap();
    let (a, b) = (side(Some(0), &[18, 1]), side(Some(1), &[1, 20]));
    let op = Binary { kind: Multiply, dims: vec![20, 18], a, b, constant: vec![] };
    g.add("multiply", Op::Binary(op, Shape::new(20, 1, 18)), &[x, x]).unwrap();
    all.push(("binary of one node", g));

    // Means over rows, over channels, over a middle axis of 4×5×6.
    for strides in [[0, 0, 1], [5, 1, 0], [6, 0, 1], [0, 0, 0]] {
        let (mut g, x) = stem(v, 6, Silu);
        let len = 1 + [3, 4, 5].iter().zip(strides).map(|(d, s)| d * s).sum::<usize>();
        let op = Reduce { dims: vec![4, 5, 6], strides: strides.to_vec(), factor: 0.3, len };
        g.add("reduce", Op::Reduce(op, Shape::new(len, 1, 1)), &[x]).unwrap();
        all.push(("reduce", g));
    }

    let (mut g, x) = stem(v, 19, Silu);
    g.add("softmax", Op::Softmax, &[x]).unwrap();
    all.push(("softmax", g));

    // Two heads of 10×6 times 6×10, the second side lying transposed; then with that product repeated.
    let (mut g, x) = stem(v, 6, Silu);
    let y = g.add("y", point(v, 6, 6, (4, 5)), &[x]).unwrap();
    for shared in [false, true] {
        let a = Matrices { offset: 0, batch: vec![60], row: 6, column: 1 };
        let b = Matrices { offset: 0, batch: vec![if shared { 0 } else { 60 }], row: 1, column: 6 };
        let op = MatMul { dims: vec![2], m: 10, k: 6, n: 10, a, b };
        let mut g = g.clone();
        let s = g.add("scores", Op::MatMul(op, Shape::new(20, 1, 10)), &[x, y]).unwrap();
        let a = Matrices { offset: 0, batch: vec![100], row: 1, column: 10 };
        let b = Matrices { offset: 0, batch: vec![60], row: 6, column: 1 };
        let op = MatMul { dims: vec![2], m: 10, k: 10, n: 6, a, b };
        g.add("values", Op::MatMul(op, Shape::new(20, 1, 6)), &[s, y]).unwrap();
        all.push(("matrix products", g));
    }

    // Transposed, padded, repeated and joined with a constant and another node.
    let (mut g, x) = stem(v, 6, Silu);
    let y = g.add("y", Op::Pointwise(Tanh), &[x]).unwrap();
    let transposed: Vec<u32> = (0..6).flat_map(|c| (0..20).map(move |r| 2 + r * 6 + c)).collect();
    let more = [0, 1, ZERO, ZERO, ZERO, 5, 5, 122, 123, 241];
    let map = Rearrangement::new(v.f32(2, 1.0), &[&transposed[..], &more].concat(), &[2, 122, 242]);
    g.add("rearrange", Op::Rearrange(map, Shape::new(130, 1, 1)), &[x, y]).unwrap();
    all.push(("rearrange", g));
    let (mut g, x) = stem(v, 6, Silu);
    let rows: Vec<u32> = (0..20).rev().flat_map(|r| (0..6).map(move |c| r * 6 + c)).collect();
    let map = Rearrangement::new(vec![], &rows, &[120]);
    assert_eq!(map.run, 6);
    g.add("rearrange", Op::Rearrange(map, Shape::new(4, 5, 6)), &[x]).unwrap();
    all.push(("rearrange rows", g));
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    norm(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>())
}

#[test]
fn vjp_and_jet_agree_with_finite_differences() {
    for (case, (name, graph)) in cases().into_iter().enumerate() {
        let net = Network::<f64>::new(&graph);
        let mut ws = net.workspace();
        let mut v = Values(100 + case as u64);
        let x: Vec<f64> = v.f64(net.input_len(), 0.5).iter().map(|x| x + 0.5).collect();
        let cotangent = v.f64(net.feature_len(), 1.0);
        let (feature, tape) = net.forward_saving(&mut ws, &x);
        assert_eq!(feature, net.forward(&mut ws, &x), "{name}: saving changes nothing");
        let gradient = net.vjp(&mut ws, tape, &cotangent);
        for _ in 0..4 {
            let d = v.f64(net.input_len(), 1.0);
            let mut at = |t: f64| {
                let moved: Vec<f64> = x.iter().zip(&d).map(|(x, d)| x + t * d).collect();
                net.forward(&mut ws, &moved)
            };
            // Close enough that no kink of thousands of units lies between.
            let h = if net.smooth().is_ok() { 1e-4 } else { 1e-6 };
            let (plus, minus) = (at(h), at(-h));
            let slope: Vec<f64> = plus.iter().zip(&minus).map(|(p, m)| (p - m) / (2.0 * h)).collect();
            let (expected, found) = (dot(&slope, &cotangent), dot(&gradient, &d));
            // Central differences err by h²·f‴/6 ≈ 1e-8·f‴, or by 1e-16/h; kinks inside ±h would show as far more.
            let scale = norm(&slope) * norm(&cotangent) + 1e-3;
            assert!((expected - found).abs() < 1e-6 * scale, "{name} ({case}): vjp {found} for {expected}");
            if net.smooth().is_err() {
                assert!(net.jet(&mut ws, &x, &d).is_err());
                continue;
            }
            let [y0, y1, y2] = net.jet(&mut ws, &x, &d).unwrap();
            assert!(distance(&y0, &feature) <= 1e-14 * norm(&feature) + 1e-14, "{name} ({case}): jet value");
            assert!(distance(&y1, &slope) < 1e-6 * (norm(&slope) + 1.0), "{name} ({case}): first derivative");
            // Fourth-order stencil: error h⁴·f⁗/90 plus rounding 1e-16/h², both below 1e-7 at h = 3e-3.
            let h = 3e-3;
            let mut at = |t: f64| {
                let moved: Vec<f64> = x.iter().zip(&d).map(|(x, d)| x + t * d).collect();
                net.forward(&mut ws, &moved)
            };
            let (a, b, c, e) = (at(-2.0 * h), at(-h), at(h), at(2.0 * h));
            let bend: Vec<f64> = (0..feature.len())
                .map(|i| (-a[i] + 16.0 * b[i] - 30.0 * feature[i] + 16.0 * c[i] - e[i]) / (12.0 * h * h))
                .collect();
            let error = distance(&y2, &bend) / (norm(&bend) + 1.0);
            assert!(error < 1e-5, "{name} ({case}): second derivative off by {error:e}");
        }
    }
}

/// f32 against f64 for every instruction set: forward, gradient, jet. Among themselves the
/// sets then agree to twice that, and the portable one is within 1e-5 of the fast ones.
#[test]
fn instruction_sets_agree() {
    for (case, (name, graph)) in cases().into_iter().enumerate() {
        let exact = Network::<f64>::new(&graph);
        let mut ws = exact.workspace();
        let mut v = Values(500 + case as u64);
        let x: Vec<f32> = v.f32(exact.input_len(), 0.5).iter().map(|x| x + 0.5).collect();
        let d = v.f32(exact.input_len(), 1.0);
        let cotangent = v.f32(exact.feature_len(), 1.0);
        let wide = |x: &[f32]| x.iter().map(|&x| x as f64).collect::<Vec<f64>>();
        let (feature, tape) = exact.forward_saving(&mut ws, &wide(&x));
        let gradient = exact.vjp(&mut ws, tape, &wide(&cotangent));
        for isa in Isa::available() {
            let net = Network::<f32>::with_isa(&graph, isa);
            let mut ws = net.workspace();
            let (found, tape) = net.forward_saving(&mut ws, &x);
            let back = net.vjp(&mut ws, tape, &cotangent);
            // A few dozen roundings of 6e-8 each; 3e-6 leaves room for cancellation in the norms.
            let close = |a: &[f32], b: &[f64]| distance(&wide(a), b) <= 3e-6 * (norm(b) + 0.1);
            assert!(close(&found, &feature), "{name} ({case}) on {}: forward", isa.name());
            assert!(close(&back, &gradient), "{name} ({case}) on {}: gradient", isa.name());
            if let Ok(jet) = net.jet(&mut ws, &x, &d) {
                let tangent = net.tangent_at(&mut ws, &x, &d, 0).unwrap();
                assert!(tangent == jet[1], "{name} ({case}) on {}: tangent", isa.name());
                let exact = exact.jet(&mut exact.workspace(), &wide(&x), &wide(&d)).unwrap();
                for p in 0..3 {
                    let error = distance(&wide(&jet[p]), &exact[p]) / (norm(&exact[p]) + 0.1);
                    assert!(error < 1e-5, "{name} ({case}) on {}: jet {p} off by {error:e}", isa.name());
                }
            }
        }
    }
}

#[test]
fn a_piecewise_linear_layer_is_named() {
    let (graph, _) = stem(&mut Values(1), 4, Activation::Relu);
    let net = Network::<f32>::new(&graph);
    let error = net.smooth().unwrap_err();
    assert_eq!(error.kind(), nn::ErrorKind::NoSecondDerivative);
    assert!(error.to_string().starts_with("bend: this layer is piecewise linear"), "{error}");
}

/// Closed forms: what PyTorch gives for these few pixels.
#[test]
fn pooling_treats_padding_and_ties_as_pytorch_does() {
    let window = Window { kh: 2, kw: 2, stride: 1, top: 1, left: 1 };
    let pool = |kind| {
        let mut g = Graph::new(2);
        g.add("pool", Op::Pool { window, size: (3, 3), kind }, &[0]).unwrap();
        g
    };
    // One channel of interest: -1 -2 / -3 -1; the others 0.
    let x: Vec<f32> = [-1.0, -2.0, -3.0, -1.0].into_iter().flat_map(|v| [v, 0.0, 0.0]).collect();
    let first = |y: Vec<f32>| y.chunks_exact(3).map(|p| p[0]).collect::<Vec<_>>();
    let run = |kind| {
        let net = Network::<f32>::new(&pool(kind));
        first(net.forward(&mut net.workspace(), &x))
    };
    assert_eq!(run(PoolKind::Max), [-1.0, -1.0, -2.0, -1.0, -1.0, -1.0, -3.0, -1.0, -1.0]);
    let counted = [-0.25, -0.75, -0.5, -1.0, -1.75, -0.75, -0.75, -1.0, -0.25];
    assert_eq!(run(PoolKind::Average { count_padding: true }), counted);
    let uncounted = [-1.0, -1.5, -2.0, -2.0, -1.75, -1.5, -3.0, -2.0, -1.0];
    assert_eq!(run(PoolKind::Average { count_padding: false }), uncounted);

    // The middle window holds -1 twice: the upper left one takes the gradient.
    let net = Network::<f32>::new(&pool(PoolKind::Max));
    let mut ws = net.workspace();
    let (_, tape) = net.forward_saving(&mut ws, &x);
    let mut cotangent = vec![0.0; 27];
    cotangent[4 * 3] = 1.0;
    assert_eq!(first(net.vjp(&mut ws, tape, &cotangent)), [1.0, 0.0, 0.0, 0.0]);

    let error = net.smooth().unwrap_err();
    assert!(error.to_string().starts_with("pool: this layer is piecewise linear"), "{error}");
    let nan = vec![f32::NAN; 12];
    assert!(net.forward(&mut ws, &nan).iter().all(|v| v.is_nan()), "NaN passes the maximum");
}

#[test]
fn layers_that_do_not_fit_are_refused() {
    let mut g = Graph::new(4);
    let point = Window::POINT;
    let conv = |bias: usize, groups| Op::Conv {
        window: point,
        size: (4, 4),
        weight: vec![0.0; 6].into(),
        bias: vec![0.0; bias],
        groups,
    };
    let pool = |size, top| {
        let window = Window { kh: 2, kw: 2, stride: 2, top, left: 0 };
        Op::Pool { window, size, kind: PoolKind::Max }
    };
    for (op, expected) in [
        (conv(2, 2), "expected channels that divide into 2 groups, found 4×4×3 and 2 output channels"),
        (conv(3, 3), "expected 6 channels, found 4×4×3"),
        (conv(2, 0), "expected channels that divide into 0 groups"),
        (pool((3, 2), 0), "expected pixels under every window, found 4×4×3"),
        (pool((2, 2), 2), "expected pixels under every window"),
        (Op::Channels { from: 1, count: 3 }, "expected at least 4 channels, found 4×4×3"),
    ] {
        let error = g.add("layer", op, &[0]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let small = g.add("small", pool((2, 2), 0), &[0]).unwrap();
    let error = g.add("concat", Op::Concat, &[0, small]).unwrap_err().to_string();
    assert!(error.contains("expected inputs of one height and width"), "{error}");
}

/// A network read at several places gives the bits it gives when read at each alone, forward, backward and in jets,
/// and does not depend on layers behind them.
#[test]
fn taps_agree_with_the_network_cut_off_there() {
    let build = |depth: usize| {
        let mut v = Values(3);
        let (mut g, mut x) = stem(&mut v, 6, Activation::Gelu);
        g.tap("stem", x, Rows::Pixels);
        for i in 0..depth {
            let op = point(&mut v, 6, 6, (4, 5));
            let y = g.add(format!("{i}.linear"), op, &[x]).unwrap();
            g.tap(format!("{i}.linear"), y, Rows::Tokens { prefix: 2, class: true });
            let y = g.add(format!("{i}.add"), Op::Add, &[x, y]).unwrap();
            x = g.add(format!("{i}.act"), Op::Activation(Activation::Silu), &[y]).unwrap();
            g.tap(format!("{i}"), x, Rows::Pixels);
        }
        g
    };
    let layers: [(&str, Option<Pool>); 6] = [
        ("stem", None),
        ("0.linear", None),
        ("0", Some(Pool::Std)),
        ("1.linear", Some(Pool::Mean)),
        ("0.linear", Some(Pool::Flat)),
        ("1", Some(Pool::Flat)),
    ];
    let mut joint = build(3);
    let pools = joint.read_at(&layers).unwrap();
    assert_eq!(pools, [Pool::Mean, Pool::Cls, Pool::Std, Pool::Mean, Pool::Flat, Pool::Flat]);
    let joint = Network::<f32>::new(&joint);
    let mut ws = joint.workspace();
    let mut v = Values(4);
    let (x, d) = (v.f32(joint.input_len(), 0.5), v.f32(joint.input_len(), 1.0));
    let features = joint.features(&mut ws, &[&x]);
    let jets = joint.jets(&mut ws, &x, &d).unwrap();
    for (i, layer) in layers.iter().enumerate() {
        let mut alone = build(2);
        alone.read_at(&[*layer]).unwrap();
        let alone = Network::<f32>::new(&alone);
        let mut own = alone.workspace();
        let expected = alone.forward(&mut own, &x);
        assert_eq!(features[i][0], expected, "{layer:?}");
        assert_eq!(joint.forward_at(&mut ws, &[&x], i)[0], expected, "{layer:?}");
        assert_eq!(joint.feature_len_at(i), expected.len());
        let cotangent = Values(5).f32(expected.len(), 1.0);
        let tape = joint.forward_saving_at(&mut ws, &[&x], i).1;
        let found = joint.vjp(&mut ws, tape, &cotangent);
        let tape = alone.forward_saving(&mut own, &x).1;
        assert_eq!(found, alone.vjp(&mut own, tape, &cotangent), "{layer:?}");
        let expected = alone.jet(&mut own, &x, &d).unwrap();
        assert_eq!(jets[i], expected, "{layer:?}");
        assert_eq!(joint.jet_at(&mut ws, &x, &d, i).unwrap(), expected, "{layer:?}");
    }
    let kind = |layer| build(1).read_at(&[layer]).unwrap_err();
    assert_eq!(kind(("2", None)).kind(), nn::ErrorKind::UnknownLayer);
    assert_eq!(
        kind(("2", None)).to_string(),
        "2: the network cannot be read at a layer of that name; expected stem, 0.linear, 0, found 2"
    );
    assert!(kind(("0", Some(Pool::Cls))).to_string().contains("no class token"));
}

/// What lies behind the last tap is no part of the network: neither its kinks nor its work.
#[test]
fn kinks_behind_the_last_tap_do_not_matter() {
    let (mut g, x) = stem(&mut Values(1), 4, Activation::Gelu);
    g.tap("smooth", x, Rows::Pixels);
    g.add("kink", Op::Activation(Activation::Relu), &[x]).unwrap();
    assert!(Network::<f32>::new(&g).smooth().is_err());
    g.read_at(&[("smooth", None)]).unwrap();
    assert!(Network::<f32>::new(&g).smooth().is_ok());
}
