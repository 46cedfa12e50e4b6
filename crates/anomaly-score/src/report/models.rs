//! Several generated sets against one reference.

use serde::Serialize;

use super::Report;
use super::classes::classes;
use super::layout::Align::{Left, Right};
use super::layout::{aligned, wrapped};
use super::metrics::{arrow, claims, figures, notes};
use super::number::significant;
use super::terminal::{NOT_SCORED, head, preflight, table_of_sets};
use crate::evaluate::{Direction, PairResult};

/// Significance at which models are told apart, after Holm's correction.
const LEVEL: f64 = 0.05;

/// Reports of several models against one reference, and what tells the models apart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Models {
    /// A report a model, in the order given.
    pub models: Vec<Report>,
    /// Every pair of models by every metric.
    pub pairs: Vec<PairResult>,
}

/// The same as plain text of at most 100 columns: the sets, a table of models for every metric, every pair, the warnings.
pub fn terminal_of_models(of: &Models) -> String {
    let Some(first) = of.models.first() else { return String::new() };
    let mut sections = vec![head(&of.models), sets(of)];
    if of.models.iter().any(|report| report.anomaly_score.is_none()) {
        sections.push(wrapped(NOT_SCORED, ""));
    }
    for (place, metric) in first.metrics.iter().enumerate() {
        let mut rows = vec![figures(None)];
        rows[0].insert(0, "model".into());
        rows.extend((1..).zip(&of.models).map(|(number, report)| {
            let mut row = figures(Some(&report.metrics[place]));
            row.insert(0, number.to_string());
            row
        }));
        let align = [Right, Right, Left, Right, Right, Right];
        sections.push(format!(
            "{} {}\n{}",
            metric.title,
            arrow(metric.direction),
            aligned(&rows, "  ", &align)
        ));
    }
    if !of.pairs.is_empty() {
        sections.push(pairs(of));
    }
    sections.extend(preflight(&of.models));
    for (number, report) in (1..).zip(&of.models) {
        if let Some(found) = &report.classes {
            sections.push(format!("model {number}: {}", classes(found)));
        }
        let mut own = notes(&report.metrics);
        own.extend(report.warnings.iter().map(|w| format!("warning: {}: {w}", w.kind())));
        let mut text: String =
            own.iter().map(|line| wrapped(&format!("model {number}: {line}"), "  ")).collect();
        if let Some(found) = &report.claims {
            text = format!("model {number}: {}{text}", claims(found));
        }
        if !text.is_empty() {
            sections.push(text);
        }
    }
    sections.join("\n")
}

fn sets(of: &Models) -> String {
    let reference = of.models.first().map(|report| ("reference".to_owned(), &report.reference));
    let models = (1..).zip(&of.models).map(|(i, report)| (format!("model {i}"), &report.generated));
    table_of_sets(&reference.into_iter().chain(models).collect::<Vec<_>>())
}

fn pairs(of: &Models) -> String {
    // Two models may be of one source, so that numbers come from the order of pairs.
    let n = of.models.len();
    let numbers: Vec<(usize, usize)> = (1..=n).flat_map(|a| (a + 1..=n).map(move |b| (a, b))).collect();
    let optional = |v: Option<f64>, digits| v.map_or("-".into(), |v| significant(v, digits));
    let mut rows = vec![["metric", "models", "difference", "p", "p (Holm)", ""].map(str::to_owned).to_vec()];
    rows.extend(of.pairs.iter().zip(numbers.into_iter().cycle()).map(|(pair, (a, b))| {
        let verdict = match (pair.difference, pair.p_holm) {
            (Some(difference), Some(p)) if p <= LEVEL => {
                let a_is_better = (difference < 0.0) == (pair.direction == Direction::Lower);
                format!("{} is better", if a_is_better { a } else { b })
            }
            (Some(_), Some(_)) => "not told apart".to_owned(),
            _ => String::new(),
        };
        vec![
            pair.metric.clone(),
            format!("{a} − {b}"),
            optional(pair.difference, 4),
            optional(pair.p_value, 3),
            optional(pair.p_holm, 3),
            verdict,
        ]
    }));
    let mut text = format!(
        "Is one model better? (images exchanged at random, two-sided; Holm: over all pairs by one metric)\n{}",
        aligned(&rows, "  ", &[Left, Left, Right, Right, Right, Left])
    );
    let mut said: Vec<&String> = Vec::new();
    for pair in &of.pairs {
        if let Some(note) = pair.note.as_ref().filter(|note| !said.contains(note)) {
            said.push(note);
            text += &wrapped(&format!("{}: {note}", pair.metric), "  ");
        }
    }
    text
}
