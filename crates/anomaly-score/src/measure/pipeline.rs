//! A source of images becomes a table: one thread reads, the others decode and measure, one
//! image a thread, and every row is on disk before the next begins.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};

use super::Measurer;
use crate::backbone::Backbone;
use crate::image::{Fit, Limits, Picture, Raw, Source, Unreadable, decode, to_input};
use crate::table::{
    Cache, Flags, Known, Measurement, ProtocolSettings, Row, Scores, Settings, Skipped, Table, Writer,
};
use crate::{Error, ErrorKind, Result};

/// How a source is measured.
pub struct Options<'a> {
    /// Protocol and constants.
    pub protocol: ProtocolSettings,
    /// Seed of all random numbers.
    pub seed: u64,
    /// How images become square.
    pub fit: Fit,
    /// Measure a seeded sample of this many images.
    pub limit: Option<usize>,
    /// Worker threads; at least 1.
    pub threads: usize,
    /// Folder of the measurement cache; `None`: no cache.
    pub cache: Option<PathBuf>,
    /// Set from outside to stop after the images under way.
    pub stop: &'a AtomicBool,
    /// Called after every image, from the thread that measured it.
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

/// What became of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The run begins: so many images.
    Start(usize),
    /// Measured now.
    Measured,
    /// Known from an interrupted run or from the cache.
    Known,
    /// Could not be read.
    Skipped,
}

/// A finished run.
pub struct Outcome {
    /// The table.
    pub table: Table,
    /// Why the cache could not be used, if it could not.
    pub cache_error: Option<Error>,
}

/// Measures the images of `source`, into `output` or into a temporary table.
///
/// Results depend on the images and the settings alone: not on threads, order, an
/// interruption or the cache.
///
/// # Errors
/// What [`Writer::create`] and [`Source::read`] give; `Interrupted` when `stop` was set, saying
/// how to go on; the first failure to write.
pub fn measure(
    source: &Source,
    backbone: &Backbone,
    options: &Options,
    output: Option<&Path>,
) -> Result<Outcome> {
    let settings = Settings::new(
        options.protocol.clone(),
        backbone.settings(),
        options.fit.resampler(),
        options.seed,
        source.name().to_owned(),
        options.limit.map(|n| n as u64),
    );
    Measurer::new(backbone.network(), &options.protocol, options.seed)?;
    let mut cache_error = None;
    let cache = options
        .cache
        .as_deref()
        .and_then(|folder| Cache::open(folder, &settings).map_err(|e| cache_error = Some(e)).ok());
    let wanted = source.sample(options.limit.unwrap_or(usize::MAX), options.seed);
    let writer = Mutex::new(Writer::create(output, settings, cache)?);
    (options.progress)(Progress::Start(wanted.len()));

    let failure = Mutex::new(None);
    let abort = AtomicBool::new(false);
    let halted = || options.stop.load(Ordering::Relaxed) || abort.load(Ordering::Relaxed);
    let run = Run { source, backbone, options, writer: &writer };
    let (send, receive) = sync_channel(options.threads);
    let receive = Mutex::new(receive);
    let read = std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(|| {
                if let Err(e) = run.work(&receive, &halted) {
                    abort.store(true, Ordering::Relaxed);
                    lock(&failure).get_or_insert(e);
                }
                // Emptying the channel lets the reader see the stop.
                while halted() && next(&receive).is_some() {}
            });
        }
        // The channel closes with this closure, which ends the workers.
        let send = send;
        source.read(&wanted, &mut |index, raw| {
            if halted() || send.send((index, raw)).is_err() {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })
    });
    let mut writer = writer.into_inner().unwrap_or_else(PoisonError::into_inner);
    let cache_error = cache_error.or_else(|| writer.take_cache_error());
    let failed = lock(&failure).take().map_or(read, Err);
    if let Err(e) = failed {
        writer.suspend()?;
        return Err(e);
    }
    if options.stop.load(Ordering::Relaxed) {
        let kept = writer.suspend()?;
        let remedy = match (kept, &options.cache) {
            (Some(journal), _) => {
                format!(
                    "What is measured is kept in {}; run the same command again to go on",
                    journal.display()
                )
            }
            (None, Some(_)) => {
                "What is measured is kept in the cache; run the same command again to go on".into()
            }
            (None, None) => "Nothing is kept: there was neither an output table nor a cache".into(),
        };
        let subject = source.name();
        return Err(Error::new(ErrorKind::Interrupted, subject, "stopped before the end").remedy(remedy));
    }
    Ok(Outcome { table: writer.finish()?, cache_error })
}

type Item = (usize, std::result::Result<Raw, Unreadable>);

/// The next image, or `None` when there are no more.
fn next(receive: &Mutex<Receiver<Item>>) -> Option<Item> {
    lock(receive).recv().ok()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Run<'a> {
    source: &'a Source,
    backbone: &'a Backbone,
    options: &'a Options<'a>,
    writer: &'a Mutex<Writer>,
}

impl Run<'_> {
    /// One worker: measures images until there are none, the run is halted, or a row cannot be kept.
    fn work(&self, receive: &Mutex<Receiver<Item>>, halted: &dyn Fn() -> bool) -> Result<()> {
        let mut measurer = Measurer::new(self.backbone.network(), &self.options.protocol, self.options.seed)?;
        while !halted() {
            let Some((index, raw)) = next(receive) else { break };
            let path = self.source.entries()[index].path();
            let picture = raw.and_then(|raw| decode(&raw, &Limits::default()));
            let progress = match picture {
                Err(reason) => self.skip(path, reason.to_string()),
                Ok(picture) => self.image(&mut measurer, path, &picture)?,
            };
            (self.options.progress)(progress);
        }
        Ok(())
    }

    fn skip(&self, path: &str, reason: String) -> Progress {
        lock(self.writer).skip(Skipped { path: path.to_owned(), reason });
        Progress::Skipped
    }

    fn image(&self, measurer: &mut Measurer, path: &str, picture: &Picture) -> Result<Progress> {
        let content_hash = picture.content_hash();
        if lock(self.writer).find(path, &content_hash)? != Known::No {
            return Ok(Progress::Known);
        }
        let px = self.backbone.entry().input_px;
        let measured = catch_unwind(AssertUnwindSafe(|| {
            measurer.measure(&to_input(picture, px, self.options.fit), &content_hash)
        }));
        let measured = match measured {
            Ok(measured) => measured?,
            Err(_) => {
                let problem = "a fault of this program while measuring the image; please report it";
                return Ok(self.skip(path, problem.into()));
            }
        };
        if !measured.vulnerability.is_finite() || measured.feature.iter().any(|v| !v.is_finite()) {
            return Ok(self.skip(path, "the backbone gives values that are not finite".into()));
        }
        let traits = picture.traits();
        let flags = Flags {
            alpha_composited: traits.alpha_composited,
            sixteen_bit: traits.sixteen_bit,
            greyscale: traits.grey,
            exif_rotated: traits.reoriented,
            enlarged: (picture.width().min(picture.height()) as usize) < px,
            complexity_undefined: measured.complexity.is_none(),
        };
        let scores = Scores {
            content_hash,
            width: picture.width(),
            height: picture.height(),
            complexity: measured.complexity,
            vulnerability: Some(measured.vulnerability),
            anomaly_score_i: measured.anomaly_score_i(),
            noise_floor: measured.noise_floor,
            restart_spread: measured.restart_spread,
            flags,
        };
        let measurement = Measurement { scores, feature: measured.feature };
        lock(self.writer).append(&Row { path: path.to_owned(), measurement })?;
        Ok(Progress::Measured)
    }
}
