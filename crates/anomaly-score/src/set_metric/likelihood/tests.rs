use serde_json::Value;

use super::*;

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

/// The fit reads distances rounded to f32, 6e-8; a log-likelihood carries that times its own size, and a hundred steps of
/// Adam, which follow the gradient's sign where it is small, little more. `scale` is what the figure is a difference of.
fn close(found: f64, expected: &Value, scale: f64) -> bool {
    let expected = expected.as_f64().unwrap();
    (found - expected).abs() <= 1e-6 * scale.max(expected.abs())
}

#[test]
fn matches_torch_by_automatic_differentiation_in_f64() {
    let fixture: Value =
        serde_json::from_str(include_str!("../../../../../fixtures/kernels/likelihood.json")).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert!(cases.len() >= 4);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let dim = case["dim"].as_u64().unwrap() as usize;
        let sets = ["train", "baseline", "test", "generated"].map(|set| floats(&case[set]));
        let points = |i: usize| Points { values: sets[i].iter().map(|&v| f64::from(v)).collect(), dim };
        let found = fls_of([0, 1, 2, 3].map(points));
        let expected = &case["fls"];
        assert!(close(found.value, &expected["fls"], 0.0), "{name}: {found:?} {expected}");
        assert!(
            close(found.overfit_gaussians, &expected["overfit_gaussians"], 0.0),
            "{name}: {found:?} {expected}"
        );

        let (mut train, mut test, mut generated) = (points(0), points(2), points(3));
        train.values.extend(points(1).values);
        let (means, spread) = mean_and_spread(&test);
        for set in [&mut train, &mut test, &mut generated] {
            standardise(set, &means, &spread);
        }
        let found = fld_of(&train, &test, &generated);
        let expected = &case["fld"];
        assert!(close(found.nll, &expected["nll"], 0.0), "{name}: {found:?} {expected}");
        assert!(close(found.baseline_nll, &expected["baseline_nll"], 0.0), "{name}: {found:?} {expected}");
        assert!(close(found.value, &expected["fld"], 100.0 * found.nll), "{name}: {found:?} {expected}");
        assert!(close(found.generalisation_gap, &expected["gap"], 100.0 * found.nll), "{name}: {found:?}");

        let train: Vec<f32> = [&sets[0][..], &sets[1]].concat();
        let features = |values| Features::new("set", values, dim).unwrap();
        let all = LikelihoodSets {
            train: features(&train),
            test: features(&sets[2]),
            generated: features(&sets[3]),
        };
        for (found, key) in [
            (memorisation_likelihood(&all, 1).unwrap(), "memorisation"),
            (quality_likelihood(&all, 1).unwrap(), "quality"),
        ] {
            for (i, found) in found.iter().enumerate() {
                assert!(close(*found, &expected[key][i], 1.0), "{key} {i} of {name}: {found} {expected}");
            }
        }
    }
}

fn waves(n: usize, dim: usize, step: f32) -> Vec<f32> {
    (0..n * dim).map(|i| (i as f32 * step).sin() * (1.0 + (i % 7) as f32)).collect()
}

#[test]
fn copies_are_found_out() {
    let (train, test) = (waves(80, 4, 0.713), waves(40, 4, 1.319));
    let (copies, fresh) = (&train[..160], waves(40, 4, 1.811));
    let features = |values| Features::new("set", values, 4).unwrap();
    let of = |generated| LikelihoodSets { train: features(&train), test: features(&test), generated };
    let options = LikelihoodOptions::default();
    let (copied, honest) = (of(features(copies)), of(features(&fresh)));
    let (copied_fls, honest_fls) = (fls(&copied, &options).unwrap(), fls(&honest, &options).unwrap());
    assert!(copied_fls.overfit_gaussians > honest_fls.overfit_gaussians, "{copied_fls:?} {honest_fls:?}");
    let (copied_fld, honest_fld) = (fld(&copied, &options).unwrap(), fld(&honest, &options).unwrap());
    assert!(copied_fld.value > honest_fld.value, "{copied_fld:?} {honest_fld:?}");
    assert!(copied_fld.generalisation_gap < honest_fld.generalisation_gap);
    let least = |v: Vec<f64>| v.into_iter().fold(f64::INFINITY, f64::min);
    let most = |v: Vec<f64>| v.into_iter().fold(f64::NEG_INFINITY, f64::max);
    assert!(
        least(memorisation_likelihood(&copied, 0).unwrap())
            > most(memorisation_likelihood(&honest, 0).unwrap())
    );
}

#[test]
fn thread_count_changes_no_bit_and_seeds_do() {
    let (train, test, generated) = (waves(700, 3, 0.713), waves(300, 3, 1.319), waves(310, 3, 1.811));
    let features = |values| Features::new("set", values, 3).unwrap();
    let sets =
        LikelihoodSets { train: features(&train), test: features(&test), generated: features(&generated) };
    let on = |threads: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let options = LikelihoodOptions { most: 280, seed };
        pool.install(|| (fls(&sets, &options).unwrap(), fld(&sets, &options).unwrap()))
    };
    let one = on(1, 5);
    assert_eq!(one, on(3, 5));
    assert_eq!((one.0.n, one.1.n_generated), (280, 280));
    assert_ne!(one, on(2, 6));
}

#[test]
fn errors_say_what_is_wrong() {
    let (train, flat) = (waves(8, 2, 0.7), [1.0f32, 0.0, 2.0, 0.0, 3.0, 0.0]);
    fn features(values: &[f32]) -> Features<'_> {
        Features::new("set", values, 2).unwrap()
    }
    fn sets<'a>(train: &'a [f32], others: &'a [f32]) -> LikelihoodSets<'a> {
        LikelihoodSets { train: features(train), test: features(others), generated: features(others) }
    }
    let error = fld(&sets(&train, &flat), &LikelihoodOptions::default()).unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidOption, "train"));
    assert!(error.to_string().contains("coordinate 1 varies here"), "{error}");
    // Constant everywhere, it is no hindrance.
    let train: Vec<f32> = train.iter().enumerate().map(|(i, &v)| if i % 2 == 1 { 0.0 } else { v }).collect();
    assert!(fld(&sets(&train, &flat), &LikelihoodOptions::default()).unwrap().value.is_finite());
    assert!(fls(&sets(&train, &flat), &LikelihoodOptions::default()).unwrap().value.is_finite());
    let error = fld(&sets(&train[..6], &flat), &LikelihoodOptions::default()).unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::TooFewImages, "train"));
}
