//! Sets of instructions that round differently: forced, told apart, compared.

use std::fs;
use std::process::Output;

use anomaly_score::backbone::arithmetic;
use image::{Rgb, RgbImage};
use tempfile::TempDir;

use program::{program, text};

mod program;

/// `None`: as whoever runs the tests has it.
fn run(home: &TempDir, isa: Option<&str>, args: &[&str]) -> Output {
    let mut command = program(home);
    command.envs(isa.map(|isa| ("ANOMALY_SCORE_ISA", isa))).args(args).output().unwrap()
}

fn ran(home: &TempDir, isa: Option<&str>, args: &[&str]) -> Output {
    let output = run(home, isa, args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    output
}

fn folder(home: &TempDir, name: &str, seeds: std::ops::Range<u32>) -> String {
    let folder = home.path().join(name);
    fs::create_dir_all(&folder).unwrap();
    for seed in seeds {
        let wave = |x: u32, y: u32, k: u32| {
            ((x * (k + seed % 5) + y * (seed % 11)) as f32 * 0.1).sin() * 80.0 + 128.0
        };
        let picture = RgbImage::from_fn(40, 36, |x, y| Rgb([1, 2, 3].map(|k| wave(x, y, k) as u8)));
        picture.save(folder.join(format!("{seed}.png"))).unwrap();
    }
    path(home, name)
}

fn path(home: &TempDir, name: &str) -> String {
    home.path().join(name).to_str().unwrap().to_owned()
}

fn json(file: &str) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// What is measured by other instructions is compared, with a warning where they round differently; on a machine that has no others
/// than the portable ones there is nothing to warn of.
#[test]
fn tables_of_two_arithmetics_are_compared_with_a_warning() {
    let home = TempDir::new().unwrap();
    let (real, fake) = (folder(&home, "real", 0..2), folder(&home, "fake", 2..4));
    let [real_table, fake_table, report] = ["r.parquet", "f.parquet", "r.json"].map(|name| path(&home, name));
    let differ = arithmetic() != "separate";
    for kind in [&["--features-only"][..], &["--steps", "2", "--attack-steps", "1"]] {
        let measure = |images, table| [&["measure", images, "-o", table, "--no-preflight"], kind].concat();
        ran(&home, Some("portable"), &measure(&real, &real_table));
        ran(&home, None, &measure(&fake, &fake_table));
        let metrics = if kind.len() == 1 { "fd" } else { "as,fd" };
        let compare = ["compare", &real_table, &fake_table, "--metrics", metrics, "--no-preflight"];
        ran(&home, None, &[&compare[..], &["--json", &report]].concat());
        let found = json(&report);
        assert_eq!(found["reference"]["arithmetic"], "separate");
        assert_eq!(found["generated"]["arithmetic"], arithmetic());
        let warnings = found["warnings"].as_array().unwrap();
        let told: Vec<_> = warnings.iter().filter(|w| w["kind"] == "arithmetic").collect();
        assert_eq!(told.len(), usize::from(differ), "{warnings:?}");
        for warning in told {
            let message = warning["message"].as_str().unwrap();
            let sides = format!(
                "the reference set was measured in arithmetic separate, the generated set in arithmetic {}. ",
                arithmetic()
            );
            assert!(message.starts_with(&sides) && message.contains("ANOMALY_SCORE_ISA=avx2"), "{message}");
            assert_eq!(message.contains("vulnerability"), kind.len() > 1, "{message}");
        }
        let output = ran(&home, None, &compare);
        let text = text(&output.stdout).replace("\n ", "");
        let named = if differ { format!("separate and {}", arithmetic()) } else { "separate".into() };
        assert!(text.contains(&format!("arithmetic {named}")), "{text}");
    }
    // Before images are measured it can still be had otherwise.
    let compare = ["compare", &real_table, &fake, "--steps", "2", "--attack-steps", "1", "--no-preflight"];
    let errors = text(&ran(&home, None, &compare).stderr);
    assert_eq!(errors.contains("the generated set in arithmetic"), differ, "{errors}");
    assert_eq!(text(&ran(&home, Some("portable"), &compare).stderr), "");
}

/// A measurement by instructions that round otherwise is not taken from the cache.
#[test]
fn measurements_of_two_arithmetics_do_not_mix() {
    let home = TempDir::new().unwrap();
    let images = folder(&home, "images", 0..2);
    let measure = |isa: Option<&str>, name: &str, extra: &[&str]| {
        let table = path(&home, name);
        ran(
            &home,
            isa,
            &[&["measure", &images, "-o", &table, "--no-preflight", "--features-only"], extra].concat(),
        );
        fs::read(&table).unwrap()
    };
    let logs = || fs::read_dir(home.path().join("cache")).unwrap().count();
    let default = measure(None, "a.parquet", &[]);
    assert_eq!(logs(), 1);
    let portable = measure(Some("portable"), "b.parquet", &[]);
    assert!(portable == measure(Some("portable"), "c.parquet", &["--no-cache"]));
    assert!(default == measure(None, "d.parquet", &["--no-cache"]));
    let differ = arithmetic() != "separate";
    assert_eq!((logs(), default != portable), (1 + usize::from(differ), differ));
}

#[test]
fn instructions_that_are_not_there_are_refused() {
    let home = TempDir::new().unwrap();
    let images = folder(&home, "images", 0..1);
    let table = path(&home, "t.parquet");
    let output = run(&home, Some("sse9"), &["measure", &images, "-o", &table]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.starts_with("error: ANOMALY_SCORE_ISA: no instructions have this name; expected one "),
        "{errors}"
    );
    assert!(errors.ends_with("portable), found sse9. Unset it for the first of these\n"), "{errors}");
    assert!(!std::path::Path::new(&table).exists());
    ran(&home, Some(""), &["backbones"]);
}
