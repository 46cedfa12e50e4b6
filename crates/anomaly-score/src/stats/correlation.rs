//! Linear correlation of point coordinates.

use super::{refined_mean, safe_scale};

/// Pearson correlation of two coordinates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pearson {
    /// The correlation, in [−1, 1].
    pub r: f64,
    /// 1 − r², in [0, 1], to full relative precision: formed without subtracting r² from 1, which for nearly collinear
    /// points would leave only rounding.
    pub unexplained: f64,
}

/// Pearson correlation of the two coordinates of `points`.
///
/// `None` where it is undefined: fewer than two points, a constant coordinate, or a coordinate that is not finite.
/// The bits do not depend on the order of the points.
pub fn pearson(points: &[[f64; 2]]) -> Option<Pearson> {
    if points.len() < 2 || points.iter().flatten().any(|v| !v.is_finite()) {
        return None;
    }
    let mut sorted = points.to_vec();
    sorted.sort_unstable_by(|p, q| p[0].total_cmp(&q[0]).then(p[1].total_cmp(&q[1])));
    let u = unit_deviations(sorted.iter().map(|p| p[0]).collect())?;
    let v = unit_deviations(sorted.iter().map(|p| p[1]).collect())?;

    // For unit vectors |u − v|² = 2 − 2r and |u + v|² = 2 + 2r, so their product is 4·(1 − r²).
    let (mut apart, mut together, mut r) = (0.0, 0.0, 0.0);
    for (a, b) in u.iter().zip(&v) {
        apart += (a - b) * (a - b);
        together += (a + b) * (a + b);
        r += a * b;
    }
    Some(Pearson { r: r.clamp(-1.0, 1.0), unexplained: (apart * together / 4.0).clamp(0.0, 1.0) })
}

/// Deviations from the mean, scaled to unit length; `None` if all values are equal.
fn unit_deviations(mut values: Vec<f64>) -> Option<Vec<f64>> {
    let scale = safe_scale(&values);
    values.iter_mut().for_each(|v| *v *= scale);
    let mean = refined_mean(&values)?;
    values.iter_mut().for_each(|v| *v -= mean);
    // Dividing by the largest first keeps the squares in range.
    let largest = values.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    if largest == 0.0 {
        return None;
    }
    values.iter_mut().for_each(|v| *v /= largest);
    let norm = values.iter().map(|v| v * v).sum::<f64>().sqrt();
    values.iter_mut().for_each(|v| *v /= norm);
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn closed_forms() {
        // Deviations (−1, 0, 1) and (−1, 1, 0)·… : covariance 1, both sums of squares 2, so r = 1/2.
        let half = pearson(&[[0.0, 10.0], [1.0, 12.0], [2.0, 11.0]]).unwrap();
        assert!((half.r - 0.5).abs() < 1e-15 && (half.unexplained - 0.75).abs() < 1e-15, "{half:?}");
        let none = pearson(&[[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).unwrap();
        assert!(none.r.abs() < 1e-15 && (none.unexplained - 1.0).abs() < 1e-15, "{none:?}");
    }

    #[test]
    fn undefined_is_none() {
        assert_eq!(pearson(&[]), None);
        assert_eq!(pearson(&[[1.0, 2.0]]), None);
        // 0.1 is not a sum of few powers of two: a careless mean leaves a deviation of one rounding here.
        assert_eq!(pearson(&[[0.1, 1.0], [0.1, 2.0], [0.1, 4.0]]), None);
        assert_eq!(pearson(&[[1.0, 0.0], [2.0, -0.0]]), None);
        assert_eq!(pearson(&[[1.0, f64::NAN], [2.0, 1.0]]), None);
        assert_eq!(pearson(&[[f64::INFINITY, 1.0], [2.0, 1.0]]), None);
    }

    #[test]
    fn nearly_collinear_points_keep_their_precision() {
        // y = x + h·(1, −2, 1): for x = −1, 0, 1 the residual is orthogonal to x, so 1 − r² = 3h²/(1 + 3h²).
        let h = 2f64.powi(-30);
        let found = pearson(&[[-1.0, -1.0 + h], [0.0, -2.0 * h], [1.0, 1.0 + h]]).unwrap();
        let exact = 3.0 * h * h / (1.0 + 3.0 * h * h);
        // |u − v|² carries the roundings of unit vectors, 1e-16 against a length of 1.6e-9.
        assert!((found.unexplained / exact - 1.0).abs() < 1e-6, "{found:?} {exact}");
    }

    #[test]
    fn the_ends_of_the_range_do_not_overflow() {
        let most = f64::MAX;
        let found = pearson(&[[-most, -1e-300], [most, 1e-300], [0.0, 0.0]]).unwrap();
        assert!((found.r - 1.0).abs() < 1e-15 && found.unexplained < 1e-30, "{found:?}");
    }

    proptest! {
        #[test]
        fn order_does_not_matter(
            (points, shuffled) in proptest::collection::vec([-9i32..9, -9..9], 2..40)
                .prop_map(|v| v.iter().map(|p| p.map(|c| f64::from(c) * 0.1)).collect::<Vec<_>>())
                .prop_flat_map(|v| (Just(v.clone()), Just(v).prop_shuffle())),
        ) {
            prop_assert_eq!(pearson(&points), pearson(&shuffled));
        }

        #[test]
        fn two_points_are_collinear(a in [-9.0..9.0f64, -9.0..9.0], step in [0.01..9.0f64, 0.01..9.0]) {
            let rising = pearson(&[a, [a[0] + step[0], a[1] + step[1]]]).unwrap();
            let falling = pearson(&[a, [a[0] + step[0], a[1] - step[1]]]).unwrap();
            // The square of the rounding of a unit vector's two entries, magnified by |mean|/|step| ≤ 900.
            prop_assert!(rising.r > 1.0 - 1e-15 && rising.unexplained < 1e-24, "{:?}", rising);
            prop_assert!(falling.r < -1.0 + 1e-15 && falling.unexplained < 1e-24, "{:?}", falling);
        }
    }
}
