//! CT: the data-copying test of Meehan et al., with the principal components and cells it is computed in.

use rayon::prelude::*;
use serde::Serialize;

use super::distances::squared_distance;
use super::principal::principal_components;
use super::{Features, LikelihoodSets, nearest};
use crate::stats::{Alternative, counter_rng, mann_whitney, uniform_below};
use crate::{Error, ErrorKind, Result};

/// How CT is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataCopyingOptions {
    /// Longer features are projected onto this many principal components of the training set.
    pub components: usize,
    /// Cells that k-means cuts the training set into.
    pub cells: usize,
    /// Starts of k-means; the tightest cells of all are taken.
    pub restarts: u64,
    /// A cell counts if more generated images than this lie in it.
    pub least: usize,
    /// Seed of k-means.
    pub seed: u64,
}

impl Default for DataCopyingOptions {
    /// dgm-eval's and fld's: 64 components, 3 cells, 10 starts, more than 20 images; seed 0 where they have none.
    fn default() -> Self {
        DataCopyingOptions { components: 64, cells: 3, restarts: 10, least: 20, seed: 0 }
    }
}

/// CT of a generated set. **0 is best**: below, generated images lie closer to the training images than test images do
/// (copying); above, farther (underfitting). A z-score: it grows with n.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataCopying {
    /// Mean of the counting cells' z, weighted by their test images; `None` if no cell counts.
    pub value: Option<f64>,
    /// The cells.
    pub cells: Vec<CopyingCell>,
}

/// One cell of CT.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CopyingCell {
    /// Training images in it.
    pub n_train: usize,
    /// Test images in it.
    pub n_test: usize,
    /// Generated images in it.
    pub n_generated: usize,
    /// (U − (nm/2 − ½))/√(nm(n + m + 1)/12), U counting how often a generated image is farther from its nearest
    /// training image of the cell than a test image is from its own; `None` without generated images.
    pub z: Option<f64>,
    /// Whether it enters the value.
    pub counts: bool,
}

/// CT of `sets.generated`. The bits do not depend on threads; k-means starts at rows, so order matters.
///
/// # Errors
/// `DimensionMismatch` if D differs; `InvalidOption` for no cells, components or restarts; `TooFewImages` for a set
/// of fewer images than cells, or a cell without test images.
///
/// # Source
/// Meehan, Chaudhuri, Dasgupta 2020, arXiv:2004.05675; layer6ai-labs/dgm-eval `dgm_eval/metrics/ct.py`@74c79f7.
pub fn data_copying(sets: &LikelihoodSets, options: &DataCopyingOptions) -> Result<DataCopying> {
    let LikelihoodSets { train, test, generated } = *sets;
    let least = options.cells.max(2);
    Features::require_pair(train, test, least)?;
    Features::require_pair(train, generated, 1)?;
    if options.cells == 0 || options.components == 0 || options.restarts == 0 {
        return Err(Error::new(ErrorKind::InvalidOption, "data copying", "nothing to compute")
            .expected("at least one cell, component and restart", format!("{options:?}")));
    }
    if train.dim() <= options.components {
        return within_cells(train, test, generated, options);
    }
    let axes = principal_components(train, options.components, options.seed)?;
    let [train, test, generated] = [train, test, generated].map(|set| axes.project(set));
    let dim = axes.n();
    within_cells(
        Features::new("train", &train, dim)?,
        Features::new("test", &test, dim)?,
        Features::new("generated", &generated, dim)?,
        options,
    )
}

fn within_cells(
    train: Features,
    test: Features,
    generated: Features,
    options: &DataCopyingOptions,
) -> Result<DataCopying> {
    let centres = k_means(train, options);
    let [train_cells, test_cells, generated_cells] =
        [train, test, generated].map(|set| assigned(set, &centres));
    let mut cells = Vec::new();
    for cell in 0..centres.len() {
        let (train, test, generated) = (
            rows_of(train, &train_cells, cell),
            rows_of(test, &test_cells, cell),
            rows_of(generated, &generated_cells, cell),
        );
        let dim = centres[0].len();
        let (n_train, n_test, n_generated) = (train.len() / dim, test.len() / dim, generated.len() / dim);
        if n_train == 0 || n_test == 0 {
            return Err(Error::new(
                ErrorKind::TooFewImages,
                format!("cell {cell}"),
                "no images to compare with",
            )
            .expected("training and test images", format!("{n_train} and {n_test}"))
            .remedy("Give more test images or fewer cells."));
        }
        let train = Features::new("train", &train, dim)?;
        let distances = |rows: &[f32]| -> Result<Vec<f64>> {
            let found = nearest(train, Features::new("cell", rows, dim)?)?;
            Ok(found.iter().map(|neighbour| neighbour.squared_distance).collect())
        };
        let test = mann_whitney(&distances(&generated)?, &distances(&test)?, Alternative::Less)?;
        let z = test.map(|test| {
            let (n, m) = (n_test as f64, n_generated as f64);
            (test.u - (n * m / 2.0 - 0.5)) / (n * m * (n + m + 1.0) / 12.0).sqrt()
        });
        cells.push(CopyingCell { n_train, n_test, n_generated, z, counts: n_generated > options.least });
    }
    let (mut sum, mut weight) = (0.0, 0.0);
    for cell in cells.iter().filter(|cell| cell.counts) {
        sum += cell.n_test as f64 * cell.z.unwrap_or(0.0);
        weight += cell.n_test as f64;
    }
    Ok(DataCopying { value: (weight > 0.0).then(|| sum / weight), cells })
}

