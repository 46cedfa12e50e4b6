//! DINOv2 vision transformers, with and without registers. Feature: the class token after
//! the last norm (`x_norm_clstoken`).
//!
//! Source: Oquab et al. 2023, arXiv:2304.07193; Darcet et al. 2023, arXiv:2309.16588;
//! facebookresearch/dinov2 e1277af, `dinov2/models/vision_transformer.py` and `hub/backbones.py`;
//! Hugging Face names are those of the published checkpoints (facebook/dinov2-*), or of `state_dict()` in
//! transformers 5.23, `modeling_dinov2.py`.

use crate::Result;
use crate::graph::Graph;
use crate::network::transformer::{Gate, Names, Qkv, Sizes, Transformer};
use crate::network::{Normalisation, PositionResize};
use crate::op::activation::Activation;
use crate::weights::Weights;

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

const UPSTREAM: Names = Names {
    blocks: "blocks",
    norm1: "norm1",
    qkv: Qkv::Joint("attn.qkv.weight", "attn.qkv.bias"),
    proj: "attn.proj",
    norm2: "norm2",
    fc1: &["mlp.fc1"],
    fc2: "mlp.fc2",
    scales: Some(["ls1.gamma", "ls2.gamma"]),
};

const HUGGING_FACE: Names = Names {
    blocks: "encoder.layer",
    norm1: "norm1",
    qkv: Qkv::Split(["attention.attention.query", "attention.attention.key", "attention.attention.value"]),
    proj: "attention.output.dense",
    norm2: "norm2",
    fc1: &["mlp.fc1"],
    fc2: "mlp.fc2",
    scales: Some(["layer_scale1.lambda1", "layer_scale2.lambda1"]),
};

/// The names transformers 5 has in memory, which a saved `state_dict()` has too; its `save_pretrained` writes those above.
const TRANSFORMERS_5: Names = Names {
    qkv: Qkv::Split(["attention.q_proj", "attention.k_proj", "attention.v_proj"]),
    proj: "attention.o_proj",
    ..HUGGING_FACE
};

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
    let Config { dim, depth, heads, registers, swiglu } = config;
    let is_upstream = !weights.contains("embeddings.cls_token");
    let name = |upstream, hugging_face| if is_upstream { upstream } else { hugging_face };
    let is_new = weights.contains("encoder.layer.0.attention.q_proj.weight");
    let (mut names, fc1, fc2): (_, &[&str], _) = match (is_upstream, is_new) {
        (true, _) => (UPSTREAM, &["mlp.w12"], "mlp.w3"),
        (false, false) => (HUGGING_FACE, &["mlp.weights_in"], "mlp.weights_out"),
        (false, true) => (TRANSFORMERS_5, &["mlp.gate_proj", "mlp.up_proj"], "mlp.down_proj"),
    };
    if swiglu {
        (names.fc1, names.fc2) = (fc1, fc2);
    }
    let gate = if swiglu { Gate::SwiGlu } else { Gate::Activation(Activation::Gelu) };
    let sizes = Sizes { dim, heads, hidden: config.hidden(), gate, eps: EPS };
    let (mut net, x) = Transformer::new(px, normalisation, weights, "", sizes)?;
    let patch = name("patch_embed.proj", "embeddings.patch_embeddings.projection");
    let x = net.patches(x, patch, PATCH, true, "patch_embed")?;
    let mut prefix = net.take(name("cls_token", "embeddings.cls_token"), &[1, 1, dim])?;
    let position = name("pos_embed", "embeddings.position_embeddings");
    let (first, position) = net.position(position, true, px / PATCH, Some(config.resize()))?;
    prefix.iter_mut().zip(first).for_each(|(c, p)| *c += p);
    if registers > 0 {
        // Registers have no position.
        let name = name("register_tokens", "embeddings.register_tokens");
        prefix.extend(net.take(name, &[1, registers, dim])?);
    }
    let mut x = net.tokens(x, prefix, true, position)?;
    for i in 0..depth {
        x = net.block(x, &names, i, "blocks")?;
    }
    let x = net.last_norm(x, name("norm", "layernorm"), "norm")?;
    net.class_token(x)
}

/// Tensors of the published checkpoints that the feature does not need.
pub fn is_ignorable(name: &str) -> bool {
    matches!(name, "mask_token" | "embeddings.mask_token")
}
