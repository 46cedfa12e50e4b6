//! Convolution and linear layer as one matrix product, with bias, residual and
//! activation in its epilogue.

use crate::kernel::epilogue::{Derivative, Epilogue};
use crate::kernel::gemm::{Left, SHARED, gemm_shared, multiply};
use crate::kernel::isa::Isa;
use crate::kernel::pack::{Packed, packed_len};
use crate::kernel::patches::{Distance, Patches};
use crate::op::activation::{Activation, jet_in_place, pull_back};
use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};
use std::ops::Range;
use std::sync::OnceLock;

/// Output rows of a product whose taps are then added up: with 7·7·3 taps they stay in an L2 cache.
const SPILLED: usize = 192;

/// Where a kernel of `kh`×`kw` looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Kernel height.
    pub kh: usize,
    /// Kernel width.
    pub kw: usize,
    /// Step in both directions.
    pub stride: usize,
    /// Zero rows above.
    pub top: usize,
    /// Zero columns to the left.
    pub left: usize,
}

impl Window {
    /// A single pixel: the window of a linear layer.
    pub const POINT: Window = Window { kh: 1, kw: 1, stride: 1, top: 0, left: 0 };

    /// A kernel of odd height and width, padded so that at stride 1 the size stays.
    pub const fn centred(kh: usize, kw: usize, stride: usize) -> Window {
        Window { kh, kw, stride, top: kh / 2, left: kw / 2 }
    }

    /// A square kernel without padding.
    pub const fn unpadded(k: usize, stride: usize) -> Window {
        Window { kh: k, kw: k, stride, top: 0, left: 0 }
    }

    /// Output height and width where the padding is the same on all sides, as in PyTorch; 0 where no kernel fits.
    pub fn symmetric_size(self, input: Shape) -> (usize, usize) {
        let size = |length: usize, k: usize, pad: usize| {
            (length + 2 * pad).checked_sub(k).map_or(0, |rest| rest / self.stride + 1)
        };
        (size(input.h, self.kh, self.top), size(input.w, self.kw, self.left))
    }

    /// Whether the kernel sees one pixel and visits each.
    pub fn is_point(self) -> bool {
        self == Window::POINT
    }

    /// Calls `visit(tap, input row)` for every tap of output row `row` that falls inside the image, in order.
    #[inline(always)]
    pub(crate) fn inside(self, input: Shape, output: Shape, row: usize, mut visit: impl FnMut(usize, usize)) {
        let (oy, ox) = (row / output.w, row % output.w);
        for ky in 0..self.kh {
            let iy = (oy * self.stride + ky).wrapping_sub(self.top);
            if iy >= input.h {
                continue;
            }
            for kx in 0..self.kw {
                let ix = (ox * self.stride + kx).wrapping_sub(self.left);
                if ix < input.w {
                    visit(ky * self.kw + kx, iy * input.w + ix);
                }
            }
        }
    }
}

/// A convolution ready to run. As a matrix, the weight is (kh·kw·in)×out.
pub(crate) struct ConvRule<T: Real> {
    pub(crate) window: Window,
    pub(crate) input: Shape,
    pub(crate) weight: Packed<T>,
    /// Its transpose, packed when the first vjp asks for it: of a point, or of few input channels.
    pub(crate) transposed: OnceLock<Packed<T>>,
    /// The same of other windows.
    pub(crate) phases: OnceLock<Vec<Phase<T>>>,
    pub(crate) bias: Vec<T>,
    pub(crate) activation: Activation,
    /// Whether the second input is added before the activation.
    pub(crate) residual: bool,
}

/// The pixels of the input that are seen through the same taps: one in `stride` both ways. Their gradient is a
/// convolution of stride 1 with these taps.
pub(crate) struct Phase<T: Real> {
    down: Direction,
    across: Direction,
    /// (taps·out)×in.
    weight: Packed<T>,
}

/// One direction of a phase.
#[derive(Clone, Copy)]
struct Direction {
    /// The first pixel.
    first: usize,
    /// Taps through which it is seen.
    taps: usize,
    /// The first output that sees it; below 0 where none is there.
    from: isize,
}

impl Direction {
    /// All phases of one direction.
    fn all(kernel: usize, stride: usize, padding: usize) -> Vec<Direction> {
        let phase = |residue: usize| {
            let taps = kernel.saturating_sub(residue).div_ceil(stride);
            let first = (residue + stride - padding % stride) % stride;
            let last = ((first + padding - residue) / stride) as isize;
            Direction { first, taps, from: last + 1 - taps as isize }
        };
        (0..stride).map(phase).collect()
    }

