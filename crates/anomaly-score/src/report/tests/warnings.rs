//! What a report warns of in its sets, and which it refuses to compare.

use super::*;

#[test]
fn the_same_images_twice() {
    let (a, b) = (table(settings("photos"), &rows(0, 60), &[]), table(settings("photos"), &rows(0, 60), &[]));
    let report = compare(&a, &b).unwrap();
    let score = report.anomaly_score.unwrap();
    assert_eq!((score.value, score.p_value), (1.0 / 60.0, Some(1.0)));
    assert_eq!(kinds(&report), ["same_set", "not_above_floor"]);

    // The same contents under other names are the same set; one image more often is not.
    let mut renamed = rows(0, 60);
    renamed.iter_mut().for_each(|row| row.path.insert_str(0, "copy/"));
    let c = table(settings("copies"), &renamed, &[]);
    assert_eq!(kinds(&compare(&a, &c).unwrap()), ["same_set", "not_above_floor"]);
    renamed.push(row("again.png", 5, Some(0.5), Some(0.5)));
    let d = table(settings("copies"), &renamed, &[]);
    let report = compare(&a, &d).unwrap();
    assert_eq!(report.warnings[0], Warning::SharedImages { count: 61, n_generated: 61 });
}

#[test]
fn shared_images_are_counted_from_one_in_a_hundred_on() {
    let reference = table(settings("photos"), &rows(0, 101), &[]);
    // 1 of 100 is not more than 1 %; 2 of 101 are.
    let generated = |first| compare(&reference, &table(settings("fakes"), &rows(first, 100), &[])).unwrap();
    assert!(!kinds(&generated(100)).contains(&"shared_images"));
    assert!(generated(99).warnings.contains(&Warning::SharedImages { count: 2, n_generated: 100 }));
}

#[test]
fn sets_apart_are_said_to_be() {
    let mut apart = rows(100, 60);
    for row in &mut apart {
        row.measurement.scores.vulnerability = Some(1000.0);
        row.measurement.scores.complexity = Some(0.01);
    }
    let (a, b) = (table(settings("photos"), &rows(0, 60), &[]), table(settings("fakes"), &apart, &[]));
    let report = compare(&a, &b).unwrap();
    // All generated points are left of and above all reference points, so some quadrant holds one set and nothing else.
    let score = report.anomaly_score.unwrap();
    assert_eq!((score.value, score.p_value), (1.0, Some(0.01)));
    assert_eq!(report.warnings, []);
    assert_eq!(
        report.generated.vulnerability,
        Spread { mean: Some(1000.0), std_dev: Some(0.0), median: Some(1000.0) }
    );
    assert_eq!((report.reference.source.as_str(), report.generated.source.as_str()), ("photos", "fakes"));
    assert_eq!(report.images.len(), 60);
    assert!(report.images.is_sorted_by(|a, b| a.path < b.path));
}

#[test]
fn reversed_claims_are_warned_about_where_both_are_clear() {
    let told = |complexity: f64, vulnerability: f64, n, extra: &[Warning]| {
        let mut moved = rows(100, n);
        for row in &mut moved {
            let scores = &mut row.measurement.scores;
            scores.complexity = scores.complexity.map(|c| c + complexity);
            scores.vulnerability = scores.vulnerability.map(|v| v + vulnerability);
        }
        let (a, b) = (table(settings("photos"), &rows(0, n), &[]), table(settings("fakes"), &moved, &[]));
        let options = PermutationOptions { permutations: 9, seed: 7 };
        let report = Report::from_tables(&a, &b, &options, extra.to_vec()).unwrap();
        kinds(&report).contains(&"claims_reversed")
    };
    let of = |complexity, vulnerability, n| told(complexity, vulnerability, n, &[]);
    assert!(of(0.5, -15.0, 60));
    assert!(!told(0.5, -15.0, 60, &[Warning::Demo]), "the demo says so itself");
    assert!(!of(-0.5, 15.0, 60), "as the paper has it");
    assert!(!of(0.5, 15.0, 60) && !of(-0.5, -15.0, 60), "one of two");
    assert!(!of(0.05, -1.5, 60), "too little");
    assert!(!of(0.3, -9.0, 4), "too few images");
}

#[test]
fn metrics_at_their_floor_follow_the_scores_own_warning() {
    let mut report = report();
    report.metrics = report_with_metrics().metrics;
    assert_eq!(floor::at_floor(&report.metrics), None, "above its floor, or without one");
    report.metrics[0].value = report.metrics[0].null_q95;
    let Some(Warning::MetricsAtFloor { metrics }) = floor::at_floor(&report.metrics) else { panic!() };
    assert_eq!(metrics[0].title, "Fréchet distance");
}

