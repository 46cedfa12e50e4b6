//! Cliff's delta: by how much one sample exceeds another, free of units.

use serde::Serialize;

use super::mann_whitney::check_ordered;
use super::normal::normal_quantile;
use crate::{Error, ErrorKind, Result};

/// Cliff's delta and its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CliffsDelta {
    /// P(x > y) − P(x < y), in [−1, 1]; 0 = neither tends to be larger.
    pub delta: f64,
    /// Estimated standard error; `None` for fewer than two values in a sample.
    pub std_error: Option<f64>,
    /// Lower end of the interval, ≥ −1; `None` as above.
    pub ci_low: Option<f64>,
    /// Upper end of the interval, ≤ 1; `None` as above.
    pub ci_high: Option<f64>,
}

/// Cliff's delta of `x` over `y`, with its asymmetric interval at `confidence` (such as .95), in O(n log n).
///
/// `None` for an empty sample. The bits do not depend on the order. Where no value of one sample reaches the other,
/// |delta| = 1, no variance can be estimated: the inner end of the interval is then (n − z²)/(n + z²) with n the
/// smaller sample's size, its outer end ±1, and `std_error` is 0.
///
/// # Errors
/// `InvalidOption` if a value is NaN, or `confidence` is not inside (0, 1).
///
/// # Source
/// Cliff 1996, "Answering ordinal questions with ordinal data", eq. for the unbiased variance, never below the least
/// possible (1 − δ²)/(nₓnᵧ − 1); interval of Feng and Cliff 2004, J. Mod. Appl. Stat. Methods 3(2), with normal quantiles.
pub fn cliffs_delta(x: &[f64], y: &[f64], confidence: f64) -> Result<Option<CliffsDelta>> {
    check_ordered("x", x)?;
    check_ordered("y", y)?;
    check_confidence(confidence)?;
    if x.is_empty() || y.is_empty() {
        return Ok(None);
    }
    let [sorted_x, sorted_y] = [x, y].map(|sample| {
        let mut sorted: Vec<f64> = sample.iter().map(|v| v + 0.0).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted
    });
    let (nx, ny) = (x.len() as f64, y.len() as f64);
    // Wins minus losses of every value against the other sample, in integers.
    let wins_x = dominance(&sorted_x, &sorted_y);
    let wins_y = dominance(&sorted_y, &sorted_x);
    let delta = wins_x.iter().map(|w| w.0).sum::<i64>() as f64 / (nx * ny);
    let undefined = CliffsDelta { delta, std_error: None, ci_low: None, ci_high: None };
    if x.len() < 2 || y.len() < 2 {
        return Ok(Some(undefined));
    }

    let z = normal_quantile(0.5 + confidence / 2.0);
    let (variance, ci) = if delta.abs() == 1.0 {
        let n = nx.min(ny);
        let inner = (n - z * z) / (n + z * z);
        (0.0, if delta > 0.0 { (inner, 1.0) } else { (-1.0, -inner) })
    } else {
        let rows: f64 = wins_x.iter().map(|w| (w.0 as f64 / ny - delta).powi(2)).sum();
        let columns: f64 = wins_y.iter().map(|w| (w.0 as f64 / nx + delta).powi(2)).sum();
        let untied = wins_x.iter().map(|w| w.1).sum::<i64>() as f64;
        let cells = untied - nx * ny * delta * delta;
        let unbiased = (ny * ny * rows + nx * nx * columns - cells) / (nx * ny * (nx - 1.0) * (ny - 1.0));
        let variance = unbiased.max((1.0 - delta * delta) / (nx * ny - 1.0));
        let (d2, spread) = (delta * delta, z * z * variance);
        let half = spread.sqrt() * ((1.0 - d2).powi(2) + spread).sqrt();
        let end = |half: f64| ((delta - delta * d2 + half) / (1.0 - d2 + spread)).clamp(-1.0, 1.0);
        (variance, (end(-half), end(half)))
    };
    Ok(Some(CliffsDelta { delta, std_error: Some(variance.sqrt()), ci_low: Some(ci.0), ci_high: Some(ci.1) }))
}

pub(super) fn check_confidence(confidence: f64) -> Result<()> {
    if confidence > 0.0 && confidence < 1.0 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidOption, "confidence", "no interval has this coverage")
        .expected("a number inside (0, 1), such as 0.95", confidence))
}

/// For every value: how many of `others` are below minus how many above, and how many are not equal. Both ascending.
fn dominance(values: &[f64], others: &[f64]) -> Vec<(i64, i64)> {
    let (mut below, mut not_above) = (0, 0);
    let count = |v: &f64| {
        while below < others.len() && others[below] < *v {
            below += 1;
        }
        while not_above < others.len() && others[not_above] <= *v {
            not_above += 1;
        }
        let above = (others.len() - not_above) as i64;
        (below as i64 - above, below as i64 + above)
    };
    values.iter().map(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separated_samples_keep_an_honest_end() {
        let (x, y) = ([5.0, 6.0, 7.0, 8.0], [1.0, 2.0, 3.0]);
        let up = cliffs_delta(&x, &y, 0.95).unwrap().unwrap();
        let down = cliffs_delta(&y, &x, 0.95).unwrap().unwrap();
        assert_eq!((up.delta, up.ci_high), (1.0, Some(1.0)));
        assert_eq!((down.delta, down.ci_low), (-1.0, Some(-1.0)));
        assert_eq!(up.ci_low.unwrap(), -down.ci_high.unwrap());
        assert!(up.ci_low.unwrap() < 0.0, "three values a side cannot exclude 0: {up:?}");
    }

    #[test]
    fn undefined_is_none() {
        assert_eq!(cliffs_delta(&[], &[1.0], 0.95).unwrap(), None);
        let one = cliffs_delta(&[2.0], &[1.0, 3.0, 0.0], 0.95).unwrap().unwrap();
        assert_eq!((one.delta, one.std_error, one.ci_low), (1.0 / 3.0, None, None));
        let error = cliffs_delta(&[1.0], &[1.0], 1.0).unwrap_err();
        assert!(
            error.to_string().contains("expected a number inside (0, 1), such as 0.95, found 1"),
            "{error}"
        );
    }
}
