use serde_json::Value;

use super::*;

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn indices(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
}

fn cases() -> Vec<Value> {
    let fixture: Value =
        serde_json::from_str(include_str!("../../../../../fixtures/kernels/mmd.json")).unwrap();
    let cases = fixture["cases"].as_array().unwrap().clone();
    assert!(cases.len() >= 5);
    cases
}

/// An estimate is a difference of kernel means, each within a few roundings of `size`.
fn close(found: f64, expected: &Value, size: &Value) -> bool {
    let (expected, size) = (expected.as_f64().unwrap(), size.as_f64().unwrap());
    (found - expected).abs() <= 1e-14 * size + 1e-12 * expected.abs()
}

#[test]
fn matches_whole_kernel_matrices_in_numpy() {
    for case in cases() {
        let name = case["name"].as_str().unwrap();
        let dim = case["dim"].as_u64().unwrap() as usize;
        let (reference, generated) = (floats(&case["reference"]), floats(&case["generated"]));
        let reference = Features::new("reference", &reference, dim).unwrap();
        let generated = Features::new("generated", &generated, dim).unwrap();
        let subsets: Vec<SubsetRows> = case["subsets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| SubsetRows { reference: indices(&s[0]), generated: indices(&s[1]) })
            .collect();
        for entry in case["kernels"].as_array().unwrap() {
            let kernel = match entry["sigma"].as_f64() {
                Some(sigma) => Kernel::Rbf { sigma },
                None => Kernel::Cubic,
            };
            let size = &entry["largest_kernel"];
            let found = kernel_distance(reference, generated, kernel).unwrap();
            assert!(close(found.value, &entry["unbiased"], size), "{name}: {found:?}, {}", entry["unbiased"]);
            // The jackknife differences are of order kernel/N: what is left of the rounding grows by N.
            let (error, expected) = (found.std_error.unwrap(), entry["jackknife"].as_f64().unwrap());
            let allowed = 1e-9 * expected + 1e-12 * size.as_f64().unwrap();
            assert!((error - expected).abs() <= allowed, "{name}: {error}, {expected}");
            let found = kernel_distance_of_subsets(reference, generated, kernel, &subsets).unwrap();
            for (found, expected) in found.estimates.iter().zip(entry["estimates"].as_array().unwrap()) {
                assert!(close(*found, expected, size), "{name}: {found}, {expected}");
            }
            assert!(
                close(found.value, &entry["mean"], size) && close(found.std_dev, &entry["std_dev"], size)
            );
        }
        let found = cmmd(reference, generated).unwrap();
        assert!(
            close(found.value, &case["cmmd"], &Value::from(1000.0)),
            "{name}: {found:?}, {}",
            case["cmmd"]
        );
    }
}

fn waves(n: usize, dim: usize, step: f32) -> Vec<f32> {
    (0..n * dim).map(|i| (i as f32 * step).sin() + 0.1 * (i % dim) as f32).collect()
}

/// Several tiles a side.
#[test]
fn thread_count_order_and_direction_change_no_bit() {
    let (mut reference, mut generated) = (waves(700, 6, 0.731), waves(300, 6, 1.117));
    for kernel in [Kernel::Cubic, Kernel::Rbf { sigma: 1.5 }] {
        let on = |threads: usize, reference: &[f32], generated: &[f32]| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let reference = Features::new("reference", reference, 6).unwrap();
            let generated = Features::new("generated", generated, 6).unwrap();
            let found = pool.install(|| kernel_distance(reference, generated, kernel)).unwrap();
            (found.value, found.std_error)
        };
        let one = on(1, &reference, &generated);
        assert_eq!(one, on(3, &reference, &generated));
        assert_eq!(one.0, on(2, &generated, &reference).0);
        reference.rotate_left(6 * 131);
        generated.rotate_left(6 * 17);
        assert_eq!(one, on(2, &reference, &generated));
    }
}

#[test]
fn identical_sets_and_closed_forms() {
    let values = waves(40, 5, 0.7);
    let set = Features::new("set", &values, 5).unwrap();
    assert_eq!(cmmd(set, set).unwrap().value, 0.0);
    // Against itself the unbiased estimate is 2/(n − 1)·(mean kernel − mean diagonal) < 0.
    assert!(kernel_distance(set, set, Kernel::Cubic).unwrap().value < 0.0);
    // Points 0 and 0 against h and h: k = 1 within, exp(−h²/2σ²) between.
    let (zero, far) = ([0.0f32; 2], [3.0f32; 2]);
    let found = kernel_distance(
        Features::new("reference", &zero, 1).unwrap(),
        Features::new("generated", &far, 1).unwrap(),
        Kernel::Rbf { sigma: 2.0 },
    )
    .unwrap();
    assert!((found.value - 2.0 * (1.0 - (-9.0f64 / 8.0).exp())).abs() < 1e-15, "{found:?}");
    assert_eq!(found.std_error, None);
}

#[test]
fn subsets_are_seeded_distinct_and_sized() {
    let subsets = kernel_subsets(50, 30, 8, 40, 3);
    assert_eq!(subsets, kernel_subsets(50, 30, 8, 40, 3));
    assert_ne!(subsets, kernel_subsets(50, 30, 8, 40, 4));
    for subset in &subsets {
        assert_eq!((subset.reference.len(), subset.generated.len()), (30, 30));
        assert!(subset.reference.windows(2).all(|pair| pair[0] < pair[1]));
    }
    assert_ne!(subsets[0].reference, subsets[1].reference);
    // As many subsets more do not move the first ones.
    assert_eq!(subsets[..3], kernel_subsets(50, 30, 3, 40, 3)[..]);
}

#[test]
fn errors_say_what_is_wrong() {
    let values = waves(4, 3, 0.3);
    let set = Features::new("set", &values, 3).unwrap();
    for sigma in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = kernel_distance(set, set, Kernel::Rbf { sigma }).unwrap_err();
        assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidOption, "sigma"));
    }
    let outside = [SubsetRows { reference: vec![0, 1], generated: vec![0, 4] }];
    let error = kernel_distance_of_subsets(set, set, Kernel::Cubic, &outside).unwrap_err();
    assert!(error.to_string().starts_with("subset 0: cannot be drawn; expected at least two rows below 4"));
    assert_eq!(kernel_distance_of_subsets(set, set, Kernel::Cubic, &[]).unwrap_err().subject(), "subsets");
    let nothing = [0.0f32; 6];
    let error = cmmd(set, Features::new("generated", &nothing, 3).unwrap()).unwrap_err();
    assert!(error.to_string().contains("found 0 in row 0"), "{error}");
}
