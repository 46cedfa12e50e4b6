//! Depthwise convolution, directly: one kernel a channel, vectorised over channels.

use crate::kernel::isa::on_isa;
use crate::op::activation::{Activation, jet_in_place, pull_back};
use crate::op::conv::Window;
use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

/// Channels worked on together.
const LANES: usize = 16;

/// A depthwise convolution ready to run; `weight` is (kh·kw)×C.
pub(crate) struct DepthwiseRule<T: Real> {
    pub(crate) window: Window,
    pub(crate) weight: Vec<T>,
    pub(crate) bias: Vec<T>,
    pub(crate) activation: Activation,
}

/// y = Σ taps x·w (+ bias), for one plane.
#[inline(always)]
fn convolve<T: Real, const FMA: bool>(
    rule: &DepthwiseRule<T>,
    x: &[T],
    input: Shape,
    y: &mut [T],
    shape: Shape,
    with_bias: bool,
) {
    let (w, c) = (rule.window, shape.c);
    for oy in 0..shape.h {
        // Rows and columns of the kernel that fall inside the image.
        let ky = clip(oy * w.stride, w.top, w.kh, input.h);
        for ox in 0..shape.w {
            let kx = clip(ox * w.stride, w.left, w.kw, input.w);
            let out = &mut y[(oy * shape.w + ox) * c..][..c];
            for c0 in (0..c).step_by(LANES) {
                let lanes = LANES.min(c - c0);
                let mut acc = [T::ZERO; LANES];
                if with_bias {
                    acc[..lanes].copy_from_slice(&rule.bias[c0..c0 + lanes]);
                }
                for ky in ky.0..ky.1 {
                    let iy = oy * w.stride + ky - w.top;
                    for kx in kx.0..kx.1 {
                        let ix = ox * w.stride + kx - w.left;
                        let a = &x[(iy * input.w + ix) * c + c0..][..lanes];
                        let b = &rule.weight[(ky * w.kw + kx) * c + c0..][..lanes];
                        multiply_add::<T, FMA>(&mut acc, a, b);
                    }
                }
                out[c0..c0 + lanes].copy_from_slice(&acc[..lanes]);
            }
        }
    }
}

/// dx += the transpose of `convolve` applied to `g`, gathered at every input pixel.
#[inline(always)]
fn convolve_transposed<T: Real, const FMA: bool>(
    rule: &DepthwiseRule<T>,
    g: &[T],
    shape: Shape,
    dx: &mut [T],
    input: Shape,
) {
    let (w, c) = (rule.window, shape.c);
    for iy in 0..input.h {
        for ix in 0..input.w {
            let out = &mut dx[(iy * input.w + ix) * c..][..c];
            for c0 in (0..c).step_by(LANES) {
                let lanes = LANES.min(c - c0);
                let mut acc = [T::ZERO; LANES];
                for ky in taps(iy + w.top, w.kh, w.stride, shape.h) {
                    let oy = (iy + w.top - ky) / w.stride;
                    for kx in taps(ix + w.left, w.kw, w.stride, shape.w) {
                        let ox = (ix + w.left - kx) / w.stride;
                        let a = &g[(oy * shape.w + ox) * c + c0..][..lanes];
                        let b = &rule.weight[(ky * w.kw + kx) * c + c0..][..lanes];
                        multiply_add::<T, FMA>(&mut acc, a, b);
                    }
                }
                for (o, a) in out[c0..c0 + lanes].iter_mut().zip(&acc) {
                    *o += *a;
                }
            }
        }
    }
}

#[inline(always)]
fn multiply_add<T: Real, const FMA: bool>(acc: &mut [T; LANES], a: &[T], b: &[T]) {
    let one = |acc: T, a: T, b: T| if FMA { a.mul_add(b, acc) } else { a * b + acc };
    match (<&[T; LANES]>::try_from(a), <&[T; LANES]>::try_from(b)) {
        (Ok(a), Ok(b)) => {
            for l in 0..LANES {
                acc[l] = one(acc[l], a[l], b[l]);
            }
        }
        _ => {
            for l in 0..a.len() {
                acc[l] = one(acc[l], a[l], b[l]);
            }
        }
    }
}

/// Taps k for which 0 ≤ start + k − pad < length.
#[inline(always)]
fn clip(start: usize, pad: usize, k: usize, length: usize) -> (usize, usize) {
    (pad.saturating_sub(start), k.min((length + pad).saturating_sub(start)))
}

/// Taps k for which (at − k) is a multiple of `stride` and its quotient lies in 0..length.
#[inline(always)]
fn taps(at: usize, k: usize, stride: usize, length: usize) -> impl Iterator<Item = usize> {
    (at % stride..k.min(at + 1)).step_by(stride).filter(move |k| (at - k) / stride < length)
}

impl<T: Real> Rule<T> for DepthwiseRule<T> {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        save: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let planes = x[0].planes();
        let mut y = ws.tensor(shape, planes);
        for p in 0..planes {
            let (from, to) = (x[0].plane(p), y.plane_mut(p));
            on_isa!(ws.isa, convolve::<T>(self, from, x[0].shape, to, shape, p == 0));
        }
        if planes > 1 {
            jet_in_place(self.activation, &mut y);
        } else if save && !self.activation.slope_from_output() {
            let mut slope = ws.pool.take(shape.len());
            self.activation.apply_with_slope(&mut y.data, &mut slope);
            return (y, Some(slope));
        } else {
            self.activation.apply(&mut y.data);
        }
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, mut grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        pull_back(self.activation, &mut grad.data, &back.saved, back.output);
        if let Some(slope) = back.saved {
            ws.pool.give(slope);
        }
        let (mut dx, fresh) = into.open(ws, back.nodes[0], back.shapes[0]);
        if fresh {
            dx.data.fill(T::ZERO);
        }
        let shape = grad.shape;
        on_isa!(ws.isa, convolve_transposed::<T>(self, &grad.data, shape, &mut dx.data, back.shapes[0]));
        ws.pool.give(grad.data);
        into.add(ws, back.nodes[0], dx);
    }

    fn keeps_output(&self) -> bool {
        self.activation != Activation::Identity && self.activation.slope_from_output()
    }
}
