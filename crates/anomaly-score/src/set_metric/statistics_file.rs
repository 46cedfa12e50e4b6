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
    paths: Option<Vec<String>>,
}

impl Statistics {
    /// Those of one set without spatial features.
    pub fn of(pooled: Gaussian) -> Self {
        Statistics { pooled, spatial: None }
    }
}

impl FeatureMatrix {
    /// The matrix as metrics read it; `name` is what an error calls the set.
    ///
    /// # Errors
    /// As [`Features::new`].
    pub fn features(&self, name: &str) -> Result<Features<'_>> {
        Features::new(name, &self.values, self.dim)
    }

    /// The images' paths, where the file names them: N, all different.
    pub fn paths(&self) -> Option<&[String]> {
        self.paths.as_deref()
    }
}

/// What a file of numpy arrays holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrayFile {
    /// `mu` and `sigma`; of images too in ADM's reference batches.
    Statistics {
        /// Whether there are pixels as well.
        with_images: bool,
    },
    /// N×D features.
    Features,
    /// Pixels: `arr_0`, uint8, N×H×W×3.
    Images,
}

impl ArrayFile {
    /// Tells an `.npz`, or an `.npy` of one array, by the names, types and shapes of its arrays; their data are not read.
    ///
    /// # Errors
    /// `Io`; `Format` if it is damaged or neither; `Unsupported` for other arrays, with what they are.
    pub fn of(path: &Path) -> Result<ArrayFile> {
        let arrays = headers(path)?;
        let has = |name: &str| arrays.iter().any(|(n, _)| n == name);
        let has_pixels = arrays.iter().any(|(name, header)| name == "arr_0" && header.shape().len() == 4);
        if has("mu") && has("sigma") {
            return Ok(ArrayFile::Statistics { with_images: has_pixels });
        }
        if feature_array(&arrays).is_some() {
            return Ok(ArrayFile::Features);
        }
        if has_pixels {
            return Ok(ArrayFile::Images);
        }
        let found = arrays.iter().map(|(name, header)| {
            format!("{name} ({}, {})", header.dtype().descr().trim_matches('\''), shape_text(header.shape()))
        });
        let found = found.collect::<Vec<_>>().join(", ");
        let found = if found.is_empty() { "no array".to_owned() } else { found };
        Err(Error::new(
            ErrorKind::Unsupported,
            path.display().to_string(),
            "neither images, features nor statistics",
        )
        .expected(
            "arr_0 (uint8, N×H×W×3), features or reps (float, N×D), or mu (float, D) and sigma (float, D×D)",
            found,
        )
        .remedy("Save what it holds as numpy.savez does, under one of these names"))
    }
}

/// Name and header of every array of an `.npz`; of an `.npy` its own under the name `array`.
fn headers(path: &Path) -> Result<Vec<(String, NpyHeader)>> {
    let unreadable = |name: &str, e: std::io::Error| {
        Error::new(
            ErrorKind::Format,
            path.display().to_string(),
            format!("{name}: its npy header cannot be read"),
        )
        .source(e)
        .remedy(CUT_OFF)
    };
    if is_npy(path)? {
        let file = File::open(path).map_err(|e| io_error(path, "cannot be read", e))?;
        let header = NpyHeader::from_reader(BufReader::new(file)).map_err(|e| unreadable(ARRAY, e))?;
        return Ok(vec![(ARRAY.into(), header)]);
    }
    let mut archive = Archive::open(path)?;
    let mut arrays = Vec::new();
    for (index, name) in archive.names() {
        let member = archive.zip.by_index(index).map_err(|e| unreadable(&name, e.into()))?;
        let header = NpyHeader::from_reader(member).map_err(|e| unreadable(&name, e))?;
        arrays.push((name, header));
    }
    Ok(arrays)
}

/// What the one array of an `.npy` is called.
const ARRAY: &str = "array";
const CUT_OFF: &str = "Most often the file is cut off; copy or download it again";

fn is_npy(path: &Path) -> Result<bool> {
    let mut magic = [0; 6];
    let mut file = File::open(path).map_err(|e| io_error(path, "cannot be read", e))?;
    Ok(file.read_exact(&mut magic).is_ok() && magic == *b"\x93NUMPY")
}

