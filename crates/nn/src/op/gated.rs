//! Gate of SwiGLU: rows of 2C channels → silu(first half)·second half.

use crate::kernel::vector::{Vector, on_vector};
use crate::op::activation::Activation;
use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

pub(crate) struct GatedSilu;

/// The gate on rows of `x` (2·`half` channels) into those of `y` (`half` channels), or on the `planes` planes of their jet.
#[inline(always)]
fn gate<T: Real, V: Vector<T>>(half: usize, planes: usize, x: &[T], y: &mut [T]) {
    let (input, output) = (x.len() / planes, y.len() / planes);
    for row in 0..output / half {
        for c in (0..half).step_by(V::LANES) {
            let lanes = V::LANES.min(half - c);
            let at = row * 2 * half + c;
            let read = |p: usize, i: usize| {
                if p < planes { V::load_part(&x[p * input + i..][..lanes]) } else { V::splat(T::ZERO) }
            };
            let (f, slope, bend) = Activation::Silu.jet(read(0, at));
            let first = read(1, at);
            let gate = [f, slope.mul(first), bend.mul(first).mul_add(first, slope.mul(read(2, at)))];
            let value = [read(0, at + half), read(1, at + half), read(2, at + half)];
            let product = product_jet(gate, value);
            for p in 0..planes {
                product[p].store_part(&mut y[p * output + row * half + c..][..lanes]);
            }
        }
    }
}

/// The gradient towards `x` from `g` (`half` channels).
#[inline(always)]
fn gate_back<T: Real, V: Vector<T>>(half: usize, x: &[T], g: &[T], dx: &mut [T]) {
    let rows = dx.chunks_exact_mut(2 * half).zip(x.chunks_exact(2 * half));
    for ((dx, x), g) in rows.zip(g.chunks_exact(half)) {
        let (dx0, dx1) = dx.split_at_mut(half);
        for c in (0..half).step_by(V::LANES) {
            let part = c..half.min(c + V::LANES);
            let (f, slope) = Activation::Silu.with_slope(V::load_part(&x[part.clone()]));
            let g = V::load_part(&g[part.clone()]);
            let value = V::load_part(&x[half..][part.clone()]);
            g.mul(slope).mul(value).store_part(&mut dx0[part.clone()]);
            g.mul(f).store_part(&mut dx1[part]);
        }
    }
}

/// The jet of a product.
#[inline(always)]
fn product_jet<T: Real, V: Vector<T>>(a: [V; 3], b: [V; 3]) -> [V; 3] {
    let middle = V::splat(T::of(2.0)).mul(a[1]).mul(b[1]);
    [a[0].mul(b[0]), a[1].mul_add(b[0], a[0].mul(b[1])), a[2].mul_add(b[0], a[0].mul_add(b[2], middle))]
}

impl<T: Real> Rule<T> for GatedSilu {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        _: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let (mut y, jet) = (ws.like(x[0], shape), x[0].is_jet());
        on_vector!(ws.isa, gate::<T>(shape.c, if jet { x[0].planes() } else { 1 }, &x[0].data, &mut y.data));
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        let mut dx = ws.like(&grad, back.shapes[0]);
        on_vector!(ws.isa, gate_back::<T>(grad.shape.c, &back.input(0).data, &grad.data, &mut dx.data));
        ws.pool.give(grad.data);
        into.add(ws, back.nodes[0], dx);
    }

    fn keeps_inputs(&self) -> bool {
        true
    }
}
