//! Nearest neighbours and k-NN radii.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Features;
use super::distances::{Distances, TILE, Tile};
use crate::{Error, ErrorKind, Result};

/// One image as the neighbour of another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// Row of the neighbour in its set.
    pub index: usize,
    /// Squared Euclidean distance, in feature units.
    pub squared_distance: f64,
}

impl Neighbour {
    /// Euclidean distance, in feature units.
    pub fn distance(&self) -> f64 {
        self.squared_distance.sqrt()
    }

    fn is_nearer_than(&self, other: &Neighbour) -> bool {
        (self.squared_distance, self.index) < (other.squared_distance, other.index)
    }
}

/// The nearest image of `reference` for each image of `queries`: the first one where several are equally near.
/// Distances are Σ(xᵢ − yᵢ)² in f64; O(N·M·D) on the current rayon pool, memory as in `Distances`.
///
/// # Errors
/// `DimensionMismatch` if D differs; `TooFewImages` for an empty reference set.
pub fn nearest(reference: Features, queries: Features) -> Result<Vec<Neighbour>> {
    Features::require_pair(reference, queries, 0)?;
    require(reference, 1)?;
    let blocks = Blocks::new(queries.n(), 1);
    Distances::between(reference, queries).for_each_tile(|tile| blocks.offer_rows_to_columns(tile, false));
    Ok(blocks.into_lists().map(|list| list[0]).collect())
}

/// The nearest *other* image of its own set for each image; others in the same place count.
///
/// # Errors
/// `TooFewImages` for fewer than two images.
pub fn nearest_within(set: Features) -> Result<Vec<Neighbour>> {
    Ok(within(set, 1)?.map(|list| list[0]).collect())
}

/// Squared distance of each image to the `nearest_k`-th nearest *other* image of its set: itself is left out by its
/// row, so that a duplicate is a neighbour at distance 0. In the order of the rows; no bit depends on that order.
///
/// # Errors
/// `InvalidOption` for a `nearest_k` of 0; `TooFewImages` for fewer than `nearest_k` + 1 images.
pub fn squared_radii(set: Features, nearest_k: usize) -> Result<Vec<f64>> {
    Ok(within(set, nearest_k)?.map(|list| list[nearest_k - 1].squared_distance).collect())
}

/// The `k` nearest others of each image, nearest first.
fn within(set: Features, k: usize) -> Result<impl Iterator<Item = Vec<Neighbour>>> {
    if k == 0 {
        return Err(Error::new(
            ErrorKind::InvalidOption,
            "nearest_k",
            "no neighbour to measure the radius to",
        )
        .expected("at least 1", k));
    }
    require(set, k + 1)?;
    let blocks = Blocks::new(set.n(), k);
    Distances::within(set).for_each_tile(|tile| {
        blocks.offer_rows_to_columns(tile, true);
        if tile.rows != tile.columns {
            blocks.offer_columns_to_rows(tile);
        }
    });
    Ok(blocks.into_lists())
}

fn require(set: Features, least: usize) -> Result<()> {
    if set.n() < least {
        return Err(Error::new(ErrorKind::TooFewImages, "reference", "too few images to have neighbours")
            .expected(format!("at least {least}"), set.n()));
    }
    Ok(())
}

/// Nearest neighbours so far, in a block for each side of a tile, which threads lock one at a time. What is kept at
/// the end is the first k by (distance, row) of all that were offered, so the order of offers does not matter.
struct Blocks {
    k: usize,
    blocks: Vec<Mutex<Vec<Nearest>>>,
}

/// The up to k nearest so far, nearest first.
struct Nearest {
    found: Vec<Neighbour>,
}

impl Blocks {
    fn new(n: usize, k: usize) -> Self {
        let empty = |first: usize| {
            let size = TILE.min(n - first);
            Mutex::new((0..size).map(|_| Nearest { found: Vec::with_capacity(k + 1) }).collect())
        };
        Blocks { k, blocks: (0..n).step_by(TILE).map(empty).collect() }
    }

    fn lock(&self, side: &Range<usize>) -> MutexGuard<'_, Vec<Nearest>> {
        self.blocks[side.start / TILE].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offer_rows_to_columns(&self, tile: &Tile, not_itself: bool) {
        let first = tile.columns.start;
        let mut lists = self.lock(&tile.columns);
        let mut limits: Vec<f64> = lists.iter().map(|list| list.limit(self.k)).collect();
        // Row by row, as the products lie.
        for row in tile.rows.clone() {
            for (column, lower) in tile.lower(row) {
                let at = column - first;
                if lower <= limits[at] && !(not_itself && row == column) {
                    lists[at].offer(row, self.k, || tile.exact(row, column));
                    limits[at] = lists[at].limit(self.k);
                }
            }
        }
    }

    fn offer_columns_to_rows(&self, tile: &Tile) {
        let mut lists = self.lock(&tile.rows);
        for (row, list) in tile.rows.clone().zip(lists.iter_mut()) {
            let mut limit = list.limit(self.k);
            for (column, lower) in tile.lower(row) {
                if lower <= limit {
                    list.offer(column, self.k, || tile.exact(row, column));
                    limit = list.limit(self.k);
                }
            }
        }
    }

    fn into_lists(self) -> impl Iterator<Item = Vec<Neighbour>> {
        let lists = |block: Mutex<Vec<Nearest>>| block.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.blocks.into_iter().flat_map(lists).map(|list| list.found)
    }
}

impl Nearest {
    /// The squared distance beyond which nothing enters any more.
    fn limit(&self, k: usize) -> f64 {
        if self.found.len() < k { f64::INFINITY } else { self.found[k - 1].squared_distance }
    }

    fn offer(&mut self, index: usize, k: usize, squared_distance: impl FnOnce() -> f64) {
        if let Some(last) = self.found.get(k - 1)
            // Among duplicates only an earlier row could still enter.
            && last.squared_distance == 0.0
            && last.index < index
        {
            return;
        }
        let new = Neighbour { index, squared_distance: squared_distance() };
        let at = self.found.partition_point(|other| other.is_nearer_than(&new));
        if at < k {
            self.found.insert(at, new);
            self.found.truncate(k);
        }
    }
}
