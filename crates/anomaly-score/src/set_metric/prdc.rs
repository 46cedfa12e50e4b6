//! Precision, recall, density and coverage of a generated set, and the manifolds of k-NN balls they rest on.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use serde::Serialize;

use super::distances::Distances;
use super::{Features, squared_radii};
use crate::stats::{counter_rng, mark_random_subset};
use crate::{Error, ErrorKind, Result};

/// Whether the surface of a ball belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Boundary {
    /// A point is inside if its distance is below the radius: prdc, dgm-eval, fld.
    Open,
    /// A point is inside if its distance is at most the radius: kynkaat, ADM, torch-fidelity. Duplicates of one image
    /// contain each other.
    Closed,
}

/// How precision, recall, density and coverage are defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrdcOptions {
    /// Radius of an image's ball: the distance to its `nearest_k`-th nearest other image.
    pub nearest_k: usize,
    /// Whether the surface belongs to the ball.
    pub boundary: Boundary,
    /// Both sets are cut to this many images at most, and to one size, drawn without replacement; `None` takes all.
    pub subsample: Option<usize>,
    /// Seed of the subsample.
    pub seed: u64,
}

impl PrdcOptions {
    /// prdc 0.2 and dgm-eval: open balls, k = 5, and dgm-eval's 10,000 images a set, seeded here.
    pub const DGM_EVAL: Self =
        PrdcOptions { nearest_k: 5, boundary: Boundary::Open, subsample: Some(10_000), seed: 0 };

    /// Kynkäänniemi et al.'s own code, ADM's evaluator and torch-fidelity: closed balls, k = 3, all images. ADM compares
    /// squared distances rounded to f16, which nothing else can reproduce.
    pub const IMPROVED: Self =
        PrdcOptions { nearest_k: 3, boundary: Boundary::Closed, subsample: None, seed: 0 };

    /// fld: open balls, k = 3, all images.
    pub const FLD: Self = PrdcOptions { nearest_k: 3, boundary: Boundary::Open, subsample: None, seed: 0 };
}

impl Default for PrdcOptions {
    /// Open balls, k = 5, all images.
    fn default() -> Self {
        PrdcOptions { subsample: None, ..PrdcOptions::DGM_EVAL }
    }
}

/// Precision, recall, density and coverage; **higher is better** in all four.
///
/// All depend on both sizes: compare only values at one n and one k. Recall and coverage see a collapsed generator;
/// precision and density do not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Prdc {
    /// Share of the generated images inside some reference ball, in [0, 1].
    pub precision: f64,
    /// Share of the reference images inside some generated ball, in [0, 1].
    pub recall: f64,
    /// Reference balls a generated image lies in, over k, averaged: ≥ 0, about 1 for equal distributions, and above 1
    /// where generated images crowd dense places.
    pub density: f64,
    /// Share of the reference balls with a generated image inside, in [0, 1].
    pub coverage: f64,
    /// Reference images that entered.
    pub n_reference: usize,
    /// Generated images that entered.
    pub n_generated: usize,
    /// k of the radii.
    pub nearest_k: usize,
    /// Whether surfaces counted as inside.
    pub boundary: Boundary,
}

/// A set of images with the radii of their k-NN balls: its estimated manifold. Made once for any number of comparisons.
#[derive(Clone, Debug)]
pub struct Manifold<'a> {
    features: Features<'a>,
    nearest_k: usize,
    squared_radii: Vec<f64>,
}

impl<'a> Manifold<'a> {
    /// The manifold of `features`: N²/2 distances.
    ///
    /// # Errors
    /// As [`squared_radii`].
    pub fn new(features: Features<'a>, nearest_k: usize) -> Result<Self> {
        Ok(Manifold { features, nearest_k, squared_radii: squared_radii(features, nearest_k)? })
    }

    /// The same of radii known already, one an image.
    pub(crate) fn with_radii(features: Features<'a>, nearest_k: usize, squared_radii: Vec<f64>) -> Self {
        Manifold { features, nearest_k, squared_radii }
    }

    /// The images.
    pub fn features(&self) -> Features<'a> {
        self.features
    }

    /// k of the radii.
    pub fn nearest_k(&self) -> usize {
        self.nearest_k
    }

    /// Squared radius of each image's ball.
    pub fn squared_radii(&self) -> &[f64] {
        &self.squared_radii
    }
}

