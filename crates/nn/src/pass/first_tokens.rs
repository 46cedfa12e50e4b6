//! Pushes `FirstTokens` towards the input. Only the class token leaves a vision transformer, so in its
//! last block one query, one row of the projection and one row of the MLP are enough (−7 % of ViT-S/14).
//!
//! First backwards: how many leading rows of each node does anything read? Operators that treat every
//! row by itself ask their inputs for as many rows as they are asked for; attention asks so for its
//! queries and for all keys and values; every other operator asks for all. Then forwards: each node is
//! written with that many rows, and a reader that wants fewer gets a `FirstTokens` of it. A linear layer
//! that gives queries, keys and values together is cut in two where fewer queries are wanted.
//!
//! Each remaining row comes out of the same operations as before.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::graph::{Graph, Node, NodeId, Op};
use crate::op::attention::{AttentionRule, Part};
use crate::op::conv::Window;
use crate::pass::{Piece, Reduced};
use crate::tensor::Shape;

/// How a linear layer is cut whose only reader is an attention that wants few queries.
struct Cut {
    queries: usize,
    /// Output channels that are queries.
    columns: Range<usize>,
}

/// What is read of every node.
struct Demand {
    /// Leading rows; 0 if nothing reads the node.
    rows: Vec<usize>,
    /// Fewer rows than `rows`, where a reader wants no more.
    views: Vec<BTreeSet<usize>>,
    cuts: BTreeMap<NodeId, Cut>,
}

/// The nodes of `graph` that reach `outputs`, each with the rows that are read of it.
pub(super) fn push_back<'g>(graph: &'g Graph, outputs: &[NodeId]) -> Reduced<'g> {
    let nodes = graph.nodes();
    let demand = Demand::of(nodes, outputs);
    let mut to = Rewriter {
        demand: &demand,
        plan: Reduced::default(),
        written: BTreeMap::new(),
        queries: BTreeMap::new(),
    };
    for (id, node) in nodes.iter().enumerate() {
        if demand.rows[id] > 0 || matches!(node.op, Op::Input) {
            to.write(nodes, id);
        }
    }
    to.plan.outputs = outputs.iter().map(|&id| to.written[&(id, demand.rows[id])]).collect();
    to.plan
}

/// Whether every output row depends on the same row of each input alone.
fn is_row_wise(op: &Op) -> bool {
    match op {
        Op::Conv { window, groups, .. } => window.is_point() && *groups == 1,
        Op::Affine { .. } | Op::Activation(_) | Op::LayerNorm { .. } | Op::GatedSilu => true,
        Op::Add | Op::Concat | Op::Channels { .. } | Op::Pointwise(_) | Op::Softmax => true,
        _ => false,
    }
}

/// Whether the operator can give its first rows without the others.
fn can_be_narrowed(op: &Op) -> bool {
    is_row_wise(op) || matches!(op, Op::Attention(_) | Op::FirstTokens(_))
}

impl Demand {
    fn of(nodes: &[Node], outputs: &[NodeId]) -> Demand {
        let mut rows = vec![0; nodes.len()];
        let mut readers = vec![BTreeSet::new(); nodes.len()];
        for (id, node) in nodes.iter().enumerate() {
            for &input in &node.inputs {
                readers[input].insert(id);
            }
        }
        for &id in outputs {
            rows[id] = nodes[id].shape.rows();
        }
        let mut cuts = BTreeMap::new();
        let mut wants = Vec::new();
        for (id, node) in nodes.iter().enumerate().rev().filter(|(_, n)| !n.inputs.is_empty()) {
            if rows[id] == 0 {
                continue;
            }
            if !can_be_narrowed(&node.op) {
                rows[id] = node.shape.rows();
            }
            let wanted = rows[id];
            let before = wants.len();
            let all = |&i: &NodeId| (i, nodes[i].shape.rows());
            match &node.op {
                Op::Attention(rule) if wanted < node.shape.rows() => {
                    let query = node.inputs[rule.query.input];
                    let is_own = readers[query].len() == 1 && !outputs.contains(&query);
                    match columns_to_cut(nodes, node, rule) {
                        Some(columns) if is_own => {
                            cuts.insert(query, Cut { queries: wanted, columns });
                        }
                        _ => wants.push((query, wanted)),
                    }
                    wants.extend([rule.key, rule.value].map(|part| all(&node.inputs[part.input])));
                }
                Op::Conv { .. } if cuts.contains_key(&id) => {
                    wants.push((node.inputs[0], cuts[&id].queries));
                    wants.push(all(&node.inputs[0]));
                }
                op if is_row_wise(op) => wants.extend(node.inputs.iter().map(|&i| (i, wanted))),
                Op::FirstTokens(_) => wants.push((node.inputs[0], wanted)),
                _ => wants.extend(node.inputs.iter().map(all)),
            }
            for &(input, wanted) in &wants[before..] {
                rows[input] = rows[input].max(wanted);
            }
        }
        let mut views = vec![BTreeSet::new(); nodes.len()];
        for (input, wanted) in wants {
            if wanted < rows[input] {
                views[input].insert(wanted);
            }
        }
        Demand { rows, views, cuts }
    }
}

