//! What the tests of image metrics read.

use serde_json::Value;

use crate::set_metric::Features;

/// Calls `check` with every case of fixtures/neighbours/prdc.json, its reference features and its generated ones.
pub(super) fn for_each_case(check: impl Fn(&Value, Features, Features)) {
    let fixture: Value =
        serde_json::from_str(include_str!("../../../../fixtures/neighbours/prdc.json")).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert!(cases.len() >= 8);
    for case in cases {
        let set = |name: &str| -> Vec<f32> {
            case[name].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
        };
        let (reference, generated) = (set("reference"), set("generated"));
        let dim = case["dim"].as_u64().unwrap() as usize;
        check(
            case,
            Features::new("reference", &reference, dim).unwrap(),
            Features::new("generated", &generated, dim).unwrap(),
        );
    }
}

/// Numbers, null as `None`.
pub(super) fn options(value: &Value) -> Vec<Option<f64>> {
    value.as_array().unwrap().iter().map(Value::as_f64).collect()
}

/// Undefined in the same places, elsewhere within a relative error.
pub(super) fn close(found: &[Option<f64>], expected: &[Option<f64>], relative: f64) -> bool {
    found.len() == expected.len()
        && found.iter().zip(expected).all(|pair| match pair {
            (Some(found), Some(expected)) => (found - expected).abs() <= relative * expected.abs(),
            (None, None) => true,
            _ => false,
        })
}