    /// Pixels before `end`.
    fn count(self, stride: usize, end: usize) -> usize {
        end.saturating_sub(self.first).div_ceil(stride)
    }
}

/// Images of `c` channels, `h`×`w` pixels, whose first pixel is `top` rows above and `left` columns to the left of
/// what they show.
struct Padded<'a, T> {
    data: &'a [T],
    h: usize,
    w: usize,
    c: usize,
    /// From a pixel to the next.
    pitch: usize,
    top: usize,
    left: usize,
}

impl<T> Padded<'_, T> {
    /// What kernels `taps` wide see from the pixel at `start` on, `stride` pixels apart; `image`, `row` and `column` say
    /// how far from each other the results of `height`×`width` of them go.
    fn patches(
        &self,
        start: usize,
        stride: usize,
        taps: usize,
        (height, width): (usize, usize),
        [image, row, column]: [usize; 3],
    ) -> Patches<'_, T> {
        let below = self.w * self.pitch;
        // Pixels without gaps are one run.
        let (run, runs) = if self.pitch == self.c { (taps * self.c, 1) } else { (self.c, taps) };
        Patches {
            data: &self.data[start * self.pitch..],
            height,
            width,
            image: Distance { from: self.h * below, to: image },
            row: Distance { from: stride * below, to: row },
            column: Distance { from: stride * self.pitch, to: column },
            run,
            runs,
            beside: run.max(self.pitch),
            below,
        }
    }
}

/// Values from a pixel of `c` channels to the next, where the product reads every `stride`-th: were they a multiple of
/// 4 KiB apart, the rows of a product would push each other out of the first-level cache.
fn pitch(c: usize, stride: usize) -> usize {
    if (stride * c).is_multiple_of(1024) { c + 16 } else { c }
}

/// Planes that one product takes: the weights pass by once for all of them. Threads share a plane by its rows.
fn together(threads: usize, planes: usize) -> usize {
    if threads > 1 { 1 } else { planes }
}

/// Height and width of what the kernels of all outputs cover, padding included.
fn covered(window: Window, output: Shape) -> (usize, usize) {
    let size = |outputs: usize, k: usize| (outputs.max(1) - 1) * window.stride + k;
    (size(output.h, window.kh), size(output.w, window.kw))
}

/// Copies `x` into the middle of `to`, `h`×`w` pixels at distance `pitch`, with zeros around; what lies outside is cut
/// off.
fn pad<T: Real>(
    x: &[T],
    shape: Shape,
    pitch: usize,
    (top, left): (usize, usize),
    (h, w): (usize, usize),
    to: &mut [T],
) {
    let c = shape.c;
    let columns = shape.w.min(w - left);
    for (y, row) in to[..h * w * pitch].chunks_exact_mut(w * pitch).enumerate() {
        let Some(y) = y.checked_sub(top).filter(|&y| y < shape.h) else {
            row.fill(T::ZERO);
            continue;
        };
        row[..left * pitch].fill(T::ZERO);
        row[(left + columns) * pitch..].fill(T::ZERO);
        let inside = &mut row[left * pitch..(left + columns) * pitch];
        let x = &x[y * shape.w * c..][..columns * c];
        if pitch == c {
            inside.copy_from_slice(x);
        } else {
            for (pixel, x) in inside.chunks_exact_mut(pitch).zip(x.chunks_exact(c)) {
                pixel[..c].copy_from_slice(x);
            }
        }
    }
}

/// Packs the upstream layout out×in×kh×kw as the matrix (kh·kw·in)×out.
pub(crate) fn pack_weight<T: Real>(
    isa: Isa,
    raw: &[f32],
    out: usize,
    input: usize,
    window: Window,
) -> Packed<T> {
    let taps = window.kh * window.kw;
    let k = taps * input;
    let mut transpose = vec![T::ZERO; k * out];
    for o in 0..out {
        for i in 0..input {
            for tap in 0..taps {
                transpose[o * k + tap * input + i] = T::of_f32(raw[(o * input + i) * taps + tap]);
            }
        }
    }
    Packed::new(isa, k, out, &transpose, 1, k)
}

