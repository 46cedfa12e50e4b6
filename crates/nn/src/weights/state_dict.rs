//! From a pickle's values to named tensors: finding the state dict, and placing its tensors in the file.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::pickle::{Node, Pickle, Storage, Value};
use super::shown;
use super::tensor::Tensor;
use crate::{Error, ErrorKind, Result};

/// Keys under which training code keeps the state dict, in order of preference.
const WRAPPERS: [&str; 4] = ["state_dict", "model", "model_state_dict", "net"];

/// How many dicts are opened before the state dict must have been met.
const MAX_WRAPPERS: usize = 4;

/// The longest tensor name. Names may share their bytes in a pickle, so their total is not bounded by
/// the file.
const MAX_NAME_BYTES: usize = 1024;

/// The state dict of a checkpoint. `place` says where in the file a whole storage lies, having checked
/// that the bytes are there.
///
/// The state dict is, at each level: the dict of tensors under one of `WRAPPERS`; else this dict, if it holds
/// tensors itself; else the only dict of tensors in it; else whatever dict one of `WRAPPERS` names is opened.
/// Entries of the state dict that are no tensors (an epoch, a precision) are dropped.
pub(super) fn tensors<'a>(
    pickle: &Pickle<'a>,
    origin: &str,
    mut place: impl FnMut(&Storage<'a>) -> Result<Range<usize>>,
) -> Result<BTreeMap<String, Tensor>> {
    let mut tensors = BTreeMap::new();
    let mut seen = HashSet::new();
    for &(key, value) in find(pickle, origin)? {
        let Some(Node::Tensor(view)) = pickle.node(value) else {
            // A dict that many entries share is looked into once, or a small file could ask for much work.
            if let (Value::Str(key), Value::Node(id)) = (key, value)
                && seen.insert(id)
                && holds_tensors(pickle, value)
            {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    origin,
                    format!("holds tensors beside a dict of tensors, `{}`", shown(key)),
                )
                .remedy("Save the one state dict that is meant into a file of its own"));
            }
            continue;
        };
        let Value::Str(name) = key else {
            return Err(Error::new(ErrorKind::Unsupported, origin, "holds a tensor whose name is not text"));
        };
        let broken = |problem: String| {
            Error::new(ErrorKind::Format, origin, format!("tensor `{}` {problem}", shown(name)))
        };
        if name.len() > MAX_NAME_BYTES {
            return Err(broken(format!("has a name of {} bytes", name.len())));
        }
        let storage = pickle.storage(view).ok_or_else(|| broken("has no storage".into()))?;
        let whole = place(storage)?;
        let part = part(storage, &whole).ok_or_else(|| broken("is a view outside its storage".into()))?;
        let tensor = Tensor::view(storage.dtype, part, view.offset, view.shape.clone(), view.strides.clone())
            .map_err(broken)?;
        tensors.insert(name.to_string(), tensor);
    }
    Ok(tensors)
}

/// The bytes of the file that a storage covers of the `whole` that lies under its key.
fn part(storage: &Storage<'_>, whole: &Range<usize>) -> Option<Range<usize>> {
    let size = storage.dtype.size();
    let from = whole.start.checked_add(storage.start.checked_mul(size)?)?;
    let to = from.checked_add(storage.elements.checked_mul(size)?)?;
    (to <= whole.end).then_some(from..to)
}

type Entries<'p, 'a> = &'p [(Value<'a>, Value<'a>)];

fn find<'p, 'a>(pickle: &'p Pickle<'a>, origin: &str) -> Result<Entries<'p, 'a>> {
    let nothing = |found: &str| {
        Error::new(ErrorKind::Format, origin, "holds no state dict")
            .expected("a dict from names to tensors", found)
            .remedy("Save the network's weights with torch.save(model.state_dict(), ...)")
    };
    let mut value = pickle.root;
    for _ in 0..MAX_WRAPPERS {
        let entries = pickle.dict(value).ok_or_else(|| nothing(kind(pickle, value)))?;
        let under = |wrapper: &str| {
            entries.iter().rev().find(|(key, _)| *key == Value::Str(wrapper)).map(|&(_, value)| value)
        };
        let wrapped = WRAPPERS.iter().find_map(|w| under(w).filter(|&v| holds_tensors(pickle, v)));
        if let Some(entries) = wrapped.and_then(|value| pickle.dict(value)) {
            return Ok(entries);
        }
        if holds_tensors(pickle, value) {
            return Ok(entries);
        }
        // Each dict once, here too.
        let mut dicts = BTreeMap::new();
        for &(key, value) in entries {
            if let (Value::Str(key), Value::Node(id)) = (key, value) {
                dicts.entry(id).or_insert((key, value));
            }
        }
        let mut dicts: Vec<_> = dicts.into_values().filter(|&(_, v)| holds_tensors(pickle, v)).collect();
        dicts.sort_by_key(|&(key, _)| key);
        match dicts[..] {
            [(_, only)] => return Ok(pickle.dict(only).unwrap_or_default()),
            [] => {}
            [..] => {
                let names: Vec<_> = dicts.iter().take(5).map(|&(key, _)| shown(key)).collect();
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    origin,
                    format!("holds {} dicts of tensors", dicts.len()),
                )
                .expected(format!("one, or one named {}", WRAPPERS.join(", ")), names.join(", "))
                .remedy("Save the one state dict that is meant into a file of its own"));
            }
        }
        value = WRAPPERS
            .iter()
            .find_map(|w| under(w).filter(|&v| pickle.dict(v).is_some()))
            .ok_or_else(|| nothing("a dict without tensors"))?;
    }
    Err(nothing("dicts within dicts"))
}

/// Whether `value` is a dict with a tensor directly in it.
fn holds_tensors(pickle: &Pickle<'_>, value: Value<'_>) -> bool {
    let Some(Node::Dict(entries)) = pickle.node(value) else {
        return false;
    };
    entries.iter().any(|&(key, value)| {
        matches!(key, Value::Str(_)) && matches!(pickle.node(value), Some(Node::Tensor(_)))
    })
}

fn kind(pickle: &Pickle<'_>, value: Value<'_>) -> &'static str {
    match (value, pickle.node(value)) {
        (_, Some(Node::Tensor(_))) => "a single tensor",
        (_, Some(Node::List(_) | Node::Tuple(_))) => "a list",
        (_, Some(Node::Dict(_))) => "a dict",
        (Value::None, _) => "None",
        (Value::Bool(_) | Value::Int(_) | Value::Float(_), _) => "a number",
        (Value::Str(_) | Value::Bytes(_), _) => "text",
        _ => "something else",
    }
}
