//! Reading checkpoints: safetensors, and both layouts of `torch.save`, without executing anything.
//!
//! A file is mapped and kept as it is; a tensor becomes f32 when it is taken. What is in the file
//! decides how it is read, never its name.
//!
//! A checkpoint that wraps its state dict is opened: the dict of tensors under `state_dict`, `model`,
//! `model_state_dict` or `net` (in this order), or else the only dict of tensors in it, is what counts;
//! what lies beside it (`epoch`, `best_prec1`, an optimizer) is dropped. Where every name begins with `module.`, as
//! `torch.nn.DataParallel` leaves it, that prefix is removed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{Error, ErrorKind, Result};
use bytes::Bytes;
use tensor::Tensor;

mod bytes;
mod pickle;
mod safetensors;
mod state_dict;
mod tensor;
mod torch_legacy;
mod torch_zip;

#[cfg(test)]
mod tests;

const SUPPORTED: &str = "Supported are .safetensors files and checkpoints written by torch.save";

const OTHER_NETWORK: &str = "These weights probably belong to another network";

/// The tensors of one checkpoint, each asked for once by the network they belong to.
pub struct Weights {
    origin: String,
    sha256: String,
    bytes: Bytes,
    entries: BTreeMap<String, Entry>,
    /// Shapes for [`Weights::take_any`] where the weights are blank; `None`: these are a file's.
    blank: Option<Vec<(String, Vec<usize>)>>,
}

struct Entry {
    tensor: Tensor,
    taken: bool,
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Weights({}, {} tensors, sha256 {})", self.origin, self.entries.len(), self.sha256)
    }
}

impl Weights {
    /// Reads a checkpoint file, of whichever supported format it turns out to be.
    ///
    /// The file is mapped, not copied; a tensor's f32 values are made when it is taken. Until then nobody may cut the file
    /// off: the system ends a process that reads a mapped page which is gone.
    ///
    /// # Errors
    /// `Io` if the file cannot be read; `Format` if it is damaged, cut off or of no known format;
    /// `Unsupported` if a pickle in it uses anything beyond tensors and plain data, naming it.
    pub fn open(path: &Path) -> Result<Weights> {
        let origin = path.display().to_string();
        let bytes = Bytes::map(path)
            .map_err(|e| Error::new(ErrorKind::Io, &origin, "the weights file cannot be read").source(e))?;
        Weights::read(bytes, &origin)
    }

