//! What decides the bits of a measurement, and what is only recorded beside it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::backbone::way_to;
use crate::{Error, ErrorKind, Result};

/// Version of the computation itself. Raise it whenever the same image, network, constants and arithmetic give other bits
/// than before: old journals and caches are then no longer taken for measurements of this program.
pub const METHOD_VERSION: u32 = 8;

/// Version of how measurements are written down, in the log and in the table alike.
pub const FORMAT_VERSION: u32 = 1;

/// Name of the protocol that measures nothing but the feature: complexity and vulnerability of every row are `None`.
pub const FEATURES_ONLY: &str = "features-only";

/// The resampler whose values lie outside [0, 1] by more than rounding. Complexity and vulnerability are defined on
/// [0, 1], so that where they are measured the feature is that of clipped pixels.
const OVERSHOOTS: &str = "torch-bicubic-antialias";

/// Fields of [`Settings`] that are recorded but decide nothing. Every other field decides, so a field added
/// later is part of the fingerprint unless it is named here.
const RECORDED_ONLY: [&str; 3] = ["tool_version", "source", "limit"];

/// The deciding field that two sets may differ in and still be compared.
const ARITHMETIC: &str = "arithmetic";

/// Keeps a fingerprint of settings apart from every other SHA-256 of this program.
const FINGERPRINT_TAG: &[u8] = b"anomaly-score measurement settings\0";

/// How a set of images was measured: written into every table, journal and cache.
///
/// Two measurements of one image are bit-identical when their settings agree in all deciding fields:
/// everything except `tool_version`, `source` and `limit`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// [`FORMAT_VERSION`] of the program that measured.
    pub format_version: u32,
    /// [`METHOD_VERSION`] of the program that measured.
    pub method_version: u32,
    /// What was computed, with its constants.
    pub protocol: ProtocolSettings,
    /// The network it was computed with.
    pub backbone: BackboneSettings,
    /// How an image was brought to the network's input size: resampler and crop, by name.
    pub resampler: String,
    /// Seed of every random direction and start.
    pub seed: u64,
    /// Name of the rounding the network was computed with ([`crate::backbone::Backbone::arithmetic`]); `None` in tables written before it was
    /// recorded, and of files that were not measured here.
    #[serde(default)]
    pub arithmetic: Option<String>,
    /// Version of the program that measured (recorded only).
    pub tool_version: String,
    /// The image source as the user named it (recorded only).
    pub source: String,
    /// The `--limit` of a seeded sample of the source; `None`: all images (recorded only).
    pub limit: Option<u64>,
}

/// A protocol and all its constants, as METHOD defines them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtocolSettings {
    /// `paper`, `official-code`, `exact`, or [`FEATURES_ONLY`], where no constant means anything.
    pub name: String,
    /// K: steps along the line in image space.
    pub steps: u32,
    /// ε: L2 length of one such step over the whole image, pixels in [0, 1].
    pub epsilon: f64,
    /// J: steps of the attack.
    pub attack_steps: u32,
    /// ε_V: largest change of a pixel value, pixels in [0, 1].
    pub attack_epsilon: f64,
    /// α: change of a pixel value in one step of the attack, pixels in [0, 1].
    pub attack_step_size: f64,
    /// Distribution of the direction in image space.
    pub noise: Noise,
    /// Seeded starts of the attack, of which the strongest counts; at least 1.
    pub restarts: u32,
}

/// Distribution the direction in image space is drawn from, before it is scaled to unit length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Noise {
    /// N(0, 1) a pixel value.
    Gaussian,
    /// Uniform a pixel value.
    Uniform,
}

/// The network of a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackboneSettings {
    /// Name in the registry of backbones.
    pub name: String,
    /// SHA-256 of the weights, lower-case hexadecimal.
    pub weights_sha256: String,
    /// Side of the square input, pixels.
    pub input_px: u32,
    /// D: length of the feature.
    pub feature_dim: u32,
    /// The tap, where it is not the network's own output.
    pub layer: Option<String>,
}

/// One deciding field in which two settings differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Name of the field, with dots: `protocol.epsilon`.
    pub field: String,
    /// The value in the settings asked.
    pub mine: String,
    /// The value in the settings compared with.
    pub theirs: String,
}

