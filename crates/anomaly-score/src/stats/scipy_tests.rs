//! Tests and correlations against scipy, case by case.

use serde_json::Value;

use super::*;

/// Counts are whole and sums of at most 400 products: a statistic carries a few dozen roundings.
const STATISTIC: f64 = 1e-12;
/// Scipy's own tails are good to some 1e-10; ours to 1e-11 (`student_t.rs`).
const P: f64 = 1e-9;

const SIDES: [(Alternative, &str); 3] =
    [(Alternative::Less, "less"), (Alternative::Greater, "greater"), (Alternative::TwoSided, "two_sided")];

fn fixture() -> Value {
    serde_json::from_str(include_str!("../../../../fixtures/stats/rank_tests.json")).unwrap()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn assert_close(found: f64, expected: &Value, relative: f64, what: &str) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() <= relative * expected.abs(), "{what}: {found}, scipy {expected}");
}

/// The logarithm must be that of the p-value, wherever there is one.
fn assert_p(found: PValue, expected: &Value, what: &str) {
    assert_close(found.p, expected, P, what);
    if found.p > 0.0 {
        let log10_p = found.log10_p.unwrap();
        assert!((log10_p - found.p.log10()).abs() < 1e-12 * (1.0 + log10_p.abs()), "{what}: {found:?}");
    }
}

#[test]
fn two_samples() {
    let fixture = fixture();
    let cases = fixture["two_sample"].as_array().unwrap();
    assert!(cases.len() >= 8);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let (x, y) = (floats(&case["x"]), floats(&case["y"]));
        for (alternative, side) in SIDES {
            let found = mann_whitney(&x, &y, alternative).unwrap().unwrap();
            assert_eq!(Some(found.u), case["u"].as_f64(), "{name}");
            assert_eq!(found.method == RankMethod::Exact, name.starts_with("exact"), "{name}");
            assert_p(found.p_value, &case["u_p"][side], &format!("U, {name}, {side}"));

            let found = welch(&x, &y, alternative).unwrap().unwrap();
            assert_close(found.t, &case["t"], STATISTIC, name);
            assert_close(found.df, &case["df"], STATISTIC, name);
            assert_p(found.p_value, &case["t_p"][side], &format!("t, {name}, {side}"));
        }
        let found = cliffs_delta(&x, &y, 0.9).unwrap().unwrap();
        assert_close(found.delta, &case["cliff"]["delta"], STATISTIC, name);
        if found.delta.abs() < 1.0 {
            assert_close(found.std_error.unwrap(), &case["cliff"]["std_error"], STATISTIC, name);
            assert_close(found.ci_low.unwrap(), &case["cliff"]["low"], STATISTIC, name);
            assert_close(found.ci_high.unwrap(), &case["cliff"]["high"], STATISTIC, name);
        }
        // U counts half of every tie, delta none.
        let u = mann_whitney(&x, &y, Alternative::TwoSided).unwrap().unwrap();
        assert!((2.0 * u.probability_larger - 1.0 - found.delta).abs() < 1e-15, "{name}");
    }
}

#[test]
fn correlations() {
    let fixture = fixture();
    let cases = fixture["correlation"].as_array().unwrap();
    assert!(cases.len() >= 11);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let points: Vec<[f64; 2]> =
            floats(&case["x"]).into_iter().zip(floats(&case["y"])).map(|(x, y)| [x, y]).collect();
        let pairs = Pairs::new(&points).unwrap();
        let ones = vec![1; points.len()];
        let found = [
            ("pearson", pairs.pearson_test()),
            ("spearman", pairs.spearman_test()),
            ("kendall", pairs.kendall_test()),
        ];
        for (key, found) in found {
            let found = found.unwrap();
            assert_eq!(found.n, points.len());
            assert_close(found.value, &case[key][0], STATISTIC, &format!("{key} of {name}"));
            assert_p(found.p_value, &case[key][1], &format!("p of {key} of {name}"));
        }
        assert_close(pairs.pearson(&ones).unwrap(), &case["pearson"][0], STATISTIC, name);
        let accuracy = pairs.concordance(&ones).pairwise_accuracy().unwrap();
        assert_close(accuracy, &case["pairwise_accuracy"], STATISTIC, name);
    }
}

#[test]
fn undefined_is_none() {
    assert_eq!(welch(&[1.0], &[1.0, 2.0], Alternative::Less).unwrap(), None);
    assert_eq!(welch(&[1.0, 1.0], &[2.0, 2.0], Alternative::Less).unwrap(), None);
    assert!(welch(&[1.0, f64::NAN], &[1.0, 2.0], Alternative::Less).is_err());
}
