//! What the environment says of the hub: where, with which token, where its files are kept, and whether to ask at all.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::http;
use crate::{Error, ErrorKind, Result};

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The settings, complete.
pub(super) struct Settings {
    /// The folder of the cache.
    pub(super) cache: PathBuf,
    /// The variable that forbids the network.
    pub(super) offline: Option<&'static str>,
    pub(super) http: http::Settings,
}

/// Reads variables; one that is empty counts as unset.
struct Variables<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl Variables<'_> {
    fn raw(&self, name: &str) -> Option<OsString> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn text(&self, name: &str) -> Result<Option<String>> {
        self.raw(name)
            .map(|value| value.into_string().map_err(|_| unfit(name, "text", "bytes that are none")))
            .transpose()
    }

    /// A path, in which a leading `~` is the home directory.
    fn path(&self, name: &str) -> Result<Option<PathBuf>> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        let path = PathBuf::from(value);
        match path.strip_prefix("~") {
            Ok(rest) => Ok(Some(home()?.join(rest))),
            Err(_) => Ok(Some(path)),
        }
    }

    fn is_true(&self, name: &str) -> bool {
        let value = self.raw(name).and_then(|value| value.into_string().ok()).unwrap_or_default();
        ["1", "on", "yes", "true"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
    }

    fn seconds(&self, name: &str) -> Result<Duration> {
        let Some(text) = self.text(name)? else { return Ok(DEFAULT_TIMEOUT) };
        match text.trim().parse::<u32>() {
            Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds.into())),
            _ => Err(unfit(name, "seconds, a whole number above 0", &text)),
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
        Error::new(
            ErrorKind::Unsupported,
            "the cache of the Hugging Face hub",
            "there is no home directory for it",
        )
        .source(e)
        .remedy("Set HF_HOME to a folder, or give the file with --weights")
    })
}

impl Settings {
    pub(super) fn read(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Settings> {
        let variables = Variables(variable);
        let hf_home = match variables.path("HF_HOME")? {
            Some(path) => path,
            None => match variables.path("XDG_CACHE_HOME")? {
                Some(path) => path.join("huggingface"),
                None => home()?.join(".cache").join("huggingface"),
            },
        };
        let cache = match variables.path("HF_HUB_CACHE")? {
            Some(path) => path,
            // The name of the variable before huggingface_hub 0.14.
            None => variables.path("HUGGINGFACE_HUB_CACHE")?.unwrap_or_else(|| hf_home.join("hub")),
        };
        // A relative path would otherwise end up in the messages, where it says little.
        let cache = std::path::absolute(&cache).unwrap_or(cache);
        let offline =
            ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find(|name| variables.is_true(name));
        let endpoint = variables.text("HF_ENDPOINT")?.unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let certificates = match variables.path("SSL_CERT_FILE")? {
            Some(path) => Some(std::fs::read(&path).map(|pem| (path.clone(), pem)).map_err(|e| {
                Error::new(
                    ErrorKind::Io,
                    path.display().to_string(),
                    "SSL_CERT_FILE names it, and it cannot be read",
                )
                .source(e)
            })?),
            None => None,
        };
        Ok(Settings {
            cache,
            offline,
            http: http::Settings {
                endpoint: http::endpoint(&endpoint).ok_or_else(|| {
                    unfit("HF_ENDPOINT", "the address of a hub, such as https://huggingface.co", &endpoint)
                })?,
                token: token(&variables, &hf_home)?,
                ask_timeout: variables.seconds("HF_HUB_ETAG_TIMEOUT")?,
                read_timeout: variables.seconds("HF_HUB_DOWNLOAD_TIMEOUT")?,
                certificates,
            },
        })
    }
}

/// The token of the environment, or else the one that `hf auth login` left.
fn token(variables: &Variables, hf_home: &std::path::Path) -> Result<Option<String>> {
    if variables.is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return Ok(None);
    }
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(text) = variables.text(name)? {
            return clean(name, &text);
        }
    }
    let path = variables.path("HF_TOKEN_PATH")?.unwrap_or_else(|| hf_home.join("token"));
    match std::fs::read_to_string(&path) {
        Ok(text) => clean(&path.display().to_string(), &text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::new(
            ErrorKind::Io,
            path.display().to_string(),
            "the file with the token for the Hugging Face hub cannot be read",
        )
        .source(e)
        .remedy("Make it readable, or set HF_TOKEN")),
    }
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
