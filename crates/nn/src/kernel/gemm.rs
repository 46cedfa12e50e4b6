//! Matrix product with a packed right-hand side: C = act(A·B + bias + residual).
//!
//! B is cut into blocks of `KC` rows and panels of `NR` columns, each panel contiguous,
//! so that the inner loop reads it front to back from the first-level cache while A
//! streams from the second. The product of one element of C always adds its terms in
//! the order of k, whatever the block sizes: results do not depend on them.

use crate::buffer::Buffer;
use crate::kernel::isa::{Isa, on_isa};
use crate::op::activation::Activation;
use crate::real::Real;

/// Rows of B in a block: KC·NR f32 are 24 KiB (AVX2), three quarters of the L1 cache.
const KC: usize = 384;
/// Elements of A worked on between two passes over B: half of a 1 MiB L2 cache as f32.
const A_BLOCK: usize = 128 * 1024;

/// The right-hand side of a product, packed for one instruction set.
pub struct Packed<T: Real> {
    k: usize,
    n: usize,
    nr: usize,
    data: Buffer<T>,
}

/// Columns in a panel.
pub(crate) fn panel_width(isa: Isa) -> usize {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => 32,
        _ => 16,
    }
}

/// Length of a packed `k`×`n` matrix.
pub(crate) fn packed_len(isa: Isa, k: usize, n: usize) -> usize {
    k * n.next_multiple_of(panel_width(isa))
}

