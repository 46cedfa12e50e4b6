//! The opcodes, and the stack and input they work on.

use std::collections::HashMap;

use super::{Node, Value, opcode};
use crate::{Error, ErrorKind, Result};

/// Opcodes and copied elements of one pickle. A tensor of a state dict takes about 40, so this is room
/// for 26,000.
const BUDGET: usize = 1 << 20;

const RESAVE: &str = "Nothing was executed. If you trust the file, load it in Python and save only its \
                      state dict (torch.save(model.state_dict(), ...)) or a .safetensors file";

/// The machine: the input, the stack, the memo, and what was built.
pub(super) struct Machine<'a, 'o> {
    /// The file up to the end of the pickle, so that positions are positions in the file.
    input: &'a [u8],
    pub(super) at: usize,
    opcode_at: usize,
    origin: &'o str,
    pub(super) stack: Vec<Value<'a>>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    pub(super) nodes: Vec<Node<'a>>,
    budget: usize,
}

impl<'a, 'o> Machine<'a, 'o> {
    /// A machine about to read `input` from byte `at` on.
    pub(super) fn new(input: &'a [u8], at: usize, origin: &'o str) -> Machine<'a, 'o> {
        Machine {
            input,
            at,
            opcode_at: at,
            origin,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            nodes: Vec::new(),
            budget: BUDGET,
        }
    }

