//! What `compare` found, as one value, and the forms it is read in.
//!
//! [`Report::from_tables`] reads two finished tables; everything after is a pure function of the [`Report`]:
//! [`terminal`] for people, [`json`] for programs, [`csv`] for a row an image. docs/json.md says what every key means.
//! [`write_text`] puts such a text on the disk, [`write_features`] a table's features.

mod atomic;
mod classes;
mod csv;
mod features;
mod floor;
mod json;
pub(crate) mod layout;
mod metrics;
mod models;
pub(crate) mod number;
mod preflight;
mod terminal;
mod warning;

#[cfg(test)]
mod tests;

use serde::Serialize;

pub use self::atomic::{write_bytes, write_text};
pub use self::csv::{csv, csv_of_models};
pub use self::features::write_features;
pub use self::json::json;
pub use self::models::{Models, terminal_of_models};
pub use self::preflight::terminal_of_preflight;
pub use self::terminal::terminal;
pub use self::warning::{AtFloor, Rounding, Set, Warning};

pub(crate) use self::warning::SMALL_N;
use self::warning::{CLEAR_DELTA, NOISE_FLOOR_LIMIT, SHARED_LIMIT};
use crate::evaluate::{
    self, ByClass, Claims, ClassResult, FeatureSet, ImageColumns, MetricResult, SetStatistics, Side, evaluate,
};
use crate::preflight::Preflight;
use crate::set_metric::{AnomalyScore, PermutationOptions, Point, anomaly_score};
use crate::stats::{Summary, cliffs_delta, quantile};
use crate::table::{ProtocolSettings, ScoredImage, Settings, Skipped, Table};
use crate::{Error, ErrorKind, Result};

/// Result of `anomaly-score compare`: the score, what it was made from and what to beware of.
///
/// The fields, in this order, are the keys of the JSON report, which are stable. Undefined is `None`, null in JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The program that wrote the report.
    pub tool: Tool,
    /// What was computed, with its constants.
    pub protocol: ProtocolSettings,
    /// The network it was computed with.
    pub backbone: Backbone,
    /// How an image was brought to the network's input size: resampler and crop, by name.
    pub resampler: String,
    /// Seed of every random direction and start of the measurements.
    pub seed: u64,
    /// The tool whose habits were followed; no key in JSON without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// The real images.
    pub reference: SetReport,
    /// The images of the model under test.
    pub generated: SetReport,
    /// How far the two sets are apart; `None` where a set's complexity and vulnerability were not measured.
    pub anomaly_score: Option<AnomalyScore>,
    /// Further metrics; no key in JSON where none were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<MetricResult>,
    /// The paper's claims as tests; no key in JSON where they were not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<Claims>,
    /// What was found on the images before they were measured; no key in JSON where it was not looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preflight: Option<Preflight>,
    /// The metrics by class; no key in JSON where they were not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<ClassResult>>,
    /// The generated images, in byte order of the paths.
    pub images: Vec<ImageReport>,
    /// What makes the numbers above less than they seem, most important first.
    pub warnings: Vec<Warning>,
}

/// A program and its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tool {
    /// `anomaly-score`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The network, as the report names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backbone {
    /// Name in the registry of backbones.
    pub name: String,
    /// SHA-256 of the weights, lower-case hexadecimal; `None` where files of features or statistics alone were read.
    pub weights_sha256: Option<String>,
    /// Side of the square input, pixels; `None` as above.
    pub input_px: Option<u32>,
    /// D: length of the feature.
    pub feature_dim: u32,
    /// The tap; no key in JSON where it is the network's own output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
}

/// One of the two sets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SetReport {
    /// The image source as the user named it when it was measured.
    pub source: String,
    /// Name of the rounding it was measured with ([`crate::backbone::Backbone::arithmetic`]); `None` where that is unknown: an older table, or
    /// a file of features or statistics.
    pub arithmetic: Option<String>,
    /// Number of images measured; `None` where only statistics are known. Those of them that entered the score are counted
    /// in [`AnomalyScore`].
    pub n: Option<usize>,
    /// The images of the source that could not be read, in order of path.
    pub skipped: Vec<Skipped>,
    /// C over the images where it is defined, radians, in [0, π]; higher for real photos.
    pub complexity: Spread,
    /// V over the images where it is defined, feature units, ≥ 0; lower for real photos.
    pub vulnerability: Spread,
}

/// Location and spread of one measurement over a set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Arithmetic mean; `None` for no values.
    pub mean: Option<f64>,
    /// Spread over the images, divided by n − 1: not an error bar of the mean. `None` for fewer than two values.
    pub std_dev: Option<f64>,
    /// Median; `None` for no values.
    pub median: Option<f64>,
}

