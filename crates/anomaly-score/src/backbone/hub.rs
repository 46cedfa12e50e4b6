//! Weights from the Hugging Face hub, kept in its standard cache, where Python programs find them and leave theirs.
//!
//! A file that is in the cache is used without asking the network. Otherwise it is fetched once: its whole length
//! and its SHA-256 are checked before it gets the name under which it is found. What was fetched before a broken
//! connection or an interruption is kept, and gone on from.
//!
//! Source: the environment variables, the layout of the cache, its locks and the headers of the hub are those of
//! the Python package `huggingface_hub` 2.4.0 (`constants.py`, `file_download.py`, `utils/_auth.py`).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::http::Uri;

use crate::{Error, ErrorKind, Result};
use cache::Cache;
use environment::Variables;
use http::{Client, Failure};
use remote::Remote;

mod cache;
mod environment;
mod http;
mod remote;
mod transfer;

#[cfg(test)]
mod tests;

/// One file of a model repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubFile<'a> {
    /// `owner/name`.
    pub repo: &'a str,
    /// A branch, a tag or a commit.
    pub revision: &'a str,
    /// Path within the repository, with `/`.
    pub file: &'a str,
    /// SHA-256 its contents must have, in lower-case hexadecimal; `None` where none is recorded.
    pub sha256: Option<&'a str>,
}

impl HubFile<'_> {
    /// The name messages use: `owner/name/file`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.repo, self.file)
    }
}

/// What a fetch tells whoever waits for it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Another process is fetching the same file, and holds this lock until it is done.
    Waiting(&'a Path),
    /// The transfer begins.
    Start {
        /// Where it comes from.
        url: &'a str,
        /// The folder it goes to.
        folder: &'a Path,
        /// Its whole length.
        bytes: u64,
        /// How much of that an earlier attempt has left here.
        present: u64,
    },
    /// So many bytes of the file are here now.
    At(u64),
    /// The connection broke; it is taken up again after a pause.
    Broken {
        /// What happened, in words.
        why: &'a str,
        /// How many bytes of the file are here.
        at: u64,
    },
}

/// How a fetch is watched and stopped.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Set to true, it ends the fetch with `Interrupted`; what is here is kept.
    pub stop: &'a AtomicBool,
    /// Called from the thread that fetches.
    pub report: &'a dyn Fn(Event<'_>),
}

impl Watch<'_> {
    fn check(&self, file: &HubFile) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Interrupted, file.name(), "the fetch was interrupted")
                .remedy("What was fetched is kept; run the same command again to go on"));
        }
        Ok(())
    }

    /// Sleeps, but not through a stop.
    fn pause(&self, file: &HubFile, mut time: Duration) -> Result<()> {
        const SLICE: Duration = Duration::from_millis(100);
        while !time.is_zero() {
            self.check(file)?;
            let slice = time.min(SLICE);
            std::thread::sleep(slice);
            time -= slice;
        }
        self.check(file)
    }
}

/// The hub as this machine's settings describe it.
pub struct Hub {
    variables: Variables,
    cache: Cache,
    endpoint: Uri,
    /// The environment variable that forbids the network.
    offline: Option<&'static str>,
    /// Before the first new attempt after a broken connection; it doubles with each.
    pause: Duration,
}

impl Hub {
    /// The hub that the environment describes: `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_TOKEN`,
    /// `HF_TOKEN_PATH`, `HF_HUB_ETAG_TIMEOUT`, `HF_HUB_DOWNLOAD_TIMEOUT`, the proxy variables and `SSL_CERT_FILE`.
    ///
    /// # Errors
    /// `InvalidOption` if `HF_ENDPOINT` is no address; `Unsupported` if there is neither a cache named nor a home directory.
    pub fn from_env() -> Result<Hub> {
        Hub::from_variables(Variables::of_process())
    }

    fn from_variables(variables: Variables) -> Result<Hub> {
        Ok(Hub {
            cache: Cache::new(variables.cache()?),
            endpoint: variables.endpoint()?,
            offline: variables.offline(),
            pause: Duration::from_secs(1),
            variables,
        })
    }

    /// The folder of the cache.
    pub fn folder(&self) -> &Path {
        self.cache.folder()
    }

