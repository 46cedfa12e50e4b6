//! Normalisation by the statistics of the tensor itself.

use super::elementwise::binary;
use super::place::view_of;
use super::shape::reshape_to;
use super::{Importer, Read};
use crate::Result;
use crate::graph::Op;
use crate::onnx::call::Call;
use crate::onnx::constant::Constant;
use crate::onnx::import::Value;
use crate::onnx::view::View;
use crate::op::binary::Arithmetic;

/// (x − mean)/√(variance + ε) along the last axis, with scale and shift of its length.
fn rows<'m>(
    importer: &mut Importer<'m>,
    call: Call<'m>,
    view: &View,
    eps: f32,
    affine: Option<(Vec<f32>, Vec<f32>)>,
) -> Result<View> {
    let (node, order) = importer.rows(call, view)?;
    let node = importer.emit(call, Op::LayerNorm { eps: f64::from(eps), affine }, &[node])?;
    Ok(View::dense(node, view.dims.clone(), &order))
}

pub(super) fn layer<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let view = importer.active(call, 0)?;
    let axis = call.axis(call.int("axis", -1)?, view.rank())?;
    let width: usize = view.dims[axis..].iter().product();
    let scale =
        importer.constant(call, 1, "the scale")?.ok_or_else(|| call.broken("the scale is missing"))?;
    let shift = importer.constant(call, 2, "the shift")?;
    let shift = shift.map_or_else(|| vec![0.0; width], |c| c.to_floats().to_vec());
    let scale = match scale.to_floats().to_vec() {
        one if one.len() == 1 => vec![one[0]; width],
        all => all,
    };
    let shift = if shift.len() == 1 { vec![shift[0]; width] } else { shift };
    if scale.len() != width || shift.len() != width {
        return Err(call.broken("has a scale or shift that does not fit").expected(width, scale.len()));
    }
    if call.node.outputs.iter().skip(1).any(|o| !o.is_empty()) {
        return Err(call.unsupported("gives its mean or deviation as outputs"));
    }
    let mut flat = view.dims[..axis].to_vec();
    flat.push(width);
    let value = reshape_to(importer, call, Value::Active(view.clone()), flat)?;
    let out = rows(importer, call, &view_of(&value), call.float("epsilon", 1e-5)?, Some((scale, shift)))?;
    Ok(vec![reshape_to(importer, call, Value::Active(out), view.dims)?])
}

/// InstanceNormalization and GroupNormalization: each group of channels over all its pixels.
pub(super) fn group<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let view = importer.active(call, 0)?;
    let [1, channels, ..] = view.dims[..] else {
        return Err(
            call.unsupported(format!("works on {:?}, which is not one image with channels", view.dims))
        );
    };
    let is_group = call.node.op == "GroupNormalization";
    let groups = if is_group { usize::try_from(call.int("num_groups", 0)?).unwrap_or(0) } else { channels };
    if groups == 0 || channels % groups != 0 {
        return Err(call.broken(format!("divides {channels} channels into {groups} groups")));
    }
    let mut part = |i: usize, what: &str| -> Result<Vec<f32>> {
        let c = importer.constant(call, i, what)?.ok_or_else(|| call.broken("an input is missing"))?;
        let values = c.to_floats();
        // Up to opset 20 one value a group.
        match values.len() {
            n if n == channels => Ok(values.to_vec()),
            n if n == groups => Ok((0..channels).map(|c| values[c / (channels / groups)]).collect()),
            n => Err(call.broken(format!("has {n} values of {what} for {channels} channels"))),
        }
    };
    let (scale, shift) = (part(1, "the scale")?, part(2, "the shift")?);
    let width = view.len() / groups;
    let value = reshape_to(importer, call, Value::Active(view.clone()), vec![1, groups, width])?;
    let out = rows(importer, call, &view_of(&value), call.float("epsilon", 1e-5)?, None)?;
    let mut value = reshape_to(importer, call, Value::Active(out), view.dims.clone())?;
    let mut dims = vec![1; view.rank() - 1];
    dims[0] = channels;
    for (kind, values, neutral) in [(Arithmetic::Multiply, scale, 1.0), (Arithmetic::Add, shift, 0.0)] {
        if values.iter().any(|v| *v != neutral) {
            let constant = Value::Constant(Constant::floats(dims.clone(), values));
            value = Value::Active(binary(importer, call, kind, &value, &constant)?);
        }
    }
    Ok(vec![value])
}
