//! Bringing the contents over, in as many attempts as it takes, and checking them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::cache::unwritable;
use super::http::{self, Answer, Client};
use super::remote::Remote;
use super::{Event, Hub, HubFile, Watch};
use crate::{Error, ErrorKind, Result};

/// How often in a row a connection may break, or a server be busy, without a single byte having come.
pub(super) const ATTEMPTS: u32 = 5;

const BUFFER_BYTES: usize = 256 << 10;

/// What has come so far, on the disk, and its checksum.
struct Part {
    path: PathBuf,
    file: File,
    sha256: Sha256,
    at: u64,
    /// Whether it was put together from pieces, of which an earlier one may be to blame for a wrong sum.
    is_pieced: bool,
}

impl Part {
    /// Opens what an earlier attempt has left, or begins.
    fn open(path: &Path, bytes: u64) -> Result<Part> {
        let failed = |e| unwritable(path, "this file of the cache cannot be written", e);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut part = Part {
            path: path.to_owned(),
            file: file.map_err(failed)?,
            sha256: Sha256::new(),
            at: 0,
            is_pieced: false,
        };
        let present = part.file.metadata().map_err(failed)?.len();
        if present > bytes {
            part.file.set_len(0).map_err(failed)?;
        } else {
            part.at = digest(&mut (&part.file).take(present), &mut part.sha256).map_err(failed)?;
            part.is_pieced = present > 0;
        }
        Ok(part)
    }

    fn failed(&self, e: io::Error) -> Error {
        unwritable(&self.path, "this file of the cache cannot be written", e)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| self.failed(e))?;
        self.sha256.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        if self.at > 0 {
            self.file.set_len(0).map_err(|e| self.failed(e))?;
            self.file.seek(SeekFrom::Start(0)).map_err(|e| self.failed(e))?;
        }
        (self.sha256, self.at, self.is_pieced) = (Sha256::new(), 0, false);
        Ok(())
    }
}

/// How one attempt ended that did not end in an error.
enum Ended {
    /// The answer is over, though no part of it is missing.
    Early,
    /// Something that another attempt may get around.
    Broken(String),
    /// The server is busy, and may have said for how long.
    Busy(http::Failure),
}

impl Hub {
    /// Fetches the contents into `incomplete`, gone on from where that ends, whole, checked and on the disk.
    pub(super) fn transfer(
        &self,
        client: &Client,
        file: &HubFile,
        remote: &Remote,
        incomplete: &Path,
        watch: &Watch,
    ) -> Result<()> {
        let mut part = Part::open(incomplete, remote.bytes)?;
        let url = http::url(&self.endpoint, file, file.revision);
        (watch.report)(Event::Start {
            url: &url,
            folder: self.folder(),
            bytes: remote.bytes,
            present: part.at,
        });
        let filled = self.fill(client, file, remote, &mut part, watch);
        if filled.is_err() && part.at == 0 {
            // Nothing in it to go on from; nothing looks for a file of this name.
            let _ = std::fs::remove_file(incomplete);
        }
        filled
    }

    fn fill(
        &self,
        client: &Client,
        file: &HubFile,
        remote: &Remote,
        part: &mut Part,
        watch: &Watch,
    ) -> Result<()> {
        let wanted = file.sha256.or(remote.sha256.as_deref());
        let mut in_vain = 0;
        let mut is_second = false;
        loop {
            if part.at == remote.bytes {
                let found = hex(&part.sha256);
                let Some(expected) = wanted.filter(|&expected| expected != found) else {
                    return part.file.sync_all().map_err(|e| part.failed(e));
                };
                let is_pieced = part.is_pieced;
                part.restart()?;
                if is_second || !is_pieced {
                    return Err(wrong_bytes(file, expected, &found));
                }
                // The pieces may be to blame, rather than the file.
                is_second = true;
            }
            watch.check(file)?;
            let before = part.at;
            let ended = self.attempt(client, file, remote, part, watch)?;
            if part.at == remote.bytes {
                continue;
            }
            in_vain = if part.at > before { 0 } else { in_vain + 1 };
            let (why, wait) = match ended {
                Ended::Early => ("the answer ended early".to_owned(), self.pause),
                Ended::Broken(why) => (why, self.pause * 2u32.pow(in_vain.min(4))),
                Ended::Busy(failure) if in_vain == ATTEMPTS => {
                    return Err(self.explain(client, file, failure));
                }
                Ended::Busy(failure) => (failure.to_string(), self.wait(in_vain, &failure)),
            };
            if in_vain == ATTEMPTS {
                let problem = format!("the connection broke {ATTEMPTS} times in a row without a byte coming");
                let kept = "What came is kept: run the same command again to go on from there, ";
                return Err(Error::new(ErrorKind::Network, file.name(), problem)
                    .expected(format!("{} bytes", remote.bytes), part.at)
                    .source(why)
                    .remedy(self.bring(file, if part.at > 0 { kept } else { "" })));
            }
            (watch.report)(Event::Broken { why: &why, at: part.at });
            watch.pause(file, wait)?;
        }
    }

