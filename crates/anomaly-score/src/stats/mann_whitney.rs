//! Mann–Whitney U test.

use serde::Serialize;

use super::normal::ln_normal_sf;
use super::{Alternative, PValue};
use crate::{Error, ErrorKind, Result};

/// Up to this size of the smaller sample, without ties, p is exact; as scipy's `method="auto"`.
const EXACT: usize = 8;

/// How a p-value was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RankMethod {
    /// By counting all arrangements.
    Exact,
    /// By the normal limit, with correction for ties and continuity.
    Normal,
}

/// Result of the Mann–Whitney U test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MannWhitney {
    /// Pairs in which the value of x is larger, a tie counting half; in [0, nₓ·nᵧ].
    pub u: f64,
    /// U / (nₓ·nᵧ): probability that a value of x exceeds one of y, ties counting half (area under the ROC curve). In
    /// [0, 1]; ½ = neither tends to be larger.
    pub probability_larger: f64,
    /// Probability of a U at least as extreme if both samples came from one distribution.
    pub p_value: PValue,
    /// How p was found.
    pub method: RankMethod,
}

/// Mann–Whitney U test of whether values of `x` tend to be larger or smaller than those of `y`.
///
/// p is exact for at most 8 values in the smaller sample and no ties; otherwise by the normal limit with correction for
/// ties and continuity. `None` for an empty sample, or where all values are equal. The bits do not depend on the order.
///
/// # Errors
/// `InvalidOption` if a value is NaN.
///
/// # Source
/// Mann and Whitney 1947, Ann. Math. Statist. 18; conventions of `scipy.stats.mannwhitneyu`.
pub fn mann_whitney(x: &[f64], y: &[f64], alternative: Alternative) -> Result<Option<MannWhitney>> {
    check_ordered("x", x)?;
    check_ordered("y", y)?;
    if x.is_empty() || y.is_empty() {
        return Ok(None);
    }
    let mut pooled: Vec<(f64, bool)> =
        x.iter().map(|&v| (v, true)).chain(y.iter().map(|&v| (v, false))).collect();
    pooled.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));

    // Twice U, and Σ(t³ − t) over groups of t equal values.
    let (mut twice_u, mut ties, mut y_below) = (0u128, 0u128, 0u128);
    for group in pooled.chunk_by(|a, b| a.0 == b.0) {
        let of_x = group.iter().filter(|(_, is_x)| *is_x).count() as u128;
        let t = group.len() as u128;
        twice_u += of_x * (2 * y_below + (t - of_x));
        ties += t * t * t - t;
        y_below += t - of_x;
    }
    let (nx, ny) = (x.len(), y.len());
    let pairs = nx as f64 * ny as f64;
    let n = (nx + ny) as f64;
    let u = twice_u as f64 / 2.0;
    // The tail towards which the statistic is taken; by symmetry always the upper one.
    let upper = match alternative {
        Alternative::Greater => u,
        Alternative::Less => pairs - u,
        Alternative::TwoSided => u.max(pairs - u),
    };

    let exact = if ties == 0 && nx.min(ny) <= EXACT { ln_exact_sf(upper as usize, nx, ny) } else { None };
    let (ln_tail, method) = match exact {
        Some(ln_tail) => (ln_tail, RankMethod::Exact),
        None => {
            let variance = pairs / 12.0 * ((n + 1.0) - ties as f64 / (n * (n - 1.0)));
            if variance <= 0.0 {
                return Ok(None);
            }
            (ln_normal_sf((upper - pairs / 2.0 - 0.5) / variance.sqrt()), RankMethod::Normal)
        }
    };
    let p_value = match alternative {
        Alternative::TwoSided => PValue::twice_ln(ln_tail),
        _ => PValue::from_ln(ln_tail),
    };
    Ok(Some(MannWhitney { u, probability_larger: u / pairs, p_value, method }))
}

/// Refuses values that have no place in an order.
pub(super) fn check_ordered(name: &str, values: &[f64]) -> Result<()> {
    match values.iter().position(|v| v.is_nan()) {
        None => Ok(()),
        Some(i) => Err(Error::new(ErrorKind::InvalidOption, name, format!("value {i} cannot be ranked"))
            .expected("a number", f64::NAN)
            .remedy("Leave undefined values out and report how many there were.")),
    }
}

