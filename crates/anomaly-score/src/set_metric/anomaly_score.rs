//! Anomaly score of a set.

use serde::Serialize;

use super::ks2d::PooledSamples;
use crate::{Error, ErrorKind, Result};

/// What one image contributes to the score of its set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Complexity in radians, in [0, π].
    pub complexity: f64,
    /// Vulnerability in feature units, ≥ 0.
    pub vulnerability: f64,
}

/// How the null distribution of the score is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermutationOptions {
    /// Number of random relabellings, at most [`MAX_PERMUTATIONS`](Self::MAX_PERMUTATIONS); 0 for none. The
    /// smallest possible p-value is 1/(permutations + 1).
    pub permutations: u32,
    /// Seed of the relabellings.
    pub seed: u64,
}

impl PermutationOptions {
    /// Largest number of relabellings; their statistics take 16 bytes each.
    pub const MAX_PERMUTATIONS: u32 = 10_000_000;
}

impl Default for PermutationOptions {
    /// 999 relabellings, so that p-values are multiples of 0.001, and seed 0.
    fn default() -> Self {
        PermutationOptions { permutations: 999, seed: 0 }
    }
}

/// Anomaly score (AS) of a generated set: how far its images lie from the reference images in the plane of complexity
/// and vulnerability, as the two-sample, two-dimensional Kolmogorov–Smirnov statistic.
///
/// `value` is in (0, 1]; **lower = closer**, and the score is symmetric in the two sets. It never reaches 0: identical
/// sets of n images give 1/n, and two independent sets of *one* distribution, uncorrelated normal, give on average .436,
/// .220, .145, .077 and .040 at n = 10, 50, 128, 500 and 2000 (docs/ks2d.md). This floor falls with correlation, so
/// `null_mean` estimates it from the very points at hand; a score without its n and its floor says nothing.
///
/// # Source
/// Hwang, Park, Lee, CVPR 2024, arXiv:2312.10634; statistic in [`ks2d`](super::ks2d).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AnomalyScore {
    /// The score, in (0, 1]; lower = closer.
    pub value: f64,
    /// Permutation p-value (b + 1)/(B + 1): b of the B relabellings score no lower than `value`. In (0, 1]; small =
    /// the sets differ. `None` without relabellings.
    pub p_value: Option<f64>,
    /// Large-sample approximation of the p-value, for comparison with published figures; it rejects
    /// more often than its level at most sizes (docs/ks2d.md). `None` where a set's complexities or vulnerabilities are all equal.
    pub p_value_asymptotic: Option<f64>,
    /// Number B of relabellings.
    pub permutations: u32,
    /// Mean score of the relabellings: what sets of these sizes score if they do not differ. `None` without any.
    pub null_mean: Option<f64>,
    /// 95 % quantile of the relabellings' scores, interpolated as in [`quantile`](crate::stats::quantile). `None`
    /// without any.
    pub null_q95: Option<f64>,
    /// Reference images that entered.
    pub n_reference: usize,
    /// Generated images that entered.
    pub n_generated: usize,
}

