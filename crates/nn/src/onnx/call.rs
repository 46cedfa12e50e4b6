//! One operator of the file as its reader sees it: attributes with their defaults, and errors that
//! name the node.

use super::proto::{Attribute, Node};
use crate::weights::shown;
use crate::{Error, ErrorKind, Result};

/// A node about to be read.
#[derive(Clone, Copy)]
pub(super) struct Call<'m> {
    pub(super) node: &'m Node<'m>,
    pub(super) opset: i64,
}

impl<'m> Call<'m> {
    /// The node's name, or its output's where it has none.
    pub(super) fn label(&self) -> &'m str {
        match self.node.name {
            "" => self.node.outputs.first().copied().unwrap_or(""),
            name => name,
        }
    }

    fn subject(&self) -> String {
        format!("node `{}` ({})", shown(self.label()), shown(self.node.op))
    }

    /// An error about something sound that is not supported.
    pub(super) fn unsupported(&self, problem: impl Into<String>) -> Error {
        Error::new(ErrorKind::Unsupported, self.subject(), problem)
    }

    /// An error about something that contradicts ONNX or itself.
    pub(super) fn broken(&self, problem: impl Into<String>) -> Error {
        Error::new(ErrorKind::Format, self.subject(), problem)
    }

    /// The error for reading more than the budget allows.
    pub(super) fn too_large(&self) -> Error {
        self.unsupported("would take far more memory than a file of this size may")
            .remedy("If this is a sound model, export it for a smaller input")
    }

    fn attribute(&self, name: &str) -> Option<&'m Attribute<'m>> {
        self.node.attributes.iter().find(|(n, _)| *n == name).map(|(_, a)| a)
    }

    fn wrong_type(&self, name: &str) -> Error {
        self.broken(format!("the attribute `{name}` has the wrong type"))
    }

    pub(super) fn int(&self, name: &str, default: i64) -> Result<i64> {
        match self.attribute(name) {
            None => Ok(default),
            Some(Attribute::Int(v)) => Ok(*v),
            Some(_) => Err(self.wrong_type(name)),
        }
    }

    pub(super) fn float(&self, name: &str, default: f32) -> Result<f32> {
        match self.attribute(name) {
            None => Ok(default),
            Some(Attribute::Float(v)) => Ok(*v),
            Some(_) => Err(self.wrong_type(name)),
        }
    }

    pub(super) fn text(&self, name: &str, default: &'static str) -> Result<&'m str> {
        match self.attribute(name) {
            None => Ok(default),
            Some(Attribute::Text(v)) => std::str::from_utf8(v).map_err(|_| self.wrong_type(name)),
            Some(_) => Err(self.wrong_type(name)),
        }
    }

    pub(super) fn ints(&self, name: &str) -> Result<Option<&'m [i64]>> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Ints(v)) => Ok(Some(v)),
            Some(_) => Err(self.wrong_type(name)),
        }
    }

    /// The only attribute of a `Constant`, or the tensor of `ConstantOfShape`.
    pub(super) fn any(&self, name: &str) -> Option<&'m Attribute<'m>> {
        self.attribute(name)
    }

    /// An axis counted from either end, as an index below `rank`.
    pub(super) fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let from_start = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
        from_start
            .and_then(|a| usize::try_from(a).ok())
            .filter(|a| *a < rank)
            .ok_or_else(|| self.broken(format!("axis {axis} of a tensor of {rank} axes")))
    }

    /// The same for several, ascending and without repetition.
    pub(super) fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>> {
        let mut found = axes.iter().map(|&a| self.axis(a, rank)).collect::<Result<Vec<_>>>()?;
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}
