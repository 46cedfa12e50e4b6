//! Convolutions of stride 1 with fewer multiplications (Winograd 1980; Lavin, Gray 2015, arXiv:1509.09308).
//!
//! A kernel of r taps gives m outputs from n = m + r − 1 products: kernel and input are polynomials, evaluated at n
//! points (∞ among them), multiplied there, and the product interpolated — transposed, since a convolution of a network
//! is the transpose of a product. In two dimensions both directions do this, and the product at each pair of points
//! is, over all channels and all tiles of m₁×m₂ outputs, one matrix product.
//!
//! Points: 0, ±1, ±p, ±1/p, ∞. With each point its inverse is there, so the reversed kernel takes at p, but for a factor,
//! the value of the kernel at 1/p: the weights of the vjp are those of the forward pass, transposed and reordered.
//! p is chosen for small rounding errors (docs/accuracy.md); all tables are computed in f64.

use crate::kernel::epilogue::{Epilogue, finish, load_row, store_row};
use crate::kernel::gemm::{Even, Left, multiply};
use crate::kernel::isa::Isa;
use crate::kernel::pack::Stack;
use crate::kernel::vector::{Vector, on_vector};
use crate::real::Real;
use crate::tensor::Shape;

/// Values of transformed tiles that are worked on together: they stay in an L2 cache of 1 MiB as f32.
const BLOCK: usize = 160 * 1024;
/// Tiles worked on together at least: for fewer, the weights would pass by too often.
const LEAST: usize = 64;
/// Channels on both sides from which the tile unit multiplies: of fewer it takes as long to split the weights anew for a few tiles.
const TILED: usize = 128;
/// Most points of a direction.
const MOST: usize = 8;

/// One direction of a kernel: `taps` taps that give `out` outputs at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) out: usize,
    pub(crate) taps: usize,
}

impl Line {
    /// Products: one a point.
    pub(crate) fn points(self) -> usize {
        self.out + self.taps - 1
    }

    /// Tiles that cover `length` outputs.
    pub(crate) fn tiles(self, length: usize) -> usize {
        length.div_ceil(self.out)
    }

    /// The points but for ∞, which comes last.
    fn finite(self) -> &'static [f64] {
        const HALF: f64 = std::f64::consts::FRAC_1_SQRT_2;
        const TWICE: f64 = std::f64::consts::SQRT_2;
        match self.points() {
            1 => &[],
            4 => &[0.0, 1.0, -1.0],
            6 => &[0.0, HALF, -HALF, TWICE, -TWICE],
            _ => &[0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0],
        }
    }

    /// Π (p − q) over the other finite points q: what interpolation divides by.
    fn divisor(self, p: f64) -> f64 {
        self.finite().iter().filter(|&&q| q != p).map(|q| p - q).product()
    }

    /// Row `i` of G: the factor of every tap in the kernel's value at point `i`, divided already.
    fn kernel_row(self, i: usize) -> Vec<f64> {
        match self.finite().get(i) {
            Some(&p) => (0..self.taps).map(|tap| p.powi(tap as i32) / self.divisor(p)).collect(),
            None => (0..self.taps).map(|tap| f64::from(u8::from(tap + 1 == self.taps))).collect(),
        }
    }

    /// The reversed kernel's value at point `i` is (value of the kernel at which point) × (which factor).
    fn reversed(self, i: usize) -> (usize, f64) {
        let finite = self.finite();
        let last = finite.len();
        match finite.get(i) {
            // ∞ takes the last tap undivided, 0 the first divided.
            None if last == 0 => (0, 1.0),
            None => (0, self.divisor(0.0)),
            Some(&p) if p == 0.0 => (last, 1.0 / self.divisor(p)),
            Some(&p) => {
                let near = |&&q: &&f64| (q * p - 1.0).abs() < 1e-9;
                let (j, &q) = finite
                    .iter()
                    .enumerate()
                    .find(|(_, q)| near(q))
                    .expect("with each point its inverse is there");
                (j, self.divisor(q) / self.divisor(p) * p.powi(self.taps as i32 - 1))
            }
        }
    }
}

