//! Copies: images with the same pixels, and images that look the same.

use std::collections::HashMap;

use rayon::prelude::*;

use super::facts::{CORRELATION, HASH_DISTANCE, ImageFacts, Look, mirror_bits};
use super::set::SetFacts;

/// Pieces a hash is cut into. Two hashes that differ in at most 7 bits differ in at most one bit of some piece of four, so that a look at
/// 4 × 17 lists finds every such pair (Norouzi, Punjani, Fleet 2012, Fast Search in Hamming Space with Multi-Index Hashing).
const PIECES: usize = 4;
const PIECE_BITS: usize = 64 / PIECES;
const _: () = assert!(HASH_DISTANCE as usize == 2 * PIECES - 1);

/// An image and its copy, by place in the lists they were asked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) image: usize,
    pub(super) copy_of: usize,
    /// Only after mirroring left for right.
    pub(super) mirrored: bool,
}

/// Exact copies inside a set: for every image whose pixels an earlier one has, that one.
pub(super) fn duplicates(set: &SetFacts) -> Vec<Pair> {
    let mut first = HashMap::with_capacity(set.n());
    let mut pairs = Vec::new();
    for (image, facts) in set.images.iter().enumerate() {
        match first.entry(facts.content_hash) {
            std::collections::hash_map::Entry::Occupied(earlier) => {
                pairs.push(Pair { image, copy_of: *earlier.get(), mirrored: false });
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(image);
            }
        }
    }
    pairs
}

/// For every image of `set` whose pixels an image of `other` has, the first such.
pub(super) fn shared(set: &SetFacts, other: &SetFacts) -> Vec<Pair> {
    let mut first = HashMap::with_capacity(other.n());
    for (i, facts) in other.images.iter().enumerate() {
        first.entry(facts.content_hash).or_insert(i);
    }
    let of = |(image, facts): (usize, &ImageFacts)| {
        first.get(&facts.content_hash).map(|&copy_of| Pair { image, copy_of, mirrored: false })
    };
    set.images.iter().enumerate().filter_map(of).collect()
}

/// Images of a set that look like another of it without having its pixels. Of images with the same pixels only the first counts.
/// `None` where the set is not known by its pixels.
pub(super) fn near_duplicates(set: &SetFacts) -> Option<Vec<Pair>> {
    let index = Index::of(set)?;
    Some(index.all(&index, |a, b| a == b))
}

/// The same of `set` against `other`; images with the pixels of one of the other set are left out.
pub(super) fn near_shared(set: &SetFacts, other: &SetFacts) -> Option<Vec<Pair>> {
    let (mine, theirs) = (Index::of(set)?, Index::of(other)?);
    let exact: Vec<usize> = shared(set, other).iter().map(|pair| pair.image).collect();
    let mut pairs = mine.all(&theirs, |_, _| false);
    pairs.retain(|pair| exact.binary_search(&pair.image).is_err());
    Some(pairs)
}

/// Looks of a set's images, to be found by their hashes.
struct Index<'a> {
    /// Place in the set and look, of every image that shows enough; of equal pixels only the first.
    looks: Vec<(usize, &'a Look)>,
    /// Of each piece: where each value's list begins, and the lists.
    pieces: [(Vec<u32>, Vec<u32>); PIECES],
}

impl<'a> Index<'a> {
    fn of(set: &'a SetFacts) -> Option<Self> {
        if !set.is_seen() {
            return None;
        }
        let copies: Vec<usize> = duplicates(set).iter().map(|pair| pair.image).collect();
        let looks: Vec<(usize, &Look)> = set
            .images
            .iter()
            .enumerate()
            .filter_map(|(i, image)| Some((i, &image.seen.as_ref()?.look)))
            .filter(|(i, look)| look.distinct && copies.binary_search(i).is_err())
            .collect();
        let pieces = std::array::from_fn(|piece| {
            let mut starts = vec![0u32; (1 << PIECE_BITS) + 1];
            for (_, look) in &looks {
                starts[value(look.hash, piece) + 1] += 1;
            }
            for i in 1..starts.len() {
                starts[i] += starts[i - 1];
            }
            let mut at = starts.clone();
            let mut lists = vec![0u32; looks.len()];
            for (i, (_, look)) in looks.iter().enumerate() {
                let place = &mut at[value(look.hash, piece)];
                lists[*place as usize] = i as u32;
                *place += 1;
            }
            (starts, lists)
        });
        Some(Index { looks, pieces })
    }

    /// For every look the first that is found like it in `other`, not asking those that `is_same` says are the look itself.
    fn all(&self, other: &Index, is_same: impl Fn(usize, usize) -> bool + Sync) -> Vec<Pair> {
        let mirror = mirror_bits();
        let of = |&(image, look): &(usize, &Look)| {
            [false, true].into_iter().find_map(|mirrored| {
                let hash = if mirrored { look.hash ^ mirror } else { look.hash };
                let copy_of = other.find(look, hash, mirrored, |found| is_same(image, found))?;
                Some(Pair { image, copy_of, mirrored })
            })
        };
        self.looks.par_iter().filter_map(of).collect()
    }

    fn find(&self, look: &Look, hash: u64, mirrored: bool, skip: impl Fn(usize) -> bool) -> Option<usize> {
        for (piece, (starts, lists)) in self.pieces.iter().enumerate() {
            let exact = value(hash, piece);
            let near = (0..PIECE_BITS).map(|bit| exact ^ 1 << bit);
            for key in std::iter::once(exact).chain(near) {
                for &i in &lists[starts[key] as usize..starts[key + 1] as usize] {
                    let (found, other) = self.looks[i as usize];
                    if (hash ^ other.hash).count_ones() <= HASH_DISTANCE
                        && !skip(found)
                        && other.correlation(look, mirrored).is_some_and(|c| c >= CORRELATION)
                    {
                        return Some(found);
                    }
                }
            }
        }
        None
    }
}

fn value(hash: u64, piece: usize) -> usize {
    (hash >> (piece * PIECE_BITS)) as usize & ((1 << PIECE_BITS) - 1)
}

#[cfg(test)]
#[path = "copies_tests.rs"]
mod tests;
