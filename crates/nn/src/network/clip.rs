//! CLIP's image towers (vision transformers). Feature: the projected image embedding, not normalised.
//!
//! OpenAI's weights were trained with [`Activation::QuickGelu`], most others with GELU, and no tensor tells
//! which: in open_clip 3.3.0 it is `quick_gelu` of the model's configuration (`model.py`) and of the pretrained
//! tag (`pretrained.py`; set for OpenAI, MetaCLIP, DFN and LAION-400M at B/32), in transformers `hidden_act` of
//! `config.json`. So it is part of the [`Config`] here, and of a backbone's name.
//!
//! Source: Radford et al. 2021, arXiv:2103.00020; openai/CLIP 0845fc4, `clip/model.py::VisionTransformer`,
//! whose names (`visual.*`) open_clip 3.3.0 has too; Hugging Face names are those of `CLIPModel` and
//! `CLIPVisionModelWithProjection`.

use crate::Result;
use crate::graph::{Graph, Op};
use crate::network::Normalisation;
use crate::network::transformer::{Gate, Names, Qkv, Sizes, Transformer};
use crate::op::activation::Activation;
use crate::tap::Rows;
use crate::weights::Weights;

/// LayerNorm's ε.
const EPS: f64 = 1e-5;

/// Mean and deviation of CLIP's training images.
pub const NORMALISATION: Normalisation = Normalisation {
    mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
    std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
};

/// Which tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Width.
    pub dim: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Pixels a patch, in both directions.
    pub patch: usize,
    /// Length of the feature.
    pub embed_dim: usize,
    /// Of the MLPs.
    pub activation: Activation,
}

/// ViT-B/32 as OpenAI trained it.
pub const VITB32: Config =
    Config { dim: 768, depth: 12, heads: 12, patch: 32, embed_dim: 512, activation: Activation::QuickGelu };
/// ViT-B/16 as OpenAI trained it.
pub const VITB16: Config = Config { patch: 16, ..VITB32 };
/// ViT-L/14 as OpenAI trained it, at 224 and at 336 pixels.
pub const VITL14: Config =
    Config { dim: 1024, depth: 24, heads: 16, patch: 14, embed_dim: 768, activation: Activation::QuickGelu };

impl Config {
    /// The same tower with GELU, as open_clip trains it.
    pub const fn gelu(self) -> Config {
        Config { activation: Activation::Gelu, ..self }
    }
}

const OPENAI: Names = Names {
    blocks: "transformer.resblocks",
    norm1: "ln_1",
    qkv: Qkv::Joint("attn.in_proj_weight", "attn.in_proj_bias"),
    proj: "attn.out_proj",
    norm2: "ln_2",
    fc1: &["mlp.c_fc"],
    fc2: "mlp.c_proj",
    scales: None,
};

/// Also the spelling of `SiglipModel`.
pub(super) const HUGGING_FACE: Names = Names {
    blocks: "encoder.layers",
    norm1: "layer_norm1",
    qkv: Qkv::Split(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    proj: "self_attn.out_proj",
    norm2: "layer_norm2",
    fc1: &["mlp.fc1"],
    fc2: "mlp.fc2",
    scales: None,
};

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
    let Config { dim, depth, heads, patch, embed_dim, activation } = config;
    let is_openai = !weights.contains("vision_model.embeddings.class_embedding");
    let name = |openai, other| if is_openai { openai } else { other };
    let names = if is_openai { OPENAI } else { HUGGING_FACE };
    let sizes = Sizes { dim, heads, hidden: 4 * dim, gate: Gate::Activation(activation), eps: EPS };
    let (mut net, x) = Transformer::new(px, normalisation, weights, name("visual.", "vision_model."), sizes)?;
    let x = net.patches(x, name("conv1", "embeddings.patch_embedding"), patch, false, "conv1")?;
    let mut class = net.take(name("class_embedding", "embeddings.class_embedding"), &[dim])?;
    let position = name("positional_embedding", "embeddings.position_embedding.weight");
    let (first, position) = net.position(position, true, px / patch, None)?;
    class.iter_mut().zip(first).for_each(|(c, p)| *c += p);
    let x = net.tokens(x, class, true, position)?;
    let mut x = net.norm(x, name("ln_pre", "pre_layrnorm"))?;
    // The class token has not seen the image yet: nobody wants to read it here.
    net.net.graph.tap("ln_pre", x, Rows::Tokens { prefix: 1, class: false });
    for i in 0..depth {
        x = net.block(x, &names, i, "transformer.resblocks")?;
    }
    let x = net.last_norm(x, name("ln_post", "post_layernorm"), "ln_post")?;
    let weight = if is_openai {
        // Stored as the matrix that stands to the right: dim × embed_dim.
        let proj = net.take("proj", &[dim, embed_dim])?;
        (0..embed_dim)
            .flat_map(|o| (0..dim).map(move |i| (i, o)))
            .map(|(i, o)| proj[i * embed_dim + o])
            .collect()
    } else {
        net.weights.take("visual_projection.weight", &[embed_dim, dim])?
    };
    let x = net.net.graph.add("class token", Op::FirstTokens(1), &[x])?;
    net.net.linear("projection", x, weight, vec![0.0; embed_dim])?;
    Ok(net.net.graph)
}

/// Tensors of the published checkpoints that the image tower does not need: the text tower, and constants.
pub fn is_ignorable(name: &str) -> bool {
    let text = ["text_model.", "text_projection", "transformer.", "token_embedding.", "ln_final."];
    text.iter().any(|text| name.starts_with(text))
        || matches!(name, "positional_embedding" | "logit_scale" | "vision_model.embeddings.position_ids")
        || matches!(name, "input_resolution" | "context_length" | "vocab_size")
}
