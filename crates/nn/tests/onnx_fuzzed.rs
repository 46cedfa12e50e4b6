//! ONNX files that once made the reader panic, found by the fuzz targets of `fuzz/`, as small as they can be.

use nn::ErrorKind;
use nn::engine::Network;
use nn::onnx::{Model, Options};

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn int(field: u64, value: i64) -> Vec<u8> {
    [varint(field << 3), varint(value as u64)].concat()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

/// A tensor of int64.
fn tensor(name: &str, dims: &[i64], values: &[i64]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&d| int(1, d)).collect();
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    [dims, int(2, 7), bytes(8, name.as_bytes()), bytes(9, &raw)].concat()
}

/// An operator with inputs separated by spaces and attributes that are numbers.
fn node(op: &str, inputs: &str, output: &str, attributes: &[(&str, i64)]) -> Vec<u8> {
    let mut node: Vec<u8> = inputs.split(' ').flat_map(|i| bytes(1, i.as_bytes())).collect();
    node.extend([bytes(2, output.as_bytes()), bytes(4, op.as_bytes())].concat());
    for (name, value) in attributes {
        node.extend(bytes(5, &[bytes(1, name.as_bytes()), int(3, *value), int(20, 2)].concat()));
    }
    node
}

/// A model of an image `x` of 8×8 pixels that gives `y`.
fn model(nodes: &[Vec<u8>], tensors: &[Vec<u8>]) -> Vec<u8> {
    let dims: Vec<u8> = [1, 3, 8, 8].iter().flat_map(|&d| bytes(1, &int(1, d))).collect();
    let kind = bytes(1, &[int(1, 1), bytes(2, &dims)].concat());
    let mut graph: Vec<u8> = nodes.iter().flat_map(|n| bytes(1, n)).collect();
    graph.extend(tensors.iter().flat_map(|t| bytes(5, t)));
    graph.extend(bytes(11, &[bytes(1, b"x"), bytes(2, &kind)].concat()));
    graph.extend(bytes(12, &bytes(1, b"y")));
    [int(1, 8), bytes(8, &int(2, 18)), bytes(7, &graph)].concat()
}

fn refusal(nodes: &[Vec<u8>], tensors: &[Vec<u8>]) -> (ErrorKind, String) {
    let model = Model::from_bytes(model(nodes, tensors), "file").unwrap();
    let error = model.import(&Options::default()).unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn unsqueeze_of_the_same_axis_twice() {
    let nodes = [node("Unsqueeze", "x a", "y", &[])];
    let (kind, text) = refusal(&nodes, &[tensor("a", &[3], &[6, -1, 6])]);
    assert_eq!(kind, ErrorKind::Format);
    assert!(text.contains("makes the same axis twice"), "{text}");
}

#[test]
fn blocks_of_absurd_size() {
    for op in ["DepthToSpace", "SpaceToDepth"] {
        let (_, text) = refusal(&[node(op, "x", "y", &[("blocksize", i64::MAX)])], &[]);
        assert!(text.contains("far more memory") || text.contains("do not divide"), "{op}: {text}");
    }
}

/// A negative step begins at the last position, and there is none.
#[test]
fn backwards_through_nothing() {
    let nodes = [
        node("Slice", "e s s z s", "n", &[]),
        node("Reshape", "n i", "r", &[]),
        node("Add", "x r", "y", &[]),
    ];
    let tensors =
        [tensor("e", &[0], &[]), tensor("s", &[1], &[-2]), tensor("z", &[1], &[0]), tensor("i", &[1], &[1])];
    let (_, text) = refusal(&nodes, &tensors);
    assert!(text.contains("Reshape"), "the slice is empty, which no reshape makes one: {text}");
}

/// A node of no elements has no rows to give.
#[test]
fn pooling_of_nothing() {
    let nodes = [node("Sub", "a e", "n", &[]), node("GlobalAveragePool", "n x", "y", &[])];
    let (kind, text) = refusal(&nodes, &[tensor("a", &[1, 1, 1], &[2]), tensor("e", &[0], &[])]);
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(text.contains("works on a tensor without values"), "{text}");
}

#[test]
fn more_axes_than_there_is_room_for() {
    let nodes = [node("Expand", "x s", "e", &[]), node("MatMul", "e e", "y", &[])];
    let (kind, text) = refusal(&nodes, &[tensor("s", &[27], &[1; 27])]);
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(text.contains("makes a tensor of too many axes; expected at most 15, found 27"), "{text}");
}

/// What the refusals above are told apart from.
#[test]
fn the_same_operators_in_order() {
    let nodes = [
        node("SpaceToDepth", "x", "b", &[("blocksize", 2)]),
        node("Unsqueeze", "b a", "u", &[]),
        node("Squeeze", "u a", "q", &[]),
        node("Slice", "q s e c s", "l", &[]),
        node("GlobalAveragePool", "l", "y", &[]),
    ];
    let tensors = [
        tensor("a", &[2], &[1, -1]),
        tensor("s", &[1], &[-1]),
        tensor("e", &[1], &[-13]),
        tensor("c", &[1], &[1]),
    ];
    let model = Model::from_bytes(model(&nodes, &tensors), "file").unwrap();
    let imported = model.import(&Options::default()).unwrap();
    let network = Network::<f64>::new(&imported.graph);
    let x: Vec<f64> = (0..network.input_len()).map(|i| i as f64).collect();
    let feature = network.forward(&mut network.workspace(), &x);
    // Means over the image of the twelve channels (by position in the block, then by colour), backwards. Pixel (r, c) of
    // colour k is 24r + 3c + k; of position (i, j) the mean is 24·(3 + i) + 3·(3 + j) + k.
    let expected: Vec<f64> = (0..12)
        .rev()
        .map(|n| (n / 6, n / 3 % 2, n % 3))
        .map(|(i, j, k)| f64::from(24 * (3 + i) + 3 * (3 + j) + k))
        .collect();
    assert_eq!(feature, expected);
}

#[test]
fn nothing_tiled_to_absurd_lengths() {
    let many = 1 << 33;
    let nodes = [node("Tile", "t r", "y", &[])];
    let tensors = [tensor("t", &[0, 1, 1], &[]), tensor("r", &[3], &[1, many, many])];
    let (kind, message) = refusal(&nodes, &tensors);
    assert_eq!(kind, ErrorKind::Unsupported, "{message}");
    assert!(message.contains("Tile"), "{message}");
}

/// One place along each axis, however far the next one would be.
#[test]
fn slices_of_absurd_steps() {
    let nodes = [
        node("Slice", "x s e a t", "l", &[]),
        node("Slice", "l z e a t", "q", &[]),
        node("GlobalAveragePool", "q", "y", &[]),
    ];
    let tensors = [
        tensor("s", &[2], &[1, 2]),
        tensor("z", &[2], &[0, 0]),
        tensor("e", &[2], &[i64::MAX, i64::MAX]),
        tensor("a", &[2], &[2, 3]),
        tensor("t", &[2], &[i64::MAX, 1 << 61]),
    ];
    let model = Model::from_bytes(model(&nodes, &tensors), "file").unwrap();
    let imported = model.import(&Options::default()).unwrap();
    let network = Network::<f64>::new(&imported.graph);
    let x: Vec<f64> = (0..network.input_len()).map(|i| i as f64).collect();
    // The pixel in row 1 and column 2, of 8 columns and three colours.
    assert_eq!(network.forward(&mut network.workspace(), &x), [30.0, 31.0, 32.0]);
}
