//! The program as a user meets it. The embedded backbone with few steps keeps a run short.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use image::{Rgb, RgbImage};
use tempfile::TempDir;

use program::{program, text};

mod program;

/// Two steps of each kind: seven passes an image instead of forty.
const SHORT: [&str; 4] = ["--steps", "2", "--attack-steps", "1"];

fn run(home: &TempDir, args: &[&str]) -> Output {
    program(home).args(args).output().unwrap()
}

/// A smooth picture with some texture, different for every `seed`.
fn picture(seed: u32) -> RgbImage {
    RgbImage::from_fn(40 + seed % 7, 36, |x, y| {
        let wave = |k: u32| ((x * (k + seed % 5) + y * (seed % 11)) as f32 * 0.1).sin() * 80.0 + 128.0;
        Rgb([wave(1) as u8, wave(2) as u8, (wave(3) as u32 + (x * y * seed) % 40).min(255) as u8])
    })
}

fn folder(home: &TempDir, name: &str, seeds: std::ops::Range<u32>) -> String {
    let folder = home.path().join(name);
    fs::create_dir_all(folder.join("sub")).unwrap();
    for seed in seeds {
        let below = if seed % 2 == 0 { folder.clone() } else { folder.join("sub") };
        picture(seed).save(below.join(format!("{seed:03}.png"))).unwrap();
    }
    folder.to_str().unwrap().to_owned()
}

fn path(home: &TempDir, name: &str) -> String {
    home.path().join(name).to_str().unwrap().to_owned()
}

#[test]
fn compare_reports_ranks_and_warns() {
    let home = TempDir::new().unwrap();
    let (real, fake) = (folder(&home, "real", 0..5), folder(&home, "fake", 5..9));
    let (json, csv) = (path(&home, "report.json"), path(&home, "images.csv"));
    let mut args = vec!["compare", &real, &fake, "--json", &json, "--images", &csv];
    args.extend(SHORT);
    let output = run(&home, &args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("0 = same distribution"));
    let errors = text(&output.stderr);
    assert!(errors.contains("small_n: 5 reference and 4 generated images are few"), "{errors}");
    assert!(
        !errors.contains(" left\n") && !errors.contains('\r'),
        "no progress when stderr is not a terminal"
    );
    let report: serde_json::Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let found = report["preflight"]["findings"].as_array().unwrap();
    assert!(found.iter().any(|f| f["kind"] == "small_n" && f["severity"] == "warning"));
    assert_eq!(report["anomaly_score"]["n_reference"], 5);
    assert_eq!(report["images"].as_array().unwrap().len(), 4);
    assert_eq!(report["protocol"]["steps"], 2);
    let image = &report["images"][0];
    let ratio = image["vulnerability"].as_f64().unwrap() / image["complexity"].as_f64().unwrap();
    assert_eq!(image["anomaly_score_i"].as_f64().unwrap(), ratio);
    let csv = fs::read_to_string(&csv).unwrap();
    assert!(csv.starts_with("path,complexity,vulnerability,anomaly_score_i\n"), "{csv}");
    assert_eq!(csv.lines().count(), 5);

    // The same folder twice: computed, and warned about.
    let mut args = vec!["compare", &real, &real, "--json", &json, "--no-preflight"];
    args.extend(SHORT);
    let output = run(&home, &args);
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "");
    let report: serde_json::Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(report["anomaly_score"]["value"], 0.2, "identical samples score 1/n");
    assert!(report.get("preflight").is_none());
    assert!(report["warnings"].as_array().unwrap().iter().any(|w| w["kind"] == "same_set"));
}

#[test]
fn rank_and_features_list_every_image() {
    let home = TempDir::new().unwrap();
    let images = folder(&home, "images", 0..5);
    let worst = path(&home, "worst");
    let mut args = vec!["rank", &images, "--worst", "2", "--copy-to", &worst];
    args.extend(SHORT);
    let output = run(&home, &args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).lines().count(), 3);
    let mut copied: Vec<_> = fs::read_dir(&worst).unwrap().map(|e| e.unwrap().file_name()).collect();
    copied.sort();
    assert_eq!(copied.len(), 2);
    assert!(copied[0].to_str().unwrap().starts_with("4-") && copied[1].to_str().unwrap().starts_with("5-"));

    let features = path(&home, "features.npz");
    let output = run(&home, &["features", &images, "-o", &features, "--arithmetic", "fused"]);
    assert!(text(&output.stdout).contains("5 images × 1280 features"), "{}", text(&output.stderr));
    assert!(fs::read(&features).unwrap().starts_with(b"PK"));

    // A table's features are those of its images in the table's arithmetic, though more was measured there.
    let (table, of_table) = (path(&home, "t.parquet"), path(&home, "of-table.npz"));
    let mut args = vec!["measure", &images, "-o", &table];
    args.extend(SHORT);
    assert!(run(&home, &args).status.success());
    assert!(run(&home, &["features", &table, "-o", &of_table]).status.success());
    assert!(fs::read(&features).unwrap() == fs::read(&of_table).unwrap());
}