/// ln P(U ≥ u) over all arrangements of m and n distinct values; `None` where their number leaves an `i128`.
///
/// The arrangements with each U are the coefficients of the Gaussian binomial Π (1 − q^(n+i))/(1 − q^i), i = 1..m,
/// formed factor by factor in integers.
fn ln_exact_sf(u: usize, m: usize, n: usize) -> Option<f64> {
    let (m, n) = (m.min(n), m.max(n));
    let mut total = 1i128;
    for i in 1..=m as i128 {
        // A product of i consecutive integers is divisible by i!, so every step is whole. Eight times the last is
        // kept free for it.
        total = total.checked_mul(n as i128 + i)? / i;
    }
    total.checked_mul(8)?;

    // U is symmetric about mn/2: P(U ≥ u) = P(U ≤ mn − u).
    let top = m * n - u;
    let mut counts = vec![0i128; top + 1];
    counts[0] = 1;
    for i in 1..=m {
        for k in (n + i..=top).rev() {
            counts[k] -= counts[k - n - i];
        }
        for k in i..=top {
            counts[k] += counts[k - i];
        }
    }
    let tail: i128 = counts.iter().sum();
    // Near 1 the rest is the more precise side.
    Some(if 2 * tail > total {
        (-((total - tail) as f64) / total as f64).ln_1p()
    } else {
        (tail as f64 / total as f64).ln()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_arrangements_of_three_and_two() {
        // Of the ten, U = 6 once, 5 once, 4 twice.
        let found = mann_whitney(&[3.0, 4.0, 5.0], &[1.0, 2.0], Alternative::Greater).unwrap().unwrap();
        assert_eq!((found.u, found.probability_larger, found.method), (6.0, 1.0, RankMethod::Exact));
        assert!((found.p_value.p - 0.1).abs() < 1e-15);
        let found = mann_whitney(&[2.5, 4.0, 5.0], &[1.0, 3.0], Alternative::Greater).unwrap().unwrap();
        assert!(found.u == 5.0 && (found.p_value.p - 0.2).abs() < 1e-15, "{found:?}");
        let found = mann_whitney(&[1.0, 2.0], &[3.0, 4.0, 5.0], Alternative::TwoSided).unwrap().unwrap();
        assert!(found.u == 0.0 && (found.p_value.p - 0.2).abs() < 1e-15, "{found:?}");
    }

    #[test]
    fn undefined_is_none_and_nan_is_refused() {
        assert_eq!(mann_whitney(&[], &[1.0], Alternative::Less).unwrap(), None);
        assert_eq!(mann_whitney(&[2.0; 9], &[2.0; 12], Alternative::Less).unwrap(), None);
        let error = mann_whitney(&[1.0], &[2.0, f64::NAN], Alternative::Less).unwrap_err();
        assert!(error.to_string().starts_with("y: value 1 cannot be ranked; expected a number, found NaN"));
    }

    /// 3,000 above 3,000: the p-value of z ≈ 67 has no `f64`, its logarithm has.
    #[test]
    fn the_tail_does_not_underflow() {
        let x: Vec<f64> = (3000..6000).map(f64::from).collect();
        let y: Vec<f64> = (0..3000).map(f64::from).collect();
        let found = mann_whitney(&x, &y, Alternative::Greater).unwrap().unwrap();
        let z = (4.5e6 - 0.5) / (9e6f64 * 6001.0 / 12.0).sqrt();
        assert_eq!(found.p_value.p, 0.0);
        let log10_p = found.p_value.log10_p.unwrap();
        // The leading terms of the tail; what is left out is 1/z² of it.
        let leading =
            (-z * z / 2.0 - (z * (2.0 * std::f64::consts::PI).sqrt()).ln()) / std::f64::consts::LN_10;
        assert!((log10_p - leading).abs() < 1e-3, "{log10_p} {leading}");
    }

    #[test]
    fn nine_zeros_of_either_sign_are_ties() {
        let found = mann_whitney(&[0.0, 1.0], &[-0.0, -1.0], Alternative::Greater).unwrap().unwrap();
        assert_eq!((found.u, found.method), (3.5, RankMethod::Normal));
    }
}
