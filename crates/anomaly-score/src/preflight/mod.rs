//! Pre-flight: what is wrong with the images, before hours go into measuring them.
//!
//! [`SetFacts`] come out of one quick pass over the files of a set, or out of a table; [`Preflight::of`] compares them. Every
//! finding says what was found and what to do. docs/preflight.md has their definitions and how often the thresholds are wrong.

mod between;
mod colours;
mod copies;
mod enough;
mod facts;
mod finding;
mod names;
mod set;
mod within;

#[cfg(test)]
mod tests;

use serde::Serialize;

pub use facts::{Colour, ImageFacts, Look, Seen};
pub use finding::{Concerned, Finding, Kind, Severity};
pub use set::{Basis, FileType, Options, Role, SetFacts, SetSummary};

use crate::evaluate::{Conventions, Selection};
use crate::report::layout::wrapped;
use crate::table::BackboneSettings;

/// What will be asked of the images: some findings depend on it.
#[derive(Clone, Debug)]
pub struct Question {
    /// The metrics.
    pub selection: Selection,
    /// What they leave to convention.
    pub conventions: Conventions,
    /// The network at each of its layers; empty where it is not known, and what depends on it is then not looked at.
    pub layers: Vec<BackboneSettings>,
    /// Whether images are squashed to a square, which changes their proportions.
    pub squash: bool,
}

/// What was found. The fields are keys of the JSON report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Preflight {
    /// The sets in a few numbers, in the order given.
    pub sets: Vec<SetSummary>,
    /// What was found, most serious first.
    pub findings: Vec<Finding>,
}

impl Preflight {
    /// Looks at each set by itself, at every other against the first, which is the reference, and at the numbers of images that
    /// `question` needs. A set alone is looked at by itself.
    pub fn of(sets: &[SetFacts], question: &Question) -> Preflight {
        let mut findings = Vec::new();
        for set in sets {
            findings.extend(within::findings(set, question));
        }
        if let Some((reference, others)) = sets.split_first() {
            for other in others {
                findings.extend(between::findings(reference, other, question));
            }
            findings.extend(enough::findings(reference, others, question));
        }
        // Values in the wrong range, or cut off, move the colours with them.
        let moved: Vec<String> = findings
            .iter()
            .filter(|f| matches!(f.kind, Kind::ValueRange | Kind::ClippedValues))
            .filter_map(|f| f.sets.first().cloned())
            .collect();
        findings.retain(|f| f.kind != Kind::ColoursDiffer || !f.sets.iter().any(|set| moved.contains(set)));
        let mut found = Preflight { sets: sets.iter().map(SetFacts::summary).collect(), findings };
        found.sort();
        found
    }

    /// What concerns these sources and no others.
    pub fn only(&self, sources: &[&str]) -> Preflight {
        let is_in = |name: &String| sources.contains(&name.as_str());
        Preflight {
            sets: self.sets.iter().filter(|set| is_in(&set.source)).cloned().collect(),
            findings: self.findings.iter().filter(|f| f.sets.iter().all(is_in)).cloned().collect(),
        }
    }

    /// What several comparisons with one reference found, each finding once.
    pub fn joined(all: impl IntoIterator<Item = Preflight>) -> Preflight {
        let mut joined = Preflight { sets: Vec::new(), findings: Vec::new() };
        for Preflight { sets, findings } in all {
            for set in sets {
                if !joined.sets.contains(&set) {
                    joined.sets.push(set);
                }
            }
            for finding in findings {
                if !joined.findings.contains(&finding) {
                    joined.findings.push(finding);
                }
            }
        }
        joined.sort();
        joined
    }

    /// Most serious first; of equal weight by kind. Stable, so that the order of the sets stays.
    fn sort(&mut self) {
        self.findings.sort_by_key(|finding| (std::cmp::Reverse(finding.severity), finding.kind));
    }

    /// The heaviest finding's weight; `None` without findings.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }

    /// The findings as plain text of at most 100 columns: those of one kind together, and below them what to do. Control
    /// characters in paths are escaped.
    pub fn text(&self) -> String {
        let same =
            |a: &Finding, b: &Finding| (a.severity, a.kind, &a.remedy) == (b.severity, b.kind, &b.remedy);
        let mut text = String::new();
        for group in self.findings.chunk_by(same) {
            let mut said: Vec<String> = group.iter().map(Finding::to_string).collect();
            said.dedup();
            for (i, finding) in said.iter().enumerate() {
                let head = match i {
                    0 => format!("{}: {}:", group[0].severity, group[0].kind.name()),
                    _ => "  also:".to_owned(),
                };
                text += &wrapped(&format!("{head} {finding}"), "  ");
            }
            text += &wrapped(&format!("  → {}", group[0].remedy), "    ");
        }
        text
    }
}

/// Whether the share of images that are so differs between two sets, and how much that weighs: a warning from half of the images on, a
/// note from a tenth on where chance would rarely (|z| ≥ 4) make as much.
fn shares_differ([a, n_a]: [usize; 2], [b, n_b]: [usize; 2]) -> Option<Severity> {
    if n_a == 0 || n_b == 0 {
        return None;
    }
    let (n_a, n_b) = (n_a as f64, n_b as f64);
    let difference = (a as f64 / n_a - b as f64 / n_b).abs();
    let pooled = (a + b) as f64 / (n_a + n_b);
    let error = (pooled * (1.0 - pooled) * (1.0 / n_a + 1.0 / n_b)).sqrt();
    if difference >= 0.5 {
        Some(Severity::Warning)
    } else if difference >= 0.1 && difference >= 4.0 * error {
        Some(Severity::Note)
    } else {
        None
    }
}

/// `1 image` or `n images`.
fn images(n: usize) -> String {
    format!("{n} image{}", if n == 1 { "" } else { "s" })
}
