//! Products with vectors, for registers of four numbers where the machine has them.
//!
//! Sums run in [`LANES`] lanes whatever the registers are, and nothing is fused: every machine gives the same bits.

use std::ops::Range;

/// Partial sums side by side: two registers of four, to hide the latency of addition.
const LANES: usize = 8;

/// Σ aᵢ·bᵢ of two vectors of one length.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the machine has AVX2.
        return unsafe { dot_avx2(a, b) };
    }
    dot_lanes(a, b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn dot_avx2(a: &[f64], b: &[f64]) -> f64 {
    dot_lanes(a, b)
}

#[inline(always)]
fn dot_lanes(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for l in 0..LANES {
            lanes[l] += a[l] * b[l];
        }
    }
    lanes.iter().sum::<f64>() + rest
}

/// `sums` += what `rows` of the lower triangle of a symmetric matrix add to its product with `v`: each element below the
/// diagonal serves twice, at its place and mirrored, while it is at hand. Rows of `matrix` are `stride` apart.
pub(super) fn multiply_lower(matrix: &[f64], stride: usize, rows: Range<usize>, v: &[f64], sums: &mut [f64]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the machine has AVX2.
        return unsafe { multiply_lower_avx2(matrix, stride, rows, v, sums) };
    }
    multiply_lower_lanes(matrix, stride, rows, v, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn multiply_lower_avx2(matrix: &[f64], stride: usize, rows: Range<usize>, v: &[f64], sums: &mut [f64]) {
    multiply_lower_lanes(matrix, stride, rows, v, sums);
}

#[inline(always)]
fn multiply_lower_lanes(matrix: &[f64], stride: usize, rows: Range<usize>, v: &[f64], sums: &mut [f64]) {
    for i in rows {
        let row = &matrix[i * stride..][..i + 1];
        let below = dot_and_add(&row[..i], &v[..i], v[i], &mut sums[..i]);
        sums[i] += below + row[i] * v[i];
    }
}

/// ⟨row, v⟩, while `sums` += `factor`·row.
#[inline(always)]
fn dot_and_add(row: &[f64], v: &[f64], factor: f64, sums: &mut [f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    let mut rows = row.chunks_exact(LANES);
    let mut vs = v.chunks_exact(LANES);
    let mut outs = sums.chunks_exact_mut(LANES);
    for ((row, v), out) in (&mut rows).zip(&mut vs).zip(&mut outs) {
        for l in 0..LANES {
            lanes[l] += row[l] * v[l];
            out[l] += factor * row[l];
        }
    }
    let mut dot: f64 = lanes.iter().sum();
    for ((row, v), out) in rows.remainder().iter().zip(vs.remainder()).zip(outs.into_remainder()) {
        dot += row * v;
        *out += factor * row;
    }
    dot
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::tests::matrix;

    /// The registers of this machine and those of every machine.
    #[test]
    fn wide_registers_change_no_bit() {
        for n in [1, 7, 8, 64, 133] {
            let (a, b) = (matrix(n, n, "a"), matrix(1, n, "b"));
            assert_eq!(dot(&a[..n], &b), dot_lanes(&a[..n], &b));
            let (mut found, mut expected) = (vec![0.0; n], vec![0.0; n]);
            multiply_lower(&a, n, n / 2..n, &b, &mut found);
            multiply_lower_lanes(&a, n, n / 2..n, &b, &mut expected);
            assert_eq!(found, expected);
            let whole: f64 = a[..n].iter().zip(&b).map(|(a, b)| a * b).sum();
            // Sums of up to 133 products of numbers below 1.
            assert!((dot(&a[..n], &b) - whole).abs() < 1e-13);
        }
    }
}
