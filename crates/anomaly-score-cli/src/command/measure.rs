//! `anomaly-score measure`

use anomaly_score::image::Source;
use anomaly_score::stats::Summary;
use anomaly_score::table::Table;
use anyhow::Result;

use crate::Skips;
use crate::args::Measure;
use crate::input::{Loader, report_skipped};
use crate::output::{print, require_file};

pub(crate) fn run(args: &Measure) -> Result<Skips> {
    require_file(&args.output, "a table")?;
    let source = Source::open(&args.images)?;
    let table = Loader::for_images(&args.measuring)?.measure(&source, Some(&args.output))?;
    print(&summary(&table, &args.output.display().to_string())?)?;
    Ok(report_skipped(&table, &args.measuring))
}

fn summary(table: &Table, name: &str) -> Result<String> {
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
        "{name}: {} image{}, complexity median {}, vulnerability median {}\n",
        table.len(),
        if table.len() == 1 { "" } else { "s" },
        median(&complexity)?,
        median(&vulnerability)?
    ))
}