impl Settings {
    /// Settings of a run of this program; `arithmetic` is that of the network in use.
    pub fn new(
        protocol: ProtocolSettings,
        backbone: BackboneSettings,
        arithmetic: Option<&str>,
        resampler: impl Into<String>,
        seed: u64,
        source: impl Into<String>,
        limit: Option<u64>,
    ) -> Self {
        Settings {
            format_version: FORMAT_VERSION,
            method_version: METHOD_VERSION,
            protocol,
            backbone,
            resampler: resampler.into(),
            seed,
            arithmetic: arithmetic.map(str::to_owned),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            source: source.into(),
            limit,
        }
    }

    /// SHA-256 over the deciding fields: equal exactly when images are measured to the same bits.
    ///
    /// The hashed bytes are a tag, then one flat JSON object (`"backbone.name":"…"`), keys sorted, no spaces.
    pub fn fingerprint(&self) -> [u8; 32] {
        let canonical = serde_json::to_string(&self.deciding()).unwrap_or_default();
        Sha256::new().chain_update(FINGERPRINT_TAG).chain_update(canonical).finalize().into()
    }

    /// The deciding fields in which `self` and `other` differ, sorted by name; empty if none.
    pub fn differences(&self, other: &Settings) -> Vec<Difference> {
        let (mine, theirs) = (self.deciding(), other.deciding());
        let text = |field: &str, v: Option<&Value>| match v {
            None | Some(Value::Null) if field == ARITHMETIC => "unknown".to_owned(),
            None | Some(Value::Null) => "none".to_owned(),
            Some(Value::String(s)) => s.clone(),
            Some(v) => v.to_string(),
        };
        mine.iter()
            .filter(|(field, value)| theirs.get(*field) != Some(value))
            .map(|(field, value)| Difference {
                field: field.clone(),
                mine: text(field, Some(value)),
                theirs: text(field, theirs.get(field)),
            })
            .collect()
    }

    /// Succeeds when `other` (called `theirs` in the error) was measured as `self` (called `mine`) was, in whatever arithmetic: sets
    /// measured on two machines are comparable, and [`Warning::of_arithmetics`](crate::report::Warning::of_arithmetics) says what to
    /// beware of.
    ///
    /// # Errors
    /// `SettingsMismatch`, naming both and every deciding field that differs.
    pub fn require_same(&self, mine: &str, other: &Settings, theirs: &str) -> Result<()> {
        let mut differences = self.differences(other);
        differences.retain(|d| d.field != ARITHMETIC);
        if differences.is_empty() {
            return Ok(());
        }
        Err(Self::mismatch(&differences, theirs, &format!("not measured in the same way as {mine}"))
            .remedy("Measure both with the same program, protocol, backbone, resampler and seed"))
    }

    /// Whether complexity and vulnerability were measured, not features alone.
    pub fn has_scores(&self) -> bool {
        self.protocol.name != FEATURES_ONLY
    }

    /// Succeeds when the features of `other` (called `theirs` in the error) are those that the settings of `self` (called
    /// `mine`) give, whatever else was measured and in whatever arithmetic.
    ///
    /// # Errors
    /// `SettingsMismatch`, naming both and every field that decides over features and differs.
    pub fn require_same_features(&self, mine: &str, other: &Settings, theirs: &str) -> Result<()> {
        let clipped_otherwise =
            self.has_scores() != other.has_scores() && self.resampler.split('/').next() == Some(OVERSHOOTS);
        let mut differences = self.differences(other);
        differences.retain(|d| match d.field.as_str() {
            "protocol.name" => clipped_otherwise,
            field => field != "seed" && field != ARITHMETIC && !field.starts_with("protocol."),
        });
        if differences.is_empty() {
            return Ok(());
        }
        let remedy = if clipped_otherwise {
            "Where complexity and vulnerability are measured too, the pixels of this resampler are clipped to [0, 1], and \
             features are others. Measure both sets for scores, or both for features only"
        } else {
            "Measure both with the same program, backbone and resampler"
        };
        let problem = format!("its features are not comparable with those of {mine}");
        Err(Self::mismatch(&differences, theirs, &problem).remedy(remedy))
    }

