//! The statistic and its p-values under the null: the tables of docs/ks2d.md.
//!
//! `cargo run --release -p anomaly-score --example ks2d_null -- [SPLITS.csv]`; about a minute on two cores. The file
//! gets the p-value of every real-against-real split, a row a split.

use anomaly_score::set_metric::ks2d::PooledSamples;
use anomaly_score::stats::{Summary, counter_rng, mark_random_subset, quantile};
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

/// Independent standard normals, mixed so that the coordinates correlate by `r`.
fn sample(n: usize, r: f64, rng: &mut rand_chacha::ChaCha8Rng) -> Vec<[f64; 2]> {
    let mut point = || {
        let (x, z): (f64, f64) = (StandardNormal.sample(rng), StandardNormal.sample(rng));
        [x, r * x + (1.0 - r * r).sqrt() * z]
    };
    (0..n).map(|_| point()).collect()
}

/// Draw `index` of a pair of samples of one distribution.
fn pair(n1: usize, n2: usize, r: f64, index: u32) -> anomaly_score::Result<PooledSamples> {
    let key = format!("{n1} {n2} {r} {index}");
    let mut rng = counter_rng(0, "example/ks2d-null", key.as_bytes());
    let reference = sample(n1, r, &mut rng);
    PooledSamples::new(&reference, &sample(n2, r, &mut rng))
}

/// "rate ± standard error" of the share of `p_values` at or below .05.
fn rejections(p_values: &[f64]) -> String {
    let n = p_values.len() as f64;
    let rate = p_values.iter().filter(|&&p| p <= 0.05).count() as f64 / n;
    format!("{rate:.4} ± {:.4}", (rate * (1.0 - rate) / n).sqrt())
}

/// Splits of each kind, and relabellings of each split.
const SPLITS: u32 = 1000;
const PERMUTATIONS: u32 = 999;
const LEVELS: [f64; 3] = [0.01, 0.05, 0.2];

/// Complexity and vulnerability of real photos as measured: both log-normal, fitted to 100 ImageNet photos through
/// EfficientNet-Lite0, protocol `paper` (medians 0.092 rad and 34.9, log-deviations .31 and .12), their logarithms
/// correlated by `r`: −.14 there, +.04 for 600 CIFAR-10 photos through ResNet-20.
fn photos(n: usize, r: f64, rng: &mut rand_chacha::ChaCha8Rng) -> Vec<[f64; 2]> {
    let measured = |[x, y]: [f64; 2]| [0.092 * (0.31 * x).exp(), 34.9 * (0.12 * y).exp()];
    sample(n, r, rng).into_iter().map(measured).collect()
}

/// Permutation p-values of random splits of real photos into two sets; every split has photos of its own, so that
/// rejections are independent and their number is binomial.
fn split_p_values(n1: usize, n2: usize, r: f64) -> anomaly_score::Result<Vec<f64>> {
    let p_value = |index: u32| {
        let key = format!("{n1} {n2} {r} {index}");
        let mut rng = counter_rng(0, "example/ks2d-null/split", key.as_bytes());
        let photos = photos(n1 + n2, r, &mut rng);
        let mut in_reference = vec![false; n1 + n2];
        mark_random_subset(&mut rng, &mut in_reference, n1);
        let of = |label: bool| -> Vec<[f64; 2]> {
            photos.iter().zip(&in_reference).filter(|(_, m)| **m == label).map(|(p, _)| *p).collect()
        };
        let null =
            PooledSamples::new(&of(true), &of(false))?.permutation_null(PERMUTATIONS, u64::from(index));
        Ok(null.map_or(1.0, |n| n.p_value))
    };
    (0..SPLITS).into_par_iter().map(p_value).collect()
}

/// The smallest and largest count whose binomial tails both hold more than .005: 99 % or more lie between them.
fn binomial_band(n: u32, level: f64) -> [u32; 2] {
    let tail = |counts: &mut dyn Iterator<Item = u32>| {
        let (mut sum, mut last) = (0.0, 0);
        for k in counts {
            let ln_choose: f64 = (1..=k).map(|i| (f64::from(n - k + i) / f64::from(i)).ln()).sum();
            sum += (ln_choose + f64::from(k) * level.ln() + f64::from(n - k) * (1.0 - level).ln()).exp();
            last = k;
            if sum > 0.005 {
                break;
            }
        }
        last
    };
    [tail(&mut (0..=n)), tail(&mut (0..=n).rev())]
}

