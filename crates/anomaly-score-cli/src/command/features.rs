//! `anomaly-score features`

use anomaly_score::report::write_features;
use anyhow::Result;

use crate::Skips;
use crate::args::Features;
use crate::input::{Input, Loader, report_skipped};
use crate::output::{print, require_file};

pub(crate) fn run(args: &Features) -> Result<Skips> {
    require_file(&args.output, "a feature file")?;
    let input = Input::open(&args.images)?;
    let loader = Loader::new(&args.measuring, &[&input])?;
    let table = input.into_table(&loader)?;
    write_features(&table, &args.output)?;
    let dim = table.settings().backbone.feature_dim;
    print(&format!("{}: {} images × {dim} features\n", args.output.display(), table.len()))?;
    Ok(report_skipped(&table, &args.measuring))
}
