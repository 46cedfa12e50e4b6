//! What a command is given: images to measure, or a table measured before.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anomaly_score::backbone::Backbone;
use anomaly_score::image::Source;
use anomaly_score::measure::{Options, measure};
use anomaly_score::table::{Cache, Settings, Table};
use anyhow::Result;

use crate::Skips;
use crate::args::{Measuring, OnError};
use crate::progress::{Bar, STOP};

/// Either kind of input, checked before anything is measured.
pub(crate) enum Input {
    Table(Box<Table>, PathBuf),
    Images(Source),
}

impl Input {
    pub(crate) fn open(path: &Path) -> Result<Input> {
        let mut magic = [0; 4];
        let is_table =
            File::open(path).and_then(|mut f| f.read_exact(&mut magic)).is_ok() && magic == *b"PAR1";
        let named_table = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("parquet"));
        if is_table || named_table {
            return Ok(Input::Table(Box::new(Table::open(path)?), path.to_owned()));
        }
        Ok(Input::Images(Source::open(path)?))
    }

    /// What an error calls it.
    fn name(&self) -> String {
        match self {
            Input::Table(table, path) => {
                format!("{} (a table of {})", path.display(), table.settings().source)
            }
            Input::Images(source) => source.name().to_owned(),
        }
    }

    /// The table itself, or the table of its images measured now.
    pub(crate) fn into_table(self, loader: &Loader) -> Result<Table> {
        match self {
            Input::Table(table, _) => Ok(*table),
            Input::Images(source) => loader.measure(&source, None),
        }
    }
}

/// The backbone, loaded once and only if some image has to be measured.
pub(crate) struct Loader<'a> {
    measuring: &'a Measuring,
    backbone: Option<Backbone>,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(measuring: &'a Measuring, inputs: &[&Input]) -> Result<Self> {
        let needed = inputs.iter().any(|i| matches!(i, Input::Images(_)));
        let load = || Backbone::load(&measuring.backbone, measuring.weights.as_deref());
        Ok(Loader { measuring, backbone: if needed { Some(load()?) } else { None } })
    }

    pub(crate) fn for_images(measuring: &'a Measuring) -> Result<Self> {
        let backbone = Backbone::load(&measuring.backbone, measuring.weights.as_deref())?;
        Ok(Loader { measuring, backbone: Some(backbone) })
    }

    /// Refuses two inputs that will not be comparable before hours go into measuring one of them.
    pub(crate) fn require_same_settings(&self, a: &Input, b: &Input) -> Result<()> {
        let settings = |input: &Input| match (input, &self.backbone) {
            (Input::Table(table, _), _) => Some(table.settings().clone()),
            (Input::Images(source), Some(backbone)) => Some(Settings::new(
                self.measuring.constants(),
                backbone.settings(),
                self.measuring.fit().resampler(),
                self.measuring.seed,
                source.name().to_owned(),
                None,
            )),
            (Input::Images(_), None) => None,
        };
        if let (Some(mine), Some(theirs)) = (settings(a), settings(b)) {
            mine.require_same(&a.name(), &theirs, &b.name())?;
        }
        Ok(())
    }

    pub(crate) fn measure(&self, source: &Source, output: Option<&Path>) -> Result<Table> {
        let backbone = self.backbone.as_ref().expect("a loader for images has a backbone");
        let cache = if self.measuring.no_cache {
            None
        } else {
            match Cache::default_folder() {
                Ok(folder) => Some(folder),
                Err(e) => {
                    eprintln!("warning: {e}");
                    None
                }
            }
        };
        let bar = Bar::new(source.name());
        let options = Options {
            protocol: self.measuring.constants(),
            seed: self.measuring.seed,
            fit: self.measuring.fit(),
            limit: self.measuring.limit.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            threads: self.measuring.threads(),
            cache,
            stop: &STOP,
            progress: &|p| bar.update(p),
        };
        let outcome = measure(source, backbone, &options, output);
        bar.clear();
        let outcome = outcome?;
        if let Some(e) = outcome.cache_error {
            eprintln!("warning: measurements are not cached: {e}");
        }
        Ok(outcome.table)
    }
}

/// Lists the images that were left out, and says whether the user agreed to that.
pub(crate) fn report_skipped(table: &Table, measuring: &Measuring) -> Skips {
    let source = &table.settings().source;
    for skipped in table.skipped() {
        eprintln!("skipped: {source}: {}: {}", skipped.path, skipped.reason);
    }
    let agreed = measuring.on_error == OnError::Skip || table.skipped().is_empty();
    if agreed { Skips::None } else { Skips::Some }
}
