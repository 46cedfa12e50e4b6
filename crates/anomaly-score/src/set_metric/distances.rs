//! Squared Euclidean distances between all images of two sets, a tile at a time.
//!
//! A matrix product in f32 gives every distance at once, with a proven bound on its error; whatever a metric decides
//! within that bound is decided by the distance itself, Σ(xᵢ − yᵢ)² in f64. So results are those of the definition
//! in f64 even where |x − y| is far below |x|, at the speed of f32, and cannot depend on tiles or threads.
//!
//! Memory beside the features: 8 bytes an image, and for each thread two tiles of [`TILE`]×D and one of
//! [`TILE`]×[`TILE`] f32: 4.5 MB at D = 2048, whatever N.

use std::ops::Range;

use rayon::prelude::*;

use super::Features;
use super::products::{Panels, products};

/// Images along a side of a tile: its packed columns, 2 MB at D = 2048, stay in the second-level cache.
pub(crate) const TILE: usize = 256;

/// Tiles worked off with one packing of their columns; sixteen make packing cost less than a percent.
const RUN: usize = 16;

/// Unit roundoff of f32.
const UNIT: f64 = 1.0 / (1u64 << 24) as f64;

/// Squared Euclidean distance of two features, without their means' help.
///
/// A difference of two f32 is exact in f64 unless one is below 2⁻²⁹ of the other, so the relative error is that of
/// adding D non-negative numbers in sixteen strands: (D/16 + 5)·2⁻⁵³ at most. The same bits with x and y exchanged.
pub(crate) fn squared_distance(x: &[f32], y: &[f32]) -> f64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the machine has it.
        return unsafe { squared_distance_avx2(x, y) };
    }
    in_strands(x, y)
}

/// Without fused multiply-add, so that the bits are the same.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn squared_distance_avx2(x: &[f32], y: &[f32]) -> f64 {
    in_strands(x, y)
}

#[inline(always)]
fn in_strands(x: &[f32], y: &[f32]) -> f64 {
    const STRANDS: usize = 16;
    let mut sums = [0.0f64; STRANDS];
    let (mut xs, mut ys) = (x.chunks_exact(STRANDS), y.chunks_exact(STRANDS));
    for (x, y) in (&mut xs).zip(&mut ys) {
        for s in 0..STRANDS {
            let difference = f64::from(x[s]) - f64::from(y[s]);
            sums[s] += difference * difference;
        }
    }
    for (s, (x, y)) in xs.remainder().iter().zip(ys.remainder()).enumerate() {
        let difference = f64::from(*x) - f64::from(*y);
        sums[s] += difference * difference;
    }
    let mut width = STRANDS / 2;
    while width > 0 {
        for s in 0..width {
            sums[s] += sums[s + width];
        }
        width /= 2;
    }
    sums[0]
}

/// Distances between every row image and every column image.
pub(crate) struct Distances<'a> {
    rows: Features<'a>,
    columns: Features<'a>,
    /// Both sets are one: only tiles on and below the diagonal are visited.
    within: bool,
    /// Power of two that brings every value of both sets into [−1, 1].
    scale: f32,
    /// Mean of the rows, scaled. Its rounding moves both sets alike and no distance.
    centre: Vec<f32>,
    /// −2 over the squared scale: from a scaled product to its share of a squared distance.
    factor: f64,
    row_bounds: Bounds,
    column_bounds: Bounds,
}

/// What an image adds to the lowest and to the highest squared distance its f32 products allow.
struct Bounds {
    low: Vec<f64>,
    high: Vec<f64>,
}

/// Distances of some rows and columns, known within bounds and, when asked, exactly.
pub(crate) struct Tile<'t, 'a> {
    distances: &'t Distances<'a>,
    pub(crate) rows: Range<usize>,
    pub(crate) columns: Range<usize>,
    products: &'t [f32],
}

impl<'a> Distances<'a> {
    /// Distances between two sets of the same D.
    pub(crate) fn between(rows: Features<'a>, columns: Features<'a>) -> Self {
        Self::new(rows, columns, false)
    }

