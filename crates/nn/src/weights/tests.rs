//! Against `fixtures/weights`, which reference/weights.py writes with torch, and against files made by hand
//! to be wrong.

use std::fs;
use std::path::PathBuf;

use super::*;

mod damage;
mod hostile;

const READABLE: [&str; 9] = [
    "zip.pth",
    "legacy.pth",
    "wrapped_zip.pth",
    "wrapped_legacy.th",
    "protocol4.pth",
    "protocol5_legacy.pth",
    "before_0.4.pth",
    "no_checksums.pth",
    "plain.safetensors",
];

fn fixture_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/weights").join(name)
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(fixture_path(name)).unwrap()
}

fn expected() -> serde_json::Value {
    serde_json::from_slice(&fixture("expected.json")).unwrap()
}

fn usizes(value: &serde_json::Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
}

/// The text of an error, which must be of this kind.
fn message<T: fmt::Debug>(result: Result<T>, kind: ErrorKind) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}

#[test]
fn every_layout_gives_the_values_torch_gives() {
    let expected = expected();
    for file in READABLE {
        let mut weights = Weights::open(&fixture_path(file)).unwrap();
        let mut names: Vec<&str> = expected.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(weights.names().collect::<Vec<_>>(), names, "{file}");
        for name in names {
            let want = &expected[name];
            let shape = usizes(&want["shape"]);
            assert_eq!(weights.shape(name).unwrap(), shape, "{file}: {name}");
            let Some(bits) = want["f32_bits"].as_array() else {
                continue;
            };
            // Bits, because torch and this reader must round f64 alike and keep -0 and infinity.
            let bits: Vec<u64> = bits.iter().map(|b| b.as_u64().unwrap()).collect();
            let taken = weights.take(name, &shape).unwrap();
            let found: Vec<u64> = taken.iter().map(|v| v.to_bits().into()).collect();
            assert_eq!(found, bits, "{file}: {name}");
            let (any_shape, any) = weights.take_any(name).unwrap();
            assert_eq!(any_shape, shape, "{file}: {name}");
            assert!(any.iter().zip(&taken).all(|(a, b)| a.to_bits() == b.to_bits()), "{file}: {name}");
        }
        weights.finish(|name| name == "mask" || name.ends_with("num_batches_tracked")).unwrap();
    }
}

#[test]
fn values_in_an_embedded_file_are_read_in_place() {
    static BYTES: &[u8] = include_bytes!("../../../../fixtures/weights/plain.safetensors");
    let mut weights = Weights::from_safetensors(BYTES, "embedded").unwrap();
    assert!(matches!(weights.bytes, Bytes::Held(Cow::Borrowed(_))));
    assert_eq!(weights.origin(), "embedded");
    assert_eq!(weights.take("scale", &[]).unwrap(), [2.5]);
    assert!(weights.contains("empty") && !weights.contains("module.empty"));
    // A file of another format is no safetensors file, however sound.
    let text = message(Weights::from_safetensors(fixture("zip.pth"), "zip.pth"), ErrorKind::Format);
    assert!(text.contains("safetensors header"), "{text}");
}

