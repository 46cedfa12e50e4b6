//! The value of every metric of features, from two sets of them.

use std::cell::OnceCell;
use std::sync::Arc;

use super::features::Alone;
use super::metric::Metric;
use super::{Conventions, KernelConvention};
use crate::image_metric::{Authenticity, authenticity, authenticity_of, rarity, realism};
use crate::set_metric::{
    FactoredGaussian, Features, FrechetDistance, InfinityOptions, Kernel, Manifold, MindOptions, Moments,
    Prdc, PrdcImages, SubsetRows, cmmd, frechet_distance_factored, frechet_distance_infinity,
    inception_score, kernel_distance, kernel_distance_of_subsets, kernel_subsets, mifid, mind, prdc,
    prdc_images, sliced_wasserstein, vendi_score,
};
use crate::stats::RandomState;

/// A value, or why it is undefined.
pub(super) type Outcome<T> = Result<T, String>;

/// σ of the Gaussian kernel distance; torch-fidelity's.
const SIGMA: f64 = 10.0;

/// Two sets and what several metrics share, each made once and only if asked for.
pub(super) struct Pair<'a> {
    reference: Features<'a>,
    generated: Features<'a>,
    conventions: &'a Conventions,
    seed: u64,
    /// What is known of the reference alone, where it is the whole set.
    alone: Option<&'a Alone>,
    moments: [OnceCell<Moments>; 2],
    frechet: OnceCell<Outcome<(Arc<FactoredGaussian>, FrechetDistance)>>,
    /// With the cubic and with the Gaussian kernel.
    kernels: [OnceCell<Outcome<KernelValue>>; 2],
    /// Of the reference, with the radii of precision.
    manifold: OnceCell<Outcome<Manifold<'a>>>,
    prdc: OnceCell<Outcome<(Prdc, Option<PrdcImages>)>>,
    realism: OnceCell<Outcome<Vec<Option<f64>>>>,
    rarity: OnceCell<Outcome<Vec<Option<f64>>>>,
    authenticity: OnceCell<Outcome<Authenticity>>,
}

/// Which set's images a metric is the mean over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Reference,
    Generated,
}

/// A metric as `scale` times a mean over images, one value each, the other set held fixed.
pub(super) struct MeanOver {
    pub(super) over: Over,
    pub(super) values: Vec<f64>,
    pub(super) scale: f64,
}

/// A kernel distance.
pub(super) struct KernelValue {
    pub(super) value: f64,
    pub(super) std_error: Option<f64>,
    /// Spread of the estimates of subsets, where it is their mean.
    pub(super) spread: Option<f64>,
}

impl<'a> Pair<'a> {
    pub(super) fn new(
        reference: Features<'a>,
        generated: Features<'a>,
        conventions: &'a Conventions,
        seed: u64,
    ) -> Self {
        Pair {
            reference,
            generated,
            conventions,
            seed,
            alone: None,
            moments: [const { OnceCell::new() }; 2],
            frechet: OnceCell::new(),
            kernels: [const { OnceCell::new() }; 2],
            manifold: OnceCell::new(),
            prdc: OnceCell::new(),
            realism: OnceCell::new(),
            rarity: OnceCell::new(),
            authenticity: OnceCell::new(),
        }
    }

    /// The same, taking from `alone` what is known of its reference.
    pub(super) fn knowing(self, alone: &'a Alone) -> Self {
        Pair { alone: Some(alone), ..self }
    }

    /// The value of `metric`. The Anomaly Score is none of features.
    pub(super) fn value(&self, metric: Metric) -> Outcome<f64> {
        let (reference, generated, seed) = (self.reference, self.generated, self.seed);
        match metric {
            Metric::AnomalyScore => Err("is no metric of features".into()),
            Metric::Fls | Metric::OverfitGaussians | Metric::Fld | Metric::DataCopying => {
                Err("is no metric of two sets".into())
            }
            Metric::FrechetDistance => Ok(self.frechet()?.1.value),
            Metric::FrechetInfinity => {
                let options = InfinityOptions { seed, ..InfinityOptions::default() };
                Ok(said(frechet_distance_infinity(&self.frechet()?.0, generated, &options))?.value)
            }
            Metric::KernelDistance | Metric::KernelDistanceRbf => Ok(self.kernel(metric)?.value),
            Metric::Cmmd => Ok(said(cmmd(reference, generated))?.value),
            Metric::InceptionScore => {
                Ok(said(inception_score(generated, &self.conventions.inception))?.value)
            }
            Metric::Precision => Ok(self.prdc()?.0.precision),
            Metric::Recall => Ok(self.prdc()?.0.recall),
            Metric::Density => Ok(self.prdc()?.0.density),
            Metric::Coverage => Ok(self.prdc()?.0.coverage),
            Metric::Realism => mean_of_defined(self.realism()?, "no generated image has a realism"),
            Metric::Rarity => {
                mean_of_defined(self.rarity()?, "no generated image lies in the reference manifold")
            }
            Metric::Authenticity => Ok(self.authenticity()?.summary.value),
            Metric::Vendi => Ok(said(vendi_score(generated))?.value),
            Metric::SlicedWasserstein => {
                let [a, b] = [0, 1].map(|set| said(self.moments(set).gaussian(0)));
                said(sliced_wasserstein(&a?, &b?))
            }
            Metric::Mind => {
                let options = MindOptions { seed, ..MindOptions::default() };
                Ok(said(mind(reference, generated, &options))?.value)
            }
            Metric::Mifid => {
                Ok(said(mifid(&self.frechet()?.1, reference, generated, &self.conventions.mifid))?.value)
            }
        }
    }

