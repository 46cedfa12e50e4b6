//! A matrix product on the tile unit of Intel's server cores (AMX), to the accuracy of f32.
//!
//! The unit multiplies tiles of bfloat16, numbers of 8 significant bits, and adds in f32, sixteen times as many a cycle as
//! AVX-512 multiplies f32. A number of f32 has 24 bits and is the sum of three of 8, x = h + m + l, to the last bit. Of the
//! nine products of two such sums the six largest are added; what is left out, m·l, l·m and l·l, is below 2⁻²⁴ of the whole,
//! as much as one rounding of f32. Within 32 terms the unit adds the even and the odd ones in order and flushes
//! numbers below 2⁻¹²⁶ to zero ("Intel Architecture Instruction Set Extensions Programming Reference", TDPBF16PS).
//! An infinite factor makes its products NaN: its parts are ∞ and ∞ − ∞.
//!
//! Both sides are split block by block into scratch memory of the thread; the packed B is that of AVX-512, which multiplies
//! what is too narrow for tiles.

use std::arch::x86_64::{__cpuid_count, _MM_HINT_ET0, _mm_prefetch};
use std::cell::RefCell;

mod split;
mod tiles;

use split::{Panel, Rows};
use tiles::{begin, configure, multiply_part, release, store_tiles};

use crate::buffer::Buffer;
use crate::kernel::gemm::{Job, Source, Strip, meets_operands, prefetch_operands, put};
use crate::kernel::pack::{block, packed_columns, panels};
use crate::kernel::vector::Vector;
use crate::real::Real;

/// Terms of a step: a row of a tile is 64 bytes.
const TERMS: usize = 32;
/// Rows of a tile.
const ROWS: usize = 16;
/// Bytes of a tile.
const TILE: usize = 1024;
/// Bytes of a tile's worth of f32: three of bfloat16, h before m before l.
const PARTS: usize = 3 * TILE;
/// Rows and columns of C worked on at once: two tiles by two.
const SIDE: usize = 32;
/// Values of A split at a time: 600 KiB, a third of the second-level cache. DINOv2's 257 tokens of 384 channels fit.
const A_BLOCK: usize = 100 * 1024;
/// Values of B that are split once for all rows, at most: half a MiB.
const B_BLOCK: usize = 88 * 1024;
/// Values of C, at most, of which the second-level cache still holds what it held of them.
const C_BLOCK: usize = 128 * 1024;
/// Products of parts in a step.
const PRODUCTS: usize = 6;

/// Whether a product with a `k`×`n` right-hand side is worth tiles. That must not depend on the number of rows, which is
/// shared among threads: an element of C has the same bits whoever computes it.
pub(crate) fn worthwhile(k: usize, n: usize) -> bool {
    k >= 32 && n >= 72 || k >= 192 && n >= 40
}

/// Asks the system for the tiles' state, once a process, and says whether they can be used.
pub(crate) fn available() -> bool {
    static FOUND: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *FOUND.get_or_init(|| {
        #[allow(unused_unsafe, reason = "safe since Rust 1.94, newer than the oldest supported")]
        // SAFETY: every x86-64 has the instruction.
        let features = unsafe { __cpuid_count(7, 0) }.edx;
        let (bf16, tile) = (1 << 22, 1 << 24);
        features & (bf16 | tile) == bf16 | tile && permitted()
    })
}

/// Linux saves the state of tiles only for processes that asked.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call changes what may be used, nothing in memory.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// Memory of a thread for what it is multiplying.
struct Rooms {
    /// Blocks of A and of B in parts.
    a: *mut u8,
    b: *mut u8,
    /// Two blocks of C of two tiles by two.
    c: [*mut f32; 2],
    /// Rows of A whose values lie apart.
    gathered: *mut f32,
}

/// Rooms for `a` and `b` values of both sides and for `gathered` values. They are this thread's until it asks again.
fn rooms(a: usize, b: usize, gathered: usize) -> Rooms {
    thread_local! {
        static KEPT: RefCell<[Buffer<f32>; 4]> = RefCell::new(std::array::from_fn(|_| Buffer::zeroed(0)));
    }
    KEPT.with_borrow_mut(|kept| {
        // Three numbers of two bytes for each value; a step more is read than there is.
        let parts = |values: usize| (values + TERMS * SIDE) * 6 / 4;
        for (buffer, length) in kept.iter_mut().zip([parts(a), parts(b), 2 * SIDE * SIDE, gathered]) {
            if buffer.len() < length {
                *buffer = Buffer::zeroed(length);
            }
        }
        let [a, b, c, gathered] = kept.each_mut().map(|buffer| buffer.as_mut_ptr());
        Rooms { a: a.cast(), b: b.cast(), c: [c, c.wrapping_add(SIDE * SIDE)], gathered }
    })
}

