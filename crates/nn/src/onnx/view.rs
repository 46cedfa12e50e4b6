//! A tensor of the ONNX graph seen in a node of the engine: logical lengths and where they lie in
//! memory. Transposing, slicing, expanding and most reshaping only change the view.

use crate::graph::NodeId;

/// Value (i₀, i₁, …) is value `offset + Σ iₐ·strides[a]` of `node`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub(super) node: NodeId,
    pub(super) offset: usize,
    pub(super) dims: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// Strides of a tensor of lengths `dims` whose axes lie in memory in the order `order`, the last fastest.
pub(super) fn dense_strides(dims: &[usize], order: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    let mut step = 1;
    for &axis in order.iter().rev() {
        strides[axis] = step;
        step *= dims[axis];
    }
    strides
}

/// 0, 1, …, `rank` − 1.
pub(super) fn row_major(rank: usize) -> Vec<usize> {
    (0..rank).collect()
}

impl View {
    /// The whole of `node`, its axes lying in the order `order`.
    pub(super) fn dense(node: NodeId, dims: Vec<usize>, order: &[usize]) -> View {
        let strides = dense_strides(&dims, order);
        View { node, offset: 0, dims, strides }
    }

    pub(super) fn rank(&self) -> usize {
        self.dims.len()
    }

    /// Number of values.
    pub(super) fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Axes as they lie in memory, the slowest first; axes of length 1 keep their place beside
    /// their neighbour.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.rank()).filter(|&a| self.dims[a] != 1).collect();
        order.sort_by_key(|&a| (std::cmp::Reverse(self.strides[a]), a));
        for axis in (0..self.rank()).filter(|&a| self.dims[a] == 1) {
            let at = order.iter().position(|&a| a > axis).unwrap_or(order.len());
            order.insert(at, axis);
        }
        order
    }

    /// Whether the axes lie in memory in the order `order`, without gap, from the first value on.
    pub(super) fn is_dense(&self, order: &[usize]) -> bool {
        let strides = dense_strides(&self.dims, order);
        let fits = |a: usize| self.dims[a] == 1 || self.strides[a] == strides[a];
        self.offset == 0 && (0..self.rank()).all(fits)
    }

    pub(super) fn transpose(&self, permutation: &[usize]) -> View {
        View {
            dims: permutation.iter().map(|&a| self.dims[a]).collect(),
            strides: permutation.iter().map(|&a| self.strides[a]).collect(),
            ..*self
        }
    }

    /// Positions `start`, `start + step`, … along `axis`, `count` of them.
    pub(super) fn slice(&self, axis: usize, start: usize, count: usize, step: usize) -> View {
        let mut view = self.clone();
        view.offset += start * view.strides[axis];
        view.dims[axis] = count;
        view.strides[axis] *= step;
        view
    }

    /// Without the axes `axes`, each at its position 0.
    pub(super) fn without(&self, axes: &[usize]) -> View {
        let keep = |&a: &usize| !axes.contains(&a);
        View {
            dims: (0..self.rank()).filter(keep).map(|a| self.dims[a]).collect(),
            strides: (0..self.rank()).filter(keep).map(|a| self.strides[a]).collect(),
            ..*self
        }
    }

    /// With axes of length 1 so that they come to stand at `axes` (ascending).
    pub(super) fn with_ones(&self, axes: &[usize]) -> View {
        let mut view = self.clone();
        for &axis in axes {
            view.dims.insert(axis, 1);
            view.strides.insert(axis, 1);
        }
        view
    }

    /// Repeated along axes of length 1 and new axes in front, to `dims`.
    pub(super) fn expand(&self, dims: &[usize]) -> View {
        let new = dims.len() - self.rank();
        let strides = (0..dims.len()).map(|a| match a.checked_sub(new) {
            Some(old) if self.dims[old] == dims[a] => self.strides[old],
            _ => 0,
        });
        View { dims: dims.to_vec(), strides: strides.collect(), ..*self }
    }

    /// The same values in the same logical order under other lengths, if a view can show that.
    pub(super) fn reshape(&self, dims: &[usize]) -> Option<View> {
        let old: Vec<(usize, usize)> =
            self.dims.iter().copied().zip(self.strides.iter().copied()).filter(|(d, _)| *d != 1).collect();
        let mut strides = vec![1; dims.len()];
        let (mut from, mut to) = (0, 0);
        while from < old.len() {
            // The smallest group of old axes that is a group of new axes.
            let (mut old_end, mut new_end) = (from + 1, to + 1);
            let (mut old_len, mut new_len) = (old[from].0, *dims.get(to)?);
            while old_len != new_len {
                if new_len < old_len {
                    new_len *= *dims.get(new_end)?;
                    new_end += 1;
                } else {
                    old_len *= old.get(old_end)?.0;
                    old_end += 1;
                }
            }
            if (from + 1..old_end).any(|a| old[a - 1].1 != old[a].1 * old[a].0) {
                return None;
            }
            let mut step = old[old_end - 1].1;
            for axis in (to..new_end).rev() {
                strides[axis] = step;
                step *= dims[axis];
            }
            (from, to) = (old_end, new_end);
        }
        (dims[to..].iter().all(|&d| d == 1)).then(|| View { dims: dims.to_vec(), strides, ..*self })
    }

    /// Offsets of all values when walked in the order `order`.
    pub(super) fn offsets(&self, order: &[usize]) -> impl Iterator<Item = usize> + '_ {
        let order = order.to_vec();
        let mut index = vec![0usize; order.len()];
        let (mut at, len) = (self.offset, self.len());
        (0..len).map(move |_| {
            let here = at;
            for (slot, &axis) in order.iter().enumerate().rev() {
                index[slot] += 1;
                at += self.strides[axis];
                if index[slot] < self.dims[axis] {
                    break;
                }
                at -= index[slot] * self.strides[axis];
                index[slot] = 0;
            }
            here
        })
    }
}

