//! Against the metrics' own functions, closed forms and conventions, on tables made here.

use super::*;
use crate::measure::protocol;
use crate::set_metric::{
    Gaussian, Moments, PermutationOptions, Statistics, anomaly_score, frechet_distance, prdc,
};
use crate::stats::{Alternative, counter_rng};
use crate::table::{Flags, Measurement, Row, Scores, Settings, Table, Writer};
use rand_distr::{Distribution, StandardNormal};

const DIM: usize = 4;

fn settings(backbone: &str) -> Settings {
    let backbone = BackboneSettings {
        name: backbone.into(),
        weights_sha256: "0123456789abcdef".repeat(4),
        input_px: 224,
        feature_dim: DIM as u32,
        layer: None,
    };
    Settings::new(protocol("paper"), backbone, Some("fused"), "bicubic-antialias", 7, "images", None)
}

/// `n` images of a normal distribution about `mean`; path `prefix` and a number.
fn images(prefix: &str, n: usize, mean: f32, std_dev: f32) -> Vec<Row> {
    let mut rng = counter_rng(1, "test/evaluate", prefix.as_bytes());
    let mut normal = || -> f64 { StandardNormal.sample(&mut rng) };
    (0..n)
        .map(|i| {
            let feature = (0..DIM).map(|_| mean + std_dev * normal() as f32).collect();
            let scores = Scores {
                content_hash: [i as u8; 32],
                width: 64,
                height: 48,
                complexity: Some(0.5 + 0.01 * normal() - 0.01 * f64::from(mean)),
                vulnerability: Some(30.0 + normal() + f64::from(mean)),
                anomaly_score_i: None,
                noise_floor: None,
                restart_spread: None,
                flags: Flags::default(),
            };
            Row { path: format!("{prefix}{i:03}.png"), measurement: Measurement { scores, feature } }
        })
        .collect()
}

fn table(backbone: &str, rows: &[Row]) -> Table {
    let mut writer = Writer::create(None, settings(backbone), None).unwrap();
    rows.iter().for_each(|row| writer.append(row).unwrap());
    writer.finish().unwrap()
}

fn set(rows: &[Row]) -> FeatureSet {
    FeatureSet::read(&table("resnet18", rows), "set").unwrap()
}

fn features(rows: &[Row]) -> Vec<f32> {
    rows.iter().flat_map(|row| row.measurement.feature.clone()).collect()
}

fn run(
    reference: &[Row],
    generated: &[Row],
    words: &[&str],
    change: impl FnOnce(&mut Options),
) -> Evaluation {
    let mut options = Options::new(Selection::of(words).unwrap(), 7);
    change(&mut options);
    let points = |rows: &[Row]| set(rows).points;
    let score = anomaly_score(
        &points(reference),
        &points(generated),
        &PermutationOptions { permutations: 99, seed: 7 },
    );
    let (reference, generated) = (set(reference), set(generated));
    evaluate(Side::Images(&reference), Side::Images(&generated), None, Some(&score.unwrap()), &options)
        .unwrap()
}

fn named<'a>(evaluation: &'a Evaluation, name: &str) -> &'a MetricResult {
    evaluation.metrics.iter().find(|m| m.name == name).unwrap()
}

fn without_uncertainty(options: &mut Options) {
    (options.bootstrap, options.null_splits) = (Some(0), Some(0));
}

