use proptest::prelude::*;
use rand_distr::{Distribution, StandardNormal};
use serde_json::Value;

use super::*;

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn statistic(reference: &[[f64; 2]], generated: &[[f64; 2]]) -> f64 {
    PooledSamples::new(reference, generated).unwrap().statistic()
}

/// 2·n₁·n₂·D by counting the quadrants of every point, in integers.
fn naive_numerator(reference: &[[f64; 2]], generated: &[[f64; 2]]) -> i64 {
    fn one_sided(first: &[[f64; 2]], second: &[[f64; 2]]) -> i64 {
        let (n1, n2) = (first.len() as i64, second.len() as i64);
        let quadrants = |centre: &[f64; 2], sample: &[[f64; 2]]| {
            let mut counts = [0i64; 4];
            for p in sample {
                counts[2 * usize::from(p[0] > centre[0]) + usize::from(p[1] > centre[1])] += 1;
            }
            counts
        };
        let (mut smallest, mut largest) = (i64::MAX, i64::MIN);
        for centre in first {
            let (in_first, in_second) = (quadrants(centre, first), quadrants(centre, second));
            for q in 0..4 {
                let lowered_by = if q == 0 { n2 } else { 0 };
                let difference = in_first[q] * n2 - in_second[q] * n1 - lowered_by;
                smallest = smallest.min(difference);
                largest = largest.max(difference);
            }
        }
        (-smallest).max(largest + n2)
    }
    one_sided(reference, generated) + one_sided(generated, reference)
}

/// The fixture forms fractions in f64, n ≤ 150: a handful of roundings of numbers up to 1. The p-value carries them
/// multiplied by the slope of its logarithm, at most 4·D·Ne ≈ 100 here.
#[test]
fn matches_numpy_and_scipy() {
    let fixture: Value =
        serde_json::from_str(include_str!("../../../../../fixtures/ks2d/statistic.json")).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let sample = |x: &str, y: &str| -> Vec<[f64; 2]> {
            floats(&case[x]).into_iter().zip(floats(&case[y])).map(|(x, y)| [x, y]).collect()
        };
        let pooled = PooledSamples::new(&sample("x1", "y1"), &sample("x2", "y2")).unwrap();
        let (found, expected) = (pooled.statistic(), case["statistic"].as_f64().unwrap());
        assert!((found - expected).abs() <= 1e-15, "{name}: {found}, numpy {expected}");
        match (pooled.p_value_asymptotic(), case["p_value"].as_f64()) {
            (None, None) => {}
            (Some(found), Some(expected)) => {
                assert!((found - expected).abs() <= 1e-12 * expected, "{name}: p {found}, scipy {expected}");
            }
            (found, expected) => panic!("{name}: p {found:?}, scipy {expected:?}"),
        }
    }
}

