//! Gaussians centred at the images of one set, their widths fitted to another set: the model of FLS and FLD.

use rayon::prelude::*;

use super::distances::TILE;
use super::products::{Panels, products};

/// Points whose gradients are added up by themselves, so that threads do not show in the sum.
const CHUNK: usize = 256;

/// N points of D numbers, row after row.
pub(crate) struct Points {
    pub(crate) values: Vec<f64>,
    pub(crate) dim: usize,
}

impl Points {
    pub(crate) fn n(&self) -> usize {
        self.values.len() / self.dim
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.dim..(i + 1) * self.dim]
    }

    pub(crate) fn rows(&self, range: std::ops::Range<usize>) -> Points {
        Points { values: self.values[range.start * self.dim..range.end * self.dim].to_vec(), dim: self.dim }
    }

    pub(crate) fn mean(&self) -> Points {
        let mut mean = vec![0.0; self.dim];
        for row in self.values.chunks_exact(self.dim) {
            mean.iter_mut().zip(row).for_each(|(sum, v)| *sum += v / self.n() as f64);
        }
        Points { values: mean, dim: self.dim }
    }
}

/// Squared distances of all points to all centres. One fit reads them a hundred times, so they are kept, as f32: 4·N·M
/// bytes, 400 MB for the 10,000 × 10,000 both tools stop at. Their rounding, 6·10⁻⁸, is that of a log-likelihood.
pub(crate) struct SquaredDistances {
    values: Vec<f32>,
    centres: usize,
    dim: usize,
}

impl SquaredDistances {
    pub(crate) fn new(points: &Points, centres: &Points) -> Self {
        let (dim, m) = (points.dim, centres.n());
        let squares = |set: &Points| -> Vec<f64> {
            set.values.par_chunks_exact(dim).map(|row| row.iter().map(|v| v * v).sum()).collect()
        };
        let (of_points, of_centres) = (squares(points), squares(centres));
        let mut values = vec![0.0f32; points.n() * m];
        values.par_chunks_mut(TILE * m).enumerate().for_each(|(tile, values)| {
            let rows = tile * TILE..points.n().min((tile + 1) * TILE);
            let mut panels = Panels::new(TILE, dim);
            let mut inner = vec![0.0; TILE * TILE];
            for first in (0..m).step_by(TILE) {
                let columns = first..m.min(first + TILE);
                panels.fill(columns.len(), &centres.values[first * dim..columns.end * dim]);
                products(rows.len(), &points.values[rows.start * dim..rows.end * dim], &panels, &mut inner);
                for (i, inner) in rows.clone().zip(inner.chunks_exact(columns.len())) {
                    for (j, product) in columns.clone().zip(inner) {
                        let lengths = of_points[i] + of_centres[j];
                        let mut squared = lengths - 2.0 * product;
                        // Copies must be at distance 0: the width of their Gaussian hangs on it.
                        if squared < 1e-6 * lengths {
                            let pairs = points.row(i).iter().zip(centres.row(j));
                            squared = pairs.map(|(x, y)| (x - y) * (x - y)).sum();
                        }
                        values[(i - rows.start) * m + j] = squared as f32;
                    }
                }
            }
        });
        SquaredDistances { values, centres: m, dim }
    }

    pub(crate) fn n(&self) -> usize {
        self.values.len() / self.centres
    }

    /// All of them times `factor`.
    pub(crate) fn scaled(mut self, factor: f64) -> Self {
        self.values.iter_mut().for_each(|d| *d = (f64::from(*d) * factor) as f32);
        self
    }

    /// Smallest distance of any point to each centre.
    pub(crate) fn nearest(&self) -> Vec<f64> {
        let mut nearest = vec![f64::INFINITY; self.centres];
        for row in self.values.chunks_exact(self.centres) {
            nearest.iter_mut().zip(row).for_each(|(least, &d)| *least = least.min(f64::from(d)));
        }
        nearest
    }

    /// Log-likelihood of each point under the mixture of equal weights, less (D/2)·ln 2π.
    pub(crate) fn log_likelihoods(&self, log_widths: &[f64]) -> Vec<f64> {
        let (half, weight) = (self.dim as f64 / 2.0, (self.centres as f64).ln());
        let precisions: Vec<f64> = log_widths.iter().map(|s| 0.5 * (-s).exp()).collect();
        let of_point = |row: &[f32]| {
            let each = row.iter().zip(&precisions).zip(log_widths);
            log_sum_exp(each.map(|((&d, p), s)| -f64::from(d) * p - half * s)) - weight
        };
        self.values.par_chunks_exact(self.centres).map(of_point).collect()
    }

    /// For each Gaussian, ln Σ of its likelihood over the points, and the largest log-likelihood of any point; both less
    /// (D/2)·ln 2π.
    pub(crate) fn of_centres(&self, log_widths: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let half = self.dim as f64 / 2.0;
        let all = (0..self.centres).into_par_iter();
        all.map(|j| {
            let (s, precision) = (log_widths[j], 0.5 * (-log_widths[j]).exp());
            let column = self.values[j..].iter().step_by(self.centres);
            let values = column.map(|&d| -f64::from(d) * precision - half * s);
            (log_sum_exp(values.clone()), values.fold(f64::NEG_INFINITY, f64::max))
        })
        .unzip()
    }
}

