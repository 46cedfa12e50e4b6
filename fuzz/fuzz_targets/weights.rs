//! A whole file of any of the formats, as a user gives it.
#![no_main]

use anomaly_score_fuzz::exhaust_weights;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| exhaust_weights(bytes.to_vec()));
