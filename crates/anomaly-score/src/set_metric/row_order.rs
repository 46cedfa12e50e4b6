//! An order of images that does not depend on how they are listed.

use rayon::prelude::*;

use super::Features;

/// The rows of `features` from the lexicographically smallest to the largest feature: sums taken, and subsets drawn,
/// along it have the same bits in whatever order the images come. Equal rows follow one another.
pub fn row_order(features: Features) -> Vec<usize> {
    let mut order: Vec<usize> = (0..features.n()).collect();
    order.par_sort_unstable_by(|&a, &b| {
        let pairs = features.row(a).iter().zip(features.row(b));
        pairs.map(|(a, b)| a.total_cmp(b)).find(|o| o.is_ne()).unwrap_or(a.cmp(&b))
    });
    order
}

/// The rows of `features` as `order` lists them, one after another.
pub(super) fn rows_in_order(features: Features, order: &[usize]) -> Vec<f32> {
    order.iter().flat_map(|&i| features.row(i)).copied().collect()
}
