//! Images in a tar archive, plain or gzipped. A gzipped one is streamed from the start for every reading.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;

use ::tar::{Archive, Entries, EntryType};
use flate2::read::MultiGzDecoder;

use super::{Entry, Listing, Sink, cannot_open, changed, member_name, read_bounded};
use crate::image::unreadable::Unreadable;
use crate::{Error, ErrorKind, Result};

/// Lists the members.
pub(super) fn list(path: &Path, gzip: bool) -> Result<Listing<usize>> {
    let mut listing = Listing::default();
    let mut end = 0;
    let _ = walk(path, gzip, &mut |member, _| {
        // Links are kept: an image that is one cannot be read, and that is said of it, not passed over.
        if member.is_file() || member.is_link() {
            listing.add(member.name.clone(), member.place);
        }
        end = member.end;
        Ok(ControlFlow::Continue(()))
    })?;
    if !gzip {
        let length = std::fs::metadata(path).map_err(|e| cannot_open(path, e))?.len();
        // Seeking past the end of a file is no error, so the last member has to be measured.
        if end > length {
            return Err(broken(path, false, io::ErrorKind::UnexpectedEof.into()));
        }
    }
    Ok(listing)
}

/// Reads the wanted members, given as (member, index) in rising order.
pub(super) fn read(
    path: &Path,
    gzip: bool,
    wanted: &[(usize, usize)],
    entries: &[Entry],
    sink: &mut Sink,
) -> Result<()> {
    let mut rest = wanted.iter().copied().peekable();
    walk(path, gzip, &mut |member, content| {
        let Some((_, index)) = rest.next_if(|&(place, _)| place == member.place) else {
            return Ok(ControlFlow::Continue(()));
        };
        if member.name != entries[index].path() {
            return Err(changed(path, &entries[index]));
        }
        let raw = if member.is_link() {
            Err(Unreadable::Unsupported { detail: "tar entry: a link, not a file".into() })
        } else {
            read_bounded(content, member.size, &member.name)
        };
        let flow = sink(index, raw);
        // The rest of a compressed archive would be unpacked for nothing.
        Ok(if rest.peek().is_none() { ControlFlow::Break(()) } else { flow })
    })
    .and_then(|flow| match (flow, rest.peek()) {
        (ControlFlow::Continue(()), Some(&(_, index))) => Err(changed(path, &entries[index])),
        _ => Ok(()),
    })
}

/// One member of the archive.
struct Member {
    /// Its number, folders and all else counted.
    place: usize,
    name: String,
    kind: EntryType,
    /// Bytes of content.
    size: u64,
    /// Where its content ends in the archive.
    end: u64,
}

impl Member {
    fn is_file(&self) -> bool {
        self.kind.is_file() || self.kind.is_contiguous() || self.kind.is_gnu_sparse()
    }

    fn is_link(&self) -> bool {
        self.kind.is_hard_link() || self.kind.is_symlink()
    }
}

/// What `walk` calls with each member and its content.
type Visit<'a> = dyn FnMut(&Member, &mut dyn Read) -> Result<ControlFlow<()>> + 'a;

/// Goes through the members until `visit` breaks off.
fn walk(path: &Path, gzip: bool, visit: &mut Visit) -> Result<ControlFlow<()>> {
    let file = BufReader::with_capacity(1 << 16, File::open(path).map_err(|e| cannot_open(path, e))?);
    if gzip {
        let mut archive = Archive::new(MultiGzDecoder::new(file));
        walk_members(path, gzip, archive.entries(), visit)
    } else {
        let mut archive = Archive::new(file);
        walk_members(path, gzip, archive.entries_with_seek(), visit)
    }
}

fn walk_members<R: Read>(
    path: &Path,
    gzip: bool,
    members: io::Result<Entries<'_, R>>,
    visit: &mut Visit,
) -> Result<ControlFlow<()>> {
    let members = members.map_err(|e| broken(path, gzip, e))?;
    for (place, member) in members.enumerate() {
        let mut content = member.map_err(|e| broken(path, gzip, e))?;
        let member = Member {
            place,
            name: member_name(&content.path_bytes()),
            kind: content.header().entry_type(),
            size: content.size(),
            end: content.raw_file_position().saturating_add(content.size()),
        };
        if visit(&member, &mut content)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn broken(path: &Path, gzip: bool, error: io::Error) -> Error {
    let what = if gzip {
        "its gzipped tar content cannot be read to the end"
    } else {
        "it cannot be read to the end as a tar archive"
    };
    Error::new(ErrorKind::Format, path.display().to_string(), what)
        .source(error)
        .remedy("Most often the file is cut off; copy or download it again")
}
