//! One operator a file: forward, gradient towards the input, second-order jet.

pub mod activation;
pub mod add;
pub mod affine;
pub mod attention;
pub mod binary;
pub mod channels;
pub mod conv;
pub mod depthwise;
pub mod gated;
pub mod grouped;
pub(crate) mod inverted_residual;
pub mod layer_norm;
pub mod matmul;
pub mod pointwise;
pub mod pool;
pub mod pool_rows;
pub mod rearrange;
pub mod reduce;
pub mod shortcut;
pub mod softmax;
pub(crate) mod strided;
pub mod tokens;
pub(crate) mod winograd;

use crate::buffer::Buffer;
use crate::kernel::vector::Vector;
use crate::op::activation::Activation;
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

/// What an operator kept of a forward pass for its vjp.
pub type Saved<T> = Option<Buffer<T>>;

/// What the vjp of a step is given.
pub struct Back<'a, T: Real> {
    /// Node ids of the inputs.
    pub nodes: &'a [usize],
    /// Shapes of the inputs.
    pub shapes: &'a [Shape],
    /// Values of the inputs, where [`Rule::keeps_inputs`].
    pub inputs: Vec<Option<&'a Tensor<T>>>,
    /// Value of the output, where [`Rule::keeps_output`].
    pub output: Option<&'a Tensor<T>>,
    /// What `forward` saved.
    pub saved: Saved<T>,
    /// Whether the gradient is multiplied by the slope of this step's own activation already.
    pub pulled: bool,
    /// For each input that only this step reads and that ends in an activation: its slope. A rule that
    /// multiplies the input's gradient by it while writing it says so by [`Gradients::finish`].
    pub slopes: Vec<Option<Slope<'a, T>>>,
}

/// The derivative of an activation at every value of a node.
#[derive(Clone, Copy)]
pub enum Slope<'a, T> {
    /// As it was saved.
    Saved(&'a [T]),
    /// To be read off the output.
    Output(Activation, &'a [T]),
    /// 1 where a bit is set, else 0: that of value i is bit i % 8 of byte i / 8.
    Bits(&'a [u8]),
}

impl<T: Real> Slope<'_, T> {
    /// What `forward` saved of an activation `f`, or else its output.
    pub(crate) fn of<'a>(
        f: Activation,
        saved: Option<&'a Buffer<T>>,
        output: Option<&'a Tensor<T>>,
    ) -> Option<Slope<'a, T>> {
        match (saved, output) {
            (Some(bits), _) if f.slope_from_output() => Some(Slope::Bits(bits.bytes())),
            (Some(slope), _) => Some(Slope::Saved(slope)),
            (None, Some(y)) => Some(Slope::Output(f, &y.data)),
            (None, None) => None,
        }
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        match self {
            Slope::Saved(x) | Slope::Output(_, x) => x.len(),
            Slope::Bits(x) => x.len() * 8,
        }
    }

    /// The slope without its first `at` values, eight or a multiple.
    pub(crate) fn from(self, at: usize) -> Self {
        match self {
            Slope::Saved(x) => Slope::Saved(&x[at..]),
            Slope::Output(f, x) => Slope::Output(f, &x[at..]),
            Slope::Bits(x) => {
                debug_assert!(at.is_multiple_of(8), "a byte is not cut");
                Slope::Bits(&x[at / 8..])
            }
        }
    }

    /// Where value `at` lies in memory, and bytes of `count` values.
    pub(crate) fn place(&self, at: usize, count: usize) -> (*const u8, usize) {
        match self {
            Slope::Saved(x) | Slope::Output(_, x) => {
                (x.as_ptr().wrapping_add(at).cast(), count * size_of::<T>())
            }
            Slope::Bits(x) => (x.as_ptr().wrapping_add(at / 8), count.div_ceil(8)),
        }
    }

    /// g·slope, that of the first `width` values from `at` on in the register's lanes.
    ///
    /// # Safety
    /// The slope reaches `at + width`; `at` is a multiple of the lanes or of 8.
    #[inline(always)]
    pub(crate) unsafe fn times<V: Vector<T>>(&self, g: V, at: usize, width: usize) -> V {
        #[inline(always)]
        unsafe fn load<T: Real, V: Vector<T>>(x: &[T], at: usize, width: usize) -> V {
            debug_assert!(at + width <= x.len());
            // SAFETY: the caller's promise.
            unsafe {
                if width == V::LANES {
                    V::load(x.as_ptr().add(at))
                } else {
                    V::load_part(x.get_unchecked(at..at + width))
                }
            }
        }
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Slope::Saved(x) => g.mul(load::<T, V>(x, at, width)),
                Slope::Output(f, x) => f.mask(g, load::<T, V>(x, at, width)),
                Slope::Bits(x) => {
                    debug_assert!((at + width).div_ceil(8) <= x.len());
                    let low = u32::from(*x.get_unchecked(at / 8)) >> (at % 8);
                    let high = if width > 8 { u32::from(*x.get_unchecked(at / 8 + 1)) << 8 } else { 0 };
                    g.where_bits(high | low)
                }
            }
        }
    }
}

impl<T: Real> Back<'_, T> {
    /// Value of input `i`; the rule said it keeps its inputs.
    pub(crate) fn input(&self, i: usize) -> &Tensor<T> {
        self.inputs[i].expect("the rule keeps its inputs")
    }

    /// Value of the output; the rule said it keeps it.
    pub(crate) fn output(&self) -> &Tensor<T> {
        self.output.expect("the rule keeps its output")
    }
}

/// An operator made ready for one instruction set and number type.
pub trait Rule<T: Real>: Send + Sync {
    /// The output, of planes as many and of the kind as those of the inputs.
    /// With `save`, also what [`Rule::vjp`] will need (not of a jet).
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        inputs: &[&Tensor<T>],
        shape: Shape,
        save: bool,
    ) -> (Tensor<T>, Saved<T>);

    /// Adds to the inputs' gradients what the output's gradient `grad` contributes.
    fn vjp(&self, ws: &mut Workspace<T>, grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>);

    /// The activation the output has passed, if its slope can be told from the output or is all that is saved.
    fn activation(&self) -> Activation {
        Activation::Identity
    }

    /// Whether the vjp reads the inputs' values.
    fn keeps_inputs(&self) -> bool {
        false
    }

    /// Whether the vjp reads the output's value.
    fn keeps_output(&self) -> bool {
        false
    }

    /// How many values `forward` saves of an image for the vjp; up to a few a row are not counted.
    fn saved_len(&self, shape: Shape) -> usize {
        let f = self.activation();
        if f.slope_from_output() { 0 } else { shape.len() }
    }

    /// Whether tensors of several images are not for this rule.
    fn takes_one_image(&self) -> bool {
        false
    }
}

/// The jet of a product of two numbers.
#[inline(always)]
pub(crate) fn product_jet<T: Real>(a: [T; 3], b: [T; 3]) -> [T; 3] {
    [a[0] * b[0], a[1] * b[0] + a[0] * b[1], a[2] * b[0] + T::of(2.0) * a[1] * b[1] + a[0] * b[2]]
}
