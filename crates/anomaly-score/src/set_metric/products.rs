//! Inner products between the rows of two small matrices: a register tile at a time, in f32 or f64.
//!
//! `nn`'s product is written for every layer there is and compiled again by each crate that calls it, which takes
//! minutes; this one loop takes a second.

use std::ops::{Add, Mul};

/// Columns of a panel of B.
const WIDTH: usize = 32;

/// Lines of a panel that are filled together.
const LINES: usize = 64;

/// f32 or f64, with the registers that hold them.
pub(crate) trait Number:
    Copy + Send + Sync + Default + Add<Output = Self> + Mul<Output = Self>
{
    /// A register of AVX-512.
    #[cfg(target_arch = "x86_64")]
    type Avx512: Register<Self>;
    /// A register of AVX2.
    #[cfg(target_arch = "x86_64")]
    type Avx2: Register<Self>;
}

/// A few numbers that are worked on together.
///
/// # Safety
/// `LANES` is the number of values `load` reads and `store` writes.
pub(crate) unsafe trait Register<T>: Copy {
    const LANES: usize;
    /// # Safety
    /// The machine has the instruction set; `from` reaches `LANES` values.
    unsafe fn load(from: *const T) -> Self;
    /// # Safety
    /// The machine has the instruction set.
    unsafe fn splat(value: T) -> Self;
    /// self·a + b.
    ///
    /// # Safety
    /// The machine has the instruction set.
    unsafe fn mul_add(self, a: Self, b: Self) -> Self;
    /// # Safety
    /// The machine has the instruction set; `to` reaches `LANES` values.
    unsafe fn store(self, to: *mut T);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Number, Register};

    macro_rules! register {
        ($t:ty, $register:ty, $lanes:literal, $load:ident, $splat:ident, $mul_add:ident, $store:ident) => {
            // SAFETY: the intrinsics read and write a whole register.
            unsafe impl Register<$t> for $register {
                const LANES: usize = $lanes;
                #[inline(always)]
                unsafe fn load(from: *const $t) -> Self {
                    // SAFETY: the caller's promise.
                    unsafe { $load(from) }
                }
                #[inline(always)]
                unsafe fn splat(value: $t) -> Self {
                    // SAFETY: the caller's promise.
                    unsafe { $splat(value) }
                }
                #[inline(always)]
                unsafe fn mul_add(self, a: Self, b: Self) -> Self {
                    // SAFETY: the caller's promise.
                    unsafe { $mul_add(self, a, b) }
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut $t) {
                    // SAFETY: the caller's promise.
                    unsafe { $store(to, self) }
                }
            }
        };
    }

    register!(f32, __m512, 16, _mm512_loadu_ps, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_storeu_ps);
    register!(f64, __m512d, 8, _mm512_loadu_pd, _mm512_set1_pd, _mm512_fmadd_pd, _mm512_storeu_pd);
    register!(f32, __m256, 8, _mm256_loadu_ps, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_storeu_ps);
    register!(f64, __m256d, 4, _mm256_loadu_pd, _mm256_set1_pd, _mm256_fmadd_pd, _mm256_storeu_pd);

    impl Number for f32 {
        type Avx512 = __m512;
        type Avx2 = __m256;
    }

    impl Number for f64 {
        type Avx512 = __m512d;
        type Avx2 = __m256d;
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Number for f32 {}
#[cfg(not(target_arch = "x86_64"))]
impl Number for f64 {}

/// One number: what every machine has. Multiply and add round separately.
#[derive(Clone, Copy)]
struct Single<T>(T);

// SAFETY: one value is read and written.
unsafe impl<T: Number> Register<T> for Single<T> {
    const LANES: usize = 1;
    #[inline(always)]
    unsafe fn load(from: *const T) -> Self {
        // SAFETY: the caller's promise.
        Single(unsafe { *from })
    }
    #[inline(always)]
    unsafe fn splat(value: T) -> Self {
        Single(value)
    }
    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        Single(self.0 * a.0 + b.0)
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut T) {
        // SAFETY: the caller's promise.
        unsafe { *to = self.0 }
    }
}

/// Columns, given as rows of D values, laid out so that products read them front to back.
pub(crate) struct Panels<T> {
    dim: usize,
    n: usize,
    data: Vec<T>,
}

impl<T: Number> Panels<T> {
    /// Room for up to `n` columns of D = `dim`.
    pub(crate) fn new(n: usize, dim: usize) -> Self {
        Panels { dim, n: 0, data: vec![T::default(); n.div_ceil(WIDTH) * WIDTH * dim] }
    }

    /// Takes `n` columns from `rows`, n×D.
    pub(crate) fn fill(&mut self, n: usize, rows: &[T]) {
        let dim = self.dim;
        self.n = n;
        for (panel, rows) in self.data.chunks_exact_mut(WIDTH * dim).zip(rows[..n * dim].chunks(WIDTH * dim))
        {
            panel.fill(T::default());
            // A few lines at a time: read straight through, they are written while in the first-level cache.
            for from in (0..dim).step_by(LINES) {
                for (j, row) in rows.chunks_exact(dim).enumerate() {
                    let values = &row[from..dim.min(from + LINES)];
                    for (line, &value) in panel[from * WIDTH..].chunks_exact_mut(WIDTH).zip(values) {
                        line[j] = value;
                    }
                }
            }
        }
    }
}

