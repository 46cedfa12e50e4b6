//! Convolution and pooling.

use super::elementwise::affine;
use super::place::view_of;
use super::shape::reshape_to;
use super::{Importer, Read};
use crate::Result;
use crate::graph::{NodeId, Op};
use crate::onnx::call::Call;
use crate::onnx::constant::Constant;
use crate::onnx::import::Value;
use crate::onnx::view::{View, row_major};
use crate::op::conv::Window;
use crate::op::pool::PoolKind;

/// Where a window goes over a length.
struct Along {
    kernel: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    after: usize,
    /// Positions of the window.
    out: usize,
}

/// The largest kernel, stride, dilation or padding: beyond it lengths could overflow.
const MAX_WINDOW: i64 = 1 << 16;

/// How the window of `call` goes over each of `lengths`.
fn along(call: Call, kernel: &[usize], lengths: &[usize]) -> Result<Vec<Along>> {
    let axes = lengths.len();
    let list = |name: &str, default: i64, count: usize| -> Result<Vec<usize>> {
        let values = call.ints(name)?.map_or_else(|| vec![default; count], <[i64]>::to_vec);
        if values.len() != count || values.iter().any(|v| !(0..=MAX_WINDOW).contains(v)) {
            return Err(call.broken(format!("has {name} {values:?} for {axes} axes")));
        }
        Ok(values.iter().map(|&v| v as usize).collect())
    };
    let (strides, dilations) = (list("strides", 1, axes)?, list("dilations", 1, axes)?);
    let pads = list("pads", 0, 2 * axes)?;
    let auto = call.text("auto_pad", "NOTSET")?;
    let rounds_up = call.int("ceil_mode", 0)? != 0;
    (0..axes)
        .map(|a| {
            let (stride, dilation) = (strides[a], dilations[a]);
            if stride == 0 || dilation == 0 || kernel[a] == 0 || kernel[a] > MAX_WINDOW as usize {
                return Err(call.broken("has a kernel, stride or dilation of 0, or a huge one"));
            }
            let reach = (kernel[a] - 1) * dilation + 1;
            let (mut before, mut after) = (pads[a], pads[a + axes]);
            match auto {
                "NOTSET" => {}
                "VALID" => (before, after) = (0, 0),
                "SAME_UPPER" | "SAME_LOWER" => {
                    let out = lengths[a].div_ceil(stride);
                    let total = ((out - 1) * stride + reach).saturating_sub(lengths[a]);
                    before = if auto == "SAME_UPPER" { total / 2 } else { total.div_ceil(2) };
                    after = total - before;
                }
                _ => {
                    return Err(call
                        .unsupported("has an unknown auto_pad")
                        .expected("NOTSET, VALID, SAME_…", auto));
                }
            }
            let room = (lengths[a] + before + after).checked_sub(reach).ok_or_else(|| {
                call.broken("has a kernel larger than its input")
                    .expected(format!("at least {reach}"), lengths[a] + before + after)
            })?;
            let mut out = if rounds_up { room.div_ceil(stride) } else { room / stride } + 1;
            // A window that would begin in the padding behind the input is dropped, as PyTorch does.
            if rounds_up && (out - 1) * stride >= lengths[a] + before {
                out -= 1;
            }
            Ok(Along { kernel: kernel[a], stride, dilation, before, after, out })
        })
        .collect()
}

/// Kernel lengths from the attribute, which must agree with `weight` where both are there.
fn kernel_of(call: Call, weight: Option<&[usize]>) -> Result<Vec<usize>> {
    let listed: Option<Option<Vec<usize>>> =
        call.ints("kernel_shape")?.map(|k| k.iter().map(|&v| usize::try_from(v).ok()).collect());
    match (listed, weight) {
        (Some(Some(kernel)), None) => Ok(kernel),
        (Some(Some(kernel)), Some(weight)) if kernel == weight => Ok(kernel),
        (None, Some(weight)) => Ok(weight.to_vec()),
        _ => Err(call.broken("has no kernel shape, or one that does not fit its weight")),
    }
}

