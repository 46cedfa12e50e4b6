//! The only source of randomness in this library.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// Changing any stream means changing this tag, the locked values and the changelog's "Changed values".
const DOMAIN: &[u8] = b"anomaly-score/counter-rng/1";

/// A random stream addressed by what it is for: ChaCha8 keyed with
/// SHA-256(`DOMAIN`, `seed` as 8 little-endian bytes, `purpose`, `key`), each part preceded by its length
/// as 8 little-endian bytes; counter and stream number start at 0.
///
/// `seed`: what the user gave. `purpose`: a constant naming the caller, such as `"set_metric/permutation"`.
/// `key`: what the draw belongs to, such as an image's content hash or a permutation's index.
///
/// Nothing is shared between streams, so a result cannot depend on thread count, batch size or file order.
///
/// # Stability
/// The same arguments give the same words on every platform and in every later version. Streams written by an
/// independent implementation (`reference/ks2d.py`) are locked in `fixtures/ks2d/counter_rng.json`.
pub fn counter_rng(seed: u64, purpose: &str, key: &[u8]) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    for part in [DOMAIN, &seed.to_le_bytes(), purpose.as_bytes(), key] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    ChaCha8Rng::from_seed(hash.finalize().into())
}

/// A uniform integer in `0..bound`, without bias; 0 if `bound` is 0.
///
/// Kept here rather than taken from `rand`, whose sampling may change between its versions.
///
/// # Source
/// Lemire 2019, "Fast Random Integer Generation in an Interval", arXiv:1805.10941.
pub fn uniform_below(rng: &mut impl Rng, bound: u32) -> u32 {
    let mut product = u64::from(rng.next_u32()) * u64::from(bound);
    // The division is only needed where the low half could fall into the biased range.
    if (product as u32) < bound {
        let biased = bound.wrapping_neg() % bound;
        while (product as u32) < biased {
            product = u64::from(rng.next_u32()) * u64::from(bound);
        }
    }
    (product >> 32) as u32
}

/// Sets exactly `size` of the `marks` to true and the rest to false, every subset being equally likely.
///
/// `size` is cut to the number of marks; at most `u32::MAX` marks are drawn from.
///
/// # Source
/// Floyd's algorithm, in Bentley and Floyd 1987, "A sample of brilliance", CACM 30(9).
pub fn mark_random_subset(rng: &mut impl Rng, marks: &mut [bool], size: usize) {
    marks.fill(false);
    let n = u32::try_from(marks.len()).unwrap_or(u32::MAX);
    let size = u32::try_from(size).unwrap_or(u32::MAX).min(n);
    for top in n - size..n {
        let pick = uniform_below(rng, top + 1);
        let chosen = if marks[pick as usize] { top } else { pick };
        marks[chosen as usize] = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    /// Locked values: a failure here means that published results can no longer be reproduced.
    #[test]
    fn streams_are_those_of_the_independent_implementation() {
        let fixture: Value =
            serde_json::from_str(include_str!("../../../../fixtures/ks2d/counter_rng.json")).unwrap();
        let cases = fixture["cases"].as_array().unwrap();
        assert!(cases.len() >= 7);
        for case in cases {
            let seed: u64 = case["seed"].as_str().unwrap().parse().unwrap();
            let purpose = case["purpose"].as_str().unwrap();
            let key = unhex(case["key"].as_str().unwrap());

            let mut rng = counter_rng(seed, purpose, &key);
            for (i, word) in case["words"].as_array().unwrap().iter().enumerate() {
                assert_eq!(u64::from(rng.next_u32()), word.as_u64().unwrap(), "word {i} of {purpose:?}");
            }
            let mut rng = counter_rng(seed, purpose, &key);
            for pair in case["uniform_below"].as_array().unwrap() {
                let bound = pair[0].as_u64().unwrap() as u32;
                assert_eq!(u64::from(uniform_below(&mut rng, bound)), pair[1].as_u64().unwrap(), "{bound}");
            }
        }
    }

    #[test]
    fn uniform_below_zero_is_zero() {
        assert_eq!(uniform_below(&mut counter_rng(0, "test", b""), 0), 0);
    }

    /// Chi-square of the 10 subsets of two out of five: 9 degrees of freedom, 27.9 is exceeded once in 1000.
    #[test]
    fn subsets_are_equally_likely() {
        let mut rng = counter_rng(0, "test/subset", b"");
        let mut seen = [0u32; 32];
        let mut marks = [false; 5];
        let draws = 20_000;
        for _ in 0..draws {
            mark_random_subset(&mut rng, &mut marks, 2);
            seen[marks.iter().enumerate().map(|(i, &m)| usize::from(m) << i).sum::<usize>()] += 1;
        }
        let expected = f64::from(draws) / 10.0;
        let mut chi_square = 0.0;
        for (subset, &count) in seen.iter().enumerate() {
            if subset.count_ones() == 2 {
                chi_square += (f64::from(count) - expected).powi(2) / expected;
            } else {
                assert_eq!(count, 0, "subset {subset:#b} has the wrong size");
            }
        }
        assert!(chi_square < 27.9, "{chi_square}");
    }

    #[test]
    fn subsets_of_extreme_sizes() {
        let mut rng = counter_rng(0, "test/subset", b"");
        let mut marks = [true; 4];
        mark_random_subset(&mut rng, &mut marks, 0);
        assert_eq!(marks, [false; 4]);
        mark_random_subset(&mut rng, &mut marks, 4);
        assert_eq!(marks, [true; 4]);
        mark_random_subset(&mut rng, &mut marks, 9);
        assert_eq!(marks, [true; 4]);
        mark_random_subset(&mut rng, &mut [], 3);
    }
}
