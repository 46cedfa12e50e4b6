//! Where images come from: a folder, one file, or an archive, listed once and then read in its own order.

mod folder;
mod npz;
mod tar;
mod zip;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use super::kind::{EXTENSIONS, Kind};
use super::unreadable::Unreadable;
use crate::{Error, ErrorKind, Result};

/// The largest encoded image that is read, bytes (512 MiB). A larger entry is [`Unreadable::TooLarge`].
pub const MAX_ENTRY_BYTES: u64 = 512 << 20;

/// One image of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    path: String,
}

impl Entry {
    /// The path inside the source, with `/` between its parts; unique in the source. Bytes that are no UTF-8 are
    /// written `\xNN`.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// What a source hands out for one entry.
#[derive(Clone, Debug)]
pub enum Raw {
    /// A file's bytes.
    Encoded {
        /// The whole file.
        bytes: Vec<u8>,
        /// The type its name claims.
        claimed: Option<Kind>,
    },
    /// Pixels out of an array, H×W×3.
    Rgb8 {
        /// Width, pixels.
        width: u32,
        /// Height, pixels.
        height: u32,
        /// R G B interleaved, row by row.
        pixels: Vec<u8>,
    },
}

/// What `read` calls with each entry: its index, and its content or why there is none.
pub(super) type Sink<'a> = dyn FnMut(usize, std::result::Result<Raw, Unreadable>) -> ControlFlow<()> + 'a;

/// A listed set of images. Listing reads no picture; the source keeps no file open.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    name: String,
    entries: Vec<Entry>,
    container: Container,
}

/// Where each entry lies, in the order of `Source::entries`.
#[derive(Debug)]
enum Container {
    Files(Vec<PathBuf>),
    Zip(Vec<usize>),
    Tar { gzip: bool, members: Vec<usize> },
    Npz(npz::Array),
}

