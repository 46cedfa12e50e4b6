//! Tails and quantiles of Student's t distribution.
//!
//! Written here instead of taken from a library: this one tail is all that is needed, and it must not underflow.

use std::f64::consts::{LN_2, PI};

/// Natural logarithm of the probability that Student's t with `df` degrees of freedom exceeds `t`; ≤ 0, without
/// underflow. `df` > 0, need not be whole. NaN gives NaN.
///
/// Relative error of the probability below 1e-12 up to df = 5,000, growing with df to 1e-11 at 100,000, and 1e-15 of
/// its logarithm.
///
/// # Source
/// P(T > t) = ½·I_x(df/2, ½), x = df/(df + t²) for t ≥ 0; the incomplete beta function by its continued fraction (DLMF
/// 8.17.22) in Lentz's method.
pub fn ln_student_t_sf(t: f64, df: f64) -> f64 {
    if t.is_nan() || df.is_nan() || df <= 0.0 {
        return f64::NAN;
    }
    if t < 0.0 {
        return (-ln_student_t_sf(-t, df).exp()).ln_1p();
    }
    if t == 0.0 {
        return -LN_2;
    }
    let (a, b) = (df / 2.0, 0.5);
    let ratio = t / df.sqrt();
    // ln x and ln(1 − x) without forming a difference; beyond 1e100 the square would leave the range.
    let (ln_x, ln_rest) = if ratio > 1e100 {
        (-2.0 * ratio.ln(), 0.0)
    } else {
        (-(ratio * ratio).ln_1p(), -(1.0 / (ratio * ratio)).ln_1p())
    };
    let ln_front = a * ln_x + b * ln_rest - ln_beta_half(a);
    let x = ln_x.exp();
    // The fraction converges fast on this side of the mode and slowly on the other, where 1 − I_{1−x}(b, a) serves.
    if x < (a + 1.0) / (a + b + 2.0) {
        ln_front - a.ln() + beta_fraction(x, a, b).ln() - LN_2
    } else {
        let inner = (ln_front - b.ln()).exp() * beta_fraction(ln_rest.exp(), b, a);
        (-inner).ln_1p() - LN_2
    }
}

/// The t that is exceeded with probability `tail`, for `tail` in (0, ½]; by bisection, to the last bits.
pub(super) fn student_t_upper_quantile(tail: f64, df: f64) -> f64 {
    let target = tail.ln();
    let (mut low, mut high) = (0.0, 1.0);
    while ln_student_t_sf(high, df) > target && high < 1e300 {
        (low, high) = (high, high * 2.0);
    }
    loop {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            return middle;
        }
        if ln_student_t_sf(middle, df) > target { low = middle } else { high = middle }
    }
}

/// ln B(a, ½). The difference of two large logarithms of Γ would lose digits: from a = 100 on by the series of
/// Γ(a + ½)/Γ(a) (Tricomi and Erdélyi 1951), whose next term is below 1e-14 there.
fn ln_beta_half(a: f64) -> f64 {
    let ln_gamma_half = 0.5 * PI.ln();
    if a < 100.0 {
        return ln_gamma_half + libm::lgamma(a) - libm::lgamma(a + 0.5);
    }
    let h = 1.0 / a;
    let series = -h / 8.0
        + h * h * (1.0 / 128.0 + h * (5.0 / 1024.0 - h * (21.0 / 32768.0 + h * (399.0 / 262_144.0))));
    ln_gamma_half - (0.5 * a.ln() + series.ln_1p())
}

/// The continued fraction of I_x(a, b)·a·B(a, b)/(xᵃ(1 − x)ᵇ), by Lentz's method.
fn beta_fraction(x: f64, a: f64, b: f64) -> f64 {
    // Keeps a vanishing denominator from dividing; far below any term that counts.
    let apart = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
    let (mut c, mut d) = (1.0, 1.0 / apart(1.0 - (a + b) * x / (a + 1.0)));
    let mut value = d;
    // On the fast side about √max(a, b) terms.
    for k in 1..100_000 {
        let m = f64::from(k);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = value;
        for term in [even, odd] {
            d = 1.0 / apart(1.0 + term * d);
            c = apart(1.0 + term / c);
            value *= c * d;
        }
        if (value - before).abs() <= 1e-16 * value.abs() {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Against mpmath. For large df the fraction depends on 1 − x, of which rounding x leaves df·2⁻⁵³ relative; and
    /// a·ln x carries rounding magnified by the logarithm itself.
    #[test]
    fn matches_an_independent_tail() {
        let fixture: Value =
            serde_json::from_str(include_str!("../../../../fixtures/stats/distributions.json")).unwrap();
        let rows = fixture["student_t"].as_array().unwrap();
        assert!(rows.len() > 80);
        for row in rows {
            let [t, df, expected] = [0, 1, 2].map(|i| row[i].as_f64().unwrap());
            let found = ln_student_t_sf(t, df);
            let allowed = 2e-13 + 1e-16 * df + 1e-15 * expected.abs();
            assert!((found - expected).abs() <= allowed, "ln sf({t}, {df}) = {found}, expected {expected}");
        }
    }

    #[test]
    fn ends_and_closed_forms() {
        assert_eq!(ln_student_t_sf(0.0, 3.0), -LN_2);
        assert_eq!(ln_student_t_sf(f64::INFINITY, 3.0), f64::NEG_INFINITY);
        assert_eq!(ln_student_t_sf(f64::NEG_INFINITY, 3.0), 0.0);
        assert!(ln_student_t_sf(1.0, 0.0).is_nan() && ln_student_t_sf(f64::NAN, 1.0).is_nan());
        // One degree of freedom is Cauchy: P(T > t) = ½ − atan(t)/π, at t = 1 a quarter.
        assert!((ln_student_t_sf(1.0, 1.0) - 0.25f64.ln()).abs() < 1e-14);
        // The Cauchy tail is 1/(π·t) far out, beyond where t² fits.
        let far = ln_student_t_sf(1e200, 1.0);
        assert!((far + (PI * 1e200).ln()).abs() < 1e-12 * far.abs(), "{far}");
    }

    #[test]
    fn quantiles_invert_the_tail() {
        // scipy.stats.t.isf(.025, 10) and (.025, 24).
        for (df, expected) in [(10.0, 2.228_138_851_986_273_5), (24.0, 2.063_898_561_628_020_5)] {
            let found = student_t_upper_quantile(0.025, df);
            assert!((found - expected).abs() < 1e-12, "{df}: {found}");
        }
    }
}
