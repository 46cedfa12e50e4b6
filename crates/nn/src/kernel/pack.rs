//! The right-hand side of a matrix product, packed for one instruction set.
//!
//! It is cut into blocks of [`block`] rows and panels of a few registers' columns, each panel contiguous, so that the inner
//! loop reads it front to back.

use crate::buffer::Buffer;
#[cfg(target_arch = "x86_64")]
use crate::kernel::amx;
use crate::kernel::isa::Isa;
use crate::real::Real;

/// Rows of B in a block, at most: [`block`]·NR f32 are 24 KiB (AVX2), three quarters of the L1 cache.
const LARGEST_BLOCK: usize = 384;

/// Rows of B in a block if B has `k`. Blocks are summed by themselves, so shorter ones round less; but each begins with
/// reading C again, which a product of 257 tokens or 384 channels should not do for a few last terms.
pub(crate) fn block(k: usize) -> usize {
    if k <= LARGEST_BLOCK { LARGEST_BLOCK } else { 256 }
}

/// The right-hand side of a product, packed for one instruction set.
pub struct Packed<T: Real> {
    k: usize,
    n: usize,
    isa: Isa,
    data: Buffer<T>,
}

/// Matrices of one shape, packed one behind the other, so that a product of each after the other reads memory on.
pub(crate) struct Stack<T: Real> {
    k: usize,
    n: usize,
    isa: Isa,
    data: Buffer<T>,
}

/// One packed matrix, wherever it lies.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a, T> {
    pub(crate) k: usize,
    pub(crate) n: usize,
    pub(crate) isa: Isa,
    pub(crate) data: &'a [T],
}

/// Columns of the next panel when `left` columns are left. Wide panels do most of the work, and the last one
/// or two are chosen so that little time is idle. Where a register of AVX-512 takes as long as two of AVX2, every multiple
/// of 8 from 16 up is packed without a gap; where it takes as long as one, half of it may idle.
fn panel_width(isa: Isa, left: usize) -> usize {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Amx if amx::available() => {
            if left <= 16 {
                16
            } else {
                32
            }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Amx => match left {
            0..=16 => 16,
            17..=24 | 33..=40 => 24,
            _ => 32,
        },
        _ if left <= 8 => 8,
        _ => 16,
    }
}

/// (first column, width) of the panels of a matrix of `n` columns.
pub(crate) fn panels(isa: Isa, n: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let width = panel_width(isa, n.checked_sub(at).filter(|&left| left > 0)?);
        at += width;
        Some((at - width, width))
    })
}

/// Columns of a packed matrix, those that fill its last panel included.
pub(crate) fn packed_columns(isa: Isa, n: usize) -> usize {
    panels(isa, n).last().map_or(0, |(at, width)| at + width)
}

/// Length of a packed `k`×`n` matrix.
pub(crate) fn packed_len(isa: Isa, k: usize, n: usize) -> usize {
    k * packed_columns(isa, n)
}

impl<T: Real> Packed<T> {
    /// Packs the `k`×`n` matrix whose element (i, j) is `source[i·row + j·column]`.
    pub fn new(isa: Isa, k: usize, n: usize, source: &[T], row: usize, column: usize) -> Self {
        Self::in_buffer(isa, k, n, source, row, column, Buffer::zeroed(packed_len(T::set(isa), k, n)))
    }

    /// The same into a buffer of [`packed_len`] values.
    pub(crate) fn in_buffer(
        isa: Isa,
        k: usize,
        n: usize,
        source: &[T],
        row: usize,
        column: usize,
        mut data: Buffer<T>,
    ) -> Self {
        let isa = T::set(isa);
        pack(isa, k, n, source, row, column, &mut data);
        Packed { k, n, isa, data }
    }

    /// The same matrix transposed, packed for the same instruction set.
    pub(crate) fn transposed(&self) -> Self {
        self.transposed_in(Buffer::zeroed(packed_len(self.isa, self.n, self.k)))
    }

