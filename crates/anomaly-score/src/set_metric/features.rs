//! The matrix every set metric reads.

use crate::{Error, ErrorKind, Result};

/// N feature vectors of length D, row after row; every value is finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Features<'a> {
    values: &'a [f32],
    dim: usize,
}

impl<'a> Features<'a> {
    /// `values`: N×D in row order; `name` is what an error calls the set.
    ///
    /// # Errors
    /// `DimensionMismatch` if D is 0 or the values are no whole number of rows; `InvalidOption` for a value that is NaN
    /// or infinite, naming its row.
    pub fn new(name: &str, values: &'a [f32], dim: usize) -> Result<Self> {
        if dim == 0 || !values.len().is_multiple_of(dim) {
            return Err(Error::new(ErrorKind::DimensionMismatch, name, "the features are no N×D matrix")
                .expected(format!("a multiple of D = {dim} values, D > 0"), values.len()));
        }
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            let (row, column) = (at / dim, at % dim);
            return Err(Error::new(ErrorKind::InvalidOption, name, "a feature cannot be compared")
                .expected("finite numbers", format!("{} in row {row}, column {column}", values[at]))
                .remedy("Leave that image out, or look at what the network makes of it."));
        }
        Ok(Features { values, dim })
    }

    /// N: number of images.
    pub fn n(&self) -> usize {
        self.values.len() / self.dim
    }

    /// D: length of a feature.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// All values, row after row.
    pub fn values(&self) -> &'a [f32] {
        self.values
    }

    /// The feature of image `i`.
    ///
    /// # Panics
    /// If `i` is not below N.
    pub fn row(&self, i: usize) -> &'a [f32] {
        &self.values[i * self.dim..(i + 1) * self.dim]
    }

    /// The features, image after image.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &'a [f32]> + use<'a> {
        self.values.chunks_exact(self.dim)
    }

    /// Refuses two sets whose features have different lengths, or fewer than `least` images in one of them.
    ///
    /// # Errors
    /// `DimensionMismatch`; `TooFewImages`, naming the set.
    pub fn require_pair(reference: Features, generated: Features, least: usize) -> Result<()> {
        if reference.dim != generated.dim {
            return Err(Error::new(ErrorKind::DimensionMismatch, "generated", "features of another length")
                .expected(format!("D = {} as in the reference", reference.dim), generated.dim)
                .remedy("Read both sets through the same backbone and layer."));
        }
        for (name, set) in [("reference", reference), ("generated", generated)] {
            if set.n() < least {
                return Err(Error::new(ErrorKind::TooFewImages, name, "too few images for this metric")
                    .expected(format!("at least {least}"), set.n()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_where_they_should_be() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let set = Features::new("reference", &values, 3).unwrap();
        assert_eq!((set.n(), set.dim(), set.row(1)), (2, 3, &values[3..]));
        assert_eq!(set.rows().map(|r| r[0]).collect::<Vec<_>>(), [1.0, 4.0]);
    }

    #[test]
    fn what_is_no_matrix_is_refused() {
        let error = Features::new("reference", &[1.0; 5], 2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DimensionMismatch);
        assert_eq!(Features::new("reference", &[], 0).unwrap_err().kind(), ErrorKind::DimensionMismatch);
        let error = Features::new("generated", &[1.0, 2.0, f32::NAN, 4.0], 2).unwrap_err();
        assert!(
            error.to_string().starts_with(
                "generated: a feature cannot be compared; expected finite numbers, found NaN in row 1, column 0"
            ),
            "{error}"
        );
    }

    #[test]
    fn a_pair_must_match() {
        let values = [0.0; 12];
        let (a, b) = (Features::new("a", &values, 3).unwrap(), Features::new("b", &values, 4).unwrap());
        assert_eq!(Features::require_pair(a, b, 1).unwrap_err().kind(), ErrorKind::DimensionMismatch);
        let error = Features::require_pair(a, a, 5).unwrap_err();
        assert_eq!(
            error.to_string(),
            "reference: too few images for this metric; expected at least 5, found 4"
        );
        assert!(Features::require_pair(a, a, 4).is_ok());
    }
}
