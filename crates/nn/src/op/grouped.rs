//! Convolution in groups: output channels of group g see the input channels of group g only. One matrix product a
//! group; with one group [`ConvRule`](super::conv::ConvRule), with as many as channels the depthwise rule is meant.

use std::sync::OnceLock;

use crate::kernel::epilogue::Epilogue;
use crate::kernel::gemm::{Left, gemm};
use crate::kernel::isa::Isa;
use crate::kernel::pack::Packed;
use crate::op::conv::{Window, pack_weight};
use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

/// Rows of patches gathered between two products, as in `conv.rs`.
const PATCH_ROWS: usize = 192;

/// A grouped convolution ready to run.
pub(crate) struct GroupedRule<T: Real> {
    window: Window,
    /// One matrix (kh·kw·in/groups)×(out/groups) a group.
    weights: Vec<Packed<T>>,
    /// Packed when the first vjp asks for them.
    transposed: OnceLock<Vec<Packed<T>>>,
    bias: Vec<T>,
}

impl<T: Real> GroupedRule<T> {
    /// `raw`: out × in/groups × kh × kw; `channels`: input channels.
    pub(crate) fn new(
        isa: Isa,
        window: Window,
        raw: &[f32],
        bias: Vec<T>,
        channels: usize,
        groups: usize,
    ) -> Self {
        let (out, input) = (bias.len() / groups, channels / groups);
        let pack = |raw| pack_weight(isa, raw, out, input, window);
        let weights = raw.chunks_exact(raw.len() / groups).map(pack).collect();
        GroupedRule { window, weights, transposed: OnceLock::new(), bias }
    }

    /// Calls `visit(offset in the patch, offset in the input)` for the taps of output row `row` inside the image.
    fn taps(
        &self,
        input: Shape,
        shape: Shape,
        group: usize,
        row: usize,
        mut visit: impl FnMut(usize, usize),
    ) {
        let c = input.c / self.weights.len();
        self.window.inside(input, shape, row, |tap, at| visit(tap * c, at * input.c + group * c));
    }
}

impl<T: Real> Rule<T> for GroupedRule<T> {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        _: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let (input, planes, groups) = (x[0].shape, x[0].planes(), self.weights.len());
        let mut y = ws.like(x[0], shape);
        let (c, out) = (input.c / groups, shape.c / groups);
        let k = self.weights[0].k();
        let mut patches = ws.pool.take(PATCH_ROWS.min(shape.rows()) * k);
        for p in 0..planes {
            let x = x[0].plane(p);
            for (group, weight) in self.weights.iter().enumerate() {
                let bias = (p == 0).then(|| &self.bias[group * out..][..out]);
                for from in (0..shape.rows()).step_by(PATCH_ROWS) {
                    let to = shape.rows().min(from + PATCH_ROWS);
                    patches.fill(T::ZERO);
                    for (row, patch) in (from..to).zip(patches.chunks_exact_mut(k)) {
                        self.taps(input, shape, group, row, |at, i| {
                            patch[at..at + c].copy_from_slice(&x[i..i + c]);
                        });
                    }
                    let out = &mut y.plane_mut(p)[from * shape.c + group * out..];
                    let epilogue = Epilogue { bias, ..Default::default() };
                    gemm(ws.isa, to - from, Left::rows(&patches, k), weight, out, shape.c, epilogue);
                }
            }
        }
        ws.pool.give(patches);
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        let (input, shape, groups) = (back.shapes[0], grad.shape, self.weights.len());
        let (c, out) = (input.c / groups, shape.c / groups);
        let isa = ws.isa;
        let pack = || self.weights.iter().map(|w| w.transposed()).collect();
        let transposed = self.transposed.get_or_init(pack);
        let (mut dx, fresh) = into.open(ws, back.nodes[0], input);
        if fresh {
            dx.data.fill(T::ZERO);
        }
        let k = self.weights[0].k();
        let mut patches = ws.pool.take(PATCH_ROWS.min(shape.rows()) * k);
        for (group, weight) in transposed.iter().enumerate() {
            for from in (0..shape.rows()).step_by(PATCH_ROWS) {
                let to = shape.rows().min(from + PATCH_ROWS);
                let rows = Left::rows(&grad.data[from * shape.c + group * out..], shape.c);
                gemm(isa, to - from, rows, weight, &mut patches, k, Epilogue::default());
                for (row, patch) in (from..to).zip(patches.chunks_exact(k)) {
                    self.taps(input, shape, group, row, |at, i| {
                        dx.data[i..i + c].iter_mut().zip(&patch[at..at + c]).for_each(|(d, p)| *d += *p);
                    });
                }
            }
        }
        ws.pool.give(patches);
        ws.pool.give(grad.data);
        into.add(ws, back.nodes[0], dx);
    }

    fn takes_one_image(&self) -> bool {
        true
    }
}
