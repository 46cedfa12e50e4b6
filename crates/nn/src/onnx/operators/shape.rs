//! Operators that move values about: most only change the view. They treat constants alike, which
//! is what folds an exporter's arithmetic on shapes.

use super::{Importer, Read};
use crate::graph::NodeId;
use crate::onnx::call::Call;
use crate::onnx::constant::Constant;
use crate::onnx::import::Value;
use crate::onnx::view::{View, dense_strides, row_major};
use crate::op::rearrange::ZERO;
use crate::op::strided::MAX_AXES;
use crate::{Error, Result};

/// How a value lies, constant or not.
pub(super) fn view_of(value: &Value) -> View {
    match value {
        Value::Constant(c) => c.view(),
        Value::Active(v) => v.clone(),
        Value::Stored(_) | Value::Folded(_) => unreachable!("inputs are loaded and alive"),
    }
}

/// `value` seen through `view`, which was made from its own.
fn seen<'m>(importer: &mut Importer<'m>, call: Call<'m>, value: &Value<'m>, view: View) -> Result<Value<'m>> {
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
    dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(|| call.too_large())
}

/// Values copied together from several tensors.
pub(super) struct Pieces<'m> {
    values: Vec<Value<'m>>,
    starts: Vec<usize>,
    inputs: Vec<NodeId>,
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

pub(super) fn identity<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    // A tensor of the file is passed on unread.
    let name = call.node.inputs.first().copied().unwrap_or("");
    if let Some(value @ Value::Stored(_)) = importer.value(name) {
        return Ok(vec![value.clone()]);
    }
    Ok(vec![importer.required(call, 0)?])
}

pub(super) fn shape<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let name = call.node.inputs.first().copied().unwrap_or("");
    let dims: Vec<i64> = match importer.value(name) {
        Some(Value::Stored(t)) => t.dims.iter().map(|&d| d as i64).collect(),
        Some(Value::Folded(dims)) => dims.iter().map(|&d| d as i64).collect(),
        None => return Err(call.broken("reads a value that nothing before it computes")),
        Some(value) => view_of(value).dims.iter().map(|&d| d as i64).collect(),
    };
    if call.node.op == "Size" {
        return Ok(vec![Value::Constant(Constant::ints(vec![], vec![dims.iter().product()]))]);
    }
    let rank = dims.len() as i64;
    let bound = |v: i64| (if v < 0 { v.saturating_add(rank) } else { v }).clamp(0, rank) as usize;
    let (start, end) = (bound(call.int("start", 0)?), bound(call.int("end", rank)?));
    let part = dims.get(start..end).unwrap_or(&[]).to_vec();
    Ok(vec![Value::Constant(Constant::ints(vec![part.len()], part))])
}

/// `value` under other lengths.
pub(super) fn reshape_to<'m>(
    importer: &mut Importer<'m>,
    call: Call<'m>,
    value: Value<'m>,
    dims: Vec<usize>,
) -> Result<Value<'m>> {
    let have = view_of(&value);
    if checked_len(call, &dims)? != have.len() {
        return Err(call
            .broken("reshapes a tensor to another number of values")
            .expected(format!("{:?}", have.dims), format!("{dims:?}")));
    }
    match value {
        Value::Constant(c) => Ok(Value::Constant(Constant { dims, values: c.values })),
        _ => {
            if let Some(view) = have.reshape(&dims) {
                return Ok(Value::Active(view));
            }
            let placed = importer.place(call, &have, &row_major(have.rank()))?;
            Ok(Value::Active(View::dense(placed.node, dims.clone(), &row_major(dims.len()))))
        }
    }
}

