//! Realism score.

use std::sync::Mutex;
use std::sync::PoisonError;

use crate::Result;
use crate::set_metric::distances::{Distances, TILE};
use crate::set_metric::{Features, Manifold};
use crate::stats::quantile;

/// Which of the published codes' realism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RealismForm {
    /// max r/d over the reference balls smaller than the median one: the paper's score, as dgm-eval computes it.
    BelowMedian,
    /// max r²/(d² + 10⁻⁵) over all reference balls: what the authors' own code and ADM's evaluator compute, the square of
    /// the paper's score but for the balls it would leave out.
    Squared,
}

/// Realism of each generated image: how far inside the reference manifold it lies, ≥ 0. **Higher is better**; above 1 it
/// is inside some reference ball.
///
/// `None` where the score is undefined: the image coincides with a reference image (`BelowMedian`; the ratio is
/// infinite), or no ball is smaller than the median. Grows with n: compare only scores against one reference set. The
/// manifolds of the paper have k = 3, of dgm-eval k = 5. The bits do not depend on threads or on the order of either set.
///
/// # Errors
/// `DimensionMismatch` if D differs.
///
/// # Source
/// Kynkäänniemi et al. 2019, arXiv:1904.06991, equation 3; layer6ai-labs/dgm-eval `dgm_eval/metrics/prdc.py`@74c79f7;
/// kynkaat/improved-precision-and-recall-metric `precision_recall.py`.
pub fn realism(reference: &Manifold, generated: Features, form: RealismForm) -> Result<Vec<Option<f64>>> {
    Features::require_pair(reference.features(), generated, 0)?;
    let radii = reference.squared_radii();
    let median = quantile(radii, 0.5).unwrap_or(0.0);
    let (limit, added) = match form {
        // On squares: the mean of the middle two is between them there too.
        RealismForm::BelowMedian => (median, 0.0),
        RealismForm::Squared => (f64::INFINITY, 1e-5),
    };
    let blocks: Vec<Mutex<Vec<Option<f64>>>> = (0..generated.n())
        .step_by(TILE)
        .map(|at| Mutex::new(vec![None; TILE.min(generated.n() - at)]))
        .collect();
    Distances::between(reference.features(), generated).for_each_tile(|tile| {
        let first = tile.columns.start;
        let mut best = blocks[first / TILE].lock().unwrap_or_else(PoisonError::into_inner);
        for row in tile.rows.clone().filter(|&row| radii[row] < limit) {
            for (column, lower) in tile.lower(row) {
                let best = &mut best[column - first];
                // No ratio is above what the lower bound gives; where that bound is 0 or below, any may be.
                let most = (lower > 0.0).then(|| radii[row] / (lower + added));
                if best.zip(most).is_none_or(|(best, most)| most >= best) {
                    let ratio = radii[row] / (tile.exact(row, column) + added);
                    // 0/0: a ball without extent has no inside to be deep in.
                    if !ratio.is_nan() && best.is_none_or(|best| ratio > best) {
                        *best = Some(ratio);
                    }
                }
            }
        }
    });
    let root = |squared: f64| if form == RealismForm::BelowMedian { squared.sqrt() } else { squared };
    Ok(blocks
        .into_iter()
        .flat_map(|block| block.into_inner().unwrap_or_else(PoisonError::into_inner))
        .map(|best| best.map(root).filter(|value| value.is_finite()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_metric::fixture::{close, for_each_case, options};

    /// Radii and distances carry the roundings of at most 16 terms, the ratio and its root three more.
    #[test]
    fn matches_the_definition_in_numpy() {
        for_each_case(|case, reference, generated| {
            for entry in case["k"].as_array().unwrap() {
                let manifold =
                    Manifold::new(reference, entry["nearest_k"].as_u64().unwrap() as usize).unwrap();
                for (form, key) in [
                    (RealismForm::BelowMedian, "realism_below_median"),
                    (RealismForm::Squared, "realism_squared"),
                ] {
                    let found = realism(&manifold, generated, form).unwrap();
                    let expected = options(&entry[key]);
                    assert!(
                        close(&found, &expected, 1e-13),
                        "{key} of {}: {found:?} {expected:?}",
                        case["name"]
                    );
                }
            }
        });
    }

    #[test]
    fn an_image_in_a_dense_place_is_more_real_than_one_far_out() {
        let reference: Vec<f32> = (0..40).map(|i| (i as f32 * 0.37).sin() * (1.0 + i as f32 * 0.1)).collect();
        let set = Features::new("reference", &reference, 2).unwrap();
        let manifold = Manifold::new(set, 3).unwrap();
        let generated = [0.1, 0.1, 30.0, 30.0, 60.0, 60.0];
        let scores =
            realism(&manifold, Features::new("g", &generated, 2).unwrap(), RealismForm::BelowMedian).unwrap();
        assert!(scores[0] > scores[1] && scores[1] > scores[2], "{scores:?}");
    }
}
