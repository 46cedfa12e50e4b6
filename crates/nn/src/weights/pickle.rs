//! A pickle machine that can build plain data and tensor descriptions, and can call nothing.
//!
//! A pickle is a program: its opcodes import names and call them. Here every opcode and every
//! name is on a list; whatever is not stops the reading with an error that says which and where.
//! A "call" of a listed name only records what the name stands for: no code of the file, or
//! named by it, ever runs.
//!
//! Memory is bounded by work actually present in the file. Text stays where it is in the file,
//! every opcode costs one unit of a fixed budget, every element that is copied another, and values
//! refer to containers by number, so shared, cyclic or deeply nested values cost nothing extra and
//! nothing here recurses.
//!
//! Source: the opcodes as CPython documents them in `Lib/pickletools.py`; the names as torch writes them
//! (`torch/_utils.py`, `torch/serialization.py`, and for files older than torch 0.4 the forms that
//! `torch/_weights_only_unpickler.py` still accepts).

use std::ops::Range;

use super::tensor::Dtype;
use crate::Result;
use machine::Machine;

mod call;
mod machine;
mod opcode;

/// Index of a `Node`.
pub(super) type NodeId = usize;

/// A value on the machine's stack. Text and bytes borrow from the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(&'a str),
    Bytes(&'a [u8]),
    Global(Global),
    Node(NodeId),
}

/// What a `Value::Node` refers to.
#[derive(Debug)]
pub(super) enum Node<'a> {
    Tuple(Vec<Value<'a>>),
    List(Vec<Value<'a>>),
    /// In order of writing; of equal keys the last counts.
    Dict(Vec<(Value<'a>, Value<'a>)>),
    Storage(Storage<'a>),
    Tensor(View),
}

/// A storage as named by a persistent id: `elements` of `dtype`, from element `start` of what is stored
/// under `key`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    pub(super) key: &'a str,
    pub(super) dtype: Dtype,
    /// How many elements lie under `key`.
    pub(super) stored: usize,
    pub(super) start: usize,
    pub(super) elements: usize,
}

/// A tensor as `_rebuild_tensor_v2` describes it. Nothing of it is checked against the storage yet.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) storage: NodeId,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// The names a file may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildTensorV2,
    RebuildParameter,
    Parameter,
    Size,
    Storage(Dtype),
    /// A dtype as a value, such as `torch.float32` in a saved configuration.
    Dtype,
}

impl Global {
    fn named(module: &str, name: &str) -> Option<Global> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch._utils", "_rebuild_tensor") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensorV2,
            ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
            ("torch.nn.parameter", "Parameter") => Global::Parameter,
            ("torch", "Size") => Global::Size,
            ("torch", "float64" | "float32" | "float16" | "bfloat16" | "complex64" | "complex128") => {
                Global::Dtype
            }
            ("torch", "int64" | "int32" | "int16" | "int8" | "uint8" | "bool") => Global::Dtype,
            ("torch", storage) => Global::Storage(match storage {
                "DoubleStorage" => Dtype::F64,
                "FloatStorage" => Dtype::F32,
                "HalfStorage" => Dtype::F16,
                "BFloat16Storage" => Dtype::Bf16,
                "LongStorage" => Dtype::Other { name: "i64", bytes: 8 },
                "IntStorage" => Dtype::Other { name: "i32", bytes: 4 },
                "ShortStorage" => Dtype::Other { name: "i16", bytes: 2 },
                "CharStorage" => Dtype::Other { name: "i8", bytes: 1 },
                "ByteStorage" => Dtype::Other { name: "u8", bytes: 1 },
                "BoolStorage" => Dtype::Other { name: "bool", bytes: 1 },
                "ComplexFloatStorage" => Dtype::Other { name: "complex64", bytes: 8 },
                "ComplexDoubleStorage" => Dtype::Other { name: "complex128", bytes: 16 },
                _ => return None,
            }),
            _ => return None,
        })
    }
}

/// What a pickle holds.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub(super) root: Value<'a>,
    nodes: Vec<Node<'a>>,
    /// Where in the file the next byte after it lies.
    pub(super) end: usize,
}

impl<'a> Pickle<'a> {
    /// Runs the pickle that begins at `range.start` of `file` and must stop before `range.end`.
    ///
    /// # Errors
    /// `Unsupported` for an opcode or a name that is not on the list, and for a pickle over the budget;
    /// `Format` for one that is cut off or makes no sense. Both name the byte of the file.
    pub(super) fn read(file: &'a [u8], range: Range<usize>, origin: &str) -> Result<Pickle<'a>> {
        let input = file.get(..range.end).unwrap_or(file);
        let mut machine = Machine::new(input, range.start, origin);
        let root = machine.run()?;
        Ok(Pickle { root, nodes: machine.nodes, end: machine.at })
    }

    /// The container or tensor that `value` refers to.
    pub(super) fn node(&self, value: Value<'a>) -> Option<&Node<'a>> {
        match value {
            Value::Node(id) => self.nodes.get(id),
            _ => None,
        }
    }

    /// The entries of a dict.
    pub(super) fn dict(&self, value: Value<'a>) -> Option<&[(Value<'a>, Value<'a>)]> {
        match self.node(value) {
            Some(Node::Dict(entries)) => Some(entries),
            _ => None,
        }
    }

    /// The storage a view refers to.
    pub(super) fn storage(&self, view: &View) -> Option<&Storage<'a>> {
        match self.nodes.get(view.storage) {
            Some(Node::Storage(storage)) => Some(storage),
            _ => None,
        }
    }

    /// Every storage named anywhere in the pickle.
    pub(super) fn storages(&self) -> impl Iterator<Item = &Storage<'a>> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Storage(storage) => Some(storage),
            _ => None,
        })
    }
}
