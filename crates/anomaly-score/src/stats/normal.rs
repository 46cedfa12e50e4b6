//! Tails and quantiles of the standard normal distribution.

use std::f64::consts::{LN_2, PI, SQRT_2};

/// Where the logarithm of the tail goes over to the continued fraction.
const FAR: f64 = 5.0;
/// Levels of the continued fraction: at `FAR` the next one changes less than the last bit.
const LEVELS: u32 = 80;

/// Survival function of the standard normal distribution: probability of exceeding `x`. In [0, 1]; 0 beyond x = 38.5.
/// NaN gives NaN.
pub fn normal_sf(x: f64) -> f64 {
    0.5 * libm::erfc(x / SQRT_2)
}

/// Natural logarithm of [`normal_sf`], ≤ 0, which does not underflow. NaN gives NaN.
///
/// # Source
/// Beyond x = 5 Laplace's continued fraction of Mills' ratio, 1/(x + 1/(x + 2/(x + …))); Abramowitz and Stegun 26.2.14.
pub fn ln_normal_sf(x: f64) -> f64 {
    if x < -1.0 {
        return (-normal_sf(-x)).ln_1p();
    }
    if x < FAR {
        return normal_sf(x).ln();
    }
    if x.is_infinite() {
        return f64::NEG_INFINITY;
    }
    let tail = (1..=LEVELS).rev().fold(x, |below, k| x + f64::from(k) / below);
    -0.5 * x * x - 0.5 * (2.0 * PI).ln() - tail.ln()
}

/// Quantile of the standard normal distribution: the x with a probability `p` of staying below it. −∞ at 0, ∞ at 1;
/// NaN outside [0, 1].
///
/// Newton's method on the logarithm of the tail, which is concave: after the first step the iterates fall towards
/// the solution and cannot leave it. Relative error below 1e-14 against scipy, absolute near p = ½.
pub fn normal_quantile(p: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    if p > 0.5 {
        return upper_quantile(1.0 - p);
    }
    -upper_quantile(p)
}

/// The x ≥ 0 that is exceeded with probability `tail` ≤ ½.
fn upper_quantile(tail: f64) -> f64 {
    if tail == 0.0 {
        return f64::INFINITY;
    }
    let target = tail.ln();
    if target == -LN_2 {
        return 0.0;
    }
    let mut x = 0.0;
    // Seven or eight steps from 0 to the smallest tails; the bound only ends a last-bit oscillation.
    for _ in 0..40 {
        let ln_sf = ln_normal_sf(x);
        let ln_hazard = -0.5 * x * x - 0.5 * (2.0 * PI).ln() - ln_sf;
        let step = (ln_sf - target) / ln_hazard.exp();
        x += step;
        if step.abs() <= 1e-15 * x.abs() {
            break;
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// sf and its logarithm against scipy.special: rounding x²/2 moves a tail by up to x²·2⁻⁵³, 1e-13 at x = 37.
    #[test]
    fn matches_scipy() {
        let fixture: Value =
            serde_json::from_str(include_str!("../../../../fixtures/stats/distributions.json")).unwrap();
        let rows = fixture["normal"].as_array().unwrap();
        assert!(rows.len() > 50);
        for row in rows {
            let [x, sf, ln_sf] = [0, 1, 2].map(|i| row[i].as_f64().unwrap());
            assert!((normal_sf(x) - sf).abs() <= 4e-13 * sf, "sf({x}) = {}, scipy {sf}", normal_sf(x));
            let found = ln_normal_sf(x);
            // Far below 0 the logarithm is as small as the other tail, and as precise.
            let relative = if x < 0.0 { 4e-13 } else { 4e-15 };
            assert!((found - ln_sf).abs() <= relative * ln_sf.abs(), "ln sf({x}) = {found}, scipy {ln_sf}");
        }
        let rows = fixture["normal_quantile"].as_array().unwrap();
        for row in rows {
            let [p, x] = [0, 1].map(|i| row[i].as_f64().unwrap());
            let found = normal_quantile(p);
            assert!((found - x).abs() <= 1e-14 * x.abs().max(0.1), "quantile({p}) = {found}, scipy {x}");
        }
    }

    #[test]
    fn ends() {
        assert_eq!((normal_quantile(0.0), normal_quantile(1.0)), (f64::NEG_INFINITY, f64::INFINITY));
        assert_eq!(normal_quantile(0.5), 0.0);
        assert!(normal_quantile(-0.1).is_nan() && normal_quantile(f64::NAN).is_nan());
        assert_eq!(ln_normal_sf(f64::INFINITY), f64::NEG_INFINITY);
        assert_eq!(ln_normal_sf(f64::NEG_INFINITY), 0.0);
        assert!(ln_normal_sf(f64::NAN).is_nan());
    }
}