/// The query columns of a linear layer that also gives `attention`'s keys or values, and could do
/// without the queries.
fn columns_to_cut(nodes: &[Node], attention: &Node, rule: &AttentionRule) -> Option<Range<usize>> {
    let width = rule.heads * rule.dim;
    let query = attention.inputs[rule.query.input];
    let columns = rule.query.column..rule.query.column + width;
    let shared: Vec<Part> =
        [rule.key, rule.value].into_iter().filter(|part| attention.inputs[part.input] == query).collect();
    let is_apart = |p: &Part| p.column >= columns.end || p.column + width <= columns.start;
    let is_linear = matches!(&nodes[query].op, op @ Op::Conv { .. } if is_row_wise(op));
    (is_linear && !shared.is_empty() && shared.iter().all(is_apart)).then_some(columns)
}

struct Rewriter<'d, 'g> {
    demand: &'d Demand,
    plan: Reduced<'g>,
    /// (node, rows) → where the plan has it. For a layer that is cut: what is left of it.
    written: BTreeMap<(NodeId, usize), NodeId>,
    /// Layers that are cut → where the plan has the queries.
    queries: BTreeMap<NodeId, NodeId>,
}

impl<'g> Rewriter<'_, 'g> {
    /// Writes a node, and right behind it what readers want that need fewer rows: close to where the
    /// rows are made, so that nothing has to wait for them.
    fn write(&mut self, nodes: &'g [Node], id: NodeId) {
        let node = &nodes[id];
        let rows = self.demand.rows[id];
        let shape = if rows == node.shape.rows() || matches!(node.op, Op::Input) {
            node.shape
        } else {
            Shape::new(rows, 1, node.shape.c)
        };
        let all = |i: NodeId| (i, nodes[i].shape.rows());
        let whole = (id, Piece::Whole);
        let new = match &node.op {
            Op::Input => self.plan.push(whole, Cow::Borrowed(&node.op), vec![], shape),
            Op::Conv { weight, bias, .. } if self.demand.cuts.contains_key(&id) => {
                self.cut(&nodes[node.inputs[0]], node, id, weight, bias)
            }
            Op::Attention(rule) if rows < node.shape.rows() => {
                let (rule, inputs) = self.attention(node, rule, rows, all);
                self.plan.push(whole, Cow::Owned(Op::Attention(rule)), inputs, shape)
            }
            Op::FirstTokens(_) => {
                let input = self.written[&(node.inputs[0], rows)];
                if self.plan.nodes[input].shape == shape {
                    input // has become what is taken from it
                } else {
                    self.plan.push(whole, Cow::Borrowed(&node.op), vec![input], shape)
                }
            }
            op => {
                let wanted = |&i: &NodeId| if is_row_wise(op) { (i, rows) } else { all(i) };
                let inputs = node.inputs.iter().map(|i| self.written[&wanted(i)]).collect();
                self.plan.push(whole, Cow::Borrowed(op), inputs, shape)
            }
        };
        self.written.insert((id, rows), new);
        for &view in &self.demand.views[id] {
            let shape = Shape::new(view, 1, node.shape.c);
            let new_view =
                self.plan.push((id, Piece::View), Cow::Owned(Op::FirstTokens(view)), vec![new], shape);
            self.written.insert((id, view), new_view);
        }
    }

    /// Writes the queries of a linear layer for few rows and the rest of it for all; gives the rest.
    fn cut(&mut self, input: &Node, node: &Node, id: NodeId, weight: &[f32], bias: &[f32]) -> NodeId {
        let Cut { queries, columns } = &self.demand.cuts[&id];
        let (c, out) = (input.shape.c, bias.len());
        let part = |ranges: &[Range<usize>], size: (usize, usize)| Op::Conv {
            window: Window::POINT,
            groups: 1,
            size,
            weight: ranges
                .iter()
                .flat_map(|r| &weight[r.start * c..r.end * c])
                .copied()
                .collect::<Vec<f32>>()
                .into(),
            bias: ranges.iter().flat_map(|r| &bias[r.clone()]).copied().collect(),
        };
        let rest = [0..columns.start, columns.end..out];
        let few = self.written[&(node.inputs[0], *queries)];
        let all = self.written[&(node.inputs[0], input.shape.rows())];
        let op = part(std::slice::from_ref(columns), (*queries, 1));
        let query = self.plan.push(
            (id, Piece::Queries),
            Cow::Owned(op),
            vec![few],
            Shape::new(*queries, 1, columns.len()),
        );
        self.queries.insert(id, query);
        let (h, w) = (node.shape.h, node.shape.w);
        let op = part(&rest, (h, w));
        self.plan.push((id, Piece::Rest), Cow::Owned(op), vec![all], Shape::new(h, w, out - columns.len()))
    }

    /// An attention of the first `rows` queries: its rule and inputs.
    fn attention(
        &self,
        node: &Node,
        rule: &AttentionRule,
        rows: usize,
        all: impl Fn(NodeId) -> (NodeId, usize),
    ) -> (AttentionRule, Vec<NodeId>) {
        let source = |part: Part| node.inputs[part.input];
        let query = source(rule.query);
        let cut = self.demand.cuts.get(&query);
        let mut inputs = vec![match cut {
            Some(_) => self.queries[&query],
            None => self.written[&(query, rows)],
        }];
        let mut place = |part: Part| {
            let is_behind_cut =
                source(part) == query && cut.is_some_and(|cut| part.column >= cut.columns.end);
            let column = part.column - if is_behind_cut { rule.heads * rule.dim } else { 0 };
            let input = self.written[&all(source(part))];
            let at = inputs.iter().skip(1).position(|&i| i == input).map(|at| at + 1);
            let at = at.unwrap_or_else(|| {
                inputs.push(input);
                inputs.len() - 1
            });
            Part { input: at, column }
        };
        let (key, value) = (place(rule.key), place(rule.value));
        let column = if cut.is_some() { 0 } else { rule.query.column };
        (AttentionRule { query: Part { input: 0, column }, key, value, ..*rule }, inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Network;
    use crate::op::activation::Activation;

    fn values(len: usize, seed: u32) -> Vec<f32> {
        (0..len as u32)
            .map(|i| ((i * 2654435761u32.wrapping_add(seed)) >> 20) as f32 / 4096.0 - 0.5)
            .collect()
    }

    fn linear(g: &mut Graph, x: NodeId, out: usize) -> NodeId {
        let shape = g.shape(x);
        let (weight, bias) = (values(shape.c * out, x as u32), values(out, 9));
        let op = Op::Conv {
            window: Window::POINT,
            size: (shape.h, shape.w),
            groups: 1,
            weight: weight.into(),
            bias,
        };
        g.add(format!("linear {x}"), op, &[x]).unwrap()
    }

    const HEADS: usize = 2;
    const DIM: usize = 3;
    const WIDTH: usize = HEADS * DIM;

    /// Two transformer blocks over 1 + 9 tokens. `joint`: Q, K and V from one layer.
    fn transformer(joint: bool) -> (Graph, Vec<NodeId>) {
        let mut g = Graph::new(3);
        let x = linear(&mut g, 0, WIDTH);
        let op = Op::Tokens { prefix: values(WIDTH, 1), position: values(9 * WIDTH, 2) };
        let mut x = g.add("tokens", op, &[x]).unwrap();
        let mut blocks = Vec::new();
        for _ in 0..2 {
            let normal = g.add("norm1", Op::LayerNorm { eps: 1e-6, affine: None }, &[x]).unwrap();
            let inputs = if joint {
                vec![linear(&mut g, normal, 3 * WIDTH)]
            } else {
                (0..3).map(|_| linear(&mut g, normal, WIDTH)).collect()
            };
            let part = |i: usize| match joint {
                // Values first, so that the queries lie in the middle of what is cut.
                true => Part { input: 0, column: (i + 1) % 3 * WIDTH },
                false => Part { input: i, column: 0 },
            };
            let rule = AttentionRule { heads: HEADS, dim: DIM, query: part(0), key: part(1), value: part(2) };
            let attended = g.add("attention", Op::Attention(rule), &inputs).unwrap();
            let y = linear(&mut g, attended, WIDTH);
            x = g.add("add", Op::Add, &[x, y]).unwrap();
            let normal = g.add("norm2", Op::LayerNorm { eps: 1e-6, affine: None }, &[x]).unwrap();
            let inner = linear(&mut g, normal, 8);
            let inner = g.add("gelu", Op::Activation(Activation::Gelu), &[inner]).unwrap();
            let y = linear(&mut g, inner, WIDTH);
            x = g.add("add", Op::Add, &[x, y]).unwrap();
            blocks.push(x);
        }
        (g, blocks)
    }

    fn rows(plan: &Reduced<'_>) -> Vec<usize> {
        plan.nodes.iter().map(|n| n.shape.rows()).collect()
    }

    /// One row of everything after the last block's keys and values, and the numbers of the whole network.
    #[test]
    fn only_the_class_token_is_computed() {
        for joint in [true, false] {
            let (mut g, _) = transformer(joint);
            let whole = g.clone();
            let x = g.last();
            g.add("class token", Op::FirstTokens(1), &[x]).unwrap();
            let plan = push_back(&g, &[g.last()]);
            let rows = rows(&plan);
            let last_ten = rows.iter().rposition(|&r| r == 10).unwrap();
            assert!(rows[last_ten + 1..].iter().all(|&r| r == 1), "{rows:?}");
            assert_eq!(
                rows.len() - last_ten,
                9,
                "the values, attention, projection, add, norm, MLP of three, add: {rows:?}"
            );
            // The query layer of one row is there, and none of ten rows besides the first block's.
            let few = plan.nodes.iter().filter(|n| n.shape == Shape::new(1, 1, WIDTH)).count();
            assert!(few >= 4, "{few}");

            let image: Vec<f64> = values(27, 5).iter().map(|&v| f64::from(v)).collect();
            let (narrow, whole) = (Network::<f64>::new(&g), Network::<f64>::new(&whole));
            let (few, tape) = narrow.forward_saving(&mut narrow.workspace(), &image);
            let (all, whole_tape) = whole.forward_saving(&mut whole.workspace(), &image);
            assert_eq!(few, all[..WIDTH]);
            let mut cotangent = vec![0.0; all.len()];
            cotangent[..WIDTH].fill(1.0);
            let expected = whole.vjp(&mut whole.workspace(), whole_tape, &cotangent);
            let found = narrow.vjp(&mut narrow.workspace(), tape, &cotangent[..WIDTH]);
            for (a, b) in found.iter().zip(&expected) {
                // Sums that leave out zeros, in f64.
                assert!((a - b).abs() < 1e-14, "{a} for {b}");
            }
        }
    }

    /// What another output reads in full stays whole, and nothing is cut that is read besides.
    #[test]
    fn what_another_output_reads_stays_whole() {
        let (mut g, blocks) = transformer(true);
        let class = g.add("class token", Op::FirstTokens(1), &[blocks[1]]).unwrap();
        let plan = push_back(&g, &[blocks[1], class]);
        assert_eq!(plan.nodes.len(), g.nodes().len());
        assert!(plan.nodes.iter().zip(g.nodes()).all(|(a, b)| a.shape == b.shape));

        // The first block as an output does not keep the second one whole.
        let plan = push_back(&g, &[blocks[0], class]);
        assert_eq!(plan.nodes[plan.outputs[0]].shape.rows(), 10);
        assert_eq!(plan.nodes[plan.outputs[1]].shape.rows(), 1);
        assert_eq!(
            rows(&plan).iter().filter(|&&r| r == 10).count(),
            rows(&push_back(&g, &[class])).iter().filter(|&&r| r == 10).count()
        );

        // An output that is a joint layer of queries, keys and values: the attention takes a row of it.
        let qkv = g.nodes().iter().rposition(|n| n.shape.c == 3 * WIDTH).unwrap();
        let plan = push_back(&g, &[qkv, class]);
        assert_eq!(plan.nodes[plan.outputs[0]].shape, Shape::new(10, 1, 3 * WIDTH));
        assert!(plan.nodes.iter().any(|n| n.shape == Shape::new(1, 1, 3 * WIDTH)));
    }

    /// What makes all rows at once is not narrowed, but read in part.
    #[test]
    fn tokens_are_made_whole() {
        let (g, _) = transformer(true);
        let tokens = g.nodes().iter().position(|n| matches!(n.op, Op::Tokens { .. })).unwrap();
        let norm = tokens + 1;
        assert!(matches!(g.nodes()[norm].op, Op::LayerNorm { .. }));
        let mut g = g;
        let class = g.add("class token", Op::FirstTokens(1), &[norm]).unwrap();
        let net = Network::<f64>::new(&g);
        assert_eq!(rows(&push_back(&g, &[class])), [9, 9, 10, 1, 1]);
        let image: Vec<f64> = values(27, 5).iter().map(|&v| f64::from(v)).collect();
        assert_eq!(net.forward(&mut net.workspace(), &image).len(), WIDTH);
    }

    /// Nothing behind the last output is kept.
    #[test]
    fn dead_nodes_go() {
        let (g, blocks) = transformer(true);
        let plan = push_back(&g, &[blocks[0]]);
        assert_eq!(plan.nodes.len(), blocks[0] + 1);
    }
}