    /// Where the file is on this machine, if it is. Asks no network and writes nothing.
    ///
    /// Its contents are not read: whoever reads them compares with [`check_sha256`].
    pub fn cached(&self, file: &HubFile) -> Option<PathBuf> {
        self.cache.find(file)
    }

    /// Where the file is on this machine, after fetching it if it was not.
    ///
    /// # Errors
    /// `Network` if the hub cannot be reached, refuses, or says what cannot be; `Format` if the bytes it sends are not
    /// those recorded; `InvalidOption` or `Io` if a variable of the environment means nothing or names a file that cannot
    /// be read; `Io` if the cache cannot be written; `Interrupted`. None of these leaves anything where a file is looked for.
    pub fn fetch(&self, file: &HubFile, watch: &Watch) -> Result<PathBuf> {
        if let Some(path) = self.cached(file) {
            return Ok(path);
        }
        if let Some(variable) = self.offline {
            let problem =
                format!("these weights are not on this machine, and {variable} forbids fetching them");
            return Err(
                Error::new(ErrorKind::Network, file.name(), problem).remedy(self.bring(file, "Unset it, "))
            );
        }
        let client = Client::new(&self.endpoint, self.variables.access()?)?;
        let remote = self.remote(&client, file, watch)?;
        self.cache.prepare(file, &remote)?;
        let lock = self.cache.lock(file, &remote.etag, watch)?;
        let blob = self.cache.blob(file, &remote.etag);
        // Another repository's commit may have had the same contents, or another process fetched them meanwhile.
        if !blob.is_file() {
            let incomplete = self.cache.incomplete(&blob, lock.is_some());
            let fetched = self.transfer(&client, file, &remote, &incomplete, watch);
            if lock.is_none() && fetched.is_err() {
                let _ = std::fs::remove_file(&incomplete);
            }
            fetched?;
            self.cache.keep(&incomplete, &blob)?;
        }
        self.cache.link(file, &remote)
    }

    /// The error of whoever needs the file of the backbone `name` and does not fetch.
    pub(super) fn missing(&self, file: &HubFile, name: &str) -> Error {
        Error::new(ErrorKind::InvalidOption, file.name(), "these weights are not on this machine")
            .remedy(self.bring(file, &format!("Run `anomaly-score backbones fetch {name}`, ")))
    }

    /// What the hub says of the file, and whether that is the one that is wanted.
    fn remote(&self, client: &Client, file: &HubFile, watch: &Watch) -> Result<Remote> {
        let mut attempt = 0;
        let answer = loop {
            watch.check(file)?;
            match client.head(file) {
                Err(failure) if failure.is_passing() && attempt < transfer::ATTEMPTS => {
                    watch.pause(file, self.wait(attempt, &failure))?;
                    attempt += 1;
                }
                answer => break answer.map_err(|failure| self.explain(client, file, failure))?,
            }
        };
        let remote = Remote::read(&answer).map_err(|oddity| {
            Error::new(ErrorKind::Network, file.name(), format!("{} answers unlike a hub", answer.host()))
                .expected(oddity.expected, oddity.found)
                .remedy(self.bring(file, "Check HF_ENDPOINT and any proxy, "))
        })?;
        match (file.sha256, &remote.sha256) {
            (Some(recorded), Some(found)) if recorded != found => Err(Error::new(
                ErrorKind::Format,
                file.name(),
                format!("{} holds another file than the one recorded", answer.host()),
            )
            .expected(format!("SHA-256 {recorded}"), found)
            .remedy("Nothing was fetched. To use that file all the same, fetch it yourself and give it with --weights")),
            _ => Ok(remote),
        }
    }

    /// The pause before another attempt.
    fn wait(&self, attempt: u32, failure: &Failure) -> Duration {
        let own = self.pause * 2u32.pow(attempt.min(4));
        failure.retry_after().map_or(own, |asked| asked.min(Duration::from_secs(60)).max(own))
    }

