//! Fréchet distance, and its extrapolation to infinitely many images.

use serde::Serialize;

use super::row_order::rows_in_order;
use super::{Features, Gaussian, Moments, row_order};
use crate::linalg::{Factor, factor, products_of_upper_rows, squares_of_rows, symmetric_eigenvalues};
use crate::stats::{counter_rng, mark_random_subset};
use crate::{Error, ErrorKind, Result};

/// Squared Fréchet distance between the normal distributions fitted to two sets:
/// ‖μ₁ − μ₂‖² + tr Σ₁ + tr Σ₂ − 2·tr √(Σ₁Σ₂).
///
/// `value` is in [0, ∞), in squared feature units; **lower = closer**, and symmetric in the two sets. Biased upward
/// at small n, by an amount that depends on the model ([`frechet_distance_infinity`]). It is 0 exactly where the
/// moments are equal bit by bit. Otherwise it carries a rounding of 10⁻¹⁵·(tr Σ₁ + tr Σ₂), which grows to
/// 10⁻⁸·√(λ₁·λ₂) a dimension, λᵢ being the largest eigenvalues, where the smallest fall to nothing.
///
/// # Source
/// Heusel et al. 2017, arXiv:1706.08500; Dowson and Landau 1982, "The Fréchet distance between multivariate normal
/// distributions". The distance called FID is this one on Inception-v3 pool3 features.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FrechetDistance {
    /// The distance; a rounding below 0 is given as 0.
    pub value: f64,
    /// The sum of the terms as it came out: differs from `value` only where that was raised to 0.
    pub unclamped: f64,
    /// ‖μ₁ − μ₂‖², the part of the means.
    pub mean_term: f64,
    /// tr Σ₁, of the reference.
    pub trace_reference: f64,
    /// tr Σ₂, of the generated set.
    pub trace_generated: f64,
    /// tr √(Σ₁Σ₂), at most the mean of the two traces.
    pub trace_root: f64,
    /// Rank of Σ₁; below D where N ≤ D or features depend on one another, and the distance is then less robust.
    pub rank_reference: usize,
    /// Rank of Σ₂.
    pub rank_generated: usize,
    /// D: length of a feature.
    pub dim: usize,
    /// Reference images, where known.
    pub n_reference: Option<u64>,
    /// Generated images, where known.
    pub n_generated: Option<u64>,
}

/// A set as the distance needs it: mean, trace, and R with RᵀR = Σ. Keeping it saves half the work when many sets
/// are compared with one.
#[derive(Debug)]
pub struct FactoredGaussian {
    mean: Vec<f64>,
    trace: f64,
    factor: Factor,
    n: Option<u64>,
}

impl FactoredGaussian {
    /// Factors the covariance, O(D³).
    pub fn new(gaussian: &Gaussian) -> Self {
        let dim = gaussian.dim();
        let mut factor = factor(gaussian.covariance().to_vec(), dim);
        // N images span at most N − 1 directions about their mean: what lies beyond is rounding.
        if let Some(most) = gaussian.n().and_then(|n| usize::try_from(n.saturating_sub(1)).ok()) {
            factor.rank = factor.rank.min(most);
            factor.rows.truncate(factor.rank * dim);
        }
        FactoredGaussian { mean: gaussian.mean().to_vec(), trace: gaussian.trace(), factor, n: gaussian.n() }
    }

    /// Length of a feature.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }
}

/// Fréchet distance of `generated` from `reference`, in the symmetric form: with Rᵢᵀ·Rᵢ = Σᵢ,
/// tr √(Σ₁Σ₂) is the sum of the square roots of the eigenvalues of (R₁R₂ᵀ)(R₁R₂ᵀ)ᵀ, which are real and not negative
/// but for rounding. No complex number occurs, and no ε·I is added to a singular covariance.
///
/// O(D³); the same bits for any thread count.
///
/// # Errors
/// `DimensionMismatch` if D differs; `Unsupported` if a term is beyond the range of f64.
pub fn frechet_distance(reference: &Gaussian, generated: &Gaussian) -> Result<FrechetDistance> {
    same_dim(reference.dim(), generated.dim())?;
    frechet_distance_factored(&FactoredGaussian::new(reference), &FactoredGaussian::new(generated))
}

/// [`frechet_distance`] of sets already factored.
///
/// # Errors
/// As [`frechet_distance`].
pub fn frechet_distance_factored(
    reference: &FactoredGaussian,
    generated: &FactoredGaussian,
) -> Result<FrechetDistance> {
    same_dim(reference.dim(), generated.dim())?;
    let (a, b) = (&reference.factor, &generated.factor);
    let root = if reference.trace == generated.trace && a.rows == b.rows {
        reference.trace
    } else {
        let (small, large) = if a.rank <= b.rank { (a, b) } else { (b, a) };
        trace_root(small, large, reference.dim())
    };
    let mean_term: f64 = reference.mean.iter().zip(&generated.mean).map(|(a, b)| (a - b).powi(2)).sum();
    let unclamped = mean_term + ((reference.trace - root) + (generated.trace - root));
    if !unclamped.is_finite() {
        return Err(Error::new(ErrorKind::Unsupported, "features", "too large for a Fréchet distance")
            .expected("a finite sum of squares", unclamped));
    }
    Ok(FrechetDistance {
        value: unclamped.max(0.0),
        unclamped,
        mean_term,
        trace_reference: reference.trace,
        trace_generated: generated.trace,
        trace_root: root,
        rank_reference: a.rank,
        rank_generated: b.rank,
        dim: reference.dim(),
        n_reference: reference.n,
        n_generated: generated.n,
    })
}

