//! Running a graph: forward, gradient towards the input, second-order jet.

use std::sync::OnceLock;

use crate::graph::{Graph, NodeId, Op};
use crate::kernel::isa::Isa;
use crate::op::activation::{Activation, ActivationRule};
use crate::op::add::Add;
use crate::op::affine::Affine;
use crate::op::channels::{Channels, Concat};
use crate::op::conv::{ConvRule, pack_weight};
use crate::op::depthwise::DepthwiseRule;
use crate::op::gated::GatedSilu;
use crate::op::grouped::GroupedRule;
use crate::op::layer_norm::LayerNormRule;
use crate::op::pool::{GlobalAveragePool, PoolRule};
use crate::op::shortcut::Shortcut;
use crate::op::tokens::{FirstTokens, Tokens};
use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};
use crate::{Error, ErrorKind, Result};

struct Step<T: Real> {
    rule: Box<dyn Rule<T>>,
    inputs: Vec<NodeId>,
    output: NodeId,
    /// Nodes that no later step reads.
    done: Vec<NodeId>,
}

/// A network ready to run: weights packed for one instruction set, neighbouring operators merged.
///
/// It is immutable and shared between threads; each thread brings its own [`Workspace`].
pub struct Network<T: Real> {
    isa: Isa,
    steps: Vec<Step<T>>,
    shapes: Vec<Shape>,
    /// Nodes whose values a vjp reads.
    kept: Vec<bool>,
    output: NodeId,
    kink: Option<String>,
}

/// What a forward pass keeps for [`Network::vjp`].
pub struct Tape<T: Real> {
    values: Vec<Option<Tensor<T>>>,
    saved: Vec<Saved<T>>,
}

impl<T: Real> Network<T> {
    /// Compiles `graph` for the widest instruction set of this machine.
    pub fn new(graph: &Graph) -> Self {
        Self::with_isa(graph, Isa::detect())
    }

    /// Compiles `graph` for `isa`.
    pub fn with_isa(graph: &Graph, isa: Isa) -> Self {
        let nodes = graph.nodes();
        let mut readers = vec![Vec::new(); nodes.len()];
        for (id, node) in nodes.iter().enumerate() {
            for &input in &node.inputs {
                readers[input].push(id);
            }
        }
        // The only reader of a node, if it has one and reads it once.
        let sole = |id: NodeId| match readers[id][..] {
            [reader] => Some(reader),
            _ => None,
        };
        let mut merged = vec![false; nodes.len()];
        let mut steps = Vec::new();
        for (id, node) in nodes.iter().enumerate() {
            if merged[id] || matches!(node.op, Op::Input) {
                continue;
            }
            let mut inputs = node.inputs.clone();
            let mut output = id;
            let mut activation = Activation::Identity;
            let (is_conv, is_depthwise) =
                (matches!(node.op, Op::Conv { groups: 1, .. }), matches!(node.op, Op::Depthwise { .. }));
            if is_conv
                && let Some(add) = sole(output)
                && matches!(nodes[add].op, Op::Add)
            {
                let other = nodes[add].inputs.iter().copied().find(|&i| i != output);
                // The other summand must be there when this step runs: at its own place.
                if let Some(other) = other.filter(|&o| o < id) {
                    inputs.push(other);
                    output = add;
                    merged[add] = true;
                }
            }
            if (is_conv || is_depthwise)
                && let Some(next) = sole(output)
                && let Op::Activation(a) = nodes[next].op
            {
                activation = a;
                output = next;
                merged[next] = true;
            }
            let input_shape = graph.shape(node.inputs[0]);
            let rule = make_rule(isa, &node.op, input_shape, activation, inputs.len() > 1);
            steps.push(Step { rule, inputs, output, done: Vec::new() });
        }
        let output = graph.last();
        let mut last_reader = vec![0; nodes.len()];
        for (i, step) in steps.iter().enumerate() {
            step.inputs.iter().for_each(|&n| last_reader[n] = i);
        }
        let mut kept = vec![false; nodes.len()];
        for (i, step) in steps.iter_mut().enumerate() {
            step.done = step.inputs.iter().copied().filter(|&n| last_reader[n] == i).collect();
            step.done.sort_unstable();
            step.done.dedup();
            if step.rule.keeps_inputs() {
                step.inputs.iter().for_each(|&n| kept[n] = true);
            }
            kept[step.output] |= step.rule.keeps_output();
        }
        Network {
            isa,
            steps,
            shapes: nodes.iter().map(|n| n.shape).collect(),
            kept,
            output,
            kink: graph.first_kink().map(|n| n.name.clone()),
        }
    }

