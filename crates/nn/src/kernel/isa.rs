//! Which instructions the kernels may use, found out once at run time.
//!
//! A kernel is written once, as plain generic Rust over fixed-size arrays, and compiled
//! several times: [`on_isa!`] inlines its body into a function that may use the wider
//! instructions. Only the compiler's choice of registers differs; the order of
//! operations does not, so AVX2 and AVX-512 give the same bits. The tile unit adds in an order of its own
//! ([`Isa::arithmetic`]).

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use crate::kernel::amx;

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// What every target has. Multiplies and adds round separately.
    Portable,
    /// AVX2 with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 (F, BW, DQ, VL) with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX-512, and products of matrices on the tile unit (AMX) of numbers split into three of bfloat16.
    #[cfg(target_arch = "x86_64")]
    Amx,
}

impl Isa {
    /// The widest set this machine has. `ANOMALY_SCORE_ISA=portable|avx2|avx512|amx` lowers
    /// it, for comparing kernels; a set the machine lacks is not honoured.
    pub fn detect() -> Isa {
        static FOUND: OnceLock<Isa> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let wanted = std::env::var("ANOMALY_SCORE_ISA").unwrap_or_default();
            let available = Isa::available();
            available.iter().copied().find(|isa| isa.name() == wanted).unwrap_or(available[0])
        })
    }

    /// All sets this machine can run, widest first.
    pub fn available() -> Vec<Isa> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if avx2 && avx512 && amx::available() {
                found.push(Isa::Amx);
            }
            if avx2 && avx512 {
                found.push(Isa::Avx512);
            }
            if avx2 {
                found.push(Isa::Avx2);
            }
        }
        found.push(Isa::Portable);
        found
    }

    /// Name of the rounding: sets of one arithmetic give the same bits, those of two differ by rounding errors.
    ///
    /// `separate`: products and sums round by themselves; `fused`: once together (AVX2, AVX-512); `bfloat16x3`: large products
    /// of matrices by the tile unit, the rest fused.
    pub fn arithmetic(self) -> &'static str {
        match self {
            Isa::Portable => "separate",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 => "fused",
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => "bfloat16x3",
        }
    }

    /// This set without the tile unit, whose bits only machines that have one give.
    pub fn without_tiles(self) -> Isa {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => Isa::Avx512,
            other => other,
        }
    }

    /// `portable`, `avx2`, `avx512` or `amx`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => "amx",
        }
    }
}

/// Runs `f` compiled for AVX2 and FMA.
///
/// # Safety
/// The machine must have both.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn with_avx2<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// Runs `f` compiled for AVX-512.
///
/// # Safety
/// The machine must have AVX-512 F, BW, DQ and VL, AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
pub(crate) unsafe fn with_avx512<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// Calls `$body::<…, FMA>($args)` compiled for `$isa`; `FMA` is whether the set fuses
/// multiply and add. `$body` must be `#[inline(always)]`.
///
/// AVX2 serves AVX-512 too. These loops wait for memory more than for arithmetic: compiled for 512 bits as well they
/// made no whole measurement faster by more than its noise (5 %), and were a third of their code.
macro_rules! on_isa {
    ($isa:expr, $body:ident :: <$($t:ty),*> ($($arg:expr),* $(,)?)) => {
        match $isa {
            $crate::kernel::isa::Isa::Portable => $body::<$($t,)* false>($($arg),*),
            // SAFETY: the variants are made by `Isa::available`, which checked the machine.
            #[cfg(target_arch = "x86_64")]
            $crate::kernel::isa::Isa::Avx2 | $crate::kernel::isa::Isa::Avx512 | $crate::kernel::isa::Isa::Amx => unsafe {
                $crate::kernel::isa::with_avx2(#[inline(always)] || $body::<$($t,)* true>($($arg),*))
            },
        }
    };
}
pub(crate) use on_isa;
