//! What a server may do instead of sending the file, and what the user is told.

use super::*;

const BRING: &str = "the file with --weights FILE, or put it at \
    HOME/hub/models--facebook--dinov2-small/snapshots/main/model.safetensors; \
    it is http://HOST/facebook/dinov2-small/resolve/main/model.safetensors";

#[test]
fn wrong_bytes_are_not_kept() {
    let home = TempDir::new().unwrap();
    let server = hub_server(|_, _| Reply::new(200).body(&vec![1; 300_000]));
    let hub = hub(home.path(), &server.url(), &[]);
    let error = fetch(&hub, &FILE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Format);
    assert_eq!(
        said(&error, &home, Some(&server)),
        format!(
            "facebook/dinov2-small/model.safetensors: the bytes that came are not those of the file; expected SHA-256 {}, \
             found {}. Nothing was kept. Run the same command again; if it happens again, a proxy or a mirror (HF_ENDPOINT) \
             changes the file",
            sha256(&contents()),
            sha256(&vec![1; 300_000])
        )
    );
    assert_nothing_found(&home, &hub, &FILE);
    assert!(!incomplete(&home).exists());
    assert_eq!(server.requests().len(), 2, "bytes that came in one piece are not asked for again");
}

#[test]
fn another_file_than_the_one_recorded_is_not_fetched() {
    let home = TempDir::new().unwrap();
    let server = hub_server(|_, _| panic!("it was fetched"));
    let hub = hub(home.path(), &server.url(), &[]);
    let recorded = "a".repeat(64);
    let error = fetch(&hub, &HubFile { sha256: Some(&recorded), ..FILE }).unwrap_err();
    assert_eq!(
        said(&error, &home, Some(&server)),
        format!(
            "facebook/dinov2-small/model.safetensors: HOST holds another file than the one recorded; expected SHA-256 \
             {recorded}, found {}. Nothing was fetched. To use that file all the same, fetch it yourself and give it with --weights",
            sha256(&contents())
        )
    );
    assert_nothing_found(&home, &hub, &FILE);
}

/// Without the hub's own SHA-256, the recorded one still counts.
#[test]
fn the_recorded_sha256_is_checked_where_the_hub_gives_none() {
    let server = Server::new(|_| {
        Reply::new(200).header("x-repo-commit", COMMIT).header("etag", COMMIT).body(b"weights")
    });
    let (home, right) = (TempDir::new().unwrap(), sha256(b"weights"));
    fetch(&hub(home.path(), &server.url(), &[]), &HubFile { sha256: Some(&right), ..FILE }).unwrap();
    let (home, wrong) = (TempDir::new().unwrap(), "b".repeat(64));
    let hub = hub(home.path(), &server.url(), &[]);
    let file = HubFile { sha256: Some(&wrong), ..FILE };
    let error = fetch(&hub, &file).unwrap_err();
    assert_nothing_found(&home, &hub, &file);
    assert!(error.to_string().contains(&format!("expected SHA-256 {wrong}, found {right}")), "{error}");
}