#[test]
fn values_are_those_of_the_metrics_with_the_sets_in_their_places() {
    let (real, fake) = (images("r", 60, 0.0, 1.0), images("g", 40, 0.3, 0.6));
    let found = run(&real, &fake, &["all"], without_uncertainty);
    let (a, b) = (features(&real), features(&fake));
    let (a, b) = (Features::new("a", &a, DIM).unwrap(), Features::new("b", &b, DIM).unwrap());
    let expected = prdc(a, b, &PrdcOptions::default()).unwrap();
    let value = |name: &str| named(&found, name).value.unwrap();
    assert_eq!(value("precision"), expected.precision);
    assert_eq!(value("recall"), expected.recall);
    assert_eq!(value("density"), expected.density);
    assert_eq!(value("coverage"), expected.coverage);
    assert!(expected.precision > expected.recall, "less varied images: precise, and no great recall");
    let gaussian = |set| Moments::of(set).gaussian(1).unwrap();
    assert_eq!(value("frechet_distance"), frechet_distance(&gaussian(a), &gaussian(b)).unwrap().value);
    // ‖Δμ‖² = 4·.09 and 4·(1 − .6)²: 1.0, with the bias of few images and sampling on top.
    assert!((0.5..2.5).contains(&value("frechet_distance")));
    assert_eq!(found.metrics.len(), METRICS.len());
    assert_eq!(named(&found, "vendi_score").n_reference, None);
    assert_eq!((named(&found, "mind").n_reference, named(&found, "mind").n_generated), (Some(60), Some(40)));
    for metric in &found.metrics {
        let impossible = ["inception_score", "cmmd", "fls", "fls_overfit_gaussians", "fld", "ct"];
        let possible = !impossible.contains(&metric.name.as_str());
        assert_eq!(metric.value.is_some(), possible, "{metric:?}");
        assert_eq!((metric.std_error, metric.ci_low), (None, None));
        assert!(metric.note.is_some(), "what is missing is explained: {metric:?}");
    }
    assert!(
        named(&found, "inception_score")
            .note
            .as_ref()
            .unwrap()
            .starts_with("needs class logits, not resnet18;")
    );
}

/// Another order of files and another number of threads: the same bits, each image keeping its own columns.
#[test]
fn neither_order_nor_threads_change_a_bit() {
    let (real, fake) = (images("r", 24, 0.0, 1.0), images("g", 16, 0.5, 1.0));
    let few = |options: &mut Options| (options.bootstrap, options.null_splits) = (Some(20), Some(5));
    let on = |threads: usize, real: &[Row], fake: &[Row]| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(real, fake, &["all"], few))
    };
    let one = on(1, &real, &fake);
    assert_eq!(one, on(3, &real, &fake));
    let renamed = |rows: &[Row]| -> Vec<Row> {
        let n = rows.len();
        let new = |(i, row): (usize, &Row)| Row { path: format!("{:03}{}", n - i, row.path), ..row.clone() };
        rows.iter().enumerate().map(new).collect()
    };
    let other = on(2, &renamed(&real), &renamed(&fake));
    assert_eq!(one.metrics, other.metrics);
    let (columns, mut mirrored) = (one.images.unwrap(), other.images.unwrap());
    mirrored.reverse();
    for (a, b) in columns.iter().zip(&mirrored) {
        assert_eq!((a.realism, a.rarity, a.nearest_distance), (b.realism, b.rarity, b.nearest_distance));
        assert!(b.nearest_reference.as_ref().unwrap().ends_with(a.nearest_reference.as_ref().unwrap()));
    }
}

#[test]
fn intervals_hold_their_values_and_shares_have_the_binomial_error() {
    let (real, fake) = (images("r", 100, 0.0, 1.0), images("g", 80, 0.7, 1.0));
    let found = run(&real, &fake, &["prdc", "kd", "asw", "mind", "as"], |options| {
        (options.bootstrap, options.null_splits) = (Some(400), Some(0));
    });
    for metric in &found.metrics {
        let (low, high) = (metric.ci_low.unwrap(), metric.ci_high.unwrap());
        assert!(low < high && metric.std_error.unwrap() > 0.0, "{metric:?}");
        assert!(metric.method.is_some());
    }
    for (name, n) in [("precision", 80.0), ("recall", 100.0), ("coverage", 100.0)] {
        let metric = named(&found, name);
        let p = metric.value.unwrap();
        let expected = (p * (1.0 - p) / n).sqrt();
        // 400 resamples know a deviation to 3.5 %.
        assert!((metric.std_error.unwrap() / expected - 1.0).abs() < 0.15, "{metric:?}");
    }
    let kernel = named(&found, "kernel_distance");
    let half = 1.959_963_984_540_054 * kernel.std_error.unwrap();
    assert!((kernel.ci_high.unwrap() - kernel.value.unwrap() - half).abs() < 1e-12);
}

