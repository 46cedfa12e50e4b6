//! Statistics and features of a set in numpy's `.npz`, as other tools publish them.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Write};
use std::path::Path;

use npyz::{DType, NpyFile, NpyHeader, Order, TypeChar, WriteOptions, WriterBuilder};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

use super::{Features, Gaussian};
use crate::report::write_bytes;
use crate::table::io_error;
use crate::{Error, ErrorKind, Result};

/// Largest D of a mean that is read: its covariance takes 8 GiB.
const MAX_DIM: u64 = 1 << 15;
/// Most bytes into which deflate unpacks one.
const MAX_RATIO: u64 = 1032;

/// What a statistics file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// `mu` and `sigma`: of the features FID is taken from.
    pub pooled: Gaussian,
    /// `mu_s` and `sigma_s`: of ADM's spatial features, from which sFID is taken. Absent from other tools' files.
    pub spatial: Option<Gaussian>,
}

/// Reads statistics as pytorch-fid, clean-fid and ADM publish them: `mu` (D) and `sigma` (D×D), float32 or float64,
/// beside which ADM's have `mu_s` and `sigma_s`. Such files say neither how many images they are of nor which network
/// and resizing made them; other arrays in them are ignored.
///
/// # Errors
/// `Io` if the file cannot be read; `Format` if it is damaged or no `.npz`; `Unsupported` for a missing array, another
/// type, pickled objects, more than 2¹⁵ features; `DimensionMismatch` and `InvalidOption` as [`Gaussian::new`].
pub fn read_statistics(path: &Path) -> Result<Statistics> {
    let mut archive = Archive::open(path)?;
    let pooled = archive.gaussian("mu", "sigma")?;
    let spatial = if archive.index("mu_s").is_some() || archive.index("sigma_s").is_some() {
        Some(archive.gaussian("mu_s", "sigma_s")?)
    } else {
        None
    };
    Ok(Statistics { pooled, spatial })
}

/// Writes statistics as [`read_statistics`] reads them, in float64, not compressed; pytorch-fid, clean-fid and, with
/// `spatial`, ADM's evaluator take the file as a reference. The same statistics give the same bytes.
///
/// # Errors
/// `Io` as [`write_text`](crate::report::write_text).
pub fn write_statistics(path: &Path, statistics: &Statistics) -> Result<()> {
    let mut zip = ZipWriter::new(Cursor::new(vec![]));
    let fail = |e: std::io::Error| io_error(path, "cannot be written", e);
    let sets = [("mu", "sigma", Some(&statistics.pooled)), ("mu_s", "sigma_s", statistics.spatial.as_ref())];
    for (mu, sigma, set) in sets {
        let Some(set) = set else { continue };
        let dim = set.dim() as u64;
        for (name, shape, values) in
            [(mu, &[dim][..], set.mean()), (sigma, &[dim, dim][..], set.covariance())]
        {
            let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
            let size = 8 * values.len() as u64;
            let large = size > u64::from(u32::MAX) / 2;
            zip.start_file(format!("{name}.npy"), options.large_file(large)).map_err(|e| fail(e.into()))?;
            let mut bytes = vec![];
            let mut array = WriteOptions::new()
                .default_dtype()
                .shape(shape)
                .writer(&mut bytes)
                .begin_nd()
                .map_err(fail)?;
            array.extend(values).map_err(fail)?;
            array.finish().map_err(fail)?;
            zip.write_all(&bytes).map_err(fail)?;
        }
    }
    write_bytes(path, &zip.finish().map_err(|e| fail(e.into()))?.into_inner())
}

/// N×D features that own their values.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureMatrix {
    values: Vec<f32>,
    dim: usize,
}

impl FeatureMatrix {
    /// The matrix as metrics read it; `name` is what an error calls the set.
    ///
    /// # Errors
    /// As [`Features::new`].
    pub fn features(&self, name: &str) -> Result<Features<'_>> {
        Features::new(name, &self.values, self.dim)
    }
}