#[test]
fn lies_about_length_are_found_out() {
    let check = |server: Server, expected: &str| {
        let home = TempDir::new().unwrap();
        let hub = hub(home.path(), &server.url(), &[]);
        let error = fetch(&hub, &FILE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network);
        assert_eq!(said(&error, &home, Some(&server)), expected);
        assert_nothing_found(&home, &hub, &FILE);
        incomplete(&home).exists()
    };
    let other = |found: &str| {
        format!(
            "facebook/dinov2-small/model.safetensors: HOST sends a file of another length than the hub says; expected \
             300000 bytes, found {found}. Nothing was kept. Try again, or give {BRING}"
        )
    };
    // Announced as shorter, announced as longer, longer without being announced.
    let short = hub_server(|_, _| Reply::new(200).body(&contents()[..1000]));
    assert!(!check(short, &other("1000")));
    let long = hub_server(|_, _| Reply::new(200).body(&[contents(), vec![0; 5]].concat()));
    assert!(!check(long, &other("300005")));
    let endless = hub_server(|_, _| Reply::new(200).no_length().body(&[contents(), vec![0; 5]].concat()));
    assert!(!check(endless, &other("more")));

    // The right length announced and never sent: what came is kept.
    let never = hub_server(|request, n| sent(&contents(), request).cut(if n == 0 { 1000 } else { 0 }));
    let text = format!(
        "facebook/dinov2-small/model.safetensors: the connection broke 5 times in a row without a byte coming; expected \
         300000 bytes, found 1000 (WHY). What came is kept: run the same command again to go on from there, or give {BRING}"
    );
    let home = TempDir::new().unwrap();
    let hub = hub(home.path(), &never.url(), &[]);
    let error = said(&fetch(&hub, &FILE).unwrap_err(), &home, Some(&never));
    let (start, rest) = text.split_once("WHY").unwrap();
    assert!(error.starts_with(start) && error.ends_with(rest), "{error}");
    assert_nothing_found(&home, &hub, &FILE);
    assert_eq!(fs::read(incomplete(&home)).unwrap(), contents()[..1000]);
    assert_eq!(never.requests().len(), 1 + 1 + 5);
}

#[test]
fn another_part_than_the_one_asked_for_is_refused() {
    let home = TempDir::new().unwrap();
    let server = hub_server(|request, _| match request.from() {
        0 => sent(&contents(), request).cut(1000),
        _ => Reply::new(206).header("content-range", "bytes 0-299999/300000").body(&contents()),
    });
    let error = fetch(&hub(home.path(), &server.url(), &[]), &FILE).unwrap_err();
    assert_eq!(
        said(&error, &home, Some(&server)),
        format!(
            "facebook/dinov2-small/model.safetensors: HOST sends another part than the one asked for; expected content-range \
             bytes 1000-299999/300000, found bytes 0-299999/300000. Give {BRING}"
        )
    );
}

