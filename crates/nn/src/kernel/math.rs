//! Elementary functions in a form the compiler turns into vector code: no branch, no table.

use crate::kernel::vector::Vector;

/// ln 2 in two parts: the first has trailing zeros, so n·HI is exact for |n| < 2¹⁰.
const LN2_HI: f32 = 0.693_359_4;
const LN2_LO: f32 = -2.121_944_4e-4;

/// eˣ in f32: e^(n·ln 2 + r) with |r| ≤ ln 2 / 2 and a Taylor polynomial of degree 7 in r.
/// Relative error below 1.5e-7 on [−87, 88] (`tests::exp_error`); arguments beyond are
/// clamped to that range, so the result is never 0, infinite or subnormal.
#[inline(always)]
pub fn exp_f32(x: f32) -> f32 {
    let x = if x > -87.0 { x } else { -87.0 };
    let x = if x < 88.0 { x } else { 88.0 };
    // Adding and subtracting 1.5·2²³ rounds to the nearest integer and leaves it in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = x - n * LN2_HI - n * LN2_LO;
    let mut p = 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * (r * r) + r + 1.0;
    let exponent = (shifted.to_bits() << 23).wrapping_add(1f32.to_bits());
    p * f32::from_bits(exponent)
}

/// [`exp_f32`] in every lane, products and sums fused where the set can. `power` makes 2ⁿ of n + 1.5·2²³.
#[inline(always)]
pub(crate) fn exp_vector<V: Vector<f32>>(x: V, power: impl Fn(V) -> V) -> V {
    let x = x.max(V::splat(-87.0)).min(V::splat(88.0));
    let magic = V::splat(12_582_912.0);
    let shifted = x.mul_add(V::splat(std::f32::consts::LOG2_E), magic);
    let n = shifted.sub(magic);
    let r = n.mul_add(V::splat(-LN2_LO), n.mul_add(V::splat(-LN2_HI), x));
    let mut p = V::splat(1.0 / 5040.0);
    for term in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5] {
        p = p.mul_add(r, V::splat(term));
    }
    let p = p.mul_add(r.mul(r), r.add(V::splat(1.0)));
    p.mul(power(shifted))
}

/// eˣ in f64.
#[inline(always)]
pub fn exp_f64(x: f64) -> f64 {
    libm::exp(x)
}

/// (Φ(x), φ(x)) of the standard normal in f32.
///
/// Φ(−t) = e^(−t²/2)·P(1/(1 + 0.21·t)) for t ≥ 0, P of degree 9 fitted by
/// `reference/fit_normal.py` (relative error 1.7e-8 before rounding on [0, 13]).
/// Absolute error of Φ below 2.5e-7 (`tests::normal_error`).
#[inline(always)]
pub fn normal_f32(x: f32) -> (f32, f32) {
    let t = if x < 0.0 { -x } else { x };
    let t = if t < 13.0 { t } else { 13.0 };
    let e = exp_f32(-0.5 * t * t);
    let u = 1.0 / (1.0 + 0.21 * t);
    let mut p = P[8];
    p = p * u + P[7];
    p = p * u + P[6];
    p = p * u + P[5];
    p = p * u + P[4];
    p = p * u + P[3];
    p = p * u + P[2];
    p = p * u + P[1];
    p = p * u + P[0];
    let tail = e * (p * u);
    let cdf = if x < 0.0 { tail } else { 1.0 - tail };
    (cdf, e * 0.398_942_3)
}

/// [`normal_f32`] in every lane, products and sums fused where the set can.
#[inline(always)]
pub(crate) fn normal_vector<V: Vector<f32>>(x: V) -> (V, V) {
    let one = V::splat(1.0);
    let t = x.max(V::splat(0.0).sub(x)).min(V::splat(13.0));
    let e = t.mul(V::splat(-0.5)).mul(t).exp();
    let u = one.div(t.mul_add(V::splat(0.21), one));
    let mut p = V::splat(P[8]);
    for i in (0..8).rev() {
        p = p.mul_add(u, V::splat(P[i]));
    }
    let tail = e.mul(p.mul(u));
    (tail.where_negative(x, one.sub(tail)), e.mul(V::splat(0.398_942_3)))
}

/// Coefficients of u¹ … u⁹ in [`normal_f32`].
const P: [f32; 9] = [
    0.083_711_57,
    0.085_068_88,
    0.069_192_03,
    0.124_873_236,
    -0.093_926_33,
    0.349_402_52,
    -0.330_254_58,
    0.283_589_1,
    -0.071_656_4,
];

