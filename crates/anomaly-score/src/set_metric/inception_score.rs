//! Inception Score.

use serde::Serialize;

use super::Features;
use crate::stats::RandomState;
use crate::{Error, ErrorKind, Result};

/// How images are divided into the splits over which the score is averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Splits {
    /// So many of nearly equal size: from ⌊i·N/count⌋ to ⌊(i + 1)·N/count⌋. torch-fidelity's, with 10.
    Count(usize),
    /// So many of size ⌊N/count⌋; the remainder is left out. dgm-eval's, with 10.
    Equal(usize),
    /// Consecutive ones of this size, the last as large as what remains. ADM's, with 5000.
    Size(usize),
}

/// In which order images are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitOrder {
    /// As they are given.
    Given,
    /// As `numpy.random.RandomState(seed).permutation(N)` lists them; torch-fidelity and dgm-eval take 2020.
    Numpy(u32),
}

/// How the score is taken. torchmetrics shuffles by torch's unseeded generator, which no option reproduces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InceptionOptions {
    /// The splits.
    pub splits: Splits,
    /// The order.
    pub order: SplitOrder,
    /// What the deviation's divisor leaves out: 0 in torch-fidelity and dgm-eval, 1 in torchmetrics and StudioGAN.
    pub ddof: u32,
}

impl Default for InceptionOptions {
    /// torch-fidelity's: ten splits in numpy's order of seed 2020, ddof 0.
    fn default() -> Self {
        InceptionOptions { splits: Splits::Count(10), order: SplitOrder::Numpy(2020), ddof: 0 }
    }
}

/// Inception Score of one set: exp of the mean Kullback–Leibler divergence of an image's class probabilities from
/// their mean, averaged over splits.
///
/// `value` is in [1, C]; **higher = surer classes, more evenly used**. Biased downward at few images a split. It
/// knows no reference.
///
/// # Source
/// Salimans et al. 2016, arXiv:1606.03498; natural logarithm. Published scores take the 1008 logits of the
/// TF-compatible Inception-v3 *without* its bias.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct InceptionScore {
    /// Mean over splits.
    pub value: f64,
    /// Spread of the splits, as tools print it behind ±; not an error of `value`. `None` where the divisor is 0.
    pub std_dev: Option<f64>,
    /// Number of splits.
    pub splits: usize,
    /// Images that entered.
    pub n: usize,
}

/// [`InceptionScore`] from `logits`, N×C. Its splits depend on the order of images, as those of every tool.
///
/// # Errors
/// `TooFewImages` if a split would be empty; `InvalidOption` for 0 splits or splits of size 0.
pub fn inception_score(logits: Features, options: &InceptionOptions) -> Result<InceptionScore> {
    let n = logits.n();
    let (Splits::Count(number) | Splits::Equal(number) | Splits::Size(number)) = options.splits;
    if number == 0 {
        return Err(
            Error::new(ErrorKind::InvalidOption, "splits", "no split has no score").expected("at least 1", 0)
        );
    }
    let least = if matches!(options.splits, Splits::Size(_)) { 1 } else { number };
    if n < least {
        return Err(Error::new(ErrorKind::TooFewImages, "logits", "a split would be empty")
            .expected(format!("at least {least}"), n)
            .remedy("Take fewer splits."));
    }
    let order = match options.order {
        SplitOrder::Given => (0..n).collect(),
        SplitOrder::Numpy(seed) => {
            let n = u32::try_from(n).map_err(|_| {
                Error::new(ErrorKind::Unsupported, "logits", "too many images to permute")
                    .expected(format!("at most {}", u32::MAX), n)
            })?;
            RandomState::new(seed).permutation(n)
        }
    };
    // In u128 the product cannot overflow.
    let cut = |i: usize| (i as u128 * n as u128 / number as u128) as usize;
    let parts: Vec<&[usize]> = match options.splits {
        Splits::Count(count) => (0..count).map(|i| &order[cut(i)..cut(i + 1)]).collect(),
        Splits::Equal(count) => order.chunks_exact(n / count).take(count).collect(),
        Splits::Size(size) => order.chunks(size).collect(),
    };
    let scores: Vec<f64> = parts.iter().map(|part| score(logits, part)).collect();
    let value = scores.iter().sum::<f64>() / scores.len() as f64;
    let squares: f64 = scores.iter().map(|s| (s - value).powi(2)).sum();
    let divisor = scores.len().saturating_sub(options.ddof as usize);
    Ok(InceptionScore {
        value,
        std_dev: (divisor > 0).then(|| (squares / divisor as f64).sqrt()),
        splits: scores.len(),
        n: parts.iter().map(|part| part.len()).sum(),
    })
}