#[test]
fn the_floor_is_that_of_equal_sets_of_the_sizes_it_names() {
    let (real, fake) = (images("r", 90, 0.0, 1.0), images("g", 30, 3.0, 1.0));
    let found = run(&real, &fake, &["fd", "precision", "vendi", "as"], |options| {
        (options.bootstrap, options.null_splits) = (Some(0), Some(60));
    });
    let distance = named(&found, "frechet_distance");
    assert_eq!((distance.null_n_reference, distance.null_n_generated), (Some(60), Some(30)));
    assert!(distance.null_q95.unwrap() > distance.null_mean.unwrap() && distance.null_q05.is_none());
    assert!(distance.value.unwrap() > 10.0 * distance.null_q95.unwrap(), "{distance:?}");
    let precision = named(&found, "precision");
    assert!(precision.null_q05.unwrap() < precision.null_mean.unwrap() && precision.null_q95.is_none());
    assert!(precision.value.unwrap() < precision.null_q05.unwrap(), "{precision:?}");
    let vendi = named(&found, "vendi_score");
    assert_eq!((vendi.null_n_reference, vendi.null_n_generated), (None, Some(30)));
    let score = named(&found, "anomaly_score");
    assert_eq!((score.null_n_reference, score.null_n_generated), (Some(90), Some(30)), "of relabellings");
}

#[test]
fn what_cannot_be_computed_says_so() {
    let (real, fake) = (images("r", 3, 0.0, 1.0), images("g", 2, 0.0, 1.0));
    let found = run(&real, &fake, &["all"], |_| {});
    let precision = named(&found, "precision");
    assert_eq!(precision.value, None);
    assert_eq!(
        precision.note.as_deref(),
        Some("reference: too few images for this metric; expected at least 6, found 3")
    );
    let distance = named(&found, "frechet_distance");
    assert!(distance.value.is_some());
    let note = distance.note.as_ref().unwrap();
    assert!(note.starts_with("a covariance has rank 1 of 4: "), "{note}");
    assert!(note.contains("no null floor: undefined for parts of 2 and 1 images"), "{note}");
    let images = found.images.unwrap();
    assert_eq!((images[0].realism, images[0].authentic.is_some()), (None, true));
}

#[test]
fn one_resample_is_refused() {
    let rows = images("r", 6, 0.0, 1.0);
    let points = set(&rows).points;
    let score = anomaly_score(&points, &points, &PermutationOptions::default()).unwrap();
    let options = Options { bootstrap: Some(1), ..Options::new(Selection::of(&["fd"]).unwrap(), 7) };
    let rows = set(&rows);
    let error = evaluate(Side::Images(&rows), Side::Images(&rows), None, Some(&score), &options).unwrap_err();
    assert_eq!(error.to_string(), "--bootstrap: too few for an interval; expected 0 or at least 2, found 1");
}

#[test]
fn a_copy_is_not_authentic_and_names_what_it_copies() {
    let real = images("r", 30, 0.0, 1.0);
    let mut fake = images("g", 10, 0.0, 1.0);
    fake[4].measurement.feature.clone_from(&real[17].measurement.feature);
    let found = run(&real, &fake, &["authpct"], without_uncertainty);
    let copy = &found.images.as_ref().unwrap()[4];
    assert_eq!((copy.nearest_reference.as_deref(), copy.nearest_distance), (Some("r017.png"), Some(0.0)));
    assert_eq!(copy.authentic, Some(false));
    assert!(named(&found, "authpct").value.unwrap() <= 90.0);
}