impl Source {
    /// Lists the images of a folder (recursively), a `.zip`, a `.tar`, a `.tar.gz`, an `.npz` as ADM writes them
    /// (`arr_0`, uint8, N×H×W×3), or of one image file.
    ///
    /// Files count by their extension, see [`EXTENSIONS`], in any case. Hidden files and folders and `__MACOSX` are
    /// passed over. Symbolic links are followed, loops left out. Archives are recognised by content; nothing is ever
    /// extracted, so a path in an archive is only a name.
    ///
    /// # Errors
    /// `Io` if the path or a folder below it cannot be read, `Format` for a damaged archive, `Unsupported` for a
    /// container or an array of another kind, `TooFewImages` if there is no image: with what was looked for, where,
    /// and what was there instead.
    pub fn open(path: impl AsRef<Path>) -> Result<Source> {
        let path = path.as_ref();
        let metadata = std::fs::metadata(path).map_err(|e| cannot_open(path, e))?;
        if metadata.is_dir() {
            let listing = folder::list(path)?;
            return Source::listed(path, "folder", listing, Container::Files);
        }
        if !metadata.is_file() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                path.display().to_string(),
                "not a source of images",
            )
            .expected("a folder or a file", "a pipe, socket or device")
            .remedy("Write the images to a file or folder first; a source is read more than once"));
        }
        let mut head = [0u8; 512];
        let mut file = File::open(path).map_err(|e| cannot_open(path, e))?;
        let length = read_up_to(&mut file, &mut head).map_err(|e| cannot_open(path, e))?;
        let head = &head[..length];
        let name = path.to_string_lossy().to_ascii_lowercase();
        if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
            if name.ends_with(".npz") {
                return Source::open_npz(path);
            }
            let listing = zip::list(path)?;
            return Source::listed(path, "zip archive", listing, Container::Zip);
        }
        if head.starts_with(b"\x1f\x8b") {
            let listing = tar::list(path, true)?;
            return Source::listed(path, "tar archive", listing, |members| Container::Tar {
                gzip: true,
                members,
            });
        }
        if head.get(257..262) == Some(b"ustar") || name.ends_with(".tar") {
            let listing = tar::list(path, false)?;
            return Source::listed(path, "tar archive", listing, |members| Container::Tar {
                gzip: false,
                members,
            });
        }
        if Kind::of_name(&name).is_some() || Kind::of_content(head).is_some() {
            let mut listing = Listing::default();
            let name = path.file_name().map_or_else(String::new, |name| text_of(name.as_encoded_bytes()));
            listing.images.push((name, path.to_owned()));
            return Source::listed(path, "file", listing, Container::Files);
        }
        Err(unknown_container(path, head))
    }

    fn open_npz(path: &Path) -> Result<Source> {
        let array = npz::open(path)?;
        // Names of equal length sort by bytes as their numbers do.
        let digits = array.len().saturating_sub(1).to_string().len().max(6);
        let entries = (0..array.len()).map(|i| Entry { path: format!("arr_0[{i:0digits$}]") }).collect();
        Ok(Source::new(path, entries, Container::Npz(array)))
    }

    /// Sorts a listing by path. Of equal paths (an archive may have them) the last one stays, as in extracting.
    fn listed<L>(
        path: &Path,
        what: &str,
        listing: Listing<L>,
        container: impl FnOnce(Vec<L>) -> Container,
    ) -> Result<Source> {
        let Listing { mut images, others } = listing;
        if images.is_empty() {
            return Err(nothing_found(path, what, &others));
        }
        images.sort_by(|a, b| a.0.cmp(&b.0));
        let mut entries: Vec<Entry> = Vec::with_capacity(images.len());
        let mut places = Vec::with_capacity(images.len());
        for (path, place) in images {
            if entries.last().is_some_and(|last| last.path == path) {
                places.pop();
                entries.pop();
            }
            entries.push(Entry { path });
            places.push(place);
        }
        Ok(Source::new(path, entries, container(places)))
    }

    fn new(path: &Path, entries: Vec<Entry>, container: Container) -> Source {
        Source { path: path.to_owned(), name: path.display().to_string(), entries, container }
    }

    /// The same source under another name than its path, for images in a place that means nothing to the reader.
    pub fn named(mut self, name: &str) -> Source {
        self.name = name.to_owned();
        self
    }

    /// What results call the source: its path, unless [`Source::named`] said otherwise.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path the source was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of images; at least 1.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Never: a source without images is an error of [`Source::open`].
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The images, sorted by the bytes of their paths.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The indices, in rising order, of `limit` entries drawn without replacement; all of them if there are no more.
    ///
    /// The draw depends on `seed`, `limit` and the sorted list alone: a partial Fisher–Yates shuffle of the indices
    /// by ChaCha8, keyed with SHA-256 of `anomaly-score sample 1`, NUL and the seed's 8 little-endian bytes.
    pub fn sample(&self, limit: usize, seed: u64) -> Vec<usize> {
        let mut indices: Vec<usize> = (0..self.len()).collect();
        if limit >= self.len() {
            return indices;
        }
        let mut hasher = Sha256::new();
        hasher.update(b"anomaly-score sample 1\0");
        hasher.update(seed.to_le_bytes());
        let mut random = ChaCha8Rng::from_seed(hasher.finalize().into());
        for i in 0..limit {
            let j = i + below(&mut random, (self.len() - i) as u64) as usize;
            indices.swap(i, j);
        }
        indices.truncate(limit);
        indices.sort_unstable();
        indices
    }

    /// Reads the wanted entries and hands each to `sink` once, in the container's own order, one at a time. What
    /// ails one entry goes to the sink; `ControlFlow::Break` ends the reading early, without an error.
    ///
    /// Compressed archives are streamed: neither a copy on disk nor more than one entry in memory.
    ///
    /// # Errors
    /// `InvalidOption` for an index past the end; `Io` or `Format` if the archive itself cannot be read to the end.
    pub fn read(
        &self,
        indices: &[usize],
        sink: &mut dyn FnMut(usize, std::result::Result<Raw, Unreadable>) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut wanted = indices.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        if let Some(&past) = wanted.last().filter(|&&last| last >= self.len()) {
            return Err(Error::new(
                ErrorKind::InvalidOption,
                self.path.display().to_string(),
                "no such image",
            )
            .expected(format_args!("an index below {}", self.len()), past));
        }
        match &self.container {
            Container::Files(files) => {
                for index in wanted {
                    if sink(index, folder::read(&files[index])).is_break() {
                        break;
                    }
                }
                Ok(())
            }
            Container::Zip(members) => {
                zip::read(&self.path, &in_order(&wanted, members), &self.entries, sink)
            }
            Container::Tar { gzip, members } => {
                tar::read(&self.path, *gzip, &in_order(&wanted, members), &self.entries, sink)
            }
            Container::Npz(array) => array.read(&self.path, &wanted, sink),
        }
    }
}

