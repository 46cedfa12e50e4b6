//! Facts of a set: those of its images, by one pass over the files or out of a table.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::facts::{ImageFacts, Seen};
use crate::image::{Limits, Raw, Source, Unreadable, decode};
use crate::measure::Progress;
use crate::stats::quantile;
use crate::table::{Skipped, Table};
use crate::{Error, ErrorKind, Result};

/// What a set is in a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Real images.
    Reference,
    /// Images of a model under test.
    Generated,
    /// Real images the model was not trained on.
    HeldOut,
}

/// How a source is looked through.
pub struct Options<'a> {
    /// Only a seeded sample of this many images, the one that measuring takes.
    pub limit: Option<usize>,
    /// Seed of the sample.
    pub seed: u64,
    /// Threads that decode; at least 1.
    pub threads: usize,
    /// Set from outside to stop.
    pub stop: &'a AtomicBool,
    /// Called after every image.
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

/// A set of images as pre-flight knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct SetFacts {
    /// The source as the user named it.
    pub source: String,
    /// What it is in the comparison.
    pub role: Role,
    /// Its images, in byte order of their paths.
    pub images: Vec<ImageFacts>,
    /// What could not be read, in the same order.
    pub skipped: Vec<Skipped>,
    /// Whether there are images at all, or only numbers made of them.
    pub basis: Basis,
}

/// What is known of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Its files.
    Images,
    /// A table of measurements: content hashes, sizes, modes.
    Table,
    /// Features or statistics, which know nothing of single images.
    Numbers {
        /// How many images they are of, if they say so.
        n: Option<usize>,
    },
}

