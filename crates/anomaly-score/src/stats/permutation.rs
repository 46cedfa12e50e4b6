//! "Is A better than B?" by exchanging what would be exchangeable if they were equal.

use rayon::prelude::*;
use serde::Serialize;

use super::{Alternative, counter_rng, mark_random_subset};
use crate::{Error, ErrorKind, Result};

const PURPOSE: &str = "stats/permutation";

/// What may be exchanged if two models are equally good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// Any rows of A with any rows of B; their numbers stay.
    Rows {
        /// Rows of A.
        n_a: usize,
        /// Rows of B.
        n_b: usize,
    },
    /// Row i of A with row i of B only: made for the same prompt, class or seed.
    Pairs {
        /// Rows of each.
        n: usize,
    },
}

/// Result of a permutation test.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Permutation {
    /// The observed difference.
    pub difference: f64,
    /// (b + 1)/(B + 1): b of the B exchanges differ at least as much. In (0, 1].
    pub p_value: f64,
    /// Number B of random exchanges.
    pub permutations: u32,
    /// Seed of the exchanges.
    pub seed: u64,
}

/// Permutation test of a difference between two models A and B, such as metric(reference, A) − metric(reference, B) on
/// one and the same reference, which pairs the two values.
///
/// `difference` is given how often (0 or 1) each row plays A and plays B. Rows are those of A, then those of B, in both
/// lists. With a metric for which lower is better, `Alternative::Less` asks whether A is better. Two-sided p is twice
/// the smaller one-sided, at most 1.
///
/// `None` where the difference is undefined for the data or for any exchange. Differences within 1e-14 relative of
/// the observed one count as equal to it, since sums in another order differ in their last bits. Exchange k draws from
/// `counter_rng(seed, "stats/permutation", k)`: same bits for any thread count. Runs on the current rayon pool.
///
/// # Errors
/// `InvalidOption` for 0 permutations; `Unsupported` for more than 2³² − 1 rows.
///
/// # Source
/// Phipson and Smyth 2010, "Permutation p-values should never be zero"; conventions of `scipy.stats.permutation_test`.
pub fn permutation_test(
    exchange: Exchange,
    alternative: Alternative,
    permutations: u32,
    seed: u64,
    difference: impl Fn([&[u32]; 2]) -> Option<f64> + Sync,
) -> Result<Option<Permutation>> {
    let (n_a, n_b) = match exchange {
        Exchange::Rows { n_a, n_b } => (n_a, n_b),
        Exchange::Pairs { n } => (n, n),
    };
    let n = n_a.saturating_add(n_b);
    if u32::try_from(n).is_err() {
        return Err(Error::new(ErrorKind::Unsupported, "permutation", "too many rows to exchange")
            .expected(format!("at most {}", u32::MAX), n));
    }
    if permutations == 0 {
        return Err(Error::new(ErrorKind::InvalidOption, "permutations", "none gives no p-value")
            .expected("at least 1", 0)
            .remedy("999 give p-values in steps of 0.001."));
    }
    let of_marks = |plays_a: &[bool]| {
        let [a, b] =
            [true, false].map(|label| plays_a.iter().map(|&m| u32::from(m == label)).collect::<Vec<_>>());
        difference([&a, &b]).filter(|d| d.is_finite())
    };
    let as_observed: Vec<bool> = (0..n).map(|i| i < n_a).collect();
    let Some(observed) = of_marks(&as_observed) else {
        return Ok(None);
    };
    let exchanged: Option<Vec<f64>> = (0..permutations)
        .into_par_iter()
        .map_init(
            || vec![false; n],
            |marks, k| {
                let mut rng = counter_rng(seed, PURPOSE, &u64::from(k).to_le_bytes());
                match exchange {
                    Exchange::Rows { .. } => mark_random_subset(&mut rng, marks, n_a),
                    Exchange::Pairs { .. } => {
                        use rand_chacha::rand_core::Rng;
                        let (a, b) = marks.split_at_mut(n_a);
                        for (a, b) in a.iter_mut().zip(b) {
                            *a = rng.next_u32() >> 31 == 0;
                            *b = !*a;
                        }
                    }
                }
                of_marks(marks)
            },
        )
        .collect();
    let Some(exchanged) = exchanged else {
        return Ok(None);
    };
    let slack = 1e-14 * observed.abs();
    let p = |extreme: &dyn Fn(f64) -> bool| {
        let b = exchanged.iter().filter(|&&d| extreme(d)).count();
        (b + 1) as f64 / (f64::from(permutations) + 1.0)
    };
    let less = p(&|d| d <= observed + slack);
    let greater = p(&|d| d >= observed - slack);
    let p_value = match alternative {
        Alternative::Less => less,
        Alternative::Greater => greater,
        Alternative::TwoSided => (2.0 * less.min(greater)).min(1.0),
    };
    Ok(Some(Permutation { difference: observed, p_value, permutations, seed }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn floats(value: &Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    }

    fn mean_difference(values: &[f64]) -> impl Fn([&[u32]; 2]) -> Option<f64> + Sync {
        move |weights| {
            let [a, b] = weights.map(|w| {
                let sum: f64 = values.iter().zip(w).map(|(v, &w)| v * f64::from(w)).sum();
                sum / f64::from(w.iter().sum::<u32>())
            });
            Some(a - b)
        }
    }

    /// scipy counts every arrangement; a random sample of B is off by √(p(1 − p)/B), of which 4 are allowed (8 for the
    /// doubled tail), and by 1/B.
    #[test]
    fn matches_scipys_exact_p() {
        let fixture: Value =
            serde_json::from_str(include_str!("../../../../fixtures/stats/permutation.json")).unwrap();
        for case in fixture["cases"].as_array().unwrap() {
            let (a, b) = (floats(&case["a"]), floats(&case["b"]));
            let exchange = if case["paired"].as_bool().unwrap() {
                Exchange::Pairs { n: a.len() }
            } else {
                Exchange::Rows { n_a: a.len(), n_b: b.len() }
            };
            let values = [a, b].concat();
            for (alternative, key) in [
                (Alternative::Less, "less"),
                (Alternative::Greater, "greater"),
                (Alternative::TwoSided, "two_sided"),
            ] {
                let found = permutation_test(exchange, alternative, 20_000, 0, mean_difference(&values));
                let found = found.unwrap().unwrap();
                let expected = case[key].as_f64().unwrap();
                let allowed = 8.0 * (expected * (1.0 - expected) / 20_000.0).sqrt() + 1e-4;
                assert!(
                    (found.p_value - expected).abs() < allowed,
                    "{case} {key}: {found:?}, scipy {expected}"
                );
                let difference = case["difference"].as_f64().unwrap();
                assert!((found.difference - difference).abs() <= 1e-12 * difference.abs());
            }
        }
    }

    /// Under the null p is uniform: of 1000 tests 50 are at or below .05, with a standard deviation of 6.9.
    #[test]
    fn keeps_its_level() {
        use rand_distr::{Distribution, StandardNormal};
        let mut rng = counter_rng(0, "test/permutation", b"");
        let mut rejected = 0;
        for seed in 0..1000 {
            let values: Vec<f64> = (0..24).map(|_| StandardNormal.sample(&mut rng)).collect();
            let test = |exchange| {
                permutation_test(exchange, Alternative::TwoSided, 199, seed, mean_difference(&values))
                    .unwrap()
                    .unwrap()
            };
            rejected += usize::from(test(Exchange::Rows { n_a: 12, n_b: 12 }).p_value <= 0.05);
        }
        assert!((27..=73).contains(&rejected), "{rejected} of 1000");
    }

    #[test]
    fn undefined_and_refused() {
        let rows = Exchange::Rows { n_a: 2, n_b: 2 };
        let test = |f: fn([&[u32]; 2]) -> Option<f64>, b| permutation_test(rows, Alternative::Less, b, 0, f);
        assert_eq!(test(|_| None, 9).unwrap(), None);
        assert_eq!(test(|[a, _]| (a[0] == 1).then_some(1.0), 99).unwrap(), None);
        assert_eq!(test(|_| Some(1.0), 9).unwrap().unwrap().p_value, 1.0);
        assert_eq!(test(|_| None, 0).unwrap_err().kind(), ErrorKind::InvalidOption);
    }
}
