//! Sums of a kernel over all pairs of two sets, added up without rounding.
//!
//! Each kernel value is taken apart into integers, whose sum does not depend on order: the bits of every metric made of
//! these sums are the same for any thread count, any tiling and any order of the images.
//!
//! Memory beside the features: 32 bytes an image, and for each thread two tiles of [`TILE`]×D and one of
//! [`TILE`]×[`TILE`] f64: 8.9 MB at D = 2048, whatever N.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use serde::Serialize;

use super::Features;
use super::distances::{TILE, tile_jobs};
use super::products::{Panels, products};

/// A positive definite similarity of two features.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kernel {
    /// (x·y/D + 1)³: KID's.
    Cubic,
    /// exp(−|x − y|²/(2σ²)).
    Rbf {
        /// σ, in feature units, > 0.
        sigma: f64,
    },
}

/// Some images of a set, perhaps scaled to unit length.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) features: Features<'a>,
    /// Which images, in order; all of them without.
    pub(crate) chosen: Option<&'a [usize]>,
    pub(crate) unit_length: bool,
}

impl Rows<'_> {
    pub(crate) fn n(&self) -> usize {
        self.chosen.map_or(self.features.n(), <[usize]>::len)
    }

    fn row(&self, i: usize) -> &[f32] {
        self.features.row(self.chosen.map_or(i, |chosen| chosen[i]))
    }

    /// Image `i` in f64, less `centre`.
    fn write(&self, i: usize, centre: &[f64], to: &mut [f64]) {
        let row = self.row(i);
        let factor = if self.unit_length {
            row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt()
        } else {
            1.0
        };
        for ((to, &x), &c) in to.iter_mut().zip(row).zip(centre) {
            *to = f64::from(x) / factor - c;
        }
    }
}

/// The sums of one kernel over two sets, for each image of either.
pub(crate) struct KernelSums {
    /// For each reference image, over the *other* reference images.
    pub(crate) reference: Vec<Sum>,
    /// For each generated image, over the other generated images.
    pub(crate) generated: Vec<Sum>,
    /// For each reference image, over all generated images.
    pub(crate) reference_to_generated: Vec<Sum>,
    /// For each generated image, over all reference images.
    pub(crate) generated_to_reference: Vec<Sum>,
    /// Kernel of each reference image with itself, summed.
    pub(crate) reference_diagonal: Sum,
    /// Kernel of each generated image with itself, summed.
    pub(crate) generated_diagonal: Sum,
    /// What one unit of a sum is worth.
    unit: f64,
}

/// An exact sum, in units of its [`KernelSums`].
pub(crate) type Sum = i128;

/// Binary places of a value's second integer.
const FINE: i32 = 50;

/// Largest kernel value in units of the first integer: 2⁴⁰, so that a tile's row fits 64 bits twice over.
const COARSE: f64 = (1u64 << 40) as f64;

impl KernelSums {
    /// All sums of `kernel` over both sets, which have one D: N²/2 + M²/2 + N·M products in f64.
    pub(crate) fn new(reference: Rows, generated: Rows, kernel: Kernel) -> Self {
        let dim = reference.features.dim();
        // Only differences enter the Gaussian kernel, and small numbers round less. The middle of the range does not
        // depend on order or on which set comes first.
        let mut centre = vec![0.0; dim];
        if matches!(kernel, Kernel::Rbf { .. }) {
            let mut range = vec![(f64::INFINITY, f64::NEG_INFINITY); dim];
            let (mut row, zero) = (vec![0.0; dim], vec![0.0; dim]);
            for set in [reference, generated] {
                for i in 0..set.n() {
                    set.write(i, &zero, &mut row);
                    range.iter_mut().zip(&row).for_each(|(r, &v)| *r = (r.0.min(v), r.1.max(v)));
                }
            }
            centre = range.into_iter().map(|(low, high)| low / 2.0 + high / 2.0).collect();
        }
        let reference = Prepared::new(reference, &centre);
        let generated = Prepared::new(generated, &centre);
        let largest_norm =
            |set: &Prepared| set.squared_norms.iter().fold(0.0f64, |most, &a| most.max(a)).sqrt();
        let longest = largest_norm(&reference).max(largest_norm(&generated));
        let evaluate = Evaluate::new(kernel, dim);
        // |x·y| is at most the product of the lengths, but for rounding.
        let most = match kernel {
            Kernel::Cubic => (1.01 * longest * longest / dim as f64 + 1.0).powi(3),
            Kernel::Rbf { .. } => 1.0,
        };
        // A power of two, so that scaling by it is exact.
        let scale = (COARSE / most).log2().floor().exp2();
        let to_integers = |value: f64| -> (i64, i64) {
            let scaled = value * scale;
            let coarse = scaled.trunc();
            (coarse as i64, ((scaled - coarse) * 2f64.powi(FINE)) as i64)
        };
        let diagonal = |set: &Prepared| {
            let with_itself = |&a: &f64| {
                let (coarse, fine) = to_integers(evaluate.of(a, a, a));
                joined(coarse, fine)
            };
            set.squared_norms.iter().map(with_itself).sum()
        };
        let tiles = Tiles { centre: &centre, evaluate: &evaluate, to_integers: &to_integers };
        let (reference_sums, _) = tiles.sums(&reference, &reference, true);
        let (generated_sums, _) = tiles.sums(&generated, &generated, true);
        let (reference_to_generated, generated_to_reference) = tiles.sums(&reference, &generated, false);
        KernelSums {
            reference: reference_sums,
            generated: generated_sums,
            reference_to_generated,
            generated_to_reference,
            reference_diagonal: diagonal(&reference),
            generated_diagonal: diagonal(&generated),
            unit: 2f64.powi(-FINE) / scale,
        }
    }

