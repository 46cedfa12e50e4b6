//! A safetensors file with a header of the right length around whatever is in it.
#![no_main]

use anomaly_score_fuzz::exhaust_weights;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (data, header) = input;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header);
    file.extend(std::iter::repeat_n(0x3f, usize::from(data)));
    exhaust_weights(file);
});
