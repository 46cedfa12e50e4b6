//! What becomes of the sums of a product before they are stored: bias, residual, activation, slope.

use crate::buffer::Buffer;
use crate::kernel::vector::Vector;
use crate::op::Slope;
use crate::op::activation::Activation;
use crate::real::Real;

/// Receives the derivative of an activation, value by value.
pub enum Derivative<'a, T> {
    /// As a number.
    Values(&'a mut [T]),
    /// Of one that is linear between kinks, as a bit: set where it is 1. That of value i is bit i % 8 of byte i / 8; rows are
    /// multiples of 8.
    Bits(&'a mut [u8]),
}

impl<'a, T: Real> Derivative<'a, T> {
    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        match self {
            Derivative::Values(x) => x.len(),
            Derivative::Bits(x) => x.len() * 8,
        }
    }

    /// The first `at` values, eight or a multiple, and the rest.
    fn split_at(self, at: usize) -> (Self, Self) {
        match self {
            Derivative::Values(x) => {
                let (first, rest) = x.split_at_mut(at);
                (Derivative::Values(first), Derivative::Values(rest))
            }
            Derivative::Bits(x) => {
                debug_assert!(at.is_multiple_of(8), "a byte is not cut");
                let (first, rest) = x.split_at_mut(at / 8);
                (Derivative::Bits(first), Derivative::Bits(rest))
            }
        }
    }

    /// Room in `saved` for the derivative of `f` at values `from..to`.
    pub(crate) fn within(
        f: Activation,
        saved: &'a mut Buffer<T>,
        std::ops::Range { start, end }: std::ops::Range<usize>,
    ) -> Self {
        if f.slope_from_output() {
            debug_assert!(start.is_multiple_of(8) && end.is_multiple_of(8), "a byte is not cut");
            Derivative::Bits(&mut saved.bytes_mut()[start / 8..end / 8])
        } else {
            Derivative::Values(&mut saved[start..end])
        }
    }
}

/// What is done to an element of the product before it is stored.
pub struct Epilogue<'a, T: Real> {
    /// Added to the rows of C that begin before `biased`; `n` values.
    pub bias: Option<&'a [T]>,
    /// Where in C the rows end that `bias` is added to; by default it is added to all.
    pub biased: usize,
    /// Added element by element; laid out as C.
    pub residual: Option<&'a [T]>,
    /// C is added to, not overwritten.
    pub accumulate: bool,
    /// Applied last.
    pub activation: Activation,
    /// Receives the activation's derivative; laid out as C.
    pub derivative: Option<Derivative<'a, T>>,
    /// The result is multiplied by this, last; laid out as C.
    pub slope: Option<Slope<'a, T>>,
}

impl<T: Real> Default for Epilogue<'_, T> {
    fn default() -> Self {
        Epilogue {
            bias: None,
            biased: usize::MAX,
            residual: None,
            accumulate: false,
            activation: Activation::Identity,
            derivative: None,
            slope: None,
        }
    }
}

impl<'a, T: Real> Epilogue<'a, T> {
    /// Whether nothing is done but adding.
    pub(crate) fn is_linear(&self) -> bool {
        self.activation == Activation::Identity && self.derivative.is_none() && self.slope.is_none()
    }

    /// Whether all that is done is linear between kinks, and slopes are bits.
    pub(crate) fn is_piecewise(&self) -> bool {
        self.activation.slope_from_output()
            && matches!(self.derivative, None | Some(Derivative::Bits(_)))
            && matches!(self.slope, None | Some(Slope::Bits(_)))
    }

    /// Whether the sums are stored as they are.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn is_none(&self) -> bool {
        self.is_linear() && self.bias.is_none() && self.residual.is_none() && !self.accumulate
    }

    /// What concerns the values of C before `at`, and the rest.
    pub(crate) fn split_at(self, at: usize) -> (Self, Self) {
        let Epilogue { bias, biased, accumulate, activation, .. } = self;
        let (derivative1, derivative2) = match self.derivative {
            Some(derivative) => {
                let (d1, d2) = derivative.split_at(at);
                (Some(d1), Some(d2))
            }
            None => (None, None),
        };
        let (residual, slope) = (self.residual, self.slope);
        (
            Epilogue { bias, biased, residual, accumulate, activation, derivative: derivative1, slope },
            Epilogue {
                bias,
                biased: biased.saturating_sub(at),
                residual: residual.map(|r| &r[at..]),
                accumulate,
                activation,
                derivative: derivative2,
                slope: slope.map(|s| s.from(at)),
            },
        )
    }
}

