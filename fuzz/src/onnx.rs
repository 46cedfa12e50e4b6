//! ONNX files that the wire format lets through: random operators on random values with random attributes.

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use nn::engine::Network;
use nn::onnx::{Model, Options};

const TEXTS: &[&str] = &[
    "",
    "NOTSET",
    "SAME_UPPER",
    "SAME_LOWER",
    "VALID",
    "constant",
    "reflect",
    "edge",
    "nearest",
    "linear",
    "cubic",
    "half_pixel",
    "align_corners",
    "asymmetric",
    "pytorch_half_pixel",
    "tanh",
    "none",
    "DCR",
    "CRD",
    "floor",
    "round_prefer_floor",
    "wrap",
    "bhik,bhkj->bhij",
    "abcd,abce->abde",
    "abcd,cb->ad",
    "ij,jk->ki",
];

/// A protobuf message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn int(mut self, field: u64, value: i64) -> Self {
        self.varint(field << 3);
        self.varint(value as u64);
        self
    }

    fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    fn message(self, field: u64, value: Message) -> Self {
        self.bytes(field, &value.0)
    }
}

/// A number as attributes and shapes have them: mostly small, now and then absurd.
fn number(u: &mut Unstructured) -> Result<i64> {
    Ok(match u.int_in_range(0..=15)? {
        0 => i64::MAX,
        1 => i64::MIN,
        2 => u.arbitrary::<i32>()?.into(),
        3 => u.arbitrary()?,
        n => n - 7,
    })
}

fn numbers(u: &mut Unstructured) -> Result<Vec<i64>> {
    (0..u.int_in_range(0..=8)?).map(|_| number(u)).collect()
}

/// A tensor of up to 512 values, which repeat two that are read.
fn tensor(u: &mut Unstructured, name: &str) -> Result<Message> {
    let mut message = Message::default();
    let mut len = 1usize;
    for _ in 0..u.int_in_range(0..=5)? {
        let dim = *u.choose(&[1usize, 1, 2, 3, 3, 4, 8, 0])?;
        if len * dim > 512 {
            break;
        }
        len *= dim;
        message = message.int(1, dim as i64);
    }
    if u.ratio(1, 2)? {
        let two: [f32; 2] = [f32::from(u.arbitrary::<i8>()?) / 16.0, u.arbitrary()?];
        let raw: Vec<u8> = (0..len).flat_map(|i| two[i % 2].to_le_bytes()).collect();
        message = message.int(2, 1).bytes(9, &raw);
    } else {
        let two = [number(u)?, number(u)?];
        let raw: Vec<u8> = (0..len).flat_map(|i| two[i % 2].to_le_bytes()).collect();
        message = message.int(2, 7).bytes(9, &raw);
    }
    Ok(message.bytes(8, name.as_bytes()))
}

fn attribute(u: &mut Unstructured, name: &str) -> Result<Message> {
    let message = Message::default().bytes(1, name.as_bytes());
    Ok(match u.int_in_range(0..=5)? {
        0 => message.float(2, u.arbitrary()?).int(20, 1),
        1 => message.bytes(4, u.choose(TEXTS)?.as_bytes()).int(20, 3),
        2 => message.message(5, tensor(u, "")?).int(20, 4),
        3 => {
            let floats: Vec<f32> = u.arbitrary()?;
            floats.iter().fold(message, |m, f| m.float(7, *f)).int(20, 6)
        }
        4 => numbers(u)?.iter().fold(message, |m, i| m.int(8, *i)).int(20, 7),
        _ => message.int(3, number(u)?).int(20, 2),
    })
}

/// A model with 1 to 8 operators, in the order they compute.
pub fn model(u: &mut Unstructured) -> Result<Vec<u8>> {
    let opset = u.int_in_range(10..=22)?;
    let px = *u.choose(&[1i64, 4, 7, 8, 16])?;
    let mut graph = Message::default();
    let mut values = vec![String::new(), "x".to_owned()];
    for i in 0..u.int_in_range(0..=6)? {
        let name = format!("t{i}");
        graph = graph.message(5, tensor(u, &name)?);
        values.push(name);
    }
    let mut operators: Vec<(&str, &[&str])> = nn::onnx::supported().collect();
    // And one that is not.
    operators.push(("LSTM", &[]));
    for i in 0..u.int_in_range(1..=8)? {
        let (op, attributes) = u.choose(&operators)?;
        let mut node = Message::default().bytes(4, op.as_bytes()).bytes(3, format!("n{i}").as_bytes());
        for j in 0..u.int_in_range(0..=5)? {
            // The first input is usually what was computed last.
            let input = if j == 0 && u.ratio(3, 4)? { values.last() } else { Some(u.choose(&values)?) };
            node = node.bytes(1, input.map_or("", |s| s).as_bytes());
        }
        let outputs: Vec<String> = (0..u.int_in_range(1..=3)?).map(|j| format!("v{i}_{j}")).collect();
        for output in &outputs {
            node = node.bytes(2, output.as_bytes());
        }
        for name in *attributes {
            if u.ratio(1, 2)? {
                node = node.message(5, attribute(u, name)?);
            }
        }
        values.extend(outputs.into_iter().rev());
        graph = graph.message(1, node);
    }
    let dim = |n: i64| Message::default().int(1, n);
    let dims = if u.ratio(7, 8)? { [1, 3, px, px] } else { [1, px, px, 3] };
    let shape = dims.iter().fold(Message::default(), |m, &n| m.message(1, dim(n)));
    let kind = Message::default().message(1, Message::default().int(1, 1).message(2, shape));
    graph = graph.message(11, Message::default().bytes(1, b"x").message(2, kind));
    let output = values.last().map_or("", |s| s);
    graph = graph.message(12, Message::default().bytes(1, output.as_bytes()));
    let opset = Message::default().bytes(1, b"").int(2, opset);
    Ok(Message::default().int(1, 8).message(8, opset).message(7, graph).0)
}

/// Numbers a network may hold and work through to be run here, so that an input takes milliseconds.
const MOST_NUMBERS: usize = 1 << 18;
const MOST_WORK: u64 = 1 << 20;

/// Reads a model, at each of its layers; small ones are also run, forward and back.
pub fn exhaust_onnx(bytes: Vec<u8>) {
    let Ok(model) = Model::from_bytes(bytes, "input") else { return };
    let input_px = model.input_px().is_none().then_some(8);
    let Ok(imported) = model.import(&Options { input_px, ..Default::default() }) else { return };
    if let Some(layer) = imported.layers.first() {
        let _ = model.import(&Options {
            input_px,
            layers: &[&layer.name],
            class_token: true,
            ..Default::default()
        });
    }
    let graph = &imported.graph;
    let held: usize = (0..graph.nodes().len()).map(|i| graph.shape(i).len()).sum();
    if held > MOST_NUMBERS || graph.multiply_adds() > MOST_WORK {
        return;
    }
    let network = Network::<f32>::new(graph);
    let mut ws = network.workspace();
    let x: Vec<f32> = (0..network.input_len()).map(|i| (i % 7) as f32 / 8.0).collect();
    let (feature, tape) = network.forward_saving(&mut ws, &x);
    assert_eq!(feature.len(), network.feature_len());
    let gradient = network.vjp(&mut ws, tape, &vec![1.0; feature.len()]);
    assert_eq!(gradient.len(), x.len());
    if network.smooth().is_ok() {
        let jet = network.jet(&mut ws, &x, &x).expect("a smooth network has a jet");
        assert!(jet.iter().all(|y| y.len() == feature.len()));
    }
}