/// Prints how often the permutation p rejects, and gives all p-values as CSV.
fn splits() -> anomaly_score::Result<String> {
    println!("\n{SPLITS} real-against-real splits, {PERMUTATIONS} relabellings each\n");
    println!("|  n₁ |  n₂ | correlation | p ≤ .01 | p ≤ .05 | p ≤ .2 | mean p |");
    println!("|----:|----:|------------:|--------:|--------:|-------:|-------:|");
    let kinds = [(128, 128, -0.14), (500, 500, -0.14), (300, 1000, -0.14), (300, 301, -0.6)];
    let mut columns = Vec::new();
    for (n1, n2, r) in kinds {
        let p = split_p_values(n1, n2, r)?;
        let rates = LEVELS.map(|level| {
            let rejected = p.iter().filter(|&&p| p <= level).count();
            let [low, high] = binomial_band(SPLITS, level);
            let inside = (low as usize..=high as usize).contains(&rejected);
            format!("{:.3}{}", rejected as f64 / f64::from(SPLITS), if inside { "" } else { " (outside)" })
        });
        let mean = p.iter().sum::<f64>() / f64::from(SPLITS);
        println!("| {n1} | {n2} | {r} | {} | {mean:.4} |", rates.join(" | "));
        columns.push(p);
    }
    let bands = LEVELS.map(|level| {
        let band = binomial_band(SPLITS, level).map(|k| f64::from(k) / f64::from(SPLITS));
        format!("{:.3} to {:.3}", band[0], band[1])
    });
    println!("| | | 99 % band | {} | |", bands.join(" | "));

    let head = kinds.map(|(n1, n2, r)| format!("{n1}+{n2} r={r}"));
    let mut text = format!("split,{}\n", head.join(","));
    for split in 0..SPLITS as usize {
        let row: Vec<String> = columns.iter().map(|p| format!("{}", p[split])).collect();
        text += &format!("{split},{}\n", row.join(","));
    }
    Ok(text)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("D and the asymptotic p under the null, bivariate normal\n");
    println!("|    n | correlation | draws | mean D | its std error | q95 of D | asymptotic p ≤ .05 |");
    println!("|-----:|------------:|------:|-------:|--------------:|---------:|-------------------:|");
    for (n, draws) in [(10, 20_000), (20, 20_000), (50, 20_000), (128, 20_000), (500, 10_000), (2000, 2_000)]
    {
        for r in [0.0, 0.8] {
            let results: Vec<(f64, Option<f64>)> = (0..draws)
                .into_par_iter()
                .map(|i| pair(n, n, r, i).map(|p| (p.statistic(), p.p_value_asymptotic())))
                .collect::<anomaly_score::Result<_>>()?;
            let d: Vec<f64> = results.iter().map(|x| x.0).collect();
            let p: Vec<f64> = results.iter().filter_map(|x| x.1).collect();
            let summary = Summary::of(&d)?;
            let (Some(mean), Some(std_dev), Some(q95)) = (summary.mean, summary.std_dev, quantile(&d, 0.95))
            else {
                return Err("no draws".into());
            };
            let std_error = std_dev / f64::from(draws).sqrt();
            println!("| {n} | {r} | {draws} | {mean:.4} | {std_error:.4} | {q95:.4} | {} |", rejections(&p));
        }
    }

    println!("\nThe permutation p under the null, 199 relabellings, independent normals\n");
    println!("|  n₁ |  n₂ | draws | p ≤ .05 | mean p | mean of null_mean |");
    println!("|----:|----:|------:|--------:|-------:|------------------:|");
    for (n1, n2, draws) in
        [(20, 20, 5000), (20, 21, 5000), (40, 130, 5000), (128, 128, 5000), (500, 500, 1000)]
    {
        let results: Vec<(f64, f64)> = (0..draws)
            .into_par_iter()
            .map(|i| {
                let null = pair(n1, n2, 0.0, i)?.permutation_null(199, u64::from(i));
                Ok(null.map(|n| (n.p_value, n.mean)))
            })
            .collect::<anomaly_score::Result<Option<_>>>()?
            .ok_or("no relabellings")?;
        let p: Vec<f64> = results.iter().map(|x| x.0).collect();
        let mean = p.iter().sum::<f64>() / f64::from(draws);
        let floor = results.iter().map(|x| x.1).sum::<f64>() / f64::from(draws);
        println!("| {n1} | {n2} | {draws} | {} | {mean:.4} | {floor:.4} |", rejections(&p));
    }
    let p_values = splits()?;
    if let Some(path) = std::env::args().nth(1) {
        std::fs::write(path, p_values)?;
    }
    Ok(())
}
