//! One number a channel out of many rows: the mean, or the deviation.

use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

/// What is taken of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// Arithmetic mean.
    Mean,
    /// Standard deviation, divided by the number of rows. Where all rows are equal its derivatives are taken as 0.
    StdDev,
}

/// The statistic of the rows from `skip` on: rows × C → 1 × C.
pub(crate) struct PoolRows {
    pub(crate) skip: usize,
    pub(crate) statistic: Statistic,
}

impl PoolRows {
    fn rows<'a, T: Real>(&self, plane: &'a [T], c: usize) -> std::slice::ChunksExact<'a, T> {
        plane[self.skip * c..].chunks_exact(c)
    }

    fn mean<T: Real>(&self, plane: &[T], out: &mut [T]) {
        let c = out.len();
        let rows = self.rows(plane, c);
        let scale = T::ONE / T::of(rows.len() as f64);
        out.fill(T::ZERO);
        for row in rows {
            out.iter_mut().zip(row).for_each(|(y, x)| *y += *x);
        }
        out.iter_mut().for_each(|y| *y *= scale);
    }

    /// Σ (a − mean(a))·(b − mean(b)) / rows, channel by channel.
    fn covariance<T: Real>(&self, a: &[T], a_mean: &[T], b: &[T], b_mean: &[T]) -> Vec<T> {
        let c = a_mean.len();
        let rows = self.rows(a, c);
        let scale = T::ONE / T::of(rows.len() as f64);
        let mut sum = vec![T::ZERO; c];
        for (a, b) in rows.zip(self.rows(b, c)) {
            for i in 0..c {
                sum[i] += (a[i] - a_mean[i]) * (b[i] - b_mean[i]);
            }
        }
        sum.iter_mut().for_each(|s| *s *= scale);
        sum
    }
}

impl<T: Real> Rule<T> for PoolRows {
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
            self.mean(x[0].plane(p), y.plane_mut(p));
        }
        if self.statistic == Statistic::StdDev {
            let means: Vec<Vec<T>> = (0..planes).map(|p| y.plane(p).to_vec()).collect();
            let covariance =
                |a: usize, b: usize| self.covariance(x[0].plane(a), &means[a], x[0].plane(b), &means[b]);
            for p in (0..planes).filter(|&p| x[0].holds_values(p)) {
                let variance = covariance(p, p);
                y.plane_mut(p).iter_mut().zip(variance).for_each(|(y, v)| *y = v.sqrt());
            }
            let over = |a: T, s: T| if s > T::ZERO { a / s } else { T::ZERO };
            // s² = v: s′ = v′/2s with v′/2 = cov(x, x′); s″ = (v″/2 − s′²)/s with v″/2 = cov(x′, x′) + cov(x, x″).
            if x[0].is_jet() {
                let half = covariance(0, 1);
                for i in 0..shape.c {
                    y.plane_mut(1)[i] = over(half[i], y.plane(0)[i]);
                }
            }
            if x[0].is_jet() && planes > 2 {
                let (square, cross) = (covariance(1, 1), covariance(0, 2));
                for i in 0..shape.c {
                    let (deviation, first) = (y.plane(0)[i], y.plane(1)[i]);
                    y.plane_mut(2)[i] = over(square[i] + cross[i] - first * first, deviation);
                }
            }
        }
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        let shape = back.shapes[0];
        let c = shape.c;
        let scale = T::ONE / T::of((shape.rows() - self.skip) as f64);
        let mut dx = ws.like(&grad, shape);
        for p in 0..grad.planes() {
            let g = grad.plane(p);
            let (skipped, rows) = dx.plane_mut(p).split_at_mut(self.skip * c);
            skipped.fill(T::ZERO);
            let rows = rows.chunks_exact_mut(c);
            match self.statistic {
                Statistic::Mean => {
                    for row in rows {
                        row.iter_mut().zip(g).for_each(|(d, g)| *d = *g * scale);
                    }
                }
                Statistic::StdDev => {
                    let x = back.input(0).plane(p);
                    let mut mean = vec![T::ZERO; c];
                    self.mean(x, &mut mean);
                    let variance = self.covariance(x, &mean, x, &mean);
                    let factor = |i: usize| {
                        let s = variance[i].sqrt();
                        if s > T::ZERO { g[i] * scale / s } else { T::ZERO }
                    };
                    let factors: Vec<T> = (0..c).map(factor).collect();
                    for (row, x) in rows.zip(self.rows(x, c)) {
                        for i in 0..c {
                            row[i] = factors[i] * (x[i] - mean[i]);
                        }
                    }
                }
            }
        }
        ws.pool.give(grad.data);
        into.add(ws, back.nodes[0], dx);
    }

    fn keeps_inputs(&self) -> bool {
        self.statistic == Statistic::StdDev
    }
}
