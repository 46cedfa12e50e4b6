//! The layout torch writes since 1.6: a zip archive, nothing in it compressed.
//!
//! `NAME/data.pkl` is the pickle of the object, `NAME/data/KEY` the elements of a storage, and
//! `NAME/byteorder` (since torch 2.1) says `little` or `big`.
//!
//! Source: `_save` and `_load` in `torch/serialization.py`.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Cursor};
use std::ops::Range;

use zip::read::ZipReadOptions;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::pickle::Pickle;
use super::tensor::Tensor;
use super::{shown, state_dict};
use crate::{Error, ErrorKind, Result};

/// Whether the file begins with a zip entry.
pub(super) fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

/// The tensors of a file, by name.
pub(super) fn read(bytes: &[u8], origin: &str) -> Result<BTreeMap<String, Tensor>> {
    let mut archive = Archive::open(bytes, origin)?;
    if let Some(order) = archive.entry("byteorder")? {
        let order = &bytes[order];
        if order != b"little" {
            let order = &order[..order.len().min(16)];
            return Err(Error::new(ErrorKind::Unsupported, origin, "was not written in little-endian order")
                .expected("byte order `little`", format!("`{}`", order.escape_ascii())));
        }
    }
    let Some(range) = archive.entry("data.pkl")? else {
        return Err(archive.without("data.pkl"));
    };
    let pickle = Pickle::read(bytes, range, origin).map_err(|e| archive.explain(e))?;

    let mut places: HashMap<&str, Range<usize>> = HashMap::new();
    state_dict::tensors(&pickle, origin, |storage| {
        let place = match places.get(storage.key) {
            Some(place) => place.clone(),
            None => {
                let name = format!("data/{}", shown(storage.key));
                let place =
                    archive.entry(&format!("data/{}", storage.key))?.ok_or_else(|| archive.without(&name))?;
                places.insert(storage.key, place.clone());
                place
            }
        };
        let need = storage.stored.checked_mul(storage.dtype.size());
        if need != Some(place.len()) {
            return Err(Error::new(
                ErrorKind::Format,
                origin,
                format!("storage `{}` has another length than its tensors say", shown(storage.key)),
            )
            .expected(
                format!("{} elements of {} bytes", storage.stored, storage.dtype.size()),
                format!("{} bytes", place.len()),
            ));
        }
        Ok(place)
    })
}

struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    origin: &'a str,
    bytes: &'a [u8],
    /// The folder everything lies in, with its slash.
    folder: String,
    /// How much more may be read: entries that overlap could otherwise ask for any amount of work.
    unread: usize,
}

impl<'a> Archive<'a> {
    fn open(bytes: &'a [u8], origin: &'a str) -> Result<Archive<'a>> {
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(|e| {
            Error::new(ErrorKind::Format, origin, "begins as a zip archive but cannot be read as one")
                .source(e)
                .remedy("The file is cut off or damaged; fetch it again")
        })?;
        // torch names the folder after the file, or `archive`.
        let mut folders = zip.file_names_raw().filter_map(|name| {
            let folder = std::str::from_utf8(name).ok()?.strip_suffix("data.pkl")?;
            (folder.find('/').is_none_or(|at| at + 1 == folder.len())).then(|| folder.to_string())
        });
        let folder = match (folders.next(), folders.next()) {
            (Some(folder), None) => folder,
            (Some(_), Some(_)) => {
                return Err(Error::new(ErrorKind::Format, origin, "holds more than one data.pkl"));
            }
            (None, _) => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    origin,
                    "is a zip archive, but not one that torch.save wrote",
                )
                .expected("an entry NAME/data.pkl", "none")
                .remedy("Supported are safetensors files and checkpoints written by torch.save"));
            }
        };
        drop(folders);
        Ok(Archive { zip, origin, bytes, folder, unread: bytes.len() })
    }

    /// Where the contents of an entry lie in the file, checksum verified.
    fn entry(&mut self, name: &str) -> Result<Option<Range<usize>>> {
        let name = format!("{}{name}", self.folder);
        let Some(index) = self.zip.index_for_name(&name) else {
            return Ok(None);
        };
        let shown = shown(&name);
        let damaged = |e: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(ErrorKind::Format, self.origin, format!("zip entry `{shown}` cannot be read"))
                .source(e)
                .remedy("The file is damaged; fetch it again")
        };
        // With its checksums turned off, torch writes 0 for them.
        let unchecked = self.zip.by_index_data(index).is_ok_and(|entry| entry.crc32() == 0);
        let options = ZipReadOptions::new().ignore_crc32(unchecked);
        let mut entry = match self.zip.by_index_with_options(index, options) {
            Ok(entry) => entry,
            Err(ZipError::UnsupportedArchive(problem)) => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    self.origin,
                    format!("zip entry `{shown}` is not supported"),
                )
                .source(problem));
            }
            Err(e) => return Err(damaged(e.into())),
        };
        if entry.compression() != CompressionMethod::Stored {
            return Err(Error::new(
                ErrorKind::Unsupported,
                self.origin,
                format!("zip entry `{shown}` is compressed, which torch.save never does"),
            )
            .remedy("Load the file in Python and save it again with torch.save, or as .safetensors"));
        }
        let range = entry
            .data_start()
            .and_then(|start| usize::try_from(start).ok())
            .and_then(|start| Some(start..start.checked_add(usize::try_from(entry.size()).ok()?)?))
            .filter(|range| range.end <= self.bytes.len());
        let Some(range) = range else {
            return Err(damaged("it reaches beyond the end of the file".into()));
        };
        let Some(unread) = self.unread.checked_sub(range.len()) else {
            return Err(damaged("entries overlap".into()));
        };
        self.unread = unread;
        // Reading to the end is what makes the zip crate compare the checksum.
        let read = io::copy(&mut entry, &mut io::sink()).map_err(|e| damaged(e.into()))?;
        if read != range.len() as u64 {
            return Err(damaged("it is shorter than the archive says".into()));
        }
        Ok(Some(range))
    }

    fn without(&self, name: &str) -> Error {
        Error::new(
            ErrorKind::Format,
            self.origin,
            format!("the archive has no entry `{}{name}`", shown(&self.folder)),
        )
        .remedy("The file is damaged; fetch it again")
    }

    /// A scripted module fails at its first class, which says little to whoever wrote it.
    fn explain(&self, error: Error) -> Error {
        let scripted = self.zip.index_for_name(&format!("{}constants.pkl", self.folder)).is_some();
        if error.kind() == ErrorKind::Unsupported && scripted {
            return Error::new(
                ErrorKind::Unsupported,
                self.origin,
                "is a TorchScript program, not a state dict",
            )
            .source(error)
            .remedy("Load it with torch.jit.load in Python and save its state_dict() with torch.save");
        }
        error
    }
}
