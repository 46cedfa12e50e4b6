//! Global average over all rows.

use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

pub(crate) struct GlobalAveragePool;

impl<T: Real> Rule<T> for GlobalAveragePool {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        _: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let planes = x[0].planes();
        let mut y = ws.tensor(shape, planes);
        let scale = T::ONE / T::of(x[0].shape.rows() as f64);
        for p in 0..planes {
            let out = y.plane_mut(p);
            out.fill(T::ZERO);
            for row in x[0].plane(p).chunks_exact(shape.c) {
                out.iter_mut().zip(row).for_each(|(y, x)| *y += *x);
            }
            out.iter_mut().for_each(|y| *y *= scale);
        }
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        let shape = back.shapes[0];
        let scale = T::ONE / T::of(shape.rows() as f64);
        let mut dx = ws.tensor(shape, 1);
        for row in dx.data.chunks_exact_mut(shape.c) {
            row.iter_mut().zip(grad.data.iter()).for_each(|(d, g)| *d = *g * scale);
        }
        ws.pool.give(grad.data);
        into.add(ws, back.nodes[0], dx);
    }
}