/// The whole of a product whose A and C were checked. `V` is sixteen lanes, `H` eight.
///
/// The narrower side is split at once for a block of the other. That side is split piece by piece while the tile unit is at
/// work, and so is what was multiplied brought into place.
///
/// # Safety
/// [`available`] said yes; T is f32; the caller is compiled for AVX-512.
#[inline(always)]
pub(super) unsafe fn run<T: Real, A: Source<T>, V: Vector<T>, H: Vector<T>>(job: &mut Job<T, A>) {
    assert!(T::MEASURES, "tiles multiply f32 alone");
    let (source, right) = (job.a, job.b);
    let columns = packed_columns(right.isa, right.n);
    let most = block(right.k);
    let padded = most.min(right.k).next_multiple_of(TERMS);
    let whole_b = columns <= job.m && columns * padded <= B_BLOCK;
    let m_block = if whole_b { SIDE } else { (A_BLOCK / padded).next_multiple_of(SIDE) };
    let of_a = job.m.min(m_block).next_multiple_of(SIDE) * padded;
    // A panel of 24 columns takes two tiles.
    let of_b = if whole_b { (columns + ROWS) * padded } else { 2 * SIDE * padded };
    let Rooms { a, b, c, gathered } = rooms(if whole_b { 2 * of_a } else { of_a }, of_b, SIDE * padded);
    let gathered: *mut T = gathered.cast();
    let mut beside = Beside {
        waiting: Waiting::none(),
        rows: Rows::none(),
        panel: Panel::none(),
        pace: [Pace::new(0, 1); 3],
    };
    let mut c_turn = 0;
    // Sums that are C itself are stored to it where that is at hand; stores to far memory would stop the tile unit.
    let at_hand = right.k <= most && job.m * right.n <= C_BLOCK;
    let straight = if at_hand && job.epilogue.is_none() { job.a.pitch() } else { None };
    let mut k0 = 0;
    // SAFETY: the caller's promise, and there is room for A and for B as `whole_b` says and two blocks of C.
    unsafe {
        configure();
        while k0 < right.k {
            let depth = most.min(right.k - k0);
            let steps = depth.div_ceil(TERMS);
            let (first, last) = (k0 == 0, k0 + depth == right.k);
            let values =
                |(j0, width): (usize, usize)| &right.data[k0 * columns + j0 * depth..][..depth * width];
            // Where rows and panels are split to. Of the side that is split piece by piece, every second piece goes to
            // the same place.
            let rows_place = |i: usize, m0: usize| {
                a.wrapping_add(if whole_b {
                    i / SIDE % 2 * of_a * 6
                } else {
                    (i - m0) / ROWS * steps * PARTS
                })
            };
            let panel_place = |at: usize, j0: usize| {
                b.wrapping_add(if whole_b {
                    j0.next_multiple_of(ROWS) * steps * TERMS * 6
                } else {
                    at % 2 * SIDE * padded * 6
                })
            };
            let panel = |at: usize, (j0, width): (usize, usize)| {
                Panel::new(values((j0, width)), width, depth, panel_place(at, j0))
            };
            if whole_b {
                for (at, columns) in panels(right.isa, right.n).enumerate() {
                    panel(at, columns).advance(usize::MAX);
                }
            }
            for m0 in (0..job.m).step_by(m_block) {
                let m1 = job.m.min(m0 + m_block);
                let end = if whole_b { job.m } else { m1 };
                let split_rows = |i: usize| {
                    Rows::new(source, (i, SIDE.min(end - i)), (k0, depth), gathered, rows_place(i, m0))
                };
                let mut all = panels(right.isa, right.n).enumerate().peekable();
                while let Some((at, (j0, width))) = all.next() {
                    let b = panel_place(at, j0);
                    if !whole_b {
                        if at == 0 {
                            beside.panel = panel(at, (j0, width));
                        }
                        beside.panel.advance(usize::MAX);
                        if let Some(&(at, columns)) = all.peek() {
                            beside.panel = panel(at, columns);
                        }
                        beside.pace[2] = Pace::new(beside.panel.left(), (m1 - m0).div_ceil(SIDE) * steps);
                    }
                    let strip = Strip { m0, m1, j0, width, k0, b: &[], first, last };
                    for i0 in (m0..m1).step_by(SIDE) {
                        let count = (m1 - i0).min(SIDE);
                        // A tile is stored whole: not where C ends within it, nor the second one of 24 columns.
                        let straight = straight
                            .filter(|_| count % ROWS == 0 && width % ROWS == 0 && j0 + width <= right.n);
                        if straight.is_none() {
                            prefetch_block(job, strip, i0, count);
                        }
                        if at == 0 {
                            if i0 == 0 || !whole_b && i0 == m0 {
                                beside.rows = split_rows(i0);
                            }
                            beside.rows.advance(usize::MAX);
                            beside.pace[1] = Pace::new(0, 1);
                            if i0 + SIDE < end {
                                beside.rows = split_rows(i0 + SIDE);
                                let over = if whole_b { panels(right.isa, right.n).count() } else { 1 };
                                beside.pace[1] = Pace::new(beside.rows.left(), over * steps);
                            }
                        }
                        let a0 = rows_place(i0, m0);
                        let a1 = a0.add(steps * PARTS);
                        let shape = (count.div_ceil(ROWS), width.div_ceil(ROWS));
                        beside.pace[0] = Pace::new(beside.waiting.left(), steps);
                        begin(shape, a0, a1, b);
                        for step in 0..steps {
                            let at = step * PARTS;
                            for part in 0..PRODUCTS {
                                multiply_part(shape, part, a0.add(at), a1.add(at), b.add(at * shape.1));
                                beside.advance::<A, V, H>(job);
                            }
                        }
                        if let Some(pitch) = straight {
                            let [place] = job.a.places::<1>(i0);
                            store_tiles(shape, job.c.as_mut_ptr().add(place + j0).cast(), pitch);
                            beside.waiting = Waiting::none();
                            continue;
                        }
                        store_tiles(shape, c[c_turn], SIDE);
                        beside.waiting = Waiting { c: c[c_turn], i0, done: 0, count, strip: Some(strip) };
                        c_turn = 1 - c_turn;
                    }
                }
            }
            k0 += depth;
        }
        beside.waiting.advance::<A, V, H>(job, usize::MAX);
        release();
    }
}