/// Points on a grid of `levels` × `levels`, so that ties range from every point to none.
fn samples(max_n: usize) -> impl Strategy<Value = (Vec<[f64; 2]>, Vec<[f64; 2]>)> {
    (1i32..200).prop_flat_map(move |levels| {
        let point = [-levels..=levels, -levels..=levels].prop_map(|p| p.map(|c| f64::from(c) * 0.1));
        let sample = || proptest::collection::vec(point.clone(), 2..=max_n);
        (sample(), sample())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Equality of integers: the fast count and the naive one have nothing to round.
    #[test]
    fn equals_the_naive_count((a, b) in samples(90)) {
        prop_assert_eq!(PooledSamples::new(&a, &b).unwrap().numerator, naive_numerator(&a, &b));
    }
}

proptest! {
    #[test]
    fn lies_in_its_range((a, b) in samples(40)) {
        let d = statistic(&a, &b);
        prop_assert!(0.0 < d && d <= 1.0, "{}", d);
    }

    /// D and both p-values, to the bit.
    #[test]
    fn is_symmetric_and_blind_to_order(
        (a, b, other_a, other_b) in samples(30)
            .prop_flat_map(|(a, b)| (Just(a.clone()), Just(b.clone()), Just(a).prop_shuffle(), Just(b).prop_shuffle())),
    ) {
        let all = |a: &[[f64; 2]], b: &[[f64; 2]]| {
            let pooled = PooledSamples::new(a, b).unwrap();
            (pooled.statistic(), pooled.p_value_asymptotic(), pooled.permutation_null(19, 5))
        };
        prop_assert_eq!(all(&a, &b), all(&b, &a));
        prop_assert_eq!(all(&a, &b), all(&other_a, &other_b));
    }

    #[test]
    fn identical_samples_give_one_over_n((a, _) in samples(60)) {
        let mut reversed = a.clone();
        reversed.reverse();
        prop_assert_eq!(statistic(&a, &reversed), 1.0 / a.len() as f64);
    }

    /// Only the order along each axis counts: strictly rising maps change nothing, nor does exchanging the axes.
    #[test]
    fn is_invariant_under_rising_maps((a, b) in samples(40)) {
        let map = |s: &[[f64; 2]], f: fn([f64; 2]) -> [f64; 2]| s.iter().map(|&p| f(p)).collect::<Vec<_>>();
        let d = statistic(&a, &b);
        // Coordinates are multiples of 0.1 up to 20 in size, so neither map merges neighbours.
        let bent = |[x, y]: [f64; 2]| [(x / 8.0).exp() * 3.0 - 7.0, y * y * y + y];
        prop_assert_eq!(statistic(&map(&a, bent), &map(&b, bent)), d);
        let exchanged = |[x, y]: [f64; 2]| [y, x];
        prop_assert_eq!(statistic(&map(&a, exchanged), &map(&b, exchanged)), d);
    }
}

#[test]
fn separated_samples_give_one() {
    let near: Vec<[f64; 2]> = (0..7).map(|i| [f64::from(i), f64::from(i * 5 % 7)]).collect();
    let far: Vec<[f64; 2]> = (0..9).map(|i| [f64::from(i) + 100.0, f64::from(i * 4 % 9)]).collect();
    // A sample above and to the right of the other fills a single quadrant. One that is only to the right is shared
    // between two quadrants, and each deviation counts but one of them.
    let rising: Vec<[f64; 2]> = (0..9).map(|i| [f64::from(i) + 100.0, f64::from(i) + 100.0]).collect();
    assert_eq!(statistic(&near[..], &rising), 1.0);
    let d = statistic(&near, &far);
    assert!(0.5 < d && d < 1.0, "{d}");
}

#[test]
fn the_ends_of_the_range_and_signed_zeros() {
    let most = f64::MAX;
    let wide = [[-most, most], [most, -most], [0.0, 5e-324]];
    let pooled = PooledSamples::new(&wide, &[[-0.0, 0.0], [1.0, 2.0], [2.0, 1.0]]).unwrap();
    assert!((0.0..=1.0).contains(&pooled.p_value_asymptotic().unwrap()));

    let positive = [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]];
    let negative = positive.map(|p| p.map(|c: f64| if c == 0.0 { -0.0 } else { c }));
    assert_eq!(statistic(&positive, &negative), 1.0 / 3.0, "0 and −0 are one coordinate");
}

#[test]
fn errors_name_the_set_and_the_point() {
    let good = [[0.1, 0.2], [0.3, 0.4]];
    let error = PooledSamples::new(&good, &good[..1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooFewImages);
    assert_eq!(
        error.to_string(),
        "generated set: too few usable points to compare two samples; expected at least 2, found 1. \
         Add images; those whose complexity or vulnerability is undefined do not count."
    );
    let error = PooledSamples::new(&[], &good).unwrap_err();
    assert_eq!((error.kind(), error.subject()), (ErrorKind::TooFewImages, "reference set"));

    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let error = PooledSamples::new(&[[0.1, 0.2], [0.3, bad]], &good).unwrap_err();
        assert_eq!((error.kind(), error.subject()), (ErrorKind::InvalidOption, "reference set"));
        assert!(
            error.to_string().contains(&format!(
                "point 1 has no place in a distribution; expected two finite coordinates, found (0.3, {bad})"
            )),
            "{error}"
        );
        let error = PooledSamples::new(&good, &[[bad, 0.2], [0.3, 0.2]]).unwrap_err();
        assert_eq!(error.subject(), "generated set");
    }

    // Without 2³⁰ points at hand, the check alone.
    assert!(check_sizes(MAX_POINTS / 2, MAX_POINTS / 2).is_ok());
    for n in [MAX_POINTS - 1, usize::MAX] {
        assert_eq!(check_sizes(2, n).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}

fn normals(n: usize, rng: &mut impl rand_chacha::rand_core::Rng) -> Vec<[f64; 2]> {
    (0..n).map(|_| [StandardNormal.sample(rng), StandardNormal.sample(rng)]).collect()
}

/// Permutation p-values of 1000 seeded pairs of samples of one distribution.
fn null_p_values(n_reference: usize, n_generated: usize) -> Vec<f64> {
    let mut rng = counter_rng(0, "test/null", b"");
    let p_value = |seed| {
        let (a, b) = (normals(n_reference, &mut rng), normals(n_generated, &mut rng));
        PooledSamples::new(&a, &b).unwrap().permutation_null(99, seed).unwrap().p_value
    };
    (0..1000).map(p_value).collect()
}

/// Of 1000 draws under the null 50 are expected at or below .05, with a standard deviation of 6.9; the band is ± 3.3
/// of them. The asymptotic p rejects .077 to .078 at n = 20 and 50 (docs/ks2d.md), beyond the band.
#[test]
fn permutation_p_keeps_its_level() {
    for (n_reference, n_generated) in [(40, 40), (40, 41)] {
        let rejected = null_p_values(n_reference, n_generated).iter().filter(|&&p| p <= 0.05).count();
        assert!((27..=73).contains(&rejected), "{rejected} of 1000 at {n_reference} + {n_generated}");
    }
}

/// Without ties p is uniform on the multiples of .01, so its mean over 1000 draws is .505 ± .0091; the band is ± 3.3
/// standard deviations. Sizes 40 and 41, because at equal n D is a multiple of 1/(2n): there 7 % of the relabellings
/// tie with the observed D, and counting those as no smaller lifts the mean by half as much.
#[test]
fn permutation_p_is_uniform_where_ties_are_rare() {
    let mean = null_p_values(40, 41).iter().sum::<f64>() / 1000.0;
    assert!((mean - 0.505).abs() < 0.03, "mean p {mean}");
}

/// A set shifted by .8 standard deviations along each axis is noticed at n = 100.
#[test]
fn permutation_p_is_small_where_samples_differ() {
    let mut rng = counter_rng(0, "test/shift", b"");
    let reference = normals(100, &mut rng);
    let generated: Vec<[f64; 2]> = normals(100, &mut rng).iter().map(|[x, y]| [x + 0.8, y - 0.8]).collect();
    let pooled = PooledSamples::new(&reference, &generated).unwrap();
    let null = pooled.permutation_null(199, 0).unwrap();
    assert_eq!(null.p_value, 1.0 / 200.0);
    assert!(null.mean < null.q95 && null.q95 < pooled.statistic(), "{null:?}");
}

/// Thousands of points, so that counts and ranks leave the sizes the random cases reach; with ties and without.
#[test]
fn equals_the_naive_count_at_large_n() {
    let mut rng = counter_rng(0, "test/large", b"");
    for (n1, n2, levels) in [(2000, 1500, None), (1200, 2300, Some(3.0)), (1500, 1500, Some(40.0))] {
        let round = |c: f64| levels.map_or(c, |l| (c * l).round());
        let [a, b] =
            [n1, n2].map(|n| normals(n, &mut rng).into_iter().map(|p| p.map(round)).collect::<Vec<_>>());
        assert_eq!(
            PooledSamples::new(&a, &b).unwrap().numerator,
            naive_numerator(&a, &b),
            "{n1} + {n2} {levels:?}"
        );
    }
}

/// As of the statistic itself, every relabelling is checked against the naive count, at a size of several words.
#[test]
fn relabelled_statistics_equal_the_naive_count() {
    let mut rng = counter_rng(0, "test/relabel", b"");
    let coarse = |s: Vec<[f64; 2]>| s.into_iter().map(|p| p.map(|c| (c * 4.0).round())).collect::<Vec<_>>();
    let (a, b) = (coarse(normals(150, &mut rng)), coarse(normals(90, &mut rng)));
    let pooled = PooledSamples::new(&a, &b).unwrap();
    let mut scratch = pooled.scratch();
    for _ in 0..20 {
        mark_random_subset(&mut rng, &mut scratch.marks, 90);
        let of = |label: bool| -> Vec<[f64; 2]> {
            pooled
                .coordinates
                .iter()
                .zip(&scratch.marks)
                .filter(|(_, m)| **m == label)
                .map(|(p, _)| *p)
                .collect()
        };
        let expected = naive_numerator(&of(true), &of(false));
        assert_eq!(pooled.numerator_of_marks(&mut scratch), expected);
    }
}
