//! Metrics of three sets: training images, images held out from training, and generated ones.

use std::cell::OnceCell;

use super::metric::Metric;
use super::pair::Outcome;
use crate::set_metric::{
    DataCopyingOptions, Features, Fls, LikelihoodOptions, LikelihoodSets, data_copying, fld, fls,
    memorisation_likelihood,
};

/// Most bytes of distances between reference and generated images that the likelihoods of single images may take.
const ROOM: u64 = 2 << 30;

/// A fit reads all distances in each of its steps, so that they are kept.
fn require_room(n_train: usize, n_generated: usize) -> Outcome<()> {
    let bytes = (n_train as u64).saturating_mul(n_generated as u64).saturating_mul(4);
    if bytes <= ROOM {
        return Ok(());
    }
    Err(format!(
        "no memorisation likelihood of single images: distances between {n_train} and {n_generated} images take {:.1} GiB, more \
         than {}; use --limit or a part of the generated images",
        bytes as f64 / f64::from(1 << 30),
        ROOM >> 30
    ))
}

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
        require_room(self.sets.train.n(), self.sets.generated.n())?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_have_a_bound() {
        assert!(require_room(50_000, 10_000).is_ok(), "FLD's own size");
        let why = require_room(50_000, 50_000).unwrap_err();
        assert!(why.contains("between 50000 and 50000 images take 9.3 GiB, more than 2;"), "{why}");
        assert!(require_room(usize::MAX, 2).is_err());
    }
}
