//! A checkpoint as torch writes it now, with sound checksums around whatever pickle: a changed byte would
//! otherwise end at the checksum.
#![no_main]

use std::io::{Cursor, Write};

use anomaly_score_fuzz::exhaust_weights;
use libfuzzer_sys::fuzz_target;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Elements of the storages there are: `data/0` and `data/1`, as many bytes as the seeds' pickles ask for.
const STORAGE: [u8; 96] = [0x3f; 96];

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (first, second, pickle) = input;
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let parts: [(&str, &[u8]); 4] = [
        ("archive/data.pkl", pickle),
        ("archive/byteorder", b"little"),
        ("archive/data/0", &STORAGE[..usize::from(first) % 97]),
        ("archive/data/1", &STORAGE[..usize::from(second) % 97]),
    ];
    for (name, contents) in parts {
        zip.start_file(name, options).expect("a new entry in memory");
        zip.write_all(contents).expect("a write to memory");
    }
    exhaust_weights(zip.finish().expect("a write to memory").into_inner());
});
