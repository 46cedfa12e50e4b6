//! Metrics of three sets: training images, images held out from training, and generated ones.

use std::cell::OnceCell;

use super::metric::Metric;
use super::pair::Outcome;
use crate::set_metric::{
    DataCopyingOptions, Features, Fls, LikelihoodOptions, LikelihoodSets, data_copying, fld, fls,
    memorisation_likelihood,
};

/// The sets, and what two metrics share.
pub(super) struct HeldOut<'a> {
    sets: LikelihoodSets<'a>,
    seed: u64,
    fls: OnceCell<Outcome<Fls>>,
}

impl<'a> HeldOut<'a> {
    pub(super) fn new(train: Features<'a>, test: Features<'a>, generated: Features<'a>, seed: u64) -> Self {
        HeldOut { sets: LikelihoodSets { train, test, generated }, seed, fls: OnceCell::new() }
    }

    /// Memorisation likelihood of each generated image.
    pub(super) fn memorisation(&self) -> Outcome<Vec<f64>> {
        memorisation_likelihood(&self.sets, self.seed).map_err(|e| e.to_string())
    }

    /// The value of `metric`, one that [`Metric::needs_held_out`].
    pub(super) fn value(&self, metric: Metric) -> Outcome<f64> {
        let options = LikelihoodOptions { seed: self.seed, ..LikelihoodOptions::default() };
        let both = || self.fls.get_or_init(|| fls(&self.sets, &options).map_err(|e| e.to_string())).clone();
        match metric {
            Metric::Fls => Ok(both()?.value),
            Metric::OverfitGaussians => Ok(both()?.overfit_gaussians),
            Metric::Fld => fld(&self.sets, &options).map(|found| found.value).map_err(|e| e.to_string()),
            Metric::DataCopying => {
                let options = DataCopyingOptions { seed: self.seed, ..DataCopyingOptions::default() };
                let found = data_copying(&self.sets, &options).map_err(|e| e.to_string())?;
                found
                    .value
                    .ok_or_else(|| format!("no cell holds more than {} generated images", options.least))
            }
            _ => Err("needs no held-out images".into()),
        }
    }
}
