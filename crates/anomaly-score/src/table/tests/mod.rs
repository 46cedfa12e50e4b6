//! Rows to test with, and the tests that need more than one file of this module.

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;

mod concurrent;
mod damage;
mod writing;

/// Settings with features of length 4, equal in all but that to the default run.
pub(super) fn settings() -> Settings {
    let protocol = ProtocolSettings {
        name: "paper".into(),
        steps: 10,
        epsilon: 0.01,
        attack_steps: 10,
        attack_epsilon: 8.0 / 255.0,
        attack_step_size: 2.0 / 255.0,
        noise: Noise::Gaussian,
        restarts: 1,
    };
    let backbone = BackboneSettings {
        name: "efficientnet-lite0".into(),
        weights_sha256: "0123456789abcdef".repeat(4),
        input_px: 224,
        feature_dim: 4,
        layer: None,
    };
    let mut settings =
        Settings::new(protocol, backbone, Some("fused"), "bicubic-antialias", 7, "photos", Some(50));
    settings.tool_version = "0.1.0".into();
    settings
}

/// The `i`-th image of a made-up source: every number a function of `i`, some of them absent.
pub(super) fn row(i: u32) -> Row {
    let content_hash: [u8; 32] = Sha256::digest(i.to_le_bytes()).into();
    let number = |k: usize| f64::from(content_hash[k]) / 7.0;
    let present = |k: usize| (!content_hash[k].is_multiple_of(5)).then(|| number(k));
    let scores = Scores {
        content_hash,
        width: 16 + i,
        height: 32,
        complexity: present(0),
        vulnerability: Some(number(1)),
        anomaly_score_i: present(2),
        noise_floor: present(3),
        restart_spread: None,
        flags: Flags::from_array(std::array::from_fn(|k| content_hash[4 + k].is_multiple_of(2))),
    };
    let feature = content_hash[16..20].iter().map(|&b| f32::from(b) / 3.0 - 40.0).collect();
    Row { path: format!("photos/{i:04}.png"), measurement: Measurement { scores, feature } }
}

/// Any row that passes the checks, with features of length `dim`.
pub(super) fn any_row(dim: usize) -> impl Strategy<Value = Row> {
    let finite = || {
        prop::num::f64::POSITIVE | prop::num::f64::NEGATIVE | prop::num::f64::ZERO | prop::num::f64::SUBNORMAL
    };
    let number = move || prop::option::of(finite());
    let single = prop::num::f32::POSITIVE
        | prop::num::f32::NEGATIVE
        | prop::num::f32::ZERO
        | prop::num::f32::SUBNORMAL;
    let path = prop::collection::vec(prop::char::any(), 0..20).prop_map(String::from_iter);
    let numbers = [number(), number(), number(), number(), number()];
    let feature = prop::collection::vec(single, dim);
    (path, any::<[u8; 32]>(), any::<(u32, u32)>(), numbers, any::<[bool; 6]>(), feature).prop_map(
        |(path, hash, size, numbers, flags, feature)| {
            let scores = Scores::from_parts(hash, size, numbers, flags);
            Row { path, measurement: Measurement { scores, feature } }
        },
    )
}

/// All rows of a table.
pub(super) fn rows_of(table: &Table) -> Vec<Row> {
    table.rows().unwrap().collect::<crate::Result<_>>().unwrap()
}