    /// Memory for one thread.
    pub fn workspace(&self) -> Workspace<T> {
        Workspace::new(self.isa)
    }

    /// Values of the input: height × width × 3, channels last.
    pub fn input_len(&self) -> usize {
        self.shapes[0].len()
    }

    /// Length of the feature vector.
    pub fn feature_len(&self) -> usize {
        self.shapes[self.output].len()
    }

    /// The feature of image `x` (height × width × 3, in [0, 1]).
    ///
    /// # Panics
    /// If `x` has another length than [`Network::input_len`].
    pub fn forward(&self, ws: &mut Workspace<T>, x: &[T]) -> Vec<T> {
        self.run(ws, &[x], None)
    }

    /// The feature, and what [`Network::vjp`] needs.
    pub fn forward_saving(&self, ws: &mut Workspace<T>, x: &[T]) -> (Vec<T>, Tape<T>) {
        let mut tape = Tape {
            values: (0..self.shapes.len()).map(|_| None).collect(),
            saved: (0..self.steps.len()).map(|_| None).collect(),
        };
        let feature = self.run(ws, &[x], Some(&mut tape));
        (feature, tape)
    }

    fn run(&self, ws: &mut Workspace<T>, planes: &[&[T]], mut tape: Option<&mut Tape<T>>) -> Vec<T> {
        let mut values: Vec<Option<Tensor<T>>> = (0..self.shapes.len()).map(|_| None).collect();
        let mut input = ws.tensor(self.shapes[0], planes.len());
        for (p, plane) in planes.iter().enumerate() {
            input.plane_mut(p).copy_from_slice(plane);
        }
        values[0] = Some(input);
        for (i, step) in self.steps.iter().enumerate() {
            let inputs: Vec<&Tensor<T>> = step
                .inputs
                .iter()
                .map(|&n| values[n].as_ref().expect("inputs are computed before their readers"))
                .collect();
            let (value, saved) = step.rule.forward(ws, &inputs, self.shapes[step.output], tape.is_some());
            values[step.output] = Some(value);
            for &n in &step.done {
                let value = values[n].take();
                match &mut tape {
                    Some(tape) if self.kept[n] => tape.values[n] = value,
                    _ => value.into_iter().for_each(|v| ws.pool.give(v.data)),
                }
            }
            if let Some(tape) = &mut tape {
                tape.saved[i] = saved;
            }
        }
        let output = values[self.output].take().expect("the last step gives the output");
        let feature = output.data.to_vec();
        match tape {
            Some(tape) if self.kept[self.output] => tape.values[self.output] = Some(output),
            _ => ws.pool.give(output.data),
        }
        feature
    }

    /// The gradient of ⟨feature, `cotangent`⟩ towards the pixels, laid out as the input.
    pub fn vjp(&self, ws: &mut Workspace<T>, mut tape: Tape<T>, cotangent: &[T]) -> Vec<T> {
        let mut gradients = Gradients { slots: (0..self.shapes.len()).map(|_| None).collect() };
        let mut seed = ws.tensor(self.shapes[self.output], 1);
        seed.data.copy_from_slice(cotangent);
        gradients.slots[self.output] = Some(seed);
        for (i, step) in self.steps.iter().enumerate().rev() {
            // A step whose output nothing differentiable reads has no gradient.
            let Some(grad) = gradients.slots[step.output].take() else { continue };
            let shapes: Vec<Shape> = step.inputs.iter().map(|&n| self.shapes[n]).collect();
            let back = Back {
                nodes: &step.inputs,
                shapes: &shapes,
                inputs: step.inputs.iter().map(|&n| tape.values[n].as_ref()).collect(),
                output: tape.values[step.output].as_ref(),
                saved: tape.saved[i].take(),
            };
            step.rule.vjp(ws, grad, back, &mut gradients);
            if let Some(value) = tape.values[step.output].take() {
                ws.pool.give(value.data);
            }
        }
        for value in tape.values.into_iter().flatten() {
            ws.pool.give(value.data);
        }
        let gradient = gradients.slots[0].take().expect("every network reads its input");
        let result = gradient.data.to_vec();
        ws.pool.give(gradient.data);
        result
    }

