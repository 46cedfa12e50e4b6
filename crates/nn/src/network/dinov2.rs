//! DINOv2 vision transformers, with and without registers. Feature: the class token after
//! the last norm (`x_norm_clstoken`).
//!
//! Source: Oquab et al. 2023, arXiv:2304.07193; Darcet et al. 2023, arXiv:2309.16588;
//! facebookresearch/dinov2 e1277af, `dinov2/models/vision_transformer.py` and `hub/backbones.py`;
//! Hugging Face names as in transformers' `modeling_dinov2.py`.

use crate::graph::{Graph, NodeId, Op};
use crate::network::linear::Linear;
use crate::network::{Layers, Normalisation, PositionResize, resize_position};
use crate::op::activation::Activation;
use crate::op::attention::{AttentionRule, Part};
use crate::op::conv::Window;
use crate::tap::Rows;
use crate::weights::Weights;
use crate::{Error, ErrorKind, Result};

/// Pixels a patch, in both directions.
const PATCH: usize = 14;
/// LayerNorm's ε.
const EPS: f64 = 1e-6;

/// Which DINOv2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Width: length of the feature.
    pub dim: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// SwiGLU in place of the GELU MLP.
    pub swiglu: bool,
    /// Register tokens: 0 or 4.
    pub registers: usize,
}

/// ViT-S/14.
pub const VITS14: Config = Config { dim: 384, depth: 12, heads: 6, swiglu: false, registers: 0 };
/// ViT-B/14.
pub const VITB14: Config = Config { dim: 768, depth: 12, heads: 12, swiglu: false, registers: 0 };
/// ViT-L/14.
pub const VITL14: Config = Config { dim: 1024, depth: 24, heads: 16, swiglu: false, registers: 0 };
/// ViT-g/14.
pub const VITG14: Config = Config { dim: 1536, depth: 40, heads: 24, swiglu: true, registers: 0 };

impl Config {
    /// The same network with four registers.
    pub const fn reg4(self) -> Config {
        Config { registers: 4, ..self }
    }

    /// Channels inside the MLP.
    fn hidden(self) -> usize {
        let hidden = 4 * self.dim;
        if self.swiglu { (hidden * 2 / 3).div_ceil(8) * 8 } else { hidden }
    }

    fn resize(self) -> PositionResize {
        if self.registers > 0 {
            PositionResize::CubicAntialias
        } else {
            PositionResize::Cubic { offset: 0.1 }
        }
    }
}

/// The two spellings of the same state dict.
#[derive(Clone, Copy, PartialEq)]
enum Names {
    Upstream,
    HuggingFace,
}

struct Checkpoint<'w> {
    weights: &'w mut Weights,
    names: Names,
    config: Config,
}

impl Checkpoint<'_> {
    fn linear(&mut self, name: &str, out: usize, input: usize) -> Result<Linear> {
        Linear::take(self.weights, name, out, input)
    }

    fn norm(&mut self, name: &str) -> Result<(Vec<f32>, Vec<f32>)> {
        let dim = self.config.dim;
        let scale = self.weights.take(&format!("{name}.weight"), &[dim])?;
        Ok((scale, self.weights.take(&format!("{name}.bias"), &[dim])?))
    }

    fn block(&self, i: usize, upstream: &str, hugging_face: &str) -> String {
        match self.names {
            Names::Upstream => format!("blocks.{i}.{upstream}"),
            Names::HuggingFace => format!("encoder.layer.{i}.{hugging_face}"),
        }
    }

    fn name(&self, upstream: &str, hugging_face: &str) -> String {
        (if self.names == Names::Upstream { upstream } else { hugging_face }).to_owned()
    }

    /// Q, K and V as one layer of 3·dim rows.
    fn qkv(&mut self, i: usize) -> Result<Linear> {
        let dim = self.config.dim;
        if self.names == Names::Upstream {
            return self.linear(&format!("blocks.{i}.attn.qkv"), 3 * dim, dim);
        }
        let mut all = Linear { weight: Vec::new(), bias: Vec::new() };
        for part in ["query", "key", "value"] {
            let one = self.linear(&format!("encoder.layer.{i}.attention.attention.{part}"), dim, dim)?;
            all.weight.extend(one.weight);
            all.bias.extend(one.bias);
        }
        Ok(all)
    }
}