/// Three below three: one of the 20 arrangements, so p = 1/20; Cliff's δ = ∓1.
#[test]
fn claims_are_tested_in_their_direction() {
    let points = |rows: &[(f64, f64)]| -> Vec<crate::set_metric::Point> {
        rows.iter()
            .map(|&(complexity, vulnerability)| crate::set_metric::Point { complexity, vulnerability })
            .collect()
    };
    let real = points(&[(0.6, 1.0), (0.7, 2.0), (0.8, 3.0)]);
    let fake = points(&[(0.1, 4.0), (0.2, 5.0), (0.3, 6.0)]);
    let claims = Claims::of(&real, &fake).unwrap();
    assert!((claims.complexity.p_value.unwrap() - 0.05).abs() < 1e-15);
    assert!((claims.vulnerability.p_value.unwrap() - 0.05).abs() < 1e-15);
    assert_eq!((claims.complexity.cliffs_delta, claims.vulnerability.cliffs_delta), (Some(-1.0), Some(1.0)));
    assert_eq!(claims.complexity.generated, Alternative::Less);
    let reversed = Claims::of(&fake, &real).unwrap();
    assert_eq!((reversed.complexity.p_value, reversed.vulnerability.p_value), (Some(1.0), Some(1.0)));
    assert!(
        claims.complexity.welch_log10_p.unwrap() < -1.0 && reversed.complexity.welch_log10_p.unwrap() > -0.1
    );
}

/// numpy's subsets in torch-fidelity's order, and both kinds of balls, on sets with many ties. Sums of 10⁶ cubes near 10⁷ that
/// cancel to 10³: 1e-16·10⁷/10³ is 1e-12.
#[test]
fn presets_have_their_tools_numbers() {
    let fixture: serde_json::Value =
        serde_json::from_str(include_str!("../../../../fixtures/evaluate/presets.json")).unwrap();
    let dim = fixture["dim"].as_u64().unwrap() as usize;
    let set = |n: &str, step: usize| -> Vec<f32> {
        let rows = 0..fixture[n].as_u64().unwrap() as usize;
        let entry = |i: usize, j: usize| ((37 * i + 101 * j * j + step * i * j) % 997) as f32 / 64.0;
        rows.flat_map(|i| (0..dim).map(move |j| entry(i, j))).collect()
    };
    let (reference, generated) = (set("n_reference", 11), set("n_generated", 13));
    let reference = Features::new("reference", &reference, dim).unwrap();
    let generated = Features::new("generated", &generated, dim).unwrap();
    let number = |value: &serde_json::Value| value.as_f64().unwrap();

    let torch_fidelity = Preset::find("torch-fidelity").unwrap().conventions;
    let both = Pair::new(reference, generated, &torch_fidelity, 0);
    let found = both.kernel(Metric::KernelDistance).unwrap();
    let expected = number(&fixture["torch_fidelity_kid"]);
    assert!((found.value / expected - 1.0).abs() < 1e-10, "{} {expected}", found.value);
    let expected = number(&fixture["torch_fidelity_kid_std_dev"]);
    assert!((found.spread.unwrap() / expected - 1.0).abs() < 1e-10);
    assert_eq!(found.std_error, None, "a spread over overlapping subsets is no error");
    for (conventions, key) in [(torch_fidelity, "closed_k3"), (Conventions::default(), "open_k5")] {
        let pair = Pair::new(reference, generated, &conventions, 0);
        let metrics = [Metric::Precision, Metric::Recall, Metric::Density, Metric::Coverage];
        for (metric, expected) in metrics.into_iter().zip(fixture[key].as_array().unwrap()) {
            // A quotient of two integers.
            assert!((pair.value(metric).unwrap() - number(expected)).abs() < 1e-15, "{metric:?} {key}");
        }
    }
    let small = [0.5f32; 30];
    let small = Features::new("generated", &small, dim).unwrap();
    let error = Pair::new(reference, small, &torch_fidelity, 0).value(Metric::KernelDistance).unwrap_err();
    assert!(error.contains("expected at least 1000, found 10"), "{error}");
}

