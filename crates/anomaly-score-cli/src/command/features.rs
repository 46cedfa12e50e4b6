//! `anomaly-score features`

use anomaly_score::report::write_features;
use anomaly_score::table::check_writable;
use anyhow::Result;

use crate::Skips;
use crate::args::Features;
use crate::input::{Input, Loader, report_skipped};
use crate::output::print;

pub(crate) fn run(args: &Features) -> Result<Skips> {
    check_writable(&args.output)?;
    let input = Input::open(&args.images)?;
    let loader = Loader::new(&args.measuring, &[&input])?;
    let table = input.into_table(&loader)?;
    write_features(&table, &args.output)?;
    let dim = table.settings().backbone.feature_dim;
    print(&format!("{}: {} images × {dim} features\n", args.output.display(), table.len()))?;
    Ok(report_skipped(&table, &args.measuring))
}
