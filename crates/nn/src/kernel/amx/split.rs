//! Splitting numbers of f32 into three of bfloat16, laid out as the tile unit reads them.
//!
//! A tile of A holds sixteen rows of 32 terms, a tile of B sixteen columns of 32 terms. In both, terms p and p + 16 of a step lie
//! side by side: the unit adds the products of such pairs, and which terms make a pair is free as long as A and B agree.

use std::arch::x86_64::*;

use super::{PARTS, ROWS, SIDE, TERMS, TILE};
use crate::kernel::gemm::Source;
use crate::real::Real;

/// Up to [`SIDE`] rows of A that are being split.
pub(super) struct Rows<T> {
    /// Where each row's terms lie.
    rows: [*const f32; SIDE],
    /// The first value and the distance between columns, where it is columns that lie together.
    columns: Option<(*const T, usize)>,
    count: usize,
    depth: usize,
    /// Two rows of tiles, each step behind step.
    to: *mut u8,
    done: usize,
    units: usize,
}

impl<T: Real> Rows<T> {
    /// Nothing to split.
    pub(super) fn none() -> Self {
        Rows {
            rows: [std::ptr::null(); SIDE],
            columns: None,
            count: 0,
            depth: 0,
            to: std::ptr::null_mut(),
            done: 0,
            units: 0,
        }
    }

    /// Rows `i..i + count` and `depth` terms from `k0` on. What does not lie together is copied to `gathered`.
    ///
    /// # Safety
    /// A has the rows and terms, `to` and `gathered` have room for them, until they are split.
    #[inline(always)]
    pub(super) unsafe fn new<A: Source<T>>(
        a: A,
        (i, count): (usize, usize),
        (k0, depth): (usize, usize),
        gathered: *mut T,
        to: *mut u8,
    ) -> Self {
        let steps = depth.div_ceil(TERMS);
        let mut rows = [std::ptr::null(); SIDE];
        if let Some((start, column)) = a.columns() {
            let columns = Some((start.wrapping_add(i + k0 * column), column));
            return Rows { rows, columns, count, depth, to, done: 0, units: count.div_ceil(ROWS) * steps };
        }
        for r in 0..count {
            // SAFETY: the caller's promise.
            rows[r] = unsafe { a.row(i + r, k0, depth, gathered.add(r * depth)) }.cast();
        }
        Rows { rows, columns: None, count, depth, to, done: 0, units: count * steps }
    }

    /// How often [`Rows::advance`] is left to be called.
    pub(super) fn left(&self) -> usize {
        self.units - self.done
    }

    /// Splits up to `units` more pieces.
    ///
    /// # Safety
    /// As [`Rows::new`]; the caller is compiled for AVX-512.
    #[inline(always)]
    pub(super) unsafe fn advance(&mut self, units: usize) {
        let end = self.units.min(self.done.saturating_add(units));
        let steps = self.depth.div_ceil(TERMS);
        // SAFETY: the caller's promise.
        unsafe {
            if let Some((start, column)) = self.columns {
                while self.done < end {
                    self.split_columns(start.cast(), column, self.done / steps, self.done % steps);
                    self.done += 1;
                }
                return;
            }
            while self.done < end {
                self.split_row(steps, self.done / self.count, self.done % self.count);
                self.done += 1;
            }
        }
    }

    /// One step of row `r`.
    ///
    /// # Safety
    /// As [`Rows::advance`].
    #[inline(always)]
    unsafe fn split_row(&self, steps: usize, step: usize, r: usize) {
        let k = step * TERMS;
        let row = self.rows[r].wrapping_add(k);
        // SAFETY: the caller's promise.
        unsafe {
            let to = self.to.add((r / ROWS * steps + step) * PARTS + r % ROWS * 64);
            if k + TERMS <= self.depth {
                split(_mm512_loadu_ps(row), _mm512_loadu_ps(row.add(16)), to, TILE);
            } else {
                let mask = u32::MAX >> (TERMS - (self.depth - k));
                let low = _mm512_maskz_loadu_ps(mask as u16, row);
                let high = _mm512_maskz_loadu_ps((mask >> 16) as u16, row.wrapping_add(16));
                split(low, high, to, TILE);
            }
        }
    }

