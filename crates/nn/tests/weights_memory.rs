//! How much memory a checkpoint can make the reader take: little for a small file whatever it says of itself,
//! and a fixed amount for the worst a pickle can do.

mod memory;

use std::path::Path;

use nn::weights::Weights;
use proptest::prelude::*;

/// Bytes held at the most while `bytes` are read to the last tensor.
fn peak(bytes: Vec<u8>) -> usize {
    memory::peak(|| {
        if let Ok(mut weights) = Weights::from_bytes(bytes, "file") {
            let names: Vec<String> = weights.names().map(str::to_string).collect();
            for name in names {
                let _ = weights.take_any(&name);
            }
        }
    })
}

fn fixtures() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/weights");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// A checkpoint of the layout before torch 1.6, up to where its object begins.
const LEGACY: &[u8] =
    b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.\x80\x02";

fn extreme_byte() -> impl Strategy<Value = u8> {
    prop::sample::select(vec![0u8, 1, 0x7f, 0x80, 0xff])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    /// The fixtures have under 6 KB. A size field that were believed would come to megabytes or gigabytes as
    /// soon as one of its higher bytes is changed.
    #[test]
    fn small_files_take_little(
        file in prop::sample::select(fixtures()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), extreme_byte()), 1..4),
        cut in any::<prop::sample::Index>(),
        cut_it in any::<bool>(),
    ) {
        let mut bytes = file;
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        if cut_it {
            bytes.truncate(cut.index(bytes.len()));
        }
        let taken = peak(bytes);
        prop_assert!(taken < 256 << 10, "{taken} bytes");
    }
}

#[test]
fn sound_files_take_little() {
    for file in fixtures() {
        let taken = peak(file);
        assert!(taken < 64 << 10, "{taken} bytes");
    }
}

#[test]
fn the_worst_pickles_take_a_fixed_amount() {
    // A tensor of sixteen dimensions, the most allowed, made again and again from remembered parts.
    let storage =
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00kNK\x01tQq\x00".as_slice();
    let zeros = [b"(".as_slice(), &b"K\x00".repeat(16), b"tq\x01"].concat();
    let parts = b"ctorch._utils\n_rebuild_tensor\nq\x02(h\x00K\x00h\x01h\x01tq\x03".as_slice();
    let tensor = [storage, &zeros, parts].concat();
    let bombs: [(&str, &[u8], &[u8]); 6] = [
        ("values", b"", b"N"),
        ("containers", b"", b"]"),
        ("remembered containers", b"", b"]\x94"),
        ("marks", b"", b"("),
        ("nested tuples", b"N", b"\x85"),
        ("tensors", &tensor, b"h\x02h\x03R"),
    ];
    for (name, start, part) in bombs {
        let bytes = [LEGACY, start, &part.repeat(2_000_000 / part.len())].concat();
        // It is the budget that ends it, not a mistake made here.
        let refusal = Weights::from_bytes(bytes.clone(), "file").unwrap_err().to_string();
        assert!(refusal.contains("far larger than a state dict"), "{name}: {refusal}");
        let taken = peak(bytes);
        println!("{name}: {} MB", taken >> 20);
        // Measured: 12 MB (marks) to 137 MB (tensors).
        assert!(taken < 192 << 20, "{name}: {taken} bytes");
    }
}
