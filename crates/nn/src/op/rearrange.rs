//! Copying values to other places: permute, reshape, window partition, roll, pad, concatenate,
//! repeat. One operator does them all, from a list of where each run of values comes from.

use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

/// A run of zeros in [`Rearrangement::runs`].
pub const ZERO: u32 = u32::MAX;

/// Where each run of an output comes from.
///
/// Sources are numbered through: the constants first, then the inputs one after the other,
/// each from its first value to its last.
#[derive(Clone, Debug, PartialEq)]
pub struct Rearrangement {
    /// Values that come from no input.
    pub constants: Vec<f32>,
    /// Values that lie next to each other on both sides.
    pub run: usize,
    /// Number of the first value of each run, or [`ZERO`].
    pub runs: Vec<u32>,
}

impl Rearrangement {
    /// The rearrangement that takes output value i from `sources[i]`, with the longest runs possible.
    /// `ends`: where in the numbering each source ends, ascending; no run goes over an end.
    pub fn new(constants: Vec<f32>, sources: &[u32], ends: &[usize]) -> Self {
        let follows = |a: u32, b: u32| {
            if a == ZERO || b == ZERO {
                a == b
            } else {
                b == a + 1 && ends.binary_search(&(b as usize)).is_err()
            }
        };
        let (mut run, mut length) = (0, 0);
        for i in 0..sources.len() {
            length += 1;
            if i + 1 == sources.len() || !follows(sources[i], sources[i + 1]) {
                run = gcd(run, length);
                length = 0;
            }
        }
        let run = run.max(1);
        Rearrangement { constants, run, runs: sources.iter().step_by(run).copied().collect() }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A rearrangement ready to run.
pub(crate) struct RearrangeRule<T> {
    constants: Vec<T>,
    run: usize,
    runs: Vec<u32>,
    /// Number of the first value of each input.
    starts: Vec<usize>,
}

impl<T: Real> RearrangeRule<T> {
    pub(crate) fn new(map: &Rearrangement, inputs: &[Shape]) -> Self {
        let constants: Vec<T> = map.constants.iter().map(|&x| T::of_f32(x)).collect();
        let mut starts = Vec::with_capacity(inputs.len());
        let mut start = constants.len();
        for shape in inputs {
            starts.push(start);
            start += shape.len();
        }
        RearrangeRule { constants, run: map.run, runs: map.runs.clone(), starts }
    }

    /// The input that holds value `number`, `None` for a constant, and its place there.
    #[inline(always)]
    fn place(&self, number: u32) -> (Option<usize>, usize) {
        let number = number as usize;
        match self.starts.partition_point(|&s| s <= number).checked_sub(1) {
            Some(input) => (Some(input), number - self.starts[input]),
            None => (None, number),
        }
    }

    fn copy(&self, x: &[&[T]], y: &mut [T], with_constants: bool) {
        if self.run == 1 && x.len() == 1 && self.constants.is_empty() {
            for (y, &from) in y.iter_mut().zip(&self.runs) {
                *y = if from == ZERO { T::ZERO } else { x[0][from as usize] };
            }
            return;
        }
        for (y, &from) in y.chunks_exact_mut(self.run).zip(&self.runs) {
            if from == ZERO {
                y.fill(T::ZERO);
                continue;
            }
            match self.place(from) {
                (Some(input), at) => y.copy_from_slice(&x[input][at..at + self.run]),
                (None, at) if with_constants => y.copy_from_slice(&self.constants[at..at + self.run]),
                (None, _) => y.fill(T::ZERO),
            }
        }
    }
}

impl<T: Real> Rule<T> for RearrangeRule<T> {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        _: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let planes = x[0].planes();
        let mut y = ws.like(x[0], shape);
        for p in 0..planes {
            let from: Vec<&[T]> = x.iter().map(|x| x.plane(p)).collect();
            self.copy(&from, y.plane_mut(p), p == 0);
        }
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        let mut dx: Vec<Tensor<T>> = back.shapes.iter().map(|&shape| ws.zeros_like(&grad, shape)).collect();
        for (g, &from) in grad.data.chunks_exact(self.run).zip(&self.runs) {
            if from == ZERO {
                continue;
            }
            if let (Some(input), at) = self.place(from) {
                dx[input].data[at..at + self.run].iter_mut().zip(g).for_each(|(d, g)| *d += *g);
            }
        }
        ws.pool.give(grad.data);
        for (&node, dx) in back.nodes.iter().zip(dx) {
            into.add(ws, node, dx);
        }
    }

    fn takes_one_image(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_as_long_as_all_allow() {
        let map = Rearrangement::new(vec![], &[4, 5, 6, 7, 0, 1, ZERO, ZERO], &[]);
        assert_eq!((map.run, map.runs), (2, vec![4, 6, 0, ZERO]));
        // Two inputs of three values each: the run ends where the first does.
        let map = Rearrangement::new(vec![], &[0, 1, 2, 3, 4, 5], &[3, 6]);
        assert_eq!((map.run, map.runs), (3, vec![0, 3]));
    }
}
