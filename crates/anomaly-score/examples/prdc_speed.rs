//! Times precision, recall, density and coverage on features like `reference/prdc_speed.py` makes, which runs this.
//!
//! `cargo run --release -p anomaly-score --example prdc_speed -- FEATURES.f32 D`: the file holds the reference set, then as
//! many generated images.

use std::io::Read;
use std::time::Instant;

use anomaly_score::set_metric::{Features, PrdcOptions, prdc};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let dim: usize = arguments[2].parse()?;
    let mut file = std::fs::File::open(&arguments[1])?;
    let mut values = vec![0.0f32; usize::try_from(file.metadata()?.len())? / 4];
    // A row at a time, so that the peak of memory before the metric is the features alone.
    let mut bytes = vec![0; 4 * dim];
    for row in values.chunks_exact_mut(dim) {
        file.read_exact(&mut bytes)?;
        let numbers = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        row.iter_mut().zip(numbers).for_each(|(to, from)| *to = from);
    }
    let (reference, generated) = values.split_at(values.len() / 2);
    let reference = Features::new("reference", reference, dim)?;
    let generated = Features::new("generated", generated, dim)?;
    let before = peak_bytes()?;
    let start = Instant::now();
    let found = prdc(reference, generated, &PrdcOptions::default())?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{{\"seconds\": {seconds}, \"peak_bytes\": {}, \"peak_before\": {before}, \"precision\": {}, \"recall\": {}, \"density\": {}, \"coverage\": {}}}",
        peak_bytes()?,
        found.precision,
        found.recall,
        found.density,
        found.coverage
    );
    Ok(())
}

/// Largest resident size so far.
fn peak_bytes() -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse::<u64>()? * 1024)
}