impl<T: Real> ConvRule<T> {
    /// The phases of the vjp.
    fn phases(&self, isa: Isa) -> Vec<Phase<T>> {
        let w = self.window;
        let (k, n) = (self.weight.k(), self.weight.n());
        let mut all = vec![T::ZERO; k * n];
        self.weight.right().unpack(&mut all, n, 1);
        let c = self.input.c;
        let mut phases = Vec::new();
        for (a, down) in Direction::all(w.kh, w.stride, w.top).into_iter().enumerate() {
            for (b, across) in Direction::all(w.kw, w.stride, w.left).into_iter().enumerate() {
                let k = down.taps * across.taps * n;
                if k == 0 {
                    continue;
                }
                let mut rows = vec![T::ZERO; c * k];
                for i in 0..down.taps {
                    for j in 0..across.taps {
                        // The first output sees the pixel through its last tap.
                        let ky = a + (down.taps - 1 - i) * w.stride;
                        let kx = b + (across.taps - 1 - j) * w.stride;
                        for channel in 0..c {
                            let tap = &all[((ky * w.kw + kx) * c + channel) * n..][..n];
                            rows[channel * k + (i * across.taps + j) * n..][..n].copy_from_slice(tap);
                        }
                    }
                }
                phases.push(Phase { down, across, weight: Packed::new(isa, k, c, &rows, 1, k) });
            }
        }
        phases
    }

    /// Rows `rows` of the output in `y`, which begins there, as does what the epilogue holds; of several `images` all
    /// rows, by one thread.
    fn push(
        &self,
        (threads, isa): (usize, Isa),
        (images, padded): (usize, &Padded<T>),
        shape: Shape,
        rows: Range<usize>,
        y: &mut [T],
        epilogue: Epilogue<T>,
    ) {
        let w = self.window;
        let m = images * rows.len() * shape.w;
        if threads > 1 && rows.len() > 1 && m * self.weight.k() * self.weight.n() >= SHARED {
            let mine = threads / 2;
            let middle = rows.start + (rows.len() * mine / threads).max(1);
            let at = (middle - rows.start) * shape.w * shape.c;
            let (y1, y2) = y.split_at_mut(at);
            let (first, second) = epilogue.split_at(at);
            rayon::join(
                || self.push((mine, isa), (images, padded), shape, rows.start..middle, y1, first),
                || self.push((threads - mine, isa), (images, padded), shape, middle..rows.end, y2, second),
            );
            return;
        }
        let start = rows.start * w.stride * padded.w;
        let to = [shape.len(), shape.w * shape.c, shape.c];
        let patches = padded.patches(start, w.stride, w.kw, (rows.len(), shape.w), to);
        multiply(isa, m, patches, self.weight.right(), y, epilogue);
    }

    /// Rows `rows` of the input's gradient in `dx`, which begins there, as does the slope it is multiplied by; of several
    /// `images` all rows, by one thread.
    fn pull(
        &self,
        (threads, isa): (usize, Isa),
        phases: &[Phase<T>],
        (images, grad): (usize, &Padded<T>),
        rows: Range<usize>,
        dx: &mut [T],
        epilogue: Epilogue<T>,
    ) {
        let (Shape { w, c, .. }, stride) = (self.input, self.window.stride);
        let work = self.weight.k() * self.weight.n() * rows.len() * w / (stride * stride);
        if threads > 1 && rows.len() > 1 && work >= SHARED {
            let mine = threads / 2;
            let middle = rows.start + (rows.len() * mine / threads).max(1);
            let (dx1, dx2) = dx.split_at_mut((middle - rows.start) * w * c);
            let (first, second) = epilogue.split_at((middle - rows.start) * w * c);
            rayon::join(
                || self.pull((mine, isa), phases, (images, grad), rows.start..middle, dx1, first),
                || self.pull((threads - mine, isa), phases, (images, grad), middle..rows.end, dx2, second),
            );
            return;
        }
        for Phase { down, across, weight } in phases {
            let before = down.count(stride, rows.start);
            let (height, width) = (down.count(stride, rows.end) - before, across.count(stride, w));
            if height * width == 0 {
                continue;
            }
            let at = ((down.first + before * stride - rows.start) * w + across.first) * c;
            let y = before.wrapping_add_signed(down.from + grad.top as isize);
            let x = (across.from + grad.left as isize) as usize;
            let to = [self.input.len(), stride * w * c, stride * c];
            let patches = grad.patches(y * grad.w + x, 1, across.taps, (height, width), to);
            let (accumulate, slope) = (epilogue.accumulate, epilogue.slope.map(|s| s.from(at)));
            let epilogue = Epilogue { accumulate, slope, ..Default::default() };
            multiply(isa, images * height * width, patches, weight.right(), &mut dx[at..], epilogue);
        }
    }

