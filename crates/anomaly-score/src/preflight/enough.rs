//! Whether there are images enough for what is asked of them.

use super::finding::{Finding, Kind, Severity};
use super::set::{Role, SetFacts};
use super::{Question, images};
use crate::evaluate::{KernelConvention, Metric};
use crate::report::SMALL_N;
use crate::set_metric::Splits;

/// Images below which a metric that grows with n is far from published values, which are of 50,000.
const PUBLISHED: usize = 5000;
/// Ratio of numbers of images from which models are not comparable by metrics that depend on n.
const UNEQUAL: f64 = 1.05;

pub(super) fn findings(reference: &SetFacts, others: &[SetFacts], question: &Question) -> Vec<Finding> {
    let models: Vec<&SetFacts> = others.iter().filter(|set| set.role == Role::Generated).collect();
    let mut found = Vec::new();
    for model in &models {
        // Statistics need not say of how many images they are.
        found.extend(model.size().and_then(|n| depends_on_n(model, n, question)));
        let (Some(n), Some(m)) = (reference.size(), model.size()) else { continue };
        let pair = Pair { sets: [&model.source, &reference.source], reference: n, generated: m };
        found.extend(too_few(&pair, question));
        found.extend(rank_deficient(&pair, question));
        found.extend(small(&pair, question));
    }
    found.extend(unequal(&models, question));
    found
}

/// Numbers of images of two sets.
struct Pair<'a> {
    sets: [&'a str; 2],
    reference: usize,
    generated: usize,
}

/// Images a metric needs of each set to have a value, and why.
fn least(metric: Metric, question: &Question) -> (usize, usize, String) {
    let conventions = &question.conventions;
    let k = conventions.prdc.nearest_k;
    let neighbours = |k: usize| format!("the {k}-th nearest neighbour of an image");
    match metric {
        Metric::Precision | Metric::Recall | Metric::Density | Metric::Coverage => {
            (k + 1, k + 1, neighbours(k))
        }
        Metric::Realism => (k + 1, 1, neighbours(k)),
        Metric::Rarity => (conventions.rarity_k + 1, 1, neighbours(conventions.rarity_k)),
        Metric::Authenticity => (2, 1, neighbours(1)),
        Metric::KernelDistance | Metric::KernelDistanceRbf => match conventions.kernel {
            KernelConvention::Numpy { size, .. } => (size, size, format!("subsets of {size} images")),
            _ => (2, 2, "pairs of images".into()),
        },
        Metric::FrechetInfinity => (2, 3, "a line through several sizes".into()),
        Metric::InceptionScore => match conventions.inception.splits {
            Splits::Count(splits) | Splits::Equal(splits) => (0, splits, format!("{splits} splits")),
            Splits::Size(_) => (0, 1, "a split".into()),
        },
        Metric::Fls | Metric::OverfitGaussians | Metric::Fld => (4, 1, "a likelihood".into()),
        Metric::AnomalyScore | Metric::FrechetDistance | Metric::SlicedWasserstein | Metric::Mifid => {
            (2, 2, "a spread".into())
        }
        Metric::Cmmd | Metric::Mind | Metric::DataCopying => (1, 1, "an image".into()),
        Metric::Vendi => (0, 1, "an image".into()),
    }
}

fn too_few(pair: &Pair, question: &Question) -> Vec<Finding> {
    let of = |&metric: &Metric| {
        let (mine, theirs, why) = least(metric, question);
        (pair.reference < mine || pair.generated < theirs).then(|| {
            Finding::new(
                Kind::TooFewForMetric,
                Severity::Serious,
                &pair.sets,
                format!(
                    "{} will have no value: it takes {why}, so at least {mine} reference and {theirs} generated images, and here are \
                     {} and {}",
                    metric.entry().title,
                    pair.reference,
                    pair.generated
                ),
                if matches!(metric, Metric::KernelDistance | Metric::KernelDistanceRbf) {
                    "Add images, or leave out --preset: kernel distances are then taken over all pairs"
                } else {
                    "Add images, or leave this metric out"
                },
            )
        })
    };
    question.selection.metrics.iter().filter_map(of).collect()
}

