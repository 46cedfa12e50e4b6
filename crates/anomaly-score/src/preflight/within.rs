//! What is wrong with a set by itself.

use super::copies::{self, Pair};
use super::finding::{Concerned, Finding, Kind, Severity};
use super::set::{Basis, SetFacts};
use super::{Question, images};

/// Share of copies in a set above which they are more than a note.
pub(super) const FEW_COPIES: f64 = 0.01;
/// Images from which on the values of a set are judged as a whole.
pub(super) const ENOUGH_TO_JUDGE: usize = 10;
/// Median trace of an earlier JPEG above which a set has them: of lossless photos the median is below .03, after quality 95 above .25.
const TRACES_OF_SET: f64 = 0.1;
/// The same for a single image: of lossless photos of 32 × 32 pixels one in a hundred has more.
const TRACES_OF_IMAGE: f64 = 0.25;
/// Share of images with traces that makes them a finding though the median has none.
const TRACES_SHARE: f64 = 0.1;

pub(super) fn findings(set: &SetFacts, question: &Question) -> Vec<Finding> {
    if matches!(set.basis, Basis::Numbers { .. }) {
        return vec![of_numbers(set)];
    }
    let found = [
        duplicates(set),
        near_duplicates(set),
        skipped(set),
        featureless(set),
        value_range(set),
        jpeg_traces(set),
        enlarged(set, question),
        unknown(set),
    ];
    found.into_iter().flatten().collect()
}

/// A warning for more than a hundredth of `n`, otherwise a note.
pub(super) fn weight_of_copies(count: usize, n: usize) -> Severity {
    if count as f64 > FEW_COPIES * n as f64 { Severity::Warning } else { Severity::Note }
}

/// The images of pairs, with what they are copies of.
pub(super) fn concerned<'a>(
    pairs: &'a [Pair],
    set: &'a SetFacts,
    other: &'a SetFacts,
) -> impl Iterator<Item = Concerned> + 'a {
    pairs.iter().map(|pair| Concerned {
        path: set.images[pair.image].path.clone(),
        copy_of: Some(other.images[pair.copy_of].path.clone()),
        mirrored: pair.mirrored,
    })
}

fn duplicates(set: &SetFacts) -> Option<Finding> {
    let pairs = copies::duplicates(set);
    let (count, n) = (pairs.len(), set.n());
    (count > 0).then(|| {
        Finding::new(
            Kind::DuplicateImages,
            weight_of_copies(count, n),
            &[&set.source],
            format!("{count} of {n} images of {} have the very pixels of another one there", set.source),
            "Remove them: they count twice, make intervals too short and k-NN radii 0; a model that repeats itself should be \
             said to",
        )
        .about(concerned(&pairs, set, set))
    })
}

fn near_duplicates(set: &SetFacts) -> Option<Finding> {
    let pairs = copies::near_duplicates(set)?;
    let (count, n) = (pairs.len(), set.n());
    (count > 0).then(|| {
        Finding::new(
            Kind::NearDuplicateImages,
            weight_of_copies(count, n),
            &[&set.source],
            format!("{count} of {n} images of {} look like another one there without having its pixels", set.source),
            "Look at some pairs; keep one of each if they are the same picture resized, recompressed or mirrored",
        )
        .about(concerned(&pairs, set, set))
    })
}

fn skipped(set: &SetFacts) -> Option<Finding> {
    let first = set.skipped.first()?;
    let count = set.skipped.len();
    Some(
        Finding::new(
            Kind::SkippedImages,
            Severity::Warning,
            &[&set.source],
            format!(
                "{count} of {} files of {} cannot be read and will be in no number; the first: {}",
                count + set.n(),
                set.source,
                first.reason
            ),
            "Repair or remove them",
        )
        .of_paths(set.skipped.iter().map(|skipped| skipped.path.clone())),
    )
}

fn featureless(set: &SetFacts) -> Option<Finding> {
    let paths: Vec<String> = set
        .seen()
        .filter(|(_, seen)| seen.colour.is_featureless())
        .map(|(image, _)| image.path.clone())
        .collect();
    (!paths.is_empty()).then(|| {
        Finding::new(
            Kind::FeaturelessImages,
            Severity::Warning,
            &[&set.source],
            format!("{} of {} images of {} are of one tone", paths.len(), set.n(), set.source),
            "Remove them unless they are meant: failed writes and a sampler that diverged look like this",
        )
        .of_paths(paths)
    })
}

