//! What a reader of the numbers must know, each with what to do about it.

use std::fmt;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::number::significant;
use crate::table::Settings;

/// Share of the median complexity that rounding may make up before it is warned about.
pub(super) const NOISE_FLOOR_LIMIT: f64 = 0.1;
/// Share of the generated images that may be in the reference before it is warned about.
pub(super) const SHARED_LIMIT: f64 = 0.01;
/// Cliff's δ from which a reversed claim counts; Romano et al. 2006 call less negligible. A middling GAN on CIFAR-10 has .18 and .24, the
/// right way round (docs/preflight.md).
pub(super) const CLEAR_DELTA: f64 = 0.147;
/// Images a set needs not to be called small.
pub(crate) const SMALL_N: usize = 50;

/// One of the sets of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// The real images.
    Reference,
    /// The images of the model under test.
    Generated,
    /// Real images the model was not trained on.
    HeldOut,
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Set::Reference => "the reference set",
            Set::Generated => "the generated set",
            Set::HeldOut => "the held-out set",
        })
    }
}

/// A metric that shows no difference.
#[derive(Clone, Debug, PartialEq)]
pub struct AtFloor {
    /// The metric.
    pub title: String,
    /// Its value.
    pub value: f64,
    /// What one in twenty random parts of the reference does no better than.
    pub limit: f64,
    /// Images in such a part, at least.
    pub n: usize,
    /// Images in each set at which the present excess over the floor's mean would reach the limit, if it is real; `None` where there is no
    /// excess, or for more than a million.
    pub needed: Option<usize>,
}

/// How far sets measured in two arithmetics are affected by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Only features are compared.
    Features,
    /// Complexity and vulnerability too.
    Scores,
    /// And so much of complexity is rounding that the sets may be apart by that alone.
    Noise,
}

/// Something that makes the numbers of a report less than they seem. `{kind, message}` in JSON: the kind is stable,
/// the message (its `Display`) is for people and says what to do.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// `same_set`: both sets hold the same images, by content and how often each occurs.
    SameSet {
        /// Number of images.
        n: usize,
    },
    /// `shared_images`: more than 1 % of the generated images are, byte for byte, in the reference too.
    SharedImages {
        /// How many generated images are.
        count: usize,
        /// Of how many.
        n_generated: usize,
    },
    /// `not_above_floor`: the score is not above the 95 % quantile of what sets that do not differ score.
    NotAboveFloor {
        /// The score.
        value: f64,
        /// The quantile.
        null_q95: f64,
        /// Reference images that entered.
        n_reference: usize,
        /// Generated images that entered.
        n_generated: usize,
    },
    /// `metrics_not_beyond_floor`: metrics that random parts of the reference reach too.
    MetricsAtFloor {
        /// The metrics.
        metrics: Vec<AtFloor>,
    },
    /// `claims_reversed`: generated images are clearly the more complex and the less vulnerable ones.
    ClaimsReversed {
        /// Cliff's δ of complexity, generated over reference.
        complexity: f64,
        /// The same of vulnerability.
        vulnerability: f64,
    },
    /// `small_n`: fewer than 50 images of a set entered, so that the score of sets that do not differ is high.
    SmallN {
        /// Reference images that entered.
        n_reference: usize,
        /// Generated images that entered.
        n_generated: usize,
        /// Mean score of sets of these sizes that do not differ; `None` without permutations.
        null_mean: Option<f64>,
    },
    /// `noise_floor`: more than a tenth of a set's median complexity is rounding.
    NoiseFloor {
        /// The set.
        set: Set,
        /// Median noise floor of its images, radians.
        floor: f64,
        /// Median complexity of its images, radians.
        complexity: f64,
    },
    /// `undefined_rows`: images without complexity or vulnerability, left out of the score.
    UndefinedRows {
        /// The set.
        set: Set,
        /// How many.
        count: usize,
    },
    /// `skipped_images`: images that could not be read.
    SkippedImages {
        /// The set.
        set: Set,
        /// How many.
        count: usize,
    },
    /// `alpha_composited`: images with transparency, laid over white before measuring.
    AlphaComposited {
        /// The set.
        set: Set,
        /// How many.
        count: usize,
    },
    /// `arithmetic`: sets were measured by instructions that round differently.
    Arithmetic {
        /// The sets whose arithmetic is known, each with its name.
        sets: Vec<(Set, String)>,
        /// What that does to the numbers.
        rounding: Rounding,
    },
    /// `cache_unusable`: the cache of measurements could not be used; no number is affected.
    CacheUnusable {
        /// What went wrong and what to do, in the words of whoever noticed.
        message: String,
    },
    /// `preset`: what the preset does not reproduce of its tool.
    Preset {
        /// The preset.
        name: String,
        /// In words.
        limits: String,
    },
    /// `unclassified`: images without a class, which are in no entry of `classes`.
    Unclassified {
        /// The set.
        set: Set,
        /// How many.
        count: usize,
    },
    /// `file_of_unknown_origin`: a file of features or statistics, which does not say what made it.
    FileOfUnknownOrigin {
        /// The file.
        file: String,
        /// Backbone and layer it is taken to be of.
        features: String,
    },
    /// `demo`: the images are those the program ships, which prove nothing about the method.
    Demo,
}

