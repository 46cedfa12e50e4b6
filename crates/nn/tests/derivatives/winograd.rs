//! Convolutions of stride 1 that are large enough for fewer multiplications: which scheme each gets is held by
//! `op::winograd`'s own tests, which name these shapes.

use nn::engine::Network;
use nn::graph::{Graph, Op};
use nn::op::activation::Activation;
use nn::op::conv::Window;

use super::Values;

/// A smooth node of `side`×`side`×`channels` on an image of that side.
fn stem(v: &mut Values, side: usize, channels: usize) -> (Graph, usize) {
    let mut g = Graph::new(side);
    let weight = v.f32(3 * channels, 1.0);
    let op = Op::Conv {
        window: Window::POINT,
        size: (side, side),
        weight: weight.into(),
        bias: v.f32(channels, 0.5),
        groups: 1,
    };
    let x = g.add("linear", op, &[0]).unwrap();
    let x = g.add("bend", Op::Activation(Activation::Silu), &[x]).unwrap();
    (g, x)
}

/// A convolution whose outputs are of about the size of its inputs.
fn conv(v: &mut Values, window: Window, size: (usize, usize), input: usize, out: usize) -> Op {
    let taps = window.kh * window.kw;
    let scale = 1.5 / ((taps * input) as f64).sqrt();
    Op::Conv {
        window,
        size,
        weight: v.f32(taps * input * out, scale).into(),
        bias: v.f32(out, 0.5),
        groups: 1,
    }
}

/// A convolution on a square image.
struct Case {
    side: usize,
    /// Output height and width.
    size: (usize, usize),
    window: Window,
    /// Channels in and out.
    channels: (usize, usize),
}

fn shapes() -> Vec<Case> {
    let three = |top, left| Window { kh: 3, kw: 3, stride: 1, top, left };
    let case = |side, size, window, channels| Case { side, size, window, channels };
    vec![
        case(14, (14, 14), three(1, 1), (24, 24)),
        case(15, (13, 13), three(0, 0), (21, 19)),
        case(11, (10, 11), three(0, 2), (33, 17)),
        case(7, (7, 7), three(1, 1), (40, 40)),
        case(6, (8, 7), three(2, 1), (16, 37)),
        case(9, (9, 9), Window::centred(5, 5, 1), (19, 24)),
        case(11, (9, 8), Window { kh: 5, kw: 5, stride: 1, top: 1, left: 2 }, (24, 17)),
        case(13, (13, 13), Window::centred(1, 7, 1), (17, 24)),
        case(13, (13, 13), Window::centred(7, 1, 1), (24, 17)),
        case(12, (12, 9), Window { kh: 1, kw: 7, stride: 1, top: 0, left: 2 }, (16, 16)),
        case(9, (9, 9), Window::centred(1, 3, 1), (24, 24)),
        case(10, (9, 10), Window { kh: 3, kw: 1, stride: 1, top: 1, left: 0 }, (17, 33)),
    ]
}

pub(crate) fn cases(v: &mut Values, all: &mut Vec<(&'static str, Graph)>) {
    use Activation::{Gelu, Relu, Relu6, Silu};
    let activations = [None, Some(Relu), Some(Relu6), Some(Gelu), Some(Silu)];
    for Case { side, size, window, channels: (input, out) } in shapes() {
        // What is added has the output's shape: another convolution of the same kind, which reads the same node, so
        // that gradients meet there.
        for (i, activation) in activations.into_iter().enumerate() {
            let (mut g, x) = stem(v, side, input);
            let mut y = g.add("conv", conv(v, window, size, input, out), &[x]).unwrap();
            if i % 2 == 0 {
                let z = g.add("again", conv(v, window, size, input, out), &[x]).unwrap();
                y = g.add("sum", Op::Add, &[y, z]).unwrap();
            }
            if let Some(f) = activation {
                y = g.add("after", Op::Activation(f), &[y]).unwrap();
            }
            if size == (side, side) {
                g.add("next", conv(v, window, size, out, input), &[y]).unwrap();
            }
            all.push(("winograd", g));
        }
    }
}

/// One image's tiles shared among threads: the same bits, forward, backward and in jets.
#[test]
fn threads_do_not_change_bits() {
    let (mut all, mut v) = (Vec::new(), Values(11));
    cases(&mut v, &mut all);
    for (case, (_, graph)) in all.into_iter().enumerate() {
        let network = Network::<f32>::new(&graph);
        let (x, d) = (v.f32(network.input_len(), 1.0), v.f32(network.input_len(), 1.0));
        let cotangent = v.f32(network.feature_len(), 1.0);
        let run = |threads: usize| {
            let mut ws = network.workspace();
            ws.threads = threads;
            let (y, tape) = network.forward_saving(&mut ws, &x);
            let gradient = network.vjp(&mut ws, tape, &cotangent);
            (y, gradient, network.jet(&mut ws, &x, &d).ok())
        };
        let alone = run(1);
        for threads in [2, 3] {
            let team = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert!(team.install(|| run(threads)) == alone, "case {case}, {threads} threads");
        }
    }
}