/// The wanted entries as (place in the archive, index), by place.
fn in_order(wanted: &[usize], places: &[usize]) -> Vec<(usize, usize)> {
    let mut order: Vec<_> = wanted.iter().map(|&index| (places[index], index)).collect();
    order.sort_unstable();
    order
}

/// A number below `bound`, each equally likely (Lemire's multiplication with rejection).
fn below(random: &mut ChaCha8Rng, bound: u64) -> u64 {
    let threshold = bound.wrapping_neg() % bound;
    loop {
        let product = u128::from(random.next_u64()) * u128::from(bound);
        if product as u64 >= threshold {
            return (product >> 64) as u64;
        }
    }
}

/// What a walk over a container found.
#[derive(Debug)]
struct Listing<L> {
    /// Path and place of each image.
    images: Vec<(String, L)>,
    /// The other files, counted by extension in lower case; `""` for none.
    others: BTreeMap<String, usize>,
}

impl<L> Default for Listing<L> {
    fn default() -> Self {
        Listing { images: Vec::new(), others: BTreeMap::new() }
    }
}

impl<L> Listing<L> {
    /// Sorts one file of the container to the images or to the others. Hidden ones count as neither.
    fn add(&mut self, path: String, place: L) {
        if path.split('/').any(is_hidden) {
            return;
        }
        if Kind::of_name(&path).is_some() {
            self.images.push((path, place));
        } else {
            self.add_other(&path);
        }
    }

    fn add_other(&mut self, path: &str) {
        let file = path.rsplit('/').next().unwrap_or(path);
        let extension = file.rsplit_once('.').map_or(String::new(), |(_, e)| e.to_ascii_lowercase());
        *self.others.entry(extension).or_default() += 1;
    }
}

/// Whether a part of a path is one that systems keep out of sight.
fn is_hidden(part: &str) -> bool {
    part == "__MACOSX" || (part.starts_with('.') && part != "." && part != "..")
}

/// The name of an archive's member: `./` in front dropped.
fn member_name(bytes: &[u8]) -> String {
    let mut name = text_of(bytes);
    while let Some(rest) = name.strip_prefix("./") {
        name = rest.to_owned();
    }
    name
}

/// Bytes as text, those that are no UTF-8 as `\xNN`, so that different names stay different.
fn text_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

/// Reads one member or file of an announced `size`, bounded whatever it announces.
fn read_bounded(reader: impl Read, size: u64, name: &str) -> std::result::Result<Raw, Unreadable> {
    let too_large = || Unreadable::TooLarge {
        detail: format!("the file is larger than {} MiB, the limit of one image", MAX_ENTRY_BYTES >> 20),
    };
    if size > MAX_ENTRY_BYTES {
        return Err(too_large());
    }
    // The announced size is a hint only: a lie must not allocate.
    let mut bytes = Vec::with_capacity(size.min(16 << 20) as usize);
    match reader.take(MAX_ENTRY_BYTES + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() as u64 > MAX_ENTRY_BYTES => Err(too_large()),
        Ok(_) => Ok(Raw::Encoded { bytes, claimed: Kind::of_name(name) }),
        // What an archive's own checks find: a checksum that fails, a compressed stream that breaks or ends.
        Err(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::InvalidData
                    | std::io::ErrorKind::InvalidInput
                    | std::io::ErrorKind::UnexpectedEof
            ) =>
        {
            Err(Unreadable::Corrupt { detail: format!("archive entry: {e}") })
        }
        Err(e) => Err(Unreadable::Io { detail: e.to_string() }),
    }
}

