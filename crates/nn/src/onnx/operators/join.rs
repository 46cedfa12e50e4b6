//! Concat and Split.

use super::place::{Pieces, checked_len, seen, view_of};
use super::{Importer, Read, Value};
use crate::graph::{NodeId, Op};
use crate::onnx::call::Call;
use crate::onnx::view::View;
use crate::op::rearrange::ZERO;
use crate::tensor::Shape;

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
        let whole =
            |(&n, v): (&NodeId, &Value)| importer.graph.shape(n) == Shape::new(h, w, view_of(v).dims[1]);
        if nodes.iter().zip(&values).all(whole) {
            let node = importer.emit(call, Op::Concat, &nodes)?;
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
