//! Eigenvalues of a symmetric matrix, without its eigenvectors.
//!
//! The libraries that have this were measured before it was written: faer costs a clean build 139 to 172 CPU seconds
//! with the least of its features, nalgebra 36, this file and matrixmultiply 3.

use rayon::prelude::*;

use super::product::{View, add_lower};
use super::vector::{dot, multiply_lower};

/// Columns that are reduced before the rest of the matrix is brought up to date.
const PANEL: usize = 32;
/// Rows whose products with a vector one task forms.
const ROWS: usize = 128;
/// Eigenvalues that are bisected side by side, to hide the latency of division.
const LANES: usize = 8;
/// Halvings of an interval of at most four times the largest eigenvalue: 4·2⁻⁵⁶ = 2⁻⁵⁴.
const HALVINGS: usize = 56;

/// The eigenvalues, rising, of the symmetric matrix whose lower triangle is that of `matrix`, D×D and finite.
///
/// Each is within a small multiple of D·2⁻⁵³·(largest absolute eigenvalue) of the exact one. O(D³), half of it bound
/// by memory.
///
/// # Source
/// Householder's reduction in panels: Dongarra, Sorensen and Hammarling 1989, "Block reduction of matrices to condensed
/// forms for eigenvalue computations", section 4. Bisection: Barth, Martin and Wilkinson 1967, "Calculation of the
/// eigenvalues of a symmetric tridiagonal matrix by the method of bisection".
pub(crate) fn symmetric_eigenvalues(mut matrix: Vec<f64>, dim: usize) -> Vec<f64> {
    let lower = |i: usize| i * dim..i * dim + i + 1;
    let largest = (0..dim).flat_map(|i| &matrix[lower(i)]).fold(0.0f64, |m, v| m.max(v.abs()));
    if largest == 0.0 {
        return vec![0.0; dim];
    }
    // A power of two, so that nothing is rounded and no square leaves the range.
    let scale = 2f64.powi(largest.log2().floor().clamp(-1000.0, 1000.0) as i32);
    for i in 0..dim {
        matrix[lower(i)].iter_mut().for_each(|v| *v /= scale);
    }
    let (diagonal, below) = tridiagonal(matrix, dim);
    let mut values = bisect(&diagonal, &below);
    values.iter_mut().for_each(|v| *v *= scale);
    values
}

/// Diagonal (D) and sub-diagonal (D − 1) of a tridiagonal matrix with the same eigenvalues.
fn tridiagonal(mut matrix: Vec<f64>, dim: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut diagonal, mut below) = (vec![0.0; dim], vec![0.0; dim.saturating_sub(1)]);
    // Row i holds the i-th elements of the panel's reflectors v, then of their w, and `swapped` the other way round: the
    // rest of the matrix is to become A − Σ (v·wᵀ + w·vᵀ).
    let (mut panel, mut swapped) = (vec![0.0; dim * 2 * PANEL], vec![0.0; dim * 2 * PANEL]);
    let (mut v, mut w, mut partial) = (vec![0.0; dim], vec![0.0; dim], vec![]);
    let mut start = 0;
    while start < dim {
        let end = (start + PANEL).min(dim);
        panel.fill(0.0);
        swapped.fill(0.0);
        for c in start..end {
            let done = c - start;
            // The column, with the panel's reflectors so far.
            let other: [f64; 2 * PANEL] = std::array::from_fn(|l| swapped[c * 2 * PANEL + l]);
            for i in c..dim {
                v[i] = matrix[i * dim + c] - dot(&panel[i * 2 * PANEL..][..2 * PANEL], &other);
            }
            diagonal[c] = v[c];
            if c + 1 == dim {
                break;
            }
            let rest = c + 1..dim;
            let (beta, tau) = reflect(&mut v[rest.clone()]);
            below[c] = beta;
            if tau == 0.0 {
                continue;
            }

            multiply(&matrix, dim, c + 1, &v, &mut w, &mut partial);
            let mut along = [0.0; 2 * PANEL];
            for i in rest.clone() {
                let row = &panel[i * 2 * PANEL..][..2 * PANEL];
                for (sum, value) in along.iter_mut().zip(row) {
                    *sum += value * v[i];
                }
            }
            along.rotate_left(PANEL);
            let mut projection = 0.0;
            for i in rest.clone() {
                let known = dot(&panel[i * 2 * PANEL..][..2 * PANEL], &along);
                w[i] = tau * (w[i] - known);
                projection += w[i] * v[i];
            }
            for i in rest {
                w[i] -= 0.5 * tau * projection * v[i];
                for (rows, first, second) in [(&mut panel, v[i], w[i]), (&mut swapped, w[i], v[i])] {
                    rows[i * 2 * PANEL + done] = first;
                    rows[i * 2 * PANEL + PANEL + done] = second;
                }
            }
        }
        if end < dim {
            let view = |rows| View::new(rows, dim - end, 2 * PANEL, 2 * PANEL);
            let (one, other) = (view(&panel[end * 2 * PANEL..]), view(&swapped[end * 2 * PANEL..]));
            add_lower(-1.0, one, other, &mut matrix[end * dim + end..], dim);
        }
        start = end;
    }
    (diagonal, below)
}

