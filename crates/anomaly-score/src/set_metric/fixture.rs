//! Fixtures of the spectral metrics, as their tests read them.

use serde_json::Value;

use super::Features;

pub(super) fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

pub(super) fn cases(text: &str) -> Vec<Value> {
    let fixture: Value = serde_json::from_str(text).unwrap();
    fixture["cases"].as_array().unwrap().clone()
}

/// A matrix of features that owns its values.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    pub(super) values: Vec<f32>,
    pub(super) dim: usize,
}

impl Matrix {
    pub(super) fn of(value: &Value) -> Self {
        let values = floats(&value["values"]).iter().map(|&v| v as f32).collect();
        Matrix { values, dim: value["dim"].as_u64().unwrap() as usize }
    }

    pub(super) fn from_rows(rows: &[&[f32]]) -> Self {
        Matrix { values: rows.concat(), dim: rows[0].len() }
    }

    pub(super) fn features(&self) -> Features<'_> {
        Features::new("test", &self.values, self.dim).unwrap()
    }
}
