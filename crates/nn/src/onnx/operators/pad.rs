//! Pad, in all its modes.

use super::place::{Pieces, checked_len, view_of};
use super::{Importer, Read, Value};
use crate::Result;
use crate::onnx::call::Call;
use crate::onnx::constant::Constant;
use crate::onnx::view::{View, dense_strides, row_major};
use crate::op::rearrange::ZERO;

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