/// The score of some images.
fn score(logits: Features, images: &[usize]) -> f64 {
    let classes = logits.dim();
    let (mut mean, mut log_p) = (vec![0.0; classes], vec![0.0; classes]);
    let mut own = 0.0;
    for &i in images {
        let row = logits.row(i);
        let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let total = row.iter().map(|&v| (f64::from(v) - largest).exp()).sum::<f64>().ln();
        for ((log_p, &v), mean) in log_p.iter_mut().zip(row).zip(&mut mean) {
            *log_p = f64::from(v) - largest - total;
            let p = log_p.exp();
            *mean += p;
            own += p * *log_p;
        }
    }
    // Mean of Σ p·ln p − Σ p̄·ln p̄, p̄ being the mean of p. A class of probability 0 adds nothing.
    let n = images.len() as f64;
    let shared: f64 = mean.iter().map(|m| m / n).filter(|&m| m > 0.0).map(|m| m * m.ln()).sum();
    (own / n - shared).max(0.0).exp()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::set_metric::fixture::Matrix;

    /// Sums of 282 terms below 2.
    #[test]
    fn matches_numpy() {
        let text = include_str!("../../../../fixtures/spectral/inception.json");
        let fixture: Value = serde_json::from_str(text).unwrap();
        let logits = Matrix::of(&fixture["logits"]);
        let cases = fixture["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 5);
        for case in cases {
            let name = case["name"].as_str().unwrap();
            let (splits, order) = match name {
                "one_split" => (Splits::Count(1), SplitOrder::Given),
                "even_shuffled" => (Splits::Count(10), SplitOrder::Numpy(2020)),
                "even_consecutive" => (Splits::Count(10), SplitOrder::Given),
                "equal_shuffled" => (Splits::Equal(10), SplitOrder::Numpy(2020)),
                "size_consecutive" => (Splits::Size(20), SplitOrder::Given),
                _ => panic!("{name}"),
            };
            for (ddof, key) in [(0, "std_dev"), (1, "std_dev_ddof1")] {
                let options = InceptionOptions { splits, order, ddof };
                let found = inception_score(logits.features(), &options).unwrap();
                let value = case["value"].as_f64().unwrap();
                assert!((found.value - value).abs() < 1e-13 * value, "{name}: {found:?} {value}");
                match (found.std_dev, case[key].as_f64()) {
                    (Some(found), Some(expected)) => assert!((found - expected).abs() < 1e-12, "{name}"),
                    (found, expected) => assert_eq!(found, expected, "{name}"),
                }
            }
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let logits = Matrix { values: vec![0.0; 8], dim: 2 };
        let error = |splits| {
            let options = InceptionOptions { splits, ..Default::default() };
            inception_score(logits.features(), &options).unwrap_err()
        };
        assert_eq!(error(Splits::Size(0)).kind(), ErrorKind::InvalidOption);
        assert_eq!(
            error(Splits::Count(5)).to_string(),
            "logits: a split would be empty; expected at least 5, found 4. Take fewer splits."
        );
    }

    proptest! {
        /// Sure of classes that are used evenly: as many as there are classes. Never sure: 1.
        #[test]
        fn extremes(classes in 1usize..9, repeats in 1usize..4) {
            let n = classes * repeats;
            let sure = (0..n * classes).map(|i| if i / classes % classes == i % classes { 2000.0 } else { 0.0 });
            let options = InceptionOptions { splits: Splits::Count(1), order: SplitOrder::Given, ddof: 0 };
            let score = |values: Vec<f32>| {
                inception_score(Matrix { values, dim: classes }.features(), &options).unwrap().value
            };
            prop_assert!((score(sure.collect()) - classes as f64).abs() < 1e-13 * classes as f64);
            prop_assert!((score(vec![3.0; n * classes]) - 1.0).abs() < 1e-13);
        }
    }
}
