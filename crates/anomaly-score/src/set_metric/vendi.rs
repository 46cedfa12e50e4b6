//! Vendi score.

use serde::Serialize;

use super::row_order::rows_in_order;
use super::{Features, row_order};
use crate::linalg::{add_gram, squares_of_rows, symmetric_eigenvalues};
use crate::{Error, ErrorKind, Result};

/// Rows whose products are added at once.
const BLOCK: usize = 256;

/// Vendi score of one set: the effective number of different images, exp(−Σ λ·ln λ) over the eigenvalues λ of the N×N
/// matrix of cosines between features, divided by N.
///
/// `value` is in [1, min(N, D)]; **higher = more diverse**. It says nothing of likeness to a reference. It grows with
/// N, slowly; compare sets of one size.
///
/// # Source
/// Friedman and Dieng 2023, arXiv:2210.02410, of order q = 1 with the linear kernel, as Vendi-Score's `score_X` and
/// dgm-eval take it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct VendiScore {
    /// The score.
    pub value: f64,
    /// Images that entered.
    pub n: usize,
}

/// [`VendiScore`] of `features`. The eigenvalues are taken from the smaller of the matrices N×N and D×D, which share
/// those that are not 0: O(N·D·min(N, D)) and 8·min(N, D)² bytes beside a copy of the features. The same bits for
/// any thread count and any order of images.
///
/// # Errors
/// `TooFewImages` for none; `InvalidOption` for a feature of zeros, which has no direction.
pub fn vendi_score(features: Features) -> Result<VendiScore> {
    let (n, dim) = (features.n(), features.dim());
    if n == 0 {
        return Err(Error::new(ErrorKind::TooFewImages, "features", "no image has no diversity")
            .expected("at least 1", 0));
    }
    if let Some(row) = features.rows().position(|row| row.iter().all(|&v| v == 0.0)) {
        return Err(Error::new(ErrorKind::InvalidOption, "features", "a feature has no direction")
            .expected("a number other than 0 in every row", format!("zeros in row {row}"))
            .remedy("Leave that image out, or look at what the network makes of it."));
    }
    let rows = rows_in_order(features, &row_order(features));
    let scaled = |rows: &[f32]| -> Vec<f64> {
        let root = (n as f64).sqrt();
        rows.chunks_exact(dim)
            .flat_map(|row| {
                let norm = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt() * root;
                row.iter().map(move |&v| f64::from(v) / norm)
            })
            .collect()
    };
    let (matrix, side) = if n <= dim {
        (squares_of_rows(&scaled(&rows), dim), n)
    } else {
        let mut matrix = vec![0.0; dim * dim];
        rows.chunks(BLOCK * dim).for_each(|rows| add_gram(&scaled(rows), dim, &mut matrix));
        (matrix, dim)
    };
    let values = symmetric_eigenvalues(matrix, side);
    let entropy: f64 = values.iter().filter(|&&v| v > 0.0).map(|v| -v * v.ln()).sum();
    // Rounding must not leave the range.
    Ok(VendiScore { value: entropy.exp().clamp(1.0, side as f64), n })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::set_metric::fixture::{Matrix, cases};

    /// Eigenvalues within 1e-15; −λ·ln λ of one that is 0 but for rounding adds 4e-14 each.
    #[test]
    fn matches_numpy() {
        let cases = cases(include_str!("../../../../fixtures/spectral/vendi.json"));
        assert!(cases.len() >= 4);
        for case in cases {
            let found = vendi_score(Matrix::of(&case["features"]).features()).unwrap();
            let expected = case["value"].as_f64().unwrap();
            assert!(
                (found.value - expected).abs() < 1e-11 * expected,
                "{}: {found:?} {expected}",
                case["name"]
            );
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let none = Matrix { values: vec![], dim: 3 };
        assert_eq!(vendi_score(none.features()).unwrap_err().kind(), ErrorKind::TooFewImages);
        let error = vendi_score(Matrix { values: vec![1.0, 0.0, 0.0, -0.0], dim: 2 }.features()).unwrap_err();
        assert!(error.to_string().contains("found zeros in row 1"), "{error}");
    }

    proptest! {
        /// m orthogonal clusters of equal size count as m images, whatever the lengths; in any order.
        #[test]
        fn orthogonal_clusters_are_counted(clusters in 1usize..12, size in 1usize..6, extra in 0usize..9, lengths in proptest::collection::vec(0.1f32..9.0, 72)) {
            let dim = clusters + extra;
            let rows: Vec<Vec<f32>> = (0..clusters * size)
                .map(|i| (0..dim).map(|j| if j == i % clusters { lengths[i] } else { 0.0 }).collect())
                .collect();
            let mut rows: Vec<&[f32]> = rows.iter().map(|r| &r[..]).collect();
            let found = vendi_score(Matrix::from_rows(&rows).features()).unwrap();
            prop_assert!((found.value - clusters as f64).abs() < 1e-11 * clusters as f64, "{:?}", found);
            rows.reverse();
            prop_assert_eq!(vendi_score(Matrix::from_rows(&rows).features()).unwrap(), found);
        }
    }
}
