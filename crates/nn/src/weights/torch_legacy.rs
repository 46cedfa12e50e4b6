//! The layout torch wrote before 1.6: five pickles in a row, then the storages.
//!
//! Magic number, protocol version, what the writing machine was like, the object, the keys of the storages;
//! then for each key its element count as a little-endian u64, and the elements.
//!
//! Source: `_legacy_save` and `_legacy_load` in `torch/serialization.py`.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::pickle::{Node, Pickle, Value};
use super::tensor::Tensor;
use super::{shown, state_dict};
use crate::{Error, ErrorKind, Result};

const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
const PROTOCOL: i128 = 1001;

/// The tensors of a file, by name.
pub(super) fn read(bytes: &[u8], origin: &str) -> Result<BTreeMap<String, Tensor>> {
    let pickle = |at| Pickle::read(bytes, at..bytes.len(), origin);
    let magic = pickle(0)?;
    if magic.root != Value::Int(MAGIC) {
        return Err(Error::new(ErrorKind::Format, origin, "is a pickle, but not one that torch.save wrote")
            .remedy("Save the network's weights with torch.save(model.state_dict(), ...)"));
    }
    let protocol = pickle(magic.end)?;
    if protocol.root != Value::Int(PROTOCOL) {
        return Err(Error::new(ErrorKind::Unsupported, origin, "is of another version of torch's format")
            .expected(
                format!("version {PROTOCOL}"),
                match protocol.root {
                    Value::Int(version) => version.to_string(),
                    _ => "no number".into(),
                },
            ));
    }
    let machine = pickle(protocol.end)?;
    let big_endian = machine
        .dict(machine.root)
        .unwrap_or_default()
        .contains(&(Value::Str("little_endian"), Value::Bool(false)));
    if big_endian {
        return Err(Error::new(ErrorKind::Unsupported, origin, "was written on a big-endian machine"));
    }
    let object = pickle(machine.end)?;
    let keys = pickle(object.end)?;
    let Some(Node::List(key_list)) = keys.node(keys.root) else {
        return Err(Error::new(ErrorKind::Format, origin, "has no list of storages after its object"));
    };
    let places = storages(bytes, origin, &object, key_list, keys.end)?;
    state_dict::tensors(&object, origin, |storage| match places.get(storage.key) {
        Some(place) => Ok(place.clone()),
        None => Err(Error::new(
            ErrorKind::Format,
            origin,
            format!("does not hold storage `{}`, which a tensor uses", shown(storage.key)),
        )),
    })
}

/// Where each storage lies, from `at` on.
fn storages<'a>(
    bytes: &[u8],
    origin: &str,
    object: &Pickle<'a>,
    keys: &[Value<'a>],
    mut at: usize,
) -> Result<HashMap<&'a str, Range<usize>>> {
    // A key may be named again for another view of it; its elements are written in the first one's type.
    let mut described = HashMap::new();
    for storage in object.storages() {
        described.entry(storage.key).or_insert(*storage);
    }
    let mut places = HashMap::new();
    for (index, &key) in keys.iter().enumerate() {
        let Some(storage) = (match key {
            Value::Str(key) => described.get(key),
            _ => None,
        }) else {
            return Err(Error::new(
                ErrorKind::Format,
                origin,
                format!("lists a storage ({} of {}) that no tensor describes", index + 1, keys.len()),
            ));
        };
        let left = bytes.len() - at;
        let cut_off = |need: String| {
            Error::new(
                ErrorKind::Format,
                origin,
                format!("ends inside storage {} of {}", index + 1, keys.len()),
            )
            .expected(need, format!("{left} bytes"))
            .remedy("The file is cut off or damaged; fetch it again")
        };
        let count = bytes[at..].first_chunk::<8>().ok_or_else(|| cut_off("8 bytes of length".into()))?;
        let count = u64::from_le_bytes(*count);
        if count != storage.stored as u64 {
            return Err(Error::new(
                ErrorKind::Format,
                origin,
                format!("storage {} of {} has another length than its tensors say", index + 1, keys.len()),
            )
            .expected(format!("{} elements", storage.stored), count)
            .remedy("The file is damaged; fetch it again"));
        }
        at += 8;
        let end = storage.stored.checked_mul(storage.dtype.size()).and_then(|len| at.checked_add(len));
        let Some(end) = end.filter(|&end| end <= bytes.len()) else {
            return Err(cut_off(format!("{count} elements of {} bytes", storage.dtype.size())));
        };
        places.insert(storage.key, at..end);
        at = end;
    }
    Ok(places)
}
