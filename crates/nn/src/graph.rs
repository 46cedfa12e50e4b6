//! A network as a list of typed operators over named nodes. Shapes are known when a node
//! is added, so a wrong network fails when it is built, not when it runs.

use std::sync::Arc;

use crate::op::activation::Activation;
use crate::op::attention::AttentionRule;
use crate::op::binary::{Arithmetic, Binary};
use crate::op::conv::Window;
use crate::op::matmul::MatMul;
use crate::op::pointwise::Pointwise;
use crate::op::pool::PoolKind;
use crate::op::pool_rows::Statistic;
use crate::op::rearrange::{Rearrangement, ZERO};
use crate::op::reduce::Reduce;
use crate::tap::Tap;
use crate::tensor::Shape;
use crate::{Error, ErrorKind, Result};

/// Index of a node in its graph.
pub type NodeId = usize;

/// An operator with its weights.
#[derive(Clone, Debug)]
pub enum Op {
    /// The image: height × width × 3, in [0, 1].
    Input,
    /// y = scale·x + shift by channel.
    Affine {
        /// One a channel.
        scale: Vec<f32>,
        /// One a channel.
        shift: Vec<f32>,
    },
    /// Convolution; a linear layer with [`Window::POINT`].
    Conv {
        /// Kernel, stride and the padding above and to the left.
        window: Window,
        /// Output height and width, which fix the padding below and to the right.
        size: (usize, usize),
        /// out × in/groups × kh × kw. Shared, so that a network compiled from the graph can be the last to need them.
        weight: Arc<[f32]>,
        /// One an output channel.
        bias: Vec<f32>,
        /// Groups of channels that do not see each other; 1 in a plain convolution.
        groups: usize,
    },
    /// Convolution of each channel with its own kernel.
    Depthwise {
        /// As in `Conv`.
        window: Window,
        /// As in `Conv`.
        size: (usize, usize),
        /// channels × kh × kw.
        weight: Vec<f32>,
        /// One a channel.
        bias: Vec<f32>,
    },
    /// Pointwise nonlinearity.
    Activation(Activation),
    /// Sum of two nodes.
    Add,
    /// Channels of all inputs, one input after the other.
    Concat,
    /// Some of the channels.
    Channels {
        /// The first.
        from: usize,
        /// How many.
        count: usize,
    },
    /// Arithmetic with broadcasting; the shape is how its values are counted in rows.
    Binary(Binary, Shape),
    /// A function of each number that is rarer than the activations.
    Pointwise(Pointwise),
    /// Values copied to other places, or the same seen in another shape.
    Rearrange(Rearrangement, Shape),
    /// Sum or mean over some axes.
    Reduce(Reduce, Shape),
    /// Products of two activations, matrix by matrix.
    MatMul(MatMul, Shape),
    /// Softmax over the channels of each row.
    Softmax,
    /// Mean over all rows.
    GlobalAveragePool,
    /// Maximum or mean of every window, channel by channel.
    Pool {
        /// As in `Conv`.
        window: Window,
        /// As in `Conv`.
        size: (usize, usize),
        /// Which.
        kind: PoolKind,
    },
    /// One number a channel out of the rows from `skip` on.
    PoolRows {
        /// Rows left out at the front: a sequence's class and register tokens.
        skip: usize,
        /// Which number.
        statistic: Statistic,
    },
    /// Normalisation of each row.
    LayerNorm {
        /// Added to the variance.
        eps: f64,
        /// Scale and shift, where they cannot fold into what follows.
        affine: Option<(Vec<f32>, Vec<f32>)>,
    },
    /// Softmax attention.
    Attention(AttentionRule),
    /// Prefix tokens and position embedding.
    Tokens {
        /// prefix × C, their position embedding included.
        prefix: Vec<f32>,
        /// patches × C.
        position: Vec<f32>,
    },
    /// The first tokens of a sequence.
    FirstTokens(usize),
    /// silu(first half of the channels) · second half.
    GatedSilu,
    /// Every `stride`-th pixel, channels padded with zeros on both sides.
    Shortcut {
        /// Step in both directions.
        stride: usize,
        /// Zero channels before, and as many after.
        pad_channels: usize,
    },
}

