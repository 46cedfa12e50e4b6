//! What pre-flight has to say, each with what to do about it.

use std::fmt;

use serde::{Serialize, Serializer};

/// Paths that a message names, at most.
const NAMED: usize = 3;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; often as it should be.
    Note,
    /// Moves the numbers.
    Warning,
    /// The numbers will not mean what they seem to, or will be missing.
    Serious,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Serious => "serious",
        })
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident => $name:literal,)*) => {
        /// What was found. The names are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            /// All of them, in the order docs/preflight.md has them.
            pub const ALL: &[Kind] = &[$(Kind::$kind,)*];

            /// The name in reports, in snake case.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    /// The reference looks generated and the generated set real, by names or by what the files say.
    SwappedSets => "swapped_sets",
    /// Both sets hold the same images.
    SameSet => "same_set",
    /// Images of a set are in the reference too, pixel by pixel.
    SharedImages => "shared_images",
    /// Images of a set look like images of the reference.
    NearSharedImages => "near_shared_images",
    /// Images of a set have the pixels of another of it.
    DuplicateImages => "duplicate_images",
    /// Images of a set look like another of it.
    NearDuplicateImages => "near_duplicate_images",
    /// Files of a set cannot be read.
    SkippedImages => "skipped_images",
    /// Images show nothing.
    FeaturelessImages => "featureless_images",
    /// The values of a set fill only a part of the range.
    ValueRange => "value_range",
    /// Many more values of one set lie at an end of the range.
    ClippedValues => "clipped_values",
    /// Red and blue are likely exchanged.
    ChannelsSwapped => "channels_swapped",
    /// The colours are likely inverted.
    ColoursInverted => "colours_inverted",
    /// Brightness, colour or contrast of the sets lie far apart.
    ColoursDiffer => "colours_differ",
    /// One set has more images without colour.
    GreyDiffers => "grey_differs",
    /// One set has more images with transparency.
    AlphaDiffers => "alpha_differs",
    /// One set is lossily compressed and the other is not, or less of it.
    FileTypesDiffer => "file_types_differ",
    /// Both sets are JPEG, of different quality.
    JpegQualityDiffers => "jpeg_quality_differs",
    /// Lossless files hold pixels that were JPEG before.
    JpegTraces => "jpeg_traces",
    /// The sets are of different size.
    SizesDiffer => "sizes_differ",
    /// The sets are of different proportions.
    AspectsDiffer => "aspects_differ",
    /// Images are smaller than the network's input.
    EnlargedImages => "enlarged_images",
    /// Files name a camera, in a generated set.
    CameraInGenerated => "camera_in_generated",
    /// Files name a generative program, in a set of real images.
    GeneratorInReal => "generator_in_real",
    /// A metric cannot be computed from so few images.
    TooFewForMetric => "too_few_for_metric",
    /// A covariance of so few images is singular.
    RankDeficient => "rank_deficient",
    /// So few images score high without any difference.
    SmallN => "small_n",
    /// A metric depends on n, and n is far from published ones.
    DependsOnN => "depends_on_n",
    /// Models have different numbers of images.
    UnequalN => "unequal_n",
    /// What a table does not hold was not looked at.
    UnknownFacts => "unknown_facts",
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// An image that a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Concerned {
    /// Its path within its source.
    pub path: String,
    /// The image it is a copy of, within the other source or its own. Absent in JSON where the finding is not of copies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_of: Option<String>,
    /// Whether it is a copy only after mirroring left for right.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mirrored: bool,
}

/// One thing found. The fields, in this order, are keys of the JSON report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// How much it weighs.
    pub severity: Severity,
    /// The sources it is about, as the user named them: one, or two that were compared.
    pub sets: Vec<String>,
    /// What was found, with counts, in a sentence without its full stop.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// All images it is about, where it is about single ones.
    pub images: Vec<Concerned>,
}

impl Finding {
    pub(super) fn new(
        kind: Kind,
        severity: Severity,
        sets: &[&str],
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        let mut names: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        names.dedup();
        Finding {
            kind,
            severity,
            sets: names,
            message: message.into(),
            remedy: remedy.into(),
            images: Vec::new(),
        }
    }

    pub(super) fn about(mut self, images: impl IntoIterator<Item = Concerned>) -> Finding {
        self.images = images.into_iter().collect();
        self
    }

    pub(super) fn of_paths(self, paths: impl IntoIterator<Item = String>) -> Finding {
        self.about(paths.into_iter().map(|path| Concerned { path, copy_of: None, mirrored: false }))
    }
}

/// The message and a few paths.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.images.is_empty() {
            let mut named: Vec<String> = self.images.iter().take(NAMED).map(Concerned::to_string).collect();
            if self.images.len() > NAMED {
                named.push("…".into());
            }
            write!(f, " ({})", named.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Concerned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if let Some(other) = &self.copy_of {
            write!(f, " = {other}{}", if self.mirrored { " mirrored" } else { "" })?;
        }
        Ok(())
    }
}
