//! Measurements kept across runs and tables, by content.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::io_error;
use super::log::{Index, Log};
use super::row::{
    Decoded, Malformed, Measurement, decode_content_hash, decode_measurement, encode_measurement, hex,
};
use super::settings::Settings;
use crate::{Error, ErrorKind, Result};

/// Measurements by content hash, for one set of deciding settings: the log `<fingerprint>.log` of a folder.
///
/// Any number of processes may use one folder at the same time. Nothing is ever removed; a user may delete the
/// folder or any file in it whenever no run is going on. In memory there are about 50 bytes a measurement.
pub struct Cache {
    log: Log,
    entries: Entries,
}

/// Where the measurement of a content stands, by the first half of the content hash; the record holds all of it.
#[derive(Default)]
struct Entries(HashMap<[u8; 16], u64>);

fn key(content_hash: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|i| content_hash[i])
}

impl Index for Entries {
    fn clear(&mut self) {
        self.0.clear();
    }

    fn insert(&mut self, at: u64, payload: &[u8]) -> Decoded<()> {
        self.0.entry(key(&decode_content_hash(payload)?)).or_insert(at);
        Ok(())
    }
}

/// Held while the log is read or written; released when dropped.
struct Lock(Arc<File>);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file releases it too.
        let _ = self.0.unlock();
    }
}

impl Cache {
    /// The folder caches are kept in: the environment variable `ANOMALY_SCORE_CACHE` if set and not empty, otherwise
    /// `anomaly-score/measurements` in the platform's folder for caches.
    ///
    /// # Errors
    /// `Unsupported` if the platform names no such folder (no home directory).
    pub fn default_folder() -> Result<PathBuf> {
        if let Some(folder) = std::env::var_os("ANOMALY_SCORE_CACHE").filter(|v| !v.is_empty()) {
            return Ok(folder.into());
        }
        match etcetera::base_strategy::choose_native_strategy() {
            Ok(platform) => {
                Ok(etcetera::BaseStrategy::cache_dir(&platform).join("anomaly-score").join("measurements"))
            }
            Err(e) => Err(Error::new(ErrorKind::Unsupported, "cache", "there is no folder for it")
                .source(e)
                .remedy("Set ANOMALY_SCORE_CACHE to a folder")),
        }
    }

    /// Opens the cache of these settings in `folder`, making both if need be.
    ///
    /// # Errors
    /// `Io`, `Format` or `Unsupported` if it cannot be used. Measuring works without a cache: a warning is enough.
    pub fn open(folder: &Path, settings: &Settings) -> Result<Cache> {
        fs::create_dir_all(folder)
            .map_err(|e| io_error(folder, "the folder of the cache cannot be made", e))?;
        let path = folder.join(format!("{}.log", hex(&settings.fingerprint())));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| io_error(&path, "the cache cannot be opened", e))?;
        file.lock().map_err(|e| io_error(&path, "the cache cannot be locked", e))?;
        let mut entries = Entries::default();
        // An error drops the file and with it the lock.
        let (log, _) = Log::open(file, &path, settings, &mut entries)?;
        drop(Lock(log.file().clone()));
        Ok(Cache { log, entries })
    }

    /// The log's path.
    pub fn path(&self) -> &Path {
        self.log.name()
    }

    /// Number of measurements known here.
    pub fn len(&self) -> usize {
        self.entries.0.len()
    }

    /// Whether no measurement is known here.
    pub fn is_empty(&self) -> bool {
        self.entries.0.is_empty()
    }

    /// The measurement of this content, if it is known. Other processes' measurements become known with each
    /// [`Cache::insert`].
    pub(super) fn get(&self, content_hash: &[u8; 32]) -> Result<Option<Measurement>> {
        let Some(&at) = self.entries.0.get(&key(content_hash)) else { return Ok(None) };
        let file = self.log.file().clone();
        file.lock_shared().map_err(|e| self.log.io("the cache cannot be locked", e))?;
        let _lock = Lock(file);
        let payload = self.log.read(at)?;
        let found = decode_measurement(&payload).map_err(|Malformed(why)| self.log.damaged(at, why))?;
        Ok((found.scores.content_hash == *content_hash).then_some(found))
    }

    /// Keeps a measurement, unless this or another process has kept that of the same content.
    pub(super) fn insert(&mut self, measurement: &Measurement) -> Result<()> {
        let file = self.log.file().clone();
        file.lock().map_err(|e| self.log.io("the cache cannot be locked", e))?;
        let _lock = Lock(file);
        self.log.catch_up(&mut self.entries)?;
        let key = key(&measurement.scores.content_hash);
        if !self.entries.0.contains_key(&key) {
            let at = self.log.append(&encode_measurement(measurement))?;
            self.entries.0.insert(key, at);
        }
        Ok(())
    }
}
