//! Every set metric of two tables: value, interval, null floor, and why any of them is missing.

mod claims;
mod classes;
mod features;
mod held_out;
mod metric;
mod models;
mod pair;
mod preset;
mod statistics;
mod uncertainty;

#[cfg(test)]
mod tests;

use serde::Serialize;

pub use claims::{Claim, Claims};
pub use classes::{ByClass, ClassFile, ClassResult, Classes, evaluate_classes};
pub use features::{FeatureSet, SetStatistics, Side, of_a_file, reads_spatial};
pub use metric::{Direction, Entry, METRICS, Metric, Selection};
pub use models::{PairResult, compare_models};
pub use preset::{KernelConvention, Preset, presets};
pub use uncertainty::{AFFORDABLE, RESAMPLES, SPLITS};

use crate::image_metric::RealismForm;
use crate::set_metric::{AnomalyScore, Features, InceptionOptions, MifidOptions, PrdcOptions};
use crate::table::BackboneSettings;
use crate::{Error, ErrorKind, Result};
use held_out::HeldOut;
use metric::NEEDS_HELD_OUT;
use pair::Pair;
use uncertainty::{Interval, Resampling, floors};

/// What the metrics leave to convention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conventions {
    /// What the divisor of covariances leaves out.
    pub ddof: u32,
    /// Of precision, recall, density, coverage; realism takes the same k.
    pub prdc: PrdcOptions,
    /// Of realism.
    pub realism: RealismForm,
    /// k of the radii of rarity.
    pub rarity_k: usize,
    /// Of the Inception Score.
    pub inception: InceptionOptions,
    /// Of MiFID.
    pub mifid: MifidOptions,
    /// Of kernel distances.
    pub kernel: KernelConvention,
}

impl Default for Conventions {
    /// ddof 1; open balls, k = 5, all images; realism below the median radius; rarity at k = 3; the Inception Score as
    /// torch-fidelity takes it; MiFID over the generated set; kernel distances over all pairs of images.
    fn default() -> Self {
        Conventions {
            ddof: 1,
            prdc: PrdcOptions::default(),
            realism: RealismForm::BelowMedian,
            rarity_k: 3,
            inception: InceptionOptions::default(),
            mifid: MifidOptions::default(),
            kernel: KernelConvention::Whole,
        }
    }
}

impl Conventions {
    /// Whether `metric` depends on the order of images in a table.
    fn goes_by_place(&self, metric: Metric) -> bool {
        let numpy = matches!(self.kernel, KernelConvention::Numpy { .. });
        match metric {
            Metric::InceptionScore => true,
            Metric::KernelDistance | Metric::KernelDistanceRbf => numpy,
            _ => false,
        }
    }
}

/// What is evaluated, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The metrics.
    pub selection: Selection,
    /// Bootstrap resamples for standard errors and intervals, 0 for none; `None`: [`RESAMPLES`], but none where a metric
    /// would take more than [`AFFORDABLE`] multiplications.
    pub bootstrap: Option<u32>,
    /// Splits of the reference for the null floor, 0 for none; `None`: [`SPLITS`] under the same rule.
    pub null_splits: Option<u32>,
    /// Seed of everything drawn.
    pub seed: u64,
    /// What the metrics leave to convention.
    pub conventions: Conventions,
    /// Multiplications that an interval, a floor or a test not asked for by number may take; [`AFFORDABLE`].
    pub affordable: f64,
}

impl Options {
    /// Of `selection`, all else as usual.
    pub fn new(selection: Selection, seed: u64) -> Self {
        Options {
            selection,
            bootstrap: None,
            null_splits: None,
            seed,
            conventions: Conventions::default(),
            affordable: AFFORDABLE,
        }
    }
}

/// Coverage of every interval.
const CONFIDENCE: f64 = 0.95;

