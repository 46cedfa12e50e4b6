//! numpy's legacy generator, for presets that reproduce subsets other tools drew with it.

const N: usize = 624;
const M: usize = 397;

/// `numpy.random.RandomState(seed)`: MT19937 and what numpy's frozen legacy interface draws from it, bit for bit.
///
/// For presets only. Everything else draws from [`counter_rng`](super::counter_rng).
///
/// # Source
/// Matsumoto and Nishimura 1998, "Mersenne twister", ACM TOMACS 8(1), with the seeding of 2002. numpy's documentation
/// promises that the legacy streams stay as they are. Checked in `fixtures/spectral/random_state.json`.
#[derive(Clone, Debug)]
pub struct RandomState {
    words: [u32; N],
    next: usize,
}

impl RandomState {
    /// The generator numpy makes of an integer seed.
    pub fn new(seed: u32) -> Self {
        let mut words = [seed; N];
        for i in 1..N {
            let before = words[i - 1];
            words[i] = (before ^ (before >> 30)).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        RandomState { words, next: N }
    }

    /// The next 32 bits.
    fn next_u32(&mut self) -> u32 {
        if self.next == N {
            for i in 0..N {
                let mixed = (self.words[i] & 0x8000_0000) | (self.words[(i + 1) % N] & 0x7fff_ffff);
                let odd = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
                self.words[i] = self.words[(i + M) % N] ^ (mixed >> 1) ^ odd;
            }
            self.next = 0;
        }
        let mut word = self.words[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// Uniform in `0..=most`: the lowest bits that can hold `most`, drawn again where they exceed it.
    fn up_to(&mut self, most: u32) -> u32 {
        let mask = u32::MAX.checked_shr(most.leading_zeros()).unwrap_or(0);
        loop {
            let value = self.next_u32() & mask;
            if value <= most {
                return value;
            }
        }
    }

    /// `permutation(n)`: 0..n in random order, by Fisher and Yates from the end.
    pub fn permutation(&mut self, n: u32) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n as usize).collect();
        for i in (1..n).rev() {
            order.swap(i as usize, self.up_to(i) as usize);
        }
        order
    }

    /// `choice(n, size, replace=False)`: the beginning of a permutation; as many as there are if `size` is more,
    /// where numpy raises.
    pub fn choice(&mut self, n: u32, size: usize) -> Vec<usize> {
        let mut order = self.permutation(n);
        order.truncate(size);
        order
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn draws_are_numpys() {
        let fixture: Value =
            serde_json::from_str(include_str!("../../../../fixtures/spectral/random_state.json")).unwrap();
        let mut draws = 0;
        for case in fixture["cases"].as_array().unwrap() {
            let mut state = RandomState::new(case["seed"].as_u64().unwrap() as u32);
            for draw in case["draws"].as_array().unwrap() {
                draws += 1;
                let n = draw["n"].as_u64().unwrap() as u32;
                let integers = |v: &Value| -> Option<Vec<usize>> {
                    Some(v.as_array()?.iter().map(|i| i.as_u64().unwrap() as usize).collect())
                };
                if let Some(expected) = integers(&draw["choice"]) {
                    assert_eq!(state.choice(n, expected.len()), expected, "choice of {n}");
                } else {
                    let expected = integers(&draw["permutation"]).unwrap();
                    assert_eq!(state.permutation(n)[..expected.len()], expected, "permutation of {n}");
                }
            }
        }
        assert!(draws >= 40);
    }
}
