//! What a metric gives where nothing differs.

use rayon::prelude::*;
use serde::Serialize;

use super::{Summary, counter_rng, quantile, uniform_below};
use crate::{Error, ErrorKind, Result};

const PURPOSE: &str = "stats/null-floor";

/// Values of a metric between disjoint random parts of one set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NullFloor {
    /// Mean over the splits; `None` where the metric is undefined for one of them.
    pub mean: Option<f64>,
    /// 5 % quantile over the splits: a value of a higher-is-better metric not below it shows no difference. `None` as above.
    pub q05: Option<f64>,
    /// 95 % quantile over the splits, interpolated as in [`quantile`]: a value of a lower-is-better metric not above
    /// it shows no difference. `None` as above.
    pub q95: Option<f64>,
    /// Rows in the part that plays the reference.
    pub n_reference: usize,
    /// Rows in the part that plays the generated set.
    pub n_generated: usize,
    /// Number of random splits.
    pub splits: u32,
    /// Seed of the splits.
    pub seed: u64,
}

/// Null floor of `metric` by splitting a reference set of `n` rows into disjoint parts of the sizes `parts` =
/// [reference, generated], `splits` times.
///
/// `metric` is given the rows of both parts, ascending, and must be a function of them alone. Halves,
/// `[n / 2, n / 2]`, use the set best; but most metrics fall with size, so the floor belongs to the sizes it carries
/// and is too high for larger sets. Splits overlap each other: their spread is that of the metric under the null for
/// this one set of rows, and no error bar of `mean`.
///
/// Split k draws from `counter_rng(seed, "stats/null-floor", k)`: same bits for any thread count. They depend on the
/// order of the rows. Runs on the current rayon pool.
///
/// # Errors
/// `TooFewImages` if the parts are empty or together larger than the set; `InvalidOption` for 0 splits;
/// `Unsupported` for more than 2³² − 1 rows.
pub fn null_floor(
    n: usize,
    parts: [usize; 2],
    splits: u32,
    seed: u64,
    metric: impl Fn([&[u32]; 2]) -> Option<f64> + Sync,
) -> Result<NullFloor> {
    let [floor] = null_floors(n, parts, splits, seed, |parts| [metric(parts)])?;
    Ok(floor)
}

/// [`null_floor`] of K metrics from one evaluation a split, on the same splits.
///
/// # Errors
/// As [`null_floor`].
pub fn null_floors<const K: usize>(
    n: usize,
    parts: [usize; 2],
    splits: u32,
    seed: u64,
    metrics: impl Fn([&[u32]; 2]) -> [Option<f64>; K] + Sync,
) -> Result<[NullFloor; K]> {
    let [n_reference, n_generated] = parts;
    let rows = u32::try_from(n).map_err(|_| {
        Error::new(ErrorKind::Unsupported, "reference", "too many rows to split")
            .expected(format!("at most {}", u32::MAX), n)
    })?;
    let fits = n_reference.checked_add(n_generated).is_some_and(|both| both <= n);
    if n_reference == 0 || n_generated == 0 || !fits {
        return Err(Error::new(ErrorKind::TooFewImages, "reference", "cannot be split into two such parts")
            .expected(
                format!("at least 1 and 1, together at most {n}"),
                format!("{n_reference} and {n_generated}"),
            ));
    }
    if splits == 0 {
        return Err(Error::new(ErrorKind::InvalidOption, "splits", "none gives no floor")
            .expected("at least 1", 0)
            .remedy("100 give a stable mean."));
    }
    let values: Vec<[Option<f64>; K]> = (0..splits)
        .into_par_iter()
        .map(|k| {
            let mut rng = counter_rng(seed, PURPOSE, &u64::from(k).to_le_bytes());
            let mut order: Vec<u32> = (0..rows).collect();
            for i in 0..n_reference + n_generated {
                let j = i + uniform_below(&mut rng, (n - i) as u32) as usize;
                order.swap(i, j);
            }
            let (reference, rest) = order.split_at_mut(n_reference);
            let generated = &mut rest[..n_generated];
            reference.sort_unstable();
            generated.sort_unstable();
            metrics([reference, generated])
        })
        .collect();
    Ok(std::array::from_fn(|k| {
        // What is not finite is as undefined as none.
        let values: Option<Vec<f64>> =
            values.iter().map(|of_split| of_split[k].filter(|v| v.is_finite())).collect();
        let values = values.as_deref();
        NullFloor {
            mean: values.and_then(|v| Summary::of(v).ok()?.mean),
            q05: values.and_then(|v| quantile(v, 0.05)),
            q95: values.and_then(|v| quantile(v, 0.95)),
            n_reference,
            n_generated,
            splits,
            seed,
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Difference of the means of the parts, squared: on average σ²·(1/n₁ + 1/n₂) with σ² over N − 1, for sampling
    /// without replacement when the parts make up the whole set.
    #[test]
    fn mean_of_a_known_metric() {
        let values: Vec<f64> = (0..60).map(|i| f64::from(i * 37 % 101)).collect();
        let variance = Summary::of(&values).unwrap().std_dev.unwrap().powi(2);
        let metric = |parts: [&[u32]; 2]| {
            let [a, b] = parts.map(|p| p.iter().map(|&i| values[i as usize]).sum::<f64>() / p.len() as f64);
            Some((a - b) * (a - b))
        };
        for parts in [[30, 30], [20, 40], [10, 10]] {
            let found = null_floor(60, parts, 4000, 0, metric).unwrap();
            let expected = variance * (1.0 / parts[0] as f64 + 1.0 / parts[1] as f64);
            // About one degree of freedom a split: standard error √(2/4000) = 2.2 %.
            assert!((found.mean.unwrap() / expected - 1.0).abs() < 0.1, "{found:?} {expected}");
            // χ² of one degree of freedom exceeds 3.84 once in twenty.
            assert!((found.q95.unwrap() / expected / 3.84 - 1.0).abs() < 0.15, "{found:?} {expected}");
        }
    }

    #[test]
    fn parts_are_disjoint_sorted_and_repeatable() {
        let record = |seed| {
            let seen = std::sync::Mutex::new(Vec::new());
            null_floor(11, [5, 4], 1, seed, |[a, b]| {
                seen.lock().unwrap().extend([a.to_vec(), b.to_vec()]);
                Some(1.0)
            })
            .unwrap();
            seen.into_inner().unwrap()
        };
        let parts = record(3);
        assert!(parts.iter().all(|p| p.is_sorted()) && parts[0].len() == 5 && parts[1].len() == 4);
        let mut all = parts.concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 9);
        assert_eq!(parts, record(3));
        assert_ne!(parts, record(4));
    }

    #[test]
    fn undefined_and_refused() {
        let found = null_floor(4, [2, 2], 20, 0, |[a, _]| (a[0] == 0).then_some(1.0)).unwrap();
        assert_eq!((found.mean, found.q95), (None, None));
        let error = null_floor(4, [2, 3], 20, 0, |_| None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooFewImages);
        assert!(error.to_string().contains("expected at least 1 and 1, together at most 4, found 2 and 3"));
        assert_eq!(null_floor(4, [2, 2], 0, 0, |_| None).unwrap_err().kind(), ErrorKind::InvalidOption);
    }
}
