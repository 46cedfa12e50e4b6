//! Functions of one number that networks use now and then. The common ones, which merge into
//! the step before them, are in [`crate::op::activation`].

use crate::kernel::isa::on_isa;
use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pointwise {
    /// 1/(1 + e⁻ˣ)
    Sigmoid,
    /// min(max(slope·x + offset, 0), 1); slope 0 at the kinks.
    HardSigmoid {
        /// Slope between the kinks.
        slope: f32,
        /// Value at 0.
        offset: f32,
    },
    /// x·min(max(x/6 + ½, 0), 1); the slope at −3 and 3 is that of the flat and of the straight side.
    HardSwish,
    /// x where positive, else slope·x.
    LeakyRelu(f32),
    /// min(max(x, low), high); slope 1 at both ends, as PyTorch's `clamp` has it.
    Clip {
        /// Least value.
        low: f32,
        /// Largest value.
        high: f32,
    },
    /// x where positive, else alpha·(eˣ − 1).
    Elu(f32),
    /// ln(1 + eˣ)
    Softplus,
    /// x·tanh(ln(1 + eˣ))
    Mish,
    /// Hyperbolic tangent.
    Tanh,
    /// Error function.
    Erf,
    /// eˣ
    Exp,
    /// Natural logarithm.
    Log,
    /// √x
    Sqrt,
    /// |x|; slope 0 at 0.
    Abs,
    /// xᵖ
    Power(f32),
}

impl Pointwise {
    /// Whether the second derivative means anything: not where the function is piecewise linear.
    pub fn is_smooth(self) -> bool {
        use Pointwise::{Abs, Clip, Elu, HardSigmoid, HardSwish, LeakyRelu};
        !matches!(self, HardSigmoid { .. } | HardSwish | LeakyRelu(_) | Clip { .. } | Elu(_) | Abs)
    }
}

/// Runs `$body` with `$f` bound to the function x ↦ (f, f′, f″), once for each kind, so that no
/// loop decides anything in its middle.
macro_rules! with_function {
    ($kind:expr, $t:ty, $f:ident => $body:expr) => {
        match $kind {
            Pointwise::Sigmoid => with_function!(@ $t, $f = sigmoid => $body),
            Pointwise::HardSigmoid { slope, offset } => {
                let (slope, offset) = (<$t>::of_f32(slope), <$t>::of_f32(offset));
                with_function!(@ $t, $f = |x: $t| hard_sigmoid(x, slope, offset) => $body)
            }
            Pointwise::HardSwish => with_function!(@ $t, $f = hard_swish => $body),
            Pointwise::LeakyRelu(slope) => {
                let slope = <$t>::of_f32(slope);
                let f = |x: $t| if x > <$t>::ZERO { (x, <$t>::ONE) } else { (x * slope, slope) };
                with_function!(@ $t, $f = |x: $t| { let (y, d) = f(x); (y, d, <$t>::ZERO) } => $body)
            }
            Pointwise::Clip { low, high } => {
                let (low, high) = (<$t>::of_f32(low), <$t>::of_f32(high));
                with_function!(@ $t, $f = |x: $t| clip(x, low, high) => $body)
            }
            Pointwise::Elu(alpha) => {
                let alpha = <$t>::of_f32(alpha);
                with_function!(@ $t, $f = |x: $t| elu(x, alpha) => $body)
            }
            Pointwise::Softplus => with_function!(@ $t, $f = softplus => $body),
            Pointwise::Mish => with_function!(@ $t, $f = mish => $body),
            Pointwise::Tanh => with_function!(@ $t, $f = tanh => $body),
            Pointwise::Erf => with_function!(@ $t, $f = erf => $body),
            Pointwise::Exp => with_function!(@ $t, $f = |x: $t| { let e = x.exp(); (e, e, e) } => $body),
            Pointwise::Log => {
                let f = |x: $t| (x.ln(), <$t>::ONE / x, -(<$t>::ONE / (x * x)));
                with_function!(@ $t, $f = f => $body)
            }
            Pointwise::Sqrt => with_function!(@ $t, $f = square_root => $body),
            Pointwise::Abs => with_function!(@ $t, $f = absolute => $body),
            Pointwise::Power(p) if p == 2.0 => {
                let two = <$t>::of(2.0);
                with_function!(@ $t, $f = |x: $t| (x * x, two * x, two) => $body)
            }
            Pointwise::Power(p) if p == -1.0 => with_function!(@ $t, $f = reciprocal => $body),
            Pointwise::Power(p) => {
                let p = f64::from(p);
                with_function!(@ $t, $f = |x: $t| power(x, p) => $body)
            }
        }
    };
    (@ $t:ty, $f:ident = $function:expr => $body:expr) => {{
        let function = $function;
        let $f = |x: $t| -> ($t, $t, $t) { function(x) };
        $body
    }};
}

#[inline(always)]
fn sigmoid<T: Real>(x: T) -> (T, T, T) {
    let s = T::ONE / (T::ONE + (-x).exp());
    let d = s * (T::ONE - s);
    (s, d, d * (T::ONE - T::of(2.0) * s))
}

