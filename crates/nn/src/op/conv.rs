//! Convolution and linear layer as one matrix product, with bias, residual and
//! activation in its epilogue.

use crate::kernel::gemm::{Epilogue, Left, Packed, gemm_shared};
use crate::kernel::isa::Isa;
use crate::op::activation::{Activation, jet_in_place, pull_back};
use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};
use std::sync::OnceLock;

/// Rows of patches gathered between two products: with 9·64 channels they fill an L2 cache.
const PATCH_ROWS: usize = 192;

/// Where a kernel of `kh`×`kw` looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Kernel height.
    pub kh: usize,
    /// Kernel width.
    pub kw: usize,
    /// Step in both directions.
    pub stride: usize,
    /// Zero rows above.
    pub top: usize,
    /// Zero columns to the left.
    pub left: usize,
}

impl Window {
    /// A single pixel: the window of a linear layer.
    pub const POINT: Window = Window { kh: 1, kw: 1, stride: 1, top: 0, left: 0 };

    /// A kernel of odd height and width, padded so that at stride 1 the size stays.
    pub const fn centred(kh: usize, kw: usize, stride: usize) -> Window {
        Window { kh, kw, stride, top: kh / 2, left: kw / 2 }
    }

    /// A square kernel without padding.
    pub const fn unpadded(k: usize, stride: usize) -> Window {
        Window { kh: k, kw: k, stride, top: 0, left: 0 }
    }

    /// Output height and width where the padding is the same on all sides, as in PyTorch; 0 where no kernel fits.
    pub fn symmetric_size(self, input: Shape) -> (usize, usize) {
        let size = |length: usize, k: usize, pad: usize| {
            (length + 2 * pad).checked_sub(k).map_or(0, |rest| rest / self.stride + 1)
        };
        (size(input.h, self.kh, self.top), size(input.w, self.kw, self.left))
    }

    /// Whether the kernel sees one pixel and visits each.
    pub fn is_point(self) -> bool {
        self == Window::POINT
    }

    /// Calls `visit(tap, input row)` for every tap of output row `row` that falls inside the image, in order.
    #[inline(always)]
    pub(crate) fn inside(self, input: Shape, output: Shape, row: usize, mut visit: impl FnMut(usize, usize)) {
        let (oy, ox) = (row / output.w, row % output.w);
        for ky in 0..self.kh {
            let iy = (oy * self.stride + ky).wrapping_sub(self.top);
            if iy >= input.h {
                continue;
            }
            for kx in 0..self.kw {
                let ix = (ox * self.stride + kx).wrapping_sub(self.left);
                if ix < input.w {
                    visit(ky * self.kw + kx, iy * input.w + ix);
                }
            }
        }
    }
}

/// A convolution ready to run. As a matrix, the weight is (kh·kw·in)×out.
pub(crate) struct ConvRule<T: Real> {
    pub(crate) window: Window,
    pub(crate) input: Shape,
    pub(crate) weight: Packed<T>,
    /// Packed when the first vjp asks for it.
    pub(crate) transposed: OnceLock<Packed<T>>,
    pub(crate) bias: Vec<T>,
    pub(crate) activation: Activation,
    /// Whether the second input is added before the activation.
    pub(crate) residual: bool,
}

/// Packs the upstream layout out×in×kh×kw as the matrix (kh·kw·in)×out.
pub(crate) fn pack_weight<T: Real>(
    isa: Isa,
    raw: &[f32],
    out: usize,
    input: usize,
    window: Window,
) -> Packed<T> {
    let taps = window.kh * window.kw;
    let k = taps * input;
    let mut transpose = vec![T::ZERO; k * out];
    for o in 0..out {
        for i in 0..input {
            for tap in 0..taps {
                transpose[o * k + tap * input + i] = T::of_f32(raw[(o * input + i) * taps + tap]);
            }
        }
    }
    Packed::new(isa, k, out, &transpose, 1, k)
}

impl<T: Real> ConvRule<T> {
    /// Copies the patches of output rows `from..to` into `patches`, zeros outside.
    fn gather(&self, x: &[T], shape: Shape, from: usize, to: usize, patches: &mut [T]) {
        let w = self.window;
        let input = self.input;
        let k = w.kh * w.kw * input.c;
        for (row, patch) in (from..to).zip(patches.chunks_exact_mut(k)) {
            self.spans(shape, row, |at, span| match span {
                Some(i) => patch[at..at + input.c].copy_from_slice(&x[i..i + input.c]),
                None => patch[at..at + input.c].fill(T::ZERO),
            });
        }
    }

    /// Adds patches back to where they came from: the transpose of `gather`.
    fn scatter(&self, patches: &[T], shape: Shape, from: usize, to: usize, dx: &mut [T]) {
        let w = self.window;
        let c = self.input.c;
        let k = w.kh * w.kw * c;
        for (row, patch) in (from..to).zip(patches.chunks_exact(k)) {
            self.spans(shape, row, |at, span| {
                if let Some(i) = span {
                    dx[i..i + c].iter_mut().zip(&patch[at..at + c]).for_each(|(d, p)| *d += *p);
                }
            });
        }
    }

