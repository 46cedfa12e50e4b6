//! The two claims of the method's paper, as tests.

use serde::Serialize;

use crate::Result;
use crate::set_metric::Point;
use crate::stats::{Alternative, RankMethod, cliffs_delta, mann_whitney, welch};

/// Whether generated images have the lower complexity and the higher vulnerability, as the paper says.
///
/// # Source
/// Hwang, Park, Lee 2024, arXiv:2312.10634, section 3.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Claims {
    /// Complexity of generated images is *lower* than of reference images.
    pub complexity: Claim,
    /// Vulnerability of generated images is *higher* than of reference images.
    pub vulnerability: Claim,
}

/// One-sided tests of one claim over the images that entered the score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Claim {
    /// What is claimed of generated images: `less` or `greater` than reference images.
    pub generated: Alternative,
    /// Mann–Whitney p-value of the claim: small = the images bear it out. `None` where all values are equal.
    pub p_value: Option<f64>,
    /// log₁₀ of it, which does not underflow.
    pub log10_p: Option<f64>,
    /// How p was found.
    pub p_method: Option<RankMethod>,
    /// Cliff's δ of generated over reference, in [−1, 1]: P(generated > reference) − P(generated < reference).
    pub cliffs_delta: Option<f64>,
    /// Lower end of its 95 % interval.
    pub ci_low: Option<f64>,
    /// Upper end of it.
    pub ci_high: Option<f64>,
    /// log₁₀ of the p-value of Welch's t test of the means, one-sided as the claim. `None` where neither set varies.
    pub welch_log10_p: Option<f64>,
    /// Reference images.
    pub n_reference: usize,
    /// Generated images.
    pub n_generated: usize,
}

impl Claims {
    pub(super) fn of(reference: &[Point], generated: &[Point]) -> Result<Self> {
        let of = |value: fn(&Point) -> f64, alternative| {
            let values = |set: &[Point]| set.iter().map(value).collect::<Vec<_>>();
            Claim::of(&values(reference), &values(generated), alternative)
        };
        Ok(Claims {
            complexity: of(|p| p.complexity, Alternative::Less)?,
            vulnerability: of(|p| p.vulnerability, Alternative::Greater)?,
        })
    }
}

impl Claim {
    fn of(reference: &[f64], generated: &[f64], alternative: Alternative) -> Result<Self> {
        let ranks = mann_whitney(generated, reference, alternative)?;
        let delta = cliffs_delta(generated, reference, 0.95)?;
        Ok(Claim {
            generated: alternative,
            p_value: ranks.map(|r| r.p_value.p),
            log10_p: ranks.and_then(|r| r.p_value.log10_p),
            p_method: ranks.map(|r| r.method),
            cliffs_delta: delta.map(|d| d.delta),
            ci_low: delta.and_then(|d| d.ci_low),
            ci_high: delta.and_then(|d| d.ci_high),
            welch_log10_p: welch(generated, reference, alternative)?.and_then(|w| w.p_value.log10_p),
            n_reference: reference.len(),
            n_generated: generated.len(),
        })
    }
}
