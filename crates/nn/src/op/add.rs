//! Sum of two activations of one shape.

use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

pub(crate) struct Add;

impl<T: Real> Rule<T> for Add {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        _: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let mut y = ws.like(x[0], shape);
        for ((y, a), b) in y.data.iter_mut().zip(x[0].data.iter()).zip(x[1].data.iter()) {
            *y = *a + *b;
        }
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        let mut copy = ws.like(&grad, grad.shape);
        copy.data.copy_from_slice(&grad.data);
        into.add(ws, back.nodes[0], copy);
        into.add(ws, back.nodes[1], grad);
    }
}
