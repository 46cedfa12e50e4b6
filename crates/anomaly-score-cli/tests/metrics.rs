//! `compare --metrics` as a user meets it.

use std::fs;
use std::process::Output;

use image::{Rgb, RgbImage};
use serde_json::Value;
use tempfile::TempDir;

use program::{program, text};

mod program;

/// Two steps of each kind, short features, and few resamples.
const SHORT: [&str; 10] = [
    "--steps",
    "2",
    "--attack-steps",
    "1",
    "--layer",
    "_conv_stem",
    "--bootstrap",
    "4",
    "--null-splits",
    "2",
];

fn run(home: &TempDir, args: &[&str]) -> Output {
    program(home).args(args).output().unwrap()
}

/// Smooth pictures, different for every seed.
fn folder(home: &TempDir, name: &str, seeds: std::ops::Range<u32>) -> String {
    let folder = home.path().join(name);
    fs::create_dir_all(&folder).unwrap();
    for seed in seeds {
        let picture = RgbImage::from_fn(40, 36, |x, y| {
            let wave = |k: u32| ((x * (k + seed % 5) + y * (seed % 11)) as f32 * 0.1).sin() * 80.0 + 128.0;
            Rgb([wave(1) as u8, wave(2) as u8, (wave(3) as u32 + (x * y * seed) % 40).min(255) as u8])
        });
        picture.save(folder.join(format!("{seed:03}.png"))).unwrap();
    }
    folder.to_str().unwrap().to_owned()
}

