//! Two-sample, two-dimensional Kolmogorov–Smirnov statistic, exact, in O(n log n).
//!
//! Centred on a point (x, y) the plane has four quadrants: a: ≤x, ≤y; b: ≤x, >y; c: >x, ≤y; d: the rest. For every
//! point of the first sample take the four differences of quadrant fractions, first sample minus second; lower every
//! a-difference by 1/n₁; then D₁ = max(−smallest, largest + 1/n₁). D₂ is the same with the samples exchanged, and
//! D = (D₁ + D₂)/2, which is symmetric in the samples.
//!
//! Every fraction is a multiple of 1/(n₁·n₂), so all comparisons are made between integers and D is one integer over
//! 2·n₁·n₂: no rounding decides a tie, neither inside the maximum nor between permutations.
//!
//! # Source
//! Peacock 1983, MNRAS 202, 615; Fasano and Franceschini 1987, MNRAS 225, 155; Press et al., Numerical Recipes
//! §14.8. Which side of a quadrant is closed and the two corrections by 1/n follow the public `ndtest` package.
//! Accuracy: `ks2d/tests.rs` against numpy, docs/ks2d.md.

mod rank_set;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use crate::stats::{counter_rng, kolmogorov_sf, mark_random_subset, pearson, quantile};
use crate::{Error, ErrorKind, Result};
use rank_set::RankSet;

/// Names the random streams of the permutations, see [`counter_rng`].
const PURPOSE: &str = "set_metric/permutation";

/// Most points in both samples together; numerators then stay below 2⁶¹.
const MAX_POINTS: usize = 1 << 30;

/// Two samples of points, pooled, sorted and ranked once, so that each relabelling is a single sweep.
///
/// The pooled points are kept in the order of their coordinates, so nothing depends on the order they came in.
#[derive(Clone, Debug)]
pub struct PooledSamples {
    n_reference: usize,
    n_generated: usize,
    /// Sorted by x, then y.
    points: Vec<Pooled>,
    coordinates: Vec<[f64; 2]>,
    /// Which points, in the same order, belong to the smaller sample (the reference where they are equal).
    smaller: Vec<bool>,
    numerator: i64,
}

/// What the sweep needs of one pooled point; none of it depends on labels.
#[derive(Clone, Copy, Debug)]
struct Pooled {
    /// One past the last point of the same x.
    x_end: u32,
    /// The point's own place in the order of y.
    y_slot: u32,
    /// How many points have y no larger.
    y_end: u32,
    /// How many points have neither coordinate larger.
    both: u32,
}

/// Buffers of one sweep, kept between permutations.
#[derive(Clone, Debug)]
struct Scratch {
    ranks: RankSet,
    marks: Vec<bool>,
    /// Marked points among the first `i` in the order of y.
    marked_below: Vec<u32>,
}

/// The distribution of D over random relabellings of the pooled points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PermutationNull {
    /// (b + 1)/(B + 1), where b of the B relabellings have D no smaller than observed; in (0, 1].
    pub p_value: f64,
    /// Mean D of the relabellings.
    pub mean: f64,
    /// 95 % quantile of D over the relabellings, interpolated as in [`quantile`].
    pub q95: f64,
}

impl PooledSamples {
    /// Pools and ranks two samples of (x, y) points and computes their statistic. O(n log n).
    ///
    /// # Errors
    /// `TooFewImages` for fewer than two points in a sample; `InvalidOption` for a coordinate that is not finite
    /// (undefined points are to be counted and left out by the caller); `Unsupported` for more than 2³⁰ points.
    pub fn new(reference: &[[f64; 2]], generated: &[[f64; 2]]) -> Result<Self> {
        check_sizes(reference.len(), generated.len())?;
        check_finite("reference set", reference)?;
        check_finite("generated set", generated)?;

        let reference_is_smaller = reference.len() <= generated.len();
        let mut labelled: Vec<([f64; 2], bool)> = Vec::with_capacity(reference.len() + generated.len());
        // Adding 0 turns −0 into 0: equal coordinates must be neighbours in the order.
        labelled.extend(reference.iter().map(|p| (p.map(|c| c + 0.0), reference_is_smaller)));
        labelled.extend(generated.iter().map(|p| (p.map(|c| c + 0.0), !reference_is_smaller)));
        labelled.sort_unstable_by(|(p, s), (q, t)| {
            p[0].total_cmp(&q[0]).then(p[1].total_cmp(&q[1])).then(s.cmp(t))
        });
        let (coordinates, smaller): (Vec<_>, Vec<_>) = labelled.into_iter().unzip();

        let mut pooled = PooledSamples {
            n_reference: reference.len(),
            n_generated: generated.len(),
            points: ranked(&coordinates),
            coordinates,
            smaller,
            numerator: 0,
        };
        let mut scratch = pooled.scratch();
        scratch.marks.copy_from_slice(&pooled.smaller);
        pooled.numerator = pooled.numerator_of_marks(&mut scratch);
        Ok(pooled)
    }

