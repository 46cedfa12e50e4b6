//! Tail probabilities, and which tail is meant.

use std::f64::consts::LN_10;

use serde::Serialize;

/// Which differences speak against the null hypothesis, of a statistic of `(x, y)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Alternative {
    /// x tends to be smaller than y.
    Less,
    /// x tends to be larger than y.
    Greater,
    /// Either.
    TwoSided,
}

/// A p-value that stays comparable where it is too small for an `f64`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PValue {
    /// In [0, 1]; small = evidence against the null hypothesis. 0 below the smallest `f64`.
    pub p: f64,
    /// log₁₀ of it, ≤ 0, which does not underflow; `None` only where p is exactly 0.
    pub log10_p: Option<f64>,
}

impl PValue {
    /// From the natural logarithm of a probability; what rounding lifts above 0 is cut.
    pub(super) fn from_ln(ln_p: f64) -> Self {
        let ln_p = ln_p.min(0.0);
        PValue { p: ln_p.exp(), log10_p: Some(ln_p / LN_10).filter(|l| l.is_finite()) }
    }

    /// Twice the smaller tail, at most 1.
    pub(super) fn twice_ln(ln_tail: f64) -> Self {
        PValue::from_ln(ln_tail + std::f64::consts::LN_2)
    }
}