impl Op {
    /// The operator's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Op::Input => "input",
            Op::Affine { .. } => "affine",
            Op::Conv { window, groups: 1, .. } if window.is_point() => "linear",
            Op::Conv { groups: 2.., .. } => "grouped conv",
            Op::Conv { .. } => "conv",
            Op::Depthwise { .. } => "depthwise",
            Op::Activation(_) => "activation",
            Op::Add => "add",
            Op::Concat => "concat",
            Op::Channels { .. } => "channels",
            Op::Binary(..) => "binary",
            Op::Pointwise(_) => "pointwise",
            Op::Rearrange(..) => "rearrange",
            Op::Reduce(..) => "reduce",
            Op::MatMul(..) => "matmul",
            Op::Softmax => "softmax",
            Op::Pool { .. } => "pool",
            Op::PoolRows { .. } => "pool rows",
            Op::GlobalAveragePool => "global average pool",
            Op::LayerNorm { .. } => "layer norm",
            Op::Attention(_) => "attention",
            Op::Tokens { .. } => "tokens",
            Op::FirstTokens(_) => "first tokens",
            Op::GatedSilu => "gated silu",
            Op::Shortcut { .. } => "shortcut",
        }
    }

    /// Floating-point operations of one forward pass: two a multiply-add, pointwise work not counted.
    pub fn flops(&self, inputs: &[Shape], output: Shape) -> usize {
        match self {
            Op::Conv { weight, .. } => 2 * output.rows() * weight.len(),
            Op::Depthwise { window, .. } => 2 * output.len() * window.kh * window.kw,
            Op::Attention(a) => 4 * output.len() * inputs[a.key.input].rows(),
            _ => 0,
        }
    }
}

/// A named node.
#[derive(Clone, Debug)]
pub struct Node {
    /// The layer's upstream name.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// What it reads.
    pub inputs: Vec<NodeId>,
    /// What it gives.
    pub shape: Shape,
}

/// A network: nodes in the order they are computed, and which of them it gives out.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    pub(crate) taps: Vec<Tap>,
    /// What the network gives; the last node where none was chosen.
    pub(crate) outputs: Vec<NodeId>,
}

impl Graph {
    /// A graph with its input node: `px` × `px` pixels of three channels.
    pub fn new(px: usize) -> Self {
        let shape = Shape::new(px, px, 3);
        Graph {
            nodes: vec![Node { name: "input".into(), op: Op::Input, inputs: vec![], shape }],
            ..Default::default()
        }
    }

    /// A graph whose input node has the shape `shape`.
    pub(crate) fn with_input(shape: Shape) -> Self {
        let mut graph = Graph::new(1);
        graph.nodes[0].shape = shape;
        graph
    }

    /// The operator of a node, to fold something into it that changes no shape.
    pub(crate) fn op_mut(&mut self, node: NodeId) -> &mut Op {
        &mut self.nodes[node].op
    }

    /// Multiply-adds of the convolutions, linear layers and matrix products that the outputs need.
    pub fn multiply_adds(&self) -> u64 {
        let cost = |node: &Node| {
            let shape = |i: usize| self.shape(node.inputs[i]);
            let out = node.shape.rows() as u64;
            match &node.op {
                Op::Conv { weight, .. } => out * weight.len() as u64,
                Op::Depthwise { weight, .. } => out * weight.len() as u64,
                Op::Attention(a) => 2 * out * (shape(a.key.input).rows() * a.heads * a.dim) as u64,
                Op::MatMul(m, _) => (node.shape.len() * m.k) as u64,
                _ => 0,
            }
        };
        self.nodes.iter().zip(self.needed()).filter(|(_, needed)| *needed).map(|(n, _)| cost(n)).sum()
    }

    /// The nodes, inputs before their readers.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Id of the node added last.
    pub fn last(&self) -> NodeId {
        self.nodes.len() - 1
    }

    /// Shape of a node.
    pub fn shape(&self, node: NodeId) -> Shape {
        self.nodes[node].shape
    }