/// tr √(Σ₁Σ₂) from factors, the first of which has no higher rank.
fn trace_root(small: &Factor, large: &Factor, dim: usize) -> f64 {
    if small.rank == 0 {
        return 0.0;
    }
    let products = products_of_upper_rows(&small.in_order(&small.order), &large.in_order(&small.order), dim);
    let values = symmetric_eigenvalues(squares_of_rows(&products, large.rank), small.rank);
    // Rising, so that the small ones are not lost beside the large ones.
    values.iter().map(|v| v.max(0.0).sqrt()).sum()
}

fn same_dim(reference: usize, generated: usize) -> Result<()> {
    if reference == generated {
        return Ok(());
    }
    Err(Error::new(ErrorKind::DimensionMismatch, "generated", "features of another length")
        .expected(format!("D = {reference} as in the reference"), generated)
        .remedy("Read both sets through the same backbone and layer."))
}

/// How the distance is extrapolated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InfinityOptions {
    /// Number of sizes, from the smallest to N, evenly spaced.
    pub sizes: usize,
    /// Seed of the subsets.
    pub seed: u64,
}

impl Default for InfinityOptions {
    /// 15 sizes, as the authors' code has them, and seed 0.
    fn default() -> Self {
        InfinityOptions { sizes: 15, seed: 0 }
    }
}

/// Fréchet distance extrapolated to infinitely many generated images: the intercept of the least-squares line through
/// the distances of subsets of several sizes n, over 1/n.
///
/// `value` is in squared feature units; **lower = closer**. It takes off the part of the bias that comes from the
/// number of generated images; not that of the reference's. May be below 0, and is then not raised: it is an
/// extrapolation.
///
/// # Source
/// Chong and Forsyth 2020, arXiv:1911.07023; sizes as dgm-eval@74c79f7 has them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FrechetInfinity {
    /// The intercept.
    pub value: f64,
    /// The line's slope: what a distance gains when 1/n does.
    pub slope: f64,
    /// Size of every subset, and its distance.
    pub points: Vec<(usize, f64)>,
    /// Generated images.
    pub n: usize,
    /// Seed of the subsets.
    pub seed: u64,
}

/// [`FrechetInfinity`] of `generated` from `reference`. Subsets run from min(5000, max(⌊N/10⌋, 2)) to N images, drawn
/// without replacement, each by `counter_rng(seed, "set_metric/frechet-infinity", index as 8 little-endian bytes)` from
/// the rows in [`row_order`]: the result has the same bits for any thread count and any order of images. dgm-eval
/// draws them unseeded: its number can be met only in distribution.
///
/// # Errors
/// As [`frechet_distance`]; `TooFewImages` for fewer than three generated images; `InvalidOption` for fewer than two
/// sizes.
pub fn frechet_distance_infinity(
    reference: &FactoredGaussian,
    generated: Features,
    options: &InfinityOptions,
) -> Result<FrechetInfinity> {
    same_dim(reference.dim(), generated.dim())?;
    let n = generated.n();
    if n < 3 {
        return Err(Error::new(ErrorKind::TooFewImages, "generated", "too few images to extrapolate from")
            .expected("at least 3", n));
    }
    if options.sizes < 2 {
        return Err(Error::new(
            ErrorKind::InvalidOption,
            "sizes",
            "no line goes through fewer than two points",
        )
        .expected("at least 2", options.sizes));
    }
    let rows = rows_in_order(generated, &row_order(generated));
    let smallest = (n / 10).clamp(2, 5000);
    let mut points = Vec::with_capacity(options.sizes);
    let mut marks = vec![false; n];
    for index in 0..options.sizes {
        let size = smallest + (n - smallest) * index / (options.sizes - 1);
        let key = (index as u64).to_le_bytes();
        let mut rng = counter_rng(options.seed, "set_metric/frechet-infinity", &key);
        mark_random_subset(&mut rng, &mut marks, size);
        let weights: Vec<u32> = marks.iter().map(|&m| u32::from(m)).collect();
        let subset = Moments::weighted(Features::new("generated", &rows, generated.dim())?, &weights)?;
        let factored = FactoredGaussian::new(&subset.gaussian(1)?);
        points.push((size, frechet_distance_factored(reference, &factored)?.value));
    }
    let (value, slope) = line(&points);
    Ok(FrechetInfinity { value, slope, points, n, seed: options.seed })
}

/// Intercept and slope of the least-squares line through the values over 1/n.
fn line(points: &[(usize, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    let x = |n: usize| 1.0 / n as f64;
    let mean_x = points.iter().map(|p| x(p.0)).sum::<f64>() / count;
    let mean_y = points.iter().map(|p| p.1).sum::<f64>() / count;
    let along: f64 = points.iter().map(|p| (x(p.0) - mean_x) * (p.1 - mean_y)).sum();
    let spread: f64 = points.iter().map(|p| (x(p.0) - mean_x).powi(2)).sum();
    let slope = along / spread;
    (mean_y - slope * mean_x, slope)
}

#[cfg(test)]
#[path = "frechet_tests.rs"]
mod tests;
