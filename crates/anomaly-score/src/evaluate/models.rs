//! Several generated sets against one reference: "is A better than B?"

use serde::Serialize;

use super::features::{FeatureSet, Side};
use super::metric::{Direction, Metric};
use super::pair::{Outcome, Pair};
use super::uncertainty::{AFFORDABLE, operations};
use super::{Conventions, Options};
use crate::Result;
use crate::set_metric::ks2d::PooledSamples;
use crate::set_metric::{FactoredGaussian, Features, Moments, Point, frechet_distance_factored};
use crate::stats::{Alternative, Exchange, Permutation, holm, permutation_test};

/// Exchanges of a test where none are asked for: the first number that is affordable.
const PERMUTATIONS: [u32; 2] = [999, 199];

/// Whether two models differ by one metric, on the same reference. The fields, in this order, are keys of the JSON report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairResult {
    /// Source of model A, of the two the one given first.
    pub a: String,
    /// Source of model B.
    pub b: String,
    /// The metric, as in [`MetricResult`](super::MetricResult).
    pub metric: String,
    /// Which values are better.
    pub direction: Direction,
    /// Value of A − value of B.
    pub difference: Option<f64>,
    /// Two-sided permutation p: small = the models differ, and the sign of `difference` says which is better.
    pub p_value: Option<f64>,
    /// p by Holm's correction for all pairs of models by this metric.
    pub p_holm: Option<f64>,
    /// Random exchanges of images between A and B.
    pub permutations: u32,
    /// Their seed.
    pub seed: u64,
    /// Why something above is undefined.
    pub note: Option<String>,
}

/// Every pair of `models`, sets of the reference's backbone, by every metric of `options` that has a direction, needs no held-out images and is defined for this backbone. Images of A and
/// B are exchanged at random while the reference stays, so that both values share it.
///
/// `permutations`: exchanges a test; `None`: 999, or 199 where those would take more than [`AFFORDABLE`] multiplications,
/// or none. The bits depend neither on threads nor on the order of images. Pairs in the order of `models`, metric by metric.
///
/// # Errors
/// None for sets that were read from sound tables.
pub fn compare_models(
    reference: Side,
    models: &[Side],
    options: &Options,
    permutations: Option<u32>,
) -> Result<Vec<PairResult>> {
    let backbone = &reference.settings().backbone;
    let sources: Vec<&str> = models.iter().map(|set| set.settings().source.as_str()).collect();
    let mut results = Vec::new();
    let directed = |m: &&Metric| {
        !m.needs_held_out() && m.entry().direction != Direction::None && m.impossible_for(backbone).is_none()
    };
    for &metric in options.selection.metrics.iter().filter(directed) {
        let mut pairs = Vec::new();
        for (i, &a) in models.iter().enumerate() {
            for (j, &b) in models.iter().enumerate().skip(i + 1) {
                let test =
                    Test { metric, conventions: &options.conventions, seed: options.seed, permutations };
                let found = match (a, b) {
                    (Side::Images(a), Side::Images(b)) => test.run(reference, a, b)?,
                    _ => Err("of statistics alone there are no images to exchange".into()),
                };
                let (found, note) = match found {
                    Ok(found) => (Some(found), None),
                    Err(why) => (None, Some(why)),
                };
                pairs.push(PairResult {
                    a: sources[i].to_owned(),
                    b: sources[j].to_owned(),
                    metric: metric.name(backbone).to_owned(),
                    direction: metric.entry().direction,
                    difference: found.map(|f| f.difference),
                    p_value: found.map(|f| f.p_value),
                    p_holm: None,
                    permutations: found.map_or(0, |f| f.permutations),
                    seed: options.seed,
                    note,
                });
            }
        }
        let corrected = holm(&pairs.iter().map(|p| p.p_value).collect::<Vec<_>>());
        pairs.iter_mut().zip(corrected).for_each(|(pair, p)| pair.p_holm = p);
        results.extend(pairs);
    }
    Ok(results)
}

struct Test<'a> {
    metric: Metric,
    conventions: &'a Conventions,
    seed: u64,
    permutations: Option<u32>,
}