    /// Calls `visit(offset in the patch, offset in the input if inside)` for every tap of an output row.
    #[inline(always)]
    fn spans(&self, shape: Shape, row: usize, mut visit: impl FnMut(usize, Option<usize>)) {
        let (w, input) = (self.window, self.input);
        let (oy, ox) = (row / shape.w, row % shape.w);
        for ky in 0..w.kh {
            let iy = (oy * w.stride + ky).wrapping_sub(w.top);
            for kx in 0..w.kw {
                let ix = (ox * w.stride + kx).wrapping_sub(w.left);
                let inside = iy < input.h && ix < input.w;
                visit((ky * w.kw + kx) * input.c, inside.then(|| (iy * input.w + ix) * input.c));
            }
        }
    }
}

impl<T: Real> Rule<T> for ConvRule<T> {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        save: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let planes = x[0].planes();
        let mut y = ws.tensor(shape, planes);
        let jet = planes > 1;
        let keep_slope = save && !self.activation.slope_from_output();
        let mut slope = keep_slope.then(|| ws.pool.take(shape.len()));
        let activation = if jet { Activation::Identity } else { self.activation };
        let k = self.weight.k();
        for p in 0..planes {
            let bias = (p == 0).then_some(&self.bias[..]);
            let residual = self.residual.then(|| x[1].plane(p));
            if self.window.is_point() {
                let epilogue = Epilogue {
                    bias,
                    residual,
                    accumulate: false,
                    slope: None,
                    activation,
                    derivative: slope.as_deref_mut(),
                };
                let left = Left::rows(x[0].plane(p), k);
                gemm_shared(
                    ws.threads,
                    ws.isa,
                    shape.rows(),
                    left,
                    &self.weight,
                    y.plane_mut(p),
                    shape.c,
                    epilogue,
                );
                continue;
            }
            let mut patches = ws.pool.take(PATCH_ROWS.min(shape.rows()) * k);
            for from in (0..shape.rows()).step_by(PATCH_ROWS) {
                let to = shape.rows().min(from + PATCH_ROWS);
                self.gather(x[0].plane(p), shape, from, to, &mut patches);
                let (a, b) = (from * shape.c, to * shape.c);
                let epilogue = Epilogue {
                    bias,
                    residual: residual.map(|r| &r[a..b]),
                    accumulate: false,
                    slope: None,
                    activation,
                    derivative: slope.as_deref_mut().map(|s| &mut s[a..b]),
                };
                let out = &mut y.plane_mut(p)[a..b];
                gemm_shared(
                    ws.threads,
                    ws.isa,
                    to - from,
                    Left::rows(&patches, k),
                    &self.weight,
                    out,
                    shape.c,
                    epilogue,
                );
            }
            ws.pool.give(patches);
        }
        if jet && self.activation != Activation::Identity {
            jet_in_place(ws.isa, self.activation, &mut y);
        }
        (y, slope)
    }

    fn vjp(&self, ws: &mut Workspace<T>, mut grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        if !back.pulled {
            pull_back(ws.isa, self.activation, &mut grad.data, &back.saved, back.output);
        }
        if let Some(slope) = back.saved {
            ws.pool.give(slope);
        }
        let shape = grad.shape;
        let isa = ws.isa;
        let transposed = self.transposed.get_or_init(|| self.weight.transposed(isa));
        let (mut dx, fresh) = into.open(ws, back.nodes[0], self.input);
        let mut pulled = false;
        if self.window.is_point() {
            let slope = back.slopes[0];
            pulled = slope.is_some();
            let epilogue = Epilogue { accumulate: !fresh, slope, ..Default::default() };
            gemm_shared(
                ws.threads,
                isa,
                shape.rows(),
                Left::rows(&grad.data, shape.c),
                transposed,
                &mut dx.data,
                self.input.c,
                epilogue,
            );
        } else {
            if fresh {
                dx.data.fill(T::ZERO);
            }
            let k = transposed.n();
            let mut patches = ws.pool.take(PATCH_ROWS.min(shape.rows()) * k);
            for from in (0..shape.rows()).step_by(PATCH_ROWS) {
                let to = shape.rows().min(from + PATCH_ROWS);
                let rows = Left::rows(&grad.data[from * shape.c..to * shape.c], shape.c);
                gemm_shared(
                    ws.threads,
                    isa,
                    to - from,
                    rows,
                    transposed,
                    &mut patches,
                    k,
                    Epilogue::default(),
                );
                self.scatter(&patches, shape, from, to, &mut dx.data);
            }
            ws.pool.give(patches);
        }
        into.finish(ws, back.nodes[0], dx, pulled);
        if self.residual {
            into.add(ws, back.nodes[1], grad);
        } else {
            ws.pool.give(grad.data);
        }
    }

    fn activation(&self) -> Activation {
        self.activation
    }

    fn keeps_output(&self) -> bool {
        self.activation != Activation::Identity && self.activation.slope_from_output()
    }
}
