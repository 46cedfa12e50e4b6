//! The hub's cache on this machine:
//!
//! ```text
//! FOLDER/models--OWNER--NAME/blobs/ETAG                    contents, named after their SHA-256
//!                            blobs/ETAG.incomplete         the part that has come so far
//!                            snapshots/COMMIT/FILE         a link to the blob
//!                            refs/REVISION                 the commit that a branch or tag meant
//! FOLDER/.locks/models--OWNER--NAME/ETAG.lock              held while the blob is written
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::remote::{Remote, is_commit};
use super::{Event, HubFile, Watch};
use crate::report::write_text;
use crate::table::io_error;
use crate::{Error, Result};

/// How often a lock that another process holds is tried.
const LOCK_INTERVAL: Duration = Duration::from_millis(200);

/// A folder of that layout, which need not exist yet.
pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    pub(super) fn new(folder: PathBuf) -> Cache {
        Cache { folder }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn repo(&self, file: &HubFile) -> PathBuf {
        self.folder.join(repo_folder(file))
    }

    /// The file, if it is here: by its contents where their SHA-256 is recorded, or else by its name.
    pub(super) fn find(&self, file: &HubFile) -> Option<PathBuf> {
        let repo = self.repo(file);
        let blob = file.sha256.map(|sha256| repo.join("blobs").join(sha256));
        let commit = if is_commit(file.revision) {
            Some(file.revision.to_owned())
        } else {
            let noted = fs::read_to_string(repo.join("refs").join(file.revision)).ok();
            noted.map(|text| text.trim().to_owned()).filter(|commit| is_commit(commit))
        };
        let snapshot = commit.map(|commit| repo.join("snapshots").join(commit).join(file.file));
        // The last is where a file is put by hand.
        blob.into_iter().chain(snapshot).chain([self.place(file)]).find(|path| path.is_file())
    }

    /// Where a file that is brought by hand is found.
    pub(super) fn place(&self, file: &HubFile) -> PathBuf {
        self.repo(file).join("snapshots").join(file.revision).join(file.file)
    }

    /// Where these contents are kept.
    pub(super) fn blob(&self, file: &HubFile, etag: &str) -> PathBuf {
        self.repo(file).join("blobs").join(etag)
    }

    /// Where they are kept until they are whole. A later process goes on from there, unless locks do not work here: then
    /// two could write the same file, so each has its own.
    pub(super) fn incomplete(&self, blob: &Path, is_locked: bool) -> PathBuf {
        let own = if is_locked { String::new() } else { format!(".{}", std::process::id()) };
        let mut name = blob.as_os_str().to_owned();
        name.push(format!("{own}.incomplete"));
        name.into()
    }

    /// Makes the folders that the file needs.
    pub(super) fn prepare(&self, file: &HubFile, remote: &Remote) -> Result<()> {
        let pointer = self.repo(file).join("snapshots").join(&remote.commit).join(file.file);
        let folders = [
            self.repo(file).join("blobs"),
            pointer.parent().unwrap_or(&self.folder).to_owned(),
            self.folder.join(".locks").join(repo_folder(file)),
        ];
        folders.iter().try_for_each(|folder| {
            fs::create_dir_all(folder)
                .map_err(|e| unwritable(folder, "this folder of the cache cannot be made", e))
        })
    }

    /// Waits until no other process writes these contents. `None` on a file system that has no locks.
    ///
    /// # Errors
    /// `Io` if the lock cannot be made; `Interrupted`.
    pub(super) fn lock(&self, file: &HubFile, etag: &str, watch: &Watch) -> Result<Option<Lock>> {
        let path = self.folder.join(".locks").join(repo_folder(file)).join(format!("{etag}.lock"));
        let mut is_first = true;
        loop {
            let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            let lock = lock.map_err(|e| unwritable(&path, "this lock of the cache cannot be opened", e))?;
            match lock.try_lock() {
                Ok(()) if is_named(&lock, &path) => return Ok(Some(Lock(lock))),
                // Whoever held it has removed it: what was locked is no longer what others lock.
                Ok(()) => watch.check(file)?,
                Err(TryLockError::WouldBlock) => {
                    if is_first {
                        (watch.report)(Event::Waiting(&path));
                    }
                    is_first = false;
                    watch.pause(file, LOCK_INTERVAL)?;
                }
                Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => return Ok(None),
                Err(TryLockError::Error(e)) => {
                    return Err(unwritable(&path, "this lock of the cache cannot be taken", e));
                }
            }
        }
    }

    /// Gives contents that have been checked the name they are found under.
    pub(super) fn keep(&self, incomplete: &Path, blob: &Path) -> Result<()> {
        fs::rename(incomplete, blob)
            .map_err(|e| unwritable(blob, "this file of the cache cannot be written", e))
    }

    /// Makes the contents found under the name of the file and, where the revision is no commit, notes its commit.
    pub(super) fn link(&self, file: &HubFile, remote: &Remote) -> Result<PathBuf> {
        let pointer = self.repo(file).join("snapshots").join(&remote.commit).join(file.file);
        let blob = self.blob(file, &remote.etag);
        let failed = |e| unwritable(&pointer, "this link of the cache cannot be made", e);
        if !pointer.is_file() {
            // It may lead to a blob that was deleted.
            match fs::remove_file(&pointer) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
                _ => {}
            }
            let up = "../".repeat(1 + file.file.split('/').count());
            point(Path::new(&format!("{up}blobs/{}", remote.etag)), &blob, &pointer).map_err(failed)?;
        }
        if file.revision != remote.commit {
            let noted = self.repo(file).join("refs").join(file.revision);
            let folder = noted.parent().unwrap_or(&self.folder);
            fs::create_dir_all(folder)
                .map_err(|e| unwritable(folder, "this folder of the cache cannot be made", e))?;
            write_text(&noted, &remote.commit)?;
        }
        Ok(pointer)
    }
}

/// Held while contents are written; released when dropped. Python's `filelock` takes the same one (flock).
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file releases it too.
        let _ = self.0.unlock();
    }
}

fn repo_folder(file: &HubFile) -> String {
    format!("models--{}", file.repo.replace('/', "--"))
}

/// An error of the cache, with a way around it.
pub(super) fn unwritable(path: &Path, problem: &str, e: io::Error) -> Error {
    let full = matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let error = io_error(path, problem, e);
    error.remedy(if full {
        "Make room, or set HF_HUB_CACHE to a folder on another disk; what was fetched is kept and gone on from"
    } else {
        "Set HF_HUB_CACHE to a folder that can be written, or give the file with --weights"
    })
}

#[cfg(unix)]
fn is_named(lock: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let place = |m: fs::Metadata| (m.dev(), m.ino());
    matches!((lock.metadata().map(place), fs::metadata(path).map(place)), (Ok(a), Ok(b)) if a == b)
}

/// A file that is open cannot be removed on the other platforms.
#[cfg(not(unix))]
fn is_named(_lock: &File, _path: &Path) -> bool {
    true
}

#[cfg(unix)]
fn point(relative: &Path, _blob: &Path, pointer: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(relative, pointer)
}

/// Where links are not allowed, as on Windows without its developer mode, the contents themselves go there.
#[cfg(windows)]
fn point(relative: &Path, blob: &Path, pointer: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(relative, pointer).or_else(|_| fs::rename(blob, pointer))
}