#[test]
fn a_table_finds_the_images_it_was_measured_from() {
    let home = TempDir::new().unwrap();
    let images = folder(&home, "images", 0..4);
    let (table, copies) = (path(&home, "t.parquet"), path(&home, "copies"));
    let mut args = vec!["measure", &images, "-o", &table];
    args.extend(SHORT);
    assert!(run(&home, &args).status.success());
    let ranked = run(&home, &["rank", &table, "--top", "1", "--copy-to", &copies]);
    assert!(ranked.status.success(), "{}", text(&ranked.stderr));
    let copied: Vec<_> = fs::read_dir(&copies).unwrap().map(|e| e.unwrap().path()).collect();
    let best = text(&ranked.stdout).lines().nth(1).unwrap().split_whitespace().last().unwrap().to_owned();
    assert_eq!(copied.len(), 1);
    assert_eq!(fs::read(&copied[0]).unwrap(), fs::read(Path::new(&images).join(&best)).unwrap());

    picture(77).save(Path::new(&images).join(&best)).unwrap();
    let changed = run(&home, &["rank", &table, "--top", "1", "--copy-to", &copies]);
    assert!(
        text(&changed.stderr).contains(&format!("{best}: has changed since")),
        "{}",
        text(&changed.stderr)
    );
    fs::remove_file(Path::new(&images).join(&best)).unwrap();
    let gone = run(&home, &["rank", &table, "--top", "1", "--copy-to", &copies]);
    assert!(text(&gone.stderr).contains("no longer there"), "{}", text(&gone.stderr));
    fs::remove_dir_all(&images).unwrap();
    let nothing = run(&home, &["rank", &table, "--top", "1", "--copy-to", &copies]);
    assert!(text(&nothing.stderr).contains("give the image source"), "{}", text(&nothing.stderr));
}