/// What a convolution is computed with: vertical and horizontal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scheme {
    pub(crate) rows: Line,
    pub(crate) columns: Line,
}

impl Scheme {
    /// F(m×m, r×r).
    pub(crate) const fn square(out: usize, taps: usize) -> Self {
        Scheme { rows: Line { out, taps }, columns: Line { out, taps } }
    }

    /// F(m, r) along the rows of an image.
    pub(crate) const fn across(out: usize, taps: usize) -> Self {
        Scheme { rows: Line { out: 1, taps: 1 }, columns: Line { out, taps } }
    }

    /// F(m, r) along its columns.
    pub(crate) const fn down(out: usize, taps: usize) -> Self {
        Scheme { rows: Line { out, taps }, columns: Line { out: 1, taps: 1 } }
    }

    /// Matrix products.
    pub(crate) fn points(self) -> usize {
        self.rows.points() * self.columns.points()
    }

    /// Tiles of one image with an output of `shape`.
    pub(crate) fn tiles(self, shape: Shape) -> usize {
        self.rows.tiles(shape.h) * self.columns.tiles(shape.w)
    }
}

/// A convolution's weights at all pairs of points.
pub(crate) struct Winograd<T: Real> {
    scheme: Scheme,
    weights: Stack<T>,
}

/// Where a convolution reads and writes.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) input: Shape,
    pub(crate) output: Shape,
    /// Zero rows above; below 0: rows that are not read.
    pub(crate) top: isize,
    /// Zero columns to the left.
    pub(crate) left: isize,
}

/// Where a tile lies.
struct Tile {
    plane: usize,
    /// First output row and column.
    y: usize,
    x: usize,
}

impl<T: Real> Winograd<T> {
    /// Transforms weights of the upstream layout out×in×kh×kw, in f64.
    pub(crate) fn new(isa: Isa, scheme: Scheme, raw: &[f32], out: usize, input: usize) -> Self {
        let (rows, columns) = (scheme.rows, scheme.columns);
        let taps = rows.taps * columns.taps;
        assert_eq!(raw.len(), out * input * taps, "the weight does not fit its shape");
        let isa = if input >= TILED && out >= TILED { isa } else { isa.without_tiles() };
        let weights = Stack::new(isa, scheme.points(), input, out, |point, values| {
            let (i, j) = (point / columns.points(), point % columns.points());
            let (row, column) = (rows.kernel_row(i), columns.kernel_row(j));
            let factors: Vec<f64> = row.iter().flat_map(|a| column.iter().map(move |b| a * b)).collect();
            for (value, kernel) in values.iter_mut().zip(raw.chunks_exact(taps)) {
                *value = T::of(kernel.iter().zip(&factors).map(|(&w, f)| f64::from(w) * f).sum());
            }
        });
        Winograd { scheme, weights }
    }

    /// The convolution that pulls a gradient back: kernels reversed, input and output channels exchanged.
    pub(crate) fn reversed(&self) -> Self {
        let Scheme { rows, columns } = self.scheme;
        let weights = self.weights.transposed(self.scheme.points(), |point| {
            let (i, a) = rows.reversed(point / columns.points());
            let (j, b) = columns.reversed(point % columns.points());
            (i * columns.points() + j, T::of(a * b))
        });
        Winograd { scheme: self.scheme, weights }
    }

    /// Most tiles of a block.
    fn most(&self) -> usize {
        let step = self.step();
        let fits = BLOCK / (self.scheme.points() * (self.weights.k() + self.weights.n()));
        fits.max(LEAST).next_multiple_of(step)
    }

    /// What whole tiles of the products' rows are a multiple of.
    fn step(&self) -> usize {
        if self.weights.isa() == self.weights.isa().without_tiles() { 12 } else { 32 }
    }

