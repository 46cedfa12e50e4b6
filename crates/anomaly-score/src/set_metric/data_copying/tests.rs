use serde_json::Value;

use super::*;

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

/// The cells are the same, U counts pairs: only the z-score and the mean are rounded.
#[test]
fn matches_scikit_learn_and_scipy() {
    let fixture: Value =
        serde_json::from_str(include_str!("../../../../../fixtures/neighbours/data_copying.json")).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert!(cases.len() >= 3);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let dim = case["dim"].as_u64().unwrap() as usize;
        let values = ["train", "test", "generated"].map(|set| floats(&case[set]));
        let [train, test, generated] = [0, 1, 2].map(|i| Features::new("set", &values[i], dim).unwrap());
        let components = case["components"].as_u64().unwrap() as usize;
        let sets = LikelihoodSets { train, test, generated };
        for seed in [0, 1] {
            let options = DataCopyingOptions { components, seed, ..DataCopyingOptions::default() };
            let found = data_copying(&sets, &options).unwrap();
            let expected = case["value"].as_f64().unwrap();
            assert!(
                (found.value.unwrap() - expected).abs() <= 1e-12 * expected.abs(),
                "{name}: {found:?} {expected}"
            );
            let mut cells = found.cells;
            cells.sort_by_key(|cell| cell.n_train);
            for (cell, expected) in cells.iter().zip(case["cells"].as_array().unwrap()) {
                let sizes = [cell.n_train, cell.n_test, cell.n_generated];
                let expected_sizes = [0, 1, 2].map(|i| expected[i].as_u64().unwrap() as usize);
                assert_eq!(sizes, expected_sizes, "{name}");
                assert_eq!(cell.counts, cell.n_generated > 20);
                let (z, expected) = (cell.z.unwrap(), expected[3].as_f64().unwrap());
                assert!((z - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{name}: {z} {expected}");
            }
        }
    }
}

#[test]
fn a_cell_without_test_images_is_refused_and_few_images_are_undefined() {
    let line: Vec<f32> = (0..30).map(|i| (i / 10) as f32 * 100.0 + (i % 10) as f32).collect();
    let set = Features::new("set", &line, 1).unwrap();
    let sets = |test| LikelihoodSets { train: set, test, generated: set };
    let found = data_copying(&sets(set), &DataCopyingOptions::default()).unwrap();
    assert_eq!((found.value, found.cells.len()), (None, 3));
    let near = Features::new("test", &line[..10], 1).unwrap();
    let error = data_copying(&sets(near), &DataCopyingOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooFewImages);
    assert!(error.to_string().contains("expected training and test images, found 10 and 0"), "{error}");
}