/// Anomaly score of `generated` against `reference`, in any order and of any sizes ≥ 2.
///
/// Images whose complexity or vulnerability is undefined are not points: the caller counts and reports them. The
/// result has the same bits for any thread count and any order of the points. O(n log n) for each relabelling, on the
/// current rayon pool.
///
/// # Errors
/// `TooFewImages` for fewer than two points in a set; `InvalidOption` for a coordinate that is NaN or infinite, or too
/// many permutations; `Unsupported` for more than 2³⁰ points.
pub fn anomaly_score(
    reference: &[Point],
    generated: &[Point],
    options: &PermutationOptions,
) -> Result<AnomalyScore> {
    if options.permutations > PermutationOptions::MAX_PERMUTATIONS {
        return Err(Error::new(ErrorKind::InvalidOption, "permutations", "too many to keep")
            .expected(format!("at most {}", PermutationOptions::MAX_PERMUTATIONS), options.permutations)
            .remedy("999 give p-values in steps of 0.001."));
    }
    let coordinates =
        |set: &[Point]| -> Vec<[f64; 2]> { set.iter().map(|p| [p.complexity, p.vulnerability]).collect() };
    let pooled = PooledSamples::new(&coordinates(reference), &coordinates(generated))?;
    let null = pooled.permutation_null(options.permutations, options.seed);
    Ok(AnomalyScore {
        value: pooled.statistic(),
        p_value: null.map(|n| n.p_value),
        p_value_asymptotic: pooled.p_value_asymptotic(),
        permutations: options.permutations,
        null_mean: null.map(|n| n.mean),
        null_q95: null.map(|n| n.q95),
        n_reference: reference.len(),
        n_generated: generated.len(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn points(value: &Value) -> Vec<Point> {
        let number = |v: &Value| v.as_f64().unwrap();
        let pair = |p: &Value| Point { complexity: number(&p[0]), vulnerability: number(&p[1]) };
        value.as_array().unwrap().iter().map(pair).collect()
    }

    fn cases() -> Vec<Value> {
        let fixture: Value =
            serde_json::from_str(include_str!("../../../../fixtures/ks2d/permutation.json")).unwrap();
        fixture["cases"].as_array().unwrap().clone()
    }

    fn options(case: &Value) -> PermutationOptions {
        PermutationOptions {
            permutations: case["permutations"].as_u64().unwrap() as u32,
            seed: case["seed"].as_str().unwrap().parse().unwrap(),
        }
    }

    /// The whole test, from hash to p-value, against one written in another language with rational statistics. All
    /// but the interpolated quantile are one rounding of the same fraction.
    #[test]
    fn matches_the_independent_permutation_test() {
        let cases = cases();
        assert!(cases.len() >= 6);
        for case in &cases {
            let name = case["name"].as_str().unwrap();
            let found =
                anomaly_score(&points(&case["reference"]), &points(&case["generated"]), &options(case))
                    .unwrap();
            assert_eq!(Some(found.value), case["value"].as_f64(), "value of {name}");
            assert_eq!(found.p_value, case["p_value"].as_f64(), "p_value of {name}");
            assert_eq!(found.null_mean, case["null_mean"].as_f64(), "null_mean of {name}");
            let q95 = case["null_q95"].as_f64().unwrap();
            assert!((found.null_q95.unwrap() - q95).abs() < 1e-15, "null_q95 of {name}: {found:?}");
        }
    }

    #[test]
    fn thread_count_and_order_change_no_bit() {
        for case in &cases() {
            let (mut reference, generated) = (points(&case["reference"]), points(&case["generated"]));
            let options = PermutationOptions { permutations: 500, seed: 9 };
            let on = |threads: usize, reference: &[Point], generated: &[Point]| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| anomaly_score(reference, generated, &options)).unwrap()
            };
            let one = on(1, &reference, &generated);
            assert_eq!(one, on(2, &reference, &generated));
            reference.rotate_left(1);
            assert_eq!(one, on(5, &reference, &generated));
        }
    }

    #[test]
    fn seeds_matter() {
        let case = &cases()[1];
        let (reference, generated) = (points(&case["reference"]), points(&case["generated"]));
        let means = [0, 1, 2].map(|seed| {
            let options = PermutationOptions { permutations: 99, seed };
            anomaly_score(&reference, &generated, &options).unwrap().null_mean.unwrap()
        });
        assert!(means[0] != means[1] && means[1] != means[2], "{means:?}");
    }

    #[test]
    fn undefined_values_print_as_null() {
        let flat: Vec<Point> =
            (0..4).map(|i| Point { complexity: 0.5, vulnerability: f64::from(i) }).collect();
        let options = PermutationOptions { permutations: 0, seed: 0 };
        let score = anomaly_score(&flat, &flat[..3], &options).unwrap();
        assert_eq!((score.p_value, score.null_mean, score.null_q95), (None, None, None));
        assert_eq!(
            serde_json::to_string(&score).unwrap(),
            format!(
                r#"{{"value":{},"p_value":null,"p_value_asymptotic":null,"permutations":0,"null_mean":null,"null_q95":null,"n_reference":4,"n_generated":3}}"#,
                score.value
            )
        );
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let set = [Point { complexity: 0.1, vulnerability: 1.0 }; 3];
        let options = PermutationOptions { permutations: u32::MAX, seed: 0 };
        let error = anomaly_score(&set, &set, &options).unwrap_err();
        assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidOption, "permutations"));
        assert!(error.to_string().contains("expected at most 10000000, found 4294967295"), "{error}");

        let undefined = [set[0], Point { complexity: f64::NAN, vulnerability: 1.0 }];
        let error = anomaly_score(&set, &undefined, &PermutationOptions::default()).unwrap_err();
        assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidOption, "generated set"));
        assert!(error.to_string().contains("point 1"), "{error}");

        let error = anomaly_score(&set[..1], &set, &PermutationOptions::default()).unwrap_err();
        assert_eq!((error.kind(), error.subject()), (ErrorKind::TooFewImages, "reference set"));
    }
}
