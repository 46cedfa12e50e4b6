//! The finished table: a Parquet file.
//!
//! One row an image, in byte order of the paths; columns as in `columns.rs`; key-value metadata as in [`metadata`].
//! Pages are neither compressed nor dictionary-encoded: hashes and measured floats are all different and their bits
//! are close to noise, so either would cost a codec and time and save next to nothing.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{ChunkReader, Length};
use parquet::schema::types::ColumnPath;

use super::columns::{Batch, FEATURE, Understood, schema, to_batch};
use super::disk::{Section, io_error};
use super::log::MAGIC as LOG_MAGIC;
use super::row::{Row, ScoredImage, Skipped};
use super::settings::{FORMAT_VERSION, Settings};
use crate::{Error, ErrorKind, Result};

/// Rows a row group holds: bounds the memory of writing and reading.
const ROWS_A_GROUP: usize = 1024;
/// Key of the settings, as JSON.
const SETTINGS_KEY: &str = "anomaly_score.settings";
/// Key of the images without a row, as a JSON list of `{"path", "reason"}` in order of path.
const SKIPPED_KEY: &str = "anomaly_score.skipped";
const VERSION_KEY: &str = "anomaly_score.version";

/// The key-value metadata of a table: the settings whole, and those of them that people look for by themselves.
fn metadata(settings: &Settings, skipped: &[Skipped]) -> serde_json::Result<Vec<KeyValue>> {
    let pair = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
    let mut pairs = vec![
        pair(VERSION_KEY, settings.tool_version.clone()),
        pair("anomaly_score.protocol", settings.protocol.name.clone()),
        pair("anomaly_score.backbone", settings.backbone.name.clone()),
        pair("anomaly_score.weights_sha256", settings.backbone.weights_sha256.clone()),
        pair("anomaly_score.resampler", settings.resampler.clone()),
        pair("anomaly_score.seed", settings.seed.to_string()),
        pair(SETTINGS_KEY, serde_json::to_string(settings)?),
        pair(SKIPPED_KEY, serde_json::to_string(skipped)?),
    ];
    pairs.extend(
        settings.arithmetic.iter().map(|arithmetic| pair("anomaly_score.arithmetic", arithmetic.clone())),
    );
    Ok(pairs)
}

/// Writes a whole table into the empty `file`; `name` is for error texts. `rows` must come in order of path and have
/// passed [`Row::check`]; no more than one row group of them is held. The same rows give the same bytes.
pub(super) fn write(
    file: File,
    name: &Path,
    settings: &Settings,
    skipped: &[Skipped],
    rows: impl Iterator<Item = Result<Row>>,
) -> Result<File> {
    let fail = |e: ParquetError| match e {
        ParquetError::External(e) => match e.downcast::<std::io::Error>() {
            Ok(e) => io_error(name, "cannot be written", *e),
            Err(e) => Error::new(ErrorKind::Io, name.display().to_string(), "cannot be written").source(e),
        },
        e => Error::new(ErrorKind::Io, name.display().to_string(), "cannot be written").source(e),
    };
    let feature_dim = settings.backbone.feature_dim;
    let schema = Arc::new(schema(feature_dim));
    let metadata = metadata(settings, skipped).map_err(|e| fail(ParquetError::External(e.into())))?;
    let feature = ColumnPath::new(vec![FEATURE.into(), "list".into(), "item".into()]);
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(ROWS_A_GROUP))
        .set_compression(Compression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        // Smallest and largest entry over all features of a page: nobody asks, and every entry would be compared.
        .set_column_statistics_enabled(feature, EnabledStatistics::None)
        .set_key_value_metadata(Some(metadata))
        .build();
    let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(fail)?;
    let mut group = Vec::with_capacity(ROWS_A_GROUP);
    let mut rows = rows.peekable();
    while rows.peek().is_some() {
        group.clear();
        for row in rows.by_ref().take(ROWS_A_GROUP) {
            group.push(row?);
        }
        let batch = to_batch(&schema, feature_dim, &group).map_err(|e| fail(e.into()))?;
        writer.write(&batch).map_err(fail)?;
    }
    writer.into_inner().map_err(fail)
}

/// A finished table of measurements, open for reading. Holds no row in memory.
#[derive(Debug)]
pub struct Table {
    file: Input,
    name: PathBuf,
    parquet: ArrowReaderMetadata,
    settings: Settings,
    skipped: Vec<Skipped>,
    len: usize,
}

