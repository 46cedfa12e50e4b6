//! Sums, means, norms and maxima over axes.

use super::elementwise::{apply, binary};
use super::place::{checked_len, view_of};
use super::shape::{axes_of, reshape_to};
use super::window::whole_maximum;
use super::{Importer, Read};
use crate::Result;
use crate::graph::Op;
use crate::onnx::call::Call;
use crate::onnx::constant::Constant;
use crate::onnx::import::Value;
use crate::onnx::view::{View, dense_strides, row_major};
use crate::op::binary::Arithmetic;
use crate::op::pointwise::Pointwise;
use crate::op::reduce::Reduce;

pub(super) fn reduce<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let value = importer.required(call, 0)?;
    let view = view_of(&value);
    let axes = match axes_of(importer, call, 1)? {
        Some(axes) if !axes.is_empty() => call.axes(&axes, view.rank())?,
        _ if call.int("noop_with_empty_axes", 0)? != 0 => return Ok(vec![value]),
        _ => row_major(view.rank()),
    };
    let keeps = call.int("keepdims", 1)? != 0;
    let kept: Vec<usize> =
        (0..view.rank()).map(|a| if axes.contains(&a) { 1 } else { view.dims[a] }).collect();
    let dropped: Vec<usize> = (0..view.rank()).filter(|a| !axes.contains(a)).map(|a| view.dims[a]).collect();
    let out = match &value {
        Value::Constant(c) => reduce_constant(importer, call, c, &kept)?,
        _ => Value::Active(reduce_active(importer, call, &view, &axes, &kept)?),
    };
    let dims = if keeps { kept } else { dropped };
    Ok(vec![reshape_to(importer, call, out, dims)?])
}

fn reduce_active<'m>(
    importer: &mut Importer<'m>,
    call: Call<'m>,
    view: &View,
    axes: &[usize],
    kept: &[usize],
) -> Result<View> {
    let count: usize = axes.iter().map(|&a| view.dims[a]).product();
    if view.len() == 0 {
        return Err(call.unsupported("reduces a tensor without values"));
    }
    let is_map = view.rank() == 4 && axes == [2, 3] && view.dims[0] == 1;
    if is_map && matches!(call.node.op, "ReduceMean" | "ReduceMax") {
        let node = importer.spatial(call, view)?;
        let op = match call.node.op {
            "ReduceMean" => Op::GlobalAveragePool,
            _ => whole_maximum(view.dims[2], view.dims[3]),
        };
        let node = importer.emit(call, op, &[node])?;
        return Ok(View::dense(node, kept.to_vec(), &[0, 2, 3, 1]));
    }
    let (view, factor) = match call.node.op {
        "ReduceMean" => (view.clone(), 1.0 / count as f64),
        "ReduceSum" => (view.clone(), 1.0),
        "ReduceL2" | "ReduceSumSquare" => {
            (apply(importer, call, view, Op::Pointwise(Pointwise::Power(2.0)))?, 1.0)
        }
        "ReduceL1" => (apply(importer, call, view, Op::Pointwise(Pointwise::Abs))?, 1.0),
        "ReduceProd" => return Err(call.unsupported("multiplies activations along an axis")),
        op => return extremum(importer, call, view, axes, op == "ReduceMax"),
    };
    let order = view.order();
    let placed = importer.place(call, &view, &order)?;
    let out = dense_strides(kept, &order);
    let strides = order.iter().map(|a| if axes.contains(a) { 0 } else { out[*a] }).collect();
    let dims = order.iter().map(|&a| view.dims[a]).collect();
    let shape = Importer::natural_shape(kept, &order);
    let op = Reduce { dims, strides, factor, len: shape.len() };
    let node = importer.emit(call, Op::Reduce(op, shape), &[placed.node])?;
    let sum = View::dense(node, kept.to_vec(), &order);
    match call.node.op {
        "ReduceL2" => apply(importer, call, &sum, Op::Pointwise(Pointwise::Sqrt)),
        _ => Ok(sum),
    }
}

/// The largest or smallest along short axes, position by position.
fn extremum<'m>(
    importer: &mut Importer<'m>,
    call: Call<'m>,
    view: &View,
    axes: &[usize],
    largest: bool,
) -> Result<View> {
    const MOST: usize = 64;
    let kind = if largest { Arithmetic::Maximum } else { Arithmetic::Minimum };
    let mut view = view.clone();
    for &axis in axes {
        if view.dims[axis] > MOST {
            return Err(call
                .unsupported("takes a maximum or minimum over a long axis")
                .expected(format!("the maximum over height and width, or at most {MOST}"), view.dims[axis]));
        }
        let mut best = Value::Active(view.slice(axis, 0, 1, 1));
        for i in 1..view.dims[axis] {
            let next = Value::Active(view.slice(axis, i, 1, 1));
            best = Value::Active(binary(importer, call, kind, &best, &next)?);
        }
        view = view_of(&best);
    }
    Ok(view)
}

fn reduce_constant<'m>(
    importer: &mut Importer<'m>,
    call: Call<'m>,
    c: &Constant,
    kept: &[usize],
) -> Result<Value<'m>> {
    let len = checked_len(call, kept)?;
    importer.budget.charge(len, 8).ok_or_else(|| call.too_large())?;
    // An axis that is summed does not move the place of the sum.
    let mut to = View::dense(0, kept.to_vec(), &row_major(kept.len()));
    for axis in 0..kept.len() {
        if kept[axis] != c.dims[axis] {
            to.strides[axis] = 0;
        }
    }
    to.dims = c.dims.clone();
    let places: Vec<usize> = to.offsets(&row_major(kept.len())).collect();
    let count = c.len().checked_div(len).unwrap_or(0);
    let op = call.node.op;
    if !c.is_float() && matches!(op, "ReduceProd" | "ReduceSum" | "ReduceMax" | "ReduceMin") {
        let start = match op {
            "ReduceProd" => 1,
            "ReduceSum" => 0,
            "ReduceMax" => i64::MIN,
            _ => i64::MAX,
        };
        let mut out = vec![start; len];
        for (v, &at) in c.to_ints().iter().zip(&places) {
            out[at] = match op {
                "ReduceProd" => out[at].wrapping_mul(*v),
                "ReduceSum" => out[at].wrapping_add(*v),
                "ReduceMax" => out[at].max(*v),
                _ => out[at].min(*v),
            };
        }
        return Ok(Value::Constant(Constant::ints(kept.to_vec(), out)));
    }
    let start = match op {
        "ReduceProd" => 1.0,
        "ReduceMax" => f64::NEG_INFINITY,
        "ReduceMin" => f64::INFINITY,
        _ => 0.0,
    };
    let mut out = vec![start; len];
    for (v, &at) in c.to_floats().iter().zip(&places) {
        let v = f64::from(*v);
        out[at] = match op {
            "ReduceProd" => out[at] * v,
            "ReduceMax" => f64::max(out[at], v),
            "ReduceMin" => f64::min(out[at], v),
            "ReduceL1" => out[at] + v.abs(),
            "ReduceL2" | "ReduceSumSquare" => out[at] + v * v,
            _ => out[at] + v,
        };
    }
    let end = |v: f64| match op {
        "ReduceMean" => v / count as f64,
        "ReduceL2" => v.sqrt(),
        _ => v,
    };
    Ok(Value::Constant(Constant::floats(kept.to_vec(), out.into_iter().map(|v| end(v) as f32).collect())))
}
