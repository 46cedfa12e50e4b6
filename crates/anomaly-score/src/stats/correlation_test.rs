//! Correlations with the probability of one as large without any association.

use std::f64::consts::LN_2;

use serde::Serialize;

use super::normal::ln_normal_sf;
use super::student_t::ln_student_t_sf;
use super::{PValue, Pairs};

/// Pairs without ties up to which Kendall's p counts all arrangements, as in scipy.
const EXACT: usize = 33;

/// A correlation and its two-sided p-value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Correlation {
    /// In [−1, 1]; 0 = no association of the kind it looks for.
    pub value: f64,
    /// Probability of one at least as far from 0 if x and y were independent. For Pearson's of normal values, for
    /// Spearman's an approximation good from some ten pairs on.
    pub p_value: PValue,
    /// Number of pairs.
    pub n: usize,
}

impl Pairs {
    /// Pearson's correlation with p by Student's t of n − 2 degrees of freedom, as `scipy.stats.pearsonr`; `None` for
    /// fewer than three pairs, or where all x or all y are equal.
    pub fn pearson_test(&self) -> Option<Correlation> {
        let n = self.points().len();
        let found = super::pearson(self.points())?;
        t_test(found.r, found.unexplained, n)
    }

    /// Spearman's correlation with p by Student's t of n − 2 degrees of freedom, as `scipy.stats.spearmanr`; `None` as
    /// above.
    pub fn spearman_test(&self) -> Option<Correlation> {
        let n = self.points().len();
        let value = self.spearman(&vec![1; n])?;
        t_test(value, (1.0 - value) * (1.0 + value), n)
    }

    /// Kendall's τ-b with p as `scipy.stats.kendalltau`: exact without ties for up to 33 pairs or at most one pair out of
    /// order, else by the normal limit with correction for ties. `None` for fewer than two pairs, or where all x
    /// or all y are equal.
    pub fn kendall_test(&self) -> Option<Correlation> {
        let n = self.points().len();
        let counts = self.concordance(&vec![1; n]);
        let value = counts.tau_b()?;
        let [xs, ys] = [0, 1].map(|axis| self.tie_sizes(axis));
        let pairs = counts.concordant + counts.discordant;
        let least = counts.concordant.min(counts.discordant);
        let untied = xs.iter().chain(&ys).all(|&t| t == 1.0);
        let ln_p = if untied && (n <= EXACT || least <= 1) {
            if 2 * least == pairs { 0.0 } else { LN_2 + ln_few_inversions(n, least as usize) }
        } else {
            let sum = |sizes: &[f64], f: fn(f64) -> f64| sizes.iter().map(|&t| f(t)).sum::<f64>();
            let [[x0, x1, x2], [y0, y1, y2]] = [&xs, &ys].map(|sizes| {
                [
                    sum(sizes, |t| t * (t - 1.0) * (t - 2.0)),
                    sum(sizes, |t| t * (t - 1.0) * (2.0 * t + 5.0)),
                    sum(sizes, |t| t * (t - 1.0) / 2.0),
                ]
            });
            let size = n as f64;
            let m = size * (size - 1.0);
            let third = if n > 2 { x0 * y0 / (9.0 * m * (size - 2.0)) } else { 0.0 };
            let variance = (m * (2.0 * size + 5.0) - x1 - y1) / 18.0 + 2.0 * x2 * y2 / m + third;
            let difference = counts.concordant as f64 - counts.discordant as f64;
            LN_2 + ln_normal_sf(difference.abs() / variance.sqrt())
        };
        Some(Correlation { value, p_value: PValue::from_ln(ln_p), n })
    }
}

fn t_test(value: f64, unexplained: f64, n: usize) -> Option<Correlation> {
    if n < 3 {
        return None;
    }
    let df = (n - 2) as f64;
    let t = value.abs() * (df / unexplained).sqrt();
    Some(Correlation { value, p_value: PValue::twice_ln(ln_student_t_sf(t, df)), n })
}

/// ln of the share of the n! orders with at most `most` inversions, for `n` ≤ 33 or `most` ≤ 1.
fn ln_few_inversions(n: usize, most: usize) -> f64 {
    // Orders of k elements with j inversions: inserting the k-th adds 0 to k − 1 of them. At most 33! < 2¹²³.
    let mut counts = vec![0u128; most + 1];
    counts[0] = 1;
    for k in 2..=n {
        let before = counts.clone();
        let mut window = 0;
        for j in 0..=most {
            window += before[j];
            if j >= k {
                window -= before[j - k];
            }
            counts[j] = window;
        }
    }
    let ln_factorial: f64 = (2..=n).map(|k| (k as f64).ln()).sum();
    (counts.iter().sum::<u128>() as f64).ln() - ln_factorial
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_orders_of_three() {
        // One of six is the given order, so 2/6 two-sided; two of six have one inversion.
        let kendall = |y: [f64; 3]| {
            let points: Vec<[f64; 2]> = (0..3).map(|i| [i as f64, y[i]]).collect();
            Pairs::new(&points).unwrap().kendall_test().unwrap()
        };
        let found = kendall([1.0, 2.0, 3.0]);
        assert!(found.value == 1.0 && (found.p_value.p - 1.0 / 3.0).abs() < 1e-15, "{found:?}");
        let found = kendall([1.0, 3.0, 2.0]);
        assert!((found.value - 1.0 / 3.0).abs() < 1e-15 && found.p_value.p == 1.0, "{found:?}");
    }

    #[test]
    fn perfect_and_undefined() {
        let line: Vec<[f64; 2]> = (0..5).map(|i| [f64::from(i), f64::from(i) * 2.0]).collect();
        let found = Pairs::new(&line).unwrap().spearman_test().unwrap();
        assert_eq!((found.value, found.p_value), (1.0, PValue { p: 0.0, log10_p: None }));
        let pairs = Pairs::new(&line[..2]).unwrap();
        assert_eq!(pairs.pearson_test(), None);
        assert_eq!(pairs.spearman_test(), None);
        assert_eq!(pairs.kendall_test().unwrap().p_value.p, 1.0);
        assert!(Pairs::new(&[]).unwrap().kendall_test().is_none());
    }
}
