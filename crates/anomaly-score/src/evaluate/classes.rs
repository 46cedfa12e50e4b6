//! Every metric by class.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use super::features::{FeatureSet, Side};
use super::uncertainty::AFFORDABLE;
use super::{MetricResult, Options, evaluate};
use crate::agreement::CsvTable;
use crate::set_metric::{AnomalyScore, PermutationOptions, anomaly_score};
use crate::stats::{MedianInterval, median_interval};
use crate::{Error, ErrorKind, Result};

/// Classes whose intervals and floors may each take as much as those of the whole set; of more, each may take less.
const CLASSES_AT_FULL_COST: f64 = 4.0;

/// Classes an error names.
const NAMED: usize = 5;

/// Where the class of an image comes from.
#[derive(Clone, Debug)]
pub enum Classes {
    /// The first folder of its path within its source; an image beside the folders has none.
    Folders,
    /// A CSV file; an image it does not name has none.
    File(ClassFile),
}

/// Classes by path.
#[derive(Clone, Debug)]
pub struct ClassFile {
    name: String,
    /// By source, where the file tells one, and path.
    classes: HashMap<(Option<String>, String), String>,
}

impl ClassFile {
    /// Reads a CSV (`.tsv`: tabs) with the columns `path` and `class`. Where two sets name different images by equal paths a
    /// column `source` says which is meant: the source as the command line names it; empty = any.
    ///
    /// # Errors
    /// `Io`; `Format` for a damaged file or an image named twice; `InvalidOption` for a missing column.
    pub fn read(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Err(Error::new(
                ErrorKind::InvalidOption,
                path.display().to_string(),
                "--by-class: a folder",
            )
            .expected(
                "a CSV with the columns path and class, or nothing: sub-folders are then the classes",
                "a folder",
            )
            .remedy("Put --by-class behind the image sources"));
        }
        let table = CsvTable::read(path)?;
        let (paths, names) = (table.column("path")?, table.column("class")?);
        let sources = if table.has_column("source") { Some(table.column("source")?) } else { None };
        let mut classes = HashMap::with_capacity(table.len());
        let sources = sources.map(|column| table.texts(column).collect::<Vec<_>>());
        for (i, (path, class)) in table.texts(paths).zip(table.texts(names)).enumerate() {
            let source = sources.as_ref().map(|s| s[i]).filter(|s| !s.is_empty()).map(str::to_owned);
            if class.is_empty() {
                continue;
            }
            let twice = classes.insert((source, plain(path).to_owned()), class.to_owned());
            if let Some(other) = twice.filter(|other| other != class) {
                return Err(Error::new(ErrorKind::Format, table.name().to_owned(), "names an image twice")
                    .expected(
                        "one class an image",
                        format!("{path} of {other}, and in line {} of {class}", table.line(i)),
                    )
                    .remedy("If they are images of different sets, add a column source"));
            }
        }
        Ok(ClassFile { name: table.name().to_owned(), classes })
    }
}

/// As `correlate` joins: a leading `./` makes no difference.
fn plain(path: &str) -> &str {
    path.strip_prefix("./").unwrap_or(path)
}

impl Classes {
    /// The class of the image at `path` of `source`; `None` if it has none.
    pub fn of<'a>(&'a self, source: &str, path: &'a str) -> Option<&'a str> {
        match self {
            Classes::Folders => path.split_once('/').map(|(folder, _)| folder),
            Classes::File(file) => {
                let of = |source: Option<&str>| {
                    file.classes.get(&(source.map(str::to_owned), plain(path).to_owned())).map(String::as_str)
                };
                of(Some(source)).or_else(|| of(None))
            }
        }
    }

    /// Places of the images of each class in the order of the table, and how many have none.
    fn of_set(&self, set: &FeatureSet) -> (BTreeMap<String, Vec<usize>>, usize) {
        let mut classes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut without = 0;
        for (place, path) in set.paths.iter().enumerate() {
            match self.of(&set.settings().source, path) {
                Some(class) => classes.entry(class.to_owned()).or_default().push(place),
                None => without += 1,
            }
        }
        (classes, without)
    }

    /// Refuses two sets, given by source and paths, that have no class in common, before hours go into measuring them.
    ///
    /// # Errors
    /// As [`evaluate_classes`].
    pub fn require_common(&self, sets: [(&str, &[String]); 2]) -> Result<()> {
        let named: [BTreeSet<String>; 2] = sets.map(|(source, paths)| {
            paths.iter().filter_map(|path| self.of(source, path)).map(str::to_owned).collect()
        });
        let [a, b] = &named;
        let of = |(source, paths): (&'_ str, &'_ [String])| (source.to_owned(), paths.first().cloned());
        let [of_a, of_b] = sets.map(of);
        require(
            self,
            [
                (of_a.0.as_str(), of_a.1.as_deref(), a.iter().collect()),
                (of_b.0.as_str(), of_b.1.as_deref(), b.iter().collect()),
            ],
        )
    }

    fn what_is_expected(&self) -> String {
        match self {
            Classes::Folders => "images in sub-folders that are named for their class".into(),
            Classes::File(file) => format!("images whose paths {} names", file.name),
        }
    }
}

