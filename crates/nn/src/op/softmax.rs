//! Softmax over the channels of each row.

use crate::buffer::Buffer;
use crate::kernel::vector::on_vector;
use crate::op::attention::{row_len, softmax, softmax_back, softmax_jet};
use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

pub(crate) struct Softmax;

/// Rows of `c` values at the distance the kernels want.
fn spread<T: Real>(ws: &mut Workspace<T>, x: &[T], c: usize) -> Buffer<T> {
    let mut wide = ws.pool.take(x.len() / c * row_len(c));
    for (wide, x) in wide.chunks_exact_mut(row_len(c)).zip(x.chunks_exact(c)) {
        wide[..c].copy_from_slice(x);
        wide[c..].fill(T::ZERO);
    }
    wide
}

/// The opposite of [`spread`].
fn gather<T: Real>(wide: &[T], c: usize, y: &mut [T]) {
    for (y, wide) in y.chunks_exact_mut(c).zip(wide.chunks_exact(row_len(c))) {
        y.copy_from_slice(&wide[..c]);
    }
}

impl<T: Real> Rule<T> for Softmax {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        _: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let mut y = ws.like(x[0], shape);
        let mut wide = spread(ws, &x[0].data, shape.c);
        let rows = if x[0].is_jet() { shape.rows() } else { y.data.len() / shape.c };
        let (s0, rest) = wide.split_at_mut(rows * row_len(shape.c));
        on_vector!(ws.isa, softmax::<T>(shape.c, s0));
        match rest.split_at_mut_checked(s0.len()) {
            Some((s1, [])) => on_vector!(ws.isa, softmax_back::<T>(shape.c, s0, s1)),
            Some((s1, s2)) => on_vector!(ws.isa, softmax_jet::<T>(shape.c, s0, s1, s2)),
            None => {}
        }
        gather(&wide, shape.c, &mut y.data);
        ws.pool.give(wide);
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, mut grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        let c = grad.shape.c;
        let (p, mut d) = (spread(ws, &back.output().data, c), spread(ws, &grad.data, c));
        on_vector!(ws.isa, softmax_back::<T>(c, &p, &mut d));
        gather(&d, c, &mut grad.data);
        ws.pool.give(p);
        ws.pool.give(d);
        into.add(ws, back.nodes[0], grad);
    }

    fn keeps_output(&self) -> bool {
        true
    }
}