    /// What to do without the network: which file to bring, and where to put it. Begins with `else`, what to do with it.
    fn bring(&self, file: &HubFile, before: &str) -> String {
        let checksum = file.sha256.map_or(String::new(), |sha256| format!(" (SHA-256 {sha256})"));
        let (give, or) = if before.is_empty() { ("Give", "") } else { ("give", "or ") };
        format!(
            "{before}{or}{give} the file with --weights FILE, or put it at {}; it is {}{checksum}",
            self.cache.place(file).display(),
            http::url(&self.endpoint, file, file.revision),
        )
    }

    /// A refusal in words.
    fn explain(&self, client: &Client, file: &HubFile, failure: Failure) -> Error {
        let endpoint = self.endpoint.to_string();
        let endpoint = endpoint.trim_end_matches('/');
        let token = if client.has_token() {
            "The token that HF_TOKEN or `hf auth login` gave was refused: check it, "
        } else {
            "Set HF_TOKEN to a token of an account that has access, "
        };
        let (problem, remedy) = match &failure {
            Failure::Unreachable { host, .. } => (
                format!("these weights are not on this machine, and {host} cannot be reached"),
                self.bring(file, ""),
            ),
            Failure::Odd { host, .. } => (
                format!("{host} answers unlike a hub"),
                self.bring(file, "Check HF_ENDPOINT and any proxy, "),
            ),
            Failure::Refused { host, status, code, .. } => {
                let repo = file.repo;
                let (problem, first) = match (status, code.as_deref()) {
                    (_, Some("GatedRepo")) => {
                        let ask = format!("Ask for access at {endpoint}/{repo} and set HF_TOKEN, ");
                        (format!("{repo} is open only to those whom its owners let in"), ask)
                    }
                    (_, Some("RepoNotFound")) => (
                        format!("{host} has no repository {repo}, or shows it only to those who may see it"),
                        token.to_owned(),
                    ),
                    (_, Some("RevisionNotFound")) => {
                        (format!("{repo} has no revision {}", file.revision), String::new())
                    }
                    (_, Some("EntryNotFound")) => (
                        format!("{repo} has no file {} at revision {}", file.file, file.revision),
                        String::new(),
                    ),
                    (401 | 403, _) => (format!("{host} refuses access"), token.to_owned()),
                    (404, _) => (format!("{host} has no such file"), "Check HF_ENDPOINT, ".to_owned()),
                    (408 | 429 | 500.., _) => {
                        (format!("{host} cannot answer now"), "Try again later, ".to_owned())
                    }
                    _ => (
                        format!("{host} answers unlike a hub"),
                        "Check HF_ENDPOINT and any proxy, ".to_owned(),
                    ),
                };
                (problem, self.bring(file, &first))
            }
        };
        Error::new(ErrorKind::Network, file.name(), problem).source(failure).remedy(remedy)
    }
}

/// SHA-256 of a file, in lower-case hexadecimal.
///
/// # Errors
/// `Io` if it cannot be read.
pub fn sha256_of(path: &Path) -> Result<String> {
    let failed = |e| crate::table::io_error(path, "cannot be read", e);
    let mut sha256 = Sha256::new();
    transfer::digest(&mut File::open(path).map_err(failed)?, &mut sha256).map_err(failed)?;
    Ok(transfer::hex(&sha256))
}

/// Compares the SHA-256 of a file of the cache with what is recorded for it, and with the name of its blob.
///
/// # Errors
/// `Format`, with both, if they differ.
pub fn check_sha256(file: &HubFile, path: &Path, sha256: &str) -> Result<()> {
    let is_sha256 = |name: &str| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
    // A blob of the cache is named after its contents where the hub knows their SHA-256.
    let blob = std::fs::canonicalize(path).ok();
    let blob_name = blob.as_ref().and_then(|p| p.file_name()?.to_str()).filter(|name| is_sha256(name));
    match file.sha256.or(blob_name) {
        Some(expected) if expected != sha256 => {
            let whole = blob.as_deref().unwrap_or(path).display();
            Err(Error::new(
                ErrorKind::Format,
                path.display().to_string(),
                format!("is not the file recorded for {}", file.name()),
            )
            .expected(format!("SHA-256 {expected}"), sha256)
            .remedy(format!("Delete {whole} to have it fetched again, or give --weights to use it as it is")))
        }
        _ => Ok(()),
    }
}
