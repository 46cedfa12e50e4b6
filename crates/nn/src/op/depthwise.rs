//! Depthwise convolution, directly: one kernel a channel, vectorised over channels.
//!
//! The forward pass and the gradient are the same sweep over pixels. With stride s the gradient falls
//! into s·s sweeps, one for each remainder of row and column by s, which see every s-th tap backwards.

use crate::kernel::isa::Isa;
use crate::kernel::vector::{Vector, on_vector};
use crate::op::activation::{Activation, activate_with_slope, jet_in_place, pull_back};
use crate::op::conv::Window;
use crate::op::{Back, Rule, Saved, Slope};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

/// Output columns whose sums are kept in registers together. The widths of the networks at their
/// usual input, 112 to 7, are multiples of it.
const COLUMNS: usize = 7;

/// Values times kernel rows below which sharing a sweep costs more than it saves: some ten microseconds of one core.
const SHARED: usize = 64 * 1024;

/// A depthwise convolution ready to run; `weight` is (kh·kw)×C.
pub(crate) struct DepthwiseRule<T: Real> {
    pub(crate) window: Window,
    pub(crate) weight: Vec<T>,
    pub(crate) bias: Vec<T>,
    pub(crate) activation: Activation,
}

/// Along one of the two directions:
/// out(first + step·i) = Σ_k in(stride·i + k − pad)·w(origin + toward·k), i in 0..count, k in 0..taps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    count: usize,
    first: usize,
    step: usize,
    stride: usize,
    taps: usize,
    pad: isize,
    origin: usize,
    toward: isize,
}

impl Line {
    pub(crate) fn forward(count: usize, stride: usize, taps: usize, pad: usize) -> Line {
        Line { count, first: 0, step: 1, stride, taps, pad: pad as isize, origin: 0, toward: 1 }
    }

    /// The gradient at positions i ≡ `rest` (mod `stride`) of an input of `length`.
    ///
    /// Position i has contributions of tap k from output (i + pad − k)/stride, so of every
    /// stride-th tap; they are taken from the last to the first, outputs ascending.
    pub(crate) fn backward(length: usize, rest: usize, stride: usize, taps: usize, pad: usize) -> Line {
        let first_tap = (rest + pad) % stride;
        let count = length.saturating_sub(rest).div_ceil(stride);
        let seen = taps.saturating_sub(first_tap).div_ceil(stride);
        // At i = rest the last of the taps seen reads the output at `lowest`.
        let lowest = ((rest + pad) / stride) as isize - (seen as isize - 1);
        Line {
            count,
            first: rest,
            step: stride,
            stride: 1,
            taps: seen,
            pad: -lowest,
            origin: (first_tap + stride * seen).saturating_sub(stride),
            toward: -(stride as isize),
        }
    }

    /// The same line where input `by` is the first.
    pub(crate) fn moved(self, by: isize) -> Line {
        Line { pad: self.pad + by, ..self }
    }

    /// The input position of tap `k` for output `i`, if it is in 0..`length`.
    #[inline(always)]
    fn input(&self, i: usize, k: usize, length: usize) -> Option<usize> {
        let at = (i * self.stride + k) as isize - self.pad;
        (at >= 0 && at < length as isize).then_some(at as usize)
    }

    #[inline(always)]
    fn tap(&self, k: usize) -> usize {
        (self.origin as isize + self.toward * k as isize) as usize
    }
}

/// One pass over pixels.
#[derive(Clone, Copy)]
pub(crate) struct Sweep<'a, T: Real> {
    pub(crate) rows: Line,
    pub(crate) columns: Line,
    pub(crate) x: &'a [T],
    pub(crate) input: Shape,
    pub(crate) output: Shape,
    /// (kh·kw)×C, and kw.
    pub(crate) weight: &'a [T],
    pub(crate) kw: usize,
    pub(crate) bias: Option<&'a [T]>,
    pub(crate) activation: Activation,
    /// The result is multiplied by this, last.
    pub(crate) slope: Option<Slope<'a, T>>,
    /// The output is added to, not overwritten.
    pub(crate) accumulate: bool,
}

