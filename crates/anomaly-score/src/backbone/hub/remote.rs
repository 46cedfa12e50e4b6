//! What the hub says of a file before sending it.

use super::http::Answer;

/// The file as the hub describes it.
#[derive(Debug)]
pub(super) struct Remote {
    /// The commit the revision means now.
    pub(super) commit: String,
    /// Name of the contents, and of their blob in the cache.
    pub(super) etag: String,
    /// Length in bytes.
    pub(super) bytes: u64,
    /// SHA-256 of the contents, in lower-case hexadecimal; the hub knows it of files in its large-file storage.
    pub(super) sha256: Option<String>,
}

/// A header that is missing or cannot be.
pub(super) struct Oddity {
    pub(super) expected: &'static str,
    pub(super) found: String,
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether `text` is the name of a commit.
pub(super) fn is_commit(text: &str) -> bool {
    is_hex(text, 40)
}

impl Remote {
    /// Reads the headers. They become names of files, so only what the hub is known to send is let through.
    pub(super) fn read(answer: &Answer) -> Result<Remote, Oddity> {
        let found = |name: &str, value: Option<&str>| match value {
            Some(value) => format!("{name}: {}", value.escape_debug()),
            None => format!("an answer with status {} without it", answer.status()),
        };
        let commit = answer.header("x-repo-commit");
        let Some(commit) = commit.filter(|c| is_commit(c)) else {
            let expected = "the header x-repo-commit with the 40 digits of a commit";
            return Err(Oddity { expected, found: found("x-repo-commit", commit) });
        };
        let (name, etag) = match answer.header("x-linked-etag") {
            Some(etag) => ("x-linked-etag", Some(etag)),
            // Of a redirect, `etag` would be the redirect's own.
            None => ("etag", answer.header("etag").filter(|_| !answer.is_redirect())),
        };
        let bare = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
        let Some(bare) = bare.filter(|e| is_hex(e, 40) || is_hex(e, 64)) else {
            let expected = "a header x-linked-etag or etag with 64 or 40 hexadecimal digits";
            return Err(Oddity { expected, found: found(name, etag) });
        };
        let (name, length) = match answer.header("x-linked-size") {
            Some(length) => ("x-linked-size", Some(length)),
            None => ("content-length", answer.header("content-length").filter(|_| !answer.is_redirect())),
        };
        let Some(bytes) = length.and_then(|length| length.parse().ok()) else {
            let expected = "the file's length in a header x-linked-size or content-length";
            return Err(Oddity { expected, found: found(name, length) });
        };
        Ok(Remote {
            commit: commit.to_owned(),
            etag: bare.to_owned(),
            bytes,
            sha256: is_hex(bare, 64).then(|| bare.to_owned()),
        })
    }
}
