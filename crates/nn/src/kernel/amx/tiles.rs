//! The instructions of the tile unit, in assembly because the compiler's own are not stable yet.
//!
//! A block of C is up to two by two tiles of sixteen by sixteen sums (tiles 0 to 3); two tiles of A (4, 5) and two of B (6, 7)
//! are multiplied at a time.

use std::arch::asm;

use super::ROWS;

/// All eight tiles hold sixteen rows of 64 bytes.
///
/// # Safety
/// [`available`] said yes.
pub(super) unsafe fn configure() {
    #[repr(C, align(64))]
    struct Config {
        palette: u8,
        start: u8,
        reserved: [u8; 14],
        bytes: [u16; 16],
        rows: [u8; 16],
    }
    let mut config = Config { palette: 1, start: 0, reserved: [0; 14], bytes: [0; 16], rows: [0; 16] };
    config.bytes[..8].fill(64);
    config.rows[..8].fill(ROWS as u8);
    // SAFETY: the caller's promise; the layout is the instruction's.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly, preserves_flags)) }
}

/// Gives the tiles back, so that the system need not save them.
///
/// # Safety
/// [`available`] said yes.
pub(super) unsafe fn release() {
    // SAFETY: the caller's promise.
    unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
}

/// The instructions where there are two rows (columns) of tiles, else none.
macro_rules! if_two {
    (1, $($code:expr),*) => {
        ""
    };
    (2, $($code:expr),*) => {
        concat!($($code),*)
    };
}

/// Loads tile `$i` of A from byte `$at` on.
macro_rules! load_a {
    (0, $at:literal) => {
        concat!("tileloadd tmm4, [{a0} + {s} + ", $at, "]\n")
    };
    (1, $at:literal) => {
        concat!("tileloadd tmm5, [{a1} + {s} + ", $at, "]\n")
    };
}

/// Loads part `$part` of tile `$j` of B, of `$n` tiles; part 3 is the first of the next step.
macro_rules! load_b {
    ($n:tt, 0, $part:literal) => {
        concat!("tileloadd tmm6, [{b} + {s} + 1024 * ", $n, " * ", $part, "]\n")
    };
    ($n:tt, 1, $part:literal) => {
        concat!("tileloadd tmm7, [{b} + {s} + 1024 * ", $n, " * ", $part, " + 1024]\n")
    };
}

/// Adds tile `$i` of A times tile `$j` of B.
macro_rules! dot {
    (0, 0) => {
        "tdpbf16ps tmm0, tmm4, tmm6\n"
    };
    (0, 1) => {
        "tdpbf16ps tmm1, tmm4, tmm7\n"
    };
    (1, 0) => {
        "tdpbf16ps tmm2, tmm5, tmm6\n"
    };
    (1, 1) => {
        "tdpbf16ps tmm3, tmm5, tmm7\n"
    };
}

/// Multiplies what is loaded. Each tile of A is replaced, by what lies at byte `$at`, as soon as it has been used.
macro_rules! then_a {
    ($m:tt, $n:tt, $at:literal) => {
        concat!(
            dot!(0, 0),
            if_two!($n, dot!(0, 1)),
            load_a!(0, $at),
            if_two!($m, dot!(1, 0), if_two!($n, dot!(1, 1)), load_a!(1, $at))
        )
    };
}

/// The same for the tiles of B.
macro_rules! then_b {
    ($m:tt, $n:tt, $part:literal) => {
        concat!(
            dot!(0, 0),
            if_two!($m, dot!(1, 0)),
            load_b!($n, 0, $part),
            if_two!($n, dot!(0, 1), if_two!($m, dot!(1, 1)), load_b!($n, 1, $part))
        )
    };
}

