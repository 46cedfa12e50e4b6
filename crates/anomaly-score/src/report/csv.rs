//! A row an image, for spreadsheets and data frames.

use super::{ImageReport, Models};
use crate::evaluate::ImageColumns;
use crate::{Error, ErrorKind, Result};

const MODEL: &str = "model";
const HEADER: [&str; 4] = ["path", "complexity", "vulnerability", "anomaly_score_i"];
const COLUMNS: [&str; 6] =
    ["realism", "rarity", "nearest_reference", "nearest_distance", "authentic", "memorisation_likelihood"];

/// `images` as CSV (RFC 4180, but lines end with `\n`): `path,complexity,vulnerability,anomaly_score_i` and a row an
/// image, in the given order; where the first image has columns of its features,
/// `realism,rarity,nearest_reference,nearest_distance,authentic,memorisation_likelihood` follow, `authentic` as `true` or
/// `false`.
///
/// Numbers are the shortest decimals that read back to the same bits; undefined is an empty cell.
///
/// # Errors
/// None in practice: the text is made in memory.
pub fn csv<'a>(images: impl IntoIterator<Item = &'a ImageReport>) -> Result<String> {
    written(false, images.into_iter().map(|image| (None, image)))
}

/// The images of all models as one [`csv`], the source of each image's model before it as `model`.
///
/// # Errors
/// As [`csv`].
pub fn csv_of_models(of: &Models) -> Result<String> {
    let images = of.models.iter().flat_map(|report| {
        let model = report.generated.source.as_str();
        report.images.iter().map(move |image| (Some(model), image))
    });
    written(true, images)
}

fn written<'a>(
    with_model: bool,
    images: impl Iterator<Item = (Option<&'a str>, &'a ImageReport)>,
) -> Result<String> {
    let fail = |e: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(ErrorKind::Unsupported, "the CSV report", "a row has no CSV form").source(e)
    };
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let mut images = images.peekable();
    let with_columns = images.peek().is_some_and(|(_, image)| image.columns.is_some());
    let model = Some(&MODEL).filter(|_| with_model);
    let header = model.into_iter().chain(&HEADER).chain(COLUMNS.iter().filter(|_| with_columns));
    writer.write_record(header).map_err(|e| fail(e.into()))?;
    for (model, image) in images {
        let mut record: Vec<String> = model.map(str::to_owned).into_iter().collect();
        record.push(image.path.clone());
        record.extend([image.complexity, image.vulnerability, image.anomaly_score_i].map(cell));
        if with_columns {
            let columns = image.columns.as_ref();
            let number = |of: fn(&ImageColumns) -> Option<f64>| cell(columns.and_then(of));
            record.push(number(|c| c.realism));
            record.push(number(|c| c.rarity));
            record.push(columns.and_then(|c| c.nearest_reference.clone()).unwrap_or_default());
            record.push(number(|c| c.nearest_distance));
            record.push(columns.and_then(|c| c.authentic).map(|a| a.to_string()).unwrap_or_default());
            record.push(number(|c| c.memorisation_likelihood));
        }
        writer.write_record(record).map_err(|e| fail(e.into()))?;
    }
    let bytes = writer.into_inner().map_err(|e| fail(e.into_error().into()))?;
    String::from_utf8(bytes).map_err(|e| fail(e.into()))
}

fn cell(value: Option<f64>) -> String {
    // As serde_json writes it, so that both reports show the same digits.
    value.and_then(serde_json::Number::from_f64).map(|v| v.to_string()).unwrap_or_default()
}
