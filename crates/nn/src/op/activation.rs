//! Pointwise nonlinearities with their first and second derivatives.

use crate::kernel::isa::Isa;
use crate::kernel::vector::{Vector, on_vector};
use crate::op::{Back, Rule, Saved, Slope};
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
        self.linear_between().is_none()
    }

    /// Whether the slope can be read off the output, so that nothing need be saved for the vjp.
    pub(crate) fn slope_from_output(self) -> bool {
        matches!(self, Activation::Identity | Activation::Relu | Activation::Relu6)
    }

    /// How many values of T a product saves as the slopes at `len` outputs, rows of `c`: bits where they say all and rows are
    /// whole bytes. `None` where nothing is saved, since there is no slope or it is read off the output.
    pub(crate) fn saved_slopes<T: Real>(self, len: usize, c: usize) -> Option<usize> {
        match self {
            Activation::Identity => None,
            _ if !self.slope_from_output() => Some(len),
            _ if c.is_multiple_of(8) => Some(len.div_ceil(8 * size_of::<T>())),
            _ => None,
        }
    }

    /// g·f′ where the output is `y`; only if [`Activation::slope_from_output`].
    #[inline(always)]
    pub(crate) fn mask<T: Real, V: Vector<T>>(self, g: V, y: V) -> V {
        match self.linear_between() {
            Some((low, high)) => g.where_between(y, V::splat(T::of(low)), V::splat(T::of(high))),
            None => g,
        }
    }

    /// (low, high) where the slope is 1 if low < output < high and 0 elsewhere.
    #[inline(always)]
    pub(crate) fn linear_between(self) -> Option<(f64, f64)> {
        match self {
            Activation::Relu => Some((0.0, f64::INFINITY)),
            Activation::Relu6 => Some((0.0, 6.0)),
            _ => None,
        }
    }

    /// x ← f(x).
    #[inline(always)]
    pub(crate) fn apply_row<T: Real, V: Vector<T>, const N: usize>(self, x: &mut [V; N]) {
        match self.linear_between() {
            _ if self == Activation::Identity => {}
            Some(_) => {
                for j in 0..N {
                    x[j] = self.apply(x[j]);
                }
            }
            None => smooth(self, x),
        }
    }

    /// f(x) of one register, as [`Activation::apply_row`].
    #[inline(always)]
    pub(crate) fn apply_one<T: Real, V: Vector<T>>(self, x: V) -> V {
        let mut row = [x];
        self.apply_row(&mut row);
        row[0]
    }

    /// x ← f(x); f′(x).
    #[inline(always)]
    pub(crate) fn apply_row_with_slope<T: Real, V: Vector<T>, const N: usize>(
        self,
        x: &mut [V; N],
    ) -> [V; N] {
        let one = V::splat(T::ONE);
        let mut slope = [one; N];
        match self.linear_between() {
            _ if self == Activation::Identity => {}
            Some(_) => {
                for j in 0..N {
                    x[j] = self.apply(x[j]);
                    slope[j] = self.mask(one, x[j]);
                }
            }
            None => smooth_with_slope(self, x, &mut slope),
        }
        slope
    }

    /// f(x).
    #[inline(always)]
    pub(crate) fn apply<T: Real, V: Vector<T>>(self, x: V) -> V {
        let zero = V::splat(T::ZERO);
        match self {
            Activation::Identity => x,
            Activation::Relu => x.max(zero),
            Activation::Relu6 => x.max(zero).min(V::splat(T::of(6.0))),
            Activation::Gelu => x.mul(x.normal().0),
            Activation::GeluTanh => x.mul(logistic(tanh_gate(x).0)),
            Activation::QuickGelu => x.mul(logistic(quick_gate(x).0)),
            Activation::Silu => x.mul(logistic(x)),
        }
    }

    /// (f(x), f′(x)).
    #[inline(always)]
    pub(crate) fn with_slope<T: Real, V: Vector<T>>(self, x: V) -> (V, V) {
        let one = V::splat(T::ONE);
        match self {
            Activation::Gelu => {
                let (cdf, pdf) = x.normal();
                (x.mul(cdf), x.mul_add(pdf, cdf))
            }
            Activation::GeluTanh => {
                let (y, slope, _) = gated(x, tanh_gate(x));
                (y, slope)
            }
            Activation::QuickGelu => {
                let (y, slope, _) = gated(x, quick_gate(x));
                (y, slope)
            }
            Activation::Silu => {
                let l = logistic(x);
                (x.mul(l), l.mul(x.mul_add(one.sub(l), one)))
            }
            _ => {
                let y = self.apply(x);
                (y, self.mask(one, y))
            }
        }
    }

    /// (f, f′, f″) at x; only for smooth functions.
    #[inline(always)]
    pub(crate) fn jet<T: Real, V: Vector<T>>(self, x: V) -> (V, V, V) {
        let (one, two) = (V::splat(T::ONE), V::splat(T::of(2.0)));
        match self {
            Activation::Gelu => {
                let (cdf, pdf) = x.normal();
                (x.mul(cdf), x.mul_add(pdf, cdf), pdf.mul(two.sub(x.mul(x))))
            }
            Activation::GeluTanh => gated(x, tanh_gate(x)),
            Activation::QuickGelu => gated(x, quick_gate(x)),
            Activation::Silu => {
                let l = logistic(x);
                let d = l.mul(one.sub(l));
                (x.mul(l), x.mul_add(d, l), d.mul(x.mul_add(one.sub(two.mul(l)), two)))
            }
            _ => (x, one, V::splat(T::ZERO)),
        }
    }
}

