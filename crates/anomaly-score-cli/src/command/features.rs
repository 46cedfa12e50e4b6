//! `anomaly-score features`

use std::path::PathBuf;

use anomaly_score::evaluate::{FeatureSet, reads_spatial};
use anomaly_score::measure::{FEATURES_ONLY, protocol};
use anomaly_score::report::write_features;
use anomaly_score::set_metric::{Statistics, write_statistics};
use anomaly_score::table::Table;
use anyhow::{Result, bail};

use crate::Skips;
use crate::args::Features;
use crate::input::{Input, Loader, report_skipped};
use crate::output::{print, require_file};

/// What the divisor of a covariance leaves out, as in every published tool.
const DDOF: u32 = 1;

pub(crate) fn run(args: &Features) -> Result<Skips> {
    let outputs = args.output.as_ref().map(|path| args.reading.outputs(path)).transpose()?;
    for output in outputs.iter().flatten() {
        require_file(output, "a feature file")?;
    }
    if let Some(path) = &args.statistics {
        require_file(path, "a statistics file")?;
    }
    let input = Input::open(&args.images)?;
    let loader = Loader::of(&args.reading, protocol(FEATURES_ONLY), &[&input])?;
    let layers = args.reading.layer.len().max(1);
    let tables = input.into_tables(&loader)?;
    if tables.len() != layers {
        bail!("--layer: a table holds one layer; expected one name or none, found {layers}");
    }
    for (table, output) in tables.iter().zip(outputs.iter().flatten()) {
        write_features(table, output)?;
        let dim = table.settings().backbone.feature_dim;
        print(&format!("{}: {} images × {dim} features\n", output.display(), table.len()))?;
    }
    if let Some(path) = &args.statistics {
        statistics(&tables, path, args)?;
    }
    let skips = tables.iter().map(|table| report_skipped(table, &args.reading));
    Ok(skips.fold(Skips::None, Skips::or))
}

fn statistics(tables: &[Table], path: &PathBuf, args: &Features) -> Result<()> {
    let gaussian = |table: &Table| Ok::<_, anyhow::Error>(FeatureSet::read(table, "images")?.gaussian(DDOF)?);
    let said = |path: &PathBuf, tables: &[&Table]| {
        let dims: Vec<String> =
            tables.iter().map(|table| table.settings().backbone.feature_dim.to_string()).collect();
        let n = tables.first().map_or(0, |table| table.len());
        print(&format!(
            "{}: mean and covariance of {n} images × {} features\n",
            path.display(),
            dims.join(" and ")
        ))
    };
    if let [a, b] = tables {
        let spatial = |table: &Table| reads_spatial(&table.settings().backbone);
        let (pooled, spatial) = match (spatial(a), spatial(b)) {
            (false, true) => (a, Some(b)),
            (true, false) => (b, Some(a)),
            _ => (a, None),
        };
        if let Some(spatial) = spatial {
            let statistics = Statistics { pooled: gaussian(pooled)?, spatial: Some(gaussian(spatial)?) };
            write_statistics(path, &statistics)?;
            return said(path, &[pooled, spatial]);
        }
    }
    for (table, output) in tables.iter().zip(&args.reading.outputs(path)?) {
        write_statistics(output, &Statistics::of(gaussian(table)?))?;
        said(output, &[table])?;
    }
    Ok(())
}
