//! Location and spread of one list of numbers.

use serde::Serialize;

use crate::{Error, ErrorKind, Result};

/// Size, mean, spread and median of a list of numbers; undefined values are `None`.
///
/// The values are sorted before anything is summed, so the bits do not depend on their order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Number of values.
    pub n: usize,
    /// Arithmetic mean; `None` for no values.
    pub mean: Option<f64>,
    /// Spread of the values: square root of the sum of squared deviations over n − 1. `None` for fewer than two
    /// values, or where it is beyond the range of `f64`.
    pub std_dev: Option<f64>,
    /// Median, the middle two averaged where n is even; `None` for no values.
    pub median: Option<f64>,
}

impl Summary {
    /// Summary of `values`, in any order.
    ///
    /// # Errors
    /// `InvalidOption` if a value is NaN or infinite: undefined values are to be counted and left out by the caller.
    pub fn of(values: &[f64]) -> Result<Self> {
        if let Some((i, value)) = values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            return Err(Error::new(ErrorKind::InvalidOption, format!("value {i}"), "cannot be summarised")
                .expected("a finite number", value)
                .remedy("Leave undefined values out and report how many there were."));
        }
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let n = sorted.len();
        let median = quantile_of_sorted(&sorted, 0.5);

        let scale = safe_scale(&sorted);
        sorted.iter_mut().for_each(|v| *v *= scale);
        let mean = refined_mean(&sorted);
        Ok(Summary {
            n,
            mean: mean.map(|m| m / scale),
            std_dev: mean
                .and_then(|m| std_dev_about(m, &sorted))
                .map(|s| s / scale)
                .filter(|s| s.is_finite()),
            median,
        })
    }
}

