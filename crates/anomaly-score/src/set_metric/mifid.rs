//! Memorisation-informed Fréchet distance.

use rayon::prelude::*;
use serde::Serialize;

use super::row_order::rows_in_order;
use super::{Features, FrechetDistance, row_order};
use crate::linalg::products_of_rows;
use crate::{Error, ErrorKind, Result};

/// Rows whose cosines with as many others are held at a time.
const ROWS: usize = 512;
/// Added to the divisor, so that a set of copies has a score.
const LEAST: f64 = 1e-14;

/// Over which set the smallest distances are averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memorised {
    /// Every generated image's distance to the nearest reference image: how much the model copies. The definition.
    Generated,
    /// Every reference image's distance to the nearest generated image, as torchmetrics takes it.
    Reference,
}

/// How the memorisation distance enters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MifidOptions {
    /// Over which set distances are averaged.
    pub over: Memorised,
    /// A mean distance from here on is no memorisation, and leaves the Fréchet distance as it is. In (0, 1].
    pub threshold: f64,
}

impl Default for MifidOptions {
    /// Over the generated set, with the published threshold of 0.1.
    fn default() -> Self {
        MifidOptions { over: Memorised::Generated, threshold: 0.1 }
    }
}

/// Memorisation-informed Fréchet distance (MiFID): FD/(M + 10⁻¹⁴) where the memorisation distance M is below a
/// threshold, and FD/(1 + 10⁻¹⁴) elsewhere.
///
/// `value` is in [0, ∞), squared feature units; **lower = better**. It jumps where M passes the threshold.
///
/// # Source
/// Bai et al. 2021, "On training sample memorization: lessons from benchmarking generative modeling with a large-scale
/// competition", arXiv:2106.03062; constants of torchmetrics 1.9.0, `image/mifid.py`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mifid {
    /// The penalised distance.
    pub value: f64,
    /// M: mean over images of the smallest 1 − |cosine| to an image of the other set, in [0, 1]; **higher = less is
    /// copied**.
    pub memorisation_distance: f64,
    /// Whether M was below the threshold.
    pub penalised: bool,
    /// Images of both sets whose feature is zeros, which has no direction; they do not enter M.
    pub without_direction: usize,
}

/// [`Mifid`] from the two sets and their Fréchet distance. O(N·M·D) in tiles of 512×512; 16 bytes·N·D beside the
/// features. The same bits for any thread count and any order of images.
///
/// # Errors
/// `DimensionMismatch` if D differs; `TooFewImages` if no feature of a set has a direction; `InvalidOption` for a
/// threshold outside (0, 1].
pub fn mifid(
    distance: &FrechetDistance,
    reference: Features,
    generated: Features,
    options: &MifidOptions,
) -> Result<Mifid> {
    Features::require_pair(reference, generated, 1)?;
    if !(options.threshold > 0.0 && options.threshold <= 1.0) {
        return Err(Error::new(ErrorKind::InvalidOption, "threshold", "not a distance between directions")
            .expected("a number in (0, 1]", options.threshold));
    }
    let dim = reference.dim();
    let (first, second) = (directions("reference", reference)?, directions("generated", generated)?);
    let with_direction = (first.len() + second.len()) / dim;
    let (from, to) = match options.over {
        Memorised::Generated => (&second, &first),
        Memorised::Reference => (&first, &second),
    };
    let smallest: Vec<f64> =
        from.par_chunks(ROWS * dim).flat_map_iter(|rows| smallest_distances(rows, to, dim)).collect();
    let memorisation_distance = smallest.iter().sum::<f64>() / smallest.len() as f64;
    let penalised = memorisation_distance < options.threshold;
    Ok(Mifid {
        value: distance.value / (if penalised { memorisation_distance } else { 1.0 } + LEAST),
        memorisation_distance,
        penalised,
        without_direction: reference.n() + generated.n() - with_direction,
    })
}

/// The features, scaled to length 1, without those that are zeros.
fn directions(name: &str, features: Features) -> Result<Vec<f64>> {
    let rows = rows_in_order(features, &row_order(features));
    let unit: Vec<f64> = rows
        .chunks_exact(features.dim())
        .map(|row| (row, row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt()))
        .filter(|&(_, norm)| norm > 0.0)
        .flat_map(|(row, norm)| row.iter().map(move |&v| f64::from(v) / norm))
        .collect();
    if unit.is_empty() {
        return Err(Error::new(ErrorKind::TooFewImages, name, "no feature has a direction")
            .expected("a number other than 0", "zeros"));
    }
    Ok(unit)
}