    /// Runs to the end of the pickle and gives what it holds.
    pub(super) fn run(&mut self) -> Result<Value<'a>> {
        loop {
            self.opcode_at = self.at;
            self.spend(1)?;
            let [op] = self.array()?;
            if op == opcode::STOP {
                return self.pop();
            }
            self.step(op)?;
        }
    }

    fn step(&mut self, op: u8) -> Result<()> {
        match op {
            opcode::PROTO => {
                let [version] = self.array()?;
                if !(2..=5).contains(&version) {
                    return Err(self
                        .unsupported("is written in a pickle protocol that is not supported")
                        .expected("protocol 2 to 5", version));
                }
            }
            // A frame only promises how far the next opcodes reach; each is checked by itself.
            opcode::FRAME => {
                self.array::<8>()?;
            }
            opcode::MARK => self.marks.push(self.stack.len()),

            opcode::NONE => self.stack.push(Value::None),
            opcode::NEWTRUE => self.stack.push(Value::Bool(true)),
            opcode::NEWFALSE => self.stack.push(Value::Bool(false)),
            opcode::BININT1 => {
                let n = u8::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(n.into()));
            }
            opcode::BININT2 => {
                let n = u16::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(n.into()));
            }
            opcode::BININT => {
                let n = i32::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(n.into()));
            }
            opcode::LONG1 => {
                let n = self.length::<1>()?;
                self.long(n)?;
            }
            opcode::LONG4 => {
                let n = self.length::<4>()?;
                self.long(n)?;
            }
            opcode::BINFLOAT => {
                let v = f64::from_be_bytes(self.array()?);
                self.stack.push(Value::Float(v));
            }
            opcode::SHORT_BINUNICODE => {
                let n = self.length::<1>()?;
                self.text(n)?;
            }
            opcode::BINUNICODE => {
                let n = self.length::<4>()?;
                self.text(n)?;
            }
            opcode::BINUNICODE8 => {
                let n = self.length::<8>()?;
                self.text(n)?;
            }
            opcode::SHORT_BINBYTES => {
                let n = self.length::<1>()?;
                self.bytes(n)?;
            }
            opcode::BINBYTES => {
                let n = self.length::<4>()?;
                self.bytes(n)?;
            }
            opcode::BINBYTES8 => {
                let n = self.length::<8>()?;
                self.bytes(n)?;
            }
            // Python 2 writes its `str`, and so every name of a state dict, with these two.
            opcode::SHORT_BINSTRING => {
                let n = self.length::<1>()?;
                self.text_or_bytes(n)?;
            }
            opcode::BINSTRING => {
                let n = self.length::<4>()?;
                self.text_or_bytes(n)?;
            }

            opcode::EMPTY_TUPLE => self.push(Node::Tuple(Vec::new())),
            opcode::TUPLE1 => self.tuple(1)?,
            opcode::TUPLE2 => self.tuple(2)?,
            opcode::TUPLE3 => self.tuple(3)?,
            opcode::TUPLE => {
                let items = self.pop_to_mark()?;
                self.push(Node::Tuple(items));
            }
            opcode::EMPTY_LIST => self.push(Node::List(Vec::new())),
            opcode::APPEND => {
                let item = self.pop()?;
                self.append([item])?;
            }
            opcode::APPENDS => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            opcode::EMPTY_DICT => self.push(Node::Dict(Vec::new())),
            opcode::SETITEM => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set([(key, value)])?;
            }
            opcode::SETITEMS => {
                let items = self.pop_to_mark()?;
                let (pairs, rest) = items.as_chunks::<2>();
                if !rest.is_empty() {
                    return Err(self.nonsense("has a dict key without a value"));
                }
                self.set(pairs.iter().map(|&[key, value]| (key, value)))?;
            }

            opcode::BINPUT => {
                let index = self.length::<1>()?;
                self.memoize(index)?;
            }
            opcode::LONG_BINPUT => {
                let index = self.length::<4>()?;
                self.memoize(index)?;
            }
            opcode::MEMOIZE => self.memoize(self.memo.len())?,
            opcode::BINGET => {
                let index = self.length::<1>()?;
                self.recall(index)?;
            }
            opcode::LONG_BINGET => {
                let index = self.length::<4>()?;
                self.recall(index)?;
            }

            opcode::GLOBAL => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(module, name)?;
            }
            opcode::STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Str(module), Value::Str(name)) = (module, name) else {
                    return Err(self.nonsense("names a global by something other than text"));
                };
                self.global(module, name)?;
            }
            opcode::BINPERSID => {
                let id = self.pop()?;
                let storage = self.persistent(id)?;
                self.push(Node::Storage(storage));
            }
            opcode::REDUCE | opcode::NEWOBJ => {
                let args = self.pop()?;
                let callee = self.pop()?;
                let result = self.call(callee, args)?;
                self.stack.push(result);
            }
            opcode::BUILD => {
                let state = self.pop()?;
                self.build(state)?;
            }
            op => {
                return Err(match opcode::name(op) {
                    Some(name) => {
                        self.unsupported(format!("uses the pickle opcode {name}, which is not allowed"))
                    }
                    None => self.nonsense(format!("has {op:#04x} where a pickle opcode should be")),
                });
            }
        }
        Ok(())
    }

    // The stack.

    fn push(&mut self, node: Node<'a>) {
        self.nodes.push(node);
        self.stack.push(Value::Node(self.nodes.len() - 1));
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value<'a>> {
        if self.stack.len() <= self.floor() {
            return Err(self.nonsense("takes a value from an empty stack"));
        }
        self.stack.pop().ok_or_else(|| self.nonsense("takes a value from an empty stack"))
    }

    pub(super) fn top(&self) -> Result<Value<'a>> {
        match self.stack.last() {
            Some(&value) if self.stack.len() > self.floor() => Ok(value),
            _ => Err(self.nonsense("looks at a value of an empty stack")),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => Err(self.nonsense("ends a group that was not begun")),
        }
    }

    fn tuple(&mut self, len: usize) -> Result<()> {
        let start = self.stack.len().checked_sub(len).filter(|&start| start >= self.floor());
        let Some(start) = start else {
            return Err(self.nonsense("takes a value from an empty stack"));
        };
        let items = self.stack.split_off(start);
        self.push(Node::Tuple(items));
        Ok(())
    }

    fn append(&mut self, items: impl IntoIterator<Item = Value<'a>>) -> Result<()> {
        if let Value::Node(id) = self.top()?
            && let Some(Node::List(list)) = self.nodes.get_mut(id)
        {
            list.extend(items);
            return Ok(());
        }
        Err(self.nonsense("appends to something that is not a list"))
    }

    fn set(&mut self, items: impl IntoIterator<Item = (Value<'a>, Value<'a>)>) -> Result<()> {
        if let Value::Node(id) = self.top()?
            && let Some(Node::Dict(entries)) = self.nodes.get_mut(id)
        {
            entries.extend(items);
            return Ok(());
        }
        Err(self.nonsense("sets an item of something that is not a dict"))
    }

    fn memoize(&mut self, index: usize) -> Result<()> {
        let value = self.top()?;
        match u32::try_from(index) {
            Ok(index) => {
                self.memo.insert(index, value);
                Ok(())
            }
            Err(_) => Err(self.nonsense("remembers too many values")),
        }
    }

    fn recall(&mut self, index: usize) -> Result<()> {
        let value = u32::try_from(index).ok().and_then(|index| self.memo.get(&index)).copied();
        match value {
            Some(value) => {
                self.stack.push(value);
                Ok(())
            }
            None => Err(self.nonsense(format!("recalls value {index}, which was never remembered"))),
        }
    }

    pub(super) fn node(&self, value: Value<'a>) -> Option<&Node<'a>> {
        match value {
            Value::Node(id) => self.nodes.get(id),
            _ => None,
        }
    }

    // The input.

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let input: &'a [u8] = self.input;
        match input.get(self.at..).and_then(|rest| rest.get(..len)) {
            Some(bytes) => {
                self.at += len;
                Ok(bytes)
            }
            None => Err(self
                .nonsense("ends inside its pickle")
                .expected(format!("{len} more bytes"), input.len().saturating_sub(self.at))
                .remedy("The file is cut off or damaged; fetch it again")),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// A little-endian count of `N` bytes; one too large for this machine cannot fit the file either.
    fn length<const N: usize>(&mut self) -> Result<usize> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(self.take(N)?);
        Ok(usize::try_from(u64::from_le_bytes(wide)).unwrap_or(usize::MAX))
    }

    fn bytes(&mut self, len: usize) -> Result<()> {
        let bytes = self.take(len)?;
        self.stack.push(Value::Bytes(bytes));
        Ok(())
    }

    fn text(&mut self, len: usize) -> Result<()> {
        let bytes = self.take(len)?;
        let text =
            std::str::from_utf8(bytes).map_err(|e| self.nonsense("has text that is not UTF-8").source(e))?;
        self.stack.push(Value::Str(text));
        Ok(())
    }

    fn text_or_bytes(&mut self, len: usize) -> Result<()> {
        let bytes = self.take(len)?;
        self.stack.push(std::str::from_utf8(bytes).map_or(Value::Bytes(bytes), Value::Str));
        Ok(())
    }

    /// A little-endian two's complement integer.
    fn long(&mut self, len: usize) -> Result<()> {
        let bytes = self.take(len)?;
        let negative = bytes.last().is_some_and(|&b| b & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 16];
        let Some(low) = wide.get_mut(..len) else {
            return Err(self.unsupported(format!("has an integer of {len} bytes")));
        };
        low.copy_from_slice(bytes);
        self.stack.push(Value::Int(i128::from_le_bytes(wide)));
        Ok(())
    }

    /// Text up to a line feed, which is read too.
    fn line(&mut self) -> Result<&'a str> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let len = rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
        let line = self.take(len)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|e| self.nonsense("has a name that is not UTF-8").source(e))
    }

    pub(super) fn spend(&mut self, units: usize) -> Result<()> {
        match self.budget.checked_sub(units) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => Err(self
                .unsupported("is a pickle far larger than a state dict")
                .expected(format!("at most {BUDGET} steps"), "more")),
        }
    }

    pub(super) fn nonsense(&self, problem: impl AsRef<str>) -> Error {
        self.error(ErrorKind::Format, problem.as_ref())
    }

    pub(super) fn unsupported(&self, problem: impl AsRef<str>) -> Error {
        self.error(ErrorKind::Unsupported, problem.as_ref()).remedy(RESAVE)
    }

    fn error(&self, kind: ErrorKind, problem: &str) -> Error {
        Error::new(kind, self.origin, format!("{problem} (byte {} of the file)", self.opcode_at))
    }
}
