//! Pointwise nonlinearities with their first and second derivatives.

use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

/// A pointwise nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x
    Identity,
    /// max(x, 0); slope 0 at 0, as in PyTorch.
    Relu,
    /// min(max(x, 0), 6); slope 0 at 0 and 6, as in PyTorch.
    Relu6,
    /// x·Φ(x), Φ the normal distribution function (the erf form).
    Gelu,
    /// GELU in its tanh form, ½x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) (Hendrycks, Gimpel 2016,
    /// arXiv:1606.08415): what `jax.nn.gelu` computes unless told otherwise, so what SigLIP was trained with.
    GeluTanh,
    /// x·σ(1.702·x), GELU's sigmoid approximation (same paper): OpenAI's CLIP.
    QuickGelu,
    /// x·σ(x), σ the logistic function.
    Silu,
}

impl Activation {
    /// Whether the second derivative means anything: not where the function is piecewise linear.
    pub fn is_smooth(self) -> bool {
        !matches!(self, Activation::Relu | Activation::Relu6)
    }

    /// Whether the slope can be read off the output, so that nothing need be saved for the vjp.
    pub(crate) fn slope_from_output(self) -> bool {
        matches!(self, Activation::Identity | Activation::Relu | Activation::Relu6)
    }

    /// The slope where the output is `y`; only if [`Activation::slope_from_output`].
    #[inline(always)]
    pub(crate) fn slope_at_output<T: Real>(self, y: T) -> T {
        match self {
            Activation::Relu if y > T::ZERO => T::ONE,
            Activation::Relu6 if y > T::ZERO && y < T::of(6.0) => T::ONE,
            Activation::Identity => T::ONE,
            _ => T::ZERO,
        }
    }

    /// x ← f(x).
    #[inline(always)]
    pub(crate) fn apply<T: Real>(self, x: &mut [T]) {
        match self {
            Activation::Identity => {}
            Activation::Relu => x.iter_mut().for_each(|x| *x = Real::max(*x, T::ZERO)),
            Activation::Relu6 => {
                x.iter_mut().for_each(|x| *x = Real::min(Real::max(*x, T::ZERO), T::of(6.0)))
            }
            Activation::Gelu => x.iter_mut().for_each(|x| *x *= x.normal().0),
            Activation::GeluTanh => x.iter_mut().for_each(|x| *x *= logistic(tanh_gate(*x).0)),
            Activation::QuickGelu => x.iter_mut().for_each(|x| *x *= logistic(quick_gate(*x).0)),
            Activation::Silu => x.iter_mut().for_each(|x| *x = *x * logistic(*x)),
        }
    }

    /// x ← f(x), slope ← f′(x).
    #[inline(always)]
    pub(crate) fn apply_with_slope<T: Real>(self, x: &mut [T], slope: &mut [T]) {
        match self {
            Activation::Gelu => {
                for (x, s) in x.iter_mut().zip(slope) {
                    let (cdf, pdf) = x.normal();
                    *s = cdf + *x * pdf;
                    *x *= cdf;
                }
            }
            Activation::GeluTanh => {
                x.iter_mut().zip(slope).for_each(|(x, s)| (*x, *s, _) = gated(*x, tanh_gate(*x)))
            }
            Activation::QuickGelu => {
                x.iter_mut().zip(slope).for_each(|(x, s)| (*x, *s, _) = gated(*x, quick_gate(*x)))
            }
            Activation::Silu => {
                for (x, s) in x.iter_mut().zip(slope) {
                    let l = logistic(*x);
                    *s = l * (T::ONE + *x * (T::ONE - l));
                    *x *= l;
                }
            }
            _ => {
                self.apply(x);
                for (x, s) in x.iter().zip(slope) {
                    *s = self.slope_at_output(*x);
                }
            }
        }
    }

    /// (f, f′, f″) at x; only for smooth functions.
    #[inline(always)]
    pub(crate) fn jet<T: Real>(self, x: T) -> (T, T, T) {
        match self {
            Activation::Gelu => {
                let (cdf, pdf) = x.normal();
                (x * cdf, cdf + x * pdf, pdf * (T::of(2.0) - x * x))
            }
            Activation::GeluTanh => gated(x, tanh_gate(x)),
            Activation::QuickGelu => gated(x, quick_gate(x)),
            Activation::Silu => {
                let l = logistic(x);
                let d = l * (T::ONE - l);
                (x * l, l + x * d, d * (T::of(2.0) + x * (T::ONE - T::of(2.0) * l)))
            }
            _ => (x, T::ONE, T::ZERO),
        }
    }
}

#[inline(always)]
fn logistic<T: Real>(x: T) -> T {
    T::ONE / (T::ONE + (-x).exp())
}

