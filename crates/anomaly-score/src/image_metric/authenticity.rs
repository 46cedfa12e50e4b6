//! Authenticity: is a generated image nearer to a training image than that one's own nearest neighbour?

use serde::Serialize;

use crate::Result;
use crate::set_metric::{Features, Neighbour, nearest, squared_radii};

/// Authenticity of a generated set.
#[derive(Clone, Debug, PartialEq)]
pub struct Authenticity {
    /// Nearest reference image of each generated image, the first where several are equally near.
    pub nearest: Vec<Neighbour>,
    /// Distance of that reference image to its own nearest other reference image, squared.
    pub squared_spacing: Vec<f64>,
    /// The figure for the set.
    pub summary: AuthPct,
}

/// Share of authentic images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AuthPct {
    /// Percentage of authentic images, in [0, 100]; **higher is better**: low values are copies of the training set.
    pub value: f64,
    /// Reference (training) images that entered.
    pub n_reference: usize,
    /// Generated images that entered.
    pub n_generated: usize,
}

impl AuthPct {
    /// The figure as fld prints it: 50 less.
    pub fn fld(&self) -> f64 {
        self.value - 50.0
    }
}

impl Authenticity {
    /// Whether generated image `i` is authentic: farther from its nearest reference image than that one is from its own
    /// nearest neighbour.
    pub fn is_authentic(&self, i: usize) -> bool {
        self.squared_spacing[i] < self.nearest[i].squared_distance
    }
}

/// Nearest reference image of every generated image, with AuthPct: the share of them that are no closer copies than
/// the reference images are of each other.
///
/// `reference` must be the *training* images: against others nothing can have been memorised. Falls as the reference
/// set grows thinner. The bits do not depend on threads, nor, but for exact ties, on order.
///
/// # Errors
/// `DimensionMismatch` if D differs; `TooFewImages` for fewer than two reference images or no generated one.
///
/// # Source
/// Alaa et al. 2022, arXiv:2102.08921, section 3.3; layer6ai-labs/dgm-eval `dgm_eval/metrics/authpct.py`@74c79f7, which uses
/// all images; marcojira/fld `fld/metrics/AuthPct.py`@ffbbf20 draws 10,000 of each and subtracts 50.
pub fn authenticity(reference: Features, generated: Features) -> Result<Authenticity> {
    Features::require_pair(reference, generated, 1)?;
    authenticity_of(reference, &squared_radii(reference, 1)?, generated)
}

/// The same where `spacing`, the squared distance of each reference image to its nearest other, is known already.
pub(crate) fn authenticity_of(
    reference: Features,
    spacing: &[f64],
    generated: Features,
) -> Result<Authenticity> {
    Features::require_pair(reference, generated, 1)?;
    let nearest = nearest(reference, generated)?;
    let squared_spacing: Vec<f64> = nearest.iter().map(|neighbour| spacing[neighbour.index]).collect();
    let mut found = Authenticity {
        nearest,
        squared_spacing,
        summary: AuthPct { value: 0.0, n_reference: reference.n(), n_generated: generated.n() },
    };
    let authentic = (0..generated.n()).filter(|&i| found.is_authentic(i)).count();
    found.summary.value = 100.0 * authentic as f64 / generated.n() as f64;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::image_metric::fixture::for_each_case;

    /// A distance carries the roundings of at most 16 terms and a square root; indices and flags are exact.
    #[test]
    fn matches_the_definition_in_numpy() {
        for_each_case(|case, reference, generated| {
            let found = authenticity(reference, generated).unwrap();
            let mut authentic = 0;
            for (i, neighbour) in found.nearest.iter().enumerate() {
                assert_eq!(
                    Some(neighbour.index as u64),
                    case["nearest_index"][i].as_u64(),
                    "{}",
                    case["name"]
                );
                let expected = case["nearest_distance"][i].as_f64().unwrap();
                assert!((neighbour.distance() - expected).abs() <= 1e-14 * expected, "{}", case["name"]);
                assert_eq!(Some(found.is_authentic(i)), case["authentic"][i].as_bool(), "{}", case["name"]);
                authentic += usize::from(found.is_authentic(i));
            }
            assert_eq!(found.summary.value, 100.0 * authentic as f64 / found.nearest.len() as f64);
        });
    }

    #[test]
    fn copies_are_not_authentic() {
        let reference: Vec<f32> = (0..60).map(|i| ((i * i) as f32).sin()).collect();
        let copies: Vec<f32> = reference.iter().map(|v| v + 1e-4).collect();
        let set = Features::new("reference", &reference, 3).unwrap();
        let found = authenticity(set, Features::new("generated", &copies, 3).unwrap()).unwrap();
        assert_eq!((found.summary.value, found.summary.fld()), (0.0, -50.0));
        assert!(found.nearest.iter().enumerate().all(|(i, neighbour)| neighbour.index == i));
        let far = [9.0f32; 6];
        let found = authenticity(set, Features::new("generated", &far, 3).unwrap()).unwrap();
        assert_eq!(found.summary.value, 100.0);
    }

    #[test]
    fn one_reference_image_is_too_few() {
        let values = [1.0f32, 2.0];
        let set = Features::new("reference", &values, 2).unwrap();
        assert_eq!(authenticity(set, set).unwrap_err().kind(), ErrorKind::TooFewImages);
    }
}
