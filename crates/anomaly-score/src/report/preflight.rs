//! What pre-flight found, for people.

use super::layout::Align::{Left, Path, Right};
use super::layout::aligned;
use crate::preflight::{Preflight, Role, SetSummary};

/// The sets in a few numbers, then every finding: plain text of at most 100 columns.
pub fn terminal_of_preflight(found: &Preflight) -> String {
    let head = ["set", "n", "files", "size (px)", "JPEG q", "traces", "source"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(found.sets.iter().map(row)).collect();
    let sets = aligned(&rows, "", &[Left, Right, Left, Right, Right, Right, Path]);
    let findings = match found.findings.is_empty() {
        true => "Nothing was found that would spoil a comparison.\n".to_owned(),
        false => found.text(),
    };
    format!("{sets}\n{findings}")
}

fn row(set: &SetSummary) -> Vec<String> {
    // Adding 0 takes the sign off what rounds to −0.
    let rounded =
        |v: f64, digits: usize| (v * 10f64.powi(digits as i32)).round() / 10f64.powi(digits as i32) + 0.0;
    let number = |v: Option<f64>, digits: usize| {
        v.map_or("-".to_owned(), |v| format!("{:.digits$}", rounded(v, digits)))
    };
    let role = match set.role {
        Role::Reference => "reference",
        Role::Generated => "generated",
        Role::HeldOut => "held out",
    };
    let files = set.file_types.as_ref().map_or("-".to_owned(), |types| match types.as_slice() {
        [only] => only.name.clone(),
        several => several.iter().map(|t| format!("{} {}", t.count, t.name)).collect::<Vec<_>>().join(" "),
    });
    vec![
        role.to_owned(),
        set.n.map_or("-".to_owned(), |n| n.to_string()),
        files,
        set.width_median.map_or("-".to_owned(), |_| {
            format!("{}×{}", number(set.width_median, 0), number(set.height_median, 0))
        }),
        number(set.jpeg_quality_median, 0),
        number(set.jpeg_traces_median, 2),
        set.source.clone(),
    ]
}