    /// Refuses a table of features alone, called `name` in the error, for what needs complexity and vulnerability.
    ///
    /// # Errors
    /// `SettingsMismatch`.
    pub fn require_scores(&self, name: &str) -> Result<()> {
        if self.has_scores() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::SettingsMismatch, name, "complexity and vulnerability were not measured")
            .expected("a table measured for scores", format!("protocol {FEATURES_ONLY}"))
            .remedy(
                "Give the images themselves or a table made without --features-only, or ask for metrics of features alone, \
                 such as --metrics fd,kd,prdc",
            ))
    }

    /// The error about the file `subject` of measurements, which cannot be added to: its settings differ by `differences`.
    pub(super) fn made_otherwise(differences: &[Difference], subject: &str) -> Error {
        let arithmetic = differences.iter().find(|d| d.field == ARITHMETIC);
        let go_on = match arithmetic.map(|d| (d.theirs.as_str(), way_to(&d.theirs))) {
            None => "Go on with those settings, choose".to_owned(),
            Some((theirs, Some(way))) => {
                format!("Go on with those settings (arithmetic {theirs} is that of {way}), choose")
            }
            Some((_, None)) => "Choose".to_owned(),
        };
        Self::mismatch(differences, subject, "holds measurements made with other settings")
            .remedy(format!("{go_on} another output, or delete this file to start anew"))
    }

    /// The error about `subject`, which differs from what was expected (mine) by `differences`.
    fn mismatch(differences: &[Difference], subject: &str, problem: &str) -> Error {
        let list = |value: fn(&Difference) -> &str| {
            differences.iter().map(|d| format!("{} = {}", d.field, value(d))).collect::<Vec<_>>().join(", ")
        };
        Error::new(ErrorKind::SettingsMismatch, subject, problem)
            .expected(list(|d| &d.mine), list(|d| &d.theirs))
    }

    /// The deciding fields by dotted name, leaves only.
    fn deciding(&self) -> BTreeMap<String, Value> {
        let mut leaves = BTreeMap::new();
        // Plain structs of strings and numbers always serialise.
        if let Ok(Value::Object(fields)) = serde_json::to_value(self) {
            for (name, value) in fields {
                if !RECORDED_ONLY.contains(&name.as_str()) {
                    flatten(name, value, &mut leaves);
                }
            }
        }
        leaves
    }
}