/// Reads features from an `.npz`: `features`, as this program's `features` command writes them, or dgm-eval's `reps`;
/// N×D, float32 or float64, which is rounded to float32.
///
/// # Errors
/// As [`read_statistics`]; `InvalidOption` for a number that is NaN, infinite, or too large for float32.
pub fn read_features(path: &Path) -> Result<FeatureMatrix> {
    let mut archive = Archive::open(path)?;
    let name = if archive.index("features").is_none() && archive.index("reps").is_some() {
        "reps"
    } else {
        "features"
    };
    let array = archive.array(name, |shape| match shape {
        [_, _] => Ok(()),
        _ => Err(archive_error(path, name, "is no matrix").expected("N×D", shape_text(shape))),
    })?;
    let dim = array.shape[1];
    let matrix = FeatureMatrix { values: array.values.iter().map(|&v| v as f32).collect(), dim };
    matrix.features(&archive.subject())?;
    Ok(matrix)
}

/// An array of a file.
struct Array {
    shape: Vec<usize>,
    /// In row order, whatever the order in the file.
    values: Vec<f64>,
}

fn shape_text(shape: &[u64]) -> String {
    match shape {
        [] => "a single number".to_owned(),
        shape => shape.iter().map(u64::to_string).collect::<Vec<_>>().join("×"),
    }
}

/// An array that is readable, but not what is needed.
fn archive_error(path: &Path, name: &str, problem: &str) -> Error {
    Error::new(ErrorKind::Unsupported, path.display().to_string(), format!("{name} {problem}"))
}

struct Archive<'a> {
    path: &'a Path,
    zip: ZipArchive<BufReader<File>>,
}

