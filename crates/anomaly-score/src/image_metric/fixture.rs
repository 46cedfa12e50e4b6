//! What the tests of image metrics read.

use serde_json::Value;

/// The cases of fixtures/neighbours/prdc.json.
pub(super) fn cases() -> Vec<Value> {
    let fixture: Value =
        serde_json::from_str(include_str!("../../../../fixtures/neighbours/prdc.json")).unwrap();
    let cases = fixture["cases"].as_array().unwrap().clone();
    assert!(cases.len() >= 8);
    cases
}

/// Reference features, generated features and D.
pub(super) fn floats(case: &Value) -> (Vec<f32>, Vec<f32>, usize) {
    let set = |name: &str| -> Vec<f32> {
        case[name].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
    };
    (set("reference"), set("generated"), case["dim"].as_u64().unwrap() as usize)
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
