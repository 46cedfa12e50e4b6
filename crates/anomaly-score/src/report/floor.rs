//! Metrics whose null floor lies above the effect.

use super::warning::{AtFloor, Warning};
use crate::evaluate::{Direction, MetricResult};

/// Names of metrics that are squared distances, whose floor falls as 1/n; that of the others falls as 1/√n.
const SQUARED: [&str; 8] =
    ["frechet_distance", "fid", "sfid", "mifid", "kernel_distance", "kernel_distance_rbf", "kid", "mind"];
/// Images above which a number of them is no advice.
const MANY: f64 = 1e6;

/// The metrics that show no difference, if any. The Anomaly Score has a warning of its own.
pub(super) fn at_floor(metrics: &[MetricResult]) -> Option<Warning> {
    let metrics: Vec<AtFloor> = metrics.iter().filter(|m| m.name != "anomaly_score").filter_map(of).collect();
    (!metrics.is_empty()).then_some(Warning::MetricsAtFloor { metrics })
}

fn of(metric: &MetricResult) -> Option<AtFloor> {
    let (value, mean) = (metric.value?, metric.null_mean?);
    // As if lower were better.
    let (limit, sign) = match metric.direction {
        Direction::Lower => (metric.null_q95?, 1.0),
        Direction::Higher => (metric.null_q05?, -1.0),
        Direction::None => return None,
    };
    if sign * (value - limit) > 0.0 {
        return None;
    }
    let (effect, chance) = (sign * (value - mean), sign * (limit - mean));
    let n = metric.null_n_generated?.min(metric.null_n_reference.unwrap_or(usize::MAX));
    let needed = (effect > 0.0).then(|| {
        let ratio = chance / effect;
        n as f64 * if SQUARED.contains(&metric.name.as_str()) { ratio } else { ratio * ratio }
    });
    Some(AtFloor {
        title: metric.title.clone(),
        value,
        limit,
        n,
        needed: needed.filter(|n| *n <= MANY).map(two_digits),
    })
}

/// Rounded up to two significant digits.
fn two_digits(n: f64) -> usize {
    let step = 10f64.powf((n.log10().floor() - 1.0).max(0.0));
    ((n / step).ceil() * step) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str, direction: Direction, [value, mean, q05, q95]: [f64; 4]) -> MetricResult {
        MetricResult {
            name: name.into(),
            title: name.to_uppercase(),
            features: None,
            direction,
            value: Some(value),
            std_error: None,
            ci_low: None,
            ci_high: None,
            n_reference: Some(600),
            n_generated: Some(300),
            method: None,
            seed: 0,
            null_mean: Some(mean),
            null_q05: (direction == Direction::Higher).then_some(q05),
            null_q95: (direction == Direction::Lower).then_some(q95),
            null_n_reference: Some(400),
            null_n_generated: Some(200),
            note: None,
        }
    }

    fn needed(metric: &MetricResult) -> Option<Option<usize>> {
        of(metric).map(|found| found.needed)
    }

    #[test]
    fn what_is_not_beyond_its_floor_is_named_with_the_images_it_wants() {
        use Direction::{Higher, Lower, None as Neither};
        // Chance reaches twice the effect: at 1/n twice the images, at 1/√n four times.
        let floor = |value| [value, 10.0, 8.0, 12.0];
        assert_eq!(needed(&metric("fid", Lower, floor(11.0))), Some(Some(400)));
        assert_eq!(needed(&metric("sliced_wasserstein", Lower, floor(11.0))), Some(Some(800)));
        assert_eq!(needed(&metric("recall", Higher, floor(9.0))), Some(Some(800)));
        assert_eq!(needed(&metric("fid", Lower, floor(12.0))), Some(Some(200)), "at the floor itself");
        assert_eq!(needed(&metric("fid", Lower, floor(12.1))), None, "above it");
        assert_eq!(needed(&metric("recall", Higher, floor(7.9))), None);
        assert_eq!(needed(&metric("fid", Lower, floor(10.0))), Some(None), "no effect at all");
        assert_eq!(needed(&metric("recall", Higher, floor(9.9999))), Some(None), "more than a million");
        assert_eq!(needed(&metric("rarity", Neither, floor(10.0))), None);
        assert_eq!(needed(&MetricResult { null_mean: None, ..metric("fid", Lower, floor(11.0)) }), None);
        assert_eq!([123.0, 1201.0, 99.5, 4.2, 1000.0].map(two_digits), [130, 1300, 100, 5, 1000]);

        let all = [
            metric("anomaly_score", Lower, floor(10.0)),
            metric("fid", Lower, floor(11.0)),
            metric("recall", Higher, floor(10.5)),
            metric("kid", Lower, floor(20.0)),
        ];
        let warning = at_floor(&all).unwrap();
        assert_eq!(warning.kind(), "metrics_not_beyond_floor");
        insta::assert_snapshot!(warning.to_string(), @"no difference between the sets can be claimed by FID (11.00; floor 12.00 at n = 200), RECALL (10.50; floor 8.000 at n = 200): one in twenty random parts of the reference does no better. That does not show that the sets are alike; use more images to see smaller differences. If the present excess is real, so many in each set would show it: FID about 400.");
        assert_eq!(at_floor(&all[..1]), None);
        assert_eq!(at_floor(&all[3..]), None);
    }
}
