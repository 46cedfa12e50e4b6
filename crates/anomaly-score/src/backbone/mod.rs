//! Backbones: the registry of names, where weights come from, and a network ready to measure.

pub mod hub;
mod instructions;
mod onnx;
mod registry;

use std::path::{Path, PathBuf};

use nn::engine::Network;
use nn::graph::Graph;
use nn::weights::Weights;

pub use nn::tap::Pool;

pub use hub::HubFile;
pub(crate) use instructions::way_to;
pub use instructions::{Arithmetic, ISA_VARIABLE, check_instructions};
pub use onnx::{ModelCheck, OnnxLayer, OnnxOptions, check_onnx, is_onnx};
pub use registry::{BACKBONES, DEFAULT, Entry, Layer, Origin, WeightsSource};

use hub::{Hub, Watch, check_sha256};

use crate::image::Preprocessing;
use crate::table::BackboneSettings;
use crate::{Error, ErrorKind, Result};

/// Which network to load, and where to read it.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    /// Name in the registry, or the path of an ONNX file.
    pub name: &'a str,
    /// The weights; `None`: those the registry names, compiled in or in the hub's cache on this machine (see [`fetch`]).
    pub weights: Option<&'a Path>,
    /// Layers to read, in this order; empty: the network's own output.
    pub layers: &'a [String],
    /// How a layer becomes one vector; `None`: as the layer is usually read.
    pub pool: Option<Pool>,
    /// How to round. What [`ISA_VARIABLE`] names in the environment goes before it.
    pub arithmetic: Arithmetic,
    /// For an ONNX file.
    pub onnx: OnnxOptions,
}

/// A backbone with its weights, ready to measure. Shared by all threads.
pub struct Backbone {
    name: String,
    preprocessing: Preprocessing,
    network: Network<f32>,
    /// For each output of the network, the layer it is read at; `None`: the network's own output.
    layers: Vec<Option<String>>,
    weights_sha256: String,
    /// Name of its rounding.
    arithmetic: &'static str,
}

impl Backbone {
    /// Loads a backbone of the registry, or an ONNX file.
    ///
    /// # Errors
    /// An unknown name or layer; no weights; weights that cannot be read or are another network's; a pool without a
    /// layer, or one that does not fit its layer; a layer named twice; an ONNX file that is damaged or uses what is
    /// not supported; options of ONNX files with a backbone of the registry; as [`check_instructions`].
    pub fn load(request: &Request) -> Result<Backbone> {
        check_instructions()?;
        if is_onnx(request.name) {
            return onnx::load(request);
        }
        let entry = Entry::find(request.name)?;
        if request.onnx != OnnxOptions::default() {
            let problem = "--input-px, --mean and --std are for ONNX files; this backbone has its own";
            return Err(Error::new(ErrorKind::InvalidOption, entry.name, problem));
        }
        let weights = match (request.weights, entry.origin.source) {
            (Some(path), _) => Weights::open(path)?,
            (None, WeightsSource::Embedded(bytes)) => Weights::from_safetensors(bytes, "(embedded weights)")?,
            (None, WeightsSource::Hub(file)) => {
                let hub = Hub::from_env()?;
                let path = hub.cached(&file).ok_or_else(|| hub.missing(&file, entry.name))?;
                let weights = Weights::open(&path)?;
                check_sha256(&file, &path, weights.sha256())?;
                weights
            }
            (None, WeightsSource::Elsewhere) => return Err(no_place(entry)),
        };
        let weights_sha256 = weights.sha256().to_owned();
        let mut graph = entry.graph(weights)?;
        let layers = read_at(&mut graph, request.layers, request.pool)?;
        let isa = request.arithmetic.instructions();
        Ok(Backbone {
            name: entry.name.to_owned(),
            preprocessing: entry.preprocessing,
            network: Network::consuming(graph, isa),
            layers,
            weights_sha256,
            arithmetic: isa.arithmetic(),
        })
    }

    /// How the network was trained to see images.
    pub fn preprocessing(&self) -> Preprocessing {
        self.preprocessing
    }

    /// The network; one output a layer.
    pub fn network(&self) -> &Network<f32> {
        &self.network
    }

    /// For each output of the network, the layer it is read at and how (`blocks.4:mean`); `None`: the network's own.
    pub fn layers(&self) -> &[Option<String>] {
        &self.layers
    }

    /// Name of the rounding this network is computed with: `separate`, `fused` or `bfloat16x3`
    /// ([`Isa::arithmetic`](nn::kernel::isa::Isa::arithmetic)).
    pub fn arithmetic(&self) -> &'static str {
        self.arithmetic
    }

    /// What identifies this backbone, read at output `output`, in every result.
    pub fn settings(&self, output: usize) -> BackboneSettings {
        BackboneSettings {
            name: self.name.clone(),
            weights_sha256: self.weights_sha256.clone(),
            input_px: self.preprocessing.input_px as u32,
            feature_dim: self.network.feature_len_at(output) as u32,
            layer: self.layers[output].clone(),
        }
    }
}

/// Brings the weights of a backbone onto this machine, unless they are compiled in or here already. Where they are then:
/// `None` if compiled in.
///
/// # Errors
/// As [`Hub::fetch`] and [`Hub::from_env`]; `InvalidOption` if the registry knows no place to fetch them from.
pub fn fetch(entry: &Entry, watch: &Watch) -> Result<Option<PathBuf>> {
    match entry.origin.source {
        WeightsSource::Embedded(_) => Ok(None),
        WeightsSource::Hub(file) => Hub::from_env()?.fetch(&file, watch).map(Some),
        WeightsSource::Elsewhere => Err(no_place(entry)),
    }
}

fn no_place(entry: &Entry) -> Error {
    Error::new(
        ErrorKind::InvalidOption,
        entry.name,
        "the weights of this backbone are at no place to fetch them from",
    )
    .remedy(format!("Give the file with --weights; it is to be had as: {}", entry.origin))
}

/// Makes `layers` the outputs of `graph` and returns their names in results; the network's own output if there are none.
fn read_at(graph: &mut Graph, layers: &[String], pool: Option<Pool>) -> Result<Vec<Option<String>>> {
    if layers.is_empty() {
        return match pool {
            None => Ok(vec![None]),
            Some(pool) => Err(Error::new(
                ErrorKind::InvalidOption,
                "--pool",
                format!("`{}` says how a layer is read, but no layer is named", pool.name()),
            )
            .remedy("Name one with --layer; `anomaly-score backbones show NAME` lists them")),
        };
    }
    if let Some(twice) = layers.iter().enumerate().find(|(i, l)| layers[..*i].contains(l)) {
        return Err(Error::new(ErrorKind::InvalidOption, "--layer", format!("`{}` is named twice", twice.1)));
    }
    let asked: Vec<_> = layers.iter().map(|l| (l.as_str(), pool)).collect();
    let pools = graph.read_at(&asked)?;
    Ok(layers.iter().zip(pools).map(|(layer, pool)| Some(format!("{layer}:{}", pool.name()))).collect())
}