impl Table {
    /// Opens the table at `path`. What is read later is this file, even if another one takes its name.
    ///
    /// # Errors
    /// `Io` if it cannot be read; `Format` if it is no Parquet file, is cut off or damaged, or is no table of
    /// measurements; `Unsupported` if another version of this program wrote it in another form.
    pub fn open(path: &Path) -> Result<Table> {
        let file = File::open(path).map_err(|e| io_error(path, "cannot be read", e))?;
        if file.metadata().is_ok_and(|m| m.is_dir()) {
            return Err(not_a_table(path, "a folder"));
        }
        Table::from_file(file, path)
    }

    pub(super) fn from_file(file: File, name: &Path) -> Result<Table> {
        let input = Input::new(file).map_err(|e| io_error(name, "cannot be read", e))?;
        look_at_ends(&input, name)?;
        let broken = |e: ParquetError| damaged(name, "its Parquet footer cannot be read").source(e);
        let parquet =
            guarded(name, || ArrowReaderMetadata::load(&input, ArrowReaderOptions::new()).map_err(broken))?;
        let footer = parquet.metadata().file_metadata();
        let value = |key: &str| {
            let pairs = footer.key_value_metadata()?;
            pairs.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.as_deref())
        };
        let Some(settings) = value(SETTINGS_KEY) else {
            let writer = footer.created_by().unwrap_or("an unnamed program");
            return Err(not_a_table(
                name,
                &format!("a Parquet file without {SETTINGS_KEY}, written by {writer}"),
            ));
        };
        let settings = parse_settings(settings, value(VERSION_KEY), name)?;
        let skipped = serde_json::from_str(value(SKIPPED_KEY).unwrap_or("[]"))
            .map_err(|e| damaged(name, "its list of skipped images cannot be read").source(e))?;
        for field in schema(settings.backbone.feature_dim).fields() {
            let found = parquet.schema().field_with_name(field.name()).ok().map(|f| f.data_type());
            if found != Some(field.data_type()) {
                let found = found.map_or("no such column".to_owned(), |t| t.to_string());
                return Err(damaged(name, &format!("the column {} is not as it was written", field.name()))
                    .expected(field.data_type(), found));
            }
        }
        let len = usize::try_from(footer.num_rows())
            .map_err(|_| damaged(name, "its Parquet footer names an impossible number of rows"))?;
        Ok(Table { file: input, name: name.to_owned(), parquet, settings, skipped, len })
    }

    /// How the images were measured.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The images of the source that have no row, in order of path.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every row without its feature, in byte order of the paths. The features are not read from the disk.
    ///
    /// # Errors
    /// Here or in an item, after which nothing more comes: `Io`, or `Format` if the file is damaged.
    pub fn scores(&self) -> Result<impl Iterator<Item = Result<ScoredImage>> + use<>> {
        self.read(false, Batch::scored_image)
    }

    /// Every row, in byte order of the paths; about a thousand are in memory at a time.
    ///
    /// # Errors
    /// Here or in an item, after which nothing more comes: `Io`, or `Format` if the file is damaged.
    pub fn rows(&self) -> Result<impl Iterator<Item = Result<Row>> + use<>> {
        self.read(true, Batch::row)
    }

    fn read<T>(&self, features: bool, row: fn(&Batch, usize) -> Understood<T>) -> Result<Reader<T>> {
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.clone(), self.parquet.clone());
        let wanted = schema(self.settings.backbone.feature_dim);
        let wanted: Vec<&str> = wanted
            .fields()
            .iter()
            .map(|f| f.name().as_str())
            .filter(|name| features || *name != FEATURE)
            .collect();
        let mask = ProjectionMask::roots(
            builder.parquet_schema(),
            wanted.iter().filter_map(|name| builder.schema().index_of(name).ok()),
        );
        let broken = |e: ParquetError| damaged(&self.name, "its rows cannot be read").source(e);
        let batches = guarded(&self.name, || {
            builder.with_projection(mask).with_batch_size(ROWS_A_GROUP).build().map_err(broken)
        })?;
        Ok(Reader { name: self.name.clone(), batches: Some(batches), batch: None, left: self.len, row })
    }
}

/// The rows of a table, one after the other.
struct Reader<T> {
    name: PathBuf,
    /// `None` after an error or the end.
    batches: Option<ParquetRecordBatchReader>,
    /// The batch at hand and the next row in it.
    batch: Option<(Batch, usize)>,
    /// Rows the footer promises that have not come yet.
    left: usize,
    row: fn(&Batch, usize) -> Understood<T>,
}

impl<T> Iterator for Reader<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        let item = self.advance().transpose();
        if !matches!(item, Some(Ok(_))) {
            (self.batches, self.batch) = (None, None);
        }
        item
    }
}

