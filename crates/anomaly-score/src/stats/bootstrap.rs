//! Bootstrap intervals of any statistic of rows drawn independently.

use rayon::prelude::*;

use super::cliffs_delta::check_confidence;
use super::estimate::percent;
use super::normal::{normal_quantile, normal_sf};
use super::summary::quantile_of_sorted;
use super::{Estimate, Summary, Undefined, counter_rng, uniform_below};
use crate::{Error, ErrorKind, Result};

const PURPOSE: &str = "stats/bootstrap";
const GROUPS_PURPOSE: &str = "stats/bootstrap/jackknife";
/// Rows of a sample up to which the jackknife leaves out one at a time; beyond, the number of its groups.
const MAX_JACKKNIFE: usize = 1000;

/// How intervals are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BootstrapOptions {
    /// Number of resamples B, at least 2.
    pub resamples: u32,
    /// Coverage of the interval, inside (0, 1).
    pub confidence: f64,
    /// Seed of the resamples.
    pub seed: u64,
}

impl Default for BootstrapOptions {
    /// 9999 resamples, 95 %, seed 0; scipy's numbers.
    fn default() -> Self {
        BootstrapOptions { resamples: 9999, confidence: 0.95, seed: 0 }
    }
}

/// `statistic` of K independent samples with its bootstrap standard error and BCa (bias-corrected and accelerated)
/// interval.
///
/// `sizes`: rows of each sample. `statistic` is given how often each row counts, one list a sample; `None` = undefined.
/// It sees ones for the value itself, draws with replacement (summing to the size) for the resamples, and zeros among
/// ones for the jackknife. What is resampled together is one sample:
/// - one sample: `bootstrap([n], |[w]| …)`;
/// - two unpaired ones: `bootstrap([n_reference, n_generated], |[r, g]| …)`;
/// - rows in pairs: one sample, n the number of pairs;
/// - two models against one reference: `bootstrap([n_reference, n_a, n_b], |[r, a, b]| …)` of a difference, whose
///   terms then share the reference's weights.
///
/// Acceleration comes from the jackknife: leaving out one row at a time for samples of up to 1000 rows, else one of 1000
/// random groups of sizes as equal as they can be; groups keep the skewness of the sum of influences, only noisier.
/// With several samples it is scipy's combination of theirs. Interval ends are quantiles by linear interpolation.
///
/// Resample b draws from `counter_rng(seed, "stats/bootstrap", b)`, sample after sample, so statistics of the same
/// sizes share their resamples, and the bits depend on neither threads nor timing. They do depend on the order of the
/// rows; sort those first where that matters. Calls `statistic` about `resamples` + n times on the current rayon
/// pool; it must be a function of the weights alone.
///
/// Whatever is undefined is `None`, and `undefined` says why. A single undefined resample leaves error and interval
/// undefined, as in scipy: leaving it out would make the interval one of another statistic.
///
/// # Errors
/// `InvalidOption` for fewer than two resamples or a confidence outside (0, 1); `Unsupported` for more than 2³² − 1 rows.
///
/// # Source
/// Efron 1987, "Better bootstrap confidence intervals", JASA 82; conventions of `scipy.stats.bootstrap(method="BCa")`.
pub fn bootstrap<const K: usize>(
    sizes: [usize; K],
    statistic: impl Fn([&[u32]; K]) -> Option<f64> + Sync,
    options: &BootstrapOptions,
) -> Result<Estimate> {
    let BootstrapOptions { resamples, confidence, seed } = *options;
    check_confidence(confidence)?;
    if resamples < 2 {
        return Err(Error::new(ErrorKind::InvalidOption, "resamples", "too few for an interval")
            .expected("at least 2", resamples)
            .remedy("Intervals need thousands."));
    }
    if let Some(n) = sizes.iter().find(|&&n| u32::try_from(n).is_err()) {
        return Err(Error::new(ErrorKind::Unsupported, "bootstrap", "too many rows to resample")
            .expected(format!("at most {}", u32::MAX), n));
    }
    // A statistic that is not finite is as undefined as none.
    let statistic = |weights: &[Vec<u32>; K]| {
        statistic(std::array::from_fn(|k| weights[k].as_slice())).filter(|v| v.is_finite())
    };
    let ones = sizes.map(|n| vec![1u32; n]);
    let jackknife = if sizes.iter().all(|&n| n <= MAX_JACKKNIFE) { "delete-one" } else { "delete-a-group" };
    let mut estimate = Estimate {
        value: statistic(&ones),
        std_error: None,
        ci_low: None,
        ci_high: None,
        n: sizes.iter().sum(),
        method: format!(
            "BCa bootstrap, {resamples} resamples, {} % interval, {jackknife} jackknife",
            percent(confidence)
        ),
        seed: Some(seed),
        undefined: None,
    };
    let result = sampled(&ones, &statistic, options).and_then(|(value, mut values)| {
        values.sort_unstable_by(f64::total_cmp);
        if values.first() == values.last() {
            return Err(Undefined::Constant);
        }
        // All values are finite, so the summary exists.
        estimate.std_error = Summary::of(&values).ok().and_then(|s| s.std_dev);
        let influences = influences(&ones, &statistic, seed)?;
        bca_interval(value, &values, &influences, confidence)
    });
    match result {
        Ok((low, high)) => (estimate.ci_low, estimate.ci_high) = (Some(low), Some(high)),
        Err(reason) => estimate.undefined = Some(reason),
    }
    Ok(estimate)
}

