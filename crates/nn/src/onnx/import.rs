//! From the nodes of an ONNX graph to those of the engine's.
//!
//! Every value is a constant or a [`View`] of an engine node. Operators that only rename places
//! change the view; the others add a node. A node may be changed again (scale and shift folded
//! into a convolution) as long as nothing but the operator at hand reads it.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::call::Call;
use super::constant::{Budget, Constant};
use super::external::Files;
use super::proto::{self, Numbers, Tensor};
use super::view::{View, row_major};
use super::{operators, proto::Node};
use crate::Result;
use crate::graph::{Graph, NodeId, Op};
use crate::op::rearrange::{Rearrangement, ZERO};
use crate::tensor::Shape;

/// The most values an activation may have: 512 MB in f32.
const MAX_ACTIVATION: usize = 1 << 27;

/// A value of the ONNX graph.
#[derive(Clone, Debug)]
pub(super) enum Value<'m> {
    /// Known now.
    Constant(Constant),
    /// Known now, but not read yet.
    Stored(&'m Tensor<'m>),
    /// Depends on the image.
    Active(View),
    /// A stage of something that has been folded together, or a comparison that is left out.
    /// Only its lengths are left.
    Folded(Vec<usize>),
}

/// The state of an import.
pub(super) struct Importer<'m> {
    pub(super) graph: Graph,
    files: &'m Files,
    values: HashMap<&'m str, Value<'m>>,
    nodes: &'m [Node<'m>],
    /// The node that gives a value.
    makers: HashMap<&'m str, usize>,
    /// Values that are others under another name.
    same: HashMap<&'m str, &'m str>,
    /// How many operators read a value.
    uses: HashMap<&'m str, usize>,
    /// Values that must stay as they are.
    kept: HashSet<&'m str>,
    /// How many engine nodes read each engine node.
    readers: Vec<usize>,
    /// The values that show an engine node.
    shown_by: HashMap<NodeId, Vec<&'m str>>,
    pub(super) budget: Budget,
    /// What was fused, and how often.
    pub(super) fusions: BTreeMap<&'static str, usize>,
    /// Version of the operator set.
    pub(super) opset: i64,
}

