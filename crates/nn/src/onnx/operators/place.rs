//! What the operators that move values about share: how a value lies, copying parts of several together,
//! picking positions. Constants are treated like activations, which folds an exporter's arithmetic on shapes.

use super::{Importer, Value};
use crate::Result;
use crate::graph::NodeId;
use crate::onnx::call::Call;
use crate::onnx::constant::Constant;
use crate::onnx::view::{View, row_major};
use crate::op::rearrange::ZERO;
use crate::op::strided::MAX_AXES;

/// How a value lies, constant or not.
pub(super) fn view_of(value: &Value) -> View {
    match value {
        Value::Constant(c) => c.view(),
        Value::Active(v) => v.clone(),
        Value::Stored(_) | Value::Folded(_) => unreachable!("inputs are loaded and alive"),
    }
}

/// `value` seen through `view`, which was made from its own.
pub(super) fn seen<'m>(
    importer: &mut Importer<'m>,
    call: Call<'m>,
    value: &Value<'m>,
    view: View,
) -> Result<Value<'m>> {
    match value {
        Value::Constant(c) => {
            importer.budget.charge(checked_len(call, &view.dims)?, 8).ok_or_else(|| call.too_large())?;
            Ok(Value::Constant(c.seen(&view)))
        }
        _ => Ok(Value::Active(view)),
    }
}

/// Number of values of a tensor of lengths `dims`, which has no more axes than the engine's loops have room for.
pub(super) fn checked_len(call: Call, dims: &[usize]) -> Result<usize> {
    // Some loops add one of their own.
    if dims.len() >= MAX_AXES {
        return Err(call
            .unsupported("makes a tensor of too many axes")
            .expected(format!("at most {}", MAX_AXES - 1), dims.len()));
    }
    // A tensor without elements has strides all the same: they must fit too.
    let extent = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1)));
    extent.map(|n| if dims.contains(&0) { 0 } else { n }).ok_or_else(|| call.too_large())
}

/// Values copied together from several tensors.
pub(super) struct Pieces<'m> {
    values: Vec<Value<'m>>,
    /// Where in the numbering of sources each begins.
    pub(super) starts: Vec<usize>,
    pub(super) inputs: Vec<NodeId>,
}

impl<'m> Pieces<'m> {
    pub(super) fn new(importer: &Importer<'m>, values: Vec<Value<'m>>) -> Self {
        let mut starts = vec![0; values.len()];
        let mut inputs = Vec::new();
        let mut start = 0;
        for (at, value) in starts.iter_mut().zip(&values) {
            if let Value::Constant(c) = value {
                *at = start;
                start += c.len();
            }
        }
        for (at, value) in starts.iter_mut().zip(&values) {
            if let Value::Active(view) = value {
                *at = start;
                inputs.push(view.node);
                start += importer.graph.shape(view.node).len();
            }
        }
        Pieces { values, starts, inputs }
    }

    /// Takes the places `to` of the output from the places `from` of piece `piece`.
    pub(super) fn take(&self, sources: &mut [u32], to: &View, piece: usize, from: &View) {
        let order = row_major(to.rank());
        for (to, from) in to.offsets(&order).zip(from.offsets(&order)) {
            sources[to] = (self.starts[piece] + from) as u32;
        }
    }

    pub(super) fn view(&self, piece: usize) -> View {
        view_of(&self.values[piece])
    }

    /// The order in which the axes of the output best lie: as in the first piece that is no constant.
    pub(super) fn order(&self, rank: usize) -> Vec<usize> {
        let active = self.values.iter().find_map(|v| match v {
            Value::Active(view) if view.rank() == rank => Some(view.order()),
            _ => None,
        });
        active.unwrap_or_else(|| row_major(rank))
    }

    /// The output: a constant if all pieces are.
    pub(super) fn assemble(
        self,
        importer: &mut Importer<'m>,
        call: Call<'m>,
        sources: &[u32],
        dims: Vec<usize>,
        order: &[usize],
    ) -> Result<Value<'m>> {
        let constants = self.values.iter().filter_map(|v| match v {
            Value::Constant(c) => Some(c),
            _ => None,
        });
        if !self.inputs.is_empty() {
            let mut values = Vec::new();
            for c in constants {
                importer.budget.charge(c.len(), 4).ok_or_else(|| call.too_large())?;
                values.extend_from_slice(&c.to_floats());
            }
            let view = importer.rearrange(call, values, &self.inputs, sources, dims, order)?;
            return Ok(Value::Active(view));
        }
        importer.budget.charge(sources.len(), 8).ok_or_else(|| call.too_large())?;
        let at = View::dense(0, dims.clone(), order);
        let places = at.offsets(&row_major(dims.len())).map(|i| sources[i]);
        let constants: Vec<&Constant> = constants.collect();
        if constants.iter().any(|c| c.is_float()) {
            let all: Vec<f32> = constants.iter().flat_map(|c| c.to_floats().to_vec()).collect();
            let pick = |i: u32| if i == ZERO { 0.0 } else { all[i as usize] };
            return Ok(Value::Constant(Constant::floats(dims, places.map(pick).collect())));
        }
        let all: Vec<i64> = constants.iter().flat_map(|c| c.to_ints()).collect();
        let pick = |i: u32| if i == ZERO { 0 } else { all[i as usize] };
        Ok(Value::Constant(Constant::ints(dims, places.map(pick).collect())))
    }
}

/// `value` with the positions `index` along `axis`.
pub(super) fn pick<'m>(
    importer: &mut Importer<'m>,
    call: Call<'m>,
    value: Value<'m>,
    axis: usize,
    index: &[usize],
) -> Result<Value<'m>> {
    let view = view_of(&value);
    // Evenly spaced positions are a slice.
    let step = index.get(1).map_or(Some(1), |second| second.checked_sub(index[0]).filter(|s| *s > 0));
    if let (Some(step), Some(&start)) = (step, index.first())
        && index.windows(2).all(|w| w[1] == w[0] + step)
    {
        return seen(importer, call, &value, view.slice(axis, start, index.len(), step));
    }
    let mut dims = view.dims.clone();
    dims[axis] = index.len();
    let mut sources = importer.slots(call, checked_len(call, &dims)?)?;
    sources.resize(dims.iter().product(), ZERO);
    let pieces = Pieces::new(importer, vec![value]);
    let order = pieces.order(dims.len());
    let out = View::dense(0, dims.clone(), &order);
    for (to, &from) in index.iter().enumerate() {
        pieces.take(&mut sources, &out.slice(axis, to, 1, 1), 0, &view.slice(axis, from, 1, 1));
    }
    pieces.assemble(importer, call, &sources, dims, &order)
}