#[test]
fn refusals_say_what_to_do() {
    let refused = |reply: Reply, more: &[(&'static str, &str)]| {
        let home = TempDir::new().unwrap();
        let server = Server::new(move |_| reply.clone());
        let hub = hub(home.path(), &server.url(), more);
        let error = fetch(&hub, &FILE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network);
        assert_nothing_found(&home, &hub, &FILE);
        assert!(!repo(&home).exists(), "a refusal makes no folders");
        let text = said(&error, &home, Some(&server));
        let text = text.strip_prefix("facebook/dinov2-small/model.safetensors: ").unwrap().to_owned();
        let (text, requests) = (text.strip_suffix(BRING).unwrap().to_owned(), server.requests().len());
        (text, requests)
    };
    let plain = |status: u16| refused(Reply::new(status), &[]);
    let coded = |status: u16, code: &str| {
        refused(
            Reply::new(status).header("x-error-code", code).header("x-error-message", "In its own words."),
            &[],
        )
    };
    let said = |text: &str, requests: usize| (text.to_owned(), requests);
    assert_eq!(
        coded(401, "GatedRepo"),
        said(
            "facebook/dinov2-small is open only to those whom its owners let in (HTTP status 401: In its own words.). Ask for \
             access at http://HOST/facebook/dinov2-small and set HF_TOKEN, or give ",
            1
        )
    );
    assert_eq!(
        coded(401, "RepoNotFound"),
        said(
            "HOST has no repository facebook/dinov2-small, or shows it only to those who may see it (HTTP status 401: In its \
             own words.). Set HF_TOKEN to a token of an account that has access, or give ",
            1
        )
    );
    assert_eq!(
        coded(404, "RevisionNotFound"),
        said("facebook/dinov2-small has no revision main (HTTP status 404: In its own words.). Give ", 1)
    );
    assert_eq!(
        coded(404, "EntryNotFound"),
        said(
            "facebook/dinov2-small has no file model.safetensors at revision main (HTTP status 404: In its own words.). Give ",
            1
        )
    );
    assert_eq!(plain(404), said("HOST has no such file (HTTP status 404). Check HF_ENDPOINT, or give ", 1));
    assert_eq!(
        plain(403),
        said(
            "HOST refuses access (HTTP status 403). Set HF_TOKEN to a token of an account that has access, or give ",
            1
        )
    );
    assert_eq!(
        refused(Reply::new(401), &[("HF_TOKEN", "hf_wrong")]),
        said(
            "HOST refuses access (HTTP status 401). The token that HF_TOKEN or `hf auth login` gave was refused: check it, \
             or give ",
            1
        )
    );
    assert_eq!(
        plain(416),
        said("HOST answers unlike a hub (HTTP status 416). Check HF_ENDPOINT and any proxy, or give ", 1)
    );
    // What may pass is tried again.
    assert_eq!(plain(500), said("HOST cannot answer now (HTTP status 500). Try again later, or give ", 6));
    assert_eq!(plain(503), said("HOST cannot answer now (HTTP status 503). Try again later, or give ", 6));
    assert_eq!(
        refused(Reply::new(302).header("location", "/again"), &[]),
        said(
            "HOST answers unlike a hub (more than 10 redirects). Check HF_ENDPOINT and any proxy, or give ",
            11
        )
    );
    assert_eq!(
        refused(Reply::new(302).header("location", "ftp://example.org/x"), &[]),
        said(
            "HOST answers unlike a hub (it redirects to `ftp://example.org/x`). Check HF_ENDPOINT and any proxy, or give ",
            1
        )
    );
}

/// The same of the second request, where there may be something to keep.
#[test]
fn refusals_in_the_middle_keep_what_came() {
    for (status, requests) in [(403, 1), (404, 1), (500, 5), (429, 5)] {
        let home = TempDir::new().unwrap();
        let server = hub_server(move |request, n| match n {
            0 => sent(&contents(), request).cut(1000),
            _ => Reply::new(status),
        });
        let hub = hub(home.path(), &server.url(), &[]);
        let error = fetch(&hub, &FILE).unwrap_err();
        assert!(error.to_string().contains(&format!("HTTP status {status}")), "{error}");
        assert_nothing_found(&home, &hub, &FILE);
        assert_eq!(fs::metadata(incomplete(&home)).unwrap().len(), 1000);
        assert_eq!(server.requests().len(), 2 + requests, "{status}");
    }
}

#[test]
fn a_busy_hub_is_asked_again_when_it_says() {
    let home = TempDir::new().unwrap();
    let heads = AtomicUsize::new(0);
    let server =
        Server::new(move |request| match (request.method.as_str(), heads.fetch_add(1, Ordering::SeqCst)) {
            ("HEAD", 0) => Reply::new(429).header("retry-after", 1),
            ("HEAD", _) => described(&contents()),
            (_, 2) => Reply::new(503),
            _ => sent(&contents(), request),
        });
    let begun = Instant::now();
    fetch(&hub(home.path(), &server.url(), &[]), &FILE).unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1), "the second it asked for was not waited");
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn answers_that_no_hub_gives_are_refused() {
    let refused = |reply: Reply| {
        let home = TempDir::new().unwrap();
        let server = Server::new(move |_| reply.clone());
        let hub = hub(home.path(), &server.url(), &[]);
        let error = fetch(&hub, &FILE).unwrap_err();
        assert_nothing_found(&home, &hub, &FILE);
        assert_eq!(error.kind(), ErrorKind::Network);
        let text = said(&error, &home, Some(&server));
        let text = text
            .strip_prefix("facebook/dinov2-small/model.safetensors: HOST answers unlike a hub; ")
            .unwrap();
        text.strip_suffix(&format!(". Check HF_ENDPOINT and any proxy, or give {BRING}")).unwrap().to_owned()
    };
    let hub = || Reply::new(200).header("x-repo-commit", COMMIT);
    // A page that asks to log in to a network, say.
    assert_eq!(
        refused(Reply::new(200).body(b"<html>")),
        "expected the header x-repo-commit with the 40 digits of a commit, found an answer with status 200 without it"
    );
    assert_eq!(
        refused(Reply::new(200).header("x-repo-commit", "../../../etc").header("etag", COMMIT)),
        "expected the header x-repo-commit with the 40 digits of a commit, found x-repo-commit: ../../../etc"
    );
    let etag = "expected a header x-linked-etag or etag with 64 or 40 hexadecimal digits, found ";
    assert_eq!(refused(hub()), format!("{etag}an answer with status 200 without it"));
    assert_eq!(refused(hub().header("etag", "\"../../../x\"")), format!("{etag}etag: \\\"../../../x\\\""));
    assert_eq!(
        refused(hub().header("etag", COMMIT).header("x-linked-size", "many")),
        "expected the file's length in a header x-linked-size or content-length, found x-linked-size: many"
    );
    assert_eq!(
        refused(hub().header("etag", COMMIT).no_length()),
        "expected the file's length in a header x-linked-size or content-length, found an answer with status 200 without it"
    );
}

