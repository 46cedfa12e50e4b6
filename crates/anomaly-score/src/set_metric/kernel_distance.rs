//! Kernel distances: maximum mean discrepancy over all images or over subsets (KID), and CMMD.

use rayon::prelude::*;
use serde::Serialize;

use super::Features;
use super::kernel_sums::{Kernel, KernelSums, Rows, Sum};
use crate::stats::{Summary, counter_rng, mark_random_subset};
use crate::{Error, ErrorKind, Result};

/// Squared maximum mean discrepancy (MMD²) of two whole sets. **Lower is better.**
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct KernelDistance {
    /// Unbiased estimate: 0 on average for equal distributions, and so below 0 about half the time then.
    pub value: f64,
    /// Standard error by leaving out one image at a time; `None` below three images in a set. Where the distributions
    /// are equal it is too large (by about √2), never too small.
    pub std_error: Option<f64>,
    /// Reference images that entered.
    pub n_reference: usize,
    /// Generated images that entered.
    pub n_generated: usize,
    /// The kernel.
    pub kernel: Kernel,
}

/// MMD² of subsets of two sets: KID as its tools print it. **Lower is better.**
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SubsetKernelDistance {
    /// Mean of the unbiased estimates.
    pub value: f64,
    /// Spread of the estimates, over their number (ddof 0). It is that of one subset's value, and says nothing of
    /// how far `value` is off: the subsets overlap, and more of them would not make it smaller.
    pub std_dev: f64,
    /// The estimate of each subset, in the order given.
    pub estimates: Vec<f64>,
    /// The kernel.
    pub kernel: Kernel,
}

/// Rows of one subset of each set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubsetRows {
    /// Rows of the reference set.
    pub reference: Vec<usize>,
    /// Rows of the generated set.
    pub generated: Vec<usize>,
}

/// CLIP maximum mean discrepancy. **Lower is better.**
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cmmd {
    /// 1000·MMD², biased: ≥ 0, and above 0 by about 1000·(1 − mean kernel)·(1/N + 1/M) for equal distributions.
    pub value: f64,
    /// Reference images that entered.
    pub n_reference: usize,
    /// Generated images that entered.
    pub n_generated: usize,
}

/// Unbiased MMD² of two whole sets, each pair of images used once, with its standard error.
///
/// `reference`, `generated`: N×D, f32; N may differ, D must match. Products and sums are f64 or exact; the bits do not
/// depend on threads or on the order of either set. Symmetric in the sets but for the last bits of a Gaussian kernel.
///
/// # Errors
/// `DimensionMismatch` if D differs; `TooFewImages` for fewer than two images in a set; `InvalidOption` for σ ≤ 0.
///
/// # Source
/// Gretton et al. 2012, JMLR 13, equation 3, for sets of any two sizes; the cubic kernel from Bińkowski et al. 2018,
/// arXiv:1801.01401. Standard error: delete-one jackknife of a two-sample U-statistic (Arvesen 1969,
/// doi:10.1214/aoms/1177697287).
pub fn kernel_distance(reference: Features, generated: Features, kernel: Kernel) -> Result<KernelDistance> {
    Features::require_pair(reference, generated, 2)?;
    require_sigma(kernel)?;
    let all = |features| Rows { features, chosen: None, unit_length: false };
    let sums = KernelSums::new(all(reference), all(generated), kernel);
    Ok(KernelDistance {
        value: Parts::of(&sums).unbiased(),
        std_error: jackknife(&sums)?,
        n_reference: reference.n(),
        n_generated: generated.n(),
        kernel,
    })
}