/// The lengths two tensors broadcast to, `None` if they do not.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let length = |dims: &[usize], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(1, |i| dims[i]);
    (0..rank)
        .map(|axis| match (length(a, axis), length(b, axis)) {
            (x, y) if x == y => Some(x),
            (1, x) | (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 1×C×H×W tensor as convolutions leave it: H, W, C in memory.
    fn map(c: usize, h: usize, w: usize) -> View {
        View::dense(1, vec![1, c, h, w], &[0, 2, 3, 1])
    }

    #[test]
    fn pixels_become_tokens_without_a_copy() {
        let tokens = map(8, 3, 5).reshape(&[1, 8, 15]).unwrap().transpose(&[0, 2, 1]);
        assert!(tokens.is_dense(&[0, 1, 2]));
        let back = tokens.transpose(&[0, 2, 1]).reshape(&[1, 8, 3, 5]).unwrap();
        assert!(back.is_dense(&[0, 2, 3, 1]));
    }

    #[test]
    fn flattening_channels_last_needs_a_copy() {
        assert_eq!(map(8, 3, 5).reshape(&[1, 120]), None);
        assert!(map(8, 1, 1).reshape(&[1, 8]).unwrap().is_dense(&[0, 1]));
    }

    #[test]
    fn heads_split_off_channels() {
        let qkv = View::dense(1, vec![1, 7, 3 * 2 * 4], &[0, 1, 2]);
        let split = qkv.reshape(&[1, 7, 3, 2, 4]).unwrap().transpose(&[2, 0, 3, 1, 4]);
        let k = split.slice(0, 1, 1, 1).without(&[0]);
        assert_eq!((k.dims, k.strides, k.offset), (vec![1, 2, 7, 4], vec![168, 4, 24, 1], 8));
    }

    #[test]
    fn offsets_follow_the_order() {
        let view = map(2, 1, 3).slice(3, 1, 2, 1);
        assert_eq!(view.offsets(&[0, 1, 2, 3]).collect::<Vec<_>>(), [2, 4, 3, 5]);
        assert_eq!(view.offsets(&[0, 2, 3, 1]).collect::<Vec<_>>(), [2, 3, 4, 5]);
    }

    #[test]
    fn broadcasting() {
        assert_eq!(broadcast(&[2, 1, 4], &[3, 1]), Some(vec![2, 3, 4]));
        assert_eq!(broadcast(&[2], &[3]), None);
        let view = View::dense(1, vec![3, 1], &[0, 1]).expand(&[2, 3, 4]);
        assert_eq!(view.strides, [0, 1, 0]);
    }
}
