//! Matrix product with a packed right-hand side: C = act(A·B + bias + residual).
//!
//! The inner loop reads a panel of B (see [`super::pack`]) front to back from the first-level cache while A
//! streams from the second. One element of C is the sum over its blocks of [`block`] terms, each added up in the order of k:
//! how rows and columns are blocked, shared and vectorised does not show in the result. On the tile unit ([`amx`](super::amx)) the
//! terms of a block are added in another order, of which the same is true.

mod put;

pub(super) use put::{meets_operands, prefetch_operands, put};
use put::{prefetch_lines, put_tile};

#[cfg(target_arch = "x86_64")]
use crate::kernel::amx;
use crate::kernel::epilogue::Epilogue;
use crate::kernel::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::kernel::isa::with_avx2;
use crate::kernel::pack::{Packed, Right, block, packed_columns, panels};
use crate::kernel::vector::{Plain, Vector};
use crate::real::Real;

/// Elements of A worked on between two passes over B: half of a 1 MiB L2 cache as f32.
const A_BLOCK: usize = 128 * 1024;

/// Bytes of B asked for ahead of time. Few rows of A leave the processor's own prefetching too little time to bring
/// weights from memory; what follows a panel is the next panel.
const AHEAD: usize = 4096;

/// Multiply-adds below which sharing a product costs more than it saves: about ten microseconds of one core.
pub(crate) const SHARED: usize = 512 * 1024;

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

/// Where the rows of A and of C lie.
pub(crate) trait Source<T: Real>: Copy {
    /// Whether `m` rows of `k` values are there; k > 0.
    fn fits(self, m: usize, k: usize) -> bool;

    /// Where rows `i0..i0 + R` of C begin; later rows begin later.
    fn places<const R: usize>(self, i0: usize) -> [usize; R];

    /// Where `depth` terms of row `i` from `k0` on lie together; they are copied to `room` if they do not.
    ///
    /// # Safety
    /// The source fits `i + 1` rows of `k0 + depth` values, `room` has room for `depth`.
    #[cfg(target_arch = "x86_64")]
    unsafe fn row(self, i: usize, k0: usize, depth: usize, room: *mut T) -> *const T;

    /// The distance between rows of C, if it is one.
    #[cfg(target_arch = "x86_64")]
    fn pitch(self) -> Option<usize>;

    /// The first value and the distance between columns, where it is the values of a column that lie together.
    #[cfg(target_arch = "x86_64")]
    fn columns(self) -> Option<(*const T, usize)>;

    /// acc + A·B of rows `i0..i0 + R` of A and `depth` terms from `k0` on.
    ///
    /// # Safety
    /// The source fits `i0 + R` rows of `k0 + depth` values, `b` reaches depth·N registers.
    unsafe fn product<V: Vector<T>, const N: usize, const R: usize>(
        self,
        start: [[V; N]; R],
        i0: usize,
        k0: usize,
        b: *const T,
        depth: usize,
    ) -> [[V; N]; R];
}

/// Rows at one distance, in A as in C.
#[derive(Clone, Copy)]
pub(crate) struct Even<'a, T> {
    pub(crate) left: Left<'a, T>,
    /// Distance between rows of C.
    pub(crate) ldc: usize,
}

