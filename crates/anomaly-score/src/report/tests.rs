//! The formats, read as snapshots of one report; the report, read against what must hold for any tables.

mod files;
mod warnings;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::measure::protocol;
use crate::table::{BackboneSettings, Flags, Measurement, Row, Scores, Writer};

fn settings(source: &str) -> Settings {
    let backbone = BackboneSettings {
        name: "efficientnet-lite0".into(),
        weights_sha256: "0123456789abcdef".repeat(4),
        input_px: 224,
        feature_dim: 3,
        layer: None,
    };
    Settings::new(protocol("paper"), backbone, Some("fused"), "bicubic-antialias", 7, source, None)
}

/// An image whose content, and so its hash, is `content`.
fn row(path: &str, content: u8, complexity: Option<f64>, vulnerability: Option<f64>) -> Row {
    let scores = Scores {
        content_hash: [content; 32],
        width: 64,
        height: 48,
        complexity,
        vulnerability,
        anomaly_score_i: complexity.filter(|&c| c > 0.0).zip(vulnerability).map(|(c, v)| v / c),
        noise_floor: complexity.map(|_| 1e-6),
        restart_spread: None,
        flags: Flags { complexity_undefined: complexity.is_none(), ..Flags::default() },
    };
    let feature = vec![f32::from(content), -0.5, 1.0 / 3.0];
    Row { path: path.into(), measurement: Measurement { scores, feature } }
}

/// `n` images with contents from `first` on, their numbers a function of the content.
fn rows(first: u8, n: u8) -> Vec<Row> {
    let number = |k: u8| (f64::from(k) * 0.618_034).fract() + 0.1;
    (first..first + n)
        .map(|k| row(&format!("{k:03}.png"), k, Some(number(k)), Some(number(k.wrapping_mul(7)) * 30.0)))
        .collect()
}

fn table(settings: Settings, rows: &[Row], skipped: &[(&str, &str)]) -> Table {
    let mut writer = Writer::create(None, settings, None).unwrap();
    for row in rows {
        writer.append(row).unwrap();
    }
    for (path, reason) in skipped {
        writer.skip(Skipped { path: (*path).into(), reason: (*reason).into() });
    }
    writer.finish().unwrap()
}

fn compare(reference: &Table, generated: &Table) -> Result<Report> {
    Report::from_tables(reference, generated, &PermutationOptions { permutations: 99, seed: 7 }, Vec::new())
}

fn kinds(report: &Report) -> Vec<&'static str> {
    report.warnings.iter().map(Warning::kind).collect()
}