/// What was measured on one image: a row of the CSV report and an entry of the JSON report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImageReport {
    /// The image's path within its source.
    pub path: String,
    /// C, radians, in [0, π]; higher for real photos. `None` where a step has no angle.
    pub complexity: Option<f64>,
    /// V, feature units, ≥ 0; lower for real photos.
    pub vulnerability: Option<f64>,
    /// AS-i = V / C, ≥ 0; higher is less natural. `None` where C is undefined or 0.
    pub anomaly_score_i: Option<f64>,
    /// What features say of it; no keys in JSON and no columns in CSV where it was not asked for.
    #[serde(flatten)]
    pub columns: Option<ImageColumns>,
}

impl From<ScoredImage> for ImageReport {
    fn from(image: ScoredImage) -> Self {
        ImageReport {
            path: image.path,
            complexity: image.scores.complexity,
            vulnerability: image.scores.vulnerability,
            anomaly_score_i: image.scores.anomaly_score_i,
            columns: None,
        }
    }
}

/// What a report reads a set from.
#[derive(Clone, Copy, Debug)]
pub enum Measured<'a> {
    /// A finished table.
    Table(&'a Table),
    /// Mean and covariance alone.
    Statistics(&'a SetStatistics),
}

impl<'a> Measured<'a> {
    /// How the set was measured, or is taken to have been.
    pub fn settings(self) -> &'a Settings {
        match self {
            Measured::Table(table) => table.settings(),
            Measured::Statistics(set) => &set.settings,
        }
    }

    fn table(self) -> Option<&'a Table> {
        match self {
            Measured::Table(table) => Some(table),
            Measured::Statistics(_) => None,
        }
    }

    fn has_scores(self) -> bool {
        self.table().is_some_and(|table| table.settings().has_scores())
    }
}

impl Report {
    /// [`Report::of`] two tables.
    ///
    /// # Errors
    /// As there.
    pub fn from_tables(
        reference: &Table,
        generated: &Table,
        options: &PermutationOptions,
        extra: Vec<Warning>,
    ) -> Result<Report> {
        Report::of(Measured::Table(reference), Measured::Table(generated), options, extra)
    }

    /// Compares two sets.
    ///
    /// Where one of them holds features only, or statistics, there is no score, and C and V are those that were measured. Images whose C
    /// or V is undefined do not enter the score; they are counted and warned about. `options.seed` is
    /// not part of the report, which has one `seed`: give the seed of the tables' settings. `extra` are warnings of
    /// the caller and come last. Reads no feature; memory grows by about 100 bytes and a path for every image.
    ///
    /// # Errors
    /// `SettingsMismatch` if the tables were not measured in the same way (but for the arithmetic, which is warned about), or their features if one holds nothing else,
    /// naming both and every difference; `TooFewImages` if fewer than two images of a set are usable, saying what became of the others; `InvalidOption`
    /// for too many permutations; `Io` or `Format` if a table cannot be read.
    pub fn of(
        reference: Measured,
        generated: Measured,
        options: &PermutationOptions,
        extra: Vec<Warning>,
    ) -> Result<Report> {
        let settings = reference.settings();
        let name = |set: Set, of: Measured| format!("{} ({})", set, of.settings().source);
        let (reference_name, generated_name) =
            (name(Set::Reference, reference), name(Set::Generated, generated));
        let scored = reference.has_scores() && generated.has_scores();
        if scored {
            settings.require_same(&reference_name, generated.settings(), &generated_name)?;
        } else {
            settings.require_same_features(&reference_name, generated.settings(), &generated_name)?;
        }
        // Of both, what less was measured by.
        let protocol = if reference.has_scores() { generated.settings() } else { settings }.protocol.clone();

        let mut images = Vec::new();
        let mut real = Collected::read(reference, |_| {})?;
        let mut fake = Collected::read(generated, |image| images.push(image.into()))?;
        real.require_usable(&reference_name, reference)?;
        fake.require_usable(&generated_name, generated)?;

        let anomaly_score =
            if scored { Some(anomaly_score(&real.points, &fake.points, options)?) } else { None };
        let mut warnings = Vec::new();
        if reference.table().and(generated.table()).is_some() {
            warnings.extend(shared_images(&mut real.hashes, &mut fake.hashes));
        }
        if scored && !extra.contains(&Warning::Demo) {
            warnings.extend(claims_reversed(&real.points, &fake.points)?);
        }
        warnings.extend(anomaly_score.iter().flat_map(sample_size));
        for (set, collected, table) in
            [(Set::Reference, &real, reference), (Set::Generated, &fake, generated)]
        {
            warnings.extend(collected.warnings(set, table));
        }
        let sets = [(Set::Reference, settings), (Set::Generated, generated.settings())];
        match Warning::of_arithmetics(&sets) {
            Some(Warning::Arithmetic { sets, rounding: Rounding::Scores })
                if warnings.iter().any(|w| matches!(w, Warning::NoiseFloor { .. })) =>
            {
                warnings.insert(0, Warning::Arithmetic { sets, rounding: Rounding::Noise });
            }
            other => warnings.extend(other),
        }
        warnings.extend(extra);

        Ok(Report {
            tool: Tool { name: "anomaly-score".into(), version: env!("CARGO_PKG_VERSION").into() },
            protocol,
            backbone: Backbone::of(settings),
            resampler: settings.resampler.clone(),
            seed: settings.seed,
            preset: None,
            reference: real.report(reference)?,
            generated: fake.report(generated)?,
            anomaly_score,
            metrics: Vec::new(),
            claims: None,
            preflight: None,
            classes: None,
            images,
            warnings,
        })
    }