    /// D in (0, 1]; lower = closer. Identical samples of n points give 1/n, and the value that two samples of one
    /// distribution give on average is larger the fewer points there are.
    pub fn statistic(&self) -> f64 {
        self.value(self.numerator)
    }

    /// Probability, under one common distribution, of a statistic this large, by the large-sample approximation
    /// Q(D·√Ne / (1 + r·(0.25 − 0.75/√Ne))) with Q the Kolmogorov tail, Ne = n₁n₂/(n₁ + n₂),
    /// r = √(1 − ½(r₁² + r₂²)) and rᵢ the Pearson correlation of the coordinates in sample i. At level .05
    /// it rejected .05 to .1 of pairs of one normal distribution with correlation 0 or .8 (docs/ks2d.md); prefer [`permutation_null`](Self::permutation_null).
    ///
    /// `None` where a sample has a constant coordinate, since its correlation is then undefined.
    ///
    /// # Source
    /// Numerical Recipes §14.8.
    pub fn p_value_asymptotic(&self) -> Option<f64> {
        let unexplained = |label: bool| {
            let sample: Vec<[f64; 2]> = self
                .coordinates
                .iter()
                .zip(&self.smaller)
                .filter(|(_, l)| **l == label)
                .map(|(p, _)| *p)
                .collect();
            pearson(&sample).map(|p| p.unexplained)
        };
        let r = ((unexplained(true)? + unexplained(false)?) / 2.0).sqrt();
        let (n1, n2) = (self.n_reference as f64, self.n_generated as f64);
        let sqrt_ne = (n1 * n2 / (n1 + n2)).sqrt();
        Some(kolmogorov_sf(self.statistic() * sqrt_ne / (1.0 + r * (0.25 - 0.75 / sqrt_ne))))
    }

    /// D of `permutations` random relabellings of the pooled points, compared with the observed D; `None` for 0.
    ///
    /// Relabelling k draws from `counter_rng(seed, "set_metric/permutation", k as 8 little-endian bytes)` which of
    /// the pooled points, in the order of their coordinates, form the smaller sample. So the result depends on the
    /// points, the seed and the number only: not on threads, on the order of the points, or on which sample is which.
    /// Runs on the current rayon pool.
    pub fn permutation_null(&self, permutations: u32, seed: u64) -> Option<PermutationNull> {
        if permutations == 0 {
            return None;
        }
        let size = self.n_reference.min(self.n_generated);
        let null: Vec<i64> = (0..permutations)
            .into_par_iter()
            .map_init(
                || self.scratch(),
                |scratch, k| {
                    let mut rng = counter_rng(seed, PURPOSE, &u64::from(k).to_le_bytes());
                    mark_random_subset(&mut rng, &mut scratch.marks, size);
                    self.numerator_of_marks(scratch)
                },
            )
            .collect();

        let at_least = null.iter().filter(|&&d| d >= self.numerator).count();
        let total: i128 = null.iter().map(|&d| i128::from(d)).sum();
        let values: Vec<f64> = null.iter().map(|&d| self.value(d)).collect();
        Some(PermutationNull {
            p_value: (at_least + 1) as f64 / (f64::from(permutations) + 1.0),
            mean: total as f64 / (self.denominator() as f64 * f64::from(permutations)),
            q95: quantile(&values, 0.95)?,
        })
    }

    fn denominator(&self) -> i64 {
        2 * self.n_reference as i64 * self.n_generated as i64
    }

    fn value(&self, numerator: i64) -> f64 {
        numerator as f64 / self.denominator() as f64
    }

    fn scratch(&self) -> Scratch {
        let n = self.points.len();
        Scratch { ranks: RankSet::new(n), marks: vec![false; n], marked_below: vec![0; n + 1] }
    }

