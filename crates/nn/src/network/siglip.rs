//! SigLIP's image tower: a vision transformer without class token, whose patches are pooled by an attention
//! with a learned query and an MLP ("MAP head"). Feature: the pooled embedding, not normalised.
//!
//! GELU is the tanh form, with which google-research/big_vision trained it and which transformers has
//! (`gelu_pytorch_tanh`). timm 1.0.31 builds `vit_base_patch16_siglip_224` with the erf form, and open_clip
//! 3.3.0 has its tower from timm: their features of the same weights are slightly others.
//!
//! Source: Zhai et al. 2023, arXiv:2303.15343; the head is from Zhai et al. 2022, arXiv:2106.04560. Names:
//! timm's (`layers/attention_pool.py` for the head), open_clip's, which puts `visual.trunk.` before them, and
//! those of transformers' `SiglipModel` and `SiglipVisionModel`.

use crate::Result;
use crate::graph::{Graph, NodeId, Op};
use crate::network::linear::Linear;
use crate::network::transformer::{Gate, Qkv, Sizes, Transformer};
use crate::network::{Normalisation, clip, vit};
use crate::op::activation::Activation;
use crate::weights::Weights;

/// LayerNorm's ε.
const EPS: f64 = 1e-6;

/// Which tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Width: length of the feature.
    pub dim: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads, of the blocks and of the MAP head.
    pub heads: usize,
    /// Pixels a patch, in both directions.
    pub patch: usize,
}

/// ViT-B/16.
pub const VITB16: Config = Config { dim: 768, depth: 12, heads: 12, patch: 16 };

/// Builds the tower for `px` × `px` images, `px` a multiple of the patch. The checkpoint must be for
/// images of that size.
///
/// # Errors
/// A missing tensor or one of the wrong shape; `px` not a multiple of the patch.
pub fn graph(
    config: Config,
    px: usize,
    normalisation: Normalisation,
    weights: &mut Weights,
) -> Result<Graph> {
    let Config { dim, depth, heads, patch } = config;
    // The tower alone, as transformers 5 has it in memory, is under no name.
    let hugging_face =
        ["vision_model.", ""].into_iter().find(|r| weights.contains(&format!("{r}head.probe")));
    let is_hugging_face = hugging_face.is_some();
    let name = |timm, other| if is_hugging_face { other } else { timm };
    let names = if is_hugging_face { clip::HUGGING_FACE } else { vit::TIMM };
    let timm_root = if weights.contains("visual.trunk.pos_embed") { "visual.trunk." } else { "" };
    let gate = Gate::Activation(Activation::GeluTanh);
    let sizes = Sizes { dim, heads, hidden: 4 * dim, gate, eps: EPS };
    let root = hugging_face.unwrap_or(timm_root);
    let (mut net, x) = Transformer::new(px, normalisation, weights, root, sizes)?;
    let x =
        net.patches(x, name("patch_embed.proj", "embeddings.patch_embedding"), patch, true, "patch_embed")?;
    let position = name("pos_embed", "embeddings.position_embedding.weight");
    let (_, position) = net.position(position, false, px / patch, None)?;
    let mut x = net.tokens(x, Vec::new(), false, position)?;
    for i in 0..depth {
        x = net.block(x, &names, i, "blocks")?;
    }
    let x = net.last_norm(x, name("norm", "post_layernorm"), "norm")?;
    pooled(&mut net, x, dim, is_hugging_face)?;
    Ok(net.net.graph)
}

/// The MAP head: tokens → 1 token.
fn pooled(net: &mut Transformer<'_>, x: NodeId, dim: usize, is_hugging_face: bool) -> Result<NodeId> {
    let name = |timm, other| if is_hugging_face { other } else { timm };
    let probe = net.take(name("attn_pool.latent", "head.probe"), &[1, 1, dim])?;
    let all = if is_hugging_face {
        net.take_qkv("head.attention.", Qkv::Joint("in_proj_weight", "in_proj_bias"))?
    } else {
        let mut q = net.take_linear("attn_pool.q", dim, dim)?;
        let kv = net.take_linear("attn_pool.kv", 2 * dim, dim)?;
        q.weight.extend(kv.weight);
        q.bias.extend(kv.bias);
        q
    };
    // The query is the same for every image: (W·probe + b)/√d. An affine map that keeps nothing of a
    // token stands for this constant.
    let scale = f64::from(net.query_scale());
    let dot = |row: &[f32]| row.iter().zip(&probe).map(|(w, p)| f64::from(*w) * f64::from(*p)).sum::<f64>();
    let rows = all.weight.chunks_exact(dim).zip(&all.bias).take(dim);
    let query = rows.map(|(row, b)| ((dot(row) + f64::from(*b)) * scale) as f32).collect();
    let token = net.net.graph.add("attention pool token", Op::FirstTokens(1), &[x])?;
    let op = Op::Affine { scale: vec![0.0; dim], shift: query };
    let query = net.net.graph.add("attention pool query", op, &[token])?;
    let kv = Linear { weight: all.weight[dim * dim..].to_vec(), bias: all.bias[dim..].to_vec() };
    let kv = net.net.linear("attention pool keys and values", x, kv.weight, kv.bias)?;
    let rule = Op::Attention(net.attention_rule(1, 0));
    let attended = net.net.graph.add("attention pool", rule, &[query, kv])?;
    let proj = name("attn_pool.proj", "head.attention.out_proj");
    let layer = net.take_linear(proj, dim, dim)?;
    let x = net.net.linear(&net.name(proj), attended, layer.weight, layer.bias)?;
    let (prefix, norm) = if is_hugging_face { ("head.", "layernorm") } else { ("attn_pool.", "norm") };
    net.mlp(x, prefix, (norm, &["mlp.fc1"], "mlp.fc2"), None)
}

/// Tensors of the published checkpoints that the image tower does not need: the text tower, and constants.
pub fn is_ignorable(name: &str) -> bool {
    name.starts_with("text_model.")
        || name.starts_with("text.")
        || matches!(name, "logit_scale" | "logit_bias")
        || matches!(name, "embeddings.position_ids" | "vision_model.embeddings.position_ids")
}
