//! Mean and covariance of features.

use super::{Features, Gaussian, row_order};
use crate::linalg::add_gram;
use crate::{Error, ErrorKind, Result};

/// Rows whose products are added at once.
const BLOCK: usize = 256;

/// Sums from which mean and covariance of any number of features follow, taken in one pass, in f64.
///
/// Memory: 8·D² bytes and 256 rows, whatever N. The same rows in the same order give the same bits for any thread
/// count and for any cut of the stream into pieces. Sums are formed about a row close to the mean, so that features
/// far from 0 lose no digits; a constant feature has a variance of exactly 0.
#[derive(Clone, Debug)]
pub struct Moments {
    dim: usize,
    n: u64,
    /// A row near the mean, taken off every row; representable in f32, so that what is constant becomes 0. Empty
    /// until the first block is full.
    shift: Vec<f64>,
    /// Σ w·(x − shift).
    sum: Vec<f64>,
    /// Σ w·(x − shift)·(x − shift)ᵀ, lower triangle.
    products: Vec<f64>,
    /// Rows still to be added, and the weight of each.
    pending: Vec<f32>,
    weights: Vec<u32>,
}

impl Moments {
    /// Moments of no features yet, each of which will have length `dim`.
    pub fn new(dim: usize) -> Self {
        Moments {
            dim,
            n: 0,
            shift: vec![],
            sum: vec![0.0; dim],
            products: vec![0.0; dim * dim],
            pending: Vec::with_capacity(BLOCK * dim),
            weights: Vec::with_capacity(BLOCK),
        }
    }

    /// Moments of a set held in memory, taken along [`row_order`]: the same bits in whatever order the images come.
    pub fn of(features: Features) -> Self {
        let mut moments = Self::new(features.dim());
        for i in row_order(features) {
            moments.push_weighted(features.row(i), 1);
        }
        moments.flush();
        moments
    }

    /// Moments of a set in which image i occurs `weights[i]` times: a bootstrap sample, or all but one image. Costs
    /// what its distinct images cost (63 % of a bootstrap sample); nothing is copied. Taken in the order of the rows:
    /// lay them along [`row_order`] before weights are drawn.
    ///
    /// # Errors
    /// `InvalidOption` if there are not as many weights as images.
    pub fn weighted(features: Features, weights: &[u32]) -> Result<Self> {
        if weights.len() != features.n() {
            return Err(Error::new(ErrorKind::InvalidOption, "weights", "not one an image")
                .expected(features.n(), weights.len()));
        }
        let mut moments = Self::new(features.dim());
        for (row, &weight) in features.rows().zip(weights) {
            moments.push_weighted(row, weight);
        }
        moments.flush();
        Ok(moments)
    }

    /// Adds features, in the order of a stream.
    ///
    /// # Errors
    /// `DimensionMismatch` if their length is not that of the others.
    pub fn push(&mut self, features: Features) -> Result<()> {
        if features.dim() != self.dim {
            return Err(other_length(self.dim, features.dim()));
        }
        features.rows().for_each(|row| self.push_weighted(row, 1));
        Ok(())
    }

    fn push_weighted(&mut self, row: &[f32], weight: u32) {
        if weight > 0 {
            self.pending.extend_from_slice(row);
            self.weights.push(weight);
            if self.weights.len() == BLOCK {
                self.flush();
            }
        }
    }

    /// Adds the rows that wait.
    fn flush(&mut self) {
        if self.weights.is_empty() {
            return;
        }
        if self.shift.is_empty() {
            self.shift = mean_row(&self.pending, self.dim);
        }
        let mut centred: Vec<f64> = Vec::with_capacity(self.pending.len());
        for (row, &weight) in self.pending.chunks_exact(self.dim).zip(&self.weights) {
            let (weight, root) = (f64::from(weight), f64::from(weight).sqrt());
            for ((&x, &shift), sum) in row.iter().zip(&self.shift).zip(&mut self.sum) {
                let off = f64::from(x) - shift;
                *sum += weight * off;
                centred.push(root * off);
            }
            self.n += weight as u64;
        }
        add_gram(&centred, self.dim, &mut self.products);
        self.pending.clear();
        self.weights.clear();
    }

    /// Adds the moments of other features, such as those of another part of the set. The last bits depend on the
    /// order in which parts are merged.
    ///
    /// # Errors
    /// `DimensionMismatch` if their length is another.
    pub fn merge(&mut self, other: &Moments) -> Result<()> {
        if other.dim != self.dim {
            return Err(other_length(self.dim, other.dim));
        }
        let mut other = other.clone();
        other.flush();
        self.flush();
        if other.n == 0 {
            return Ok(());
        }
        if self.n == 0 {
            *self = other;
            return Ok(());
        }
        // Σ (y + s)(y + s)ᵀ with s = other's shift − ours.
        let n = other.n as f64;
        let step: Vec<f64> = other.shift.iter().zip(&self.shift).map(|(b, a)| b - a).collect();
        for i in 0..self.dim {
            for j in 0..=i {
                self.products[i * self.dim + j] += other.products[i * self.dim + j]
                    + other.sum[i] * step[j]
                    + step[i] * other.sum[j]
                    + n * step[i] * step[j];
            }
        }
        for ((sum, other), step) in self.sum.iter_mut().zip(&other.sum).zip(&step) {
            *sum += other + n * step;
        }
        self.n += other.n;
        Ok(())
    }

    /// N: number of features added, counted with their weights.
    pub fn n(&self) -> u64 {
        self.n + self.weights.iter().map(|&w| u64::from(w)).sum::<u64>()
    }

    /// Mean and covariance; the latter divides by N − `ddof`, 1 in every published tool.
    ///
    /// # Errors
    /// `TooFewImages` if N ≤ `ddof` or N is 0.
    pub fn gaussian(&self, ddof: u32) -> Result<Gaussian> {
        if !self.weights.is_empty() {
            let mut whole = self.clone();
            whole.flush();
            return whole.gaussian(ddof);
        }
        if self.n <= u64::from(ddof) {
            return Err(Error::new(ErrorKind::TooFewImages, "features", "too few for a covariance")
                .expected(format!("at least {}", u64::from(ddof) + 1), self.n));
        }
        let (n, dim) = (self.n as f64, self.dim);
        let divisor = (self.n - u64::from(ddof)) as f64;
        let mean = self.sum.iter().zip(&self.shift).map(|(sum, shift)| shift + sum / n).collect();
        let mut covariance = vec![0.0; dim * dim];
        for i in 0..dim {
            for j in 0..=i {
                let value = (self.products[i * dim + j] - self.sum[i] * self.sum[j] / n) / divisor;
                covariance[i * dim + j] = value;
                covariance[j * dim + i] = value;
            }
            // What is left of a difference of equal sums may be a rounding below 0.
            covariance[i * dim + i] = covariance[i * dim + i].max(0.0);
        }
        Gaussian::new("features", mean, covariance, Some(self.n))
    }
}

/// The mean of some rows, rounded to f32.
fn mean_row(rows: &[f32], dim: usize) -> Vec<f64> {
    let mut mean = vec![0.0; dim];
    for row in rows.chunks_exact(dim) {
        mean.iter_mut().zip(row).for_each(|(m, &x)| *m += f64::from(x));
    }
    let n = (rows.len() / dim) as f64;
    mean.iter().map(|m| f64::from((m / n) as f32)).collect()
}

fn other_length(expected: usize, found: usize) -> Error {
    Error::new(ErrorKind::DimensionMismatch, "features", "of another length than those before")
        .expected(format!("D = {expected}"), found)
}
