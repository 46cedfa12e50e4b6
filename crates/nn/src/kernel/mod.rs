//! The inner loops, each written once and compiled for every instruction set.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
pub mod epilogue;
pub mod gemm;
pub mod isa;
pub mod math;
pub mod pack;
pub(crate) mod patches;
pub(crate) mod vector;
pub(crate) mod winograd;