impl<'m> Importer<'m> {
    pub(super) fn new(
        model: &'m proto::Model<'m>,
        nodes: &'m [Node<'m>],
        files: &'m Files,
        graph: Graph,
        kept: HashSet<&'m str>,
    ) -> Self {
        let mut values = HashMap::new();
        for tensor in model.graph.iter().flat_map(|g| &g.tensors) {
            values.insert(tensor.name, Value::Stored(tensor));
        }
        let mut makers = HashMap::new();
        let mut uses = HashMap::new();
        for (i, node) in nodes.iter().enumerate() {
            node.outputs.iter().filter(|o| !o.is_empty()).for_each(|o| {
                makers.insert(*o, i);
            });
            // Asking for a shape reads no values.
            if node.op != "Shape" {
                node.inputs.iter().for_each(|i| *uses.entry(*i).or_insert(0) += 1);
            }
        }
        let readers = vec![0; graph.nodes().len()];
        Importer {
            graph,
            files,
            values,
            nodes,
            makers,
            same: HashMap::new(),
            uses,
            kept,
            readers,
            shown_by: HashMap::new(),
            budget: Budget::for_file(files.bytes()),
            fusions: BTreeMap::new(),
            opset: model.opset,
        }
    }

    pub(super) fn value(&self, name: &str) -> Option<&Value<'m>> {
        self.values.get(name)
    }

    pub(super) fn set(&mut self, name: &'m str, value: Value<'m>) {
        if name.is_empty() {
            return;
        }
        if let Value::Active(view) = &value {
            self.shown_by.entry(view.node).or_default().push(name);
        }
        self.values.insert(name, value);
    }

    /// Reads one node of the file.
    pub(super) fn read(&mut self, node: &'m Node<'m>) -> Result<()> {
        let call = Call { node, opset: self.opset };
        let outputs = operators::read(self, call)?;
        for (&name, value) in node.outputs.iter().zip(outputs) {
            let rank = match &value {
                Value::Active(view) => view.rank(),
                Value::Constant(c) => c.dims.len(),
                Value::Stored(_) | Value::Folded(_) => 0,
            };
            if rank > proto::MAX_RANK {
                return Err(call.unsupported("gives a tensor of more than 16 axes"));
            }
            if let Value::Active(view) = &value
                && (view.len() == 0 || view.len() > MAX_ACTIVATION)
            {
                return Err(call
                    .unsupported("gives an activation of an unsupported size")
                    .expected(format!("1 to {MAX_ACTIVATION} values"), format!("{:?}", view.dims)));
            }
            let is_same = |input: &&&str| matches!((self.values.get(**input), &value), (Some(Value::Active(a)), Value::Active(b)) if a == b);
            if let Some(&input) = node.inputs.iter().find(is_same) {
                self.same.insert(name, input);
            }
            self.set(name, value);
        }
        Ok(())
    }

    // --- inputs of an operator ---

    /// Input `i`, `None` where it is left out.
    pub(super) fn input(&mut self, call: Call<'m>, i: usize) -> Result<Option<Value<'m>>> {
        let Some(&name) = call.node.inputs.get(i).filter(|n| !n.is_empty()) else { return Ok(None) };
        match self.values.get(name) {
            Some(Value::Stored(tensor)) => {
                let constant = self.load(tensor, call)?;
                Ok(Some(Value::Constant(constant)))
            }
            Some(Value::Folded(_)) => Err(call.unsupported(format!(
                "reads `{}`, which compares activations, so that no gradient passes",
                crate::weights::shown(name)
            ))),
            Some(value) => Ok(Some(value.clone())),
            None => Err(call.broken(format!(
                "reads `{}`, which nothing before it computes",
                crate::weights::shown(name)
            ))),
        }
    }

    /// Input `i`, which the operator cannot do without.
    pub(super) fn required(&mut self, call: Call<'m>, i: usize) -> Result<Value<'m>> {
        let found = call.node.inputs.len();
        self.input(call, i)?.ok_or_else(|| {
            call.broken("an input is missing").expected(format!("input {}", i + 1), format!("{found} inputs"))
        })
    }

    /// Input `i` as an activation; a constant becomes a node.
    pub(super) fn active(&mut self, call: Call<'m>, i: usize) -> Result<View> {
        match self.required(call, i)? {
            Value::Active(view) => Ok(view),
            Value::Constant(c) => self.constant_node(call, &c),
            Value::Stored(_) | Value::Folded(_) => Err(call.broken("reads a value out of order")),
        }
    }

    /// Input `i`, which must be known before the image is; `what` names it.
    pub(super) fn constant(&mut self, call: Call<'m>, i: usize, what: &str) -> Result<Option<Constant>> {
        match self.input(call, i)? {
            None => Ok(None),
            Some(Value::Constant(c)) => Ok(Some(c)),
            Some(_) => Err(call.unsupported(format!("{what} depends on the image; supported is a constant"))),
        }
    }

    /// The values of a tensor of the file.
    pub(super) fn load(&mut self, tensor: &'m Tensor<'m>, call: Call<'m>) -> Result<Constant> {
        load(tensor, self.files, &mut self.budget, call)
    }

    /// The value of `name` if it is a constant of one number. Loads nothing larger.
    pub(super) fn scalar(&mut self, call: Call<'m>, name: &str) -> Option<f32> {
        match self.values.get(name)? {
            Value::Constant(c) => c.scalar(),
            Value::Stored(t) if t.len() == Some(1) => {
                let tensor: &'m Tensor<'m> = t;
                self.load(tensor, call).ok()?.scalar()
            }
            _ => None,
        }
    }

    /// The view of `name` if it depends on the image.
    pub(super) fn view_of(&self, name: &str) -> Option<View> {
        match self.values.get(name)? {
            Value::Active(view) => Some(view.clone()),
            _ => None,
        }
    }

    /// The node that gives `name`, looking through those that change nothing.
    pub(super) fn maker(&self, name: &str) -> Option<&'m Node<'m>> {
        let mut name = name;
        while let Some(before) = self.same.get(name) {
            name = before;
        }
        Some(&self.nodes[*self.makers.get(name)?])
    }

    /// The maker of `name` if it is an `op`.
    pub(super) fn made_by(&self, name: &str, op: &str) -> Option<&'m Node<'m>> {
        self.maker(name).filter(|n| n.op == op)
    }

    /// Counts a fusion.
    pub(super) fn fused(&mut self, what: &'static str) {
        *self.fusions.entry(what).or_insert(0) += 1;
    }

    /// Runs `work` on a graph of its own, whose input is what `name` stands for.
    pub(super) fn aside<R>(
        &mut self,
        graph: Graph,
        name: &'m str,
        value: Value<'m>,
        work: impl FnOnce(&mut Self) -> Result<R>,
    ) -> Result<R> {
        let graph = std::mem::replace(&mut self.graph, graph);
        let readers = std::mem::replace(&mut self.readers, vec![0]);
        let shown_by = std::mem::take(&mut self.shown_by);
        let fusions = self.fusions.clone();
        let before = self.values.insert(name, value);
        let result = work(self);
        before.into_iter().for_each(|v| {
            self.values.insert(name, v);
        });
        (self.graph, self.readers, self.shown_by, self.fusions) = (graph, readers, shown_by, fusions);
        result
    }

    // --- engine nodes ---

    /// Adds an engine node for `call`.
    pub(super) fn emit(&mut self, call: Call<'m>, op: Op, inputs: &[NodeId]) -> Result<NodeId> {
        let id = self.graph.add(crate::weights::shown(call.label()), op, inputs)?;
        self.readers.push(0);
        inputs.iter().for_each(|&i| self.readers[i] += 1);
        if self.graph.shape(id).is_empty() {
            return Err(call.unsupported("gives a tensor without elements"));
        }
        if self.graph.shape(id).len() > MAX_ACTIVATION {
            return Err(call
                .unsupported("gives too large an activation")
                .expected(format!("at most {MAX_ACTIVATION} values"), self.graph.shape(id)));
        }
        Ok(id)
    }

    /// Whether only the operator at hand reads `node`, so that it may be changed.
    pub(super) fn is_exclusive(&self, node: NodeId) -> bool {
        self.readers[node] == 0
            && self.shown_by.get(&node).is_some_and(|names| {
                names.iter().all(|n| !self.kept.contains(n) && self.uses.get(n).copied().unwrap_or(0) <= 1)
            })
    }

    /// Notes that `node` was changed: the values that showed it are no more.
    pub(super) fn forget(&mut self, node: NodeId) {
        for name in self.shown_by.remove(&node).unwrap_or_default() {
            let dims = self.view_of(name).map_or(vec![], |view| view.dims);
            self.values.insert(name, Value::Folded(dims));
        }
    }

    /// The engine shape of a node whose axes `dims` lie in the order `order`: the last axis are the
    /// channels, and a tensor of three axes is a feature map.
    pub(super) fn natural_shape(dims: &[usize], order: &[usize]) -> Shape {
        let lying: Vec<usize> = order.iter().map(|&a| dims[a]).collect();
        if let [1, h, w, c] = lying[..] {
            return Shape::new(h, w, c);
        }
        let c = lying.last().copied().unwrap_or(1);
        Shape::new(lying.iter().product::<usize>() / c.max(1), 1, c)
    }

    /// A node that takes each value from where `sources` says: numbers of the constants, then of `inputs`.
    pub(super) fn rearrange(
        &mut self,
        call: Call<'m>,
        constants: Vec<f32>,
        inputs: &[NodeId],
        sources: &[u32],
        dims: Vec<usize>,
        order: &[usize],
    ) -> Result<View> {
        let mut ends = vec![constants.len()];
        for &input in inputs {
            ends.push(ends[ends.len() - 1] + self.graph.shape(input).len());
        }
        if ends[ends.len() - 1] >= ZERO as usize {
            return Err(call.too_large());
        }
        let map = Rearrangement::new(constants, sources, &ends);
        self.budget.charge(map.runs.len(), 4).ok_or_else(|| call.too_large())?;
        let shape = Self::natural_shape(&dims, order);
        // An operator reads something; constants alone ride on the image.
        let node =
            self.emit(call, Op::Rearrange(map, shape), if inputs.is_empty() { &[0] } else { inputs })?;
        Ok(View::dense(node, dims, order))
    }

    /// `len` slots for the sources of a rearrangement.
    pub(super) fn slots(&mut self, call: Call<'m>, len: usize) -> Result<Vec<u32>> {
        // The slots are gone when the runs are made.
        self.budget.pass(len).ok_or_else(|| call.too_large())?;
        Ok(Vec::with_capacity(len))
    }

    /// A constant as a node.
    pub(super) fn constant_node(&mut self, call: Call<'m>, constant: &Constant) -> Result<View> {
        let values = constant.to_floats().to_vec();
        if values.is_empty() {
            return Err(call.unsupported("works on a tensor without values"));
        }
        self.budget.charge(values.len(), 4).ok_or_else(|| call.too_large())?;
        let order = row_major(constant.dims.len());
        let mut sources = self.slots(call, values.len())?;
        sources.extend(0..values.len() as u32);
        self.rearrange(call, values, &[], &sources, constant.dims.clone(), &order)
    }

    /// `view` as the whole of a node whose axes lie in the order `order`.
    pub(super) fn place(&mut self, call: Call<'m>, view: &View, order: &[usize]) -> Result<View> {
        if view.is_dense(order) && self.graph.shape(view.node).len() == view.len() {
            return Ok(View::dense(view.node, view.dims.clone(), order));
        }
        let mut sources = self.slots(call, view.len())?;
        sources.extend(view.offsets(order).map(|at| at as u32));
        self.rearrange(call, vec![], &[view.node], &sources, view.dims.clone(), order)
    }

    /// The same values counted as `shape`.
    pub(super) fn reshaped(&mut self, call: Call<'m>, node: NodeId, shape: Shape) -> Result<NodeId> {
        if self.graph.shape(node) == shape {
            return Ok(node);
        }
        let map = Rearrangement { constants: vec![], run: shape.len(), runs: vec![0] };
        self.emit(call, Op::Rearrange(map, shape), &[node])
    }

    /// A 1×C×H×W tensor as a feature map H×W×C.
    pub(super) fn spatial(&mut self, call: Call<'m>, view: &View) -> Result<NodeId> {
        let [1, c, h, w] = view.dims[..] else {
            return Err(call
                .unsupported("works on a tensor that is no feature map of one image")
                .expected("1 × channels × height × width", format!("{:?}", view.dims)));
        };
        let placed = self.place(call, view, &[0, 2, 3, 1])?;
        self.reshaped(call, placed.node, Shape::new(h, w, c))
    }

    /// A tensor as rows along its last axis: a node with as many channels, and the order its axes lie in.
    pub(super) fn rows(&mut self, call: Call<'m>, view: &View) -> Result<(NodeId, Vec<usize>)> {
        let Some(&width) = view.dims.last() else {
            return Err(call.unsupported("works along the last axis of a tensor without axes"));
        };
        let last = view.rank() - 1;
        let mut order = view.order();
        order.retain(|&a| a != last);
        order.push(last);
        let placed = self.place(call, view, &order)?;
        let shape = self.graph.shape(placed.node);
        let wanted = if shape.c == width { shape } else { Shape::new(view.len() / width, 1, width) };
        Ok((self.reshaped(call, placed.node, wanted)?, order))
    }
}

/// The values of a tensor of the file.
pub(super) fn load<'m>(
    tensor: &Tensor<'m>,
    files: &Files,
    budget: &mut Budget,
    call: Call<'m>,
) -> Result<Constant> {
    let name = crate::weights::shown(tensor.name);
    let broken = |problem: String| call.broken(format!("the tensor `{name}` {problem}"));
    let size = proto::dtype_bytes(tensor.dtype).ok_or_else(|| {
        call.unsupported(format!("the tensor `{name}` has an unsupported data type")).expected(
            "floating-point numbers of 16, 32 or 64 bits, integers or bool",
            proto::dtype_name(tensor.dtype),
        )
    })?;
    let len = tensor.len().ok_or_else(|| broken(format!("has the impossible shape {:?}", tensor.dims)))?;
    let is_float = matches!(tensor.dtype, 1 | 10 | 11 | 16);
    budget.charge(len, if is_float { 4 } else { 8 }).ok_or_else(|| call.too_large())?;
    let bytes = match (&tensor.external, tensor.raw()) {
        (Some(external), _) => {
            let held = len * size;
            let length = external.length.unwrap_or(held as u64);
            if length != held as u64 {
                return Err(broken("has an external length that does not fit its shape".into())
                    .expected(format!("{held} bytes"), length));
            }
            Some(files.slice(external.location, external.offset, held, &name)?)
        }
        (None, raw) => raw,
    };
    let numbers = match bytes {
        Some(bytes) if bytes.len() != len * size => {
            return Err(broken(format!("does not fill its shape {:?}", tensor.dims))
                .expected(format!("{} bytes", len * size), bytes.len()));
        }
        Some(bytes) => proto::decode(tensor.dtype, bytes),
        None => Some(tensor.listed(len).map_err(|e| broken(e.0.to_string()))?),
    };
    let constant = match numbers {
        Some(Numbers::Float(v)) => Constant::floats(tensor.dims.clone(), v),
        Some(Numbers::Int(v)) => Constant::ints(tensor.dims.clone(), v),
        None => return Err(broken("has an unsupported data type".into())),
    };
    if constant.len() != len {
        return Err(broken(format!("does not fill its shape {:?}", tensor.dims))
            .expected(format!("{len} values"), constant.len()));
    }
    Ok(constant)
}