/// (w, w′, w″) with x·σ(w) = GELU's tanh form: 1 + tanh(u) = 2σ(2u).
#[inline(always)]
fn tanh_gate<T: Real>(x: T) -> (T, T, T) {
    // 2·√(2/π)
    let scale = T::of(1.595_769_121_605_731);
    let (cubic, square) = (T::of(0.044715), x * x);
    let slope = T::ONE + T::of(3.0) * cubic * square;
    (scale * x * (T::ONE + cubic * square), scale * slope, scale * T::of(6.0) * cubic * x)
}

/// (w, w′, w″) with x·σ(w) = quick GELU.
#[inline(always)]
fn quick_gate<T: Real>(x: T) -> (T, T, T) {
    (T::of(1.702) * x, T::of(1.702), T::ZERO)
}

/// x·σ(w) and its first and second derivative by x.
#[inline(always)]
fn gated<T: Real>(x: T, (w, w1, w2): (T, T, T)) -> (T, T, T) {
    let l = logistic(w);
    let l1 = l * (T::ONE - l);
    let l2 = l1 * (T::ONE - T::of(2.0) * l);
    (x * l, l + x * l1 * w1, T::of(2.0) * l1 * w1 + x * (l2 * w1 * w1 + l1 * w2))
}

/// f on every plane of a jet: f, f′·x′, f″·x′² + f′·x″. Takes any number of planes up to three.
pub(crate) fn jet_in_place<T: Real>(f: Activation, tensor: &mut Tensor<T>) {
    let (len, planes) = (tensor.shape.len(), tensor.planes());
    for i in 0..len {
        let (y, slope, bend) = f.jet(tensor.data[i]);
        let first = if planes > 1 { tensor.data[len + i] } else { T::ZERO };
        tensor.data[i] = y;
        if planes > 1 {
            tensor.data[len + i] = slope * first;
        }
        if planes > 2 {
            tensor.data[2 * len + i] = bend * first * first + slope * tensor.data[2 * len + i];
        }
    }
}

/// grad ← grad·f′, the slope taken from what `forward` saved or from the output.
pub(crate) fn pull_back<T: Real>(
    f: Activation,
    grad: &mut [T],
    saved: &Saved<T>,
    output: Option<&Tensor<T>>,
) {
    if f == Activation::Identity {
        return;
    }
    match (saved, output) {
        (Some(slope), _) => grad.iter_mut().zip(slope.iter()).for_each(|(g, s)| *g *= *s),
        (None, Some(y)) => grad.iter_mut().zip(y.data.iter()).for_each(|(g, y)| *g *= f.slope_at_output(*y)),
        (None, None) => unreachable!("an activation keeps its slope or its output"),
    }
}

/// The operator: a nonlinearity that could not be merged into the step before it.
pub(crate) struct ActivationRule(pub(crate) Activation);

impl<T: Real> Rule<T> for ActivationRule {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        inputs: &[&Tensor<T>],
        shape: Shape,
        save: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let mut y = ws.tensor(shape, inputs[0].planes());
        y.data.copy_from_slice(&inputs[0].data);
        if y.planes() > 1 {
            jet_in_place(self.0, &mut y);
        } else if save && !self.0.slope_from_output() {
            let mut slope = ws.pool.take(shape.len());
            self.0.apply_with_slope(&mut y.data, &mut slope);
            return (y, Some(slope));
        } else {
            self.0.apply(&mut y.data);
        }
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, mut grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        pull_back(self.0, &mut grad.data, &back.saved, back.output);
        if let Some(slope) = back.saved {
            ws.pool.give(slope);
        }
        into.add(ws, back.nodes[0], grad);
    }

    fn keeps_output(&self) -> bool {
        self.0.slope_from_output()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the formulas as their paper writes them, where the code has others.
    #[test]
    fn both_approximations_of_gelu_are_the_published_ones() {
        for i in -400..=400 {
            let x = f64::from(i) / 40.0;
            let root = (2.0 / std::f64::consts::PI).sqrt();
            let tanh = 0.5 * x * (1.0 + (root * (x + 0.044715 * x * x * x)).tanh());
            let quick = x / (1.0 + (-1.702 * x).exp());
            for (f, expected) in [(Activation::GeluTanh, tanh), (Activation::QuickGelu, quick)] {
                let (mut wide, mut narrow) = ([x], [x as f32]);
                f.apply(&mut wide);
                f.apply(&mut narrow);
                // 1 + tanh loses digits where it is close to 0; f32 has the exponential's 1.5e-7 and three roundings.
                assert!((wide[0] - expected).abs() < 1e-15 * (1.0 + x.abs()), "{f:?}({x})");
                assert!(
                    (f64::from(narrow[0]) - expected).abs() < 4e-7 * (1.0 + x.abs()),
                    "{f:?}({x}) in f32"
                );
            }
        }
    }
}
