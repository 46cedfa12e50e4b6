//! The environment variables, and where redirects may lead.

use super::*;

#[test]
fn the_environment_says_where() {
    let home = TempDir::new().unwrap();
    let read = |pairs: &[(&'static str, &str)]| Hub::from_variables(variables(pairs));
    let cache = |pairs: &[(&'static str, &str)]| read(pairs).unwrap().folder().to_owned();
    let own = etcetera::home_dir().unwrap();
    assert_eq!(cache(&[]), own.join(".cache/huggingface/hub"));
    assert_eq!(cache(&[("HF_HOME", "")]), own.join(".cache/huggingface/hub"));
    assert_eq!(cache(&[("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
    assert_eq!(cache(&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h")]), Path::new("/h/hub"));
    assert_eq!(cache(&[("HF_HOME", "~/h")]), own.join("h/hub"));
    assert_eq!(cache(&[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/old")]), Path::new("/old"));
    assert_eq!(cache(&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
    assert!(cache(&[("HF_HOME", "relative")]).is_absolute());

    let url = |hub: Hub, file: &HubFile| http::url(&hub.endpoint, file, file.revision);
    let endpoint = |text: &str| url(read(&[("HF_ENDPOINT", text)]).unwrap(), &FILE);
    let rest = "/facebook/dinov2-small/resolve/main/model.safetensors";
    assert_eq!(endpoint(""), format!("https://huggingface.co{rest}"));
    assert_eq!(endpoint("http://127.0.0.1:8080/"), format!("http://127.0.0.1:8080{rest}"));
    assert_eq!(endpoint("https://mirror.example/hf"), format!("https://mirror.example/hf{rest}"));
    let pull = HubFile { revision: "refs/pr/1", file: "a b/ü.bin", ..FILE };
    assert_eq!(
        url(read(&[]).unwrap(), &pull),
        "https://huggingface.co/facebook/dinov2-small/resolve/refs%2Fpr%2F1/a%20b/%C3%BC.bin"
    );

    let refused = |pairs: &[(&'static str, &str)]| {
        let client =
            read(pairs).and_then(|hub| Client::new(&hub.endpoint, hub.variables.access()?).map(drop));
        said(&client.expect_err("it was accepted"), &home, None)
    };
    assert_eq!(
        refused(&[("HF_ENDPOINT", "huggingface.co")]),
        "HF_ENDPOINT: this environment variable has a value that means nothing; expected the address of a hub, such as \
         https://huggingface.co, found huggingface.co. Unset it, or set it to what is expected"
    );
    assert_eq!(
        refused(&[("HF_HUB_DOWNLOAD_TIMEOUT", "soon")]),
        "HF_HUB_DOWNLOAD_TIMEOUT: this environment variable has a value that means nothing; expected seconds, a whole \
         number above 0, found soon. Unset it, or set it to what is expected"
    );
    assert_eq!(
        refused(&[("HF_TOKEN", "two words")]),
        "HF_TOKEN: the token has characters that no token has; expected printable ASCII without spaces, found others"
    );
    let none = home.path().join("none.pem").display().to_string();
    assert!(
        refused(&[("SSL_CERT_FILE", &none)])
            .starts_with("HOME/none.pem: SSL_CERT_FILE names it, and it cannot be read (")
    );
    fs::write(&none, "no certificate").unwrap();
    assert_eq!(
        refused(&[("SSL_CERT_FILE", &none)]),
        "HOME/none.pem: SSL_CERT_FILE names it, and there is no certificate in it. Set it to a file of PEM certificates, or \
         unset it to use the program's own"
    );
}

#[test]
fn the_token_comes_from_the_environment_or_from_its_file() {
    let home = TempDir::new().unwrap();
    let elsewhere = home.path().join("elsewhere").display().to_string();
    fs::write(&elsewhere, "hf_elsewhere\n").unwrap();
    let sent = |more: &[(&'static str, &str)]| {
        let server = Server::new(|_| Reply::new(404));
        fetch(&hub(home.path(), &server.url(), more), &FILE).unwrap_err();
        server.requests()[0].header("authorization").map(str::to_owned)
    };
    let bearer = |token: &str| Some(format!("Bearer {token}"));
    assert_eq!(sent(&[]), None);
    fs::write(home.path().join("token"), "hf_file\n").unwrap();
    assert_eq!(sent(&[]), bearer("hf_file"));
    assert_eq!(sent(&[("HF_TOKEN_PATH", &elsewhere)]), bearer("hf_elsewhere"));
    assert_eq!(sent(&[("HUGGING_FACE_HUB_TOKEN", "hf_old")]), bearer("hf_old"));
    assert_eq!(sent(&[("HF_TOKEN", "hf_new"), ("HUGGING_FACE_HUB_TOKEN", "hf_old")]), bearer("hf_new"));
    assert_eq!(sent(&[("HF_TOKEN", "hf_new"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
}

#[test]
fn a_redirect_never_leaves_encryption() {
    let next =
        |base: &str, location: &str| http::next(&base.parse().unwrap(), location).map(|uri| uri.to_string());
    let (secure, open) = ("https://hub.example/a/b?q", "http://hub.example:81/a/b");
    assert_eq!(next(secure, "https://cdn.example/x?y=1#z").as_deref(), Some("https://cdn.example/x?y=1"));
    assert_eq!(next(secure, "//cdn.example/x").as_deref(), Some("https://cdn.example/x"));
    assert_eq!(next(secure, "/x").as_deref(), Some("https://hub.example/x"));
    assert_eq!(next(open, "x").as_deref(), Some("http://hub.example:81/a/x"));
    assert_eq!(next(open, "https://cdn.example/x").as_deref(), Some("https://cdn.example/x"));
    assert_eq!(next(open, "http://cdn.example/x").as_deref(), Some("http://cdn.example/x"));
    for location in ["http://hub.example/x", "ftp://hub.example/x", "file:///etc/passwd", "", "https://"] {
        assert_eq!(next(secure, location), None);
    }
}
