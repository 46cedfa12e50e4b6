//! What vision transformers share: patches, tokens, position embeddings, pre-norm blocks. A block's
//! norms, LayerScale and query scale are folded into its linear layers.
//!
//! Source: Dosovitskiy et al. 2021, arXiv:2010.11929.

use crate::graph::{Graph, NodeId, Op};
use crate::network::linear::Linear;
use crate::network::{Layers, Normalisation, PositionResize, resize_position};
use crate::op::activation::Activation;
use crate::op::attention::{AttentionRule, Part};
use crate::op::conv::Window;
use crate::tap::Rows;
use crate::weights::Weights;
use crate::{Error, ErrorKind, Result};

/// What stands between the two linear layers of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// A nonlinearity.
    Activation(Activation),
    /// silu(first half)·second half: the first layer is twice as wide.
    SwiGlu,
}

/// Sizes and kinds of a transformer's blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Channels of a token.
    pub(super) dim: usize,
    /// Attention heads.
    pub(super) heads: usize,
    /// Channels inside the MLP.
    pub(super) hidden: usize,
    pub(super) gate: Gate,
    /// LayerNorm's ε.
    pub(super) eps: f64,
}

/// How a checkpoint spells the parts of a block, after `{blocks}.{number}.`.
pub(super) struct Names {
    pub(super) blocks: &'static str,
    pub(super) norm1: &'static str,
    pub(super) qkv: Qkv,
    pub(super) proj: &'static str,
    pub(super) norm2: &'static str,
    /// The MLP's first layer; more than one where a checkpoint keeps its rows in several.
    pub(super) fc1: &'static [&'static str],
    pub(super) fc2: &'static str,
    /// LayerScale of the attention and of the MLP.
    pub(super) scales: Option<[&'static str; 2]>,
}

/// How a checkpoint keeps queries, keys and values.
#[derive(Clone, Copy)]
pub(super) enum Qkv {
    /// One layer of 3·dim rows: names of weight and bias.
    Joint(&'static str, &'static str),
    /// Three layers.
    Split([&'static str; 3]),
}

/// A transformer under construction, and the checkpoint it is read from.
pub(super) struct Transformer<'w> {
    pub(super) net: Layers,
    pub(super) weights: &'w mut Weights,
    /// What stands before every name of the image tower.
    root: &'static str,
    sizes: Sizes,
    /// What the tokens are, once there are any.
    rows: Rows,
}

impl<'w> Transformer<'w> {
    /// Begins with the normalised image, `px` × `px`; gives its node too.
    pub(super) fn new(
        px: usize,
        normalisation: Normalisation,
        weights: &'w mut Weights,
        root: &'static str,
        sizes: Sizes,
    ) -> Result<(Self, NodeId)> {
        let (net, x) = Layers::new(px, normalisation)?;
        Ok((Transformer { net, weights, root, sizes, rows: Rows::Pixels }, x))
    }