impl<T> Reader<T> {
    fn advance(&mut self) -> Result<Option<T>> {
        loop {
            if let Some((batch, i)) = self.batch.as_mut().filter(|(batch, i)| *i < batch.len()) {
                let row = (self.row)(batch, *i).map_err(|why| damaged(&self.name, &why))?;
                *i += 1;
                self.left = self.left.checked_sub(1).ok_or_else(|| self.wrong_count())?;
                return Ok(Some(row));
            }
            let Some(batches) = &mut self.batches else { return Ok(None) };
            let Some(batch) = guarded(&self.name, || Ok(batches.next()))? else {
                return if self.left == 0 { Ok(None) } else { Err(self.wrong_count()) };
            };
            let batch = batch.map_err(|e| damaged(&self.name, "its rows cannot be read").source(e))?;
            self.batch = Some((Batch::new(&batch).map_err(|why| damaged(&self.name, &why))?, 0));
        }
    }

    fn wrong_count(&self) -> Error {
        damaged(&self.name, "it holds another number of rows than its footer says")
    }
}

/// Runs a call into the Parquet library, which may panic on a damaged file.
fn guarded<T>(name: &Path, call: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(damaged(name, "the Parquet library gave up on it")))
}

fn parse_settings(json: &str, version: Option<&str>, name: &Path) -> Result<Settings> {
    let format = serde_json::from_str::<serde_json::Value>(json)
        .ok()
        .and_then(|v| v.get("format_version")?.as_u64())
        .ok_or_else(|| damaged(name, "its settings cannot be read"))?;
    if format != u64::from(FORMAT_VERSION) {
        let writer = version.unwrap_or("of an unnamed version");
        let problem = format!("written by anomaly-score {writer} in another form");
        return Err(Error::new(ErrorKind::Unsupported, name.display().to_string(), problem)
            .expected(format!("format {FORMAT_VERSION}"), format)
            .remedy("Use that version, or measure again"));
    }
    serde_json::from_str(json).map_err(|e| damaged(name, "its settings cannot be read").source(e))
}

/// Says what a file is that does not begin and end as a Parquet file does.
fn look_at_ends(input: &Input, name: &Path) -> Result<()> {
    const PARQUET: &[u8] = b"PAR1";
    let end = |at: u64| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = Section::new(input.file.clone(), at).take(8).read_to_end(&mut bytes);
        read.map_err(|e| io_error(name, "cannot be read", e))?;
        Ok(bytes)
    };
    let (first, last) = (end(0)?, end(input.len.saturating_sub(4))?);
    if first.starts_with(PARQUET) {
        if input.len >= 12 && last == PARQUET {
            return Ok(());
        }
        return Err(damaged(name, "a Parquet file that is cut off")
            .expected("PAR1 as its last bytes", format!("{} bytes that end otherwise", input.len)));
    }
    let known: [(&[u8], &str); 7] = [
        (LOG_MAGIC, "a log of measurements, as an unfinished table or the cache has"),
        (b"PARE", "an encrypted Parquet file"),
        (b"PK", "a zip or npz archive"),
        (b"\x1f\x8b", "a gzip file"),
        (b"\x89PNG", "a PNG image"),
        (b"\xff\xd8\xff", "a JPEG image"),
        (b"ARROW1", "an Arrow file"),
    ];
    let found = match known.iter().find(|(magic, _)| first.starts_with(magic)) {
        Some((_, what)) => (*what).to_owned(),
        None if first.is_empty() => "an empty file".to_owned(),
        None => format!("a file that begins with \"{}\"", first.escape_ascii()),
    };
    let error = not_a_table(name, &found);
    Err(if first.starts_with(LOG_MAGIC) {
        error.remedy("Finish it by running the command that was interrupted again")
    } else {
        error
    })
}

fn not_a_table(name: &Path, found: &str) -> Error {
    Error::new(ErrorKind::Format, name.display().to_string(), "not a table of measurements")
        .expected("a Parquet file written by anomaly-score", found)
}

fn damaged(name: &Path, problem: &str) -> Error {
    Error::new(ErrorKind::Format, name.display().to_string(), problem)
}

/// An open file that several readers use at once, each at its own position. (The library's own implementation for
/// `File` shares one position among all.)
#[derive(Clone, Debug)]
struct Input {
    file: Arc<File>,
    len: u64,
}

impl Input {
    fn new(file: File) -> std::io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Input { file: Arc::new(file), len })
    }
}

impl Length for Input {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for Input {
    type T = std::io::BufReader<Section>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(std::io::BufReader::new(Section::new(self.file.clone(), start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        // A damaged footer may ask for more than there is memory for.
        if length as u64 > self.len.saturating_sub(start) {
            return Err(ParquetError::EOF(format!("{length} bytes at byte {start} of {}", self.len)));
        }
        let mut bytes = vec![0; length];
        Section::new(self.file.clone(), start).read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}
