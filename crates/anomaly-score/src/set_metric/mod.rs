//! Metrics that compare a generated set with a reference set, from measurements alone.

mod anomaly_score;
mod features;
mod frechet;
mod gaussian;
pub mod ks2d;
mod moments;
mod row_order;

#[cfg(test)]
mod fixture;

pub use anomaly_score::{AnomalyScore, PermutationOptions, Point, anomaly_score};
pub use features::Features;
pub use frechet::{
    FactoredGaussian, FrechetDistance, FrechetInfinity, InfinityOptions, frechet_distance,
    frechet_distance_factored, frechet_distance_infinity,
};
pub use gaussian::Gaussian;
pub use moments::Moments;
pub use row_order::row_order;