    /// What a reader of a defined value must know.
    pub(super) fn note(&self, metric: Metric) -> Option<String> {
        match metric {
            Metric::FrechetDistance | Metric::FrechetInfinity | Metric::Mifid => {
                rank_note(&self.frechet().ok()?.1)
            }
            Metric::Realism | Metric::Rarity => {
                let (all, what) = if metric == Metric::Realism {
                    (self.realism().ok()?, "coincide with a reference image and have no realism")
                } else {
                    (self.rarity().ok()?, "lie outside the reference manifold and have no rarity")
                };
                let without = all.iter().filter(|v| v.is_none()).count();
                (without > 0).then(|| format!("{without} of {} generated images {what}", all.len()))
            }
            _ => None,
        }
    }

    /// `metric` as a mean over images; `None` if it is none.
    pub(super) fn mean_over(&self, metric: Metric) -> Option<MeanOver> {
        if metric.is_mean_over_generated() {
            let (values, scale) = self.of_each_generated(metric).ok()?;
            return Some(MeanOver {
                over: Over::Generated,
                values: values.into_iter().flatten().collect(),
                scale,
            });
        }
        let flags = match metric {
            Metric::Recall => &self.prdc().ok()?.1.as_ref()?.recalled,
            Metric::Coverage => &self.prdc().ok()?.1.as_ref()?.covered,
            _ => return None,
        };
        let values = flags.iter().map(|&flag| f64::from(u8::from(flag))).collect();
        Some(MeanOver { over: Over::Reference, values, scale: 1.0 })
    }

    /// Of a metric that [`Metric::is_mean_over_generated`]: the value of each generated image, and what their mean is to be
    /// multiplied by.
    pub(super) fn of_each_generated(&self, metric: Metric) -> Outcome<(Vec<Option<f64>>, f64)> {
        let balls = |most: u32| -> Outcome<Vec<Option<f64>>> {
            let images = self.prdc()?.1.as_ref().ok_or("a subsample stands for the sets")?;
            Ok(images.balls_around.iter().map(|&balls| Some(f64::from(balls.min(most)))).collect())
        };
        match metric {
            Metric::Precision => Ok((balls(1)?, 1.0)),
            Metric::Density => Ok((balls(u32::MAX)?, 1.0 / self.conventions.prdc.nearest_k as f64)),
            Metric::Realism => Ok((self.realism()?.clone(), 1.0)),
            Metric::Rarity => Ok((self.rarity()?.clone(), 1.0)),
            Metric::Authenticity => {
                let found = self.authenticity()?;
                let value = |i| Some(f64::from(u8::from(found.is_authentic(i))));
                Ok(((0..found.nearest.len()).map(value).collect(), 100.0))
            }
            _ => Err("is no mean over generated images".into()),
        }
    }

    /// A kernel distance, and what is known of its error.
    pub(super) fn kernel(&self, metric: Metric) -> Outcome<&KernelValue> {
        let (which, kernel) = match metric {
            Metric::KernelDistanceRbf => (1, Kernel::Rbf { sigma: SIGMA }),
            _ => (0, Kernel::Cubic),
        };
        shared(&self.kernels[which], || {
            let (r, g) = (self.reference, self.generated);
            let subsets = match self.conventions.kernel {
                KernelConvention::Whole => {
                    let found = said(kernel_distance(r, g, kernel))?;
                    return Ok(KernelValue { value: found.value, std_error: found.std_error, spread: None });
                }
                KernelConvention::Numpy { subsets, size, seed } => {
                    said(Features::require_pair(r, g, size))?;
                    numpy_subsets(r.n(), g.n(), subsets, size, seed)
                }
                KernelConvention::Seeded { subsets, size } => {
                    kernel_subsets(r.n(), g.n(), subsets, size, self.seed)
                }
            };
            let found = said(kernel_distance_of_subsets(r, g, kernel, &subsets))?;
            Ok(KernelValue { value: found.value, std_error: None, spread: Some(found.std_dev) })
        })
    }