/// One metric of a generated set. The fields, in this order, are keys of the JSON report. Undefined is `None`, and
/// `note` says why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricResult {
    /// Name, for programs; `fid`, `sfid` and `kid` only where features are those the names stand for.
    pub name: String,
    /// Name, for people.
    pub title: String,
    /// The features it is of: backbone and layer. `None` for the Anomaly Score.
    pub features: Option<String>,
    /// Which values are better.
    pub direction: Direction,
    /// The value.
    pub value: Option<f64>,
    /// Standard error; never the spread of overlapping subsets.
    pub std_error: Option<f64>,
    /// Lower end of the 95 % interval.
    pub ci_low: Option<f64>,
    /// Upper end of the 95 % interval.
    pub ci_high: Option<f64>,
    /// Reference images that entered; `None` where the metric knows no reference, or only statistics of it are known.
    pub n_reference: Option<usize>,
    /// Generated images that entered; `None` where only statistics of them are known.
    pub n_generated: Option<usize>,
    /// How standard error and interval were found.
    pub method: Option<String>,
    /// Seed of what was drawn for value, interval and null floor.
    pub seed: u64,
    /// Mean value where nothing differs: over random splits of the reference set (of the Anomaly Score: relabellings).
    pub null_mean: Option<f64>,
    /// 5 % quantile of the same, where higher is better: a value not below it shows no difference.
    pub null_q05: Option<f64>,
    /// 95 % quantile of the same, where lower is better: a value not above it shows no difference.
    pub null_q95: Option<f64>,
    /// Reference images in such a split: the floor is that of these sizes.
    pub null_n_reference: Option<usize>,
    /// Images that play the generated ones in such a split.
    pub null_n_generated: Option<usize>,
    /// Why something above is undefined, and what to know of the value.
    pub note: Option<String>,
}

/// What features say of one generated image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImageColumns {
    /// Realism, ≥ 0; higher is better. `None` where undefined.
    pub realism: Option<f64>,
    /// Rarity, feature units, > 0. `None` outside the reference manifold.
    pub rarity: Option<f64>,
    /// Path of the nearest reference image.
    pub nearest_reference: Option<String>,
    /// Euclidean distance to it, feature units.
    pub nearest_distance: Option<f64>,
    /// Whether it is farther away than its own nearest reference image: if not, the image may be a copy.
    pub authentic: Option<bool>,
    /// Largest log-likelihood, over D, of any reference image under the Gaussian at the image, see
    /// [`memorisation_likelihood`](crate::set_metric::memorisation_likelihood); higher = more of a copy.
    pub memorisation_likelihood: Option<f64>,
}

/// What [`evaluate`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// One entry for every metric asked for, in the order of [`METRICS`].
    pub metrics: Vec<MetricResult>,
    /// The paper's claims, if asked for and complexity and vulnerability were measured.
    pub claims: Option<Claims>,
    /// One entry for every generated image in the order of its table, where realism, rarity, AuthPct or a likelihood metric
    /// are asked for.
    pub images: Option<Vec<ImageColumns>>,
}

