use super::*;
use crate::kernel::gemm::gemm;
use crate::kernel::pack::Packed;
use crate::op::Slope;
use crate::op::activation::Activation;

const SCHEMES: [Scheme; 7] = [
    Scheme::square(2, 3),
    Scheme::square(4, 3),
    Scheme::square(2, 5),
    Scheme::across(2, 7),
    Scheme::down(2, 7),
    Scheme::across(4, 3),
    Scheme::down(4, 3),
];

/// Numbers with about the normal distribution's spread.
fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next() + next() + next()).collect()
}

fn wide<T: Real>(x: &[f32]) -> Vec<T> {
    x.iter().map(|&x| T::of_f32(x)).collect()
}

/// The sum that the definition gives for one output.
fn defined(
    scheme: Scheme,
    place: Place,
    x: &[f32],
    weight: &[f32],
    (y, column, o): (usize, usize, usize),
) -> f64 {
    let (kh, kw) = (scheme.rows.taps, scheme.columns.taps);
    let Shape { h, w, c } = place.input;
    let mut sum = 0.0;
    for i in 0..kh {
        for j in 0..kw {
            let (iy, ix) = ((y + i) as isize - place.top, (column + j) as isize - place.left);
            if (0..h as isize).contains(&iy) && (0..w as isize).contains(&ix) {
                for k in 0..c {
                    let value = x[(iy as usize * w + ix as usize) * c + k];
                    sum += f64::from(value) * f64::from(weight[((o * c + k) * kh + i) * kw + j]);
                }
            }
        }
    }
    sum
}

fn distance_from<T: Real>(found: &[T], expected: &[f64]) -> f64 {
    let square = |x: f64| x * x;
    let difference: f64 = found.iter().zip(expected).map(|(a, b)| square(a.f64() - b)).sum();
    (difference / expected.iter().map(|&b| square(b)).sum::<f64>()).sqrt()
}

/// All of the epilogue, two images, paddings on every side and none, channels that do not fill a register.
fn agrees<T: Real>(tolerance: f64) {
    for (scheme, isa) in SCHEMES.into_iter().flat_map(|s| Isa::available().into_iter().map(move |i| (s, i))) {
        for (h, w, (top, left), (oh, ow)) in [
            (9, 10, (1, 1), (9, 10)),
            (7, 5, (0, 0), (5, 3)),
            (6, 6, (2, -1), (8, 5)),
            (1, 1, (1, 1), (1, 1)),
        ] {
            let (c, n) = (19, 37);
            let place = Place { input: Shape::new(h, w, c), output: Shape::new(oh, ow, n), top, left };
            let x = values(2 * place.input.len(), 1);
            let weight = values(n * c * scheme.rows.taps * scheme.columns.taps, 2);
            let (bias, len) = (values(n, 3), 2 * place.output.len());
            let (residual, before, slope) = (values(len, 4), values(len, 5), values(len, 6));
            let winograd = Winograd::<T>::new(isa, scheme, &weight, n, c);
            let mut scratch = vec![T::ZERO; winograd.scratch(1, place, 2)];
            let mut y: Vec<T> = wide(&before);
            let (bias_t, residual_t, slope_t) = (wide::<T>(&bias), wide::<T>(&residual), wide::<T>(&slope));
            let epilogue = Epilogue {
                bias: Some(&bias_t),
                biased: place.output.len(),
                residual: Some(&residual_t),
                accumulate: true,
                activation: Activation::Relu,
                derivative: None,
                slope: Some(Slope::Saved(&slope_t)),
            };
            let images = wide::<T>(&x);
            winograd.convolve(1, isa, place, &images, &mut y, epilogue, &mut scratch);
            let mut expected = Vec::new();
            for (i, &slope) in slope.iter().enumerate() {
                let (plane, at) = (i / place.output.len(), i % place.output.len());
                let of = (at / (ow * n), at / n % ow, at % n);
                let image = &x[plane * place.input.len()..][..place.input.len()];
                let sum = defined(scheme, place, image, &weight, of);
                let bias = if plane == 0 { bias[of.2] } else { 0.0 };
                let sum = sum + f64::from(bias) + f64::from(residual[i]) + f64::from(before[i]);
                expected.push(sum.max(0.0) * f64::from(slope));
            }
            let error = distance_from(&y, &expected);
            assert!(error < tolerance, "{scheme:?}, {}, {h}×{w}: {error:e}", isa.name());

            // ⟨convolution of x, g⟩ = ⟨x, reversed convolution of g⟩
            let (x, g) = (wide::<T>(&x[..place.input.len()]), wide::<T>(&residual[..place.output.len()]));
            let (mut y, mut back) = (vec![T::ZERO; g.len()], vec![T::ZERO; x.len()]);
            winograd.convolve(1, isa, place, &x, &mut y, Epilogue::default(), &mut scratch);
            let reversed = winograd.reversed();
            let away = Place {
                input: place.output,
                output: place.input,
                top: scheme.rows.taps as isize - 1 - top,
                left: scheme.columns.taps as isize - 1 - left,
            };
            let mut scratch = vec![T::ZERO; reversed.scratch(1, away, 1)];
            reversed.convolve(1, isa, away, &g, &mut back, Epilogue::default(), &mut scratch);
            let dot = |a: &[T], b: &[T]| a.iter().zip(b).map(|(a, b)| a.f64() * b.f64()).sum::<f64>();
            let size = (dot(&y, &y) * dot(&g, &g)).sqrt();
            let error = (dot(&y, &g) - dot(&x, &back)).abs() / size.max(f64::MIN_POSITIVE);
            assert!(error < tolerance, "{scheme:?} reversed, {}, {h}×{w}: {error:e}", isa.name());
        }
    }
}

