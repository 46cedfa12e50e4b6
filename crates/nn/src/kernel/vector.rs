//! One register of numbers, for kernels whose loops the compiler does not turn into vector code by itself.
//!
//! A kernel is generic over [`Vector`]; [`on_vector!`] calls it compiled for an instruction set with the
//! register type of that set. Everything between the two must be inlined (`#[inline(always)]`, loops rather than
//! closures handed to the standard library), or it is compiled without the set. f64, which only checks f32, and the portable set use plain arrays.

use crate::real::Real;

/// `LANES` numbers, worked on lane by lane.
pub trait Vector<T: Real>: Copy {
    /// Numbers in a register.
    const LANES: usize;

    /// Runs `f` compiled for this register's set: for what a kernel calls rather than inlines.
    ///
    /// # Safety
    /// The machine has the set.
    unsafe fn on_set<R>(f: impl FnOnce() -> R) -> R;

    /// `x` in every lane.
    fn splat(x: T) -> Self;

    /// # Safety
    /// `from` points to `LANES` values.
    unsafe fn load(from: *const T) -> Self;

    /// # Safety
    /// `to` points to `LANES` values.
    unsafe fn store(self, to: *mut T);

    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;

    /// self·a + b, in one rounding where the set can.
    fn mul_add(self, a: Self, b: Self) -> Self;

    /// The larger.
    fn max(self, other: Self) -> Self;

    /// The smaller.
    fn min(self, other: Self) -> Self;

    /// self where low < y < high, else 0.
    fn where_between(self, y: Self, low: Self, high: Self) -> Self;

    /// Bit l is set where low < self < high in lane l.
    fn bits_between(self, low: Self, high: Self) -> u32;

    /// self in the lanes whose bit is set, else 0.
    fn where_bits(self, bits: u32) -> Self;

    /// self where the sign of `x` is set, else `other`.
    fn where_negative(self, x: Self, other: Self) -> Self;

    /// eˣ, as [`Real::exp`].
    fn exp(self) -> Self;

    /// (Φ(x), φ(x)), as [`Real::normal`].
    fn normal(self) -> (Self, Self);

    /// The first values of `from`, at most `LANES`; 0 in the other lanes.
    #[inline(always)]
    fn load_part(from: &[T]) -> Self {
        if from.len() >= Self::LANES {
            // SAFETY: there are LANES values.
            return unsafe { Self::load(from.as_ptr()) };
        }
        let mut lanes = [T::ZERO; 16];
        let count = from.len();
        lanes[..count].copy_from_slice(&from[..count]);
        // SAFETY: no register has more than sixteen lanes.
        unsafe { Self::load(lanes.as_ptr()) }
    }

    /// Stores the first lanes, as many as `to` takes.
    #[inline(always)]
    fn store_part(self, to: &mut [T]) {
        if to.len() >= Self::LANES {
            // SAFETY: there is room for LANES values.
            return unsafe { self.store(to.as_mut_ptr()) };
        }
        let mut lanes = [T::ZERO; 16];
        // SAFETY: no register has more than sixteen lanes.
        unsafe { self.store(lanes.as_mut_ptr()) };
        let count = to.len();
        to[..count].copy_from_slice(&lanes[..count]);
    }
}

/// Numbers as an array.
#[derive(Clone, Copy)]
pub struct Plain<T, const N: usize, const FMA: bool>([T; N]);

impl<T: Real, const N: usize, const FMA: bool> Plain<T, N, FMA> {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(T, T) -> T) -> Self {
        Plain(std::array::from_fn(|l| f(self.0[l], other.0[l])))
    }
}

impl<T: Real, const N: usize, const FMA: bool> Vector<T> for Plain<T, N, FMA> {
    const LANES: usize = N;

    #[inline(always)]
    unsafe fn on_set<R>(f: impl FnOnce() -> R) -> R {
        #[cfg(target_arch = "x86_64")]
        if FMA {
            // SAFETY: the caller's promise; fused arrays stand for AVX2.
            return unsafe { crate::kernel::isa::with_avx2(f) };
        }
        f()
    }

    #[inline(always)]
    fn splat(x: T) -> Self {
        Plain([x; N])
    }

    #[inline(always)]
    unsafe fn load(from: *const T) -> Self {
        // SAFETY: the caller's promise; an array is aligned as its elements.
        Plain(unsafe { *from.cast() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut T) {
        // SAFETY: the caller's promise.
        unsafe { *to.cast() = self.0 }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        Plain(std::array::from_fn(|l| {
            let (x, a, b) = (self.0[l], a.0[l], b.0[l]);
            if FMA { x.mul_add(a, b) } else { x * a + b }
        }))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, Real::max)
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, Real::min)
    }

