//! Channels side by side and apart again: concatenation and slice.

use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

/// The channels of all inputs, one input after the other. H×W×C₁, H×W×C₂, … → H×W×ΣC.
pub(crate) struct Concat;

/// to[row, to_first..] ← (or +=, by `put`) from[row, from_first..], `count` channels of every row.
fn copy<T: Real>(
    (from, from_width, from_first): (&[T], usize, usize),
    (to, to_width, to_first): (&mut [T], usize, usize),
    count: usize,
    put: impl Fn(&mut T, T),
) {
    for (from, to) in from.chunks_exact(from_width).zip(to.chunks_exact_mut(to_width)) {
        let from = &from[from_first..from_first + count];
        to[to_first..to_first + count].iter_mut().zip(from).for_each(|(t, f)| put(t, *f));
    }
}

impl<T: Real> Rule<T> for Concat {
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
            let mut first = 0;
            for x in x {
                let c = x.shape.c;
                copy((x.plane(p), c, 0), (y.plane_mut(p), shape.c, first), c, |t, f| *t = f);
                first += c;
            }
        }
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        let mut first = 0;
        for (&node, &shape) in back.nodes.iter().zip(back.shapes) {
            let mut dx = ws.like(&grad, shape);
            copy((&grad.data, grad.shape.c, first), (&mut dx.data, shape.c, 0), shape.c, |t, f| *t = f);
            into.add(ws, node, dx);
            first += shape.c;
        }
        ws.pool.give(grad.data);
    }
}

/// Channels from `from` on, as many as the output has.
pub(crate) struct Channels {
    pub(crate) from: usize,
}

impl<T: Real> Rule<T> for Channels {
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
            let from = (x[0].plane(p), x[0].shape.c, self.from);
            copy(from, (y.plane_mut(p), shape.c, 0), shape.c, |t, f| *t = f);
        }
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        let (shape, c) = (back.shapes[0], grad.shape.c);
        let (mut dx, fresh) = into.open(ws, back.nodes[0], shape);
        if fresh {
            dx.data.fill(T::ZERO);
        }
        copy((&grad.data, c, 0), (&mut dx.data, shape.c, self.from), c, |t, f| *t += f);
        ws.pool.give(grad.data);
        into.add(ws, back.nodes[0], dx);
    }
}
