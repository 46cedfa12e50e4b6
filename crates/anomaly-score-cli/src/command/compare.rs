//! `anomaly-score compare`

use std::path::PathBuf;

use anomaly_score::evaluate::{Options, Selection};
use anomaly_score::report::{Report, Warning, csv, json, terminal};
use anomaly_score::set_metric::PermutationOptions;
use anyhow::{Result, bail};

use crate::Skips;
use crate::args::{Compare, Measuring, Score};
use crate::input::{Input, Loader, report_skipped};
use crate::output::{TextOutput, print};

pub(crate) fn run(args: &Compare) -> Result<Skips> {
    let inputs = || Ok((Input::open(&args.reference)?, Input::open(&args.generated)?));
    compare(inputs, Vec::new(), &args.score, &args.measuring)
}

/// Measures what has to be measured and reports. Shared with `demo`. `inputs` opens reference and generated;
/// `warnings` end the report's own.
pub(crate) fn compare(
    inputs: impl FnOnce() -> Result<(Input, Input)>,
    warnings: Vec<Warning>,
    score: &Score,
    measuring: &Measuring,
) -> Result<Skips> {
    let outputs = |path: &Option<PathBuf>| path.as_deref().map(|p| measuring.reading.outputs(p)).transpose();
    let (json_paths, images_paths) = (outputs(&score.json)?, outputs(&score.images)?);
    let is_stdout = |path: &Option<PathBuf>| path.as_deref().map(TextOutput::of) == Some(TextOutput::Stdout);
    let to_stdout = [&score.json, &score.images].map(is_stdout);
    if to_stdout == [true; 2] {
        bail!("--json and --images: only one of the two can go to stdout; name a file for the other");
    }
    for path in json_paths.iter().chain(&images_paths).flatten() {
        TextOutput::of(path).check()?;
    }
    let selection = Selection::of(&score.metrics.metrics)?;
    let (reference, generated) = inputs()?;
    let loader = Loader::new(measuring, &[&reference, &generated])?;
    loader.require_same_settings(&reference, &generated)?;
    let backbones: Vec<_> = loader.settings(&reference).into_iter().map(|s| s.backbone).collect();
    selection.require_possible(&backbones)?;
    let references = reference.into_tables(&loader)?;
    let generated = generated.into_tables(&loader)?;
    let warnings = [loader.cache_errors(), warnings].concat();
    for (layer, (reference, generated)) in references.iter().zip(&generated).enumerate() {
        let options =
            PermutationOptions { permutations: score.permutations, seed: reference.settings().seed };
        let mut report = Report::from_tables(reference, generated, &options, warnings.clone())?;
        let metrics = Options {
            bootstrap: score.metrics.bootstrap,
            null_splits: score.metrics.null_splits,
            ..Options::new(selection.clone(), options.seed)
        };
        report.evaluate(reference, generated, &metrics)?;
        if let Some(paths) = &json_paths {
            TextOutput::of(&paths[layer]).write(&json(&report)?)?;
        }
        if let Some(paths) = &images_paths {
            TextOutput::of(&paths[layer]).write(&csv(&report.images)?)?;
        }
        if to_stdout == [false; 2] {
            let gap = if layer > 0 { "\n" } else { "" };
            print(&format!("{gap}{}", terminal(&report)))?;
        }
    }
    // Every layer's table skips the same files, but for what only one layer cannot give.
    let skips = references.iter().chain(&generated).map(|table| report_skipped(table, &measuring.reading));
    Ok(skips.fold(Skips::None, Skips::or))
}