impl<T: Real> Sweep<'_, T> {
    pub(crate) fn run(&self, threads: usize, isa: Isa, y: &mut [T]) {
        let c = self.output.c;
        assert!(self.x.len() >= self.input.len() && y.len() >= self.output.len(), "a plane is too short");
        assert!(self.input.c == c && self.bias.is_none_or(|b| b.len() == c), "channels differ");
        assert!(
            self.rows.count == 0 || self.rows.first + self.rows.step * (self.rows.count - 1) < self.output.h
        );
        assert!(
            self.columns.count == 0
                || self.columns.first + self.columns.step * (self.columns.count - 1) < self.output.w
        );
        for line in [(&self.rows, self.weight.len() / c / self.kw), (&self.columns, self.kw)] {
            assert!(line.0.taps == 0 || line.0.tap(0) < line.1 && line.0.tap(line.0.taps - 1) < line.1);
        }
        if let Some(slope) = &self.slope {
            assert!(slope.len() >= self.output.len(), "the slope is too short");
        }
        self.share(threads, isa, y);
    }

    /// Runs in `threads`, each with its output lines.
    fn share(&self, threads: usize, isa: Isa, y: &mut [T]) {
        let lines = self.rows.count;
        if threads < 2 || lines < 2 || lines * self.columns.count * self.output.c * self.rows.taps < SHARED {
            on_vector!(isa, rows::<T>(self, y));
            return;
        }
        let mine = threads / 2;
        let half = (lines * mine / threads).max(1);
        let Line { first, step, stride, pad, .. } = self.rows;
        // The second half begins at its first line.
        let above = first + step * half;
        let at = above * self.output.w * self.output.c;
        let upper = Sweep { rows: Line { count: half, ..self.rows }, ..*self };
        let lower = Sweep {
            rows: Line { count: lines - half, first: 0, pad: pad - (stride * half) as isize, ..self.rows },
            output: Shape { h: self.output.h - above, ..self.output },
            slope: self.slope.map(|s| s.from(at)),
            ..*self
        };
        let (y1, y2) = y.split_at_mut(at);
        rayon::join(|| upper.share(mine, isa, y1), || lower.share(threads - mine, isa, y2));
    }

    /// What becomes of the sums of the `LANES` channels at output offset `at`.
    ///
    /// # Safety
    /// y, and with it the slope, reaches at + LANES.
    #[inline(always)]
    unsafe fn store<V: Vector<T>>(&self, mut acc: V, at: usize, y: &mut [T]) {
        debug_assert!(at + V::LANES <= y.len());
        // SAFETY: the caller's promise, and `Sweep::run` checked that the slope is as long as y.
        unsafe {
            let out = y.as_mut_ptr().add(at);
            if self.accumulate {
                acc = V::load(out).add(acc);
            }
            acc = self.activation.apply_one(acc);
            if let Some(slope) = &self.slope {
                acc = slope.times(acc, at, V::LANES);
            }
            acc.store(out);
        }
    }
}

#[inline(always)]
fn rows<T: Real, V: Vector<T>>(sweep: &Sweep<T>, y: &mut [T]) {
    match (sweep.columns.taps, sweep.columns.stride) {
        (1, 1) => rows_of::<T, V, 1, 1, 7>(sweep, y),
        (2, 1) => rows_of::<T, V, 2, 1, 8>(sweep, y),
        (3, 1) => rows_of::<T, V, 3, 1, 9>(sweep, y),
        (5, 1) => rows_of::<T, V, 5, 1, 11>(sweep, y),
        (7, 1) => rows_of::<T, V, 7, 1, 13>(sweep, y),
        (3, 2) => rows_of::<T, V, 3, 2, 15>(sweep, y),
        (5, 2) => rows_of::<T, V, 5, 2, 17>(sweep, y),
        _ => {
            for i in 0..sweep.rows.count {
                for j in 0..sweep.columns.count {
                    singly::<T, V>(sweep, i, j, 0, y);
                }
            }
        }
    }
}

/// `SEEN` is the number of input columns that `COLUMNS` output columns see.
#[inline(always)]
fn rows_of<T: Real, V: Vector<T>, const TAPS: usize, const STRIDE: usize, const SEEN: usize>(
    sweep: &Sweep<T>,
    y: &mut [T],
) {
    const { assert!(SEEN == (COLUMNS - 1) * STRIDE + TAPS) };
    let (columns, channels) = (&sweep.columns, sweep.output.c);
    let whole = channels / V::LANES * V::LANES;
    // Two lines see nearly the same input, and 32 registers hold the sums of both.
    let pairs = if sweep.rows.stride == 1 && size_of::<V>() == 64 { sweep.rows.count / 2 * 2 } else { 0 };
    let mut i = 0;
    while i < sweep.rows.count {
        let lines = if i < pairs { 2 } else { 1 };
        for from in (0..columns.count).step_by(COLUMNS) {
            // Where the columns seen begin in a row; outside the image they are 0.
            let mut seen = [None; SEEN];
            for (j, seen) in seen.iter_mut().enumerate() {
                let ix = (from * STRIDE + j) as isize - columns.pad;
                *seen = (ix >= 0 && ix < sweep.input.w as isize).then_some(ix as usize * channels);
            }
            for c in (0..whole).step_by(V::LANES) {
                if lines == 2 {
                    block::<T, V, TAPS, STRIDE, SEEN, 2>(sweep, i, from, c, &seen, y);
                } else {
                    block::<T, V, TAPS, STRIDE, SEEN, 1>(sweep, i, from, c, &seen, y);
                }
            }
        }
        if whole < channels {
            for i in i..i + lines {
                for j in 0..columns.count {
                    singly::<T, V>(sweep, i, j, whole, y);
                }
            }
        }
        i += lines;
    }
}

