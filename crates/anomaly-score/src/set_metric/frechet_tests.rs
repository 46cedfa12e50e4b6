use proptest::prelude::*;
use rand_distr::{Distribution, StandardNormal};
use serde_json::Value;

use super::*;
use crate::set_metric::fixture::{Matrix, cases, floats};

fn gaussian(matrix: &Matrix) -> Gaussian {
    Moments::of(matrix.features()).gaussian(1).unwrap()
}

fn distance(reference: &Matrix, generated: &Matrix) -> FrechetDistance {
    frechet_distance(&gaussian(reference), &gaussian(generated)).unwrap()
}

fn frechet_cases() -> Vec<Value> {
    cases(include_str!("../../../../fixtures/spectral/frechet.json"))
}

/// Moments: sums of at most 80 numbers in f64. Distances: the eigenvalues are squares of what the SVD finds, so that
/// a root σ carries 2⁻⁵²·σ₁²/σ, which is 1e-10 of the traces in the widest spectrum here (σ₁/σ = 1e6). Against
/// scipy's root of the product 1e-6, the project's bound: where a covariance is singular scipy itself is 1e-8 from
/// the SVD.
#[test]
fn matches_numpy_and_scipy() {
    let cases = frechet_cases();
    assert!(cases.len() >= 8);
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let (reference, generated) = (Matrix::of(&case["reference"]), Matrix::of(&case["generated"]));
        let moments = gaussian(&reference);
        for (found, expected) in moments.mean().iter().zip(floats(&case["mean"])) {
            assert!((found - expected).abs() <= 1e-14 * expected.abs().max(1.0), "mean of {name}");
        }
        let largest = moments.covariance().iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        for (found, expected) in moments.covariance().iter().zip(floats(&case["covariance"])) {
            // numpy centres on a rounded mean: 1e-13 of 1000 in the case far from zero.
            assert!((found - expected).abs() <= 1e-13 * largest, "covariance of {name}: {found} {expected}");
        }

        let found = distance(&reference, &generated);
        let scale = found.trace_reference + found.trace_generated;
        let number = |key: &str| case[key].as_f64().unwrap();
        assert!((found.value - number("svd")).abs() <= 3e-10 * scale, "{name}: {found:?}");
        assert!((found.trace_root - number("trace_root")).abs() <= 3e-10 * scale, "{name}: {found:?}");
        assert!((found.value - number("sqrtm")).abs() <= 1e-6 * number("sqrtm"), "{name}: {found:?}");
        let rank = [found.rank_reference as f64, found.rank_generated as f64];
        assert_eq!(rank.to_vec(), floats(&case["rank"]), "rank of {name}");
    }
}

/// The subsets too are drawn by an independent implementation; the fit is by numpy.polyfit.
#[test]
fn extrapolation_matches_numpy() {
    let mut checked = 0;
    for case in frechet_cases() {
        let expected = &case["infinity"];
        if expected.is_null() {
            continue;
        }
        checked += 1;
        let (reference, generated) = (Matrix::of(&case["reference"]), Matrix::of(&case["generated"]));
        let options = InfinityOptions { seed: expected["seed"].as_u64().unwrap(), ..Default::default() };
        let factored = FactoredGaussian::new(&gaussian(&reference));
        let found = frechet_distance_infinity(&factored, generated.features(), &options).unwrap();
        for (found, expected) in found.points.iter().zip(expected["points"].as_array().unwrap()) {
            assert_eq!(found.0 as u64, expected[0].as_u64().unwrap());
            let value = expected[1].as_f64().unwrap();
            assert!((found.1 - value).abs() < 1e-9 * value, "{found:?} {value}");
        }
        let close = |a: f64, b: &Value| (a - b.as_f64().unwrap()).abs() < 1e-9 * found.points[0].1;
        assert!(close(found.value, &expected["value"]), "{found:?}");
        assert!(close(
            found.slope / found.n as f64,
            &(expected["slope"].as_f64().unwrap() / found.n as f64).into()
        ));

        let mut rows: Vec<&[f32]> = generated.features().rows().collect();
        rows.rotate_left(3);
        let rotated = Matrix::from_rows(&rows);
        assert_eq!(frechet_distance_infinity(&factored, rotated.features(), &options).unwrap(), found);
    }
    assert_eq!(checked, 2);
}

