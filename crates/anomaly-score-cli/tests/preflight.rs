//! `preflight`, and what `compare` and `measure` say before they begin.

use std::fs;
use std::process::Output;

use image::{Rgb, RgbImage};
use serde_json::Value;
use tempfile::TempDir;

use program::{program, text};

mod program;

fn run(home: &TempDir, args: &[&str]) -> Output {
    program(home).current_dir(home.path()).args(args).output().unwrap()
}

/// Fields of random tones, no two pictures alike. Fields of 8 pixels would be JPEG's.
fn picture(seed: u32) -> RgbImage {
    RgbImage::from_fn(63, 63, |x, y| {
        let mut field = seed * 100 + y / 7 * 9 + x / 7 + 1;
        let mut tone = || {
            field = field.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            ((field >> ((field >> 28) + 4)) ^ field) as u8
        };
        Rgb([tone(), tone(), tone()])
    })
}

fn folder(home: &TempDir, name: &str, seeds: std::ops::Range<u32>) {
    let folder = home.path().join(name);
    fs::create_dir_all(&folder).unwrap();
    for seed in seeds {
        picture(seed).save(folder.join(format!("{seed:03}.png"))).unwrap();
    }
}

fn findings(report: &Value) -> Vec<String> {
    let all = report["findings"].as_array().unwrap();
    all.iter().map(|f| f["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_status_says_whether_something_was_found() {
    let home = TempDir::new().unwrap();
    folder(&home, "cats", 0..20);
    folder(&home, "dogs", 20..40);
    // kd is defined for any n; other metrics want more images than a test makes.
    let kd = ["--metrics", "kd"];
    let good = run(&home, &[&["preflight", "cats", "dogs"][..], &kd].concat());
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stdout));
    let said = text(&good.stdout);
    assert!(said.contains("reference  20  PNG"), "{said}");
    assert!(said.contains("note: enlarged_images:") && !said.contains("warning"), "{said}");

    fs::write(home.path().join("dogs/broken.png"), b"no picture").unwrap();
    let broken = run(&home, &[&["preflight", "cats", "dogs"][..], &kd].concat());
    assert_eq!(broken.status.code(), Some(2));
    assert!(
        text(&broken.stdout).contains("skipped_images: 1 of 21 files of dogs"),
        "{}",
        text(&broken.stdout)
    );
    let agreed = run(&home, &[&["preflight", "cats", "dogs", "--on-error", "skip"][..], &kd].concat());
    assert_eq!(agreed.status.code(), Some(0));

    picture(3).save(home.path().join("dogs/copy.bmp")).unwrap();
    let leak = run(&home, &[&["preflight", "cats", "dogs", "--json", "-"][..], &kd].concat());
    assert_eq!(leak.status.code(), Some(3));
    let report: Value = serde_json::from_slice(&leak.stdout).unwrap();
    assert_eq!(findings(&report), ["shared_images", "skipped_images", "enlarged_images", "enlarged_images"]);
    let found = &report["findings"][0];
    assert_eq!(found["images"][0], serde_json::json!({"path": "copy.bmp", "copy_of": "003.png"}));
    assert_eq!(found["sets"], serde_json::json!(["dogs", "cats"]));
    assert_eq!(report["sets"][1]["file_types"][1], serde_json::json!({"name": "BMP", "count": 1}));

    assert_eq!(run(&home, &["preflight", "nowhere", "dogs"]).status.code(), Some(1));
    let own = run(&home, &["preflight", "cats", "dogs", "--backbone", "model.onnx"]);
    assert_eq!(own.status.code(), Some(1));
    assert!(text(&own.stderr).contains("leave it out"), "{}", text(&own.stderr));
    let both = run(&home, &["preflight", "cats", "dogs", "--preset", "clean-fid", "--backbone", "resnet50"]);
    assert!(text(&both.stderr).contains("means --backbone inception-v3-fid"), "{}", text(&both.stderr));

    // A set alone, and one that the network takes as it is.
    let alone = run(&home, &["preflight", "cats", "--backbone", "resnet20-cifar"]);
    assert_eq!(alone.status.code(), Some(0), "{}", text(&alone.stdout));
    assert!(text(&alone.stdout).ends_with("Nothing was found that would spoil a comparison.\n"));
    // Too few for what will be asked.
    let few = run(&home, &["preflight", "cats", "cats", "--limit", "4", "--metrics", "fd,recall"]);
    let said = text(&few.stdout);
    assert!(
        said.contains("same_set") && said.contains("too_few_for_metric") && said.contains("rank_deficient"),
        "{said}"
    );
}

#[test]
fn compare_and_measure_say_it_before_they_begin() {
    let home = TempDir::new().unwrap();
    folder(&home, "cats", 0..4);
    folder(&home, "dogs", 3..7);
    folder(&home, "birds", 7..11);
    const SHORT: [&str; 4] = ["--steps", "2", "--attack-steps", "1"];
    let measured = run(&home, &[&["measure", "dogs", "-o", "dogs.parquet"][..], &SHORT].concat());
    assert!(measured.status.success());
    assert!(
        text(&measured.stderr).starts_with("note: enlarged_images: 4 of 4"),
        "{}",
        text(&measured.stderr)
    );
    let quiet = run(&home, &[&["measure", "cats", "-o", "c.parquet", "--no-preflight"][..], &SHORT].concat());
    assert_eq!(text(&quiet.stderr), "");

    let args = ["compare", "cats", "dogs.parquet", "birds", "--json", "report.json"];
    let compared = run(&home, &[&args[..], &SHORT].concat());
    let said = text(&compared.stderr);
    assert!(compared.status.success(), "{said}");
    assert!(said.contains("warning: shared_images: 1 of 4 images of dogs are in cats too"), "{said}");
    assert!(said.contains("unknown_facts: of dogs only a table is here"), "{said}");
    let report: Value =
        serde_json::from_str(&fs::read_to_string(home.path().join("report.json")).unwrap()).unwrap();
    let of = |model: usize| findings(&report["models"][model]["preflight"]);
    assert_eq!(of(0), ["shared_images", "small_n", "enlarged_images", "enlarged_images", "unknown_facts"]);
    assert_eq!(of(1), ["small_n", "enlarged_images", "enlarged_images"], "what concerns this model only");
    assert_eq!(report["models"][1]["preflight"]["sets"][1]["source"], "birds");
    // The report says it again, but for what its own warnings say with the numbers at hand.
    let terminal = text(&compared.stdout);
    assert!(terminal.contains("Before measuring") && terminal.contains("unknown_facts"), "{terminal}");
}