/// An N×C×L or N×C×H×W tensor as 1×(N·C)×H×W, and whether it had one length.
fn as_map<'m>(importer: &mut Importer<'m>, call: Call<'m>, view: &View) -> Result<(View, bool)> {
    let view = match view.dims[..] {
        [n, c, ref rest @ ..] if n > 1 => {
            let dims = [&[1, n * c][..], rest].concat();
            view_of(&reshape_to(importer, call, Value::Active(view.clone()), dims)?)
        }
        _ => view.clone(),
    };
    match view.rank() {
        3 => Ok((view.with_ones(&[3]), true)),
        4 => Ok((view, false)),
        rank => Err(call
            .unsupported("works on neither a sequence nor a feature map")
            .expected("a tensor of 3 or 4 axes", format!("{rank}"))),
    }
}

/// A window over two axes, and which of its positions count.
struct Grid {
    window: Window,
    /// Positions of the window.
    size: (usize, usize),
    /// Of those positions, every so many-th row and column.
    step: (usize, usize),
    axes: [Along; 2],
}

impl Grid {
    /// The engine steps alike along both axes: two strides are one that divides both, of whose positions some are left out.
    fn of(call: Call, mut axes: Vec<Along>, is_line: bool) -> Result<Grid> {
        if is_line {
            axes.push(Along { kernel: 1, stride: axes[0].stride, dilation: 1, before: 0, after: 0, out: 1 });
        }
        let Ok(axes) = <[Along; 2]>::try_from(axes) else {
            return Err(call.broken("has no window of two axes"));
        };
        let [y, x] = &axes;
        // Along an axis with one position the stride does not matter.
        let stride = match (y.out, x.out) {
            (1, _) => x.stride,
            (_, 1) => y.stride,
            _ => gcd(y.stride, x.stride),
        };
        let step = |a: &Along| if a.out == 1 { 1 } else { a.stride / stride };
        let size = |a: &Along| (a.out - 1) * step(a) + 1;
        let window = Window { kh: y.kernel, kw: x.kernel, stride, top: y.before, left: x.before };
        let (size, step) = ((size(y), size(x)), (step(y), step(x)));
        Ok(Grid { window, size, step, axes })
    }

    /// The maps of `n` items of `c` channels that `node` gives side by side, at the positions that count.
    fn maps<'m>(
        &self,
        importer: &mut Importer<'m>,
        call: Call<'m>,
        node: NodeId,
        (n, c): (usize, usize),
        is_line: bool,
    ) -> Result<Value<'m>> {
        let (h, w) = self.size;
        let map = View::dense(node, vec![1, n * c, h, w], &[0, 2, 3, 1])
            .slice(2, 0, self.axes[0].out, self.step.0)
            .slice(3, 0, self.axes[1].out, self.step.1);
        let map = if is_line { map.without(&[3]) } else { map };
        let mut dims = map.dims.clone();
        (dims[0], dims[1]) = (n, c);
        reshape_to(importer, call, Value::Active(map), dims)
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

