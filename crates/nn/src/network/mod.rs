//! One backbone a file. Each builds a [`Graph`] from a checkpoint; weight names spell the
//! upstream state dict.

pub mod clip;
pub mod convnext;
pub mod dinov2;
pub mod efficientnet_lite;
pub mod inception_v3;
pub mod resnet;
pub mod resnet_cifar;
pub mod siglip;
pub mod vit;

mod linear;
mod position;
mod transformer;

use crate::Result;
use crate::graph::{Graph, NodeId, Op};
use crate::op::activation::Activation;
use crate::op::conv::Window;
use crate::weights::Weights;

pub use position::{PositionResize, resize_position};

/// Mean and deviation of pixels in [0, 1] that a backbone was trained with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalisation {
    /// By channel, RGB.
    pub mean: [f32; 3],
    /// By channel, RGB.
    pub std: [f32; 3],
}

impl Normalisation {
    /// The statistics of ImageNet that torchvision, timm and DINOv2 use.
    pub const IMAGENET: Normalisation =
        Normalisation { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

    /// To [−1, 1]: the networks of Google's JAX code (AugReg ViT, SigLIP).
    pub const HALF: Normalisation = Normalisation { mean: [0.5; 3], std: [0.5; 3] };

    /// (x − mean)/std as an operator.
    pub(crate) fn affine(self) -> Op {
        let scale: Vec<f32> = self.std.iter().map(|s| (1.0 / *s as f64) as f32).collect();
        let shift = self.mean.iter().zip(self.std).map(|(m, s)| (-*m as f64 / s as f64) as f32).collect();
        Op::Affine { scale, shift }
    }
}

/// A graph under construction.
pub(crate) struct Layers {
    pub(crate) graph: Graph,
}

/// Output length and padding before the first pixel of TensorFlow's `SAME` convolution.
pub(crate) fn same_padding(length: usize, kernel: usize, stride: usize) -> (usize, usize) {
    let out = length.div_ceil(stride);
    let total = ((out - 1) * stride + kernel).saturating_sub(length);
    (out, total / 2)
}

impl Layers {
    /// A graph whose first layer normalises `px` × `px` pixels.
    pub(crate) fn new(px: usize, normalisation: Normalisation) -> Result<(Self, NodeId)> {
        let mut graph = Graph::new(px);
        let x = graph.add("normalisation", normalisation.affine(), &[0])?;
        Ok((Layers { graph }, x))
    }

    /// Convolution without bias followed by BatchNorm, folded into one. `depthwise`: one
    /// kernel a channel. Weights: `{conv}.weight`, `{norm}.{weight,bias,running_mean,running_var}`.
    pub(crate) fn conv_norm(
        &mut self,
        weights: &mut Weights,
        (conv, norm): (&str, &str),
        x: NodeId,
        channels: usize,
        window: Window,
        size: (usize, usize),
        eps: f64,
        depthwise: bool,
    ) -> Result<NodeId> {
        let input = if depthwise { 1 } else { self.graph.shape(x).c };
        let mut weight = weights.take(&format!("{conv}.weight"), &[channels, input, window.kh, window.kw])?;
        let mut get = |part: &str| weights.take(&format!("{norm}.{part}"), &[channels]);
        let (gamma, beta) = (get("weight")?, get("bias")?);
        let (mean, var) = (get("running_mean")?, get("running_var")?);
        let per_channel = weight.len() / channels;
        let mut bias = Vec::with_capacity(channels);
        for c in 0..channels {
            let scale = gamma[c] as f64 / (var[c] as f64 + eps).sqrt();
            for w in &mut weight[c * per_channel..(c + 1) * per_channel] {
                *w = (*w as f64 * scale) as f32;
            }
            bias.push((beta[c] as f64 - mean[c] as f64 * scale) as f32);
        }
        let op = if depthwise {
            Op::Depthwise { window, size, weight, bias }
        } else {
            Op::Conv { window, size, weight: weight.into(), bias, groups: 1 }
        };
        self.graph.add(conv, op, &[x])
    }

    /// A linear layer from a weight out×in and its bias.
    pub(crate) fn linear(
        &mut self,
        name: &str,
        x: NodeId,
        weight: Vec<f32>,
        bias: Vec<f32>,
    ) -> Result<NodeId> {
        let shape = self.graph.shape(x);
        self.graph.add(
            name,
            Op::Conv {
                window: Window::POINT,
                size: (shape.h, shape.w),
                weight: weight.into(),
                bias,
                groups: 1,
            },
            &[x],
        )
    }

    /// A nonlinearity after `x`.
    pub(crate) fn activation(&mut self, x: NodeId, f: Activation) -> Result<NodeId> {
        let name = format!("{} {f:?}", self.graph.nodes()[x].name);
        self.graph.add(name, Op::Activation(f), &[x])
    }

    /// Sum of two nodes, named for the second.
    pub(crate) fn add(&mut self, shortcut: NodeId, x: NodeId) -> Result<NodeId> {
        let name = format!("{} + shortcut", self.graph.nodes()[x].name);
        self.graph.add(name, Op::Add, &[shortcut, x])
    }
}
