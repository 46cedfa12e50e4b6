//! LayerNorm over the channels of each row. Its scale and shift fold into the linear
//! layers that follow; only the last norm of a network keeps them.

use crate::kernel::isa::on_isa;
use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

/// Partial sums kept side by side, so that a row's sum is vector code with a fixed order.
const LANES: usize = 16;

/// LayerNorm ready to run.
pub(crate) struct LayerNormRule<T> {
    pub(crate) eps: T,
    /// (scale, shift), where they could not be folded.
    pub(crate) affine: Option<(Vec<T>, Vec<T>)>,
}

#[inline(always)]
fn sum<T: Real>(n: usize, term: impl Fn(usize) -> T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let whole = n / LANES * LANES;
    for i in (0..whole).step_by(LANES) {
        for l in 0..LANES {
            lanes[l] += term(i + l);
        }
    }
    let mut total = T::ZERO;
    for i in whole..n {
        total += term(i);
    }
    for lane in lanes {
        total += lane;
    }
    total
}

/// y ← (x − mean)/√(var + ε) row by row; `scales` receives 1/√(var + ε).
#[inline(always)]
fn normalise<T: Real, const FMA: bool>(eps: T, c: usize, x: &[T], y: &mut [T], scales: &mut [T]) {
    let inv = T::ONE / T::of(c as f64);
    for ((x, y), scale) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)).zip(scales) {
        let mean = sum(c, |i| x[i]) * inv;
        let var = sum(c, |i| (x[i] - mean) * (x[i] - mean)) * inv;
        *scale = T::ONE / (var + eps).sqrt();
        for i in 0..c {
            y[i] = (x[i] - mean) * *scale;
        }
    }
}

/// g ← (g − mean(g) − x̂·mean(g·x̂))·scale.
#[inline(always)]
fn normalise_back<T: Real, const FMA: bool>(c: usize, normal: &[T], scales: &[T], g: &mut [T]) {
    let inv = T::ONE / T::of(c as f64);
    for ((g, x), scale) in g.chunks_exact_mut(c).zip(normal.chunks_exact(c)).zip(scales) {
        let mean = sum(c, |i| g[i]) * inv;
        let along = sum(c, |i| g[i] * x[i]) * inv;
        for i in 0..c {
            g[i] = (g[i] - mean - x[i] * along) * *scale;
        }
    }
}

/// The jet of a row: centre all planes, then multiply by the jet of v^(−1/2), v the variance's jet.
#[inline(always)]
fn normalise_jet<T: Real, const FMA: bool>(eps: T, c: usize, planes: usize, x: &[T], y: &mut [T]) {
    let inv = T::ONE / T::of(c as f64);
    let len = x.len() / planes;
    let two = T::of(2.0);
    for row in (0..len).step_by(c) {
        let plane = |p: usize| &x[if p < planes { p * len + row } else { row }..][..c];
        let on = |p: usize| if p < planes { T::ONE } else { T::ZERO };
        let (x0, x1, x2) = (plane(0), plane(1), plane(2));
        let m0 = sum(c, |i| x0[i]) * inv;
        let m1 = sum(c, |i| x1[i]) * inv;
        let m2 = sum(c, |i| x2[i]) * inv;
        let (on1, on2) = (on(1), on(2));
        let v0 = sum(c, |i| (x0[i] - m0) * (x0[i] - m0)) * inv + eps;
        let v1 = on1 * two * sum(c, |i| (x0[i] - m0) * (x1[i] - m1)) * inv;
        let square = sum(c, |i| (x1[i] - m1) * (x1[i] - m1)) * inv;
        let cross = sum(c, |i| (x0[i] - m0) * (x2[i] - m2)) * inv;
        let v2 = on2 * two * (square + cross);
        let r0 = T::ONE / v0.sqrt();
        let cube = r0 * r0 * r0;
        let r1 = T::of(-0.5) * cube * v1;
        let r2 = T::of(0.75) * cube * r0 * r0 * v1 * v1 - T::of(0.5) * cube * v2;
        for i in 0..c {
            let (c0, c1, c2) = (x0[i] - m0, on1 * (x1[i] - m1), on2 * (x2[i] - m2));
            y[row + i] = c0 * r0;
            if planes > 1 {
                y[len + row + i] = c1 * r0 + c0 * r1;
            }
            if planes > 2 {
                y[2 * len + row + i] = c2 * r0 + two * c1 * r1 + c0 * r2;
            }
        }
    }
}

impl<T: Real> Rule<T> for LayerNormRule<T> {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        save: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let (planes, rows) = (x[0].planes(), shape.rows());
        let mut y = ws.tensor(shape, planes);
        // 1/√(var + ε) of every row, then the normalised rows if the output will not be them.
        let extra = if save && self.affine.is_some() { shape.len() } else { 0 };
        let mut saved = ws.pool.take(rows + extra);
        if planes > 1 {
            on_isa!(ws.isa, normalise_jet::<T>(self.eps, shape.c, planes, &x[0].data, &mut y.data));
        } else {
            on_isa!(ws.isa, normalise::<T>(self.eps, shape.c, &x[0].data, &mut y.data, &mut saved[..rows]));
        }
        saved[rows..].copy_from_slice(&y.data[..extra]);
        if let Some((scale, shift)) = &self.affine {
            for p in 0..planes {
                for row in y.plane_mut(p).chunks_exact_mut(shape.c) {
                    for i in 0..shape.c {
                        row[i] = row[i] * scale[i] + if p == 0 { shift[i] } else { T::ZERO };
                    }
                }
            }
        }
        if save {
            return (y, Some(saved));
        }
        ws.pool.give(saved);
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, mut grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        let (c, rows) = (grad.shape.c, grad.shape.rows());
        let saved = back.saved.as_ref().expect("forward saved the scales");
        let normal = match &self.affine {
            Some((scale, _)) => {
                for row in grad.data.chunks_exact_mut(c) {
                    row.iter_mut().zip(scale).for_each(|(g, s)| *g *= *s);
                }
                &saved[rows..]
            }
            None => &back.output().data[..],
        };
        on_isa!(ws.isa, normalise_back::<T>(c, normal, &saved[..rows], &mut grad.data));
        into.add(ws, back.nodes[0], grad);
        if let Some(saved) = back.saved {
            ws.pool.give(saved);
        }
    }

    fn keeps_output(&self) -> bool {
        self.affine.is_none()
    }
}
