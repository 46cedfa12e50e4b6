//! Filling a table: what the measuring pipeline talks to.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::cache::Cache;
use super::disk::{beside, check_writable, folder_of, io_error};
use super::journal::{Journal, Recovered};
use super::log::LONGEST_PAYLOAD;
use super::parquet::{self, Table};
use super::row::{Row, Skipped};
use super::settings::Settings;
use crate::{Error, ErrorKind, Result};

/// A table being filled, in any order of images.
///
/// With an output the rows go to a journal beside it, `<TABLE>.partial`, and [`Writer::finish`] turns the journal
/// into the table. Without one the journal and the table are temporary files without a name.
///
/// What holds after `kill -9` at any moment:
/// - Every row whose [`Writer::append`] had returned is in the journal; one being written is cut off at the next
///   start. (After a power failure the rows of the last seconds may be missing, never wrong.)
/// - Under the output's name there is what was there before, or the finished table whole; nothing between.
/// - The same run started again takes up the journal and ends with the same bytes as an undisturbed run.
///   The journal disappears after the table has its name. A half-written `<TABLE>.writing` may be left; the next run
///   overwrites and removes it.
pub struct Writer {
    settings: Settings,
    output: Option<PathBuf>,
    journal: Journal,
    cache: Option<Cache>,
    cache_error: Option<Error>,
    skipped: Vec<Skipped>,
}

/// Whether an image needs measuring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// No: an interrupted run to the same table measured it.
    Journal,
    /// No: its content was measured before, for whichever table.
    Cache,
    /// Yes.
    No,
}

impl Writer {
    /// Starts a table, or goes on with the one an interrupted run left. An existing table at `output` stays as it is
    /// until [`Writer::finish`] replaces it.
    ///
    /// # Errors
    /// `Io` if `output` cannot be written (see [`check_writable`]) or another run is writing it; `SettingsMismatch`
    /// if the run to go on with had other deciding settings; `Format` if its journal is damaged beyond use;
    /// `InvalidOption` for a feature length of 0 or above 16 million.
    pub fn create(output: Option<&Path>, settings: Settings, cache: Option<Cache>) -> Result<Writer> {
        let feature_dim = settings.backbone.feature_dim;
        // A record also holds a path of up to 64 KiB and less than 128 bytes of numbers.
        let longest = (LONGEST_PAYLOAD - (1 << 17)) / 4;
        if feature_dim == 0 || feature_dim > longest {
            return Err(Error::new(
                ErrorKind::InvalidOption,
                &settings.backbone.name,
                "unusable feature length",
            )
            .expected(format!("1 to {longest}"), feature_dim));
        }
        let output = output.map(resolve);
        let journal = match &output {
            Some(output) => {
                check_writable(output)?;
                Journal::beside(output, &settings)?
            }
            None => Journal::temporary(&settings)?,
        };
        Ok(Writer { settings, output, journal, cache, cache_error: None, skipped: Vec::new() })
    }

    /// What was taken over from an interrupted run.
    pub fn recovered(&self) -> Recovered {
        self.journal.recovered()
    }

    /// Looks for the measurement of the image at `path`, whose content now has this hash, in the journal and in the
    /// cache. If it is found the row is part of the table, and [`Writer::append`] must not be called for it.
    /// A row of the journal counts only if the image has not changed since.
    ///
    /// Every image must pass either here or through [`Writer::append`]: a row of an interrupted run whose image is
    /// no longer asked for stays out of the table.
    ///
    /// # Errors
    /// `Format` if the path has been taken into the table already; `Io`.
    pub fn find(&mut self, path: &str, content_hash: &[u8; 32]) -> Result<Known> {
        if self.journal.want(path, content_hash)? {
            return Ok(Known::Journal);
        }
        let Some(cache) = &self.cache else { return Ok(Known::No) };
        match cache.get(content_hash) {
            Ok(Some(measurement)) => {
                let row = Row { path: path.to_owned(), measurement };
                row.check(self.settings.backbone.feature_dim)?;
                self.record(&row)?;
                Ok(Known::Cache)
            }
            Ok(None) => Ok(Known::No),
            Err(e) => {
                self.give_up_cache(e);
                Ok(Known::No)
            }
        }
    }

