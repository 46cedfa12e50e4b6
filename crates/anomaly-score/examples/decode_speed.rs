//! Images a second from a file in memory to the network's input, one core: the engine's side of `benches/start_and_decode.py`.
//!
//!     decode_speed FOLDER BACKBONE ROUNDS
//!
//! Prints the seconds of each round over all images of FOLDER, decoded and brought to BACKBONE's input size.

use std::ops::ControlFlow;
use std::time::Instant;

use anomaly_score::backbone::Entry;
use anomaly_score::image::{Limits, Source, decode};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, backbone, rounds] = &arguments[..] else {
        return Err("usage: decode_speed FOLDER BACKBONE ROUNDS".into());
    };
    let preprocessing = Entry::find(backbone)?.preprocessing;
    let source = Source::open(folder)?;
    let wanted = source.sample(usize::MAX, 0);
    let mut files = Vec::with_capacity(wanted.len());
    source.read(&wanted, &mut |_, raw| {
        files.extend(raw.ok());
        ControlFlow::Continue(())
    })?;
    for _ in 0..rounds.parse::<usize>()? {
        let started = Instant::now();
        for raw in &files {
            let picture = decode(raw, &Limits::default()).map_err(|reason| reason.to_string())?;
            std::hint::black_box(preprocessing.apply(&picture));
        }
        println!("{}", started.elapsed().as_secs_f64());
    }
    Ok(())
}