fn value_range(set: &SetFacts) -> Option<Finding> {
    let n = set.seen().count();
    if n < ENOUGH_TO_JUDGE || !set.is_seen() {
        return None;
    }
    let colours = || set.seen().map(|(_, seen)| &seen.colour);
    let lowest = colours().map(|c| c.lowest).fold(f64::INFINITY, f64::min);
    let highest = colours().map(|c| c.highest).fold(f64::NEG_INFINITY, f64::max);
    let ends = colours().map(|c| c.black + c.white).sum::<f64>() / n as f64;
    let range = format!("all values of {} lie in {lowest:.0} to {highest:.0} of 0 to 255", set.source);
    let (severity, message, remedy) = if highest <= 1.0 {
        (Severity::Serious, range, "Write the images again: values in [0, 1] have to be multiplied by 255")
    } else if highest <= 128.0 {
        (
            Severity::Serious,
            range,
            "Write the images again: likely values in [0, 1] were multiplied by 127.5, or halved",
        )
    } else if lowest >= 127.0 {
        (
            Severity::Serious,
            range,
            "Write the images again: likely values in [0, 1] were taken for ones in [−1, 1] and had (x + 1)/2 applied",
        )
    } else if ends >= 0.95 {
        (
            Severity::Serious,
            format!("{:.1} % of all values of {} are 0 or 255", 100.0 * ends, set.source),
            "Unless these are drawings in black and white, write the images again: likely values in [−1, 1] were cast to bytes \
             without being scaled",
        )
    } else if (14.0..=20.0).contains(&lowest) && (230.0..=237.0).contains(&highest) {
        (
            Severity::Warning,
            range,
            "Likely video levels, 16 to 235: convert to full range, or bring the other set to the same",
        )
    } else {
        return None;
    };
    Some(Finding::new(Kind::ValueRange, severity, &[&set.source], message, remedy))
}

fn jpeg_traces(set: &SetFacts) -> Option<Finding> {
    let lossless = || {
        set.seen()
            .filter(|(_, seen)| seen.provenance.lossy != Some(true))
            .filter_map(|(image, seen)| Some((image, seen.jpeg_traces?)))
    };
    let n = lossless().count();
    let median = crate::stats::quantile(&lossless().map(|(_, traces)| traces).collect::<Vec<_>>(), 0.5)?;
    let marked: Vec<String> = lossless()
        .filter(|(_, traces)| *traces > TRACES_OF_IMAGE)
        .map(|(image, _)| image.path.clone())
        .collect();
    let found = if n >= ENOUGH_TO_JUDGE {
        median > TRACES_OF_SET || marked.len() as f64 > TRACES_SHARE * n as f64
    } else {
        median > TRACES_OF_IMAGE
    };
    found.then(|| {
        Finding::new(
            Kind::JpegTraces,
            Severity::Warning,
            &[&set.source],
            format!(
                "of {n} lossless files of {} {} clear traces of an earlier JPEG (median trace {median:.2}; without JPEG below \
                 .03, after quality 95 about .25, after 75 about .6)",
                set.source,
                match marked.len() {
                    1 => "1 shows".to_owned(),
                    count => format!("{count} show"),
                },
            ),
            "Take the originals, or give the other set the same compression: features see the 8 × 8 blocks",
        )
        .of_paths(marked)
    })
}

fn enlarged(set: &SetFacts, question: &Question) -> Option<Finding> {
    let input = question.layers.iter().map(|layer| layer.input_px).max()?;
    let count = set.count(|image| image.short_side() < input);
    let smallest = set.images.iter().map(super::ImageFacts::short_side).min()?;
    (count > 0).then(|| {
        Finding::new(
            Kind::EnlargedImages,
            Severity::Note,
            &[&set.source],
            format!(
                "{count} of {} images of {} are smaller than the network's {input} pixels and will be enlarged, the \
                 smallest from {smallest}",
                set.n(),
                set.source
            ),
            "Nothing to do where both sets are alike; a network made for small images sees more of them",
        )
    })
}

fn of_numbers(set: &SetFacts) -> Finding {
    let size = match set.size() {
        Some(n) => format!("of {}", images(n)),
        None => "of images it does not count".to_owned(),
    };
    Finding::new(
        Kind::UnknownFacts,
        Severity::Note,
        &[&set.source],
        format!(
            "{} holds numbers {size} and no image: copies, files, sizes and colours are unknown",
            set.source
        ),
        "Run `anomaly-score preflight` on the images themselves, if they are to be had",
    )
}

fn unknown(set: &SetFacts) -> Option<Finding> {
    (!set.is_seen() && set.n() > 0).then(|| {
        Finding::new(
            Kind::UnknownFacts,
            Severity::Note,
            &[&set.source],
            format!(
                "of {} only a table is here, which holds content hashes, sizes and modes of {}: near-duplicates, file types, \
                 JPEG traces, colours and what files say of their making are unknown",
                set.source,
                images(set.n())
            ),
            "Run `anomaly-score preflight` on the images themselves",
        )
    })
}