fn flatten(name: String, value: Value, leaves: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                flatten(format!("{name}.{field}"), value, leaves);
            }
        }
        leaf => {
            leaves.insert(name, leaf);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::row::hex;
    use crate::table::tests::settings;

    /// The digest was made by `reference/table.py fingerprint`, from the documentation above alone.
    #[test]
    fn fingerprint_is_the_documented_one() {
        assert_eq!(
            hex(&settings().fingerprint()),
            "58950f90ee469598192286ff7ff0142896ba66c2083fc116385e6936c79f0654"
        );
    }

    #[test]
    fn recorded_fields_decide_nothing() {
        let mut other = settings();
        other.tool_version = "9.9.9".into();
        other.source = "elsewhere".into();
        other.limit = Some(7);
        assert_ne!(other, settings());
        assert_eq!(other.fingerprint(), settings().fingerprint());
        assert!(settings().require_same("a", &other, "b").is_ok());
    }

    #[test]
    fn every_deciding_field_decides() {
        type Change = fn(&mut Settings);
        let changes: [(&str, Change); 18] = [
            ("format_version", |s| s.format_version += 1),
            ("method_version", |s| s.method_version += 1),
            ("protocol.name", |s| s.protocol.name = "exact".into()),
            ("protocol.steps", |s| s.protocol.steps += 1),
            ("protocol.epsilon", |s| s.protocol.epsilon = s.protocol.epsilon.next_up()),
            ("protocol.attack_steps", |s| s.protocol.attack_steps += 1),
            ("protocol.attack_epsilon", |s| s.protocol.attack_epsilon = 0.5),
            ("protocol.attack_step_size", |s| s.protocol.attack_step_size = 0.5),
            ("protocol.noise", |s| s.protocol.noise = Noise::Uniform),
            ("protocol.restarts", |s| s.protocol.restarts += 1),
            ("backbone.name", |s| s.backbone.name = "dinov2-vits14".into()),
            ("backbone.weights_sha256", |s| s.backbone.weights_sha256 = "ff".into()),
            ("backbone.input_px", |s| s.backbone.input_px += 1),
            ("backbone.feature_dim", |s| s.backbone.feature_dim += 1),
            ("backbone.layer", |s| s.backbone.layer = Some("stem".into())),
            ("resampler", |s| s.resampler = "lanczos".into()),
            ("seed", |s| s.seed = u64::MAX),
            ("arithmetic", |s| s.arithmetic = Some("bfloat16x3".into())),
        ];
        let mut seen = vec![settings().fingerprint()];
        for (field, change) in changes {
            let mut other = settings();
            change(&mut other);
            let found: Vec<_> = settings().differences(&other).into_iter().map(|d| d.field).collect();
            assert_eq!(found, [field]);
            assert!(!seen.contains(&other.fingerprint()), "{field} is not in the fingerprint");
            seen.push(other.fingerprint());
        }
        assert_eq!(settings().deciding().len(), seen.len() - 1, "a deciding field is not tested here");
    }

    #[test]
    fn refusal_names_both_and_every_difference() {
        let mut other = settings();
        other.protocol.name = "exact".into();
        other.backbone.name = "dinov2-vits14".into();
        other.backbone.layer = Some("blocks.4".into());
        let e = settings().require_same("photos.parquet", &other, "fakes.parquet").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::SettingsMismatch);
        assert_eq!(
            e.to_string(),
            "fakes.parquet: not measured in the same way as photos.parquet; \
             expected backbone.layer = none, backbone.name = efficientnet-lite0, protocol.name = paper, \
             found backbone.layer = blocks.4, backbone.name = dinov2-vits14, protocol.name = exact. \
             Measure both with the same program, protocol, backbone, resampler and seed"
        );
    }

    #[test]
    fn features_are_compared_by_what_decides_over_them() {
        let mut features = settings();
        features.protocol.name = FEATURES_ONLY.into();
        features.seed += 1;
        assert_ne!(features.fingerprint(), settings().fingerprint(), "the cache keeps them apart");
        assert!(settings().require_same_features("a", &features, "b").is_ok());
        features.backbone.weights_sha256 = "ff".into();
        let error = settings().require_same_features("a", &features, "b").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SettingsMismatch);
        assert!(error.to_string().starts_with(
            "b: its features are not comparable with those of a; expected backbone.weights_sha256 = "
        ));

        let [mut scored, mut features] = [settings(), settings()];
        scored.resampler = "torch-bicubic-antialias/squash".into();
        features.resampler.clone_from(&scored.resampler);
        features.protocol.name = FEATURES_ONLY.into();
        let error = scored.require_same_features("a", &features, "b").unwrap_err().to_string();
        assert!(
            error.contains("expected protocol.name = paper, found protocol.name = features-only. "),
            "{error}"
        );
        assert!(features.require_same_features("a", &features, "b").is_ok());
        assert!(scored.require_scores("a").is_ok());
        assert_eq!(
            features.require_scores("b.parquet").unwrap_err().to_string(),
            "b.parquet: complexity and vulnerability were not measured; expected a table measured for scores, found \
             protocol features-only. Give the images themselves or a table made without --features-only, or ask for metrics \
             of features alone, such as --metrics fd,kd,prdc"
        );
    }

    #[test]
    fn arithmetics_are_told_apart_but_compared() {
        for theirs in [None, Some("separate".to_owned())] {
            let mut other = settings();
            other.arithmetic.clone_from(&theirs);
            assert_ne!(other.fingerprint(), settings().fingerprint(), "{theirs:?}");
            assert!(settings().require_same("a", &other, "b").is_ok());
            assert!(settings().require_same_features("a", &other, "b").is_ok());
            other.protocol.name = FEATURES_ONLY.into();
            assert!(settings().require_same_features("a", &other, "b").is_ok());
            let mut mine = other.clone();
            mine.arithmetic = Some("fused".into());
            assert_ne!(mine.fingerprint(), other.fingerprint(), "of features alone too");

            // No reason to refuse, so not among the reasons.
            other.seed += 1;
            let error = settings().require_same("a", &other, "b").unwrap_err().to_string();
            assert!(error.contains("protocol.name") && !error.contains("arithmetic"), "{error}");
        }
        let of = |arithmetic| {
            let Settings { protocol, backbone, .. } = settings();
            Settings::new(protocol, backbone, arithmetic, "bicubic", 7, "photos", None).arithmetic
        };
        assert_eq!((of(Some("separate")).as_deref(), of(None)), (Some("separate"), None));
    }

    /// Tables written before the arithmetic was recorded.
    #[test]
    fn settings_without_arithmetic_are_read() {
        let mut old = serde_json::to_value(settings()).unwrap();
        assert_eq!(old.as_object_mut().unwrap().remove("arithmetic"), Some(Value::from("fused")));
        let old: Settings = serde_json::from_value(old).unwrap();
        assert_eq!(old, Settings { arithmetic: None, ..settings() });
    }

    #[test]
    fn settings_survive_json() {
        let text = serde_json::to_string(&settings()).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings());
        let more = text.replacen('{', "{\"unheard_of\":1,", 1);
        assert!(serde_json::from_str::<Settings>(&more).unwrap_err().to_string().contains("unheard_of"));
    }
}
