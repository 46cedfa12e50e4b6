//! What sets a set apart from the reference that is no fault of a model.

use super::copies;
use super::facts::ImageFacts;
use super::finding::{Finding, Kind, Severity};
use super::set::{Basis, Role, SetFacts};
use super::within::{ENOUGH_TO_JUDGE, concerned, weight_of_copies};
use super::{Question, colours, images, names, shares_differ};

/// Ratio of median short sides from which sets are of different size.
const SIZE_RATIO: f64 = 1.25;
/// The same from which that is more than a note.
const SIZE_RATIO_LARGE: f64 = 2.0;
/// Long side over short side up to which a picture counts as square, and ratio of two medians of it that sets it apart.
const SQUARE: f64 = 1.1;
/// Difference of median JPEG qualities that is a note, and a warning.
const QUALITY: [f64; 2] = [5.0, 10.0];
/// Difference in the share of values at one end of the range.
const CLIPPED: f64 = 0.2;

pub(super) fn findings(reference: &SetFacts, other: &SetFacts, question: &Question) -> Vec<Finding> {
    if [reference, other].iter().any(|set| matches!(set.basis, Basis::Numbers { .. })) {
        return Vec::new();
    }
    let mut found = Vec::new();
    match same_set(reference, other) {
        Some(same) => return vec![same],
        None => found.extend(shared(reference, other)),
    }
    found.extend(near_shared(reference, other));
    if other.role == Role::Generated {
        found.extend(names::swapped(reference, other));
    }
    found.extend(file_types(reference, other));
    found.extend(jpeg_quality(reference, other));
    found.extend(sizes(reference, other, question));
    found.extend(aspects(reference, other, question));
    found.extend(grey(reference, other));
    found.extend(alpha(reference, other));
    found.extend(clipped(reference, other));
    found.extend(colours::findings(reference, other));
    found
}

fn same_set(reference: &SetFacts, other: &SetFacts) -> Option<Finding> {
    let sorted = |set: &SetFacts| {
        let mut hashes: Vec<_> = set.images.iter().map(|image| image.content_hash).collect();
        hashes.sort_unstable();
        hashes
    };
    (reference.n() > 0 && reference.n() == other.n() && sorted(reference) == sorted(other)).then(|| {
        Finding::new(
            Kind::SameSet,
            Severity::Serious,
            &[&reference.source, &other.source],
            format!("{} and {} hold the same {}", reference.source, other.source, images(other.n())),
            "Name the folder of photos first and the folder of generated images second",
        )
    })
}

fn shared(reference: &SetFacts, other: &SetFacts) -> Option<Finding> {
    let pairs = copies::shared(other, reference);
    let (count, n) = (pairs.len(), other.n());
    (count > 0).then(|| {
        Finding::new(
            Kind::SharedImages,
            weight_of_copies(count, n),
            &[&other.source, &reference.source],
            format!(
                "{count} of {n} images of {} are in {} too, pixel by pixel",
                other.source, reference.source
            ),
            remedy_of_copies(other.role),
        )
        .about(concerned(&pairs, other, reference))
    })
}

fn near_shared(reference: &SetFacts, other: &SetFacts) -> Option<Finding> {
    let pairs = copies::near_shared(other, reference)?;
    let (count, n) = (pairs.len(), other.n());
    (count > 0).then(|| {
        Finding::new(
            Kind::NearSharedImages,
            weight_of_copies(count, n),
            &[&other.source, &reference.source],
            format!(
                "{count} of {n} images of {} look like an image of {} without having its pixels",
                other.source, reference.source
            ),
            remedy_of_copies(other.role),
        )
        .about(concerned(&pairs, other, reference))
    })
}

fn remedy_of_copies(role: Role) -> &'static str {
    match role {
        Role::HeldOut => "Remove them: what is held out must not be among the training images",
        _ => {
            "Remove them from one of the sets if they got there by mistake; if the model made them, it repeats what it was \
             trained on, and distances will flatter it"
        }
    }
}

fn file_types(reference: &SetFacts, other: &SetFacts) -> Option<Finding> {
    let lossy = |set: &SetFacts| {
        let count = set.seen().filter(|(_, seen)| seen.provenance.lossy == Some(true)).count();
        set.is_seen().then_some([count, set.n()])
    };
    let severity = shares_differ(lossy(reference)?, lossy(other)?)?;
    let types = |set: &SetFacts| {
        let each: Vec<String> = set.file_types().iter().map(|(name, n)| format!("{n} {name}")).collect();
        each.join(", ")
    };
    Some(Finding::new(
        Kind::FileTypesDiffer,
        severity,
        &[&other.source, &reference.source],
        format!("{} is {}, {} is {}", reference.source, types(reference), other.source, types(other)),
        "Save both sets in the same way, best as PNG from the originals: what JPEG does to pixels is a difference that features see",
    ))
}

fn jpeg_quality(reference: &SetFacts, other: &SetFacts) -> Option<Finding> {
    let quality = |set: &SetFacts| {
        let of = |image: &ImageFacts| Some(f64::from(image.seen.as_ref()?.provenance.jpeg_quality?));
        let enough = 2 * set.count(|image| of(image).is_some()) >= set.n();
        set.median(of).filter(|_| enough)
    };
    let (mine, theirs) = (quality(reference)?, quality(other)?);
    let difference = (mine - theirs).abs();
    let severity = if difference >= QUALITY[1] {
        Severity::Warning
    } else if difference >= QUALITY[0] {
        Severity::Note
    } else {
        return None;
    };
    Some(Finding::new(
        Kind::JpegQualityDiffers,
        severity,
        &[&other.source, &reference.source],
        format!(
            "JPEG quality is {mine:.0} in {} and {theirs:.0} in {} (medians, by the quantisation tables)",
            reference.source, other.source
        ),
        "Take the originals, or compress both sets alike: coarser JPEG is a difference that features see",
    ))
}

