//! What becomes of the sums of a product before they are stored: bias, residual, activation, slope.

use crate::kernel::vector::Vector;
use crate::op::Slope;
use crate::op::activation::Activation;
use crate::real::Real;

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
    pub derivative: Option<&'a mut [T]>,
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
                let (d1, d2) = derivative.split_at_mut(at);
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
        Some(derivative) => {
            let slope = epilogue.activation.apply_row_with_slope(&mut acc);
            store_row(slope, &mut derivative[at..at + width], whole);
        }
    }
    if let Some(slope) = &epilogue.slope {
        let values = load_row::<T, V, N>(&slope.values()[at..at + width], whole);
        for j in 0..N {
            acc[j] = slope.multiply(acc[j], values[j]);
        }
    }
    acc
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
