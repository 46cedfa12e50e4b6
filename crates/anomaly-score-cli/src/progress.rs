//! Progress on stderr, and Ctrl-C.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anomaly_score::Result;
use anomaly_score::backbone::hub::{Event, Watch};
use anomaly_score::backbone::{self, Entry};
use anomaly_score::measure::Progress;
use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};

/// Set by the first Ctrl-C.
pub(crate) static STOP: AtomicBool = AtomicBool::new(false);

/// The first Ctrl-C (or SIGTERM) finishes the images under way, or keeps what was fetched, and saves; the second ends at once.
pub(crate) fn watch_for_interrupts() {
    let installed = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(crate::INTERRUPTED));
        }
        eprintln!("\nstopping after what is under way; press Ctrl-C again to stop at once");
    });
    if let Err(e) = installed {
        eprintln!("warning: Ctrl-C cannot be watched for ({e}); it will end the program at once");
    }
}

/// A bar with rate and time left; invisible when stderr is not a terminal.
pub(crate) struct Bar {
    label: String,
    bar: OnceLock<ProgressBar>,
}

impl Bar {
    pub(crate) fn new(source: &str) -> Self {
        let name = Path::new(source).file_name();
        let label = name.map_or_else(|| source.to_owned(), |name| name.to_string_lossy().into_owned());
        Bar { label, bar: OnceLock::new() }
    }

    pub(crate) fn update(&self, progress: Progress) {
        match progress {
            Progress::Start(n) => {
                let bar = bar(n as u64, "{msg:20!} {bar:30} {pos}/{len}  {per_sec}  {eta} left");
                bar.set_message(self.label.clone());
                bar.tick();
                let _ = self.bar.set(bar);
            }
            _ => {
                if let Some(bar) = self.bar.get() {
                    bar.inc(1);
                }
            }
        }
    }

    pub(crate) fn clear(&self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

fn bar(length: u64, template: &str) -> ProgressBar {
    // The templates are constants of this file; should one not parse, the default bar does.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}

/// Brings the weights of a backbone onto this machine: a line at the start and whenever the connection breaks, and a bar
/// where stderr is a terminal.
pub(crate) fn fetch(entry: &Entry) -> Result<Option<PathBuf>> {
    let shown: OnceLock<(ProgressBar, u64)> = OnceLock::new();
    let report = |event: Event| match event {
        Event::Waiting(lock) => {
            eprintln!(
                "waiting for another process that is fetching the same file (it holds {})",
                lock.display()
            );
        }
        Event::Start { url, folder, bytes, present } => {
            let rest =
                if present > 0 { format!(", {} of it here", DecimalBytes(present)) } else { String::new() };
            eprintln!("fetching {url} ({}{rest}) into {}", DecimalBytes(bytes), folder.display());
            let bar = bar(
                bytes,
                "{bar:40} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left",
            );
            bar.set_position(present);
            bar.reset_eta();
            let _ = shown.set((bar, bytes));
        }
        Event::At(at) => {
            if let Some((bar, _)) = shown.get() {
                bar.set_position(at);
            }
        }
        Event::Broken { why, at } => {
            if let Some((bar, bytes)) = shown.get() {
                let (at, bytes) = (DecimalBytes(at), DecimalBytes(*bytes));
                bar.suspend(|| eprintln!("the connection broke at {at} of {bytes} ({why}); trying again"));
            }
        }
        _ => {}
    };
    let path = backbone::fetch(entry, &Watch { stop: &STOP, report: &report });
    if let Some((bar, _)) = shown.get() {
        bar.finish_and_clear();
    }
    path
}