/// x ← f(x). A call: inlined, the polynomials stood in every tile of every product and sweep, all to be compiled.
#[inline(never)]
fn smooth<T: Real, V: Vector<T>, const N: usize>(f: Activation, x: &mut [V; N]) {
    // SAFETY: whoever has registers of a set is on a machine that has it.
    unsafe {
        V::on_set(
            #[inline(always)]
            || {
                for j in 0..N {
                    x[j] = f.apply(x[j]);
                }
            },
        )
    }
}

/// x ← f(x), slope ← f′(x); a call for the same reason.
#[inline(never)]
fn smooth_with_slope<T: Real, V: Vector<T>, const N: usize>(
    f: Activation,
    x: &mut [V; N],
    slope: &mut [V; N],
) {
    // SAFETY: as above.
    unsafe {
        V::on_set(
            #[inline(always)]
            || {
                for j in 0..N {
                    (x[j], slope[j]) = f.with_slope(x[j]);
                }
            },
        )
    }
}

#[inline(always)]
fn logistic<T: Real, V: Vector<T>>(x: V) -> V {
    let one = V::splat(T::ONE);
    one.div(one.add(V::splat(T::ZERO).sub(x).exp()))
}

/// x ← f(x).
pub(crate) fn activate<T: Real>(isa: Isa, f: Activation, x: &mut [T]) {
    #[inline(always)]
    fn body<T: Real, V: Vector<T>>(f: Activation, x: &mut [T]) {
        for x in x.chunks_mut(V::LANES) {
            f.apply(V::load_part(x)).store_part(x);
        }
    }
    if f != Activation::Identity {
        on_vector!(isa, body::<T>(f, x));
    }
}

/// x ← f(x), slope ← f′(x).
pub(crate) fn activate_with_slope<T: Real>(isa: Isa, f: Activation, x: &mut [T], slope: &mut [T]) {
    #[inline(always)]
    fn body<T: Real, V: Vector<T>>(f: Activation, x: &mut [T], slope: &mut [T]) {
        for (x, slope) in x.chunks_mut(V::LANES).zip(slope.chunks_mut(V::LANES)) {
            let (y, s) = f.with_slope(V::load_part(x));
            y.store_part(x);
            s.store_part(slope);
        }
    }
    on_vector!(isa, body::<T>(f, x, slope));
}

/// (w, w′, w″) with x·σ(w) = GELU's tanh form: 1 + tanh(u) = 2σ(2u).
#[inline(always)]
fn tanh_gate<T: Real, V: Vector<T>>(x: V) -> (V, V, V) {
    // 2·√(2/π)
    const SCALE: f64 = 1.595_769_121_605_731;
    let of = |value: f64| V::splat(T::of(value));
    let (one, square) = (of(1.0), x.mul(x));
    let w = of(SCALE).mul(x).mul(square.mul_add(of(0.044715), one));
    (w, of(SCALE).mul(square.mul_add(of(3.0 * 0.044715), one)), of(SCALE * 6.0 * 0.044715).mul(x))
}