pub(super) fn conv<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let given = importer.active(call, 0)?;
    let (view, is_line) = as_map(importer, call, &given)?;
    let weight =
        importer.constant(call, 1, "the weight")?.ok_or_else(|| call.broken("the weight is missing"))?;
    let rank = view.rank() - usize::from(is_line);
    let [out, per_group, ref kernel @ ..] = weight.dims[..] else {
        return Err(call.broken(format!("has a weight of the shape {:?}", weight.dims)));
    };
    let groups = usize::try_from(call.int("group", 1)?).unwrap_or(0);
    let (items, channels) = (given.dims[0], given.dims[1]);
    if kernel.len() != rank - 2
        || groups == 0
        || per_group.checked_mul(groups) != Some(channels)
        || out % groups != 0
    {
        return Err(call
            .broken("has a weight that does not fit its input")
            .expected(format!("{channels} channels in {groups} groups"), format!("{:?}", weight.dims)));
    }
    let kernel = kernel_of(call, Some(kernel))?;
    let along = along(call, &kernel, &view.dims[2..rank])?;
    let mut grid = Grid::of(call, along, is_line)?;
    let mut values = weight.to_floats().to_vec();
    drop(weight);
    // A dilated kernel is a larger one with zeros between.
    let (dy, dx) = (grid.axes[0].dilation, grid.axes[1].dilation);
    let (kh, kw) = (grid.window.kh, grid.window.kw);
    if (dy > 1 && kh > 1) || (dx > 1 && kw > 1) {
        let (h, w) = ((kh - 1) * dy + 1, (kw - 1) * dx + 1);
        let len = super::place::checked_len(call, &[out, per_group, h, w])?;
        importer.budget.charge(len, 4).ok_or_else(|| call.too_large())?;
        let mut wide = vec![0.0; len];
        for (from, to) in values.chunks_exact(kh * kw).zip(wide.chunks_exact_mut(h * w)) {
            for y in 0..kh {
                for x in 0..kw {
                    to[y * dy * w + x * dx] = from[y * kw + x];
                }
            }
        }
        (values, grid.window.kh, grid.window.kw) = (wide, h, w);
    }
    let bias = match importer.constant(call, 2, "the bias")? {
        Some(bias) => bias.to_floats().to_vec(),
        None => vec![0.0; out],
    };
    if bias.len() != out || values.is_empty() {
        return Err(call.broken("has a bias that does not fit its weight").expected(out, bias.len()));
    }
    // Several items are groups of channels beside each other, all with the same weights.
    let wide = values.len().checked_mul(items - 1).ok_or_else(|| call.too_large())?;
    importer.budget.charge(wide, 4).ok_or_else(|| call.too_large())?;
    let (weight, bias) = (values.repeat(items), bias.repeat(items));
    let node = importer.spatial(call, &view)?;
    let Grid { window, size, .. } = grid;
    let op = if groups == channels && out == channels && groups * items > 1 {
        Op::Depthwise { window, size, weight, bias }
    } else {
        Op::Conv { window, size, weight: weight.into(), bias, groups: groups * items }
    };
    let node = importer.emit(call, op, &[node])?;
    Ok(vec![grid.maps(importer, call, node, (items, out), is_line)?])
}

pub(super) fn pool<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let given = importer.active(call, 0)?;
    let (view, is_line) = as_map(importer, call, &given)?;
    let rank = view.rank() - usize::from(is_line);
    let kernel = kernel_of(call, None)?;
    if kernel.len() != rank - 2 {
        return Err(call.broken(format!("has a kernel of {} axes for a tensor of {rank}", kernel.len())));
    }
    let along = along(call, &kernel, &view.dims[2..rank])?;
    let grid = Grid::of(call, along, is_line)?;
    let axes = &grid.axes;
    if axes.iter().any(|a| a.dilation != 1 && a.kernel > 1) {
        return Err(call.unsupported("has the attribute `dilations`").expected("1 in pooling", "more"));
    }
    if axes.iter().any(|a| a.before >= a.kernel || a.after >= a.kernel) {
        return Err(call.unsupported("has padding as wide as its window"));
    }
    let kind = if call.node.op == "MaxPool" {
        PoolKind::Max
    } else {
        let count_padding = call.int("count_include_pad", 0)? != 0;
        // Rounding up makes windows that reach beyond the padding, which count for less.
        let beyond = |a: &Along, len: usize| (a.out - 1) * a.stride + a.kernel > len + a.before + a.after;
        if count_padding && axes.iter().zip(&view.dims[2..]).any(|(a, &len)| beyond(a, len)) {
            return Err(call.unsupported("counts padding with windows that reach beyond it (`ceil_mode`)"));
        }
        PoolKind::Average { count_padding }
    };
    if call.node.outputs.len() > 1 && !call.node.outputs[1].is_empty() {
        return Err(call.unsupported("gives the indices of its maxima"));
    }
    let node = importer.spatial(call, &view)?;
    let node = importer.emit(call, Op::Pool { window: grid.window, size: grid.size, kind }, &[node])?;
    Ok(vec![grid.maps(importer, call, node, (given.dims[0], given.dims[1]), is_line)?])
}

