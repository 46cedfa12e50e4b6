//! Likelihood metrics: FLS and its overfitting gap (POG), FLD, and the likelihoods of single images.

use serde::Serialize;

use super::Features;
use super::mixture::{Fit, Points, SquaredDistances};
use crate::stats::{counter_rng, uniform_below};
use crate::{Error, ErrorKind, Result};

/// The sets a likelihood metric needs.
#[derive(Clone, Copy, Debug)]
pub struct LikelihoodSets<'a> {
    /// Training images of the generator.
    pub train: Features<'a>,
    /// Images of the same distribution that the generator never saw.
    pub test: Features<'a>,
    /// Generated images.
    pub generated: Features<'a>,
}

/// How images are drawn where a set is larger than needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LikelihoodOptions {
    /// Generated images at most, and Gaussians of the baseline; distances take 4·`most`·N(train) bytes.
    pub most: usize,
    /// Seed of every draw.
    pub seed: u64,
}

impl Default for LikelihoodOptions {
    /// 10,000 images, as both tools; seed 0.
    fn default() -> Self {
        LikelihoodOptions { most: 10_000, seed: 0 }
    }
}

/// Feature likelihood score and percentage of overfit Gaussians.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fls {
    /// FLS = 100·exp(−2·(NLL − NLL of the baseline)/D), > 0; **higher is better**, 100 is as good as training images.
    pub value: f64,
    /// Percentage of Gaussians more likely to have made the training images than the test images, less 50, in
    /// [−50, 50]; **0 is best**, high = memorised.
    pub overfit_gaussians: f64,
    /// Images of each of the four sets.
    pub n: usize,
}

/// Feature likelihood divergence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fld {
    /// FLD = 100·(NLL − NLL of the baseline)/D; **lower is better**, 0 is as good as training images.
    pub value: f64,
    /// FLD of the training images less that of the test images, by the same mixture: **0 is best**, below 0 =
    /// memorised.
    pub generalisation_gap: f64,
    /// Test negative log-likelihood of the generated images' mixture, over D.
    pub nll: f64,
    /// The same of the baseline: half the training images fitted to the other half.
    pub baseline_nll: f64,
    /// Training images.
    pub n_train: usize,
    /// Test images.
    pub n_test: usize,
    /// Generated images that entered.
    pub n_generated: usize,
}

const FLS_FIT: Fit = Fit {
    epochs: 100,
    rate: 0.5,
    slower_from: 50,
    batch: usize::MAX,
    clamp: (-100.0, 20.0),
    divisor: 1.0,
    stop_within: None,
};

fn fld_fit(dim: usize) -> Fit {
    Fit {
        epochs: 50,
        rate: 0.5,
        slower_from: usize::MAX,
        batch: 10_000,
        clamp: (-40.0, 40.0),
        divisor: dim as f64,
        stop_within: Some(5e-4),
    }
}

/// FLS and POG as dgm-eval defines them.
///
/// n = min(`most`, N(train)/2, N(test), N(generated)) images of every set: two disjoint n of the training images (to
/// fit, and as baseline), all scaled by mean and spread (ddof 1) of the four together. A Gaussian at each
/// generated image; its ln σ² by 100 steps of Adam. The bits do not depend on threads; rows are drawn, so order matters.
///
/// # Errors
/// `DimensionMismatch` if D differs; `TooFewImages` for fewer than four training images or one of the others.
///
/// # Source
/// Jiralerspong et al. 2023, arXiv:2302.04440; layer6ai-labs/dgm-eval `dgm_eval/metrics/fls.py`@74c79f7, which computes in f32.
pub fn fls(sets: &LikelihoodSets, options: &LikelihoodOptions) -> Result<Fls> {
    let LikelihoodSets { train, test, generated } = *sets;
    require(sets)?;
    let n = options.most.max(1).min(train.n() / 2).min(test.n()).min(generated.n());
    let mut order = drawn(train.n(), 2 * n, options.seed, b"train");
    let baseline = order.split_off(n);
    Ok(fls_of([
        gathered(train, &order),
        gathered(train, &baseline),
        gathered(test, &drawn(test.n(), n, options.seed, b"test")),
        gathered(generated, &drawn(generated.n(), n, options.seed, b"generated")),
    ]))
}

