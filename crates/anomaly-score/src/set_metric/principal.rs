//! Principal components of a set of features.

use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use super::{Features, Moments};
use crate::stats::counter_rng;
use crate::{Error, ErrorKind, Result};

/// Directions iterated beyond those asked for: what is lost of the last one shrinks by their eigenvalues' ratio.
const SPARE: usize = 32;
/// A direction is found when C·v is this close to λ·v, relative to the largest λ.
const TOLERANCE: f64 = 1e-10;
/// Rounds before giving up.
const ROUNDS: usize = 2000;

/// The leading principal axes of a set, and its mean.
pub(crate) struct Axes {
    mean: Vec<f64>,
    /// An axis after the other, D values each, of unit length.
    axes: Vec<Vec<f64>>,
}

/// The `count` principal axes of largest variance (or as many as D allows), by subspace iteration with Rayleigh–Ritz
/// steps. D²·8 bytes and O(D²) a round for each axis.
///
/// # Errors
/// `TooFewImages` for fewer than two images; `Unsupported` if the iteration does not settle, which takes a spectrum
/// flat to 10⁻³ from axis `count` to 32 axes on.
///
/// # Source
/// Saad 2011, "Numerical Methods for Large Eigenvalue Problems", algorithm 5.3.
pub(crate) fn principal_components(set: Features, count: usize, seed: u64) -> Result<Axes> {
    let dim = set.dim();
    let gaussian = Moments::of(set).gaussian(1)?;
    let covariance = gaussian.covariance();
    let (count, width) = (count.min(dim), (count + SPARE).min(dim));
    let mut rng = counter_rng(seed, "set_metric/principal", b"");
    let mut axes: Vec<Vec<f64>> =
        (0..width).map(|_| (0..dim).map(|_| StandardNormal.sample(&mut rng)).collect()).collect();
    let times_covariance = |axes: &[Vec<f64>]| -> Vec<Vec<f64>> {
        axes.par_iter().map(|v| covariance.chunks_exact(dim).map(|row| dot(row, v)).collect()).collect()
    };
    for _ in 0..ROUNDS {
        orthonormalise(&mut axes);
        let image = times_covariance(&axes);
        let mut small = vec![0.0; width * width];
        for i in 0..width {
            for j in 0..=i {
                small[i * width + j] = dot(&axes[i], &image[j]);
                small[j * width + i] = small[i * width + j];
            }
        }
        let (values, vectors) = jacobi(small, width);
        let turned = |of: &[Vec<f64>]| -> Vec<Vec<f64>> {
            let combine = |v: &Vec<f64>| {
                let mut sum = vec![0.0; dim];
                for (weight, part) in v.iter().zip(of) {
                    sum.iter_mut().zip(part).for_each(|(s, p)| *s += weight * p);
                }
                sum
            };
            vectors.par_iter().map(combine).collect()
        };
        axes = turned(&axes);
        let image = turned(&image);
        let settled = (0..count).all(|i| {
            let off = axes[i].iter().zip(&image[i]).map(|(v, cv)| (cv - values[i] * v).powi(2)).sum::<f64>();
            off.sqrt() <= TOLERANCE * values[0]
        });
        if settled {
            axes.truncate(count);
            return Ok(Axes { mean: gaussian.mean().to_vec(), axes });
        }
        axes = image;
    }
    Err(Error::new(ErrorKind::Unsupported, "features", "their principal components cannot be told apart")
        .remedy("Give more images, or ask for another number of components."))
}

impl Axes {
    /// Number of axes.
    pub(crate) fn n(&self) -> usize {
        self.axes.len()
    }

    /// Coordinates of every image along the axes, N×[`Axes::n`].
    pub(crate) fn project(&self, set: Features) -> Vec<f32> {
        let project = |row: &[f32]| -> Vec<f32> {
            let centred: Vec<f64> = row.iter().zip(&self.mean).map(|(&x, m)| f64::from(x) - m).collect();
            self.axes.iter().map(|axis| dot(axis, &centred) as f32).collect()
        };
        set.values().par_chunks_exact(set.dim()).flat_map_iter(project).collect()
    }
}

