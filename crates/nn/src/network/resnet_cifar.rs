//! ResNet for CIFAR: three stages of 16, 32 and 64 channels, shortcuts without parameters.
//! Feature: the 64 pooled channels before the classifier.
//!
//! Source: He et al. 2015, arXiv:1512.03385 §4.2 (option A); state-dict names of
//! akamaster/pytorch_resnet_cifar10 (`resnet.py`).

use crate::Result;
use crate::graph::{Graph, Op};
use crate::network::{Layers, Normalisation};
use crate::op::activation::Activation;
use crate::op::conv::Window;
use crate::tap::Rows;
use crate::weights::Weights;

/// BatchNorm's ε, PyTorch's default.
const EPS: f64 = 1e-5;

/// Length of the feature.
pub const FEATURE_DIM: usize = 64;

/// Builds ResNet-`depth` (20, 32, 44 or 56: 6n + 2) for `px` × `px` images.
///
/// # Errors
/// A missing tensor or one of the wrong shape.
pub fn graph(depth: usize, px: usize, normalisation: Normalisation, weights: &mut Weights) -> Result<Graph> {
    let (mut net, x) = Layers::new(px, normalisation)?;
    let mut side = px;
    let window = |stride| Window { kh: 3, kw: 3, stride, top: 1, left: 1 };
    let x = net.conv_norm(weights, ("conv1", "bn1"), x, 16, window(1), (side, side), EPS, false)?;
    let mut x = net.activation(x, Activation::Relu)?;
    net.graph.tap("conv1", x, Rows::Pixels);
    for (stage, channels) in [(1, 16), (2, 32), (3, 64)] {
        for block in 0..(depth - 2) / 6 {
            let stride = if stage > 1 && block == 0 { 2 } else { 1 };
            let name = |part: &str| format!("layer{stage}.{block}.{part}");
            let mut shortcut = x;
            if stride == 2 {
                side = side.div_ceil(2);
                let op = Op::Shortcut { stride, pad_channels: channels / 4 };
                shortcut = net.graph.add(name("shortcut"), op, &[x])?;
            }
            let size = (side, side);
            x = net.conv_norm(
                weights,
                (&name("conv1"), &name("bn1")),
                x,
                channels,
                window(stride),
                size,
                EPS,
                false,
            )?;
            x = net.activation(x, Activation::Relu)?;
            x = net.conv_norm(
                weights,
                (&name("conv2"), &name("bn2")),
                x,
                channels,
                window(1),
                size,
                EPS,
                false,
            )?;
            x = net.add(shortcut, x)?;
            x = net.activation(x, Activation::Relu)?;
            net.graph.tap(format!("layer{stage}.{block}"), x, Rows::Pixels);
        }
    }
    net.graph.add("avg_pool", Op::GlobalAveragePool, &[x])?;
    Ok(net.graph)
}

/// Tensors of the published checkpoints that the feature does not need.
pub fn is_ignorable(name: &str) -> bool {
    name.starts_with("linear.") || name.ends_with(".num_batches_tracked")
}
