//! Signs that reference and generated images were given in the wrong order.

use std::collections::HashSet;

use super::finding::{Finding, Kind, Severity};
use super::images;
use super::set::SetFacts;

/// Words in a path that real images are kept under.
const REAL: [&str; 12] = [
    "real",
    "reals",
    "photo",
    "photos",
    "photographs",
    "reference",
    "ref",
    "gt",
    "groundtruth",
    "original",
    "originals",
    "natural",
];
/// Words in a path that generated images are kept under.
const GENERATED: [&str; 19] = [
    "fake",
    "fakes",
    "gen",
    "generated",
    "sample",
    "samples",
    "synthetic",
    "synth",
    "gan",
    "dcgan",
    "stylegan",
    "biggan",
    "diffusion",
    "ddpm",
    "ddim",
    "sdxl",
    "midjourney",
    "dalle",
    "generations",
];
/// Different sizes that speak for photos.
const MANY_SIZES: usize = 10;
/// Share of a set whose files must say so before the sets are likely exchanged.
const MOST: f64 = 0.5;

/// What names and files say against the order of the sets.
pub(super) fn swapped(reference: &SetFacts, generated: &SetFacts) -> Vec<Finding> {
    let sets: [&str; 2] = [&generated.source, &reference.source];
    let camera = marked(generated, |seen| seen.provenance.camera.as_deref());
    let generator = marked(reference, |seen| seen.provenance.generator.as_deref());
    let cameras_of_reference = marked(reference, |seen| seen.provenance.camera.as_deref());
    let share = |marked: &Marked, set: &SetFacts| marked.paths.len() as f64 / set.n().max(1) as f64;

    let mut signs = Vec::new();
    if let Some(sign) = by_name(&reference.source, &generated.source) {
        signs.push(sign);
    }
    if share(&camera, generated) > MOST && share(&cameras_of_reference, reference) < 0.1 {
        let said = format!("{} of {} name a camera", images(camera.paths.len()), generated.source);
        signs.push((Severity::Serious, said));
    }
    if share(&generator, reference) > MOST {
        let said =
            format!("{} of {} name a generative program", images(generator.paths.len()), reference.source);
        signs.push((Severity::Serious, said));
    }
    let sizes = |set: &SetFacts| {
        set.images.iter().map(|image| (image.width, image.height)).collect::<HashSet<_>>().len()
    };
    // Generators have a size of their own. That is too little to accuse by, and worth saying beside something else.
    if !signs.is_empty() && sizes(reference) == 1 && sizes(generated) >= MANY_SIZES {
        let said = format!(
            "{} come in {} sizes, those of {} in one",
            generated.source,
            sizes(generated),
            reference.source
        );
        signs.push((Severity::Note, said));
    }
    if let Some(&severity) = signs.iter().map(|(severity, _)| severity).max() {
        let said: Vec<String> = signs.into_iter().map(|(_, said)| said).collect();
        return vec![Finding::new(
            Kind::SwappedSets,
            severity,
            &sets,
            format!("reference and generated images are likely exchanged: {}", said.join("; ")),
            "The real photos come first, then the model's images; if this is the order, nothing is wrong",
        )];
    }
    let mut found = Vec::new();
    if let Some(first) = camera.first {
        let count = camera.paths.len();
        let finding = Finding::new(
            Kind::CameraInGenerated,
            Severity::Warning,
            &[&generated.source],
            format!("{} of {} name a camera, the first {first}", images(count), generated.source),
            "Remove photos that got among the generated images; a program that copies the tags of its input writes them too",
        );
        found.push(finding.of_paths(camera.paths));
    }
    if let Some(first) = generator.first {
        let count = generator.paths.len();
        let finding = Finding::new(
            Kind::GeneratorInReal,
            Severity::Warning,
            &[&reference.source],
            format!("{} of {} name a generative program, the first {first}", images(count), reference.source),
            "Remove generated images from the reference",
        );
        found.push(finding.of_paths(generator.paths));
    }
    found
}

struct Marked {
    paths: Vec<String>,
    first: Option<String>,
}

fn marked(set: &SetFacts, of: impl Fn(&super::Seen) -> Option<&str>) -> Marked {
    let all: Vec<(&str, &str)> =
        set.seen().filter_map(|(image, seen)| Some((image.path.as_str(), of(seen)?))).collect();
    Marked {
        paths: all.iter().map(|(path, _)| (*path).to_owned()).collect(),
        first: all.first().map(|(_, what)| (*what).to_owned()),
    }
}

/// What the words of two paths say that they do not share: a warning where both speak for an exchange, a note where one does and the
/// other is silent.
fn by_name(reference: &str, generated: &str) -> Option<(Severity, String)> {
    let (mine, theirs) = (words(reference), words(generated));
    let own = |words: &[String], other: &[String]| -> Option<bool> {
        let is = |list: &[&str]| words.iter().any(|w| list.contains(&w.as_str()) && !other.contains(w));
        match (is(&REAL), is(&GENERATED)) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            _ => None,
        }
    };
    let severity = match (own(&mine, &theirs), own(&theirs, &mine)) {
        (Some(false), Some(true)) => Severity::Serious,
        (Some(false), None) | (None, Some(true)) => Severity::Note,
        _ => return None,
    };
    Some((
        severity,
        format!("by their names {reference} holds the generated images or {generated} the real ones"),
    ))
}

/// The words of a path, in lower case.
fn words(path: &str) -> Vec<String> {
    path.split(|c: char| !c.is_alphabetic()).filter(|w| !w.is_empty()).map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_accuse_only_where_they_speak() {
        let of = |a, b| by_name(a, b).map(|(severity, _)| severity);
        assert_eq!(of("samples/", "photos/"), Some(Severity::Serious));
        assert_eq!(of("runs/fake_epoch3", "data/Real"), Some(Severity::Serious));
        assert_eq!(of("samples/", "cats/"), Some(Severity::Note));
        assert_eq!(of("cats/", "photos/"), Some(Severity::Note));
        for (reference, generated) in [
            ("photos/", "samples/"),
            ("cats/", "dogs/"),
            ("real", "real_b"),
            ("samples/a", "samples/b"),
            ("generated-study/real", "generated-study/fake"),
            ("training/", "realistic/"),
            ("photo-samples", "gan"),
            ("real", "photos"),
        ] {
            assert_eq!(of(reference, generated), None, "{reference} {generated}");
        }
    }
}