    /// The same into a buffer of [`packed_len`] values, whatever they are.
    pub(crate) fn transposed_in(&self, mut data: Buffer<T>) -> Self {
        let Packed { k, n, isa, .. } = *self;
        self.right().transpose(&mut data);
        Packed { k: n, n: k, isa, data }
    }

    pub(crate) fn right(&self) -> Right<'_, T> {
        Right { k: self.k, n: self.n, isa: self.isa, data: &self.data }
    }

    /// Gives the buffer back.
    pub(crate) fn into_buffer(self) -> Buffer<T> {
        self.data
    }

    /// Rows of B.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Columns of B.
    pub fn n(&self) -> usize {
        self.n
    }
}

/// Columns of B that are packed together where they lie in memory as rows: what is written lies together then.
const TOGETHER: usize = 8;

/// Packs the `k`×`n` matrix whose element (i, j) is `source[i·row + j·column]`.
fn pack<T: Real>(isa: Isa, k: usize, n: usize, source: &[T], row: usize, column: usize, data: &mut [T]) {
    assert_eq!(data.len(), packed_len(isa, k, n));
    let mut at = 0;
    for k0 in (0..k).step_by(block(k)) {
        let k1 = k.min(k0 + block(k));
        for (n0, nr) in panels(isa, n) {
            let width = nr.min(n - n0);
            if row == 1 && column != 1 {
                // B is the transpose of rows in memory: walk those rows, not their columns.
                let panel = &mut data[at..at + (k1 - k0) * nr];
                for j in (0..width / TOGETHER * TOGETHER).step_by(TOGETHER) {
                    let columns: [&[T]; TOGETHER] =
                        std::array::from_fn(|l| &source[(n0 + j + l) * column + k0..][..k1 - k0]);
                    for i in 0..k1 - k0 {
                        let to = &mut panel[i * nr + j..][..TOGETHER];
                        for l in 0..TOGETHER {
                            to[l] = columns[l][i];
                        }
                    }
                }
                for j in width / TOGETHER * TOGETHER..width {
                    let column = &source[(n0 + j) * column + k0..][..k1 - k0];
                    for (i, &x) in column.iter().enumerate() {
                        panel[i * nr + j] = x;
                    }
                }
                for i in 0..k1 - k0 {
                    panel[i * nr + width..(i + 1) * nr].fill(T::ZERO);
                }
                at += (k1 - k0) * nr;
                continue;
            }
            for i in k0..k1 {
                let out = &mut data[at..at + nr];
                if column == 1 {
                    out[..width].copy_from_slice(&source[i * row + n0..][..width]);
                } else {
                    for j in 0..width {
                        out[j] = source[i * row + (n0 + j) * column];
                    }
                }
                out[width..].fill(T::ZERO);
                at += nr;
            }
        }
    }
}