    /// Distances within one set; every pair is visited once, in either order.
    pub(crate) fn within(set: Features<'a>) -> Self {
        Self::new(set, set, true)
    }

    fn new(rows: Features<'a>, columns: Features<'a>, within: bool) -> Self {
        assert_eq!(rows.dim(), columns.dim(), "callers check D");
        let dim = rows.dim();
        let largest =
            rows.values().iter().chain(columns.values()).fold(0.0f32, |largest, v| largest.max(v.abs()));
        let scale = power_of_two_below_inverse(largest);
        let mut sums = vec![0.0f64; dim];
        for row in rows.rows() {
            sums.iter_mut().zip(row).for_each(|(sum, &v)| *sum += f64::from(v));
        }
        let centre: Vec<f32> =
            sums.iter().map(|sum| (sum / rows.n().max(1) as f64 * f64::from(scale)) as f32).collect();

        // Let x̃ be the scaled, centred f32 values, a = |x̃|², b = |ỹ|², u the unit roundoff.
        // - Centring rounds each value once, which moves |x − y|² by at most (2 + u)·u·(|x̃| + |ỹ|)² ≤ 4.01u·(a + b).
        // - Each product and each addition of x̃·ỹ rounds at most once, D + 1 times in a row at most in whatever order
        //   they are added, so 2x̃·ỹ is off by at most γ·2Σ|x̃ỹ| ≤ γ·(a + b) with γ = (D + 1)u/(1 − (D + 1)u); from
        //   D = 2²³ on, 2(D + 1)u (Jeannerod and Rump 2013, doi:10.1137/120894488).
        // - What follows is f64: 2⁻⁵⁰·(a + b) covers it.
        // - Values too small for f32 to hold with full precision add D·2⁻¹⁴⁰ (the scaled ones are at most 2).
        let rounded = (dim + 1) as f64 * UNIT;
        let relative = rounded / (1.0 - rounded).max(0.5) + 4.01 * UNIT + 1e-15;
        let unscale = f64::from(scale).powi(-2);
        let tiny = dim as f64 * 2f64.powi(-140) * unscale;
        let mut distances = Distances {
            rows,
            columns,
            within,
            scale,
            centre,
            factor: -2.0 * unscale,
            row_bounds: Bounds { low: Vec::new(), high: Vec::new() },
            column_bounds: Bounds { low: Vec::new(), high: Vec::new() },
        };
        let bounds = |set: Features| {
            let norm = |row: &[f32]| {
                let mut moved = vec![0.0; dim];
                distances.move_row(row, &mut moved);
                squared_distance(&moved, &vec![0.0; dim]) * unscale
            };
            let norms: Vec<f64> = set.values().par_chunks_exact(dim).with_min_len(64).map(norm).collect();
            Bounds {
                low: norms.iter().map(|a| a - relative * a - tiny).collect(),
                high: norms.iter().map(|a| a + relative * a + tiny).collect(),
            }
        };
        let (row_bounds, column_bounds) = (bounds(rows), bounds(columns));
        distances.row_bounds = row_bounds;
        distances.column_bounds = column_bounds;
        distances
    }

    /// (x − centre)·scale.
    fn move_row(&self, row: &[f32], to: &mut [f32]) {
        for ((to, &x), &c) in to.iter_mut().zip(row).zip(&self.centre) {
            *to = x * self.scale - c;
        }
    }

    fn move_rows(&self, set: Features, range: &Range<usize>, to: &mut [f32]) {
        for (i, to) in range.clone().zip(to.chunks_exact_mut(set.dim())) {
            self.move_row(set.row(i), to);
        }
    }

    /// The squared distance itself.
    pub(crate) fn exact(&self, row: usize, column: usize) -> f64 {
        squared_distance(self.rows.row(row), self.columns.row(column))
    }

