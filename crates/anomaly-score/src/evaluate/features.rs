//! What the metrics read of a set: a table's features and points, read once, or statistics in their place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::metric::{Tap, tap};
use crate::measure::protocol;
use crate::set_metric::{
    FactoredGaussian, Features, Gaussian, Moments, Point, Statistics, row_order, squared_radii,
};
use crate::table::{BackboneSettings, FEATURES_ONLY, Settings, Table};
use crate::{Error, ErrorKind, Result};

/// What the metrics read of a table, once for all models, classes and metrics. 4·N·D bytes, twice that while reading; what
/// metrics find out about the set by itself is kept, 8·N bytes a radius and 8·D² for the Fréchet distance.
#[derive(Debug)]
pub struct FeatureSet {
    name: &'static str,
    settings: Settings,
    dim: usize,
    /// The features along [`row_order`], so that nothing drawn by row depends on the names of files.
    values: Vec<f32>,
    /// Place in the table of each row of `values`.
    places: Vec<usize>,
    /// Paths, in the order of the table.
    pub(super) paths: Vec<String>,
    /// AS-i, in the order of the table.
    pub(super) scores_i: Vec<Option<f64>>,
    /// Complexity and vulnerability in the order of the table, where both are defined.
    points_by_place: Vec<Option<Point>>,
    /// The same, of those that have them, in an order that does not depend on names.
    pub(super) points: Vec<Point>,
    pub(super) alone: Alone,
}

/// What is known of a set alone, in the order of [`FeatureSet::features`]: the same for every set it is compared with.
#[derive(Debug, Default)]
pub(super) struct Alone {
    radii: Mutex<HashMap<usize, Arc<Vec<f64>>>>,
    gaussians: Mutex<HashMap<u32, Arc<FactoredGaussian>>>,
}

impl Alone {
    /// Squared radii of the balls of `features` to the k-th neighbour.
    pub(super) fn squared_radii(&self, features: Features, k: usize) -> Result<Arc<Vec<f64>>> {
        kept(&self.radii, k, || squared_radii(features, k))
    }

    /// Mean and covariance of `features`, factored.
    pub(super) fn gaussian(&self, features: Features, ddof: u32) -> Result<Arc<FactoredGaussian>> {
        kept(&self.gaussians, ddof, || {
            let mut moments = Moments::new(features.dim());
            moments.push(features)?;
            Ok(FactoredGaussian::new(&moments.gaussian(ddof)?))
        })
    }
}

/// What `map` has of `key`, made where it has nothing. Not locked meanwhile: what is made may wait for other threads.
fn kept<K: Eq + std::hash::Hash, T>(
    map: &Mutex<HashMap<K, Arc<T>>>,
    key: K,
    make: impl FnOnce() -> Result<T>,
) -> Result<Arc<T>> {
    let known = |map: &Mutex<HashMap<K, Arc<T>>>, key: &K| {
        map.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    };
    if let Some(found) = known(map, &key) {
        return Ok(found);
    }
    let made = Arc::new(make()?);
    map.lock().unwrap_or_else(PoisonError::into_inner).insert(key, made.clone());
    Ok(made)
}

impl FeatureSet {
    /// Reads a table whole; `name` is what an error calls the set: `reference`, `generated`, `held out`.
    ///
    /// # Errors
    /// `Io` or `Format` if the table cannot be read; `InvalidOption` for a feature that is not finite.
    pub fn read(table: &Table, name: &'static str) -> Result<Self> {
        let settings = table.settings().clone();
        let dim = settings.backbone.feature_dim as usize;
        let mut values = Vec::with_capacity(table.len() * dim);
        let mut paths = Vec::with_capacity(table.len());
        let (mut scores_i, mut points_by_place) = (Vec::new(), Vec::new());
        for row in table.rows()? {
            let row = row?;
            let scores = &row.measurement.scores;
            let point = scores.complexity.zip(scores.vulnerability);
            points_by_place
                .push(point.map(|(complexity, vulnerability)| Point { complexity, vulnerability }));
            scores_i.push(scores.anomaly_score_i);
            values.extend_from_slice(&row.measurement.feature);
            paths.push(row.path);
        }
        let features = Features::new(name, &values, dim)?;
        let places = row_order(features);
        let values = places.iter().flat_map(|&place| features.row(place)).copied().collect();
        let points = in_order(&points_by_place);
        Ok(FeatureSet {
            name,
            settings,
            dim,
            values,
            places,
            paths,
            scores_i,
            points_by_place,
            points,
            alone: Alone::default(),
        })
    }

    /// The images at `places` of the table, ascending, as if it held no others.
    pub(super) fn part(&self, places: &[usize]) -> FeatureSet {
        let mut new = vec![None; self.paths.len()];
        places.iter().enumerate().for_each(|(i, &place)| new[place] = Some(i));
        let kept: Vec<(usize, usize)> =
            self.places.iter().enumerate().filter_map(|(row, &place)| Some((row, new[place]?))).collect();
        let points_by_place: Vec<_> = places.iter().map(|&place| self.points_by_place[place]).collect();
        let row = |row: usize| &self.values[row * self.dim..(row + 1) * self.dim];
        FeatureSet {
            name: self.name,
            settings: self.settings.clone(),
            dim: self.dim,
            values: kept.iter().flat_map(|&(r, _)| row(r)).copied().collect(),
            places: kept.iter().map(|&(_, place)| place).collect(),
            paths: places.iter().map(|&place| self.paths[place].clone()).collect(),
            scores_i: places.iter().map(|&place| self.scores_i[place]).collect(),
            points: in_order(&points_by_place),
            points_by_place,
            alone: Alone::default(),
        }
    }

