//! The table's columns: rows to Arrow arrays and back.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, RecordBatch, StringArray,
    UInt32Array,
};
use arrow_schema::{ArrowError, DataType, Field, Schema};

use super::row::{Flags, Measurement, Row, ScoredImage, Scores, hex, unhex};

pub(super) const PATH: &str = "path";
pub(super) const FEATURE: &str = "feature";
const CONTENT_HASH: &str = "content_hash";
const WIDTH: &str = "width";
const HEIGHT: &str = "height";

/// The table's schema for features of length `feature_dim`. The feature comes last, so that what is read without it
/// is the head of the table.
///
/// `content_hash` is text, since that is what data frames can join on and print; absent numbers are null.
pub(super) fn schema(feature_dim: u32) -> Schema {
    let mut fields = vec![
        Field::new(PATH, DataType::Utf8, false),
        Field::new(CONTENT_HASH, DataType::Utf8, false),
        Field::new(WIDTH, DataType::UInt32, false),
        Field::new(HEIGHT, DataType::UInt32, false),
    ];
    fields.extend(Scores::NUMBERS.map(|name| Field::new(name, DataType::Float64, true)));
    fields.extend(Flags::NAMES.map(|name| Field::new(name, DataType::Boolean, false)));
    let list = DataType::FixedSizeList(feature_item(), list_size(feature_dim));
    fields.push(Field::new(FEATURE, list, false));
    Schema::new(fields)
}

fn feature_item() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Float32, false))
}

/// Arrow counts a list's entries by i32; no feature that a log can hold comes near.
fn list_size(feature_dim: u32) -> i32 {
    i32::try_from(feature_dim).unwrap_or(i32::MAX)
}

/// `rows` as one batch of `schema`; every feature must be of its length.
pub(super) fn to_batch(
    schema: &Arc<Schema>,
    feature_dim: u32,
    rows: &[Row],
) -> Result<RecordBatch, ArrowError> {
    let scores = || rows.iter().map(|r| &r.measurement.scores);
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.path))),
        Arc::new(StringArray::from_iter_values(scores().map(|s| hex(&s.content_hash)))),
        Arc::new(UInt32Array::from_iter_values(scores().map(|s| s.width))),
        Arc::new(UInt32Array::from_iter_values(scores().map(|s| s.height))),
    ];
    for i in 0..Scores::NUMBERS.len() {
        columns.push(Arc::new(scores().map(|s| s.numbers()[i]).collect::<Float64Array>()));
    }
    for i in 0..Flags::NAMES.len() {
        columns.push(Arc::new(BooleanArray::from_iter(scores().map(|s| Some(s.flags.to_array()[i])))));
    }
    let mut features = Vec::with_capacity(rows.len() * feature_dim as usize);
    for row in rows {
        features.extend_from_slice(&row.measurement.feature);
    }
    let features = Arc::new(Float32Array::from(features));
    let features = FixedSizeListArray::try_new(feature_item(), list_size(feature_dim), features, None)?;
    columns.push(Arc::new(features));
    RecordBatch::try_new(schema.clone(), columns)
}

/// What was found in a file, or why it makes no sense.
pub(super) type Understood<T> = Result<T, String>;

/// A batch read from a file, its columns found by name and type.
pub(super) struct Batch {
    path: StringArray,
    content_hash: StringArray,
    width: UInt32Array,
    height: UInt32Array,
    numbers: Vec<Float64Array>,
    flags: Vec<BooleanArray>,
    feature: Option<FixedSizeListArray>,
}

impl Batch {
    /// Takes the columns of `batch`; the feature's only if it is there. The error names the column.
    pub(super) fn new(batch: &RecordBatch) -> Understood<Batch> {
        Ok(Batch {
            path: column(batch, PATH, false)?,
            content_hash: column(batch, CONTENT_HASH, false)?,
            width: column(batch, WIDTH, false)?,
            height: column(batch, HEIGHT, false)?,
            numbers: Scores::NUMBERS
                .iter()
                .map(|name| column(batch, name, true))
                .collect::<Result<_, _>>()?,
            flags: Flags::NAMES.iter().map(|name| column(batch, name, false)).collect::<Result<_, _>>()?,
            feature: match batch.column_by_name(FEATURE) {
                Some(_) => Some(column(batch, FEATURE, false)?),
                None => None,
            },
        })
    }

    pub(super) fn len(&self) -> usize {
        self.path.len()
    }

    /// Row `i`, which must be below [`Batch::len`], without its feature.
    pub(super) fn scored_image(&self, i: usize) -> Understood<ScoredImage> {
        let path = self.path.value(i).to_owned();
        let content_hash = unhex(self.content_hash.value(i))
            .ok_or_else(|| format!("{CONTENT_HASH} of {path} is not a SHA-256 in lower-case hexadecimal"))?;
        let number = |c: &Float64Array| c.is_valid(i).then(|| c.value(i));
        let numbers = std::array::from_fn(|k| number(&self.numbers[k]));
        let flags = std::array::from_fn(|k| self.flags[k].value(i));
        let size = (self.width.value(i), self.height.value(i));
        let scores = Scores::from_parts(content_hash, size, numbers, flags);
        scores.check(&path).map_err(|e| e.to_string())?;
        Ok(ScoredImage { path, scores })
    }

    /// Row `i`, which must be below [`Batch::len`].
    pub(super) fn row(&self, i: usize) -> Understood<Row> {
        let ScoredImage { path, scores } = self.scored_image(i)?;
        let list = self.feature.as_ref().map(|f| f.value(i));
        let values = list.as_ref().and_then(|f| f.as_any().downcast_ref::<Float32Array>());
        let feature = values.map(|v| v.values().to_vec()).ok_or_else(|| format!("{FEATURE} is missing"))?;
        let measurement = Measurement { scores, feature };
        measurement.check(&path, measurement.feature.len() as u32).map_err(|e| e.to_string())?;
        Ok(Row { path, measurement })
    }
}

fn column<A: Array + Clone + 'static>(batch: &RecordBatch, name: &str, nullable: bool) -> Understood<A> {
    let column = batch.column_by_name(name).ok_or_else(|| format!("there is no column {name}"))?;
    if !nullable && column.null_count() > 0 {
        return Err(format!("column {name} has empty fields"));
    }
    column
        .as_any()
        .downcast_ref::<A>()
        .cloned()
        .ok_or_else(|| format!("column {name} is of type {}", column.data_type()))
}
