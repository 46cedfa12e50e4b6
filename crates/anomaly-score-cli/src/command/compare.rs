//! `anomaly-score compare`

use anomaly_score::report::{Report, csv, json, terminal};
use anomaly_score::set_metric::PermutationOptions;
use anyhow::{Result, bail};

use crate::Skips;
use crate::args::{Compare, Measuring, Score};
use crate::input::{Input, Loader, report_skipped};
use crate::output::{TextOutput, print};

pub(crate) fn run(args: &Compare) -> Result<Skips> {
    let inputs = || Ok((Input::open(&args.reference)?, Input::open(&args.generated)?));
    compare(inputs, &args.score, &args.measuring)
}

/// Measures what has to be measured and reports. Shared with `demo`. `inputs` opens reference and generated.
pub(crate) fn compare(
    inputs: impl FnOnce() -> Result<(Input, Input)>,
    score: &Score,
    measuring: &Measuring,
) -> Result<Skips> {
    let json_output = score.json.as_deref().map(TextOutput::of);
    let images_output = score.images.as_deref().map(TextOutput::of);
    let to_stdout = [json_output, images_output].map(|o| o == Some(TextOutput::Stdout));
    if to_stdout == [true; 2] {
        bail!("--json and --images: only one of the two can go to stdout; name a file for the other");
    }
    for output in json_output.iter().chain(&images_output) {
        output.check()?;
    }
    let (reference, generated) = inputs()?;
    let loader = Loader::new(measuring, &[&reference, &generated])?;
    loader.require_same_settings(&reference, &generated)?;
    let reference = reference.into_table(&loader)?;
    let generated = generated.into_table(&loader)?;
    let options = PermutationOptions { permutations: score.permutations, seed: reference.settings().seed };
    let report = Report::from_tables(&reference, &generated, &options, Vec::new())?;
    if let Some(output) = json_output {
        output.write(&json(&report)?)?;
    }
    if let Some(output) = images_output {
        output.write(&csv(&report.images)?)?;
    }
    if to_stdout == [false; 2] {
        print(&terminal(&report))?;
    }
    Ok(report_skipped(&reference, measuring).or(report_skipped(&generated, measuring)))
}