/// The quantile of `values` at probability `p`, by linear interpolation between order statistics: position
/// (n − 1)·p, counted from 0. `None` for no values, a NaN among them, or `p` outside [0, 1].
///
/// # Source
/// Type 7 in Hyndman and Fan 1996, "Sample Quantiles in Statistical Packages"; numpy's and R's default.
pub fn quantile(values: &[f64], p: f64) -> Option<f64> {
    if values.iter().any(|v| v.is_nan()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    quantile_of_sorted(&sorted, p)
}

/// [`quantile`] of values already in ascending order and free of NaN.
pub(super) fn quantile_of_sorted(sorted: &[f64], p: f64) -> Option<f64> {
    if sorted.is_empty() || !(0.0..=1.0).contains(&p) {
        return None;
    }
    let position = (sorted.len() - 1) as f64 * p;
    let below = position.floor() as usize;
    let (low, high) = (sorted[below], sorted[(below + 1).min(sorted.len() - 1)]);
    let along = position - below as f64;
    // Interpolating only between distinct values keeps ties exact and infinite neighbours out of `∞ − ∞`. Starting at
    // the nearer end keeps the result monotone in `p`; halving first keeps the difference in range.
    Some(if low == high || along == 0.0 {
        low
    } else if along < 0.5 {
        low + (high / 2.0 - low / 2.0) * (2.0 * along)
    } else {
        high - (high / 2.0 - low / 2.0) * (2.0 * (1.0 - along))
    })
}

/// A power of two by which `values` can be multiplied, without rounding, so that their sum stays in range: 1 unless
/// some value is near the largest `f64`.
pub(super) fn safe_scale(values: &[f64]) -> f64 {
    let largest = values.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    if largest > 2f64.powi(900) { 2f64.powi(-100) } else { 1.0 }
}

/// Mean of values whose sum is in range. The second pass adds the mean of the deviations from the first, which removes
/// the rounding error of the sum: a constant list has exactly that constant as its mean.
pub(super) fn refined_mean(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    let first = values.iter().sum::<f64>() / n;
    (!values.is_empty()).then(|| first + values.iter().map(|v| v - first).sum::<f64>() / n)
}

/// Spread about `mean` over n − 1. Deviations are scaled by the largest, so that no square leaves the range.
fn std_dev_about(mean: f64, values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let largest = values.iter().fold(0.0, |m: f64, v| m.max((v - mean).abs()));
    if largest == 0.0 {
        return Some(0.0);
    }
    let sum: f64 = values.iter().map(|v| ((v - mean) / largest).powi(2)).sum();
    Some(largest * (sum / (values.len() - 1) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    /// A mean carries the rounding of one division and one addition; a deviation those of n terms; n ≤ 40 here.
    const RELATIVE: f64 = 1e-14;

    fn close(found: f64, expected: f64) -> bool {
        (found - expected).abs() <= RELATIVE * expected.abs()
    }

    #[test]
    fn summaries_match_exact_arithmetic_and_numpy() {
        let fixture: Value =
            serde_json::from_str(include_str!("../../../../fixtures/ks2d/summary.json")).unwrap();
        let cases = fixture["cases"].as_array().unwrap();
        assert!(cases.len() >= 7);
        for case in cases {
            let name = case["name"].as_str().unwrap();
            let values: Vec<f64> =
                case["values"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            let found = Summary::of(&values).unwrap();
            assert_eq!(found.n, values.len());
            assert!(close(found.mean.unwrap(), case["mean"].as_f64().unwrap()), "mean of {name}: {found:?}");
            assert_eq!(found.median, case["median"].as_f64(), "median of {name}");
            match case["std_dev"].as_f64() {
                None => assert_eq!(found.std_dev, None, "{name}"),
                // Around 1e9 a mean is stored to 6e-8 only; the spread, about 1, moves by half the square of that.
                Some(expected) => {
                    assert!(close(found.std_dev.unwrap(), expected), "std_dev of {name}: {found:?}");
                }
            }
            for pair in case["quantiles"].as_array().unwrap() {
                let (p, expected) = (pair[0].as_f64().unwrap(), pair[1].as_f64().unwrap());
                let found = quantile(&values, p).unwrap();
                assert!(close(found, expected), "quantile {p} of {name}: {found} {expected}");
            }
        }
    }

    #[test]
    fn undefined_is_none() {
        let empty = Summary::of(&[]).unwrap();
        assert_eq!(empty, Summary { n: 0, mean: None, std_dev: None, median: None });
        assert_eq!(Summary::of(&[2.5]).unwrap().std_dev, None);
        let json = serde_json::to_string(&Summary::of(&[2.5]).unwrap()).unwrap();
        assert_eq!(json, r#"{"n":1,"mean":2.5,"std_dev":null,"median":2.5}"#);
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[1.0, f64::NAN], 0.5), None);
        assert_eq!(quantile(&[1.0], 1.5), None);
        assert_eq!(quantile(&[1.0], f64::NAN), None);
    }

    #[test]
    fn non_finite_values_are_refused_by_position() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = Summary::of(&[1.0, 2.0, bad]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidOption);
            assert!(error.to_string().starts_with("value 2: cannot be summarised; expected a finite number"));
        }
    }

    #[test]
    fn the_ends_of_the_range_do_not_overflow() {
        let most = f64::MAX;
        let summary = Summary::of(&[most; 5]).unwrap();
        assert_eq!((summary.mean, summary.std_dev, summary.median), (Some(most), Some(0.0), Some(most)));
        // The spread of ±MAX is √2·MAX: beyond f64, so undefined rather than infinite.
        let summary = Summary::of(&[-most, most]).unwrap();
        assert_eq!((summary.mean, summary.std_dev, summary.median), (Some(0.0), None, Some(0.0)));
        let tiny = f64::MIN_POSITIVE;
        let spread = Summary::of(&[0.0, tiny]).unwrap().std_dev.unwrap();
        assert!((spread / tiny - 0.5f64.sqrt()).abs() < 1e-14, "{spread}");
    }

    proptest! {
        #[test]
        fn order_does_not_matter(
            (values, shuffled) in proptest::collection::vec(-1e6..1e6f64, 0..60)
                .prop_flat_map(|v| (Just(v.clone()), Just(v).prop_shuffle())),
        ) {
            prop_assert_eq!(Summary::of(&values).unwrap(), Summary::of(&shuffled).unwrap());
        }

        #[test]
        fn quantiles_are_monotone_and_bounded(
            values in proptest::collection::vec(-1e3..1e3f64, 1..40), a in 0.0..=1.0f64, b in 0.0..=1.0f64,
        ) {
            let (low, high) = (quantile(&values, a.min(b)).unwrap(), quantile(&values, a.max(b)).unwrap());
            prop_assert!(low <= high);
            prop_assert!(quantile(&values, 0.0).unwrap() <= low && high <= quantile(&values, 1.0).unwrap());
        }

        #[test]
        fn a_constant_list_has_no_spread(value in -1e9..1e9f64, n in 2usize..200) {
            let found = Summary::of(&vec![value; n]).unwrap();
            prop_assert_eq!((found.mean, found.std_dev, found.median), (Some(value), Some(0.0), Some(value)));
        }
    }
}