#[test]
fn models_that_differ_are_told_apart_and_equal_ones_are_not() {
    let reference = set(&images("r", 60, 0.0, 1.0));
    let near = set(&images("near", 40, 0.2, 1.0));
    let again = set(&images("again", 40, 0.2, 1.0));
    let far = set(&images("far", 30, 2.0, 1.0));
    let reference = Side::Images(&reference);
    let [near, again, far] = [&near, &again, &far].map(Side::Images);
    let options =
        Options::new(Selection::of(&["as", "fd", "precision", "coverage", "rarity", "is"]).unwrap(), 7);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| compare_models(reference, &[near, again, far], &options, Some(199))).unwrap()
    };
    let found = on(1);
    assert_eq!(found, on(2));
    let metrics: Vec<&str> = found.iter().map(|pair| pair.metric.as_str()).collect();
    assert_eq!(metrics.len(), 4 * 3, "rarity has no direction, logits there are none: {metrics:?}");
    for pairs in found.chunks(3) {
        let lower = pairs[0].direction == Direction::Lower;
        assert!(pairs[0].p_value.unwrap() > 0.02, "of one distribution: {:?}", pairs[0]);
        for pair in &pairs[1..] {
            assert!(pair.p_holm.unwrap() <= 0.05, "{pair:?}");
            assert_eq!(pair.difference.unwrap() < 0.0, lower, "the nearer model is the better: {pair:?}");
            assert!(pair.p_holm >= pair.p_value);
        }
    }
    let none = compare_models(reference, &[near, far], &options, Some(0)).unwrap();
    assert!(none.iter().all(|pair| pair.p_value.is_none() && pair.note.is_some()));
}

/// A model that repeats its training images is told by all four; one that draws anew is not.
#[test]
fn held_out_images_show_who_copies() {
    let (train, test) = (images("train", 120, 0.0, 1.0), images("test", 100, 0.0, 1.0));
    let fresh = images("fresh", 90, 0.0, 1.0);
    let mut copies = images("copies", 90, 0.0, 1.0);
    for (copy, original) in copies.iter_mut().zip(&train) {
        let close = original.measurement.feature.iter().zip(&copy.measurement.feature);
        copy.measurement.feature = close.map(|(a, b)| a + 0.001 * b).collect();
    }
    let of = |generated: &[Row]| {
        let points = |rows: &[Row]| set(rows).points;
        let options = PermutationOptions { permutations: 9, seed: 7 };
        let score = anomaly_score(&points(&train), &points(generated), &options).unwrap();
        let options = Options::new(Selection::of(&["fls", "pog", "fld", "ct"]).unwrap(), 7);
        let [train, generated, test] = [&train[..], generated, &test].map(set);
        let (train, generated) = (Side::Images(&train), Side::Images(&generated));
        evaluate(train, generated, Some(&test), Some(&score), &options).unwrap().metrics
    };
    let value = |metrics: &[MetricResult], i: usize| metrics[i].value.unwrap();
    let (copied, drawn) = (of(&copies), of(&fresh));
    assert!(copied[0].method.as_ref().unwrap().ends_with("held-out images: images (100)"));
    assert!(value(&copied, 1) > value(&drawn, 1) + 10.0, "more overfit Gaussians: {copied:?} {drawn:?}");
    assert!(value(&copied, 2) > value(&drawn, 2), "a worse divergence: {copied:?} {drawn:?}");
    assert!(
        value(&copied, 3) < -3.0 && value(&drawn, 3).abs() < 3.0,
        "nearer than held-out images: {copied:?} {drawn:?}"
    );
    assert!(Selection::of(&["fld"]).unwrap().require_held_out().is_err());
    assert!(Selection::of(&["all"]).unwrap().require_held_out().is_ok());
}

