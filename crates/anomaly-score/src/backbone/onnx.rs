//! Backbones from ONNX files.

use std::collections::BTreeMap;
use std::path::Path;

use nn::engine::Network;
use nn::network::Normalisation;
use nn::onnx::{Model, Options};
use nn::tap::Pool;

pub use nn::onnx::Layer as OnnxLayer;

use super::{Backbone, Request, read_at};
use crate::image::{Preprocessing, Resampler};
use crate::{Error, ErrorKind, Result};

/// What an ONNX file does not say of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OnnxOptions {
    /// Side of the square input in pixels, for a model that leaves it open.
    pub input_px: Option<usize>,
    /// Mean of the pixels in [0, 1] that the model was trained with, by channel, RGB.
    pub mean: Option<[f32; 3]>,
    /// Their deviation.
    pub std: Option<[f32; 3]>,
}

impl OnnxOptions {
    /// The normalisation, `None` where the model is given pixels in [0, 1] as they are.
    fn normalisation(&self) -> Result<Option<Normalisation>> {
        let wrong = |option: &str, problem: &str| Error::new(ErrorKind::InvalidOption, option, problem);
        let (mean, std) = match (self.mean, self.std) {
            (None, None) => return Ok(None),
            (Some(mean), Some(std)) => (mean, std),
            (None, Some(_)) => {
                return Err(wrong("--std", "is given without --mean; a normalisation needs both"));
            }
            (Some(_), None) => {
                return Err(wrong("--mean", "is given without --std; a normalisation needs both"));
            }
        };
        if mean.iter().any(|m| !m.is_finite()) {
            return Err(wrong("--mean", "is not made of finite numbers"));
        }
        if let Some(bad) = std.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            return Err(wrong("--std", "has an impossible deviation").expected("positive numbers", bad));
        }
        Ok(Some(Normalisation { mean, std }))
    }
}

/// Whether `name` is that of an ONNX file and not of a backbone of the registry.
pub fn is_onnx(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"))
}

/// The name in results: the file's, and the normalisation, without which the numbers would be others.
fn result_name(path: &Path, normalisation: Option<Normalisation>) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let list = |v: [f32; 3]| v.map(|v| v.to_string()).join(",");
    match normalisation {
        None => file,
        Some(n) => format!("{file} (mean {}; std {})", list(n.mean), list(n.std)),
    }
}

fn preprocessing(input_px: usize) -> Preprocessing {
    Preprocessing::crop(Resampler::PilBicubicF32, input_px)
}

/// Loads the ONNX file that `request` names.
pub(super) fn load(request: &Request) -> Result<Backbone> {
    if request.weights.is_some() {
        let problem = "an ONNX model brings its own weights";
        return Err(Error::new(ErrorKind::InvalidOption, "--weights", problem).remedy("Leave --weights out"));
    }
    let path = Path::new(request.name);
    let normalisation = request.onnx.normalisation()?;
    let model = Model::open(path)?;
    let layers: Vec<&str> = request.layers.iter().map(String::as_str).collect();
    let options = Options {
        input_px: request.onnx.input_px,
        normalisation,
        layers: &layers,
        class_token: request.pool == Some(Pool::Cls),
    };
    let mut graph = model.import(&options)?.graph;
    let layers = read_at(&mut graph, request.layers, request.pool)?;
    let input_px = graph.shape(0).h;
    let isa = request.arithmetic.instructions();
    Ok(Backbone {
        name: result_name(path, normalisation),
        preprocessing: preprocessing(input_px),
        network: Network::consuming(graph, isa),
        layers,
        weights_sha256: model.sha256().to_owned(),
        arithmetic: isa.arithmetic(),
    })
}

/// What is known of an ONNX model before it is run.
#[derive(Clone, Debug)]
pub struct ModelCheck {
    /// Side of the square input, pixels.
    pub input_px: usize,
    /// SHA-256 over the model and the files of its weights.
    pub sha256: String,
    /// Name of the value that is read where no layer is named.
    pub output: String,
    /// D: length of the feature read there.
    pub feature_dim: usize,
    /// Multiply-adds of convolutions, linear layers and matrix products for one image.
    pub multiply_adds: u64,
    /// The first layer without a second derivative, so that the `exact` protocol does not apply.
    pub first_kink: Option<String>,
    /// What was recognised and joined, and how often.
    pub fusions: BTreeMap<&'static str, usize>,
    /// All layers that can be read, in the order of the file.
    pub layers: Vec<OnnxLayer>,
}

/// Reads an ONNX model as a backbone would be read, without running it.
///
/// # Errors
/// As loading it: no ONNX file, an unsupported operator, an input without a size.
pub fn check_onnx(path: &Path, options: &OnnxOptions) -> Result<ModelCheck> {
    let model = Model::open(path)?;
    let normalisation = options.normalisation()?;
    let options = Options { input_px: options.input_px, normalisation, ..Default::default() };
    let imported = model.import(&options)?;
    let graph = &imported.graph;
    let feature = graph.outputs().first().map_or(0, |&n| graph.shape(n).len());
    Ok(ModelCheck {
        input_px: graph.shape(0).h,
        sha256: model.sha256().to_owned(),
        feature_dim: feature,
        multiply_adds: graph.multiply_adds(),
        first_kink: graph.first_kink().map(|n| n.name.clone()),
        output: imported.layer,
        fusions: imported.fusions,
        layers: imported.layers,
    })
}
