//! ONNX files against PyTorch in f64: feature, input gradient, layers. The files and the numbers come from
//! `reference/onnx_fixtures.py`; each file holds a family of operators. Whole networks are compared by
//! `reference/onnx_models.py`, whose table is in `docs/onnx.md`.

#[allow(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::path::PathBuf;

use nn::engine::Network;
use nn::graph::Graph;
use nn::network::Normalisation;
use nn::onnx::{Imported, Model, Options};
use nn::real::Real;
use nn::tap::Pool;
use serde_json::Value;
use support::{channels_last, fixtures, generated, numbers, read};

const CASES: [&str; 16] = [
    "convolutions-legacy",
    "convolutions-dynamo",
    "tokens-legacy",
    "tokens-dynamo",
    "windows-legacy",
    "windows-dynamo",
    "shapes-legacy",
    "shapes-dynamo",
    "norms-legacy",
    "norms-dynamo",
    "mixer-legacy",
    "open-legacy",
    "external",
    "rarities-legacy",
    "rarities-dynamo",
    "functions",
];

fn path(name: &str) -> PathBuf {
    fixtures().join(format!("onnx/{name}.onnx"))
}

fn import(name: &str, layers: &[&str]) -> Imported {
    // Only `open-legacy` leaves the size open; the others have it in the file.
    let options = Options { input_px: Some(32), layers, ..Default::default() };
    Model::open(&path(name)).unwrap().import(&options).unwrap()
}

fn relative(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|v| v * v).sum::<f64>().sqrt();
    norm(&mut found.iter().zip(expected).map(|(a, b)| a - b)) / norm(&mut expected.iter().copied())
}

fn image<T: Real>(case: &Value) -> Vec<T> {
    let (centre, scale) = (case["centre"].as_f64().unwrap(), case["scale"].as_f64().unwrap());
    let x = generated(case["input"].as_str().unwrap(), 3 * 32 * 32, centre, scale);
    channels_last(&x).into_iter().map(T::of_f32).collect()
}

/// Feature, and gradient in the order 3×H×W.
fn run<T: Real>(graph: &Graph, case: &Value) -> (Vec<f64>, Vec<f64>) {
    let net = Network::<T>::new(graph);
    let mut ws = net.workspace();
    let (feature, tape) = net.forward_saving(&mut ws, &image::<T>(case));
    let cotangent: Vec<T> =
        generated("cotangent", feature.len(), 0.0, 1.0).into_iter().map(T::of_f32).collect();
    let gradient = net.vjp(&mut ws, tape, &cotangent);
    let plane = gradient.len() / 3;
    let gradient = (0..gradient.len()).map(|i| gradient[i % plane * 3 + i / plane].f64()).collect();
    (feature.iter().map(|v| v.f64()).collect(), gradient)
}

fn compare<T: Real>(name: &str, feature_bound: f64, gradient_bound: f64) {
    let case = read(&format!("onnx/{name}.json"));
    let (feature, gradient) = run::<T>(&import(name, &[]).graph, &case);
    let error = relative(&feature, &numbers(&case["feature"]));
    println!("{name}: feature {error:.1e}");
    assert!(error < feature_bound, "{name}: feature off by {error:e}");
    let some: Vec<f64> = gradient.iter().step_by(5).copied().collect();
    let error = relative(&some, &numbers(&case["gradient"]));
    println!("{name}: gradient {error:.1e}");
    assert!(error < gradient_bound, "{name}: gradient off by {error:e}");
    let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
    let error = (norm / case["gradient_norm"].as_f64().unwrap() - 1.0).abs();
    assert!(error < gradient_bound, "{name}: norm of the gradient off by {error:e}");
}

/// The project's bounds.
#[test]
fn models_agree_with_pytorch() {
    CASES.iter().for_each(|name| compare::<f32>(name, 5e-6, 2e-5));
}

/// In f64 only the folding of weights and constants, which rounds them to f32, stands between the two.
#[test]
fn f64_agrees_closely() {
    CASES.iter().for_each(|name| compare::<f64>(name, 1e-6, 1e-6));
}

