//! Rarity score.

use std::sync::{Mutex, PoisonError};

use crate::Result;
use crate::set_metric::distances::{Distances, TILE};
use crate::set_metric::{Features, Manifold};

/// Rarity of each generated image: the smallest radius among the reference balls it lies in, in feature units, > 0. Neither
/// direction is better: **higher = rarer**, from a sparser part of the reference set.
///
/// `None` for an image in no ball: it is outside the manifold and has no rarity (the authors' code gives 0, to be left
/// out of averages). Balls are open; k is 3 in the paper's code. Radii shrink as n grows: compare only scores against
/// one reference set. The bits do not depend on threads or on the order of either set.
///
/// # Errors
/// `DimensionMismatch` if D differs.
///
/// # Source
/// Han et al. 2023, arXiv:2206.08549, equation 3; hichoe95/Rarity-Score `rarity_score.py`.
pub fn rarity(reference: &Manifold, generated: Features) -> Result<Vec<Option<f64>>> {
    Features::require_pair(reference.features(), generated, 0)?;
    let radii = reference.squared_radii();
    let blocks: Vec<Mutex<Vec<f64>>> = (0..generated.n())
        .step_by(TILE)
        .map(|at| Mutex::new(vec![f64::INFINITY; TILE.min(generated.n() - at)]))
        .collect();
    Distances::between(reference.features(), generated).for_each_tile(|tile| {
        let first = tile.columns.start;
        let mut smallest = blocks[first / TILE].lock().unwrap_or_else(PoisonError::into_inner);
        for row in tile.rows.clone() {
            for (column, lower) in tile.lower(row) {
                let smallest = &mut smallest[column - first];
                let radius = radii[row];
                if radius < *smallest && lower < radius && tile.is_within(row, column, radius, false) {
                    *smallest = radius;
                }
            }
        }
    });
    Ok(blocks
        .into_iter()
        .flat_map(|block| block.into_inner().unwrap_or_else(PoisonError::into_inner))
        .map(|radius| radius.is_finite().then(|| radius.sqrt()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_metric::fixture::{close, for_each_case, options};

    /// A radius carries the roundings of at most 16 terms and a square root.
    #[test]
    fn matches_the_definition_in_numpy() {
        for_each_case(|case, reference, generated| {
            for entry in case["k"].as_array().unwrap() {
                let manifold =
                    Manifold::new(reference, entry["nearest_k"].as_u64().unwrap() as usize).unwrap();
                let found = rarity(&manifold, generated).unwrap();
                assert!(close(&found, &options(&entry["rarity"]), 1e-14), "{}: {found:?}", case["name"]);
            }
        });
    }

    #[test]
    fn sparse_places_are_rare_and_the_outside_is_none() {
        // Nine images a step apart, then three ten steps apart.
        let line: Vec<f32> = (0..9).map(|i| i as f32).chain([20.0, 30.0, 40.0]).collect();
        let manifold = Manifold::new(Features::new("reference", &line, 1).unwrap(), 1).unwrap();
        let generated = [4.5, 29.0, 100.0];
        let found = rarity(&manifold, Features::new("generated", &generated, 1).unwrap()).unwrap();
        assert_eq!(found, [Some(1.0), Some(10.0), None]);
    }
}
