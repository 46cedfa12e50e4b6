//! A factor of a covariance, whether of full rank or not.

use super::product::{View, add_lower};
use super::vector::dot;

/// Columns that are factored before the rest of the matrix is brought up to date.
const BLOCK: usize = 64;

/// R, r×D, with RᵀR the factored matrix and r its rank.
#[derive(Debug)]
pub(crate) struct Factor {
    /// r×D in row order.
    pub(crate) rows: Vec<f64>,
    /// r: number of pivots that stand out from rounding.
    pub(crate) rank: usize,
    /// Columns in the order of their pivots: in this order R has zeros left of its diagonal.
    pub(crate) order: Vec<usize>,
}

impl Factor {
    /// R with its columns in `order`.
    pub(crate) fn in_order(&self, order: &[usize]) -> Vec<f64> {
        self.rows.chunks_exact(order.len().max(1)).flat_map(|row| order.iter().map(|&c| row[c])).collect()
    }
}

/// Pivoted Cholesky factor of a positive semidefinite matrix, of which the lower triangle of `matrix`, D×D, is read.
///
/// Ends where no diagonal element of what is left exceeds D·2⁻⁵²·(largest element of the diagonal): less is rounding
/// of the matrix itself. A matrix with negative eigenvalues is factored without what they contribute.
///
/// # Source
/// Higham 1990, "Analysis of the Cholesky decomposition of a semi-definite matrix", sections 2 and 3.
pub(crate) fn factor(mut matrix: Vec<f64>, dim: usize) -> Factor {
    // The diagonal of what is left, kept up to date for every column; the rest of the matrix only once a block.
    let mut diagonal: Vec<f64> = (0..dim).map(|i| matrix[i * dim + i]).collect();
    let largest = diagonal.iter().fold(0.0f64, |m, &v| m.max(v));
    let tolerance = dim as f64 * f64::EPSILON * largest;
    let mut order: Vec<usize> = (0..dim).collect();
    let mut rank = dim;
    let mut start = 0;
    'blocks: while start < dim {
        let end = (start + BLOCK).min(dim);
        for j in start..end {
            let pivot = (j..dim).fold(j, |best, i| if diagonal[i] > diagonal[best] { i } else { best });
            if diagonal[pivot] <= tolerance {
                rank = j;
                break 'blocks;
            }
            swap(&mut matrix, dim, j, pivot);
            diagonal.swap(j, pivot);
            order.swap(j, pivot);

            let root = diagonal[j].sqrt();
            let (head, tail) = matrix.split_at_mut((j + 1) * dim);
            let row = &mut head[j * dim..];
            for (below, left) in tail.chunks_exact_mut(dim).zip(&mut diagonal[j + 1..]) {
                let known = dot(&row[start..j], &below[start..j]);
                below[j] = (below[j] - known) / root;
                *left -= below[j] * below[j];
            }
            row[j] = root;
        }
        if end < dim {
            let columns: Vec<f64> =
                matrix[end * dim..].chunks_exact(dim).flat_map(|row| &row[start..end]).copied().collect();
            let view = View::new(&columns, dim - end, end - start, end - start);
            add_lower(-1.0, view, view, &mut matrix[end * dim + end..], dim);
        }
        start = end;
    }

    // L, D×r, with its rows moved back, transposed.
    let mut rows = vec![0.0; rank * dim];
    for (i, &column) in order.iter().enumerate() {
        for (j, &value) in matrix[i * dim..i * dim + rank.min(i + 1)].iter().enumerate() {
            rows[j * dim + column] = value;
        }
    }
    Factor { rows, rank, order }
}

/// Exchanges rows and columns `a` ≤ `b` of a symmetric matrix of which only the lower triangle is kept.
fn swap(matrix: &mut [f64], dim: usize, a: usize, b: usize) {
    if a == b {
        return;
    }
    for j in 0..a {
        matrix.swap(a * dim + j, b * dim + j);
    }
    for i in a + 1..b {
        matrix.swap(i * dim + a, b * dim + i);
    }
    for i in b + 1..dim {
        matrix.swap(i * dim + a, i * dim + b);
    }
    matrix.swap(a * dim + a, b * dim + b);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::squares_of_rows;
    use crate::linalg::tests::matrix;

    /// Backward error of the factorisation, ≤ 8·D·2⁻⁵² of the largest diagonal element here.
    #[test]
    fn the_factor_gives_the_matrix_back_and_its_rank() {
        for (dim, rank) in [(1, 1), (5, 3), (64, 64), (65, 65), (150, 70), (200, 128), (200, 1), (130, 129)] {
            let covariance = squares_of_rows(&matrix(dim, rank, "cholesky"), rank);
            let found = factor(covariance.clone(), dim);
            assert_eq!(found.rank, rank, "D = {dim}");
            let upper = found.in_order(&found.order);
            assert!((0..rank).all(|i| upper[i * dim..][..i].iter().all(|&v| v == 0.0)), "D = {dim}");
            let largest = (0..dim).map(|i| covariance[i * dim + i]).fold(0.0, f64::max);
            for i in 0..dim {
                for j in 0..=i {
                    let back: f64 = found.rows.chunks(dim).map(|row| row[i] * row[j]).sum::<f64>()
                        - covariance[i * dim + j];
                    assert!(back.abs() <= 8.0 * dim as f64 * f64::EPSILON * largest, "D = {dim}: {back}");
                }
            }
        }
    }

    #[test]
    fn nothing_has_rank_0() {
        let found = factor(vec![0.0; 9], 3);
        assert_eq!((found.rank, found.rows.len()), (0, 0));
    }
}