/// Known by its statistics a set gives the same distance, to the bit, and says what it cannot give.
#[test]
fn statistics_stand_for_a_set() {
    let (real, fake) = (set(&images("r", 60, 0.0, 1.0)), set(&images("g", 40, 0.3, 0.6)));
    let of = |set: &FeatureSet| {
        let gaussian = set.gaussian(1).unwrap();
        let (mean, covariance) = (gaussian.mean().to_vec(), gaussian.covariance().to_vec());
        let statistics = Statistics::of(Gaussian::new("s.npz", mean, covariance, None).unwrap());
        SetStatistics::new(&statistics, "s.npz", &settings("resnet18")).unwrap()
    };
    let (real_statistics, fake_statistics) = (of(&real), of(&fake));
    let [real, fake] = [&real, &fake].map(Side::Images);
    let [real_statistics, fake_statistics] = [&real_statistics, &fake_statistics].map(Side::Statistics);
    let evaluated = |a: Side, b: Side, words: &[&str]| {
        let options = Options { bootstrap: Some(50), ..Options::new(Selection::of(words).unwrap(), 7) };
        evaluate(a, b, None, None, &options).unwrap().metrics
    };
    let expected = evaluated(real, fake, &["fd", "fd-infinity", "vendi"]);
    let found = evaluated(real_statistics, fake, &["fd", "fd-infinity", "vendi"]);
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(found.value, expected.value, "{found:?}");
        assert_eq!((found.n_reference, found.n_generated), (None, Some(40)));
        assert!(found.ci_low < found.ci_high && found.std_error > Some(0.0), "{found:?}");
        assert!(found.null_mean.is_none() && found.note.as_ref().unwrap().contains("no null floor: "));
    }
    assert_eq!(found[2].std_error, expected[2].std_error, "knows no reference");
    // Less of it is random.
    assert!(found[0].std_error < expected[0].std_error, "{found:?} {expected:?}");
    for (a, b) in [(real, fake_statistics), (real_statistics, fake_statistics)] {
        let all = evaluated(a, b, &["all"]);
        let distance = all.iter().find(|m| m.name == "frechet_distance").unwrap();
        assert_eq!((distance.value, distance.n_generated), (expected[0].value, None));
        assert_eq!(all.iter().filter(|m| m.value.is_some()).count(), 1);
        assert!(all.iter().all(|m| m.note.is_some()));
    }
    let options = Options::new(Selection::of(&["fd", "precision"]).unwrap(), 7);
    let other = set(&images("far", 40, 2.0, 1.0));
    let models = [fake, Side::Images(&other), fake_statistics];
    let pairs = compare_models(real_statistics, &models, &options, Some(99)).unwrap();
    let same = compare_models(real, &models, &options, Some(99)).unwrap();
    assert_eq!(pairs[0], same[0], "the reference is never exchanged");
    assert!(
        pairs[0].p_value.unwrap() <= 0.02 && pairs[1].note.is_some() && pairs[3].note.is_some(),
        "{pairs:?}"
    );
}

fn in_class(class: &str, rows: Vec<Row>) -> Vec<Row> {
    rows.into_iter().map(|row| Row { path: format!("{class}/{}", row.path), ..row }).collect()
}

fn by_class(reference: &[Row], generated: &[Row], classes: &Classes, words: &[&str]) -> Result<ByClass> {
    let options = Options::new(Selection::of(words).unwrap(), 7);
    let permutations = PermutationOptions { permutations: 99, seed: 7 };
    evaluate_classes(&set(reference), &set(generated), None, classes, &permutations, &options)
}

/// The whole set as one class is the whole set, in every bit.
#[test]
fn one_class_has_the_results_of_the_whole() {
    let (real, fake) =
        (in_class("cat", images("r", 40, 0.0, 1.0)), in_class("cat", images("g", 30, 0.3, 0.6)));
    let pooled = run(&real, &fake, &["all"], |_| {});
    let found = by_class(&real, &fake, &Classes::Folders, &["all"]).unwrap();
    assert_eq!((found.classes.len(), found.unclassified), (1, [0, 0]));
    let class = &found.classes[0];
    assert_eq!((class.class.as_str(), class.n_reference, class.n_generated), ("cat", 40, 30));
    assert_eq!(class.metrics, pooled.metrics);
}

