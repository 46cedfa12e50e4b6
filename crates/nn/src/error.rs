//! The one error of this crate: what was looked at, what was expected and found, what to do.

use std::fmt;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, for callers that decide by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused a read or a write.
    Io,
    /// A file is damaged, cut off, or not of the format it claims.
    Format,
    /// A file is sound but uses something outside what is supported (a pickle global, a dtype, an op).
    Unsupported,
    /// A network needs a tensor that the weights do not hold.
    MissingTensor,
    /// The weights hold a tensor that the network neither uses nor lists as ignorable.
    UnusedTensor,
    /// A tensor or an input has the wrong shape.
    ShapeMismatch,
    /// A layer has no meaningful second derivative, so no jet can pass it.
    NoSecondDerivative,
    /// A network was asked to be read at a layer it does not name.
    UnknownLayer,
}

/// An error of the engine. Its text says what was found, what was expected, where, and what to do.
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
    /// An error about `subject` (a file, a tensor, a layer), with `problem` in words.
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

    /// The file, tensor or layer concerned.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_subject_expectation_and_remedy() {
        let e = Error::new(ErrorKind::ShapeMismatch, "blocks.0.attn.qkv.weight", "wrong shape")
            .expected("[1152, 384]", "[2304, 768]")
            .remedy("These weights belong to another network; choose it with --backbone");
        assert_eq!(
            e.to_string(),
            "blocks.0.attn.qkv.weight: wrong shape; expected [1152, 384], found [2304, 768]. \
             These weights belong to another network; choose it with --backbone"
        );
    }
}