/// `COLUMNS` output columns from column `from` of `LINES` lines from `i` on, channels `c`..`c + LANES`. Each input is loaded
/// once a line of input for all the outputs it contributes to; several lines are at stride 1.
#[inline(always)]
fn block<
    T: Real,
    V: Vector<T>,
    const TAPS: usize,
    const STRIDE: usize,
    const SEEN: usize,
    const LINES: usize,
>(
    sweep: &Sweep<T>,
    i: usize,
    from: usize,
    c: usize,
    seen: &[Option<usize>; SEEN],
    y: &mut [T],
) {
    let (rows, columns, input, channels) = (&sweep.rows, &sweep.columns, sweep.input, sweep.output.c);
    let zeros = [T::ZERO; 16];
    let start = match sweep.bias {
        Some(bias) => V::load_part(&bias[c..c + V::LANES]),
        None => V::splat(T::ZERO),
    };
    let mut acc = [[start; COLUMNS]; LINES];
    for k in 0..rows.taps + LINES - 1 {
        let Some(iy) = rows.input(i, k, input.h) else { continue };
        // SAFETY: `Sweep::run` checked that x holds input.len() values and that all taps are inside the weight;
        // iy < h, what is seen lies in a row of w·channels values, and c + LANES ≤ channels.
        unsafe {
            let row = sweep.x.as_ptr().add(iy * input.w * channels + c);
            let mut x = [start; SEEN];
            for j in 0..SEEN {
                x[j] = V::load(match seen[j] {
                    Some(at) => row.add(at),
                    None => zeros.as_ptr(),
                });
            }
            for line in 0..LINES {
                // The line sees the row through this of its taps.
                let ky = k.wrapping_sub(line);
                if ky >= rows.taps {
                    continue;
                }
                let mut weights = [start; TAPS];
                let tap_row = rows.tap(ky) * sweep.kw;
                for kx in 0..TAPS {
                    let tap = tap_row + columns.tap(kx);
                    weights[kx] = V::load(sweep.weight.as_ptr().add(tap * channels + c));
                }
                acc[line] = taps::<T, V, TAPS, STRIDE, SEEN>(acc[line], x, weights);
            }
        }
    }
    let count = COLUMNS.min(columns.count - from);
    for line in 0..LINES {
        let at = (rows.first + rows.step * (i + line)) * sweep.output.w + columns.first + columns.step * from;
        let step = columns.step * channels;
        for j in 0..COLUMNS {
            if j < count {
                // SAFETY: `Sweep::run` checked that y holds the last output line and column.
                unsafe { sweep.store(acc[line][j], at * channels + c + j * step, y) };
            }
        }
    }
}

/// acc + x·weights along a row.
#[inline(always)]
fn taps<T: Real, V: Vector<T>, const TAPS: usize, const STRIDE: usize, const SEEN: usize>(
    mut acc: [V; COLUMNS],
    x: [V; SEEN],
    weights: [V; TAPS],
) -> [V; COLUMNS] {
    for kx in 0..TAPS {
        for j in 0..COLUMNS {
            acc[j] = x[j * STRIDE + kx].mul_add(weights[kx], acc[j]);
        }
    }
    acc
}

/// One output pixel, channels from `c`: for kernels without a block of their own and for the channels that do
/// not fill a register.
#[inline(always)]
fn singly<T: Real, V: Vector<T>>(sweep: &Sweep<T>, i: usize, j: usize, c: usize, y: &mut [T]) {
    let (rows, columns, input, channels) = (&sweep.rows, &sweep.columns, sweep.input, sweep.output.c);
    let (oy, ox) = (rows.first + rows.step * i, columns.first + columns.step * j);
    for c in (c..channels).step_by(V::LANES) {
        let lanes = V::LANES.min(channels - c);
        let mut acc = V::splat(T::ZERO);
        if let Some(bias) = sweep.bias {
            acc = V::load_part(&bias[c..c + lanes]);
        }
        for ky in 0..rows.taps {
            let Some(iy) = rows.input(i, ky, input.h) else { continue };
            for kx in 0..columns.taps {
                let Some(ix) = columns.input(j, kx, input.w) else { continue };
                let weight = (rows.tap(ky) * sweep.kw + columns.tap(kx)) * channels + c;
                let x = (iy * input.w + ix) * channels + c;
                let (x, weight) = (&sweep.x[x..x + lanes], &sweep.weight[weight..weight + lanes]);
                acc = V::load_part(x).mul_add(V::load_part(weight), acc);
            }
        }
        let at = (oy * sweep.output.w + ox) * channels + c;
        let out = &mut y[at..at + lanes];
        if sweep.accumulate {
            acc = V::load_part(out).add(acc);
        }
        acc = sweep.activation.apply_one(acc);
        if let Some(slope) = &sweep.slope {
            // SAFETY: `Sweep::run` checked the length; `c` is a multiple of the lanes, and rows of bits are multiples of 8.
            acc = unsafe { slope.times(acc, at, lanes) };
        }
        acc.store_part(out);
    }
}

