//! A set of integers that counts its members below a bound.

/// A subset of `0..n` with insertion and rank queries in O(log(n/64)): one bit a member, and a Fenwick tree over the
/// 64-bit words. A tree over the members themselves would need 21 times the memory, six more levels a step, and
/// leave the first-level cache at n = 8,000.
#[derive(Clone, Debug)]
pub(super) struct RankSet {
    words: Vec<u64>,
    /// Entry i, counted from 1, holds the members of the words i − lowbit(i) .. i.
    tree: Vec<u32>,
}

impl RankSet {
    /// The empty subset of `0..n`.
    pub(super) fn new(n: usize) -> Self {
        // One word more than needed, so that the bound n has a word to look at.
        let words = n / 64 + 1;
        RankSet { words: vec![0; words], tree: vec![0; words + 1] }
    }

    /// Removes every member.
    pub(super) fn clear(&mut self) {
        self.words.fill(0);
        self.tree.fill(0);
    }

    /// Adds `member`, which must not be in the set yet.
    pub(super) fn insert(&mut self, member: usize) {
        self.words[member / 64] |= 1 << (member % 64);
        let mut i = member / 64 + 1;
        while i < self.tree.len() {
            self.tree[i] += 1;
            i += i & i.wrapping_neg();
        }
    }

    /// How many members are below `bound`, for `bound` ≤ n.
    pub(super) fn count_below(&self, bound: usize) -> u32 {
        let word = bound / 64;
        let mut count = (self.words[word] & ((1 << (bound % 64)) - 1)).count_ones();
        let mut i = word;
        while i > 0 {
            count += self.tree[i];
            i &= i - 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn counts_as_a_plain_list_does(
            n in 1usize..700, members in proptest::collection::btree_set(0usize..700, 0..200),
        ) {
            let members: Vec<usize> = members.into_iter().filter(|&m| m < n).collect();
            let mut set = RankSet::new(n);
            for round in 0..2 {
                for &m in &members {
                    set.insert(m);
                }
                for bound in 0..=n {
                    let expected = members.iter().filter(|&&m| m < bound).count();
                    prop_assert_eq!(set.count_below(bound) as usize, expected, "below {} in round {}", bound, round);
                }
                set.clear();
                prop_assert_eq!(set.count_below(n), 0);
            }
        }
    }
}
