//! LayerNorm over the channels of each row. Its scale and shift fold into the linear
//! layers that follow; only the last norm of a network keeps them.

use crate::kernel::vector::{Vector, on_vector};
use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

/// Partial sums kept side by side, so that a row's sum is vector code with a fixed order.
const LANES: usize = 16;

/// LayerNorm ready to run.
pub(crate) struct LayerNormRule<T> {
    pub(crate) eps: T,
    /// (scale, shift), where they could not be folded.
    pub(crate) affine: Option<(Vec<T>, Vec<T>)>,
}

/// Rows worked on together: the sums of one wait for each other, those of four do not.
const ROWS: usize = 4;

/// For each of `R` rows the sum over `c` values, which `term(row, i)` gives a register at a time from value i on: sixteen
/// partial sums side by side, then one after the other, the values behind the last sixteen first. `term` may give anything
/// behind value c.
#[inline(always)]
fn sums<T: Real, V: Vector<T>, const R: usize>(c: usize, term: impl Fn(usize, usize) -> V) -> [T; R] {
    let mut lanes = [[V::splat(T::ZERO); 2]; R];
    let whole = c / LANES * LANES;
    for i in (0..whole).step_by(LANES) {
        for r in 0..R {
            for h in 0..LANES / V::LANES {
                lanes[r][h] = lanes[r][h].add(term(r, i + h * V::LANES));
            }
        }
    }
    let mut totals = [T::ZERO; R];
    for i in (whole..c).step_by(V::LANES) {
        for r in 0..R {
            let mut rest = [T::ZERO; LANES];
            term(r, i).store_part(&mut rest);
            for &x in &rest[..V::LANES.min(c - i)] {
                totals[r] += x;
            }
        }
    }
    let mut parts = [[T::ZERO; LANES]; R];
    for r in 0..R {
        for h in 0..LANES / V::LANES {
            lanes[r][h].store_part(&mut parts[r][h * V::LANES..]);
        }
    }
    for l in 0..LANES {
        for r in 0..R {
            totals[r] += parts[r][l];
        }
    }
    totals
}

/// One register of a row from value `i` on, 0 behind its end.
#[inline(always)]
fn at<T: Real, V: Vector<T>>(row: &[T], i: usize) -> V {
    V::load_part(&row[i..])
}

/// Row `r` of `R` rows of `c` values.
#[inline(always)]
fn row<T, const R: usize>(rows: &[T], c: usize) -> [&[T]; R] {
    let mut all = [rows; R];
    for r in 0..R {
        all[r] = &rows[r * c..(r + 1) * c];
    }
    all
}

/// y ← (x − mean)/√(var + ε) row by row; `scales` receives 1/√(var + ε).
#[inline(always)]
fn normalise<T: Real, V: Vector<T>>(eps: T, c: usize, x: &[T], y: &mut [T], scales: &mut [T]) {
    let together = scales.len() / ROWS * ROWS;
    for r in (0..together).step_by(ROWS) {
        let (x, y) = (&x[r * c..(r + ROWS) * c], &mut y[r * c..(r + ROWS) * c]);
        normalise_rows::<T, V, ROWS>(eps, c, x, y, &mut scales[r..r + ROWS]);
    }
    for r in together..scales.len() {
        let (x, y) = (&x[r * c..(r + 1) * c], &mut y[r * c..(r + 1) * c]);
        normalise_rows::<T, V, 1>(eps, c, x, y, &mut scales[r..r + 1]);
    }
}

#[inline(always)]
fn normalise_rows<T: Real, V: Vector<T>, const R: usize>(
    eps: T,
    c: usize,
    x: &[T],
    y: &mut [T],
    scales: &mut [T],
) {
    let inv = T::ONE / T::of(c as f64);
    let x = row::<T, R>(x, c);
    let means = sums::<T, V, R>(
        c,
        #[inline(always)]
        |r, i| at::<T, V>(x[r], i),
    );
    let mut mean = [V::splat(T::ZERO); R];
    for r in 0..R {
        mean[r] = V::splat(means[r] * inv);
    }
    let squares = sums::<T, V, R>(
        c,
        #[inline(always)]
        |r, i| {
            let centred = at::<T, V>(x[r], i).sub(mean[r]);
            centred.mul(centred)
        },
    );
    for r in 0..R {
        scales[r] = T::ONE / (squares[r] * inv + eps).sqrt();
        let scale = V::splat(scales[r]);
        let y = &mut y[r * c..(r + 1) * c];
        for i in (0..c).step_by(V::LANES) {
            at::<T, V>(x[r], i).sub(mean[r]).mul(scale).store_part(&mut y[i..]);
        }
    }
}

