//! Correlations of paired values, for any number of times each pair counts.

use super::{refined_mean, safe_scale};
use crate::{Error, ErrorKind, Result};

/// Pairs (x, y) prepared so that a correlation under weights costs O(n), or O(n log n) where pairs are compared.
///
/// Weights are how often each pair counts, in the order of [`Pairs::points`]: sorted, so that nothing depends on the
/// order the pairs came in. Weight lists of another length are cut to the shorter.
#[derive(Clone, Debug)]
pub struct Pairs {
    points: Vec<[f64; 2]>,
    /// Deviations from the plain mean over the largest one, so that squares under weights neither cancel nor overflow.
    deviations: Vec<[f64; 2]>,
    /// Position among the distinct values of each coordinate.
    levels: Vec<[u32; 2]>,
    /// Number of distinct values of each coordinate.
    distinct: [usize; 2],
}

/// How pairs of pairs compare; counts of unordered ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Concordance {
    /// x and y order them alike.
    pub concordant: u64,
    /// x and y order them oppositely.
    pub discordant: u64,
    /// Equal in x only.
    pub tied_x: u64,
    /// Equal in y only.
    pub tied_y: u64,
    /// Equal in both.
    pub tied_both: u64,
}

impl Concordance {
    /// Kendall's τ-b, in [−1, 1]; `None` where all x or all y are equal.
    ///
    /// # Source
    /// Kendall 1945, Biometrika 33.
    pub fn tau_b(&self) -> Option<f64> {
        let untied = self.concordant + self.discordant;
        let (x, y) = ((untied + self.tied_y) as f64, (untied + self.tied_x) as f64);
        if x == 0.0 || y == 0.0 {
            return None;
        }
        let difference = self.concordant as f64 - self.discordant as f64;
        Some((difference / (x * y).sqrt()).clamp(-1.0, 1.0))
    }

    /// Share of the pairs with different y that x orders alike, where a tie in x counts half; in [0, 1], ½ = chance.
    /// Equal to (1 + Somers' D of x given y)/2. `None` where all y are equal.
    pub fn pairwise_accuracy(&self) -> Option<f64> {
        let untied = self.concordant + self.discordant + self.tied_x;
        (untied > 0).then(|| (self.concordant as f64 + self.tied_x as f64 / 2.0) / untied as f64)
    }
}

impl Pairs {
    /// Prepares `points` = (x, y).
    ///
    /// # Errors
    /// `InvalidOption` for a coordinate that is NaN or infinite; `Unsupported` for more than 2³¹ points.
    pub fn new(points: &[[f64; 2]]) -> Result<Self> {
        if let Some(i) = points.iter().position(|p| !p.iter().all(|c| c.is_finite())) {
            let [x, y] = points[i];
            return Err(Error::new(ErrorKind::InvalidOption, format!("pair {i}"), "cannot be correlated")
                .expected("two finite numbers", format!("({x}, {y})"))
                .remedy("Leave undefined pairs out and report how many there were."));
        }
        if points.len() > 1 << 31 {
            return Err(Error::new(ErrorKind::Unsupported, "pairs", "too many to compare")
                .expected("at most 2147483648", points.len()));
        }
        // Adding 0 turns −0 into 0: equal values must be neighbours in the order.
        let mut points: Vec<[f64; 2]> = points.iter().map(|p| p.map(|c| c + 0.0)).collect();
        points.sort_unstable_by(|p, q| p[0].total_cmp(&q[0]).then(p[1].total_cmp(&q[1])));
        let n = points.len();
        let mut deviations = vec![[0.0; 2]; n];
        let mut levels = vec![[0u32; 2]; n];
        let mut distinct = [0; 2];
        for axis in 0..2 {
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_unstable_by(|&i, &j| points[i][axis].total_cmp(&points[j][axis]).then(i.cmp(&j)));
            for group in order.chunk_by(|&i, &j| points[i][axis] == points[j][axis]) {
                group.iter().for_each(|&i| levels[i][axis] = distinct[axis] as u32);
                distinct[axis] += 1;
            }
            let mut values: Vec<f64> = points.iter().map(|p| p[axis]).collect();
            let scale = safe_scale(&values);
            values.iter_mut().for_each(|v| *v *= scale);
            let mean = refined_mean(&values).unwrap_or(0.0);
            let largest = values.iter().fold(0.0, |m: f64, v| m.max((v - mean).abs()));
            for (deviation, v) in deviations.iter_mut().zip(values) {
                deviation[axis] = if largest > 0.0 { (v - mean) / largest } else { 0.0 };
            }
        }
        Ok(Pairs { points, deviations, levels, distinct })
    }

