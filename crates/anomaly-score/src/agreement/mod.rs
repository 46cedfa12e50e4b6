//! Whether a score agrees with what people say: correlations with intervals, over models or images.
//!
//! [`CsvTable`] reads the table, [`agreement`] answers a [`Question`]; after that everything is a pure function of the
//! [`Agreement`]: [`terminal`] for people, [`svg`] for papers, `serde_json` for programs.

mod scatter;
mod svg;
mod table;
mod terminal;

use std::collections::BTreeMap;

use serde::Serialize;

pub use self::svg::svg;
pub use self::table::CsvTable;
pub use self::terminal::terminal;

use crate::stats::{BootstrapOptions, Estimate, PValue, Pairs, bootstrap};
use crate::{Error, ErrorKind, Result};

/// What is asked of a table.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// Column of the score under test.
    pub score: &'a str,
    /// Column of what people said; higher = better.
    pub human: &'a str,
    /// Column by which rows are also looked at group by group.
    pub group: Option<&'a str>,
    /// Column whose equal values make one unit: rows are averaged to one pair a unit before anything is correlated.
    pub mean_by: Option<&'a str>,
    /// A lower score is better, as of AS and FID. Turns pairwise accuracy only; correlations keep their sign.
    pub lower_is_better: bool,
    /// How intervals are made.
    pub bootstrap: BootstrapOptions,
}

/// Answer to a [`Question`]. The fields, in this order, are the keys of its JSON; undefined is `None`, null there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// The table it was read from.
    pub table: String,
    /// Column of the score.
    pub score: String,
    /// Column of what people said.
    pub human: String,
    /// Column of the groups.
    pub group_by: Option<String>,
    /// Column by which rows were averaged.
    pub mean_by: Option<String>,
    /// Whether a lower score was taken to be better.
    pub lower_is_better: bool,
    /// Rows and what became of them.
    pub rows: Rows,
    /// Over all rows, or all units.
    pub pooled: Associations,
    /// Group by group, in byte order of their names; empty without groups.
    pub groups: Vec<Group>,
    /// The units that rows were averaged to, in byte order of their names; empty where they were not.
    pub units: Vec<Unit>,
    /// The pairs behind `pooled`, with the index of their group.
    #[serde(skip)]
    pub points: Vec<Point>,
}

/// What became of the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rows {
    /// Rows of the table.
    pub total: usize,
    /// Rows that entered.
    pub used: usize,
    /// Rows without a score.
    pub missing_score: usize,
    /// Rows without a human value; those that lack both count here too.
    pub missing_human: usize,
    /// Rows whose image the joined table does not have.
    pub not_joined: usize,
}

/// How score and people go together over some pairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Associations {
    /// Number of pairs.
    pub n: usize,
    /// Mean of the score.
    pub score_mean: Estimate,
    /// Mean of what people said.
    pub human_mean: Estimate,
    /// Pearson's correlation, in [−1, 1].
    pub pearson: Coefficient,
    /// Spearman's rank correlation, in [−1, 1].
    pub spearman: Coefficient,
    /// Kendall's τ-b, in [−1, 1].
    pub kendall_tau_b: Coefficient,
    /// Share of the pairs of rows on which people differ that the score orders alike, ties counting half; in [0, 1], ½
    /// = chance. No p-value of its own: τ-b's serves.
    pub pairwise_accuracy: Coefficient,
}

/// A coefficient, its interval, and the two-sided p-value of "no association".
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Coefficient {
    /// Value with BCa bootstrap error and interval, resampling pairs.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// Probability of a coefficient at least as far from 0 if score and people were independent.
    pub p_value: Option<PValue>,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// Its name, as in the table.
    pub name: String,
    /// Its pairs.
    #[serde(flatten)]
    pub associations: Associations,
}

/// Rows averaged to one pair.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unit {
    /// Its name, as in the table.
    pub name: String,
    /// Mean of the score over its rows, with standard error and Student's interval.
    pub score: Estimate,
    /// The same of what people said.
    pub human: Estimate,
}

/// One pair of the scatter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The score.
    pub score: f64,
    /// What people said.
    pub human: f64,
    /// Index into [`Agreement::groups`].
    pub group: Option<usize>,
}

/// A row with both values.
struct Complete<'a> {
    score: f64,
    human: f64,
    group: Option<&'a str>,
    unit: Option<&'a str>,
    line: u64,
}

