//! Where results go: stdout, a device or pipe, or a file that is whole or not there.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use anomaly_score::report::write_text;
use anomaly_score::table::check_writable;
use anyhow::{Context, Result, bail};

/// Prints to stdout. A reader that has seen enough (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("stdout cannot be written"),
    }
}

/// Where a text asked for by an option (`--json`, `--csv`, …) is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextOutput<'a> {
    /// `-`, or stdout by one of its names.
    Stdout,
    /// A device, a pipe, or another open file of this process: written as it comes, never replaced.
    Stream(&'a Path),
    /// A file, replaced once the new one is complete.
    File(&'a Path),
}

impl<'a> TextOutput<'a> {
    pub(crate) fn of(path: &'a Path) -> Self {
        if is_stdout(path) {
            TextOutput::Stdout
        } else if is_open_file(path) || fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir()) {
            TextOutput::Stream(path)
        } else {
            TextOutput::File(path)
        }
    }

    /// What can be known before hours of measuring.
    pub(crate) fn check(self) -> Result<()> {
        match self {
            TextOutput::Stdout => Ok(()),
            TextOutput::Stream(path) if is_pipe(path) => Ok(()), // Opening one would wait for its reader.
            TextOutput::Stream(path) => open_stream(path).map(drop),
            TextOutput::File(path) => Ok(check_writable(path)?),
        }
    }

    pub(crate) fn write(self, text: &str) -> Result<()> {
        match self {
            TextOutput::Stdout => print(text),
            TextOutput::Stream(path) => match open_stream(path)?.write_all(text.as_bytes()) {
                Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
                other => other.with_context(|| cannot_write(path)),
            },
            TextOutput::File(path) => Ok(write_text(path, text)?),
        }
    }
}

/// Refuses stdout for what has to be a file, before a file called `-` is made or the shell's own is replaced.
pub(crate) fn require_file(path: &Path, what: &str) -> Result<()> {
    if is_stdout(path) || is_open_file(path) {
        bail!("{}: {what} cannot be written to a stream; name a file", path.display());
    }
    Ok(check_writable(path)?)
}

fn is_stdout(path: &Path) -> bool {
    ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| path == Path::new(name))
}

/// Such a name may lead to a regular file, which belongs to whoever opened it.
fn is_open_file(path: &Path) -> bool {
    path == Path::new("/dev/stderr")
        || path.parent().is_some_and(|f| f == Path::new("/dev/fd") || f == Path::new("/proc/self/fd"))
}

fn is_pipe(path: &Path) -> bool {
    #[cfg(unix)]
    let is_pipe = |m: fs::Metadata| std::os::unix::fs::FileTypeExt::is_fifo(&m.file_type());
    #[cfg(not(unix))]
    let is_pipe = |_| false;
    fs::metadata(path).is_ok_and(is_pipe)
}

fn open_stream(path: &Path) -> Result<File> {
    // Appending: what stands in a redirected file already is not this program's.
    File::options().append(true).open(path).with_context(|| cannot_write(path))
}

fn cannot_write(path: &Path) -> String {
    format!("{}: cannot be written", path.display())
}
