//! `anomaly-score`: how far a generative model's images are from real photos, and which look wrong.

mod args;
mod command;
mod input;
mod output;
mod preflight;
mod progress;

use std::process::ExitCode;

use anomaly_score::ErrorKind;
use anomaly_score::backbone::check_instructions;
use anyhow::Result;
use clap::Parser;

use args::{Args, Command};

/// Something failed.
const FAILED: u8 = 1;
/// Everything was computed, but images had to be left out.
const SKIPPED: u8 = 2;
/// `preflight` found something heavier than a note.
const FOUND: u8 = 3;
/// Stopped by the user (128 + SIGINT).
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(e) => {
            let _ = e.print();
            // Status 2 is kept for "images were left out".
            return if e.use_stderr() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS };
        }
    };
    progress::watch_for_interrupts();
    match run(&args.command) {
        Ok(status) => ExitCode::from(status),
        Err(e) => {
            eprintln!("error: {}", describe(&e));
            let interrupted =
                e.downcast_ref::<anomaly_score::Error>().is_some_and(|e| e.kind() == ErrorKind::Interrupted);
            ExitCode::from(if interrupted { INTERRUPTED } else { FAILED })
        }
    }
}

/// Returns the exit status.
fn run(command: &Command) -> Result<u8> {
    check_instructions()?;
    match command {
        Command::Preflight(args) => command::preflight::run(args),
        Command::Compare(args) => command::compare::run(args).map(Skips::status),
        Command::Measure(args) => command::measure::run(args).map(Skips::status),
        Command::Rank(args) => command::rank::run(args).map(Skips::status),
        Command::Features(args) => command::features::run(args).map(Skips::status),
        Command::Correlate(args) => command::correlate::run(args).map(Skips::status),
        Command::Backbones(args) => command::backbones::run(args).map(Skips::status),
        Command::Demo(args) => command::demo::run(args).map(Skips::status),
    }
}

/// The error and what caused it, down to the library's own error, whose text has its causes already.
fn describe(e: &anyhow::Error) -> String {
    let mut parts = Vec::new();
    for cause in e.chain() {
        parts.push(cause.to_string());
        if cause.is::<anomaly_score::Error>() {
            break;
        }
    }
    parts.join(": ")
}

/// Whether images were left out that the user did not agree to leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skips {
    None,
    Some,
}

impl Skips {
    /// The exit status that says so.
    fn status(self) -> u8 {
        if self == Skips::Some { SKIPPED } else { 0 }
    }

    fn or(self, other: Skips) -> Skips {
        if self == Skips::Some { self } else { other }
    }
}