pub(super) fn reshape<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let value = importer.required(call, 0)?;
    let have = view_of(&value).dims;
    let wanted = importer
        .constant(call, 1, "the new shape")?
        .ok_or_else(|| call.broken("the new shape is missing"))?
        .to_ints();
    let keep_zeros = call.int("allowzero", 0)? != 0;
    let mut dims = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (i, &d) in wanted.iter().enumerate() {
        match d {
            -1 if open.is_none() => {
                open = Some(i);
                dims.push(1);
            }
            0 if !keep_zeros && i < have.len() => dims.push(have[i]),
            d => dims.push(usize::try_from(d).map_err(|_| call.broken(format!("reshapes to {wanted:?}")))?),
        }
    }
    if let Some(open) = open {
        let len = checked_len(call, &have)?;
        let rest = checked_len(call, &dims)?;
        if rest == 0 || !len.is_multiple_of(rest) {
            return Err(call.broken(format!("reshapes {have:?} to {wanted:?}")));
        }
        dims[open] = len / rest;
    }
    if dims.len() > crate::onnx::proto::MAX_RANK {
        return Err(call.unsupported("gives a tensor of more than 16 axes"));
    }
    Ok(vec![reshape_to(importer, call, value, dims)?])
}

pub(super) fn flatten<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let value = importer.required(call, 0)?;
    let dims = view_of(&value).dims;
    let axis = call.int("axis", 1)?;
    let axis = if axis == dims.len() as i64 { dims.len() } else { call.axis(axis, dims.len())? };
    let to = vec![dims[..axis].iter().product(), dims[axis..].iter().product()];
    Ok(vec![reshape_to(importer, call, value, to)?])
}

pub(super) fn transpose<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let value = importer.required(call, 0)?;
    let view = view_of(&value);
    let reverse: Vec<usize> = (0..view.rank()).rev().collect();
    let permutation = match call.ints("perm")? {
        None => reverse,
        Some(axes) => axes.iter().map(|&a| call.axis(a, view.rank())).collect::<Result<Vec<_>>>()?,
    };
    if (0..view.rank()).any(|a| !permutation.contains(&a)) || permutation.len() != view.rank() {
        return Err(call.broken(format!("permutes {} axes by {permutation:?}", view.rank())));
    }
    let view = view.transpose(&permutation);
    Ok(vec![seen(importer, call, &value, view)?])
}

/// Axes given as an attribute up to opset 12 and as input `i` from 13 on.
pub(super) fn axes_of<'m>(importer: &mut Importer<'m>, call: Call<'m>, i: usize) -> Result<Option<Vec<i64>>> {
    if let Some(axes) = call.ints("axes")? {
        return Ok(Some(axes.to_vec()));
    }
    Ok(importer.constant(call, i, "the list of axes")?.map(|c| c.to_ints()))
}

pub(super) fn squeeze<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let value = importer.required(call, 0)?;
    let view = view_of(&value);
    let axes = match axes_of(importer, call, 1)? {
        Some(axes) => call.axes(&axes, view.rank())?,
        None => (0..view.rank()).filter(|&a| view.dims[a] == 1).collect(),
    };
    if axes.iter().any(|&a| view.dims[a] != 1) {
        return Err(call.broken(format!("squeezes {:?} at {axes:?}", view.dims)));
    }
    let view = view.without(&axes);
    Ok(vec![seen(importer, call, &value, view)?])
}

pub(super) fn unsqueeze<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let value = importer.required(call, 0)?;
    let view = view_of(&value);
    let axes = axes_of(importer, call, 1)?.ok_or_else(|| call.broken("the list of axes is missing"))?;
    let (asked, rank) = (axes.len(), view.rank() + axes.len());
    let axes = call.axes(&axes, rank)?;
    if axes.len() != asked {
        return Err(call.broken("makes the same axis twice"));
    }
    let view = view.with_ones(&axes);
    Ok(vec![seen(importer, call, &value, view)?])
}