    /// Adds the metrics, claims and columns that `options` ask for, of the sets the report was made from.
    ///
    /// # Errors
    /// As [`evaluate`](crate::evaluate::evaluate).
    pub fn evaluate(
        &mut self,
        reference: Side,
        generated: Side,
        held_out: Option<&FeatureSet>,
        options: &evaluate::Options,
    ) -> Result<()> {
        let found = evaluate(reference, generated, held_out, self.anomaly_score.as_ref(), options)?;
        (self.metrics, self.claims) = (found.metrics, found.claims);
        if let Some(warning) = floor::at_floor(&self.metrics) {
            let before = |w: &Warning| {
                matches!(
                    w,
                    Warning::Arithmetic { rounding: Rounding::Noise, .. }
                        | Warning::SameSet { .. }
                        | Warning::SharedImages { .. }
                        | Warning::ClaimsReversed { .. }
                        | Warning::NotAboveFloor { .. }
                )
            };
            let place = self.warnings.iter().take_while(|w| before(w)).count();
            self.warnings.insert(place, warning);
        }
        if let Some(held_out) = held_out {
            let sets = [
                (Set::Reference, reference.settings()),
                (Set::Generated, generated.settings()),
                (Set::HeldOut, held_out.settings()),
            ];
            let known = self.warnings.iter_mut().find_map(|w| match w {
                Warning::Arithmetic { sets, .. } => Some(sets),
                _ => None,
            });
            match (known, Warning::of_arithmetics(&sets)) {
                (Some(of_two), Some(Warning::Arithmetic { sets: of_three, .. })) => *of_two = of_three,
                (None, Some(Warning::Arithmetic { sets, .. })) => {
                    self.warnings.push(Warning::Arithmetic { sets, rounding: Rounding::Features });
                }
                _ => {}
            }
        }
        for (image, columns) in self.images.iter_mut().zip(found.images.into_iter().flatten()) {
            image.columns = Some(columns);
        }
        Ok(())
    }
}

impl Report {
    /// Adds what was found by class, and a warning where images have none.
    pub fn add_classes(&mut self, found: ByClass) {
        for (set, count) in [Set::Reference, Set::Generated].into_iter().zip(found.unclassified) {
            if count > 0 {
                self.warnings.push(Warning::Unclassified { set, count });
            }
        }
        self.classes = Some(found.classes);
    }
}

impl Backbone {
    fn of(settings: &Settings) -> Self {
        let b = &settings.backbone;
        Backbone {
            name: b.name.clone(),
            weights_sha256: Some(b.weights_sha256.clone()).filter(|hash| !hash.is_empty()),
            input_px: Some(b.input_px).filter(|&px| px > 0),
            feature_dim: b.feature_dim,
            layer: b.layer.clone(),
        }
    }
}

impl Spread {
    fn of(values: &[f64]) -> Result<Self> {
        let Summary { mean, std_dev, median, .. } = Summary::of(values)?;
        Ok(Spread { mean, std_dev, median })
    }
}

/// What one pass over a table keeps.
#[derive(Default)]
struct Collected {
    n: usize,
    complexity: Vec<f64>,
    vulnerability: Vec<f64>,
    noise_floor: Vec<f64>,
    points: Vec<Point>,
    hashes: Vec<[u8; 32]>,
    alpha_composited: usize,
}

impl Collected {
    fn read(of: Measured, mut each: impl FnMut(ScoredImage)) -> Result<Self> {
        let mut found = Collected::default();
        let Some(table) = of.table() else { return Ok(found) };
        for image in table.scores()? {
            let image = image?;
            let scores = &image.scores;
            found.n += 1;
            found.complexity.extend(scores.complexity);
            found.vulnerability.extend(scores.vulnerability);
            found.noise_floor.extend(scores.noise_floor);
            if let (Some(complexity), Some(vulnerability)) = (scores.complexity, scores.vulnerability) {
                found.points.push(Point { complexity, vulnerability });
            }
            found.hashes.push(scores.content_hash);
            found.alpha_composited += usize::from(scores.flags.alpha_composited);
            each(image);
        }
        Ok(found)
    }