    /// Of the reference (0) or the generated set (1).
    fn moments(&self, set: usize) -> &Moments {
        self.moments[set].get_or_init(|| {
            let features = [self.reference, self.generated][set];
            // Not `Moments::of`, which would sort again rows that are in order.
            let mut moments = Moments::new(features.dim());
            // Of one length by construction.
            let _ = moments.push(features);
            moments
        })
    }

    fn frechet(&self) -> Outcome<&(Arc<FactoredGaussian>, FrechetDistance)> {
        shared(&self.frechet, || {
            let ddof = self.conventions.ddof;
            let reference = match self.alone {
                Some(alone) => said(alone.gaussian(self.reference, ddof))?,
                None => Arc::new(FactoredGaussian::new(&said(self.moments(0).gaussian(ddof))?)),
            };
            let generated = FactoredGaussian::new(&said(self.moments(1).gaussian(ddof))?);
            let distance = said(frechet_distance_factored(&reference, &generated))?;
            Ok((reference, distance))
        })
    }

    fn manifold(&self) -> Outcome<&Manifold<'a>> {
        shared(&self.manifold, || self.manifold_of(self.conventions.prdc.nearest_k))
    }

    fn manifold_of(&self, k: usize) -> Outcome<Manifold<'a>> {
        said(match self.alone {
            Some(alone) => alone
                .squared_radii(self.reference, k)
                .map(|radii| Manifold::with_radii(self.reference, k, radii.to_vec())),
            None => Manifold::new(self.reference, k),
        })
    }

    fn prdc(&self) -> Outcome<&(Prdc, Option<PrdcImages>)> {
        shared(&self.prdc, || {
            let options = &self.conventions.prdc;
            if options.subsample.is_some() {
                return Ok((said(prdc(self.reference, self.generated, options))?, None));
            }
            // Manifolds do not know which set they are of.
            said(Features::require_pair(self.reference, self.generated, options.nearest_k + 1))?;
            let generated = said(Manifold::new(self.generated, options.nearest_k))?;
            let (prdc, images) = said(prdc_images(self.manifold()?, &generated, options.boundary))?;
            Ok((prdc, Some(images)))
        })
    }

    /// Of every generated image.
    pub(super) fn realism(&self) -> Outcome<&Vec<Option<f64>>> {
        shared(&self.realism, || said(realism(self.manifold()?, self.generated, self.conventions.realism)))
    }

    /// Of every generated image.
    pub(super) fn rarity(&self) -> Outcome<&Vec<Option<f64>>> {
        shared(&self.rarity, || {
            let manifold = self.manifold_of(self.conventions.rarity_k)?;
            said(rarity(&manifold, self.generated))
        })
    }

    /// Of every generated image.
    pub(super) fn authenticity(&self) -> Outcome<&Authenticity> {
        shared(&self.authenticity, || {
            said(match self.alone {
                Some(alone) => alone
                    .squared_radii(self.reference, 1)
                    .and_then(|spacing| authenticity_of(self.reference, &spacing, self.generated)),
                None => authenticity(self.reference, self.generated),
            })
        })
    }
}

/// What is to be said where a covariance has no inverse.
pub(super) fn rank_note(found: &FrechetDistance) -> Option<String> {
    let rank = found.rank_reference.min(found.rank_generated);
    (rank < found.dim).then(|| {
        format!(
            "a covariance has rank {rank} of {}: with so few images the distance is far above that of many",
            found.dim
        )
    })
}

/// torch-fidelity's draws: for each subset first from set 1, the generated one, then from set 2.
fn numpy_subsets(
    n_reference: usize,
    n_generated: usize,
    subsets: usize,
    size: usize,
    seed: u32,
) -> Vec<SubsetRows> {
    let mut state = RandomState::new(seed);
    let mut draw = |n: usize| state.choice(u32::try_from(n).unwrap_or(u32::MAX), size);
    (0..subsets)
        .map(|_| {
            let generated = draw(n_generated);
            SubsetRows { reference: draw(n_reference), generated }
        })
        .collect()
}

fn shared<T>(cell: &OnceCell<Outcome<T>>, make: impl FnOnce() -> Outcome<T>) -> Outcome<&T> {
    cell.get_or_init(make).as_ref().map_err(String::clone)
}

pub(super) fn said<T>(result: crate::Result<T>) -> Outcome<T> {
    result.map_err(|e| e.to_string())
}

fn mean_of_defined(values: &[Option<f64>], none: &str) -> Outcome<f64> {
    let n = values.iter().flatten().count();
    if n == 0 {
        return Err(none.into());
    }
    Ok(values.iter().flatten().sum::<f64>() / n as f64)
}
