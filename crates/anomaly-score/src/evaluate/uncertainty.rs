//! Intervals and null floors, where their cost allows.

use std::sync::Arc;

use super::metric::{METRICS, Metric};
use super::pair::{Outcome, Over, Pair};
use super::{CONFIDENCE, Conventions, KernelConvention, Options};
use crate::set_metric::ks2d::PooledSamples;
use crate::set_metric::{
    FactoredGaussian, Features, Gaussian, Moments, Point, frechet_distance_factored, sliced_wasserstein,
};
use crate::stats::{BootstrapOptions, Estimate, NullFloor, bootstrap, normal_quantile, null_floors};

/// Multiplications that the interval or the null floor of one metric may take without being asked for: some 20 seconds on
/// two cores. A count, not a clock, so that the same run gives the same report on every machine.
pub const AFFORDABLE: f64 = 2e11;

/// Bootstrap resamples where none are asked for.
pub const RESAMPLES: u32 = 200;

/// Splits of the reference for a null floor where none are asked for.
pub const SPLITS: u32 = 100;

/// Rows of a set up to which the jackknife leaves out one at a time.
const JACKKNIFE: usize = 1000;

/// Standard error and interval of a metric, each as far as defined.
#[derive(Default)]
pub(super) struct Interval {
    pub(super) std_error: Option<f64>,
    pub(super) ends: Option<(f64, f64)>,
    pub(super) method: Option<String>,
    pub(super) note: Option<String>,
}

impl Interval {
    pub(super) fn none(note: impl Into<String>) -> Self {
        Interval { note: Some(note.into()), ..Interval::default() }
    }

    fn of(estimate: &Estimate, scale: f64, method_end: &str) -> Self {
        let ends = estimate.ci_low.zip(estimate.ci_high).map(|(low, high)| (scale * low, scale * high));
        Interval {
            std_error: estimate.std_error.map(|e| scale * e),
            ends,
            method: Some(format!("{}{method_end}", estimate.method)),
            note: estimate.undefined.map(|why| format!("no interval: {why}")),
        }
    }
}

/// How many resamples or splits there will be: those asked for, else `usual` where that takes `at_most` so many
/// multiplications; the note is why there are none.
fn affordable(
    asked: Option<u32>,
    usual: u32,
    one: f64,
    besides: f64,
    option: &str,
    at_most: f64,
) -> Outcome<u32> {
    match asked {
        Some(0) => Err(format!("{option} 0")),
        Some(count) => Ok(count),
        None => {
            let operations = one * (f64::from(usual) + besides);
            if operations <= at_most {
                return Ok(usual);
            }
            Err(format!(
                "about {operations:.0e} multiplications are not done unasked; ask with {option} {usual}"
            ))
        }
    }
}

/// How `metric` is resampled.
pub(super) struct Resampling<'a> {
    pub(super) conventions: &'a Conventions,
    /// Resamples asked for; `None`: [`RESAMPLES`] where affordable.
    pub(super) resamples: Option<u32>,
    pub(super) confidence: f64,
    pub(super) seed: u64,
    pub(super) affordable: f64,
}

impl<'a> Resampling<'a> {
    /// As `options` ask for.
    pub(super) fn of(options: &'a Options) -> Self {
        Resampling {
            conventions: &options.conventions,
            resamples: options.bootstrap,
            confidence: CONFIDENCE,
            seed: options.seed,
            affordable: options.affordable,
        }
    }
}