/// A normalisation that is asked for does what normalised pixels do.
#[test]
fn normalisation_goes_before_the_model() {
    let norm = Normalisation { mean: [0.4, 0.5, 0.3], std: [0.2, 0.3, 0.25] };
    for name in CASES {
        let case = read(&format!("onnx/{name}.json"));
        let options = Options { input_px: Some(32), normalisation: Some(norm), ..Default::default() };
        let graph = Model::open(&path(name)).unwrap().import(&options).unwrap().graph;
        let normalised = Network::<f64>::new(&graph);
        let plain = Network::<f64>::new(&import(name, &[]).graph);
        let x = image::<f64>(&case);
        let done =
            x.iter().enumerate().map(|(i, v)| (v - f64::from(norm.mean[i % 3])) / f64::from(norm.std[i % 3]));
        let done: Vec<f64> = done.collect();
        let found = normalised.forward(&mut normalised.workspace(), &x);
        let expected = plain.forward(&mut plain.workspace(), &done);
        // Scale and shift are rounded to f32.
        assert!(relative(&found, &expected) < 1e-6, "{name}: {:e}", relative(&found, &expected));
    }
}

/// Layers by the name of their module, of their node and of their value, alone and together.
#[test]
fn layers_agree_with_pytorch() {
    for name in ["convolutions-legacy", "convolutions-dynamo", "tokens-legacy", "tokens-dynamo", "functions"]
    {
        let case = read(&format!("onnx/{name}.json"));
        let expected = case["layers"].as_object().unwrap();
        let names: Vec<&str> = expected.keys().map(String::as_str).collect();
        assert_eq!(names.len(), 2);
        let mut imported = import(name, &names);
        let asked: Vec<_> = names.iter().map(|n| (*n, Some(Pool::Mean))).collect();
        imported.graph.read_at(&asked).unwrap();
        let net = Network::<f32>::new(&imported.graph);
        for (i, layer) in names.iter().enumerate() {
            let found = net.forward_at(&mut net.workspace(), &[&image::<f32>(&case)], i).swap_remove(0);
            let found: Vec<f64> = found.iter().map(|v| f64::from(*v)).collect();
            let error = relative(&found, &numbers(&expected[*layer]));
            assert!(error < 5e-6, "{name}: {layer} off by {error:e}");
            // The same under the other names of its last value.
            let listed = import(name, &[]).layers;
            let value = listed.iter().find(|l| l.modules.iter().any(|m| m == layer)).unwrap();
            for other in [&value.name, &value.node] {
                let mut imported = import(name, &[other]);
                imported.graph.read_at(&[(other.as_str(), Some(Pool::Mean))]).unwrap();
                let (again, _) = run::<f32>(&imported.graph, &case);
                assert!(relative(&again, &found) < 1e-6, "{name}: {other}");
            }
        }
    }
}

/// A value that is folded into the next (a convolution before its BatchNorm) is itself when it is asked for.
#[test]
fn a_layer_that_folding_would_change_stays() {
    let name = "open-legacy";
    let listed = import(name, &[]).layers;
    let product = listed.iter().find(|l| l.name.contains("MatMul") && l.dims == [1, 17, 36]).unwrap();
    let case = read(&format!("onnx/{name}.json"));
    let sum = listed.iter().find(|l| l.name.contains("qkv/Add")).unwrap();
    let feature = |layer: &str| run::<f64>(&import(name, &[layer]).graph, &case).0;
    let (before, after) = (feature(&product.name), feature(&sum.name));
    assert!(relative(&before, &after) > 1e-3, "the bias was folded into the value before it");
}

/// y′ and y″ along a line against differences of y.
#[test]
fn jets_of_smooth_models() {
    for name in ["tokens-dynamo", "windows-legacy", "shapes-dynamo"] {
        let case = read(&format!("onnx/{name}.json"));
        let graph = import(name, &[]).graph;
        let net = Network::<f64>::new(&graph);
        net.smooth().unwrap();
        let mut ws = net.workspace();
        let x = image::<f64>(&case);
        let d: Vec<f64> = generated("direction", x.len(), 0.0, 1.0).into_iter().map(f64::from).collect();
        let [y0, y1, y2] = net.jet(&mut ws, &x, &d).unwrap();
        let mut at =
            |t: f64| net.forward(&mut ws, &x.iter().zip(&d).map(|(x, d)| x + t * d).collect::<Vec<_>>());
        let h = 1e-3;
        let (a, b, c, e) = (at(-2.0 * h), at(-h), at(h), at(2.0 * h));
        let slope: Vec<f64> =
            (0..y0.len()).map(|i| (a[i] - 8.0 * b[i] + 8.0 * c[i] - e[i]) / (12.0 * h)).collect();
        let bend: Vec<f64> = (0..y0.len())
            .map(|i| (-a[i] + 16.0 * b[i] - 30.0 * y0[i] + 16.0 * c[i] - e[i]) / (12.0 * h * h))
            .collect();
        // Stencils of fourth order: their own error is below 1e-7 here, the norm taken over all features.
        assert!(relative(&y1, &slope) < 1e-5, "{name}: {:e}", relative(&y1, &slope));
        assert!(relative(&y2, &bend) < 1e-4, "{name}: {:e}", relative(&y2, &bend));
    }
}