/// Bias, residual, activation and slope on one row of a finished tile.
#[inline(always)]
pub(crate) fn finish<T: Real, V: Vector<T>, const N: usize>(
    epilogue: &mut Epilogue<T>,
    mut acc: [V; N],
    j0: usize,
    at: usize,
    width: usize,
    whole: bool,
) -> [V; N] {
    // Loops, not closures: what is called between here and a register must be inlined to be compiled
    // for the instruction set, and the standard library's adapters need not be.
    if let Some(bias) = epilogue.bias
        && at < epilogue.biased
    {
        let bias = load_row::<T, V, N>(&bias[j0..j0 + width], whole);
        for j in 0..N {
            acc[j] = acc[j].add(bias[j]);
        }
    }
    if let Some(residual) = epilogue.residual {
        let residual = load_row::<T, V, N>(&residual[at..at + width], whole);
        for j in 0..N {
            acc[j] = acc[j].add(residual[j]);
        }
    }
    match &mut epilogue.derivative {
        None => epilogue.activation.apply_row(&mut acc),
        Some(Derivative::Values(derivative)) => {
            let slope = epilogue.activation.apply_row_with_slope(&mut acc);
            store_row(slope, &mut derivative[at..at + width], whole);
        }
        Some(Derivative::Bits(bits)) => {
            epilogue.activation.apply_row(&mut acc);
            store_bits(epilogue.activation, acc, at, width, bits);
        }
    }
    if let Some(slope) = &epilogue.slope {
        assert!(slope.len() >= at + width, "the slope is too short");
        for j in 0..N {
            let from = j * V::LANES;
            if from < width {
                // SAFETY: just checked; rows whose slope is bits begin at multiples of 8.
                acc[j] = unsafe { slope.times(acc[j], at + from, V::LANES.min(width - from)) };
            }
        }
    }
    acc
}

/// Sets the bits of the `width` values of `y`, outputs of `f`, where its slope is 1, and unsets the others'; the first is that
/// of value `at`.
#[inline(always)]
pub(crate) fn store_bits<T: Real, V: Vector<T>, const N: usize>(
    f: Activation,
    y: [V; N],
    at: usize,
    width: usize,
    bits: &mut [u8],
) {
    let (low, high) = f.linear_between().unwrap_or_default();
    let (low, high) = (V::splat(T::of(low)), V::splat(T::of(high)));
    assert!((at + width).div_ceil(8) <= bits.len(), "the bits are too short");
    for j in 0..N {
        let from = j * V::LANES;
        if from < width {
            let all = y[j].bits_between(low, high);
            // SAFETY: just checked.
            unsafe { put_bits::<T, V>(all, at + from, (width - from).min(V::LANES), bits.as_mut_ptr()) };
        }
    }
}

/// Puts the first `width` of `all`, bits of a register, at bit `at`, a multiple of the lanes or of 8.
///
/// # Safety
/// `bits` reaches as far.
#[inline(always)]
pub(crate) unsafe fn put_bits<T: Real, V: Vector<T>>(all: u32, at: usize, width: usize, bits: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe {
        let to = bits.add(at / 8);
        if V::LANES < 8 && !at.is_multiple_of(8) {
            // Half a byte: the other half was put just before.
            *to |= (all as u8) << (at % 8);
        } else if width > 8 {
            to.cast::<[u8; 2]>().write((all as u16).to_le_bytes());
        } else {
            *to = all as u8;
        }
    }
}

/// `N` registers from `row`, which holds as many values if `whole`, else fewer.
#[inline(always)]
pub(crate) fn load_row<T: Real, V: Vector<T>, const N: usize>(row: &[T], whole: bool) -> [V; N] {
    let mut acc = [V::splat(T::ZERO); N];
    for j in 0..N {
        acc[j] = if whole {
            // SAFETY: the row holds N registers.
            unsafe { V::load(row.as_ptr().add(j * V::LANES)) }
        } else {
            V::load_part(row.get(j * V::LANES..).unwrap_or_default())
        };
    }
    acc
}

/// The opposite of [`load_row`].
#[inline(always)]
pub(crate) fn store_row<T: Real, V: Vector<T>, const N: usize>(acc: [V; N], row: &mut [T], whole: bool) {
    for j in 0..N {
        if whole {
            // SAFETY: the row holds N registers.
            unsafe { acc[j].store(row.as_mut_ptr().add(j * V::LANES)) };
        } else {
            acc[j].store_part(row.get_mut(j * V::LANES..).unwrap_or_default());
        }
    }
}
