//! The three protocols and their constants.

use crate::backbone::Arithmetic;
use crate::table::{FEATURES_ONLY, Noise, ProtocolSettings};
use crate::{Error, ErrorKind, Result};

/// What is computed, of the same definitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The published method: angles along K steps in f32, gradient ascent.
    Paper,
    /// The released code's sign: the attack steps along −∇ and so minimises the distance.
    OfficialCode,
    /// Curvature from the network's second derivative; ascent with a noise-free first step.
    Exact,
    /// Neither complexity nor vulnerability: the feature alone, by one forward pass.
    FeaturesOnly,
}

impl Protocol {
    /// Names of those that score, in the order of preference; not [`FEATURES_ONLY`].
    pub const NAMES: [&'static str; 3] = ["paper", "official-code", "exact"];

    /// The protocol that `constants` name, once they are in their range.
    ///
    /// # Errors
    /// `InvalidOption`, naming the option, its value and its range.
    pub fn of(constants: &ProtocolSettings) -> Result<Protocol> {
        let bad = |option: &str, expected: &str, found: String| {
            Err(Error::new(ErrorKind::InvalidOption, option, "value out of range").expected(expected, found))
        };
        let protocol = match constants.name.as_str() {
            "paper" => Protocol::Paper,
            "official-code" => Protocol::OfficialCode,
            "exact" => Protocol::Exact,
            FEATURES_ONLY => Protocol::FeaturesOnly,
            other => return bad("--protocol", &Protocol::NAMES.join(", "), other.to_owned()),
        };
        let positive = |x: f64| x > 0.0 && x.is_finite();
        if !(2..=10_000).contains(&constants.steps) {
            return bad("--steps", "2 to 10000: one angle takes two steps", constants.steps.to_string());
        }
        if !positive(constants.epsilon) {
            return bad("--epsilon", "a length above 0", constants.epsilon.to_string());
        }
        if !(1..=10_000).contains(&constants.attack_steps) {
            return bad("--attack-steps", "1 to 10000", constants.attack_steps.to_string());
        }
        if !positive(constants.attack_epsilon) || constants.attack_epsilon > 1.0 {
            return bad("--attack-epsilon", "above 0, at most 1", constants.attack_epsilon.to_string());
        }
        if !positive(constants.attack_step_size) || constants.attack_step_size > 1.0 {
            return bad("--attack-step-size", "above 0, at most 1", constants.attack_step_size.to_string());
        }
        if !(1..=1000).contains(&constants.restarts) {
            return bad("--restarts", "1 to 1000", constants.restarts.to_string());
        }
        Ok(protocol)
    }

    /// How a network is to round where nobody asks for more: the same bits on every machine where rounding decides part of the
    /// numbers, which are the differences of nearly equal features; the fastest where it decides none
    /// (docs/method_facts.md, "The same images in two arithmetics").
    pub fn arithmetic(self) -> Arithmetic {
        match self {
            Protocol::Paper | Protocol::OfficialCode => Arithmetic::Fused,
            Protocol::Exact | Protocol::FeaturesOnly => Arithmetic::Fastest,
        }
    }
}

/// The published constants under the protocol called `name`.
///
/// # Source
/// Hwang, Park, Lee 2024, arXiv:2312.10634, and the code its authors released.
pub fn protocol(name: &str) -> ProtocolSettings {
    ProtocolSettings {
        name: name.to_owned(),
        steps: 10,
        epsilon: 0.01,
        attack_steps: 10,
        attack_epsilon: 8.0 / 255.0,
        attack_step_size: 2.0 / 255.0,
        noise: Noise::Gaussian,
        restarts: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_rounding_decides_bits_are_the_same_everywhere() {
        let of = |name| Protocol::of(&protocol(name)).unwrap().arithmetic();
        assert_eq!(of("paper"), Arithmetic::Fused);
        assert_eq!(of("official-code"), Arithmetic::Fused);
        assert_eq!(of("exact"), Arithmetic::Fastest);
        assert_eq!(of(FEATURES_ONLY), Arithmetic::Fastest);
    }
}