#[test]
fn copies_never_join_the_images_they_were_made_of() {
    let home = TempDir::new().unwrap();
    let images = folder(&home, "images", 0..2);
    let inside = format!("{images}/sub/../worst");
    let output = run(&home, &["rank", &images, "--copy-to", &inside]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--copy-to lies inside"), "{}", text(&output.stderr));
    assert!(!Path::new(&inside).exists());
}

/// `-` and stdout's other names: the output alone, so that it can be piped on.
#[test]
fn json_and_csv_go_to_stdout_alone() {
    let home = TempDir::new().unwrap();
    let images = folder(&home, "images", 0..3);
    let stdout = |args: &[&str]| {
        let output = run(&home, &[args, &SHORT].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let report = stdout(&["compare", &images, &images, "--json", "-"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&report).unwrap()["reference"]["n"], 3);
    let csv = stdout(&["compare", &images, &images, "--images", "-"]);
    assert_eq!(
        (csv.lines().next(), csv.lines().count()),
        (Some("path,complexity,vulnerability,anomaly_score_i"), 4)
    );
    assert_eq!(stdout(&["rank", &images, "--top", "1", "--csv", "-"]).lines().count(), 2);

    let refused = |args: &[&str], part: &str| {
        let output = run(&home, args);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(part), "{}", text(&output.stderr));
    };
    refused(&["compare", &images, &images, "--json", "-", "--images", "-"], "only one of the two");
    refused(&["measure", &images, "-o", "-"], "a table cannot be written to a stream");
    refused(&["features", &images, "-o", "-"], "a feature file cannot be written to a stream");
    assert!(!Path::new("-").exists());
}

#[cfg(unix)]
#[test]
fn devices_and_redirected_files_are_written_in_place() {
    let home = TempDir::new().unwrap();
    let images = folder(&home, "images", 0..3);
    let args = |output: &str| {
        let mut args = vec!["rank".to_owned(), images.clone(), "--csv".into(), output.into()];
        args.extend(SHORT.map(str::to_owned));
        args
    };
    let expected = text(&program(&home).args(args("-")).output().unwrap().stdout);
    assert_eq!(expected.lines().count(), 4);

    // A file the caller has open keeps what it holds and stays the same file.
    let log = path(&home, "log");
    fs::write(&log, "before\n").unwrap();
    let file = || fs::File::options().append(true).open(&log).unwrap();
    let status = program(&home).args(args("/dev/stdout")).stdout(file()).status().unwrap();
    assert!(status.success());
    let status =
        program(&home).args(args("/dev/stderr")).stdout(Stdio::null()).stderr(file()).status().unwrap();
    assert!(status.success());
    assert_eq!(fs::read_to_string(&log).unwrap(), format!("before\n{expected}{expected}"));

    let pipe = path(&home, "pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut child = program(&home).args(args(&pipe)).stdout(Stdio::null()).spawn().unwrap();
    assert_eq!(fs::read_to_string(&pipe).unwrap(), expected);
    assert!(child.wait().unwrap().success());

    assert!(program(&home).args(args("/dev/null")).output().unwrap().status.success());
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

/// Linux has a device that is always full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_once() {
    let home = TempDir::new().unwrap();
    let images = folder(&home, "images", 0..2);
    let output = run(&home, &[&["rank", &images, "--csv", "/dev/full"][..], &SHORT].concat());
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert_eq!(errors.matches("No space left").count(), 1, "{errors}");
    let output = run(&home, &["measure", &images, "-o", "/proc/t.parquet"]);
    let errors = text(&output.stderr);
    assert_eq!(errors.matches("No such file").count(), 1, "{errors}");
}

#[test]
fn the_demo_names_its_sets() {
    let home = TempDir::new().unwrap();
    let output = run(&home, &[&["demo", "--limit", "2", "--json", "-"][..], &SHORT].concat());
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["reference"]["source"], "demo/real");
    assert_eq!(report["generated"]["source"], "demo/generated");
    let last = report["warnings"].as_array().unwrap().last().unwrap();
    assert_eq!(last["kind"], "demo", "what the images are no evidence for is said");

    let args = [&["demo", "--limit", "2", "--json", "-"][..], &SHORT].concat();
    let output = program(&home).env("ANOMALY_SCORE_CACHE", "/dev/null/cache").args(args).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["warnings"].as_array().unwrap().iter().any(|w| w["kind"] == "cache_unusable"));
}

#[test]
fn unreadable_images_are_listed_and_the_rest_is_kept() {
    let home = TempDir::new().unwrap();
    let images = folder(&home, "images", 0..3);
    let whole = fs::read(Path::new(&images).join("000.png")).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(Path::new(&images).join(name), bytes).unwrap();
    write("cut.png", &whole[..whole.len() / 2]);
    write("empty.jpg", b"");
    write("liar.jpg", &whole);
    write("text.png", b"this is no picture");
    let table = path(&home, "t.parquet");
    let mut args = vec!["measure", &images, "-o", &table];
    args.extend(SHORT);
    let output = run(&home, &args);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    for name in ["cut.png", "empty.jpg", "liar.jpg", "text.png"] {
        assert!(errors.contains(&format!("{name}: ")), "{name} is not listed: {errors}");
    }
    assert!(text(&output.stdout).contains("3 images"));
    args.extend(["--on-error", "skip"]);
    assert_eq!(run(&home, &args).status.code(), Some(0));
}

#[test]
fn errors_say_what_to_do() {
    let home = TempDir::new().unwrap();
    let images = folder(&home, "images", 0..2);
    let nothing = path(&home, "nothing");
    fs::create_dir(&nothing).unwrap();
    fs::write(home.path().join("nothing/notes.txt"), "x").unwrap();
    let damaged = path(&home, "damaged.safetensors");
    fs::write(&damaged, [9, 0, 0, 0, 0, 0, 0, 0, b'{']).unwrap();
    let table = path(&home, "t.parquet");
    let nowhere = path(&home, "no/such/folder/t.parquet");
    let cases: [(&[&str], &str); 8] = [
        (&["measure", &nothing, "-o", &table], ".txt"),
        (&["measure", &nothing, "-o", &table], "png"),
        (&["measure", &images, "-o", &nowhere], "no/such/folder"),
        (
            &["measure", &images, "-o", &table, "--protocol", "exact"],
            "_conv_stem Relu6: this layer is piecewise linear",
        ),
        (&["measure", &images, "-o", &table, "--backbone", "dinov2-vits14"], "--weights"),
        (&["measure", &images, "-o", &table, "--backbone", "resnet"], "resnet20-cifar"),
        (&["measure", &images, "-o", &table, "--weights", &damaged], "damaged.safetensors"),
        (&["measure", &images, "-o", &table, "--steps", "1"], "--steps"),
    ];
    for (args, part) in cases {
        let output = run(&home, args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let errors = text(&output.stderr);
        assert!(errors.starts_with("error: ") && errors.contains(part), "{args:?}: {errors}");
        assert!(!Path::new(&table).exists());
    }
    assert_eq!(run(&home, &["compare", &images]).status.code(), Some(1), "a wrong call is a failure");
    let one = folder(&home, "one", 0..1);
    let mut args = vec!["compare", &one, &images];
    args.extend(SHORT);
    assert!(text(&run(&home, &args).stderr).contains("one"));
}

#[test]
fn tables_of_different_protocols_are_refused() {
    let home = TempDir::new().unwrap();
    let images = folder(&home, "images", 0..2);
    let table = path(&home, "t.parquet");
    let mut args = vec!["measure", &images, "-o", &table];
    args.extend(SHORT);
    assert!(run(&home, &args).status.success());
    let mut args = vec!["compare", &table, &images, "--protocol", "official-code"];
    args.extend(SHORT);
    let output = run(&home, &args);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains(&format!("as {table} (a table of {images})")), "{errors}");
    assert!(
        errors.contains("protocol.name = paper") && errors.contains("protocol.name = official-code"),
        "{errors}"
    );
}

/// One thread or two, cached or not, killed and resumed: the same bytes.
#[test]
fn same_bits_however_the_run_goes() {
    let home = TempDir::new().unwrap();
    let images = folder(&home, "images", 0..12);
    let undisturbed = path(&home, "a.parquet");
    let measure = |output: &str, extra: &[&str]| {
        let mut args = vec!["measure".to_owned(), images.clone(), "-o".to_owned(), output.to_owned()];
        args.extend(SHORT.iter().chain(extra).map(|s| s.to_string()));
        args
    };
    let ran = |args: &[String]| {
        let output = program(&home).args(args).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    ran(&measure(&undisturbed, &["--threads", "1", "--no-cache"]));
    let expected = fs::read(&undisturbed).unwrap();
    // The first run fills the cache, the second lives on it.
    for (name, extra) in [("b", &["--threads", "2"][..]), ("c", &["--threads", "2"][..])] {
        let output = path(&home, &format!("{name}.parquet"));
        ran(&measure(&output, extra));
        assert!(fs::read(&output).unwrap() == expected, "{name} differs");
    }

    let killed = path(&home, "d.parquet");
    let args = measure(&killed, &["--threads", "1", "--no-cache"]);
    let mut child = program(&home).args(&args).stdout(Stdio::null()).spawn().unwrap();
    let journal = format!("{killed}.partial");
    let begun = Instant::now();
    // Five features of 1280 f32 in the journal: somewhere in the middle of twelve.
    while fs::metadata(&journal).map_or(0, |m| m.len()) < 25_000 && begun.elapsed() < Duration::from_secs(60)
    {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(Path::new(&journal).exists() && !Path::new(&killed).exists(), "killed in the middle");
    ran(&args);
    assert!(fs::read(&killed).unwrap() == expected, "the resumed run differs");
    assert!(!Path::new(&journal).exists());
}

#[cfg(unix)]
#[test]
fn an_interrupt_saves_and_says_how_to_go_on() {
    let home = TempDir::new().unwrap();
    let images = folder(&home, "images", 0..12);
    let table = path(&home, "t.parquet");
    let args = ["measure", &images, "-o", &table, "--no-cache", "--threads", "1"];
    let child = program(&home).args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let journal = format!("{table}.partial");
    let begun = Instant::now();
    while fs::metadata(&journal).map_or(0, |m| m.len()) < 5_000 && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(2));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{errors}");
    assert!(errors.contains("t.parquet.partial; run the same command again to go on"), "{errors}");
    assert!(Path::new(&journal).exists() && !Path::new(&table).exists());
}

/// Several layers in one pass: a table, a report and a CSV each, the same bits as one at a time.
#[test]
fn layers_are_measured_in_one_pass() {
    let home = TempDir::new().unwrap();
    let (real, fake) = (folder(&home, "real", 0..3), folder(&home, "fake", 3..6));
    let (both, one) = (path(&home, "both.parquet"), path(&home, "one.parquet"));
    let layers = ["--layer", "_conv_stem,_blocks.2", "--no-cache"];
    let run_with = |args: &[&str], more: &[&str]| run(&home, &[args, more, &SHORT].concat());
    let output = run_with(&["measure", &real, "-o", &both], &layers);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).lines().count(), 2);
    let output =
        run_with(&["measure", &real, "-o", &one], &["--layer", "_blocks.2", "--pool", "mean", "--no-cache"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let of_both = fs::read(path(&home, "both._blocks.2.parquet")).unwrap();
    assert!(of_both == fs::read(&one).unwrap(), "the other layer changes nothing");
    assert!(!Path::new(&both).exists());

    let json = path(&home, "r.json");
    let output = run_with(&["compare", &real, &fake, "--json", &json], &layers);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for (layer, dim) in [("_conv_stem", 32), ("_blocks.2", 24)] {
        let report = fs::read_to_string(path(&home, &format!("r.{layer}.json"))).unwrap();
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["backbone"]["layer"], format!("{layer}:mean"));
        assert_eq!(report["backbone"]["feature_dim"], dim);
    }
    // A table of one layer beside images at two, and at another.
    let output = run_with(&["compare", &one, &fake], &layers);
    assert!(text(&output.stderr).contains("a table holds one layer"), "{}", text(&output.stderr));
    let output = run_with(&["compare", &one, &fake], &["--layer", "_blocks.3"]);
    assert!(text(&output.stderr).contains("backbone.layer = _blocks.2:mean"), "{}", text(&output.stderr));
    for (args, part) in [
        (&["--pool", "mean"][..], "--layer"),
        (&["--layer", "_blocks.2,_blocks.2"], "named twice"),
        (&["--layer", "_blocks.99"], "_conv_head"),
        (&["--layer", "_blocks.2", "--pool", "cls"], "--pool mean"),
    ] {
        let output = run_with(&["measure", &real, "-o", &one], args);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(part), "{args:?}: {}", text(&output.stderr));
    }
    let output = run_with(&["rank", &real], &layers);
    assert!(text(&output.stderr).contains("one layer at a time"), "{}", text(&output.stderr));
}

