//! The bytes of a model: its file, and the files beside it that hold its weights.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use sha2::{Digest, Sha256};

use super::proto::Model;
use crate::weights::shown;
use crate::{Error, ErrorKind, Result};

/// The files that hold a model's tensors, by the name the model has for them.
#[derive(Debug, Default)]
pub(super) struct Files {
    model_bytes: usize,
    files: BTreeMap<String, Vec<u8>>,
}

impl Files {
    /// Reads the files that `model` names, from `folder`; without a folder there must be none.
    ///
    /// # Errors
    /// `Format` if a name leads out of the folder; `Io` if a file cannot be read.
    pub(super) fn read(
        model: &Model,
        model_bytes: usize,
        folder: Option<&Path>,
        origin: &str,
    ) -> Result<Self> {
        let mut files = BTreeMap::new();
        let attributes = |node: &super::proto::Node| {
            node.attributes
                .iter()
                .any(|(_, a)| matches!(a, super::proto::Attribute::Tensor(t) if t.external.is_some()))
        };
        let graph = model.graph.iter();
        if graph.clone().flat_map(|g| &g.nodes).any(attributes) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                origin,
                "has a node whose constant lies in another file",
            ));
        }
        for external in graph.flat_map(|g| &g.tensors).filter_map(|t| t.external.as_ref()) {
            if files.contains_key(external.location) {
                continue;
            }
            let bytes = read_beside(folder, external.location, origin)?;
            files.insert(external.location.to_owned(), bytes);
        }
        Ok(Files { model_bytes, files })
    }

    /// Bytes of all files together.
    pub(super) fn bytes(&self) -> usize {
        self.model_bytes + self.files.values().map(Vec::len).sum::<usize>()
    }

    /// `length` bytes from `offset` of the file called `location`, for the tensor `name`.
    pub(super) fn slice(&self, location: &str, offset: u64, length: usize, name: &str) -> Result<&[u8]> {
        let file = self.files.get(location).map_or(&[][..], |f| &f[..]);
        usize::try_from(offset).ok().and_then(|from| file.get(from..from.checked_add(length)?)).ok_or_else(
            || {
                Error::new(
                    ErrorKind::Format,
                    shown(location),
                    format!("ends before the tensor `{name}` does"),
                )
                .expected(
                    format!("{length} bytes from byte {offset}"),
                    format!("{} bytes in all", file.len()),
                )
                .remedy("The file is cut off or belongs to another model; bring both again")
            },
        )
    }

    /// SHA-256 over the model's bytes and then those of its files in the order of their names, lower-case hexadecimal.
    pub(super) fn sha256(&self, model: &[u8]) -> String {
        let mut hash = Sha256::new();
        hash.update(model);
        self.files.values().for_each(|file| hash.update(file));
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Reads a file that a model refers to, which must lie in the model's folder, links followed.
fn read_beside(folder: Option<&Path>, location: &str, origin: &str) -> Result<Vec<u8>> {
    let name = shown(location);
    let outside = |why: &str| {
        Error::new(ErrorKind::Format, origin, format!("refers to the file `{name}`, {why}"))
            .remedy("Weights are read from the model's own folder only; move them there and export again")
    };
    let Some(folder) = folder else {
        return Err(Error::new(ErrorKind::Format, origin, format!("keeps weights in the file `{name}`"))
            .remedy("Read the model from its folder"));
    };
    let path = Path::new(location);
    let stays = |c: Component| matches!(c, Component::Normal(_) | Component::CurDir);
    if location.is_empty() || location.contains('\\') || !path.components().all(stays) {
        return Err(outside("which is not in the model's folder"));
    }
    let io = |e: std::io::Error| {
        Error::new(ErrorKind::Io, origin, format!("the weights file `{name}` cannot be read"))
            .source(e)
            .remedy("The file belongs beside the model; bring both")
    };
    let folder = folder.canonicalize().map_err(io)?;
    let path = folder.join(path).canonicalize().map_err(io)?;
    if !path.starts_with(&folder) {
        return Err(outside("which is a link out of the model's folder"));
    }
    if !path.is_file() {
        return Err(outside("which is no regular file"));
    }
    std::fs::read(&path).map_err(io)
}