    /// 2·n₁·n₂·D, where the marked points of `scratch` are the smaller sample and the others the larger.
    fn numerator_of_marks(&self, scratch: &mut Scratch) -> i64 {
        let Scratch { ranks, marks, marked_below } = scratch;
        for (point, &marked) in self.points.iter().zip(marks.iter()) {
            marked_below[point.y_slot as usize + 1] = u32::from(marked);
        }
        let mut below = 0;
        for count in marked_below.iter_mut() {
            below += *count;
            *count = below;
        }

        ranks.clear();
        let total = self.points.len() as i64;
        let (m, rest) = (i64::from(below), total - i64::from(below));
        let mut left = 0;
        // Largest deviation over centres that are not marked, and over those that are.
        let mut largest = [i64::MIN; 2];
        let mut start = 0;
        while start < self.points.len() {
            let end = self.points[start].x_end as usize;
            let group = &self.points[start..end];
            // Points of equal x count as left of each other, so all of them go in before any is a centre.
            for (point, &marked) in group.iter().zip(&marks[start..end]) {
                if marked {
                    ranks.insert(point.y_slot as usize);
                    left += 1;
                }
            }
            // With k of the m marked points and t of all points in a region, the difference of fractions, marked minus
            // others, is (k·total − t·m)/(m·rest); in what follows that common denominator is left out.
            let x = left * total - i64::from(point_count(end)) * m;
            for (point, &marked) in group.iter().zip(&marks[start..end]) {
                let a = ranks.count_below(point.y_end as usize) as i64 * total - i64::from(point.both) * m;
                let y = i64::from(marked_below[point.y_end as usize]) * total - i64::from(point.y_end) * m;
                // Quadrants b, c, d: the left half without a, the lower half without a, and what makes the sum 0.
                let (b, c, d) = (x - a, y - a, a - x - y);
                let (low, high) = (b.min(c).min(d), b.max(c).max(d));
                // 1/n₁ in units of 1/(m·rest) is `rest` where the marked sample comes first, `m` where the other does;
                // with the samples exchanged every difference changes its sign.
                let marked_first = (rest - a).max(-low).max(high.max(a - rest) + rest);
                let others_first = (m + a).max(high).max((-low).max(-a - m) + m);
                let deviation = if marked { marked_first } else { others_first };
                largest[usize::from(marked)] = largest[usize::from(marked)].max(deviation);
            }
            start = end;
        }
        largest[0] + largest[1]
    }
}

/// `MAX_POINTS` keeps every index and count within `u32`.
fn point_count(n: usize) -> u32 {
    n as u32
}

/// Ranks and quadrant counts of points sorted by x, then y.
fn ranked(points: &[[f64; 2]]) -> Vec<Pooled> {
    let n = points.len();
    let mut by_y: Vec<u32> = (0..point_count(n)).collect();
    by_y.sort_unstable_by(|&i, &j| points[i as usize][1].total_cmp(&points[j as usize][1]).then(i.cmp(&j)));

    let mut pooled = vec![Pooled { x_end: 0, y_slot: 0, y_end: 0, both: 0 }; n];
    let mut start = 0;
    for group in by_y.chunk_by(|&i, &j| points[i as usize][1] == points[j as usize][1]) {
        let end = start + group.len();
        for (k, &i) in group.iter().enumerate() {
            pooled[i as usize].y_slot = point_count(start + k);
            pooled[i as usize].y_end = point_count(end);
        }
        start = end;
    }

    let mut ranks = RankSet::new(n);
    let mut start = 0;
    for group in points.chunk_by(|p, q| p[0] == q[0]) {
        let end = start + group.len();
        for point in &pooled[start..end] {
            ranks.insert(point.y_slot as usize);
        }
        for point in &mut pooled[start..end] {
            point.x_end = point_count(end);
            point.both = ranks.count_below(point.y_end as usize);
        }
        start = end;
    }
    pooled
}

fn check_sizes(n_reference: usize, n_generated: usize) -> Result<()> {
    for (set, n) in [("reference set", n_reference), ("generated set", n_generated)] {
        if n < 2 {
            return Err(Error::new(
                ErrorKind::TooFewImages,
                set,
                "too few usable points to compare two samples",
            )
            .expected("at least 2", n)
            .remedy("Add images; those whose complexity or vulnerability is undefined do not count."));
        }
    }
    match n_reference.checked_add(n_generated) {
        Some(n) if n <= MAX_POINTS => Ok(()),
        _ => Err(Error::new(ErrorKind::Unsupported, "both sets", "too many points for one statistic")
            .expected(format!("at most {MAX_POINTS} together"), format!("{n_reference} + {n_generated}"))
            .remedy("Compare random samples of the sets.")),
    }
}

fn check_finite(set: &str, points: &[[f64; 2]]) -> Result<()> {
    match points.iter().position(|p| !p.iter().all(|c| c.is_finite())) {
        None => Ok(()),
        Some(i) => {
            let [x, y] = points[i];
            Err(Error::new(
                ErrorKind::InvalidOption,
                set,
                format!("point {i} has no place in a distribution"),
            )
            .expected("two finite coordinates", format!("({x}, {y})"))
            .remedy("Leave undefined points out and report how many there were."))
        }
    }
}
