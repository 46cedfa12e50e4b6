//! Frozen vision networks on the CPU: forward pass, gradient towards the input, and second-order jet.
//!
//! The engine knows nothing of image files, scores or statistics: it takes a tensor of
//! pixels and gives a feature vector and its derivatives.

pub mod buffer;
pub mod engine;
pub mod graph;
pub mod kernel;
pub mod network;
pub mod onnx;
pub mod op;
mod pass;
pub mod real;
pub mod tap;
pub mod tensor;
pub mod weights;

mod error;

pub use error::{Error, ErrorKind, Result};