pub(super) fn expand<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let value = importer.required(call, 0)?;
    let view = view_of(&value);
    let shape =
        importer.constant(call, 1, "the shape")?.ok_or_else(|| call.broken("the shape is missing"))?;
    let shape: Option<Vec<usize>> = shape.to_ints().iter().map(|&d| usize::try_from(d).ok()).collect();
    let dims = shape
        .and_then(|shape| crate::onnx::view::broadcast(&view.dims, &shape))
        .ok_or_else(|| call.broken("expands to a shape that does not fit"))?;
    checked_len(call, &dims)?;
    let view = view.expand(&dims);
    Ok(vec![seen(importer, call, &value, view)?])
}

pub(super) fn tile<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let value = importer.required(call, 0)?;
    let view = view_of(&value);
    let repeats =
        importer.constant(call, 1, "the number of repeats")?.map(|c| c.to_ints()).unwrap_or_default();
    let repeats: Vec<usize> = repeats.iter().filter_map(|&r| usize::try_from(r).ok()).collect();
    if repeats.len() != view.rank() {
        return Err(call.broken(format!("repeats {:?} by {repeats:?}", view.dims)));
    }
    let (mut dims, mut strides, mut merged) = (Vec::new(), Vec::new(), Vec::new());
    for axis in 0..view.rank() {
        dims.extend([repeats[axis], view.dims[axis]]);
        strides.extend([0, view.strides[axis]]);
        merged.push(repeats[axis].checked_mul(view.dims[axis]).ok_or_else(|| call.too_large())?);
    }
    checked_len(call, &merged)?;
    let view = View { dims, strides, ..view };
    let value = seen(importer, call, &value, view)?;
    Ok(vec![reshape_to(importer, call, value, merged)?])
}

pub(super) fn concat<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let mut values = Vec::new();
    for i in 0..call.node.inputs.len() {
        values.push(importer.required(call, i)?);
    }
    let Some(first) = values.first().map(view_of) else { return Err(call.broken("concatenates nothing")) };
    let axis = call.axis(call.int("axis", 0)?, first.rank())?;
    let mut dims = first.dims.clone();
    dims[axis] = 0;
    for value in &values {
        let found = view_of(value).dims;
        let fits = |a: usize| a == axis || found[a] == first.dims[a];
        if found.len() != first.rank() || !(0..first.rank()).all(fits) {
            return Err(call.broken(format!("concatenates {:?} and {found:?}", first.dims)));
        }
        dims[axis] += found[axis];
    }
    // Feature maps side by side in channels are what the engine has an operator of its own for.
    let maps = values.iter().map(|v| match v {
        Value::Active(view) if view.rank() == 4 && axis == 1 && view.is_dense(&[0, 2, 3, 1]) => {
            Some(view.node)
        }
        _ => None,
    });
    if let Some(nodes) = maps.collect::<Option<Vec<_>>>() {
        let (h, w) = (dims[2], dims[3]);
        let whole = |(&n, v): (&NodeId, &Value)| {
            importer.graph.shape(n) == crate::tensor::Shape::new(h, w, view_of(v).dims[1])
        };
        if nodes.iter().zip(&values).all(whole) {
            let node = importer.emit(call, crate::graph::Op::Concat, &nodes)?;
            return Ok(vec![Value::Active(View::dense(node, dims, &[0, 2, 3, 1]))]);
        }
    }
    let mut sources = importer.slots(call, checked_len(call, &dims)?)?;
    sources.resize(dims.iter().product(), ZERO);
    let pieces = Pieces::new(importer, values);
    let order = pieces.order(dims.len());
    let out = View::dense(0, dims.clone(), &order);
    let mut at = 0;
    for i in 0..call.node.inputs.len() {
        let from = pieces.view(i);
        pieces.take(&mut sources, &out.slice(axis, at, from.dims[axis], 1), i, &from);
        at += from.dims[axis];
    }
    Ok(vec![pieces.assemble(importer, call, &sources, dims, &order)?])
}

