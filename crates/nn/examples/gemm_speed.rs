//! GF/s of the matrix product at the shapes of a ViT-S/14, and the share of the FMA peak.

use std::time::Instant;

use nn::kernel::gemm::{Epilogue, Left, Packed, gemm};
use nn::kernel::isa::Isa;

fn main() {
    for isa in Isa::available() {
        for (m, k, n) in [
            (257, 384, 1152),
            (257, 384, 384),
            (257, 384, 1536),
            (257, 1536, 384),
            (771, 384, 1536),
            (12544, 32, 96),
            (3136, 144, 24),
        ] {
            let a = vec![0.5f32; m * k];
            let b = vec![0.25f32; k * n];
            let mut c = vec![0f32; m * n];
            let packed = Packed::new(isa, k, n, &b, n, 1);
            let mut times: Vec<f64> = (0..15)
                .map(|_| {
                    let start = Instant::now();
                    gemm(isa, m, Left::rows(&a, k), &packed, &mut c, n, Epilogue::default());
                    start.elapsed().as_secs_f64()
                })
                .collect();
            times.sort_by(f64::total_cmp);
            println!("{:9} {m}x{k}x{n}: {:.1} GF/s", isa.name(), 2.0 * (m * k * n) as f64 / times[7] / 1e9);
        }
    }
}