/// g ← (g − mean(g) − x̂·mean(g·x̂))·scale.
#[inline(always)]
fn normalise_back<T: Real, V: Vector<T>>(c: usize, normal: &[T], scales: &[T], g: &mut [T]) {
    let together = scales.len() / ROWS * ROWS;
    for r in (0..together).step_by(ROWS) {
        let (normal, g) = (&normal[r * c..(r + ROWS) * c], &mut g[r * c..(r + ROWS) * c]);
        normalise_rows_back::<T, V, ROWS>(c, normal, &scales[r..r + ROWS], g);
    }
    for r in together..scales.len() {
        let (normal, g) = (&normal[r * c..(r + 1) * c], &mut g[r * c..(r + 1) * c]);
        normalise_rows_back::<T, V, 1>(c, normal, &scales[r..r + 1], g);
    }
}

#[inline(always)]
fn normalise_rows_back<T: Real, V: Vector<T>, const R: usize>(
    c: usize,
    normal: &[T],
    scales: &[T],
    g: &mut [T],
) {
    let inv = T::ONE / T::of(c as f64);
    let x = row::<T, R>(normal, c);
    let (means, alongs) = {
        let g = row::<T, R>(g, c);
        let means = sums::<T, V, R>(
            c,
            #[inline(always)]
            |r, i| at::<T, V>(g[r], i),
        );
        let alongs = sums::<T, V, R>(
            c,
            #[inline(always)]
            |r, i| at::<T, V>(g[r], i).mul(at::<T, V>(x[r], i)),
        );
        (means, alongs)
    };
    for r in 0..R {
        let (mean, along) = (V::splat(means[r] * inv), V::splat(alongs[r] * inv));
        let scale = V::splat(scales[r]);
        let g = &mut g[r * c..(r + 1) * c];
        for i in (0..c).step_by(V::LANES) {
            let centred = at::<T, V>(g, i).sub(mean).sub(at::<T, V>(x[r], i).mul(along));
            centred.mul(scale).store_part(&mut g[i..]);
        }
    }
}

/// The jet of a row, of `P` planes: centre all planes, then multiply by the jet of v^(−1/2), v the variance's jet.
#[inline(always)]
fn normalise_jet<T: Real, V: Vector<T>, const P: usize>(eps: T, c: usize, x: &[T], y: &mut [T]) {
    let rows = x.len() / P / c;
    let together = rows / ROWS * ROWS;
    for r in (0..together).step_by(ROWS) {
        normalise_rows_jet::<T, V, P, ROWS>(eps, c, r, x, y);
    }
    for r in together..rows {
        normalise_rows_jet::<T, V, P, 1>(eps, c, r, x, y);
    }
}

/// [`normalise_jet`] of the order that `planes` planes have.
#[inline(always)]
fn normalise_jets<T: Real, V: Vector<T>>(eps: T, planes: usize, c: usize, x: &[T], y: &mut [T]) {
    match planes {
        2 => normalise_jet::<T, V, 2>(eps, c, x, y),
        _ => normalise_jet::<T, V, 3>(eps, c, x, y),
    }
}

