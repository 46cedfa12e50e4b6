//! The inner loops, each written once and compiled for every instruction set.

pub mod gemm;
pub mod isa;
pub mod math;
pub(crate) mod patches;
pub(crate) mod vector;
pub(crate) mod winograd;
