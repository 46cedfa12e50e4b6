//! Complexity: how much the feature path bends along a straight line in image space.

use nn::real::Real;
use rand_chacha::rand_core::Rng;
use rand_distr::{Distribution, StandardNormal};

use super::{Measurer, Subject, by_image, distance, norm};
use crate::Result;
use crate::stats::counter_rng;
use crate::table::Noise;

/// Half the distance of the two probes of the noise floor, in steps of the path. Small enough that
/// bends and kinks between the probes weigh 1/1024 and 1/32 of what they do in C, large enough that
/// every pixel moves by several units of f32 rounding.
const PROBE: f64 = 1.0 / 32.0;

impl<T: Real> Measurer<'_, T> {
    /// n: the direction, of unit L2 length over the whole image, laid out as the image.
    fn direction(&self, len: usize, content_hash: &[u8; 32]) -> Vec<f64> {
        let mut rng = counter_rng(self.seed, "measure/direction", content_hash);
        let mut n: Vec<f64> = match self.constants.noise {
            Noise::Gaussian => (0..len).map(|_| StandardNormal.sample(&mut rng)).collect(),
            Noise::Uniform => (0..len).map(|_| uniform(&mut rng)).collect(),
        };
        let length = norm(n.iter().copied());
        n.iter_mut().for_each(|v| *v /= length);
        n
    }

    /// n of each image.
    fn directions(&self, images: &[Subject<T>]) -> Vec<Vec<f64>> {
        images.iter().map(|image| self.direction(image.pixels.len(), image.content_hash)).collect()
    }

    /// M(x), C and noise floor of each image at each of `outputs` (no output twice) by the K steps of the paper.
    pub(super) fn path_complexity(&mut self, images: &[Subject<T>], outputs: &[usize]) -> Vec<Vec<Bend<T>>> {
        let directions = self.directions(images);
        let lines: Vec<_> = images.iter().zip(&directions).map(|(i, n)| (i.pixels, &n[..])).collect();
        self.path_complexity_along(&lines, outputs)
    }

    /// M(x) and C of each image at each of `outputs` from the second derivative.
    pub(super) fn curvature(
        &mut self,
        images: &[Subject<T>],
        outputs: &[usize],
    ) -> Result<Vec<Vec<Bend<T>>>> {
        let directions = self.directions(images);
        images.iter().zip(&directions).map(|(i, n)| self.curvature_along(i.pixels, n, outputs)).collect()
    }

    /// [`Measurer::path_complexity`] along `lines`, (x, n) each: features in T at x_t = clamp(x + t·ε·n, 0, 1), angles in
    /// f64. All outputs share one path.
    ///
    /// The noise floor is the angle that rounding alone makes: the second difference of the
    /// feature over a stretch too short for the network to bend, as long as C's own second
    /// difference would be if the path were straight, over the mean step ‖v_k‖. Rounding adds to
    /// the true angle as √(true² + floor²).
    pub(super) fn path_complexity_along(
        &mut self,
        lines: &[(&[T], &[f64])],
        outputs: &[usize],
    ) -> Vec<Vec<Bend<T>>> {
        let steps = self.constants.steps;
        let middle = steps / 2;
        let probes = [f64::from(middle) - PROBE, f64::from(middle) + PROBE];
        let times: Vec<f64> = (0..=steps).map(f64::from).chain(probes).collect();
        let points: Vec<_> = lines.iter().flat_map(|&line| times.iter().map(move |&t| (line, t))).collect();
        let pass = outputs.iter().map(|&o| self.network.images_of_a_pass(o, false)).min().unwrap_or(1);
        let mut features = Vec::with_capacity(points.len());
        for points in points.chunks(pass) {
            let moved: Vec<Vec<T>> = points
                .iter()
                .map(|&((x, n), t)| {
                    let step = t * self.constants.epsilon;
                    x.iter().zip(n).map(|(x, n)| T::of((x.f64() + step * n).clamp(0.0, 1.0))).collect()
                })
                .collect();
            let moved: Vec<&[T]> = moved.iter().map(|x| &x[..]).collect();
            features.extend(self.features(&moved, outputs));
        }
        let mut features = features.into_iter();
        let bends = |_| {
            let path: Vec<Vec<Vec<T>>> = features.by_ref().take(times.len()).collect();
            let mut paths = by_image(outputs.len(), path);
            let of_output = |path: &mut Vec<Vec<T>>| {
                let (after, before) = (path.pop(), path.pop());
                let probed = "two probes end the path";
                bend(std::mem::take(path), middle as usize, &before.expect(probed), &after.expect(probed))
            };
            paths.iter_mut().map(of_output).collect()
        };
        lines.iter().map(bends).collect()
    }

    /// [`Measurer::curvature`] along n: ε·‖P g″‖/‖g′‖ with g(t) = M(x + t·n̂), P the
    /// projection orthogonal to g′. n̂ is n without the entries that point out of the box.
    pub(super) fn curvature_along(&mut self, x: &[T], n: &[f64], outputs: &[usize]) -> Result<Vec<Bend<T>>> {
        let inside: Vec<T> = x
            .iter()
            .zip(n)
            .map(|(&x, &n)| {
                let points_out = (x <= T::ZERO && n < 0.0) || (x >= T::ONE && n > 0.0);
                if points_out { T::ZERO } else { T::of(n) }
            })
            .collect();
        let jets = match *outputs {
            [output] => vec![self.network.jet_at(&mut self.workspace, x, &inside, output)?],
            _ => {
                let mut all = self.network.jets(&mut self.workspace, x, &inside)?;
                outputs.iter().map(|&o| std::mem::take(&mut all[o])).collect()
            }
        };
        let bent = |[feature, first, second]: [Vec<T>; 3]| {
            let speed_squared: f64 = first.iter().map(|v| v.f64().powi(2)).sum();
            let along: f64 = first.iter().zip(&second).map(|(a, b)| a.f64() * b.f64()).sum();
            let share = along / speed_squared;
            let bend = norm(first.iter().zip(&second).map(|(a, b)| b.f64() - share * a.f64()));
            let complexity = self.constants.epsilon * bend / speed_squared.sqrt();
            Bend { feature, complexity: Some(complexity).filter(|c| c.is_finite()), noise_floor: None }
        };
        Ok(jets.into_iter().map(bent).collect())
    }
}