#[test]
fn undefined_rows_stay_out_of_the_score_and_are_counted() {
    let mut with_gaps = rows(100, 10);
    let score_without = {
        let (a, b) = (table(settings("photos"), &rows(0, 10), &[]), table(settings("f"), &with_gaps, &[]));
        compare(&a, &b).unwrap().anomaly_score
    };
    with_gaps.push(row("no-c.png", 200, None, Some(1e9)));
    with_gaps.push(row("no-v.png", 201, Some(3.0), None));
    let a = table(settings("photos"), &rows(0, 10), &[]);
    let b = table(settings("fakes"), &with_gaps, &[("cut.png", "truncated")]);
    let extra = vec![Warning::CacheUnusable { message: "locked".into() }];
    let options = PermutationOptions { permutations: 99, seed: 7 };
    let report = Report::from_tables(&a, &b, &options, extra).unwrap();
    assert_eq!(report.anomaly_score, score_without);
    assert_eq!((report.generated.n, report.anomaly_score.unwrap().n_generated), (Some(12), 10));
    assert_eq!(report.images.len(), 12);
    let gap = report.images.iter().find(|i| i.path == "no-c.png").unwrap();
    assert_eq!((gap.complexity, gap.vulnerability, gap.anomaly_score_i), (None, Some(1e9), None));
    for warning in [
        Warning::UndefinedRows { set: Set::Generated, count: 2 },
        Warning::SkippedImages { set: Set::Generated, count: 1 },
        Warning::SmallN { n_reference: 10, n_generated: 10, null_mean: score_without.unwrap().null_mean },
    ] {
        assert!(report.warnings.contains(&warning), "{warning:?}");
    }
    assert_eq!(kinds(&report).last(), Some(&"cache_unusable"));
}

#[test]
fn noise_and_transparency_are_warned_about_by_set() {
    let mut noisy = rows(100, 60);
    for row in &mut noisy {
        row.measurement.scores.complexity = Some(0.02);
        row.measurement.scores.noise_floor = Some(0.002);
    }
    noisy[3].measurement.scores.flags.alpha_composited = true;
    let a = table(settings("photos"), &rows(0, 60), &[]);
    let of = |rows: &[Row]| compare(&a, &table(settings("fakes"), rows, &[])).unwrap();
    assert_eq!(of(&noisy).warnings, [Warning::AlphaComposited { set: Set::Generated, count: 1 }]);
    // The median is what counts: 31 of 60 images above a tenth.
    for row in &mut noisy[..31] {
        row.measurement.scores.noise_floor = Some(0.0021);
    }
    let warning = Warning::NoiseFloor { set: Set::Generated, floor: 0.0021, complexity: 0.02 };
    assert_eq!(of(&noisy).warnings[0], warning);
}

#[test]
fn too_few_images_say_what_became_of_the_others() {
    let a = table(settings("photos"), &rows(0, 3), &[]);
    let gaps = [row("a.png", 200, None, None), row("b.png", 201, None, Some(1.0)), rows(50, 1).remove(0)];
    let b = table(settings("fakes"), &gaps, &[("x.png", "zero bytes"), ("y.png", "truncated")]);
    let e = compare(&a, &b).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::TooFewImages);
    assert_eq!(
        e.to_string(),
        "the generated set (fakes): too few usable images to compare; expected at least 2, found 1 of 3 measured; \
         complexity is undefined for 2, vulnerability for 1; 2 could not be read, first x.png: zero bytes. \
         Add images, or repair those left out; a score worth reading needs 50 or more in each set"
    );
    let empty = table(settings("nothing"), &[], &[]);
    assert!(compare(&empty, &b).unwrap_err().to_string().starts_with(
        "the reference set (nothing): too few usable images to compare; expected at least 2, found 0 of 0 measured."
    ));
}

#[test]
fn tables_of_different_settings_are_refused() {
    let mut other = settings("fakes");
    other.protocol.name = "exact".into();
    let (a, b) = (table(settings("photos"), &rows(0, 3), &[]), table(other, &rows(50, 3), &[]));
    let e = compare(&a, &b).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::SettingsMismatch);
    assert!(e.to_string().starts_with(
        "the generated set (fakes): not measured in the same way as the reference set (photos); \
         expected protocol.name = paper, found protocol.name = exact."
    ));
}

