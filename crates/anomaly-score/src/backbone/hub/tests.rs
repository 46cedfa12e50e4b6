//! Fetching from a server on this machine that tells the truth, lies, breaks off, refuses or says nothing.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use server::{Reply, Request, Server};

mod answers;
mod environment;
mod server;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const RESOLVE: &str = "/facebook/dinov2-small/resolve";
const FILE: HubFile =
    HubFile { repo: "facebook/dinov2-small", revision: "main", file: "model.safetensors", sha256: None };

/// 300,000 bytes: more than one buffer.
fn contents() -> Vec<u8> {
    (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the hub says of the file, which is in its large-file storage.
fn described(bytes: &[u8]) -> Reply {
    Reply::new(302)
        .header("x-repo-commit", COMMIT)
        .header("x-linked-etag", format!("\"{}\"", sha256(bytes)))
        .header("x-linked-size", bytes.len())
        .header("etag", "\"of-the-redirect\"")
        .header("location", format!("{RESOLVE}/{COMMIT}/model.safetensors"))
}

/// The contents from where the request wants them.
fn sent(bytes: &[u8], request: &Request) -> Reply {
    match request.from() {
        0 => Reply::new(200).body(bytes),
        from => Reply::new(206)
            .header("content-range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()))
            .body(&bytes[from..]),
    }
}

/// A hub that describes `contents()` and leaves it to `get` to send them; `get` is told how many times it was asked before.
fn hub_server(get: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Server {
    let asked = AtomicUsize::new(0);
    Server::new(move |request| match request.method.as_str() {
        "HEAD" => {
            assert_eq!(request.path, format!("{RESOLVE}/main/model.safetensors"));
            described(&contents())
        }
        _ => {
            assert_eq!(
                request.path,
                format!("{RESOLVE}/{COMMIT}/model.safetensors"),
                "fetched at its commit"
            );
            get(request, asked.fetch_add(1, Ordering::SeqCst))
        }
    })
}

fn variables(pairs: &[(&'static str, &str)]) -> Variables {
    Variables::new(pairs.iter().map(|&(name, value)| (name, value.into())))
}

/// The hub at `endpoint` with its cache in `home`, without a pause between attempts.
fn hub(home: &Path, endpoint: &str, more: &[(&'static str, &str)]) -> Hub {
    let home = home.to_str().unwrap();
    let mut all = vec![("HF_HOME", home), ("HF_ENDPOINT", endpoint)];
    all.extend([("HF_HUB_ETAG_TIMEOUT", "1"), ("HF_HUB_DOWNLOAD_TIMEOUT", "1")]);
    all.extend(more);
    let hub = Hub::from_variables(variables(&all)).unwrap();
    Hub { pause: Duration::ZERO, ..hub }
}

fn fetch(hub: &Hub, file: &HubFile) -> Result<PathBuf> {
    hub.fetch(file, &Watch { stop: &AtomicBool::new(false), report: &|_| {} })
}

fn repo(home: &TempDir) -> PathBuf {
    home.path().join("hub/models--facebook--dinov2-small")
}

fn incomplete(home: &TempDir) -> PathBuf {
    repo(home).join("blobs").join(format!("{}.incomplete", sha256(&contents())))
}

/// The error, with what differs from run to run replaced.
fn said(error: &Error, home: &TempDir, server: Option<&Server>) -> String {
    let text = error.to_string().replace(&home.path().display().to_string(), "HOME");
    match server {
        Some(server) => text.replace(server.url().trim_start_matches("http://"), "HOST"),
        None => text,
    }
}

/// Nothing that a later look-up could take for the file.
fn assert_nothing_found(home: &TempDir, hub: &Hub, file: &HubFile) {
    assert_eq!(hub.cached(file), None);
    for folder in ["blobs", "snapshots"] {
        for entry in walkdir::WalkDir::new(repo(home).join(folder)).into_iter().flatten() {
            let is_whole =
                !entry.file_type().is_dir() && entry.path().extension().is_none_or(|e| e != "incomplete");
            assert!(!is_whole, "{} was left", entry.path().display());
        }
    }
}

#[test]
fn fetched_once_into_the_layout_that_python_has() {
    let home = TempDir::new().unwrap();
    let server = hub_server(|request, _| sent(&contents(), request));
    let hub = hub(home.path(), &server.url(), &[]);
    assert_eq!(hub.cached(&FILE), None);
    let path = fetch(&hub, &FILE).unwrap();
    assert_eq!(path, repo(&home).join("snapshots").join(COMMIT).join("model.safetensors"));
    assert_eq!(fs::read(&path).unwrap(), contents());
    assert_eq!(fs::read_to_string(repo(&home).join("refs/main")).unwrap(), COMMIT);
    let blob = repo(&home).join("blobs").join(sha256(&contents()));
    assert_eq!(fs::canonicalize(&path).unwrap(), fs::canonicalize(blob).unwrap());
    #[cfg(unix)]
    assert_eq!(fs::read_link(&path).unwrap(), Path::new("../../blobs").join(sha256(&contents())));
    assert!(!incomplete(&home).exists());

    let asked = server.requests().len();
    assert_eq!(asked, 2);
    assert_eq!(fetch(&hub, &FILE).unwrap(), path);
    assert_eq!(server.requests().len(), asked, "a file that is here is asked for again");
    drop(server);
    assert_eq!(fetch(&hub, &FILE).unwrap(), path, "and needs no connection");
}

#[test]
fn files_that_python_left_are_found() {
    let home = TempDir::new().unwrap();
    let bytes = contents();
    let (digest, other) = (sha256(&bytes), "f".repeat(40));
    let blob = repo(&home).join("blobs").join(&digest);
    fs::create_dir_all(blob.parent().unwrap()).unwrap();
    fs::write(&blob, &bytes).unwrap();
    let hub = hub(home.path(), "http://127.0.0.1:1", &[]);
    // Of another revision than the one recorded: the contents decide.
    let pinned = HubFile { revision: COMMIT, sha256: Some(&digest), ..FILE };
    assert_eq!(fetch(&hub, &pinned).unwrap(), blob);
    assert_eq!(hub.cached(&HubFile { sha256: None, ..pinned }), None);
    assert_eq!(hub.cached(&FILE), None);
    // By name, through the note of what the branch was.
    let snapshot = repo(&home).join("snapshots").join(&other);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repo(&home).join("refs")).unwrap();
    fs::write(snapshot.join("model.safetensors"), &bytes).unwrap();
    fs::write(repo(&home).join("refs/main"), &other).unwrap();
    assert_eq!(hub.cached(&FILE), Some(snapshot.join("model.safetensors")));
    // A note that is no commit leads nowhere.
    fs::write(repo(&home).join("refs/main"), "../../..").unwrap();
    assert_eq!(hub.cached(&FILE), None);
    // Put there by hand, as the messages say.
    let place = repo(&home).join("snapshots/main/model.safetensors");
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(&place, &bytes).unwrap();
    assert_eq!(hub.cached(&FILE), Some(place));
}

#[test]
fn contents_that_are_here_are_linked_not_fetched() {
    let home = TempDir::new().unwrap();
    let server = hub_server(|request, _| sent(&contents(), request));
    let hub = hub(home.path(), &server.url(), &[]);
    fetch(&hub, &FILE).unwrap();
    let pointer = repo(&home).join("snapshots").join(COMMIT).join("model.safetensors");
    fs::remove_file(&pointer).unwrap();
    assert_eq!(fetch(&hub, &FILE).unwrap(), pointer);
    assert_eq!(server.requests().iter().filter(|r| r.method == "GET").count(), 1);
    // A link whose blob was deleted.
    fs::remove_file(repo(&home).join("blobs").join(sha256(&contents()))).unwrap();
    assert_eq!(fs::read(fetch(&hub, &FILE).unwrap()).unwrap(), contents());
    assert_eq!(server.requests().iter().filter(|r| r.method == "GET").count(), 2);
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let home = TempDir::new().unwrap();
    let storage = Server::new(|request| sent(&contents(), request));
    let elsewhere = storage.url();
    let server = Server::new(move |request| match request.path.as_str() {
        // A repository that was renamed: one more step on the same host.
        "/facebook/dinov2-small/resolve/main/model.safetensors" => {
            Reply::new(307).header("location", "/facebook/renamed/resolve/main/model.safetensors")
        }
        "/facebook/renamed/resolve/main/model.safetensors" => described(&contents()),
        _ => Reply::new(302).header("location", format!("{elsewhere}/signed?key=1")),
    });
    let hub = hub(home.path(), &server.url(), &[("HF_TOKEN", " hf_secret\n")]);
    assert_eq!(fs::read(fetch(&hub, &FILE).unwrap()).unwrap(), contents());
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    for request in requests {
        assert_eq!(request.header("authorization"), Some("Bearer hf_secret"));
        assert_eq!(request.header("accept-encoding"), Some("identity"));
    }
    let [request] = &storage.requests()[..] else { panic!("one request for the contents") };
    assert_eq!(request.path, "/signed?key=1");
    assert_eq!(request.header("authorization"), None);
}

#[test]
fn a_small_file_outside_the_large_file_storage() {
    let home = TempDir::new().unwrap();
    let etag = "89abcdef0123456789abcdef0123456789abcdef";
    let server = Server::new(move |_| {
        Reply::new(200).header("x-repo-commit", COMMIT).header("etag", format!("W/\"{etag}\"")).body(b"{}")
    });
    let hub = hub(home.path(), &server.url(), &[]);
    let file = HubFile { file: "sub/folder/config.json", revision: COMMIT, ..FILE };
    let path = fetch(&hub, &file).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"{}");
    assert!(path.ends_with(format!("snapshots/{COMMIT}/sub/folder/config.json")));
    #[cfg(unix)]
    assert_eq!(fs::read_link(&path).unwrap(), Path::new("../../../../blobs").join(etag));
    assert!(!repo(&home).join("refs").exists(), "a commit needs no note");
}

#[test]
fn a_broken_connection_is_gone_on_from() {
    let home = TempDir::new().unwrap();
    let server = hub_server(|request, n| {
        let whole = sent(&contents(), request);
        match n {
            0 => whole.cut(100_000),
            1 => whole.cut(0),
            2 => whole.cut(50_000),
            _ => whole,
        }
    });
    let hub = hub(home.path(), &server.url(), &[]);
    let events = Mutex::new(Vec::new());
    let watch = Watch {
        stop: &AtomicBool::new(false),
        report: &|event| match event {
            Event::Broken { at, .. } => events.lock().unwrap().push(at),
            Event::At(at) => assert!(at <= 300_000),
            _ => {}
        },
    };
    let path = hub.fetch(&FILE, &watch).unwrap();
    assert_eq!(fs::read(path).unwrap(), contents());
    let asked: Vec<usize> =
        server.requests().iter().filter(|r| r.method == "GET").map(Request::from).collect();
    assert_eq!(asked, [0, 100_000, 100_000, 150_000]);
    assert_eq!(*events.lock().unwrap(), [100_000, 100_000, 150_000]);
}

#[test]
fn another_process_goes_on_where_the_last_one_ended() {
    let home = TempDir::new().unwrap();
    let broken = hub_server(
        |request, n| if n == 0 { sent(&contents(), request).cut(120_000) } else { Reply::new(404) },
    );
    let error = fetch(&hub(home.path(), &broken.url(), &[]), &FILE).unwrap_err();
    assert!(error.to_string().contains("has no such file"), "{error}");
    assert_eq!(fs::read(incomplete(&home)).unwrap(), contents()[..120_000]);

    let server = hub_server(|request, _| sent(&contents(), request));
    let start = Mutex::new(None);
    let watch = Watch {
        stop: &AtomicBool::new(false),
        report: &|event| {
            if let Event::Start { bytes, present, .. } = event {
                *start.lock().unwrap() = Some((bytes, present));
            }
        },
    };
    let path = hub(home.path(), &server.url(), &[]).fetch(&FILE, &watch).unwrap();
    assert_eq!(fs::read(path).unwrap(), contents());
    assert_eq!(server.requests()[1].from(), 120_000);
    assert_eq!(*start.lock().unwrap(), Some((300_000, 120_000)));
}

/// What is left of an earlier attempt, how the server takes the request for the rest, and what it is asked then.
#[test]
fn a_part_that_cannot_be_gone_on_from_is_fetched_again() {
    let whole = || contents();
    let damaged = || [vec![0; 1000], contents()[1000..200_000].to_vec()].concat();
    let ignores_ranges = |_: &Request, _| Reply::new(200).body(&contents());
    let has_less = |r: &Request, _| if r.from() > 0 { Reply::new(416) } else { sent(&contents(), r) };
    let honest = |r: &Request, _| sent(&contents(), r);
    let check = |left: Vec<u8>, server: Server, asked: &[usize]| {
        let home = TempDir::new().unwrap();
        fs::create_dir_all(repo(&home).join("blobs")).unwrap();
        fs::write(incomplete(&home), left).unwrap();
        let path = fetch(&hub(home.path(), &server.url(), &[]), &FILE).unwrap();
        assert_eq!(fs::read(path).unwrap(), contents());
        let found: Vec<usize> = server.requests()[1..].iter().map(Request::from).collect();
        assert_eq!(found, asked);
    };
    check(whole()[..1000].to_vec(), hub_server(ignores_ranges), &[1000]);
    check(whole()[..1000].to_vec(), hub_server(has_less), &[1000, 0]);
    check(damaged(), hub_server(honest), &[200_000, 0]);
    check([whole(), vec![0]].concat(), hub_server(honest), &[0]);
    check(vec![7; 300_000], hub_server(honest), &[0]);
    check(whole(), hub_server(honest), &[]);
}

#[test]
fn of_two_at_once_one_fetches_and_one_waits() {
    let home = TempDir::new().unwrap();
    let server = hub_server(|request, _| sent(&contents(), request).delay(Duration::from_millis(500)));
    let waited = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let hub = hub(home.path(), &server.url(), &[]);
                let report = |event: Event| {
                    waited.fetch_add(usize::from(matches!(event, Event::Waiting(_))), Ordering::SeqCst);
                };
                let path =
                    hub.fetch(&FILE, &Watch { stop: &AtomicBool::new(false), report: &report }).unwrap();
                assert_eq!(fs::read(path).unwrap(), contents());
            });
        }
    });
    assert_eq!(server.requests().iter().filter(|r| r.method == "GET").count(), 1);
    assert_eq!(waited.into_inner(), 1);
}

/// Some programs remove a lock when they let go of it; what is locked then is no longer what others lock.
#[cfg(unix)]
#[test]
fn a_lock_that_was_removed_is_taken_anew() {
    let home = TempDir::new().unwrap();
    let server = hub_server(|request, _| sent(&contents(), request));
    let hub = hub(home.path(), &server.url(), &[]);
    let digest = sha256(&contents());
    let path = home.path().join(format!("hub/.locks/models--facebook--dinov2-small/{digest}.lock"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let held = fs::File::create(&path).unwrap();
    held.lock().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| hub.cache.lock(&FILE, &digest, &Watch { stop: &stop, report: &|_| {} }));
        std::thread::sleep(Duration::from_millis(100));
        fs::remove_file(&path).unwrap();
        held.unlock().unwrap();
        let _lock = waiting.join().unwrap().unwrap().unwrap();
        let again = fs::File::open(&path).unwrap();
        assert!(again.try_lock().is_err(), "the lock that others see is not held");
    });
}