/// Precision, recall, density and coverage of `generated` against `reference`.
///
/// `reference`, `generated`: N×D, f32; N may differ, D must match. Every comparison of a distance with a radius is made
/// in f64 on squares, so all counts are those of the definition. The bits do not depend on threads, nor on the order of
/// the images unless a subsample is drawn, which is drawn by row. All images in one place give four zeros with
/// open balls.
///
/// # Errors
/// `DimensionMismatch` if D differs; `TooFewImages` for fewer than k + 1 images in a set; `InvalidOption` for k = 0.
///
/// # Source
/// Precision and recall: Kynkäänniemi et al. 2019, arXiv:1904.06991, equations 1 and 2. Density and coverage: Naeem et
/// al. 2020, arXiv:2002.09797, equations 4 and 5. Conventions: clovaai/generative-evaluation-prdc; layer6ai-labs/dgm-eval
/// `dgm_eval/metrics/prdc.py`@74c79f7; marcojira/fld `fld/metrics/PrecisionRecall.py`@ffbbf20.
pub fn prdc(reference: Features, generated: Features, options: &PrdcOptions) -> Result<Prdc> {
    let (least, k) = (options.nearest_k + 1, options.nearest_k);
    Features::require_pair(reference, generated, least)?;
    let Some(most) = options.subsample else {
        return prdc_of(&Manifold::new(reference, k)?, &Manifold::new(generated, k)?, options.boundary);
    };
    let size = most.min(reference.n()).min(generated.n()).max(least);
    let reference_rows = subsample(reference, size, options.seed, b"reference");
    let generated_rows = subsample(generated, size, options.seed, b"generated");
    let reference = Features::new("reference", &reference_rows, reference.dim())?;
    let generated = Features::new("generated", &generated_rows, generated.dim())?;
    prdc_of(&Manifold::new(reference, k)?, &Manifold::new(generated, k)?, options.boundary)
}

/// Which images [`Prdc`] counts, in the order of the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrdcImages {
    /// Reference balls each generated image lies in: precision counts those in any, density all.
    pub balls_around: Vec<u32>,
    /// Whether each reference image lies in some generated ball: recall.
    pub recalled: Vec<bool>,
    /// Whether some generated image lies in each reference ball: coverage.
    pub covered: Vec<bool>,
}

/// [`prdc`] of two manifolds of one k: N·M distances.
///
/// # Errors
/// `DimensionMismatch` if D differs; `SettingsMismatch` if k does.
pub fn prdc_of(reference: &Manifold, generated: &Manifold, boundary: Boundary) -> Result<Prdc> {
    Ok(prdc_images(reference, generated, boundary)?.0)
}

/// [`prdc_of`], with what it says of every image.
///
/// # Errors
/// As [`prdc_of`].
pub fn prdc_images(
    reference: &Manifold,
    generated: &Manifold,
    boundary: Boundary,
) -> Result<(Prdc, PrdcImages)> {
    if reference.nearest_k != generated.nearest_k {
        return Err(Error::new(ErrorKind::SettingsMismatch, "nearest_k", "the two manifolds differ")
            .expected(format!("k = {} as in the reference", reference.nearest_k), generated.nearest_k));
    }
    Features::require_pair(reference.features, generated.features, 1)?;
    let closed = boundary == Boundary::Closed;
    let (n_reference, n_generated) = (reference.features.n(), generated.features.n());
    let balls_around: Vec<AtomicU32> = (0..n_generated).map(|_| AtomicU32::new(0)).collect();
    let recalled: Vec<AtomicBool> = (0..n_reference).map(|_| AtomicBool::new(false)).collect();
    let covered: Vec<AtomicBool> = (0..n_reference).map(|_| AtomicBool::new(false)).collect();
    Distances::between(reference.features, generated.features).for_each_tile(|tile| {
        for row in tile.rows.clone() {
            let own = reference.squared_radii[row];
            for (column, lower) in tile.lower(row) {
                let other = generated.squared_radii[column];
                if lower > own.max(other) {
                    continue;
                }
                if lower <= own && tile.is_within(row, column, own, closed) {
                    balls_around[column].fetch_add(1, Relaxed);
                    covered[row].store(true, Relaxed);
                }
                if lower <= other
                    && !recalled[row].load(Relaxed)
                    && tile.is_within(row, column, other, closed)
                {
                    recalled[row].store(true, Relaxed);
                }
            }
        }
    });
    let flags = |flags: Vec<AtomicBool>| flags.into_iter().map(AtomicBool::into_inner).collect::<Vec<_>>();
    let share = |flags: &[bool]| flags.iter().filter(|&&flag| flag).count() as f64 / flags.len() as f64;
    let images = PrdcImages {
        balls_around: balls_around.into_iter().map(AtomicU32::into_inner).collect(),
        recalled: flags(recalled),
        covered: flags(covered),
    };
    let inside = images.balls_around.iter().filter(|&&balls| balls > 0).count();
    let all: u64 = images.balls_around.iter().map(|&balls| u64::from(balls)).sum();
    let prdc = Prdc {
        precision: inside as f64 / n_generated as f64,
        recall: share(&images.recalled),
        density: all as f64 / (reference.nearest_k as f64 * n_generated as f64),
        coverage: share(&images.covered),
        n_reference,
        n_generated,
        nearest_k: reference.nearest_k,
        boundary,
    };
    Ok((prdc, images))
}

/// `size` rows drawn without replacement, in their order.
fn subsample(set: Features, size: usize, seed: u64, name: &[u8]) -> Vec<f32> {
    let mut marks = vec![false; set.n()];
    mark_random_subset(&mut counter_rng(seed, "set_metric/prdc-subsample", name), &mut marks, size);
    let mut rows = Vec::with_capacity(size * set.dim());
    set.rows().zip(marks).filter(|(_, marked)| *marked).for_each(|(row, _)| rows.extend_from_slice(row));
    rows
}

#[cfg(test)]
mod tests;
