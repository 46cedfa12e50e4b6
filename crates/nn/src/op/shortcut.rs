//! The parameter-free shortcut of CIFAR ResNets (He et al. 2015, §4.2, option A): every
//! `stride`-th row and column, zero channels before and after.

use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

pub(crate) struct Shortcut {
    pub(crate) stride: usize,
    pub(crate) pad_channels: usize,
}

impl Shortcut {
    /// Calls `visit(input offset, output offset)` for every row that is kept.
    fn rows(&self, input: Shape, output: Shape, mut visit: impl FnMut(usize, usize)) {
        for y in 0..output.h {
            for x in 0..output.w {
                let from = (y * self.stride * input.w + x * self.stride) * input.c;
                visit(from, (y * output.w + x) * output.c + self.pad_channels);
            }
        }
    }
}

impl<T: Real> Rule<T> for Shortcut {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        _: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let (input, planes) = (x[0].shape, x[0].planes());
        let mut y = ws.like(x[0], shape);
        y.data.fill(T::ZERO);
        for p in 0..planes {
            let from = x[0].plane(p);
            let to = y.plane_mut(p);
            self.rows(input, shape, |i, o| to[o..o + input.c].copy_from_slice(&from[i..i + input.c]));
        }
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        let input = back.shapes[0];
        let mut dx = ws.zeros_like(&grad, input);
        for p in 0..grad.planes() {
            let (from, to) = (grad.plane(p), dx.plane_mut(p));
            self.rows(input, grad.shape, |i, o| to[i..i + input.c].copy_from_slice(&from[o..o + input.c]));
        }
        ws.pool.give(grad.data);
        into.add(ws, back.nodes[0], dx);
    }
}
