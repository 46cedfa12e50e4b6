//! What a checkpoint is read from: a mapped file, or bytes held in memory.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;

use memmap2::Mmap;

pub(super) enum Bytes {
    Mapped(Mmap),
    Held(Cow<'static, [u8]>),
}

impl Bytes {
    pub(super) fn map(path: &Path) -> io::Result<Bytes> {
        let file = File::open(path)?;
        let data = file.metadata()?;
        // A pipe or a device cannot be mapped, and an empty file need not be.
        if !data.is_file() || data.len() == 0 {
            return std::fs::read(path).map(|bytes| Bytes::Held(bytes.into()));
        }
        // SAFETY: the bytes are only ever read, as numbers or text that is checked; a file that others change meanwhile
        // gives other numbers, and one they cut off ends the process, as `Weights::open` says.
        unsafe { Mmap::map(&file) }.map(Bytes::Mapped)
    }

    /// Lets go of the memory that `range` of a mapped file takes; whoever reads it again has it read from the file again.
    pub(super) fn done_with(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = self
            && !range.is_empty()
        {
            // Advice only: that it is refused changes no result.
            // SAFETY: a private mapping that nobody wrote to reads the same from the file again.
            let _ = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
            };
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Held(bytes) => bytes,
        }
    }
}
