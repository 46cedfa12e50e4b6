//! Welch's t test.

use serde::Serialize;

use super::student_t::ln_student_t_sf;
use super::{Alternative, PValue, Summary};
use crate::Result;

/// Result of Welch's test of equal means.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Welch {
    /// (x̄ − ȳ) / √(s²ₓ/nₓ + s²ᵧ/nᵧ); positive where x is larger on average.
    pub t: f64,
    /// Degrees of freedom by Welch and Satterthwaite; rarely whole.
    pub df: f64,
    /// Probability of a t at least as extreme if the means were equal.
    pub p_value: PValue,
}

/// Welch's t test that `x` and `y` have one mean, whatever their variances.
///
/// `None` for fewer than two values in a sample, or where neither varies. The bits do not depend on the order.
///
/// # Errors
/// `InvalidOption` if a value is NaN or infinite.
///
/// # Source
/// Welch 1947, Biometrika 34; as `scipy.stats.ttest_ind(equal_var=False)`.
pub fn welch(x: &[f64], y: &[f64], alternative: Alternative) -> Result<Option<Welch>> {
    let samples = [Summary::of(x)?, Summary::of(y)?];
    let moments = samples.map(|s| {
        let (mean, std_dev) = (s.mean?, s.std_dev?);
        Some((mean, std_dev * std_dev / s.n as f64, (s.n - 1) as f64))
    });
    let [Some((mean_x, var_x, df_x)), Some((mean_y, var_y, df_y))] = moments else {
        return Ok(None);
    };
    let variance = var_x + var_y;
    if variance == 0.0 {
        return Ok(None);
    }
    let t = (mean_x - mean_y) / variance.sqrt();
    // Shares instead of fourth powers, which could leave the range.
    let (share_x, share_y) = (var_x / variance, var_y / variance);
    let df = 1.0 / (share_x * share_x / df_x + share_y * share_y / df_y);
    let p_value = match alternative {
        Alternative::Less => PValue::from_ln(ln_student_t_sf(-t, df)),
        Alternative::Greater => PValue::from_ln(ln_student_t_sf(t, df)),
        Alternative::TwoSided => PValue::twice_ln(ln_student_t_sf(t.abs(), df)),
    };
    Ok(Some(Welch { t, df, p_value }))
}
