//! The left-hand side of a convolution's product, read where the images lie: row i holds what the kernel sees at
//! output i, and no patch is copied.

use crate::kernel::gemm::{Source, prefetch_row};
use crate::kernel::vector::Vector;
use crate::real::Real;

/// Patches of images of one size that contain their padding.
#[derive(Clone, Copy)]
pub(crate) struct Patches<'a, T> {
    /// The images, from the first patch on.
    pub(crate) data: &'a [T],
    /// Rows of patches in an image.
    pub(crate) height: usize,
    /// Patches in a row.
    pub(crate) width: usize,
    /// From an image to the next.
    pub(crate) image: Distance,
    /// From a row of patches to the next.
    pub(crate) row: Distance,
    /// From a patch to its neighbour.
    pub(crate) column: Distance,
    /// Values of a patch that lie together.
    pub(crate) run: usize,
    /// Such runs in a row of the kernel, and from one to the next.
    pub(crate) runs: usize,
    pub(crate) beside: usize,
    /// From a row of the kernel to the next.
    pub(crate) below: usize,
}

/// How far apart two patches lie in the image, and what they give in the result.
#[derive(Clone, Copy)]
pub(crate) struct Distance {
    pub(crate) from: usize,
    pub(crate) to: usize,
}

impl<T: Real> Patches<'_, T> {
    /// Where patches `i0..i0 + R` begin, given the distances between images, between rows and between neighbours.
    #[inline(always)]
    fn starts<const R: usize>(self, i0: usize, [image, row, column]: [usize; 3]) -> [usize; R] {
        let (mut y, mut x) = (i0 / self.width, i0 % self.width);
        let mut plane = y / self.height;
        y %= self.height;
        let mut at = [0; R];
        for i in 0..R {
            at[i] = plane * image + y * row + x * column;
            x += 1;
            if x == self.width {
                (y, x) = (y + 1, 0);
            }
            if y == self.height {
                (plane, y) = (plane + 1, 0);
            }
        }
        at
    }

    /// [`Patches::starts`] in the images.
    #[inline(always)]
    fn from<const R: usize>(self, i0: usize) -> [usize; R] {
        self.starts(i0, [self.image.from, self.row.from, self.column.from])
    }

    /// Where term `k` of a patch lies.
    #[inline(always)]
    fn term(self, k: usize) -> usize {
        let run = k / self.run;
        run / self.runs * self.below + run % self.runs * self.beside + k % self.run
    }
}

impl<T: Real> Source<T> for Patches<'_, T> {
    fn fits(self, m: usize, k: usize) -> bool {
        // No image begins behind the last, no row of patches behind the last of an image, no patch of a row behind the
        // furthest.
        let images = (m - 1) / (self.height * self.width);
        let (rows, columns) = (((m - 1) / self.width).min(self.height - 1), self.width.min(m) - 1);
        let last = images * self.image.from + rows * self.row.from + columns * self.column.from;
        last + self.term(k - 1) < self.data.len()
            && self.run <= self.beside
            && self.runs * self.beside <= self.below
    }

    #[inline(always)]
    fn places<const R: usize>(self, i0: usize) -> [usize; R] {
        self.starts(i0, [self.image.to, self.row.to, self.column.to])
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn row(self, i: usize, k0: usize, depth: usize, room: *mut T) -> *const T {
        let [start] = self.from::<1>(i);
        let from = self.data.as_ptr().wrapping_add(start);
        if k0 % self.run + depth <= self.run {
            return from.wrapping_add(self.term(k0));
        }
        let (mut k, end) = (k0, k0 + depth);
        while k < end {
            let count = (self.run - k % self.run).min(end - k);
            // SAFETY: the caller's promise.
            unsafe { std::ptr::copy_nonoverlapping(from.add(self.term(k)), room.add(k - k0), count) };
            k += count;
        }
        room
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn pitch(self) -> Option<usize> {
        let (row, image) = (self.width * self.column.to, self.height * self.row.to);
        (self.row.to == row && self.image.to == image).then_some(self.column.to)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn columns(self) -> Option<(*const T, usize)> {
        None
    }

    #[inline(always)]
    unsafe fn product<V: Vector<T>, const N: usize, const R: usize>(
        self,
        start: [[V; N]; R],
        i0: usize,
        k0: usize,
        b: *const T,
        depth: usize,
    ) -> [[V; N]; R] {
        let starts = self.from::<R>(i0);
        let mut rows = [self.data.as_ptr(); R];
        for i in 0..R {
            rows[i] = rows[i].wrapping_add(starts[i]);
        }
        let (mut acc, mut k, end) = (start, k0, k0 + depth);
        while k < end {
            let count = (self.run - k % self.run).min(end - k);
            let at = self.term(k);
            // SAFETY: the caller's promise.
            acc = unsafe { run::<T, V, N, R>(acc, rows, at, b.add((k - k0) * N * V::LANES), count) };
            k += count;
        }
        acc
    }
}

/// acc + A·B over `count` terms that lie together, from value `at` of each row on.
///
/// # Safety
/// Every row reaches `at + count`, `b` reaches `count`·N registers.
#[inline(always)]
unsafe fn run<T: Real, V: Vector<T>, const N: usize, const R: usize>(
    start: [[V; N]; R],
    rows: [*const T; R],
    at: usize,
    b: *const T,
    count: usize,
) -> [[V; N]; R] {
    let mut acc = start;
    let mut b = b;
    for p in at..at + count {
        prefetch_row::<T, V, N>(b);
        // SAFETY: the caller's promise.
        unsafe {
            let mut b_row = [V::splat(T::ZERO); N];
            for j in 0..N {
                b_row[j] = V::load(b.add(j * V::LANES));
            }
            for i in 0..R {
                let x = V::splat(*rows[i].add(p));
                for j in 0..N {
                    acc[i][j] = x.mul_add(b_row[j], acc[i][j]);
                }
            }
            b = b.add(N * V::LANES);
        }
    }
    acc
}