    /// Reads the contents of a checkpoint file, as [`Weights::open`] does. `origin` names them in messages.
    ///
    /// # Errors
    /// As [`Weights::open`], without `Io`.
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>, origin: &str) -> Result<Weights> {
        Weights::read(Bytes::Held(bytes.into()), origin)
    }

    fn read(bytes: Bytes, origin: &str) -> Result<Weights> {
        // A safetensors file may begin with the two bytes a pickle begins with, but no pickle has its ninth.
        let tensors = if safetensors::is_safetensors(&bytes) {
            safetensors::read(&bytes, origin)?
        } else if torch_zip::is_zip(&bytes) {
            torch_zip::read(&bytes, origin)?
        } else if matches!(bytes[..], [0x80, 2..=5, ..]) {
            torch_legacy::read(&bytes, origin)?
        } else {
            return Err(unknown_format(&bytes, origin));
        };
        Ok(Weights::assemble(bytes, origin, tensors))
    }

    /// Reads the contents of a safetensors file, such as one compiled into the program.
    ///
    /// # Errors
    /// `Format` if they are not a whole and valid safetensors file.
    pub fn from_safetensors(bytes: impl Into<Cow<'static, [u8]>>, origin: &str) -> Result<Weights> {
        let bytes = Bytes::Held(bytes.into());
        let tensors = safetensors::read(&bytes, origin)?;
        Ok(Weights::assemble(bytes, origin, tensors))
    }

    fn assemble(bytes: Bytes, origin: &str, tensors: BTreeMap<String, Tensor>) -> Weights {
        const PARALLEL: &str = "module.";
        let parallel = tensors.keys().all(|name| name.starts_with(PARALLEL));
        let entries = tensors
            .into_iter()
            .map(|(name, tensor)| {
                let name = match name.strip_prefix(PARALLEL) {
                    Some(rest) if parallel => rest.to_string(),
                    _ => name,
                };
                (name, Entry { tensor, taken: false })
            })
            .collect();
        let sha256: String = Sha256::digest(&bytes[..]).iter().map(|byte| format!("{byte:02x}")).collect();
        bytes.done_with(0..bytes.len());
        Weights { origin: origin.to_string(), sha256, bytes, entries, blank: None }
    }

    /// Zeros for whatever a network asks, to learn its layers and shapes without a file. `any_shape` holds the shapes
    /// of the tensors that it takes in any shape.
    pub fn blank(any_shape: Vec<(String, Vec<usize>)>) -> Weights {
        let none = Bytes::Held(Cow::Borrowed(&[]));
        Weights { blank: Some(any_shape), ..Weights::assemble(none, "(no weights)", BTreeMap::new()) }
    }

    /// Where the tensors come from: the path as given, or the name given for bytes.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// SHA-256 of the file, in lower-case hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// All names, sorted, taken or not.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The shape of a tensor, `None` if there is none of this name. A scalar has the shape `[]`.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| &entry.tensor.shape[..])
    }

    /// The values of a tensor in row-major order, and a note that it has been used.
    ///
    /// f64 is rounded to the nearest f32; f32, f16 and bf16 are exact. A tensor that serves in two
    /// places may be taken twice.
    ///
    /// # Errors
    /// `MissingTensor` if there is none of this name; `ShapeMismatch` if it has another shape;
    /// `Unsupported` if it holds no floating-point numbers.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        if self.blank.is_some() {
            return Ok(vec![0.0; shape.iter().product()]);
        }
        let entry = self.float(name, &format_args!("{shape:?}"))?;
        if entry.tensor.shape != shape {
            return Err(Error::new(
                ErrorKind::ShapeMismatch,
                name,
                format!("wrong shape in {}", self.origin),
            )
            .expected(format!("{shape:?}"), format!("{:?}", entry.tensor.shape))
            .remedy(OTHER_NETWORK));
        }
        Ok(self.values(name)?.1)
    }

    /// The shape and values of a tensor whose shape the caller judges, such as a position embedding.
    ///
    /// # Errors
    /// As [`Weights::take`], without `ShapeMismatch`; `Unsupported` also for a tensor that repeats its stored
    /// elements (a saved `expand`), because its size is then not bounded by the file's.
    pub fn take_any(&mut self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let shapes = self.blank.iter().flatten();
        if let Some((_, shape)) = shapes.into_iter().find(|(of, _)| of == name) {
            return Ok((shape.clone(), vec![0.0; shape.iter().product()]));
        }
        let entry = self.float(name, &"of any shape")?;
        if entry.tensor.is_expanded() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                name,
                format!("has more elements than {} stores for it", self.origin),
            )
            .remedy("Save the state dict with every tensor made contiguous()"));
        }
        self.values(name)
    }

    /// Ends the reading: every tensor must have been taken, or be one that `ignorable` accepts by name.
    ///
    /// # Errors
    /// `UnusedTensor`, with the first five names and the count.
    pub fn finish(self, ignorable: impl Fn(&str) -> bool) -> Result<()> {
        let unused: Vec<&str> = self
            .entries
            .iter()
            .filter(|(name, entry)| !entry.taken && !ignorable(name))
            .map(|(name, _)| name.as_str())
            .collect();
        if unused.is_empty() {
            return Ok(());
        }
        let mut names: Vec<String> = unused.iter().take(5).map(|name| format!("`{}`", shown(name))).collect();
        if unused.len() > names.len() {
            names.push(format!("and {} more", unused.len() - names.len()));
        }
        let tensors = if unused.len() == 1 { "1 tensor" } else { &format!("{} tensors", unused.len()) };
        Err(Error::new(
            ErrorKind::UnusedTensor,
            self.origin,
            format!("holds {tensors} that the network does not use: {}", names.join(", ")),
        )
        .remedy(OTHER_NETWORK))
    }

    /// The entry of a tensor that exists and holds floating-point numbers.
    fn float(&self, name: &str, expected: &dyn fmt::Display) -> Result<&Entry> {
        let Some(entry) = self.entries.get(name) else {
            let remedy = match self.nearest(name) {
                Some(near) => format!("{OTHER_NETWORK}; the closest name in the file is `{}`", shown(near)),
                None => OTHER_NETWORK.to_string(),
            };
            return Err(Error::new(
                ErrorKind::MissingTensor,
                name,
                format!("there is no such tensor in {}", self.origin),
            )
            .expected(format!("a tensor {expected}"), format!("{} other tensors", self.entries.len()))
            .remedy(remedy));
        };
        if !entry.tensor.dtype.is_float() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                name,
                format!("is not floating-point in {}", self.origin),
            )
            .expected("f64, f32, f16 or bf16", entry.tensor.dtype.name()));
        }
        Ok(entry)
    }

    /// Reads the values of a tensor that `float` has let through.
    fn values(&mut self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let origin = &self.origin;
        let found = self.entries.get_mut(name).and_then(|entry| {
            entry.taken = true;
            let values = entry.tensor.to_f32(&self.bytes)?;
            self.bytes.done_with(entry.tensor.place());
            Some((entry.tensor.shape.clone(), values))
        });
        // The readers have checked every view against the file, so this is no message anyone should meet.
        found.ok_or_else(|| Error::new(ErrorKind::Format, name, format!("lies outside of {origin}")))
    }

    /// The name not yet taken that looks most like `name`: one that differs by a leading part, or else by a
    /// few letters.
    fn nearest(&self, name: &str) -> Option<&str> {
        let untaken = || self.entries.iter().filter(|(_, entry)| !entry.taken).map(|(name, _)| name.as_str());
        let is_tail =
            |whole: &str, tail: &str| whole.strip_suffix(tail).is_some_and(|head| head.ends_with('.'));
        if let Some(near) = untaken().find(|near| is_tail(near, name) || is_tail(name, near)) {
            return Some(near);
        }
        let allowed = name.len() / 4;
        untaken()
            .filter(|near| near.len().abs_diff(name.len()) <= allowed)
            .map(|near| (edit_distance(near, name), near))
            .filter(|&(distance, _)| distance <= allowed)
            .min()
            .map(|(_, near)| near)
    }
}

