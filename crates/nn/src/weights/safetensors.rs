//! The safetensors layout: header length, JSON header, then the tensors without gaps.

use std::collections::BTreeMap;

use safetensors::Dtype as Stored;
use safetensors::tensor::Metadata;

use super::tensor::{Dtype, Tensor};
use crate::{Error, ErrorKind, Result};

/// The header length, as a little-endian u64.
const LENGTH_BYTES: usize = 8;

/// The longest header read. A tensor needs about 100 bytes of it, so this is room for 150,000;
/// parsing takes several times the header's length in memory, so the format's own 100 MB is too much.
const MAX_HEADER_BYTES: usize = 16 << 20;

/// Whether the file begins as this layout does: a length below 4 GB, then `{`.
pub(super) fn is_safetensors(bytes: &[u8]) -> bool {
    bytes.len() > LENGTH_BYTES && bytes[4..8] == [0; 4] && bytes[8] == b'{'
}

/// The tensors of a file, by name.
pub(super) fn read(bytes: &[u8], origin: &str) -> Result<BTreeMap<String, Tensor>> {
    let broken = |problem: &str| Error::new(ErrorKind::Format, origin, problem.to_string());
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(broken("too short for the length of a safetensors header")
            .expected("at least 8 bytes", bytes.len()));
    };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_HEADER_BYTES {
        return Err(broken("the safetensors header is too long")
            .expected(format!("at most {MAX_HEADER_BYTES} bytes"), length));
    }
    let Some((header, data)) = rest.split_at_checked(length) else {
        return Err(broken("the safetensors file ends inside its header")
            .expected(format!("{length} bytes of header"), rest.len())
            .remedy("The file is cut off or damaged; fetch it again"));
    };
    // Parsing through `Metadata` makes the safetensors crate check that offsets leave no gap, do
    // not overlap, and agree with shapes and dtypes.
    let header: Metadata = serde_json::from_slice(header)
        .map_err(|e| broken("the safetensors header is not valid").source(e))?;
    if header.data_len() != data.len() {
        return Err(broken("the safetensors file does not hold the data its header lists")
            .expected(format!("{} bytes of data", header.data_len()), data.len())
            .remedy("The file is cut off or damaged; fetch it again"));
    }

    let start = bytes.len() - data.len();
    let mut tensors = BTreeMap::new();
    for (name, info) in header.tensors() {
        let (from, to) = info.data_offsets;
        let storage = start + from..start + to;
        let tensor = Tensor::packed(dtype(info.dtype), storage, info.shape.clone())
            .map_err(|problem| broken(&format!("tensor `{name}` {problem}")))?;
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

fn dtype(stored: Stored) -> Dtype {
    let other = |name| Dtype::Other { name, bytes: stored.bitsize() / 8 };
    match stored {
        Stored::F64 => Dtype::F64,
        Stored::F32 => Dtype::F32,
        Stored::F16 => Dtype::F16,
        Stored::BF16 => Dtype::Bf16,
        Stored::I64 => other("i64"),
        Stored::I32 => other("i32"),
        Stored::I16 => other("i16"),
        Stored::I8 => other("i8"),
        Stored::U64 => other("u64"),
        Stored::U32 => other("u32"),
        Stored::U16 => other("u16"),
        Stored::U8 => other("u8"),
        Stored::BOOL => other("bool"),
        Stored::C64 => other("complex64"),
        Stored::F8_E5M2 | Stored::F8_E4M3 | Stored::F8_E8M0 | Stored::F8_E4M3FNUZ | Stored::F8_E5M2FNUZ => {
            other("an 8-bit float")
        }
        _ => other("a float of less than 8 bits"),
    }
}