    /// Values of working memory that [`Winograd::convolve`] wants for `threads` threads.
    pub(crate) fn scratch(&self, threads: usize, place: Place, planes: usize) -> usize {
        let (k, n) = (self.weights.k(), self.weights.n());
        let block = self.most().min(self.scheme.tiles(place.output) * planes);
        threads.max(1) * (self.scheme.points() * (distance(block * k) + distance(block * n)) + k)
    }

    /// The convolution of images one behind the other in `x`, into as many in `y`.
    /// Its rows of tiles are shared among `threads` of the pool this thread belongs to; the bits do not depend on it.
    pub(crate) fn convolve(
        &self,
        threads: usize,
        isa: Isa,
        place: Place,
        x: &[T],
        y: &mut [T],
        epilogue: Epilogue<T>,
        scratch: &mut [T],
    ) {
        let planes = y.len() / place.output.len().max(1);
        assert_eq!(y.len(), planes * place.output.len(), "the output is not whole images");
        assert_eq!(x.len(), planes * place.input.len(), "the input does not fit the output");
        assert!(place.input.c == self.weights.k() && place.output.c == self.weights.n());
        let rows = planes * self.scheme.rows.tiles(place.output.h);
        self.share(threads, isa, place, x, (0, rows), y, epilogue, scratch);
    }

    /// First value of the output that row `row` of tiles writes, the rows of all images counted on.
    fn start(&self, place: Place, row: usize) -> usize {
        let per_plane = self.scheme.rows.tiles(place.output.h);
        let (plane, row) = (row / per_plane, row % per_plane);
        (plane * place.output.h + row * self.scheme.rows.out) * place.output.w * place.output.c
    }

    /// Rows `from..to` of tiles; `y` and what the epilogue holds begin at the first.
    fn share(
        &self,
        threads: usize,
        isa: Isa,
        place: Place,
        x: &[T],
        (from, to): (usize, usize),
        y: &mut [T],
        epilogue: Epilogue<T>,
        scratch: &mut [T],
    ) {
        if threads < 2 || to - from < 2 {
            return self.rows(isa, place, x, (from, to), y, epilogue, scratch);
        }
        let mine = threads / 2;
        let middle = from + ((to - from) * mine / threads).max(1);
        let at = self.start(place, middle) - self.start(place, from);
        let (y1, y2) = y.split_at_mut(at);
        let (scratch1, scratch2) = scratch.split_at_mut(scratch.len() / threads * mine);
        let (first, second) = epilogue.split_at(at);
        rayon::join(
            || self.share(mine, isa, place, x, (from, middle), y1, first, scratch1),
            || self.share(threads - mine, isa, place, x, (middle, to), y2, second, scratch2),
        );
    }

    /// [`Winograd::share`] on this thread.
    fn rows(
        &self,
        isa: Isa,
        place: Place,
        x: &[T],
        (from, to): (usize, usize),
        y: &mut [T],
        mut epilogue: Epilogue<T>,
        scratch: &mut [T],
    ) {
        let (k, n, points) = (self.weights.k(), self.weights.n(), self.scheme.points());
        let across = self.scheme.columns.tiles(place.output.w);
        let tiles = (to - from) * across;
        // Blocks of about one size, in whole tiles of the product's rows.
        let block =
            tiles.div_ceil(tiles.div_ceil(self.most()).max(1)).next_multiple_of(self.step()).min(tiles);
        let (spread_step, product_step) = (distance(block * k), distance(block * n));
        let (zeros, rest) = scratch.split_at_mut(k);
        zeros.fill(T::ZERO);
        let (spread, product) = rest.split_at_mut(points * spread_step);
        let base = self.start(place, from);
        let end = to * across;
        for first in (from * across..end).step_by(block.max(1)) {
            let tiles = first..end.min(first + block);
            let count = tiles.len();
            let job = Tiles { scheme: self.scheme, place, tiles };
            on_vector!(isa, spread_tiles::<T>(&job, x, zeros, spread, spread_step));
            for point in 0..points {
                let left = Left::rows(&spread[point * spread_step..][..count * k], k);
                let out = &mut product[point * product_step..][..count * n];
                let rows = Even { left, ldc: n };
                multiply(self.weights.isa(), count, rows, self.weights.at(point), out, Epilogue::default());
            }
            on_vector!(isa, gather_tiles::<T>(&job, product, product_step, y, base, &mut epilogue));
        }
    }
}

