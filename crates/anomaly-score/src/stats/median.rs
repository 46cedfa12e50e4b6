//! A median and what is known of it.

use serde::Serialize;

use super::quantile;

/// Median of a sample, with an interval from the sample's own order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MedianInterval {
    /// Median; the mean of the middle two of an even number.
    pub median: f64,
    /// Lower end of the interval; `None` where the sample is too small for its coverage.
    pub ci_low: Option<f64>,
    /// Upper end.
    pub ci_high: Option<f64>,
    /// Number of values.
    pub n: usize,
}

/// The median of `values` and the shortest symmetric interval between two of them that covers the population's with a
/// probability of at least `confidence`, whatever the distribution: the l-th smallest and l-th largest value, l − 1 being
/// the most successes that Binomial(n, ½) falls to with probability (1 − `confidence`)/2 at most. For 95 % it takes six values.
/// `None` for no values, or for one that is not finite.
///
/// # Source
/// Conover 1999, Practical Nonparametric Statistics, section 3.2.
pub fn median_interval(values: &[f64], confidence: f64) -> Option<MedianInterval> {
    let median = quantile(values, 0.5)?;
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len();
    let ends = rank(n, (1.0 - confidence) / 2.0).map(|l| (sorted[l - 1], sorted[n - l]));
    Some(MedianInterval { median, ci_low: ends.map(|e| e.0), ci_high: ends.map(|e| e.1), n })
}

/// The largest l with P(Binomial(n, ½) < l) ≤ `tail`; `None` if that is 0.
fn rank(n: usize, tail: f64) -> Option<usize> {
    // Logarithms, since 2⁻ⁿ underflows.
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut below = 0.0;
    for l in 0..n {
        below += log_term.exp();
        if below > tail {
            return (l > 0).then_some(l);
        }
        log_term += ((n - l) as f64 / (l + 1) as f64).ln();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scipy.stats.binom.ppf(.025, n, .5) where its distribution function there exceeds .025, which is the rank.
    #[test]
    fn ranks_are_those_of_the_binomial_distribution() {
        for (n, expected) in [
            (1, None),
            (5, None),
            (6, Some(1)),
            (9, Some(2)),
            (20, Some(6)),
            (25, Some(8)),
            (100, Some(40)),
            (5000, Some(2431)),
        ] {
            assert_eq!(rank(n, 0.025), expected, "{n}");
        }
    }

    #[test]
    fn ends_are_values_of_the_sample() {
        let values: Vec<f64> = (0..20).rev().map(f64::from).collect();
        let found = median_interval(&values, 0.95).unwrap();
        assert_eq!((found.median, found.ci_low, found.ci_high, found.n), (9.5, Some(5.0), Some(14.0), 20));
        let few = median_interval(&values[..5], 0.95).unwrap();
        assert_eq!((few.median, few.ci_low, few.ci_high), (17.0, None, None));
        assert_eq!(median_interval(&[], 0.95), None);
        assert_eq!(median_interval(&[1.0, f64::NAN], 0.95), None);
    }
}