/// What is done with `$m` by `$n` tiles.
macro_rules! tiles {
    ($begin:ident, $step:ident, $store:ident, $m:tt, $n:tt) => {
        /// # Safety
        /// As [`begin`].
        #[inline(always)]
        unsafe fn $begin(a0: *const u8, a1: *const u8, b: *const u8) {
            // SAFETY: the caller's promise. The compiler uses no tiles.
            unsafe {
                asm!(
                    concat!(
                        "tilezero tmm0\n", if_two!($n, "tilezero tmm1\n"),
                        if_two!($m, "tilezero tmm2\n", if_two!($n, "tilezero tmm3\n")),
                        load_a!(0, 2048), load_b!($n, 0, 0),
                        if_two!($m, load_a!(1, 2048)), if_two!($n, load_b!($n, 1, 0)),
                        "/* {a1} */"
                    ),
                    a0 = in(reg) a0,
                    a1 = in(reg) a1,
                    b = in(reg) b,
                    s = in(reg) 64usize,
                    options(nostack, readonly, preserves_flags),
                );
            }
        }

        /// # Safety
        /// As [`multiply_part`].
        #[inline(always)]
        unsafe fn $step(part: usize, a0: *const u8, a1: *const u8, b: *const u8) {
            macro_rules! code {
                ($code:expr) => {
                    asm!(
                        concat!($code, "/* {a0} {a1} {b} {s} */"),
                        a0 = in(reg) a0,
                        a1 = in(reg) a1,
                        b = in(reg) b,
                        s = in(reg) 64usize,
                        options(nostack, readonly, preserves_flags),
                    )
                };
            }
            // SAFETY: as above.
            unsafe {
                match part {
                    0 => code!(then_a!($m, $n, 1024)),
                    1 => code!(then_b!($m, $n, 1)),
                    2 => code!(then_a!($m, $n, 0)),
                    3 => code!(then_b!($m, $n, 2)),
                    4 => code!(then_b!($m, $n, 0)),
                    _ => code!(concat!(
                        dot!(0, 0), if_two!($n, dot!(0, 1)), load_a!(0, 5120),
                        if_two!($m, dot!(1, 0)), load_b!($n, 0, 3),
                        if_two!($m, if_two!($n, dot!(1, 1)), load_a!(1, 5120)), if_two!($n, load_b!($n, 1, 3))
                    )),
                }
            }
        }

        /// # Safety
        /// As [`store_tiles`].
        #[inline(always)]
        unsafe fn $store(c: *mut f32, pitch: usize) {
            // SAFETY: as above.
            unsafe {
                asm!(
                    concat!(
                        "tilestored [{c0} + {t}], tmm0\n", if_two!($n, "tilestored [{c0} + {t} + 64], tmm1\n"),
                        if_two!($m, "tilestored [{c1} + {t}], tmm2\n",
                            if_two!($n, "tilestored [{c1} + {t} + 64], tmm3\n")),
                        "/* {c1} */"
                    ),
                    c0 = in(reg) c,
                    c1 = in(reg) c.wrapping_add(ROWS * pitch),
                    t = in(reg) pitch * 4,
                    options(nostack, preserves_flags),
                );
            }
        }
    };
}

tiles!(begin_1x1, step_1x1, store_1x1, 1, 1);
tiles!(begin_1x2, step_1x2, store_1x2, 1, 2);
tiles!(begin_2x1, step_2x1, store_2x1, 2, 1);
tiles!(begin_2x2, step_2x2, store_2x2, 2, 2);

/// Begins a block of C of `shape` tiles: sums of zero, and the first loads.
///
/// # Safety
/// The tiles are configured; `a0` and `b` hold a step, and so does `a1` where there are two rows of tiles.
#[inline(always)]
pub(super) unsafe fn begin(shape: (usize, usize), a0: *const u8, a1: *const u8, b: *const u8) {
    // SAFETY: the caller's promise.
    unsafe {
        match shape {
            (2, 2) => begin_2x2(a0, a1, b),
            (2, _) => begin_2x1(a0, a1, b),
            (_, 2) => begin_1x2(a0, a1, b),
            _ => begin_1x1(a0, a1, b),
        }
    }
}

/// Adds one of the six products of parts of a step of 32 terms, and loads what the next one needs. The small products
/// come before the large, in an order that loads one side at a time: l·h, m·h, m·m, h·m, h·l, h·h. The last loads from the
/// next step: the memory behind the last step is read as well, and not used.
///
/// # Safety
/// As [`begin`], which came before with the same shape, and with a step's memory behind.
#[inline(always)]
pub(super) unsafe fn multiply_part(
    shape: (usize, usize),
    part: usize,
    a0: *const u8,
    a1: *const u8,
    b: *const u8,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match shape {
            (2, 2) => step_2x2(part, a0, a1, b),
            (2, _) => step_2x1(part, a0, a1, b),
            (_, 2) => step_1x2(part, a0, a1, b),
            _ => step_1x1(part, a0, a1, b),
        }
    }
}

/// Stores the sums, rows at a distance of `pitch` values.
///
/// # Safety
/// `c` has room for the tiles.
#[inline(always)]
pub(super) unsafe fn store_tiles(shape: (usize, usize), c: *mut f32, pitch: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match shape {
            (2, 2) => store_2x2(c, pitch),
            (2, _) => store_2x1(c, pitch),
            (_, 2) => store_1x2(c, pitch),
            _ => store_1x1(c, pitch),
        }
    }
}
