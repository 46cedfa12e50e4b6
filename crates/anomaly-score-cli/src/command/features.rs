//! `anomaly-score features`

use anomaly_score::measure::{FEATURES_ONLY, protocol};
use anomaly_score::report::write_features;
use anyhow::{Result, bail};

use crate::Skips;
use crate::args::Features;
use crate::input::{Input, Loader, report_skipped};
use crate::output::{print, require_file};

pub(crate) fn run(args: &Features) -> Result<Skips> {
    let outputs = args.reading.outputs(&args.output)?;
    for output in &outputs {
        require_file(output, "a feature file")?;
    }
    let input = Input::open(&args.images)?;
    let loader = Loader::of(&args.reading, protocol(FEATURES_ONLY), &[&input])?;
    let tables = input.into_tables(&loader)?;
    if tables.len() != outputs.len() {
        bail!("--layer: a table holds one layer; expected one name or none, found {}", outputs.len());
    }
    let mut skips = Skips::None;
    for (table, output) in tables.iter().zip(&outputs) {
        write_features(table, output)?;
        let dim = table.settings().backbone.feature_dim;
        print(&format!("{}: {} images × {dim} features\n", output.display(), table.len()))?;
        skips = skips.or(report_skipped(table, &args.reading));
    }
    Ok(skips)
}