/// Fills `buffer` as far as the reader goes.
fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

fn cannot_open(path: &Path, error: std::io::Error) -> Error {
    let subject = path.display().to_string();
    match error.kind() {
        std::io::ErrorKind::NotFound => Error::new(ErrorKind::Io, subject, "there is no such file or folder")
            .remedy("Check the spelling; a relative path starts at the current folder"),
        std::io::ErrorKind::PermissionDenied => Error::new(ErrorKind::Io, subject, "may not be read")
            .source(error)
            .remedy("Give yourself permission to read it"),
        _ => Error::new(ErrorKind::Io, subject, "cannot be read").source(error),
    }
}

fn changed(path: &Path, entry: &Entry) -> Error {
    Error::new(ErrorKind::Format, path.display().to_string(), "the archive changed while it was being read")
        .expected(format_args!("{} where it was listed", entry.path), "something else")
        .remedy("Start again when nothing writes to it")
}

fn nothing_found(path: &Path, what: &str, others: &BTreeMap<String, usize>) -> Error {
    let total: usize = others.values().sum();
    let mut kinds: Vec<_> = others.iter().collect();
    kinds.sort_by_key(|(extension, count)| (std::cmp::Reverse(**count), (*extension).clone()));
    let shown: Vec<String> = kinds
        .iter()
        .take(5)
        .map(|(extension, count)| match extension.as_str() {
            "" => format!("{count} without extension"),
            extension => format!("{count} .{extension}"),
        })
        .collect();
    let more = if kinds.len() > shown.len() { ", …" } else { "" };
    let found = match total {
        0 => "no file at all".to_owned(),
        1 => format!("1 other file ({})", shown.join(", ")),
        _ => format!("{total} other files ({}{more})", shown.join(", ")),
    };
    let looked_for = EXTENSIONS.map(|e| format!(".{e}")).join(" ");
    let place = if what == "folder" { "in this folder and the folders below it" } else { "in this archive" };
    let archives = ["zip", "tar", "gz", "tgz", "npz"].iter().any(|e| others.contains_key(*e));
    let remedy = if archives {
        "Give the path of the archive itself"
    } else {
        "Give a folder, .zip, .tar, .tar.gz or .npz that holds images"
    };
    Error::new(ErrorKind::TooFewImages, path.display().to_string(), format!("no images {place}"))
        .expected(format_args!("files ending in {looked_for}, upper or lower case"), found)
        .remedy(remedy)
}

fn unknown_container(path: &Path, head: &[u8]) -> Error {
    let subject = path.display().to_string();
    let named = match head {
        [] => Some("an empty file (0 bytes)"),
        [b'B', b'Z', b'h', ..] => Some("a bzip2 archive"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("an xz archive"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("a zstd archive"),
        [b'7', b'z', 0xbc, 0xaf, ..] => Some("a 7z archive"),
        [b'R', b'a', b'r', b'!', ..] => Some("a rar archive"),
        [b'P', b'A', b'R', b'1', ..] => Some("a Parquet file"),
        _ => super::kind::foreign_name(head),
    };
    let found = match named {
        Some(named) => named.to_owned(),
        None => format!("a file starting with \"{}\"", head[..head.len().min(12)].escape_ascii()),
    };
    let remedy = if head.starts_with(b"\x93NUMPY") {
        "Save it as numpy.savez(FILE, images), with images of type uint8 and shape N×H×W×3"
    } else {
        "Unpack it to a folder, or pack its images as .zip, .tar or .tar.gz"
    };
    Error::new(ErrorKind::Unsupported, subject, "not a source of images")
        .expected("a folder, .zip, .tar, .tar.gz, .npz or an image file", found)
        .remedy(remedy)
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