/// Rows `from..from + R` of [`normalise_jet`].
#[inline(always)]
fn normalise_rows_jet<T: Real, V: Vector<T>, const P: usize, const R: usize>(
    eps: T,
    c: usize,
    from: usize,
    x: &[T],
    y: &mut [T],
) {
    let inv = T::ONE / T::of(c as f64);
    let len = x.len() / P;
    let mut planes = [[x; R]; 3];
    let mut means = [[V::splat(T::ZERO); R]; 3];
    for p in 0..P {
        let plane = row::<T, R>(&x[p * len + from * c..], c);
        let mean = sums::<T, V, R>(
            c,
            #[inline(always)]
            |r, i| at::<T, V>(plane[r], i),
        );
        planes[p] = plane;
        for r in 0..R {
            means[p][r] = V::splat(mean[r] * inv);
        }
    }
    let mut moments = [[T::ZERO; R]; 4];
    const PAIRS: [(usize, usize); 4] = [(0, 0), (0, 1), (1, 1), (0, 2)];
    // The last two make the second derivative.
    for moment in 0..if P > 2 { 4 } else { 2 } {
        let (p, q) = PAIRS[moment];
        moments[moment] = sums::<T, V, R>(
            c,
            #[inline(always)]
            |r, i| {
                let a = at::<T, V>(planes[p][r], i).sub(means[p][r]);
                let b = at::<T, V>(planes[q][r], i).sub(means[q][r]);
                a.mul(b)
            },
        );
    }
    let two = T::of(2.0);
    for r in 0..R {
        let v0 = moments[0][r] * inv + eps;
        let v1 = two * moments[1][r] * inv;
        let square = moments[2][r] * inv;
        let cross = moments[3][r] * inv;
        let v2 = two * (square + cross);
        let r0 = T::ONE / v0.sqrt();
        let cube = r0 * r0 * r0;
        let r1 = T::of(-0.5) * cube * v1;
        let r2 = T::of(0.75) * cube * r0 * r0 * v1 * v1 - T::of(0.5) * cube * v2;
        let (r0, r1, r2, twice1) = (V::splat(r0), V::splat(r1), V::splat(r2), V::splat(two));
        let (y0, rest) = y.split_at_mut(len);
        let (y1, y2) = rest.split_at_mut(len);
        let place = (from + r) * c..(from + r + 1) * c;
        let y2 = if P > 2 { &mut y2[place.clone()] } else { y2 };
        let (y0, y1) = (&mut y0[place.clone()], &mut y1[place]);
        for i in (0..c).step_by(V::LANES) {
            let c0 = at::<T, V>(planes[0][r], i).sub(means[0][r]);
            let c1 = at::<T, V>(planes[1][r], i).sub(means[1][r]);
            c0.mul(r0).store_part(&mut y0[i..]);
            c1.mul(r0).add(c0.mul(r1)).store_part(&mut y1[i..]);
            if P > 2 {
                let c2 = at::<T, V>(planes[2][r], i).sub(means[2][r]);
                c2.mul(r0).add(twice1.mul(c1).mul(r1)).add(c0.mul(r2)).store_part(&mut y2[i..]);
            }
        }
    }
}

impl<T: Real> Rule<T> for LayerNormRule<T> {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        save: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let (planes, jet) = (x[0].planes(), x[0].is_jet());
        let rows = if jet { shape.rows() } else { planes * shape.rows() };
        let mut y = ws.like(x[0], shape);
        // 1/√(var + ε) of every row, then the normalised rows if the output will not be them.
        let extra = if save && self.affine.is_some() { rows * shape.c } else { 0 };
        let mut saved = ws.pool.take(rows + extra);
        if jet {
            on_vector!(ws.isa, normalise_jets::<T>(self.eps, planes, shape.c, &x[0].data, &mut y.data));
        } else {
            on_vector!(
                ws.isa,
                normalise::<T>(self.eps, shape.c, &x[0].data, &mut y.data, &mut saved[..rows])
            );
        }
        saved[rows..].copy_from_slice(&y.data[..extra]);
        if let Some((scale, shift)) = &self.affine {
            for p in 0..planes {
                let values = x[0].holds_values(p);
                for row in y.plane_mut(p).chunks_exact_mut(shape.c) {
                    for i in 0..shape.c {
                        row[i] = row[i] * scale[i] + if values { shift[i] } else { T::ZERO };
                    }
                }
            }
        }
        if save {
            return (y, Some(saved));
        }
        ws.pool.give(saved);
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, mut grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        let (c, rows) = (grad.shape.c, grad.data.len() / grad.shape.c);
        let saved = back.saved.as_ref().expect("forward saved the scales");
        let normal = match &self.affine {
            Some((scale, _)) => {
                for row in grad.data.chunks_exact_mut(c) {
                    row.iter_mut().zip(scale).for_each(|(g, s)| *g *= *s);
                }
                &saved[rows..]
            }
            None => &back.output().data[..],
        };
        on_vector!(ws.isa, normalise_back::<T>(c, normal, &saved[..rows], &mut grad.data));
        into.add(ws, back.nodes[0], grad);
        if let Some(saved) = back.saved {
            ws.pool.give(saved);
        }
    }

    fn keeps_output(&self) -> bool {
        self.affine.is_none()
    }
}