    /// One request, and as much of its answer as comes.
    fn attempt(
        &self,
        client: &Client,
        file: &HubFile,
        remote: &Remote,
        part: &mut Part,
        watch: &Watch,
    ) -> Result<Ended> {
        let answer = match client.get(file, &remote.commit, part.at) {
            Ok(answer) => answer,
            Err(http::Failure::Unreachable { why, host }) => {
                return Ok(Ended::Broken(format!("{host}: {why}")));
            }
            Err(failure) => return Err(self.explain(client, file, failure)),
        };
        match answer.status() {
            206 if part.at > 0 => self.check_range(file, remote, &answer, part.at)?,
            200 | 416 if part.at > 0 => {
                // Either it cannot send a part, or it has less than was here: from the beginning.
                part.restart()?;
                (watch.report)(Event::At(0));
                if answer.status() == 416 {
                    return Ok(Ended::Broken("the server has not the part that was asked for".into()));
                }
            }
            200 => {}
            _ => {
                let failure = answer.refused();
                if failure.is_passing() {
                    return Ok(Ended::Busy(failure));
                }
                return Err(self.explain(client, file, failure));
            }
        }
        if answer.status() == 200 {
            let announced: Option<u64> = answer.header("content-length").and_then(|n| n.parse().ok());
            if let Some(announced) = announced.filter(|&n| n != remote.bytes) {
                return Err(self.wrong_length(file, remote, &answer.host(), announced));
            }
        } else {
            part.is_pieced = true;
        }
        let host = answer.host();
        let mut body = answer.response.into_body().into_reader();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            watch.check(file)?;
            let n = match http::read(&mut body, &mut buffer) {
                Ok(0) => return Ok(Ended::Early),
                Ok(n) => n,
                Err(why) => return Ok(Ended::Broken(why)),
            };
            if part.at + n as u64 > remote.bytes {
                part.restart()?;
                return Err(self.wrong_length(file, remote, &host, "more"));
            }
            part.append(&buffer[..n])?;
            (watch.report)(Event::At(part.at));
        }
    }

    /// Whether a partial answer is the part that was asked for.
    fn check_range(&self, file: &HubFile, remote: &Remote, answer: &Answer, from: u64) -> Result<()> {
        let expected = format!("bytes {from}-{}/{}", remote.bytes - 1, remote.bytes);
        let found = answer.header("content-range").unwrap_or("none");
        if found == expected {
            return Ok(());
        }
        let problem = format!("{} sends another part than the one asked for", answer.host());
        Err(Error::new(ErrorKind::Network, file.name(), problem)
            .expected(format!("content-range {expected}"), found.escape_debug())
            .remedy(self.bring(file, "")))
    }

    fn wrong_length(
        &self,
        file: &HubFile,
        remote: &Remote,
        host: &str,
        found: impl std::fmt::Display,
    ) -> Error {
        let problem = format!("{host} sends a file of another length than the hub says");
        Error::new(ErrorKind::Network, file.name(), problem)
            .expected(format!("{} bytes", remote.bytes), found)
            .remedy(self.bring(file, "Nothing was kept. Try again, "))
    }
}

fn wrong_bytes(file: &HubFile, expected: &str, found: &str) -> Error {
    Error::new(ErrorKind::Format, file.name(), "the bytes that came are not those of the file")
        .expected(format!("SHA-256 {expected}"), found)
        .remedy(
            "Nothing was kept. Run the same command again; if it happens again, a proxy or a mirror \
             (HF_ENDPOINT) changes the file",
        )
}

/// Reads to the end, into `sha256`. Bytes read.
pub(super) fn digest(reader: &mut impl Read, sha256: &mut Sha256) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut bytes = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(n) => {
                sha256.update(&buffer[..n]);
                bytes += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

pub(super) fn hex(sha256: &Sha256) -> String {
    sha256.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