fn rank_deficient(pair: &Pair, question: &Question) -> Option<Finding> {
    let wanted = [Metric::FrechetDistance, Metric::FrechetInfinity, Metric::Mifid];
    let asked: Vec<&str> = question
        .selection
        .metrics
        .iter()
        .filter(|metric| wanted.contains(metric))
        .map(|metric| metric.entry().title)
        .collect();
    let n = pair.reference.min(pair.generated);
    let dim = question.layers.iter().map(|layer| layer.feature_dim as usize).max()?;
    // A covariance of n images has rank n − 1 at most.
    (!asked.is_empty() && n <= dim).then(|| {
        Finding::new(
            Kind::RankDeficient,
            Severity::Warning,
            &pair.sets,
            format!(
                "{}: a covariance of {dim} features from {} has rank {} at most, and the distance is then far above that of many \
                 images",
                asked.join(", "),
                images(n),
                n.saturating_sub(1)
            ),
            format!(
                "Use more than {dim} images in each set (published figures are of 10,000 to 50,000), or kd, which has no such bias; \
                 compare values of equal n only"
            ),
        )
    })
}

fn small(pair: &Pair, question: &Question) -> Option<Finding> {
    let asked = question.selection.metrics.contains(&Metric::AnomalyScore);
    (asked && pair.reference.min(pair.generated) < SMALL_N).then(|| {
        Finding::new(
            Kind::SmallN,
            Severity::Warning,
            &pair.sets,
            format!(
                "{} reference and {} generated images are few: sets of such sizes score far above 0 even if they do not differ",
                pair.reference,
                pair.generated
            ),
            format!("Use at least {SMALL_N} images in each set, better 500, and compare scores of equal sizes only"),
        )
    })
}

fn depends_on_n(model: &SetFacts, n: usize, question: &Question) -> Option<Finding> {
    let asked: Vec<&str> = question
        .selection
        .metrics
        .iter()
        .filter(|metric| matches!(metric, Metric::InceptionScore | Metric::Vendi))
        .filter(|metric| question.layers.iter().all(|layer| metric.impossible_for(layer).is_none()))
        .map(|metric| metric.entry().title)
        .collect();
    (!asked.is_empty() && n < PUBLISHED).then(|| {
        Finding::new(
            Kind::DependsOnN,
            Severity::Note,
            &[&model.source],
            format!(
                "{} grow{} with the number of images, and {} of {} are far fewer than the 50,000 of published values",
                asked.join(" and "),
                if asked.len() == 1 { "s" } else { "" },
                images(n),
                model.source
            ),
            "Compare values of equal n only",
        )
    })
}

fn unequal(models: &[&SetFacts], question: &Question) -> Option<Finding> {
    let sizes: Vec<(usize, &str)> =
        models.iter().filter_map(|set| Some((set.size()?, set.source.as_str()))).collect();
    let (least, smallest) = *sizes.iter().min_by_key(|(n, _)| *n)?;
    let (most, largest) = *sizes.iter().max_by_key(|(n, _)| *n)?;
    let asked: Vec<&str> = question
        .selection
        .metrics
        .iter()
        .filter(|metric| {
            // Unbiased at any n, or means over generated images against the reference alone.
            !matches!(
                metric,
                Metric::KernelDistance
                    | Metric::KernelDistanceRbf
                    | Metric::Precision
                    | Metric::Density
                    | Metric::Realism
                    | Metric::Rarity
                    | Metric::Authenticity
                    | Metric::FrechetInfinity
            )
        })
        .map(|metric| metric.entry().title)
        .collect();
    (!asked.is_empty() && most as f64 > UNEQUAL * least as f64).then(|| {
        Finding::new(
            Kind::UnequalN,
            Severity::Warning,
            &[smallest, largest],
            format!(
                "the models have from {} ({}) to {} images ({}), and {} depend on that number",
                least,
                smallest,
                most,
                largest,
                asked.join(", ")
            ),
            format!("Give --limit {} so that each is a sample of equal size", least),
        )
    })
}
