//! Statistics shared by the measurements and the set metrics: seeded randomness, summaries, correlation, tail
//! probabilities, tests and intervals.
//!
//! Every function here gives the same bits whatever the number of threads and, but for what draws rows by their number
//! (the bootstrap, the null floor, permutations), whatever the order of its input.

mod bootstrap;
mod cliffs_delta;
mod correlation;
mod correlation_test;
mod estimate;
mod holm;
mod kolmogorov;
mod mann_whitney;
mod median;
mod normal;
mod null_floor;
mod p_value;
mod pairs;
mod permutation;
mod random_state;
mod rng;
mod student_t;
mod summary;
mod welch;

pub use bootstrap::{BootstrapOptions, bootstrap};
pub use cliffs_delta::{CliffsDelta, cliffs_delta};
pub use correlation::{Pearson, pearson};
pub use correlation_test::Correlation;
pub use estimate::{Estimate, Undefined};
pub use holm::holm;
pub use kolmogorov::kolmogorov_sf;
pub use mann_whitney::{MannWhitney, RankMethod, mann_whitney};
pub use median::{MedianInterval, median_interval};
pub use normal::{ln_normal_sf, normal_quantile, normal_sf};
pub use null_floor::{NullFloor, null_floor, null_floors};
pub use p_value::{Alternative, PValue};
pub use pairs::{Concordance, Pairs};
pub use permutation::{Exchange, Permutation, permutation_test};
pub use random_state::RandomState;
pub use rng::{counter_rng, mark_random_subset, uniform_below};
pub use student_t::ln_student_t_sf;
pub use summary::{Summary, quantile};
pub use welch::{Welch, welch};

use summary::{refined_mean, safe_scale};

#[cfg(test)]
mod scipy_tests;
