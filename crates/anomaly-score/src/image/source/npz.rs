//! Images in an `.npz` as ADM's sampling script writes them: `arr_0`, uint8, N×H×W×3.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use ::zip::CompressionMethod;
use npyz::{DType, NpyHeader, Order};

use super::{MAX_ENTRY_BYTES, Raw, Sink, cannot_open, zip};
use crate::image::unreadable::Unreadable;
use crate::{Error, ErrorKind, Result};

const NAME: &str = "arr_0.npy";

/// The array's shape and place.
#[derive(Debug)]
pub(super) struct Array {
    count: usize,
    height: u32,
    width: u32,
    /// Bytes before the first pixel: in the file if the member is stored, in the member if it is compressed.
    start: u64,
    stored: bool,
}

/// Reads the array's header and checks it.
pub(super) fn open(path: &Path) -> Result<Array> {
    let subject = || path.display().to_string();
    let mut archive = zip::archive(path)?;
    let names: Vec<String> = (0..archive.len())
        .filter_map(|i| Some(archive.name_for_index(i)?.ok()?.trim_end_matches(".npy").to_owned()))
        .collect();
    let Some(index) =
        (0..archive.len()).find(|&i| matches!(archive.name_for_index(i), Some(Ok(n)) if n == NAME))
    else {
        let found = if names.is_empty() { "no array".to_owned() } else { names.join(", ") };
        let mut error = Error::new(ErrorKind::Unsupported, subject(), "it holds no images")
            .expected("an array named arr_0 (uint8, N×H×W×3), as ADM's sampling script writes it", found);
        if names.iter().any(|n| n == "mu") && names.iter().any(|n| n == "sigma") {
            error = error.remedy("These are the statistics of a set; the measurements need its images");
        }
        return Err(error);
    };
    let broken = |problem: &str| Error::new(ErrorKind::Format, subject(), format!("arr_0: {problem}"));
    let cut_off = "Most often the file is cut off; copy or download it again";
    let mut member = archive.by_index(index).map_err(|e| broken("cannot be read").source(e))?;
    let data_start = member.data_start();
    let stored = member.compression() == CompressionMethod::Stored;
    let size = member.size();
    let mut counted = Counted { inner: &mut member, count: 0 };
    let header = NpyHeader::from_reader(&mut counted)
        .map_err(|e| broken("its npy header cannot be read").source(e).remedy(cut_off))?;
    let header_length = counted.count;

    let shape = header.shape().iter().map(u64::to_string).collect::<Vec<_>>().join("×");
    let wrong = |found: String| {
        Error::new(ErrorKind::Unsupported, subject(), "arr_0 holds no images")
            .expected("uint8 of shape N×H×W×3 in C order", found)
            .remedy("Save the pixels as numpy.savez(FILE, images) with images of that type and shape")
    };
    let dtype = numpy_name(&header.dtype());
    if dtype != "uint8" {
        return Err(wrong(format!("{dtype} of shape {shape}")));
    }
    let &[count, height, width, 3] = header.shape() else {
        return Err(wrong(format!("{dtype} of shape {shape}")));
    };
    if header.order() != Order::C {
        return Err(wrong(format!("{dtype} of shape {shape} in Fortran order")));
    }
    if count == 0 || height == 0 || width == 0 {
        return Err(Error::new(ErrorKind::TooFewImages, subject(), "arr_0 holds no pixels")
            .expected("N×H×W×3 with no 0", shape));
    }
    let (Ok(count), Ok(height), Ok(width)) =
        (usize::try_from(count), u32::try_from(height), u32::try_from(width))
    else {
        return Err(wrong(format!("{dtype} of shape {shape}")));
    };
    let array = Array { count, height, width, start: 0, stored };
    let expected = array.image_bytes().and_then(|one| one.checked_mul(count as u64));
    if array.image_bytes().is_none_or(|bytes| bytes > MAX_ENTRY_BYTES) {
        return Err(Error::new(ErrorKind::Unsupported, subject(), "one image of arr_0 is too large")
            .expected(
                format_args!("at most {} MiB", MAX_ENTRY_BYTES >> 20),
                format_args!("{height}×{width}×3 bytes"),
            ));
    }
    let found = size.saturating_sub(header_length);
    // Deflate packs at most 1032 bytes into one: a directory that announces more than that lies.
    let possible = std::fs::metadata(path).map_err(|e| cannot_open(path, e))?.len().saturating_mul(1032);
    if expected != Some(found) || found > possible {
        return Err(broken("its data does not fit its shape")
            .expected(format_args!("{shape} bytes"), format_args!("{found} bytes"))
            .remedy(cut_off));
    }
    let start = if stored {
        data_start.ok_or_else(|| broken("its place in the archive is unknown"))? + header_length
    } else {
        header_length
    };
    Ok(Array { start, ..array })
}

