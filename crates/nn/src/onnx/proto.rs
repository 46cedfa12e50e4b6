//! The messages of an ONNX file that matter here, borrowed from its bytes.
//!
//! Source: onnx/onnx, `onnx/onnx.proto` (v1.17.0), for field numbers and data types.

use super::wire::{Broken, Field, Fields, varint};

/// The most nodes, attributes, names and numbers outside tensors that are read. A ViT-g of 40
/// blocks has some 20,000.
const MAX_ITEMS: usize = 1_000_000;

/// A model.
#[derive(Debug, Default)]
pub(super) struct Model<'a> {
    /// Version of the default operator set.
    pub(super) opset: i64,
    pub(super) graph: Option<Graph<'a>>,
    pub(super) functions: Vec<Function<'a>>,
}

/// An operator that the file itself defines by others.
#[derive(Debug, Default)]
pub(super) struct Function<'a> {
    pub(super) domain: &'a str,
    pub(super) name: &'a str,
    pub(super) overload: &'a str,
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    /// Values of attributes that a call leaves out.
    pub(super) defaults: Vec<(&'a str, Attribute<'a>)>,
    pub(super) nodes: Vec<Node<'a>>,
    /// Version of the default operator set, 0 where it is not said.
    pub(super) opset: i64,
}

/// A computation.
#[derive(Debug, Default)]
pub(super) struct Graph<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) tensors: Vec<Tensor<'a>>,
    pub(super) inputs: Vec<Input<'a>>,
    pub(super) outputs: Vec<&'a str>,
    pub(super) has_sparse: bool,
}

/// An input of the graph.
#[derive(Debug, Default)]
pub(super) struct Input<'a> {
    pub(super) name: &'a str,
    /// Data type by its number.
    pub(super) dtype: i64,
    /// Lengths; `None` where they are symbolic.
    pub(super) dims: Vec<Option<i64>>,
}

/// An operator.
#[derive(Clone, Debug, Default)]
pub(super) struct Node<'a> {
    pub(super) name: &'a str,
    pub(super) op: &'a str,
    pub(super) domain: &'a str,
    /// Which of several functions of one name.
    pub(super) overload: &'a str,
    /// Empty names stand for inputs that are left out.
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    pub(super) attributes: Vec<(&'a str, Attribute<'a>)>,
    /// Module paths, outermost first, as PyTorch's newer exporter writes them: `['', 'layer1', 'layer1.0']`.
    pub(super) scopes: &'a str,
}

/// The value of an attribute.
#[derive(Clone, Debug)]
pub(super) enum Attribute<'a> {
    Float(f32),
    Int(i64),
    Text(&'a [u8]),
    Tensor(Tensor<'a>),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    /// Within a function: the attribute of that name of the call.
    Reference(&'a str),
    /// Subgraphs, lists of text or tensors, types.
    Other,
}

/// A tensor as stored: its values are read when they are needed.
#[derive(Clone, Debug, Default)]
pub(super) struct Tensor<'a> {
    pub(super) name: &'a str,
    pub(super) dims: Vec<usize>,
    /// Data type by its number.
    pub(super) dtype: i64,
    /// The whole message, for the values in `*_data`.
    message: &'a [u8],
    raw: Option<&'a [u8]>,
    pub(super) external: Option<External<'a>>,
}

/// Where the values of a tensor lie in another file.
#[derive(Clone, Debug, Default)]
pub(super) struct External<'a> {
    pub(super) location: &'a str,
    pub(super) offset: u64,
    pub(super) length: Option<u64>,
}

/// Values of a tensor.
#[derive(Debug, PartialEq)]
pub(super) enum Numbers {
    Float(Vec<f32>),
    Int(Vec<i64>),
}

struct Reader {
    items: usize,
}

type Parsed<T> = Result<T, Broken>;

/// Reads a whole file.
pub(super) fn read(bytes: &[u8]) -> Parsed<Model<'_>> {
    let mut reader = Reader { items: 0 };
    let mut model = Model::default();
    for field in Fields::of(bytes) {
        match field? {
            (7, Field::Bytes(graph)) => model.graph = Some(reader.graph(graph)?),
            (8, Field::Bytes(opset)) => {
                if let Some(version) = default_opset(opset)? {
                    model.opset = version;
                }
            }
            (25, Field::Bytes(function)) => {
                reader.count()?;
                model.functions.push(reader.function(function)?);
            }
            _ => {}
        }
    }
    Ok(model)
}

/// The version that an operator set's message gives the default domain.
fn default_opset(bytes: &[u8]) -> Parsed<Option<i64>> {
    let (mut domain, mut version) = ("", 0);
    for field in Fields::of(bytes) {
        match field? {
            (1, Field::Bytes(b)) => domain = text(b)?,
            (2, Field::Varint(v)) => version = v as i64,
            _ => {}
        }
    }
    Ok(matches!(domain, "" | "ai.onnx").then_some(version))
}

