//! Resizing position embeddings to another grid, bicubic, as upstream code does it.

/// How a checkpoint's code resizes its position embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PositionResize {
    /// Cubic convolution with a = −0.75, edges repeated, no smoothing; `offset` is added to
    /// the number of output cells when the step is computed. DINOv2 without registers: 0.1
    /// (facebookresearch/dinov2 e1277af, `vision_transformer.py::interpolate_pos_encoding`).
    Cubic {
        /// Cells added to the output grid when its step is computed.
        offset: f64,
    },
    /// Cubic convolution with a = −0.5, widened when shrinking so that nothing is skipped
    /// (PyTorch's `antialias=True`). DINOv2 with registers.
    CubicAntialias,
}

/// Resizes a `from`×`from` grid of `channels` values to `to`×`to`.
///
/// `grid`: from·from·channels values, row-major, channels last. Sums in f64.
pub fn resize_position(
    grid: &[f32],
    from: usize,
    to: usize,
    channels: usize,
    how: PositionResize,
) -> Vec<f32> {
    assert_eq!(grid.len(), from * from * channels, "the grid has the length its shape says");
    if from == to {
        return grid.to_vec();
    }
    let taps: Vec<Vec<(usize, f64)>> = (0..to).map(|i| taps(i, from, to, how)).collect();
    let mut across = vec![0f64; from * to * channels];
    for y in 0..from {
        for (x, taps) in taps.iter().enumerate() {
            for &(i, weight) in taps {
                for c in 0..channels {
                    across[(y * to + x) * channels + c] +=
                        weight * grid[(y * from + i) * channels + c] as f64;
                }
            }
        }
    }
    let mut result = vec![0f64; to * to * channels];
    for (y, taps) in taps.iter().enumerate() {
        for &(i, weight) in taps {
            for j in 0..to * channels {
                result[y * to * channels + j] += weight * across[i * to * channels + j];
            }
        }
    }
    result.into_iter().map(|x| x as f32).collect()
}

/// Source cells and weights of output cell `i`.
fn taps(i: usize, from: usize, to: usize, how: PositionResize) -> Vec<(usize, f64)> {
    match how {
        PositionResize::Cubic { offset } => {
            let step = from as f64 / (to as f64 + offset);
            let centre = (i as f64 + 0.5) * step - 0.5;
            let base = centre.floor();
            (-1..=2)
                .map(|d| {
                    let cell = (base as i64 + d).clamp(0, from as i64 - 1) as usize;
                    (cell, cubic(centre - base - d as f64, -0.75))
                })
                .collect()
        }
        PositionResize::CubicAntialias => {
            let step = from as f64 / to as f64;
            let scale = step.max(1.0);
            let centre = (i as f64 + 0.5) * step;
            let low = ((centre - 2.0 * scale + 0.5).floor().max(0.0)) as usize;
            let high = ((centre + 2.0 * scale + 0.5).floor() as usize).min(from);
            let weights: Vec<f64> =
                (low..high).map(|j| cubic((j as f64 - centre + 0.5) / scale, -0.5)).collect();
            let total: f64 = weights.iter().sum();
            (low..high).zip(weights).map(|(j, w)| (j, w / total)).collect()
        }
    }
}

/// Keys' cubic convolution kernel (1981) with parameter `a`.
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The weights of every output cell sum to one.
    #[test]
    fn constants_stay() {
        for how in [PositionResize::Cubic { offset: 0.1 }, PositionResize::CubicAntialias] {
            for v in resize_position(&[2.5; 37 * 37], 37, 16, 1, how) {
                assert!((v - 2.5).abs() < 1e-6, "{how:?}: {v}");
            }
        }
    }
}
