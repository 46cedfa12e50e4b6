//! What the benchmarks share: a clock, the machine's peak, and medians.
//!
//! Times are those the thread had the core for, so that other programs that take turns on it do not count.

#![allow(unreachable_pub, dead_code, reason = "a module of two binaries, which export nothing")]

use std::hint::black_box;

/// Seconds this thread has run.
pub fn thread_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(status, 0, "this system has no clock of threads");
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Seconds that `f` takes: the median of `rounds` calls, after one that warms up.
pub fn median_seconds(rounds: usize, mut f: impl FnMut()) -> f64 {
    f();
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = thread_seconds();
            f();
            thread_seconds() - start
        })
        .collect();
    median(&mut times)
}

/// The middle value.
pub fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// GF/s of one core that does nothing but fused multiply-adds in registers: what no kernel can exceed.
/// The best of several tries, since it is a limit and not a typical value.
pub fn fma_peak() -> f64 {
    const STEPS: usize = 2_000_000;
    let run = || {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                // SAFETY: the machine has AVX-512.
                return unsafe { x86::chain512(STEPS) };
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the machine has AVX2 and FMA.
                return unsafe { x86::chain256(STEPS) };
            }
        }
        portable(STEPS)
    };
    (0..7)
        .map(|_| {
            let start = thread_seconds();
            let flops = run();
            flops as f64 / (thread_seconds() - start) / 1e9
        })
        .fold(0.0, f64::max)
}

fn portable(steps: usize) -> usize {
    let mut acc = [[0f32; 8]; 8];
    let x = black_box([0.5f32; 8]);
    for _ in 0..steps {
        for a in &mut acc {
            for l in 0..8 {
                a[l] += x[l] * x[l];
            }
        }
    }
    black_box(acc);
    steps * 8 * 8 * 2
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Sixteen independent chains of 512-bit multiply-adds; returns the operations done.
    #[target_feature(enable = "avx512f")]
    pub fn chain512(steps: usize) -> usize {
        let x = _mm512_set1_ps(black_box(0.5));
        let mut acc = [_mm512_setzero_ps(); 16];
        for _ in 0..steps {
            for a in &mut acc {
                *a = _mm512_fmadd_ps(x, x, *a);
            }
        }
        black_box(acc);
        steps * 16 * 16 * 2
    }

    /// The same with 256 bits.
    #[target_feature(enable = "avx2,fma")]
    pub fn chain256(steps: usize) -> usize {
        let x = _mm256_set1_ps(black_box(0.5));
        let mut acc = [_mm256_setzero_ps(); 12];
        for _ in 0..steps {
            for a in &mut acc {
                *a = _mm256_fmadd_ps(x, x, *a);
            }
        }
        black_box(acc);
        steps * 12 * 8 * 2
    }
}