impl<T: Real> Right<'_, T> {
    /// Packs the transpose into `to`, of [`packed_len`] values: tile by tile, where a panel here meets a panel there, so
    /// that both stay in the first-level cache.
    fn transpose(&self, to: &mut [T]) {
        let Right { k, n, isa, data } = *self;
        assert_eq!(to.len(), packed_len(isa, n, k));
        let (columns, to_columns) = (packed_columns(isa, n), packed_columns(isa, k));
        for j0 in (0..n).step_by(block(n)) {
            let j1 = n.min(j0 + block(n));
            for (p0, width) in panels(isa, k) {
                let p1 = k.min(p0 + width);
                let to = &mut to[j0 * to_columns + p0 * (j1 - j0)..][..(j1 - j0) * width];
                if p1 - p0 < width {
                    to.chunks_exact_mut(width).for_each(|row| row[p1 - p0..].fill(T::ZERO));
                }
                // The rows p0..p1 may lie in two blocks, and a panel of columns may begin before j0 or end behind j1.
                for k0 in (p0 / block(k) * block(k)..p1).step_by(block(k)) {
                    let depth = block(k).min(k - k0);
                    for (n0, nr) in panels(isa, n).filter(|&(n0, nr)| n0 < j1 && n0 + nr > j0) {
                        let panel = &data[k0 * columns + n0 * depth..][..depth * nr];
                        let (from, end) = (n0.max(j0), (n0 + nr).min(j1));
                        for p in p0.max(k0)..p1.min(k0 + depth) {
                            let row = &panel[(p - k0) * nr + from - n0..][..end - from];
                            let to = &mut to[(from - j0) * width + p - p0..];
                            for (j, &x) in row.iter().enumerate() {
                                to[j * width] = x;
                            }
                        }
                    }
                }
            }
        }
    }

    /// Writes element (i, j) to `to[i·row + j·column]`.
    pub(crate) fn unpack(&self, to: &mut [T], row: usize, column: usize) {
        let columns = packed_columns(self.isa, self.n);
        for k0 in (0..self.k).step_by(block(self.k)) {
            let depth = block(self.k).min(self.k - k0);
            for (n0, nr) in panels(self.isa, self.n) {
                let panel = &self.data[k0 * columns + n0 * depth..][..depth * nr];
                for j in 0..nr.min(self.n - n0) {
                    for p in 0..depth {
                        to[(k0 + p) * row + (n0 + j) * column] = panel[p * nr + j];
                    }
                }
            }
        }
    }
}

impl<T: Real> Stack<T> {
    /// Packs `count` `k`×`n` matrices; `fill(i, rows)` writes the transpose of matrix i: `n` rows of `k` values.
    pub(crate) fn new(
        isa: Isa,
        count: usize,
        k: usize,
        n: usize,
        mut fill: impl FnMut(usize, &mut [T]),
    ) -> Self {
        let isa = T::set(isa);
        let len = packed_len(isa, k, n);
        let mut data = Buffer::zeroed(count * len);
        let mut rows = vec![T::ZERO; k * n];
        for i in 0..count {
            fill(i, &mut rows);
            pack(isa, k, n, &rows, 1, k, &mut data[i * len..][..len]);
        }
        Stack { k, n, isa, data }
    }

    /// Matrix `i`.
    pub(crate) fn at(&self, i: usize) -> Right<'_, T> {
        let len = packed_len(self.isa, self.k, self.n);
        Right { k: self.k, n: self.n, isa: self.isa, data: &self.data[i * len..][..len] }
    }

    /// The stack whose matrix i is the transpose of matrix `from(i).0`, times `from(i).1`.
    pub(crate) fn transposed(&self, count: usize, from: impl Fn(usize) -> (usize, T)) -> Self {
        Stack::new(self.isa, count, self.n, self.k, |i, rows| {
            let (matrix, factor) = from(i);
            self.at(matrix).unpack(rows, self.n, 1);
            rows.iter_mut().for_each(|x| *x *= factor);
        })
    }

    /// The instruction set they are packed for.
    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// Rows of a matrix.
    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// Columns of a matrix.
    pub(crate) fn n(&self) -> usize {
        self.n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks and panels of both matrices that do not end together, against the definition.
    #[test]
    fn transposes() {
        for isa in Isa::available() {
            for (k, n) in [(1, 1), (5, 70), (384, 33), (400, 257), (700, 41), (257, 900), (24, 512)] {
                let values: Vec<f32> = (0..k * n).map(|i| i as f32).collect();
                let packed = Packed::new(isa, k, n, &values, n, 1);
                let expected = Packed::new(isa, n, k, &values, 1, n);
                let mut used = Buffer::zeroed(packed_len(isa, n, k));
                used.fill(f32::NAN);
                assert_eq!(packed.transposed_in(used).data[..], expected.data[..], "{isa:?} {k}x{n}");
            }
        }
    }
}
