//! Operators that only change how a tensor is counted: reshaping, permuting, repeating. Nothing is copied
//! where a view can show it.

use super::place::{checked_len, seen, view_of};
use super::{Importer, Read, Value};
use crate::Result;
use crate::onnx::call::Call;
use crate::onnx::constant::Constant;
use crate::onnx::view::{View, broadcast, row_major};

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
        .and_then(|shape| broadcast(&view.dims, &shape))
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
