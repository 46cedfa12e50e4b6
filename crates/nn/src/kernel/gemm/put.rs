//! From the sums of a tile to C.

use super::{Job, Source, Strip, prefetch};
use crate::kernel::epilogue::{Derivative, finish, load_row, put_bits, store_row};
use crate::kernel::vector::Vector;
use crate::op::Slope;
use crate::op::activation::Activation;
use crate::real::Real;

/// [`put`] of a whole tile where its sums are added to, cut off and masked. Short loops that the compiler unrolls: what else
/// becomes of sums is too long to be there for every row, and reads them from memory.
///
/// # Safety
/// C, and all that it meets, reach the tile's last row.
#[inline(always)]
pub(super) unsafe fn put_tile<T: Real, A: Source<T>, V: Vector<T>, const N: usize, const R: usize>(
    job: &mut Job<T, A>,
    strip: Strip<T>,
    sums: [[V; N]; R],
    places: [usize; R],
) {
    let Strip { j0, first, last, .. } = strip;
    let mut acc = sums;
    let c = job.c.as_mut_ptr();
    // SAFETY: the caller's promise.
    unsafe {
        if !first || job.epilogue.accumulate {
            for i in 0..R {
                for j in 0..N {
                    acc[i][j] = V::load(c.add(places[i] + j0 + j * V::LANES)).add(acc[i][j]);
                }
            }
        }
        if let (true, Some(bias)) = (last, job.epilogue.bias) {
            let mut values = [V::splat(T::ZERO); N];
            for j in 0..N {
                values[j] = V::load(bias[j0 + j * V::LANES..][..V::LANES].as_ptr());
            }
            for i in 0..R {
                if places[i] + j0 < job.epilogue.biased {
                    for j in 0..N {
                        acc[i][j] = acc[i][j].add(values[j]);
                    }
                }
            }
        }
        if let (true, Some(residual)) = (last, job.epilogue.residual) {
            for i in 0..R {
                for j in 0..N {
                    let other = V::load(residual.as_ptr().add(places[i] + j0 + j * V::LANES));
                    acc[i][j] = acc[i][j].add(other);
                }
            }
        }
        if last {
            acc = cut(job.epilogue.activation, acc);
            if let Some(Derivative::Bits(bits)) = &mut job.epilogue.derivative {
                let (low, high) = job.epilogue.activation.linear_between().unwrap_or_default();
                let (low, high) = (V::splat(T::of(low)), V::splat(T::of(high)));
                for i in 0..R {
                    for j in 0..N {
                        let at = places[i] + j0 + j * V::LANES;
                        put_bits::<T, V>(acc[i][j].bits_between(low, high), at, V::LANES, bits.as_mut_ptr());
                    }
                }
            }
            if let Some(slope @ Slope::Bits(_)) = &job.epilogue.slope {
                for i in 0..R {
                    for j in 0..N {
                        acc[i][j] = slope.times(acc[i][j], places[i] + j0 + j * V::LANES, V::LANES);
                    }
                }
            }
        }
        for i in 0..R {
            for j in 0..N {
                acc[i][j].store(c.add(places[i] + j0 + j * V::LANES));
            }
        }
    }
}

/// An activation that is linear between kinks.
#[inline(always)]
fn cut<T: Real, V: Vector<T>, const N: usize, const R: usize>(
    f: Activation,
    mut acc: [[V; N]; R],
) -> [[V; N]; R] {
    if f != Activation::Identity {
        for i in 0..R {
            for j in 0..N {
                acc[i][j] = Activation::Relu.apply(acc[i][j]);
            }
        }
    }
    if f == Activation::Relu6 {
        for i in 0..R {
            for j in 0..N {
                acc[i][j] = Activation::Relu6.apply(acc[i][j]);
            }
        }
    }
    acc
}

/// Whether a row of C meets a residual or a slope when this block is done.
#[inline(always)]
pub(in crate::kernel) fn meets_operands<T: Real, A: Source<T>>(job: &Job<T, A>, strip: Strip<T>) -> bool {
    strip.last && (job.epilogue.residual.is_some() || job.epilogue.slope.is_some())
}

/// Asks for what a row of C that begins at `place` meets when its last block is done: rows of C lie too far apart for the
/// processor to foresee.
#[inline(always)]
pub(in crate::kernel) fn prefetch_operands<T: Real, A: Source<T>>(
    job: &Job<T, A>,
    strip: Strip<T>,
    place: usize,
) {
    let at = place + strip.j0;
    let width = strip.width.min(job.b.n - strip.j0);
    // One after the other: a list of the two is built and read in memory for every row, which took a tenth of the product.
    if let Some(residual) = job.epilogue.residual {
        prefetch_lines(residual.as_ptr().wrapping_add(at), width);
    }
    if let Some(slope) = job.epilogue.slope {
        let (from, bytes) = slope.place(at, width);
        prefetch_lines(from, bytes);
    }
}

/// Brings the sums of one block of k into the row of C that begins at `place`.
#[inline(always)]
pub(in crate::kernel) fn put<T: Real, A: Source<T>, V: Vector<T>, const N: usize>(
    job: &mut Job<T, A>,
    strip: Strip<T>,
    sums: [V; N],
    place: usize,
) {
    let Strip { j0, first, last, .. } = strip;
    let width = strip.width.min(job.b.n - j0);
    let whole = width == N * V::LANES;
    let at = place + j0;
    let mut acc = sums;
    if !first || job.epilogue.accumulate {
        let before = load_row::<T, V, N>(&job.c[at..at + width], whole);
        for j in 0..N {
            acc[j] = before[j].add(acc[j]);
        }
    }
    if last {
        acc = finish::<T, V, N>(&mut job.epilogue, acc, j0, at, width, whole);
    }
    store_row(acc, &mut job.c[at..at + width], whole);
}

/// Asks for `count` values from `from` on.
#[inline(always)]
pub(super) fn prefetch_lines<T>(from: *const T, count: usize) {
    for at in (0..count).step_by(64 / size_of::<T>()) {
        prefetch(from.wrapping_add(at));
    }
}