    #[inline(always)]
    fn where_between(self, y: Self, low: Self, high: Self) -> Self {
        Plain(std::array::from_fn(
            |l| {
                if y.0[l] > low.0[l] && y.0[l] < high.0[l] { self.0[l] } else { T::ZERO }
            },
        ))
    }

    #[inline(always)]
    fn bits_between(self, low: Self, high: Self) -> u32 {
        let mut bits = 0;
        for l in 0..N {
            bits |= u32::from(self.0[l] > low.0[l] && self.0[l] < high.0[l]) << l;
        }
        bits
    }

    #[inline(always)]
    fn where_bits(self, bits: u32) -> Self {
        Plain(std::array::from_fn(|l| if bits >> l & 1 == 1 { self.0[l] } else { T::ZERO }))
    }

    #[inline(always)]
    fn where_negative(self, x: Self, other: Self) -> Self {
        Plain(std::array::from_fn(|l| if x.0[l] < T::ZERO { self.0[l] } else { other.0[l] }))
    }

    #[inline(always)]
    fn exp(self) -> Self {
        Plain(self.0.map(Real::exp))
    }

    #[inline(always)]
    fn normal(self) -> (Self, Self) {
        let both = self.0.map(Real::normal);
        (Plain(both.map(|b| b.0)), Plain(both.map(|b| b.1)))
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unreachable_pub, reason = "reached through `Real`")]
pub mod x86 {
    use std::arch::x86_64::*;

    use super::Vector;
    use crate::kernel::isa::{with_avx2, with_avx512};
    use crate::kernel::math;

    /// Sixteen f32 of AVX-512.
    #[derive(Clone, Copy)]
    pub struct F32x16(__m512);

    /// Eight f32 of AVX2.
    #[derive(Clone, Copy)]
    pub struct F32x8(__m256);