/// Values from one point's matrix to the next: an odd number of cache lines, so that the stores of a tile do not all
/// meet in one set of the cache.
fn distance(len: usize) -> usize {
    (len.div_ceil(16) | 1) * 16
}

/// Consecutive tiles, those of all images counted on.
struct Tiles {
    scheme: Scheme,
    place: Place,
    tiles: std::ops::Range<usize>,
}

impl Tiles {
    #[inline(always)]
    fn tile(&self, index: usize) -> Tile {
        let across = self.scheme.columns.tiles(self.place.output.w);
        let down = self.scheme.rows.tiles(self.place.output.h);
        let (row, column) = (index / across, index % across);
        Tile { plane: row / down, y: row % down * self.scheme.rows.out, x: column * self.scheme.columns.out }
    }
}

/// a·b + c
#[inline(always)]
fn fma<T: Real, V: Vector<T>>(a: V, b: f64, c: V) -> V {
    a.mul_add(V::splat(T::of(b)), c)
}

/// Bᵀ·d: the input's part of the products at `N` points.
#[inline(always)]
fn spread_line<T: Real, V: Vector<T>, const N: usize>(d: [V; N]) -> [V; N] {
    let mut out = d;
    match N {
        1 => {}
        4 => {
            out[0] = d[2].sub(d[0]);
            out[1] = d[2].add(d[1]);
            out[2] = d[2].sub(d[1]);
            out[3] = d[3].sub(d[1]);
        }
        6 => {
            // x⁵ − (p² + 1/p²)·x³ + x and its quotients by x, x ∓ p and x ∓ 1/p; p² = ½.
            const P: f64 = std::f64::consts::FRAC_1_SQRT_2;
            out[0] = fma(d[2], -2.5, d[4].add(d[0]));
            let (even, odd) = (fma(d[2], -2.0, d[4]), fma(d[1], -2.0, d[3]));
            out[1] = fma(odd, P, even);
            out[2] = fma(odd, -P, even);
            let (even, odd) = (fma(d[2], -0.5, d[4]), fma(d[1], -0.5, d[3]));
            out[3] = fma(odd, 2.0 * P, even);
            out[4] = fma(odd, -2.0 * P, even);
            out[5] = fma(d[3], -2.5, d[5].add(d[1]));
        }
        _ => {
            // x⁷ − e·x⁵ + e·x³ − x with e = 1 + 4 + ¼.
            const E: f64 = 5.25;
            out[0] = fma(d[4].sub(d[2]), -E, d[6].sub(d[0]));
            let pairs = [(1, 1.0, 4.25, 1.0), (3, 0.5, 5.0, 4.0), (5, 2.0, 1.25, 0.25)];
            for (i, p, sum, product) in pairs {
                let even = fma(d[2], product, fma(d[4], -sum, d[6]));
                let odd = fma(d[1], product, fma(d[3], -sum, d[5]));
                out[i] = fma(odd, p, even);
                out[i + 1] = fma(odd, -p, even);
            }
            out[7] = fma(d[5].sub(d[3]), -E, d[7].sub(d[1]));
        }
    }
    out
}