/// Unbiased MMD² of each of `subsets`, their mean and spread.
///
/// The tools differ in how they draw: torch-fidelity takes 100 subsets of 1000 from numpy's `RandomState(2020)`, for
/// each first from set 1, then from set 2, and refuses smaller sets; fld takes min(1000, N/2, M/2) from
/// `RandomState(42)`; dgm-eval min(1000, N, M), unseeded; [`kernel_subsets`] draws ours. torch-fidelity computes in f32,
/// 10⁻⁷ from this.
///
/// The bits do not depend on threads.
///
/// # Errors
/// `DimensionMismatch` if D differs; `InvalidOption` for σ ≤ 0, for no subsets, or for a subset of fewer than two rows
/// or with a row its set does not have.
///
/// # Source
/// Bińkowski et al. 2018, arXiv:1801.01401; toshas/torch-fidelity `torch_fidelity/metric_kid.py`@5e211a9;
/// layer6ai-labs/dgm-eval `dgm_eval/metrics/mmd.py`@74c79f7; marcojira/fld `fld/metrics/KID.py`@ffbbf20.
pub fn kernel_distance_of_subsets(
    reference: Features,
    generated: Features,
    kernel: Kernel,
    subsets: &[SubsetRows],
) -> Result<SubsetKernelDistance> {
    Features::require_pair(reference, generated, 2)?;
    require_sigma(kernel)?;
    for (i, subset) in subsets.iter().enumerate() {
        for (rows, n) in [(&subset.reference, reference.n()), (&subset.generated, generated.n())] {
            if rows.len() < 2 || rows.iter().any(|&row| row >= n) {
                return Err(Error::new(ErrorKind::InvalidOption, format!("subset {i}"), "cannot be drawn")
                    .expected(format!("at least two rows below {n}"), format!("{} rows", rows.len())));
            }
        }
    }
    let estimate = |subset: &SubsetRows| {
        let reference = Rows { features: reference, chosen: Some(&subset.reference), unit_length: false };
        let generated = Rows { features: generated, chosen: Some(&subset.generated), unit_length: false };
        Parts::of(&KernelSums::new(reference, generated, kernel)).unbiased()
    };
    let estimates: Vec<f64> = subsets.par_iter().map(estimate).collect();
    let summary = Summary::of(&estimates)?;
    let Some(value) = summary.mean else {
        return Err(
            Error::new(ErrorKind::InvalidOption, "subsets", "none to average over").expected("at least 1", 0)
        );
    };
    let n = estimates.len() as f64;
    let std_dev = summary.std_dev.map_or(0.0, |s| s * ((n - 1.0) / n).sqrt());
    Ok(SubsetKernelDistance { value, std_dev, estimates, kernel })
}

/// `num_subsets` pairs of subsets of `subset_size` rows, or of as many as the smaller set has, drawn without replacement
/// and independently of one another.
pub fn kernel_subsets(
    n_reference: usize,
    n_generated: usize,
    num_subsets: usize,
    subset_size: usize,
    seed: u64,
) -> Vec<SubsetRows> {
    let size = subset_size.min(n_reference).min(n_generated);
    let draw = |n: usize, set: u8, index: usize| -> Vec<usize> {
        let mut key = vec![set];
        key.extend_from_slice(&(index as u64).to_le_bytes());
        let mut marks = vec![false; n];
        mark_random_subset(&mut counter_rng(seed, "set_metric/kernel-subset", &key), &mut marks, size);
        (0..n).filter(|&row| marks[row]).collect()
    };
    (0..num_subsets)
        .map(|index| SubsetRows {
            reference: draw(n_reference, 0, index),
            generated: draw(n_generated, 1, index),
        })
        .collect()
}

