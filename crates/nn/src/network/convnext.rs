//! ConvNeXt. Feature: the pooled channels after the last LayerNorm, before the classifier. In timm that is
//! `forward_head(…, pre_logits=True)`, in torchvision what enters `classifier.2`, in transformers `pooler_output`.
//!
//! Four spellings of the same state dict: timm's, torchvision's, Hugging Face's and the authors'. Taps have timm's names.
//!
//! Source: Liu et al. 2022, arXiv:2201.03545; timm 1.0.31 `models/convnext.py`; torchvision 0.29 `models/convnext.py`;
//! transformers 5.24 `models/convnext/modeling_convnext.py`; facebookresearch/ConvNeXt 048efce, `models/convnext.py`.

use crate::graph::{Graph, NodeId, Op};
use crate::network::linear::Linear;
use crate::network::{Layers, Normalisation};
use crate::op::activation::Activation;
use crate::op::conv::Window;
use crate::tap::Rows;
use crate::weights::Weights;
use crate::{Error, ErrorKind, Result};

/// LayerNorm's ε. The published Hugging Face configuration says 1e-12 for the last one; the authors' code, timm and
/// torchvision 1e-6. The weights are the same and one backbone gives one number, so theirs is taken.
const EPS: f64 = 1e-6;

/// By how much the four stages shrink an image.
const LEAST_PX: usize = 32;

/// Which ConvNeXt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Blocks of each stage.
    pub blocks: [usize; 4],
    /// Channels of the first stage; each later one has twice as many.
    pub width: usize,
}

/// ConvNeXt-T.
pub const TINY: Config = Config { blocks: [3, 3, 9, 3], width: 96 };
/// ConvNeXt-S.
pub const SMALL: Config = Config { blocks: [3, 3, 27, 3], width: 96 };
/// ConvNeXt-B.
pub const BASE: Config = Config { blocks: [3, 3, 27, 3], width: 128 };
/// ConvNeXt-L.
pub const LARGE: Config = Config { blocks: [3, 3, 27, 3], width: 192 };

impl Config {
    /// Length of the feature.
    pub const fn feature_dim(self) -> usize {
        8 * self.width
    }
}

/// How a checkpoint spells its tensors.
#[derive(Clone, Copy, PartialEq)]
enum Names {
    Timm,
    Torchvision,
    HuggingFace,
    Authors,
}

/// The parts of a block.
#[derive(Clone, Copy)]
enum Part {
    Depthwise,
    Norm,
    Expand,
    Project,
    Scale,
}

impl Names {
    fn of(weights: &Weights) -> Names {
        if weights.contains("features.0.0.weight") {
            Names::Torchvision
        } else if weights.contains("convnext.embeddings.patch_embeddings.weight") {
            Names::HuggingFace
        } else if weights.contains("downsample_layers.0.0.weight") {
            Names::Authors
        } else {
            Names::Timm
        }
    }

    /// Convolution (0) and norm (1) of the stem.
    fn stem(self, layer: usize) -> String {
        match self {
            Names::Timm => format!("stem.{layer}"),
            Names::Torchvision => format!("features.0.{layer}"),
            Names::HuggingFace => {
                format!("convnext.embeddings.{}", ["patch_embeddings", "layernorm"][layer])
            }
            Names::Authors => format!("downsample_layers.0.{layer}"),
        }
    }

    /// Norm (0) and convolution (1) before `stage`, which is not the first.
    fn downsample(self, stage: usize, layer: usize) -> String {
        match self {
            Names::Timm => format!("stages.{stage}.downsample.{layer}"),
            Names::Torchvision => format!("features.{}.{layer}", 2 * stage),
            Names::HuggingFace => format!("convnext.encoder.stages.{stage}.downsampling_layer.{layer}"),
            Names::Authors => format!("downsample_layers.{stage}.{layer}"),
        }
    }

    fn block(self, stage: usize, block: usize, part: Part) -> String {
        let (prefix, parts) = match self {
            Names::Timm => {
                (format!("stages.{stage}.blocks.{block}"), ["conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma"])
            }
            Names::Torchvision => (
                format!("features.{}.{block}", 2 * stage + 1),
                ["block.0", "block.2", "block.3", "block.5", "layer_scale"],
            ),
            Names::HuggingFace => (
                format!("convnext.encoder.stages.{stage}.layers.{block}"),
                ["dwconv", "layernorm", "pwconv1", "pwconv2", "layer_scale_parameter"],
            ),
            Names::Authors => {
                (format!("stages.{stage}.{block}"), ["dwconv", "norm", "pwconv1", "pwconv2", "gamma"])
            }
        };
        format!("{prefix}.{}", parts[part as usize])
    }

    fn last_norm(self) -> &'static str {
        match self {
            Names::Timm => "head.norm",
            Names::Torchvision => "classifier.0",
            Names::HuggingFace => "convnext.layernorm",
            Names::Authors => "norm",
        }
    }
}

struct Builder<'w> {
    net: Layers,
    weights: &'w mut Weights,
    names: Names,
}