#[test]
fn the_hash_is_that_of_the_file() {
    // FIPS 180-2, appendix B.1, gives the digest of "abc"; the file is padded to be read at all.
    let weights = Weights::assemble(Bytes::Held(b"abc".to_vec().into()), "abc", BTreeMap::new());
    assert_eq!(weights.sha256(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn a_missing_tensor_is_named_with_what_is_like_it() {
    let mut weights = Weights::from_bytes(fixture("zip.pth"), "zip.pth").unwrap();
    assert_eq!(
        message(weights.take("conv.wieght", &[2, 3]), ErrorKind::MissingTensor),
        "conv.wieght: there is no such tensor in zip.pth; expected a tensor [2, 3], found 13 other tensors. \
         These weights probably belong to another network; the closest name in the file is `conv.weight`"
    );
    let text = message(weights.take_any("backbone.tied.row"), ErrorKind::MissingTensor);
    assert!(text.ends_with("the closest name in the file is `tied.row`"), "{text}");
    let text = message(weights.take("blocks.0.attn.qkv.weight", &[1]), ErrorKind::MissingTensor);
    assert!(text.ends_with("These weights probably belong to another network"), "{text}");
    // What has its place already is no candidate for another.
    weights.take("conv.weight", &[2, 3, 2, 2]).unwrap();
    let text = message(weights.take("conv.wieght", &[2, 3]), ErrorKind::MissingTensor);
    assert!(!text.contains("closest"), "{text}");
}

#[test]
fn a_wrong_shape_or_type_is_refused() {
    let mut weights = Weights::from_bytes(fixture("legacy.pth"), "legacy.pth").unwrap();
    assert_eq!(
        message(weights.take("turned.weight", &[3, 4]), ErrorKind::ShapeMismatch),
        "turned.weight: wrong shape in legacy.pth; expected [3, 4], found [4, 3]. \
         These weights probably belong to another network"
    );
    for file in ["zip.pth", "plain.safetensors"] {
        let mut weights = Weights::from_bytes(fixture(file), file).unwrap();
        assert_eq!(
            message(weights.take("bn.num_batches_tracked", &[]), ErrorKind::Unsupported),
            format!(
                "bn.num_batches_tracked: is not floating-point in {file}; \
                 expected f64, f32, f16 or bf16, found i64"
            )
        );
        let text = message(weights.take_any("mask"), ErrorKind::Unsupported);
        assert!(text.ends_with("found bool"), "{text}");
    }
}

#[test]
fn unused_tensors_are_an_error() {
    let mut weights = Weights::from_bytes(fixture("zip.pth"), "zip.pth").unwrap();
    weights.take("brain.weight", &[2, 2]).unwrap();
    assert_eq!(
        message(weights.finish(|name| name.starts_with("bn.")), ErrorKind::UnusedTensor),
        "zip.pth: holds 11 tensors that the network does not use: `conv.weight`, `double.weight`, `empty`, \
         `half.weight`, `mask`, and 6 more. These weights probably belong to another network"
    );
    let weights = Weights::from_bytes(fixture("zip.pth"), "zip.pth").unwrap();
    assert_eq!(
        message(weights.finish(|name| name != "mask"), ErrorKind::UnusedTensor),
        "zip.pth: holds 1 tensor that the network does not use: `mask`. \
         These weights probably belong to another network"
    );
    Weights::from_bytes(fixture("zip.pth"), "zip.pth").unwrap().finish(|_| true).unwrap();
}

#[test]
fn the_prefix_of_data_parallel_goes_only_if_all_have_it() {
    let tensor = || Tensor::packed(tensor::Dtype::F32, 0..4, vec![1]).unwrap();
    let names = |names: &[&str]| {
        let tensors = names.iter().map(|name| (name.to_string(), tensor())).collect();
        let weights = Weights::assemble(Bytes::Held(vec![0; 4].into()), "", tensors);
        weights.names().map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names(&["module.fc.bias", "module.module.x"]), ["fc.bias", "module.x"]);
    assert_eq!(names(&["module.fc.bias", "fc.weight"]), ["fc.weight", "module.fc.bias"]);
}

#[test]
fn a_file_of_another_format_is_described() {
    let of = |bytes: &[u8]| message(Weights::from_bytes(bytes.to_vec(), "w"), ErrorKind::Format);
    assert_eq!(
        of(b"<!DOCTYPE html><html>"),
        "w: is not a weights file; expected safetensors or a PyTorch checkpoint, found a web page, \
         beginning with \"<!DOCTYPE html><\". \
         Supported are .safetensors files and checkpoints written by torch.save"
    );
    assert!(of(b"").contains("found an empty file."));
    assert!(of(b"version https://git-lfs.github.com/spec/v1\n").contains("Git LFS pointer"));
    assert!(of(b"\x89HDF\r\n\x1a\n").contains("an HDF5 file, beginning with \"\\x89HDF\\r\\n\\x1a\\n\""));
    assert!(of(b"\x08\x07\x12\x07pytorch").contains("no format of weights known here"));
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    assert!(of(&tar).contains("a tar archive"));
}

#[test]
fn an_unreadable_path_is_an_io_error() {
    let folder = tempfile::tempdir().unwrap();
    let text = message(Weights::open(&folder.path().join("absent.pth")), ErrorKind::Io);
    assert!(text.contains("absent.pth: the weights file cannot be read ("), "{text}");
    message(Weights::open(folder.path()), ErrorKind::Io);
}

#[test]
fn edit_distances_are_those_of_the_textbook() {
    // Wagner & Fischer 1974 and the usual examples.
    for (a, b, distance) in [("kitten", "sitting", 3), ("", "abc", 3), ("flaw", "lawn", 2), ("a", "a", 0)] {
        assert_eq!(edit_distance(a, b), distance);
        assert_eq!(edit_distance(b, a), distance);
    }
}