    /// A sum as a number, rounded once.
    pub(crate) fn number(&self, sum: Sum) -> f64 {
        sum as f64 * self.unit
    }
}

fn joined(coarse: i64, fine: i64) -> Sum {
    (Sum::from(coarse) << FINE) + Sum::from(fine)
}

/// A kernel as a function of x·y, |x|² and |y|².
struct Evaluate {
    kernel: Kernel,
    factor: f64,
}

impl Evaluate {
    fn new(kernel: Kernel, dim: usize) -> Self {
        let factor = match kernel {
            Kernel::Cubic => 1.0 / dim as f64,
            Kernel::Rbf { sigma } => -0.5 / (sigma * sigma),
        };
        Evaluate { kernel, factor }
    }

    #[inline(always)]
    fn of(&self, product: f64, a: f64, b: f64) -> f64 {
        match self.kernel {
            Kernel::Cubic => {
                let base = product * self.factor + 1.0;
                base * base * base
            }
            Kernel::Rbf { .. } => ((a + b - 2.0 * product).max(0.0) * self.factor).exp(),
        }
    }
}

/// Rows and their squared lengths, centred.
struct Prepared<'a> {
    rows: Rows<'a>,
    squared_norms: Vec<f64>,
}

impl<'a> Prepared<'a> {
    fn new(rows: Rows<'a>, centre: &[f64]) -> Self {
        let squared_norm = |moved: &mut Vec<f64>, i: usize| {
            rows.write(i, centre, moved);
            moved.iter().map(|v| v * v).sum()
        };
        let all = (0..rows.n()).into_par_iter().with_min_len(64);
        let squared_norms = all.map_init(|| vec![0.0; centre.len()], squared_norm).collect();
        Prepared { rows, squared_norms }
    }
}

/// What turns a pair of images into a part of a sum.
struct Tiles<'a, F> {
    centre: &'a [f64],
    evaluate: &'a Evaluate,
    to_integers: &'a F,
}

impl<F: Fn(f64) -> (i64, i64) + Sync> Tiles<'_, F> {
    /// Sums for each row and for each column; `within` one set the pairs of an image with itself are left out, and
    /// the sums for the rows are all there is.
    fn sums(&self, rows: &Prepared, columns: &Prepared, within: bool) -> (Vec<Sum>, Vec<Sum>) {
        let dim = self.centre.len();
        let of_rows = blocks(rows.rows.n());
        let of_columns = blocks(columns.rows.n());
        let load = |set: &Prepared, range: std::ops::Range<usize>, to: &mut [f64]| {
            range.zip(to.chunks_exact_mut(dim)).for_each(|(i, to)| set.rows.write(i, self.centre, to));
        };
        let tile = |index: usize, n: usize| index * TILE..n.min((index + 1) * TILE);
        tile_jobs(rows.rows.n(), columns.rows.n(), within).into_par_iter().with_max_len(1).for_each_init(
            || (vec![0.0; TILE * dim], Panels::new(TILE, dim), vec![0.0; TILE * TILE]),
            |(moved, panels, values), (column_tile, row_tiles)| {
                let column_range = tile(column_tile, columns.rows.n());
                load(columns, column_range.clone(), moved);
                panels.fill(column_range.len(), moved);
                for row_tile in row_tiles {
                    let row_range = tile(row_tile, rows.rows.n());
                    load(rows, row_range.clone(), moved);
                    products(row_range.len(), moved, panels, values);
                    let mut row_sums = vec![0; row_range.len()];
                    let mut column_sums = vec![(0, 0); column_range.len()];
                    for (i, values) in row_range.clone().zip(values.chunks_exact(column_range.len())) {
                        let (mut coarse_sum, mut fine_sum) = (0, 0);
                        for ((j, &product), sum) in column_range.clone().zip(values).zip(&mut column_sums) {
                            if within && i == j {
                                continue;
                            }
                            let value =
                                self.evaluate.of(product, rows.squared_norms[i], columns.squared_norms[j]);
                            let (coarse, fine) = (self.to_integers)(value);
                            coarse_sum += coarse;
                            fine_sum += fine;
                            sum.0 += coarse;
                            sum.1 += fine;
                        }
                        row_sums[i - row_range.start] = joined(coarse_sum, fine_sum);
                    }
                    let column_sums: Vec<Sum> =
                        column_sums.into_iter().map(|(coarse, fine)| joined(coarse, fine)).collect();
                    add(&of_rows[row_tile], &row_sums);
                    match within {
                        // The tile above the diagonal is this one's mirror image.
                        true if row_tile != column_tile => add(&of_rows[column_tile], &column_sums),
                        true => {}
                        false => add(&of_columns[column_tile], &column_sums),
                    }
                }
            },
        );
        (joined_blocks(of_rows), joined_blocks(of_columns))
    }
}

fn blocks(n: usize) -> Vec<Mutex<Vec<Sum>>> {
    (0..n).step_by(TILE).map(|at| Mutex::new(vec![0; TILE.min(n - at)])).collect()
}

fn add(block: &Mutex<Vec<Sum>>, sums: &[Sum]) {
    let mut block = block.lock().unwrap_or_else(PoisonError::into_inner);
    block.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
}

fn joined_blocks(blocks: Vec<Mutex<Vec<Sum>>>) -> Vec<Sum> {
    blocks.into_iter().flat_map(|block| block.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}