#[test]
fn groups_of_nodes_are_recognised() {
    let fused = |name: &str, what: &str| import(name, &[]).fusions.get(what).copied().unwrap_or(0);
    assert_eq!(fused("tokens-legacy", "attention"), 2);
    assert_eq!(fused("tokens-dynamo", "attention"), 2);
    assert_eq!(fused("tokens-legacy", "GELU from erf"), 2);
    assert_eq!(fused("mixer-legacy", "LayerNorm from means and a root"), 2);
    assert_eq!(fused("shapes-legacy", "SiLU"), 1);
    assert_eq!(fused("norms-legacy", "Mish"), 1);
}

#[test]
fn the_hash_covers_the_weights_file() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["external.onnx", "external.onnx.data"] {
        std::fs::copy(fixtures().join("onnx").join(name), folder.path().join(name)).unwrap();
    }
    let model = folder.path().join("external.onnx");
    let before = Model::open(&model).unwrap().sha256().to_owned();
    assert_eq!(before, Model::open(&path("external")).unwrap().sha256());
    let data = folder.path().join("external.onnx.data");
    let mut bytes = std::fs::read(&data).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&data, bytes).unwrap();
    assert_ne!(before, Model::open(&model).unwrap().sha256());
}

#[test]
fn an_open_size_is_asked_for_and_a_fixed_one_kept() {
    let open = Model::open(&path("open-legacy")).unwrap();
    assert_eq!(open.input_px(), None);
    let error = open.import(&Options::default()).unwrap_err().to_string();
    assert!(
        error.ends_with("input `x`: has no fixed height and width. Give the side in pixels with --input-px"),
        "{error}"
    );
    let fixed = Model::open(&path("tokens-legacy")).unwrap();
    assert_eq!(fixed.input_px(), Some(32));
    let error = fixed.import(&Options { input_px: Some(64), ..Default::default() }).unwrap_err().to_string();
    assert!(error.ends_with("has another size than asked for; expected 32 px, found 64 px"), "{error}");
    // A size the position embedding does not fit.
    let error = open.import(&Options { input_px: Some(64), ..Default::default() }).unwrap_err().to_string();
    assert!(error.contains("(Add): works on tensors that do not broadcast"), "{error}");
}

#[test]
fn an_unknown_layer_lists_the_known() {
    let options = Options { layers: &["blocks.7"], ..Default::default() };
    let error = Model::open(&path("tokens-dynamo")).unwrap().import(&options).unwrap_err();
    assert_eq!(error.kind(), nn::ErrorKind::UnknownLayer);
    let text = error.to_string();
    assert!(
        text.starts_with(
            "blocks.7: the model cannot be read at a layer of that name; expected blocks.0, blocks.0.attn, "
        ),
        "{text}"
    );
}

/// The gradient of every value of a file against finite differences, so that a wrong one names the operator.
#[test]
fn gradients_of_all_layers() {
    for name in ["norms-legacy", "shapes-legacy", "windows-dynamo"] {
        let case = read(&format!("onnx/{name}.json"));
        for layer in import(name, &[]).layers {
            let mut imported = import(name, &[&layer.name]);
            imported.graph.read_at(&[(layer.name.as_str(), Some(Pool::Flat))]).unwrap();
            let net = Network::<f64>::new(&imported.graph);
            let mut ws = net.workspace();
            let x = image::<f64>(&case);
            let d: Vec<f64> = generated("direction", x.len(), 0.0, 1.0).into_iter().map(f64::from).collect();
            let (feature, tape) = net.forward_saving(&mut ws, &x);
            let cotangent: Vec<f64> =
                generated("cotangent", feature.len(), 0.0, 1.0).into_iter().map(f64::from).collect();
            let gradient = net.vjp(&mut ws, tape, &cotangent);
            let mut at = |t: f64| -> f64 {
                let moved: Vec<f64> = x.iter().zip(&d).map(|(x, d)| x + t * d).collect();
                net.forward(&mut ws, &moved).iter().zip(&cotangent).map(|(y, c)| y * c).sum()
            };
            let h = 1e-4;
            let expected = (at(h) - at(-h)) / (2.0 * h);
            let found: f64 = gradient.iter().zip(&d).map(|(g, d)| g * d).sum();
            // The error of the difference is of the order h² beside values of the order of the gradient's norm.
            let scale = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            assert!(
                (found - expected).abs() < 1e-5 * (scale + 1.0),
                "{name}: {}: {found} for {expected}",
                layer.name
            );
        }
    }
}
