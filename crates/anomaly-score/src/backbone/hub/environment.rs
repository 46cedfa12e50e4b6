//! What the environment says of the hub: where, with which token, where its files are kept, and whether to ask at all.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use ureq::http::Uri;

use super::http::{self, Access};
use crate::{Error, ErrorKind, Result};

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// All that are read.
const NAMES: [&str; 14] = [
    "HF_HOME",
    "XDG_CACHE_HOME",
    "HF_HUB_CACHE",
    // The name of the one above before huggingface_hub 0.14.
    "HUGGINGFACE_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_ENDPOINT",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN_PATH",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN",
    "HF_HUB_ETAG_TIMEOUT",
    "HF_HUB_DOWNLOAD_TIMEOUT",
    "SSL_CERT_FILE",
];

/// The variables' values. One that is empty counts as unset.
pub(super) struct Variables(HashMap<&'static str, OsString>);

impl Variables {
    /// This process's.
    pub(super) fn of_process() -> Variables {
        Variables::new(NAMES.iter().filter_map(|&name| Some((name, std::env::var_os(name)?))))
    }

    pub(super) fn new(values: impl IntoIterator<Item = (&'static str, OsString)>) -> Variables {
        Variables(values.into_iter().filter(|(_, value)| !value.is_empty()).collect())
    }

    fn text(&self, name: &str) -> Result<Option<&str>> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        value.to_str().map(Some).ok_or_else(|| unfit(name, "text", "bytes that are none"))
    }

    /// A path, in which a leading `~` is the home directory.
    fn path(&self, name: &str) -> Result<Option<PathBuf>> {
        let Some(path) = self.0.get(name).map(PathBuf::from) else { return Ok(None) };
        match path.strip_prefix("~") {
            Ok(rest) => Ok(Some(home()?.join(rest))),
            Err(_) => Ok(Some(path)),
        }
    }

    fn is_true(&self, name: &str) -> bool {
        let value = self.0.get(name).and_then(|value| value.to_str()).unwrap_or_default();
        ["1", "on", "yes", "true"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
    }

    fn seconds(&self, name: &str) -> Result<Duration> {
        let Some(text) = self.text(name)? else { return Ok(DEFAULT_TIMEOUT) };
        match text.trim().parse::<u32>() {
            Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds.into())),
            _ => Err(unfit(name, "seconds, a whole number above 0", text)),
        }
    }

    fn hf_home(&self) -> Result<PathBuf> {
        if let Some(path) = self.path("HF_HOME")? {
            return Ok(path);
        }
        match self.path("XDG_CACHE_HOME")? {
            Some(path) => Ok(path.join("huggingface")),
            None => Ok(home()?.join(".cache").join("huggingface")),
        }
    }

    /// The folder of the cache.
    pub(super) fn cache(&self) -> Result<PathBuf> {
        for name in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"] {
            if let Some(path) = self.path(name)? {
                // A relative path would end up in the messages, where it says little.
                return Ok(std::path::absolute(&path).unwrap_or(path));
            }
        }
        let path = self.hf_home()?.join("hub");
        Ok(std::path::absolute(&path).unwrap_or(path))
    }

    /// The variable that forbids the network.
    pub(super) fn offline(&self) -> Option<&'static str> {
        ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find(|name| self.is_true(name))
    }

    pub(super) fn endpoint(&self) -> Result<Uri> {
        let text = self.text("HF_ENDPOINT")?.unwrap_or(DEFAULT_ENDPOINT);
        http::endpoint(text)
            .ok_or_else(|| unfit("HF_ENDPOINT", "the address of a hub, such as https://huggingface.co", text))
    }

    /// What only a fetch needs, and only a fetch fails for.
    pub(super) fn access(&self) -> Result<Access> {
        let certificates = match self.path("SSL_CERT_FILE")? {
            None => None,
            Some(path) => match std::fs::read(&path) {
                Ok(pem) => Some((path, pem)),
                Err(e) => {
                    let problem = "SSL_CERT_FILE names it, and it cannot be read";
                    return Err(Error::new(ErrorKind::Io, path.display().to_string(), problem)
                        .source(e)
                        .remedy(
                            "Set it to a file of PEM certificates, or unset it to use the program's own",
                        ));
                }
            },
        };
        Ok(Access {
            token: self.token()?,
            ask_timeout: self.seconds("HF_HUB_ETAG_TIMEOUT")?,
            read_timeout: self.seconds("HF_HUB_DOWNLOAD_TIMEOUT")?,
            certificates,
        })
    }

    /// The token of the environment, or else the one that `hf auth login` left.
    fn token(&self) -> Result<Option<String>> {
        if self.is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            return Ok(None);
        }
        for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
            if let Some(text) = self.text(name)? {
                return clean(name, text);
            }
        }
        let path = match self.path("HF_TOKEN_PATH")? {
            Some(path) => path,
            None => self.hf_home()?.join("token"),
        };
        let name = path.display().to_string();
        match std::fs::read_to_string(&path) {
            Ok(text) => clean(&name, &text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => {
                let problem = "the file with the token for the Hugging Face hub cannot be read";
                Err(Error::new(ErrorKind::Io, name, problem)
                    .source(e)
                    .remedy("Make it readable, or set HF_TOKEN"))
            }
        }
    }
}

fn unfit(name: &str, expected: &str, found: &str) -> Error {
    Error::new(ErrorKind::InvalidOption, name, "this environment variable has a value that means nothing")
        .expected(expected, found)
        .remedy("Unset it, or set it to what is expected")
}

fn home() -> Result<PathBuf> {
    etcetera::home_dir().map_err(|e| {
        let cache = "the cache of the Hugging Face hub";
        Error::new(ErrorKind::Unsupported, cache, "there is no home directory for it")
            .source(e)
            .remedy("Set HF_HOME to a folder, or give the file with --weights")
    })
}

/// A token without the white space around it. What is wrong with one is said without showing it.
fn clean(place: &str, text: &str) -> Result<Option<String>> {
    let token = text.trim();
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Error::new(
            ErrorKind::InvalidOption,
            place,
            "the token has characters that no token has",
        )
        .expected("printable ASCII without spaces", "others"));
    }
    Ok(Some(token.to_owned()).filter(|token| !token.is_empty()))
}