    /// Gradient towards an image of channels that would leave most of a register idle: the product gives all taps of an
    /// output side by side, and they are added up where they belong.
    fn spill(&self, ws: &mut Workspace<T>, grad: &[T], shape: Shape, dx: &mut [T], accumulate: bool) {
        let (window, input) = (self.window, self.input);
        let (h, w) = covered(window, shape);
        let (h, w) = (h.max(window.top + input.h), w.max(window.left + input.w));
        let isa = ws.isa;
        let transposed = self.transposed.get_or_init(|| self.weight.transposed());
        let k = transposed.n();
        let run = window.kw * input.c;
        let mut sums = ws.pool.take_zeroed(h * w * input.c);
        let mut taps = ws.pool.take(SPILLED.min(shape.rows()) * k);
        for from in (0..shape.rows()).step_by(SPILLED) {
            let to = shape.rows().min(from + SPILLED);
            let rows = Left::rows(&grad[from * shape.c..to * shape.c], shape.c);
            let epilogue = Epilogue::default();
            gemm_shared(ws.threads, isa, to - from, rows, transposed, &mut taps, k, epilogue);
            for (row, taps) in (from..to).zip(taps.chunks_exact(k)) {
                let (y, x) = (row / shape.w * window.stride, row % shape.w * window.stride);
                for (ky, taps) in taps.chunks_exact(run).enumerate() {
                    let sums = &mut sums[((y + ky) * w + x) * input.c..][..run];
                    sums.iter_mut().zip(taps).for_each(|(s, t)| *s += *t);
                }
            }
        }
        for (y, dx) in dx.chunks_exact_mut(input.w * input.c).enumerate() {
            let sums = &sums[((window.top + y) * w + window.left) * input.c..][..dx.len()];
            if accumulate {
                dx.iter_mut().zip(sums).for_each(|(d, s)| *d += *s);
            } else {
                dx.copy_from_slice(sums);
            }
        }
        ws.pool.give(taps);
        ws.pool.give(sums);
    }

    /// Gradient towards the input, for windows that see more than one pixel.
    fn pull_window(
        &self,
        ws: &mut Workspace<T>,
        phases: &[Phase<T>],
        grad: &Tensor<T>,
        dx: &mut Tensor<T>,
        epilogue: Epilogue<T>,
    ) {
        let (input, stride) = (self.input, self.window.stride);
        let whole = phases.len() == stride * stride;
        if !whole && !epilogue.accumulate {
            // Between the taps nothing is seen.
            dx.data.fill(T::ZERO);
        }
        // From the first output that a pixel would ask for to the last.
        let reach = |direction: fn(&Phase<T>) -> Direction, length: usize, size: usize| {
            let before = phases.iter().map(|p| -direction(p).from).max().unwrap_or(0).max(0);
            let end = |p: &Phase<T>| {
                let d = direction(p);
                d.from + d.taps as isize - 1 + d.count(stride, length) as isize
            };
            let end = phases.iter().map(end).max().unwrap_or(0).max(size as isize);
            (before as usize, (before + end) as usize)
        };
        let shape = grad.shape;
        let (top, h) = reach(|p| p.down, input.h, shape.h);
        let (left, w) = reach(|p| p.across, input.w, shape.w);
        let pitch = pitch(shape.c, 1);
        let (len, together) = (h * w * pitch, together(ws.threads, grad.planes()));
        let mut padded = ws.pool.take(together * len);
        let Epilogue { accumulate, slope, .. } = epilogue;
        for first in (0..grad.planes()).step_by(together) {
            for (p, padded) in padded.chunks_exact_mut(len).enumerate() {
                pad(grad.plane(first + p), shape, pitch, (top, left), (h, w), padded);
            }
            let at = first * input.len();
            let epilogue = Epilogue { accumulate, slope: slope.map(|s| s.from(at)), ..Default::default() };
            let images = Padded { data: &padded, h, w, c: shape.c, pitch, top, left };
            let dx = &mut dx.data[at..at + together * input.len()];
            self.pull((ws.threads, ws.isa), phases, (together, &images), 0..input.h, dx, epilogue);
        }
        ws.pool.give(padded);
    }
}