    /// Calls `visit` with every tile, on the current rayon pool and in no particular order.
    pub(crate) fn for_each_tile(&self, visit: impl Fn(&Tile<'_, 'a>) + Sync) {
        let dim = self.rows.dim();
        let tile = |index: usize, n: usize| index * TILE..n.min((index + 1) * TILE);
        let jobs = tile_jobs(self.rows.n(), self.columns.n(), self.within);
        jobs.into_par_iter().with_max_len(1).for_each_init(
            || (vec![0.0f32; TILE * dim], Panels::new(TILE, dim), vec![0.0f32; TILE * TILE]),
            |(moved, panels, values), (column, row_tiles)| {
                let columns = tile(column, self.columns.n());
                self.move_rows(self.columns, &columns, moved);
                panels.fill(columns.len(), moved);
                for row in row_tiles {
                    let rows = tile(row, self.rows.n());
                    self.move_rows(self.rows, &rows, moved);
                    let values = &mut values[..rows.len() * columns.len()];
                    products(rows.len(), moved, panels, values);
                    visit(&Tile { distances: self, rows, columns: columns.clone(), products: values });
                }
            },
        );
    }
}

impl Tile<'_, '_> {
    /// For `row`, a number no squared distance is below for each column.
    #[inline]
    pub(crate) fn lower(&self, row: usize) -> impl Iterator<Item = (usize, f64)> + use<'_> {
        let (low, factor) = (self.distances.row_bounds.low[row], self.distances.factor);
        let products = &self.products[(row - self.rows.start) * self.columns.len()..][..self.columns.len()];
        let lows = &self.distances.column_bounds.low[self.columns.clone()];
        let columns = self.columns.clone().zip(products).zip(lows);
        columns.map(move |((column, &product), other)| (column, low + other + factor * f64::from(product)))
    }

    /// A number the squared distance is not above.
    fn upper(&self, row: usize, column: usize) -> f64 {
        let at = (row - self.rows.start) * self.columns.len() + column - self.columns.start;
        let Distances { row_bounds, column_bounds, factor, .. } = self.distances;
        row_bounds.high[row] + column_bounds.high[column] + factor * f64::from(self.products[at])
    }

    /// The squared distance itself.
    pub(crate) fn exact(&self, row: usize, column: usize) -> f64 {
        self.distances.exact(row, column)
    }

    /// Whether the squared distance is below `squared_radius`, or at most that where `closed`. For pairs whose lower
    /// bound does not already tell.
    pub(crate) fn is_within(&self, row: usize, column: usize, squared_radius: f64, closed: bool) -> bool {
        if !closed && squared_radius == 0.0 {
            return false;
        }
        self.upper(row, column) < squared_radius || {
            let exact = self.exact(row, column);
            if closed { exact <= squared_radius } else { exact < squared_radius }
        }
    }
}

/// A tile of columns each, with the tiles of rows that meet it. `within` one set only the tiles on and below the diagonal,
/// the diagonal first: an image's own neighbourhood often holds its neighbours, and what follows is passed over quickly.
pub(crate) fn tile_jobs(rows: usize, columns: usize, within: bool) -> Vec<(usize, Range<usize>)> {
    let row_tiles = rows.div_ceil(TILE);
    let job = |column: usize| {
        let first = if within { column } else { 0 };
        (first..row_tiles).step_by(RUN).map(move |row| (column, row..row_tiles.min(row + RUN)))
    };
    (0..columns.div_ceil(TILE)).flat_map(job).collect()
}

