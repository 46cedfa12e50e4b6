//! Pooling over windows: maximum or average.

use crate::kernel::isa::on_isa;
use crate::op::conv::Window;
use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

/// What a window gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest value; padding never wins. The first of equals, in rows, gets the gradient, as in PyTorch.
    Max,
    /// The mean.
    Average {
        /// Whether padding counts as zeros (PyTorch's `count_include_pad`), or not at all.
        count_padding: bool,
    },
}

/// Pooling over a window, channel by channel.
pub(crate) struct PoolRule {
    pub(crate) window: Window,
    pub(crate) kind: PoolKind,
}

/// y ← the largest value of each window; `tap` ← its index in the window.
#[inline(always)]
fn largest<T: Real, const FMA: bool>(
    w: Window,
    x: &[T],
    input: Shape,
    y: &mut [T],
    tap: &mut [T],
    shape: Shape,
) {
    let c = shape.c;
    y.fill(T::of(f64::NEG_INFINITY));
    tap.fill(T::ZERO);
    for (row, (y, tap)) in y.chunks_exact_mut(c).zip(tap.chunks_exact_mut(c)).enumerate() {
        w.inside(input, shape, row, |index, at| {
            let index = T::of(index as f64);
            for ((y, tap), x) in y.iter_mut().zip(tap.iter_mut()).zip(&x[at * c..][..c]) {
                // NaN passes on, as in PyTorch.
                let wins = *x > *y || x.partial_cmp(x).is_none();
                *y = if wins { *x } else { *y };
                *tap = if wins { index } else { *tap };
            }
        });
    }
}

/// y ← the mean of each window.
#[inline(always)]
fn mean<T: Real, const FMA: bool>(
    w: Window,
    count_padding: bool,
    x: &[T],
    input: Shape,
    y: &mut [T],
    shape: Shape,
) {
    let c = shape.c;
    y.fill(T::ZERO);
    for (row, y) in y.chunks_exact_mut(c).enumerate() {
        let mut taps = 0;
        w.inside(input, shape, row, |_, at| {
            taps += 1;
            y.iter_mut().zip(&x[at * c..][..c]).for_each(|(y, x)| *y += *x);
        });
        let scale = T::ONE / T::of(if count_padding { w.kh * w.kw } else { taps } as f64);
        y.iter_mut().for_each(|y| *y *= scale);
    }
}

/// dx += the transpose of `mean` applied to `g`.
#[inline(always)]
fn mean_transposed<T: Real, const FMA: bool>(
    w: Window,
    count_padding: bool,
    g: &[T],
    shape: Shape,
    dx: &mut [T],
    input: Shape,
) {
    let c = shape.c;
    for (row, g) in g.chunks_exact(c).enumerate() {
        let mut taps = w.kh * w.kw;
        if !count_padding {
            taps = 0;
            w.inside(input, shape, row, |_, _| taps += 1);
        }
        let scale = T::ONE / T::of(taps as f64);
        w.inside(input, shape, row, |_, at| {
            dx[at * c..][..c].iter_mut().zip(g).for_each(|(d, g)| *d += *g * scale);
        });
    }
}

/// dx += `g` where the largest value of each window came from.
#[inline(always)]
fn largest_transposed<T: Real, const FMA: bool>(
    w: Window,
    tap: &[T],
    g: &[T],
    shape: Shape,
    dx: &mut [T],
    input: Shape,
) {
    let c = shape.c;
    for (row, (g, tap)) in g.chunks_exact(c).zip(tap.chunks_exact(c)).enumerate() {
        w.inside(input, shape, row, |index, at| {
            let index = T::of(index as f64);
            for ((d, g), tap) in dx[at * c..][..c].iter_mut().zip(g).zip(tap) {
                *d = if *tap == index { *d + *g } else { *d };
            }
        });
    }
}

/// Calls `visit(value, input offset)` for every output value of `shape`, the offset being that of the tap which won.
fn winners<T: Real>(w: Window, tap: &[T], input: Shape, shape: Shape, mut visit: impl FnMut(usize, usize)) {
    for (i, tap) in tap.iter().enumerate() {
        let (row, channel) = (i / shape.c, i % shape.c);
        let tap = tap.f64() as usize;
        let y = row / shape.w * w.stride + tap / w.kw - w.top;
        let x = row % shape.w * w.stride + tap % w.kw - w.left;
        visit(i, (y * input.w + x) * input.c + channel);
    }
}

impl<T: Real> Rule<T> for PoolRule {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        save: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let (input, planes) = (x[0].shape, x[0].planes());
        let mut y = ws.like(x[0], shape);
        if let PoolKind::Average { count_padding } = self.kind {
            for p in 0..planes {
                let (from, to) = (x[0].plane(p), y.plane_mut(p));
                on_isa!(ws.isa, mean::<T>(self.window, count_padding, from, input, to, shape));
            }
            return (y, None);
        }
        let images = if x[0].is_jet() { 1 } else { planes };
        let mut tap = ws.pool.take(images * shape.len());
        for (p, tap) in tap.chunks_exact_mut(shape.len()).enumerate() {
            let (from, to) = (x[0].plane(p), y.plane_mut(p));
            on_isa!(ws.isa, largest::<T>(self.window, from, input, to, tap, shape));
        }
        for p in images..planes {
            let (from, to) = (x[0].plane(p), y.plane_mut(p));
            winners(self.window, &tap, input, shape, |i, at| to[i] = from[at]);
        }
        if save {
            return (y, Some(tap));
        }
        ws.pool.give(tap);
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        let (input, shape) = (back.shapes[0], grad.shape);
        let (mut dx, fresh) = into.open(ws, back.nodes[0], input);
        if fresh {
            dx.data.fill(T::ZERO);
        }
        match self.kind {
            PoolKind::Average { count_padding } => {
                for p in 0..grad.planes() {
                    let (from, to) = (grad.plane(p), dx.plane_mut(p));
                    on_isa!(ws.isa, mean_transposed::<T>(self.window, count_padding, from, shape, to, input));
                }
            }
            PoolKind::Max => {
                let tap = back.saved.expect("forward saved the taps");
                for (p, tap) in tap.chunks_exact(shape.len()).enumerate() {
                    let (from, to) = (grad.plane(p), dx.plane_mut(p));
                    on_isa!(ws.isa, largest_transposed::<T>(self.window, tap, from, shape, to, input));
                }
                ws.pool.give(tap);
            }
        }
        ws.pool.give(grad.data);
        into.add(ws, back.nodes[0], dx);
    }
}