#[test]
fn without_a_connection_the_error_says_which_file_goes_where() {
    let home = TempDir::new().unwrap();
    // Nobody listens at a port that was just given up.
    let endpoint = Server::new(|_| Reply::new(500)).url();
    let digest = sha256(&contents());
    let error =
        fetch(&hub(home.path(), &endpoint, &[]), &HubFile { sha256: Some(&digest), ..FILE }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    let host = endpoint.trim_start_matches("http://");
    let text = said(&error, &home, None).replace(host, "HOST");
    let (start, rest) = text.split_once(" (").unwrap();
    assert_eq!(
        start,
        "facebook/dinov2-small/model.safetensors: these weights are not on this machine, and HOST cannot be reached"
    );
    assert!(rest.ends_with(&format!("). Give {BRING} (SHA-256 {digest})")), "{text}");

    let server = Server::new(|_| panic!("asked although offline"));
    for (name, value) in
        [("HF_HUB_OFFLINE", "1"), ("HF_HUB_OFFLINE", "Yes"), ("TRANSFORMERS_OFFLINE", "true")]
    {
        let hub = hub(home.path(), &server.url(), &[(name, value)]);
        let text = said(&fetch(&hub, &FILE).unwrap_err(), &home, Some(&server));
        assert_eq!(
            text,
            format!(
                "facebook/dinov2-small/model.safetensors: these weights are not on this machine, and {name} forbids fetching \
                 them. Unset it, or give {BRING}"
            )
        );
    }
    // Put where the message says, it is found.
    let place = repo(&home).join("snapshots/main/model.safetensors");
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(&place, contents()).unwrap();
    assert_eq!(fetch(&hub(home.path(), &server.url(), &[("HF_HUB_OFFLINE", "1")]), &FILE).unwrap(), place);
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for_for_ever() {
    let home = TempDir::new().unwrap();
    let begun = Instant::now();
    let server = Server::new(|_| Reply::new(200).silent());
    let error = fetch(&hub(home.path(), &server.url(), &[]), &FILE).unwrap_err();
    let text = said(&error, &home, Some(&server));
    assert_eq!(
        text,
        format!(
            "facebook/dinov2-small/model.safetensors: these weights are not on this machine, and HOST cannot be reached \
             (it does not answer in time). Give {BRING}"
        )
    );
    // In the middle of the contents: broken, and gone on from.
    let server = hub_server(|request, n| match n {
        0 => sent(&contents(), request).cut(1000).silent(),
        _ => sent(&contents(), request),
    });
    let why = Mutex::new(String::new());
    let watch = Watch {
        stop: &AtomicBool::new(false),
        report: &|event| {
            if let Event::Broken { why: text, .. } = event {
                *why.lock().unwrap() = text.to_owned();
            }
        },
    };
    let path = hub(home.path(), &server.url(), &[]).fetch(&FILE, &watch).unwrap();
    assert_eq!(fs::read(path).unwrap(), contents());
    assert_eq!(*why.lock().unwrap(), "nothing more came in time");
    assert_eq!(server.requests()[2].from(), 1000);
    assert!(begun.elapsed() < Duration::from_secs(20), "each silence is a second's");
}