/// The error for a file that is none of the supported formats: what it begins with, and what it may be.
fn unknown_format(bytes: &[u8], origin: &str) -> Error {
    let start = &bytes[..bytes.len().min(16)];
    let known = match bytes {
        [] => "an empty file",
        [0x80, ..] => "a pickle of a protocol that torch does not write",
        [0x1f, 0x8b, ..] => "a gzip file",
        [0x89, b'H', b'D', b'F', ..] => "an HDF5 file",
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => "a NumPy array",
        _ if bytes.starts_with(b"version https://git-lfs") => {
            "a Git LFS pointer, which stands for a file that was not fetched"
        }
        _ if bytes.get(257..262) == Some(b"ustar") => "a tar archive",
        _ if matches!(bytes.trim_ascii_start(), [b'<', ..]) => "a web page",
        _ => "no format of weights known here",
    };
    let found = if start.is_empty() {
        known.to_string()
    } else {
        format!("{known}, beginning with \"{}\"", start.escape_ascii())
    };
    Error::new(ErrorKind::Format, origin, "is not a weights file")
        .expected("safetensors or a PyTorch checkpoint", found)
        .remedy(SUPPORTED)
}

/// Text of a file, fit for a message: one line, no control characters, not endless.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 80;
    let mut out: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        out.push_str("...");
    }
    out
}

/// Levenshtein distance in bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