/// A report made by hand, with something of everything: undefined numbers, twelve images, awkward paths, every kind of
/// warning.
fn report() -> Report {
    let image = |path: &str, complexity: Option<f64>, vulnerability: f64| ImageReport {
        path: path.into(),
        complexity,
        vulnerability: Some(vulnerability),
        anomaly_score_i: complexity.filter(|&c| c > 0.0).map(|c| vulnerability / c),
        columns: None,
    };
    let mut images = vec![
        image("a, \"quoted\".png", Some(0.091_25), 31.0625),
        image("b\u{1b}[2J\n.png", Some(0.0625), 40.5),
        image("deep/er/é.png", Some(0.071), 38.25),
        image("flat.png", Some(0.0), 12.0),
        image("one-colour.png", None, 20.125),
    ];
    images.extend((0..10).map(|i| {
        image(&format!("samples/{i:02}.png"), Some(0.05 + 0.004 * f64::from(i)), 45.0 - f64::from(i))
    }));
    images.push(image(&format!("{}/end.png", "long/".repeat(30)), Some(0.000_012_5), 45.0));
    images.sort_by(|a, b| a.path.cmp(&b.path));
    let spread = |mean, std_dev, median| Spread { mean: Some(mean), std_dev, median: Some(median) };
    Report {
        tool: Tool { name: "anomaly-score".into(), version: "0.1.0".into() },
        protocol: settings("").protocol,
        backbone: Backbone::of(&settings("")),
        resampler: "bicubic-antialias".into(),
        seed: 7,
        preset: None,
        reference: SetReport {
            source: "photos".into(),
            arithmetic: Some("fused".into()),
            n: Some(120),
            skipped: vec![Skipped { path: "cut.jpg".into(), reason: "truncated after 4096 bytes".into() }],
            complexity: spread(0.0925, Some(0.0125), 0.090_94),
            vulnerability: spread(36.0, None, 35.5),
        },
        generated: SetReport {
            source: "/data/models/gan/samples.tar.gz".into(),
            arithmetic: Some("bfloat16x3".into()),
            n: Some(16),
            skipped: Vec::new(),
            complexity: spread(0.07, Some(0.02), 0.0665),
            vulnerability: spread(38.0, Some(9.75), 41.0),
        },
        anomaly_score: Some(AnomalyScore {
            value: 0.325,
            p_value: Some(0.055),
            p_value_asymptotic: None,
            permutations: 199,
            null_mean: Some(0.252_083_333),
            null_q95: Some(0.333_3),
            n_reference: 120,
            n_generated: 15,
        }),
        metrics: Vec::new(),
        claims: None,
        preflight: None,
        classes: None,
        images,
        warnings: vec![
            Warning::SameSet { n: 1 },
            Warning::SameSet { n: 120 },
            Warning::SharedImages { count: 3, n_generated: 16 },
            Warning::NotAboveFloor { value: 0.325, null_q95: 0.3333, n_reference: 120, n_generated: 15 },
            Warning::SmallN { n_reference: 120, n_generated: 15, null_mean: Some(0.252_083_333) },
            Warning::ClaimsReversed { complexity: 0.5, vulnerability: -0.625 },
            Warning::MetricsAtFloor {
                metrics: vec![AtFloor {
                    title: "Recall".into(),
                    value: 0.5,
                    limit: 0.45,
                    n: 8,
                    needed: Some(120),
                }],
            },
            Warning::SmallN { n_reference: 120, n_generated: 15, null_mean: None },
            Warning::NoiseFloor { set: Set::Reference, floor: 0.0098, complexity: 0.0118 },
            Warning::NoiseFloor { set: Set::Generated, floor: 0.0098, complexity: 0.0 },
            Warning::UndefinedRows { set: Set::Generated, count: 1 },
            Warning::UndefinedRows { set: Set::Reference, count: 2 },
            Warning::SkippedImages { set: Set::Reference, count: 1 },
            Warning::SkippedImages { set: Set::Generated, count: 2 },
            Warning::AlphaComposited { set: Set::Reference, count: 1 },
            Warning::AlphaComposited { set: Set::Generated, count: 2 },
            Warning::Arithmetic {
                sets: vec![(Set::Reference, "fused".into()), (Set::Generated, "bfloat16x3".into())],
                rounding: Rounding::Scores,
            },
            Warning::Arithmetic {
                sets: vec![
                    (Set::Reference, "bfloat16x3".into()),
                    (Set::Generated, "separate".into()),
                    (Set::HeldOut, "fused".into()),
                ],
                rounding: Rounding::Features,
            },
            Warning::Arithmetic {
                sets: vec![(Set::Reference, "bfloat16x3".into()), (Set::Generated, "fused".into())],
                rounding: Rounding::Noise,
            },
            Warning::FileOfUnknownOrigin { file: "stats.npz".into(), features: "inception-v3-fid".into() },
            Warning::Unclassified { set: Set::Generated, count: 2 },
            Warning::CacheUnusable {
                message: "the cache is locked\x07 by another run; it was not used".into(),
            },
            Warning::Preset { name: "edm2".into(), limits: "pixels are clipped".into() },
            Warning::Demo,
        ],
    }
}