/// The metrics of `generated` against `reference`, two sets of one backbone, whose Anomaly Score is `score`; `None` where
/// complexity and vulnerability were not measured. `held_out`: images like the reference that the model never saw, for the
/// metrics that need them.
///
/// A metric that cannot be computed here is an entry without value that says why; of a set that is known by its
/// statistics alone that is all but the Fréchet distances. The bits depend neither on threads nor, but for the Inception Score's
/// splits and numpy's subsets, on the order of images. Memory: what the metrics take.
///
/// # Errors
/// `InvalidOption` for one bootstrap resample; `SettingsMismatch` for held-out images whose features are not comparable.
pub fn evaluate(
    reference: Side,
    generated: Side,
    held_out: Option<&FeatureSet>,
    score: Option<&AnomalyScore>,
    options: &Options,
) -> Result<Evaluation> {
    if options.bootstrap == Some(1) {
        return Err(Error::new(ErrorKind::InvalidOption, "--bootstrap", "too few for an interval")
            .expected("0 or at least 2", 1));
    }
    let (Side::Images(reference), Side::Images(generated)) = (reference, generated) else {
        return statistics::evaluate(reference, generated, options);
    };
    let Options { selection, seed, conventions, .. } = options;
    let settings = reference.settings();
    if let Some(held_out) = held_out {
        settings.require_same_features("the reference set", held_out.settings(), "the held-out set")?;
    }
    let backbone = &settings.backbone;
    let (r, g) = (reference.features()?, generated.features()?);
    let pair = Pair::new(r, g, conventions, *seed).knowing(&reference.alone);
    let of_three = match held_out {
        Some(set) => Some(HeldOut::new(r, set.features()?, g, *seed)),
        None => None,
    };
    let in_table_order = match selection.metrics.iter().any(|&m| conventions.goes_by_place(m)) {
        true => [reference.in_table_order(), generated.in_table_order()],
        false => [Vec::new(), Vec::new()],
    };
    let resampling = Resampling::of(options);

    let mut metrics = Vec::with_capacity(selection.metrics.len());
    let mut with_floor = Vec::new();
    for &metric in &selection.metrics {
        let mut result = MetricResult::new(metric, backbone, Some(r.n()), Some(g.n()), *seed);
        if result.note.is_none() && metric == Metric::AnomalyScore {
            match score {
                Some(score) => {
                    result.anomaly_score(score);
                    result.interval(resampling.of_points(&reference.points, &generated.points));
                }
                None => result.note = Some("complexity and vulnerability were not measured".into()),
            }
        } else if metric.needs_held_out() {
            match of_three.as_ref().map(|sets| sets.value(metric)) {
                None => result.note = Some(NEEDS_HELD_OUT.into()),
                Some(Err(why)) => result.note = Some(why),
                Some(Ok(value)) => {
                    result.value = Some(value);
                    result.note =
                        Some("no interval and no null floor: every resample would be fitted anew".into());
                }
            }
            result.method = held_out.map(|set| {
                let (source, n) = (&set.settings().source, set.paths.len());
                format!("the reference as training images, held-out images: {source} ({n})")
            });
        } else if result.note.is_none() {
            let found = if conventions.goes_by_place(metric) {
                let r = Features::new("reference", &in_table_order[0], r.dim())?;
                let g = Features::new("generated", &in_table_order[1], g.dim())?;
                let pair = Pair::new(r, g, conventions, *seed);
                pair.value(metric).map(|value| (value, resampling.of_features(metric, &pair, r, g)))
            } else {
                pair.value(metric).map(|value| (value, resampling.of_features(metric, &pair, r, g)))
            };
            match found {
                Ok((value, interval)) => {
                    result.value = Some(value);
                    result.add_note(pair.note(metric));
                    result.interval(interval);
                    with_floor.push(metric);
                }
                Err(why) => result.add_note(Some(why)),
            }
        }
        metrics.push((metric, result));
    }
    for (metric, floor) in floors(&with_floor, r, g.n(), options) {
        let place = metrics.iter_mut().find(|(other, _)| *other == metric);
        if let Some((_, result)) = place {
            match floor {
                Ok(floor) => {
                    let mean = floor.mean.zip(floor.q05).zip(floor.q95);
                    result.floor(
                        mean.map(|((m, low), high)| [m, low, high]),
                        [floor.n_reference, floor.n_generated],
                    );
                }
                Err(why) => result.add_note(Some(why)),
            }
        }
    }
    let memorised = match &of_three {
        Some(sets) if selection.has_likelihood_column() => Some(sets.memorisation()),
        _ => None,
    };
    if let (Some(Err(why)), Some((_, result))) =
        (&memorised, metrics.iter_mut().find(|(metric, _)| metric.fits_likelihoods()))
    {
        result.add_note(Some(why.clone()));
    }
    let memorised = memorised.as_ref().and_then(|found| found.as_ref().ok());
    Ok(Evaluation {
        metrics: metrics.into_iter().map(|(_, result)| result).collect(),
        claims: if selection.claims && score.is_some() {
            Some(Claims::of(&reference.points, &generated.points)?)
        } else {
            None
        },
        images: selection
            .has_image_columns()
            .then(|| image_columns(selection, &pair, memorised, reference, generated)),
    })
}

