//! The normal distribution that stands for a set.

use crate::{Error, ErrorKind, Result};

/// Largest difference between an element of a covariance and its mirror image, relative to the largest element: what
/// files written in float32 show.
const ASYMMETRY: f64 = 1e-5;

/// Mean and covariance of a set's features, from [`Moments`](super::Moments) or from a published file.
#[derive(Clone, Debug, PartialEq)]
pub struct Gaussian {
    mean: Vec<f64>,
    covariance: Vec<f64>,
    n: Option<u64>,
}

impl Gaussian {
    /// `mean`: D. `covariance`: D×D in row order, symmetric. `n`: images it was taken from; `None` where that is not
    /// known, as published files do not say. `name` is what an error calls it.
    ///
    /// A covariance that is symmetric but for rounding is replaced by the mean of itself and its transpose.
    ///
    /// # Errors
    /// `DimensionMismatch` if D is 0 or the covariance is not D×D; `InvalidOption` if a number is NaN or infinite, a
    /// variance negative, or the matrix not symmetric.
    pub fn new(name: &str, mean: Vec<f64>, mut covariance: Vec<f64>, n: Option<u64>) -> Result<Self> {
        let dim = mean.len();
        if dim == 0 || dim.checked_mul(dim) != Some(covariance.len()) {
            return Err(Error::new(ErrorKind::DimensionMismatch, name, "mean and covariance do not fit")
                .expected(format!("D×D numbers beside a mean of D = {dim}, D > 0"), covariance.len()));
        }
        let unusable = |problem: &str| Error::new(ErrorKind::InvalidOption, name, problem);
        if let Some(i) = mean.iter().position(|v| !v.is_finite()) {
            return Err(unusable("the mean is not finite")
                .expected("finite numbers", format!("{} in place {i}", mean[i])));
        }
        if let Some(i) = covariance.iter().position(|v| !v.is_finite()) {
            let (row, column) = (i / dim, i % dim);
            return Err(unusable("the covariance is not finite")
                .expected("finite numbers", format!("{} in row {row}, column {column}", covariance[i])));
        }
        if let Some(i) = (0..dim).find(|i| covariance[i * dim + i] < 0.0) {
            return Err(unusable("a variance is negative")
                .expected("a covariance", format!("{} in row {i}, column {i}", covariance[i * dim + i])));
        }
        let largest = covariance.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        for i in 0..dim {
            for j in 0..i {
                let (a, b) = (covariance[i * dim + j], covariance[j * dim + i]);
                if (a - b).abs() > ASYMMETRY * largest {
                    return Err(unusable("the covariance is not symmetric").expected(
                        "a covariance",
                        format!("{a} in row {i}, column {j}, and {b} in row {j}, column {i}"),
                    ));
                }
                if a != b {
                    let middle = a / 2.0 + b / 2.0;
                    (covariance[i * dim + j], covariance[j * dim + i]) = (middle, middle);
                }
            }
        }
        Ok(Gaussian { mean, covariance, n })
    }

    /// D: length of a feature.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// Number of images it was taken from, where known.
    pub fn n(&self) -> Option<u64> {
        self.n
    }

    /// The mean, D.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The covariance, D×D in row order, exactly symmetric.
    pub fn covariance(&self) -> &[f64] {
        &self.covariance
    }

    /// Sum of the variances.
    pub fn trace(&self) -> f64 {
        (0..self.dim()).map(|i| self.covariance[i * self.dim() + i]).sum()
    }
}
