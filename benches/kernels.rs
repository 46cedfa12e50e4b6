//! GF/s of the kernels at the shapes the networks use, and their share of the FMA peak measured in the same run.
//!
//!     cargo bench -p anomaly-score-nn --bench kernels -- [PART-OF-A-NAME]
//!
//! Matrix products are called as they are; the others run as a step of a small graph and are timed by its clock,
//! forward and vjp. Seeded inputs, one core, medians.

mod common;

use common::{fma_peak, median, median_seconds, thread_seconds};
use nn::engine::Network;
use nn::graph::{Graph, Op};
use nn::kernel::epilogue::Epilogue;
use nn::kernel::gemm::{Left, gemm};
use nn::kernel::isa::Isa;
use nn::kernel::pack::Packed;
use nn::op::attention::{AttentionRule, Part};
use nn::op::conv::Window;
use nn::tensor::Shape;

const ROUNDS: usize = 15;

/// `len` values in [−½, ½).
fn values(len: usize) -> Vec<f32> {
    let mut state = 1u64;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u32 << 24) as f32 - 0.5
        })
        .collect()
}

/// A graph whose last node is `op` on a node of `side`×`side`×`channels`.
fn graph(side: usize, channels: usize, op: Op) -> Graph {
    let mut graph = Graph::new(side);
    let weight = values(3 * channels);
    let bias = values(channels);
    let first =
        Op::Conv { window: Window::POINT, size: (side, side), weight: weight.into(), bias, groups: 1 };
    let x = graph.add("input of the kernel", first, &[0]).expect("the shapes fit");
    graph.add("kernel", op, &[x]).expect("the shapes fit");
    graph
}

/// Median seconds of the last step: forward and vjp.
fn last_step(graph: &Graph) -> (f64, f64) {
    let network = Network::<f32>::new(graph);
    let mut ws = network.workspace();
    let steps = network.steps().count();
    let (x, cotangent) = (values(network.input_len()), values(network.feature_len()));
    let (mut forward, mut vjp) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ws.clock.on(thread_seconds);
        let (_, tape) = network.forward_saving(&mut ws, &x);
        forward.push(ws.clock.off(steps)[steps - 1]);
        ws.clock.on(thread_seconds);
        network.vjp(&mut ws, tape, &cotangent);
        vjp.push(ws.clock.off(steps)[steps - 1]);
    }
    (median(&mut forward), median(&mut vjp))
}