fn text(bytes: &[u8]) -> Parsed<&str> {
    std::str::from_utf8(bytes).map_err(|_| Broken("has a name that is not UTF-8"))
}

impl Reader {
    fn count(&mut self) -> Parsed<()> {
        self.items += 1;
        if self.items > MAX_ITEMS { Err(Broken("has more than a million parts")) } else { Ok(()) }
    }

    fn graph<'a>(&mut self, bytes: &'a [u8]) -> Parsed<Graph<'a>> {
        let mut graph = Graph::default();
        for field in Fields::of(bytes) {
            let (number, field) = field?;
            let Field::Bytes(part) = field else { continue };
            match number {
                1 => {
                    self.count()?;
                    graph.nodes.push(self.node(part)?);
                }
                5 => {
                    self.count()?;
                    graph.tensors.push(self.tensor(part)?);
                }
                11 => {
                    self.count()?;
                    graph.inputs.push(self.input(part)?);
                }
                12 => {
                    self.count()?;
                    graph.outputs.push(self.input(part)?.name);
                }
                15 => graph.has_sparse = true,
                _ => {}
            }
        }
        Ok(graph)
    }

    fn function<'a>(&mut self, bytes: &'a [u8]) -> Parsed<Function<'a>> {
        let mut function = Function::default();
        for field in Fields::of(bytes) {
            let (number, field) = field?;
            let Field::Bytes(part) = field else { continue };
            match number {
                1 => function.name = text(part)?,
                4 => {
                    self.count()?;
                    function.inputs.push(text(part)?);
                }
                5 => {
                    self.count()?;
                    function.outputs.push(text(part)?);
                }
                7 => {
                    self.count()?;
                    function.nodes.push(self.node(part)?);
                }
                9 => function.opset = default_opset(part)?.unwrap_or(function.opset),
                10 => function.domain = text(part)?,
                11 => {
                    self.count()?;
                    function.defaults.push(self.attribute(part)?);
                }
                13 => function.overload = text(part)?,
                _ => {}
            }
        }
        Ok(function)
    }

    fn input<'a>(&mut self, bytes: &'a [u8]) -> Parsed<Input<'a>> {
        let mut input = Input::default();
        for field in Fields::of(bytes) {
            match field? {
                (1, Field::Bytes(name)) => input.name = text(name)?,
                // TypeProto.tensor_type
                (2, Field::Bytes(kind)) => {
                    for field in Fields::of(kind) {
                        if let (1, Field::Bytes(tensor)) = field? {
                            self.tensor_type(tensor, &mut input)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(input)
    }

    fn tensor_type(&mut self, bytes: &[u8], input: &mut Input) -> Parsed<()> {
        for field in Fields::of(bytes) {
            match field? {
                (1, Field::Varint(dtype)) => input.dtype = dtype as i64,
                (2, Field::Bytes(shape)) => {
                    for field in Fields::of(shape) {
                        if let (1, Field::Bytes(dim)) = field? {
                            self.count()?;
                            let mut length = None;
                            for field in Fields::of(dim) {
                                if let (1, Field::Varint(v)) = field? {
                                    length = Some(v as i64);
                                }
                            }
                            input.dims.push(length);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn node<'a>(&mut self, bytes: &'a [u8]) -> Parsed<Node<'a>> {
        let mut node = Node::default();
        for field in Fields::of(bytes) {
            let (number, field) = field?;
            let Field::Bytes(part) = field else { continue };
            match number {
                1 => {
                    self.count()?;
                    node.inputs.push(text(part)?);
                }
                2 => {
                    self.count()?;
                    node.outputs.push(text(part)?);
                }
                3 => node.name = text(part)?,
                4 => node.op = text(part)?,
                5 => {
                    self.count()?;
                    node.attributes.push(self.attribute(part)?);
                }
                7 => node.domain = text(part)?,
                8 => node.overload = text(part)?,
                9 => {
                    let (mut key, mut value) = (&b""[..], &b""[..]);
                    for field in Fields::of(part) {
                        match field? {
                            (1, Field::Bytes(b)) => key = b,
                            (2, Field::Bytes(b)) => value = b,
                            _ => {}
                        }
                    }
                    if key == b"pkg.torch.onnx.name_scopes" {
                        node.scopes = text(value)?;
                    }
                }
                _ => {}
            }
        }
        Ok(node)
    }

    fn attribute<'a>(&mut self, bytes: &'a [u8]) -> Parsed<(&'a str, Attribute<'a>)> {
        let (mut name, mut kind, mut reference) = ("", None, "");
        let (mut float, mut int, mut string, mut tensor) = (0.0, 0, &b""[..], None);
        let (mut floats, mut ints) = (Vec::new(), Vec::new());
        for field in Fields::of(bytes) {
            match field? {
                (1, Field::Bytes(b)) => name = text(b)?,
                (2, Field::Fixed32(v)) => float = f32::from_bits(v),
                (3, Field::Varint(v)) => int = v as i64,
                (4, Field::Bytes(b)) => string = b,
                (5, Field::Bytes(b)) => tensor = Some(self.tensor(b)?),
                (7, Field::Fixed32(v)) => {
                    self.count()?;
                    floats.push(f32::from_bits(v));
                }
                (7, Field::Bytes(b)) => {
                    for v in b.as_chunks::<4>().0 {
                        self.count()?;
                        floats.push(f32::from_le_bytes(*v));
                    }
                }
                (8, Field::Varint(v)) => {
                    self.count()?;
                    ints.push(v as i64);
                }
                (8, Field::Bytes(mut b)) => {
                    while !b.is_empty() {
                        self.count()?;
                        ints.push(varint(&mut b)? as i64);
                    }
                }
                (20, Field::Varint(v)) => kind = Some(v),
                (21, Field::Bytes(b)) => reference = text(b)?,
                _ => {}
            }
        }
        if !reference.is_empty() {
            return Ok((name, Attribute::Reference(reference)));
        }
        // AttributeProto.AttributeType
        let value = match kind {
            Some(1) => Attribute::Float(float),
            Some(2) => Attribute::Int(int),
            Some(3) => Attribute::Text(string),
            Some(4) => Attribute::Tensor(tensor.ok_or(Broken("has a tensor attribute without a tensor"))?),
            Some(6) => Attribute::Floats(floats),
            Some(7) => Attribute::Ints(ints),
            _ => Attribute::Other,
        };
        Ok((name, value))
    }

    fn tensor<'a>(&mut self, bytes: &'a [u8]) -> Parsed<Tensor<'a>> {
        let mut tensor = Tensor { message: bytes, ..Default::default() };
        let mut is_external = false;
        let mut external = External::default();
        let mut dim = |reader: &mut Reader, v: u64| {
            reader.count()?;
            let length = i64::try_from(v).map_err(|_| Broken("has a tensor of negative length"))?;
            tensor.dims.push(length as usize);
            if tensor.dims.len() > MAX_RANK {
                Err(Broken("has a tensor of more than 16 axes"))
            } else {
                Ok(())
            }
        };
        let (mut name, mut dtype, mut raw) = ("", 0, None);
        for field in Fields::of(bytes) {
            match field? {
                (1, Field::Varint(v)) => dim(self, v)?,
                (1, Field::Bytes(mut b)) => {
                    while !b.is_empty() {
                        let v = varint(&mut b)?;
                        dim(self, v)?;
                    }
                }
                (2, Field::Varint(v)) => dtype = v as i64,
                (8, Field::Bytes(b)) => name = text(b)?,
                (9, Field::Bytes(b)) => raw = Some(b),
                (13, Field::Bytes(entry)) => {
                    let (mut key, mut value) = ("", "");
                    for field in Fields::of(entry) {
                        match field? {
                            (1, Field::Bytes(b)) => key = text(b)?,
                            (2, Field::Bytes(b)) => value = text(b)?,
                            _ => {}
                        }
                    }
                    let number =
                        || value.parse().map_err(|_| Broken("has an external offset that is no number"));
                    match key {
                        "location" => external.location = value,
                        "offset" => external.offset = number()?,
                        "length" => external.length = Some(number()?),
                        _ => {}
                    }
                }
                (14, Field::Varint(v)) => is_external = v == 1,
                _ => {}
            }
        }
        (tensor.name, tensor.dtype, tensor.raw) = (name, dtype, raw);
        tensor.external = is_external.then_some(external);
        Ok(tensor)
    }
}

/// The most axes of a tensor.
pub(super) const MAX_RANK: usize = 16;

/// The name of a data type (TensorProto.DataType).
pub(super) fn dtype_name(dtype: i64) -> String {
    match dtype {
        1 => "float32",
        2 => "uint8",
        3 => "int8",
        4 => "uint16",
        5 => "int16",
        6 => "int32",
        7 => "int64",
        8 => "string",
        9 => "bool",
        10 => "float16",
        11 => "float64",
        12 => "uint32",
        13 => "uint64",
        14 => "complex64",
        15 => "complex128",
        16 => "bfloat16",
        17..=20 => "an 8-bit float",
        _ => return format!("data type {dtype}"),
    }
    .to_string()
}

/// Bytes of one value in `raw_data` or an external file; `None` for types that are not supported.
pub(super) fn dtype_bytes(dtype: i64) -> Option<usize> {
    Some(match dtype {
        2 | 3 | 9 => 1,
        4 | 5 | 10 | 16 => 2,
        1 | 6 | 12 => 4,
        7 | 11 | 13 => 8,
        _ => return None,
    })
}

impl<'a> Tensor<'a> {
    /// Number of values, `None` if it overflows.
    pub(super) fn len(&self) -> Option<usize> {
        self.dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
    }

    /// The bytes of the values, where the file itself holds them as such.
    pub(super) fn raw(&self) -> Option<&'a [u8]> {
        self.raw
    }

    /// The values from `*_data` fields; at most `len` of them are read.
    pub(super) fn listed(&self, len: usize) -> Parsed<Numbers> {
        let is_float = matches!(self.dtype, 1 | 10 | 11 | 16);
        let (mut floats, mut ints) = (Vec::new(), Vec::new());
        let too_many = || Broken("has a tensor with more values than its shape");
        let mut float = |v: f32| {
            floats.push(v);
            if floats.len() > len { Err(too_many()) } else { Ok(()) }
        };
        let mut int = |v: i64| {
            ints.push(v);
            if ints.len() > len { Err(too_many()) } else { Ok(()) }
        };
        for field in Fields::of(self.message) {
            match (field?, self.dtype) {
                ((4, Field::Fixed32(v)), 1) => float(f32::from_bits(v))?,
                ((4, Field::Bytes(b)), 1) => {
                    b.as_chunks::<4>().0.iter().try_for_each(|v| float(f32::from_le_bytes(*v)))?;
                }
                ((10, Field::Fixed64(v)), 11) => float(f64::from_bits(v) as f32)?,
                ((10, Field::Bytes(b)), 11) => {
                    b.as_chunks::<8>().0.iter().try_for_each(|v| float(f64::from_le_bytes(*v) as f32))?;
                }
                // int32_data also holds the smaller integers, bool, and the bits of float16 and bfloat16.
                ((5, Field::Varint(v)), 2..=6 | 9) => int(i64::from(v as i32))?,
                ((5, Field::Varint(v)), 10 | 16) => float(half(self.dtype, v as u16))?,
                ((5, Field::Bytes(mut b)), 2..=6 | 9 | 10 | 16) => {
                    while !b.is_empty() {
                        let v = varint(&mut b)?;
                        if is_float { float(half(self.dtype, v as u16))? } else { int(i64::from(v as i32))? }
                    }
                }
                ((7, Field::Varint(v)), 7) | ((11, Field::Varint(v)), 12 | 13) => int(v as i64)?,
                ((7, Field::Bytes(mut b)), 7) | ((11, Field::Bytes(mut b)), 12 | 13) => {
                    while !b.is_empty() {
                        let v = varint(&mut b)?;
                        int(v as i64)?;
                    }
                }
                _ => {}
            }
        }
        Ok(if is_float { Numbers::Float(floats) } else { Numbers::Int(ints) })
    }
}

/// float16 or bfloat16 from its bits.
fn half(dtype: i64, bits: u16) -> f32 {
    if dtype == 10 { half::f16::from_bits(bits).to_f32() } else { half::bf16::from_bits(bits).to_f32() }
}

/// Values from bytes as `raw_data` holds them, little-endian; `None` for a type that is not supported.
pub(super) fn decode(dtype: i64, bytes: &[u8]) -> Option<Numbers> {
    macro_rules! each {
        ($n:literal, $kind:ident, $read:expr) => {
            Numbers::$kind(bytes.as_chunks::<$n>().0.iter().map(|&b| $read(b)).collect())
        };
    }
    Some(match dtype {
        1 => each!(4, Float, f32::from_le_bytes),
        2 | 9 => each!(1, Int, |b: [u8; 1]| i64::from(b[0])),
        3 => each!(1, Int, |b| i64::from(i8::from_le_bytes(b))),
        4 => each!(2, Int, |b| i64::from(u16::from_le_bytes(b))),
        5 => each!(2, Int, |b| i64::from(i16::from_le_bytes(b))),
        6 => each!(4, Int, |b| i64::from(i32::from_le_bytes(b))),
        7 => each!(8, Int, i64::from_le_bytes),
        10 | 16 => each!(2, Float, |b| half(dtype, u16::from_le_bytes(b))),
        11 => each!(8, Float, |b| f64::from_le_bytes(b) as f32),
        12 => each!(4, Int, |b| i64::from(u32::from_le_bytes(b))),
        13 => each!(8, Int, |b| u64::from_le_bytes(b) as i64),
        _ => return None,
    })
}
