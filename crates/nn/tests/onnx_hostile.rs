//! ONNX files that are damaged, lie, or reach out of their folder: an error that says so, never a panic, never much memory.

mod memory;

use std::path::{Path, PathBuf};

use nn::ErrorKind;
use nn::onnx::{Model, Options};
use proptest::prelude::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/onnx")
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

fn import(bytes: Vec<u8>) -> nn::Result<nn::onnx::Imported> {
    Model::from_bytes(bytes, "file")?.import(&Options { input_px: Some(32), ..Default::default() })
}

/// Bytes held at the most while a file is read and imported.
fn peak(bytes: Vec<u8>) -> usize {
    memory::peak(|| drop(import(bytes)))
}

fn text(result: nn::Result<nn::onnx::Imported>) -> String {
    result.unwrap_err().to_string()
}

// --- a writer of just as much protobuf as the cases below need ---

fn varint(mut v: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
    out
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn bytes(field: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

fn operator(op: &str, inputs: &[&str], output: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut node: Vec<u8> = inputs.iter().flat_map(|i| bytes(1, i)).collect();
    node.extend(bytes(2, output));
    node.extend(bytes(3, format!("{output}_node")));
    node.extend(bytes(4, op));
    node.extend(attributes.iter().flat_map(|a| bytes(5, a)));
    node
}

/// An operator of the graph.
fn node(op: &str, inputs: &[&str], output: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    bytes(1, operator(op, inputs, output, attributes))
}

fn int_attribute(name: &str, value: u64) -> Vec<u8> {
    [bytes(1, name), number(3, value), number(20, 2)].concat()
}

fn ints(name: &str, values: &[i64]) -> Vec<u8> {
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    bytes(5, [number(1, values.len() as u64), number(2, 7), bytes(8, name), bytes(9, data)].concat())
}

fn value(field: u64, name: &str, dims: &[u64]) -> Vec<u8> {
    let shape: Vec<u8> = dims.iter().flat_map(|&d| bytes(1, number(1, d))).collect();
    let tensor = [number(1, 1), bytes(2, shape)].concat();
    bytes(field, [bytes(1, name), bytes(2, bytes(1, tensor))].concat())
}

fn model_of(opset: u64, graph: &[Vec<u8>]) -> Vec<u8> {
    [bytes(8, number(2, opset)), bytes(7, graph.concat())].concat()
}

/// `parts` between an image of 1×3×32×32 called x and the output y.
fn model(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut graph = vec![value(11, "x", &[1, 3, 32, 32]), value(12, "y", &[])];
    graph.extend(parts.iter().cloned());
    model_of(17, &graph)
}

#[test]
fn what_is_no_onnx_file_is_refused() {
    for bytes in [&b""[..], b"\x89PNG\r\n\x1a\n", b"{\"a\": 1}", b"PK\x03\x04", &[0xff; 64]] {
        let error = Model::from_bytes(bytes.to_vec(), "model.onnx").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format);
        assert!(error.to_string().starts_with("model.onnx: this is no whole ONNX file: "), "{error}");
    }
}

#[test]
fn cut_off_anywhere_is_an_error() {
    let whole = file("mixer-legacy.onnx");
    assert!(import(whole.clone()).is_ok());
    for end in (0..whole.len()).step_by(37) {
        assert!(import(whole[..end].to_vec()).is_err(), "cut at {end}");
    }
}

#[test]
fn unsupported_things_are_named() {
    let error = text(import(model(&[node("Xylophone", &["x"], "y", &[])])));
    assert!(
        error.starts_with(
            "node `y_node` (Xylophone): this operator is not supported. Supported are: Abs, Add, "
        ),
        "{error}"
    );
    let error = text(import(model(&[node("Relu", &["x"], "y", &[int_attribute("depth", 3)])])));
    assert_eq!(
        error,
        "node `y_node` (Relu): has the unsupported attribute `depth`; expected no attributes, found depth"
    );
    let error = text(import(model_of(
        22,
        &[value(11, "x", &[1, 3, 32, 32]), value(12, "y", &[]), node("Relu", &["x"], "y", &[])],
    )));
    assert!(error.contains("unsupported operator set; expected opset 11 to 21, found 22"), "{error}");
    let error = text(import(model(&[value(11, "z", &[1]), node("Add", &["x", "z"], "y", &[])])));
    assert!(
        error.contains("does not have exactly one input; expected one image, found 2 inputs: x, z"),
        "{error}"
    );
}

#[test]
fn contradictions_are_refused() {
    let error =
        text(import(model(&[node("Relu", &["later"], "y", &[]), node("Relu", &["x"], "later", &[])])));
    assert!(error.contains("reads `later`, which nothing before it computes"), "{error}");
    let error = text(import(model(&[node("Relu", &["y"], "y", &[])])));
    assert!(error.contains("reads `y`, which nothing before it computes"), "{error}");
    let error = text(import(model(&[node("Relu", &["x"], "y", &[]), node("Relu", &["x"], "y", &[])])));
    assert!(error.contains("two nodes give the value `y`"), "{error}");
    let error = text(import(model(&[ints("s", &[5, 7]), node("Reshape", &["x", "s"], "y", &[])])));
    assert!(
        error
            .contains("reshapes a tensor to another number of values; expected [1, 3, 32, 32], found [5, 7]"),
        "{error}"
    );
}

/// A hundred bytes that ask for terabytes.
#[test]
fn huge_shapes_take_little() {
    let huge = i64::MAX / 2;
    let cases = [
        ("expand", vec![ints("s", &[1 << 20, 3, 32, 32]), node("Expand", &["x", "s"], "y", &[])]),
        (
            "expand overflows",
            vec![ints("s", &[huge, huge, 3, 32, 32]), node("Expand", &["x", "s"], "y", &[])],
        ),
        (
            "constant",
            vec![
                ints("s", &[1 << 40]),
                node("ConstantOfShape", &["s"], "c", &[]),
                node("Relu", &["x"], "y", &[]),
            ],
        ),
        ("tile", vec![ints("s", &[1 << 30, 1, 1, 1]), node("Tile", &["x", "s"], "y", &[])]),
        ("pad", vec![ints("s", &[0, 0, 1 << 40, 0, 0, 0, 0, 0]), node("Pad", &["x", "s"], "y", &[])]),
        (
            "pad to the least",
            vec![ints("s", &[0, 0, i64::MIN, 0, 0, 0, 0, 0]), node("Pad", &["x", "s"], "y", &[])],
        ),
        ("resize", vec![ints("s", &[1, 3, 1 << 40, 32]), node("Resize", &["x", "", "", "s"], "y", &[])]),
        (
            "range",
            vec![
                ints("a", &[0]),
                ints("b", &[1 << 60]),
                ints("c", &[1]),
                node("Range", &["a", "b", "c"], "r", &[]),
                node("Relu", &["x"], "y", &[]),
            ],
        ),
    ];
    for (name, parts) in cases {
        let file = model(&parts);
        assert!(import(file.clone()).is_err(), "{name}");
        let taken = peak(file);
        assert!(taken < 1 << 20, "{name}: {taken} bytes");
    }
    // A tensor that claims more than it holds.
    let claim = bytes(5, [number(1, 1 << 40), number(2, 1), bytes(8, "w"), bytes(9, [0; 16])].concat());
    let file = model(&[claim, node("Mul", &["x", "w"], "y", &[])]);
    assert!(import(file.clone()).is_err());
    assert!(peak(file) < 1 << 20);
}

/// The worst there is: constants up to the fixed part of the budget, and messages of two bytes.
#[test]
fn the_worst_files_take_a_fixed_amount() {
    let mut parts = vec![ints("s", &[1 << 20])];
    for i in 0..64 {
        parts.push(node("ConstantOfShape", &["s"], &format!("c{i}"), &[]));
    }
    parts.push(node("Relu", &["x"], "y", &[]));
    let taken = peak(model(&parts));
    // 128 MB, and the one that went over it is not made.
    assert!(taken < 136 << 20, "constants: {taken} bytes");
    let nodes = bytes(1, []).repeat(2_000_000);
    let file = [bytes(8, number(2, 17)), bytes(7, nodes)].concat();
    let refusal = Model::from_bytes(file.clone(), "file").unwrap_err().to_string();
    assert!(refusal.contains("has more than a million parts"), "{refusal}");
    let taken = peak(file);
    // A million nodes of 160 bytes, the list having grown by doubling.
    assert!(taken < 640 << 20, "empty nodes: {taken} bytes");
}

#[test]
fn picks_outside_are_refused() {
    let pick = |at: &[i64], attributes: &[Vec<u8>]| {
        let dims = number(1, 1);
        let data: Vec<u8> = at.iter().flat_map(|v| v.to_le_bytes()).collect();
        let shape = [dims, number(1, at.len() as u64)].concat();
        let index = bytes(5, [shape, number(2, 7), bytes(8, "i"), bytes(9, data)].concat());
        import(model(&[index, node("GatherND", &["x", "i"], "y", attributes)]))
    };
    assert_eq!(pick(&[0, 2, -1], &[]).unwrap().layers[0].dims, [1, 32]);
    for outside in [&[0, 3][..], &[0, -4], &[i64::MIN], &[i64::MAX]] {
        let error = text(pick(outside, &[]));
        assert!(error.contains("(GatherND): picks outside of [1, 3, 32, 32]"), "{error}");
    }
    assert!(text(pick(&[0; 5], &[])).contains("picks by [1, 5] from [1, 3, 32, 32]"));
    let error = text(pick(&[0], &[int_attribute("batch_dims", 1)]));
    assert!(error.contains("has the attribute `batch_dims`; expected 0, found 1"), "{error}");
}

/// A function of the model's own, from x to y.
fn function(name: &str, nodes: &[Vec<u8>]) -> Vec<u8> {
    let body: Vec<u8> = nodes.iter().flat_map(|n| bytes(7, n)).collect();
    bytes(25, [bytes(1, name), bytes(4, "x"), bytes(5, "y"), body].concat())
}

/// Functions that call themselves, or each other so often that a small file would come to a large one.
#[test]
fn functions_come_to_a_bounded_amount() {
    let calls = model(&[node("f0", &["x"], "y", &[])]);
    let refused = |functions: Vec<Vec<u8>>| {
        let file = [calls.clone(), functions.concat()].concat();
        let error = text(import(file.clone()));
        assert!(error.contains("calls of functions come to too much"), "{error}");
        let taken = peak(file);
        // 400,000 parts of at most 160 bytes (operators), with names of at most 128 bytes.
        assert!(taken < 128 << 20, "{taken} bytes");
    };
    refused(vec![function("f0", &[operator("f0", &["x"], "y", &[])])]);
    let thrice = |next: &str| {
        let call = |from: &str, to: &str| operator(next, &[from], to, &[]);
        [call("x", "m"), call("m", "n"), call("n", "y")]
    };
    let names: Vec<String> = (0..16).map(|i| format!("f{i}")).collect();
    let each = names.windows(2).map(|w| function(&w[0], &thrice(&w[1])));
    refused(each.chain([function("f15", &thrice("Relu"))]).collect());
    let many = [bytes(1, "axes"), number(20, 7), number(8, 1).repeat(50_000)].concat();
    let long = operator("Squeeze", &["x"], "y", &[many]);
    let chain = (0..20).map(|_| operator("f1", &["x"], "y", &[]));
    refused(vec![function("f0", &chain.collect::<Vec<_>>()), function("f1", &[long])]);
}

#[test]
fn functions_that_contradict_themselves_are_refused() {
    let calls = model(&[node("f", &["x"], "y", &[])]);
    let with = |functions: &[Vec<u8>]| text(import([calls.clone(), functions.concat()].concat()));
    let sound = function("f", &[operator("Relu", &["x"], "y", &[])]);
    let error = with(&[function("f", &[operator("Relu", &["z"], "y", &[])])]);
    assert!(error.contains("function `f`: its body reads a value that nothing before gives"), "{error}");
    assert!(with(&[sound.clone(), sound.clone()]).contains("function `f`: is there twice"));
    let other = bytes(25, [bytes(1, "f"), bytes(9, number(2, 18))].concat());
    let error = with(&[other]);
    assert!(
        error.contains("is of another operator set than the model; expected opset 17, found 18"),
        "{error}"
    );
    assert!(import([calls.clone(), sound].concat()).is_ok());
    // What it gives is what it is given.
    let same = bytes(25, [bytes(1, "f"), bytes(4, "x"), bytes(5, "x")].concat());
    let calls = model(&[node("Relu", &["x"], "r", &[]), node("f", &["r"], "y", &[])]);
    assert!(import([calls, same].concat()).is_ok());
}

#[test]
fn weights_outside_of_the_folder_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let inside = place.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    std::fs::write(place.path().join("secret"), [0u8; 16]).unwrap();
    let entry = |key: &str, value: &str| bytes(13, [bytes(1, key), bytes(2, value)].concat());
    let with = |location: &str, length: &str| {
        let tensor = [
            number(1, 3),
            number(1, 1),
            number(1, 1),
            number(2, 1),
            bytes(8, "w"),
            entry("location", location),
            entry("length", length),
            number(14, 1),
        ]
        .concat();
        let file = model(&[bytes(5, tensor), node("Mul", &["x", "w"], "y", &[])]);
        let path = inside.join("model.onnx");
        std::fs::write(&path, file).unwrap();
        Model::open(&path).and_then(|m| m.import(&Options::default()))
    };
    let absolute = place.path().join("secret");
    for location in ["../secret", "a/../../secret", absolute.to_str().unwrap(), ""] {
        let error = with(location, "12").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format, "{error}");
        assert!(error.to_string().contains("which is not in the model's folder"), "{location}: {error}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("../secret", inside.join("link")).unwrap();
        let error = with("link", "12").unwrap_err().to_string();
        assert!(error.contains("the file `link`, which is a link out of the model's folder"), "{error}");
    }
    let error = with("missing", "12").unwrap_err();
    assert!(
        error.kind() == ErrorKind::Io && error.to_string().contains("the weights file `missing`"),
        "{error}"
    );
    std::fs::write(inside.join("short"), [0u8; 11]).unwrap();
    let error = with("short", "12").unwrap_err().to_string();
    assert!(
        error.starts_with(
            "short: ends before the tensor `w` does; expected 12 bytes from byte 0, found 11 bytes"
        ),
        "{error}"
    );
    std::fs::write(inside.join("good"), [0u8; 12]).unwrap();
    assert!(with("good", "12").is_ok());
    let error = with("good", "8").unwrap_err().to_string();
    assert!(
        error.contains("external length that does not fit its shape; expected 12 bytes, found 8"),
        "{error}"
    );
    // Bytes alone have no folder.
    let error = Model::from_bytes(file("external.onnx"), "file").unwrap_err().to_string();
    assert!(error.contains("keeps weights in the file `external.onnx.data`"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    /// The files have 7 to 18 KB. What a changed byte can make them ask for is bounded by the budget's fixed part at
    /// worst; a size field that were believed would come to gigabytes.
    #[test]
    fn changed_files_neither_panic_nor_take_much(
        name in prop::sample::select(vec!["shapes-dynamo", "norms-legacy", "mixer-legacy", "windows-dynamo", "convolutions-legacy"]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = file(&format!("{name}.onnx"));
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let taken = peak(bytes);
        // 128 MB kept, and at most as much again in passing.
        prop_assert!(taken < 288 << 20, "{taken} bytes");
    }
}