/// GlobalAveragePool and GlobalMaxPool.
pub(super) fn global_pool<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let given = importer.active(call, 0)?;
    let (view, _) = as_map(importer, call, &given)?;
    let node = importer.spatial(call, &view)?;
    let op = if call.node.op == "GlobalAveragePool" {
        Op::GlobalAveragePool
    } else {
        whole_maximum(view.dims[2], view.dims[3])
    };
    let node = importer.emit(call, op, &[node])?;
    let mut dims = given.dims.clone();
    dims[2..].fill(1);
    Ok(vec![Value::Active(View::dense(node, dims.clone(), &row_major(dims.len())))])
}

/// The largest value of each channel of an `h`×`w` map.
pub(super) fn whole_maximum(h: usize, w: usize) -> Op {
    let window = Window { kh: h, kw: w, stride: 1, top: 0, left: 0 };
    Op::Pool { window, size: (1, 1), kind: PoolKind::Max }
}

pub(super) fn batch_norm<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let value = importer.required(call, 0)?;
    let dims = view_of(&value).dims;
    let channels = *dims.get(1).ok_or_else(|| call.broken("works on a tensor without channels"))?;
    let mut part = |i: usize, what: &str| -> Result<Vec<f64>> {
        let c = importer.constant(call, i, what)?.ok_or_else(|| call.broken("a statistic is missing"))?;
        if c.len() != channels {
            return Err(call.broken(format!("has {} values of {what} for {channels} channels", c.len())));
        }
        Ok(c.to_floats().iter().map(|&v| f64::from(v)).collect())
    };
    let (gamma, beta) = (part(1, "the scale")?, part(2, "the shift")?);
    let eps = f64::from(call.float("epsilon", 1e-5)?);
    let (mean, var) = match (call.int("training_mode", 0)?, &value) {
        (0, _) => (part(3, "the mean")?, part(4, "the variance")?),
        // How PyTorch standardises the weights of a convolution.
        (_, Value::Constant(c)) => statistics(c, channels),
        _ => {
            return Err(
                call.unsupported("has the attribute `training_mode` 1: export the model after eval()")
            );
        }
    };
    let scale: Vec<f64> = gamma.iter().zip(&var).map(|(g, v)| g / (v + eps).sqrt()).collect();
    let shift: Vec<f64> = (0..channels).map(|c| beta[c] - mean[c] * scale[c]).collect();
    let Value::Constant(c) = value else {
        let view = view_of(&value);
        return Ok(vec![Value::Active(affine(importer, call, &view, Some(1), &scale, &shift)?)]);
    };
    importer.budget.charge(c.len(), 4).ok_or_else(|| call.too_large())?;
    let mut values = c.to_floats().to_vec();
    for (row, values) in rows_of(&c, &mut values).enumerate() {
        let channel = row % channels;
        values.iter_mut().for_each(|v| *v = (f64::from(*v) * scale[channel] + shift[channel]) as f32);
    }
    Ok(vec![Value::Constant(Constant::floats(c.dims, values))])
}

/// The values of each channel of each item of N×C×…, one after the other.
fn rows_of<'v>(c: &Constant, values: &'v mut [f32]) -> std::slice::ChunksExactMut<'v, f32> {
    values.chunks_exact_mut(c.dims[2..].iter().product::<usize>().max(1))
}

/// Mean and variance of each of the `channels` of N×C×….
fn statistics(c: &Constant, channels: usize) -> (Vec<f64>, Vec<f64>) {
    let mut values = c.to_floats().to_vec();
    let mut moment = |centre: &[f64], power: i32| {
        let (mut sums, mut count) = (vec![0.0; channels], 0);
        for (row, values) in rows_of(c, &mut values).enumerate() {
            let channel = row % channels;
            sums[channel] +=
                values.iter().map(|&v| (f64::from(v) - centre[channel]).powi(power)).sum::<f64>();
            count += if channel == 0 { values.len() } else { 0 };
        }
        sums.iter().map(|sum| sum / count as f64).collect::<Vec<f64>>()
    };
    let mean = moment(&vec![0.0; channels], 1);
    let variance = moment(&mean, 2);
    (mean, variance)
}
