//! Instructions that round differently: chosen, forced, told apart, compared.

use std::fs;
use std::path::Path;
use std::process::Output;

use anomaly_score::table::Table;
use image::{Rgb, RgbImage};
use tempfile::TempDir;

use program::{program, text};

mod program;

/// `None`: nothing forced.
fn run(home: &TempDir, isa: Option<&str>, args: &[&str]) -> Output {
    let mut command = program(home);
    command.envs(isa.map(|isa| ("ANOMALY_SCORE_ISA", isa))).args(args).output().unwrap()
}

/// What `fused` and `fastest` have to be on this machine, by other means than theirs.
fn expected(home: &TempDir) -> [&'static str; 2] {
    #[cfg(target_arch = "x86_64")]
    let fused = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    let fused = false;
    let fused = if fused { "fused" } else { "separate" };
    let tiles = run(home, Some("amx"), &["backbones"]).status.success();
    [fused, if tiles { "bfloat16x3" } else { fused }]
}

/// What a table says it was measured in.
fn recorded(table: &str) -> String {
    Table::open(Path::new(table)).unwrap().settings().arithmetic.clone().unwrap()
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
    let [fused, fastest] = expected(&home);
    let differ = fused != "separate";
    for kind in [&["--features-only"][..], &["--steps", "2", "--attack-steps", "1"]] {
        let measure = |images, table| [&["measure", images, "-o", table, "--no-preflight"], kind].concat();
        ran(&home, Some("portable"), &measure(&real, &real_table));
        ran(&home, None, &measure(&fake, &fake_table));
        let (metrics, arithmetic) = if kind.len() == 1 { ("fd", fastest) } else { ("as,fd", fused) };
        let compare = ["compare", &real_table, &fake_table, "--metrics", metrics, "--no-preflight"];
        ran(&home, None, &[&compare[..], &["--json", &report]].concat());
        let found = json(&report);
        assert_eq!(found["reference"]["arithmetic"], "separate");
        assert_eq!(found["generated"]["arithmetic"], arithmetic);
        let warnings = found["warnings"].as_array().unwrap();
        let told: Vec<_> = warnings.iter().filter(|w| w["kind"] == "arithmetic").collect();
        assert_eq!(told.len(), usize::from(differ), "{warnings:?}");
        for warning in told {
            let message = warning["message"].as_str().unwrap();
            let sides = format!(
                "the reference set was measured in arithmetic separate, the generated set in arithmetic {arithmetic}. "
            );
            assert!(message.starts_with(&sides) && message.contains("--arithmetic fused"), "{message}");
            assert_eq!(message.contains("vulnerability"), kind.len() > 1, "{message}");
        }
        let output = ran(&home, None, &compare);
        let text = text(&output.stdout).replace("\n ", "");
        let named = if differ { format!("separate and {arithmetic}") } else { "separate".into() };
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
    let differ = expected(&home)[1] != "separate";
    assert_eq!((logs(), default != portable), (1 + usize::from(differ), differ));
}

/// Where rounding decides a part of the numbers they are the same on every machine; where it decides none they are had fastest.
#[test]
fn the_protocol_chooses_the_arithmetic() {
    let home = TempDir::new().unwrap();
    let images = folder(&home, "images", 0..1);
    let [fused, fastest] = expected(&home);
    let smooth = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/onnx/tokens-dynamo.onnx");
    let smooth = smooth.to_str().unwrap();
    let table = path(&home, "t.parquet");
    for (method, arithmetic) in [
        (&["--attack-steps", "1"][..], fused),
        (&["--protocol", "official-code"], fused),
        (&["--protocol", "exact"], fastest),
        (&["--features-only"], fastest),
        (&["--features-only", "--arithmetic", "fused"], fused),
        (&["--protocol", "paper", "--arithmetic", "fastest"], fastest),
    ] {
        let args = ["measure", &images, "-o", &table, "--no-preflight", "--backbone", smooth];
        ran(&home, None, &[&args[..], method].concat());
        assert_eq!(recorded(&table), arithmetic, "{method:?}");
        fs::remove_file(&table).unwrap();
    }
}

/// `fused` gives the bits of AVX2; `fastest` others where there is a tile unit, and only there.
#[test]
fn fused_and_fastest_are_two_where_there_is_a_tile_unit() {
    let home = TempDir::new().unwrap();
    let images = folder(&home, "images", 0..2);
    let [fused, fastest] = expected(&home);
    let features = |isa: Option<&str>, extra: &[&str]| {
        let file = path(&home, "f.npz");
        ran(&home, isa, &[&["features", &images, "-o", &file], extra].concat());
        fs::read(&file).unwrap()
    };
    let logs = || fs::read_dir(home.path().join("cache")).unwrap().count();
    let narrow = features(None, &["--arithmetic", "fused"]);
    assert_eq!(logs(), 1);
    let wide = features(None, &["--arithmetic", "fastest"]);
    assert_eq!((narrow != wide, logs()), (fused != fastest, if fused == fastest { 1 } else { 2 }));
    assert!(wide == features(None, &["--no-cache"]));
    let avx2 = if fused == "fused" { "avx2" } else { "portable" };
    assert!(narrow == features(Some(avx2), &["--no-cache"]));
}

/// Images are measured as the table beside them was, where nothing else is asked for.
#[test]
fn a_table_of_this_machine_is_no_other_arithmetic() {
    let home = TempDir::new().unwrap();
    let (real, fake) = (folder(&home, "real", 0..2), folder(&home, "fake", 2..4));
    let report = path(&home, "r.json");
    for (choice, arithmetic) in ["fused", "fastest"].into_iter().zip(expected(&home)) {
        let table = path(&home, &format!("{choice}.parquet"));
        let args = ["measure", &real, "-o", &table, "--no-preflight", "--features-only"];
        ran(&home, None, &[&args[..], &["--arithmetic", choice]].concat());
        for sets in [[&table, &fake], [&fake, &table]] {
            let args = ["compare", sets[0], sets[1], "--metrics", "fd", "--no-preflight", "--json", &report];
            assert_eq!(text(&ran(&home, None, &args).stderr).matches("arithmetic").count(), 0);
            let found = json(&report);
            assert_eq!(found["reference"]["arithmetic"], arithmetic);
            assert_eq!(found["generated"]["arithmetic"], arithmetic);
        }
    }
}

/// Two ways to choose that disagree: neither is followed without a word.
#[test]
fn an_arithmetic_that_the_forced_instructions_do_not_have_is_refused() {
    let home = TempDir::new().unwrap();
    let images = folder(&home, "images", 0..1);
    let file = path(&home, "f.npz");
    let choices = ["fused", "fastest"].into_iter().zip(expected(&home));
    for (choice, arithmetic) in choices {
        for (isa, of_isa) in [("portable", "separate"), ("avx2", "fused"), ("amx", "bfloat16x3")] {
            if !run(&home, Some(isa), &["backbones"]).status.success() {
                continue;
            }
            let output = run(&home, Some(isa), &["features", &images, "-o", &file, "--arithmetic", choice]);
            let errors = text(&output.stderr);
            if of_isa == arithmetic {
                assert!(output.status.success(), "{errors}");
                fs::remove_file(&file).unwrap();
                continue;
            }
            assert_eq!(output.status.code(), Some(1), "{choice} {isa}");
            let said = format!(
                "error: --arithmetic: ANOMALY_SCORE_ISA asks for another; expected instructions of arithmetic {arithmetic}, \
                 which `{choice}` is on this machine, found ANOMALY_SCORE_ISA={isa}, of arithmetic {of_isa}. Leave out one of the two\n"
            );
            assert_eq!(errors, said);
            assert!(!Path::new(&file).exists());
        }
    }
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
    assert!(!Path::new(&table).exists());
    ran(&home, Some(""), &["backbones"]);
}