/// The largest power of two, among those f32 holds with full precision, that takes `largest` into [0, 1].
fn power_of_two_below_inverse(largest: f32) -> f32 {
    let exponent = if largest > 0.0 { (f64::from(largest)).log2().floor() as i32 + 1 } else { 0 };
    2f32.powi(-exponent.clamp(-126, 126))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::counter_rng;
    use rand_distr::{Distribution, StandardNormal};
    use std::sync::Mutex;

    fn normals(n: usize, dim: usize, offset: f32, scale: f32, key: &[u8]) -> Vec<f32> {
        let mut rng = counter_rng(0, "test/distances", key);
        let mut next = || -> f32 { StandardNormal.sample(&mut rng) };
        (0..n * dim).map(|_| offset + scale * next()).collect()
    }

    /// Every pair of every kind of set lies within its bounds, and the bounds are worth having.
    #[test]
    fn bounds_hold_and_are_narrow() {
        // Far from the origin, tiny, huge, and of lengths that leave partial tiles and registers.
        for (n, m, dim, offset, scale) in [
            (300, 270, 37, 0.0, 1.0),
            (40, 300, 2048, 100.0, 0.01),
            (20, 30, 16, 0.0, 1e-38),
            (20, 30, 16, 0.0, 3e37),
            (9, 11, 1, -5.0, 1.0),
        ] {
            let (a, b) = (normals(n, dim, offset, scale, b"a"), normals(m, dim, offset, scale, b"b"));
            let a = Features::new("a", &a, dim).unwrap();
            let b = Features::new("b", &b, dim).unwrap();
            let distances = Distances::between(a, b);
            let seen = Mutex::new(vec![0u8; n * m]);
            distances.for_each_tile(|tile| {
                for row in tile.rows.clone() {
                    for (column, lower) in tile.lower(row) {
                        let (exact, upper) = (tile.exact(row, column), tile.upper(row, column));
                        assert!(lower <= exact && exact <= upper, "{lower:e} {exact:e} {upper:e}");
                        // Spread and bound are both about D·σ²: the bound is (D + 5) roundings of 2·(|x|² + |y|²).
                        let widest =
                            (dim + 6) as f64 * UNIT * 4.0 * dim as f64 * f64::from(scale).powi(2) * 12.0;
                        assert!(upper - lower <= widest || scale < 1e-30, "{} {widest}", upper - lower);
                        seen.lock().unwrap()[row * m + column] += 1;
                    }
                }
            });
            assert!(seen.into_inner().unwrap().iter().all(|&count| count == 1));
        }
    }

    #[test]
    fn within_a_set_every_pair_comes_once() {
        let n = 2 * TILE + 3;
        let values = normals(n, 3, 0.0, 1.0, b"set");
        let distances = Distances::within(Features::new("set", &values, 3).unwrap());
        let seen = Mutex::new(vec![0u8; n * n]);
        distances.for_each_tile(|tile| {
            let mut seen = seen.lock().unwrap();
            for row in tile.rows.clone() {
                for column in tile.columns.clone() {
                    seen[row * n + column] += 1;
                }
            }
        });
        let seen = seen.into_inner().unwrap();
        for i in 0..n {
            for j in 0..i {
                // A diagonal tile holds both orders, the others one.
                let both = seen[i * n + j] + seen[j * n + i];
                assert_eq!(both, if i / TILE == j / TILE { 2 } else { 1 }, "{i} {j}");
            }
        }
    }

    #[test]
    fn exact_distances_are_symmetric_and_exact_on_integers() {
        let (x, y): (Vec<f32>, Vec<f32>) = (0..37).map(|i| (i as f32, (2 * i - 5) as f32)).unzip();
        let expected: i64 = (0..37i64).map(|i| (i - 5).pow(2)).sum();
        assert_eq!(squared_distance(&x, &y), expected as f64);
        let (x, y) = (normals(1, 77, 0.0, 1.0, b"x"), normals(1, 77, 3.0, 2.0, b"y"));
        assert_eq!(squared_distance(&x, &y), squared_distance(&y, &x));
        assert_eq!(squared_distance(&x, &y), in_strands(&x, &y));
    }

    #[test]
    fn scales_are_powers_of_two_that_keep_values_small() {
        for largest in [1e-45, 1e-38, 0.3, 1.0, 7.0, 1e20, f32::MAX] {
            let scale = power_of_two_below_inverse(largest);
            assert!(scale.is_normal() && (largest * scale) <= 4.0, "{largest} {scale}");
            assert_eq!(scale.to_bits() & 0x7f_ffff, 0);
        }
        assert_eq!(power_of_two_below_inverse(0.0), 1.0);
    }
}