/// The array that features are read from: `features`, `reps`, or the only matrix of floats.
fn feature_array(arrays: &[(String, NpyHeader)]) -> Option<&str> {
    let named = ["features", "reps"].into_iter().find(|name| arrays.iter().any(|(n, _)| n == name));
    let is_matrix = |name: &str, header: &NpyHeader| {
        !name.starts_with("sigma") && header.shape().len() == 2 && float_width(&header.dtype()).is_some()
    };
    let mut matrices =
        arrays.iter().filter(|(name, header)| is_matrix(name, header)).map(|(n, _)| n.as_str());
    named.or_else(|| matrices.next().filter(|_| matrices.next().is_none()))
}

/// Bytes of an entry of float32 or float64; `None` for another type.
fn float_width(dtype: &DType) -> Option<u64> {
    match dtype {
        DType::Plain(plain) if plain.type_char() == TypeChar::Float => {
            Some(plain.size_field()).filter(|width| [4, 8].contains(width))
        }
        _ => None,
    }
}

/// Reads features: of an `.npz` the array `features`, as this program's `features` command writes it, dgm-eval's `reps`, or
/// the only matrix of floats; of an `.npy` its array. N×D, float32 or float64, which is rounded to float32. Images are named
/// by the array `paths` (N strings), if there is one.
///
/// # Errors
/// As [`read_statistics`]; `InvalidOption` for a number that is NaN, infinite, or too large for float32, and for paths
/// that are not all different.
pub fn read_features(path: &Path) -> Result<FeatureMatrix> {
    let arrays = headers(path)?;
    let name = feature_array(&arrays).unwrap_or("features");
    let matrix_only = |shape: &[u64]| match shape {
        [_, _] => Ok(()),
        _ => Err(archive_error(path, name, "is no matrix").expected("N×D", shape_text(shape))),
    };
    let (array, paths) = if is_npy(path)? {
        let file = File::open(path).map_err(|e| io_error(path, "cannot be read", e))?;
        let length = file.metadata().map_err(|e| io_error(path, "cannot be read", e))?.len();
        (read_array(path, name, BufReader::new(file), length, matrix_only)?, None)
    } else {
        let mut archive = Archive::open(path)?;
        (archive.array(name, matrix_only)?, archive.paths()?)
    };
    let dim = array.shape[1];
    let matrix = FeatureMatrix { values: array.values.iter().map(|&v| v as f32).collect(), dim, paths };
    let n = matrix.features(&path.display().to_string())?.n();
    if let Some(paths) = &matrix.paths {
        let different = paths.iter().collect::<std::collections::HashSet<_>>().len();
        if different != n || paths.len() != n {
            return Err(Error::new(
                ErrorKind::InvalidOption,
                path.display().to_string(),
                "paths do not name the rows",
            )
            .expected(
                format!("{n} different strings"),
                format!("{}, of them {different} different", paths.len()),
            ));
        }
    }
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

    /// Place and name of every array.
    fn names(&self) -> Vec<(usize, String)> {
        (0..self.zip.len())
            .filter_map(|i| Some((i, self.zip.name_for_index(i)?.ok()?.trim_end_matches(".npy").to_owned())))
            .collect()
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
            let names: Vec<String> = self.names().into_iter().map(|(_, name)| name).collect();
            let found = if names.is_empty() { "no array".to_owned() } else { names.join(", ") };
            return Err(archive_error(self.path, name, "is missing")
                .expected(format!("an array named {name}"), found));
        };
        let path = self.path;
        let (member, size) = self.member(name, index)?;
        read_array(path, name, BufReader::new(member), size, check)
    }

    /// An array's bytes, and how many there are at most.
    fn member(&mut self, name: &str, index: usize) -> Result<(impl Read, u64)> {
        let path = self.path;
        let length = std::fs::metadata(path).map_err(|e| io_error(path, "cannot be read", e))?.len();
        let member = self.zip.by_index(index).map_err(|e| {
            Error::new(ErrorKind::Format, path.display().to_string(), format!("{name}: cannot be read"))
                .source(e)
        })?;
        // Deflate packs at most so many bytes into one: a directory that announces more lies.
        let size = member.size().min(length.saturating_mul(MAX_RATIO));
        Ok((member, size))
    }

    /// The strings of `paths`, if there is such an array.
    fn paths(&mut self) -> Result<Option<Vec<String>>> {
        const NAME: &str = "paths";
        let Some(index) = self.index(NAME) else { return Ok(None) };
        let path = self.path;
        let unreadable = |e: std::io::Error| {
            let problem = format!("{NAME}: cannot be read as strings");
            Error::new(ErrorKind::Format, path.display().to_string(), problem).source(e)
        };
        let (member, size) = self.member(NAME, index)?;
        let file = NpyFile::new(BufReader::new(member).take(size)).map_err(unreadable)?;
        let text = matches!(file.dtype(), DType::Plain(plain) if plain.type_char() == TypeChar::UnicodeStr);
        if !text || file.shape().len() != 1 {
            return Err(archive_error(path, NAME, "are not names of rows").expected(
                "a vector of strings",
                format!("{}, {}", file.dtype().descr(), shape_text(file.shape())),
            ));
        }
        let strings = file.data::<String>().map_err(|e| unreadable(std::io::Error::other(e.to_string())))?;
        strings.collect::<std::io::Result<_>>().map(Some).map_err(unreadable)
    }
}

