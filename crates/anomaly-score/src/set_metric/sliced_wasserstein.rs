//! Distances between the sets' projections onto a line.

use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use serde::Serialize;

use super::row_order::rows_in_order;
use super::{Features, Gaussian, row_order};
use crate::linalg::products_of_rows;
use crate::stats::counter_rng;
use crate::{Error, ErrorKind, Result};

/// Directions whose projections are held at a time.
const DIRECTIONS: usize = 64;
/// Rows that are projected at a time.
const ROWS: usize = 1024;

/// Sliced Wasserstein distance of two sets in the approximation without projections (ASW):
/// √(‖μ₁ − μ₂‖²/D + (√m₁ − √m₂)²), mᵢ = tr Σᵢ/D with the covariance divided by N.
///
/// In feature units, ≥ 0; **lower = closer**, 0 for equal moments; symmetric. It sees means and total variances only.
///
/// `reference` and `generated` are moments with ddof 0 (`Moments::gaussian(0)`), as the definition and dgm-eval have
/// them.
///
/// # Errors
/// `DimensionMismatch` if D differs.
///
/// # Source
/// Nadjahi et al. 2021, arXiv:2106.15427, equation 12; dgm-eval@74c79f7, `metrics/sw.py`.
pub fn sliced_wasserstein(reference: &Gaussian, generated: &Gaussian) -> Result<f64> {
    let dim = reference.dim();
    if dim != generated.dim() {
        return Err(Error::new(ErrorKind::DimensionMismatch, "generated", "features of another length")
            .expected(format!("D = {dim} as in the reference"), generated.dim())
            .remedy("Read both sets through the same backbone and layer."));
    }
    let means: f64 = reference.mean().iter().zip(generated.mean()).map(|(a, b)| (a - b).powi(2)).sum();
    let spread = |set: &Gaussian| (set.trace() / dim as f64).sqrt();
    Ok((means / dim as f64 + (spread(reference) - spread(generated)).powi(2)).sqrt())
}

/// How directions are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MindOptions {
    /// Number of random directions.
    pub directions: usize,
    /// Their seed.
    pub seed: u64,
}

impl Default for MindOptions {
    /// 1000 directions, as torch-fidelity has them, and seed 0.
    fn default() -> Self {
        MindOptions { directions: 1000, seed: 0 }
    }
}

/// Monge Inception Distance (MIND): 3·D times the squared sliced 2-Wasserstein distance, which is the mean over random
/// directions of the squared Wasserstein distance between the sets' projections.
///
/// `value` is in squared feature units, ≥ 0; **lower = closer**, 0 exactly for equal sets; symmetric. Biased upward at
/// small N.
///
/// # Source
/// Berthet et al., arXiv:2605.06797; constants of torch-fidelity@a51aa64, `metric_mind.py`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mind {
    /// The distance.
    pub value: f64,
    /// Standard error of `value` from the choice of directions alone: their deviation (ddof 1) over the root of their
    /// number. `None` for one direction. Not the error from the choice of images.
    pub direction_error: Option<f64>,
    /// Number of directions.
    pub directions: usize,
    /// Seed of the directions.
    pub seed: u64,
    /// Reference images.
    pub n_reference: usize,
    /// Generated images.
    pub n_generated: usize,
}