/// x·y, in eight strands.
fn dot(x: &[f64], y: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (mut xs, mut ys) = (x.chunks_exact(8), y.chunks_exact(8));
    for (x, y) in (&mut xs).zip(&mut ys) {
        for s in 0..8 {
            sums[s] += x[s] * y[s];
        }
    }
    let rest: f64 = xs.remainder().iter().zip(ys.remainder()).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f64>() + rest
}

/// Gram–Schmidt, each vector twice; one that depends on those before it becomes 0.
fn orthonormalise(vectors: &mut [Vec<f64>]) {
    for i in 0..vectors.len() {
        let (before, rest) = vectors.split_at_mut(i);
        let vector = &mut rest[0];
        let length = dot(vector, vector).sqrt();
        for _ in 0..2 {
            for other in before.iter() {
                let share = dot(vector, other);
                vector.iter_mut().zip(other).for_each(|(v, o)| *v -= share * o);
            }
        }
        let left = dot(vector, vector).sqrt();
        let scale = if left > 1e-14 * length { 1.0 / left } else { 0.0 };
        vector.iter_mut().for_each(|v| *v *= scale);
    }
}

/// Eigenvalues, largest first, and eigenvectors of a small symmetric matrix by cyclic Jacobi rotations.
fn jacobi(mut a: Vec<f64>, n: usize) -> (Vec<f64>, Vec<Vec<f64>>) {
    let mut vectors: Vec<Vec<f64>> =
        (0..n).map(|i| (0..n).map(|j| if i == j { 1.0 } else { 0.0 }).collect()).collect();
    let size: f64 = a.iter().map(|v| v * v).sum();
    for _ in 0..60 {
        let off: f64 =
            (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i * n + j].powi(2)).sum();
        if off <= 1e-32 * size {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                let apq = a[p * n + q];
                if apq == 0.0 {
                    continue;
                }
                let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for k in 0..n {
                    let (x, y) = (a[k * n + p], a[k * n + q]);
                    a[k * n + p] = c * x - s * y;
                    a[k * n + q] = s * x + c * y;
                }
                for k in 0..n {
                    let (x, y) = (a[p * n + k], a[q * n + k]);
                    a[p * n + k] = c * x - s * y;
                    a[q * n + k] = s * x + c * y;
                }
                for k in 0..n {
                    let (x, y) = (vectors[p][k], vectors[q][k]);
                    vectors[p][k] = c * x - s * y;
                    vectors[q][k] = s * x + c * y;
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| a[j * n + j].total_cmp(&a[i * n + i]));
    (order.iter().map(|&i| a[i * n + i]).collect(), order.into_iter().map(|i| vectors[i].clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rotated axes of known spread: the components are those axes, to the tolerance over the gap between variances.
    #[test]
    fn axes_of_a_rotated_ellipsoid_are_found() {
        // Points ±sᵢ along orthogonal directions uᵢ have covariance Σ 2sᵢ²uᵢuᵢᵀ/(n − 1).
        let (h, directions) = (0.5f32, [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]);
        let mut values = Vec::new();
        for (spread, direction) in [5.0, 3.0, 2.0, 1.0].into_iter().zip(directions) {
            for sign in [1.0, -1.0] {
                values.extend(direction.map(|d| 7.0 + sign * spread * h * d as f32));
            }
        }
        let set = Features::new("set", &values, 4).unwrap();
        let axes = principal_components(set, 2, 3).unwrap();
        assert_eq!(axes.n(), 2);
        for (row, expected) in
            axes.project(set).chunks(2).zip([[5.0, 0.0], [5.0, 0.0], [0.0, 3.0], [0.0, 3.0]])
        {
            for (found, expected) in row.iter().zip(expected) {
                assert!((found.abs() - expected).abs() < 1e-6, "{row:?}");
            }
        }
    }
}
