//! ResNet for ImageNet. Feature: the 512 or 2048 pooled channels before the classifier.
//!
//! Source: He et al. 2015, arXiv:1512.03385; torchvision 0.29 `models/resnet.py` (stride in the 3×3 convolution of a
//! bottleneck), whose state dict the weight names spell; timm's `resnet18` and `resnet50` spell the same. Hugging Face
//! names are those of transformers 5.23 `models/resnet/modeling_resnet.py` (microsoft/resnet-50). SwAV's ResNet-50
//! is this network too: facebookresearch/swav 06b1b7c, `src/resnet50.py`, pads 1 before a first convolution that pads 2,
//! and its files put `module.` before every name.

use crate::Result;
use crate::graph::{Graph, NodeId, Op};
use crate::network::{Layers, Normalisation};
use crate::op::activation::Activation;
use crate::op::conv::Window;
use crate::op::pool::PoolKind;
use crate::tap::Rows;
use crate::weights::Weights;

/// BatchNorm's ε, PyTorch's default.
const EPS: f64 = 1e-5;

/// Channels of the four stages, inside the blocks.
const WIDTHS: [usize; 4] = [64, 128, 256, 512];

/// Which ResNet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Blocks of each stage.
    pub blocks: [usize; 4],
    /// Blocks of 1×1, 3×3 and 1×1 convolutions, four times as wide outside, rather than of two 3×3.
    pub bottleneck: bool,
}

/// ResNet-18.
pub const RESNET18: Config = Config { blocks: [2, 2, 2, 2], bottleneck: false };
/// ResNet-50.
pub const RESNET50: Config = Config { blocks: [3, 4, 6, 3], bottleneck: true };

/// What SwAV trains and evaluates with; the first deviation is not ImageNet's .229 (`src/multicropdataset.py`).
pub const NORMALISATION_SWAV: Normalisation =
    Normalisation { mean: [0.485, 0.456, 0.406], std: [0.228, 0.224, 0.225] };

impl Config {
    /// Length of the feature.
    pub const fn feature_dim(self) -> usize {
        WIDTHS[3] * self.expansion()
    }

    /// How much wider a block is outside than inside.
    const fn expansion(self) -> usize {
        if self.bottleneck { 4 } else { 1 }
    }
}

/// How a checkpoint spells its tensors, and what it puts before every name.
#[derive(Clone, Copy)]
enum Names {
    Torchvision(&'static str),
    HuggingFace(&'static str),
}

impl Names {
    fn of(weights: &Weights) -> Names {
        let hugging_face =
            |root: &&str| weights.contains(&format!("{root}embedder.embedder.convolution.weight"));
        if let Some(root) = ["", "resnet."].into_iter().find(hugging_face) {
            return Names::HuggingFace(root);
        }
        Names::Torchvision(if weights.contains("module.conv1.weight") { "module." } else { "" })
    }

    /// The first convolution and its norm.
    fn stem(self) -> (String, String) {
        match self {
            Names::Torchvision(root) => (format!("{root}conv1"), format!("{root}bn1")),
            Names::HuggingFace(root) => pair(&format!("{root}embedder.embedder")),
        }
    }

    fn block(self, stage: usize, block: usize) -> String {
        match self {
            Names::Torchvision(root) => format!("{root}layer{}.{block}", stage + 1),
            Names::HuggingFace(root) => format!("{root}encoder.stages.{stage}.layers.{block}"),
        }
    }

    /// Convolution `i` of a block and its norm.
    fn layer(self, block: &str, i: usize) -> (String, String) {
        match self {
            Names::Torchvision(_) => (format!("{block}.conv{}", i + 1), format!("{block}.bn{}", i + 1)),
            Names::HuggingFace(_) => pair(&format!("{block}.layer.{i}")),
        }
    }

    /// The convolution beside a block and its norm.
    fn shortcut(self, block: &str) -> (String, String) {
        match self {
            Names::Torchvision(_) => (format!("{block}.downsample.0"), format!("{block}.downsample.1")),
            Names::HuggingFace(_) => pair(&format!("{block}.shortcut")),
        }
    }
}

/// A convolution and its norm as transformers names them.
fn pair(parent: &str) -> (String, String) {
    (format!("{parent}.convolution"), format!("{parent}.normalization"))
}

/// Builds the network for `px` × `px` images.
///
/// # Errors
/// A missing tensor or one of the wrong shape.
pub fn graph(
    config: Config,
    px: usize,
    normalisation: Normalisation,
    weights: &mut Weights,
) -> Result<Graph> {
    let (mut net, x) = Layers::new(px, normalisation)?;
    let names = Names::of(weights);
    let mut conv = |net: &mut Layers, (conv, norm): (String, String), x, channels, kernel, stride| {
        let window = Window::centred(kernel, kernel, stride);
        let size = window.symmetric_size(net.graph.shape(x));
        net.conv_norm(weights, (&conv, &norm), x, channels, window, size, EPS, false)
    };
    let x = conv(&mut net, names.stem(), x, WIDTHS[0], 7, 2)?;
    let x = net.activation(x, Activation::Relu)?;
    net.graph.tap("conv1", x, Rows::Pixels);
    let mut x = max_pool(&mut net, "maxpool", x)?;
    net.graph.tap("maxpool", x, Rows::Pixels);
    for (stage, (&blocks, width)) in config.blocks.iter().zip(WIDTHS).enumerate() {
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let name = names.block(stage, block);
            let out = width * config.expansion();
            let mut shortcut = x;
            if stride > 1 || net.graph.shape(x).c != out {
                shortcut = conv(&mut net, names.shortcut(&name), x, out, 1, stride)?;
            }
            let layers: &[_] = if config.bottleneck {
                &[(width, 1, 1), (width, 3, stride), (out, 1, 1)]
            } else {
                &[(width, 3, stride), (out, 3, 1)]
            };
            for (i, &(channels, kernel, stride)) in layers.iter().enumerate() {
                if i > 0 {
                    x = net.activation(x, Activation::Relu)?;
                }
                x = conv(&mut net, names.layer(&name, i), x, channels, kernel, stride)?;
            }
            x = net.add(shortcut, x)?;
            x = net.activation(x, Activation::Relu)?;
            net.graph.tap(format!("layer{}.{block}", stage + 1), x, Rows::Pixels);
        }
    }
    net.graph.add("avgpool", Op::GlobalAveragePool, &[x])?;
    Ok(net.graph)
}

fn max_pool(net: &mut Layers, name: &str, x: NodeId) -> Result<NodeId> {
    let window = Window::centred(3, 3, 2);
    let size = window.symmetric_size(net.graph.shape(x));
    net.graph.add(name, Op::Pool { window, size, kind: PoolKind::Max }, &[x])
}

/// Tensors of the published checkpoints that the feature does not need.
pub fn is_ignorable(name: &str) -> bool {
    let name = name.strip_prefix("module.").unwrap_or(name);
    ["fc.", "classifier.", "projection_head.", "prototypes."].iter().any(|p| name.starts_with(p))
        || name.ends_with(".num_batches_tracked")
}