    /// Adds a row that was measured now, to the journal and to the cache. When this returns, the row outlives the
    /// process.
    ///
    /// # Errors
    /// `Format` if a number or an entry of the feature is not finite, if the feature's length is not the settings',
    /// or if the path has been taken already; `Io`, a full disk above all: rows so far are kept, and the call may be
    /// repeated.
    pub fn append(&mut self, row: &Row) -> Result<()> {
        row.check(self.settings.backbone.feature_dim)?;
        self.record(row)?;
        if let Some(cache) = &mut self.cache
            && let Err(e) = cache.insert(&row.measurement)
        {
            self.give_up_cache(e);
        }
        Ok(())
    }

    /// Notes an image that cannot be measured. It is not kept in the journal: a run that goes on looks at the image
    /// again, since it may have been repaired.
    pub fn skip(&mut self, skipped: Skipped) {
        self.skipped.push(skipped);
    }

    /// Why the cache is no longer used, if it failed; asked once, for a warning. The table does not suffer.
    pub fn take_cache_error(&mut self) -> Option<Error> {
        self.cache_error.take()
    }

    /// Writes the finished table, in byte order of the paths, and opens it.
    ///
    /// # Errors
    /// `Io`, above all a full disk; `Format` if the journal was damaged meanwhile. The journal is kept, and the same
    /// run can be started again.
    pub fn finish(mut self) -> Result<Table> {
        self.skipped.sort();
        let Some(output) = &self.output else {
            let folder = std::env::temp_dir();
            let name = folder.join("(temporary table)");
            let file =
                tempfile::tempfile().map_err(|e| io_error(&folder, "no temporary file can be made", e))?;
            let file = parquet::write(file, &name, &self.settings, &self.skipped, self.journal.rows())
                .map_err(|e| self.say_what_is_kept(e))?;
            return Table::from_file(file, &name);
        };
        let unfinished = beside(output, ".writing");
        let table = self.write_to(&unfinished, output).map_err(|e| {
            // The error to report is the one that came first.
            let _ = fs::remove_file(&unfinished);
            self.say_what_is_kept(e)
        })?;
        self.journal.remove();
        Ok(table)
    }

    fn write_to(&self, unfinished: &Path, output: &Path) -> Result<Table> {
        let fail = |e| io_error(output, "cannot be written", e);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(unfinished)
            .map_err(fail)?;
        let file = parquet::write(file, output, &self.settings, &self.skipped, self.journal.rows())?;
        file.sync_all().map_err(fail)?;
        fs::rename(unfinished, output).map_err(fail)?;
        // The name itself must be on the disk before the journal goes. Not every system can force a folder.
        if let Ok(folder) = File::open(folder_of(output)) {
            let _ = folder.sync_all();
        }
        Table::from_file(file, output)
    }

    /// Stops before the end. Returns the path of the journal that a later run goes on from; `None` if there was no
    /// output or no row.
    pub fn suspend(self) -> Result<Option<PathBuf>> {
        self.journal.sync()?;
        Ok(self.journal.path().filter(|_| self.journal.len() > 0).map(Path::to_owned))
    }

    fn record(&mut self, row: &Row) -> Result<()> {
        self.journal.append(&row.path, &row.measurement).map_err(|e| self.say_what_is_kept(e))
    }

    /// Whoever reads that a disk is full after hours of measuring wants to know whether they were for nothing.
    fn say_what_is_kept(&self, e: Error) -> Error {
        match (e.kind(), self.journal.path()) {
            (ErrorKind::Io, Some(_)) => e.remedy(format!(
                "Make room if the disk is full, then run the same command again: the {} rows measured so far are kept",
                self.journal.len()
            )),
            (ErrorKind::Io, None) => e.remedy("If the disk is full, make room or set TMPDIR to a folder on another"),
            _ => e,
        }
    }

    fn give_up_cache(&mut self, e: Error) {
        self.cache = None;
        self.cache_error = Some(e);
    }
}

/// The file that a link at `output` leads to: replacing the link would leave that file as it was.
fn resolve(output: &Path) -> PathBuf {
    let is_link = fs::symlink_metadata(output).is_ok_and(|m| m.is_symlink());
    let target = if is_link { fs::canonicalize(output).ok() } else { None };
    target.unwrap_or_else(|| output.to_owned())
}
