//! Weights fetched by name, from a hub on this machine.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

#[allow(dead_code)]
#[path = "../../anomaly-score/src/backbone/hub/tests/server.rs"]
mod server;

use server::{Reply, Request, Server};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Weights of no network: what is fetched is looked into only to be measured with.
const CONTENTS: &[u8] = include_bytes!("../../../fixtures/weights/plain.safetensors");
const SHA256: &str = "828c4b53aafb50ba94803bab93e01181a8b98f3019fb4d882e2c9ef01184a35b";

/// A hub that has `CONTENTS` under every name.
fn hub(delay: Duration) -> Server {
    Server::new(move |request: &Request| match request.method.as_str() {
        "HEAD" => Reply::new(200)
            .header("x-repo-commit", COMMIT)
            .header("x-linked-etag", format!("\"{SHA256}\""))
            .header("x-linked-size", CONTENTS.len()),
        _ => Reply::new(200).body(CONTENTS).delay(delay),
    })
}

fn program(home: &TempDir, endpoint: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anomaly-score"));
    command.args(args).env("ANOMALY_SCORE_CACHE", home.path().join("cache")).env("HF_ENDPOINT", endpoint);
    command.env("HF_HUB_CACHE", home.path().join("hub")).env("HF_HOME", home.path());
    for name in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HF_TOKEN_PATH"] {
        command.env_remove(name);
    }
    command
}

fn text(bytes: &[u8], home: &TempDir, server: &Server) -> String {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    text.replace(&home.path().display().to_string(), "HOME").replace(&server.url(), "HTTP")
}

fn run(home: &TempDir, server: &Server, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = program(home, &server.url(), args).output().unwrap();
    (status.code(), text(&stdout, home, server), text(&stderr, home, server))
}

fn snapshot(home: &TempDir, name: &str) -> PathBuf {
    home.path().join(format!("hub/models--facebook--{name}/snapshots/{COMMIT}/model.safetensors"))
}

#[test]
fn fetched_once_by_name() {
    let (home, server) = (TempDir::new().unwrap(), hub(Duration::ZERO));
    let args = ["backbones", "fetch", "dinov2-vits14", "dinov2-vitb14", "efficientnet-lite0"];
    let entry = |name: &str, repo: &str| {
        format!(
            "{name}\n  file     HOME/hub/models--facebook--{repo}/snapshots/{COMMIT}/model.safetensors\n  \
             SHA-256  {SHA256} (none is recorded to compare it with)\n"
        )
    };
    let expected = entry("dinov2-vits14", "dinov2-small")
        + &entry("dinov2-vitb14", "dinov2-base")
        + "efficientnet-lite0\n  compiled in: there is nothing to fetch\n";
    let notice = |repo: &str| {
        format!("fetching HTTP/facebook/{repo}/resolve/main/model.safetensors (1.30 kB) into HOME/hub\n")
    };
    let (status, out, err) = run(&home, &server, &args);
    assert_eq!((status, out), (Some(0), expected.clone()), "{err}");
    assert_eq!(err, notice("dinov2-small") + &notice("dinov2-base"), "and no bar when stderr is no terminal");
    assert_eq!(fs::read(snapshot(&home, "dinov2-base")).unwrap(), CONTENTS);

    let asked = server.requests().len();
    assert_eq!(run(&home, &server, &args), (Some(0), expected, String::new()));
    assert_eq!(server.requests().len(), asked, "what is here is asked for again");
}

#[test]
fn names_are_checked_before_anything_is_fetched() {
    let (home, server) = (TempDir::new().unwrap(), hub(Duration::ZERO));
    let (status, _, err) = run(&home, &server, &["backbones", "fetch", "dinov2-vits14", "dinov3"]);
    assert_eq!(status, Some(1));
    assert!(err.contains("there is no backbone of that name"), "{err}");
    let (status, _, err) = run(&home, &server, &["backbones", "fetch", "resnet20-cifar"]);
    assert_eq!(status, Some(1));
    assert_eq!(
        err,
        "error: resnet20-cifar: the weights of this backbone are at no place to fetch them from. Give the file with \
         --weights; it is to be had as: akamaster/pytorch_resnet_cifar10 on GitHub, pretrained_models/*.th (BSD-2-Clause)\n"
    );
    assert!(server.requests().is_empty());
}

