//! An ONNX file that is sound as a file, around operators that may be any nonsense.
#![no_main]

use anomaly_score_fuzz::onnx::{exhaust_onnx, model};
use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = model(&mut Unstructured::new(bytes)) {
        exhaust_onnx(file);
    }
});