/// What the vector units do while the tile unit multiplies.
struct Beside<'a, T> {
    waiting: Waiting<'a, T>,
    rows: Rows<T>,
    panel: Panel,
    /// Of each of the three.
    pace: [Pace; 3],
}

impl<T: Real> Beside<'_, T> {
    /// What belongs beside one product of parts.
    ///
    /// # Safety
    /// That of each of the three.
    #[inline(always)]
    unsafe fn advance<A: Source<T>, V: Vector<T>, H: Vector<T>>(&mut self, job: &mut Job<T, A>) {
        // SAFETY: the caller's promise.
        unsafe {
            self.waiting.advance::<A, V, H>(job, self.pace[0].next());
            self.rows.advance(self.pace[1].next());
            self.panel.advance(self.pace[2].next());
        }
    }
}

/// Work spread evenly over a number of products.
#[derive(Clone, Copy)]
struct Pace {
    work: usize,
    over: usize,
    due: usize,
}

impl Pace {
    /// `work` over the products of `steps` steps.
    #[inline(always)]
    fn new(work: usize, steps: usize) -> Self {
        Pace { work, over: steps * PRODUCTS, due: 0 }
    }

    /// Work that belongs to the next product.
    #[inline(always)]
    fn next(&mut self) -> usize {
        let mut now = 0;
        self.due += self.work;
        while self.due >= self.over {
            self.due -= self.over;
            now += 1;
        }
        now
    }
}

/// A block of C whose sums are there, but neither its epilogue nor its place.
struct Waiting<'a, T> {
    c: *const f32,
    /// First row, rows brought into place, rows.
    i0: usize,
    done: usize,
    count: usize,
    strip: Option<Strip<'a, T>>,
}

impl<T: Real> Waiting<'_, T> {
    /// Nothing waits.
    fn none() -> Self {
        Waiting { c: std::ptr::null(), i0: 0, done: 0, count: 0, strip: None }
    }

    /// Rows that are left.
    fn left(&self) -> usize {
        self.count - self.done
    }

    /// Brings up to `rows` more rows into their place.
    ///
    /// # Safety
    /// `c` holds the block; the caller is compiled for AVX-512.
    #[inline(always)]
    unsafe fn advance<A: Source<T>, V: Vector<T>, H: Vector<T>>(&mut self, job: &mut Job<T, A>, rows: usize) {
        let Some(strip) = self.strip else { return };
        let end = self.count.min(self.done.saturating_add(rows));
        while self.done < end {
            let i = self.done;
            let [place] = job.a.places::<1>(self.i0 + i);
            // SAFETY: the caller's promise.
            unsafe {
                let from: *const T = self.c.add(i * SIDE).cast();
                match strip.width {
                    32 => put::<T, A, V, 2>(job, strip, registers(from), place),
                    24 => put::<T, A, H, 3>(job, strip, registers(from), place),
                    _ => put::<T, A, V, 1>(job, strip, registers(from), place),
                }
            }
            self.done += 1;
        }
    }
}

/// # Safety
/// `from` points to `N` registers.
#[inline(always)]
unsafe fn registers<T: Real, V: Vector<T>, const N: usize>(from: *const T) -> [V; N] {
    let mut all = [V::splat(T::ZERO); N];
    for j in 0..N {
        // SAFETY: the caller's promise.
        all[j] = unsafe { V::load(from.add(j * V::LANES)) };
    }
    all
}

/// Asks for what a block of C meets when its sums are there, and for its place.
#[inline(always)]
fn prefetch_block<T: Real, A: Source<T>>(job: &Job<T, A>, strip: Strip<T>, i0: usize, count: usize) {
    let width = strip.width.min(job.b.n - strip.j0);
    let met = meets_operands(job, strip);
    for i in i0..i0 + count {
        let [place] = job.a.places::<1>(i);
        if met {
            prefetch_operands(job, strip, place);
        }
        for at in (0..width).step_by(16) {
            // SAFETY: a prefetch never faults.
            unsafe {
                _mm_prefetch::<_MM_HINT_ET0>(job.c.as_ptr().wrapping_add(place + strip.j0 + at).cast())
            };
        }
    }
}