    /// Adds a node.
    ///
    /// # Errors
    /// `ShapeMismatch`, naming the layer, if the inputs do not fit the operator.
    pub fn add(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) -> Result<NodeId> {
        let name = name.into();
        let shapes: Vec<Shape> = inputs.iter().map(|&i| self.nodes[i].shape).collect();
        let shape = output_shape(&name, &op, &shapes)?;
        self.nodes.push(Node { name, op, inputs: inputs.to_vec(), shape });
        Ok(self.last())
    }

    /// The nodes the network gives out, in the order they were asked for.
    pub fn outputs(&self) -> Vec<NodeId> {
        if self.outputs.is_empty() { vec![self.last()] } else { self.outputs.clone() }
    }

    /// For each node, whether an output depends on it.
    pub fn needed(&self) -> Vec<bool> {
        let mut needed = vec![false; self.nodes.len()];
        self.outputs().iter().for_each(|&n| needed[n] = true);
        for id in (0..self.nodes.len()).rev() {
            if needed[id] {
                self.nodes[id].inputs.iter().for_each(|&n| needed[n] = true);
            }
        }
        needed
    }

    /// The first layer in front of an output through which no second derivative passes, if there is one.
    pub fn first_kink(&self) -> Option<&Node> {
        let needed = self.needed();
        let bent = |n: &Node| match &n.op {
            Op::Pool { kind, .. } => *kind == PoolKind::Max,
            Op::Activation(f) => !f.is_smooth(),
            Op::Pointwise(f) => !f.is_smooth(),
            Op::Binary(b, _) => matches!(b.kind, Arithmetic::Maximum | Arithmetic::Minimum),
            _ => false,
        };
        self.nodes.iter().zip(needed).find(|(n, needed)| *needed && bent(n)).map(|(n, _)| n)
    }
}