pub(super) fn split<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let value = importer.required(call, 0)?;
    let view = view_of(&value);
    let axis = call.axis(call.int("axis", 0)?, view.rank())?;
    let (len, parts) = (view.dims[axis], call.node.outputs.len());
    let listed = match call.ints("split")? {
        Some(sizes) => Some(sizes.to_vec()),
        None => importer.constant(call, 1, "the list of lengths")?.map(|c| c.to_ints()),
    };
    let sizes: Vec<usize> = match listed {
        Some(sizes) => sizes.iter().filter_map(|&s| usize::try_from(s).ok()).collect(),
        None => {
            let size = len.div_ceil(parts.max(1));
            (0..parts).map(|i| size.min(len.saturating_sub(i * size))).collect()
        }
    };
    if sizes.len() != parts || sizes.iter().try_fold(0usize, |n, &s| n.checked_add(s)) != Some(len) {
        return Err(call.broken(format!("splits {len} into {sizes:?} for {parts} outputs")));
    }
    let mut at = 0;
    sizes
        .into_iter()
        .map(|size| {
            at += size;
            seen(importer, call, &value, view.slice(axis, at - size, size, 1))
        })
        .collect()
}

pub(super) fn slice<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let mut value = importer.required(call, 0)?;
    let rank = view_of(&value).rank();
    let mut list = |i: usize, what: &str| importer.constant(call, i, what).map(|c| c.map(|c| c.to_ints()));
    let starts = list(1, "the list of starts")?.ok_or_else(|| call.broken("the starts are missing"))?;
    let ends = list(2, "the list of ends")?.ok_or_else(|| call.broken("the ends are missing"))?;
    let axes = list(3, "the list of axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = list(4, "the list of steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err(call.broken("has lists of different lengths"));
    }
    for i in 0..starts.len() {
        let axis = call.axis(axes[i], rank)?;
        let len = view_of(&value).dims[axis] as i64;
        if len == 0 {
            continue; // Of nothing, nothing is left, from wherever to wherever.
        }
        let step = steps[i];
        if step == 0 {
            return Err(call.broken("has a step of 0"));
        }
        let wrap = |v: i64| if v < 0 { v.saturating_add(len) } else { v };
        // Backwards, −1 past wrapping means "to the very first".
        let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
        let (start, end) = (wrap(starts[i]).clamp(low.max(0), high.max(0)), wrap(ends[i]).clamp(low, high));
        if step > 0 || start <= end {
            let step = usize::try_from(step).unwrap_or(1);
            let count = usize::try_from(end - start).unwrap_or(0).div_ceil(step);
            let view = view_of(&value).slice(axis, start as usize, count, step);
            value = seen(importer, call, &value, view)?;
            continue;
        }
        importer.budget.charge((start - end) as usize, 8).ok_or_else(|| call.too_large())?;
        let step = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
        let index: Vec<usize> = (end + 1..=start).rev().step_by(step).map(|i| i as usize).collect();
        value = pick(importer, call, value, axis, &index)?;
    }
    Ok(vec![value])
}

pub(super) fn gather<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let value = importer.required(call, 0)?;
    let index =
        importer.constant(call, 1, "the index")?.ok_or_else(|| call.broken("the index is missing"))?;
    let view = view_of(&value);
    let axis = call.axis(call.int("axis", 0)?, view.rank())?;
    let len = view.dims[axis];
    let wrap = |&i: &i64| {
        let at = if i < 0 { i.saturating_add(len as i64) } else { i };
        usize::try_from(at).ok().filter(|a| *a < len)
    };
    let places: Option<Vec<usize>> = index.to_ints().iter().map(wrap).collect();
    let places = places.ok_or_else(|| call.broken(format!("picks outside of {:?}", view.dims)))?;
    if places.is_empty() {
        return Err(call.unsupported("picks nothing"));
    }
    let picked = pick(importer, call, value, axis, &places)?;
    let seen_now = view_of(&picked);
    let mut dims = seen_now.dims.clone();
    dims.splice(axis..=axis, index.dims.iter().copied());
    Ok(vec![reshape_to(importer, call, picked, dims)?])
}