/// Reads an array of at most `size` bytes, header and all, if `check` accepts its shape.
fn read_array(
    path: &Path,
    name: &str,
    reader: impl Read,
    size: u64,
    check: impl FnOnce(&[u64]) -> Result<()>,
) -> Result<Array> {
    let subject = path.display().to_string();
    let broken = |problem: &str| Error::new(ErrorKind::Format, &*subject, format!("{name}: {problem}"));
    let wrong = |problem: &str| archive_error(path, name, problem);
    let mut reader = reader.take(size);
    let header = NpyHeader::from_reader(&mut reader)
        .map_err(|e| broken("its npy header cannot be read").source(e).remedy(CUT_OFF))?;
    if header.uses_pickled_array() {
        return Err(wrong("holds pickled Python objects, which are not read")
            .expected("numbers", "objects")
            .remedy("Save it as an array of float64; what unpickles such a file runs the code in it"));
    }
    let Some(width) = float_width(&header.dtype()) else {
        return Err(wrong("has another type")
            .expected("float32 or float64", header.dtype().descr())
            .remedy("Convert it with astype"));
    };
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
            .remedy(CUT_OFF));
    }
    let column_order = header.order() == Order::Fortran;
    let mut values = vec![];
    values.try_reserve_exact(count).map_err(|e| wrong("does not fit into memory").source(e))?;
    let file = NpyFile::with_header(header, reader);
    let unreadable = |e| broken("cannot be read to its end").source(e).remedy(CUT_OFF);
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
        for (name, paths) in
            [("features-named.npz", true), ("features-unnamed.npz", false), ("features.npy", false)]
        {
            let matrix = read_features(&fixture(name)).unwrap();
            assert_eq!(matrix.features("reference").unwrap().values(), values, "{name}");
            let last = matrix.paths().map(|paths| paths[11].as_str());
            assert_eq!(last, paths.then_some("é/11.png"), "{name}");
        }
        let error = read_features(&fixture("hostile-paths.npz")).unwrap_err().to_string();
        assert!(error.ends_with(
            "paths do not name the rows; expected 12 different strings, found 12, of them 11 different"
        ));
    }

    #[test]
    fn a_file_is_told_by_its_arrays() {
        let of = |name: &str| ArrayFile::of(&fixture(name));
        assert_eq!(of("statistics-adm.npz").unwrap(), ArrayFile::Statistics { with_images: false });
        assert_eq!(of("adm-batch.npz").unwrap(), ArrayFile::Statistics { with_images: true });
        for name in ["features-dgm-eval.npz", "features-unnamed.npz", "features.npy"] {
            assert_eq!(of(name).unwrap(), ArrayFile::Features, "{name}");
        }
        let error = of("hostile-no-sigma.npz").unwrap_err().to_string();
        assert!(
            error.contains(
                "neither images, features nor statistics; expected arr_0 (uint8, N×H×W×3), features or reps"
            ),
            "{error}"
        );
        assert!(error.contains("found mu (<f8, 2). "), "{error}");
        assert_eq!(of("statistics.json").unwrap_err().kind(), ErrorKind::Format);
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
        for name in
            ["statistics-pytorch-fid.npz", "statistics-adm.npz", "features-float32.npz", "features-named.npz"]
        {
            let whole = std::fs::read(fixture(name)).unwrap();
            for at in (0..whole.len()).step_by(5) {
                let mut changed = whole.clone();
                changed[at] ^= 0x55;
                for bytes in [&changed[..], &whole[..at]] {
                    std::fs::write(&path, bytes).unwrap();
                    let _ = read_statistics(&path);
                    let _ = read_features(&path);
                    let _ = ArrayFile::of(&path);
                }
            }
        }
    }
}
