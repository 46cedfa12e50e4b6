//! A source of images becomes a table: one thread reads, the others decode and measure, each a few
//! images at once, and their rows are on disk before the next begin.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};

use super::{Measured, Measurer, Subject};
use crate::backbone::Backbone;
use crate::image::{Limits, Picture, Preprocessing, Raw, Source, Unreadable, decode};
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
    /// How images become network input: [`Backbone::preprocessing`], or another geometry.
    pub preprocessing: Preprocessing,
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
    /// The tables, one for each layer of the backbone.
    pub tables: Vec<Table>,
    /// Why the cache could not be used, if it could not.
    pub cache_error: Option<Error>,
}

/// Measures the images of `source`, into `outputs` (a path for each layer of the backbone) or into temporary tables.
///
/// Results depend on the images and the settings alone: not on threads, order, an
/// interruption, the cache or the other layers.
///
/// # Errors
/// What [`Writer::create`] and [`Source::read`] give; `Interrupted` when `stop` was set, saying
/// how to go on; the first failure to write.
///
/// # Panics
/// If there are outputs, but not as many as layers.
pub fn measure(
    source: &Source,
    backbone: &Backbone,
    options: &Options,
    outputs: Option<&[PathBuf]>,
) -> Result<Outcome> {
    let layers = backbone.network().outputs();
    assert!(outputs.is_none_or(|o| o.len() == layers), "one table a layer");
    Measurer::new(backbone.network(), &options.protocol, options.seed)?;
    let mut cache_error = None;
    let mut writers = Vec::with_capacity(layers);
    for layer in 0..layers {
        let settings = Settings::new(
            options.protocol.clone(),
            backbone.settings(layer),
            Some(backbone.arithmetic()),
            options.preprocessing.name(),
            options.seed,
            source.name().to_owned(),
            options.limit.map(|n| n as u64),
        );
        let cache = options
            .cache
            .as_deref()
            .and_then(|folder| Cache::open(folder, &settings).map_err(|e| cache_error = Some(e)).ok());
        writers.push(Writer::create(outputs.map(|o| o[layer].as_path()), settings, cache)?);
    }
    let wanted = source.sample(options.limit.unwrap_or(usize::MAX), options.seed);
    let writers = Mutex::new(writers);
    (options.progress)(Progress::Start(wanted.len()));

    let failure = Mutex::new(None);
    let abort = AtomicBool::new(false);
    let halted = || options.stop.load(Ordering::Relaxed) || abort.load(Ordering::Relaxed);
    let share = options.threads / wanted.len().max(1);
    let run = Run { source, backbone, options, writers: &writers, share };
    let (send, receive) = sync_channel(options.threads);
    let queue = Queue { items: Mutex::new((receive, wanted.len(), 0)), threads: options.threads.max(1) };
    let read = std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(|| {
                if let Err(e) = run.work(&queue, &halted) {
                    abort.store(true, Ordering::Relaxed);
                    lock(&failure).get_or_insert(e);
                }
                // Emptying the channel lets the reader see the stop.
                while halted() && !queue.next(1).is_empty() {}
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
    let mut writers = writers.into_inner().unwrap_or_else(PoisonError::into_inner);
    let cache_error = cache_error.or_else(|| writers.iter_mut().find_map(Writer::take_cache_error));
    let failed = lock(&failure).take().map_or(read, Err);
    if let Err(e) = failed {
        suspend(writers)?;
        return Err(e);
    }
    if options.stop.load(Ordering::Relaxed) {
        let kept = suspend(writers)?;
        let remedy = match (kept.is_empty(), &options.cache) {
            (false, _) => {
                let kept: Vec<String> = kept.iter().map(|journal| journal.display().to_string()).collect();
                format!(
                    "What is measured is kept in {}; run the same command again to go on",
                    kept.join(", ")
                )
            }
            (true, Some(_)) => {
                "What is measured is kept in the cache; run the same command again to go on".into()
            }
            (true, None) => "Nothing is kept: there was neither an output table nor a cache".into(),
        };
        let subject = source.name();
        return Err(Error::new(ErrorKind::Interrupted, subject, "stopped before the end").remedy(remedy));
    }
    let tables = writers.into_iter().map(Writer::finish).collect::<Result<_>>()?;
    Ok(Outcome { tables, cache_error })
}

/// Stops all before the end; returns the journals that a later run goes on from.
fn suspend(writers: Vec<Writer>) -> Result<Vec<PathBuf>> {
    let kept = writers.into_iter().map(Writer::suspend).collect::<Result<Vec<_>>>()?;
    Ok(kept.into_iter().flatten().collect())
}

type Item = (usize, std::result::Result<Raw, Unreadable>);

/// What was read and nobody works on yet.
struct Queue {
    /// It, how many images are left to be taken, and how often was taken.
    items: Mutex<(Receiver<Item>, usize, usize)>,
    /// Threads that take of it.
    threads: usize,
}

impl Queue {
    /// The next images, up to `most`, but no more than leave as many for every thread that has not taken of this round;
    /// none when there are no more.
    fn next(&self, most: usize) -> Vec<Item> {
        let mut items = lock(&self.items);
        let (receive, left, times) = &mut *items;
        let count = left.div_ceil(self.threads - *times % self.threads).clamp(1, most);
        let taken: Vec<Item> = receive.iter().take(count).collect();
        *left = left.saturating_sub(taken.len());
        *times += 1;
        taken
    }
}

/// Why an image is skipped that should not have been.
const FAULT: &str = "a fault of this program while measuring the image; please report it";

/// An image that is read, and what is missing of it.
struct Read<'a> {
    path: &'a str,
    picture: Picture,
    content_hash: [u8; 32],
    /// Layers.
    missing: Vec<usize>,
    input: Vec<f32>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Run<'a> {
    source: &'a Source,
    backbone: &'a Backbone,
    options: &'a Options<'a>,
    /// One a layer.
    writers: &'a Mutex<Vec<Writer>>,
    /// Threads an image, where there are fewer images than threads.
    share: usize,
}

impl Run<'_> {
    /// One worker: measures images until there are none, the run is halted, or a row cannot be kept.
    fn work(&self, queue: &Queue, halted: &dyn Fn() -> bool) -> Result<()> {
        let mut measurer = Measurer::new(self.backbone.network(), &self.options.protocol, self.options.seed)?;
        let most = measurer.images_at_once();
        let mut team = None;
        while !halted() {
            let items = queue.next(most);
            if items.is_empty() {
                break;
            }
            if self.share > 1 && team.is_none() {
                // Without a team the image is measured by this thread alone, to the same bits.
                team = rayon::ThreadPoolBuilder::new().num_threads(self.share).build().ok();
                measurer.share(team.as_ref().map_or(1, rayon::ThreadPool::current_num_threads));
            }
            let mut images = Vec::with_capacity(items.len());
            for (index, raw) in items {
                match self.read(index, raw)? {
                    Ok(image) => images.push(image),
                    Err(progress) => (self.options.progress)(progress),
                }
            }
            while let Some(first) = images.first() {
                let missing = first.missing.clone();
                let (alike, others) = images.into_iter().partition(|image| image.missing == missing);
                self.images(&mut measurer, team.as_ref(), alike)?;
                images = others;
            }
        }
        Ok(())
    }

    /// Notes for `layers` that the image cannot be measured.
    fn skip(&self, path: &str, reason: &str, layers: impl IntoIterator<Item = usize>) -> Progress {
        let mut writers = lock(self.writers);
        for layer in layers {
            writers[layer].skip(Skipped { path: path.to_owned(), reason: reason.to_owned() });
        }
        Progress::Skipped
    }

    /// Image `index` of the source ready to be measured, or what became of it.
    fn read(
        &self,
        index: usize,
        raw: std::result::Result<Raw, Unreadable>,
    ) -> Result<std::result::Result<Read<'_>, Progress>> {
        let path = self.source.entries()[index].path();
        let picture = match raw.and_then(|raw| decode(&raw, &Limits::default())) {
            Ok(picture) => picture,
            Err(reason) => {
                let layers = 0..self.backbone.network().outputs();
                return Ok(Err(self.skip(path, &reason.to_string(), layers)));
            }
        };
        let content_hash = picture.content_hash();
        let mut missing = Vec::new();
        for (layer, writer) in lock(self.writers).iter_mut().enumerate() {
            if writer.find(path, &content_hash)? == Known::No {
                missing.push(layer);
            }
        }
        if missing.is_empty() {
            return Ok(Err(Progress::Known));
        }
        let input = catch_unwind(AssertUnwindSafe(|| self.options.preprocessing.apply(&picture)));
        Ok(match input {
            Ok(input) => Ok(Read { path, picture, content_hash, missing, input }),
            Err(_) => Err(self.skip(path, FAULT, missing)),
        })
    }

    /// Measures images of which the same is missing.
    fn images(
        &self,
        measurer: &mut Measurer,
        team: Option<&rayon::ThreadPool>,
        images: Vec<Read>,
    ) -> Result<()> {
        let Some(Read { missing, .. }) = images.first() else { return Ok(()) };
        let subjects: Vec<Subject> = images
            .iter()
            .map(|image| Subject { pixels: &image.input, content_hash: &image.content_hash })
            .collect();
        let measured = catch_unwind(AssertUnwindSafe(|| {
            let mut measure = || measurer.measure(&subjects, missing);
            match team {
                Some(team) => team.install(&mut measure),
                None => measure(),
            }
        }));
        match measured {
            Ok(measured) => {
                for (image, measured) in images.into_iter().zip(measured?) {
                    (self.options.progress)(self.keep(image, measured)?);
                }
            }
            // One of them is at fault: the others are measured by themselves.
            Err(_) if images.len() > 1 => {
                for image in images {
                    self.images(measurer, team, vec![image])?;
                }
            }
            Err(_) => (self.options.progress)(self.skip(images[0].path, FAULT, missing.clone())),
        }
        Ok(())
    }

    /// Appends what was measured to the tables.
    fn keep(&self, image: Read, measured: Vec<Measured>) -> Result<Progress> {
        let Read { path, picture, content_hash, missing, .. } = image;
        let finite = |m: &Measured| {
            m.vulnerability.is_none_or(f64::is_finite) && m.feature.iter().all(|v| v.is_finite())
        };
        if !measured.iter().all(finite) {
            return Ok(self.skip(path, "the backbone gives values that are not finite", missing));
        }
        for (layer, measured) in missing.into_iter().zip(measured) {
            let row = Row {
                path: path.to_owned(),
                measurement: self.measurement(&picture, &content_hash, measured),
            };
            lock(self.writers)[layer].append(&row)?;
        }
        Ok(Progress::Measured)
    }

    fn measurement(&self, picture: &Picture, content_hash: &[u8; 32], measured: Measured) -> Measurement {
        let px = self.options.preprocessing.input_px;
        let traits = picture.traits();
        let flags = Flags {
            alpha_composited: traits.alpha_composited,
            sixteen_bit: traits.sixteen_bit,
            greyscale: traits.grey,
            exif_rotated: traits.reoriented,
            enlarged: (picture.width().min(picture.height()) as usize) < px,
            // Where C was not asked for it is not undefined.
            complexity_undefined: measured.complexity.is_none() && measured.vulnerability.is_some(),
        };
        let scores = Scores {
            content_hash: *content_hash,
            width: picture.width(),
            height: picture.height(),
            complexity: measured.complexity,
            vulnerability: measured.vulnerability,
            anomaly_score_i: measured.anomaly_score_i(),
            noise_floor: measured.noise_floor,
            restart_spread: measured.restart_spread,
            flags,
        };
        Measurement { scores, feature: measured.feature }
    }
}
