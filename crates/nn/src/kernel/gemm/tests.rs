use super::*;
use crate::kernel::epilogue::Derivative;
use crate::op::activation::Activation;

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
        for (m, k, n) in [
            (1, 1, 1),
            (5, 3, 17),
            (12, 400, 33),
            (19, 800, 31),
            (41, 27, 64),
            (7, 384, 16),
            (41, 57, 88),
            (70, 257, 104),
            (1, 400, 73),
            (49, 200, 40),
            (1100, 200, 56),
        ] {
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
                    derivative: Some(Derivative::Values(&mut slope)),
                    ..Default::default()
                };
                gemm(isa, m, left, &packed, &mut c, n, epilogue);
                if n % 8 == 0 {
                    let (mut again, mut bits) = (vec![0f32; m * n], vec![0xaa_u8; m * n / 8]);
                    let epilogue = Epilogue {
                        bias: Some(&bias32),
                        residual: Some(&residual32),
                        activation: Activation::Relu,
                        derivative: Some(Derivative::Bits(&mut bits)),
                        ..Default::default()
                    };
                    gemm(isa, m, left, &packed, &mut again, n, epilogue);
                    assert_eq!(again, c);
                    assert!((0..m * n).all(|i| f32::from(bits[i / 8] >> (i % 8) & 1) == slope[i]), "{isa:?}");
                }
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

fn single(values: Vec<f64>) -> Vec<f32> {
    values.into_iter().map(|x| x as f32).collect()
}

fn product(isa: Isa, (m, k, n): (usize, usize, usize), a: &[f32], b: &[f32]) -> Vec<f32> {
    let mut c = vec![0f32; m * n];
    gemm(isa, m, Left::rows(a, k), &Packed::new(isa, k, n, b, n, 1), &mut c, n, Epilogue::default());
    c
}

/// Sets of one arithmetic add in one order; only the portable one rounds products.
#[test]
fn sets_of_one_arithmetic_agree_to_the_bit() {
    let sets = Isa::available();
    for (m, k, n) in [(23, 500, 45), (40, 96, 96)] {
        let (a, b) = (single(values(m * k, 1)), single(values(k * n, 2)));
        for pair in sets.windows(2).filter(|pair| pair[0].arithmetic() == pair[1].arithmetic()) {
            let [first, second] = [pair[0], pair[1]].map(|isa| product(isa, (m, k, n), &a, &b));
            assert_eq!(first, second, "{pair:?}");
        }
    }
}

/// A row of C has the same bits alone and among others, wherever it lies.
#[test]
fn rows_do_not_depend_on_each_other() {
    for isa in Isa::available() {
        for (k, n) in [(70, 100), (300, 40), (400, 1000)] {
            let m = 67;
            let (a, b) = (single(values(m * k, 1)), single(values(k * n, 2)));
            let whole = product(isa, (m, k, n), &a, &b);
            for (from, to) in [(0, 1), (3, 20), (16, 49), (66, 67)] {
                let part = product(isa, (to - from, k, n), &a[from * k..to * k], &b);
                assert_eq!(part, whole[from * n..to * n], "{isa:?} {k}×{n}, rows {from} to {to}");
            }
        }
    }
}

/// Where there is a tile unit: its sums of products of three parts are nearer to the exact ones than fused sums are.
#[test]
fn tiles_round_less_than_fused_sums() {
    let (m, n) = (48, 96);
    for k in [64, 384, 1536] {
        let (a, b) = (values(m * k, 1), values(k * n, 2));
        let (a, b) = (single(a), single(b));
        let exact: Vec<f64> = (0..m * n)
            .map(|at| (0..k).map(|p| f64::from(a[at / n * k + p]) * f64::from(b[p * n + at % n])).sum())
            .collect();
        let error = |isa: Isa| {
            let c = product(isa, (m, k, n), &a, &b);
            c.iter().zip(&exact).map(|(c, e)| (f64::from(*c) - e).powi(2)).sum::<f64>().sqrt()
        };
        let of =
            |arithmetic| Isa::available().into_iter().find(|isa| isa.arithmetic() == arithmetic).map(error);
        if let (Some(tiles), Some(fused)) = (of("bfloat16x3"), of("fused")) {
            // Half of it, measured; a lost part would make it a hundred times as large.
            assert!(tiles < 0.6 * fused, "k = {k}: {tiles:e} against {fused:e}");
        }
    }
}