/// [`Mind`] of `generated` from `reference`. Direction i is `counter_rng(seed, "set_metric/mind", i as 8
/// little-endian bytes)`'s first D standard normals, scaled to length 1. torch-fidelity draws directions, and subsets
/// where N differs, from torch's generator: its number is met but for the choice of directions (`direction_error`
/// says how closely). Where N differs nothing is left out here: the distance between the two quantile functions is
/// exact.
///
/// O(directions·N·(D + ln N)); 8·64 bytes an image beside a copy of the features. The same bits for any thread count
/// and any order of images.
///
/// # Errors
/// `DimensionMismatch` if D differs; `TooFewImages` for an empty set; `InvalidOption` for no direction.
pub fn mind(reference: Features, generated: Features, options: &MindOptions) -> Result<Mind> {
    Features::require_pair(reference, generated, 1)?;
    if options.directions == 0 {
        return Err(Error::new(ErrorKind::InvalidOption, "directions", "no direction shows a distance")
            .expected("at least 1", 0));
    }
    let dim = reference.dim();
    let directions: Vec<f64> = (0..options.directions as u64)
        .into_par_iter()
        .flat_map_iter(|index| {
            let mut rng = counter_rng(options.seed, "set_metric/mind", &index.to_le_bytes());
            let normals: Vec<f64> = (0..dim).map(|_| StandardNormal.sample(&mut rng)).collect();
            let norm = normals.iter().map(|v| v * v).sum::<f64>().sqrt();
            normals.into_iter().map(move |v| v / norm)
        })
        .collect();
    let along = distances_along(&directions, reference, generated);
    let (count, scale) = (along.len() as f64, 3.0 * dim as f64);
    let mean = along.iter().sum::<f64>() / count;
    let squares: f64 = along.iter().map(|v| (v - mean).powi(2)).sum();
    Ok(Mind {
        value: scale * mean,
        direction_error: (along.len() > 1).then(|| scale * (squares / (count - 1.0) / count).sqrt()),
        directions: options.directions,
        seed: options.seed,
        n_reference: reference.n(),
        n_generated: generated.n(),
    })
}

/// Squared Wasserstein distance of the projections onto each of `directions`, K×D.
fn distances_along(directions: &[f64], reference: Features, generated: Features) -> Vec<f64> {
    let dim = reference.dim();
    let [reference, generated] =
        [reference, generated].map(|features| rows_in_order(features, &row_order(features)));
    let mut distances = Vec::with_capacity(directions.len() / dim);
    for directions in directions.chunks(DIRECTIONS * dim) {
        let (a, b) = (projections(directions, &reference, dim), projections(directions, &generated, dim));
        distances.par_extend(a.par_iter().zip(&b).map(|(a, b)| wasserstein2_squared(a, b)));
    }
    distances
}

/// Projections of the rows onto each direction, rising.
fn projections(directions: &[f64], rows: &[f32], dim: usize) -> Vec<Vec<f64>> {
    let mut all = vec![Vec::with_capacity(rows.len() / dim); directions.len() / dim];
    for rows in rows.chunks(ROWS * dim) {
        let rows: Vec<f64> = rows.iter().copied().map(f64::from).collect();
        let products = products_of_rows(directions, &rows, dim);
        for (all, products) in all.iter_mut().zip(products.chunks_exact(rows.len() / dim)) {
            all.extend_from_slice(products);
        }
    }
    all.par_iter_mut().for_each(|all| all.sort_unstable_by(f64::total_cmp));
    all
}