/// Measured on two machines, or by an older program: compared, and only what is known to differ is warned about.
#[test]
fn sets_of_two_arithmetics_are_compared_with_a_warning() {
    let of = |source: &str, arithmetic: Option<&str>| {
        let settings = Settings { arithmetic: arithmetic.map(str::to_owned), ..settings(source) };
        table(settings, &rows(if source == "photos" { 0 } else { 100 }, 60), &[])
    };
    let report = |reference: Option<&str>, generated: Option<&str>| {
        compare(&of("photos", reference), &of("fakes", generated)).unwrap()
    };
    let two = report(Some("fused"), Some("bfloat16x3"));
    let sets = vec![(Set::Reference, "fused".into()), (Set::Generated, "bfloat16x3".into())];
    assert!(two.warnings.contains(&Warning::Arithmetic { sets, rounding: Rounding::Scores }));
    assert_eq!(two.generated.arithmetic.as_deref(), Some("bfloat16x3"));
    assert!(terminal(&two).replace("\n ", "").contains("seed 7, arithmetic fused and bfloat16x3\n"));
    for (reference, generated) in
        [(Some("fused"), Some("fused")), (None, Some("fused")), (Some("separate"), None)]
    {
        let one = report(reference, generated);
        assert!(!kinds(&one).contains(&"arithmetic"), "{reference:?} {generated:?}");
        assert_eq!(one.anomaly_score, two.anomaly_score);
        assert_eq!(one.reference.arithmetic.as_deref(), reference);
    }
    assert!(!terminal(&report(None, None)).contains("arithmetic"));

    // Where one holds features alone nothing is said of complexity and vulnerability.
    let mut features = Settings { arithmetic: Some("separate".into()), ..settings("fakes") };
    features.protocol = protocol(crate::table::FEATURES_ONLY);
    let one = compare(&of("photos", Some("fused")), &table(features, &rows(100, 60), &[])).unwrap();
    let sets = vec![(Set::Reference, "fused".into()), (Set::Generated, "separate".into())];
    assert_eq!(one.warnings, [Warning::Arithmetic { sets, rounding: Rounding::Features }]);
}

/// Where complexity is partly rounding, sets of two arithmetics may be apart by that alone, and nothing matters more.
#[test]
fn two_arithmetics_of_noise_come_first() {
    let of = |source: &str, first: u8, arithmetic: &str, noise: f64| {
        let mut rows = rows(first, 60);
        for row in &mut rows {
            row.measurement.scores.complexity = Some(0.02);
            row.measurement.scores.noise_floor = Some(noise);
        }
        table(Settings { arithmetic: Some(arithmetic.into()), ..settings(source) }, &rows, &[])
    };
    let told = |arithmetics: [&str; 2], noise| {
        let [a, b] = arithmetics;
        compare(&of("photos", 0, a, 0.001), &of("fakes", 100, b, noise)).unwrap().warnings
    };
    let first = told(["bfloat16x3", "fused"], 0.0021).remove(0);
    let Warning::Arithmetic { rounding: Rounding::Noise, .. } = first else { panic!("{first:?}") };
    let quiet = told(["bfloat16x3", "fused"], 0.001);
    assert!(matches!(quiet[..], [.., Warning::Arithmetic { rounding: Rounding::Scores, .. }]), "{quiet:?}");
    assert!(told(["fused"; 2], 0.0021).iter().all(|w| w.kind() != "arithmetic"));
}

/// Held-out images join the other two.
#[test]
fn held_out_images_of_another_arithmetic_are_warned_about() {
    let of = |source: &str, arithmetic: &str, first| {
        table(Settings { arithmetic: Some(arithmetic.into()), ..settings(source) }, &rows(first, 20), &[])
    };
    let told = |arithmetics: [&str; 3]| {
        let tables: Vec<Table> = ["photos", "fakes", "test"]
            .into_iter()
            .zip(arithmetics)
            .zip([0, 50, 100])
            .map(|((s, a), k)| of(s, a, k))
            .collect();
        let sets: Vec<FeatureSet> = tables.iter().map(|t| FeatureSet::read(t, "set").unwrap()).collect();
        let mut report = compare(&tables[0], &tables[1]).unwrap();
        let selection = evaluate::Selection::of(&["ct".to_owned()]).unwrap();
        let options = evaluate::Options::new(selection, 7);
        let [reference, generated] = [Side::Images(&sets[0]), Side::Images(&sets[1])];
        report.evaluate(reference, generated, Some(&sets[2]), &options).unwrap();
        let of_arithmetic = |w: &Warning| match w {
            Warning::Arithmetic { sets, .. } => Some(sets.iter().map(|(set, _)| *set).collect::<Vec<_>>()),
            _ => None,
        };
        report.warnings.iter().filter_map(of_arithmetic).collect::<Vec<_>>()
    };
    let all = vec![vec![Set::Reference, Set::Generated, Set::HeldOut]];
    assert_eq!(told(["fused", "fused", "separate"]), all);
    assert_eq!(told(["fused", "separate", "separate"]), all);
    assert!(told(["fused"; 3]).is_empty());
}