    /// The full name of a tensor or layer.
    pub(super) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.root)
    }

    /// A tensor of the image tower.
    pub(super) fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.weights.take(&self.name(name), shape)
    }

    /// A linear layer of the image tower.
    pub(super) fn take_linear(&mut self, name: &str, out: usize, input: usize) -> Result<Linear> {
        Linear::take(self.weights, &self.name(name), out, input)
    }

    /// Q, K and V as one layer of 3·dim rows.
    pub(super) fn take_qkv(&mut self, prefix: &str, qkv: Qkv) -> Result<Linear> {
        let dim = self.sizes.dim;
        match qkv {
            Qkv::Joint(weight, bias) => Ok(Linear {
                weight: self.take(&format!("{prefix}{weight}"), &[3 * dim, dim])?,
                bias: self.take(&format!("{prefix}{bias}"), &[3 * dim])?,
            }),
            Qkv::Split(parts) => self.take_stacked(prefix, &parts, 3 * dim, dim),
        }
    }

    /// A linear layer of `out` rows that a checkpoint keeps in equal `parts`.
    fn take_stacked(&mut self, prefix: &str, parts: &[&str], out: usize, input: usize) -> Result<Linear> {
        let mut all = Linear { weight: Vec::new(), bias: Vec::new() };
        for part in parts {
            let one = self.take_linear(&format!("{prefix}{part}"), out / parts.len(), input)?;
            all.weight.extend(one.weight);
            all.bias.extend(one.bias);
        }
        Ok(all)
    }

    fn take_norm(&mut self, name: &str) -> Result<(Vec<f32>, Vec<f32>)> {
        let dim = self.sizes.dim;
        Ok((self.take(&format!("{name}.weight"), &[dim])?, self.take(&format!("{name}.bias"), &[dim])?))
    }

    /// Cuts the image into patches of `patch` × `patch` pixels: px×px×3 → side×side×dim, and the tap `tap`.
    ///
    /// # Errors
    /// `ShapeMismatch` if the image does not divide into patches; a missing tensor or one of the wrong shape.
    pub(super) fn patches(
        &mut self,
        x: NodeId,
        name: &str,
        patch: usize,
        has_bias: bool,
        tap: &str,
    ) -> Result<NodeId> {
        let (px, dim) = (self.net.graph.shape(x).h, self.sizes.dim);
        if !px.is_multiple_of(patch) || px == 0 {
            let what = format!("the network cuts images into patches of {patch} pixels");
            return Err(Error::new(ErrorKind::ShapeMismatch, "input", what)
                .expected(format!("a multiple of {patch}"), px));
        }
        let side = px / patch;
        let weight = self.take(&format!("{name}.weight"), &[dim, 3, patch, patch])?;
        let bias = if has_bias { self.take(&format!("{name}.bias"), &[dim])? } else { vec![0.0; dim] };
        let window = Window { kh: patch, kw: patch, stride: patch, top: 0, left: 0 };
        let op = Op::Conv { window, size: (side, side), weight: weight.into(), bias, groups: 1 };
        let x = self.net.graph.add(self.name(name), op, &[x])?;
        self.net.graph.tap(tap, x, Rows::Pixels);
        Ok(x)
    }

    /// The position embedding `name`: that of the class token (if `class`), and that of side×side patches.
    /// Where the checkpoint has another grid, it is resized as `how` says.
    ///
    /// # Errors
    /// A missing tensor or one of the wrong shape; without `how`, one of another grid.
    pub(super) fn position(
        &mut self,
        name: &str,
        class: bool,
        side: usize,
        how: Option<PositionResize>,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let (dim, before) = (self.sizes.dim, usize::from(class));
        let name = self.name(name);
        let (shape, all) = self.weights.take_any(&name)?;
        let tokens = match shape[..] {
            [tokens, channels] | [1, tokens, channels] if channels == dim => tokens,
            _ => 0,
        };
        let grid = tokens.saturating_sub(before).isqrt();
        if grid == 0 || tokens != before + grid * grid {
            let expected = format!("[{}a square number, {dim}]", if class { "1 + " } else { "" });
            return Err(Error::new(ErrorKind::ShapeMismatch, name, "wrong shape")
                .expected(expected, format!("{shape:?}")));
        }
        let (first, patches) = all.split_at(before * dim);
        match how {
            Some(how) => Ok((first.to_vec(), resize_position(patches, grid, side, dim, how))),
            None if grid == side => Ok((first.to_vec(), patches.to_vec())),
            None => {
                let patches = |n: usize| format!("positions of {n} × {n} patches");
                Err(Error::new(ErrorKind::ShapeMismatch, name, "the weights are for images of another size")
                    .expected(patches(side), patches(grid))
                    .remedy("Bring the weights of this backbone's input size"))
            }
        }
    }

    /// Makes patches a sequence: `prefix` (a class token first if `class`) goes before them, `position` is
    /// added to them.
    pub(super) fn tokens(
        &mut self,
        x: NodeId,
        prefix: Vec<f32>,
        class: bool,
        position: Vec<f32>,
    ) -> Result<NodeId> {
        self.rows = Rows::Tokens { prefix: prefix.len() / self.sizes.dim, class };
        self.net.graph.add("tokens", Op::Tokens { prefix, position }, &[x])
    }

    /// A LayerNorm that keeps its scale and shift.
    pub(super) fn norm(&mut self, x: NodeId, name: &str) -> Result<NodeId> {
        let affine = Some(self.take_norm(name)?);
        self.net.graph.add(self.name(name), Op::LayerNorm { eps: self.sizes.eps, affine }, &[x])
    }

    /// The norm after the last block, and the tap `tap`.
    pub(super) fn last_norm(&mut self, x: NodeId, name: &str, tap: &str) -> Result<NodeId> {
        let x = self.norm(x, name)?;
        self.net.graph.tap(tap, x, self.rows);
        Ok(x)
    }

    /// A linear layer behind a norm `norm`, whose scale and shift it takes in.
    fn normalised(
        &mut self,
        x: NodeId,
        norm: &str,
        layer: Linear,
        name: &str,
        scale: impl Fn(usize) -> f32,
    ) -> Result<NodeId> {
        let (gamma, beta) = self.take_norm(norm)?;
        let op = Op::LayerNorm { eps: self.sizes.eps, affine: None };
        let normal = self.net.graph.add(self.name(norm), op, &[x])?;
        let layer = layer.after_norm(&gamma, &beta).scaled(scale);
        self.net.linear(&self.name(name), normal, layer.weight, layer.bias)
    }

    /// The factor of attention scores, 1/√(channels a head).
    pub(super) fn query_scale(&self) -> f32 {
        (1.0 / ((self.sizes.dim / self.sizes.heads) as f64).sqrt()) as f32
    }

    /// Attention whose queries lie in input 0 and keys and values, side by side, from `column` of input `input`.
    pub(super) fn attention_rule(&self, input: usize, column: usize) -> AttentionRule {
        let Sizes { dim, heads, .. } = self.sizes;
        let part = |input, column| Part { input, column };
        let (query, key, value) = (part(0, 0), part(input, column), part(input, column + dim));
        AttentionRule { heads, dim: dim / heads, query, key, value }
    }

    /// `x` + its linear image by `name`, scaled by the tensor `scale` channel by channel.
    fn shortcut(&mut self, x: NodeId, y: NodeId, name: &str, scale: Option<String>) -> Result<NodeId> {
        let (dim, input) = (self.sizes.dim, self.net.graph.shape(y).c);
        let mut layer = self.take_linear(name, dim, input)?;
        if let Some(scale) = scale {
            let scale = self.take(&scale, &[dim])?;
            layer = layer.scaled(|c| scale[c]);
        }
        let y = self.net.linear(&self.name(name), y, layer.weight, layer.bias)?;
        self.net.add(x, y)
    }

    /// `x` + MLP(norm(`x`)); after `prefix`, the names are those of the norm and of the MLP's layers.
    pub(super) fn mlp(
        &mut self,
        x: NodeId,
        prefix: &str,
        (norm, fc1, fc2): (&str, &[&str], &str),
        scale: Option<String>,
    ) -> Result<NodeId> {
        let Sizes { dim, hidden, gate, .. } = self.sizes;
        let rows = if gate == Gate::SwiGlu { 2 * hidden } else { hidden };
        let layer = self.take_stacked(prefix, fc1, rows, dim)?;
        let name = format!("{prefix}{}", fc1[0]);
        let inner = self.normalised(x, &format!("{prefix}{norm}"), layer, &name, |_| 1.0)?;
        let inner = match gate {
            Gate::Activation(f) => self.net.activation(inner, f)?,
            Gate::SwiGlu => {
                self.net.graph.add(format!("{} gate", self.name(&name)), Op::GatedSilu, &[inner])?
            }
        };
        self.shortcut(x, inner, &format!("{prefix}{fc2}"), scale)
    }

    /// Block `i`, and the tap `{tap}.{i}`: x + attention(norm(x)), then the same with the MLP.
    ///
    /// # Errors
    /// A missing tensor or one of the wrong shape.
    pub(super) fn block(&mut self, x: NodeId, names: &Names, i: usize, tap: &str) -> Result<NodeId> {
        let block = format!("{}.{i}.", names.blocks);
        let of = |part: &str| format!("{block}{part}");
        let [scale1, scale2] = names.scales.map_or([None, None], |scales| scales.map(|s| Some(of(s))));
        let dim = self.sizes.dim;
        let query_scale = self.query_scale();
        let qkv = self.take_qkv(&block, names.qkv)?;
        let scale = |row| if row < dim { query_scale } else { 1.0 };
        let qkv = self.normalised(x, &of(names.norm1), qkv, &of("qkv"), scale)?;
        let rule = Op::Attention(self.attention_rule(0, dim));
        let attended = self.net.graph.add(self.name(&of("attention")), rule, &[qkv])?;
        let x = self.shortcut(x, attended, &of(names.proj), scale1)?;
        let x = self.mlp(x, &block, (names.norm2, names.fc1, names.fc2), scale2)?;
        self.net.graph.tap(format!("{tap}.{i}"), x, self.rows);
        Ok(x)
    }

    /// The network, whose feature is the first token of `x`.
    pub(super) fn class_token(mut self, x: NodeId) -> Result<Graph> {
        self.net.graph.add("class token", Op::FirstTokens(1), &[x])?;
        Ok(self.net.graph)
    }
}

#[cfg(test)]
mod tests {
    use crate::network::{Normalisation, vit};
    use crate::weights::Weights;

    /// Weights trained at 384 pixels would load at 224 and be another network than the one named.
    #[test]
    fn positions_of_another_grid_are_an_error() {
        let mut weights = Weights::blank(vec![("pos_embed".into(), vec![1, 1 + 24 * 24, 384])]);
        let error = vit::graph(vit::S16, 224, Normalisation::HALF, &mut weights).unwrap_err().to_string();
        assert!(error.starts_with("pos_embed: the weights are for images of another size"), "{error}");
        assert!(
            error.contains("expected positions of 14 × 14 patches, found positions of 24 × 24"),
            "{error}"
        );
    }
}