impl MetricResult {
    /// Without a value yet; `note` says so where the backbone allows none. Sizes are those of the sets.
    fn new(
        metric: Metric,
        backbone: &BackboneSettings,
        n_reference: Option<usize>,
        n_generated: Option<usize>,
        seed: u64,
    ) -> Self {
        MetricResult {
            name: metric.name(backbone).into(),
            title: metric.title(backbone).into(),
            features: metric.features(backbone),
            direction: metric.entry().direction,
            value: None,
            std_error: None,
            ci_low: None,
            ci_high: None,
            n_reference: n_reference.filter(|_| !metric.is_of_generated_alone()),
            n_generated,
            method: None,
            seed,
            null_mean: None,
            null_q05: None,
            null_q95: None,
            null_n_reference: None,
            null_n_generated: None,
            note: metric.impossible_for(backbone),
        }
    }

    fn anomaly_score(&mut self, score: &AnomalyScore) {
        self.value = Some(score.value);
        (self.n_reference, self.n_generated) = (Some(score.n_reference), Some(score.n_generated));
        let null = score.null_mean.zip(score.null_q95);
        // Of no use where lower is better.
        self.floor(null.map(|(mean, q95)| [mean, mean, q95]), [score.n_reference, score.n_generated]);
        if null.is_none() {
            self.add_note(Some("no null floor: no permutations were asked for".into()));
        }
    }

    fn interval(&mut self, interval: Interval) {
        self.std_error = interval.std_error;
        (self.ci_low, self.ci_high) = interval.ends.unzip();
        self.method = interval.method;
        self.add_note(interval.note);
    }

    /// `null`: mean, 5 % and 95 % quantile.
    fn floor(&mut self, null: Option<[f64; 3]>, [n_reference, n_generated]: [usize; 2]) {
        let Some([mean, q05, q95]) = null else { return };
        self.null_mean = Some(mean);
        match self.direction {
            Direction::Lower => self.null_q95 = Some(q95),
            Direction::Higher => self.null_q05 = Some(q05),
            Direction::None => {}
        }
        self.null_n_reference = self.n_reference.map(|_| n_reference);
        self.null_n_generated = Some(n_generated);
    }

    fn add_note(&mut self, note: Option<String>) {
        if let Some(note) = note {
            self.note = Some(match self.note.take() {
                None => note,
                Some(before) => format!("{before}; {note}"),
            });
        }
    }
}

/// Columns of every generated image, in the order of its table; each empty where it was not asked for or a set is too small.
fn image_columns(
    selection: &Selection,
    pair: &Pair,
    memorised: Option<&Vec<f64>>,
    reference: &FeatureSet,
    generated: &FeatureSet,
) -> Vec<ImageColumns> {
    let (realism, rarity, found) = match selection.has_neighbour_columns() {
        true => (pair.realism().ok(), pair.rarity().ok(), pair.authenticity().ok()),
        false => (None, None, None),
    };
    let columns: Vec<ImageColumns> = (0..generated.paths.len())
        .map(|i| ImageColumns {
            realism: realism.and_then(|all| all[i]),
            rarity: rarity.and_then(|all| all[i]),
            nearest_reference: found.map(|f| reference.path(f.nearest[i].index).to_owned()),
            nearest_distance: found.map(|f| f.nearest[i].distance()),
            authentic: found.map(|f| f.is_authentic(i)),
            memorisation_likelihood: memorised.map(|all| all[i]),
        })
        .collect();
    generated.to_table_order(&columns)
}
