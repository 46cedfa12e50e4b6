//! Which neighbouring nodes run as one step.

use super::Planned;
use crate::graph::{NodeId, Op};
use crate::op::activation::Activation;
use crate::tensor::Shape;

/// What a step does.
#[allow(unreachable_pub, reason = "reached through `Real`")]
#[allow(clippy::large_enum_variant, reason = "a few dozen, while a network is compiled")]
pub enum Work {
    /// One operator, then the sum with the step's last input if `residual`, then an activation.
    Operator { op: Op, activation: Activation, residual: bool },
    /// A convolution of single pixels, a depthwise one, each with its activation, and another of single pixels, with the
    /// sum after it if `residual`: MobileNetV2's block (Sandler et al. 2018, arXiv:1801.04381), or without the first
    /// MobileNet's. `middle` is the shape between the last two.
    InvertedResidual {
        expand: Option<(Op, Activation)>,
        depthwise: (Op, Activation),
        middle: Shape,
        project: Op,
        residual: bool,
    },
}

impl Work {
    /// Numbers in the weights of its convolutions.
    pub(crate) fn weights(&self) -> usize {
        let of = |op: &Op| match op {
            Op::Conv { weight, .. } => weight.len(),
            _ => 0,
        };
        match self {
            Work::Operator { op, .. } => of(op),
            Work::InvertedResidual { expand, project, .. } => {
                of(project) + expand.as_ref().map_or(0, |(op, _)| of(op))
            }
        }
    }

    /// Its name in profiles.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Work::Operator { op, .. } => op.kind(),
            Work::InvertedResidual { .. } => "inverted residual",
        }
    }
}

/// A step to be compiled.
pub(crate) struct Merged {
    pub(crate) work: Work,
    /// Nodes read, as indices into the reduced graph.
    pub(crate) inputs: Vec<NodeId>,
    /// The nodes it computes, in order; only the last one's value exists.
    pub(crate) nodes: Vec<NodeId>,
}

/// The reduced graph and who reads what.
pub(crate) struct Neighbours<'a, 'g> {
    nodes: &'a [Planned<'g>],
    outputs: &'a [NodeId],
    readers: Vec<Vec<NodeId>>,
}

impl<'a, 'g> Neighbours<'a, 'g> {
    pub(crate) fn new(nodes: &'a [Planned<'g>], outputs: &'a [NodeId]) -> Self {
        let mut readers = vec![Vec::new(); nodes.len()];
        for (i, node) in nodes.iter().enumerate() {
            for &input in &node.inputs {
                readers[input].push(i);
            }
        }
        Neighbours { nodes, outputs, readers }
    }

    /// The operator of a node; the weights of a convolution are shared, not copied.
    fn op(&self, i: NodeId) -> Op {
        Op::clone(&self.nodes[i].op)
    }

    /// The steps of the whole graph.
    pub(crate) fn steps(&self) -> Vec<Merged> {
        let mut steps = Vec::new();
        let mut taken = vec![false; self.nodes.len()];
        for i in 0..self.nodes.len() {
            if taken[i] || matches!(*self.nodes[i].op, Op::Input) {
                continue;
            }
            let step = self.inverted_residual(i).unwrap_or_else(|| self.operator(i));
            step.nodes.iter().for_each(|&n| taken[n] = true);
            steps.push(step);
        }
        steps
    }

    /// The only reader of a node, if it has one that reads it once, and its value is not given out.
    fn sole(&self, i: NodeId) -> Option<NodeId> {
        match self.readers[i][..] {
            [reader] if !self.outputs.contains(&i) => Some(reader),
            _ => None,
        }
    }

    /// The sum that alone reads node `last` of a step that begins at `first`, and the other summand, if that is there
    /// when the step runs: at its first node's place.
    fn sum(&self, first: NodeId, last: NodeId) -> Option<(NodeId, NodeId)> {
        let sum = self.sole(last).filter(|&n| matches!(*self.nodes[n].op, Op::Add))?;
        let other = self.nodes[sum].inputs.iter().copied().find(|&n| n != last)?;
        (other < first).then_some((sum, other))
    }

    /// The activation that alone reads a node.
    fn activation(&self, i: NodeId) -> Option<(NodeId, Activation)> {
        let next = self.sole(i)?;
        match *self.nodes[next].op {
            Op::Activation(f) => Some((next, f)),
            _ => None,
        }
    }

    fn operator(&self, i: NodeId) -> Merged {
        let node = &self.nodes[i];
        let (mut inputs, mut nodes) = (node.inputs.clone(), vec![i]);
        let mut activation = Activation::Identity;
        let is_conv = matches!(*node.op, Op::Conv { groups: 1, .. });
        let sum = self.sum(i, i).filter(|_| is_conv);
        if let Some((sum, other)) = sum {
            inputs.push(other);
            nodes.push(sum);
        }
        let merges = is_conv || matches!(*node.op, Op::Depthwise { .. });
        if let Some((next, f)) = self.activation(nodes[nodes.len() - 1]).filter(|_| merges) {
            activation = f;
            nodes.push(next);
        }
        let work = Work::Operator { op: self.op(i), activation, residual: sum.is_some() };
        Merged { work, inputs, nodes }
    }

    fn inverted_residual(&self, first: NodeId) -> Option<Merged> {
        let is_point = |n: NodeId| match &*self.nodes[n].op {
            Op::Conv { window, groups: 1, .. } => window.is_point(),
            _ => false,
        };
        // Without the values in between, slopes are kept as bits, whole bytes a pixel, and jets are never asked for.
        let switch = |n: NodeId| self.activation(n).filter(|(_, f)| f.linear_between().is_some());
        let mut nodes = vec![first];
        let expand = if is_point(first) {
            let (next, f) = switch(first)?;
            nodes.extend([next, self.sole(next)?]);
            Some((self.op(first), f))
        } else {
            None
        };
        let depthwise = nodes[nodes.len() - 1];
        if !matches!(*self.nodes[depthwise].op, Op::Depthwise { .. }) {
            return None;
        }
        let (middle, f) = switch(depthwise)?;
        if !self.nodes[middle].shape.c.is_multiple_of(8) {
            return None;
        }
        let project = self.sole(middle).filter(|&n| is_point(n))?;
        nodes.extend([middle, project]);
        let mut inputs = self.nodes[first].inputs.clone();
        let sum = self.sum(first, project);
        if let Some((sum, other)) = sum {
            inputs.push(other);
            nodes.push(sum);
        }
        let work = Work::InvertedResidual {
            expand,
            depthwise: (self.op(depthwise), f),
            middle: self.nodes[middle].shape,
            project: self.op(project),
            residual: sum.is_some(),
        };
        Some(Merged { work, inputs, nodes })
    }
}
