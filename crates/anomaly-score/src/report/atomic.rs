//! Output files that are whole or not there.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::Result;
use crate::table::{check_writable, folder_of, io_error};

/// Writes `text` to the file at `path`, replacing what was there only once all of it is on the disk.
///
/// # Errors
/// `Io`: the folder is missing or not writable, something stands at `path` that cannot be replaced, the disk is full.
/// What was at `path` before is then untouched.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    write_bytes(path, text.as_bytes())
}

/// Writes `bytes` to the file at `path` as [`write_text`] does a text.
///
/// # Errors
/// As [`write_text`].
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, |file| file.write_all(bytes).map_err(|e| io_error(path, "cannot be written", e)))
}

/// Lets `fill` write a temporary file beside `path`, which then takes that name.
pub(super) fn replace(path: &Path, fill: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    check_writable(path)?;
    let fail = |e| io_error(path, "cannot be written", e);
    // Renaming over a link would replace the link and leave the file it leads to as it was.
    let is_link = fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink());
    let target = if is_link { fs::canonicalize(path).map_err(fail)? } else { path.to_owned() };

    let mut options = tempfile::Builder::new();
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!("{}.", name.chars().take(40).collect::<String>());
    options.prefix(&prefix).suffix(".writing");
    // Otherwise nobody but the user could read the result.
    #[cfg(unix)]
    options.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut temporary = options.tempfile_in(folder_of(&target)).map_err(fail)?;
    fill(temporary.as_file_mut())?;
    temporary.as_file().sync_all().map_err(fail)?;
    temporary.persist(&target).map_err(|e| fail(e.error))?;
    Ok(())
}