impl<T: Real> Packed<T> {
    /// Packs the `k`×`n` matrix whose element (i, j) is `source[i·row + j·column]`.
    pub fn new(isa: Isa, k: usize, n: usize, source: &[T], row: usize, column: usize) -> Self {
        Self::in_buffer(isa, k, n, source, row, column, Buffer::zeroed(packed_len(isa, k, n)))
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
        let nr = panel_width(isa);
        assert_eq!(data.len(), packed_len(isa, k, n));
        let mut at = 0;
        for k0 in (0..k).step_by(KC) {
            let k1 = k.min(k0 + KC);
            for n0 in (0..n).step_by(nr) {
                let width = nr.min(n - n0);
                if row == 1 && column != 1 {
                    // B is the transpose of rows in memory: walk those rows, not their columns.
                    let panel = &mut data[at..at + (k1 - k0) * nr];
                    for j in 0..width {
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
        Packed { k, n, nr, data }
    }

    /// The same matrix transposed, packed for the same instruction set.
    pub(crate) fn transposed(&self, isa: Isa) -> Self {
        let (k, n) = (self.n, self.k);
        let mut rows = Buffer::zeroed(k * n);
        let panels = self.n.div_ceil(self.nr);
        for k0 in (0..self.k).step_by(KC) {
            let depth = KC.min(self.k - k0);
            for j in 0..self.n {
                let panel = (k0 * panels + j / self.nr * depth) * self.nr + j % self.nr;
                for p in 0..depth {
                    rows[j * n + k0 + p] = self.data[panel + p * self.nr];
                }
            }
        }
        Packed::new(isa, k, n, &rows, n, 1)
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

/// The left-hand side: element (i, k) is `data[i·row + k·column]`.
#[derive(Clone, Copy)]
pub struct Left<'a, T> {
    /// The values.
    pub data: &'a [T],
    /// Distance between rows.
    pub row: usize,
    /// Distance between columns.
    pub column: usize,
}

impl<'a, T> Left<'a, T> {
    /// Rows of `row` values.
    pub fn rows(data: &'a [T], row: usize) -> Self {
        Left { data, row, column: 1 }
    }
}

/// What is done to an element of the product before it is stored.
pub struct Epilogue<'a, T: Real> {
    /// Added to every row; `n` values.
    pub bias: Option<&'a [T]>,
    /// Added element by element; laid out as C.
    pub residual: Option<&'a [T]>,
    /// C is added to, not overwritten.
    pub accumulate: bool,
    /// Applied last.
    pub activation: Activation,
    /// Receives the activation's derivative; laid out as C.
    pub derivative: Option<&'a mut [T]>,
}

impl<T: Real> Default for Epilogue<'_, T> {
    fn default() -> Self {
        Epilogue {
            bias: None,
            residual: None,
            accumulate: false,
            activation: Activation::Identity,
            derivative: None,
        }
    }
}

/// C = act(A·B + bias + residual), or C += A·B.
///
/// `a`: `m`×k; `c`: `m` rows of `b.n()` values at distance `ldc`.
///
/// # Panics
/// If a slice is too short for its shape.
pub fn gemm<T: Real>(
    isa: Isa,
    m: usize,
    a: Left<T>,
    b: &Packed<T>,
    c: &mut [T],
    ldc: usize,
    epilogue: Epilogue<T>,
) {
    let (k, n) = (b.k, b.n);
    if m == 0 || n == 0 {
        return;
    }
    assert_eq!(b.nr, panel_width(isa), "B was packed for another instruction set");
    let reach = (m - 1) * ldc + n;
    assert!(c.len() >= reach && ldc >= n, "C is too short");
    assert!(k == 0 || a.data.len() > (m - 1) * a.row + (k - 1) * a.column, "A is too short");
    assert!(epilogue.bias.is_none_or(|x| x.len() >= n), "the bias is too short");
    assert!(epilogue.residual.is_none_or(|x| x.len() >= reach), "the residual is too short");
    assert!(epilogue.derivative.as_ref().is_none_or(|x| x.len() >= reach), "the derivative is too short");
    let mut job = Job { m, a, b, c, ldc, epilogue };
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => on_isa!(isa, wide::<T>(&mut job)),
        _ => on_isa!(isa, narrow::<T>(&mut job)),
    }
}

struct Job<'a, 'b, T: Real> {
    m: usize,
    a: Left<'a, T>,
    b: &'a Packed<T>,
    c: &'a mut [T],
    ldc: usize,
    epilogue: Epilogue<'b, T>,
}

/// Twelve rows by 32 columns: 24 of the 32 registers of AVX-512 hold sums.
#[inline(always)]
fn wide<T: Real, const FMA: bool>(job: &mut Job<T>) {
    run::<T, 12, 32, FMA>(job)
}

/// Six rows by 16 columns: 12 of the 16 registers of AVX2 hold sums.
#[inline(always)]
fn narrow<T: Real, const FMA: bool>(job: &mut Job<T>) {
    run::<T, 6, 16, FMA>(job)
}

#[inline(always)]
fn run<T: Real, const MR: usize, const NR: usize, const FMA: bool>(job: &mut Job<T>) {
    let (k, n) = (job.b.k, job.b.n);
    let panels = n.div_ceil(NR);
    let m_block = (A_BLOCK / k.clamp(1, KC)).next_multiple_of(MR).max(MR);
    let mut k0 = 0;
    loop {
        let depth = KC.min(k - k0);
        let (first, last) = (k0 == 0, k0 + depth == k);
        for m0 in (0..job.m).step_by(m_block) {
            let m1 = job.m.min(m0 + m_block);
            for panel in 0..panels {
                let b = &job.b.data[(k0 * panels + panel * depth) * NR..][..depth * NR];
                let mut i = m0;
                while i + MR <= m1 {
                    tile::<T, MR, NR, FMA>(job, i, panel * NR, k0, b, first, last);
                    i += MR;
                }
                // The rows that do not fill a tile go in tiles of half the height, then singly.
                if MR > 6 && i + 6 <= m1 {
                    tile::<T, 6, NR, FMA>(job, i, panel * NR, k0, b, first, last);
                    i += 6;
                }
                if i + 3 <= m1 {
                    tile::<T, 3, NR, FMA>(job, i, panel * NR, k0, b, first, last);
                    i += 3;
                }
                while i < m1 {
                    tile::<T, 1, NR, FMA>(job, i, panel * NR, k0, b, first, last);
                    i += 1;
                }
            }
        }
        k0 += depth;
        if last {
            break;
        }
    }
}

/// One tile of C, `MR`×`NR` at (i0, j0), over one block of k.
#[inline(always)]
fn tile<T: Real, const MR: usize, const NR: usize, const FMA: bool>(
    job: &mut Job<T>,
    i0: usize,
    j0: usize,
    k0: usize,
    b: &[T],
    first: bool,
    last: bool,
) {
    let width = NR.min(job.b.n - j0);
    let mut acc = [[T::ZERO; NR]; MR];
    if !first || job.epilogue.accumulate {
        for i in 0..MR {
            let c = &job.c[(i0 + i) * job.ldc + j0..][..width];
            if width == NR {
                acc[i].copy_from_slice(c);
            } else {
                acc[i][..width].copy_from_slice(c);
            }
        }
    }
    let depth = b.len() / NR;
    let (row, column) = (job.a.row, job.a.column);
    // SAFETY: `gemm` checked that A reaches (m − 1)·row + (k − 1)·column; i0 + MR ≤ m and
    // k0 + depth ≤ k; b holds depth·NR values.
    let mut acc = unsafe {
        let a = job.a.data.as_ptr().add(i0 * row + k0 * column);
        product::<T, MR, NR, FMA>(acc, a, row, column, b.as_ptr(), depth)
    };
    for i in 0..MR {
        let at = (i0 + i) * job.ldc + j0;
        if last {
            finish::<T, NR>(&mut job.epilogue, &mut acc[i], j0, at, width);
        }
        let c = &mut job.c[at..at + width];
        if width == NR {
            c.copy_from_slice(&acc[i]);
        } else {
            c.copy_from_slice(&acc[i][..width]);
        }
    }
}

/// acc + A·B over `depth` terms. The sums are a value of their own, never borrowed, so
/// that the compiler keeps them in registers.
///
/// # Safety
/// `a` reaches (MR − 1)·row + (depth − 1)·column, `b` reaches depth·NR.
#[inline(always)]
unsafe fn product<T: Real, const MR: usize, const NR: usize, const FMA: bool>(
    start: [[T; NR]; MR],
    a: *const T,
    row: usize,
    column: usize,
    b: *const T,
    depth: usize,
) -> [[T; NR]; MR] {
    let mut acc = start;
    let (mut a, mut b) = (a, b);
    for _ in 0..depth {
        // SAFETY: the caller's promise.
        unsafe {
            let b_row = *b.cast::<[T; NR]>();
            for i in 0..MR {
                let x = *a.add(i * row);
                for j in 0..NR {
                    acc[i][j] = if FMA { x.mul_add(b_row[j], acc[i][j]) } else { x * b_row[j] + acc[i][j] };
                }
            }
            a = a.add(column);
            b = b.add(NR);
        }
    }
    acc
}

/// Bias, residual and activation on one row of a finished tile.
#[inline(always)]
fn finish<T: Real, const NR: usize>(
    epilogue: &mut Epilogue<T>,
    acc: &mut [T; NR],
    j0: usize,
    at: usize,
    width: usize,
) {
    if let Some(bias) = epilogue.bias {
        add::<T, NR>(acc, &bias[j0..j0 + width]);
    }
    if let Some(residual) = epilogue.residual {
        add::<T, NR>(acc, &residual[at..at + width]);
    }
    match &mut epilogue.derivative {
        None => epilogue.activation.apply(acc),
        Some(derivative) => {
            let mut slope = [T::ZERO; NR];
            epilogue.activation.apply_with_slope(acc, &mut slope);
            derivative[at..at + width].copy_from_slice(&slope[..width]);
        }
    }
}

#[inline(always)]
fn add<T: Real, const NR: usize>(acc: &mut [T; NR], x: &[T]) {
    if x.len() == NR {
        for j in 0..NR {
            acc[j] += x[j];
        }
    } else {
        for j in 0..x.len() {
            acc[j] += x[j];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize, seed: u64) -> Vec<f64> {
        let mut state = seed;
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 40) as f64 / (1u64 << 23) as f64 - 1.0
            })
            .collect()
    }