    fn undefined(&self) -> usize {
        self.n - self.points.len()
    }

    fn require_usable(&self, name: &str, of: Measured) -> Result<()> {
        let Some(table) = of.table() else { return Ok(()) };
        let skipped = table.skipped();
        let scored = table.settings().has_scores();
        let usable = if scored { self.points.len() } else { self.n };
        if usable >= 2 {
            return Ok(());
        }
        let mut found = format!("{usable} of {} measured", self.n);
        if scored && self.undefined() > 0 {
            let (no_c, no_v) = (self.n - self.complexity.len(), self.n - self.vulnerability.len());
            found += &format!("; complexity is undefined for {no_c}, vulnerability for {no_v}");
        }
        if let Some(first) = skipped.first() {
            let count = skipped.len();
            found += &format!("; {count} could not be read, first {}: {}", first.path, first.reason);
        }
        Err(Error::new(ErrorKind::TooFewImages, name, "too few usable images to compare")
            .expected("at least 2", found)
            .remedy(
                "Add images, or repair those left out; a score worth reading needs 50 or more in each set",
            ))
    }

    fn warnings(&self, set: Set, of: Measured) -> Vec<Warning> {
        let Some(table) = of.table() else { return Vec::new() };
        let skipped = table.skipped().len();
        let mut warnings = Vec::new();
        if let (Some(floor), Some(complexity)) =
            (quantile(&self.noise_floor, 0.5), quantile(&self.complexity, 0.5))
            && floor > NOISE_FLOOR_LIMIT * complexity
        {
            warnings.push(Warning::NoiseFloor { set, floor, complexity });
        }
        if table.settings().has_scores() && self.undefined() > 0 {
            warnings.push(Warning::UndefinedRows { set, count: self.undefined() });
        }
        if skipped > 0 {
            warnings.push(Warning::SkippedImages { set, count: skipped });
        }
        if self.alpha_composited > 0 {
            warnings.push(Warning::AlphaComposited { set, count: self.alpha_composited });
        }
        warnings
    }

    fn report(&self, of: Measured) -> Result<SetReport> {
        Ok(SetReport {
            source: of.settings().source.clone(),
            arithmetic: of.settings().arithmetic.clone(),
            n: of.table().map(|_| self.n),
            skipped: of.table().map(|table| table.skipped().to_vec()).unwrap_or_default(),
            complexity: Spread::of(&self.complexity)?,
            vulnerability: Spread::of(&self.vulnerability)?,
        })
    }
}

/// Whether the sets are one, or have images in common; sorts both lists.
fn shared_images(reference: &mut [[u8; 32]], generated: &mut [[u8; 32]]) -> Option<Warning> {
    reference.sort_unstable();
    generated.sort_unstable();
    if reference == generated {
        return Some(Warning::SameSet { n: generated.len() });
    }
    let count = generated.iter().filter(|hash| reference.binary_search(hash).is_ok()).count();
    (count as f64 > SHARED_LIMIT * generated.len() as f64)
        .then_some(Warning::SharedImages { count, n_generated: generated.len() })
}

/// Whether both of the paper's claims hold the other way round, clearly and beyond chance. A set of few images has wide intervals.
fn claims_reversed(reference: &[Point], generated: &[Point]) -> Result<Option<Warning>> {
    let of = |value: fn(&Point) -> f64| {
        let values = |set: &[Point]| set.iter().map(value).collect::<Vec<_>>();
        cliffs_delta(&values(generated), &values(reference), 0.95)
    };
    let (Some(complexity), Some(vulnerability)) = (of(|p| p.complexity)?, of(|p| p.vulnerability)?) else {
        return Ok(None);
    };
    let reversed = complexity.delta >= CLEAR_DELTA
        && complexity.ci_low.is_some_and(|low| low > 0.0)
        && vulnerability.delta <= -CLEAR_DELTA
        && vulnerability.ci_high.is_some_and(|high| high < 0.0);
    Ok(reversed.then_some(Warning::ClaimsReversed {
        complexity: complexity.delta,
        vulnerability: vulnerability.delta,
    }))
}

fn sample_size(score: &AnomalyScore) -> Vec<Warning> {
    let &AnomalyScore { value, null_mean, null_q95, n_reference, n_generated, .. } = score;
    let mut warnings = Vec::new();
    if let Some(null_q95) = null_q95.filter(|&q95| value <= q95) {
        warnings.push(Warning::NotAboveFloor { value, null_q95, n_reference, n_generated });
    }
    if n_reference.min(n_generated) < SMALL_N {
        warnings.push(Warning::SmallN { n_reference, n_generated, null_mean });
    }
    warnings
}