/// Builds the network for `px` × `px` images, `px` a multiple of 14.
///
/// # Errors
/// A missing tensor or one of the wrong shape; `px` not a multiple of 14.
pub fn graph(
    config: Config,
    px: usize,
    normalisation: Normalisation,
    weights: &mut Weights,
) -> Result<Graph> {
    if !px.is_multiple_of(PATCH) || px == 0 {
        return Err(Error::new(
            ErrorKind::ShapeMismatch,
            "input",
            "DINOv2 cuts images into patches of 14 pixels",
        )
        .expected("a multiple of 14", px));
    }
    let Config { dim, depth, heads, registers, .. } = config;
    let hidden = config.hidden();
    let names = if weights.contains("embeddings.cls_token") { Names::HuggingFace } else { Names::Upstream };
    let mut from = Checkpoint { weights, names, config };

    // Patches and tokens.
    let patch = from.name("patch_embed.proj", "embeddings.patch_embeddings.projection");
    let patch_weight = from.weights.take(&format!("{patch}.weight"), &[dim, 3, PATCH, PATCH])?;
    let patch_bias = from.weights.take(&format!("{patch}.bias"), &[dim])?;
    let class = from.weights.take(&from.name("cls_token", "embeddings.cls_token"), &[1, 1, dim])?;
    let position_name = from.name("pos_embed", "embeddings.position_embeddings");
    let (prefix, position) = tokens(&mut from, &position_name, class, px / PATCH, registers)?;

    let (mut net, x) = Layers::new(px, normalisation)?;
    let side = px / PATCH;
    let window = Window { kh: PATCH, kw: PATCH, stride: PATCH, top: 0, left: 0 };
    let op = Op::Conv { window, size: (side, side), weight: patch_weight, bias: patch_bias, groups: 1 };
    let x = net.graph.add(patch, op, &[x])?;
    net.graph.tap("patch_embed", x, Rows::Pixels);
    let mut x = net.graph.add("tokens", Op::Tokens { prefix, position }, &[x])?;

    let kind = Rows::Tokens { prefix: 1 + registers, class: true };
    for i in 0..depth {
        let normal = norm(&mut net, &from.block(i, "norm1", "norm1"), x, None)?;
        let (gamma, beta) = from.norm(&from.block(i, "norm1", "norm1"))?;
        let query_scale = 1.0 / ((dim / heads) as f64).sqrt();
        let qkv = from.qkv(i)?.after_norm(&gamma, &beta);
        let qkv = qkv.scaled(|row| if row < dim { query_scale as f32 } else { 1.0 });
        let attention_name = from.block(i, "attn", "attention");
        let rule = AttentionRule {
            heads,
            dim: dim / heads,
            query: Part { input: 0, column: 0 },
            key: Part { input: 0, column: dim },
            value: Part { input: 0, column: 2 * dim },
        };
        let qkv = net.linear(&format!("{attention_name}.qkv"), normal, qkv.weight, qkv.bias)?;
        let attended = net.graph.add(&attention_name, Op::Attention(rule), &[qkv])?;
        let name = from.block(i, "attn.proj", "attention.output.dense");
        let scale = from.weights.take(&from.block(i, "ls1.gamma", "layer_scale1.lambda1"), &[dim])?;
        let projection = from.linear(&name, dim, dim)?.scaled(|c| scale[c]);
        let projected = net.linear(&name, attended, projection.weight, projection.bias)?;
        x = net.add(x, projected)?;

        let normal = norm(&mut net, &from.block(i, "norm2", "norm2"), x, None)?;
        let (gamma, beta) = from.norm(&from.block(i, "norm2", "norm2"))?;
        let (first, second) = if config.swiglu {
            (from.block(i, "mlp.w12", "mlp.weights_in"), from.block(i, "mlp.w3", "mlp.weights_out"))
        } else {
            (from.block(i, "mlp.fc1", "mlp.fc1"), from.block(i, "mlp.fc2", "mlp.fc2"))
        };
        let rows = if config.swiglu { 2 * hidden } else { hidden };
        let layer = from.linear(&first, rows, dim)?.after_norm(&gamma, &beta);
        let inner = net.linear(&first, normal, layer.weight, layer.bias)?;
        let inner = if config.swiglu {
            net.graph.add(format!("{first} gate"), Op::GatedSilu, &[inner])?
        } else {
            net.activation(inner, Activation::Gelu)?
        };
        let scale = from.weights.take(&from.block(i, "ls2.gamma", "layer_scale2.lambda1"), &[dim])?;
        let layer = from.linear(&second, dim, hidden)?.scaled(|c| scale[c]);
        let outer = net.linear(&second, inner, layer.weight, layer.bias)?;
        x = net.add(x, outer)?;
        net.graph.tap(format!("blocks.{i}"), x, kind);
    }
    let name = from.name("norm", "layernorm");
    let affine = from.norm(&name)?;
    let x = norm(&mut net, &name, x, Some(affine))?;
    net.graph.tap("norm", x, kind);
    net.graph.add("class token", Op::FirstTokens(1), &[x])?;
    Ok(net.graph)
}

fn norm(net: &mut Layers, name: &str, x: NodeId, affine: Option<(Vec<f32>, Vec<f32>)>) -> Result<NodeId> {
    net.graph.add(name, Op::LayerNorm { eps: EPS, affine }, &[x])
}

/// Prefix tokens (class token with its position, registers without one) and the position
/// embedding of the patches at this grid.
fn tokens(
    from: &mut Checkpoint,
    name: &str,
    mut class: Vec<f32>,
    side: usize,
    registers: usize,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let dim = from.config.dim;
    let (shape, all) = from.weights.take_any(name)?;
    let grid = (shape.get(1).map_or(0, |n| n.saturating_sub(1)) as f64).sqrt() as usize;
    if shape.len() != 3 || shape[0] != 1 || shape[2] != dim || grid == 0 || shape[1] != grid * grid + 1 {
        return Err(Error::new(ErrorKind::ShapeMismatch, name, "wrong shape")
            .expected(format!("[1, 1 + a square number, {dim}]"), format!("{shape:?}")));
    }
    class.iter_mut().zip(&all[..dim]).for_each(|(c, p)| *c += *p);
    let position = resize_position(&all[dim..], grid, side, dim, from.config.resize());
    if registers > 0 {
        let name = from.name("register_tokens", "embeddings.register_tokens");
        class.extend(from.weights.take(&name, &[1, registers, dim])?);
    }
    Ok((class, position))
}

/// Tensors of the published checkpoints that the feature does not need.
pub fn is_ignorable(name: &str) -> bool {
    matches!(name, "mask_token" | "embeddings.mask_token")
}