/// How well column `score` of `table` agrees with column `human`.
///
/// Rows lacking one of the two values are left out and counted; `not_joined` is what [`CsvTable::join`] left out. Rows
/// are resampled as independent ones: where several are about one model or image, average them with `mean_by`, whose
/// interval then speaks about other models, with the averages taken as they are. The same bits for any order of the rows
/// and any number of threads; runs on the current rayon pool.
///
/// # Errors
/// `InvalidOption` for a missing column, naming what there is, or options [`bootstrap`] refuses; `Format` for a cell
/// that is no number, or a unit in two groups; `TooFewImages` for fewer than three pairs.
pub fn agreement(table: &CsvTable, not_joined: usize, question: &Question) -> Result<Agreement> {
    let scores = table.numbers(table.column(question.score)?)?;
    let humans = table.numbers(table.column(question.human)?)?;
    let texts = |column: Option<&str>| -> Result<Vec<Option<&str>>> {
        Ok(match column {
            None => vec![None; table.len()],
            Some(name) => table.texts(table.column(name)?).map(Some).collect(),
        })
    };
    let (groups, units) = (texts(question.group)?, texts(question.mean_by)?);
    let missing = |values: &[Option<f64>]| values.iter().filter(|v| v.is_none()).count();
    let complete: Vec<Complete> = (0..table.len())
        .filter_map(|i| {
            let (score, human) = (scores[i]?, humans[i]?);
            Some(Complete { score, human, group: groups[i], unit: units[i], line: table.line(i) })
        })
        .collect();
    let rows = Rows {
        total: table.len() + not_joined,
        used: complete.len(),
        missing_score: missing(&scores),
        missing_human: missing(&humans),
        not_joined,
    };

    let confidence = question.bootstrap.confidence;
    let units = if question.mean_by.is_some() { averaged(table, &complete, confidence)? } else { Vec::new() };
    let pairs: Vec<(f64, f64, Option<&str>)> = if question.mean_by.is_some() {
        // Every unit has a row, so its means exist.
        units
            .iter()
            .filter_map(|(unit, group)| Some((unit.score.value?, unit.human.value?, *group)))
            .collect()
    } else {
        complete.iter().map(|row| (row.score, row.human, row.group)).collect()
    };
    if pairs.len() < 3 {
        let what = if question.mean_by.is_some() { "units" } else { "rows" };
        return Err(Error::new(ErrorKind::TooFewImages, table.name(), "too little to correlate").expected(
            format!("at least 3 {what} with both {} and {}", question.score, question.human),
            pairs.len(),
        ));
    }

    let mut by_group: BTreeMap<&str, Vec<[f64; 2]>> = BTreeMap::new();
    for (score, human, group) in &pairs {
        if let Some(group) = group {
            by_group.entry(group).or_default().push([*score, *human]);
        }
    }
    let index: BTreeMap<&str, usize> = by_group.keys().enumerate().map(|(i, name)| (*name, i)).collect();
    let points = pairs
        .iter()
        .map(|&(score, human, group)| Point {
            score,
            human,
            group: group.and_then(|g| index.get(g).copied()),
        })
        .collect();
    let all: Vec<[f64; 2]> = pairs.iter().map(|p| [p.0, p.1]).collect();
    Ok(Agreement {
        table: table.name().to_owned(),
        score: question.score.to_owned(),
        human: question.human.to_owned(),
        group_by: question.group.map(str::to_owned),
        mean_by: question.mean_by.map(str::to_owned),
        lower_is_better: question.lower_is_better,
        rows,
        pooled: associations(&all, question)?,
        groups: by_group
            .iter()
            .map(|(name, pairs)| {
                Ok(Group { name: (*name).to_owned(), associations: associations(pairs, question)? })
            })
            .collect::<Result<_>>()?,
        units: units.into_iter().map(|(unit, _)| unit).collect(),
        points,
    })
}

/// One unit for each name, with the group that all its rows are in.
fn averaged<'a>(
    table: &CsvTable,
    rows: &[Complete<'a>],
    confidence: f64,
) -> Result<Vec<(Unit, Option<&'a str>)>> {
    let mut by_unit: BTreeMap<&str, Vec<&Complete<'a>>> = BTreeMap::new();
    for row in rows {
        by_unit.entry(row.unit.unwrap_or_default()).or_default().push(row);
    }
    by_unit
        .into_iter()
        .map(|(name, rows)| {
            let group = rows[0].group;
            if let Some(other) = rows.iter().find(|row| row.group != group) {
                return Err(Error::new(
                    ErrorKind::Format,
                    table.name(),
                    format!("{name:?} is in two groups"),
                )
                .expected(
                    format!("{:?} as in line {}", group.unwrap_or_default(), rows[0].line),
                    format!("{:?} in line {}", other.group.unwrap_or_default(), other.line),
                ));
            }
            let mean = |of: fn(&Complete) -> f64| {
                Estimate::of_mean(&rows.iter().map(|row| of(row)).collect::<Vec<_>>(), confidence)
            };
            let unit = Unit { name: name.to_owned(), score: mean(|r| r.score)?, human: mean(|r| r.human)? };
            Ok((unit, group))
        })
        .collect()
}

fn associations(points: &[[f64; 2]], question: &Question) -> Result<Associations> {
    let pairs = Pairs::new(points)?;
    let n = points.len();
    let options = &question.bootstrap;
    let mean = |axis: usize| {
        let values: Vec<f64> = points.iter().map(|p| p[axis]).collect();
        Estimate::of_mean(&values, options.confidence)
    };
    let coefficient = |p_value: Option<PValue>, statistic: &(dyn Fn(&[u32]) -> Option<f64> + Sync)| {
        Ok::<_, Error>(Coefficient { estimate: bootstrap([n], |[w]| statistic(w), options)?, p_value })
    };
    let accuracy = |w: &[u32]| {
        let alike = pairs.concordance(w).pairwise_accuracy()?;
        Some(if question.lower_is_better { 1.0 - alike } else { alike })
    };
    Ok(Associations {
        n,
        score_mean: mean(0)?,
        human_mean: mean(1)?,
        pearson: coefficient(pairs.pearson_test().map(|c| c.p_value), &|w| pairs.pearson(w))?,
        spearman: coefficient(pairs.spearman_test().map(|c| c.p_value), &|w| pairs.spearman(w))?,
        kendall_tau_b: coefficient(pairs.kendall_test().map(|c| c.p_value), &|w| {
            pairs.concordance(w).tau_b()
        })?,
        pairwise_accuracy: coefficient(None, &accuracy)?,
    })
}

/// The answer as indented JSON, with a newline at the end.
///
/// # Errors
/// None in practice: every field has a JSON form.
pub fn json(agreement: &Agreement) -> Result<String> {
    let mut text = serde_json::to_string_pretty(agreement).map_err(|e| {
        Error::new(ErrorKind::Unsupported, "the JSON report", "a value has no JSON form").source(e)
    })?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests;