#[test]
fn all_metrics_are_in_the_report_or_say_why_not() {
    let home = TempDir::new().unwrap();
    let (real, fake) = (folder(&home, "real", 0..12), folder(&home, "fake", 12..20));
    let (json, csv) =
        (home.path().join("r.json").display().to_string(), home.path().join("i.csv").display().to_string());
    let args = ["compare", &real, &fake, "--metrics", "all", "--json", &json, "--images", &csv];
    let output = run(&home, &[&args[..], &SHORT].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    for part in ["Fréchet distance", "Precision", "The paper's claims", "12 : 8"] {
        assert!(shown.contains(part), "{part} is missing from:\n{shown}");
    }
    assert!(shown.lines().all(|line| line.chars().count() <= 100), "{shown}");
    let report: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let metrics = report["metrics"].as_array().unwrap();
    let named = |name: &str| metrics.iter().find(|m| m["name"] == name).unwrap();
    assert!(named("frechet_distance")["value"].as_f64().unwrap() > 0.0);
    assert!(named("kernel_distance")["std_error"].as_f64().unwrap() > 0.0);
    assert_eq!(named("anomaly_score")["value"], report["anomaly_score"]["value"]);
    for impossible in ["inception_score", "cmmd"] {
        let metric = named(impossible);
        assert!(metric["value"].is_null() && metric["note"].is_string(), "{metric}");
    }
    assert!(metrics.iter().all(|m| m["value"].is_f64() || m["note"].is_string()));
    let image = &report["images"][0];
    let nearest = image["nearest_reference"].as_str().unwrap();
    assert!(std::path::Path::new(&real).join(nearest).exists());
    let claims = &report["claims"];
    assert!(claims["complexity"]["p_value"].is_f64() && claims["vulnerability"]["cliffs_delta"].is_f64());
    let csv = fs::read_to_string(&csv).unwrap();
    let header = "path,complexity,vulnerability,anomaly_score_i,realism,rarity,nearest_reference,nearest_distance,authentic,memorisation_likelihood\n";
    assert!(csv.starts_with(header), "{csv}");
}

#[test]
fn a_wrong_name_lists_the_right_ones_and_the_impossible_fails_before_measuring() {
    let home = TempDir::new().unwrap();
    let images = folder(&home, "images", 0..2);
    let refused = |words: &str, part: &str| {
        let output = run(&home, &[&["compare", &images, &images, "--metrics", words][..], &SHORT].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(part), "{}", text(&output.stderr));
    };
    refused("fd,fids", "prdc, claims, all");
    refused(
        "is",
        "--metrics is: needs class logits, not efficientnet-lite0 at _conv_stem:mean; read --backbone",
    );
    refused("fld", "--metrics fld: needs images like the reference that the model was not trained on");
    refused("fd,cmmd", "--metrics cmmd: is defined on the embedding of clip-vit-l14-336");
    assert!(!home.path().join("cache").exists(), "nothing was measured");
}

/// Hours against minutes: what only features are needed for measures nothing else, and no table or cache passes it for more.
#[test]
fn metrics_of_features_measure_features_only() {
    let home = TempDir::new().unwrap();
    let (real, fake) = (folder(&home, "real", 0..8), folder(&home, "fake", 8..14));
    let path = |name: &str| home.path().join(name).display().to_string();
    let report = |args: &[&str]| -> (Value, String) {
        let json = path("r.json");
        // By default features alone may be computed faster, to other bits.
        let options = ["--json", &json, "--arithmetic", "fused"];
        let output = run(&home, &[&["compare"][..], args, &options, &SHORT].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let note = text(&output.stderr).contains("the options of the method do nothing");
        let report: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
        let measured = args.iter().any(|arg| *arg == fake);
        assert_eq!(
            note,
            measured && report["protocol"]["name"] == "features-only",
            "{}",
            text(&output.stderr)
        );
        (report, text(&output.stdout))
    };
    let logs = || fs::read_dir(home.path().join("cache")).unwrap().count();
    let (of_features, shown) = report(&[&real, &fake, "--metrics", "fd,realism"]);
    assert!(
        shown.contains("\nNo Anomaly Score: complexity and vulnerability of a set were not measured;"),
        "{shown}"
    );
    assert!(!shown.contains("C median") && !shown.contains("AS-i"), "{shown}");
    assert!(
        of_features["anomaly_score"].is_null() && of_features["reference"]["complexity"]["median"].is_null()
    );
    let image = &of_features["images"][0];
    assert!(
        image["complexity"].is_null() && image["anomaly_score_i"].is_null() && image["realism"].is_f64(),
        "{image}"
    );
    assert_eq!(logs(), 1);

    // Both at once: the score is there, and the features are the same.
    let (of_both, _) = report(&[&real, &fake, "--metrics", "as,fd"]);
    assert!(of_both["anomaly_score"]["value"].is_f64() && of_both["images"][0]["complexity"].is_f64());
    assert_eq!(of_both["metrics"][1]["value"], of_features["metrics"][0]["value"]);
    assert_eq!(logs(), 2, "the cache keeps them apart");

    // Tables of either kind meet by their features; a score of features alone is refused, before measuring.
    let (features, scored) = (path("features.parquet"), path("scored.parquet"));
    let args = ["measure", &real, "-o", &features, "--features-only", "--arithmetic", "fused"];
    let output = run(&home, &[&args[..], &["--layer", "_conv_stem"]].concat());
    assert!(
        text(&output.stdout).ends_with("features.parquet: 8 images × 32 features\n"),
        "{}",
        text(&output.stderr)
    );
    let output = run(&home, &[&["measure", &real, "-o", &scored][..], &SHORT[..6]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    for table in [&features, &scored] {
        let (of_table, _) = report(&[table, &fake, "--metrics", "fd"]);
        assert_eq!(of_table["metrics"][0]["value"], of_features["metrics"][0]["value"]);
        assert!(of_table["anomaly_score"].is_null());
    }
    let (of_tables, _) = report(&[&scored, &scored, "--metrics", "fd"]);
    assert!(of_tables["anomaly_score"]["value"].is_f64(), "what was measured is reported");
    let refused = |args: &[&str], part: &str| {
        let output = run(&home, args);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(part), "{}", text(&output.stderr));
    };
    let words = "complexity and vulnerability were not measured; expected a table measured for scores, found protocol";
    refused(&["compare", &features, &fake], words);
    refused(&["compare", &features, &features, "--metrics", "claims,fd"], words);
    refused(&["rank", &features], words);
    refused(&["measure", &real, "-o", &features, "--features-only", "--steps", "3"], "cannot be used with");
    refused(
        &["compare", &features, &features, "--metrics", "fd", "--images", "-"],
        "says anything of a single image",
    );
    assert_eq!(logs(), 2, "nothing further was measured");
}

/// What `features` writes is a reference, and gives the very number that the images give.
#[test]
fn files_of_statistics_and_features_are_sets() {
    let home = TempDir::new().unwrap();
    let (real, fake) = (folder(&home, "real", 0..20), folder(&home, "fake", 20..36));
    let path = |name: &str| home.path().join(name).display().to_string();
    let (features, statistics, of_fakes) = (path("real.npz"), path("statistics.npz"), path("fake.npz"));
    let layer = ["--layer", "_conv_stem"];
    let args = ["features", &real, "-o", &features, "--statistics", &statistics];
    let output = run(&home, &[&args[..], &layer].concat());
    let said = format!("{statistics}: mean and covariance of 20 images × 32 features\n");
    assert!(text(&output.stdout).ends_with(&said), "{}", text(&output.stderr));
    // From features as from images.
    let again = path("again.npz");
    assert!(run(&home, &["features", &features, "--statistics", &again]).status.success());
    assert!(fs::read(&statistics).unwrap() == fs::read(&again).unwrap());
    assert!(run(&home, &[&["features", &fake, "-o", &of_fakes][..], &layer].concat()).status.success());

    let json = path("r.json");
    let report = |args: &[&str], more: &[&str]| -> Value {
        let args =
            [&["compare"][..], args, more, &["--json", &json, "--bootstrap", "20", "--null-splits", "2"]];
        let output = run(&home, &args.concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap()
    };
    let metrics = ["--metrics", "fd,asw,realism"];
    let of_images = report(&[&real, &fake], &[&metrics[..], &layer].concat());
    let of_features = report(&[&features, &of_fakes], &metrics);
    for (a, b) in
        of_images["metrics"].as_array().unwrap().iter().zip(of_features["metrics"].as_array().unwrap())
    {
        for key in ["name", "value", "std_error", "ci_low", "null_mean"] {
            assert_eq!(a[key], b[key], "{key}");
        }
    }
    assert_eq!(of_features["images"][0]["path"], "020.png");
    assert_eq!(of_features["backbone"]["name"], "unknown");
    assert!(of_features["backbone"]["weights_sha256"].is_null());
    let mixed = report(&[&statistics, &fake], &[&metrics[..], &layer].concat());
    let distance = &mixed["metrics"][0];
    assert_eq!(distance["value"], of_images["metrics"][0]["value"]);
    assert!(
        distance["n_reference"].is_null() && distance["null_mean"].is_null() && distance["ci_low"].is_f64()
    );
    let method = distance["method"].as_str().unwrap();
    assert!(
        method.ends_with("of the generated images alone; the reference's statistics stay as they are"),
        "{method}"
    );
    let note = mixed["metrics"][1]["note"].as_str().unwrap();
    assert!(note.ends_with("statistics.npz holds mean and covariance alone"), "{note}");
    assert!(mixed["reference"]["n"].is_null() && mixed["anomaly_score"].is_null());
    let kinds: Vec<&str> =
        mixed["warnings"].as_array().unwrap().iter().map(|w| w["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"file_of_unknown_origin"), "{kinds:?}");
    let both = report(
        &[&statistics, &fake, &of_fakes],
        &[&["--metrics", "fd", "--pair-permutations", "9"][..], &layer].concat(),
    );
    assert_eq!(both["pairs"][0]["difference"], 0.0);

    let refused = |args: &[&str], part: &str| {
        let output = run(&home, &[&["compare"][..], args].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(part), "{}", text(&output.stderr));
    };
    refused(
        &[&statistics, &fake, layer[0], layer[1]],
        "statistics.npz: complexity and vulnerability were not measured",
    );
    refused(
        &[&statistics, &fake, "--metrics", "fd"],
        "expected backbone.feature_dim = 32, found backbone.feature_dim = 1280",
    );
    let other = path("other.npz");
    fs::copy("../../fixtures/spectral/hostile-no-sigma.npz", &other).unwrap();
    refused(&[&other, &fake, "--metrics", "fd"], "neither images, features nor statistics; expected arr_0");
    let output = run(&home, &["rank", &features]);
    assert!(text(&output.stderr).contains("features have no rank"), "{}", text(&output.stderr));
    let output = run(&home, &["features", &statistics, "-o", &other]);
    assert!(
        text(&output.stderr).contains("mean and covariance of a set, not its images"),
        "{}",
        text(&output.stderr)
    );
}

/// By sub-folders, of a table too, and by a file, for one model and for several.
#[test]
fn classes_are_reported_one_by_one() {
    let home = TempDir::new().unwrap();
    for (name, seeds) in
        [("real/a", 0..7), ("real/b", 7..14), ("fake/a", 14..20), ("fake/b", 20..26), ("fake/c", 26..28)]
    {
        folder(&home, name, seeds);
    }
    let path = |name: &str| home.path().join(name).display().to_string();
    let (real, fake, json, table) = (path("real"), path("fake"), path("r.json"), path("fake.parquet"));
    let run_json = |args: &[&str]| -> (Value, String) {
        let output =
            run(&home, &[&["compare"][..], args, &["--json", &json, "--permutations", "9"], &SHORT].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        (serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap(), text(&output.stdout))
    };
    let (of_folders, shown) = run_json(&[&real, &fake, "--metrics", "as,asw", "--by-class"]);
    assert!(shown.contains("By class (2 in both sets)"), "{shown}");
    assert!(shown.contains("only in the generated set, without reference images: c"), "{shown}");
    let classes = of_folders["classes"].as_array().unwrap();
    let names: Vec<&str> = classes.iter().map(|c| c["class"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(
        classes[0]["anomaly_score"]["value"].is_f64()
            && classes[0]["anomaly_score_i_generated"]["ci_low"].is_f64()
    );
    assert_eq!((&classes[1]["n_reference"], &classes[1]["n_generated"]), (&7.into(), &6.into()));
    assert!(classes[1]["metrics"][1]["ci_low"].is_f64() && classes[2]["note"].is_string());

    let output = run(&home, &[&["measure", &fake, "-o", &table][..], &SHORT[..6]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let csv = path("classes.csv");
    let rows = ["a", "b", "c"]
        .iter()
        .zip([0..20, 7..26, 26..28])
        .flat_map(|(class, seeds)| seeds.map(move |seed| format!("{class}/{seed:03}.png,{class}")));
    fs::write(&csv, format!("path,class\n{}\n", rows.collect::<Vec<_>>().join("\n"))).unwrap();
    let (of_file, _) = run_json(&[&real, &table, "--metrics", "as,asw", "--by-class", &csv]);
    assert_eq!(of_file["classes"], of_folders["classes"]);
    let (of_models, shown) =
        run_json(&[&real, &fake, &table, "--metrics", "asw", "--by-class", "--pair-permutations", "9"]);
    assert_eq!(of_models["models"][1]["classes"][0]["n_generated"], 6);
    assert!(shown.contains("model 2: By class"), "{shown}");

    let output =
        run(&home, &["compare", &real, &path("fake/a"), "--by-class", "--metrics", "fd", "--no-cache"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--by-class: no image has a class"), "{}", text(&output.stderr));
}

#[test]
fn several_models_are_told_apart() {
    let home = TempDir::new().unwrap();
    let (real, near, far) =
        (folder(&home, "real", 0..8), folder(&home, "near", 8..14), folder(&home, "far", 14..19));
    let json = home.path().join("r.json").display().to_string();
    let args =
        ["compare", &real, &near, &far, "--metrics", "as,asw", "--pair-permutations", "19", "--json", &json];
    let output = run(&home, &[&args[..], &SHORT].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.contains("Is one model better?") && shown.contains("model 2"), "{shown}");
    let of: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!((of["models"].as_array().unwrap().len(), of["pairs"].as_array().unwrap().len()), (2, 2));
    assert_eq!(of["models"][1]["generated"]["source"], far);
    assert!(of["pairs"][1]["p_holm"].as_f64().unwrap() >= 0.05);
    // The cache has all images; so has one table, each with its model.
    let output = run(&home, &[&args[..6], &["--pair-permutations", "0", "--images", "-"], &SHORT].concat());
    let images = text(&output.stdout);
    let rows: Vec<&str> = images.lines().collect();
    assert_eq!((rows[0], rows.len()), ("model,path,complexity,vulnerability,anomaly_score_i", 12));
    assert!(
        rows[1].starts_with(&format!("{near},008.png,")) && rows[7].starts_with(&format!("{far},014.png,")),
        "{images}"
    );
}

/// With held-out images the likelihood of a copy is a column, of each image its own.
#[test]
fn copies_stand_out_in_the_table_of_images() {
    let home = TempDir::new().unwrap();
    let (train, test) = (folder(&home, "train", 0..12), folder(&home, "test", 12..22));
    let fake = folder(&home, "fake", 30..36);
    fs::copy(format!("{train}/003.png"), format!("{fake}/copy.png")).unwrap();
    let args = ["compare", &train, &fake, "--held-out", &test, "--metrics", "fls,pog", "--images", "-"];
    let output = run(&home, &[&args[..], &SHORT].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let images = text(&output.stdout);
    let mut rows = images.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = rows.next().unwrap();
    assert_eq!(header.last(), Some(&"memorisation_likelihood"));
    let of = |row: &Vec<&str>| row.last().unwrap().parse::<f64>().unwrap();
    let rows: Vec<Vec<&str>> = rows.collect();
    let copy = rows.iter().find(|row| row[0] == "copy.png").unwrap();
    assert!(rows.iter().all(|row| row[0] == "copy.png" || of(row) < of(copy)), "{images}");
    assert_eq!(copy[4], "", "realism was not asked for");
}

#[test]
fn a_preset_refuses_what_contradicts_it() {
    let home = TempDir::new().unwrap();
    let images = folder(&home, "images", 0..2);
    let table = home.path().join("t.parquet").display().to_string();
    let output = run(&home, &["measure", &images, "-o", &table, "--steps", "2", "--attack-steps", "1"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let refused = |args: &[&str], part: &str| {
        let output = run(&home, &[&["compare", &table, &table][..], args].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(part), "{}", text(&output.stderr));
    };
    refused(
        &["--preset", "clean-fid", "--backbone", "dinov2-vits14"],
        "--preset clean-fid: means --backbone inception-v3-fid; leave out one of the two",
    );
    refused(&["--preset", "clean-fid", "--resampler", "tf1-bilinear"], "means --resampler pil-bicubic-f32");
    refused(&["--preset", "edm2", "--resize", "crop"], "means the other --resize");
    refused(
        &["--preset", "pytorch-fid"],
        "expected backbone inception-v3-fid, resampler torch-bilinear/squash",
    );
    refused(&["--preset", "fid"], "torch-fidelity");
}