impl Resampling<'_> {
    fn options(&self, resamples: u32) -> BootstrapOptions {
        BootstrapOptions { resamples, confidence: self.confidence, seed: self.seed }
    }

    /// Of the Anomaly Score.
    pub(super) fn of_points(&self, reference: &[Point], generated: &[Point]) -> Interval {
        let [a, b] = [reference, generated]
            .map(|set| set.iter().map(|p| [p.complexity, p.vulnerability]).collect::<Vec<_>>());
        let resamples = match self.count(
            operations(Metric::AnomalyScore, self.conventions, a.len(), b.len(), 2),
            &[a.len(), b.len()],
        ) {
            Ok(resamples) => resamples,
            Err(note) => return Interval::none(note),
        };
        let drawn = |points: &[[f64; 2]], weights: &[u32]| -> Vec<[f64; 2]> {
            points.iter().zip(weights).flat_map(|(p, &w)| std::iter::repeat_n(*p, w as usize)).collect()
        };
        self.finish(bootstrap(
            [a.len(), b.len()],
            |[r, g]| Some(PooledSamples::new(&drawn(&a, r), &drawn(&b, g)).ok()?.statistic()),
            &self.options(resamples),
        ))
    }

    /// Of a metric of features. `generated` may be in another order than the pair's, where the metric is defined by it.
    pub(super) fn of_features(
        &self,
        metric: Metric,
        pair: &Pair,
        reference: Features,
        generated: Features,
    ) -> Interval {
        if let Metric::KernelDistance | Metric::KernelDistanceRbf = metric {
            return self.of_kernel(metric, pair);
        }
        if let Some(mean) = pair.mean_over(metric) {
            let n = mean.values.len();
            let resamples = match self.count(n as f64, &[n]) {
                Ok(resamples) => resamples,
                Err(note) => return Interval::none(note),
            };
            let statistic = |[weights]: [&[u32]; 1]| {
                let total: u32 = weights.iter().sum();
                let sum: f64 = mean.values.iter().zip(weights).map(|(v, &w)| v * f64::from(w)).sum();
                (total > 0).then(|| sum / f64::from(total))
            };
            let (resampled, fixed) = match mean.over {
                Over::Reference => ("reference", "generated"),
                Over::Generated => ("generated", "reference"),
            };
            let end = format!(", of the {resampled} images; the {fixed} set and all radii stay as they are");
            return match bootstrap([n], statistic, &self.options(resamples)) {
                Ok(estimate) => Interval::of(&estimate, mean.scale, &end),
                Err(e) => Interval::none(format!("no interval: {e}")),
            };
        }
        let (n_reference, n_generated, dim) = (reference.n(), generated.n(), reference.dim());
        let of_generated_alone = metric.is_of_generated_alone();
        let sizes = [n_reference, n_generated];
        let sizes = if of_generated_alone { &sizes[1..] } else { &sizes[..] };
        let resamples =
            match self.count(operations(metric, self.conventions, n_reference, n_generated, dim), sizes) {
                Ok(resamples) => resamples,
                Err(note) => return Interval::none(note),
            };
        let options = self.options(resamples);
        let value_of = |reference: Features, generated: Features| {
            Pair::new(reference, generated, self.conventions, self.seed).value(metric).ok()
        };
        if of_generated_alone {
            return self.finish(bootstrap(
                [n_generated],
                |[weights]| {
                    let rows = drawn(generated, weights);
                    value_of(reference, Features::new("generated", &rows, dim).ok()?)
                },
                &options,
            ));
        }
        let gaussian = |features: Features, weights: &[u32], ddof: u32| -> Option<Gaussian> {
            Moments::weighted(features, weights).ok()?.gaussian(ddof).ok()
        };
        let ddof = self.conventions.ddof;
        let factored = |features: Features, weights: &[u32]| {
            Some(Arc::new(FactoredGaussian::new(&gaussian(features, weights, ddof)?)))
        };
        // The jackknife changes one set at a time; the other is whole in each of its steps. Made before threads share it.
        let whole = [reference, generated].map(|features| match metric {
            Metric::FrechetDistance => factored(features, &vec![1; features.n()]),
            _ => None,
        });
        let of_set = |set: usize, weights: &[u32]| match weights.iter().all(|&w| w == 1) {
            true => whole[set].clone(),
            false => factored([reference, generated][set], weights),
        };
        self.finish(bootstrap(
            [n_reference, n_generated],
            |[r, g]| match metric {
                Metric::FrechetDistance => {
                    let (r, g) = (of_set(0, r)?, of_set(1, g)?);
                    Some(frechet_distance_factored(&r, &g).ok()?.value)
                }
                Metric::SlicedWasserstein => {
                    sliced_wasserstein(&gaussian(reference, r, 0)?, &gaussian(generated, g, 0)?).ok()
                }
                _ => {
                    let (r, g) = (drawn(reference, r), drawn(generated, g));
                    value_of(
                        Features::new("reference", &r, dim).ok()?,
                        Features::new("generated", &g, dim).ok()?,
                    )
                }
            },
            &options,
        ))
    }

    /// Of a kernel distance: its own standard error, at no further cost.
    fn of_kernel(&self, metric: Metric, pair: &Pair) -> Interval {
        if self.resamples == Some(0) {
            return Interval::none("no interval: --bootstrap 0");
        }
        let Ok(found) = pair.kernel(metric) else {
            return Interval::default();
        };
        if let Some(spread) = found.spread {
            return Interval::none(format!(
                "no interval: a mean over overlapping subsets, whose spread of {spread:.3e} is that of one of them and no \
                 error of the mean"
            ));
        }
        let Some(std_error) = found.std_error else {
            return Interval::none("no interval: fewer than three images in a set");
        };
        let value = found.value;
        let half = normal_quantile(0.5 + self.confidence / 2.0) * std_error;
        let percent = 100.0 * self.confidence;
        Interval {
            std_error: Some(std_error),
            ends: Some((value - half, value + half)),
            method: Some(format!("jackknife without one image at a time, normal {percent} % interval")),
            note: None,
        }
    }

    /// Of a Fréchet distance between `set`, resampled, and a set that stays as it is. `value` is that of the moments of a
    /// resample, or of its rows; `end` says what was resampled.
    pub(super) fn of_one_set(
        &self,
        one: f64,
        set: Features,
        value: impl Fn(Features, &[u32]) -> Option<f64> + Sync,
        end: &str,
    ) -> Interval {
        let resamples = match self.count(one, &[set.n()]) {
            Ok(resamples) => resamples,
            Err(note) => return Interval::none(note),
        };
        match bootstrap([set.n()], |[weights]| value(set, weights), &self.options(resamples)) {
            Ok(estimate) => Interval::of(&estimate, 1.0, end),
            Err(e) => Interval::none(format!("no interval: {e}")),
        }
    }

    fn count(&self, one: f64, sizes: &[usize]) -> Outcome<u32> {
        let jackknife: usize = sizes.iter().map(|&n| n.min(JACKKNIFE)).sum();
        affordable(self.resamples, RESAMPLES, one, jackknife as f64 + 1.0, "--bootstrap", self.affordable)
            .map_err(|why| format!("no interval: {why}"))
    }

    fn finish(&self, estimate: crate::Result<Estimate>) -> Interval {
        match estimate {
            Ok(estimate) => Interval::of(&estimate, 1.0, ""),
            Err(e) => Interval::none(format!("no interval: {e}")),
        }
    }
}