/// Aᵀ·m: `M` outputs from the products at `N` points.
#[inline(always)]
fn gather_line<T: Real, V: Vector<T>, const N: usize, const M: usize>(m: [V; N]) -> [V; M] {
    let mut out = [m[0]; M];
    if N == 1 {
        return out;
    }
    let mut sums = [m[0]; 3];
    let mut differences = [m[0]; 3];
    let pairs = N / 2 - 1;
    for i in 0..pairs {
        sums[i] = m[2 * i + 1].add(m[2 * i + 2]);
        differences[i] = m[2 * i + 1].sub(m[2 * i + 2]);
        out[0] = out[0].add(sums[i]);
    }
    const P: f64 = std::f64::consts::FRAC_1_SQRT_2;
    let points = match N {
        4 => [1.0, 0.0, 0.0],
        6 => [P, 2.0 * P, 0.0],
        _ => [1.0, 0.5, 2.0],
    };
    for row in 1..M {
        let values = if row % 2 == 0 { sums } else { differences };
        for i in 0..pairs {
            let mut power = 1.0;
            for _ in 0..row {
                power *= points[i];
            }
            out[row] = match i {
                0 if row + 1 == M => fma(values[0], power, m[N - 1]),
                0 => values[0].mul(V::splat(T::of(power))),
                _ => fma(values[i], power, out[row]),
            };
        }
    }
    out
}

/// Writes the tiles of `x` at every pair of points: matrix by matrix at distance `step`, a tile a row.
#[inline(always)]
fn spread_tiles<T: Real, V: Vector<T>>(job: &Tiles, x: &[T], zeros: &[T], to: &mut [T], step: usize) {
    match (job.scheme.rows.points(), job.scheme.columns.points()) {
        (4, 4) => spread::<T, V, 4, 4>(job, x, zeros, to, step),
        (6, 6) => spread::<T, V, 6, 6>(job, x, zeros, to, step),
        (1, 6) => spread::<T, V, 1, 6>(job, x, zeros, to, step),
        (6, 1) => spread::<T, V, 6, 1>(job, x, zeros, to, step),
        (1, 8) => spread::<T, V, 1, 8>(job, x, zeros, to, step),
        (8, 1) => spread::<T, V, 8, 1>(job, x, zeros, to, step),
        other => unreachable!("no scheme has points {other:?}"),
    }
}

#[inline(always)]
fn spread<T: Real, V: Vector<T>, const R: usize, const C: usize>(
    job: &Tiles,
    x: &[T],
    zeros: &[T],
    to: &mut [T],
    step: usize,
) {
    let Shape { h, w, c } = job.place.input;
    let tiles = job.tiles.clone();
    assert!(zeros.len() >= c && to.len() >= (R * C - 1) * step + tiles.len() * c);
    for (row, index) in tiles.enumerate() {
        let tile = job.tile(index);
        let image = &x[tile.plane * h * w * c..][..h * w * c];
        let mut pixels = [zeros; MOST * MOST];
        for i in 0..R {
            let y = tile.y.wrapping_add(i).wrapping_add_signed(-job.place.top);
            for j in 0..C {
                let x = tile.x.wrapping_add(j).wrapping_add_signed(-job.place.left);
                if y < h && x < w {
                    pixels[i * C + j] = &image[(y * w + x) * c..][..c];
                }
            }
        }
        let to = &mut to[row * c..];
        let mut at = 0;
        while at + V::LANES <= c {
            spread_chunk::<T, V, R, C, true>(&pixels, at, V::LANES, to, step);
            at += V::LANES;
        }
        if at < c {
            spread_chunk::<T, V, R, C, false>(&pixels, at, c - at, to, step);
        }
    }
}

/// One register of channels of a tile, `width` of them from `at` on.
#[inline(always)]
fn spread_chunk<T: Real, V: Vector<T>, const R: usize, const C: usize, const WHOLE: bool>(
    pixels: &[&[T]; MOST * MOST],
    at: usize,
    width: usize,
    to: &mut [T],
    step: usize,
) {
    let mut half = [[V::splat(T::ZERO); C]; R];
    for j in 0..C {
        let mut d = [V::splat(T::ZERO); R];
        for i in 0..R {
            let pixel = pixels[i * C + j];
            d[i] = if WHOLE {
                // SAFETY: every pixel has all channels, of which `at + LANES` at least.
                unsafe { V::load(pixel.as_ptr().add(at)) }
            } else {
                V::load_part(&pixel[at..at + width])
            };
        }
        let d = spread_line::<T, V, R>(d);
        for i in 0..R {
            half[i][j] = d[i];
        }
    }
    for i in 0..R {
        let d = spread_line::<T, V, C>(half[i]);
        for j in 0..C {
            let start = (i * C + j) * step + at;
            if WHOLE {
                // SAFETY: `spread` checked that the last matrix holds this tile's row.
                unsafe { d[j].store(to.as_mut_ptr().add(start)) };
            } else {
                d[j].store_part(&mut to[start..start + width]);
            }
        }
    }
}