fn main() {
    let wanted = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let peak = fma_peak();
    println!("FMA peak of this core: {peak:.1} GF/s");
    let line = |what: &str, flops: usize, seconds: f64| {
        let rate = flops as f64 / seconds / 1e9;
        println!("{what:52} {:9.1} µs  {rate:6.1} GF/s  {:3.0} %", 1e6 * seconds, 100.0 * rate / peak);
    };
    for isa in Isa::available() {
        for (m, k, n) in [
            (257, 384, 1152),
            (257, 384, 1536),
            (257, 1536, 384),
            (257, 64, 257),
            (12544, 32, 16),
            (12544, 16, 96),
            (3136, 144, 24),
            (784, 240, 40),
            (196, 480, 80),
            (196, 112, 672),
            (49, 1152, 192),
        ] {
            let what = format!("gemm {m}×{k}×{n}, {}", isa.name());
            if !what.contains(&wanted) {
                continue;
            }
            let (a, b) = (values(m * k), values(k * n));
            let mut c = vec![0f32; m * n];
            let packed = Packed::new(isa, k, n, &b, n, 1);
            let seconds = median_seconds(ROUNDS, || {
                gemm(isa, m, Left::rows(&a, k), &packed, &mut c, n, Epilogue::default());
            });
            line(&what, 2 * m * k * n, seconds);
        }
    }
    for (side, channels, taps, stride) in [
        (112, 32, 3, 1),
        (112, 96, 3, 2),
        (56, 144, 3, 1),
        (28, 240, 5, 1),
        (28, 240, 3, 2),
        (14, 672, 5, 1),
        (7, 1152, 5, 1),
        (56, 96, 7, 1),
    ] {
        let what = format!("depthwise {taps}×{taps}/{stride} on {side}×{side}×{channels}");
        if !what.contains(&wanted) {
            continue;
        }
        let out = side / stride;
        let pad = if stride == 1 { taps / 2 } else { (taps - 1) / 2 };
        let window = Window { kh: taps, kw: taps, stride, top: pad, left: pad };
        let graph = graph(
            side,
            channels,
            Op::Depthwise {
                window,
                size: (out, out),
                weight: values(channels * taps * taps),
                bias: values(channels),
            },
        );
        let (forward, vjp) = last_step(&graph);
        let flops = 2 * out * out * channels * taps * taps;
        line(&what, flops, forward);
        line(&format!("{what}, vjp"), flops, vjp);
    }
    // ResNet's and Inception's: side, channels in and out, kernel, stride, padding.
    for (side, (channels, out), (kh, kw), stride, (top, left)) in [
        (56, (64, 64), (3, 3), 1, (1, 1)),
        (28, (128, 128), (3, 3), 1, (1, 1)),
        (14, (256, 256), (3, 3), 1, (1, 1)),
        (7, (512, 512), (3, 3), 1, (1, 1)),
        (149, (32, 32), (3, 3), 1, (0, 0)),
        (147, (32, 64), (3, 3), 1, (1, 1)),
        (73, (80, 192), (3, 3), 1, (0, 0)),
        (35, (64, 96), (3, 3), 1, (1, 1)),
        (35, (96, 96), (3, 3), 1, (1, 1)),
        (8, (448, 384), (3, 3), 1, (1, 1)),
        (32, (16, 16), (3, 3), 1, (1, 1)),
        (16, (32, 32), (3, 3), 1, (1, 1)),
        (8, (64, 64), (3, 3), 1, (1, 1)),
        (35, (48, 64), (5, 5), 1, (2, 2)),
        (17, (128, 128), (1, 7), 1, (0, 3)),
        (17, (192, 192), (7, 1), 1, (3, 0)),
        (8, (384, 384), (1, 3), 1, (0, 1)),
        (224, (3, 64), (7, 7), 2, (3, 3)),
        (299, (3, 32), (3, 3), 2, (0, 0)),
        (35, (288, 384), (3, 3), 2, (0, 0)),
        (56, (128, 128), (3, 3), 2, (1, 1)),
        (14, (512, 512), (3, 3), 2, (1, 1)),
        (56, (256, 512), (1, 1), 2, (0, 0)),
    ] {
        let what = format!("convolution {kh}×{kw}/{stride} on {side}×{side}×{channels} to {out}");
        if !what.contains(&wanted) {
            continue;
        }
        let window = Window { kh, kw, stride, top, left };
        let size = window.symmetric_size(Shape::new(side, side, channels));
        let weight = values(kh * kw * channels * out);
        let graph = graph(
            side,
            channels,
            Op::Conv { window, size, weight: weight.into(), bias: values(out), groups: 1 },
        );
        let (forward, vjp) = last_step(&graph);
        let flops = 2 * kh * kw * size.0 * size.1 * channels * out;
        line(&what, flops, forward);
        line(&format!("{what}, vjp"), flops, vjp);
    }
    let what = "attention, 256 tokens, 6 heads of 64";
    if what.contains(&wanted) {
        let part = |column| Part { input: 0, column };
        let rule = AttentionRule { heads: 6, dim: 64, query: part(0), key: part(384), value: part(768) };
        let (forward, vjp) = last_step(&graph(16, 1152, Op::Attention(rule)));
        let flops = 4 * 256 * 256 * 384;
        line(what, flops, forward);
        line(&format!("{what}, vjp"), 2 * flops, vjp);
    }
    let what = "layer norm 256×384";
    if what.contains(&wanted) {
        let (forward, vjp) = last_step(&graph(16, 384, Op::LayerNorm { eps: 1e-6, affine: None }));
        // Operations as they are written: two sums and a product and difference a value, and as many and two more back.
        line(what, 7 * 256 * 384, forward);
        line(&format!("{what}, vjp"), 8 * 256 * 384, vjp);
    }
}
