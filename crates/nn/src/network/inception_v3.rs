//! Inception-v3 as the Fréchet inception distance means it: the network of 2015-12-05 that TensorFlow published, in the
//! layout of its PyTorch port (`pt_inception-2015-12-05-6726825d.pth`). Feature: `pool3`, the 2048 pooled channels.
//!
//! It is torchvision's Inception-v3 but for its weights and its pooling: average pooling inside the blocks does not count
//! padding, and the last block (`Mixed_7c`) pools by the maximum.
//!
//! Taps: every layer by its upstream name; `64`, `192`, `768` and `2048` as pytorch-fid and torch-fidelity number them;
//! `logits_unbiased`, the 1008 logits without bias; `spatial`, what sFID reads: the first 7 channels of TensorFlow's
//! `mixed_6/conv` (`Mixed_6d.branch1x1` here), flat in the order H W C (17·17·7 = 2023 values at 299 px), as in
//! openai/guided-diffusion 22e0df8, `evaluations/evaluator.py`.
//!
//! Source: Szegedy et al. 2015, arXiv:1512.00567; mseitzer/pytorch-fid b9c1811, `src/pytorch_fid/inception.py`, and
//! toshas/torch-fidelity 5e211a9, `torch_fidelity/feature_extractor_inceptionv3.py`, which spell the same state dict.

use crate::graph::{Graph, NodeId, Op};
use crate::network::{Layers, Normalisation};
use crate::op::activation::Activation;
use crate::op::conv::Window;
use crate::op::pool::PoolKind;
use crate::tap::Rows;
use crate::weights::Weights;
use crate::{Error, ErrorKind, Result};

/// BatchNorm's ε.
const EPS: f64 = 1e-3;

/// Length of the feature.
pub const FEATURE_DIM: usize = 2048;

/// Number of logits: TensorFlow's 1000 classes and what it left unused.
const LOGITS: usize = 1008;

/// Channels of `spatial`.
const SPATIAL_CHANNELS: usize = 7;

/// The input size that every published statistic was made at.
pub const INPUT_PX: usize = 299;

/// Below this a window somewhere sees no pixel.
const LEAST_PX: usize = 75;

/// TensorFlow's (x − 128)/128 on 0…255. (pytorch-fid has 2x − 1 on [0, 1].)
pub const NORMALISATION: Normalisation = Normalisation { mean: [128.0 / 255.0; 3], std: [128.0 / 255.0; 3] };

/// Mean of a 3×3 window, padding not counted.
const AVERAGE: PoolKind = PoolKind::Average { count_padding: false };

struct Builder<'w> {
    net: Layers,
    weights: &'w mut Weights,
}