/// Classes are told by name alone: under other names, among others, in another order, each has the same results; so has one that
/// is measured by itself.
#[test]
fn classes_do_not_see_each_other() {
    let sets = |[a, b, c]: [&str; 3]| {
        let real = [
            in_class(a, images("ra", 30, 0.0, 1.0)),
            in_class(b, images("rb", 20, 1.0, 1.0)),
            in_class(c, images("rc", 12, 2.0, 1.0)),
            images("none", 3, 0.0, 1.0),
        ];
        let fake = [
            in_class(a, images("ga", 25, 0.2, 1.0)),
            in_class(b, images("gb", 1, 1.0, 1.0)),
            in_class("zebra", images("gz", 9, 2.0, 1.0)),
        ];
        (real.concat(), fake.concat())
    };
    let words = ["as", "fd", "prdc", "kd"];
    let of = |names: [&str; 3]| {
        let (real, fake) = sets(names);
        by_class(&real, &fake, &Classes::Folders, &words).unwrap()
    };
    let (found, renamed) = (of(["ant", "bee", "cow"]), of(["x", "a", "m"]));
    assert_eq!(found.unclassified, [3, 0]);
    let class = |of: &ByClass, name: &str| of.classes.iter().find(|c| c.class == name).unwrap().clone();
    for (old, new) in [("ant", "x"), ("bee", "a"), ("cow", "m"), ("zebra", "zebra")] {
        let renamed = ClassResult { class: old.into(), ..class(&renamed, new) };
        assert_eq!(class(&found, old), renamed);
    }
    let alone = by_class(
        &in_class("ant", images("ra", 30, 0.0, 1.0)),
        &in_class("ant", images("ga", 25, 0.2, 1.0)),
        &Classes::Folders,
        &words,
    );
    assert_eq!(alone.unwrap().classes[0], class(&found, "ant"));

    let small = class(&found, "bee");
    assert_eq!((small.n_generated, small.anomaly_score), (1, None));
    assert!(small.metrics.iter().all(|m| m.value.is_none() && m.note.is_some()), "{:?}", small.metrics);
    let ant = class(&found, "ant");
    assert!(ant.anomaly_score.unwrap().p_value.is_some() && ant.metrics[1].null_mean.is_some());
    for (name, note) in
        [("cow", "no generated images of this class"), ("zebra", "no reference images of this class")]
    {
        let class = class(&found, name);
        assert_eq!((class.note.as_deref(), class.metrics.len()), (Some(note), 0));
    }
}

#[test]
fn classes_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("classes.csv");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        ClassFile::read(&path)
    };
    let rows = images("r", 4, 0.0, 1.0);
    let text = "class,path\na,./r000.png\nb,r001.png\na,r002.png\n,r003.png\n";
    let classes = Classes::File(read(text).unwrap());
    let found = by_class(&rows, &rows, &classes, &["asw"]).unwrap();
    let sizes: Vec<_> = found.classes.iter().map(|c| (c.class.as_str(), c.n_generated)).collect();
    assert_eq!((sizes, found.unclassified), (vec![("a", 2), ("b", 1)], [1, 1]));

    let of_sources = read("path,class,source\nx.png,a,photos\nx.png,b,samples\nx.png,c,\n").unwrap();
    let of_sources = Classes::File(of_sources);
    let of = |source: &str| of_sources.of(source, "x.png");
    assert_eq!((of("photos"), of("samples"), of("other")), (Some("a"), Some("b"), Some("c")));

    let said = |text: &str| read(text).unwrap_err().to_string().replace(&path.display().to_string(), "F");
    assert_eq!(said("path,kind\na,b\n"), "F: has no such column; expected \"class\", found path, kind");
    assert_eq!(
        said("path,class\nx,a\nx,b\n"),
        "F: names an image twice; expected one class an image, found x of a, and in line 3 of b. If they are images of \
         different sets, add a column source"
    );
    let e = ClassFile::read(folder.path()).unwrap_err().to_string();
    assert!(e.ends_with("found a folder. Put --by-class behind the image sources"), "{e}");
}

