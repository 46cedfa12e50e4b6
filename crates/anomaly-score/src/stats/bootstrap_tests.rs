use rand_distr::{Distribution, Exp1, StandardNormal};
use serde_json::Value;

use super::*;

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn fixture() -> Value {
    serde_json::from_str(include_str!("../../../../fixtures/stats/bootstrap.json")).unwrap()
}

fn mean(values: &[f64], weights: &[u32]) -> Option<f64> {
    let total: u32 = weights.iter().sum();
    let sum: f64 = values.iter().zip(weights).map(|(v, &w)| v * f64::from(w)).sum();
    (total > 0).then(|| sum / f64::from(total))
}

fn variance(values: &[f64], weights: &[u32]) -> Option<f64> {
    let m = mean(values, weights)?;
    let squares: Vec<f64> = values.iter().map(|v| (v - m).powi(2)).collect();
    mean(&squares, weights)
}

/// The statistic of a fixture's case, by the name numpy's code has there.
fn estimate(case: &Value, options: &BootstrapOptions) -> Estimate {
    let samples: Vec<Vec<f64>> = case["samples"].as_array().unwrap().iter().map(floats).collect();
    let (x, y) = (&samples[0], samples.get(1));
    match case["statistic"].as_str().unwrap() {
        "mean" => bootstrap([x.len()], |[w]| mean(x, w), options),
        "variance" => bootstrap([x.len()], |[w]| variance(x, w), options),
        "mean_difference" => {
            let y = y.unwrap();
            bootstrap([x.len(), y.len()], |[a, b]| Some(mean(x, a)? - mean(y, b)?), options)
        }
        "mean_ratio_of_pairs" => {
            bootstrap([x.len()], |[w]| Some(mean(x, w)? / mean(y.unwrap(), w)?), options)
        }
        other => panic!("{other}"),
    }
    .unwrap()
}

/// The interval made of scipy's own resamples: the same numbers in, so that only rounding differs. The jackknife's
/// differences lose four digits, which the interpolation between neighbouring resamples then carries.
#[test]
fn intervals_of_given_resamples_match_scipy() {
    for case in fixture()["cases"].as_array().unwrap() {
        let name = case["statistic"].as_str().unwrap();
        let mut resampled = floats(&case["resampled"]);
        resampled.sort_unstable_by(f64::total_cmp);
        let influences: Vec<Vec<f64>> = case["influences"].as_array().unwrap().iter().map(floats).collect();
        let value = case["value"].as_f64().unwrap();
        let (low, high) = bca_interval(value, &resampled, &influences, 0.9).unwrap();
        for (found, key) in [(low, "low_90"), (high, "high_90")] {
            let expected = case[key].as_f64().unwrap();
            assert!((found - expected).abs() <= 1e-10 * expected.abs(), "{name} {key}: {found} {expected}");
        }
    }
}

/// The whole procedure with its own draws. An end at level p of B draws is uncertain by √(p(1 − p)/B)/φ(z_p), 0.02
/// standard errors at B = 20,000 and p = .025; the bias correction, uncertain by 1.25/√B, moves both ends twice that
/// much, 0.018. Four of their common deviation are 0.11; the fixture's own B = 200,000 adds a tenth to the variance.
#[test]
fn whole_intervals_match_scipy_within_resampling_error() {
    let options = BootstrapOptions { resamples: 20_000, ..Default::default() };
    for case in fixture()["cases"].as_array().unwrap() {
        let found = estimate(case, &options);
        let name = case["statistic"].as_str().unwrap();
        let error = case["std_error"].as_f64().unwrap();
        let value = case["value"].as_f64().unwrap();
        assert!((found.value.unwrap() - value).abs() <= 1e-12 * value.abs(), "{name}");
        // A standard deviation of B draws is uncertain by 1/√(2B) = .5 %, somewhat more with heavy tails.
        assert!((found.std_error.unwrap() / error - 1.0).abs() < 0.03, "{name}: {found:?}, scipy {error}");
        for (found, key) in [(found.ci_low, "low_95"), (found.ci_high, "high_95")] {
            let expected = case[key].as_f64().unwrap();
            let off = (found.unwrap() - expected) / error;
            assert!(off.abs() < 0.12, "{name} {key}: {off} standard errors from scipy");
        }
    }
}

/// The mean of normal values: x̄ ± z·s/√n but for resampling error and (n − 1)/n.
#[test]
fn the_mean_of_normals_has_the_normal_interval() {
    let mut rng = counter_rng(3, "test/bootstrap", b"");
    let values: Vec<f64> = (0..1500).map(|_| StandardNormal.sample(&mut rng)).collect();
    let options = BootstrapOptions { resamples: 20_000, ..Default::default() };
    let found = bootstrap([values.len()], |[w]| mean(&values, w), &options).unwrap();
    let summary = Summary::of(&values).unwrap();
    let error = summary.std_dev.unwrap() / (values.len() as f64).sqrt();
    assert!((found.std_error.unwrap() / error - 1.0).abs() < 0.02, "{found:?} {error}");
    for (end, sign) in [(found.ci_low, -1.0), (found.ci_high, 1.0)] {
        let expected = summary.mean.unwrap() + sign * 1.959_963_984_540_054 * error;
        assert!((end.unwrap() - expected).abs() < 0.12 * error, "{found:?} {expected}");
    }
    assert!(found.method.ends_with("delete-a-group jackknife"), "{}", found.method);
}

