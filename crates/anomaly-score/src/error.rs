//! The one error of this library: what was looked at, what was expected and found, what to do.

use std::fmt;

/// Result of this library.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, for callers that decide by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused a read or a write.
    Io,
    /// A server cannot be reached, refuses, or answers something else than it was asked.
    Network,
    /// A file is damaged, cut off, or not of the format it claims.
    Format,
    /// A file is sound but uses something outside what is supported.
    Unsupported,
    /// An image source holds no image, or fewer than the question needs.
    TooFewImages,
    /// Features of different lengths, or of none.
    DimensionMismatch,
    /// An option's value is outside its range, or two options contradict each other.
    InvalidOption,
    /// Two tables or a table and a run were not measured in the same way.
    SettingsMismatch,
    /// The engine's own error: weights, shapes, a layer without a second derivative.
    Engine(nn::ErrorKind),
    /// The user stopped the run.
    Interrupted,
}

/// An error of this library. Its text says what was found, what was expected, where, and what to do.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    subject: String,
    problem: String,
    expected: Option<String>,
    found: Option<String>,
    remedy: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error about `subject` (a file, an option, a set), with `problem` in words.
    pub fn new(kind: ErrorKind, subject: impl Into<String>, problem: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            subject: subject.into(),
            problem: problem.into(),
            expected: None,
            found: None,
            remedy: None,
            source: None,
        }))
    }

    /// Adds what was expected and what was found instead.
    pub fn expected(mut self, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        self.0.expected = Some(expected.to_string());
        self.0.found = Some(found.to_string());
        self
    }

    /// Adds what the user can do.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// Keeps the error underneath.
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file, option or set concerned.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &*self.0;
        write!(f, "{}: {}", e.subject, e.problem)?;
        if let (Some(expected), Some(found)) = (&e.expected, &e.found) {
            write!(f, "; expected {expected}, found {found}")?;
        }
        if let Some(source) = &e.source {
            write!(f, " ({source})")?;
        }
        if let Some(remedy) = &e.remedy {
            write!(f, ". {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

impl From<nn::Error> for Error {
    fn from(e: nn::Error) -> Self {
        let (kind, subject) = (ErrorKind::Engine(e.kind()), e.subject().to_owned());
        let text = e.to_string();
        // The engine's text already opens with its subject.
        let problem = text.strip_prefix(&format!("{subject}: ")).unwrap_or(&text).to_owned();
        Error::new(kind, subject, problem)
    }
}
