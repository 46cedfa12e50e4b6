//! The images this program ships, for a first run without any file of one's own.

use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};

use crate::{Error, ErrorKind, Result};

/// `demo/`: photographs and images made from them; `demo/SOURCES.md` says whence each comes.
static IMAGES: Dir = include_dir!("$CARGO_MANIFEST_DIR/demo");

/// Where [`unpack`] put the two sets.
#[derive(Clone, Debug)]
pub struct Demo {
    /// Folder of real photos.
    pub reference: PathBuf,
    /// Folder of generated images.
    pub generated: PathBuf,
}

/// Writes the demo images below `folder`.
///
/// # Errors
/// `Io` if `folder` cannot be written.
pub fn unpack(folder: &Path) -> Result<Demo> {
    IMAGES.extract(folder).map_err(|e| {
        Error::new(ErrorKind::Io, folder.display().to_string(), "the demo images cannot be unpacked")
            .source(e)
            .remedy("Free some room there, or set TMPDIR to another folder")
    })?;
    Ok(Demo { reference: folder.join("real"), generated: folder.join("generated") })
}