/// The images of one class of both sets. The fields, in this order, are keys of the JSON report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassResult {
    /// The class.
    pub class: String,
    /// Reference images of it.
    pub n_reference: usize,
    /// Generated images of it.
    pub n_generated: usize,
    /// AS-i of the reference images; higher is less natural. `None` where no image has one.
    pub anomaly_score_i_reference: Option<MedianInterval>,
    /// AS-i of the generated images, likewise.
    pub anomaly_score_i_generated: Option<MedianInterval>,
    /// The Anomaly Score; `None` where complexity and vulnerability were not measured, or of fewer than two images of a set.
    pub anomaly_score: Option<AnomalyScore>,
    /// What [`evaluate`] found; empty where a set has no image of the class.
    pub metrics: Vec<MetricResult>,
    /// Why something above is missing.
    pub note: Option<String>,
}

/// What [`evaluate_classes`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct ByClass {
    /// Every class of either set, in byte order.
    pub classes: Vec<ClassResult>,
    /// Reference and generated images without a class.
    pub unclassified: [usize; 2],
}

/// The metrics of every class, as [`evaluate`] has them of the whole sets, from the same features; a class that is all of
/// both sets has their results to the bit.
///
/// Where intervals and floors are not asked for by number, those of more than four classes may take together four times
/// what those of the whole sets may. Memory: the features of the classes under way, one a thread, beside those of the sets.
///
/// # Errors
/// `InvalidOption` if a set has no classes, or the sets have none in common, with those they have; what [`evaluate`] gives.
pub fn evaluate_classes(
    reference: &FeatureSet,
    generated: &FeatureSet,
    held_out: Option<&FeatureSet>,
    classes: &Classes,
    permutations: &PermutationOptions,
    options: &Options,
) -> Result<ByClass> {
    let (of_reference, without_r) = classes.of_set(reference);
    let (of_generated, without_g) = classes.of_set(generated);
    let of_held_out = held_out.map(|set| (set, classes.of_set(set).0));
    require(
        classes,
        [(reference, &of_reference), (generated, &of_generated)].map(|(set, found)| {
            (set.settings().source.as_str(), set.paths.first().map(String::as_str), found.keys().collect())
        }),
    )?;
    let common = of_reference.keys().filter(|class| of_generated.contains_key(*class)).count();
    let share = (CLASSES_AT_FULL_COST / common as f64).min(1.0);
    let options = Options { affordable: AFFORDABLE * share, ..options.clone() };
    let all: BTreeSet<&String> = of_reference.keys().chain(of_generated.keys()).collect();
    let all: Vec<&String> = all.into_iter().collect();
    let of_class = |class: &&String| -> Result<ClassResult> {
        let part = |set: &FeatureSet, places: Option<&Vec<usize>>| places.map(|places| set.part(places));
        let (r, g) = (part(reference, of_reference.get(*class)), part(generated, of_generated.get(*class)));
        let mut result = ClassResult {
            class: (*class).clone(),
            n_reference: r.as_ref().map_or(0, |set| set.paths.len()),
            n_generated: g.as_ref().map_or(0, |set| set.paths.len()),
            anomaly_score_i_reference: r.as_ref().and_then(FeatureSet::median_score_i),
            anomaly_score_i_generated: g.as_ref().and_then(FeatureSet::median_score_i),
            anomaly_score: None,
            metrics: Vec::new(),
            note: None,
        };
        let (Some(r), Some(g)) = (&r, &g) else {
            let missing = if r.is_none() { "reference" } else { "generated" };
            result.note = Some(format!("no {missing} images of this class"));
            return Ok(result);
        };
        if r.points.len().min(g.points.len()) >= 2 {
            result.anomaly_score = Some(anomaly_score(&r.points, &g.points, permutations)?);
        }
        let held_out = of_held_out.as_ref().and_then(|(set, places)| part(set, places.get(*class)));
        if of_held_out.is_some() && held_out.is_none() {
            result.note = Some("no held-out images of this class".into());
        }
        let score = result.anomaly_score.as_ref();
        let found = evaluate(Side::Images(r), Side::Images(g), held_out.as_ref(), score, &options)?;
        result.metrics = found.metrics;
        Ok(result)
    };
    Ok(ByClass {
        classes: all.par_iter().map(of_class).collect::<Result<_>>()?,
        unclassified: [without_r, without_g],
    })
}

/// Refuses sets without classes, or with none in common; of each its source, a path, and its classes.
fn require(classes: &Classes, sets: [(&str, Option<&str>, BTreeSet<&String>); 2]) -> Result<()> {
    for (source, first, found) in &sets {
        if found.is_empty() {
            return Err(Error::new(ErrorKind::InvalidOption, *source, "--by-class: no image has a class")
                .expected(classes.what_is_expected(), format!("paths like {}", first.unwrap_or("none"))));
        }
    }
    let [(reference, _, of_reference), (generated, _, of_generated)] = &sets;
    if !of_reference.is_disjoint(of_generated) {
        return Ok(());
    }
    let named = |classes: &BTreeSet<&String>| {
        let more = if classes.len() > NAMED { ", …" } else { "" };
        format!("{}{more}", classes.iter().take(NAMED).map(|c| c.as_str()).collect::<Vec<_>>().join(", "))
    };
    Err(Error::new(ErrorKind::InvalidOption, "--by-class", "the sets have no class in common")
        .expected(
            format!("the classes of {reference}: {}", named(of_reference)),
            format!("those of {generated}: {}", named(of_generated)),
        )
        .remedy("Name the folder that holds the classes, or give them by --by-class FILE.csv"))
}

impl FeatureSet {
    fn median_score_i(&self) -> Option<MedianInterval> {
        let values: Vec<f64> = self.scores_i.iter().flatten().copied().collect();
        median_interval(&values, super::CONFIDENCE)
    }
}
