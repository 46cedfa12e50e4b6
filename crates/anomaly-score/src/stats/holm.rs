//! Correction for asking several questions at once.

/// Holm's step-down adjustment of `p_values`: rejecting where the adjusted value is at most α keeps the probability of
/// any false rejection among all of them at most α, however they depend on each other.
///
/// In the given order; undefined ones stay undefined and are not counted, as in R's `p.adjust(method = "holm")`.
///
/// # Source
/// Holm 1979, Scand. J. Statist. 6.
pub fn holm(p_values: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut defined: Vec<(usize, f64)> =
        p_values.iter().enumerate().filter_map(|(i, p)| p.map(|p| (i, p))).collect();
    defined.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut adjusted = vec![None; p_values.len()];
    let (m, mut largest) = (defined.len(), 0.0f64);
    for (rank, (i, p)) in defined.into_iter().enumerate() {
        largest = largest.max((m - rank) as f64 * p).min(1.0);
        adjusted[i] = Some(largest);
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Holm's procedure with m = 4, by hand: 4·.005, 3·.01, 2·.03 and .04 lifted to the one before.
    #[test]
    fn by_hand() {
        let found = holm(&[Some(0.01), Some(0.04), None, Some(0.03), Some(0.005)]);
        let expected = [Some(0.03), Some(0.06), None, Some(0.06), Some(0.02)];
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found.is_some(), expected.is_some());
            assert!((found.unwrap_or(0.0) - expected.unwrap_or(0.0)).abs() < 1e-15, "{found:?} {expected:?}");
        }
        assert_eq!(holm(&[Some(0.9), Some(0.8)]), [Some(1.0), Some(1.0)]);
        assert_eq!(holm(&[]), []);
    }
}
