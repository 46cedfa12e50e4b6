//! Softmax over the channels of each row.

use crate::kernel::isa::on_isa;
use crate::op::attention::{softmax, softmax_back, softmax_jet};
use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

pub(crate) struct Softmax;

impl<T: Real> Rule<T> for Softmax {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        _: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let mut y = ws.tensor(shape, x[0].planes());
        y.data.copy_from_slice(&x[0].data);
        let (s0, rest) = y.data.split_at_mut(shape.len());
        on_isa!(ws.isa, softmax::<T>(shape.c, s0));
        if !rest.is_empty() {
            let (s1, s2) = rest.split_at_mut(shape.len());
            on_isa!(ws.isa, softmax_jet::<T>(shape.c, s0, s1, s2));
        }
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, mut grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        on_isa!(ws.isa, softmax_back::<T>(grad.shape.c, &back.output().data, &mut grad.data));
        into.add(ws, back.nodes[0], grad);
    }

    fn keeps_output(&self) -> bool {
        true
    }
}
