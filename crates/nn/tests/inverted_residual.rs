//! MobileNet's block as one step against its operators one by one: the same bits.

use nn::engine::Network;
use nn::graph::{Graph, NodeId, Op};
use nn::kernel::isa::Isa;
use nn::op::activation::Activation::{self, Relu, Relu6};
use nn::op::conv::Window;
use nn::tensor::Shape;

/// Values in [−1, 1) times `scale` from a linear congruence.
struct Values(u64);

impl Values {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn some(&mut self, len: usize, scale: f32) -> Vec<f32> {
        (0..len).map(|_| self.next() * scale).collect()
    }
}

/// A block and what it reads.
#[derive(Clone, Copy, Debug)]
struct Block {
    side: usize,
    narrow: usize,
    wide: usize,
    expand: bool,
    window: Window,
    residual: bool,
    activations: [Activation; 2],
}

impl Block {
    fn point(v: &mut Values, graph: &Graph, x: NodeId, out: usize) -> Op {
        let Shape { h, w, c } = graph.shape(x);
        let (weight, bias) = (v.some(c * out, 1.5 / (c as f32).sqrt()), v.some(out, 0.5));
        Op::Conv { window: Window::POINT, size: (h, w), weight: weight.into(), bias, groups: 1 }
    }

    /// The block behind a layer that bends; `watched`: the values inside it are read by others too, which keeps its
    /// operators apart.
    fn graph(&self, watched: bool) -> Graph {
        let mut v = Values(3);
        let mut g = Graph::new(self.side);
        let first = if self.expand { self.narrow } else { self.wide };
        let op = Self::point(&mut v, &g, 0, first);
        let x = g.add("stem", op, &[0]).unwrap();
        let x = g.add("bend", Op::Activation(Relu6), &[x]).unwrap();
        let mut inside = Vec::new();
        let mut y = x;
        if self.expand {
            let op = Self::point(&mut v, &g, y, self.wide);
            y = g.add("expand", op, &[y]).unwrap();
            y = g.add("act 0", Op::Activation(self.activations[0]), &[y]).unwrap();
            inside.push(y);
        }
        let w = self.window;
        let size = w.symmetric_size(g.shape(y));
        let (weight, bias) = (v.some(self.wide * w.kh * w.kw, 0.5), v.some(self.wide, 0.5));
        y = g.add("depthwise", Op::Depthwise { window: w, size, weight, bias }, &[y]).unwrap();
        y = g.add("act 1", Op::Activation(self.activations[1]), &[y]).unwrap();
        inside.push(y);
        let op = Self::point(&mut v, &g, y, first);
        y = g.add("project", op, &[y]).unwrap();
        if self.residual {
            y = g.add("sum", Op::Add, &[x, y]).unwrap();
        }
        let mut parts = vec![g.add("pool", Op::GlobalAveragePool, &[y]).unwrap()];
        for n in inside.into_iter().filter(|_| watched) {
            parts.push(g.add("watch", Op::GlobalAveragePool, &[n]).unwrap());
        }
        g.add("feature", Op::Concat, &parts).unwrap();
        g
    }
}

fn blocks() -> Vec<Block> {
    let window = |k: usize, stride| Window { kh: k, kw: k, stride, top: k / 2, left: k / 2 };
    let block = Block {
        side: 9,
        narrow: 5,
        wide: 24,
        expand: true,
        window: window(3, 1),
        residual: true,
        activations: [Relu6, Relu6],
    };
    let strided = |k| Block { window: window(k, 2), residual: false, ..block };
    // Wide enough that a strip is a few lines, and there are several shares and strips.
    let large = Block { side: 29, narrow: 16, wide: 344, ..block };
    vec![
        block,
        Block { window: window(5, 1), activations: [Relu, Relu6], ..block },
        Block { expand: false, ..block },
        strided(3),
        strided(5),
        Block { expand: false, activations: [Relu6, Relu], ..strided(3) },
        large,
        Block { window: window(5, 1), ..large },
        Block { window: Window { top: 0, left: 1, ..window(3, 2) }, residual: false, ..large },
        Block { window: window(5, 2), residual: false, side: 30, ..large },
        Block { expand: false, window: window(5, 2), residual: false, ..large },
        Block { expand: false, ..large },
        // Strides that leave pixels out, and a kernel that hangs over the edge.
        Block { window: Window { kh: 1, kw: 1, stride: 3, top: 0, left: 0 }, residual: false, ..large },
        Block { window: Window { kh: 7, kw: 7, stride: 2, top: 6, left: 6 }, residual: false, ..large },
    ]
}

#[test]
fn one_step_gives_the_bits_of_its_operators() {
    for block in blocks() {
        let (whole, apart) = (block.graph(false), block.graph(true));
        for isa in Isa::available() {
            let (whole, apart) =
                (Network::<f32>::with_isa(&whole, isa), Network::<f32>::with_isa(&apart, isa));
            let merged = |n: &Network<f32>| n.steps().any(|s| s.kind == "inverted residual");
            assert!(merged(&whole) && !merged(&apart), "{block:?}");
            let mut v = Values(11);
            let x = v.some(whole.input_len(), 1.0);
            let cotangent = v.some(whole.feature_len(), 1.0);
            let mut ws = apart.workspace();
            let (feature, tape) = apart.forward_saving(&mut ws, &x);
            let mut padded = cotangent.clone();
            padded.resize(apart.feature_len(), 0.0);
            let gradient = apart.vjp(&mut ws, tape, &padded);
            assert!(gradient.iter().any(|&g| g != 0.0), "{block:?}: a gradient to compare");
            for threads in [1, 2, 3, 8] {
                let mut ws = whole.workspace();
                ws.threads = threads;
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let (plain, (saving, found)) = pool.install(|| {
                    let plain = whole.forward(&mut ws, &x);
                    // Twice, so that buffers hold what the first run left.
                    for _ in 0..2 {
                        let (_, tape) = whole.forward_saving(&mut ws, &x);
                        whole.vjp(&mut ws, tape, &cotangent);
                    }
                    let (saving, tape) = whole.forward_saving(&mut ws, &x);
                    (plain, (saving, whole.vjp(&mut ws, tape, &cotangent)))
                });
                let place = format!("{block:?} on {}, {threads} threads", isa.name());
                assert_eq!(plain, feature[..plain.len()], "{place}");
                assert_eq!(saving, plain, "{place}");
                assert_eq!(found, gradient, "{place}");
            }
        }
    }
}