impl<'a> Archive<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| io_error(path, "cannot be read", e))?;
        let zip = ZipArchive::new(BufReader::new(file)).map_err(|e| {
            Error::new(
                ErrorKind::Format,
                path.display().to_string(),
                "it is no .npz archive, or a damaged one",
            )
            .source(e)
            .remedy("Save it as numpy.savez does; if it is one, copy or download it again")
        })?;
        Ok(Archive { path, zip })
    }

    fn subject(&self) -> String {
        self.path.display().to_string()
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.zip.index_for_name(&format!("{name}.npy"))
    }

    fn gaussian(&mut self, mu: &str, sigma: &str) -> Result<Gaussian> {
        let path = self.path;
        let mean = self.array(mu, |shape| match *shape {
            [dim] if dim <= MAX_DIM => Ok(()),
            [dim] => Err(archive_error(path, mu, "is too long").expected(format!("at most {MAX_DIM}"), dim)),
            _ => {
                Err(archive_error(path, mu, "is no vector")
                    .expected("one number a feature", shape_text(shape)))
            }
        })?;
        let dim = mean.values.len() as u64;
        let covariance = self.array(sigma, |shape| match shape {
            shape if shape == [dim, dim] => Ok(()),
            _ => Err(Error::new(
                ErrorKind::DimensionMismatch,
                path.display().to_string(),
                format!("{mu} and {sigma} do not fit"),
            )
            .expected(format!("{sigma} of shape {dim}×{dim}"), shape_text(shape))),
        })?;
        Gaussian::new(
            &format!("{}: {mu}, {sigma}", self.path.display()),
            mean.values,
            covariance.values,
            None,
        )
    }

    /// Reads an array whole, if `check` accepts its shape.
    fn array(&mut self, name: &str, check: impl FnOnce(&[u64]) -> Result<()>) -> Result<Array> {
        let Some(index) = self.index(name) else {
            let names: Vec<String> = (0..self.zip.len())
                .filter_map(|i| Some(self.zip.name_for_index(i)?.ok()?.trim_end_matches(".npy").to_owned()))
                .collect();
            let found = if names.is_empty() { "no array".to_owned() } else { names.join(", ") };
            return Err(archive_error(self.path, name, "is missing")
                .expected(format!("an array named {name}"), found));
        };
        let subject = self.subject();
        let broken = |problem: &str| Error::new(ErrorKind::Format, &*subject, format!("{name}: {problem}"));
        let path = self.path;
        let wrong = |problem: &str| archive_error(path, name, problem);
        let cut_off = "Most often the file is cut off; copy or download it again";
        let length = std::fs::metadata(path).map_err(|e| io_error(path, "cannot be read", e))?.len();

        let mut member = self.zip.by_index(index).map_err(|e| broken("cannot be read").source(e))?;
        // Deflate packs at most so many bytes into one: a directory that announces more lies.
        let size = member.size().min(length.saturating_mul(MAX_RATIO));
        let mut reader = BufReader::new(&mut member).take(size);
        let header = NpyHeader::from_reader(&mut reader)
            .map_err(|e| broken("its npy header cannot be read").source(e).remedy(cut_off))?;
        if header.uses_pickled_array() {
            return Err(wrong("holds pickled Python objects, which are not read")
                .expected("numbers", "objects")
                .remedy("Save it as an array of float64; what unpickles such a file runs the code in it"));
        }
        let width = match header.dtype() {
            DType::Plain(plain) if plain.type_char() == TypeChar::Float => plain.size_field(),
            _ => 0,
        };
        if width != 4 && width != 8 {
            return Err(wrong("has another type")
                .expected("float32 or float64", header.dtype().descr())
                .remedy("Convert it with astype"));
        }
        check(header.shape())?;
        let shape = shape_text(header.shape());
        let lengths: Option<Vec<usize>> = header.shape().iter().map(|&l| usize::try_from(l).ok()).collect();
        let count = lengths.as_ref().and_then(|l| l.iter().try_fold(1usize, |n, &l| n.checked_mul(l)));
        let (Some(lengths), Some(count)) = (lengths, count) else {
            return Err(wrong("is too large").expected("an array that fits into memory", shape));
        };
        if (count as u64).checked_mul(width) != Some(reader.limit()) {
            return Err(broken("its data do not fit its shape")
                .expected(format!("{shape} numbers of {width} bytes"), format!("{} bytes", reader.limit()))
                .remedy(cut_off));
        }
        let column_order = header.order() == Order::Fortran;
        let mut values = vec![];
        values.try_reserve_exact(count).map_err(|e| wrong("does not fit into memory").source(e))?;
        let file = NpyFile::with_header(header, reader);
        let unreadable = |e| broken("cannot be read to its end").source(e).remedy(cut_off);
        if width == 4 {
            for value in file.data::<f32>().map_err(|e| broken("cannot be read").source(e))? {
                values.push(f64::from(value.map_err(unreadable)?));
            }
        } else {
            for value in file.data::<f64>().map_err(|e| broken("cannot be read").source(e))? {
                values.push(value.map_err(unreadable)?);
            }
        }
        if let (true, &[rows, columns]) = (column_order, &lengths[..]) {
            values = (0..count).map(|i| values[i % columns * rows + i / columns]).collect();
        }
        Ok(Array { shape: lengths, values })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::Value;

    use super::*;
    use crate::set_metric::fixture::floats;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/spectral").join(name)
    }

    fn expected() -> Value {
        serde_json::from_str(include_str!("../../../../fixtures/spectral/statistics.json")).unwrap()
    }

    #[test]
    fn published_files_are_read() {
        let expected = expected();
        let plain = read_statistics(&fixture("statistics-pytorch-fid.npz")).unwrap();
        assert_eq!(plain.pooled.mean(), floats(&expected["mu"]));
        assert_eq!(plain.pooled.covariance(), floats(&expected["sigma"]));
        assert_eq!((plain.pooled.n(), plain.spatial), (None, None));

        // Compressed, a float32 mean, a covariance in column order.
        let adm = read_statistics(&fixture("statistics-adm.npz")).unwrap();
        let rounded: Vec<f64> = floats(&expected["mu"]).iter().map(|&v| f64::from(v as f32)).collect();
        assert_eq!((adm.pooled.mean(), adm.pooled.covariance()), (&rounded[..], plain.pooled.covariance()));
        let spatial = adm.spatial.unwrap();
        assert_eq!(spatial.mean(), floats(&expected["mu_s"]));
        assert_eq!(spatial.covariance(), floats(&expected["sigma_s"]));
    }

    #[test]
    fn features_are_read() {
        let values: Vec<f32> = floats(&expected()["features"]).iter().map(|&v| v as f32).collect();
        for name in ["features-dgm-eval.npz", "features-float32.npz"] {
            let matrix = read_features(&fixture(name)).unwrap();
            let features = matrix.features("reference").unwrap();
            assert_eq!((features.n(), features.dim(), features.values()), (12, 3, &values[..]), "{name}");
        }
        let error = read_features(&fixture("statistics-pytorch-fid.npz")).unwrap_err();
        assert!(error.to_string().contains("expected an array named features, found mu, sigma"), "{error}");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statistics.npz");
        let mut statistics = read_statistics(&fixture("statistics-adm.npz")).unwrap();
        write_statistics(&path, &statistics).unwrap();
        assert_eq!(read_statistics(&path).unwrap(), statistics);
        let bytes = std::fs::read(&path).unwrap();
        write_statistics(&path, &statistics).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);

        statistics.spatial = None;
        write_statistics(&path, &statistics).unwrap();
        assert_eq!(read_statistics(&path).unwrap(), statistics);
        let missing = folder.path().join("no").join("statistics.npz");
        assert_eq!(write_statistics(&missing, &statistics).unwrap_err().kind(), ErrorKind::Io);
    }

    #[test]
    fn hostile_files_are_refused_with_a_reason() {
        for (name, kind, text) in [
            ("pickled", ErrorKind::Unsupported, "mu holds pickled Python objects"),
            ("not-square", ErrorKind::DimensionMismatch, "expected sigma of shape 2×2, found 2×3"),
            (
                "other-length",
                ErrorKind::DimensionMismatch,
                "mu and sigma do not fit; expected sigma of shape 2×2, found 3×3",
            ),
            ("nan", ErrorKind::InvalidOption, "found NaN in row 1, column 1"),
            (
                "infinite",
                ErrorKind::InvalidOption,
                "mean is not finite; expected finite numbers, found inf in place 1",
            ),
            ("not-symmetric", ErrorKind::InvalidOption, "not symmetric"),
            ("negative", ErrorKind::InvalidOption, "a variance is negative"),
            (
                "integers",
                ErrorKind::Unsupported,
                "mu has another type; expected float32 or float64, found '<i8'",
            ),
            (
                "scalar",
                ErrorKind::Unsupported,
                "mu is no vector; expected one number a feature, found a single number",
            ),
            ("no-sigma", ErrorKind::Unsupported, "sigma is missing; expected an array named sigma, found mu"),
            ("empty", ErrorKind::DimensionMismatch, "D > 0"),
            ("announces-too-much", ErrorKind::Unsupported, "mu is no vector"),
            ("overflows", ErrorKind::Unsupported, "mu is no vector"),
        ] {
            let error = read_statistics(&fixture(&format!("hostile-{name}.npz"))).unwrap_err();
            assert_eq!(error.kind(), kind, "{name}: {error}");
            assert!(error.to_string().contains(text), "{name}: {error}");
            assert!(error.subject().contains(&format!("hostile-{name}.npz")), "{name}: {error}");
        }
        let error = read_statistics(&fixture("statistics.json")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format);
        assert_eq!(read_statistics(&fixture("absent.npz")).unwrap_err().kind(), ErrorKind::Io);
    }

    /// Cut off or with a byte changed, a file is read as something or refused, never a panic.
    #[test]
    fn damage_never_panics() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged.npz");
        for name in ["statistics-pytorch-fid.npz", "statistics-adm.npz", "features-float32.npz"] {
            let whole = std::fs::read(fixture(name)).unwrap();
            for at in (0..whole.len()).step_by(5) {
                let mut changed = whole.clone();
                changed[at] ^= 0x55;
                for bytes in [&changed[..], &whole[..at]] {
                    std::fs::write(&path, bytes).unwrap();
                    let _ = read_statistics(&path);
                    let _ = read_features(&path);
                }
            }
        }
    }
}