impl<T: Real> Source<T> for Even<'_, T> {
    fn fits(self, m: usize, k: usize) -> bool {
        self.left.data.len() > (m - 1) * self.left.row + (k - 1) * self.left.column
    }

    #[inline(always)]
    fn places<const R: usize>(self, i0: usize) -> [usize; R] {
        let mut at = [0; R];
        for i in 0..R {
            at[i] = (i0 + i) * self.ldc;
        }
        at
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn row(self, i: usize, k0: usize, depth: usize, room: *mut T) -> *const T {
        let Left { data, row, column } = self.left;
        // SAFETY: the caller's promise.
        unsafe {
            let from = data.as_ptr().add(i * row + k0 * column);
            if column == 1 {
                return from;
            }
            for k in 0..depth {
                *room.add(k) = *from.add(k * column);
            }
            room
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn pitch(self) -> Option<usize> {
        Some(self.ldc)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn columns(self) -> Option<(*const T, usize)> {
        let Left { data, row, column } = self.left;
        (row == 1 && column > 1).then_some((data.as_ptr(), column))
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
        let Left { data, row, column } = self.left;
        // SAFETY: the caller's promise.
        unsafe {
            let a = data.as_ptr().add(i0 * row + k0 * column);
            product::<T, V, N, R>(start, a, row, column, b, depth)
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
    assert!(ldc >= b.n(), "the rows of C overlap");
    multiply(isa, m, Even { left: a, ldc }, b.right(), c, epilogue);
}

/// [`gemm`] with rows wherever they lie.
pub(crate) fn multiply<T: Real, A: Source<T>>(
    isa: Isa,
    m: usize,
    a: A,
    b: Right<T>,
    c: &mut [T],
    epilogue: Epilogue<T>,
) {
    let (k, n) = (b.k, b.n);
    if m == 0 || n == 0 {
        return;
    }
    let isa = T::set(isa);
    assert_eq!(b.isa, isa, "B was packed for another instruction set");
    let [last] = a.places::<1>(m - 1);
    let reach = last + n;
    assert!(c.len() >= reach, "C is too short");
    assert!(k == 0 || a.fits(m, k), "A is too short");
    assert!(epilogue.bias.is_none_or(|x| x.len() >= n), "the bias is too short");
    assert!(epilogue.residual.is_none_or(|x| x.len() >= reach), "the residual is too short");
    assert!(epilogue.derivative.as_ref().is_none_or(|x| x.len() >= reach), "the derivative is too short");
    assert!(epilogue.slope.is_none_or(|x| x.len() >= reach), "the slope is too short");
    let mut job = Job { m, a, b, c, epilogue };
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the variant is made by `Isa::available`, which checked the machine; f64 does not have it.
        Isa::Amx if amx::worthwhile(k, n) => unsafe {
            T::with_avx512(
                #[inline(always)]
                || amx::run::<T, A, T::Avx512, T::Avx2>(&mut job),
            )
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512 | Isa::Amx => unsafe {
            T::with_avx512(
                #[inline(always)]
                || run::<T, A, T::Avx512, T::Avx2, WIDE>(&mut job),
            )
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe {
            with_avx2(
                #[inline(always)]
                || run::<T, A, T::Avx2, T::Avx2, NARROW>(&mut job),
            )
        },
        Isa::Portable => run::<T, A, Plain<T, 8, false>, Plain<T, 8, false>, PLAIN>(&mut job),
    }
}

/// [`gemm`], its rows shared among `threads` of the pool this thread belongs to. The bits are the same: an element
/// of C is the work of one thread.
pub(crate) fn gemm_shared<T: Real>(
    threads: usize,
    isa: Isa,
    m: usize,
    a: Left<T>,
    b: &Packed<T>,
    c: &mut [T],
    ldc: usize,
    epilogue: Epilogue<T>,
) {
    if threads < 2 || m < 24 || m * b.k() * b.n() < SHARED {
        return gemm(isa, m, a, b, c, ldc, epilogue);
    }
    let mine = threads / 2;
    let half = (m * mine / threads).next_multiple_of(12);
    let at = half * ldc;
    let (c1, c2) = c.split_at_mut(at);
    let (first, second) = epilogue.split_at(at);
    let rest = Left { data: &a.data[half * a.row..], ..a };
    rayon::join(
        || gemm_shared(mine, isa, half, a, b, c1, ldc, first),
        || gemm_shared(threads - mine, isa, m - half, rest, b, c2, ldc, second),
    );
}

/// Tiles of [`run`] for AVX-512.
const WIDE: u8 = 2;
/// For AVX2.
const NARROW: u8 = 1;
/// For the rest.
const PLAIN: u8 = 0;

pub(super) struct Job<'a, 'b, T: Real, A: Source<T>> {
    pub(super) m: usize,
    pub(super) a: A,
    pub(super) b: Right<'a, T>,
    pub(super) c: &'a mut [T],
    pub(super) epilogue: Epilogue<'b, T>,
}

/// One block of k of rows `m0..m1` of C and of the panel of `width` columns from `j0`.
#[derive(Clone, Copy)]
pub(super) struct Strip<'a, T> {
    pub(super) m0: usize,
    pub(super) m1: usize,
    pub(super) j0: usize,
    pub(super) width: usize,
    pub(super) k0: usize,
    pub(super) b: &'a [T],
    pub(super) first: bool,
    pub(super) last: bool,
}

#[inline(always)]
fn run<T: Real, A: Source<T>, V: Vector<T>, H: Vector<T>, const TILES: u8>(job: &mut Job<T, A>) {
    let b = job.b;
    let columns = packed_columns(b.isa, b.n);
    let most = block(b.k);
    let m_block = (A_BLOCK / b.k.clamp(1, most)).next_multiple_of(24).max(24);
    let mut k0 = 0;
    loop {
        let depth = most.min(b.k - k0);
        let (first, last) = (k0 == 0, k0 + depth == b.k);
        for m0 in (0..job.m).step_by(m_block) {
            let m1 = job.m.min(m0 + m_block);
            for (j0, width) in panels(b.isa, b.n) {
                let b = &b.data[k0 * columns + j0 * depth..][..depth * width];
                let strip = Strip { m0, m1, j0, width, k0, b, first, last };
                match TILES {
                    WIDE => wide::<T, A, V, H>(job, strip),
                    NARROW if T::MEASURES => narrow::<T, A, V>(job, strip),
                    _ => plain::<T, A, V>(job, strip),
                }
            }
        }
        k0 += depth;
        if last {
            break;
        }
    }
}

/// Tiles of 12×32, 8×24 or 12×16, or a row more: 12 to 27 of the 32 registers of AVX-512 hold sums. `H` is half a `V`.
#[inline(always)]
fn wide<T: Real, A: Source<T>, V: Vector<T>, H: Vector<T>>(job: &mut Job<T, A>, strip: Strip<T>) {
    match strip.width {
        32 => rows::<T, A, V, 2, 12, 13, 6, 3>(job, strip),
        24 => rows::<T, A, H, 3, 8, 9, 4, 2>(job, strip),
        _ => rows::<T, A, V, 1, 12, 13, 6, 3>(job, strip),
    }
}

/// Tiles of 6×16 or 12×8: 12 of the 16 registers of AVX2 hold sums.
#[inline(always)]
fn narrow<T: Real, A: Source<T>, V: Vector<T>>(job: &mut Job<T, A>, strip: Strip<T>) {
    match strip.width {
        16 => rows::<T, A, V, 2, 6, 6, 3, 2>(job, strip),
        _ => rows::<T, A, V, 1, 12, 12, 6, 3>(job, strip),
    }
}

/// Tiles of 6×16 or 6×8, then single rows: for what is run to check the others, or seldom.
#[inline(always)]
fn plain<T: Real, A: Source<T>, V: Vector<T>>(job: &mut Job<T, A>, strip: Strip<T>) {
    match strip.width {
        16 => rows::<T, A, V, 2, 6, 6, 1, 1>(job, strip),
        _ => rows::<T, A, V, 1, 6, 6, 1, 1>(job, strip),
    }
}

/// The rows of a strip in tiles of `R1`, as many of them of `MORE` as use up the rest, which is else in tiles of `R2` and
/// `R3`, then single rows: sums of few rows wait for each other.
#[inline(always)]
fn rows<
    T: Real,
    A: Source<T>,
    V: Vector<T>,
    const N: usize,
    const R1: usize,
    const MORE: usize,
    const R2: usize,
    const R3: usize,
>(
    job: &mut Job<T, A>,
    strip: Strip<T>,
) {
    let (mut i, end) = (strip.m0, strip.m1);
    while MORE > R1 && (end - i) % R1 > 0 && (end - i) % R1 <= (end - i) / R1 {
        tile::<T, A, V, N, MORE>(job, strip, i);
        i += MORE;
    }
    while i + R1 <= end {
        tile::<T, A, V, N, R1>(job, strip, i);
        i += R1;
    }
    while R2 > 1 && i + R2 <= end {
        tile::<T, A, V, N, R2>(job, strip, i);
        i += R2;
    }
    while R3 > 1 && i + R3 <= end {
        tile::<T, A, V, N, R3>(job, strip, i);
        i += R3;
    }
    while i < end {
        tile::<T, A, V, N, 1>(job, strip, i);
        i += 1;
    }
}

/// One tile of C: `R` rows from `i0` by `N` registers, over one block of k.
#[inline(always)]
fn tile<T: Real, A: Source<T>, V: Vector<T>, const N: usize, const R: usize>(
    job: &mut Job<T, A>,
    strip: Strip<T>,
    i0: usize,
) {
    let Strip { k0, b, j0, .. } = strip;
    let width = strip.width.min(job.b.n - j0);
    let whole = width == N * V::LANES;
    let places = job.a.places::<R>(i0);
    if meets_operands(job, strip) {
        for i in 0..R {
            prefetch_lines(job.c.as_ptr().wrapping_add(places[i] + j0), width);
            prefetch_operands(job, strip, places[i]);
        }
    }
    let depth = b.len() / (N * V::LANES);
    // Each block of k is summed by itself: over a long k that rounds less than one sum from end to end.
    // SAFETY: `multiply` checked that A fits; i0 + R ≤ m and k0 + depth ≤ k; b holds depth·N registers.
    let acc = unsafe { job.a.product::<V, N, R>([[V::splat(T::ZERO); N]; R], i0, k0, b.as_ptr(), depth) };
    if whole && (!strip.last || job.epilogue.is_piecewise()) {
        // SAFETY: `multiply` checked that C and what it meets reach the last row.
        return unsafe { put_tile::<T, A, V, N, R>(job, strip, acc, places) };
    }
    for i in 0..R {
        put::<T, A, V, N>(job, strip, acc[i], places[i]);
    }
}

/// acc + A·B over `depth` terms. The sums are a value of their own, never borrowed, so
/// that the compiler keeps them in registers.
///
/// # Safety
/// `a` reaches (R − 1)·row + (depth − 1)·column, `b` reaches depth·N registers.
#[inline(always)]
unsafe fn product<T: Real, V: Vector<T>, const N: usize, const R: usize>(
    start: [[V; N]; R],
    a: *const T,
    row: usize,
    column: usize,
    b: *const T,
    depth: usize,
) -> [[V; N]; R] {
    let mut acc = start;
    let (mut a, mut b) = (a, b);
    for _ in 0..depth {
        prefetch_row::<T, V, N>(b);
        // SAFETY: the caller's promise.
        unsafe {
            let mut b_row = [V::splat(T::ZERO); N];
            for j in 0..N {
                b_row[j] = V::load(b.add(j * V::LANES));
            }
            for i in 0..R {
                let x = V::splat(*a.add(i * row));
                for j in 0..N {
                    acc[i][j] = x.mul_add(b_row[j], acc[i][j]);
                }
            }
            a = a.add(column);
            b = b.add(N * V::LANES);
        }
    }
    acc
}

/// Asks for the row of B that lies [`AHEAD`] of the one at `b`, wherever that is.
#[inline(always)]
pub(crate) fn prefetch_row<T: Real, V: Vector<T>, const N: usize>(b: *const T) {
    for at in (0..N * V::LANES).step_by(64 / size_of::<T>()) {
        prefetch(b.wrapping_add(AHEAD / size_of::<T>() + at));
    }
}

/// Asks for the cache line at `from`, wherever that points.
#[inline(always)]
fn prefetch<T>(from: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is there on every x86-64, and a prefetch never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

#[cfg(test)]
mod tests;