#[inline(always)]
fn hard_sigmoid<T: Real>(x: T, slope: T, offset: T) -> (T, T, T) {
    let y = slope * x + offset;
    let inside = y > T::ZERO && y < T::ONE;
    (Real::min(Real::max(y, T::ZERO), T::ONE), if inside { slope } else { T::ZERO }, T::ZERO)
}

#[inline(always)]
fn hard_swish<T: Real>(x: T) -> (T, T, T) {
    let three = T::of(3.0);
    let gate = Real::min(Real::max(x + three, T::ZERO), T::of(6.0)) * T::of(1.0 / 6.0);
    let slope = if x < -three {
        T::ZERO
    } else if x > three {
        T::ONE
    } else {
        x * T::of(1.0 / 3.0) + T::of(0.5)
    };
    (x * gate, slope, T::ZERO)
}

#[inline(always)]
fn clip<T: Real>(x: T, low: T, high: T) -> (T, T, T) {
    let slope = if x >= low && x <= high { T::ONE } else { T::ZERO };
    (Real::min(Real::max(x, low), high), slope, T::ZERO)
}

#[inline(always)]
fn elu<T: Real>(x: T, alpha: T) -> (T, T, T) {
    let e = alpha * x.exp();
    if x > T::ZERO { (x, T::ONE, T::ZERO) } else { (e - alpha, e, e) }
}

#[inline(always)]
fn softplus<T: Real>(x: T) -> (T, T, T) {
    // ln(1 + eˣ) = max(x, 0) + ln(1 + e^(−|x|)), which does not overflow.
    let (s, d, _) = sigmoid(x);
    let small = if x < T::ZERO { x } else { -x };
    (Real::max(x, T::ZERO) + (T::ONE + small.exp()).ln(), s, d)
}

#[inline(always)]
fn mish<T: Real>(x: T) -> (T, T, T) {
    let (p, p1, p2) = softplus(x);
    let (t, t1, t2) = tanh(p);
    let (g1, g2) = (t1 * p1, t2 * p1 * p1 + t1 * p2);
    (x * t, t + x * g1, T::of(2.0) * g1 + x * g2)
}

#[inline(always)]
fn tanh<T: Real>(x: T) -> (T, T, T) {
    let t = x.tanh();
    let d = T::ONE - t * t;
    (t, d, T::of(-2.0) * t * d)
}

#[inline(always)]
fn erf<T: Real>(x: T) -> (T, T, T) {
    let d = T::of(std::f64::consts::FRAC_2_SQRT_PI) * (-(x * x)).exp();
    (x.erf(), d, T::of(-2.0) * x * d)
}

#[inline(always)]
fn square_root<T: Real>(x: T) -> (T, T, T) {
    let r = x.sqrt();
    let d = T::of(0.5) / r;
    (r, d, T::of(-0.5) * d / x)
}

#[inline(always)]
fn absolute<T: Real>(x: T) -> (T, T, T) {
    if x > T::ZERO {
        (x, T::ONE, T::ZERO)
    } else if x < T::ZERO {
        (-x, -T::ONE, T::ZERO)
    } else {
        (x, T::ZERO, T::ZERO)
    }
}

#[inline(always)]
fn reciprocal<T: Real>(x: T) -> (T, T, T) {
    let r = T::ONE / x;
    (r, -(r * r), T::of(2.0) * r * r * r)
}

#[inline(always)]
fn power<T: Real>(x: T, p: f64) -> (T, T, T) {
    (x.pow(p), T::of(p) * x.pow(p - 1.0), T::of(p * (p - 1.0)) * x.pow(p - 2.0))
}

#[inline(always)]
fn apply<T: Real, const FMA: bool>(kind: Pointwise, x: &[T], y: &mut [T]) {
    with_function!(kind, T, f => for (y, x) in y.iter_mut().zip(x) {
        *y = f(*x).0;
    });
}

/// g ← g·f′(x).
#[inline(always)]
fn pull_back<T: Real, const FMA: bool>(kind: Pointwise, x: &[T], g: &mut [T]) {
    with_function!(kind, T, f => for (g, x) in g.iter_mut().zip(x) {
        *g *= f(*x).1;
    });
}

/// (f, f′·x′, f″·x′² + f′·x″) or the first two of them, the `planes` planes following each other.
#[inline(always)]
fn jet<T: Real, const FMA: bool>(kind: Pointwise, planes: usize, x: &[T], y: &mut [T]) {
    let len = x.len() / planes;
    with_function!(kind, T, f => for i in 0..len {
        let (value, slope, bend) = f(x[i]);
        let first = x[len + i];
        y[i] = value;
        y[len + i] = slope * first;
        if planes > 2 {
            y[2 * len + i] = bend * first * first + slope * x[2 * len + i];
        }
    });
}

impl<T: Real> Rule<T> for Pointwise {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        _: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let mut y = ws.like(x[0], shape);
        if y.is_jet() {
            on_isa!(ws.isa, jet::<T>(*self, x[0].planes(), &x[0].data, &mut y.data));
        } else {
            on_isa!(ws.isa, apply::<T>(*self, &x[0].data, &mut y.data));
        }
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, mut grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        on_isa!(ws.isa, pull_back::<T>(*self, &back.input(0).data, &mut grad.data));
        into.add(ws, back.nodes[0], grad);
    }

    fn keeps_inputs(&self) -> bool {
        true
    }
}