#[test]
fn backbones_are_listed_and_shown() {
    let home = TempDir::new().unwrap();
    let list = text(&run(&home, &["backbones"]).stdout);
    assert_eq!(list, text(&run(&home, &["backbones", "list"]).stdout));
    assert!(list.lines().count() >= 16 && list.contains("dinov2-vits14"), "{list}");
    let shown = text(&run(&home, &["backbones", "show", "resnet20-cifar"]).stdout);
    assert!(shown.contains("layer3.2") && shown.contains("8×8×64"), "{shown}");
    let output = run(&home, &["backbones", "show", "nothing"]);
    assert_eq!(output.status.code(), Some(1));
}

/// A network of the user's own, from a file: looked at, then measured, by its end and by a layer.
#[test]
fn onnx_files_are_backbones() {
    let home = TempDir::new().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/onnx/tokens-dynamo.onnx");
    let model = model.to_str().unwrap();
    let output = run(&home, &["backbones", "check", model]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let found = text(&output.stdout);
    for line in [
        "  input     32 × 32 px",
        ", 12 features\n",
        "  exact     yes\n",
        "attention (2)",
        "1×17×12  blocks.0\n",
    ] {
        assert!(found.contains(line), "{line:?} is missing from:\n{found}");
    }
    let images = folder(&home, "images", 0..2);
    let csv = path(&home, "rank.csv");
    let mut args = vec!["rank", &images, "--backbone", model, "--csv", &csv, "--protocol", "exact"];
    args.extend(SHORT);
    args.extend(["--layer", "blocks.0", "--pool", "cls"]);
    let output = run(&home, &args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("is given pixels in [0, 1] as they are"),
        "{}",
        text(&output.stderr)
    );
    let output = run(&home, &[&args[..], &["--mean", "0.5,0.5,0.5"]].concat());
    assert!(text(&output.stderr).contains("--mean: is given without --std"), "{}", text(&output.stderr));
    let output = run(&home, &["rank", &images, "--input-px", "64"]);
    assert!(text(&output.stderr).contains("are for ONNX files"), "{}", text(&output.stderr));
    let output = run(&home, &[&args[..], &["--weights", "x.pth"]].concat());
    assert!(
        text(&output.stderr).contains("an ONNX model brings its own weights"),
        "{}",
        text(&output.stderr)
    );
}
