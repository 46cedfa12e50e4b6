//! A table's features and points, read once.

use crate::Result;
use crate::set_metric::{Features, Point, row_order};
use crate::table::Table;

/// What the metrics read of a table. 4·N·D bytes, twice that while reading.
pub(super) struct FeatureSet {
    name: &'static str,
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
    pub(super) fn read(table: &Table, name: &'static str) -> Result<Self> {
        let dim = table.settings().backbone.feature_dim as usize;
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
        Ok(FeatureSet { name, dim, values, places, paths, points })
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
