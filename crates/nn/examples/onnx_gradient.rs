//! Feature and input gradient of an ONNX model, for `reference/onnx_models.py`.
//!
//!     onnx_gradient MODEL.onnx INPUT COTANGENT OUTPUT [LAYER]
//!
//! INPUT: the image 3×H×W, COTANGENT: one number a feature, OUTPUT: feature and gradient (3×H×W) in f32 arithmetic,
//! then both in f64 arithmetic; all as little-endian f64. Prints what was read as one line of JSON.

use std::path::Path;

use nn::engine::Network;
use nn::graph::Graph;
use nn::onnx::{Model, Options};
use nn::real::Real;

type Failure = Box<dyn std::error::Error>;

fn numbers(path: &str) -> Result<Vec<f64>, Failure> {
    Ok(std::fs::read(path)?.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect())
}

/// Feature, and gradient of ⟨feature, cotangent⟩ in the order 3×H×W.
fn run<T: Real>(graph: &Graph, image: &[f64], cotangent: &[f64]) -> Result<Vec<f64>, Failure> {
    let network = Network::<T>::new(graph);
    let mut ws = network.workspace();
    let plane = image.len() / 3;
    let x: Vec<T> = (0..image.len()).map(|i| T::of(image[i % 3 * plane + i / 3])).collect();
    let (feature, tape) = network.forward_saving(&mut ws, &x);
    if feature.len() != cotangent.len() {
        return Err(format!("{} features, {} cotangents", feature.len(), cotangent.len()).into());
    }
    let cotangent: Vec<T> = cotangent.iter().map(|&v| T::of(v)).collect();
    let gradient = network.vjp(&mut ws, tape, &cotangent);
    let gradient = (0..image.len()).map(|i| gradient[i % plane * 3 + i / plane].f64());
    Ok(feature.iter().map(|v| v.f64()).chain(gradient).collect())
}

fn main() {
    if let Err(e) = run_all() {
        eprintln!("{e}");
        std::process::exit(1);
    }
}

fn run_all() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, image, cotangent, output, layers @ ..] = &args[..] else {
        return Err("MODEL.onnx INPUT COTANGENT OUTPUT [LAYER]".into());
    };
    let (image, cotangent) = (numbers(image)?, numbers(cotangent)?);
    let layers: Vec<&str> = layers.iter().map(String::as_str).collect();
    let px = (image.len() / 3).isqrt();
    let options = Options { input_px: Some(px), layers: &layers, ..Default::default() };
    let imported = Model::open(Path::new(model))?.import(&options)?;
    let mut all = run::<f32>(&imported.graph, &image, &cotangent)?;
    all.extend(run::<f64>(&imported.graph, &image, &cotangent)?);
    std::fs::write(output, all.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())?;
    let kink = imported.graph.first_kink().map(|n| n.name.clone());
    let line = serde_json::json!({
        "layers": imported.layers.len(),
        "steps": imported.graph.needed().iter().filter(|n| **n).count(),
        "multiply_adds": imported.graph.multiply_adds(),
        "fusions": imported.fusions,
        "kink": kink,
    });
    println!("{line}");
    Ok(())
}