/// Replaces x by v, v₀ = 1, such that (1 − τ·v·vᵀ)·x = (β, 0, …); returns (β, τ). τ is 0 where x is so already.
fn reflect(x: &mut [f64]) -> (f64, f64) {
    let tail: f64 = x[1..].iter().map(|x| x * x).sum();
    if tail == 0.0 {
        return (x[0], 0.0);
    }
    let beta = -(x[0] * x[0] + tail).sqrt().copysign(x[0]);
    let tau = (beta - x[0]) / beta;
    let divisor = x[0] - beta;
    x[1..].iter_mut().for_each(|x| *x /= divisor);
    x[0] = 1.0;
    (beta, tau)
}

/// w = A·v, A being the rows and columns from `from` of the symmetric matrix whose lower triangle is kept. `partial` is
/// scratch.
fn multiply(matrix: &[f64], dim: usize, from: usize, v: &[f64], w: &mut [f64], partial: &mut Vec<f64>) {
    let length = dim - from;
    partial.clear();
    partial.resize(length.div_ceil(ROWS) * length, 0.0);
    // Every element below the diagonal serves twice while it is at hand.
    partial.par_chunks_mut(length).enumerate().for_each(|(task, sums)| {
        let (first, last) = (task * ROWS, (task * ROWS + ROWS).min(length));
        multiply_lower(&matrix[from * dim + from..], dim, first..last, &v[from..], sums);
    });
    w[from..].fill(0.0);
    for (task, sums) in partial.chunks_exact(length).enumerate() {
        let last = (task * ROWS + ROWS).min(length);
        for (w, sum) in w[from..from + last].iter_mut().zip(sums) {
            *w += sum;
        }
    }
}

/// The eigenvalues, rising, of a tridiagonal matrix.
fn bisect(diagonal: &[f64], below: &[f64]) -> Vec<f64> {
    let dim = diagonal.len();
    let beside = |i: usize| below.get(i).map_or(0.0, |e| e.abs());
    let radius = |i: usize| beside(i) + if i > 0 { beside(i - 1) } else { 0.0 };
    // Gershgorin's bounds.
    let low = (0..dim).fold(f64::INFINITY, |m, i| m.min(diagonal[i] - radius(i)));
    let high = (0..dim).fold(f64::NEG_INFINITY, |m, i| m.max(diagonal[i] + radius(i)));
    let squares: Vec<f64> = std::iter::once(0.0).chain(below.iter().map(|e| e * e)).collect();
    let least = f64::MIN_POSITIVE * squares.iter().fold(1.0, |m: f64, &s| m.max(s));

    let mut values = vec![0.0; dim];
    values.par_chunks_mut(LANES).enumerate().for_each(|(chunk, values)| {
        let index: [f64; LANES] = std::array::from_fn(|l| (chunk * LANES + l) as f64);
        let (mut lows, mut highs) = ([low; LANES], [high; LANES]);
        for _ in 0..HALVINGS {
            let middles: [f64; LANES] = std::array::from_fn(|l| 0.5 * (lows[l] + highs[l]));
            let counts = count_below(diagonal, &squares, least, &middles);
            for l in 0..LANES {
                if counts[l] > index[l] {
                    highs[l] = middles[l];
                } else {
                    lows[l] = middles[l];
                }
            }
        }
        for (l, value) in values.iter_mut().enumerate() {
            *value = 0.5 * (lows[l] + highs[l]);
        }
    });
    values
}