/// Outputs of the tiles from their products at all pairs of points, laid out as in [`spread_tiles`]. `y` and what the
/// epilogue holds begin at value `base` of the output.
#[inline(always)]
fn gather_tiles<T: Real, V: Vector<T>>(
    job: &Tiles,
    from: &[T],
    step: usize,
    y: &mut [T],
    base: usize,
    epilogue: &mut Epilogue<T>,
) {
    let Scheme { rows, columns } = job.scheme;
    match (rows.points(), columns.points(), rows.out, columns.out) {
        (4, 4, 2, 2) => gather::<T, V, 4, 4, 2, 2>(job, from, step, y, base, epilogue),
        (6, 6, 4, 4) => gather::<T, V, 6, 6, 4, 4>(job, from, step, y, base, epilogue),
        (6, 6, 2, 2) => gather::<T, V, 6, 6, 2, 2>(job, from, step, y, base, epilogue),
        (1, 6, 1, 4) => gather::<T, V, 1, 6, 1, 4>(job, from, step, y, base, epilogue),
        (6, 1, 4, 1) => gather::<T, V, 6, 1, 4, 1>(job, from, step, y, base, epilogue),
        (1, 8, 1, 2) => gather::<T, V, 1, 8, 1, 2>(job, from, step, y, base, epilogue),
        (8, 1, 2, 1) => gather::<T, V, 8, 1, 2, 1>(job, from, step, y, base, epilogue),
        other => unreachable!("no scheme has points and outputs {other:?}"),
    }
}

#[inline(always)]
fn gather<T: Real, V: Vector<T>, const R: usize, const C: usize, const M: usize, const N: usize>(
    job: &Tiles,
    from: &[T],
    step: usize,
    y: &mut [T],
    base: usize,
    epilogue: &mut Epilogue<T>,
) {
    let Shape { h, w, c } = job.place.output;
    let tiles = job.tiles.clone();
    assert!(from.len() >= (R * C - 1) * step + tiles.len() * c);
    for (row, index) in tiles.enumerate() {
        let tile = job.tile(index);
        let from = &from[row * c..];
        let (rows, columns) = (M.min(h - tile.y), N.min(w - tile.x));
        let corner = ((tile.plane * h + tile.y) * w + tile.x) * c - base;
        for at in (0..c).step_by(V::LANES) {
            let width = V::LANES.min(c - at);
            let whole = width == V::LANES;
            let mut half = [[V::splat(T::ZERO); C]; M];
            for j in 0..C {
                let mut m = [V::splat(T::ZERO); R];
                for i in 0..R {
                    let start = (i * C + j) * step + at;
                    m[i] = if whole {
                        // SAFETY: checked above that the last matrix holds this tile's row.
                        unsafe { V::load(from.as_ptr().add(start)) }
                    } else {
                        V::load_part(&from[start..start + width])
                    };
                }
                let m = gather_line::<T, V, R, M>(m);
                for i in 0..M {
                    half[i][j] = m[i];
                }
            }
            for i in 0..M {
                if i >= rows {
                    break;
                }
                let out = gather_line::<T, V, C, N>(half[i]);
                for j in 0..N {
                    if j >= columns {
                        break;
                    }
                    let start = corner + (i * w + j) * c + at;
                    let mut value = [out[j]];
                    if epilogue.accumulate {
                        let before = load_row::<T, V, 1>(&y[start..start + width], whole);
                        value[0] = value[0].add(before[0]);
                    }
                    let value = finish::<T, V, 1>(epilogue, value, at, start, width, whole);
                    store_row(value, &mut y[start..start + width], whole);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