    /// How the images were measured.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Mean and covariance as the Fréchet distance takes them, to the bit; the divisor is N − `ddof`.
    ///
    /// # Errors
    /// `TooFewImages` for no more than `ddof` images.
    pub fn gaussian(&self, ddof: u32) -> Result<Gaussian> {
        let mut moments = Moments::new(self.dim);
        moments.push(self.features()?)?;
        moments.gaussian(ddof)
    }

    /// The features, along [`row_order`].
    pub(super) fn features(&self) -> Result<Features<'_>> {
        Features::new(self.name, &self.values, self.dim)
    }

    /// Path of a row of [`FeatureSet::features`].
    pub(super) fn path(&self, row: usize) -> &str {
        &self.paths[self.places[row]]
    }

    /// The features in the order of the table, for what is defined by it.
    pub(super) fn in_table_order(&self) -> Vec<f32> {
        self.to_table_order(&(0..self.places.len()).collect::<Vec<_>>())
            .into_iter()
            .flat_map(|row| &self.values[row * self.dim..(row + 1) * self.dim])
            .copied()
            .collect()
    }

    /// One value a row, in the order of the table.
    pub(super) fn to_table_order<T: Clone>(&self, by_row: &[T]) -> Vec<T> {
        let mut rows: Vec<usize> = (0..by_row.len()).collect();
        rows.sort_unstable_by_key(|&row| self.places[row]);
        rows.into_iter().map(|row| by_row[row].clone()).collect()
    }
}

/// The defined points, from the smallest to the largest.
fn in_order(points: &[Option<Point>]) -> Vec<Point> {
    let mut points: Vec<Point> = points.iter().flatten().copied().collect();
    points.sort_unstable_by(|a, b| {
        a.complexity.total_cmp(&b.complexity).then(a.vulnerability.total_cmp(&b.vulnerability))
    });
    points
}

/// A set of which only mean and covariance are known, as published statistics files have them.
#[derive(Clone, Debug)]
pub struct SetStatistics {
    /// Mean and covariance.
    pub gaussian: Gaussian,
    /// What they are taken to be of; `source` is the file.
    pub settings: Settings,
}

impl SetStatistics {
    /// What `statistics`, read from `source`, say of a set measured by `like`, of which they themselves tell nothing: `mu_s` and
    /// `sigma_s` where those are settings of the layer sFID reads, `mu` and `sigma` otherwise.
    ///
    /// # Errors
    /// `Unsupported` if the file has none for that layer.
    pub fn new(statistics: &Statistics, source: &str, like: &Settings) -> Result<Self> {
        let gaussian = match (tap(&like.backbone), &statistics.spatial) {
            (Tap::Spatial, Some(spatial)) => spatial,
            (Tap::Spatial, None) => {
                return Err(Error::new(ErrorKind::Unsupported, source, "holds no statistics of this layer")
                    .expected(
                        "mu_s and sigma_s of the spatial features, as ADM's files have them",
                        "mu and sigma",
                    )
                    .remedy("Leave out --layer spatial, or take another file"));
            }
            _ => &statistics.pooled,
        };
        let settings = of_a_file(source, gaussian.dim(), like);
        Ok(SetStatistics { gaussian: gaussian.clone(), settings })
    }
}

/// Whether features are those that sFID reads, whose statistics ADM calls `mu_s` and `sigma_s`.
pub fn reads_spatial(backbone: &BackboneSettings) -> bool {
    tap(backbone) == Tap::Spatial
}

/// Settings of features that a file holds, taken to be made as `like` says.
pub fn of_a_file(source: &str, dim: usize, like: &Settings) -> Settings {
    let mut settings = like.clone();
    settings.protocol = protocol(FEATURES_ONLY);
    settings.source = source.to_owned();
    settings.limit = None;
    settings.arithmetic = None;
    settings.backbone.feature_dim = u32::try_from(dim).unwrap_or(u32::MAX);
    settings
}

/// One of the two sets of a comparison.
#[derive(Clone, Copy, Debug)]
pub enum Side<'a> {
    /// Images, measured.
    Images(&'a FeatureSet),
    /// Statistics alone.
    Statistics(&'a SetStatistics),
}

impl<'a> Side<'a> {
    /// How the set was measured, or is taken to have been.
    pub fn settings(self) -> &'a Settings {
        match self {
            Side::Images(set) => &set.settings,
            Side::Statistics(set) => &set.settings,
        }
    }

    /// The features, of images.
    pub(super) fn features(self) -> Result<Option<Features<'a>>> {
        match self {
            Side::Images(set) => Ok(Some(set.features()?)),
            Side::Statistics(_) => Ok(None),
        }
    }

    /// Number of images, where known.
    pub(super) fn n(self) -> Option<usize> {
        match self {
            Side::Images(set) => Some(set.paths.len()),
            Side::Statistics(set) => set.gaussian.n().and_then(|n| usize::try_from(n).ok()),
        }
    }
}