/// Diagonal covariances commute: the distance is Σ (√a − √b)² + ‖Δμ‖². Ranks 3 and 3 share two directions; the third
/// root is that of a rounding of the largest eigenvalue, √(2⁻⁵²·4).
#[test]
fn diagonal_covariances_have_a_closed_form() {
    let diagonal = |values: &[f64], mean: f64| {
        let mut covariance = vec![0.0; values.len() * values.len()];
        values.iter().enumerate().for_each(|(i, v)| covariance[i * values.len() + i] = *v);
        Gaussian::new("test", vec![mean; values.len()], covariance, None).unwrap()
    };
    let (a, b) = ([4.0, 0.0, 1e-6, 9.0, 0.0], [1.0, 0.0, 4e-6, 0.0, 3.0]);
    let found = frechet_distance(&diagonal(&a, 1.0), &diagonal(&b, 3.0)).unwrap();
    let expected: f64 = a.iter().zip(b).map(|(a, b)| (a.sqrt() - b.sqrt()).powi(2)).sum::<f64>() + 5.0 * 4.0;
    assert!((found.value - expected).abs() < 6e-8, "{found:?} {expected}");
    assert_eq!((found.mean_term, found.rank_reference, found.rank_generated), (20.0, 3, 3));
    let nothing = frechet_distance(&diagonal(&[0.0; 3], 0.0), &diagonal(&[2.0; 3], 0.0)).unwrap();
    assert_eq!((nothing.value, nothing.rank_reference), (6.0, 0));
}

fn normals(n: usize, dim: usize, key: &str) -> Matrix {
    let mut rng = counter_rng(0, "test/frechet", key.as_bytes());
    let values = (0..n * dim).map(|_| StandardNormal.sample(&mut rng)).collect();
    Matrix { values, dim }
}

#[test]
fn thread_count_and_order_change_no_bit() {
    let (a, b) = (normals(600, 150, "a"), normals(120, 150, "b"));
    let on = |threads: usize, b: &Matrix| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| distance(&a, b))
    };
    let one = on(1, &b);
    let mut rows: Vec<&[f32]> = b.features().rows().collect();
    rows.reverse();
    assert_eq!(one, on(3, &Matrix::from_rows(&rows)));
    assert_eq!((one.rank_reference, one.rank_generated, one.n_generated), (150, 119, Some(120)));
}

/// Two samples of one distribution are biased upward, as theory says; the extrapolation is nearer to 0 than the subsets
/// it starts from, though 40 images of 10 features bend the line.
#[test]
fn small_sets_are_biased_upward() {
    let reference = FactoredGaussian::new(&gaussian(&normals(20_000, 10, "reference")));
    let generated = normals(400, 10, "generated");
    let small = frechet_distance_factored(&reference, &FactoredGaussian::new(&gaussian(&generated))).unwrap();
    // ‖Δμ‖² alone is D/n = 0.025 on average.
    assert!(small.value > 0.02, "{small:?}");
    let found =
        frechet_distance_infinity(&reference, generated.features(), &InfinityOptions::default()).unwrap();
    assert!(found.value.abs() < 0.1 * found.points[0].1 && found.slope > 0.0, "{found:?}");
}

#[test]
fn errors_say_what_is_wrong() {
    let (a, b) = (gaussian(&normals(9, 3, "a")), gaussian(&normals(9, 4, "b")));
    let error = frechet_distance(&a, &b).unwrap_err();
    assert!(error.to_string().contains("expected D = 3 as in the reference, found 4"), "{error}");
    let factored = FactoredGaussian::new(&a);
    let two = normals(2, 3, "two");
    let infinity = |matrix: &Matrix, sizes| {
        frechet_distance_infinity(&factored, matrix.features(), &InfinityOptions { sizes, seed: 0 })
            .unwrap_err()
    };
    assert_eq!(infinity(&two, 15).kind(), ErrorKind::TooFewImages);
    assert_eq!(infinity(&normals(5, 3, "five"), 1).kind(), ErrorKind::InvalidOption);
    let huge = Gaussian::new("test", vec![1e200], vec![1.0], None).unwrap();
    let one = Gaussian::new("test", vec![0.0], vec![1.0], None).unwrap();
    assert_eq!(frechet_distance(&huge, &one).unwrap_err().kind(), ErrorKind::Unsupported);
}