impl Warning {
    /// What there is to beware of in sets measured by these settings for their arithmetics; `None` where all that are known are one.
    pub fn of_arithmetics(sets: &[(Set, &Settings)]) -> Option<Warning> {
        // Of held-out images nothing but features is read.
        let scored = |(set, settings): &&(Set, &Settings)| *set != Set::HeldOut && settings.has_scores();
        let rounding =
            if sets.iter().filter(scored).count() > 1 { Rounding::Scores } else { Rounding::Features };
        let known = sets.iter().filter_map(|(set, settings)| Some((*set, settings.arithmetic.clone()?)));
        let sets: Vec<(Set, String)> = known.collect();
        let differ = sets.windows(2).any(|pair| pair[0].1 != pair[1].1);
        differ.then_some(Warning::Arithmetic { sets, rounding })
    }

    /// The kind, in snake case; stable.
    pub fn kind(&self) -> &'static str {
        match self {
            Warning::SameSet { .. } => "same_set",
            Warning::SharedImages { .. } => "shared_images",
            Warning::NotAboveFloor { .. } => "not_above_floor",
            Warning::MetricsAtFloor { .. } => "metrics_not_beyond_floor",
            Warning::ClaimsReversed { .. } => "claims_reversed",
            Warning::SmallN { .. } => "small_n",
            Warning::NoiseFloor { .. } => "noise_floor",
            Warning::UndefinedRows { .. } => "undefined_rows",
            Warning::SkippedImages { .. } => "skipped_images",
            Warning::AlphaComposited { .. } => "alpha_composited",
            Warning::Arithmetic { .. } => "arithmetic",
            Warning::CacheUnusable { .. } => "cache_unusable",
            Warning::Preset { .. } => "preset",
            Warning::Unclassified { .. } => "unclassified",
            Warning::FileOfUnknownOrigin { .. } => "file_of_unknown_origin",
            Warning::Demo => "demo",
        }
    }
}