    /// Every path of the blocking: edges in m, n and k, both layouts of A and B, and the epilogue.
    #[test]
    fn agrees_with_the_definition() {
        for isa in Isa::available() {
            for (m, k, n) in [(1, 1, 1), (5, 3, 17), (12, 400, 33), (19, 800, 31), (41, 27, 64), (7, 384, 16)]
            {
                for (a_transposed, b_transposed) in [(false, false), (true, false), (false, true)] {
                    let (a, b) = (values(m * k, 1), values(k * n, 2));
                    let (bias, residual) = (values(n, 3), values(m * n, 4));
                    let at = |i: usize, p: usize| if a_transposed { a[p * m + i] } else { a[i * k + p] };
                    let bt = |p: usize, j: usize| if b_transposed { b[j * k + p] } else { b[p * n + j] };
                    let a32: Vec<f32> = a.iter().map(|&x| x as f32).collect();
                    let b32: Vec<f32> = b.iter().map(|&x| x as f32).collect();
                    let bias32: Vec<f32> = bias.iter().map(|&x| x as f32).collect();
                    let residual32: Vec<f32> = residual.iter().map(|&x| x as f32).collect();
                    let (row, column) = if b_transposed { (1, k) } else { (n, 1) };
                    let packed = Packed::new(isa, k, n, &b32, row, column);
                    let (a_row, a_column) = if a_transposed { (1, m) } else { (k, 1) };
                    let left = Left { data: &a32, row: a_row, column: a_column };
                    let mut c = vec![0f32; m * n];
                    let mut slope = vec![0f32; m * n];
                    let epilogue = Epilogue {
                        bias: Some(&bias32),
                        residual: Some(&residual32),
                        activation: Activation::Relu,
                        derivative: Some(&mut slope),
                        ..Default::default()
                    };
                    gemm(isa, m, left, &packed, &mut c, n, epilogue);
                    for i in 0..m {
                        for j in 0..n {
                            let sum: f64 = (0..k).map(|p| at(i, p) * bt(p, j)).sum();
                            let y = sum + bias[j] + residual[i * n + j];
                            // f32 sums of k products of size ≤ 1.
                            let tolerance = 1e-6 * (k as f64).sqrt() + 1e-6;
                            assert!((c[i * n + j] as f64 - y.max(0.0)).abs() < tolerance);
                            if y.abs() > tolerance {
                                assert_eq!(slope[i * n + j], if y > 0.0 { 1.0 } else { 0.0 });
                            }
                        }
                    }
                }
            }
        }
    }

    /// The fused sets add in one order; only the portable one rounds products.
    #[test]
    fn fused_sets_agree_to_the_bit() {
        let fused: Vec<Isa> = Isa::available().into_iter().filter(|&i| i != Isa::Portable).collect();
        let (m, k, n) = (23, 500, 45);
        let a: Vec<f32> = values(m * k, 1).iter().map(|&x| x as f32).collect();
        let b: Vec<f32> = values(k * n, 2).iter().map(|&x| x as f32).collect();
        let results: Vec<Vec<f32>> = fused
            .iter()
            .map(|&isa| {
                let mut c = vec![0f32; m * n];
                let packed = Packed::new(isa, k, n, &b, n, 1);
                gemm(isa, m, Left::rows(&a, k), &packed, &mut c, n, Epilogue::default());
                c
            })
            .collect();
        for pair in results.windows(2) {
            assert_eq!(pair[0], pair[1]);
        }
    }
}
