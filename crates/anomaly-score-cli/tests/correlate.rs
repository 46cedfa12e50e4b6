//! `correlate` as a user meets it.

use std::fs;
use std::process::Output;

use tempfile::TempDir;

use program::{program, text};

mod program;

fn run(home: &TempDir, args: &[&str]) -> Output {
    program(home).current_dir(home.path()).args(args).output().unwrap()
}

/// Twelve images of two generators, rated; better ones have lower scores.
fn write_tables(home: &TempDir) {
    let (mut people, mut images) = ("image,generator,mos\n".to_owned(), "path,complexity,fd\n".to_owned());
    for i in 0..12 {
        people += &format!("{}/{i:02}.png,{},{}\n", i % 2, ["old", "new"][i % 2], (i * 5 % 12) as f64 / 2.0);
        images += &format!("{}/{i:02}.png,0.1,{}\n", i % 2, 20 - i * 5 % 12 + i % 3);
    }
    people += "0/gone.png,old,3\n";
    fs::write(home.path().join("mos.csv"), people).unwrap();
    fs::write(home.path().join("images.csv"), images).unwrap();
}

const JOINED: [&str; 10] =
    ["correlate", "mos.csv", "--join", "images.csv", "--on", "image", "--score", "fd", "--human", "mos"];

#[test]
fn tables_are_joined_and_correlated_in_every_form() {
    let home = TempDir::new().unwrap();
    write_tables(&home);
    let options = ["--group", "generator", "--lower-is-better", "--resamples", "500"];
    let args = [&JOINED[..], &options].concat();
    let output = run(&home, &[&args[..], &["--json", "a.json", "--svg", "a.svg"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(
        shown.starts_with(
            "fd against mos, mos.csv with images.csv: 12 of 13 rows, 1 not in the joined table\n"
        )
    );
    for part in ["Kendall τ-b", "pairwise accuracy", "lower = better", "  old\n", "└────"] {
        assert!(shown.contains(part), "{part:?} is missing from:\n{shown}");
    }
    let svg = fs::read_to_string(home.path().join("a.svg")).unwrap();
    assert_eq!(svg.matches("r=\"3\"").count(), 12, "a circle an image");
    let json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(home.path().join("a.json")).unwrap()).unwrap();
    assert_eq!(json["rows"]["not_joined"], 1);
    let tau = &json["pooled"]["kendall_tau_b"];
    let [value, low, high] = ["value", "ci_low", "ci_high"].map(|key| tau[key].as_f64().unwrap());
    assert!(low < value && value < high && high < 0.0, "{tau}");
    assert!(json["pooled"]["pairwise_accuracy"]["value"].as_f64().unwrap() > 0.8);
    assert_eq!(json["groups"][0]["name"], "new");

    // A stream holds nothing else, and the seed decides every digit.
    let streamed = run(&home, &[&args[..], &["--json", "-"]].concat());
    assert_eq!(text(&streamed.stdout), fs::read_to_string(home.path().join("a.json")).unwrap());
    let other = run(&home, &[&args[..], &["--json", "-", "--seed", "1"]].concat());
    assert_ne!(streamed.stdout, other.stdout);
}

#[test]
fn raters_are_averaged_to_models() {
    let home = TempDir::new().unwrap();
    let ratings = "model,fd,error\na,3,0.1\na,3,0.3\nb,2,0.3\nb,2,0.4\nc,1,0.5\nc,1,\nd,4,0.1\n";
    fs::write(home.path().join("r.csv"), ratings).unwrap();
    let args = ["correlate", "r.csv", "--score", "fd", "--human", "error", "--mean-by", "model"];
    let output = run(&home, &args);
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(shown.contains("6 of 7 rows, 1 without error; averaged to 4 values of model"), "{shown}");
    // (.1 + .3)/2 with standard error .1.
    assert!(shown.contains("2  3.000        0.0  0.2000      0.100  a\n"), "{shown}");
}

#[test]
fn mistakes_are_explained() {
    let home = TempDir::new().unwrap();
    write_tables(&home);
    fs::write(home.path().join("bad.csv"), "a,b\n1,2\n2,high\n3,4\n").unwrap();
    let cases: [(&[&str], &str); 5] = [
        (
            &["correlate", "mos.csv", "--score", "fd", "--human", "mos"],
            "mos.csv: has no such column; expected \"fd\", found image, generator, mos",
        ),
        (
            &["correlate", "bad.csv", "--score", "a", "--human", "b"],
            "bad.csv: line 3, column \"b\": not a number; expected a finite number, or an empty cell for a missing \
             one, found \"high\"",
        ),
        (
            &["correlate", "mos.csv", "--join", "images.csv", "--score", "fd", "--human", "mos"],
            "expected \"path\", found image, generator, mos",
        ),
        (&["correlate", "none.csv", "--score", "a", "--human", "b"], "none.csv: cannot be read"),
        (
            &["correlate", "bad.csv", "--score", "a", "--human", "a", "--confidence", "95"],
            "confidence: no interval has this coverage",
        ),
    ];
    for (args, part) in cases {
        let output = run(&home, args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(text(&output.stderr).contains(part), "{args:?}: {}", text(&output.stderr));
    }
}
