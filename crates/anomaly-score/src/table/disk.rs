//! Files: whether one can be written, reading at a position, and what to tell the user when the disk refuses.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Error, ErrorKind, Result};

/// Succeeds when a file can be made or replaced at `path`. Nothing is left behind, and a file already there is
/// not touched. Meant to be asked before hours of work whose result goes there.
///
/// # Errors
/// `Io`, saying whether the folder is missing or not writable, or what stands at `path` that cannot be replaced.
pub fn check_writable(path: &Path) -> Result<()> {
    let refuse = |problem: String| Error::new(ErrorKind::Io, path.display().to_string(), problem);
    if path.file_name().is_none() {
        return Err(refuse("cannot be written: not the name of a file".into()));
    }
    let folder = folder_of(path);
    match fs::metadata(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(refuse(format!("cannot be written: there is no folder {}", folder.display()))
                .remedy("Create the folder first, or choose another place"));
        }
        Err(e) => return Err(io_error(path, "cannot be written", e)),
        Ok(meta) if !meta.is_dir() => {
            return Err(refuse(format!("cannot be written: {} is not a folder", folder.display())));
        }
        Ok(_) => {}
    }
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {
            return Err(refuse("cannot be written: it is a folder".into()).remedy("Name a file inside it"));
        }
        // Replacing a device or a pipe by renaming would remove it from the system.
        Ok(meta) if !meta.is_file() => {
            return Err(refuse("cannot be written: it is not a regular file".into()));
        }
        Ok(meta) if meta.permissions().readonly() => {
            return Err(refuse("cannot be written: the file there is read-only".into())
                .remedy("Make it writable, or choose another name"));
        }
        _ => {}
    }
    tempfile::tempfile_in(folder).map(drop).map_err(|e| {
        io_error(path, &format!("cannot be written: no file can be made in {}", folder.display()), e)
    })
}

/// The folder a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// `path` with `suffix` added to its file name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// An `Io` error about `path` that says what to do where the reason tells.
pub(crate) fn io_error(path: impl AsRef<Path>, problem: &str, e: io::Error) -> Error {
    let remedy = match e.kind() {
        io::ErrorKind::StorageFull => Some("Make room on this disk, or choose a place on another one"),
        io::ErrorKind::QuotaExceeded => {
            Some("Your quota there is used up: make room, or choose another place")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Some("Change its permissions, or choose another place")
        }
        _ => None,
    };
    let error = Error::new(ErrorKind::Io, path.as_ref().display().to_string(), problem).source(e);
    match remedy {
        Some(remedy) => error.remedy(remedy),
        None => error,
    }
}

/// A view of an open file that reads from its own position on, whatever other views of the same file do.
#[derive(Clone)]
pub(super) struct Section {
    file: Arc<File>,
    at: u64,
}

impl Section {
    pub(super) fn new(file: Arc<File>, at: u64) -> Self {
        Section { file, at }
    }
}

impl Read for Section {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        #[cfg(unix)]
        let n = std::os::unix::fs::FileExt::read_at(&*self.file, buf, self.at)?;
        #[cfg(windows)]
        let n = std::os::windows::fs::FileExt::seek_read(&*self.file, buf, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_is_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("old.parquet"), b"old").unwrap();
        fs::write(path("locked.parquet"), b"old").unwrap();
        let mut read_only = fs::metadata(path("locked.parquet")).unwrap().permissions();
        read_only.set_readonly(true);
        fs::set_permissions(path("locked.parquet"), read_only).unwrap();

        assert!(check_writable(&path("new.parquet")).is_ok());
        assert!(check_writable(Path::new("a-name-alone.parquet")).is_ok());
        assert!(check_writable(&path("old.parquet")).is_ok());
        assert_eq!(fs::read(path("old.parquet")).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "something was left behind");

        let said = |path: &Path| {
            let e = check_writable(path).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Io);
            e.to_string().replace(&dir.path().display().to_string(), "DIR")
        };
        assert_eq!(
            said(&path("none/t.parquet")),
            "DIR/none/t.parquet: cannot be written: there is no folder DIR/none. \
             Create the folder first, or choose another place"
        );
        assert_eq!(
            said(&path("old.parquet/t.parquet")),
            "DIR/old.parquet/t.parquet: cannot be written: DIR/old.parquet is not a folder"
        );
        assert_eq!(said(dir.path()), "DIR: cannot be written: it is a folder. Name a file inside it");
        assert_eq!(
            said(&path("locked.parquet")),
            "DIR/locked.parquet: cannot be written: the file there is read-only. \
             Make it writable, or choose another name"
        );
        assert_eq!(said(Path::new("..")), "..: cannot be written: not the name of a file");
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_never_replaced() {
        let e = check_writable(Path::new("/dev/null")).unwrap_err();
        assert_eq!(e.to_string(), "/dev/null: cannot be written: it is not a regular file");
    }

    #[test]
    fn a_full_disk_comes_with_a_remedy() {
        let e = io_error("t.parquet", "cannot be written", io::ErrorKind::StorageFull.into());
        assert_eq!(
            e.to_string(),
            "t.parquet: cannot be written (no storage space). \
             Make room on this disk, or choose a place on another one"
        );
    }
}
