//! The report for programs.

use serde::Serialize;

use crate::{Error, ErrorKind, Result};

/// A report, or [`Models`](super::Models), as indented JSON, with a newline at the end; keys as in docs/json.md, in that order.
///
/// Numbers are the shortest decimals that read back to the same bits. Undefined is null.
///
/// # Errors
/// None in practice: every field has a JSON form.
pub fn json(report: &impl Serialize) -> Result<String> {
    let mut text = serde_json::to_string_pretty(report).map_err(|e| {
        Error::new(ErrorKind::Unsupported, "the JSON report", "a value has no JSON form").source(e)
    })?;
    text.push('\n');
    Ok(text)
}
