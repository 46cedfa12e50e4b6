//! `anomaly-score correlate`

use anomaly_score::agreement::{CsvTable, Question, agreement, json, svg, terminal};
use anomaly_score::stats::BootstrapOptions;
use anyhow::Result;

use crate::Skips;
use crate::args::Correlate;
use crate::output::{TextOutput, print};

pub(crate) fn run(args: &Correlate) -> Result<Skips> {
    let outputs = [&args.json, &args.svg].map(|path| path.as_deref().map(TextOutput::of));
    for output in outputs.into_iter().flatten() {
        output.check()?;
    }
    let [json_output, svg_output] = outputs;
    let table = CsvTable::read(&args.table)?;
    let (table, not_joined) = match &args.join {
        Some(path) => table.join(&CsvTable::read(path)?, &args.on)?,
        None => (table, 0),
    };
    let question = Question {
        score: &args.score,
        human: &args.human,
        group: args.group.as_deref(),
        mean_by: args.mean_by.as_deref(),
        lower_is_better: args.lower_is_better,
        bootstrap: BootstrapOptions {
            resamples: args.resamples,
            confidence: args.confidence,
            seed: args.seed,
        },
    };
    let found = agreement(&table, not_joined, &question)?;
    if let Some(output) = json_output {
        output.write(&json(&found)?)?;
    }
    if let Some(output) = svg_output {
        output.write(&svg(&found))?;
    }
    if !outputs.contains(&Some(TextOutput::Stdout)) {
        print(&terminal(&found))?;
    }
    Ok(Skips::None)
}