/// The rows of `features` as often as `weights` say.
pub(super) fn drawn(features: Features, weights: &[u32]) -> Vec<f32> {
    let rows = features.rows().zip(weights);
    rows.flat_map(|(row, &weight)| std::iter::repeat_n(row, weight as usize).flatten()).copied().collect()
}

/// What a metric gives on splits of the reference, or why that is not known.
pub(super) type Floor = Outcome<NullFloor>;

/// Sizes of the parts the reference is split into: as many images as were generated, at most half, and the rest.
pub(super) fn parts(n_reference: usize, n_generated: usize) -> [usize; 2] {
    let generated = n_generated.min(n_reference / 2);
    [n_reference - generated, generated]
}

/// Null floors of `metrics` by splitting `reference`, all on the same splits; as many as `options` ask for, else [`SPLITS`]
/// where affordable.
pub(super) fn floors(
    metrics: &[Metric],
    reference: Features,
    n_generated: usize,
    options: &Options,
) -> Vec<(Metric, Floor)> {
    let (conventions, asked, seed) = (&options.conventions, options.null_splits, options.seed);
    let dim = reference.dim();
    let parts = parts(reference.n(), n_generated);
    let count = |metric: Metric| {
        let one = operations(metric, conventions, parts[0], parts[1], dim);
        affordable(asked, SPLITS, one, 0.0, "--null-splits", options.affordable)
            .map_err(|why| format!("no null floor: {why}"))
    };
    let counts: Vec<(Metric, Outcome<u32>)> = metrics.iter().map(|&m| (m, count(m))).collect();
    let taken: Vec<Metric> = counts.iter().filter(|(_, c)| c.is_ok()).map(|(m, _)| *m).collect();
    let splits = asked.unwrap_or(SPLITS);
    let found = (!taken.is_empty()).then(|| {
        let split = |[r, g]: [&[u32]; 2]| {
            let rows = |which: &[u32]| -> Vec<f32> {
                which.iter().flat_map(|&i| reference.row(i as usize)).copied().collect()
            };
            let (r, g) = (rows(r), rows(g));
            let mut values = [None; METRICS.len()];
            if let (Ok(r), Ok(g)) = (Features::new("reference", &r, dim), Features::new("generated", &g, dim))
            {
                let pair = Pair::new(r, g, conventions, seed);
                taken.iter().for_each(|&metric| values[metric as usize] = pair.value(metric).ok());
            }
            values
        };
        null_floors(reference.n(), parts, splits, seed, split)
    });
    let floor = |metric: Metric| match &found {
        Some(Ok(floors)) if floors[metric as usize].mean.is_some() => Ok(floors[metric as usize]),
        Some(Ok(_)) => {
            Err(format!("no null floor: undefined for parts of {} and {} images", parts[0], parts[1]))
        }
        Some(Err(e)) => Err(format!("no null floor: {e}")),
        None => Err("no null floor: no splits".into()),
    };
    counts.into_iter().map(|(metric, count)| (metric, count.and_then(|_| floor(metric)))).collect()
}