impl Builder<'_> {
    /// Convolution, BatchNorm, ReLU: torchvision's `BasicConv2d`.
    fn conv(&mut self, name: &str, x: NodeId, channels: usize, window: Window) -> Result<NodeId> {
        let size = window.symmetric_size(self.net.graph.shape(x));
        let names = (&*format!("{name}.conv"), &*format!("{name}.bn"));
        let x = self.net.conv_norm(self.weights, names, x, channels, window, size, EPS, false)?;
        self.net.activation(x, Activation::Relu)
    }

    /// Convolutions one after another: last part of the name, channels, window.
    fn chain(&mut self, block: &str, x: NodeId, layers: &[(&str, usize, Window)]) -> Result<NodeId> {
        layers.iter().try_fold(x, |x, &(name, channels, window)| {
            self.conv(&format!("{block}.{name}"), x, channels, window)
        })
    }

    /// Marks the output of `x` under each of `names`.
    fn tap(&mut self, names: &[&str], x: NodeId) -> NodeId {
        names.iter().for_each(|&name| self.net.graph.tap(name, x, Rows::Pixels));
        x
    }

    fn pool(&mut self, name: &str, x: NodeId, window: Window, kind: PoolKind) -> Result<NodeId> {
        let size = window.symmetric_size(self.net.graph.shape(x));
        self.net.graph.add(name, Op::Pool { window, size, kind }, &[x])
    }

    /// 3×3 pooling of stride 1, then a 1×1 convolution.
    fn pool_branch(&mut self, block: &str, x: NodeId, channels: usize, kind: PoolKind) -> Result<NodeId> {
        let x = self.pool(&format!("{block}.pool"), x, Window::centred(3, 3, 1), kind)?;
        self.conv(&format!("{block}.branch_pool"), x, channels, Window::POINT)
    }

    fn concat(&mut self, block: &str, branches: &[NodeId]) -> Result<NodeId> {
        self.net.graph.add(block, Op::Concat, branches)
    }

    /// 35×35: 64 + 64 + 96 + `pooled` channels.
    fn block_a(&mut self, name: &str, x: NodeId, pooled: usize) -> Result<NodeId> {
        let (point, three, five) = (Window::POINT, Window::centred(3, 3, 1), Window::centred(5, 5, 1));
        let branches = [
            self.chain(name, x, &[("branch1x1", 64, point)])?,
            self.chain(name, x, &[("branch5x5_1", 48, point), ("branch5x5_2", 64, five)])?,
            self.chain(
                name,
                x,
                &[
                    ("branch3x3dbl_1", 64, point),
                    ("branch3x3dbl_2", 96, three),
                    ("branch3x3dbl_3", 96, three),
                ],
            )?,
            self.pool_branch(name, x, pooled, AVERAGE)?,
        ];
        self.concat(name, &branches)
    }

    /// 35×35 → 17×17.
    fn block_b(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        let (three, halve) = (Window::centred(3, 3, 1), Window::unpadded(3, 2));
        let branches = [
            self.chain(name, x, &[("branch3x3", 384, halve)])?,
            self.chain(
                name,
                x,
                &[
                    ("branch3x3dbl_1", 64, Window::POINT),
                    ("branch3x3dbl_2", 96, three),
                    ("branch3x3dbl_3", 96, halve),
                ],
            )?,
            self.pool(&format!("{name}.pool"), x, halve, PoolKind::Max)?,
        ];
        self.concat(name, &branches)
    }

    /// 17×17, 4·192 channels; `inner` inside the 7×7 branches.
    fn block_c(&mut self, name: &str, x: NodeId, inner: usize) -> Result<NodeId> {
        let (point, wide, tall) = (Window::POINT, Window::centred(1, 7, 1), Window::centred(7, 1, 1));
        let branches = [
            self.chain(name, x, &[("branch1x1", 192, point)])?,
            self.chain(
                name,
                x,
                &[("branch7x7_1", inner, point), ("branch7x7_2", inner, wide), ("branch7x7_3", 192, tall)],
            )?,
            self.chain(
                name,
                x,
                &[
                    ("branch7x7dbl_1", inner, point),
                    ("branch7x7dbl_2", inner, tall),
                    ("branch7x7dbl_3", inner, wide),
                    ("branch7x7dbl_4", inner, tall),
                    ("branch7x7dbl_5", 192, wide),
                ],
            )?,
            self.pool_branch(name, x, 192, AVERAGE)?,
        ];
        self.concat(name, &branches)
    }

    /// 17×17 → 8×8.
    fn block_d(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        let (point, halve) = (Window::POINT, Window::unpadded(3, 2));
        let branches = [
            self.chain(name, x, &[("branch3x3_1", 192, point), ("branch3x3_2", 320, halve)])?,
            self.chain(
                name,
                x,
                &[
                    ("branch7x7x3_1", 192, point),
                    ("branch7x7x3_2", 192, Window::centred(1, 7, 1)),
                    ("branch7x7x3_3", 192, Window::centred(7, 1, 1)),
                    ("branch7x7x3_4", 192, halve),
                ],
            )?,
            self.pool(&format!("{name}.pool"), x, halve, PoolKind::Max)?,
        ];
        self.concat(name, &branches)
    }

    /// 8×8, 2048 channels.
    fn block_e(&mut self, name: &str, x: NodeId, kind: PoolKind) -> Result<NodeId> {
        let (point, wide, tall) = (Window::POINT, Window::centred(1, 3, 1), Window::centred(3, 1, 1));
        let one = self.chain(name, x, &[("branch1x1", 320, point)])?;
        let three = self.chain(name, x, &[("branch3x3_1", 384, point)])?;
        let double = self.chain(
            name,
            x,
            &[("branch3x3dbl_1", 448, point), ("branch3x3dbl_2", 384, Window::centred(3, 3, 1))],
        )?;
        let branches = [
            one,
            self.chain(name, three, &[("branch3x3_2a", 384, wide)])?,
            self.chain(name, three, &[("branch3x3_2b", 384, tall)])?,
            self.chain(name, double, &[("branch3x3dbl_3a", 384, wide)])?,
            self.chain(name, double, &[("branch3x3dbl_3b", 384, tall)])?,
            self.pool_branch(name, x, 192, kind)?,
        ];
        self.concat(name, &branches)
    }
}