/// The same with further metrics: one whole, one without floor and interval, one undefined; claims; columns.
fn report_with_metrics() -> Report {
    use crate::evaluate::{Claim, Direction};
    use crate::stats::{Alternative, RankMethod};
    let whole = MetricResult {
        name: "frechet_distance".into(),
        title: "Fréchet distance".into(),
        features: Some("efficientnet-lite0".into()),
        direction: Direction::Lower,
        value: Some(312.25),
        std_error: Some(10.5),
        ci_low: Some(290.125),
        ci_high: Some(335.0),
        n_reference: Some(120),
        n_generated: Some(16),
        method: Some("BCa bootstrap, 200 resamples, 95 % interval".into()),
        seed: 7,
        null_mean: Some(81.5),
        null_q05: None,
        null_q95: Some(99.75),
        null_n_reference: Some(104),
        null_n_generated: Some(16),
        note: None,
    };
    let precision = MetricResult {
        name: "precision".into(),
        title: "Precision".into(),
        direction: Direction::Higher,
        value: Some(0.8125),
        ci_low: None,
        ci_high: None,
        null_mean: Some(0.9),
        null_q05: Some(0.85),
        null_q95: None,
        note: Some("no interval: --bootstrap 0".into()),
        ..whole.clone()
    };
    let undefined = MetricResult {
        name: "inception_score".into(),
        title: "Inception Score".into(),
        direction: Direction::Higher,
        value: None,
        std_error: None,
        ci_low: None,
        ci_high: None,
        n_reference: None,
        method: None,
        null_mean: None,
        null_q95: None,
        null_n_reference: None,
        null_n_generated: None,
        note: Some("needs class logits, not efficientnet-lite0".into()),
        ..whole.clone()
    };
    let complexity = Claim {
        generated: Alternative::Less,
        p_value: Some(0.0),
        log10_p: Some(-412.25),
        p_method: Some(RankMethod::Normal),
        cliffs_delta: Some(-0.5),
        ci_low: Some(-0.625),
        ci_high: Some(-0.375),
        welch_log10_p: Some(-9.5),
        n_reference: 120,
        n_generated: 15,
    };
    let vulnerability = Claim {
        generated: Alternative::Greater,
        p_value: Some(0.0625),
        log10_p: Some(-1.204_119_982_655_925),
        cliffs_delta: Some(0.25),
        ci_low: None,
        ci_high: None,
        welch_log10_p: None,
        ..complexity
    };
    let mut report = report();
    report.preset = Some("edm2".into());
    report.metrics = vec![whole, precision, undefined];
    report.claims = Some(Claims { complexity, vulnerability });
    for (i, image) in report.images.iter_mut().enumerate() {
        image.columns = Some(ImageColumns {
            realism: Some(0.5 + i as f64).filter(|_| i != 1),
            rarity: Some(12.5).filter(|_| i % 3 == 0),
            nearest_reference: Some(format!("photos, {i}.jpg")),
            nearest_distance: Some(i as f64 / 4.0),
            authentic: Some(i > 0),
            memorisation_likelihood: Some(-1.25),
        });
    }
    report.images.truncate(5);
    report.warnings = vec![Warning::SmallN { n_reference: 120, n_generated: 15, null_mean: None }];
    report.preflight = Some(before_measuring());
    report
}

/// Of numbers alone, so that it says what it does not know; `small_n` stands among the warnings too.
fn before_measuring() -> Preflight {
    use crate::preflight::{Question, Role, SetFacts};
    let question = Question {
        selection: evaluate::Selection::default(),
        conventions: evaluate::Conventions::default(),
        layers: Vec::new(),
        squash: false,
    };
    let set = |source, role, n| SetFacts::of_numbers(source, role, Some(n));
    let sets = [set("photos", Role::Reference, 120), set("fakes\u{1b}[2J", Role::Generated, 16)];
    Preflight::of(&sets, &question)
}

#[test]
fn with_metrics() {
    let report = report_with_metrics();
    insta::assert_snapshot!("metrics_as_json", json(&report).unwrap());
    insta::assert_snapshot!("metrics_as_csv", csv(&report.images).unwrap());
    insta::assert_snapshot!("metrics_on_the_terminal", terminal(&report));
    assert!(terminal(&report).lines().all(|line| line.chars().count() <= 100));
}

/// Classes with every gap there may be.
fn classes(n: usize) -> Vec<ClassResult> {
    use crate::stats::MedianInterval;
    let metrics = report_with_metrics().metrics;
    let class = |i: usize| ClassResult {
        class: format!("class {i:03}"),
        n_reference: 50 + i,
        n_generated: 40,
        anomaly_score_i_reference: None,
        anomaly_score_i_generated: Some(MedianInterval {
            median: 300.0 + i as f64,
            ci_low: Some(290.0),
            ci_high: None,
            n: 40,
        }),
        anomaly_score: None,
        metrics: metrics
            .iter()
            .map(|m| MetricResult { value: m.value.map(|v| v + (i * 7 % 11) as f64 * 0.01), ..m.clone() })
            .collect(),
        note: None,
    };
    let mut classes: Vec<ClassResult> = (0..n).map(class).collect();
    classes[1].metrics.iter_mut().for_each(|m| m.value = None);
    classes[1].anomaly_score_i_generated = None;
    let one_sided = |name: &str, n_reference, n_generated| ClassResult {
        class: name.into(),
        n_reference,
        n_generated,
        anomaly_score_i_generated: None,
        metrics: Vec::new(),
        note: Some("no images".into()),
        ..class(0)
    };
    classes.push(one_sided("b\u{1b}[2J", 3, 0));
    classes.push(one_sided("a class of a very long name that tells nothing", 0, 4));
    classes
}

