//! The statistic and its p-values under the null: the tables of docs/ks2d.md.
//!
//! `cargo run --release -p anomaly-score --example ks2d_null`; about ten seconds on two cores.

use anomaly_score::set_metric::ks2d::PooledSamples;
use anomaly_score::stats::{Summary, counter_rng, quantile};
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
    Ok(())
}
