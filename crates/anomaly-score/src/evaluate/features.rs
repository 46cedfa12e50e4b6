//! What the metrics read of a set: a table's features and points, read once, or statistics in their place.

use super::metric::{Tap, tap};
use crate::measure::protocol;
use crate::set_metric::{Features, Gaussian, Moments, Point, Statistics, row_order};
use crate::table::{BackboneSettings, FEATURES_ONLY, Settings, Table};
use crate::{Error, ErrorKind, Result};

/// What the metrics read of a table, once for all models, classes and metrics. 4·N·D bytes, twice that while reading.
#[derive(Clone, Debug)]
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
    /// Complexity and vulnerability where both are defined.
    pub(super) points: Vec<Point>,
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
        let (mut paths, mut points) = (Vec::with_capacity(table.len()), Vec::with_capacity(table.len()));
        for row in table.rows()? {
            let row = row?;
            let scores = &row.measurement.scores;
            if let (Some(complexity), Some(vulnerability)) = (scores.complexity, scores.vulnerability) {
                points.push(Point { complexity, vulnerability });
            }
            values.extend_from_slice(&row.measurement.feature);
            paths.push(row.path);
        }
        let features = Features::new(name, &values, dim)?;
        let places = row_order(features);
        let values = places.iter().flat_map(|&place| features.row(place)).copied().collect();
        points.sort_unstable_by(|a, b| {
            a.complexity.total_cmp(&b.complexity).then(a.vulnerability.total_cmp(&b.vulnerability))
        });
        Ok(FeatureSet { name, settings, dim, values, places, paths, points })
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
