//! Times passes of a backbone, over as many images a thread as measuring takes: the engine's side of `benches/against_pytorch.py`.
//!
//!     cargo build --release -p anomaly-score --example passes
//!     passes BACKBONE WEIGHTS|- PIXELS THREADS fused|fastest
//!
//! PIXELS: N×px×px×3 bytes. Every line `forward` or `vjp` (a forward pass and the input gradient) on stdin is answered by
//! the seconds that one pass over all images took, `arithmetic` by the name of the rounding on this machine.

use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anomaly_score::backbone::{Arithmetic, Backbone, Request};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: passes BACKBONE WEIGHTS|- PIXELS THREADS fused|fastest";
    let [name, weights, pixels, threads, arithmetic] = &arguments[..] else {
        return Err(usage.into());
    };
    let weights = (weights != "-").then(|| Path::new(weights));
    let arithmetic = Arithmetic::ALL.into_iter().find(|a| a.name() == arithmetic).ok_or(usage)?;
    arithmetic.require_no_other()?;
    let backbone = Backbone::load(&Request { name, weights, arithmetic, ..Request::default() })?;
    let network = backbone.network();
    let bytes = std::fs::read(pixels)?;
    if bytes.is_empty() || bytes.len() % network.input_len() != 0 {
        return Err(
            format!("{pixels}: expected N×{} bytes, found {}", network.input_len(), bytes.len()).into()
        );
    }
    let images: Vec<Vec<f32>> = bytes
        .chunks_exact(network.input_len())
        .map(|image| image.iter().map(|&b| f32::from(b) / 255.0).collect())
        .collect();
    let images: Vec<&[f32]> = images.iter().map(|image| &image[..]).collect();
    let cotangent = vec![1.0; network.feature_len()];
    let mut workspaces: Vec<_> = (0..threads.parse::<usize>()?.max(1)).map(|_| network.workspace()).collect();
    for line in std::io::stdin().lock().lines() {
        let gradient = match line?.as_str() {
            "forward" => false,
            "vjp" => true,
            "arithmetic" => {
                println!("{}", backbone.arithmetic());
                continue;
            }
            other => return Err(format!("expected forward, vjp or arithmetic, found {other:?}").into()),
        };
        let share = images.len().div_ceil(workspaces.len());
        let together = network.images_of_a_pass(0, gradient).min(share);
        let batches: Vec<&[&[f32]]> = images.chunks(together).collect();
        let next = AtomicUsize::new(0);
        let started = Instant::now();
        std::thread::scope(|scope| {
            for workspace in &mut workspaces {
                scope.spawn(|| {
                    while let Some(images) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if gradient {
                            let (_, tape) = network.forward_saving_at(workspace, images, 0);
                            network.vjp_of(workspace, tape, &vec![&cotangent[..]; images.len()]);
                        } else {
                            network.forward_at(workspace, images, 0);
                        }
                    }
                });
            }
        });
        println!("{}", started.elapsed().as_secs_f64());
        std::io::stdout().flush()?;
    }
    Ok(())
}