impl<T: Real> Rule<T> for DepthwiseRule<T> {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        save: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let (w, jet) = (self.window, x[0].is_jet());
        let mut y = ws.like(x[0], shape);
        let keep_slope = save && !self.activation.slope_from_output();
        let in_sweep = !jet && !keep_slope;
        for p in 0..x[0].planes() {
            let sweep = Sweep {
                rows: Line::forward(shape.h, w.stride, w.kh, w.top),
                columns: Line::forward(shape.w, w.stride, w.kw, w.left),
                x: x[0].plane(p),
                input: x[0].shape,
                output: shape,
                weight: &self.weight,
                kw: w.kw,
                bias: x[0].holds_values(p).then_some(&self.bias[..]),
                activation: if in_sweep { self.activation } else { Activation::Identity },
                slope: None,
                accumulate: false,
            };
            sweep.run(ws.threads, ws.isa, y.plane_mut(p));
        }
        if jet {
            jet_in_place(ws.isa, self.activation, &mut y);
        } else if keep_slope {
            let mut slope = ws.pool.take(y.data.len());
            activate_with_slope(ws.isa, self.activation, &mut y.data, &mut slope);
            return (y, Some(slope));
        }
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, mut grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        if !back.pulled {
            pull_back(ws.isa, self.activation, &mut grad.data, &back.saved, back.output);
        }
        let (w, input) = (self.window, back.shapes[0]);
        let (mut dx, fresh) = into.open(ws, back.nodes[0], input);
        let rests = (0..w.stride).flat_map(|y| (0..w.stride).map(move |x| (y, x)));
        for p in 0..grad.planes() {
            for (rest_y, rest_x) in rests.clone() {
                let sweep = Sweep {
                    rows: Line::backward(input.h, rest_y, w.stride, w.kh, w.top),
                    columns: Line::backward(input.w, rest_x, w.stride, w.kw, w.left),
                    x: grad.plane(p),
                    input: grad.shape,
                    output: input,
                    weight: &self.weight,
                    kw: w.kw,
                    bias: None,
                    activation: Activation::Identity,
                    slope: back.slopes[0].map(|s| s.from(p * input.len())),
                    accumulate: !fresh,
                };
                sweep.run(ws.threads, ws.isa, dx.plane_mut(p));
            }
        }
        ws.pool.give(grad.data);
        if let Some(slope) = back.saved {
            ws.pool.give(slope);
        }
        into.finish(ws, back.nodes[0], dx, back.slopes[0].is_some());
    }

    fn activation(&self) -> Activation {
        self.activation
    }

    fn keeps_output(&self) -> bool {
        self.activation != Activation::Identity && self.activation.slope_from_output()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every contribution of tap k of output o to input i is in exactly one backward line, where the forward has it.
    #[test]
    fn backward_lines_are_the_transpose_of_the_forward_line() {
        for (taps, stride, pad, length, count) in [
            (3, 1, 1, 9, 9),
            (3, 2, 0, 9, 4),
            (5, 2, 2, 7, 4),
            (5, 1, 2, 3, 3),
            (7, 1, 3, 8, 8),
            (2, 3, 0, 8, 3),
            (1, 2, 0, 5, 3),
        ] {
            let forward = Line::forward(count, stride, taps, pad);
            let mut there = Vec::new();
            for o in 0..count {
                for k in 0..taps {
                    if let Some(i) = forward.input(o, k, length) {
                        there.push((i, o, k));
                    }
                }
            }
            let mut back = Vec::new();
            for rest in 0..stride {
                let line = Line::backward(length, rest, stride, taps, pad);
                for n in 0..line.count {
                    for k in 0..line.taps {
                        if let Some(o) = line.input(n, k, count) {
                            back.push((line.first + line.step * n, o, line.tap(k)));
                        }
                    }
                }
            }
            there.sort_unstable();
            back.sort_unstable();
            assert_eq!(there, back, "{taps} taps, stride {stride}, pad {pad}");
        }
    }
}