#[test]
fn two_processes_at_once_fetch_once() {
    let (home, server) = (TempDir::new().unwrap(), hub(Duration::from_millis(700)));
    let start = || {
        let mut command = program(&home, &server.url(), &["backbones", "fetch", "dinov2-vits14"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let outputs = [start(), start()].map(|child| child.wait_with_output().unwrap());
    let errors: Vec<String> = outputs.iter().map(|o| text(&o.stderr, &home, &server)).collect();
    assert!(outputs.iter().all(|o| o.status.success() && o.stdout == outputs[0].stdout), "{errors:?}");
    assert_eq!(server.requests().iter().filter(|r| r.method == "GET").count(), 1);
    let lock = format!("(it holds HOME/hub/.locks/models--facebook--dinov2-small/{SHA256}.lock)\n");
    let waited = format!("waiting for another process that is fetching the same file {lock}");
    assert_eq!(errors.iter().filter(|e| **e == waited).count(), 1, "{errors:?}");
}

/// A measurement fetches what it needs, and refuses a file of the cache that is not what its name says.
#[test]
fn measuring_fetches_by_itself() {
    let (home, server) = (TempDir::new().unwrap(), hub(Duration::ZERO));
    let images = home.path().join("images");
    fs::create_dir(&images).unwrap();
    image::RgbImage::new(32, 32).save(images.join("a.png")).unwrap();
    let (images, table) = (images.display().to_string(), home.path().join("t.parquet").display().to_string());
    let args = ["measure", &images, "-o", &table, "--backbone", "dinov2-vits14"];
    let (status, _, err) = run(&home, &server, &args);
    assert_eq!(status, Some(1));
    let (notice, error) = err.split_once('\n').unwrap();
    assert!(notice.starts_with("fetching HTTP/facebook/dinov2-small/"), "{err}");
    let place =
        snapshot(&home, "dinov2-small").display().to_string().replace(home.path().to_str().unwrap(), "HOME");
    assert!(error.contains(&format!("there is no such tensor in {place}")), "{err}");

    // Changed behind the hub's back, in a way the reader of the format does not notice.
    let blob = home.path().join("hub/models--facebook--dinov2-small/blobs").join(SHA256);
    let mut changed = CONTENTS.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&blob, changed).unwrap();
    let (status, _, err) = run(&home, &server, &args);
    assert_eq!(status, Some(1));
    assert!(
        err.starts_with(&format!(
            "error: {place}: is not the file recorded for facebook/dinov2-small/model.safetensors"
        )) && err.contains(&format!("expected SHA-256 {SHA256}, found "))
            && err.contains(&format!(
                "Delete HOME/hub/models--facebook--dinov2-small/blobs/{SHA256} to have it fetched again"
            )),
        "{err}"
    );
    fs::remove_file(blob).unwrap();
    let offline = program(&home, &server.url(), &args).env("HF_HUB_OFFLINE", "1").output().unwrap();
    let err = text(&offline.stderr, &home, &server);
    assert!(
        err.contains("these weights are not on this machine, and HF_HUB_OFFLINE forbids fetching them. Unset it, or give the file \
                      with --weights FILE, or put it at HOME/hub/models--facebook--dinov2-small/snapshots/main/model.safetensors"),
        "{err}"
    );
}

#[cfg(unix)]
#[test]
fn an_interrupted_fetch_goes_on() {
    let home = TempDir::new().unwrap();
    let half = CONTENTS.len() / 2;
    let head = || {
        Reply::new(200)
            .header("x-repo-commit", COMMIT)
            .header("x-linked-etag", SHA256)
            .header("x-linked-size", CONTENTS.len())
    };
    let stalling = Server::new(move |request: &Request| match request.method.as_str() {
        "HEAD" => head(),
        _ => Reply::new(200).body(CONTENTS).cut(half).silent(),
    });
    let mut command = program(&home, &stalling.url(), &["backbones", "fetch", "dinov2-vits14"]);
    command.env("HF_HUB_DOWNLOAD_TIMEOUT", "1").env("HF_HUB_ETAG_TIMEOUT", "1");
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let part = home.path().join(format!("hub/models--facebook--dinov2-small/blobs/{SHA256}.incomplete"));
    for _ in 0..1000 {
        if fs::metadata(&part).is_ok_and(|m| m.len() == half as u64) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let err = text(&output.stderr, &home, &stalling);
    assert_eq!(output.status.code(), Some(130), "{err}");
    assert!(err.contains("What was fetched is kept; run the same command again to go on"), "{err}");

    let server = Server::new(move |request: &Request| match (request.method.as_str(), request.from()) {
        ("HEAD", _) => head(),
        (_, from) => Reply::new(206)
            .header("content-range", format!("bytes {from}-{}/{}", CONTENTS.len() - 1, CONTENTS.len()))
            .body(&CONTENTS[from..]),
    });
    let (status, _, err) = run(&home, &server, &["backbones", "fetch", "dinov2-vits14"]);
    assert_eq!(status, Some(0), "{err}");
    assert!(err.contains("(1.30 kB, 651 B of it here)"), "{err}");
    assert_eq!(server.requests()[1].from(), half);
    assert_eq!(fs::read(snapshot(&home, "dinov2-small")).unwrap(), CONTENTS);
}
