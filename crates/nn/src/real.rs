//! The two number types networks run in: f32 for measuring, f64 for checking it.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

use crate::engine::make_rule;
use crate::kernel::isa::Isa;
use crate::kernel::math;
use crate::kernel::vector::Vector;
#[cfg(target_arch = "x86_64")]
use crate::kernel::vector::{Plain, x86};
use crate::op::Rule;
use crate::pass::merge::Work;
use crate::tensor::Shape;

/// A floating-point type the engine computes in.
pub trait Real:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
{
    /// A register of AVX-512, where the type has kernels for it.
    #[cfg(target_arch = "x86_64")]
    type Avx512: Vector<Self>;
    /// A register of AVX2.
    #[cfg(target_arch = "x86_64")]
    type Avx2: Vector<Self>;
    /// The rule of a step whose first operator reads `inputs`.
    ///
    /// A method of the two types rather than a generic function: what a generic function calls is compiled again in
    /// every crate that names it, and these are all the kernels.
    #[doc(hidden)]
    fn rule(isa: Isa, work: &Work, inputs: &[Shape]) -> Box<dyn Rule<Self>>;

    /// The set that kernels of this type run on where the machine has `isa`.
    ///
    /// f64 stops at AVX2: it only checks f32, and is not worth the time to compile a third set.
    #[doc(hidden)]
    fn set(isa: Isa) -> Isa;

    /// [`with_avx512`](crate::kernel::isa::with_avx512), for types whose [`Real::set`] gives AVX-512.
    ///
    /// # Safety
    /// The machine has AVX-512.
    #[cfg(target_arch = "x86_64")]
    #[doc(hidden)]
    unsafe fn with_avx512<R>(f: impl FnOnce() -> R) -> R;

    /// Whether measurements are made in this type; kernels have fewer special cases for a type that only checks.
    #[doc(hidden)]
    const MEASURES: bool;

    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// Nearest value to `x`.
    fn of(x: f64) -> Self;
    /// Nearest value to `x`; exact.
    fn of_f32(x: f32) -> Self;
    /// As f64; exact.
    fn f64(self) -> f64;
    /// √self, correctly rounded.
    fn sqrt(self) -> Self;
    /// self·a + b in one rounding.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// The larger; `other` if either is NaN.
    fn max(self, other: Self) -> Self;
    /// The smaller; `other` if either is NaN.
    fn min(self, other: Self) -> Self;
    /// eˣ.
    fn exp(self) -> Self;
    /// (Φ(x), φ(x)): distribution function and density of the standard normal.
    fn normal(self) -> (Self, Self);
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Error function.
    fn erf(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// selfᵖ.
    fn pow(self, p: f64) -> Self;
}

macro_rules! real {
    ($t:ty, $avx512:ty, $avx2:ty, |$isa:ident| $set:expr, |$f:ident| $with_avx512:expr,
     $exp:path, $normal:path, $tanh:path, $erf:path, $ln:path, $pow:path) => {
        impl Real for $t {
            #[cfg(target_arch = "x86_64")]
            type Avx512 = $avx512;
            #[cfg(target_arch = "x86_64")]
            type Avx2 = $avx2;
            fn rule(isa: Isa, work: &Work, inputs: &[Shape]) -> Box<dyn Rule<Self>> {
                make_rule(isa, work, inputs)
            }
            #[inline(always)]
            fn set($isa: Isa) -> Isa {
                $set
            }
            #[cfg(target_arch = "x86_64")]
            #[inline(always)]
            unsafe fn with_avx512<R>($f: impl FnOnce() -> R) -> R {
                $with_avx512
            }
            const MEASURES: bool = size_of::<$t>() == 4;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            #[inline(always)]
            fn of(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn of_f32(x: f32) -> Self {
                x as $t
            }
            #[inline(always)]
            fn f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                self.mul_add(a, b)
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                if self > other { self } else { other }
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                if self < other { self } else { other }
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
            #[inline(always)]
            fn normal(self) -> (Self, Self) {
                $normal(self)
            }
            #[inline(always)]
            fn tanh(self) -> Self {
                $tanh(self)
            }
            #[inline(always)]
            fn erf(self) -> Self {
                $erf(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                $ln(self)
            }
            #[inline(always)]
            fn pow(self, p: f64) -> Self {
                $pow(self, p as $t)
            }
        }
    };
}

real!(
    f32,
    x86::F32x16,
    x86::F32x8,
    |isa| isa,
    // SAFETY: the caller's promise.
    |f| unsafe { crate::kernel::isa::with_avx512(f) },
    math::exp_f32,
    math::normal_f32,
    math::tanh_f32,
    math::erf_f32,
    libm::logf,
    libm::powf
);
real!(
    f64,
    Plain<f64, 8, true>,
    Plain<f64, 8, true>,
    |isa| {
        #[cfg(target_arch = "x86_64")]
        if matches!(isa, Isa::Avx512 | Isa::Amx) {
            return Isa::Avx2;
        }
        isa
    },
    |_f| unreachable!("f64 has no kernels for AVX-512"),
    math::exp_f64,
    math::normal_f64,
    libm::tanh,
    libm::erf,
    libm::log,
    libm::pow
);