#[test]
fn sets_without_common_classes_are_refused() {
    let (real, fake) = (in_class("cat", images("r", 3, 0.0, 1.0)), in_class("dog", images("g", 3, 0.0, 1.0)));
    let said = |real: &[Row], fake: &[Row]| {
        by_class(real, fake, &Classes::Folders, &["fd"]).unwrap_err().to_string()
    };
    assert_eq!(
        said(&real, &fake),
        "--by-class: the sets have no class in common; expected the classes of images: cat, found those of images: dog. \
         Name the folder that holds the classes, or give them by --by-class FILE.csv"
    );
    assert_eq!(
        said(&real, &images("g", 3, 0.0, 1.0)),
        "images: --by-class: no image has a class; expected images in sub-folders that are named for their class, found \
         paths like g000.png"
    );
}

/// What is kept of the reference changes no number, whichever model comes first.
#[test]
fn what_is_kept_of_a_set_is_that_of_the_set() {
    let (real, near, far) =
        (images("r", 40, 0.0, 1.0), images("near", 30, 0.1, 1.0), images("far", 25, 1.0, 1.0));
    let options =
        Options::new(Selection::of(&["fd", "prdc", "realism", "rarity", "authpct", "mifid"]).unwrap(), 7);
    let of = |reference: &FeatureSet, generated: &[Row], conventions: Conventions| {
        let (generated, options) = (set(generated), Options { conventions, ..options.clone() });
        evaluate(Side::Images(reference), Side::Images(&generated), None, None, &options).unwrap()
    };
    let shared = set(&real);
    let other = Conventions { ddof: 0, prdc: PrdcOptions::IMPROVED, ..Conventions::default() };
    for conventions in [Conventions::default(), other, Conventions::default()] {
        for model in [&near, &far] {
            assert_eq!(of(&shared, model, conventions), of(&set(&real), model, conventions));
        }
    }
}

/// ADM's files hold two pairs of statistics: sFID reads the second, everything else the first.
#[test]
fn the_layer_says_which_statistics_are_read() {
    let gaussian = |dim: usize, mean: f64| {
        let covariance = (0..dim * dim).map(|i| f64::from(u8::from(i % (dim + 1) == 0))).collect();
        Gaussian::new("s.npz", vec![mean; dim], covariance, None).unwrap()
    };
    let like = |name: &str, layer: &str, dim: u32| {
        let mut settings = settings(name);
        (settings.backbone.layer, settings.backbone.feature_dim) = (Some(layer.into()), dim);
        settings
    };
    let (pool3, spatial) =
        (like("inception-v3-fid", "pool3:flat", 2048), like("inception-v3-fid", "spatial:flat", 2023));
    let mut statistics = Statistics::of(gaussian(3, 1.0));
    let error = SetStatistics::new(&statistics, "s.npz", &spatial).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error.to_string().starts_with("s.npz: holds no statistics of this layer; expected mu_s and sigma_s"),
        "{error}"
    );
    statistics.spatial = Some(gaussian(2, 2.0));
    let of = |like: &Settings| SetStatistics::new(&statistics, "s.npz", like).unwrap();
    assert_eq!((of(&pool3).gaussian.mean()[0], of(&spatial).gaussian.mean()[0]), (1.0, 2.0));
    let found = of(&spatial).settings;
    assert_eq!((found.source.as_str(), found.backbone.feature_dim, found.has_scores()), ("s.npz", 2, false));
    // Of another network `spatial` is a layer like any.
    assert_eq!(of(&like("resnet18", "spatial", 2023)).gaussian.dim(), 3);
}
