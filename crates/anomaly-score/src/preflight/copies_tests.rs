//! The search by pieces against every pair.

use super::*;
use crate::image::{Picture, Pixels, Raw};
use crate::preflight::{Basis, Role, Seen};
use proptest::prelude::*;

/// Images with these hashes, whose thumbnails show one of two things.
fn set(hashes: &[(u64, bool)]) -> SetFacts {
    let picture = Picture::new(1, 1, Pixels::Rgb8(vec![0; 3])).unwrap();
    let raw = Raw::Rgb8 { width: 1, height: 1, pixels: vec![0; 3] };
    let blank = ImageFacts::of("", &raw, &picture);
    let images = hashes.iter().enumerate().map(|(i, &(hash, steep))| {
        let mut facts = blank.clone();
        facts.path = format!("{i:03}");
        facts.content_hash[..8].copy_from_slice(&(i as u64 + 1).to_le_bytes());
        // Symmetric, so that a mirrored hash alone decides.
        let thumbnail =
            std::array::from_fn(|k| if steep { (k / 16 * 15) as u8 } else { 240 - (k / 16 * 15) as u8 });
        let seen: &mut Seen = facts.seen.as_mut().unwrap();
        seen.look = Look { hash, thumbnail, distinct: true };
        facts
    });
    SetFacts {
        source: "s".into(),
        role: Role::Generated,
        images: images.collect(),
        skipped: Vec::new(),
        basis: Basis::Images,
    }
}

fn alike(a: (u64, bool), b: (u64, bool)) -> bool {
    let near = |hash: u64| (hash ^ b.0).count_ones() <= HASH_DISTANCE;
    a.1 == b.1 && (near(a.0) || near(a.0 ^ mirror_bits()))
}

/// Few hashes with many bits flipped, so that pairs of every distance around the limit occur.
fn hashes() -> impl Strategy<Value = Vec<(u64, bool)>> {
    let one = (0..3usize, prop::collection::vec(0..64u32, 0..10), any::<bool>());
    prop::collection::vec(one, 0..40).prop_map(|all| {
        let bases = [0x0123_4567_89ab_cdef, 0xfedc_0000_ffff_1111, 0x5a5a_3c3c_9696_0ff0u64];
        all.into_iter()
            .map(|(base, bits, steep)| (bits.iter().fold(bases[base], |h, b| h ^ 1 << b), steep))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_pair_is_missed_and_none_invented(mine in hashes(), theirs in hashes()) {
        let (a, b) = (set(&mine), set(&theirs));
        // Content hashes are numbered from 1 in both, so what is shared is left out.
        let mut found = near_shared(&a, &b).unwrap();
        found.sort_by_key(|pair| pair.image);
        let expected: Vec<usize> = (0..mine.len())
            .filter(|&i| i >= theirs.len() && theirs.iter().any(|&other| alike(mine[i], other)))
            .collect();
        prop_assert_eq!(found.iter().map(|pair| pair.image).collect::<Vec<_>>(), expected);
        for pair in found {
            prop_assert!(alike(mine[pair.image], theirs[pair.copy_of]));
        }

        let found = near_duplicates(&a).unwrap();
        let expected: Vec<usize> = (0..mine.len())
            .filter(|&i| (0..mine.len()).any(|j| j != i && alike(mine[i], mine[j])))
            .collect();
        prop_assert_eq!(found.iter().map(|pair| pair.image).collect::<Vec<_>>(), expected);
        prop_assert!(found.iter().all(|pair| pair.image != pair.copy_of));
    }
}

#[test]
fn equal_pixels_are_exact_copies_and_count_once() {
    let mut facts = set(&[(1, true), (u64::MAX, true), (1, true), (1, false)]);
    facts.images[2].content_hash = facts.images[0].content_hash;
    assert_eq!(duplicates(&facts), [Pair { image: 2, copy_of: 0, mirrored: false }]);
    assert_eq!(near_duplicates(&facts).unwrap(), [], "the exact copy is no near one");
    assert_eq!(shared(&facts, &facts).len(), 4);
    facts.images[0].seen = None;
    assert_eq!(near_duplicates(&facts), None, "not known by its pixels");
}