/// Builds the network for `px` × `px` images.
///
/// # Errors
/// A missing tensor or one of the wrong shape; `px` below 75.
pub fn graph(px: usize, normalisation: Normalisation, weights: &mut Weights) -> Result<Graph> {
    if px < LEAST_PX {
        return Err(Error::new(
            ErrorKind::ShapeMismatch,
            "input",
            "Inception-v3 shrinks images of this size away",
        )
        .expected(format!("at least {LEAST_PX} pixels"), px));
    }
    let (net, x) = Layers::new(px, normalisation)?;
    let mut b = Builder { net, weights };
    let (three, halve) = (Window::unpadded(3, 1), Window::unpadded(3, 2));
    let mut x = x;
    for (name, channels, window) in [
        ("Conv2d_1a_3x3", 32, halve),
        ("Conv2d_2a_3x3", 32, three),
        ("Conv2d_2b_3x3", 64, Window::centred(3, 3, 1)),
    ] {
        x = b.conv(name, x, channels, window)?;
        b.tap(&[name], x);
    }
    x = b.pool("maxpool1", x, halve, PoolKind::Max)?;
    b.tap(&["maxpool1", "64"], x);
    for (name, channels, window) in [("Conv2d_3b_1x1", 80, Window::POINT), ("Conv2d_4a_3x3", 192, three)] {
        x = b.conv(name, x, channels, window)?;
        b.tap(&[name], x);
    }
    x = b.pool("maxpool2", x, halve, PoolKind::Max)?;
    b.tap(&["maxpool2", "192"], x);
    for (name, pooled) in [("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)] {
        x = b.block_a(name, x, pooled)?;
        b.tap(&[name], x);
    }
    x = b.block_b("Mixed_6a", x)?;
    b.tap(&["Mixed_6a"], x);
    for (name, inner) in [("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)] {
        x = b.block_c(name, x, inner)?;
        b.tap(&[name], x);
        if name == "Mixed_6d" {
            // The first channels of the block are those of its 1×1 branch.
            let first = Op::Channels { from: 0, count: SPATIAL_CHANNELS };
            let spatial = b.net.graph.add("spatial", first, &[x])?;
            b.net.graph.tap("spatial", spatial, Rows::Places);
        }
    }
    b.tap(&["768"], x);
    x = b.block_d("Mixed_7a", x)?;
    b.tap(&["Mixed_7a"], x);
    for (name, kind) in [("Mixed_7b", AVERAGE), ("Mixed_7c", PoolKind::Max)] {
        x = b.block_e(name, x, kind)?;
        b.tap(&[name], x);
    }
    let feature = b.net.graph.add("pool3", Op::GlobalAveragePool, &[x])?;
    b.tap(&["pool3", "2048"], feature);
    let weight = b.weights.take("fc.weight", &[LOGITS, FEATURE_DIM])?;
    let logits = b.net.linear("fc", feature, weight, vec![0.0; LOGITS])?;
    b.tap(&["logits_unbiased"], logits);
    b.net.graph.outputs = vec![feature];
    Ok(b.net.graph)
}

/// Tensors of the published checkpoint that are not needed: Inception scores are defined on logits without bias.
pub fn is_ignorable(name: &str) -> bool {
    name == "fc.bias" || name.ends_with(".num_batches_tracked")
}