    /// One step of a tile's rows, whose columns lie together.
    ///
    /// # Safety
    /// As [`Rows::advance`].
    #[inline(always)]
    unsafe fn split_columns(&self, start: *const f32, column: usize, tile: usize, step: usize) {
        let count = (self.count - tile * ROWS).min(ROWS);
        let mask = u16::MAX >> (ROWS - count);
        let k = step * TERMS;
        // SAFETY: the caller's promise.
        unsafe {
            let mut halves = [[_mm512_setzero_ps(); ROWS]; 2];
            for p in k..self.depth.min(k + TERMS) {
                let at = start.wrapping_add(tile * ROWS + p * column);
                halves[(p - k) / 16][(p - k) % 16] = _mm512_maskz_loadu_ps(mask, at);
            }
            transpose(&mut halves[0]);
            transpose(&mut halves[1]);
            let to = self.to.add((tile * self.depth.div_ceil(TERMS) + step) * PARTS);
            for r in 0..count {
                split(halves[0][r], halves[1][r], to.add(r * 64), TILE);
            }
        }
    }
}

/// A panel of B that is being split.
pub(super) struct Panel {
    panel: *const f32,
    width: usize,
    depth: usize,
    /// One tile or two beside each other, step behind step.
    to: *mut u8,
    /// Rows of tiles written, and rows.
    done: usize,
    rows: usize,
}

impl Panel {
    /// Nothing to split.
    pub(super) fn none() -> Self {
        Panel { panel: std::ptr::null(), width: 0, depth: 0, to: std::ptr::null_mut(), done: 0, rows: 0 }
    }

    /// `depth` rows of `width` values.
    #[inline(always)]
    pub(super) fn new<T>(panel: &[T], width: usize, depth: usize, to: *mut u8) -> Self {
        Panel { panel: panel.as_ptr().cast(), width, depth, to, done: 0, rows: depth.div_ceil(TERMS) * ROWS }
    }

    /// How often [`Panel::advance`] is left to be called.
    pub(super) fn left(&self) -> usize {
        self.rows - self.done
    }

    /// Splits up to `rows` more rows of tiles.
    ///
    /// # Safety
    /// The panel is there, `depth` rows of `width` values, and `to` has room for its steps; the caller is compiled for
    /// AVX-512.
    #[inline(always)]
    pub(super) unsafe fn advance(&mut self, rows: usize) {
        let end = self.rows.min(self.done.saturating_add(rows));
        // SAFETY: the caller's promise.
        unsafe {
            match self.width {
                32 => self.split_to::<2, { u16::MAX }>(end),
                24 => self.split_to::<2, 0xff>(end),
                _ => self.split_to::<1, { u16::MAX }>(end),
            }
        }
    }

    /// Splits up to row of tiles `end`. There are `N` tiles beside each other, the last has the columns of `MASK`.
    ///
    /// # Safety
    /// As [`Panel::advance`].
    #[inline(always)]
    unsafe fn split_to<const N: usize, const MASK: u16>(&mut self, end: usize) {
        while self.done < end {
            let (step, r) = (self.done / ROWS, self.done % ROWS);
            let (low, high) = (step * TERMS + r, step * TERMS + r + 16);
            let at = self.panel.wrapping_add(low * self.width);
            let to = self.to.wrapping_add(step * N * PARTS + r * 64);
            for j in 0..N {
                let mask = if j + 1 == N { MASK } else { u16::MAX };
                let (at, to) = (at.wrapping_add(j * ROWS), to.wrapping_add(j * TILE));
                let below = at.wrapping_add(16 * self.width);
                // SAFETY: the caller's promise; rows behind the last are not read, and are zero. A prefetch never faults.
                unsafe {
                    // Weights come from memory: what the next step splits is asked for now.
                    _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(TERMS * self.width).cast());
                    _mm_prefetch::<_MM_HINT_T1>(below.wrapping_add(TERMS * self.width).cast());
                    if mask == u16::MAX && high < self.depth {
                        split(_mm512_loadu_ps(at), _mm512_loadu_ps(below), to, N * TILE);
                    } else {
                        let x = _mm512_maskz_loadu_ps(if low < self.depth { mask } else { 0 }, at);
                        let y = _mm512_maskz_loadu_ps(if high < self.depth { mask } else { 0 }, below);
                        split(x, y, to, N * TILE);
                    }
                }
            }
            self.done += 1;
        }
    }
}