/// ∫ (F⁻¹ − G⁻¹)² over the quantile functions of two rising samples.
fn wasserstein2_squared(a: &[f64], b: &[f64]) -> f64 {
    let (n, m) = (a.len(), b.len());
    let (mut i, mut j, mut at, mut sum) = (0, 0, 0u128, 0.0);
    // In units of 1/(n·m), a's i-th value ends at (i + 1)·m and b's j-th at (j + 1)·n.
    while i < n && j < m {
        let (end_a, end_b) = ((i + 1) as u128 * m as u128, (j + 1) as u128 * n as u128);
        let end = end_a.min(end_b);
        sum += (end - at) as f64 * (a[i] - b[j]).powi(2);
        at = end;
        i += usize::from(end == end_a);
        j += usize::from(end == end_b);
    }
    sum / (n as f64 * m as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::set_metric::Moments;
    use crate::set_metric::fixture::{Matrix, cases, floats};

    fn approximate(reference: &Matrix, generated: &Matrix) -> f64 {
        let gaussian = |m: &Matrix| Moments::of(m.features()).gaussian(0).unwrap();
        sliced_wasserstein(&gaussian(reference), &gaussian(generated)).unwrap()
    }

    fn options(directions: usize) -> MindOptions {
        MindOptions { directions, seed: 5 }
    }

    /// Sums of at most 28 terms.
    #[test]
    fn match_numpy() {
        let cases = cases(include_str!("../../../../fixtures/spectral/sliced.json"));
        assert!(cases.len() >= 4);
        for case in cases {
            let name = case["name"].as_str().unwrap();
            let (reference, generated) = (Matrix::of(&case["reference"]), Matrix::of(&case["generated"]));
            let directions = floats(&case["directions"]);
            let along = distances_along(&directions, reference.features(), generated.features());
            let found = 3.0 * reference.dim as f64 * along.iter().sum::<f64>() / along.len() as f64;
            let expected = case["mind"].as_f64().unwrap();
            assert!((found - expected).abs() < 1e-13 * expected, "MIND of {name}: {found} {expected}");
            let (found, expected) =
                (approximate(&reference, &generated), case["sliced_wasserstein"].as_f64().unwrap());
            assert!((found - expected).abs() < 1e-13 * expected, "ASW of {name}: {found} {expected}");
        }
    }

    /// 3·D·E⟨u, s⟩² = 3·‖s‖² for a shift s: within four standard errors of the directions.
    #[test]
    fn a_shift_costs_three_times_its_square() {
        let values: Vec<f32> = (0..300 * 8).map(|i| ((i * 7919) % 1009) as f32 / 64.0).collect();
        let moved = values.iter().enumerate().map(|(i, v)| v + (i % 8) as f32).collect();
        let (a, b) = (Matrix { values, dim: 8 }, Matrix { values: moved, dim: 8 });
        let found = mind(a.features(), b.features(), &options(500)).unwrap();
        let expected = 3.0 * (0..8).map(|i| f64::from(i).powi(2)).sum::<f64>();
        assert!(
            (found.value - expected).abs() < 4.0 * found.direction_error.unwrap(),
            "{found:?} {expected}"
        );
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let (a, b) = (Matrix { values: vec![1.0; 4], dim: 2 }, Matrix { values: vec![1.0; 3], dim: 3 });
        let kind = |a: &Matrix, b: &Matrix, directions| {
            mind(a.features(), b.features(), &options(directions)).unwrap_err().kind()
        };
        assert_eq!(kind(&a, &b, 3), ErrorKind::DimensionMismatch);
        assert_eq!(kind(&a, &a, 0), ErrorKind::InvalidOption);
        assert_eq!(kind(&a, &Matrix { values: vec![], dim: 2 }, 3), ErrorKind::TooFewImages);
    }

    fn matrix(dim: usize) -> impl Strategy<Value = Matrix> {
        proptest::collection::vec(-64i8..64, dim..=dim * 40).prop_map(move |values| {
            let whole = values.len() / dim * dim;
            Matrix { values: values[..whole].iter().map(|&v| f32::from(v) / 8.0).collect(), dim }
        })
    }

    proptest! {
        #[test]
        fn identity_symmetry_order_and_threads((a, b) in (1usize..7).prop_flat_map(|dim| (matrix(dim), matrix(dim)))) {
            let options = options(70);
            let there = mind(a.features(), b.features(), &options).unwrap();
            prop_assert_eq!(mind(a.features(), a.features(), &options).unwrap().value, 0.0);
            prop_assert_eq!(mind(b.features(), a.features(), &options).unwrap().value, there.value);
            prop_assert_eq!(approximate(&a, &a), 0.0);
            prop_assert_eq!(approximate(&a, &b), approximate(&b, &a));

            let mut rows: Vec<&[f32]> = a.features().rows().collect();
            rows.reverse();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
            let reversed = Matrix::from_rows(&rows);
            prop_assert_eq!(pool.install(|| mind(reversed.features(), b.features(), &options)).unwrap(), there);

            // Every image twice is the same distribution.
            let twice = Matrix::from_rows(&[&a.values[..], &a.values[..]].concat().chunks(a.dim).collect::<Vec<_>>());
            let doubled = mind(twice.features(), b.features(), &options).unwrap().value;
            prop_assert!((doubled - there.value).abs() <= 1e-12 * there.value);
        }
    }
}
