//! What happens to a graph between building and running it. A builder writes the plain network, as
//! its paper draws it; a pass turns it into less work with the same outputs.

mod first_tokens;
pub(crate) mod merge;

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::graph::{Graph, NodeId, Op};
use crate::tensor::Shape;

/// Which part of one of the graph's nodes is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Piece {
    /// All channels.
    Whole,
    /// The first rows of what is computed elsewhere.
    View,
    /// The channels that an attention reads as queries.
    Queries,
    /// The other channels.
    Rest,
}

/// Where a planned node comes from.
pub(crate) type Origin = (NodeId, Piece);

/// A node as it will be compiled: one of the graph's, or a piece of one.
pub(crate) struct Planned<'g> {
    /// Where it comes from.
    pub(crate) origin: Origin,
    /// The operator. Where rows were dropped, the size it names is the graph's: what counts is `shape`.
    pub(crate) op: Cow<'g, Op>,
    /// Indices into the same list.
    pub(crate) inputs: Vec<NodeId>,
    pub(crate) shape: Shape,
}

/// A network without the work that reaches none of its outputs, inputs before their readers. Node 0 is the input.
#[derive(Default)]
pub(crate) struct Reduced<'g> {
    pub(crate) nodes: Vec<Planned<'g>>,
    /// The outputs asked for, in that order.
    pub(crate) outputs: Vec<NodeId>,
}

impl<'g> Reduced<'g> {
    /// The work of `graph` that reaches `outputs`.
    pub(crate) fn new(graph: &'g Graph, outputs: &[NodeId]) -> Self {
        first_tokens::push_back(graph, outputs)
    }

    fn push(&mut self, origin: Origin, op: Cow<'g, Op>, inputs: Vec<NodeId>, shape: Shape) -> NodeId {
        self.nodes.push(Planned { origin, op, inputs, shape });
        self.nodes.len() - 1
    }
}

/// The nodes of several reductions of one graph. What two of them compute in the same way has one id.
#[derive(Default)]
pub(crate) struct Known {
    /// Origin, rows and inputs' ids, which together say how a value is computed → id.
    ids: BTreeMap<(Origin, usize, Vec<NodeId>), NodeId>,
    shapes: Vec<Shape>,
}

impl Known {
    /// The id of each node.
    pub(crate) fn ids(&mut self, nodes: &[Planned<'_>]) -> Vec<NodeId> {
        let mut ids = Vec::with_capacity(nodes.len());
        for node in nodes {
            let inputs = node.inputs.iter().map(|&i| ids[i]).collect();
            let id = *self.ids.entry((node.origin, node.shape.rows(), inputs)).or_insert_with(|| {
                self.shapes.push(node.shape);
                self.shapes.len() - 1
            });
            ids.push(id);
        }
        ids
    }

    /// Shape by id.
    pub(crate) fn shapes(&self) -> &[Shape] {
        &self.shapes
    }
}
