//! A whole ONNX file, as a user gives it.
#![no_main]

use anomaly_score_fuzz::onnx::exhaust_onnx;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| exhaust_onnx(bytes.to_vec()));
