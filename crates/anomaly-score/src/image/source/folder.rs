//! Images as files under a folder.

use std::fs::File;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::{Listing, Raw, cannot_open, is_hidden, read_bounded, text_of};
use crate::image::kind::Kind;
use crate::image::unreadable::Unreadable;
use crate::{Error, ErrorKind, Result};

/// Lists the files below `root`, links followed, loops and hidden names left out.
pub(super) fn list(root: &Path) -> Result<Listing<PathBuf>> {
    let mut listing = Listing::default();
    let hidden = |name: &std::ffi::OsStr| is_hidden(&name.to_string_lossy());
    let walk = WalkDir::new(root)
        .follow_links(true)
        .into_iter()
        .filter_entry(|entry| entry.depth() == 0 || !hidden(entry.file_name()));
    for entry in walk {
        let (path, is_file) = match entry {
            Ok(entry) if entry.file_type().is_dir() => continue,
            Ok(entry) => (entry.path().to_owned(), entry.file_type().is_file()),
            Err(error) if error.loop_ancestor().is_some() => continue,
            Err(error) => match error.path() {
                // A link that leads nowhere, or a file gone since: an image by its name stays one that cannot be read.
                Some(path) if is_dangling(path) => (path.to_owned(), true),
                path => {
                    let path = path.unwrap_or(root).to_owned();
                    return Err(match error.into_io_error() {
                        Some(error) => cannot_open(&path, error),
                        None => Error::new(ErrorKind::Io, path.display().to_string(), "cannot be listed"),
                    });
                }
            },
        };
        let name = relative(root, &path);
        if is_file {
            listing.add(name, path);
        } else {
            // A pipe, socket or device would block or never end.
            listing.add_other(&name);
        }
    }
    Ok(listing)
}

fn is_dangling(path: &Path) -> bool {
    let missing = |result: std::io::Result<std::fs::Metadata>| {
        result.is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
    };
    missing(std::fs::metadata(path))
}

fn relative(root: &Path, path: &Path) -> String {
    let parts = path.strip_prefix(root).unwrap_or(path).components();
    parts.map(|part| text_of(part.as_os_str().as_encoded_bytes())).collect::<Vec<_>>().join("/")
}

/// Reads one file.
pub(super) fn read(path: &Path) -> std::result::Result<Raw, Unreadable> {
    let io = |e: std::io::Error| Unreadable::Io { detail: e.to_string() };
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let mut raw = read_bounded(file, size, "")?;
    if let Raw::Encoded { claimed, .. } = &mut raw {
        *claimed = Kind::of_name(&path.to_string_lossy());
    }
    Ok(raw)
}