fn rows_of(set: Features, cells: &[usize], cell: usize) -> Vec<f32> {
    set.rows().zip(cells).filter(|(_, c)| **c == cell).flat_map(|(row, _)| row.iter().copied()).collect()
}

/// Squared distance to, and number of, the nearest centre; the first where several are equally near.
fn nearest_centre(row: &[f32], centres: &[Vec<f64>]) -> (f64, usize) {
    let mut best = (f64::INFINITY, 0);
    for (cell, centre) in centres.iter().enumerate() {
        let squared: f64 = row.iter().zip(centre).map(|(&x, c)| (f64::from(x) - c).powi(2)).sum();
        if squared < best.0 {
            best = (squared, cell);
        }
    }
    best
}

fn assigned(set: Features, centres: &[Vec<f64>]) -> Vec<usize> {
    set.values().par_chunks_exact(set.dim()).map(|row| nearest_centre(row, centres).1).collect()
}

/// Centres of k-means: k-means++ starts, Lloyd's steps until no image changes its cell or 300 are done.
fn k_means(set: Features, options: &DataCopyingOptions) -> Vec<Vec<f64>> {
    let starts = (0..options.restarts).map(|restart| {
        let mut centres = start(set, options.cells, options.seed, restart);
        let mut cells = Vec::new();
        for _ in 0..300 {
            let next = assigned(set, &centres);
            if next == cells {
                break;
            }
            cells = next;
            let mut sums = vec![(vec![0.0; set.dim()], 0.0); centres.len()];
            for (row, &cell) in set.rows().zip(&cells) {
                sums[cell].0.iter_mut().zip(row).for_each(|(sum, &v)| *sum += f64::from(v));
                sums[cell].1 += 1.0;
            }
            for (centre, (sum, n)) in centres.iter_mut().zip(sums).filter(|(_, (_, n))| *n > 0.0) {
                *centre = sum.into_iter().map(|v| v / n).collect();
            }
        }
        let each: Vec<f64> =
            set.values().par_chunks_exact(set.dim()).map(|row| nearest_centre(row, &centres).0).collect();
        (each.iter().sum::<f64>(), centres)
    });
    starts.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, centres)| centres).unwrap_or_default()
}

/// First centres: one at random, each further one with probability in proportion to its squared distance from those.
///
/// # Source
/// Arthur and Vassilvitskii 2007, "k-means++: the advantages of careful seeding".
fn start(set: Features, cells: usize, seed: u64, restart: u64) -> Vec<Vec<f64>> {
    let mut rng = counter_rng(seed, "set_metric/k-means", &restart.to_le_bytes());
    let wide = |row: &[f32]| row.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
    let mut chosen = vec![uniform_below(&mut rng, u32::try_from(set.n()).unwrap_or(u32::MAX)) as usize];
    let mut squared = vec![f64::INFINITY; set.n()];
    while chosen.len() < cells {
        let last = set.row(chosen[chosen.len() - 1]);
        squared
            .iter_mut()
            .zip(set.rows())
            .for_each(|(least, row)| *least = least.min(squared_distance(row, last)));
        let place =
            f64::from(uniform_below(&mut rng, u32::MAX)) / f64::from(u32::MAX) * squared.iter().sum::<f64>();
        let mut passed = 0.0;
        let next = squared.iter().position(|weight| {
            passed += weight;
            passed > place
        });
        // All images in the places already chosen: any will do.
        chosen.push(next.unwrap_or(0));
    }
    chosen.into_iter().map(|row| wide(set.row(row))).collect()
}

#[cfg(test)]
mod tests;
