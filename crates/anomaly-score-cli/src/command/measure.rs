//! `anomaly-score measure`

use anomaly_score::evaluate::Selection;
use anomaly_score::image::Source;
use anomaly_score::measure::{FEATURES_ONLY, protocol};
use anomaly_score::preflight::{Preflight, Role};
use anomaly_score::stats::Summary;
use anomaly_score::table::Table;
use anyhow::Result;

use crate::Skips;
use crate::args::Measure;
use crate::input::{Input, Loader, report_skipped};
use crate::output::{print, require_file};
use crate::preflight::{Pass, report};

pub(crate) fn run(args: &Measure) -> Result<Skips> {
    let outputs = args.measuring.reading.outputs(&args.output)?;
    for output in &outputs {
        require_file(output, "a table")?;
    }
    let images = Input::Images(Source::open(&args.images)?);
    let wanted = if args.features_only { protocol(FEATURES_ONLY) } else { args.measuring.method.constants() };
    let loader = Loader::of(&args.measuring.reading, wanted, &[&images])?;
    if !args.no_preflight {
        let pass = Pass::of(&args.measuring.reading);
        let facts = pass.look_through(&images, Role::Reference)?;
        report(&Preflight::of(&[facts], &loader.question(&images, Selection::default(), None)?));
    }
    let tables = images.measured_into(&loader, &outputs)?;
    let mut skips = Skips::None;
    for (table, output) in tables.iter().zip(&outputs) {
        print(&summary(table, &output.display().to_string())?)?;
        skips = skips.or(report_skipped(table, &args.measuring.reading));
    }
    Ok(skips)
}

fn summary(table: &Table, name: &str) -> Result<String> {
    let images = if table.len() == 1 { "image" } else { "images" };
    if !table.settings().has_scores() {
        let dim = table.settings().backbone.feature_dim;
        return Ok(format!("{name}: {} {images} × {dim} features\n", table.len()));
    }
    let (mut complexity, mut vulnerability) = (Vec::new(), Vec::new());
    for image in table.scores()? {
        let scores = image?.scores;
        complexity.extend(scores.complexity);
        vulnerability.extend(scores.vulnerability);
    }
    let median = |values: &[f64]| -> Result<String> {
        Ok(Summary::of(values)?.median.map_or("undefined".to_owned(), |m| format!("{m:.4}")))
    };
    Ok(format!(
        "{name}: {} {images}, complexity median {}, vulnerability median {}\n",
        table.len(),
        median(&complexity)?,
        median(&vulnerability)?
    ))
}
