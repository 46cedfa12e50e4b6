//! A number with its uncertainty.

use std::fmt;

use serde::Serialize;

use super::Summary;
use super::cliffs_delta::check_confidence;
use super::student_t::student_t_upper_quantile;
use crate::Result;

/// A statistic, how uncertain it is, and how that was found. What is undefined is `None` and serialises as null; the
/// keys are stable.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The statistic of the data as they are.
    pub value: Option<f64>,
    /// Standard error: the deviation of `value` over repetitions of the whole sampling. Never the spread of
    /// overlapping subsets.
    pub std_error: Option<f64>,
    /// Lower end of the confidence interval.
    pub ci_low: Option<f64>,
    /// Upper end of the confidence interval.
    pub ci_high: Option<f64>,
    /// Rows that entered; of several independent samples all of them together.
    pub n: usize,
    /// How error and interval were found, with everything needed to find them again but the seed.
    pub method: String,
    /// Seed of the random numbers; `None` where there are none.
    pub seed: Option<u64>,
    /// Why something above is undefined; absent from JSON where nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undefined: Option<Undefined>,
}

/// Why an estimate lacks its value, its error or its interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
#[non_exhaustive]
pub enum Undefined {
    /// The statistic has no value for these data.
    Value,
    /// Fewer than two rows in a sample.
    TooFewRows,
    /// The statistic has no value for some resamples.
    Resamples {
        /// How many.
        undefined: u32,
        /// Of how many.
        of: u32,
    },
    /// The statistic has no value once a row, or a group of them, is left out.
    Jackknife,
    /// Every resample gives one value: the data say nothing about its error.
    Constant,
    /// All resamples lie on one side of the value, which leaves the correction for bias infinite.
    Bias,
    /// No row has influence, or a few have so much that the correction for skewness breaks down.
    Acceleration,
}

impl fmt::Display for Undefined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Undefined::Value => write!(f, "the statistic is undefined for these data"),
            Undefined::TooFewRows => write!(f, "fewer than two rows"),
            Undefined::Resamples { undefined, of } => {
                write!(f, "the statistic is undefined for {undefined} of {of} resamples")
            }
            Undefined::Jackknife => write!(f, "the statistic is undefined where a row is left out"),
            Undefined::Constant => write!(f, "every resample gives the same value"),
            Undefined::Bias => write!(f, "all resamples lie on one side of the value"),
            Undefined::Acceleration => write!(f, "the influence of single rows is none or too large"),
        }
    }
}

impl Estimate {
    /// Arithmetic mean of `values` with its standard error s/√n and Student's interval at `confidence`.
    ///
    /// # Errors
    /// `InvalidOption` if a value is NaN or infinite, or `confidence` is not inside (0, 1).
    pub fn of_mean(values: &[f64], confidence: f64) -> Result<Self> {
        check_confidence(confidence)?;
        let summary = Summary::of(values)?;
        let n = summary.n;
        let std_error = summary.std_dev.map(|s| s / (n as f64).sqrt());
        let half = std_error.map(|e| e * student_t_upper_quantile((1.0 - confidence) / 2.0, (n - 1) as f64));
        let end = |sign: f64| Some(summary.mean? + sign * half?);
        Ok(Estimate {
            value: summary.mean,
            std_error,
            ci_low: end(-1.0),
            ci_high: end(1.0),
            n,
            method: format!("mean, Student's {} % interval", percent(confidence)),
            seed: None,
            undefined: match n {
                0 => Some(Undefined::Value),
                1 => Some(Undefined::TooFewRows),
                _ => None,
            },
        })
    }
}

/// A share in percent, without the rounding that multiplying by 100 leaves.
pub(super) fn percent(share: f64) -> f64 {
    (share * 1e8).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_has_students_interval() {
        // Mean 3, s = √2.5, t(.975, 4) = 2.7764451051977987 (scipy).
        let found = Estimate::of_mean(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.95).unwrap();
        let error = (2.5f64 / 5.0).sqrt();
        assert_eq!((found.value, found.n, found.seed), (Some(3.0), 5, None));
        assert!((found.std_error.unwrap() - error).abs() < 1e-15);
        assert!((found.ci_high.unwrap() - 3.0 - 2.776_445_105_197_798_7 * error).abs() < 1e-12);
        assert_eq!(found.method, "mean, Student's 95 % interval");
    }

    /// Readers of reports depend on these keys.
    #[test]
    fn keys_are_stable_and_undefined_is_null() {
        let found = Estimate::of_mean(&[2.5], 0.9).unwrap();
        assert_eq!(
            serde_json::to_string(&found).unwrap(),
            r#"{"value":2.5,"std_error":null,"ci_low":null,"ci_high":null,"n":1,"#.to_owned()
                + r#""method":"mean, Student's 90 % interval","seed":null,"undefined":{"reason":"too_few_rows"}}"#
        );
    }
}
