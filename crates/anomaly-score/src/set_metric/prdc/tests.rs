use proptest::prelude::*;
use rand_distr::{Distribution, StandardNormal};
use serde_json::Value;

use super::*;
use crate::ErrorKind;

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn normals(n: usize, dim: usize, scale: f32, key: &[u8]) -> Vec<f32> {
    let mut rng = counter_rng(0, "test/prdc", key);
    let mut next = || -> f32 { StandardNormal.sample(&mut rng) };
    (0..n * dim).map(|_| scale * next()).collect()
}

fn of(reference: &[f32], generated: &[f32], dim: usize, options: &PrdcOptions) -> Prdc {
    let reference = Features::new("reference", reference, dim).unwrap();
    let generated = Features::new("generated", generated, dim).unwrap();
    prdc(reference, generated, options).unwrap()
}

/// Counts must be those of numpy exactly; they are divided once or twice there as here. Radii carry the roundings of 16
/// terms and a square root.
#[test]
fn matches_the_definition_in_numpy() {
    let fixture: Value =
        serde_json::from_str(include_str!("../../../../../fixtures/neighbours/prdc.json")).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert!(cases.len() >= 8);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let dim = case["dim"].as_u64().unwrap() as usize;
        let (reference, generated) = (floats(&case["reference"]), floats(&case["generated"]));
        for entry in case["k"].as_array().unwrap() {
            let nearest_k = entry["nearest_k"].as_u64().unwrap() as usize;
            let set = Features::new("reference", &reference, dim).unwrap();
            let radii = squared_radii(set, nearest_k).unwrap();
            for (found, expected) in radii.iter().zip(entry["reference_radii"].as_array().unwrap()) {
                let (found, expected) = (found.sqrt(), expected.as_f64().unwrap());
                assert!(
                    (found - expected).abs() <= 1e-14 * expected,
                    "{name}, k = {nearest_k}: {found}, {expected}"
                );
            }
            for (boundary, key) in [(Boundary::Open, "open"), (Boundary::Closed, "closed")] {
                let options = PrdcOptions { nearest_k, boundary, subsample: None, seed: 0 };
                let found = of(&reference, &generated, dim, &options);
                for (figure, found) in [
                    ("precision", found.precision),
                    ("recall", found.recall),
                    ("density", found.density),
                    ("coverage", found.coverage),
                ] {
                    let expected = entry[key][figure].as_f64().unwrap();
                    assert!(
                        (found - expected).abs() <= 1e-15 * expected.max(1.0),
                        "{figure} of {name}, {key}: {found}, {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_collapsed_generator_has_high_precision_and_low_recall() {
    let (reference, collapsed) = (normals(400, 8, 1.0, b"reference"), normals(400, 8, 0.05, b"collapsed"));
    let found = of(&reference, &collapsed, 8, &PrdcOptions::default());
    assert!(found.precision > 0.99 && found.recall < 0.05 && found.coverage < 0.2, "{found:?}");
    let swapped = of(&collapsed, &reference, 8, &PrdcOptions::default());
    assert_eq!((swapped.precision, swapped.recall), (found.recall, found.precision));
}

#[test]
fn a_copy_of_the_reference_is_perfect() {
    let reference = normals(300, 5, 1.0, b"reference");
    let found = of(&reference, &reference, 5, &PrdcOptions::default());
    assert_eq!((found.precision, found.recall, found.coverage), (1.0, 1.0, 1.0));
    // Each open ball holds its own centre and the k − 1 nearest others.
    assert_eq!(found.density, 1.0);
    let closed = of(&reference, &reference, 5, &PrdcOptions::IMPROVED);
    assert_eq!((closed.precision, closed.density), (1.0, 4.0 / 3.0));
}

#[test]
fn images_in_one_place_are_inside_closed_balls_only() {
    let values = vec![0.1f32; 700 * 3];
    let open = of(&values, &values, 3, &PrdcOptions::default());
    assert_eq!((open.precision, open.recall, open.density, open.coverage), (0.0, 0.0, 0.0, 0.0));
    let closed = of(&values, &values, 3, &PrdcOptions::IMPROVED);
    assert_eq!((closed.precision, closed.recall, closed.coverage), (1.0, 1.0, 1.0));
}

/// Several tiles a side, some pairs far closer than f32 products resolve.
#[test]
fn thread_count_and_order_change_no_bit() {
    let mut reference = normals(700, 24, 1.0, b"reference");
    let mut generated = normals(600, 24, 1.1, b"generated");
    for i in 0..100 * 24 {
        generated[i] = reference[i] + 1e-4 * generated[i];
    }
    reference.iter_mut().chain(&mut generated).for_each(|v| *v += 40.0);
    let on = |threads: usize, reference: &[f32], generated: &[f32]| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| of(reference, generated, 24, &PrdcOptions::default()))
    };
    let one = on(1, &reference, &generated);
    assert_eq!(one, on(2, &reference, &generated));
    reference.rotate_left(24 * 129);
    generated.rotate_left(24 * 301);
    assert_eq!(one, on(5, &reference, &generated));
}

#[test]
fn subsamples_are_of_one_size_and_seeded() {
    let (reference, generated) = (normals(90, 4, 1.0, b"reference"), normals(70, 4, 1.0, b"generated"));
    let options = |seed| PrdcOptions { subsample: Some(50), seed, ..PrdcOptions::default() };
    let found = [1, 2].map(|seed| of(&reference, &generated, 4, &options(seed)));
    assert_eq!((found[0].n_reference, found[0].n_generated), (50, 50));
    assert_ne!(found[0], found[1]);
    assert_eq!(found[0], of(&reference, &generated, 4, &options(1)));
    let all = of(&reference, &generated, 4, &PrdcOptions::DGM_EVAL);
    assert_eq!((all.n_reference, all.n_generated), (70, 70));
}

#[test]
fn errors_say_what_is_wrong() {
    let values = normals(5, 4, 1.0, b"reference");
    let set = Features::new("set", &values, 4).unwrap();
    let error = prdc(set, set, &PrdcOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "reference: too few images for this metric; expected at least 6, found 5");
    let error = prdc(set, set, &PrdcOptions { nearest_k: 0, ..PrdcOptions::default() }).unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidOption, "nearest_k"));
    let (one, two) = (Manifold::new(set, 1).unwrap(), Manifold::new(set, 2).unwrap());
    let error = prdc_of(&one, &two, Boundary::Open).unwrap_err();
    assert!(error.to_string().contains("expected k = 1 as in the reference, found 2"), "{error}");
}

proptest! {
    #[test]
    fn moving_and_doubling_both_sets_changes_nothing(
        reference in proptest::collection::vec(-3i8..4, 24..60), generated in proptest::collection::vec(-3i8..4, 24..60),
        shift in -100i16..100, power in -3i32..4,
    ) {
        // Small integers stay exact under both.
        let map = |v: &[i8], f: &dyn Fn(f32) -> f32| -> Vec<f32> {
            v[..v.len() / 3 * 3].iter().map(|&x| f(f32::from(x))).collect()
        };
        let moved = |x: f32| (x + f32::from(shift)) * 2f32.powi(power);
        let plain = of(&map(&reference, &|x| x), &map(&generated, &|x| x), 3, &PrdcOptions::default());
        prop_assert_eq!(plain, of(&map(&reference, &moved), &map(&generated, &moved), 3, &PrdcOptions::default()));
        for share in [plain.precision, plain.recall, plain.coverage] {
            prop_assert!((0.0..=1.0).contains(&share));
        }
    }
}
