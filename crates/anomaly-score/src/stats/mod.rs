//! Statistics shared by the measurements and the set metrics: seeded randomness, summaries, correlation, tail
//! probabilities.
//!
//! Every function here gives the same bits whatever the order of its input.

mod correlation;
mod kolmogorov;
mod rng;
mod summary;

pub use correlation::{Pearson, pearson};
pub use kolmogorov::kolmogorov_sf;
pub use rng::{counter_rng, mark_random_subset, uniform_below};
pub use summary::{Summary, quantile};

use summary::{refined_mean, safe_scale};
