//! Progress on stderr, and Ctrl-C.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anomaly_score::measure::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// Set by the first Ctrl-C.
pub(crate) static STOP: AtomicBool = AtomicBool::new(false);

/// The first Ctrl-C (or SIGTERM) finishes the images under way and saves; the second ends at once.
pub(crate) fn watch_for_interrupts() {
    let installed = ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(crate::INTERRUPTED));
        }
        eprintln!("\nstopping after the images under way; press Ctrl-C again to stop at once");
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
                let style = "{msg:20!} {bar:30} {pos}/{len}  {per_sec}  {eta} left";
                let bar = ProgressBar::new(n as u64).with_message(self.label.clone());
                // The template is a constant of this file; should it not parse, the default bar does.
                let style =
                    ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
                bar.set_style(style);
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