/// CMMD: 1000 times the biased MMD², diagonals included, of features scaled to unit length, Gaussian kernel, σ = 10.
///
/// Comparable with published values only on CLIP ViT-L/14 at 336 pixels, images centre-cropped, then resized by PIL's
/// bicubic. The bits do not depend on threads or on the order of either set.
///
/// # Errors
/// `DimensionMismatch` if D differs; `TooFewImages` for an empty set; `InvalidOption` for a feature of length 0.
///
/// # Source
/// Jayasumana et al. 2024, arXiv:2401.09603, equation 4; google-research `cmmd/distance.py`.
pub fn cmmd(reference: Features, generated: Features) -> Result<Cmmd> {
    Features::require_pair(reference, generated, 1)?;
    for (name, set) in [("reference", reference), ("generated", generated)] {
        if let Some(row) = set.rows().position(|row| row.iter().all(|&v| v == 0.0)) {
            return Err(Error::new(
                ErrorKind::InvalidOption,
                name,
                "a feature cannot be scaled to unit length",
            )
            .expected("a length above 0", format!("0 in row {row}")));
        }
    }
    let all = |features| Rows { features, chosen: None, unit_length: true };
    let sums = KernelSums::new(all(reference), all(generated), Kernel::Rbf { sigma: 10.0 });
    Ok(Cmmd {
        value: 1000.0 * Parts::of(&sums).biased(),
        n_reference: reference.n(),
        n_generated: generated.n(),
    })
}

fn require_sigma(kernel: Kernel) -> Result<()> {
    match kernel {
        // Written so that NaN is refused too.
        Kernel::Rbf { sigma } if !(sigma > 0.0 && sigma.is_finite()) => {
            Err(Error::new(ErrorKind::InvalidOption, "sigma", "no width of a kernel")
                .expected("a finite number above 0", sigma))
        }
        _ => Ok(()),
    }
}

/// The totals an estimate is made of.
struct Parts {
    n: f64,
    m: f64,
    reference: f64,
    generated: f64,
    between: f64,
    reference_diagonal: f64,
    generated_diagonal: f64,
}

impl Parts {
    fn of(sums: &KernelSums) -> Self {
        let total = |sums_of: &[Sum]| sums.number(sums_of.iter().sum());
        Parts {
            n: sums.reference.len() as f64,
            m: sums.generated.len() as f64,
            reference: total(&sums.reference),
            generated: total(&sums.generated),
            between: total(&sums.reference_to_generated),
            reference_diagonal: sums.number(sums.reference_diagonal),
            generated_diagonal: sums.number(sums.generated_diagonal),
        }
    }

    /// With each set in the other's place.
    fn swapped(&self) -> Self {
        Parts {
            n: self.m,
            m: self.n,
            reference: self.generated,
            generated: self.reference,
            between: self.between,
            reference_diagonal: self.generated_diagonal,
            generated_diagonal: self.reference_diagonal,
        }
    }

    fn unbiased(&self) -> f64 {
        self.reference / (self.n * (self.n - 1.0)) + self.generated / (self.m * (self.m - 1.0))
            - 2.0 * self.between / (self.n * self.m)
    }

    fn biased(&self) -> f64 {
        (self.reference + self.reference_diagonal) / (self.n * self.n)
            + (self.generated + self.generated_diagonal) / (self.m * self.m)
            - 2.0 * self.between / (self.n * self.m)
    }
}

/// Standard error of the unbiased estimate from its values without each image in turn.
fn jackknife(sums: &KernelSums) -> Result<Option<f64>> {
    let all = Parts::of(sums);
    if all.n < 3.0 || all.m < 3.0 {
        return Ok(None);
    }
    // `own`, `other`: of each image of the set in the reference's place, its sums with that set and with the other.
    let without = |whole: &Parts, own: &[Sum], other: &[Sum]| -> Vec<f64> {
        let pairs = own.iter().zip(other);
        pairs
            .map(|(&own, &other)| {
                Parts {
                    n: whole.n - 1.0,
                    reference: whole.reference - 2.0 * sums.number(own),
                    between: whole.between - sums.number(other),
                    ..*whole
                }
                .unbiased()
            })
            .collect()
    };
    let variance = |values: Vec<f64>| -> Result<f64> {
        let n = values.len() as f64;
        let spread = Summary::of(&values)?.std_dev.unwrap_or(0.0);
        Ok((n - 1.0) * (n - 1.0) / n * spread * spread)
    };
    let total = variance(without(&all, &sums.reference, &sums.reference_to_generated))?
        + variance(without(&all.swapped(), &sums.generated, &sums.generated_to_reference))?;
    Ok(Some(total.sqrt()))
}

#[cfg(test)]
mod tests;