impl Array {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn image_bytes(&self) -> Option<u64> {
        u64::from(self.height).checked_mul(u64::from(self.width))?.checked_mul(3)
    }

    /// Reads the wanted images, given in rising order.
    pub(super) fn read(&self, path: &Path, wanted: &[usize], sink: &mut Sink) -> Result<()> {
        if self.stored {
            let mut file = File::open(path).map_err(|e| cannot_open(path, e))?;
            let one = self.image_bytes().unwrap_or(0);
            self.read_with(wanted, sink, |index| {
                file.seek(SeekFrom::Start(self.start + index as u64 * one))?;
                self.pixels(&mut file)
            });
            return Ok(());
        }
        let mut archive = zip::archive(path)?;
        let mut member = archive.by_name(NAME).map_err(|e| {
            Error::new(ErrorKind::Format, path.display().to_string(), "arr_0: cannot be read").source(e)
        })?;
        let one = self.image_bytes().unwrap_or(0);
        let mut at = 0;
        self.read_with(wanted, sink, |index| {
            let to = self.start + index as u64 * one;
            let skipped = io::copy(&mut (&mut member).take(to - at), &mut io::sink())?;
            if skipped != to - at {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at = to + one;
            self.pixels(&mut member)
        });
        Ok(())
    }

    fn read_with(
        &self,
        wanted: &[usize],
        sink: &mut Sink,
        mut read: impl FnMut(usize) -> io::Result<Vec<u8>>,
    ) {
        let mut broken: Option<String> = None;
        for &index in wanted {
            // After a failure the stream's position is unknown: nothing behind it can be trusted.
            let raw = match &broken {
                Some(detail) => Err(detail.clone()),
                None => read(index).map_err(|e| e.to_string()),
            };
            if !self.stored {
                broken = raw.as_ref().err().cloned();
            }
            let raw = raw
                .map(|pixels| Raw::Rgb8 { width: self.width, height: self.height, pixels })
                .map_err(|detail| Unreadable::Io { detail });
            if sink(index, raw).is_break() {
                return;
            }
        }
    }

    fn pixels(&self, reader: &mut impl Read) -> io::Result<Vec<u8>> {
        let mut pixels = vec![0; self.image_bytes().unwrap_or(0) as usize];
        reader.read_exact(&mut pixels)?;
        Ok(pixels)
    }
}

/// NumPy's name of a type, such as `uint8`; its descriptor where it has none.
fn numpy_name(dtype: &DType) -> String {
    let descriptor = dtype.descr();
    let code = descriptor.trim_matches('\'').trim_start_matches(['|', '<', '>', '=']);
    let bits =
        code.get(1..).and_then(|bytes| bytes.parse::<u32>().ok()).and_then(|bytes| bytes.checked_mul(8));
    match (code.as_bytes().first(), bits) {
        (Some(b'u'), Some(bits)) => format!("uint{bits}"),
        (Some(b'i'), Some(bits)) => format!("int{bits}"),
        (Some(b'f'), Some(bits)) => format!("float{bits}"),
        (Some(b'b'), _) => "bool".to_owned(),
        _ => descriptor,
    }
}

/// Counts what passes.
struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count += read as u64;
        Ok(read)
    }
}
