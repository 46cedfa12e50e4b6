//! The linear algebra behind the spectral metrics, in f64: products, a pivoted Cholesky factor, eigenvalues.
//!
//! Matrices are slices in row order. Work is cut into pieces by the matrices' sizes alone, so that results have the
//! same bits for any number of threads of the current rayon pool.

mod cholesky;
mod eigenvalues;
mod product;
mod vector;

pub(crate) use cholesky::{Factor, factor};
pub(crate) use eigenvalues::symmetric_eigenvalues;
pub(crate) use product::{add_gram, products_of_rows, products_of_upper_rows, squares_of_rows};

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution, Uniform};

    use crate::stats::counter_rng;

    /// Numbers in [−1, 1), `rows`×`columns`, seeded by `name`.
    pub(super) fn matrix(rows: usize, columns: usize, name: &str) -> Vec<f64> {
        let mut rng = counter_rng(0, "test/linalg", name.as_bytes());
        let uniform = Uniform::new(-1.0, 1.0).unwrap();
        (0..rows * columns).map(|_| uniform.sample(&mut rng)).collect()
    }
}