/// C = A·B: `a` is `m`×D and `c` is `m`×n, row after row. Each product is added up in the order of D, so that its bits
/// do not depend on which other rows and columns are there; whether multiply and add are fused depends on the machine.
///
/// # Panics
/// If a slice is too short for its shape.
pub(crate) fn products<T: Number>(m: usize, a: &[T], b: &Panels<T>, c: &mut [T]) {
    assert!(a.len() >= m * b.dim && c.len() >= m * b.n, "a matrix is too short");
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the machine has it.
            return unsafe { with_avx512(m, a, b, c) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the machine has both.
            return unsafe { with_avx2(m, a, b, c) };
        }
    }
    // SAFETY: every machine has it.
    unsafe { run::<T, Single<T>, 4, 4>(m, a, b, c) }
}

/// # Safety
/// The machine has AVX-512 F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn with_avx512<T: Number>(m: usize, a: &[T], b: &Panels<T>, c: &mut [T]) {
    // SAFETY: the caller's promise. 24 of 32 registers hold sums.
    unsafe { run::<T, T::Avx512, 2, 12>(m, a, b, c) }
}

/// # Safety
/// The machine has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn with_avx2<T: Number>(m: usize, a: &[T], b: &Panels<T>, c: &mut [T]) {
    // SAFETY: the caller's promise. 12 of 16 registers hold sums.
    unsafe { run::<T, T::Avx2, 2, 6>(m, a, b, c) }
}

/// Tiles of `R` rows by `N` registers, over all of D at once.
///
/// # Safety
/// The machine has the registers; the matrices are as long as their shapes.
#[inline(always)]
unsafe fn run<T: Number, V: Register<T>, const N: usize, const R: usize>(
    m: usize,
    a: &[T],
    b: &Panels<T>,
    c: &mut [T],
) {
    let (dim, n, columns) = (b.dim, b.n, N * V::LANES);
    // A panel stays in the second-level cache while the rows pass it.
    for j0 in (0..n).step_by(columns) {
        let panel = &b.data[j0 / WIDTH * WIDTH * dim..][..WIDTH * dim];
        let width = columns.min(n - j0);
        for i0 in (0..m).step_by(R) {
            let mut rows = [a.as_ptr(); R];
            for (i, row) in rows.iter_mut().enumerate() {
                // Past the last row the last one is computed again, and not kept.
                *row = a[(i0 + i).min(m - 1) * dim..][..dim].as_ptr();
            }
            // SAFETY: every row has D values, the panel D lines of WIDTH, and j0 mod WIDTH + N·LANES is at most WIDTH.
            let sums = unsafe { tile::<T, V, N, R>(rows, panel.as_ptr().add(j0 % WIDTH), dim) };
            for (i, sums) in sums.into_iter().enumerate().take(m - i0) {
                let mut values = [T::default(); WIDTH];
                for (j, sum) in sums.into_iter().enumerate() {
                    // SAFETY: N·LANES is at most WIDTH.
                    unsafe { sum.store(values.as_mut_ptr().add(j * V::LANES)) };
                }
                c[(i0 + i) * n + j0..][..width].copy_from_slice(&values[..width]);
            }
        }
    }
}

/// # Safety
/// The rows reach `dim` values, `panel` as many lines at distance [`WIDTH`] of N registers.
#[inline(always)]
unsafe fn tile<T: Number, V: Register<T>, const N: usize, const R: usize>(
    rows: [*const T; R],
    mut panel: *const T,
    dim: usize,
) -> [[V; N]; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::splat(T::default()); N]; R];
        for k in 0..dim {
            let mut line = [V::splat(T::default()); N];
            for j in 0..N {
                line[j] = V::load(panel.add(j * V::LANES));
            }
            for i in 0..R {
                let x = V::splat(*rows[i].add(k));
                for j in 0..N {
                    sums[i][j] = x.mul_add(line[j], sums[i][j]);
                }
            }
            panel = panel.wrapping_add(WIDTH);
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers have exact products: every shape, every instruction set must give them.
    #[test]
    fn integers_are_exact_in_every_shape() {
        for (m, n, dim) in [(1, 1, 1), (3, 5, 7), (12, 32, 16), (13, 33, 2), (25, 70, 19)] {
            let a: Vec<f64> = (0..m * dim).map(|i| (i * 7 % 11) as f64 - 5.0).collect();
            let b: Vec<f64> = (0..n * dim).map(|i| (i * 5 % 13) as f64 - 6.0).collect();
            let mut expected = Vec::new();
            for i in 0..m {
                for j in 0..n {
                    expected.push((0..dim).map(|k| a[i * dim + k] * b[j * dim + k]).sum::<f64>());
                }
            }
            let singles = |values: &[f64]| -> Vec<f32> { values.iter().map(|&v| v as f32).collect() };
            check(m, n, dim, &a, &b, &expected);
            check(m, n, dim, &singles(&a), &singles(&b), &singles(&expected));
        }
    }

    fn check<T: Number + PartialEq + std::fmt::Debug>(
        m: usize,
        n: usize,
        dim: usize,
        a: &[T],
        b: &[T],
        c: &[T],
    ) {
        let mut panels = Panels::new(n, dim);
        panels.fill(n, b);
        let mut found = vec![T::default(); m * n];
        products(m, a, &panels, &mut found);
        assert_eq!(found, c);
        found.fill(T::default());
        // SAFETY: every machine has it; lengths as above.
        unsafe { run::<T, Single<T>, 4, 4>(m, a, &panels, &mut found) };
        assert_eq!(found, c);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            found.fill(T::default());
            // SAFETY: just checked.
            unsafe { with_avx2(m, a, &panels, &mut found) };
            assert_eq!(found, c);
        }
    }
}