/// [`fls`] of training, baseline, test and generated images, of which there are equally many.
fn fls_of(sets: [Points; 4]) -> Fls {
    let n = sets[0].n();
    let dim = sets[0].dim;
    let mut all = Points { values: sets.into_iter().flat_map(|set| set.values).collect(), dim };
    let (means, spread) = mean_and_spread(&all);
    // A coordinate that is one constant everywhere separates nothing: it stays 0.
    standardise(&mut all, &means, &spread);
    let [train, baseline, test, generated] = [0, 1, 2, 3].map(|i| all.rows(i * n..(i + 1) * n));

    let fitted =
        |centres: &Points| FLS_FIT.log_widths(&SquaredDistances::new(&train, centres), vec![0.0; n], None);
    let nll = |centres: &Points, widths: &[f64]| {
        -mean(&SquaredDistances::new(&test, centres).log_likelihoods(widths))
    };
    let widths = fitted(&generated);
    let difference = nll(&generated, &widths) - nll(&baseline, &fitted(&baseline));
    let (of_train, _) = SquaredDistances::new(&train, &generated).of_centres(&widths);
    let (of_test, _) = SquaredDistances::new(&test, &generated).of_centres(&widths);
    let overfit = of_train.iter().zip(&of_test).filter(|(train, test)| train > test).count();
    Fls {
        value: 100.0 * (-2.0 * difference / dim as f64).exp(),
        overfit_gaussians: 100.0 * overfit as f64 / n as f64 - 50.0,
        n,
    }
}

/// FLD as fld defines it: all training and test images, `most` generated ones, scaled by mean and spread (ddof 1)
/// of the test set; ln σ² starts at ln((nearest squared distance + 10⁻³)/D); a further Gaussian at the training mean
/// during the fit only; at most 50 epochs of Adam in batches of 10,000, ended early when the loss stands still.
///
/// The bits do not depend on threads; rows are drawn and batched, so order matters.
///
/// # Errors
/// `DimensionMismatch` if D differs; `TooFewImages` for fewer than four training, two test or one generated image;
/// `InvalidOption` where a coordinate is constant over the test set and elsewhere is not.
///
/// # Source
/// Jiralerspong et al. 2023, arXiv:2302.04440; marcojira/fld `fld/metrics/FLD.py`, `fld/MoG.py`@ffbbf20, which compute in f32.
pub fn fld(sets: &LikelihoodSets, options: &LikelihoodOptions) -> Result<Fld> {
    let (train, test, generated) = scaled_by_test(sets, options)?;
    Ok(fld_of(&train, &test, &generated))
}

/// [`fld`] of scaled images; the first half of the training images is the baseline.
fn fld_of(train: &Points, test: &Points, generated: &Points) -> Fld {
    let mixture = Mixture::fitted(generated, train);
    let (nll, train_nll) = (mixture.nll(test), mixture.nll(train));
    let split = generated.n().min(train.n() / 2);
    let baseline_nll = Mixture::fitted(&train.rows(0..split), &train.rows(split..train.n())).nll(test);
    Fld {
        value: 100.0 * (nll - baseline_nll),
        generalisation_gap: 100.0 * (train_nll - nll),
        nll,
        baseline_nll,
        n_train: train.n(),
        n_test: test.n(),
        n_generated: generated.n(),
    }
}

/// Memorisation likelihood of each generated image: the largest log-likelihood, over D, of any training image under the
/// Gaussian at that generated image, its width fitted to the training images. **Higher = more of a copy.**
///
/// All generated images are scored, in their order; memory 4·N(train)·N(generated) bytes.
///
/// # Errors
/// As [`fld`].
///
/// # Source
/// marcojira/fld `fld/sample_evaluation.py::sample_memorization_scores`@ffbbf20.
pub fn memorisation_likelihood(sets: &LikelihoodSets, seed: u64) -> Result<Vec<f64>> {
    let (train, _, generated) = scaled_by_test(sets, &LikelihoodOptions { most: usize::MAX, seed })?;
    let dim = train.dim as f64;
    let mixture = Mixture::fitted(&generated, &train);
    let (_, largest) = SquaredDistances::new(&train, &generated).of_centres(&mixture.log_widths);
    Ok(largest.into_iter().map(|value| value / dim - HALF_LN_TWO_PI).collect())
}

/// Quality likelihood of each generated image: its log-likelihood, over D, under Gaussians at the test images, their
/// widths fitted to the training images. **Higher is better.**
///
/// # Errors
/// As [`fld`].
///
/// # Source
/// marcojira/fld `fld/sample_evaluation.py::sample_quality_scores`@ffbbf20.
pub fn quality_likelihood(sets: &LikelihoodSets, seed: u64) -> Result<Vec<f64>> {
    let (train, test, generated) = scaled_by_test(sets, &LikelihoodOptions { most: usize::MAX, seed })?;
    Ok(Mixture::fitted(&test, &train).log_likelihoods(&generated))
}

/// ½·ln 2π.
const HALF_LN_TWO_PI: f64 = 0.918_938_533_204_672_7;

/// fld's mixture: equal weights, one Gaussian at each centre.
struct Mixture<'a> {
    centres: &'a Points,
    log_widths: Vec<f64>,
}

impl<'a> Mixture<'a> {
    fn fitted(centres: &'a Points, points: &Points) -> Self {
        let dim = points.dim as f64;
        let distances = SquaredDistances::new(points, centres);
        let start = distances.nearest().into_iter().map(|least| ((least + 1e-3) / dim).ln()).collect();
        // The Gaussian at the mean sees the points a tenth nearer than they are.
        let extra = SquaredDistances::new(points, &points.mean()).scaled(0.9 * 0.9);
        let log_widths = fld_fit(points.dim).log_widths(&distances, start, Some(&extra));
        Mixture { centres, log_widths }
    }