    macro_rules! vector {
        ($name:ident, $lanes:literal, $on_set:ident, $register:ident: $set1:ident, $load:ident, $store:ident, $add:ident, $sub:ident,
         $mul:ident, $div:ident, $fma:ident, $max:ident, $min:ident,
         |$g:ident, $y:ident, $low:ident, $high:ident| $between:expr,
         |$v:ident, $l:ident, $h:ident| $bits_between:expr, |$masked:ident, $bits:ident| $where_bits:expr,
         |$a:ident, $x:ident, $b:ident| $negative:expr,
         |$shifted:ident| $power:expr) => {
            // SAFETY, of all the blocks below: registers of a set are made only inside kernels that
            // `on_vector!` compiles for that set, after `Isa::available` found it.
            #[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
            impl Vector<f32> for $name {
                const LANES: usize = $lanes;

                #[inline(always)]
                unsafe fn on_set<R>(f: impl FnOnce() -> R) -> R {
                    unsafe { $on_set(f) }
                }

                #[inline(always)]
                fn splat(x: f32) -> Self {
                    unsafe { Self($set1(x)) }
                }

                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    unsafe { Self($load(from)) }
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    unsafe { $store(to, self.0) }
                }

                #[inline(always)]
                fn add(self, other: Self) -> Self {
                    unsafe { Self($add(self.0, other.0)) }
                }

                #[inline(always)]
                fn sub(self, other: Self) -> Self {
                    unsafe { Self($sub(self.0, other.0)) }
                }

                #[inline(always)]
                fn mul(self, other: Self) -> Self {
                    unsafe { Self($mul(self.0, other.0)) }
                }

                #[inline(always)]
                fn div(self, other: Self) -> Self {
                    unsafe { Self($div(self.0, other.0)) }
                }

                #[inline(always)]
                fn mul_add(self, a: Self, b: Self) -> Self {
                    unsafe { Self($fma(self.0, a.0, b.0)) }
                }

                #[inline(always)]
                fn max(self, other: Self) -> Self {
                    unsafe { Self($max(self.0, other.0)) }
                }

                #[inline(always)]
                fn min(self, other: Self) -> Self {
                    unsafe { Self($min(self.0, other.0)) }
                }

                #[inline(always)]
                fn where_between(self, y: Self, low: Self, high: Self) -> Self {
                    let ($g, $y, $low, $high) = (self.0, y.0, low.0, high.0);
                    unsafe { Self($between) }
                }

                #[inline(always)]
                fn bits_between(self, low: Self, high: Self) -> u32 {
                    let ($v, $l, $h) = (self.0, low.0, high.0);
                    unsafe { $bits_between }
                }

                #[inline(always)]
                fn where_bits(self, $bits: u32) -> Self {
                    let $masked = self.0;
                    unsafe { Self($where_bits) }
                }

                #[inline(always)]
                fn where_negative(self, x: Self, other: Self) -> Self {
                    let ($a, $x, $b) = (self.0, x.0, other.0);
                    unsafe { Self($negative) }
                }

                #[inline(always)]
                fn exp(self) -> Self {
                    math::exp_vector(
                        self,
                        #[inline(always)]
                        |shifted: Self| {
                            let $shifted = shifted.0;
                            unsafe { Self($power) }
                        },
                    )
                }

                #[inline(always)]
                fn normal(self) -> (Self, Self) {
                    math::normal_vector(self)
                }
            }
        };
    }

    vector!(
        F32x16, 16, with_avx512, __m512: _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps, _mm512_sub_ps,
        _mm512_mul_ps, _mm512_div_ps, _mm512_fmadd_ps, _mm512_max_ps, _mm512_min_ps,
        |g, y, low, high| {
            let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(y, low);
            let inside = _mm512_mask_cmp_ps_mask::<_CMP_LT_OQ>(above, y, high);
            _mm512_maskz_mov_ps(inside, g)
        },
        |x, low, high| {
            let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, low);
            u32::from(_mm512_mask_cmp_ps_mask::<_CMP_LT_OQ>(above, x, high))
        },
        |g, bits| _mm512_maskz_mov_ps(bits as u16, g),
        |a, x, b| _mm512_mask_blend_ps(_mm512_movepi32_mask(_mm512_castps_si512(x)), b, a),
        |shifted| {
            let bits = _mm512_slli_epi32::<23>(_mm512_castps_si512(shifted));
            _mm512_castsi512_ps(_mm512_add_epi32(bits, _mm512_castps_si512(_mm512_set1_ps(1.0))))
        }
    );

    vector!(
        F32x8, 8, with_avx2, __m256: _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps, _mm256_sub_ps,
        _mm256_mul_ps, _mm256_div_ps, _mm256_fmadd_ps, _mm256_max_ps, _mm256_min_ps,
        |g, y, low, high| {
            let above = _mm256_cmp_ps::<_CMP_GT_OQ>(y, low);
            let below = _mm256_cmp_ps::<_CMP_LT_OQ>(y, high);
            _mm256_and_ps(_mm256_and_ps(above, below), g)
        },
        |x, low, high| {
            let above = _mm256_cmp_ps::<_CMP_GT_OQ>(x, low);
            let below = _mm256_cmp_ps::<_CMP_LT_OQ>(x, high);
            _mm256_movemask_ps(_mm256_and_ps(above, below)) as u32
        },
        |g, bits| {
            let each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let set = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits as i32), each), each);
            _mm256_and_ps(_mm256_castsi256_ps(set), g)
        },
        |a, x, b| _mm256_blendv_ps(b, a, x),
        |shifted| {
            let bits = _mm256_slli_epi32::<23>(_mm256_castps_si256(shifted));
            _mm256_castsi256_ps(_mm256_add_epi32(bits, _mm256_castps_si256(_mm256_set1_ps(1.0))))
        }
    );
}

/// Calls `$body::<$t, V>($args)` compiled for `$isa`, V its register of `$t`. `$body` must be `#[inline(always)]`.
macro_rules! on_vector {
    ($isa:expr, $body:ident :: <$t:ty> ($($arg:expr),* $(,)?)) => {
        match <$t as $crate::real::Real>::set($isa) {
            $crate::kernel::isa::Isa::Portable => {
                $body::<$t, $crate::kernel::vector::Plain<$t, 8, false>>($($arg),*)
            }
            // SAFETY: the variants are made by `Isa::available`, which checked the machine.
            #[cfg(target_arch = "x86_64")]
            $crate::kernel::isa::Isa::Avx2 => unsafe {
                $crate::kernel::isa::with_avx2(
                    #[inline(always)]
                    || $body::<$t, <$t as $crate::real::Real>::Avx2>($($arg),*),
                )
            },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            $crate::kernel::isa::Isa::Avx512 | $crate::kernel::isa::Isa::Amx => unsafe {
                <$t as $crate::real::Real>::with_avx512(
                    #[inline(always)]
                    || $body::<$t, <$t as $crate::real::Real>::Avx512>($($arg),*),
                )
            },
        }
    };
}
pub(crate) use on_vector;
