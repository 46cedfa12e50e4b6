//! Matrix products, in bands of the result that threads share.

use rayon::prelude::*;

/// Rows of the result that one task computes.
const BAND: usize = 96;

/// A matrix within a slice: the element in row `i` and column `j` is `data[i * row_stride + j * column_stride]`.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    data: &'a [f64],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    /// `rows` rows of `columns` elements, `stride` elements from one to the next.
    pub(super) fn new(data: &'a [f64], rows: usize, columns: usize, stride: usize) -> Self {
        let view = View { data, rows, columns, row_stride: stride, column_stride: 1 };
        assert!(view.end() <= data.len() && columns <= stride, "a view reaches beyond its matrix");
        view
    }

    pub(super) fn transposed(self) -> Self {
        View {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Rows `from..to`.
    fn band(self, from: usize, to: usize) -> Self {
        assert!(from <= to && to <= self.rows);
        // An empty band may start where the data ends.
        let start = (from * self.row_stride).min(self.data.len());
        View { data: &self.data[start..], rows: to - from, ..self }
    }

    /// Columns from `from` on.
    fn columns_from(self, from: usize) -> Self {
        assert!(from <= self.columns);
        let start = (from * self.column_stride).min(self.data.len());
        View { data: &self.data[start..], columns: self.columns - from, ..self }
    }

    /// One past the last element that is read.
    fn end(&self) -> usize {
        if self.rows == 0 || self.columns == 0 {
            return 0;
        }
        (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride + 1
    }
}

/// `out` += `alpha`·`a`·`b`ᵀ, `out` being rows of `stride` elements. On the calling thread.
fn add_product(alpha: f64, a: View, b: View, out: &mut [f64], stride: usize) {
    let (m, n, k) = (a.rows, b.rows, a.columns);
    assert_eq!(k, b.columns, "the inner lengths differ");
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    assert!(a.end() <= a.data.len() && b.end() <= b.data.len());
    assert!(n <= stride && (m - 1) * stride + n <= out.len());
    // SAFETY: the three assertions above bound every element that is read or written, strides are positive, and `out`
    // is borrowed uniquely, so that it overlaps neither operand.
    unsafe {
        matrixmultiply::dgemm(
            m,
            k,
            n,
            alpha,
            a.data.as_ptr(),
            a.row_stride as isize,
            a.column_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            out.as_mut_ptr(),
            stride as isize,
            1,
        );
    }
}

/// The lower triangle of `out`, rows of `stride` elements, += `alpha`·`a`·`b`ᵀ; above the diagonal some elements are
/// overwritten with what nobody reads.
pub(super) fn add_lower(alpha: f64, a: View, b: View, out: &mut [f64], stride: usize) {
    out.par_chunks_mut(BAND * stride).enumerate().for_each(|(band, out)| {
        let from = band * BAND;
        let to = (from + BAND).min(a.rows);
        if from < to {
            add_product(alpha, a.band(from, to), b.band(0, to), out, stride);
        }
    });
}

/// Adds XᵀX to the lower triangle of `out`, D×D; X is `rows`, N×D.
pub(crate) fn add_gram(rows: &[f64], dim: usize, out: &mut [f64]) {
    let x = View::new(rows, rows.len() / dim, dim, dim).transposed();
    add_lower(1.0, x, x, out, dim);
}

/// The inner products of `a`'s rows (M×D) with `b`'s (N×D): M×N.
pub(crate) fn products_of_rows(a: &[f64], b: &[f64], dim: usize) -> Vec<f64> {
    products(a, b, dim, |_| 0)
}

/// [`products_of_rows`] where the rows of `a` have zeros left of the diagonal, which are passed over: half the work where
/// M = D.
pub(crate) fn products_of_upper_rows(a: &[f64], b: &[f64], dim: usize) -> Vec<f64> {
    products(a, b, dim, |row| row)
}

/// [`products_of_rows`], for each band of the terms from `first`(its first row of `a`) on.
fn products(a: &[f64], b: &[f64], dim: usize, first: impl Fn(usize) -> usize + Sync) -> Vec<f64> {
    let (m, n) = (a.len() / dim, b.len() / dim);
    let mut out = vec![0.0; m * n];
    let (a, b) = (View::new(a, m, dim, dim), View::new(b, n, dim, dim));
    if n > 0 {
        out.par_chunks_mut(BAND * n).enumerate().for_each(|(band, out)| {
            let from = band * BAND;
            let (a, skipped) = (a.band(from, (from + BAND).min(m)), first(from));
            add_product(1.0, a.columns_from(skipped), b.columns_from(skipped), out, n);
        });
    }
    out
}

/// The lower triangle of the inner products of `a`'s rows (M×D) among themselves, M×M. Above the diagonal stands
/// what nobody should read.
pub(crate) fn squares_of_rows(a: &[f64], dim: usize) -> Vec<f64> {
    let m = a.len() / dim;
    let mut out = vec![0.0; m * m];
    if m > 0 {
        let a = View::new(a, m, dim, dim);
        add_lower(1.0, a, a, &mut out, m);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::tests::matrix;

    fn naive(a: &[f64], b: &[f64], dim: usize) -> Vec<f64> {
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        a.chunks(dim).flat_map(|x| b.chunks(dim).map(move |y| dot(x, y))).collect()
    }

    /// Sums of up to 300 products of numbers below 1: 300·2⁻⁵³ each.
    #[test]
    fn products_are_those_of_the_definition() {
        for (m, n, dim) in [(1, 1, 1), (3, 5, 2), (97, 200, 300), (200, 96, 7)] {
            let (a, b) = (matrix(m, dim, "a"), matrix(n, dim, "b"));
            for (found, expected) in products_of_rows(&a, &b, dim).iter().zip(naive(&a, &b, dim)) {
                assert!((found - expected).abs() < 1e-12, "{m}×{n}×{dim}: {found} {expected}");
            }
            let upper: Vec<f64> =
                a.iter().enumerate().map(|(i, v)| if i % dim < i / dim { 0.0 } else { *v }).collect();
            if m <= dim {
                let found = products_of_upper_rows(&upper, &b, dim);
                for (found, expected) in found.iter().zip(naive(&upper, &b, dim)) {
                    assert!((found - expected).abs() < 1e-12, "{m}×{n}×{dim}: {found} {expected}");
                }
            }
            let (found, expected) = (squares_of_rows(&a, dim), naive(&a, &a, dim));
            let mut gram = vec![0.0; m * m];
            let transposed: Vec<f64> =
                (0..dim).flat_map(|j| a.iter().skip(j).step_by(dim).copied()).collect();
            add_gram(&transposed, m, &mut gram);
            for i in 0..m {
                for j in 0..=i {
                    assert!((found[i * m + j] - expected[i * m + j]).abs() < 1e-12);
                    assert!((gram[i * m + j] - expected[i * m + j]).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn nothing_times_nothing() {
        assert!(products_of_rows(&[], &[1.0, 2.0], 2).is_empty());
        assert!(products_of_rows(&[1.0, 2.0], &[], 2).is_empty());
        assert!(squares_of_rows(&[], 2).is_empty());
    }
}
