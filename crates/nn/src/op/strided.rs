//! Walking several tensors in step, each with its own strides: what broadcasting and reducing
//! operators share.

/// Drops axes of length 1 and joins neighbouring axes that every operand walks as one.
///
/// `dims`: lengths, the last walked fastest; `strides[o][axis]`: elements operand `o` moves.
pub(crate) fn collapse<const K: usize>(
    dims: &[usize],
    strides: [&[usize]; K],
) -> (Vec<usize>, [Vec<usize>; K]) {
    let mut lengths: Vec<usize> = Vec::new();
    let mut steps: [Vec<usize>; K] = std::array::from_fn(|_| Vec::new());
    for axis in (0..dims.len()).filter(|&a| dims[a] != 1) {
        let joins = lengths.last().is_some()
            && (0..K).all(|o| steps[o].last().is_some_and(|&outer| outer == strides[o][axis] * dims[axis]));
        match lengths.last_mut() {
            Some(length) if joins => {
                *length *= dims[axis];
                for o in 0..K {
                    *steps[o].last_mut().expect("as many steps as lengths") = strides[o][axis];
                }
            }
            _ => {
                lengths.push(dims[axis]);
                for o in 0..K {
                    steps[o].push(strides[o][axis]);
                }
            }
        }
    }
    if lengths.is_empty() {
        lengths.push(1);
        steps.iter_mut().for_each(|s| s.push(1));
    }
    (lengths, steps)
}

/// Calls `visit(offsets)` for every position of all axes but the last, in row-major order.
#[inline(always)]
pub(crate) fn walk<const K: usize>(
    dims: &[usize],
    strides: [&[usize]; K],
    mut visit: impl FnMut([usize; K]),
) {
    let outer = dims.len() - 1;
    if dims.contains(&0) {
        return;
    }
    let mut at = [0; K];
    let mut index = [0usize; MAX_AXES];
    loop {
        visit(at);
        let mut axis = outer;
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            for o in 0..K {
                at[o] += strides[o][axis];
            }
            if index[axis] < dims[axis] {
                break;
            }
            for o in 0..K {
                at[o] -= index[axis] * strides[o][axis];
            }
            index[axis] = 0;
        }
    }
}

/// The most axes a tensor may have.
pub(crate) const MAX_AXES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contiguous_axes_become_one() {
        let (dims, [a, b]) = collapse(&[2, 1, 3, 4], [&[12, 12, 4, 1], &[0, 7, 4, 1]]);
        assert_eq!((dims, a, b), (vec![2, 12], vec![12, 1], vec![0, 1]));
        let (dims, [a]) = collapse(&[2, 3, 4], [&[12, 4, 1]]);
        assert_eq!((dims, a), (vec![24], vec![1]));
        let (dims, [a]) = collapse(&[1, 1], [&[5, 9]]);
        assert_eq!((dims, a), (vec![1], vec![1]));
    }

    #[test]
    fn every_position_is_visited_in_order() {
        let mut seen = Vec::new();
        walk(&[2, 3, 9], [&[100, 10, 1], &[0, 1, 0]], |at| seen.push(at));
        assert_eq!(seen, [[0, 0], [10, 1], [20, 2], [100, 0], [110, 1], [120, 2]]);
    }
}
