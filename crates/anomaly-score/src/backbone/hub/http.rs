//! Requests to the hub. Redirects are followed here, so that the token goes to the hub alone.
//!
//! rustls with ring: certificates are checked with no library of the system, so that one program runs wherever it
//! is copied to, and ring wants nothing to build but the C compiler that linking needs anyway (native-tls wants
//! OpenSSL's headers, aws-lc wants CMake). Mozilla's roots are compiled in; `SSL_CERT_FILE` replaces them.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use ureq::http::{Response, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use super::HubFile;
use crate::{Error, ErrorKind, Result};

const MOST_REDIRECTS: usize = 10;

/// How the hub is asked.
pub(super) struct Access {
    pub(super) token: Option<String>,
    /// Until an answer begins.
    pub(super) ask_timeout: Duration,
    /// Between two pieces of an answer.
    pub(super) read_timeout: Duration,
    /// Where roots come from, and what is in there.
    pub(super) certificates: Option<(PathBuf, Vec<u8>)>,
}

/// The address of a hub, `None` if it is none.
pub(super) fn endpoint(text: &str) -> Option<Uri> {
    let uri: Uri = text.trim().trim_end_matches('/').parse().ok()?;
    let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
    (is_known && uri.host().is_some_and(|h| !h.is_empty()) && uri.query().is_none()).then_some(uri)
}

/// An answer of the hub or of where it sent us.
pub(super) struct Answer {
    pub(super) response: Response<Body>,
    url: Uri,
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok().map(str::trim).filter(|value| !value.is_empty())
    }

    pub(super) fn host(&self) -> String {
        host(&self.url)
    }

    pub(super) fn is_redirect(&self) -> bool {
        matches!(self.status(), 301 | 302 | 303 | 307 | 308)
    }

    /// The answer as a failure.
    pub(super) fn refused(&self) -> Failure {
        Failure::Refused {
            host: self.host(),
            status: self.status(),
            code: self.header("x-error-code").map(str::to_owned),
            message: self.header("x-error-message").map(short),
            retry_after: self.header("retry-after").and_then(|s| s.parse().ok()).map(Duration::from_secs),
        }
    }
}

/// Why there is nothing to read.
#[derive(Debug)]
pub(super) enum Failure {
    /// There was no answer.
    Unreachable { host: String, why: String },
    /// The answer is a refusal.
    Refused {
        host: String,
        status: u16,
        code: Option<String>,
        message: Option<String>,
        retry_after: Option<Duration>,
    },
    /// The answer leads nowhere.
    Odd { host: String, why: String },
}

impl Failure {
    /// Whether the server itself says that it may be otherwise soon.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Failure::Refused { status: 408 | 429 | 500 | 502 | 503 | 504, .. })
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Failure::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unreachable { why, .. } | Failure::Odd { why, .. } => f.write_str(why),
            Failure::Refused { status, message: None, .. } => write!(f, "HTTP status {status}"),
            Failure::Refused { status, message: Some(message), .. } => {
                write!(f, "HTTP status {status}: {message}")
            }
        }
    }
}

impl std::error::Error for Failure {}

/// A server's own words, fit for a message.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn host(uri: &Uri) -> String {
    uri.authority().map_or_else(String::new, |a| a.as_str().rsplit('@').next().unwrap_or_default().to_owned())
}

/// Scheme, host and port: what a token may be sent to.
fn origin(uri: &Uri) -> (Option<&str>, Option<String>, Option<u16>) {
    let scheme = uri.scheme_str();
    let default = match scheme {
        Some("https") => Some(443),
        Some("http") => Some(80),
        _ => None,
    };
    (scheme, uri.host().map(str::to_ascii_lowercase), uri.port_u16().or(default))
}

/// The address that `location` means in an answer from `base`. `None` if it is none, or would leave encryption.
pub(super) fn next(base: &Uri, location: &str) -> Option<Uri> {
    let scheme = base.scheme_str()?;
    let text = if location.is_empty() {
        return None;
    } else if location.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{}{location}", base.authority()?)
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{}{folder}/{location}", base.authority()?)
    };
    // A fragment is for browsers, and `Uri` has none.
    let text = text.split('#').next()?;
    let uri: Uri = text.parse().ok()?;
    let is_kept = uri.scheme_str() == Some("https") || (uri.scheme_str() == Some("http") && scheme == "http");
    is_kept.then_some(uri)
}

/// `text` as a part of an address; `kept` stand for themselves beside letters, digits and `-._~`.
fn quoted(text: &str, kept: &[u8]) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

/// The address of a file at a revision.
pub(super) fn url(endpoint: &Uri, file: &HubFile, revision: &str) -> String {
    let (repo, revision, path) = (quoted(file.repo, b"/"), quoted(revision, b""), quoted(file.file, b"/"));
    format!("{}/{repo}/resolve/{revision}/{path}", endpoint.to_string().trim_end_matches('/'))
}

/// Asks the hub.
pub(super) struct Client<'a> {
    agent: Agent,
    endpoint: &'a Uri,
    access: Access,
}