/// `1 image` or `n images`, with the verb that follows.
fn images(n: usize, one: &str, many: &str) -> String {
    if n == 1 { format!("1 image {one}") } else { format!("{n} images {many}") }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::SameSet { n } => write!(
                f,
                "both sets hold the same {}, so the score is the smallest possible and says nothing about a model. \
                 Name the folder of photos first and the folder of generated images second.",
                images(*n, "", "").trim_end()
            ),
            Warning::SharedImages { count, n_generated } => write!(
                f,
                "{count} of {n_generated} generated images are byte for byte in the reference set too, which pulls \
                 the score towards 0. Remove them from one of the sets; if the model made them, it repeats what it \
                 was trained on."
            ),
            Warning::NotAboveFloor { value, null_q95, n_reference, n_generated } => write!(
                f,
                "no difference between the sets can be claimed with {n_reference} reference and {n_generated} \
                 generated images: the score {} is not above {}, which 5 % of sets of these sizes exceed without any \
                 difference. That does not show that the sets are alike; use more images to see smaller differences.",
                significant(*value, 4),
                significant(*null_q95, 4)
            ),
            Warning::MetricsAtFloor { metrics } => {
                f.write_str("no difference between the sets can be claimed by ")?;
                for (i, metric) in metrics.iter().enumerate() {
                    let AtFloor { title, value, limit, n, .. } = metric;
                    let comma = if i > 0 { ", " } else { "" };
                    let (value, limit) = (significant(*value, 4), significant(*limit, 4));
                    write!(f, "{comma}{title} ({value}; floor {limit} at n = {n})")?;
                }
                f.write_str(
                    ": one in twenty random parts of the reference does no better. That does not show that the sets are alike; use \
                     more images to see smaller differences.",
                )?;
                let known: Vec<String> = metrics
                    .iter()
                    .filter_map(|metric| Some(format!("{} about {}", metric.title, metric.needed?)))
                    .collect();
                if !known.is_empty() {
                    let known = known.join(", ");
                    write!(f, " If the present excess is real, so many in each set would show it: {known}.")?;
                }
                Ok(())
            }
            Warning::ClaimsReversed { complexity, vulnerability } => write!(
                f,
                "generated images are the more complex (Cliff's δ {}) and the less vulnerable ones (δ {}), the reverse of what the \
                 paper reports. Either the sets are exchanged (real photos come first), or AS-i of this backbone does not mean \
                 naturalness on these images: try another one, and look at the images that AS-i ranks last.",
                significant(*complexity, 2),
                significant(*vulnerability, 2)
            ),
            Warning::SmallN { n_reference, n_generated, null_mean } => {
                write!(f, "{n_reference} reference and {n_generated} generated images are few: ")?;
                match null_mean {
                    Some(mean) => write!(
                        f,
                        "sets of these sizes score {} on average even if they do not differ.",
                        significant(*mean, 4)
                    )?,
                    None => write!(
                        f,
                        "sets of these sizes score far above 0 even if they do not differ. Ask for permutations to \
                         see how far."
                    )?,
                }
                write!(
                    f,
                    " Use at least {SMALL_N} images in each set, better 500, and compare scores of equal sizes only."
                )
            }
            Warning::NoiseFloor { set, floor, complexity } => {
                write!(
                    f,
                    "complexity in {set} is partly rounding: the median noise floor is {} rad, ",
                    significant(*floor, 3)
                )?;
                if *complexity > 0.0 {
                    write!(
                        f,
                        "{} % of the median complexity of {} rad",
                        significant(100.0 * floor / complexity, 2),
                        significant(*complexity, 3)
                    )?;
                } else {
                    write!(f, "the median complexity 0")?;
                }
                write!(
                    f,
                    " (more than {} % is too much). Measure with --protocol exact, which has no such rounding \
                     but needs a smooth network.",
                    NOISE_FLOOR_LIMIT * 100.0
                )
            }
            Warning::UndefinedRows { set, count } => write!(
                f,
                "{} in {set} without complexity or vulnerability {} left out of the score. Look at the rows with \
                 empty numbers: such images are often of one colour, or the steps are too small for the network.",
                if *count == 1 { "1 image".to_owned() } else { format!("{count} images") },
                if *count == 1 { "is" } else { "are" },
            ),
            Warning::SkippedImages { set, count } => write!(
                f,
                "{} in {set} could not be read and {} missing from every number. The reasons are under `skipped` in \
                 the JSON report; repair or remove the files and run again.",
                if *count == 1 { "1 file".to_owned() } else { format!("{count} files") },
                if *count == 1 { "is" } else { "are" },
            ),
            Warning::AlphaComposited { set, count } => write!(
                f,
                "{} transparency, laid over white before measuring. If the other set was not made over white, \
                 the background itself is a difference: flatten both sets in the same way.",
                images(*count, &format!("in {set} has"), &format!("in {set} have")),
            ),
            Warning::Arithmetic { sets, rounding } => {
                for (i, (set, arithmetic)) in sets.iter().enumerate() {
                    let (comma, verb) = if i > 0 { (", ", "") } else { ("", "was measured ") };
                    write!(f, "{comma}{set} {verb}in arithmetic {arithmetic}")?;
                }
                f.write_str(match rounding {
                    Rounding::Features => {
                        ". They round differently: features of one and the same image differ by about a millionth."
                    }
                    Rounding::Scores => {
                        ". They round differently: of one and the same image features differ by about a millionth, complexity by \
                         part of its noise floor (on smooth networks most of it, unless measured with --protocol exact), and \
                         vulnerability by up to several per cent, as with another seed, where rounding \
                         decides which way an attack turns."
                    }
                    Rounding::Noise => {
                        ". They round differently, and complexity is partly rounding here (noise_floor), more of it in one \
                         arithmetic than in another: the sets may be apart by that alone, and the score means nothing before \
                         both are of one arithmetic, or measured with --protocol exact."
                    }
                })?;
                let others = sets.iter().filter(|(_, arithmetic)| arithmetic != "fused");
                let others: Vec<String> = others.map(|(set, _)| set.to_string()).collect();
                write!(
                    f,
                    " For the same bits measure {} again with --arithmetic fused, on any x86-64 machine with AVX2",
                    others.join(" and "),
                )?;
                let separate = sets.iter().any(|(_, arithmetic)| arithmetic == "separate");
                f.write_str(if separate { "; for a machine without, all with ANOMALY_SCORE_ISA=portable." } else { "." })
            }
            Warning::CacheUnusable { message } => f.write_str(message),
            Warning::Preset { name, limits } => write!(f, "preset {name}: {limits}."),
            Warning::Unclassified { set, count } => write!(
                f,
                "{} no class and entered no result by class. Classes are sub-folders, or what the file of --by-class \
                 says of a path.",
                images(*count, &format!("in {set} has"), &format!("in {set} have")),
            ),
            Warning::FileOfUnknownOrigin { file, features } => write!(
                f,
                "{file} does not say which network, layer and resizing made it; it is taken to be of {features}. If it is \
                 not, distances to it mean nothing, and only another length would be noticed."
            ),
            Warning::Demo => f.write_str(
                "these images show how the program is used and what it prints; they are no evidence for the method. \
                 The generated ones come from a toy generator whose settings were chosen after their scores had been \
                 seen, and with the default settings they have the higher complexity and the lower vulnerability, \
                 the reverse of what the paper reports. Judge the method on images of your own.",
            ),
        }
    }
}

impl Serialize for Warning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Warning", 2)?;
        fields.serialize_field("kind", self.kind())?;
        fields.serialize_field("message", &self.to_string())?;
        fields.end()
    }
}
