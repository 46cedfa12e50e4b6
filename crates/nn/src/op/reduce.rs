//! Sum or mean over some axes.

use crate::kernel::isa::on_isa;
use crate::op::strided::{collapse, walk};
use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

/// A sum over axes, times a factor: 1/length for a mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Reduce {
    /// Axes of the input as it lies in memory, the last fastest.
    pub dims: Vec<usize>,
    /// Elements moved in the output by a step along each axis; 0 along those that are summed.
    pub strides: Vec<usize>,
    /// Times the sum.
    pub factor: f64,
    /// Values of the output.
    pub len: usize,
}

/// Ready to run.
pub(crate) struct ReduceRule<T> {
    dims: Vec<usize>,
    strides: Vec<usize>,
    factor: T,
}

impl<T: Real> ReduceRule<T> {
    pub(crate) fn new(op: &Reduce) -> Self {
        let (dims, [strides]) = collapse(&op.dims, [&op.strides]);
        ReduceRule { dims, strides, factor: T::of(op.factor) }
    }
}

#[inline(always)]
fn sum<T: Real, const FMA: bool>(rule: &ReduceRule<T>, x: &[T], y: &mut [T]) {
    let last = rule.dims.len() - 1;
    let (n, step) = (rule.dims[last], rule.strides[last]);
    y.fill(T::ZERO);
    let mut at = 0;
    walk(&rule.dims, [&rule.strides], |[y0]| {
        let x = &x[at..at + n];
        at += n;
        if step == 0 {
            let (whole, rest) = x.as_chunks::<16>();
            let mut lanes = [T::ZERO; 16];
            for chunk in whole {
                for l in 0..16 {
                    lanes[l] += chunk[l];
                }
            }
            let total = rest.iter().chain(&lanes).fold(T::ZERO, |a, &b| a + b);
            y[y0] += total;
        } else {
            for (i, x) in x.iter().enumerate() {
                y[y0 + i * step] += *x;
            }
        }
    });
    y.iter_mut().for_each(|y| *y *= rule.factor);
}

#[inline(always)]
fn spread<T: Real, const FMA: bool>(rule: &ReduceRule<T>, g: &[T], dx: &mut [T]) {
    let last = rule.dims.len() - 1;
    let (n, step) = (rule.dims[last], rule.strides[last]);
    let mut at = 0;
    walk(&rule.dims, [&rule.strides], |[g0]| {
        for (i, d) in dx[at..at + n].iter_mut().enumerate() {
            *d = g[g0 + i * step] * rule.factor;
        }
        at += n;
    });
}

impl<T: Real> Rule<T> for ReduceRule<T> {
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
            on_isa!(ws.isa, sum::<T>(self, x[0].plane(p), y.plane_mut(p)));
        }
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        let mut dx = ws.like(&grad, back.shapes[0]);
        on_isa!(ws.isa, spread::<T>(self, &grad.data, &mut dx.data));
        ws.pool.give(grad.data);
        into.add(ws, back.nodes[0], dx);
    }

    fn takes_one_image(&self) -> bool {
        true
    }
}