/// tanh x in f32: its series below 0.35, where 1 − 2/(1 + e²ˣ) would cancel. Absolute error below
/// 2e-7, relative below 4e-7 (`tests::tanh_and_erf_error`).
#[inline(always)]
pub fn tanh_f32(x: f32) -> f32 {
    let t = 1.0 - 2.0 / (1.0 + exp_f32(2.0 * x));
    let s = x * x;
    let mut p = -1382.0 / 155_925.0;
    p = p * s + 62.0 / 2835.0;
    p = p * s - 17.0 / 315.0;
    p = p * s + 2.0 / 15.0;
    p = p * s - 1.0 / 3.0;
    if s < 0.35 * 0.35 { x + x * (s * p) } else { t }
}

/// erf x in f32: its series below ½, where 2·Φ(√2·x) − 1 would cancel. Absolute error below 6e-7,
/// relative below 1.2e-6 (`tests::tanh_and_erf_error`).
#[inline(always)]
pub fn erf_f32(x: f32) -> f32 {
    let far = 2.0 * normal_f32(std::f32::consts::SQRT_2 * x).0 - 1.0;
    let s = x * x;
    let mut p = 1.0 / 9360.0;
    p = p * s - 1.0 / 1320.0;
    p = p * s + 1.0 / 216.0;
    p = p * s - 1.0 / 42.0;
    p = p * s + 0.1;
    p = p * s - 1.0 / 3.0;
    let near = std::f32::consts::FRAC_2_SQRT_PI * (x + x * (s * p));
    if s < 0.25 { near } else { far }
}

/// (Φ(x), φ(x)) of the standard normal in f64.
#[inline(always)]
pub fn normal_f64(x: f64) -> (f64, f64) {
    let cdf = 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
    (cdf, libm::exp(-0.5 * x * x) * 0.398_942_280_401_432_7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::isa::Isa;
    use crate::op::activation::{Activation, activate};

    fn grid(from: f64, to: f64) -> impl Iterator<Item = f32> {
        (0..200_001).map(move |i| (from + (to - from) * i as f64 / 200_000.0) as f32)
    }

    #[test]
    fn exp_error() {
        let worst = grid(-86.9, 87.9)
            .map(|x| ((exp_f32(x) as f64 - (x as f64).exp()) / (x as f64).exp()).abs())
            .fold(0.0, f64::max);
        assert!(worst < 1.5e-7, "{worst:e}");
        assert!(exp_f32(-1e30) > 0.0 && exp_f32(1e30).is_finite());
    }

    #[test]
    fn tanh_and_erf_error() {
        for (name, found, exact, absolute, relative) in [
            ("tanh", tanh_f32 as fn(f32) -> f32, libm::tanh as fn(f64) -> f64, 2e-7, 4e-7),
            ("erf", erf_f32, libm::erf, 6e-7, 1.2e-6),
        ] {
            let mut worst = (0f64, 0f64);
            for x in grid(-9.0, 9.0).filter(|x| *x != 0.0) {
                let error = (found(x) as f64 - exact(x as f64)).abs();
                worst = (worst.0.max(error), worst.1.max(error / exact(x as f64).abs()));
            }
            println!("{name}: absolute {:e}, relative {:e}", worst.0, worst.1);
            assert!(worst.0 < absolute && worst.1 < relative, "{name}: {worst:?}");
        }
    }

    /// The vector forms hold the scalar ones' bounds on every instruction set.
    #[test]
    fn vector_errors() {
        for isa in Isa::available() {
            let mut gelu: Vec<f32> = grid(-9.0, 9.0).collect();
            activate(isa, Activation::Gelu, &mut gelu);
            let worst = grid(-9.0, 9.0)
                .zip(gelu)
                .map(|(x, y)| (f64::from(y) - f64::from(x) * normal_f64(f64::from(x)).0).abs())
                .fold(0.0, f64::max);
            // Φ's 2.5e-7 times x, and one rounding.
            assert!(worst < 1e-6, "{}: {worst:e}", isa.name());
        }
    }

    #[test]
    fn normal_error() {
        let mut worst = (0f64, 0f64);
        for x in grid(-9.0, 9.0) {
            let (cdf, pdf) = normal_f32(x);
            let (exact_cdf, exact_pdf) = normal_f64(x as f64);
            worst.0 = worst.0.max((cdf as f64 - exact_cdf).abs());
            worst.1 = worst.1.max((pdf as f64 - exact_pdf).abs());
        }
        // e carries two roundings of the exponential (1.5e-7 of ≤ ½) and Φ = 1 − tail one more.
        assert!(worst.0 < 2.5e-7 && worst.1 < 1e-7, "{worst:?}");
    }
}