impl Builder<'_> {
    /// Scale and shift of a norm.
    fn norm(&mut self, name: &str, channels: usize) -> Result<(Vec<f32>, Vec<f32>)> {
        let scale = self.weights.take(&format!("{name}.weight"), &[channels])?;
        Ok((scale, self.weights.take(&format!("{name}.bias"), &[channels])?))
    }

    fn add_norm(&mut self, name: &str, x: NodeId, affine: Option<(Vec<f32>, Vec<f32>)>) -> Result<NodeId> {
        self.net.graph.add(name, Op::LayerNorm { eps: EPS, affine }, &[x])
    }

    /// A convolution of k×k kernels side by side, with what is folded into it.
    fn patches(&mut self, name: &str, x: NodeId, k: usize, layer: Linear) -> Result<NodeId> {
        let window = Window::unpadded(k, k);
        let size = window.symmetric_size(self.net.graph.shape(x));
        let op = Op::Conv { window, size, weight: layer.weight.into(), bias: layer.bias, groups: 1 };
        self.net.graph.add(name, op, &[x])
    }

    fn kernel(&mut self, name: &str, out: usize, input: usize, k: usize) -> Result<Linear> {
        let weight = self.weights.take(&format!("{name}.weight"), &[out, input, k, k])?;
        Ok(Linear { weight, bias: self.weights.take(&format!("{name}.bias"), &[out])? })
    }

    fn block(&mut self, stage: usize, block: usize, x: NodeId) -> Result<NodeId> {
        let names = self.names;
        let name = |part| names.block(stage, block, part);
        let c = self.net.graph.shape(x).c;
        let depthwise = self.kernel(&name(Part::Depthwise), c, 1, 7)?;
        let window = Window::centred(7, 7, 1);
        let size = window.symmetric_size(self.net.graph.shape(x));
        let op = Op::Depthwise { window, size, weight: depthwise.weight, bias: depthwise.bias };
        let y = self.net.graph.add(name(Part::Depthwise), op, &[x])?;
        let y = self.add_norm(&name(Part::Norm), y, None)?;
        let (gamma, beta) = self.norm(&name(Part::Norm), c)?;
        let expand = Linear::take(self.weights, &name(Part::Expand), 4 * c, c)?.after_norm(&gamma, &beta);
        let y = self.net.linear(&name(Part::Expand), y, expand.weight, expand.bias)?;
        let y = self.net.activation(y, Activation::Gelu)?;
        let shape: &[usize] = if self.names == Names::Torchvision { &[c, 1, 1] } else { &[c] };
        let scale = self.weights.take(&name(Part::Scale), shape)?;
        let project = Linear::take(self.weights, &name(Part::Project), c, 4 * c)?.scaled(|i| scale[i]);
        let y = self.net.linear(&name(Part::Project), y, project.weight, project.bias)?;
        let x = self.net.add(x, y)?;
        self.net.graph.tap(format!("stages.{stage}.blocks.{block}"), x, Rows::Pixels);
        Ok(x)
    }
}

/// Builds the network for `px` × `px` images.
///
/// # Errors
/// A missing tensor or one of the wrong shape; `px` below 32.
pub fn graph(
    config: Config,
    px: usize,
    normalisation: Normalisation,
    weights: &mut Weights,
) -> Result<Graph> {
    if px < LEAST_PX {
        return Err(Error::new(
            ErrorKind::ShapeMismatch,
            "input",
            "ConvNeXt shrinks images of this size away",
        )
        .expected(format!("at least {LEAST_PX} pixels"), px));
    }
    let names = Names::of(weights);
    let (net, x) = Layers::new(px, normalisation)?;
    let mut b = Builder { net, weights, names };
    let stem = b.kernel(&names.stem(0), config.width, 3, 4)?;
    let x = b.patches(&names.stem(0), x, 4, stem)?;
    // What follows pads with zeros and has a shortcut around it, so this norm keeps its scale and shift.
    let affine = b.norm(&names.stem(1), config.width)?;
    let mut x = b.add_norm(&names.stem(1), x, Some(affine))?;
    b.net.graph.tap("stem", x, Rows::Pixels);
    for (stage, blocks) in config.blocks.into_iter().enumerate() {
        if stage > 0 {
            let c = b.net.graph.shape(x).c;
            let (norm, conv) = (names.downsample(stage, 0), names.downsample(stage, 1));
            let (gamma, beta) = b.norm(&norm, c)?;
            let kernel = b.kernel(&conv, 2 * c, c, 2)?.after_norm(&gamma, &beta);
            x = b.add_norm(&norm, x, None)?;
            x = b.patches(&conv, x, 2, kernel)?;
            b.net.graph.tap(format!("stages.{stage}.downsample"), x, Rows::Pixels);
        }
        for block in 0..blocks {
            x = b.block(stage, block, x)?;
        }
    }
    let x = b.net.graph.add("head.global_pool", Op::GlobalAveragePool, &[x])?;
    let affine = b.norm(names.last_norm(), config.feature_dim())?;
    b.add_norm(names.last_norm(), x, Some(affine))?;
    Ok(b.net.graph)
}

/// Tensors of the published checkpoints that the feature does not need: the classifier.
pub fn is_ignorable(name: &str) -> bool {
    ["head.fc.", "classifier.2."].iter().any(|p| name.starts_with(p))
        || matches!(name, "classifier.weight" | "classifier.bias" | "head.weight" | "head.bias")
}
