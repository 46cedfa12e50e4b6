//! Metrics that compare a generated set with a reference set, from measurements alone.

mod anomaly_score;
mod data_copying;
pub(crate) mod distances;
mod features;
mod frechet;
mod gaussian;
mod inception_score;
mod kernel_distance;
mod kernel_sums;
pub mod ks2d;
mod likelihood;
mod mifid;
mod mixture;
mod moments;
mod neighbours;
mod prdc;
mod principal;
mod products;
mod row_order;
mod sliced_wasserstein;
mod statistics_file;
mod vendi;

#[cfg(test)]
mod fixture;

pub use anomaly_score::{AnomalyScore, PermutationOptions, Point, anomaly_score};
pub use data_copying::{CopyingCell, DataCopying, DataCopyingOptions, data_copying};
pub use features::Features;
pub use frechet::{
    FactoredGaussian, FrechetDistance, FrechetInfinity, InfinityOptions, frechet_distance,
    frechet_distance_factored, frechet_distance_infinity,
};
pub use gaussian::Gaussian;
pub use inception_score::{InceptionOptions, InceptionScore, SplitOrder, Splits, inception_score};
pub use kernel_distance::{
    Cmmd, KernelDistance, SubsetKernelDistance, SubsetRows, cmmd, kernel_distance,
    kernel_distance_of_subsets, kernel_subsets,
};
pub use kernel_sums::Kernel;
pub use likelihood::{
    Fld, Fls, LikelihoodOptions, LikelihoodSets, fld, fls, memorisation_likelihood, quality_likelihood,
};
pub use mifid::{Memorised, Mifid, MifidOptions, mifid};
pub use moments::Moments;
pub use neighbours::{Neighbour, nearest, nearest_within, squared_radii};
pub use prdc::{Boundary, Manifold, Prdc, PrdcImages, PrdcOptions, prdc, prdc_images, prdc_of};
pub use row_order::row_order;
pub use sliced_wasserstein::{Mind, MindOptions, mind, sliced_wasserstein};
pub use statistics_file::{
    ArrayFile, FeatureMatrix, Statistics, read_features, read_statistics, write_statistics,
};
pub use vendi::{VendiScore, vendi_score};