impl<'a> Client<'a> {
    pub(super) fn new(endpoint: &'a Uri, access: Access) -> Result<Client<'a>> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("anomaly-score/", env!("CARGO_PKG_VERSION")))
            // A length and a checksum are those of the file as it is.
            .accept_encoding("identity")
            .timeout_resolve(Some(access.ask_timeout))
            .timeout_connect(Some(access.ask_timeout));
        // A server on this machine is reached without the proxy that other machines need.
        let host = endpoint.host().unwrap_or_default();
        let is_loopback = host == "localhost"
            || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if is_loopback {
            config = config.proxy(None);
        }
        if let Some((path, pem)) = &access.certificates {
            let roots: Vec<_> = parse_pem(pem)
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })
                .collect();
            if roots.is_empty() {
                return Err(Error::new(
                    ErrorKind::InvalidOption,
                    path.display().to_string(),
                    "SSL_CERT_FILE names it, and there is no certificate in it",
                )
                .remedy("Set it to a file of PEM certificates, or unset it to use the program's own"));
            }
            let roots: RootCerts = roots.into();
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Ok(Client { agent: config.build().new_agent(), endpoint, access })
    }

    pub(super) fn has_token(&self) -> bool {
        self.access.token.is_some()
    }

    /// What the hub says of a file. An answer that names the commit ends it, even one that leads elsewhere for the contents.
    pub(super) fn head(&self, file: &HubFile) -> std::result::Result<Answer, Failure> {
        let answer = self.follow("HEAD", &url(self.endpoint, file, file.revision), None, |a| {
            a.header("x-repo-commit").is_some()
        })?;
        if answer.response.status().is_success() || answer.is_redirect() {
            return Ok(answer);
        }
        Err(answer.refused())
    }

    /// The contents of a file at a commit, from byte `from` on. The answer may be of any status.
    pub(super) fn get(
        &self,
        file: &HubFile,
        commit: &str,
        from: u64,
    ) -> std::result::Result<Answer, Failure> {
        self.follow("GET", &url(self.endpoint, file, commit), Some(from), |_| false)
    }

    /// Follows redirects up to an answer that is none, or that `ends` accepts.
    fn follow(
        &self,
        method: &str,
        url: &str,
        from: Option<u64>,
        ends: impl Fn(&Answer) -> bool,
    ) -> std::result::Result<Answer, Failure> {
        let mut url: Uri = url.parse().map_err(|e| Failure::Odd {
            host: host(self.endpoint),
            why: format!("{url} is not an address: {e}"),
        })?;
        for _ in 0..=MOST_REDIRECTS {
            let answer = self.send(method, &url, from)?;
            if !answer.is_redirect() || ends(&answer) {
                return Ok(answer);
            }
            let location = answer.header("location").unwrap_or_default();
            url = next(&url, location).ok_or_else(|| Failure::Odd {
                host: answer.host(),
                why: format!("it redirects to `{}`", short(location)),
            })?;
        }
        Err(Failure::Odd { host: host(&url), why: format!("more than {MOST_REDIRECTS} redirects") })
    }

    fn send(&self, method: &str, url: &Uri, from: Option<u64>) -> std::result::Result<Answer, Failure> {
        let request = match method {
            "HEAD" => self.agent.head(url),
            _ => self.agent.get(url),
        };
        let mut request = request
            .config()
            .timeout_recv_response(Some(self.access.ask_timeout))
            .timeout_per_read(Some(self.access.read_timeout.max(self.access.ask_timeout)))
            .build();
        if let Some(from) = from.filter(|&from| from > 0) {
            request = request.header("range", format!("bytes={from}-"));
        }
        if let Some(token) = &self.access.token
            && origin(url) == origin(self.endpoint)
        {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        match request.call() {
            Ok(response) => Ok(Answer { response, url: url.clone() }),
            Err(e) => Err(Failure::Unreachable { host: host(url), why: why(&e) }),
        }
    }
}

/// Why there was no answer, in words.
fn why(e: &ureq::Error) -> String {
    match e {
        ureq::Error::HostNotFound => "its name is not known".to_owned(),
        ureq::Error::Timeout(_) => "it does not answer in time".to_owned(),
        e => short(&e.to_string()),
    }
}

/// Reads up to `buffer` of an answer. What went wrong is said in words.
pub(super) fn read(body: &mut impl Read, buffer: &mut [u8]) -> std::result::Result<usize, String> {
    loop {
        match body.read(buffer) {
            Ok(n) => return Ok(n),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => {
                let timed_out = e.kind() == std::io::ErrorKind::TimedOut
                    || e.get_ref()
                        .and_then(|e| e.downcast_ref::<ureq::Error>())
                        .is_some_and(|e| matches!(e, ureq::Error::Timeout(_)));
                return Err(if timed_out {
                    "nothing more came in time".to_owned()
                } else {
                    short(&e.to_string())
                });
            }
        }
    }
}
