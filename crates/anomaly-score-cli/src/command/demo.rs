//! `anomaly-score demo`

use std::path::Path;

use anomaly_score::demo::unpack;
use anomaly_score::image::Source;
use anomaly_score::report::Warning;
use anyhow::{Context, Result};

use crate::Skips;
use crate::args::Demo;
use crate::command::compare::compare;
use crate::input::Input;

pub(crate) fn run(args: &Demo) -> Result<Skips> {
    let folder = tempfile::Builder::new()
        .prefix("anomaly-score-demo-")
        .tempdir()
        .context("no temporary folder can be made for the demo images; set TMPDIR")?;
    // Opened once the outputs are known to be writable; named, because the folder is gone afterwards.
    let inputs = |_| {
        let demo = unpack(folder.path())?;
        let open = |path: &Path, name| Ok::<_, anyhow::Error>(Input::Images(Source::open(path)?.named(name)));
        Ok((open(&demo.reference, "demo/real")?, vec![open(&demo.generated, "demo/generated")?]))
    };
    compare(inputs, vec![Warning::Demo], &args.score, &args.measuring)
}