fn sizes(reference: &SetFacts, other: &SetFacts, question: &Question) -> Option<Finding> {
    let side = |set: &SetFacts| set.median(|image| Some(f64::from(image.short_side())));
    let (mine, theirs) = (side(reference)?, side(other)?);
    let ratio = (mine / theirs).max(theirs / mine);
    if ratio < SIZE_RATIO {
        return None;
    }
    let straddled = question.layers.iter().any(|layer| {
        let input = f64::from(layer.input_px);
        (mine < input) != (theirs < input)
    });
    let severity = if ratio >= SIZE_RATIO_LARGE || straddled { Severity::Warning } else { Severity::Note };
    let mut message = format!(
        "the short side is {mine:.0} pixels in {} and {theirs:.0} in {} (medians)",
        reference.source, other.source
    );
    if straddled {
        message += ": one set will be enlarged to the network's input, the other reduced";
    }
    Some(Finding::new(
        Kind::SizesDiffer,
        severity,
        &[&other.source, &reference.source],
        message,
        "Bring the larger images to the size of the smaller ones first, with an antialiased resampler: sharpness is a difference \
         that features see",
    ))
}

fn aspects(reference: &SetFacts, other: &SetFacts, question: &Question) -> Option<Finding> {
    let aspect =
        |image: &ImageFacts| f64::from(image.width.max(image.height)) / f64::from(image.short_side());
    let oblong = |set: &SetFacts| set.count(|image| aspect(image) > SQUARE);
    let (a, b) = (oblong(reference), oblong(other));
    let median = |set: &SetFacts| set.median(|image| Some(aspect(image)));
    let (mine, theirs) = (median(reference)?, median(other)?);
    let far = (mine / theirs).max(theirs / mine) >= SIZE_RATIO;
    let shares = shares_differ([a, reference.n()], [b, other.n()]);
    let severity = match (shares, far) {
        (None, false) => return None,
        // A crop keeps the proportions and loses the margins; squashing changes what things look like.
        _ if question.squash => Severity::Warning,
        _ => Severity::Note,
    };
    Some(Finding::new(
        Kind::AspectsDiffer,
        severity,
        &[&other.source, &reference.source],
        format!(
            "{a} of {} images of {} are oblong (longer side over shorter, median {mine:.2}) and {b} of {} of {} (median {theirs:.2})",
            reference.n(),
            reference.source,
            other.n(),
            other.source
        ),
        if question.squash {
            "Crop both sets to the same proportions first: squashing distorts one of them"
        } else {
            "Nothing to do if the middle of a picture stands for it; otherwise crop both sets to the same proportions first"
        },
    ))
}

fn grey(reference: &SetFacts, other: &SetFacts) -> Option<Finding> {
    // A table has the mode of the file, not whether pixels are grey.
    if reference.is_seen() != other.is_seen() {
        return None;
    }
    let count = |set: &SetFacts| [set.count(|image| image.grey), set.n()];
    let ([a, n_a], [b, n_b]) = (count(reference), count(other));
    let severity = shares_differ([a, n_a], [b, n_b])?;
    Some(Finding::new(
        Kind::GreyDiffers,
        severity,
        &[&other.source, &reference.source],
        format!(
            "{a} of {n_a} images of {} have no colour and {b} of {n_b} of {}",
            reference.source, other.source
        ),
        "Make both sets grey or compare with photos in colour, unless the model is to answer for it",
    ))
}

fn alpha(reference: &SetFacts, other: &SetFacts) -> Option<Finding> {
    let count = |set: &SetFacts| [set.count(|image| image.alpha), set.n()];
    let ([a, n_a], [b, n_b]) = (count(reference), count(other));
    let severity = shares_differ([a, n_a], [b, n_b])?;
    Some(Finding::new(
        Kind::AlphaDiffers,
        severity,
        &[&other.source, &reference.source],
        format!(
            "{a} of {n_a} images of {} have transparency and {b} of {n_b} of {}; white is laid under it",
            reference.source, other.source
        ),
        "Flatten both sets over the same background first",
    ))
}

fn clipped(reference: &SetFacts, other: &SetFacts) -> Option<Finding> {
    if [reference, other].into_iter().any(|set| !set.is_seen() || set.n() < ENOUGH_TO_JUDGE) {
        return None;
    }
    type Share = fn(&ImageFacts) -> f64;
    let mean = |set: &SetFacts, of: Share| set.images.iter().map(of).sum::<f64>() / set.n() as f64;
    let ends: [(u8, Share); 2] = [
        (0, |image| image.seen.as_ref().map_or(0.0, |seen| seen.colour.black)),
        (255, |image| image.seen.as_ref().map_or(0.0, |seen| seen.colour.white)),
    ];
    let (end, mine, theirs) = ends
        .into_iter()
        .map(|(end, of)| (end, mean(reference, of), mean(other, of)))
        .find(|(_, mine, theirs)| (mine - theirs).abs() >= CLIPPED)?;
    Some(Finding::new(
        Kind::ClippedValues,
        Severity::Warning,
        &[&other.source, &reference.source],
        format!(
            "{:.1} % of all values of {} are {end} and {:.1} % of {}",
            100.0 * mine,
            reference.source,
            100.0 * theirs,
            other.source
        ),
        "Look at some images: unless they are to be so, values were cut off because they were written in another range than they \
         were in, such as [−1, 1] as if it were [0, 1]",
    ))
}