impl SetFacts {
    /// Decodes every image once, several at a time, and keeps a few facts of each. The result does not depend on threads.
    ///
    /// # Errors
    /// As [`Source::read`]; `Interrupted` if `stop` was set.
    pub fn of_source(source: &Source, role: Role, options: &Options) -> Result<SetFacts> {
        let wanted = source.sample(options.limit.unwrap_or(usize::MAX), options.seed);
        (options.progress)(Progress::Start(wanted.len()));
        let stopped = || options.stop.load(Ordering::Relaxed);
        let (send, receive) =
            sync_channel::<(usize, std::result::Result<Raw, Unreadable>)>(2 * options.threads.max(1));
        let receive = Mutex::new(receive);
        let found = Mutex::new((Vec::new(), Vec::new()));
        let next = || receive.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
        std::thread::scope(|scope| {
            for _ in 0..options.threads.max(1) {
                scope.spawn(|| {
                    while let Some((index, raw)) = next() {
                        if stopped() {
                            continue; // Emptying the channel lets the reader see the stop.
                        }
                        let path = source.entries()[index].path();
                        let facts = raw.and_then(|raw| {
                            decode(&raw, &Limits::default())
                                .map(|picture| ImageFacts::of(path, &raw, &picture))
                        });
                        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                        (options.progress)(match facts {
                            Ok(facts) => {
                                found.0.push(facts);
                                Progress::Measured
                            }
                            Err(reason) => {
                                found.1.push(Skipped { path: path.to_owned(), reason: reason.to_string() });
                                Progress::Skipped
                            }
                        });
                    }
                });
            }
            // The channel closes with this closure, which ends the workers.
            let send = send;
            source.read(&wanted, &mut |index, raw| {
                if stopped() || send.send((index, raw)).is_err() {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })
        })?;
        if stopped() {
            return Err(Error::new(
                ErrorKind::Interrupted,
                source.name(),
                "stopped before the end of pre-flight",
            ));
        }
        let (mut images, mut skipped) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        images.sort_by(|a: &ImageFacts, b| a.path.cmp(&b.path));
        skipped.sort();
        Ok(SetFacts { source: source.name().to_owned(), role, images, skipped, basis: Basis::Images })
    }

    /// What a table knows: content hash, size and mode of every image.
    ///
    /// # Errors
    /// `Io` or `Format` if the table cannot be read.
    pub fn of_table(table: &Table, role: Role) -> Result<SetFacts> {
        let images = table.scores()?.map(|row| row.map(ImageFacts::of_row)).collect::<Result<_>>()?;
        Ok(SetFacts {
            source: table.settings().source.clone(),
            role,
            images,
            skipped: table.skipped().to_vec(),
            basis: Basis::Table,
        })
    }

    /// A file of features or statistics, of `n` images if it says so.
    pub fn of_numbers(source: &str, role: Role, n: Option<usize>) -> SetFacts {
        let basis = Basis::Numbers { n };
        SetFacts { source: source.to_owned(), role, images: Vec::new(), skipped: Vec::new(), basis }
    }

    /// Number of images the set is of; `None` for statistics that do not say so.
    pub fn size(&self) -> Option<usize> {
        match self.basis {
            Basis::Numbers { n } => n,
            _ => Some(self.images.len()),
        }
    }

    /// Number of images that were read or stand in the table.
    pub fn n(&self) -> usize {
        self.images.len()
    }

    /// What only pixels and files tell, of every image that has it.
    pub(super) fn seen(&self) -> impl Iterator<Item = (&ImageFacts, &Seen)> {
        self.images.iter().filter_map(|image| Some((image, image.seen.as_ref()?)))
    }

    /// Whether the set is known by its pixels and files.
    pub(super) fn is_seen(&self) -> bool {
        self.basis == Basis::Images && self.images.iter().all(|image| image.seen.is_some())
    }

    /// Median over the images that have the value.
    pub(super) fn median(&self, of: impl Fn(&ImageFacts) -> Option<f64>) -> Option<f64> {
        quantile(&self.images.iter().filter_map(of).collect::<Vec<_>>(), 0.5)
    }

    /// How many images are so.
    pub(super) fn count(&self, is: impl Fn(&ImageFacts) -> bool) -> usize {
        self.images.iter().filter(|image| is(image)).count()
    }

    /// Images by type of file, the most frequent first; empty where the types are not known.
    pub(super) fn file_types(&self) -> Vec<(&'static str, usize)> {
        let mut counts = BTreeMap::new();
        for (_, seen) in self.seen() {
            let name = match (seen.kind.map(|kind| kind.name()), seen.provenance.lossy) {
                (Some("WebP"), Some(true)) => "lossy WebP",
                (Some(name), _) => name,
                (None, _) => "array",
            };
            *counts.entry(name).or_insert(0) += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
        counts
    }

    /// The set in a few numbers.
    pub fn summary(&self) -> SetSummary {
        let seen = |of: fn(&Seen) -> Option<f64>| self.median(move |image| image.seen.as_ref().and_then(of));
        let types = self.is_seen().then(|| {
            self.file_types().into_iter().map(|(name, count)| FileType { name: name.into(), count }).collect()
        });
        let means = |of: fn(&Seen) -> [f64; 3]| {
            let n = self.seen().count();
            let mut sum = [0.0; 3];
            for (_, seen) in self.seen() {
                sum.iter_mut().zip(of(seen)).for_each(|(sum, value)| *sum += value);
            }
            (n > 0).then(|| sum.map(|s| s / n as f64))
        };
        let has_images = !matches!(self.basis, Basis::Numbers { .. });
        SetSummary {
            source: self.source.clone(),
            role: self.role,
            n: self.size(),
            skipped: self.skipped.len(),
            file_types: types,
            width_median: self.median(|image| Some(f64::from(image.width))),
            height_median: self.median(|image| Some(f64::from(image.height))),
            short_side_min: self.images.iter().map(ImageFacts::short_side).min(),
            short_side_max: self.images.iter().map(ImageFacts::short_side).max(),
            grey: has_images.then(|| self.count(|image| image.grey)),
            alpha: has_images.then(|| self.count(|image| image.alpha)),
            mean_rgb: means(|seen| seen.colour.mean),
            std_dev_rgb: means(|seen| seen.colour.std_dev),
            jpeg_quality_median: seen(|seen| seen.provenance.jpeg_quality.map(f64::from)),
            jpeg_traces_median: seen(|seen| seen.jpeg_traces),
        }
    }
}

/// A set in a few numbers. The fields, in this order, are keys of the JSON report; unknown is `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SetSummary {
    /// The source as the user named it.
    pub source: String,
    /// What it is in the comparison.
    pub role: Role,
    /// Images that were read or stand in the table; `None` for statistics that do not say so.
    pub n: Option<usize>,
    /// Files that could not be.
    pub skipped: usize,
    /// Types of files, the most frequent first; `None` for a table.
    pub file_types: Option<Vec<FileType>>,
    /// Median width, pixels.
    pub width_median: Option<f64>,
    /// Median height, pixels.
    pub height_median: Option<f64>,
    /// Smallest of the shorter sides, pixels.
    pub short_side_min: Option<u32>,
    /// Largest of the shorter sides, pixels.
    pub short_side_max: Option<u32>,
    /// Images without colour; `None`, as of transparency, for features and statistics.
    pub grey: Option<usize>,
    /// Images with transparency.
    pub alpha: Option<usize>,
    /// Mean over the images of their mean R, G, B, 0–255; `None` for a table.
    pub mean_rgb: Option<[f64; 3]>,
    /// Mean over the images of the standard deviation of R, G, B within each; `None` for a table.
    pub std_dev_rgb: Option<[f64; 3]>,
    /// Median quality of the JPEG files, 1–100; `None` where there are none.
    pub jpeg_quality_median: Option<f64>,
    /// Median of the traces of an earlier JPEG; `None` for a table, and below 16 pixels a side.
    pub jpeg_traces_median: Option<f64>,
}

/// How many files are of one type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileType {
    /// The type; `array` for pixels out of an array.
    pub name: String,
    /// How many.
    pub count: usize,
}