    /// The pairs, sorted by x, then y: what weights refer to.
    pub fn points(&self) -> &[[f64; 2]] {
        &self.points
    }

    /// Pearson's correlation, in [−1, 1]; `None` where all x or all y that count are equal.
    pub fn pearson(&self, weights: &[u32]) -> Option<f64> {
        if !self.varies(weights) {
            return None;
        }
        let (mut n, mut sums) = (0.0, [0.0; 2]);
        for (d, &w) in self.deviations.iter().zip(weights) {
            let w = f64::from(w);
            n += w;
            (0..2).for_each(|axis| sums[axis] += w * d[axis]);
        }
        let means = sums.map(|s| s / n);
        let [mut xx, mut yy, mut xy] = [0.0; 3];
        for (d, &w) in self.deviations.iter().zip(weights) {
            let (w, x, y) = (f64::from(w), d[0] - means[0], d[1] - means[1]);
            xx += w * x * x;
            yy += w * y * y;
            xy += w * x * y;
        }
        Some((xy / xx.sqrt() / yy.sqrt()).clamp(-1.0, 1.0)).filter(|r| r.is_finite())
    }

    /// Spearman's rank correlation, ties given their middle rank, in [−1, 1]; `None` where all x or all y that count
    /// are equal. Sums are exact integers.
    pub fn spearman(&self, weights: &[u32]) -> Option<f64> {
        let n: i64 = weights.iter().map(|&w| i64::from(w)).sum();
        // Twice the middle rank less its mean, n + 1, of every level: whole numbers.
        let ranks = [0, 1].map(|axis| {
            let mut counts = vec![0i64; self.distinct[axis]];
            for (level, &w) in self.levels.iter().zip(weights) {
                counts[level[axis] as usize] += i64::from(w);
            }
            let mut below = 0;
            for count in &mut counts {
                let here = *count;
                *count = 2 * below + here - n;
                below += here;
            }
            counts
        });
        let [mut xx, mut yy, mut xy] = [0i128; 3];
        for (level, &w) in self.levels.iter().zip(weights) {
            let (x, y) = (ranks[0][level[0] as usize], ranks[1][level[1] as usize]);
            let w = i128::from(w);
            xx += w * i128::from(x) * i128::from(x);
            yy += w * i128::from(y) * i128::from(y);
            xy += w * i128::from(x) * i128::from(y);
        }
        if xx == 0 || yy == 0 {
            return None;
        }
        // One root of the product, because √(a·a) is a: equal ranks give exactly 1.
        Some((xy as f64 / (xx as f64 * yy as f64).sqrt()).clamp(-1.0, 1.0))
    }

    /// How pairs of pairs compare, in O(n log n).
    pub fn concordance(&self, weights: &[u32]) -> Concordance {
        let mut found = Concordance::default();
        let mut seen = vec![0u64; self.distinct[1] + 1];
        let (mut start, mut total) = (0, 0u64);
        let unordered = |n: u64| n * n.saturating_sub(1) / 2;
        let n = self.levels.len().min(weights.len());
        for group in self.levels[..n].chunk_by(|p, q| p[0] == q[0]) {
            let of_group = &weights[start..start + group.len()];
            start += group.len();
            let (mut here, mut equal, mut both) = (0, 0, 0);
            for (k, (level, &w)) in group.iter().zip(of_group).enumerate() {
                let (w, y) = (u64::from(w), level[1] as usize);
                if k > 0 && group[k - 1][1] != level[1] {
                    both += unordered(equal);
                    equal = 0;
                }
                here += w;
                equal += w;
                if w > 0 && total > 0 {
                    let (below, not_above) = (sum_below(&seen, y), sum_below(&seen, y + 1));
                    found.concordant += w * below;
                    found.tied_y += w * (not_above - below);
                    found.discordant += w * (total - not_above);
                }
            }
            both += unordered(equal);
            found.tied_both += both;
            found.tied_x += unordered(here) - both;
            for (level, &w) in group.iter().zip(of_group).filter(|(_, w)| **w > 0) {
                add(&mut seen, level[1] as usize, u64::from(w));
            }
            total += here;
        }
        found
    }

    /// How many pairs share each distinct value of x (axis 0) or y (axis 1).
    pub(super) fn tie_sizes(&self, axis: usize) -> Vec<f64> {
        let mut sizes = vec![0.0; self.distinct[axis]];
        self.levels.iter().for_each(|level| sizes[level[axis] as usize] += 1.0);
        sizes
    }

