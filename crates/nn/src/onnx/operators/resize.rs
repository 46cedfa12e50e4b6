//! Resize: nearest as a choice of positions, linear and cubic as one matrix product an axis.

use super::matmul::product;
use super::place::{pick, view_of};
use super::{Importer, Read};
use crate::Result;
use crate::onnx::call::Call;
use crate::onnx::constant::Constant;
use crate::onnx::import::Value;

/// How an axis is resized.
struct Axis<'a> {
    from: usize,
    to: usize,
    /// Output length over input length, as given.
    scale: f64,
    coordinates: &'a str,
}

impl Axis<'_> {
    /// The place in the input that output position `i` shows.
    fn source(&self, i: usize) -> f64 {
        let (from, to, i) = (self.from as f64, self.to as f64, i as f64);
        match self.coordinates {
            "asymmetric" => i / self.scale,
            "align_corners" if self.to == 1 => 0.0,
            "align_corners" => i * (from - 1.0) / (to - 1.0),
            "pytorch_half_pixel" if self.to == 1 => 0.0,
            "half_pixel_symmetric" => {
                // The centre stays where it is when from·scale is no whole number.
                let adjusted = to / (self.scale * from);
                let offset = from / 2.0 * (1.0 - adjusted);
                offset + (i + 0.5) / self.scale - 0.5
            }
            _ => (i + 0.5) / self.scale - 0.5,
        }
    }
}

/// Keys' cubic convolution kernel (1981) with parameter `a`.
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

pub(super) fn resize<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let mut value = importer.required(call, 0)?;
    let view = view_of(&value);
    let rank = view.rank();
    // Upsample (opset 9) has its scales where Resize has the region.
    let first = if call.node.op == "Upsample" { 1 } else { 2 };
    let scales = importer.constant(call, first, "the scale")?.filter(|c| c.len() > 0);
    let sizes =
        if first == 2 { importer.constant(call, 3, "the size")?.filter(|c| c.len() > 0) } else { None };
    let axes = match call.ints("axes")? {
        Some(axes) => axes.iter().map(|&a| call.axis(a, rank)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).collect(),
    };
    if call.text("keep_aspect_ratio_policy", "stretch")? != "stretch" {
        return Err(call.unsupported("keeps the aspect ratio"));
    }
    let old = call.node.op == "Upsample";
    let coordinates =
        call.text("coordinate_transformation_mode", if old { "asymmetric" } else { "half_pixel" })?;
    let known = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"];
    if !known.contains(&coordinates) {
        return Err(call
            .unsupported("has an unsupported coordinate_transformation_mode")
            .expected(known.join(", "), coordinates));
    }
    let count = sizes.as_ref().or(scales.as_ref()).map_or(0, Constant::len);
    if count != axes.len() {
        return Err(call.broken(format!("has {count} scales or sizes for {} axes", axes.len())));
    }
    for (i, &axis) in axes.iter().enumerate() {
        let from = view.dims[axis];
        let (to, scale) = match (&sizes, &scales) {
            (Some(sizes), _) => {
                let to = usize::try_from(sizes.to_ints()[i]).unwrap_or(0);
                (to, to as f64 / from as f64)
            }
            (None, Some(scales)) => {
                let scale = f64::from(scales.to_floats()[i]);
                ((from as f64 * scale).floor() as usize, scale)
            }
            (None, None) => return Err(call.broken("has neither scales nor sizes")),
        };
        if from == 0 || to == 0 || to > 1 << 16 {
            return Err(call.unsupported(format!("resizes a length of {from} to {to}")));
        }
        if from == to && scale == 1.0 {
            continue;
        }
        let along = Axis { from, to, scale, coordinates };
        value = resize_axis(importer, call, value, axis, &along)?;
    }
    Ok(vec![value])
}