#[test]
fn classes_on_the_terminal() {
    let few = terminal(&Report { classes: Some(classes(4)), ..report_with_metrics() });
    let few = &few[few.find("By class").unwrap()..few.find("Generated images").unwrap()];
    insta::assert_snapshot!(few);
    let many = terminal(&Report { classes: Some(classes(50)), ..report_with_metrics() });
    assert!(many.contains("By class (the 40 worst of 50 by "), "{many}");
    assert!(many.lines().all(|line| line.chars().count() <= 100));
    assert_eq!(many.lines().filter(|line| line.starts_with("  class 0")).count(), 40);
    assert!(!many.contains("class 001"), "without a value it is the last");
}

#[test]
fn classes_in_json() {
    let report = Report { classes: Some(classes(2)), ..report_with_metrics() };
    let value: Value = serde_json::from_str(&json(&report).unwrap()).unwrap();
    let class = &value["classes"][0];
    let keys: Vec<&String> = class.as_object().unwrap().keys().collect();
    let expected = "class n_reference n_generated anomaly_score_i_reference anomaly_score_i_generated anomaly_score \
                    metrics note";
    assert_eq!(keys, expected.split(' ').collect::<Vec<_>>());
    assert_eq!(class["anomaly_score_i_generated"]["median"], 300.0);
    assert!(
        class["anomaly_score_i_generated"]["ci_high"].is_null() && value["classes"][2]["note"].is_string()
    );
}

/// Three models, and pairs of every outcome.
fn models() -> Models {
    use crate::evaluate::{Direction, PairResult};
    let mut reports = vec![report_with_metrics(), report_with_metrics(), report_with_metrics()];
    for (i, report) in reports.iter_mut().enumerate() {
        report.generated.source = format!("models/{}", ["gan", "diffusion", "b\u{1b}[2J"][i]);
        report.generated.n = report.generated.n.map(|n| n + i);
        report.images.clear();
        report.metrics.iter_mut().for_each(|m| m.value = m.value.map(|v| v / (i + 1) as f64));
        report.metrics.iter_mut().skip(i).for_each(|m| m.note = None);
    }
    reports[1].claims = None;
    reports[2].warnings = vec![Warning::Demo];
    let pair = |a: usize, b: usize, difference: Option<f64>, p: Option<f64>, note: Option<&str>| PairResult {
        a: reports[a].generated.source.clone(),
        b: reports[b].generated.source.clone(),
        metric: "frechet_distance".into(),
        direction: Direction::Lower,
        difference,
        p_value: p,
        p_holm: p.map(|p| (2.0 * p).min(1.0)),
        permutations: 999,
        seed: 7,
        note: note.map(str::to_owned),
    };
    let pairs = vec![
        pair(0, 1, Some(156.125), Some(0.001), None),
        pair(0, 2, Some(-3.5), Some(0.625), None),
        pair(1, 2, None, None, Some("undefined for these images, or once some are exchanged")),
    ];
    Models { models: reports, pairs }
}

#[test]
fn several_models() {
    let models = models();
    let text = terminal_of_models(&models);
    insta::assert_snapshot!("models_on_the_terminal", text);
    assert!(text.lines().all(|line| line.chars().count() <= 100));
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
    let value: Value = serde_json::from_str(&json(&models).unwrap()).unwrap();
    let keys: Vec<_> = value["pairs"][0].as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys.join(" "), "a b metric direction difference p_value p_holm permutations seed note");
    assert_eq!(value["models"][1]["generated"]["source"], "models/diffusion");
}

#[test]
fn as_json() {
    insta::assert_snapshot!(json(&report()).unwrap());
}

#[test]
fn as_csv() {
    insta::assert_snapshot!(csv(&report().images).unwrap());
}

#[test]
fn on_the_terminal() {
    insta::assert_snapshot!(terminal(&report()));
}

#[test]
fn on_the_terminal_with_little_to_show() {
    let mut report = report();
    report.warnings.clear();
    report.images.truncate(4);
    report.anomaly_score = Some(AnomalyScore {
        p_value: None,
        null_mean: None,
        null_q95: None,
        permutations: 0,
        ..report.anomaly_score.unwrap()
    });
    report.backbone.layer = Some("blocks.2".into());
    insta::assert_snapshot!(terminal(&report));
    report.images.clear();
    assert!(terminal(&report).ends_with("\nNo generated image has an AS-i: V / C is defined for none.\n"));
}

