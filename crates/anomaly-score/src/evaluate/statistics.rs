//! Metrics where a set is known by its mean and covariance alone.

use std::sync::Arc;

use super::features::{FeatureSet, Side};
use super::metric::Metric;
use super::pair::{Outcome, Pair, rank_note, said};
use super::uncertainty::{Interval, Resampling, drawn, operations};
use super::{Evaluation, MetricResult, Options};
use crate::Result;
use crate::set_metric::{
    FactoredGaussian, Features, InfinityOptions, Moments, frechet_distance_factored,
    frechet_distance_infinity,
};

/// The metrics of two sets of which at least one is statistics. Fréchet distances need no more than those of the reference, and what
/// knows no reference needs no more than generated images.
pub(super) fn evaluate(reference: Side, generated: Side, options: &Options) -> Result<Evaluation> {
    let Options { selection, seed, conventions, .. } = options;
    let (r, g) = (reference.features()?, generated.features()?);
    let backbone = match (reference, generated) {
        (Side::Images(set), _) | (_, Side::Images(set)) => &set.settings().backbone,
        _ => &reference.settings().backbone,
    };
    let factored = |side: Side, images: Option<Features>| -> Outcome<Arc<FactoredGaussian>> {
        match (side, images) {
            (Side::Statistics(set), _) => Ok(Arc::new(FactoredGaussian::new(&set.gaussian))),
            (Side::Images(set), Some(features)) => said(set.alone.gaussian(features, conventions.ddof)),
            (Side::Images(_), None) => Err("no images".into()),
        }
    };
    let of_two = (selection.metrics.iter().any(|m| m.reads_reference_moments()))
        .then(|| Ok::<_, String>((factored(reference, r)?, factored(generated, g)?)));
    let resampling = Resampling::of(options);
    let dim = backbone.feature_dim as usize;
    let metrics = selection.metrics.iter().map(|&metric| {
        let mut result = MetricResult::new(metric, backbone, reference.n(), generated.n(), *seed);
        if result.note.is_some() {
            return result;
        }
        let found: Outcome<(f64, Option<String>, Interval)> = match (metric, &of_two, g) {
            (Metric::FrechetDistance, Some(Ok((a, b))), _) => {
                said(frechet_distance_factored(a, b)).map(|distance| {
                    let (set, fixed, resampled, end) = match (r, g) {
                        (_, Some(g)) => (Some(g), a.as_ref(), false, OF_GENERATED),
                        (r, None) => (r, b.as_ref(), true, OF_REFERENCE),
                    };
                    let interval = match set {
                        None => Interval::none("no interval: no images of either set are known"),
                        Some(set) => {
                            let one = operations(metric, conventions, set.n(), set.n(), dim) / 2.0;
                            let value = |set: Features, weights: &[u32]| {
                                let moments = Moments::weighted(set, weights).ok()?;
                                let drawn = FactoredGaussian::new(&moments.gaussian(conventions.ddof).ok()?);
                                let [x, y] = if resampled { [&drawn, fixed] } else { [fixed, &drawn] };
                                Some(frechet_distance_factored(x, y).ok()?.value)
                            };
                            resampling.of_one_set(one, set, value, end)
                        }
                    };
                    (distance.value, rank_note(&distance), interval)
                })
            }
            (Metric::FrechetInfinity, Some(Ok((a, _))), Some(g)) => {
                let options = InfinityOptions { seed: *seed, ..InfinityOptions::default() };
                let of =
                    |g: Features| said(frechet_distance_infinity(a, g, &options)).map(|found| found.value);
                of(g).map(|value| {
                    let one = operations(metric, conventions, g.n(), g.n(), dim);
                    let resampled = |set: Features, weights: &[u32]| {
                        of(Features::new("generated", &drawn(set, weights), dim).ok()?).ok()
                    };
                    (value, None, resampling.of_one_set(one, g, resampled, OF_GENERATED))
                })
            }
            (metric, Some(Err(why)), _) if metric.reads_reference_moments() => Err(why.clone()),
            (metric, _, Some(g)) if metric.is_of_generated_alone() => {
                let Side::Images(set) = generated else { return result };
                of_generated_alone(metric, set, g, &resampling)
            }
            _ => {
                let known = [reference, generated].into_iter().find_map(|side| match side {
                    Side::Statistics(set) => Some(&set.settings.source),
                    Side::Images(_) => None,
                });
                let file = known.map_or("a statistics file", String::as_str);
                Err(format!("needs the images of both sets; {file} holds mean and covariance alone"))
            }
        };
        match found {
            Ok((value, note, interval)) => {
                result.value = Some(value);
                result.add_note(note);
                result.interval(interval);
                let why = if r.is_none() {
                    "there are no reference images to split"
                } else {
                    "of how many images is unknown"
                };
                result.add_note(Some(format!("no null floor: {why}")));
            }
            Err(why) => result.add_note(Some(why)),
        }
        result
    });
    Ok(Evaluation { metrics: metrics.collect(), claims: None, images: None })
}

const OF_GENERATED: &str = ", of the generated images alone; the reference's statistics stay as they are";
const OF_REFERENCE: &str = ", of the reference images alone; the generated set's statistics stay as they are";

fn of_generated_alone(
    metric: Metric,
    set: &FeatureSet,
    features: Features,
    resampling: &Resampling,
) -> Outcome<(f64, Option<String>, Interval)> {
    let (values, conventions) = (set.in_table_order(), resampling.conventions);
    let g = match conventions.goes_by_place(metric) {
        true => said(Features::new("generated", &values, features.dim()))?,
        false => features,
    };
    // Such a metric reads the second set only.
    let pair = Pair::new(g, g, conventions, resampling.seed);
    let value = pair.value(metric)?;
    Ok((value, None, resampling.of_features(metric, &pair, g, g)))
}