pub(super) fn pad<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let mut value = importer.required(call, 0)?;
    let rank = view_of(&value).rank();
    let pads =
        importer.constant(call, 1, "the padding")?.ok_or_else(|| call.broken("the padding is missing"))?;
    let pads = pads.to_ints();
    let fill = importer.constant(call, 2, "the padding's value")?.and_then(|c| c.scalar()).unwrap_or(0.0);
    let axes = match importer.constant(call, 3, "the list of axes")? {
        Some(axes) => axes.to_ints().iter().map(|&a| call.axis(a, rank)).collect::<Result<Vec<_>>>()?,
        None => row_major(rank),
    };
    if pads.len() != 2 * axes.len() {
        return Err(call.broken(format!("pads {} axes by {pads:?}", axes.len())));
    }
    let mode = call.text("mode", "constant")?;
    let limit = 1 << 16;
    for (i, &axis) in axes.iter().enumerate() {
        let (before, after) = (pads[i], pads[i + axes.len()]);
        if before == 0 && after == 0 {
            continue;
        }
        let len = view_of(&value).dims[axis] as i64;
        if before.unsigned_abs().max(after.unsigned_abs()) > limit || len + before + after <= 0 || len == 0 {
            return Err(call.unsupported(format!("pads a length of {len} by {before} and {after}")));
        }
        let range = -before..len + after;
        let places: Vec<Option<usize>> = match mode {
            "constant" => range.map(|i| (0..len).contains(&i).then_some(i as usize)).collect(),
            "edge" => range.map(|i| Some(i.clamp(0, len - 1) as usize)).collect(),
            "wrap" => range.map(|i| Some(i.rem_euclid(len) as usize)).collect(),
            "reflect" if before < len && after < len => range
                .map(|i| {
                    Some(
                        (if i < 0 {
                            -i
                        } else if i >= len {
                            2 * (len - 1) - i
                        } else {
                            i
                        }) as usize,
                    )
                })
                .collect(),
            _ => {
                return Err(call
                    .unsupported("pads in an unsupported way")
                    .expected("constant, edge, wrap, or reflect by less than the length", mode));
            }
        };
        value = pad_axis(importer, call, value, axis, &places, fill)?;
    }
    Ok(vec![value])
}

/// `value` with the positions `places` along `axis`, `fill` where there is none.
fn pad_axis<'m>(
    importer: &mut Importer<'m>,
    call: Call<'m>,
    value: Value<'m>,
    axis: usize,
    places: &[Option<usize>],
    fill: f32,
) -> Result<Value<'m>> {
    let view = view_of(&value);
    let mut dims = view.dims.clone();
    dims[axis] = places.len();
    let len = checked_len(call, &dims)?;
    let mut sources = importer.slots(call, len)?;
    sources.resize(len, ZERO);
    let mut slab = dims.clone();
    slab[axis] = 1;
    let filler =
        Constant::floats(slab.clone(), vec![fill; if fill == 0.0 { 0 } else { slab.iter().product() }]);
    let is_float = !matches!(&value, Value::Constant(c) if !c.is_float());
    let mut values = vec![value];
    if fill != 0.0 {
        values.push(if is_float {
            Value::Constant(filler)
        } else {
            Value::Constant(Constant::ints(slab.clone(), vec![fill as i64; slab.iter().product()]))
        });
    }
    let pieces = Pieces::new(importer, values);
    let order = pieces.order(dims.len());
    let out = View::dense(0, dims.clone(), &order);
    for (to, from) in places.iter().enumerate() {
        let to = out.slice(axis, to, 1, 1);
        match from {
            Some(from) => pieces.take(&mut sources, &to, 0, &view.slice(axis, *from, 1, 1)),
            None if fill != 0.0 => {
                let strides = dense_strides(&slab, &row_major(slab.len()));
                let from = View { node: 0, offset: 0, dims: slab.clone(), strides };
                pieces.take(&mut sources, &to, 1, &from);
            }
            None => {}
        }
    }
    pieces.assemble(importer, call, &sources, dims, &order)
}

