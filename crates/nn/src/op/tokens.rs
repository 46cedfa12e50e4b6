//! Token sequences: prefix tokens and position embeddings, and picking tokens out.

use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

/// Puts constant tokens before the patches and adds a position embedding to the patches
/// (the constants carry theirs already). Patches P×C → (prefix + P)×C.
pub(crate) struct Tokens<T> {
    pub(crate) prefix: Vec<T>,
    pub(crate) position: Vec<T>,
}

impl<T: Real> Rule<T> for Tokens<T> {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        _: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let planes = x[0].planes();
        let mut y = ws.like(x[0], shape);
        for p in 0..planes {
            let (head, tail) = y.plane_mut(p).split_at_mut(self.prefix.len());
            tail.copy_from_slice(x[0].plane(p));
            if x[0].holds_values(p) {
                head.copy_from_slice(&self.prefix);
                tail.iter_mut().zip(&self.position).for_each(|(y, e)| *y += *e);
            } else {
                head.fill(T::ZERO);
            }
        }
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        let mut dx = ws.like(&grad, back.shapes[0]);
        for p in 0..grad.planes() {
            dx.plane_mut(p).copy_from_slice(&grad.plane(p)[self.prefix.len()..]);
        }
        ws.pool.give(grad.data);
        into.add(ws, back.nodes[0], dx);
    }
}

/// The first `shape.h` tokens of a sequence.
pub(crate) struct FirstTokens;

impl<T: Real> Rule<T> for FirstTokens {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        _: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let planes = x[0].planes();
        let mut y = ws.like(x[0], shape);
        for p in 0..planes {
            y.plane_mut(p).copy_from_slice(&x[0].plane(p)[..shape.len()]);
        }
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        let (mut dx, fresh) = into.open(ws, back.nodes[0], back.shapes[0]);
        if fresh {
            dx.data.fill(T::ZERO);
        }
        for p in 0..grad.planes() {
            dx.plane_mut(p).iter_mut().zip(grad.plane(p)).for_each(|(d, g)| *d += *g);
        }
        ws.pool.give(grad.data);
        into.add(ws, back.nodes[0], dx);
    }
}
