//! Gate of SwiGLU: rows of 2C channels → silu(first half)·second half.

use crate::op::activation::Activation;
use crate::op::{Back, Rule, Saved, product_jet};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

pub(crate) struct GatedSilu;

impl<T: Real> Rule<T> for GatedSilu {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        _: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let (planes, half, len) = (x[0].planes(), shape.c, x[0].shape.len());
        let mut y = ws.tensor(shape, planes);
        for row in 0..shape.rows() {
            for c in 0..half {
                let at = row * 2 * half + c;
                let read = |p: usize, i: usize| if p < planes { x[0].data[p * len + i] } else { T::ZERO };
                let (f, slope, bend) = Activation::Silu.jet(read(0, at));
                let first = read(1, at);
                let gate = [f, slope * first, bend * first * first + slope * read(2, at)];
                let value = [read(0, at + half), read(1, at + half), read(2, at + half)];
                let product = product_jet(gate, value);
                for p in 0..planes {
                    y.data[p * shape.len() + row * half + c] = product[p];
                }
            }
        }
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        let half = grad.shape.c;
        let mut dx = ws.tensor(back.shapes[0], 1);
        let x = back.input(0);
        let rows = dx.data.chunks_exact_mut(2 * half).zip(x.data.chunks_exact(2 * half));
        for ((dx, x), g) in rows.zip(grad.data.chunks_exact(half)) {
            for c in 0..half {
                let (f, slope, _) = Activation::Silu.jet(x[c]);
                dx[c] = g[c] * slope * x[half + c];
                dx[half + c] = g[c] * f;
            }
        }
        ws.pool.give(grad.data);
        into.add(ws, back.nodes[0], dx);
    }

    fn keeps_inputs(&self) -> bool {
        true
    }
}
