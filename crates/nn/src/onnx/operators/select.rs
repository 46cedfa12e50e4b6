//! Operators that pick or replace elements: Slice, Gather, GatherND, ScatterND, Where.

use super::place::{Pieces, checked_len, pick, seen, view_of};
use super::shape::reshape_to;
use super::{Importer, Read, Value, fuse};
use crate::Result;
use crate::onnx::call::Call;
use crate::onnx::constant::Constant;
use crate::onnx::view::{View, broadcast, row_major};

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
            // A longer step than the axis takes its first place alone, as one of the axis' length does.
            let step = usize::try_from(step.min(len)).unwrap_or(1);
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

/// GatherND: the parts of a tensor at places that are lists of indices along its first axes.
pub(super) fn gather_at<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let value = importer.required(call, 0)?;
    let index =
        importer.constant(call, 1, "the index")?.ok_or_else(|| call.broken("the index is missing"))?;
    let batch = call.int("batch_dims", 0)?;
    if batch != 0 {
        return Err(call.unsupported("has the attribute `batch_dims`").expected("0", batch));
    }
    let view = view_of(&value);
    let (count, dims) = places(call, &index, &view)?;
    let mut sources = importer.slots(call, checked_len(call, &dims)?)?;
    let pieces = Pieces::new(importer, vec![value]);
    for place in index.to_ints().chunks_exact(count) {
        let part = part_at(call, &view, place)?;
        sources.extend(part.offsets(&row_major(part.rank())).map(|i| (pieces.starts[0] + i) as u32));
    }
    let order = row_major(dims.len());
    Ok(vec![pieces.assemble(importer, call, &sources, dims, &order)?])
}

/// ScatterND: a tensor with the parts at some places, lists of indices along its first axes, replaced by those of another.
pub(super) fn scatter_at<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let value = importer.required(call, 0)?;
    let index =
        importer.constant(call, 1, "the index")?.ok_or_else(|| call.broken("the index is missing"))?;
    let updates = importer.required(call, 2)?;
    let reduction = call.text("reduction", "none")?;
    if reduction != "none" {
        return Err(call.unsupported("has the attribute `reduction`").expected("none", reduction));
    }
    let (view, new) = (view_of(&value), view_of(&updates));
    let (count, wanted) = places(call, &index, &view)?;
    if new.dims != wanted {
        return Err(call
            .broken("replaces parts by others of another shape")
            .expected(format!("{wanted:?}"), format!("{:?}", new.dims)));
    }
    let (dims, order) = (view.dims.clone(), row_major(view.rank()));
    let mut sources = importer.slots(call, checked_len(call, &dims)?)?;
    let pieces = Pieces::new(importer, vec![value, updates]);
    sources.extend(view.offsets(&order).map(|i| (pieces.starts[0] + i) as u32));
    let out = View::dense(0, dims.clone(), &order);
    let mut replaced = new.offsets(&row_major(new.rank()));
    for place in index.to_ints().chunks_exact(count) {
        let part = part_at(call, &out, place)?;
        for (to, from) in part.offsets(&row_major(part.rank())).zip(&mut replaced) {
            sources[to] = (pieces.starts[1] + from) as u32;
        }
    }
    Ok(vec![pieces.assemble(importer, call, &sources, dims, &order)?])
}

/// How many of the first axes of `view` the lists in `index` go along, and the lengths of what lies at them.
fn places(call: Call, index: &Constant, view: &View) -> Result<(usize, Vec<usize>)> {
    let Some((&count, places)) = index.dims.split_last() else {
        return Err(call.broken("has an index without axes"));
    };
    if count == 0 || count > view.rank() || index.len() == 0 {
        return Err(call.broken(format!("picks by {:?} from {:?}", index.dims, view.dims)));
    }
    Ok((count, [places, &view.dims[count..]].concat()))
}

/// The part of `view` at `place`, indices along its first axes.
fn part_at(call: Call, view: &View, place: &[i64]) -> Result<View> {
    let mut part = view.clone();
    for (axis, &i) in place.iter().enumerate() {
        let at = if i < 0 { i.saturating_add(view.dims[axis] as i64) } else { i };
        let at = usize::try_from(at).ok().filter(|at| *at < view.dims[axis]);
        let at = at.ok_or_else(|| call.broken(format!("picks outside of {:?}", view.dims)))?;
        part.offset += at * view.strides[axis];
    }
    Ok(part.without(&row_major(place.len())))
}

/// Elements of one tensor where a constant condition holds, of another where not.
pub(super) fn choose<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    if let Some(view) = fuse::guarded_softplus(importer, call) {
        importer.fused("softplus with its guard");
        return Ok(vec![Value::Active(view)]);
    }
    let condition = importer
        .constant(call, 0, "the condition")?
        .ok_or_else(|| call.broken("the condition is missing"))?;
    let (yes, no) = (importer.required(call, 1)?, importer.required(call, 2)?);
    let misfit = || call.broken("chooses between tensors whose shapes do not fit");
    let (a, b) = (view_of(&yes), view_of(&no));
    let dims = broadcast(&a.dims, &b.dims).and_then(|d| broadcast(&d, &condition.dims)).ok_or_else(misfit)?;
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