impl Test<'_> {
    fn run(&self, reference: Side, a: &FeatureSet, b: &FeatureSet) -> Result<Outcome<Permutation>> {
        if let (Metric::AnomalyScore, Side::Images(reference)) = (self.metric, reference) {
            return self.of_points(&reference.points, &a.points, &b.points);
        }
        let (a, b) = (a.features()?, b.features()?);
        let both = [a.values(), b.values()].concat();
        let both = Features::new("generated", &both, a.dim())?;
        let reference = match reference {
            Side::Images(set) => set,
            Side::Statistics(set) if self.metric == Metric::FrechetDistance => {
                let n = a.n().max(b.n());
                let one = operations(self.metric, self.conventions, n, n, a.dim());
                return self.of_moments(
                    &FactoredGaussian::new(&set.gaussian),
                    both,
                    [a.n(), b.n()],
                    one / 2.0,
                );
            }
            Side::Statistics(_) => return Ok(Err("not tested against statistics alone".into())),
        };
        let r = reference.features()?;
        // What a reference set says of each image does not depend on which model made it.
        if self.metric.is_mean_over_generated() {
            let pair = Pair::new(r, both, self.conventions, self.seed).knowing(&reference.alone);
            return match pair.of_each_generated(self.metric) {
                Ok((values, scale)) => {
                    self.exchange([a.n(), b.n()], 0.0, |which| Some(scale * mean_of(&values, which)?))
                }
                Err(why) => Ok(Err(why)),
            };
        }
        let one = operations(self.metric, self.conventions, r.n(), a.n().max(b.n()), r.dim());
        if self.metric == Metric::FrechetDistance {
            return match reference.alone.gaussian(r, self.conventions.ddof) {
                Ok(fixed) => self.of_moments(&fixed, both, [a.n(), b.n()], one / 2.0),
                Err(e) => Ok(Err(e.to_string())),
            };
        }
        self.exchange([a.n(), b.n()], one, |which| {
            let rows: Vec<f32> = chosen(both.rows(), which).flatten().copied().collect();
            let rows = Features::new("generated", &rows, r.dim()).ok()?;
            let pair = Pair::new(r, rows, self.conventions, self.seed).knowing(&reference.alone);
            pair.value(self.metric).ok()
        })
    }

    /// Of the Fréchet distance: `both` are the images of A, then those of B.
    fn of_moments(
        &self,
        fixed: &FactoredGaussian,
        both: Features,
        sizes: [usize; 2],
        one: f64,
    ) -> Result<Outcome<Permutation>> {
        self.exchange(sizes, one, |which| {
            let generated = Moments::weighted(both, which).ok()?.gaussian(self.conventions.ddof).ok()?;
            Some(frechet_distance_factored(fixed, &FactoredGaussian::new(&generated)).ok()?.value)
        })
    }

    fn of_points(&self, reference: &[Point], a: &[Point], b: &[Point]) -> Result<Outcome<Permutation>> {
        let coordinates = |points: &[Point]| -> Vec<[f64; 2]> {
            points.iter().map(|p| [p.complexity, p.vulnerability]).collect()
        };
        let (fixed, both) = (coordinates(reference), [coordinates(a), coordinates(b)].concat());
        let one = operations(Metric::AnomalyScore, self.conventions, fixed.len(), a.len().max(b.len()), 2);
        self.exchange([a.len(), b.len()], one, |which| {
            let points: Vec<[f64; 2]> = chosen(both.iter(), which).copied().collect();
            Some(PooledSamples::new(&fixed, &points).ok()?.statistic())
        })
    }

    /// The test of value(A) − value(B), `value` being given which rows play the model, and `one` what it costs.
    fn exchange(
        &self,
        [n_a, n_b]: [usize; 2],
        one: f64,
        value: impl Fn(&[u32]) -> Option<f64> + Sync,
    ) -> Result<Outcome<Permutation>> {
        let fits = |&count: &u32| 2.0 * one * f64::from(count) <= AFFORDABLE;
        let Some(permutations) = self.permutations.or_else(|| PERMUTATIONS.into_iter().find(fits)) else {
            return Ok(Err(format!(
                "about {:.0e} multiplications are not done unasked; ask with --pair-permutations {}",
                2.0 * one * f64::from(PERMUTATIONS[1]),
                PERMUTATIONS[1]
            )));
        };
        if permutations == 0 {
            return Ok(Err("--pair-permutations 0".into()));
        }
        let difference = |[a, b]: [&[u32]; 2]| Some(value(a)? - value(b)?);
        let exchange = Exchange::Rows { n_a, n_b };
        let found = permutation_test(exchange, Alternative::TwoSided, permutations, self.seed, difference)?;
        Ok(found.ok_or_else(|| "undefined for these images, or once some are exchanged".to_owned()))
    }
}

/// Those whose weight is not 0.
fn chosen<T>(all: impl Iterator<Item = T>, which: &[u32]) -> impl Iterator<Item = T> {
    all.zip(which).filter(|(_, w)| **w > 0).map(|(item, _)| item)
}

/// Mean of the defined values among the chosen; `None` if there are none.
fn mean_of(values: &[Option<f64>], which: &[u32]) -> Option<f64> {
    let mut n = 0u32;
    let sum: f64 = chosen(values.iter(), which).flatten().inspect(|_| n += 1).sum();
    (n > 0).then(|| sum / f64::from(n))
}
