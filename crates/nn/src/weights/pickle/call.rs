//! What stands in place of importing and calling: the listed names, and what each call of them describes.

use super::machine::Machine;
use super::{Global, Node, Storage, Value, View};
use crate::Result;
use crate::weights::shown;
use crate::weights::tensor::MAX_RANK;

impl<'a> Machine<'a, '_> {
    pub(super) fn global(&mut self, module: &str, name: &str) -> Result<()> {
        match Global::named(module, name) {
            Some(global) => {
                self.stack.push(Value::Global(global));
                Ok(())
            }
            None => Err(self.unsupported(format!(
                "uses `{}.{}`, which is not among the names a checkpoint may use",
                shown(module),
                shown(name)
            ))),
        }
    }

    pub(super) fn call(&mut self, callee: Value<'a>, args: Value<'a>) -> Result<Value<'a>> {
        let Value::Global(global) = callee else {
            return Err(self.nonsense("calls something that is not a name"));
        };
        let Some(Node::Tuple(args)) = self.node(args) else {
            return Err(self.nonsense("calls a name without a tuple of arguments"));
        };
        // The seven arguments of `_rebuild_tensor_v2` are the most that are looked at.
        let given = args.len();
        let args: Vec<Value<'a>> = args.iter().copied().take(7).collect();
        let node = match (global, &args[..]) {
            (Global::OrderedDict, []) => Node::Dict(Vec::new()),
            (Global::OrderedDict, &[pairs]) if given == 1 => Node::Dict(self.pairs(pairs)?),
            (Global::RebuildTensor, &[storage, offset, shape, strides]) if given == 4 => {
                Node::Tensor(self.view(storage, offset, shape, strides)?)
            }
            (
                Global::RebuildTensorV2,
                &[storage, offset, shape, strides, _grad, _hooks, ref metadata @ ..],
            ) if given <= 7 => {
                if let &[metadata] = metadata {
                    self.no_lazy_operation(metadata)?;
                }
                Node::Tensor(self.view(storage, offset, shape, strides)?)
            }
            // (tensor, requires_grad, hooks), and for Parameter itself (tensor, requires_grad).
            (Global::RebuildParameter | Global::Parameter, &[data, ..]) if given <= 3 => {
                if !matches!(self.node(data), Some(Node::Tensor(_))) {
                    return Err(self.nonsense("makes a parameter of something that is not a tensor"));
                }
                return Ok(data);
            }
            (Global::Size, &[lengths]) if given == 1 => return Ok(lengths),
            _ => return Err(self.nonsense(format!("calls {global:?} with {given} unexpected arguments"))),
        };
        self.nodes.push(node);
        Ok(Value::Node(self.nodes.len() - 1))
    }

    /// Negation and conjugation that torch has put off until the values are read would be lost here.
    fn no_lazy_operation(&self, metadata: Value<'a>) -> Result<()> {
        match (metadata, self.node(metadata)) {
            (Value::None, _) => Ok(()),
            (_, Some(Node::Dict(entries))) if entries.is_empty() => Ok(()),
            _ => Err(self.unsupported("has a tensor with a pending negation or conjugation")),
        }
    }

    /// The `[[key, value], ...]` that Python 2 and early Python 3 hand to `OrderedDict`.
    fn pairs(&mut self, pairs: Value<'a>) -> Result<Vec<(Value<'a>, Value<'a>)>> {
        let count = match self.node(pairs) {
            Some(Node::List(items) | Node::Tuple(items)) => items.len(),
            _ => return Err(self.nonsense("makes a dict of something that is not a list")),
        };
        // One list may be named by many calls, and each copies it.
        self.spend(count)?;
        let Some(Node::List(items) | Node::Tuple(items)) = self.node(pairs) else {
            return Ok(Vec::new());
        };
        items
            .iter()
            .map(|&pair| match self.node(pair) {
                Some(Node::List(pair) | Node::Tuple(pair)) if pair.len() == 2 => Ok((pair[0], pair[1])),
                _ => Err(self.nonsense("makes a dict of items that are not pairs")),
            })
            .collect()
    }

    fn view(
        &self,
        storage: Value<'a>,
        offset: Value<'a>,
        shape: Value<'a>,
        strides: Value<'a>,
    ) -> Result<View> {
        let Value::Node(id) = storage else {
            return Err(self.nonsense("has a tensor without a storage"));
        };
        let Some(Node::Storage(_)) = self.nodes.get(id) else {
            return Err(self.nonsense("has a tensor without a storage"));
        };
        Ok(View {
            storage: id,
            offset: self.count(offset)?,
            shape: self.counts(shape)?,
            strides: self.counts(strides)?,
        })
    }

    /// `("storage", type, key, location, elements[, view])`; `view` is `None` or `(key, start, elements)`.
    pub(super) fn persistent(&self, id: Value<'a>) -> Result<Storage<'a>> {
        let Some(Node::Tuple(id)) = self.node(id) else {
            return Err(self.nonsense("has a persistent id that is not a tuple"));
        };
        let (dtype, key, stored, view) = match id[..] {
            [Value::Str("storage"), Value::Global(Global::Storage(dtype)), Value::Str(key), _, stored] => {
                (dtype, key, stored, Value::None)
            }
            [
                Value::Str("storage"),
                Value::Global(Global::Storage(dtype)),
                Value::Str(key),
                _,
                stored,
                view,
            ] => (dtype, key, stored, view),
            [Value::Str("module"), ..] => {
                return Err(self.unsupported("holds a whole pickled module, not a state dict"));
            }
            _ => return Err(self.nonsense("has a persistent id that does not describe a storage")),
        };
        let stored = self.count(stored)?;
        let (start, elements) = match (view, self.node(view)) {
            (Value::None, _) => (0, stored),
            (_, Some(Node::Tuple(view))) if view.len() == 3 => (self.count(view[1])?, self.count(view[2])?),
            _ => return Err(self.nonsense("has a storage view that is not a triple")),
        };
        Ok(Storage { key, dtype, stored, start, elements })
    }

    /// Attributes set on an object. Those of a dict (torch keeps version numbers there) and the flags of a
    /// parameter change no tensor and are dropped.
    pub(super) fn build(&mut self, state: Value<'a>) -> Result<()> {
        let inert = |value: &Value<'a>| {
            matches!(value, Value::None | Value::Bool(_)) || matches!(self.node(*value), Some(Node::Dict(_)))
        };
        let target = self.top()?;
        match (self.node(target), self.node(state)) {
            (Some(Node::Dict(_)), _) => Ok(()),
            (Some(Node::Tensor(_)), Some(Node::Tuple(flags))) if flags.iter().all(inert) => Ok(()),
            (Some(Node::Tensor(_)), _) => {
                Err(self.unsupported("sets a tensor's contents by BUILD, which is not allowed"))
            }
            _ => Err(self.nonsense("sets attributes on something that has none")),
        }
    }

    fn count(&self, value: Value<'a>) -> Result<usize> {
        let Value::Int(n) = value else {
            return Err(self.nonsense("has a size or position that is not an integer"));
        };
        usize::try_from(n).map_err(|_| self.nonsense(format!("has the size or position {n}")))
    }

    fn counts(&self, value: Value<'a>) -> Result<Vec<usize>> {
        let Some(Node::Tuple(items)) = self.node(value) else {
            return Err(self.nonsense("has a shape or strides that are not a tuple"));
        };
        if items.len() > MAX_RANK {
            return Err(self.unsupported(format!("has a tensor of {} dimensions", items.len())));
        }
        items.iter().map(|&n| self.count(n)).collect()
    }
}