/// A few hundred products; the transforms lose a digit.
#[test]
fn agrees_with_the_definition() {
    agrees::<f32>(3e-6);
    agrees::<f64>(5e-15);
}

/// A line of the table in docs/accuracy.md: relative L2 errors of the plain product and of schemes.
struct Layer {
    side: usize,
    channels: usize,
    plain: f64,
    schemes: &'static [(Scheme, f64)],
}

const fn layer(side: usize, channels: usize, plain: f64, schemes: &'static [(Scheme, f64)]) -> Layer {
    Layer { side, channels, plain, schemes }
}

const DOCUMENTED: [Layer; 7] = [
    layer(56, 64, 3.0e-7, &[(Scheme::square(2, 3), 2.3e-7), (Scheme::square(4, 3), 6.3e-7)]),
    layer(28, 128, 4.3e-7, &[(Scheme::square(2, 3), 3.1e-7), (Scheme::square(4, 3), 9.0e-7)]),
    layer(14, 256, 5.9e-7, &[(Scheme::square(2, 3), 4.2e-7), (Scheme::square(4, 3), 1.2e-6)]),
    layer(7, 512, 8.2e-7, &[(Scheme::square(2, 3), 5.8e-7), (Scheme::square(4, 3), 1.6e-6)]),
    layer(35, 48, 4.2e-7, &[(Scheme::square(2, 5), 6.5e-7)]),
    layer(17, 192, 4.6e-7, &[(Scheme::across(2, 7), 1.1e-6), (Scheme::down(2, 7), 1.1e-6)]),
    layer(8, 384, 4.1e-7, &[(Scheme::across(4, 3), 6.6e-7), (Scheme::down(4, 3), 6.7e-7)]),
];

/// ResNet-50's and Inception's layers at a few dozen pixels, against sums in f64.
#[test]
fn errors_are_those_documented() {
    let isa = Isa::detect();
    // The table rounds to two digits; the portable set rounds products too.
    let margin = if isa == Isa::Portable { 1.5 } else { 1.05 };
    for Layer { side, channels: c, plain, schemes } in DOCUMENTED {
        for (i, &(scheme, documented)) in schemes.iter().enumerate() {
            let (kh, kw) = (scheme.rows.taps, scheme.columns.taps);
            let (taps, shape) = (kh * kw, Shape::new(side, side, c));
            let (top, left) = (kh as isize / 2, kw as isize / 2);
            let place = Place { input: shape, output: shape, top, left };
            // As behind a ReLU, and weights that keep its size.
            let x: Vec<f32> = values(shape.len(), 1).iter().map(|v| v.max(0.0)).collect();
            let scale = (2.0 / (taps * c) as f32).sqrt();
            let weight: Vec<f32> = values(taps * c * c, 2).iter().map(|v| v * scale).collect();
            let pixels: Vec<(usize, usize)> = (0..24).map(|i| (i * 5 % side, i * 11 % side)).collect();
            let at = |o| pixels.iter().map(move |&(y, x)| (y, x, o));
            let expected: Vec<f64> =
                (0..c).flat_map(at).map(|of| defined(scheme, place, &x, &weight, of)).collect();
            let winograd = Winograd::<f32>::new(isa, scheme, &weight, c, c);
            let mut scratch = vec![0f32; winograd.scratch(1, place, 1)];
            let mut y = vec![0f32; shape.len()];
            winograd.convolve(1, isa, place, &x, &mut y, Epilogue::default(), &mut scratch);
            let found: Vec<f32> = (0..c).flat_map(at).map(|(i, j, o)| y[(i * side + j) * c + o]).collect();
            let error = distance_from(&found, &expected);
            assert!(error < margin * documented, "{side}×{side}×{c}, {scheme:?}: {error:e}");
            if i > 0 {
                continue;
            }
            // The plain product of these pixels' patches.
            let k = taps * c;
            let mut patches = vec![0f32; pixels.len() * k];
            for (&(y, column), patch) in pixels.iter().zip(patches.chunks_exact_mut(k)) {
                for tap in 0..taps {
                    let iy = (y + tap / kw).wrapping_add_signed(-top);
                    let ix = (column + tap % kw).wrapping_add_signed(-left);
                    if iy < side && ix < side {
                        for i in 0..c {
                            patch[i * taps + tap] = x[(iy * side + ix) * c + i];
                        }
                    }
                }
            }
            let packed = Packed::new(isa, k, c, &weight, 1, k);
            let mut y = vec![0f32; pixels.len() * c];
            gemm(isa, pixels.len(), Left::rows(&patches, k), &packed, &mut y, c, Epilogue::default());
            let found: Vec<f32> = (0..c).flat_map(|o| y.iter().skip(o).step_by(c).copied()).collect();
            let error = distance_from(&found, &expected);
            assert!(error < margin * plain, "{side}×{side}×{c}, plain: {error:e}");
        }
    }
}
