//! Channel-wise scale and shift: the normalisation of pixels.

use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

/// y = scale·x + shift, a value of each a channel.
pub(crate) struct Affine<T> {
    pub(crate) scale: Vec<T>,
    pub(crate) shift: Vec<T>,
}

impl<T: Real> Rule<T> for Affine<T> {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        _: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let mut y = ws.like(x[0], shape);
        for p in 0..x[0].planes() {
            let values = x[0].holds_values(p);
            let rows = y.plane_mut(p).chunks_exact_mut(shape.c).zip(x[0].plane(p).chunks_exact(shape.c));
            for (y, x) in rows {
                for c in 0..shape.c {
                    let shift = if values { self.shift[c] } else { T::ZERO };
                    y[c] = self.scale[c] * x[c] + shift;
                }
            }
        }
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, mut grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        for row in grad.data.chunks_exact_mut(self.scale.len()) {
            for (g, s) in row.iter_mut().zip(&self.scale) {
                *g *= *s;
            }
        }
        into.add(ws, back.nodes[0], grad);
    }
}