/// How much one output bends along the line.
pub(super) struct Bend<T> {
    /// M(x).
    pub(super) feature: Vec<T>,
    /// C, radians; `None` where a step has no angle.
    pub(super) complexity: Option<f64>,
    /// The part of it that is rounding, where that is known.
    pub(super) noise_floor: Option<f64>,
}

/// C and noise floor of one output's `path`; `before` and `after` are its features at the probes around step `middle`.
fn bend<T: Real>(mut path: Vec<Vec<T>>, middle: usize, before: &[T], after: &[T]) -> Bend<T> {
    let lengths: Vec<f64> = path.windows(2).map(|w| distance(&w[1], &w[0])).collect();
    let mean_length = lengths.iter().sum::<f64>() / lengths.len() as f64;
    let at = &path[middle];
    let second = norm((0..at.len()).map(|i| {
        let (a, b, c) = (before[i].f64(), at[i].f64(), after[i].f64());
        (a - b) + (c - b)
    }));
    let floor = (mean_length > 0.0).then(|| second / mean_length);
    let mut sum = 0.0;
    for (k, w) in path.windows(3).enumerate() {
        let inner: f64 = (0..at.len())
            .map(|i| {
                let (a, b, c) = (w[0][i].f64(), w[1][i].f64(), w[2][i].f64());
                (b - a) * (c - b)
            })
            .sum();
        let angle = (inner / (lengths[k] * lengths[k + 1])).clamp(-1.0, 1.0).acos();
        sum += angle;
    }
    // A zero step makes 0/0 = NaN above: there is no angle, and so no mean.
    let complexity = Some(sum / (lengths.len() - 1) as f64).filter(|c| c.is_finite());
    Bend { feature: path.swap_remove(0), complexity, noise_floor: floor.filter(|f| f.is_finite()) }
}

/// A multiple of 2⁻²³ in [−1, 1).
pub(super) fn uniform(rng: &mut impl Rng) -> f64 {
    f64::from(rng.next_u32() >> 8) / f64::from(1u32 << 23) - 1.0
}
