//! Fréchet distance of two published statistics files, timed: the Rust side of `benches/frechet.py`.
//!
//! `cargo run --release -p anomaly-score --example frechet_speed -- REFERENCE.npz GENERATED.npz`

use std::path::Path;
use std::time::Instant;

use anomaly_score::set_metric::{frechet_distance, read_statistics};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    let [reference, generated] = &paths[..] else {
        return Err("two .npz files with mu and sigma are needed".into());
    };
    let (reference, generated) =
        (read_statistics(Path::new(reference))?, read_statistics(Path::new(generated))?);
    let start = Instant::now();
    let distance = frechet_distance(&reference.pooled, &generated.pooled)?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{}", serde_json::json!({ "distance": distance, "wall_s": seconds }));
    Ok(())
}
