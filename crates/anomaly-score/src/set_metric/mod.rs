//! Metrics that compare a generated set with a reference set, from measurements alone.

mod anomaly_score;
mod features;
pub mod ks2d;

pub use anomaly_score::{AnomalyScore, PermutationOptions, Point, anomaly_score};
pub use features::Features;
