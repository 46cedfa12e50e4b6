//! A row an image, for spreadsheets and data frames.

use super::ImageReport;
use crate::{Error, ErrorKind, Result};

const HEADER: [&str; 4] = ["path", "complexity", "vulnerability", "anomaly_score_i"];

/// `images` as CSV (RFC 4180, but lines end with `\n`): `path,complexity,vulnerability,anomaly_score_i` and a row an
/// image, in the given order.
///
/// Numbers are the shortest decimals that read back to the same bits; undefined is an empty cell.
///
/// # Errors
/// None in practice: the text is made in memory.
pub fn csv<'a>(images: impl IntoIterator<Item = &'a ImageReport>) -> Result<String> {
    let fail = |e: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(ErrorKind::Unsupported, "the CSV report", "a row has no CSV form").source(e)
    };
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(HEADER).map_err(|e| fail(e.into()))?;
    for image in images {
        let [c, v, a] = [image.complexity, image.vulnerability, image.anomaly_score_i].map(cell);
        writer.write_record([&image.path, &c, &v, &a]).map_err(|e| fail(e.into()))?;
    }
    let bytes = writer.into_inner().map_err(|e| fail(e.into_error().into()))?;
    String::from_utf8(bytes).map_err(|e| fail(e.into()))
}

fn cell(value: Option<f64>) -> String {
    // As serde_json writes it, so that both reports show the same digits.
    value.and_then(serde_json::Number::from_f64).map(|v| v.to_string()).unwrap_or_default()
}
