//! Times the set score: one statistic at 50,000 + 50,000 points, and permutation tests.
//!
//! `cargo run --release -p anomaly-score --example ks2d_speed`

use std::time::{Duration, Instant};

use anomaly_score::set_metric::ks2d::PooledSamples;
use anomaly_score::stats::counter_rng;
use rand_distr::{Distribution, StandardNormal};

fn normals(n: usize, key: &[u8]) -> Vec<[f64; 2]> {
    let mut rng = counter_rng(0, "example/ks2d-speed", key);
    (0..n).map(|_| [StandardNormal.sample(&mut rng), StandardNormal.sample(&mut rng)]).collect()
}

/// Median of five timings.
fn median(mut run: impl FnMut()) -> Duration {
    let mut times = [Duration::ZERO; 5];
    for time in &mut times {
        let start = Instant::now();
        run();
        *time = start.elapsed();
    }
    times.sort();
    times[2]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let one_core = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    println!("median of 5 runs");
    for n in [500, 5_000, 50_000] {
        let (reference, generated) = (normals(n, b"reference"), normals(n, b"generated"));
        // Building includes sorting, ranking and the observed statistic.
        let time = median(|| {
            std::hint::black_box(PooledSamples::new(&reference, &generated).map(|p| p.statistic()).ok());
        });
        println!("{n:>6} + {n:<6} statistic, 1 core: {:9.2} ms", time.as_secs_f64() * 1e3);
    }
    for (n, permutations) in [(500, 1000), (5_000, 1000), (50_000, 100)] {
        let pooled = PooledSamples::new(&normals(n, b"reference"), &normals(n, b"generated"))?;
        let mut run = || {
            std::hint::black_box(pooled.permutation_null(permutations, 0));
        };
        let one = one_core.install(|| median(&mut run));
        let all = median(&mut run);
        println!(
            "{n:>6} + {n:<6} {permutations:>4} permutations: {:7.3} s on 1 core ({:.3} ms each), {:7.3} s on {}",
            one.as_secs_f64(),
            one.as_secs_f64() * 1e3 / f64::from(permutations),
            all.as_secs_f64(),
            rayon::current_num_threads(),
        );
    }
    Ok(())
}
