//! The journal of an unfinished table: every row measured so far, by path.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::disk::{beside, io_error};
use super::log::{Index, Log};
use super::row::{Decoded, Malformed, Measurement, Row, decode_row, decode_row_key, encode_row};
use super::settings::Settings;
use crate::{Error, ErrorKind, Result};

/// Rows by path, in a file `<TABLE>.partial` beside the table or in a temporary file without a name.
///
/// In memory there are only the paths and where each row stands: about 100 bytes an image besides the path.
pub(super) struct Journal {
    log: Log,
    rows: Rows,
    /// Where the file is to be found after a crash; `None` for a temporary file.
    path: Option<PathBuf>,
    recovered: Recovered,
}

/// What an interrupted run left behind for this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Rows found, including those of images that this run may not ask for.
    pub rows: usize,
    /// Bytes of an incomplete or damaged record that were cut off.
    pub cut_bytes: u64,
}

#[derive(Default)]
struct Rows(BTreeMap<Box<str>, Entry>);

struct Entry {
    at: u64,
    /// Whether this run's source holds the image: an earlier run may have been given others.
    wanted: bool,
}

impl Index for Rows {
    fn clear(&mut self) {
        self.0.clear();
    }

    fn insert(&mut self, at: u64, payload: &[u8]) -> Decoded<()> {
        let (path, _) = decode_row_key(payload)?;
        // A later row of the same path was measured because the image had changed.
        self.0.insert(path.into(), Entry { at, wanted: false });
        Ok(())
    }
}

impl Journal {
    /// The journal of the table `output`: opened if an interrupted run left one, made otherwise.
    pub(super) fn beside(output: &Path, settings: &Settings) -> Result<Journal> {
        let path = Self::path_beside(output);
        let file = open_alone(&path)?;
        let mut rows = Rows::default();
        let (log, cut_bytes) = Log::open(file, &path, settings, &mut rows)?;
        let recovered = Recovered { rows: rows.0.len(), cut_bytes };
        Ok(Journal { log, rows, path: Some(path), recovered })
    }

    /// A journal in a temporary file that disappears with this process, however that ends.
    pub(super) fn temporary(settings: &Settings) -> Result<Journal> {
        let folder = std::env::temp_dir();
        let file = tempfile::tempfile().map_err(|e| {
            io_error(&folder, "no temporary file for the measurements can be made in this folder", e)
        })?;
        let name = folder.join("(temporary file of measurements)");
        let mut rows = Rows::default();
        let (log, _) = Log::open(file, &name, settings, &mut rows)?;
        Ok(Journal { log, rows, path: None, recovered: Recovered::default() })
    }

    /// Where the journal of the table `output` is kept.
    pub(super) fn path_beside(output: &Path) -> PathBuf {
        beside(output, ".partial")
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    pub(super) fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// Number of rows, of this run or an earlier one.
    pub(super) fn len(&self) -> usize {
        self.rows.0.len()
    }

    /// Takes the row of `path` into the table if there is one and it was measured on this content.
    pub(super) fn want(&mut self, path: &str, content_hash: &[u8; 32]) -> Result<bool> {
        self.check_new(path)?;
        let Some(entry) = self.rows.0.get_mut(path) else { return Ok(false) };
        let payload = self.log.read(entry.at)?;
        let (_, hash) = decode_row_key(&payload).map_err(|Malformed(why)| self.log.damaged(entry.at, why))?;
        entry.wanted = hash == *content_hash;
        Ok(entry.wanted)
    }

    /// Adds a row of this run. It has passed [`Row::check`].
    pub(super) fn append(&mut self, path: &str, measurement: &Measurement) -> Result<()> {
        self.check_new(path)?;
        let at = self.log.append(&encode_row(path, measurement))?;
        self.rows.0.insert(path.into(), Entry { at, wanted: true });
        Ok(())
    }

    /// The table's rows in byte order of their paths.
    pub(super) fn rows(&self) -> impl Iterator<Item = Result<Row>> {
        self.rows.0.values().filter(|e| e.wanted).map(|entry| {
            let payload = self.log.read(entry.at)?;
            decode_row(&payload).map_err(|Malformed(why)| self.log.damaged(entry.at, why))
        })
    }

    pub(super) fn sync(&self) -> Result<()> {
        self.log.sync()
    }

    /// Removes the file: its rows stand in the finished table.
    pub(super) fn remove(mut self) {
        if let Some(path) = self.path.take() {
            // One that stays is taken up and used again by the next run to the same table: no harm.
            let _ = fs::remove_file(path);
        }
    }

    /// Two rows of one path would silently become one.
    fn check_new(&self, path: &str) -> Result<()> {
        if self.rows.0.get(path).is_some_and(|e| e.wanted) {
            return Err(Error::new(ErrorKind::Format, path, "two images of the source have this path"));
        }
        Ok(())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // A run that failed before its first row has nothing to go on from.
        if let (true, Some(path)) = (self.log.is_empty(), &self.path) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Opens or makes the file and locks out every other run until it is closed.
fn open_alone(path: &Path) -> Result<File> {
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|e| io_error(path, "cannot be opened for writing", e))?;
        // A file system without locks is no reason not to measure: the lock only guards against a second run.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(Error::new(ErrorKind::Io, path.display().to_string(), "in use by another run")
                .remedy("Wait for that run to end, or choose another output"));
        }
        // That run may have finished, and removed its journal, between opening and locking.
        if still_there(&file, path) {
            return Ok(file);
        }
    }
}

#[cfg(unix)]
fn still_there(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(found)) => (open.dev(), open.ino()) == (found.dev(), found.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn still_there(_: &File, path: &Path) -> bool {
    path.exists()
}