#[test]
fn a_stop_keeps_what_came() {
    let home = TempDir::new().unwrap();
    let server = hub_server(|request, _| sent(&contents(), request));
    let hub = hub(home.path(), &server.url(), &[]);
    let stop = AtomicBool::new(false);
    let report = |event: Event| {
        if matches!(event, Event::At(_)) {
            stop.store(true, Ordering::SeqCst);
        }
    };
    let error = hub.fetch(&FILE, &Watch { stop: &stop, report: &report }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(
        error.to_string(),
        "facebook/dinov2-small/model.safetensors: the fetch was interrupted. What was fetched is kept; run the same command \
         again to go on"
    );
    let kept = fs::read(incomplete(&home)).unwrap();
    assert!(!kept.is_empty() && contents().starts_with(&kept));
    assert_nothing_found(&home, &hub, &FILE);
    assert_eq!(fs::read(fetch(&hub, &FILE).unwrap()).unwrap(), contents());
    assert_eq!(server.requests().last().unwrap().from(), kept.len());
}

#[test]
fn a_cache_that_cannot_be_written() {
    let home = TempDir::new().unwrap();
    let server = hub_server(|request, _| sent(&contents(), request));
    fs::write(home.path().join("hub"), "a file where the folder should be").unwrap();
    let error = fetch(&hub(home.path(), &server.url(), &[]), &FILE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    let text = said(&error, &home, Some(&server));
    assert!(
        text.starts_with(
            "HOME/hub/models--facebook--dinov2-small/blobs: this folder of the cache cannot be made ("
        ) && text.ends_with(
            "). Set HF_HUB_CACHE to a folder that can be written, or give the file with --weights"
        ),
        "{text}"
    );
}

/// `/dev/full` takes nothing, as a full disk does.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    let home = TempDir::new().unwrap();
    let server = hub_server(|request, _| sent(&contents(), request));
    let hub = hub(home.path(), &server.url(), &[]);
    fs::create_dir_all(repo(&home).join("blobs")).unwrap();
    std::os::unix::fs::symlink("/dev/full", incomplete(&home)).unwrap();
    let error = fetch(&hub, &FILE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(
        said(&error, &home, Some(&server)).replace(&sha256(&contents()), "SHA"),
        "HOME/hub/models--facebook--dinov2-small/blobs/SHA.incomplete: this file of the cache cannot be written (No space \
         left on device (os error 28)). Make room, or set HF_HUB_CACHE to a folder on another disk; what was fetched is kept \
         and gone on from"
    );
    assert_nothing_found(&home, &hub, &FILE);
}

#[test]
fn a_file_of_the_cache_is_compared_with_what_is_recorded() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("model.safetensors");
    fs::write(&path, b"weights").unwrap();
    let (right, wrong) = (sha256(b"weights"), "c".repeat(64));
    check_sha256(&FILE, &path, &right).unwrap();
    check_sha256(&HubFile { sha256: Some(&right), ..FILE }, &path, &right).unwrap();
    let error = check_sha256(&HubFile { sha256: Some(&wrong), ..FILE }, &path, &right).unwrap_err();
    assert_eq!(
        said(&error, &home, None),
        format!(
            "HOME/model.safetensors: is not the file recorded for facebook/dinov2-small/model.safetensors; expected SHA-256 \
             {wrong}, found {right}. Delete HOME/model.safetensors to have it fetched again, or give --weights to use it as \
             it is"
        )
    );
    // A blob is named after its contents.
    let blob = home.path().join(&wrong);
    fs::rename(&path, &blob).unwrap();
    let error = check_sha256(&FILE, &blob, &right).unwrap_err();
    assert!(error.to_string().contains(&format!("expected SHA-256 {wrong}, found {right}")), "{error}");
}
