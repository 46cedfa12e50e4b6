//! `anomaly-score compare`

use std::path::Path;

use anomaly_score::report::{Report, csv, json, terminal, write_text};
use anomaly_score::set_metric::PermutationOptions;
use anomaly_score::table::check_writable;
use anyhow::Result;

use crate::Skips;
use crate::args::{Compare, Measuring, Score};
use crate::input::{Input, Loader, report_skipped};
use crate::output::print;

pub(crate) fn run(args: &Compare) -> Result<Skips> {
    compare(&args.reference, &args.generated, &args.score, &args.measuring)
}

/// Measures what has to be measured and reports. Shared with `demo`.
pub(crate) fn compare(
    reference: &Path,
    generated: &Path,
    score: &Score,
    measuring: &Measuring,
) -> Result<Skips> {
    for path in score.json.iter().chain(&score.images) {
        check_writable(path)?;
    }
    let (reference, generated) = (Input::open(reference)?, Input::open(generated)?);
    let loader = Loader::new(measuring, &[&reference, &generated])?;
    loader.require_same_settings(&reference, &generated)?;
    let reference = reference.into_table(&loader)?;
    let generated = generated.into_table(&loader)?;
    let options = PermutationOptions { permutations: score.permutations, seed: reference.settings().seed };
    let report = Report::from_tables(&reference, &generated, &options, Vec::new())?;
    if let Some(path) = &score.json {
        write_text(path, &json(&report)?)?;
    }
    if let Some(path) = &score.images {
        write_text(path, &csv(&report.images)?)?;
    }
    print(&terminal(&report))?;
    Ok(report_skipped(&reference, measuring).or(report_skipped(&generated, measuring)))
}