impl<T: Real> Rule<T> for ConvRule<T> {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        save: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let mut y = ws.like(x[0], shape);
        let (planes, jet) = (y.planes(), y.is_jet());
        let saved = self.activation.saved_slopes::<T>(y.data.len(), shape.c).filter(|_| save);
        let mut slope = saved.map(|len| ws.pool.take(len));
        let activation = if jet { Activation::Identity } else { self.activation };
        let (window, input) = (self.window, self.input);
        if window.is_point() {
            // One product for all planes: the weights pass by once.
            let left = Left::rows(&x[0].data, self.weight.k());
            let epilogue = Epilogue {
                bias: Some(&self.bias),
                biased: if jet { shape.len() } else { usize::MAX },
                residual: self.residual.then(|| &x[1].data[..]),
                activation,
                derivative: slope.as_mut().map(|s| Derivative::within(self.activation, s, 0..y.data.len())),
                ..Default::default()
            };
            let (threads, m) = (ws.threads, planes * shape.rows());
            gemm_shared(threads, ws.isa, m, left, &self.weight, &mut y.data, shape.c, epilogue);
        } else {
            let (h, w) = covered(window, shape);
            let pitch = pitch(input.c, window.stride);
            let inside = window.top == 0 && window.left == 0 && h <= input.h && w <= input.w;
            let as_it_is = inside && pitch == input.c;
            let (len, together) = (h * w * pitch, together(ws.threads, planes));
            let mut edged = (!as_it_is).then(|| ws.pool.take(together * len));
            for first in (0..planes).step_by(together) {
                let place = first * shape.len()..(first + together) * shape.len();
                let epilogue = Epilogue {
                    bias: x[0].holds_values(first).then_some(&self.bias[..]),
                    biased: if jet { shape.len() } else { usize::MAX },
                    residual: self.residual.then(|| &x[1].data[place.clone()]),
                    activation,
                    derivative: slope.as_mut().map(|s| Derivative::within(self.activation, s, place.clone())),
                    ..Default::default()
                };
                let images = match &mut edged {
                    Some(edged) => {
                        let corner = (window.top, window.left);
                        for (p, edged) in edged.chunks_exact_mut(len).enumerate() {
                            pad(x[0].plane(first + p), input, pitch, corner, (h, w), edged);
                        }
                        Padded { data: edged, h, w, c: input.c, pitch, top: corner.0, left: corner.1 }
                    }
                    None => {
                        let data = &x[0].data[first * input.len()..];
                        Padded { data, h: input.h, w: input.w, c: input.c, pitch, top: 0, left: 0 }
                    }
                };
                let (how, out) = ((ws.threads, ws.isa), &mut y.data[place]);
                self.push(how, (together, &images), shape, 0..shape.h, out, epilogue);
            }
            if let Some(edged) = edged {
                ws.pool.give(edged);
            }
        }
        if jet && self.activation != Activation::Identity {
            jet_in_place(ws.isa, self.activation, &mut y);
        }
        (y, slope)
    }

    fn vjp(&self, ws: &mut Workspace<T>, mut grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        if !back.pulled {
            pull_back(ws.isa, self.activation, &mut grad.data, &back.saved, back.output);
        }
        if let Some(slope) = back.saved {
            ws.pool.give(slope);
        }
        let (shape, isa) = (grad.shape, ws.isa);
        let (mut dx, fresh) = into.open(ws, back.nodes[0], self.input);
        let mut slope = back.slopes[0];
        let epilogue = Epilogue { accumulate: !fresh, slope, ..Default::default() };
        if self.window.is_point() {
            let spare = (!ws.keeps_transposes).then(|| {
                let len = packed_len(isa, self.weight.n(), self.weight.k());
                self.weight.transposed_in(ws.pool.take(len))
            });
            let transposed = match &spare {
                Some(transposed) => transposed,
                None => self.transposed.get_or_init(|| self.weight.transposed()),
            };
            let left = Left::rows(&grad.data, shape.c);
            let c = self.input.c;
            gemm_shared(
                ws.threads,
                isa,
                grad.planes() * shape.rows(),
                left,
                transposed,
                &mut dx.data,
                c,
                epilogue,
            );
            spare.into_iter().for_each(|p| ws.pool.give(p.into_buffer()));
        } else if self.input.c < 8 {
            for p in 0..grad.planes() {
                self.spill(ws, grad.plane(p), shape, dx.plane_mut(p), !fresh);
            }
            slope = None;
        } else {
            let phases = self.phases.get_or_init(|| self.phases(isa));
            self.pull_window(ws, phases, &grad, &mut dx, epilogue);
        }
        into.finish(ws, back.nodes[0], dx, slope.is_some());
        if self.residual {
            into.add(ws, back.nodes[1], grad);
        } else {
            ws.pool.give(grad.data);
        }
    }

    fn activation(&self) -> Activation {
        self.activation
    }

    fn keeps_output(&self) -> bool {
        let saved = self.activation.saved_slopes::<T>(0, self.bias.len());
        self.activation != Activation::Identity && saved.is_none()
    }
}