/// (w, w′, w″) with x·σ(w) = quick GELU.
#[inline(always)]
fn quick_gate<T: Real, V: Vector<T>>(x: V) -> (V, V, V) {
    let slope = V::splat(T::of(1.702));
    (slope.mul(x), slope, V::splat(T::ZERO))
}

/// x·σ(w) and its first and second derivative by x.
#[inline(always)]
fn gated<T: Real, V: Vector<T>>(x: V, (w, w1, w2): (V, V, V)) -> (V, V, V) {
    let (one, two) = (V::splat(T::ONE), V::splat(T::of(2.0)));
    let l = logistic(w);
    let l1 = l.mul(one.sub(l));
    let l2 = l1.mul(one.sub(two.mul(l)));
    let bend = x.mul(l2.mul(w1).mul_add(w1, l1.mul(w2)));
    (x.mul(l), x.mul(l1).mul_add(w1, l), two.mul(l1).mul_add(w1, bend))
}

/// f on every plane of a jet: f, f′·x′, f″·x′² + f′·x″. Takes any number of planes up to three.
pub(crate) fn jet_in_place<T: Real>(isa: Isa, f: Activation, tensor: &mut Tensor<T>) {
    #[inline(always)]
    fn body<T: Real, V: Vector<T>>(f: Activation, x: &mut [T], first: &mut [T], second: &mut [T]) {
        let rest = first.chunks_mut(V::LANES).zip(second.chunks_mut(V::LANES));
        for (x, (first, second)) in x.chunks_mut(V::LANES).zip(rest) {
            let (y, slope, bend) = f.jet(V::load_part(x));
            let (x1, x2) = (V::load_part(first), V::load_part(second));
            y.store_part(x);
            slope.mul(x1).store_part(first);
            bend.mul(x1).mul_add(x1, slope.mul(x2)).store_part(second);
        }
    }
    #[inline(always)]
    fn tangent<T: Real, V: Vector<T>>(f: Activation, x: &mut [T], first: &mut [T]) {
        for (x, first) in x.chunks_mut(V::LANES).zip(first.chunks_mut(V::LANES)) {
            let (y, slope, _) = f.jet(V::load_part(x));
            y.store_part(x);
            slope.mul(V::load_part(first)).store_part(first);
        }
    }
    if f == Activation::Identity {
        return;
    }
    let (len, planes) = (tensor.shape.len(), tensor.planes());
    let (x, rest) = tensor.data.split_at_mut(len);
    match planes {
        1 => activate(isa, f, x),
        2 => on_vector!(isa, tangent::<T>(f, x, rest)),
        _ => {
            let (first, second) = rest.split_at_mut(len);
            on_vector!(isa, body::<T>(f, x, first, second));
        }
    }
}

/// grad ← grad·f′, the slope taken from what `forward` saved or from the output.
pub(crate) fn pull_back<T: Real>(
    isa: Isa,
    f: Activation,
    grad: &mut [T],
    saved: &Saved<T>,
    output: Option<&Tensor<T>>,
) {
    #[inline(always)]
    fn body<T: Real, V: Vector<T>>(slope: Slope<T>, grad: &mut [T]) {
        assert!(slope.len() >= grad.len(), "the slope is too short");
        for (i, g) in grad.chunks_mut(V::LANES).enumerate() {
            // SAFETY: just checked.
            unsafe { slope.times(V::load_part(g), i * V::LANES, g.len()) }.store_part(g);
        }
    }
    if f == Activation::Identity {
        return;
    }
    let slope = Slope::of(f, saved.as_ref(), output).expect("an activation keeps its slope or its output");
    on_vector!(isa, body::<T>(slope, grad));
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
        let mut y = ws.like(inputs[0], shape);
        y.data.copy_from_slice(&inputs[0].data);
        if y.is_jet() {
            jet_in_place(ws.isa, self.0, &mut y);
        } else if save && !self.0.slope_from_output() {
            let mut slope = ws.pool.take(y.data.len());
            activate_with_slope(ws.isa, self.0, &mut y.data, &mut slope);
            return (y, Some(slope));
        } else {
            activate(ws.isa, self.0, &mut y.data);
        }
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, mut grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        pull_back(ws.isa, self.0, &mut grad.data, &back.saved, back.output);
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
                activate(Isa::detect(), f, &mut wide);
                activate(Isa::detect(), f, &mut narrow);
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