/// How many eigenvalues lie below each x: as many as there are negative pivots of T − x. `squares[i]` is that of the
/// element left of the i-th on the diagonal; a pivot smaller than `least` counts as −`least`.
fn count_below(diagonal: &[f64], squares: &[f64], least: f64, x: &[f64; LANES]) -> [f64; LANES] {
    let (mut pivots, mut counts) = ([1.0; LANES], [0.0; LANES]);
    for (d, square) in diagonal.iter().zip(squares) {
        for l in 0..LANES {
            let pivot = d - x[l] - square / pivots[l];
            pivots[l] = if pivot.abs() < least { -least } else { pivot };
            counts[l] += if pivots[l] < 0.0 { 1.0 } else { 0.0 };
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::tests::matrix;

    /// Backward error of both steps: a small multiple of D·2⁻⁵³ times the largest eigenvalue, ≤ 4 here.
    #[test]
    fn eigenvalues_of_the_second_difference() {
        for dim in [1, 2, 3, 31, 32, 33, 64, 65, 129, 200] {
            let mut second_difference = vec![0.0; dim * dim];
            for i in 0..dim {
                second_difference[i * dim + i] = 2.0;
                if i > 0 {
                    second_difference[i * dim + i - 1] = -1.0;
                }
            }
            let found = symmetric_eigenvalues(second_difference, dim);
            for (k, value) in found.iter().enumerate() {
                let angle = std::f64::consts::PI * (k + 1) as f64 / (dim + 1) as f64;
                let expected = 2.0 - 2.0 * angle.cos();
                assert!(
                    (value - expected).abs() < 1e-15 * dim.max(8) as f64,
                    "D = {dim}: {value} {expected}"
                );
            }
        }
    }

    /// A full matrix with known eigenvalues: Q·Λ·Qᵀ with Q a product of random reflections.
    #[test]
    fn eigenvalues_survive_rotation() {
        for dim in [2, 5, 33, 100, 161] {
            let mut full = vec![0.0; dim * dim];
            let expected: Vec<f64> = (0..dim).map(|i| (i / 2) as f64 - 3.0).collect();
            for i in 0..dim {
                full[i * dim + i] = expected[(7 * i) % dim];
            }
            if dim % 7 == 0 {
                (0..dim).for_each(|i| full[i * dim + i] = expected[i]);
            }
            for u in matrix(3, dim, "rotation").chunks(dim) {
                let norm: f64 = u.iter().map(|u| u * u).sum();
                let reflect = |m: &mut [f64], at: &dyn Fn(usize, usize) -> usize| {
                    for i in 0..dim {
                        let dot: f64 = (0..dim).map(|j| m[at(i, j)] * u[j]).sum();
                        (0..dim).for_each(|j| m[at(i, j)] -= 2.0 * dot / norm * u[j]);
                    }
                };
                reflect(&mut full, &|i, j| i * dim + j);
                reflect(&mut full, &|i, j| j * dim + i);
            }
            let scaled: Vec<f64> = full.iter().map(|v| v * 1e-200).collect();
            for (found, factor) in
                [(symmetric_eigenvalues(full, dim), 1.0), (symmetric_eigenvalues(scaled, dim), 1e-200)]
            {
                for (found, expected) in found.iter().zip(&expected) {
                    let error = found / factor - expected;
                    assert!(error.abs() < 1e-13 * dim as f64, "D = {dim}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn thread_count_changes_no_bit() {
        let full = matrix(300, 300, "threads");
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| symmetric_eigenvalues(full.clone(), 300))
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn zeros_and_multiples_of_one() {
        assert_eq!(symmetric_eigenvalues(vec![0.0; 9], 3), [0.0; 3]);
        let found = symmetric_eigenvalues(vec![5.0, 0.0, 0.0, 5.0], 2);
        assert!(found.iter().all(|v| (v - 5.0).abs() < 1e-15), "{found:?}");
        assert_eq!(symmetric_eigenvalues(vec![], 0), [0.0; 0]);
    }
}
