//! The plain vision transformers of 16-pixel patches: ViT (AugReg), DeiT, and the encoder of MAE.
//! Feature: the class token after the last norm, what timm's classifier reads.
//!
//! MAE is pre-trained without a classifier. Its feature is the same token, as timm gives it for
//! `vit_base_patch16_224.mae` without a head (`global_pool="token"`); to read it as MAE's own
//! fine-tuning does, take the mean of the patches at the tap of the last block.
//!
//! Sources: Dosovitskiy et al. 2021, arXiv:2010.11929; Steiner et al. 2021, arXiv:2106.10270; Touvron et al.
//! 2021, arXiv:2012.12877; He et al. 2022, arXiv:2111.06377. Upstream names are those of timm 1.0.31,
//! `models/vision_transformer.py`, which facebookresearch/deit and facebookresearch/mae use too; Hugging Face
//! names those of the published checkpoints of `ViTModel`, `ViTForImageClassification` and
//! `ViTMAEForPreTraining`.

use crate::Result;
use crate::graph::Graph;
use crate::network::Normalisation;
use crate::network::transformer::{Gate, Names, Qkv, Sizes, Transformer};
use crate::op::activation::Activation;
use crate::weights::Weights;

/// Pixels a patch, in both directions.
const PATCH: usize = 16;
/// LayerNorm's ε in timm and in the code that trained these networks. transformers has 1e-12 for the same
/// weights; both spellings are one network here.
const EPS: f64 = 1e-6;

/// Which size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Width: length of the feature.
    pub dim: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
}

/// ViT-S/16, DeiT-S/16.
pub const S16: Config = Config { dim: 384, depth: 12, heads: 6 };
/// ViT-B/16, MAE's too.
pub const B16: Config = Config { dim: 768, depth: 12, heads: 12 };
/// ViT-L/16.
pub const L16: Config = Config { dim: 1024, depth: 24, heads: 16 };

/// timm's spelling of a block; SigLIP's image tower has it too.
pub(super) const TIMM: Names = Names {
    blocks: "blocks",
    norm1: "norm1",
    qkv: Qkv::Joint("attn.qkv.weight", "attn.qkv.bias"),
    proj: "attn.proj",
    norm2: "norm2",
    fc1: &["mlp.fc1"],
    fc2: "mlp.fc2",
    scales: None,
};

const HUGGING_FACE: Names = Names {
    blocks: "encoder.layer",
    norm1: "layernorm_before",
    qkv: Qkv::Split(["attention.attention.query", "attention.attention.key", "attention.attention.value"]),
    proj: "attention.output.dense",
    norm2: "layernorm_after",
    fc1: &["intermediate.dense"],
    fc2: "output.dense",
    scales: None,
};

/// The names transformers 5 has in memory, which a saved `state_dict()` has too; its `save_pretrained` writes those above.
const TRANSFORMERS_5: Names = Names {
    blocks: "layers",
    norm1: "layernorm_before",
    qkv: Qkv::Split(["attention.q_proj", "attention.k_proj", "attention.v_proj"]),
    proj: "attention.o_proj",
    norm2: "layernorm_after",
    fc1: &["mlp.fc1"],
    fc2: "mlp.fc2",
    scales: None,
};

/// Builds the network for `px` × `px` images, `px` a multiple of 16. The checkpoint must be for
/// images of that size.
///
/// # Errors
/// A missing tensor or one of the wrong shape; `px` not a multiple of 16.
pub fn graph(
    config: Config,
    px: usize,
    normalisation: Normalisation,
    weights: &mut Weights,
) -> Result<Graph> {
    let Config { dim, depth, heads } = config;
    // Models with a head keep the transformer under `vit.`.
    let hugging_face =
        ["", "vit."].into_iter().find(|r| weights.contains(&format!("{r}embeddings.cls_token")));
    let name = |timm, other| if hugging_face.is_some() { other } else { timm };
    let names = match hugging_face {
        None => TIMM,
        Some(root) if weights.contains(&format!("{root}layers.0.attention.q_proj.weight")) => TRANSFORMERS_5,
        Some(_) => HUGGING_FACE,
    };
    let sizes = Sizes { dim, heads, hidden: 4 * dim, gate: Gate::Activation(Activation::Gelu), eps: EPS };
    let (mut net, x) = Transformer::new(px, normalisation, weights, hugging_face.unwrap_or(""), sizes)?;
    let patch = name("patch_embed.proj", "embeddings.patch_embeddings.projection");
    let x = net.patches(x, patch, PATCH, true, "patch_embed")?;
    let mut class = net.take(name("cls_token", "embeddings.cls_token"), &[1, 1, dim])?;
    let position = name("pos_embed", "embeddings.position_embeddings");
    let (first, position) = net.position(position, true, px / PATCH, None)?;
    class.iter_mut().zip(first).for_each(|(c, p)| *c += p);
    let mut x = net.tokens(x, class, true, position)?;
    for i in 0..depth {
        x = net.block(x, &names, i, "blocks")?;
    }
    let x = net.last_norm(x, name("norm", "layernorm"), "norm")?;
    net.class_token(x)
}

/// Tensors of the published checkpoints that the feature does not need: classifiers, the pooler of
/// `ViTModel`, MAE's decoder.
pub fn is_ignorable(name: &str) -> bool {
    let heads = ["head.", "classifier.", "pooler.dense.", "vit.pooler.dense.", "decoder"];
    heads.iter().any(|head| name.starts_with(head))
        || matches!(name, "mask_token" | "embeddings.mask_token" | "vit.embeddings.mask_token")
}