/// ln Σ eᵛ.
fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = values.clone().fold(f64::NEG_INFINITY, f64::max);
    most + values.map(|v| (v - most).exp()).sum::<f64>().ln()
}

/// How widths are fitted: Adam with β = (0.9, 0.999), ε = 10⁻⁸.
pub(crate) struct Fit {
    pub(crate) epochs: usize,
    pub(crate) rate: f64,
    /// From this epoch on the rate is a tenth.
    pub(crate) slower_from: usize,
    /// Points a step sees; an epoch sees all, in their order.
    pub(crate) batch: usize,
    /// ln σ² stays within.
    pub(crate) clamp: (f64, f64),
    /// The loss and its gradient are divided by this.
    pub(crate) divisor: f64,
    /// From the seventh epoch on: stop when the last five losses lie within this of the newest.
    pub(crate) stop_within: Option<f64>,
}

impl Fit {
    /// ln σ² of every Gaussian that maximise the likelihood of the points, from `start`. `extra` are squared distances of
    /// the points to one more Gaussian of weight 1, which is fitted along and forgotten.
    pub(crate) fn log_widths(
        &self,
        distances: &SquaredDistances,
        start: Vec<f64>,
        extra: Option<&SquaredDistances>,
    ) -> Vec<f64> {
        let mut widths = start;
        widths.push(0.0);
        let (mut first, mut second) = (vec![0.0; widths.len()], vec![0.0; widths.len()]);
        let (mut steps, mut losses) = (0, Vec::new());
        for epoch in 0..self.epochs {
            let rate = if epoch < self.slower_from { self.rate } else { self.rate * 0.1 };
            let (mut sum, mut batches) = (0.0, 0.0);
            for from in (0..distances.n()).step_by(self.batch) {
                let to = distances.n().min(from + self.batch);
                let (loss, gradient) = self.loss(distances, &widths, extra, from..to);
                steps += 1;
                let correction = (1.0 - 0.9f64.powi(steps), 1.0 - 0.999f64.powi(steps));
                let fitted = if extra.is_some() { widths.len() } else { widths.len() - 1 };
                for j in 0..fitted {
                    first[j] = 0.9 * first[j] + 0.1 * gradient[j];
                    second[j] = 0.999 * second[j] + 0.001 * gradient[j] * gradient[j];
                    let size = (second[j] / correction.1).sqrt() + 1e-8;
                    widths[j] -= rate * (first[j] / correction.0) / size;
                    if j + 1 < widths.len() {
                        widths[j] = widths[j].clamp(self.clamp.0, self.clamp.1);
                    }
                }
                sum += loss;
                batches += 1.0;
            }
            let newest = sum / batches;
            losses.push(newest);
            if let Some(within) = self.stop_within
                && epoch > 5
                && losses[losses.len() - 5..].iter().all(|loss| (newest - loss).abs() < within)
            {
                break;
            }
        }
        widths.pop();
        widths
    }

    /// Mean negative log-likelihood of some points, and its gradient.
    fn loss(
        &self,
        distances: &SquaredDistances,
        widths: &[f64],
        extra: Option<&SquaredDistances>,
        points: std::ops::Range<usize>,
    ) -> (f64, Vec<f64>) {
        let (half, m) = (distances.dim as f64 / 2.0, distances.centres);
        let weight = (m as f64).ln();
        let precisions: Vec<f64> = widths.iter().map(|s| 0.5 * (-s).exp()).collect();
        let starts: Vec<usize> = points.clone().step_by(CHUNK).collect();
        let chunk = |&from: &usize| {
            let (mut loss, mut gradient) = (0.0, vec![0.0; m + 1]);
            let mut terms = vec![0.0; m + 1];
            for i in from..points.end.min(from + CHUNK) {
                let row = &distances.values[i * m..(i + 1) * m];
                for j in 0..m {
                    terms[j] = -f64::from(row[j]) * precisions[j] - half * widths[j] - weight;
                }
                let far = extra.map(|extra| f64::from(extra.values[i]));
                terms[m] = far.map_or(f64::NEG_INFINITY, |d| -d * precisions[m] - half * widths[m]);
                let most = terms.iter().fold(f64::NEG_INFINITY, |most, &t| most.max(t));
                let mut sum = 0.0;
                for term in &mut terms {
                    *term = (*term - most).exp();
                    sum += *term;
                }
                loss -= most + sum.ln();
                for j in 0..m {
                    gradient[j] -= terms[j] / sum * (f64::from(row[j]) * precisions[j] - half);
                }
                if let Some(d) = far {
                    gradient[m] -= terms[m] / sum * (d * precisions[m] - half);
                }
            }
            (loss, gradient)
        };
        let parts: Vec<(f64, Vec<f64>)> = starts.par_iter().map(chunk).collect();
        let (mut loss, mut gradient) = (0.0, vec![0.0; m + 1]);
        for (part, gradient_part) in parts {
            loss += part;
            gradient.iter_mut().zip(gradient_part).for_each(|(sum, v)| *sum += v);
        }
        let divisor = points.len() as f64 * self.divisor;
        gradient.iter_mut().for_each(|v| *v /= divisor);
        (loss / divisor, gradient)
    }
}