/// Splits sixteen pairs of values: the parts of a pair lie side by side, each part `apart` bytes behind the one before.
///
/// # Safety
/// `to` has room.
#[inline(always)]
unsafe fn split(x: __m512, y: __m512, to: *mut u8, apart: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let (xh, yh) = (near(x), near(y));
        let (x, y) = (_mm512_sub_ps(x, xh), _mm512_sub_ps(y, yh));
        let (xm, ym) = (near(x), near(y));
        let (xl, yl) = (_mm512_sub_ps(x, xm), _mm512_sub_ps(y, ym));
        _mm512_store_si512(to.cast(), pair(xh, yh));
        _mm512_store_si512(to.add(apart).cast(), pair(xm, ym));
        _mm512_store_si512(to.add(2 * apart).cast(), pair(xl, yl));
    }
}

/// The nearest numbers of 8 bits: the upper half of an f32 is the next one towards 0, half a unit of which is added first.
///
/// # Safety
/// The caller is compiled for AVX-512.
#[inline(always)]
unsafe fn near(x: __m512) -> __m512 {
    // SAFETY: registers alone.
    unsafe {
        let bits = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
        _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(-0x1_0000)))
    }
}

/// The upper halves of `x` and `y`, value by value side by side.
///
/// # Safety
/// The caller is compiled for AVX-512.
#[inline(always)]
unsafe fn pair(x: __m512, y: __m512) -> __m512i {
    // SAFETY: registers alone.
    unsafe {
        let low = _mm512_srli_epi32::<16>(_mm512_castps_si512(x));
        _mm512_mask_blend_epi16(0xaaaa_aaaa, low, _mm512_castps_si512(y))
    }
}

/// # Safety
/// The caller is compiled for AVX-512.
#[inline(always)]
unsafe fn low_pairs(x: __m512, y: __m512) -> __m512 {
    // SAFETY: registers alone.
    unsafe { _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(x), _mm512_castps_pd(y))) }
}

/// # Safety
/// The caller is compiled for AVX-512.
#[inline(always)]
unsafe fn high_pairs(x: __m512, y: __m512) -> __m512 {
    // SAFETY: registers alone.
    unsafe { _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(x), _mm512_castps_pd(y))) }
}

/// Transposes sixteen rows of sixteen.
///
/// # Safety
/// The caller is compiled for AVX-512.
#[inline(always)]
unsafe fn transpose(rows: &mut [__m512; 16]) {
    // SAFETY: registers alone.
    unsafe {
        let mut t = [_mm512_setzero_ps(); 16];
        for i in (0..16).step_by(2) {
            t[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
            t[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
        }
        for i in (0..16).step_by(4) {
            rows[i] = low_pairs(t[i], t[i + 2]);
            rows[i + 1] = high_pairs(t[i], t[i + 2]);
            rows[i + 2] = low_pairs(t[i + 1], t[i + 3]);
            rows[i + 3] = high_pairs(t[i + 1], t[i + 3]);
        }
        for i in 0..4 {
            for h in [0, 8] {
                t[h + i] = _mm512_shuffle_f32x4::<0x88>(rows[h + i], rows[h + 4 + i]);
                t[h + 4 + i] = _mm512_shuffle_f32x4::<0xdd>(rows[h + i], rows[h + 4 + i]);
            }
        }
        for i in 0..4 {
            rows[i] = _mm512_shuffle_f32x4::<0x88>(t[i], t[8 + i]);
            rows[8 + i] = _mm512_shuffle_f32x4::<0xdd>(t[i], t[8 + i]);
            rows[4 + i] = _mm512_shuffle_f32x4::<0x88>(t[4 + i], t[12 + i]);
            rows[12 + i] = _mm512_shuffle_f32x4::<0xdd>(t[4 + i], t[12 + i]);
        }
    }
}
