//! `anomaly-score preflight`

use anomaly_score::backbone::{self, Entry, is_onnx};
use anomaly_score::evaluate::{Preset, Selection};
use anomaly_score::image::Fit;
use anomaly_score::preflight::{Kind, Question, Severity};
use anomaly_score::report::{json, terminal_of_preflight};
use anomaly_score::table::BackboneSettings;
use anyhow::{Result, bail};

use crate::args::{OnError, Preflight, Resize, threads};
use crate::input::Input;
use crate::output::{TextOutput, print};
use crate::preflight::Pass;
use crate::{FOUND, SKIPPED};

/// Returns the exit status.
pub(crate) fn run(args: &Preflight) -> Result<u8> {
    if let Some(path) = &args.json {
        TextOutput::of(path).check()?;
    }
    let preset = args.preset.as_deref().map(Preset::find).transpose()?;
    let question = question(args, preset.as_ref())?;
    let reference = Input::open(&args.reference)?;
    let generated: Vec<Input> = args.generated.iter().map(|path| Input::open(path)).collect::<Result<_>>()?;
    let held_out = args.held_out.as_deref().map(Input::open).transpose()?;
    let pass = Pass { limit: args.limit, seed: args.seed, threads: threads(args.threads) };
    let found = pass.compare(&reference, &generated, held_out.as_ref(), &question)?;

    if let Some(path) = &args.json {
        TextOutput::of(path).write(&json(&found)?)?;
    }
    if args.json.as_deref().map(TextOutput::of) != Some(TextOutput::Stdout) {
        print(&terminal_of_preflight(&found))?;
    }
    let heavy = |kind: Kind, severity: Severity| severity > Severity::Note && kind != Kind::SkippedImages;
    Ok(if found.findings.iter().any(|f| heavy(f.kind, f.severity)) {
        FOUND
    } else if args.on_error == OnError::Report && found.sets.iter().any(|set| set.skipped > 0) {
        SKIPPED
    } else {
        0
    })
}

/// What the same options would ask of `compare`.
fn question(args: &Preflight, preset: Option<&Preset>) -> Result<Question> {
    let name = match (&args.backbone, preset) {
        (Some(name), Some(preset)) if name != preset.backbone => {
            bail!("--preset {}: means --backbone {}; leave out one of the two", preset.name, preset.backbone)
        }
        (Some(name), _) => name,
        (None, Some(preset)) => preset.backbone,
        (None, None) => backbone::DEFAULT,
    };
    if is_onnx(name) {
        bail!(
            "--backbone: pre-flight knows networks by name; leave it out for a network of your own, `compare` looks at it"
        );
    }
    let entry = Entry::find(name)?;
    let fit = match (args.resize, preset) {
        (Some(Resize::Squash), _) => Fit::Squash,
        (Some(Resize::Crop), _) => Fit::Crop,
        (None, Some(preset)) => preset.fit,
        (None, None) => entry.preprocessing.fit,
    };
    let selection = Selection::of(&args.metrics)?;
    Ok(Question {
        selection,
        conventions: preset.map(|p| p.conventions).unwrap_or_default(),
        layers: vec![BackboneSettings {
            name: name.to_owned(),
            weights_sha256: String::new(),
            input_px: entry.preprocessing.input_px as u32,
            feature_dim: entry.feature_dim as u32,
            layer: None,
        }],
        squash: fit == Fit::Squash,
    })
}
