//! Images in a zip archive.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use ::zip::ZipArchive;
use ::zip::result::ZipError;

use super::{Entry, Listing, Sink, cannot_open, changed, member_name, read_bounded};
use crate::image::unreadable::Unreadable;
use crate::{Error, ErrorKind, Result};

/// Opens the archive's directory.
pub(super) fn archive(path: &Path) -> Result<ZipArchive<BufReader<File>>> {
    let file = File::open(path).map_err(|e| cannot_open(path, e))?;
    ZipArchive::new(BufReader::new(file)).map_err(|e| {
        Error::new(ErrorKind::Format, path.display().to_string(), "its zip directory cannot be read")
            .source(e)
            .remedy("Most often the file is cut off; copy or download it again")
    })
}

/// The name of a member; `None` for a folder.
fn name_of(archive: &ZipArchive<BufReader<File>>, index: usize) -> Option<String> {
    let name = match archive.name_for_index(index)? {
        Ok(name) => member_name(name.as_bytes()),
        Err(_) => format!("member {index}"),
    };
    // Some Windows tools write their own separator.
    let name = name.replace('\\', "/");
    (!name.ends_with('/')).then_some(name)
}

/// Lists the members.
pub(super) fn list(path: &Path) -> Result<Listing<usize>> {
    let archive = archive(path)?;
    let mut listing = Listing::default();
    for index in 0..archive.len() {
        if let Some(name) = name_of(&archive, index) {
            listing.add(name, index);
        }
    }
    Ok(listing)
}

/// Reads the wanted members, given as (member, index) in rising order.
pub(super) fn read(path: &Path, wanted: &[(usize, usize)], entries: &[Entry], sink: &mut Sink) -> Result<()> {
    let mut archive = archive(path)?;
    for &(member, index) in wanted {
        if name_of(&archive, member).as_deref() != Some(entries[index].path()) {
            return Err(changed(path, &entries[index]));
        }
        let raw = match archive.by_index(member) {
            Ok(file) => {
                let size = file.size();
                read_bounded(file, size, entries[index].path())
            }
            Err(error) => Err(reason(error)),
        };
        if sink(index, raw).is_break() {
            break;
        }
    }
    Ok(())
}

fn reason(error: ZipError) -> Unreadable {
    match error {
        ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) | ZipError::InvalidPassword => {
            Unreadable::Encrypted
        }
        ZipError::UnsupportedArchive(what) => {
            Unreadable::Unsupported { detail: format!("zip entry: {what}") }
        }
        ZipError::CompressionMethodNotSupported(method) => {
            Unreadable::Unsupported { detail: format!("zip entry: compression method {method}") }
        }
        other => Unreadable::Io { detail: other.to_string() },
    }
}