    /// The jet of t ↦ feature(x + t·direction) at t = 0: value, first and second derivative.
    ///
    /// # Errors
    /// `NoSecondDerivative`, naming the layer, if the network has a piecewise linear one:
    /// its second derivative is 0 almost everywhere and says nothing.
    pub fn jet(&self, ws: &mut Workspace<T>, x: &[T], direction: &[T]) -> Result<[Vec<T>; 3]> {
        self.smooth()?;
        let zeros = vec![T::ZERO; x.len()];
        let mut all = self.run(ws, &[x, direction, &zeros], None);
        let len = self.feature_len();
        let second = all.split_off(2 * len);
        let first = all.split_off(len);
        Ok([all, first, second])
    }

    /// Whether jets can pass.
    ///
    /// # Errors
    /// As [`Network::jet`].
    pub fn smooth(&self) -> Result<()> {
        match &self.kink {
            None => Ok(()),
            Some(layer) => Err(Error::new(
                ErrorKind::NoSecondDerivative,
                layer,
                "this layer is piecewise linear, so the network has no second derivative and no exact complexity",
            )
            .remedy("Use the `paper` protocol with this backbone, or a smooth backbone such as DINOv2")),
        }
    }
}

fn make_rule<T: Real>(
    isa: Isa,
    op: &Op,
    input: Shape,
    activation: Activation,
    residual: bool,
) -> Box<dyn Rule<T>> {
    let real = |x: &[f32]| x.iter().map(|&v| T::of_f32(v)).collect::<Vec<T>>();
    match op {
        Op::Input => unreachable!("the input is not a step"),
        Op::Affine { scale, shift } => Box::new(Affine { scale: real(scale), shift: real(shift) }),
        Op::Conv { window, weight, bias, groups, .. } if *groups > 1 => {
            Box::new(GroupedRule::new(isa, *window, weight, real(bias), input.c, *groups))
        }
        Op::Conv { window, weight, bias, .. } => Box::new(ConvRule {
            window: *window,
            input,
            weight: pack_weight(isa, weight, bias.len(), input.c, *window),
            transposed: OnceLock::new(),
            bias: real(bias),
            activation,
            residual,
        }),
        Op::Depthwise { window, weight, bias, .. } => {
            let taps = window.kh * window.kw;
            let channels = bias.len();
            let mut by_tap = vec![T::ZERO; weight.len()];
            for c in 0..channels {
                for tap in 0..taps {
                    by_tap[tap * channels + c] = T::of_f32(weight[c * taps + tap]);
                }
            }
            Box::new(DepthwiseRule { window: *window, weight: by_tap, bias: real(bias), activation })
        }
        Op::Activation(a) => Box::new(ActivationRule(*a)),
        Op::Add => Box::new(Add),
        Op::Concat => Box::new(Concat),
        Op::Channels { from, .. } => Box::new(Channels { from: *from }),
        Op::GlobalAveragePool => Box::new(GlobalAveragePool),
        Op::Pool { window, kind, .. } => Box::new(PoolRule { window: *window, kind: *kind }),
        Op::LayerNorm { eps, affine } => Box::new(LayerNormRule {
            eps: T::of(*eps),
            affine: affine.as_ref().map(|(scale, shift)| (real(scale), real(shift))),
        }),
        Op::Attention(rule) => Box::new(*rule),
        Op::Tokens { prefix, position } => {
            Box::new(Tokens { prefix: real(prefix), position: real(position) })
        }
        Op::FirstTokens(_) => Box::new(FirstTokens),
        Op::GatedSilu => Box::new(GatedSilu),
        Op::Shortcut { stride, pad_channels } => {
            Box::new(Shortcut { stride: *stride, pad_channels: *pad_channels })
        }
    }
}