type Outcome<T> = std::result::Result<T, Undefined>;

/// The value and those of all resamples, in their order.
fn sampled<const K: usize>(
    ones: &[Vec<u32>; K],
    statistic: &(impl Fn(&[Vec<u32>; K]) -> Option<f64> + Sync),
    options: &BootstrapOptions,
) -> Outcome<(f64, Vec<f64>)> {
    let value = statistic(ones).ok_or(Undefined::Value)?;
    if ones.iter().any(|sample| sample.len() < 2) {
        return Err(Undefined::TooFewRows);
    }
    let values: Vec<Option<f64>> = (0..options.resamples)
        .into_par_iter()
        .map_init(
            || ones.clone(),
            |weights, b| {
                let mut rng = counter_rng(options.seed, PURPOSE, &u64::from(b).to_le_bytes());
                for sample in weights.iter_mut() {
                    sample.fill(0);
                    let n = sample.len() as u32;
                    for _ in 0..n {
                        sample[uniform_below(&mut rng, n) as usize] += 1;
                    }
                }
                statistic(weights)
            },
        )
        .collect();
    match values.iter().filter(|v| v.is_none()).count() as u32 {
        0 => Ok((value, values.into_iter().flatten().collect())),
        undefined => Err(Undefined::Resamples { undefined, of: options.resamples }),
    }
}

/// Of each sample, what every row or group of rows adds: (G − 1)·(mean of the jackknife − jackknife without it).
fn influences<const K: usize>(
    ones: &[Vec<u32>; K],
    statistic: &(impl Fn(&[Vec<u32>; K]) -> Option<f64> + Sync),
    seed: u64,
) -> Outcome<Vec<Vec<f64>>> {
    (0..K)
        .map(|k| {
            let n = ones[k].len();
            let groups = n.min(MAX_JACKKNIFE);
            let group_of = random_groups(n, groups, seed, k);
            let values: Option<Vec<f64>> = (0..groups)
                .into_par_iter()
                .map_init(
                    || ones.clone(),
                    |weights, g| {
                        let left_out = |&(_, &of): &(usize, &u32)| of as usize == g;
                        group_of.iter().enumerate().filter(left_out).for_each(|(i, _)| weights[k][i] = 0);
                        let value = statistic(weights);
                        weights[k].fill(1);
                        value
                    },
                )
                .collect();
            let values = values.ok_or(Undefined::Jackknife)?;
            let mean = values.iter().sum::<f64>() / groups as f64;
            Ok(values.iter().map(|v| (groups - 1) as f64 * (mean - v)).collect())
        })
        .collect()
}

/// The group of each row: itself where there are as many groups, else dealt out in random order.
fn random_groups(n: usize, groups: usize, seed: u64, sample: usize) -> Vec<u32> {
    let mut group_of: Vec<u32> = (0..n).map(|i| (i % groups) as u32).collect();
    if groups < n {
        let mut rng = counter_rng(seed, GROUPS_PURPOSE, &(sample as u64).to_le_bytes());
        for last in (1..n).rev() {
            group_of.swap(last, uniform_below(&mut rng, last as u32 + 1) as usize);
        }
    }
    group_of
}

/// The interval from the resamples' values, ascending, and the influences of each sample's rows.
fn bca_interval(value: f64, values: &[f64], influences: &[Vec<f64>], confidence: f64) -> Outcome<(f64, f64)> {
    let below = values.partition_point(|&v| v < value);
    let not_above = values.partition_point(|&v| v <= value);
    let bias = normal_quantile((below + not_above) as f64 / 2.0 / values.len() as f64);
    if bias.is_infinite() {
        return Err(Undefined::Bias);
    }
    let (mut cubes, mut squares) = (0.0, 0.0);
    for sample in influences {
        let n = sample.len() as f64;
        cubes += sample.iter().map(|u| (u / n).powi(3)).sum::<f64>();
        squares += sample.iter().map(|u| (u / n).powi(2)).sum::<f64>();
    }
    let acceleration = cubes / (6.0 * squares.powf(1.5));
    if !acceleration.is_finite() {
        return Err(Undefined::Acceleration);
    }
    let end = |z: f64| {
        let shifted = bias + z;
        let stretch = 1.0 - acceleration * shifted;
        if stretch <= 0.0 {
            return Err(Undefined::Acceleration);
        }
        let p = normal_sf(-(bias + shifted / stretch));
        quantile_of_sorted(values, p).ok_or(Undefined::Acceleration)
    };
    let z = normal_quantile(0.5 + confidence / 2.0);
    Ok((end(-z)?, end(z)?))
}

#[cfg(test)]
#[path = "bootstrap_tests.rs"]
mod tests;