/// Multiplications one value of `metric` takes, roughly.
pub(super) fn operations(
    metric: Metric,
    conventions: &Conventions,
    n_reference: usize,
    n_generated: usize,
    dim: usize,
) -> f64 {
    let (n, m, d) = (n_reference as f64, n_generated as f64, dim as f64);
    // Products, and passes over D×D numbers, which cost as memory does.
    let moments = |n: f64| n * d * d / 2.0 + 100.0 * d * d;
    let factor = |n: f64| n.min(d) * d * d;
    let root = {
        let (small, large) = (n.min(m).min(d), n.max(m).min(d));
        small * large * d + small * small * large + 4.0 * small.powi(3)
    };
    let frechet = moments(n) + moments(m) + factor(n) + factor(m) + root;
    let within = |n: f64| n * n / 2.0 * d;
    match metric {
        Metric::AnomalyScore => 1000.0 * (n + m) * (n + m).log2(),
        Metric::FrechetDistance => frechet,
        Metric::FrechetInfinity => frechet + 15.0 * (moments(m) + factor(m) + root),
        Metric::KernelDistance | Metric::KernelDistanceRbf => match conventions.kernel {
            KernelConvention::Whole => within(n + m),
            KernelConvention::Numpy { subsets, size, .. } | KernelConvention::Seeded { subsets, size } => {
                subsets as f64 * within((2.0 * size as f64).min(n + m))
            }
        },
        Metric::Cmmd => within(n + m),
        Metric::InceptionScore => 20.0 * m * d,
        Metric::Precision | Metric::Recall | Metric::Density | Metric::Coverage => within(n + m),
        Metric::Realism | Metric::Rarity | Metric::Authenticity => within(n) + n * m * d,
        Metric::Vendi => m * d * m.min(d) / 2.0 + 4.0 * m.min(d).powi(3),
        Metric::SlicedWasserstein => moments(n) + moments(m),
        Metric::Mind => 1000.0 * (n + m) * (d + (n + m).log2()),
        Metric::Mifid => frechet + n * m * d,
        // Never resampled.
        Metric::Fls | Metric::OverfitGaussians | Metric::Fld | Metric::DataCopying => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_done_only_if_asked_for() {
        assert_eq!(affordable(None, 200, 1e6, 41.0, "--bootstrap", AFFORDABLE), Ok(200));
        assert_eq!(
            affordable(None, 200, 1e10, 41.0, "--bootstrap", AFFORDABLE).unwrap_err(),
            "about 2e12 multiplications are not done unasked; ask with --bootstrap 200"
        );
        assert_eq!(affordable(Some(50), 200, 1e10, 41.0, "--bootstrap", AFFORDABLE), Ok(50));
        assert_eq!(
            affordable(Some(0), 200, 1.0, 0.0, "--null-splits", AFFORDABLE).unwrap_err(),
            "--null-splits 0"
        );
    }

    #[test]
    fn parts_are_like_the_sets_as_far_as_the_reference_goes() {
        assert_eq!(parts(100, 30), [70, 30]);
        assert_eq!(parts(100, 5000), [50, 50]);
        assert_eq!(parts(3, 9), [2, 1]);
    }
}