fn resize_axis<'m>(
    importer: &mut Importer<'m>,
    call: Call<'m>,
    value: Value<'m>,
    axis: usize,
    along: &Axis,
) -> Result<Value<'m>> {
    let last = along.from as i64 - 1;
    let mode = call.text("mode", "nearest")?;
    if mode == "nearest" {
        let rounding = call
            .text("nearest_mode", if call.node.op == "Upsample" { "floor" } else { "round_prefer_floor" })?;
        let places: Vec<usize> = (0..along.to)
            .map(|i| {
                let x = along.source(i);
                let x = match rounding {
                    "floor" => x.floor(),
                    "ceil" => x.ceil(),
                    "round_prefer_ceil" => (x + 0.5).floor(),
                    _ => (x - 0.5).ceil(),
                };
                (x as i64).clamp(0, last) as usize
            })
            .collect();
        return pick(importer, call, value, axis, &places);
    }
    let a = f64::from(call.float("cubic_coeff_a", -0.75)?);
    let reach = match mode {
        "linear" => 1,
        "cubic" => 2,
        _ => {
            return Err(call
                .unsupported("has an unsupported mode")
                .expected("nearest, linear or cubic", mode));
        }
    };
    let kernel = |x: f64| if reach == 1 { (1.0 - x.abs()).max(0.0) } else { cubic(x, a) };
    let exclude = call.int("exclude_outside", 0)? != 0;
    // PyTorch's antialias widens the kernel when shrinking, so that nothing is skipped.
    let wide = if call.int("antialias", 0)? != 0 { (1.0 / along.scale).max(1.0) } else { 1.0 };
    importer.budget.charge(along.to.saturating_mul(along.from), 4).ok_or_else(|| call.too_large())?;
    let mut weights = vec![0f32; along.to * along.from];
    for (i, row) in weights.chunks_exact_mut(along.from).enumerate() {
        let x = along.source(i);
        let support = f64::from(reach) * wide;
        let (low, high) = ((x - support).floor() as i64, (x + support).ceil() as i64);
        let mut exact = vec![0f64; along.from];
        let mut total = 0.0;
        for j in low..=high {
            let weight = kernel((j as f64 - x) / wide);
            if (exclude || wide > 1.0) && !(0..=last).contains(&j) {
                continue;
            }
            exact[j.clamp(0, last) as usize] += weight;
            total += weight;
        }
        let scale = if total == 0.0 { 0.0 } else { 1.0 / total };
        row.iter_mut().zip(exact).for_each(|(w, e)| *w = (e * scale) as f32);
    }
    // to×from times a tensor whose last axis but one is the axis at hand.
    let view = view_of(&value);
    let mut permutation: Vec<usize> = (0..view.rank()).filter(|&a| a != axis).collect();
    permutation.insert(view.rank() - 1, axis);
    permutation.swap(view.rank() - 2, view.rank() - 1);
    let matrix = Constant::floats(vec![along.to, along.from], weights);
    let moved = view.transpose(&permutation);
    let back: Vec<usize> =
        (0..view.rank()).map(|a| permutation.iter().position(|&p| p == a).expect("a permutation")).collect();
    match value {
        Value::Constant(c) => {
            let dims = &moved.dims;
            let (rows, columns) = (along.from, dims[dims.len() - 1]);
            let rest: usize = dims[..dims.len() - 2].iter().product();
            importer.budget.charge(rest * along.to * columns, 12).ok_or_else(|| call.too_large())?;
            let (x, m) = (c.seen(&moved).to_floats(), matrix.to_floats());
            let mut out = vec![0f64; rest * along.to * columns];
            for (x, out) in x.chunks_exact(rows * columns).zip(out.chunks_exact_mut(along.to * columns)) {
                for (m, out) in m.chunks_exact(rows).zip(out.chunks_exact_mut(columns)) {
                    for (m, x) in m.iter().zip(x.chunks_exact(columns)).filter(|(m, _)| **m != 0.0) {
                        out.iter_mut().zip(x).for_each(|(o, x)| *o += f64::from(*m) * f64::from(*x));
                    }
                }
            }
            let mut dims = moved.dims.clone();
            let n = dims.len();
            dims[n - 2] = along.to;
            let resized = Constant::floats(dims, out.into_iter().map(|v| v as f32).collect());
            let view = resized.view().transpose(&back);
            Ok(Value::Constant(resized.seen(&view)))
        }
        _ => {
            let out = product(importer, call, Value::Constant(matrix), Value::Active(moved))?;
            Ok(Value::Active(out.transpose(&back)))
        }
    }
}