/// Elements of one tensor where a constant condition holds, of another where not.
pub(super) fn choose<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    if let Some(view) = super::fuse::guarded_softplus(importer, call) {
        importer.fused("softplus with its guard");
        return Ok(vec![Value::Active(view)]);
    }
    let condition = importer
        .constant(call, 0, "the condition")?
        .ok_or_else(|| call.broken("the condition is missing"))?;
    let (yes, no) = (importer.required(call, 1)?, importer.required(call, 2)?);
    let misfit = || call.broken("chooses between tensors whose shapes do not fit");
    let (a, b) = (view_of(&yes), view_of(&no));
    let dims = crate::onnx::view::broadcast(&a.dims, &b.dims)
        .and_then(|d| crate::onnx::view::broadcast(&d, &condition.dims))
        .ok_or_else(misfit)?;
    let len = checked_len(call, &dims)?;
    // A mask that masks nothing, or everything.
    let holds = condition.to_ints();
    if let Some(&first) = holds.first()
        && holds.iter().all(|h| (*h != 0) == (first != 0))
    {
        let chosen = if first != 0 { yes } else { no };
        let view = view_of(&chosen).expand(&dims);
        return Ok(vec![seen(importer, call, &chosen, view)?]);
    }
    let (a, b, c) = (a.expand(&dims), b.expand(&dims), condition.view().expand(&dims));
    let mut sources = importer.slots(call, len)?;
    let pieces = Pieces::new(importer, vec![yes, no]);
    let order = if pieces.inputs.is_empty() { row_major(dims.len()) } else { a.order() };
    let places = a.offsets(&order).zip(b.offsets(&order)).zip(c.offsets(&order));
    sources.extend(
        places.map(|((a, b), c)| {
            (if holds[c] != 0 { pieces.starts[0] + a } else { pieces.starts[1] + b }) as u32
        }),
    );
    Ok(vec![pieces.assemble(importer, call, &sources, dims, &order)?])
}

/// DepthToSpace and SpaceToDepth: blocks of channels as blocks of pixels, and back.
pub(super) fn blocks<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let value = importer.required(call, 0)?;
    let side = usize::try_from(call.int("blocksize", 0)?).ok().filter(|s| *s > 0);
    let (Some(s), &[n, c, h, w]) = (side, &view_of(&value).dims[..]) else {
        return Err(call.broken("needs a block size and a tensor of four axes"));
    };
    let misfit = || -> Error { call.broken(format!("blocks of {s} do not divide {c}×{h}×{w}")) };
    let product = |a: usize, b: usize| a.checked_mul(b).ok_or_else(|| call.too_large());
    let square = product(s, s)?;
    let (split, permutation, merged): (Vec<usize>, &[usize], Vec<usize>) = if call.node.op == "SpaceToDepth" {
        if !h.is_multiple_of(s) || !w.is_multiple_of(s) {
            return Err(misfit());
        }
        (vec![n, c, h / s, s, w / s, s], &[0, 3, 5, 1, 2, 4], vec![n, product(c, square)?, h / s, w / s])
    } else {
        if !c.is_multiple_of(square) {
            return Err(misfit());
        }
        let merged = vec![n, c / square, product(h, s)?, product(w, s)?];
        match call.text("mode", "DCR")? {
            "DCR" => (vec![n, s, s, c / square, h, w], &[0, 3, 4, 1, 5, 2], merged),
            "CRD" => (vec![n, c / square, s, s, h, w], &[0, 1, 4, 2, 5, 3], merged),
            other => {
                return Err(call
                    .unsupported("orders blocks in an unsupported way")
                    .expected("DCR or CRD", other));
            }
        }
    };
    let value = reshape_to(importer, call, value, split)?;
    let view = view_of(&value).transpose(permutation);
    let value = seen(importer, call, &value, view)?;
    Ok(vec![reshape_to(importer, call, value, merged)?])
}