#[test]
fn the_terminal_gets_no_commands_and_no_long_lines() {
    let text = terminal(&report());
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{line}");
        assert_eq!(line.trim_end(), line);
    }
}

/// The keys as the issue that asked for them lists them, in order.
#[test]
fn json_has_the_promised_keys() {
    let value: Value = serde_json::from_str(&json(&report()).unwrap()).unwrap();
    let keys = |at: &str| {
        let object = value.pointer(at).unwrap().as_object().unwrap();
        object.keys().cloned().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        keys(""),
        "tool protocol backbone resampler seed reference generated anomaly_score images warnings"
    );
    assert_eq!(keys("/tool"), "name version");
    assert!(keys("/protocol").starts_with("name "));
    assert_eq!(keys("/backbone"), "name weights_sha256 input_px feature_dim");
    for set in ["/reference", "/generated"] {
        assert_eq!(keys(set), "source arithmetic n skipped complexity vulnerability");
        assert_eq!(keys(&format!("{set}/complexity")), "mean std_dev median");
        assert_eq!(keys(&format!("{set}/vulnerability")), "mean std_dev median");
    }
    assert_eq!(keys("/reference/skipped/0"), "path reason");
    assert_eq!(
        keys("/anomaly_score"),
        "value p_value p_value_asymptotic permutations null_mean null_q95 n_reference n_generated"
    );
    assert_eq!(keys("/images/0"), "path complexity vulnerability anomaly_score_i");
    assert_eq!(keys("/warnings/0"), "kind message");

    let documented = include_str!("../../../../docs/json.md");
    let mut names = Vec::new();
    collect_keys(&value, &mut names);
    let value: Value = serde_json::from_str(&json(&report_with_metrics()).unwrap()).unwrap();
    collect_keys(&value, &mut names);
    collect_keys(&serde_json::to_value(models()).unwrap(), &mut names);
    names.extend(report().warnings.iter().map(|w| w.kind().to_owned()));
    for name in names {
        let as_key = [format!("`{name}`"), format!(".{name}`")];
        assert!(as_key.iter().any(|key| documented.contains(key)), "{name} is not documented");
    }
}

fn collect_keys(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            names.push(name.clone());
            collect_keys(value, names);
        }),
        Value::Array(items) => items.iter().for_each(|item| collect_keys(item, names)),
        _ => {}
    }
}

proptest! {
    /// Both formats give every path and every bit of every number back.
    #[test]
    fn csv_and_json_lose_nothing(
        images in prop::collection::vec((".*", prop::option::of(0.0..3.2f64), prop::option::of(0.0..1e300f64)), 0..8),
    ) {
        let images: Vec<ImageReport> = images
            .into_iter()
            .map(|(path, complexity, vulnerability)| {
                let anomaly_score_i = complexity.zip(vulnerability).map(|(c, v)| v * c);
                ImageReport { path, complexity, vulnerability, anomaly_score_i, columns: None }
            })
            .collect();
        let text = csv(&images).unwrap();
        prop_assert!(text.starts_with("path,complexity,vulnerability,anomaly_score_i\n"));
        let mut reader = ::csv::Reader::from_reader(text.as_bytes());
        let number = |cell: &str| if cell.is_empty() { None } else { Some(cell.parse().unwrap()) };
        let read: Vec<ImageReport> = reader
            .records()
            .map(|record| {
                let record = record.unwrap();
                ImageReport {
                    path: record[0].to_owned(),
                    complexity: number(&record[1]),
                    vulnerability: number(&record[2]),
                    anomaly_score_i: number(&record[3]),
                    columns: None,
                }
            })
            .collect();
        prop_assert_eq!(&read, &images);

        let text = json(&Report { images: images.clone(), ..report() }).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        for (read, image) in value["images"].as_array().unwrap().iter().zip(&images) {
            prop_assert_eq!(read["path"].as_str(), Some(image.path.as_str()));
            prop_assert_eq!(read["complexity"].as_f64(), image.complexity);
            prop_assert_eq!(read["vulnerability"].as_f64(), image.vulnerability);
            prop_assert_eq!(read["anomaly_score_i"].as_f64(), image.anomaly_score_i);
        }
    }
}
