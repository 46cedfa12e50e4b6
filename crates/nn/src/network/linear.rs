//! Linear layers with what lies around them folded in.

use crate::Result;
use crate::weights::Weights;

/// Weight and bias of a linear layer, out×in; or of a convolution, out×in×kh×kw.
pub(super) struct Linear {
    pub(super) weight: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

impl Linear {
    /// The tensors `{name}.weight` (out×in) and `{name}.bias`.
    ///
    /// # Errors
    /// A missing tensor or one of the wrong shape.
    pub(super) fn take(weights: &mut Weights, name: &str, out: usize, input: usize) -> Result<Self> {
        let weight = weights.take(&format!("{name}.weight"), &[out, input])?;
        Ok(Linear { weight, bias: weights.take(&format!("{name}.bias"), &[out])? })
    }

    /// Takes the scale and shift of a preceding norm in: W·diag(γ), b + W·β. A convolution must not pad.
    pub(super) fn after_norm(mut self, gamma: &[f32], beta: &[f32]) -> Self {
        let inputs = self.weight.len() / self.bias.len();
        let taps = inputs / gamma.len();
        for (row, bias) in self.weight.chunks_exact_mut(inputs).zip(&mut self.bias) {
            let shift: f64 = row.iter().enumerate().map(|(i, w)| *w as f64 * beta[i / taps] as f64).sum();
            *bias = (*bias as f64 + shift) as f32;
            row.iter_mut().enumerate().for_each(|(i, w)| *w *= gamma[i / taps]);
        }
        self
    }

    /// Multiplies output channel i by `scale(i)`: LayerScale, or 1/√d for queries.
    pub(super) fn scaled(mut self, scale: impl Fn(usize) -> f32) -> Self {
        let inputs = self.weight.len() / self.bias.len();
        for (i, (row, bias)) in self.weight.chunks_exact_mut(inputs).zip(&mut self.bias).enumerate() {
            row.iter_mut().for_each(|w| *w *= scale(i));
            *bias *= scale(i);
        }
        self
    }
}
