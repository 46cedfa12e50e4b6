//! A checkpoint as torch wrote it before 1.6, from where its object begins: the pickle machine itself.
#![no_main]

use anomaly_score_fuzz::exhaust_weights;
use libfuzzer_sys::fuzz_target;

/// Magic number, version of the format, description of the writing machine.
const START: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";

fuzz_target!(|bytes: &[u8]| exhaust_weights([START, bytes].concat()));
