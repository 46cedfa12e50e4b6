//! The inner loops, each written once and compiled for every instruction set.

pub mod epilogue;
pub mod gemm;
pub mod isa;
pub mod math;
pub mod pack;
pub(crate) mod patches;
pub(crate) mod vector;
pub(crate) mod winograd;
