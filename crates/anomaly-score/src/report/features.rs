//! Features for numpy.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use npyz::{DType, NpyWriter, WriteOptions, WriterBuilder};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::atomic::replace;
use crate::Result;
use crate::table::{Table, io_error};

/// Bytes of a member from which on its zip entry must be of the 64-bit form; leaves room for the array's header.
const LARGE: u64 = u32::MAX as u64 - (1 << 16);

type Zip<'a> = ZipWriter<BufWriter<&'a mut File>>;

/// Writes the features of `table` to an `.npz` archive that `numpy.load` reads without pickle: `features`, N×D
/// float32, and `paths`, N strings (`<U…`), both in byte order of the paths. Members are stored, not compressed.
///
/// Rows are streamed: memory does not grow with N. The same table gives the same bytes.
///
/// # Errors
/// `Io` as [`write_text`](super::write_text); `Io` or `Format` if the table cannot be read.
pub fn write_features(table: &Table, path: &Path) -> Result<()> {
    // numpy's strings are all as long as the longest, and at least 1.
    let mut longest = 1;
    for image in table.scores()? {
        longest = longest.max(image?.path.chars().count() as u64);
    }
    let fail = |e| io_error(path, "cannot be written", e);
    replace(path, |file| {
        let mut zip = ZipWriter::new(BufWriter::new(file));
        if let Err(e) = members(&mut zip, table, path, longest) {
            // Dropped, it would try to finish the archive on the same full disk, and print that it cannot.
            std::mem::forget(zip);
            return Err(e);
        }
        zip.finish().map_err(|e| fail(e.into()))?.flush().map_err(fail)
    })
}

/// Adds both arrays, down to the disk. `longest`: characters of the longest path.
fn members(zip: &mut Zip, table: &Table, path: &Path, longest: u64) -> Result<()> {
    let (n, dim) = (table.len() as u64, u64::from(table.settings().backbone.feature_dim));
    let fail = |e| io_error(path, "cannot be written", e);
    member::<f32>(zip, path, "features.npy", "<f4", 4, &[n, dim], |array| {
        for row in table.rows()? {
            array.extend(row?.measurement.feature).map_err(fail)?;
        }
        Ok(())
    })?;
    member::<str>(zip, path, "paths.npy", &format!("<U{longest}"), 4 * longest, &[n], |array| {
        for image in table.scores()? {
            array.push(&image?.path).map_err(fail)?;
        }
        Ok(())
    })?;
    zip.flush().map_err(fail)
}

/// Adds one array to the archive: entries of `bytes` each, of numpy's type `dtype`, as many as `shape` says. `fill` hands them
/// over; `path` is for error texts.
fn member<T: npyz::Serialize + ?Sized>(
    zip: &mut Zip,
    path: &Path,
    name: &str,
    dtype: &str,
    bytes: u64,
    shape: &[u64],
    fill: impl FnOnce(&mut NpyWriter<T, &mut BufWriter<&mut Zip>>) -> Result<()>,
) -> Result<()> {
    let fail = |e: io::Error| io_error(path, "cannot be written", e);
    let dtype = dtype.parse().map_err(|e: npyz::ParseTypeStrError| fail(io::Error::other(e.to_string())))?;
    let size = shape.iter().fold(bytes, |size, &length| size.saturating_mul(length));
    let options =
        SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(size >= LARGE);
    zip.start_file(name, options).map_err(|e| fail(e.into()))?;
    let mut buffer = BufWriter::with_capacity(1 << 16, zip);
    let mut array = WriteOptions::<T>::new()
        .dtype(DType::new_scalar(dtype))
        .shape(shape)
        .writer(&mut buffer)
        .begin_nd()
        .map_err(fail)?;
    fill(&mut array)?;
    array.finish().map_err(fail)?;
    buffer.flush().map_err(fail)
}