fn output_shape(name: &str, op: &Op, x: &[Shape]) -> Result<Shape> {
    let wrong = |expected: String, found: String| {
        Err(Error::new(ErrorKind::ShapeMismatch, name, "the input does not fit the layer")
            .expected(expected, found))
    };
    let first = x.first().copied().unwrap_or(Shape::new(0, 0, 0));
    Ok(match op {
        Op::Input => first,
        Op::Affine { scale, shift } => {
            if scale.len() != first.c || shift.len() != first.c {
                return wrong(format!("{} channels", scale.len()), first.to_string());
            }
            first
        }
        Op::Conv { window, size, weight, bias, groups } => {
            let groups = *groups;
            if groups == 0 || bias.len() % groups != 0 || !first.c.is_multiple_of(groups) {
                let found = format!("{first} and {} output channels", bias.len());
                return wrong(format!("channels that divide into {groups} groups"), found);
            }
            if weight.len() * groups != bias.len() * first.c * window.kh * window.kw {
                let per_channel = (bias.len() * window.kh * window.kw).max(1);
                return wrong(format!("{} channels", weight.len() * groups / per_channel), first.to_string());
            }
            Shape::new(size.0, size.1, bias.len())
        }
        Op::Depthwise { window, size, weight, bias } => {
            if bias.len() != first.c || weight.len() != first.c * window.kh * window.kw {
                return wrong(format!("{} channels", bias.len()), first.to_string());
            }
            Shape::new(size.0, size.1, first.c)
        }
        Op::Activation(_) => first,
        Op::LayerNorm { affine, .. } => {
            if affine.as_ref().is_some_and(|(a, b)| a.len() != first.c || b.len() != first.c) {
                return wrong(
                    format!("{} channels", affine.as_ref().map_or(0, |a| a.0.len())),
                    first.to_string(),
                );
            }
            first
        }
        Op::Add => {
            if x.len() != 2 || x[0] != x[1] {
                return wrong("two inputs of one shape".into(), format!("{x:?}"));
            }
            first
        }
        Op::Concat => {
            if x.is_empty() || x.iter().any(|s| (s.h, s.w) != (first.h, first.w)) {
                return wrong("inputs of one height and width".into(), format!("{x:?}"));
            }
            Shape::new(first.h, first.w, x.iter().map(|s| s.c).sum())
        }
        Op::Channels { from, count } => {
            if from + count > first.c {
                return wrong(format!("at least {} channels", from + count), first.to_string());
            }
            Shape::new(first.h, first.w, *count)
        }
        Op::Binary(op, shape) => {
            for (side, input) in [(&op.a, op.a.input), (&op.b, op.b.input)] {
                let held = input.map_or(op.constant.len(), |i| x[i].len());
                let reach: usize = op.dims.iter().zip(&side.strides).map(|(d, s)| (d - 1) * s).sum();
                if side.offset + reach >= held {
                    return wrong(format!("{} values", side.offset + reach + 1), held.to_string());
                }
            }
            let len: usize = op.dims.iter().product();
            if len != shape.len() {
                return wrong(format!("{} values", shape.len()), len.to_string());
            }
            *shape
        }
        Op::Pointwise(_) | Op::Softmax => first,
        Op::Rearrange(map, shape) => {
            let held = map.constants.len() + x.iter().map(|s| s.len()).sum::<usize>();
            let outside = |&&from: &&u32| from != ZERO && from as usize + map.run > held;
            if let Some(from) = map.runs.iter().find(outside) {
                return wrong(format!("{} values", *from as usize + map.run), held.to_string());
            }
            if map.run * map.runs.len() != shape.len() {
                return wrong(format!("{} values", shape.len()), (map.run * map.runs.len()).to_string());
            }
            *shape
        }
        Op::Reduce(op, shape) => {
            let reach: usize = op.dims.iter().zip(&op.strides).map(|(d, s)| (d - 1) * s).sum();
            if op.dims.iter().product::<usize>() != first.len() || reach >= shape.len() {
                return wrong(format!("{:?}", op.dims), first.to_string());
            }
            *shape
        }
        Op::MatMul(op, shape) => {
            let reach = [op.a.reach(&op.dims, op.m, op.k), op.b.reach(&op.dims, op.k, op.n)];
            let found = [x[0].len(), x[x.len() - 1].len()];
            if reach[0] >= found[0] || reach[1] >= found[1] {
                return wrong(format!("more than {reach:?} values"), format!("{found:?}"));
            }
            let len = op.dims.iter().product::<usize>() * op.m * op.n;
            if len != shape.len() {
                return wrong(format!("{} values", shape.len()), len.to_string());
            }
            *shape
        }
        Op::GlobalAveragePool => Shape::new(1, 1, first.c),
        Op::Pool { window, size, .. } => {
            // The first and the last window must see at least a pixel: of padding alone there is no maximum.
            let fits = |k: usize, pad: usize, out: usize, length: usize| {
                pad < k && out > 0 && (out - 1) * window.stride < length + pad
            };
            if !fits(window.kh, window.top, size.0, first.h) || !fits(window.kw, window.left, size.1, first.w)
            {
                return wrong("pixels under every window".into(), first.to_string());
            }
            Shape::new(size.0, size.1, first.c)
        }
        Op::PoolRows { skip, .. } => {
            if *skip >= first.rows() {
                return wrong(format!("more than {skip} rows"), first.to_string());
            }
            Shape::new(1, 1, first.c)
        }
        Op::Attention(a) => {
            let width = a.heads * a.dim;
            for part in [a.query, a.key, a.value] {
                if x[part.input].c < part.column + width {
                    return wrong(format!("{} channels", part.column + width), x[part.input].to_string());
                }
            }
            if x[a.key.input].rows() != x[a.value.input].rows() {
                return wrong("as many keys as values".into(), format!("{x:?}"));
            }
            Shape::new(x[a.query.input].rows(), 1, width)
        }
        Op::Tokens { prefix, position } => {
            if position.len() != first.len() {
                return wrong(format!("{} values", position.len()), first.to_string());
            }
            Shape::new(prefix.len() / first.c + first.rows(), 1, first.c)
        }
        Op::FirstTokens(n) => {
            if *n > first.rows() {
                return wrong(format!("at least {n} tokens"), first.to_string());
            }
            Shape::new(*n, 1, first.c)
        }
        Op::GatedSilu => {
            if first.c % 2 != 0 {
                return wrong("an even number of channels".into(), first.to_string());
            }
            Shape::new(first.h, first.w, first.c / 2)
        }
        Op::Shortcut { stride, pad_channels } => {
            Shape::new(first.h.div_ceil(*stride), first.w.div_ceil(*stride), first.c + 2 * pad_channels)
        }
    })
}