/// Any two sets of up to 30 rows of multiples of 1/8, so that repeated and constant features occur.
fn matrices() -> impl Strategy<Value = (Matrix, Matrix)> {
    (1usize..9).prop_flat_map(|dim| {
        let matrix = move || {
            proptest::collection::vec(-16i8..16, dim * 2..=dim * 30).prop_map(move |values| {
                let whole = values.len() / dim * dim;
                Matrix { values: values[..whole].iter().map(|&v| f32::from(v) / 8.0).collect(), dim }
            })
        };
        (matrix(), matrix())
    })
}

proptest! {
    #[test]
    fn identity_symmetry_shift_and_order((a, b) in matrices(), shift in -4i8..4) {
        let there = distance(&a, &b);
        prop_assert_eq!(distance(&a, &a).value, 0.0);
        prop_assert_eq!(distance(&a, &a).unclamped, 0.0);

        let scale = there.trace_reference + there.trace_generated + there.mean_term + 1e-300;
        // Singular directions carry a rounding of √2⁻⁵² of the largest eigenvalues.
        prop_assert!(there.value >= 0.0 && there.unclamped >= -1e-7 * scale, "{:?}", there);
        let back = distance(&b, &a);
        prop_assert!((there.value - back.value).abs() <= 1e-7 * scale, "{:?} {:?}", there, back);
        prop_assert_eq!((there.rank_reference, there.rank_generated), (back.rank_generated, back.rank_reference));

        let mut rows: Vec<&[f32]> = a.features().rows().collect();
        rows.reverse();
        prop_assert_eq!(distance(&Matrix::from_rows(&rows), &b), there);

        let moved = |m: &Matrix| Matrix { values: m.values.iter().map(|v| v + f32::from(shift)).collect(), dim: m.dim };
        prop_assert!((distance(&moved(&a), &moved(&b)).value - there.value).abs() <= 1e-7 * scale);
    }

    /// Integer weights are repetitions, a stream is its whole, and parts merge to it.
    #[test]
    fn moments_of_parts_and_repetitions((a, _) in matrices(), cut in 0.0..1.0, weights in proptest::collection::vec(0u32..4, 30)) {
        let features = a.features();
        let close = |x: &Gaussian, y: &Gaussian| {
            x.n() == y.n()
                && x.mean().iter().zip(y.mean()).all(|(x, y)| (x - y).abs() < 1e-14)
                && x.covariance().iter().zip(y.covariance()).all(|(x, y)| (x - y).abs() < 1e-13)
        };
        let at = (cut * features.n() as f64) as usize * a.dim;
        let part = |values| Features::new("part", values, a.dim).unwrap();
        let mut stream = Moments::new(a.dim);
        stream.push(part(&a.values[..at])).unwrap();
        stream.push(part(&a.values[at..])).unwrap();
        let mut whole = Moments::new(a.dim);
        whole.push(features).unwrap();
        prop_assert_eq!(stream.gaussian(0).unwrap(), whole.gaussian(0).unwrap());

        let (mut left, mut right) = (Moments::new(a.dim), Moments::new(a.dim));
        left.push(part(&a.values[..at])).unwrap();
        right.push(part(&a.values[at..])).unwrap();
        left.merge(&right).unwrap();
        prop_assert!(close(&left.gaussian(0).unwrap(), &whole.gaussian(0).unwrap()));

        let weights = &weights[..features.n()];
        let repeated: Vec<&[f32]> =
            features.rows().zip(weights).flat_map(|(row, &w)| std::iter::repeat_n(row, w as usize)).collect();
        if repeated.len() > 1 {
            let weighted = Moments::weighted(features, weights).unwrap().gaussian(1).unwrap();
            prop_assert!(close(&weighted, &gaussian(&Matrix::from_rows(&repeated))));
        }
    }
}
