//! `anomaly-score demo`

use anomaly_score::demo::unpack;
use anyhow::{Context, Result};

use crate::Skips;
use crate::args::Demo;
use crate::command::compare::compare;

pub(crate) fn run(args: &Demo) -> Result<Skips> {
    let folder = tempfile::Builder::new()
        .prefix("anomaly-score-demo-")
        .tempdir()
        .context("no temporary folder can be made for the demo images; set TMPDIR")?;
    let demo = unpack(folder.path())?;
    compare(&demo.reference, &demo.generated, &args.score, &args.measuring)
}