    /// Log-likelihoods over D.
    fn log_likelihoods(&self, points: &Points) -> Vec<f64> {
        let all = SquaredDistances::new(points, self.centres).log_likelihoods(&self.log_widths);
        all.into_iter().map(|value| value / points.dim as f64 - HALF_LN_TWO_PI).collect()
    }

    fn nll(&self, points: &Points) -> f64 {
        -mean(&self.log_likelihoods(points))
    }
}

fn require(sets: &LikelihoodSets) -> Result<()> {
    for (name, set, least) in
        [("train", sets.train, 4), ("test", sets.test, 2), ("generated", sets.generated, 1)]
    {
        if set.dim() != sets.train.dim() {
            return Err(Error::new(ErrorKind::DimensionMismatch, name, "features of another length")
                .expected(format!("D = {} as in the training set", sets.train.dim()), set.dim())
                .remedy("Read all sets through the same backbone and layer."));
        }
        if set.n() < least {
            return Err(Error::new(ErrorKind::TooFewImages, name, "too few images for a likelihood")
                .expected(format!("at least {least}"), set.n()));
        }
    }
    Ok(())
}

/// Training images in random order, test images, generated images (at most `most`), scaled by the test set.
fn scaled_by_test(sets: &LikelihoodSets, options: &LikelihoodOptions) -> Result<(Points, Points, Points)> {
    require(sets)?;
    let LikelihoodSets { train, test, generated } = *sets;
    let dim = train.dim();
    let all = |set: Features| (0..set.n()).collect::<Vec<_>>();
    let mut train = gathered(train, &drawn(train.n(), train.n(), options.seed, b"train"));
    let mut test = gathered(test, &all(test));
    let chosen = match generated.n() <= options.most {
        true => all(generated),
        false => drawn(generated.n(), options.most, options.seed, b"generated"),
    };
    let mut generated = gathered(generated, &chosen);
    let (mean, spread) = mean_and_spread(&test);
    for (name, set) in [("train", &mut train), ("generated", &mut generated), ("test", &mut test)] {
        standardise(set, &mean, &spread);
        if let Some(at) = set.values.iter().position(|v| !v.is_finite()) {
            let problem = format!("coordinate {} varies here and is constant over the test set", at % dim);
            return Err(Error::new(ErrorKind::InvalidOption, name, problem)
                .remedy("FLD is undefined on such features; leave the coordinate out of all sets."));
        }
    }
    Ok((train, test, generated))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Mean of each coordinate, and its spread over n − 1.
fn mean_and_spread(points: &Points) -> (Vec<f64>, Vec<f64>) {
    let mean = points.mean().values;
    let mut squares = vec![0.0; points.dim];
    for row in points.values.chunks_exact(points.dim) {
        squares.iter_mut().zip(row).zip(&mean).for_each(|((sum, v), m)| *sum += (v - m) * (v - m));
    }
    let over = points.n() as f64 - 1.0;
    // A constant coordinate must have no spread at all, whatever its mean was rounded to.
    let constant =
        |c: usize| points.values.iter().skip(c).step_by(points.dim).all(|v| *v == points.values[c]);
    let spread =
        squares.iter().enumerate().map(|(c, s)| if constant(c) { 0.0 } else { (s / over).sqrt() }).collect();
    let first = &points.values[..points.dim];
    let mean =
        mean.iter().zip(first).enumerate().map(|(c, (&m, &v))| if constant(c) { v } else { m }).collect();
    (mean, spread)
}

/// (x − mean)/spread; 0 where both are.
fn standardise(points: &mut Points, mean: &[f64], spread: &[f64]) {
    for row in points.values.chunks_exact_mut(mean.len()) {
        for ((v, m), s) in row.iter_mut().zip(mean).zip(spread) {
            *v = if *v == *m { 0.0 } else { (*v - m) / s };
        }
    }
}

fn gathered(set: Features, rows: &[usize]) -> Points {
    let values = rows.iter().flat_map(|&row| set.row(row)).map(|&v| f64::from(v)).collect();
    Points { values, dim: set.dim() }
}

/// `size` of `n` rows without replacement, in random order.
fn drawn(n: usize, size: usize, seed: u64, set: &[u8]) -> Vec<usize> {
    let mut rng = counter_rng(seed, "set_metric/likelihood-draw", set);
    let mut rows: Vec<usize> = (0..n).collect();
    for at in 0..size.min(n.saturating_sub(1)) {
        let below = u32::try_from(n - at).unwrap_or(u32::MAX);
        rows.swap(at, at + uniform_below(&mut rng, below) as usize);
    }
    rows.truncate(size);
    rows
}

#[cfg(test)]
mod tests;
