//! One file a subcommand.

pub(crate) mod backbones;
pub(crate) mod compare;
pub(crate) mod correlate;
pub(crate) mod demo;
pub(crate) mod features;
pub(crate) mod measure;
pub(crate) mod preflight;
pub(crate) mod rank;