    fn varies(&self, weights: &[u32]) -> bool {
        let mut counting = self.levels.iter().zip(weights).filter(|(_, w)| **w > 0).map(|(level, _)| level);
        let Some(first) = counting.next() else {
            return false;
        };
        let (mut x, mut y) = (false, false);
        for level in counting {
            x |= level[0] != first[0];
            y |= level[1] != first[1];
            if x && y {
                return true;
            }
        }
        false
    }
}

/// Fenwick tree, entries counted from 1: what was added below `bound`.
fn sum_below(tree: &[u64], bound: usize) -> u64 {
    let (mut sum, mut i) = (0, bound);
    while i > 0 {
        sum += tree[i];
        i &= i - 1;
    }
    sum
}

fn add(tree: &mut [u64], at: usize, by: u64) {
    let mut i = at + 1;
    while i < tree.len() {
        tree[i] += by;
        i += i & i.wrapping_neg();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::pearson;
    use proptest::prelude::*;

    fn naive(points: &[[f64; 2]]) -> Concordance {
        let mut found = Concordance::default();
        for (i, p) in points.iter().enumerate() {
            for q in &points[..i] {
                let (x, y) = (p[0].total_cmp(&q[0]) as i32, p[1].total_cmp(&q[1]) as i32);
                match (x, y) {
                    (0, 0) => found.tied_both += 1,
                    (0, _) => found.tied_x += 1,
                    (_, 0) => found.tied_y += 1,
                    _ if x == y => found.concordant += 1,
                    _ => found.discordant += 1,
                }
            }
        }
        found
    }

    fn points(levels: i32) -> impl Strategy<Value = Vec<[f64; 2]>> {
        let value = move || (-levels..=levels).prop_map(|v| f64::from(v) * 0.3);
        proptest::collection::vec((value(), value()).prop_map(|(x, y)| [x, y]), 1..40)
    }

    proptest! {
        /// A weight is a number of copies.
        #[test]
        fn weights_are_copies(
            (points, weights) in (1..40i32).prop_flat_map(points)
                .prop_flat_map(|p| { let n = p.len(); (Just(p), proptest::collection::vec(0u32..4, n)) }),
        ) {
            let pairs = Pairs::new(&points).unwrap();
            let copies: Vec<[f64; 2]> = pairs.points().iter().zip(&weights)
                .flat_map(|(p, &w)| std::iter::repeat_n(*p, w as usize)).collect();
            let of_copies = Pairs::new(&copies).unwrap();
            let ones = vec![1; copies.len()];
            prop_assert_eq!(pairs.concordance(&weights), naive(&copies));
            prop_assert_eq!(pairs.spearman(&weights), of_copies.spearman(&ones));
            // Both round sums of at most 120 products; the correlation of nearly constant values magnifies that.
            let (found, expected) = (pairs.pearson(&weights), pearson(&copies).map(|p| p.r));
            prop_assert_eq!(found.is_some(), expected.is_some());
            prop_assert!((found.unwrap_or(0.0) - expected.unwrap_or(0.0)).abs() < 1e-12, "{:?} {:?}", found, expected);
        }

        #[test]
        fn order_does_not_matter(
            (points, shuffled) in points(5).prop_flat_map(|v| (Just(v.clone()), Just(v).prop_shuffle())),
        ) {
            let all = |points: &[[f64; 2]]| {
                let (pairs, ones) = (Pairs::new(points).unwrap(), vec![1; points.len()]);
                (pairs.pearson(&ones), pairs.spearman(&ones), pairs.concordance(&ones))
            };
            prop_assert_eq!(all(&points), all(&shuffled));
        }
    }

    #[test]
    fn undefined_is_none() {
        let pairs = Pairs::new(&[[0.1, 1.0], [0.1, 2.0], [0.3, 2.0]]).unwrap();
        for weights in [[0, 0, 0], [1, 1, 0], [0, 1, 1], [5, 0, 0]] {
            assert_eq!(pairs.pearson(&weights), None);
            assert_eq!(pairs.spearman(&weights), None);
            assert_eq!(pairs.concordance(&weights).tau_b(), None);
        }
        assert_eq!(pairs.concordance(&[0, 1, 1]).pairwise_accuracy(), None);
        assert_eq!(pairs.concordance(&[1, 1, 0]).pairwise_accuracy(), Some(0.5));
        let error = Pairs::new(&[[1.0, 2.0], [f64::NAN, 1.0]]).unwrap_err();
        assert!(error.to_string().starts_with("pair 1: cannot be correlated; expected two finite numbers"));
    }
}