/// The smallest 1 − |cosine| of each of `rows` to one of `others`, at least 0.
fn smallest_distances(rows: &[f64], others: &[f64], dim: usize) -> Vec<f64> {
    let mut largest = vec![0.0f64; rows.len() / dim];
    for others in others.chunks(ROWS * dim) {
        let cosines = products_of_rows(rows, others, dim);
        for (largest, cosines) in largest.iter_mut().zip(cosines.chunks_exact(others.len() / dim)) {
            *largest = cosines.iter().fold(*largest, |m, c| m.max(c.abs()));
        }
    }
    largest.iter().map(|cosine| (1.0 - cosine).max(0.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::set_metric::fixture::{Matrix, cases};
    use crate::set_metric::{Moments, frechet_distance};

    fn score(reference: &Matrix, generated: &Matrix, over: Memorised) -> Result<Mifid> {
        let gaussian = |m: &Matrix| Moments::of(m.features()).gaussian(1).unwrap();
        let distance = frechet_distance(&gaussian(reference), &gaussian(generated)).unwrap();
        let options = MifidOptions { over, ..Default::default() };
        mifid(&distance, reference.features(), generated.features(), &options)
    }

    /// Cosines are sums of 6 products, 1e-15; the mean of distances here is above 0.008.
    #[test]
    fn matches_numpy_and_scipy() {
        let cases = cases(include_str!("../../../../fixtures/spectral/mifid.json"));
        assert_eq!(cases.len(), 2);
        for case in &cases {
            let (reference, generated) = (Matrix::of(&case["reference"]), Matrix::of(&case["generated"]));
            for (over, key) in
                [(Memorised::Generated, "over_generated"), (Memorised::Reference, "over_reference")]
            {
                let found = score(&reference, &generated, over).unwrap();
                let number = |name: &str| case[key][name].as_f64().unwrap();
                assert!((found.memorisation_distance - number("distance")).abs() < 1e-14, "{found:?}");
                assert!((found.value - number("value")).abs() < 1e-10 * number("value"), "{found:?}");
                assert_eq!(found.penalised, case["name"] == "near_copies");
                assert_eq!(found.without_direction, 0);
            }
        }
    }

    #[test]
    fn copies_are_penalised_and_zeros_left_out() {
        let reference = Matrix { values: vec![1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 3.0, 1.0], dim: 2 };
        let generated = Matrix { values: vec![2.0, 0.0, 0.0, -9.0], dim: 2 };
        let found = score(&reference, &generated, Memorised::Generated).unwrap();
        assert_eq!((found.memorisation_distance, found.penalised, found.without_direction), (0.0, true, 1));
        assert!(found.value > 1e14, "{found:?}");
        // (3, 1)/√10 is 1 − 3/√10 from the nearest axis; the other two are 0.
        let found = score(&reference, &generated, Memorised::Reference).unwrap();
        let expected = (1.0 - 3.0 / 10f64.sqrt()) / 3.0;
        assert!((found.memorisation_distance - expected).abs() < 1e-15, "{found:?} {expected}");
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let (zeros, ones) =
            (Matrix { values: vec![0.0; 4], dim: 2 }, Matrix { values: vec![1.0; 4], dim: 2 });
        let error = score(&ones, &zeros, Memorised::Generated).unwrap_err();
        assert_eq!((error.kind(), error.subject()), (ErrorKind::TooFewImages, "generated"));
        let distance = frechet_distance(
            &Moments::of(ones.features()).gaussian(1).unwrap(),
            &Moments::of(ones.features()).gaussian(1).unwrap(),
        )
        .unwrap();
        let options = MifidOptions { threshold: 0.0, ..Default::default() };
        let error = mifid(&distance, ones.features(), ones.features(), &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOption);
    }

    #[test]
    fn thread_count_and_order_change_no_bit() {
        let values = |seed: usize| (0..900 * 5).map(|i| ((i * seed) % 1013) as f32 - 500.0).collect();
        let (a, b) = (Matrix { values: values(7919), dim: 5 }, Matrix { values: values(6871), dim: 5 });
        let mut rows: Vec<&[f32]> = b.features().rows().collect();
        rows.reverse();
        let reversed = Matrix::from_rows(&rows);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let one = score(&a, &b, Memorised::Generated).unwrap();
        assert_eq!(pool.install(|| score(&a, &reversed, Memorised::Generated)).unwrap(), one);
    }
}