/// Groups estimate the acceleration of single rows: of the mean of n values it is γ/(6√n), γ the skewness.
#[test]
fn groups_keep_the_acceleration() {
    let mut rng = counter_rng(4, "test/bootstrap", b"");
    let values: Vec<f64> = (0..5000).map(|_| Exp1.sample(&mut rng)).collect();
    let of = |influences: &[f64]| {
        let cubes: f64 = influences.iter().map(|u| u.powi(3)).sum();
        let squares: f64 = influences.iter().map(|u| u.powi(2)).sum();
        cubes / (6.0 * squares.powf(1.5))
    };
    let m = values.iter().sum::<f64>() / 5000.0;
    let exact = of(&values.iter().map(|v| v - m).collect::<Vec<_>>());
    let found = influences(&[vec![1; 5000]], &|[w]: &[Vec<u32>; 1]| mean(&values, w), 0).unwrap();
    assert_eq!(found[0].len(), MAX_JACKKNIFE);
    // The skewness of 1000 sums of five has a standard error of √(6/1000) against 2/√5: 9 %.
    assert!((of(&found[0]) / exact - 1.0).abs() < 0.3, "{} {exact}", of(&found[0]));
}

#[test]
fn bits_do_not_depend_on_threads() {
    let mut rng = counter_rng(5, "test/bootstrap", b"");
    let values: Vec<f64> = (0..1203).map(|_| StandardNormal.sample(&mut rng)).collect();
    let options = BootstrapOptions { resamples: 300, ..Default::default() };
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bootstrap([values.len()], |[w]| variance(&values, w), &options).unwrap())
    };
    assert_eq!(run(1), run(3));
    let other = BootstrapOptions { seed: 1, ..options };
    assert_ne!(run(1).ci_low, bootstrap([1203], |[w]| variance(&values, w), &other).unwrap().ci_low);
}

#[test]
fn what_cannot_be_estimated_is_none_with_a_reason() {
    let options = BootstrapOptions { resamples: 200, ..Default::default() };
    let reason = |n: usize, f: fn(&[u32]) -> Option<f64>| {
        let found = bootstrap([n], |[w]| f(w), &options).unwrap();
        assert_eq!((found.ci_low, found.ci_high), (None, None), "{found:?}");
        (found.value, found.std_error.is_some(), found.undefined.unwrap())
    };
    assert_eq!(reason(9, |_| None), (None, false, Undefined::Value));
    assert_eq!(reason(9, |_| Some(f64::NAN)), (None, false, Undefined::Value));
    assert_eq!(reason(1, |_| Some(1.0)), (Some(1.0), false, Undefined::TooFewRows));
    assert_eq!(reason(9, |_| Some(1.0)), (Some(1.0), false, Undefined::Constant));
    let (value, _, undefined) = reason(5, |w| (w[0] < 4).then_some(f64::from(w[1])));
    assert_eq!(value, Some(1.0));
    assert!(matches!(undefined, Undefined::Resamples { undefined: 1..=10, of: 200 }), "{undefined:?}");
    // The number of different rows: every resample repeats some, so none reaches the value of the data.
    let (_, error, undefined) = reason(50, |w| Some(w.iter().filter(|&&w| w > 0).count() as f64));
    assert_eq!((error, undefined), (true, Undefined::Bias));
    let (_, error, undefined) = reason(6, |w| w.iter().all(|&w| w < 9).then_some(f64::from(w[0].max(1))));
    assert_eq!((error, undefined), (true, Undefined::Acceleration));
    let (_, error, undefined) = reason(6, |w| (w.iter().sum::<u32>() == 6).then(|| f64::from(w[0])));
    assert_eq!((error, undefined), (true, Undefined::Jackknife));
}

#[test]
fn impossible_options_are_refused() {
    let run = |options| bootstrap([3], |[w]| Some(f64::from(w[0])), &options).unwrap_err().to_string();
    let error = run(BootstrapOptions { resamples: 1, ..Default::default() });
    assert!(error.starts_with("resamples: too few for an interval; expected at least 2, found 1"), "{error}");
    let error = run(BootstrapOptions { confidence: 95.0, ..Default::default() });
    assert!(error.starts_with("confidence: no interval has this coverage"), "{error}");
}

/// Two models against one reference: weights of the reference are shared, so its noise leaves the difference.
#[test]
fn a_shared_reference_cancels() {
    let mut rng = counter_rng(6, "test/bootstrap", b"");
    let mut normals = |n: usize| -> Vec<f64> { (0..n).map(|_| StandardNormal.sample(&mut rng)).collect() };
    let (r, a, b) = (normals(20), normals(400), normals(400));
    let options = BootstrapOptions { resamples: 2000, ..Default::default() };
    let shared = bootstrap(
        [20, 400, 400],
        |[wr, wa, wb]| Some((mean(&a, wa)? - mean(&r, wr)?) - (mean(&b, wb)? - mean(&r, wr)?)),
        &options,
    );
    // √(2/400) without the reference's part, √(2/20 + 2/400) with it twice.
    let error = shared.unwrap().std_error.unwrap();
    assert!((error / (2.0f64 / 400.0).sqrt() - 1.0).abs() < 0.15, "{error}");
}
