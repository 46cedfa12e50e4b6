//! MobileNetV2's block in one step: a convolution of single pixels widens, a depthwise one follows, another of single
//! pixels narrows.
//!
//! The wide values between them are many times the block's input and output. They are made and used up a few lines of
//! the image at a time, in buffers that stay in the second-level cache; for the vjp one bit of each is kept, whether its
//! activation lets a gradient through. The sums are those of the operators one by one, to the last bit.

use std::ops::Range;

use crate::buffer::Buffer;
use crate::kernel::epilogue::{Derivative, Epilogue, store_bits};
use crate::kernel::gemm::{Left, gemm};
use crate::kernel::isa::Isa;
use crate::kernel::vector::{Vector, on_vector};
use crate::op::activation::Activation;
use crate::op::conv::ConvRule;
use crate::op::depthwise::{DepthwiseRule, Line, Sweep};
use crate::op::{Back, Rule, Saved, Slope};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

/// Wide values in the buffers of a thread: 512 KiB as f32, half of a 1 MiB L2 cache.
const BUFFERED: usize = 192 * 1024;
/// Multiply-adds below which sharing a block costs more than it saves.
const SHARED: usize = 512 * 1024;

/// The block ready to run. Its activations are piecewise linear and the last convolution has none; the wide channels are a
/// multiple of 8, so that the bits of a pixel are whole bytes.
pub(crate) struct InvertedResidualRule<T: Real> {
    /// None: the depthwise convolution reads the input.
    pub(crate) expand: Option<ConvRule<T>>,
    pub(crate) depthwise: DepthwiseRule<T>,
    /// Its `residual` says whether the second input is added to the result.
    pub(crate) project: ConvRule<T>,
    pub(crate) input: Shape,
    /// What the depthwise convolution gives.
    pub(crate) middle: Shape,
}

/// One thread's share of a forward pass.
struct Forward<'a, T: Real> {
    /// Lines of the output.
    lines: Range<usize>,
    y: &'a mut [T],
    /// Bits of the widened lines that are this share's to write, if they are kept, and of all its lines of `middle`.
    wide_bits: Option<&'a mut [u8]>,
    middle_bits: Option<&'a mut [u8]>,
    wide: Buffer<T>,
    middle: Buffer<T>,
}

/// One thread's share of a vjp.
struct Backward<'a, T: Real> {
    /// Lines of the input.
    lines: Range<usize>,
    dx: &'a mut [T],
    wide: Buffer<T>,
    middle: Buffer<T>,
}

impl<T: Real> InvertedResidualRule<T> {
    /// Values of a line of the widened input.
    fn wide_line(&self) -> usize {
        self.input.w * self.middle.c
    }

    /// Values of a line of `middle`.
    fn middle_line(&self) -> usize {
        self.middle.w * self.middle.c
    }

    /// Bytes that the bits of a widened line take: none where nothing is widened.
    fn wide_bytes(&self) -> usize {
        if self.expand.is_some() { self.wide_line() / 8 } else { 0 }
    }

    /// Bytes that the bits of a line of `middle` take.
    fn middle_bytes(&self) -> usize {
        self.middle_line() / 8
    }

    /// Bytes that the bits of an image take: those of the widened lines, then those of `middle`.
    fn bytes(&self) -> usize {
        self.input.h * self.wide_bytes() + self.middle.h * self.middle_bytes()
    }

    /// Lines of the input that lines `of` of the output see.
    fn seen(&self, of: &Range<usize>) -> Range<usize> {
        let w = self.depthwise.window;
        let first = (of.start * w.stride).saturating_sub(w.top).min(self.input.h);
        let end = ((of.end - 1) * w.stride + w.kh).saturating_sub(w.top).min(self.input.h);
        first..end.max(first)
    }

    /// Lines of the output that see any of lines `of` of the input.
    fn seeing(&self, of: &Range<usize>) -> Range<usize> {
        let w = self.depthwise.window;
        let first = (of.start + w.top + 1).saturating_sub(w.kh).div_ceil(w.stride).min(self.middle.h);
        let end = ((of.end - 1 + w.top) / w.stride + 1).min(self.middle.h);
        first..end.max(first)
    }

    /// Lines worked on together, a multiple of `step`, and the lengths of the buffers for them.
    fn strip(
        &self,
        total: usize,
        step: usize,
        lengths: impl Fn(usize) -> (usize, usize),
    ) -> (usize, usize, usize) {
        let fits = |lines: usize| {
            let (a, b) = lengths(lines);
            a + b <= BUFFERED
        };
        let mut lines = step;
        while lines < total && fits(lines + step) {
            lines += step;
        }
        // The same number of strips with their lines spread evenly.
        let strips = total.div_ceil(lines).max(1);
        let lines = total.div_ceil(strips).next_multiple_of(step).max(step);
        let (a, b) = lengths(lines);
        (lines, a, b)
    }

    fn forward_strip(&self) -> (usize, usize, usize) {
        let w = self.depthwise.window;
        self.strip(self.middle.h, 1, |lines| {
            let seen = ((lines - 1) * w.stride + w.kh).min(self.input.h);
            let wide = if self.expand.is_some() { seen * self.wide_line() } else { 0 };
            (wide, lines.min(self.middle.h) * self.middle_line())
        })
    }

    fn backward_strip(&self) -> (usize, usize, usize) {
        let w = self.depthwise.window;
        self.strip(self.input.h, w.stride, |lines| {
            let seeing = ((lines + w.kh - 2) / w.stride + 1).min(self.middle.h);
            let wide = if self.expand.is_some() { lines.min(self.input.h) * self.wide_line() } else { 0 };
            (wide, seeing * self.middle_line())
        })
    }

    /// Into how many shares the block falls.
    fn shares(&self, threads: usize, lines: usize) -> usize {
        let rows = self.middle.rows() * self.middle.c * self.project.bias.len();
        if rows < SHARED { 1 } else { threads.clamp(1, lines.max(1)) }
    }

    fn sweep<'a>(
        &'a self,
        rows: Line,
        columns: Line,
        x: &'a [T],
        input: Shape,
        output: Shape,
    ) -> Sweep<'a, T> {
        Sweep {
            rows,
            columns,
            x,
            input,
            output,
            weight: &self.depthwise.weight,
            kw: self.depthwise.window.kw,
            bias: None,
            activation: Activation::Identity,
            slope: None,
            accumulate: false,
        }
    }

    /// The block on image `x`; into `bits` goes what the vjp needs of it.
    fn forward_image(
        &self,
        ws: &mut Workspace<T>,
        x: &[T],
        residual: Option<&[T]>,
        bits: Option<&mut [u8]>,
        y: &mut [T],
    ) {
        let (mut wide_bits, mut middle_bits) = match bits {
            Some(bits) => {
                let (wide, middle) = bits.split_at_mut(self.input.h * self.wide_bytes());
                (Some(wide), Some(middle))
            }
            None => (None, None),
        };
        let (_, wide_len, middle_len) = self.forward_strip();
        let line = self.middle.w * self.project.bias.len();
        let mut shares = Vec::new();
        let mut y = y;
        for lines in ranges(self.middle.h, self.shares(ws.threads, self.middle.h), 1) {
            let (mine, rest) = std::mem::take(&mut y).split_at_mut(lines.len() * line);
            y = rest;
            let own = if lines.end == self.middle.h {
                self.input.h
            } else {
                self.seen(&(lines.end..lines.end + 1)).start
            } - self.seen(&lines).start;
            shares.push(Forward {
                y: mine,
                wide_bits: first(&mut wide_bits, own * self.wide_bytes()),
                middle_bits: first(&mut middle_bits, lines.len() * self.middle_bytes()),
                wide: ws.pool.take(wide_len),
                middle: ws.pool.take(middle_len),
                lines,
            });
        }
        let isa = ws.isa;
        each(&mut shares, &|share| self.forward_lines(isa, x, residual, share));
        for share in shares {
            ws.pool.give(share.wide);
            ws.pool.give(share.middle);
        }
    }

    /// The gradient towards an image, of whose forward pass `bits` are left; whether it is added to `dx`, and the slope it
    /// is multiplied by.
    fn backward_image(
        &self,
        ws: &mut Workspace<T>,
        grad: &[T],
        bits: &[u8],
        last: (bool, Option<Slope<T>>),
        dx: &mut [T],
    ) {
        let (_, wide_len, middle_len) = self.backward_strip();
        let line = self.input.w * self.input.c;
        let mut shares = Vec::new();
        let mut dx = dx;
        let count = self.shares(ws.threads, self.input.h);
        for lines in ranges(self.input.h, count, self.depthwise.window.stride) {
            let (mine, rest) = std::mem::take(&mut dx).split_at_mut(lines.len() * line);
            dx = rest;
            shares.push(Backward {
                dx: mine,
                wide: ws.pool.take(wide_len),
                middle: ws.pool.take(middle_len),
                lines,
            });
        }
        let isa = ws.isa;
        each(&mut shares, &|share| self.backward_lines(isa, grad, bits, last, share));
        for share in shares {
            ws.pool.give(share.wide);
            ws.pool.give(share.middle);
        }
    }

    fn forward_lines(&self, isa: Isa, x: &[T], residual: Option<&[T]>, share: &mut Forward<'_, T>) {
        let Forward { lines, y, wide_bits, middle_bits, wide, middle } = share;
        let w = self.depthwise.window;
        let (step, _, _) = self.forward_strip();
        let (wide_line, middle_line) = (self.wide_line(), self.middle_line());
        let (x_line, y_line) = (self.input.w * self.input.c, self.middle.w * self.project.bias.len());
        let owned = self.seen(lines).start;
        let mut held = owned..owned;
        for from in lines.clone().step_by(step) {
            let strip = from..lines.end.min(from + step);
            let count = strip.len();
            let seen = self.seen(&strip);
            let source = match &self.expand {
                None => &x[seen.start * x_line..seen.end * x_line],
                Some(expand) => {
                    if held.end > seen.start {
                        let kept = (seen.start - held.start) * wide_line..held.len() * wide_line;
                        wide.copy_within(kept, 0);
                    }
                    let new = held.end.max(seen.start)..seen.end;
                    // Lines that the next share makes too are its own to note.
                    let bytes = self.wide_bytes();
                    let noted = wide_bits.as_ref().map_or(0, |bits| owned + bits.len() / bytes);
                    let noted = noted.clamp(new.start, new.end);
                    for lines in
                        [new.start..noted, noted..new.end].into_iter().filter(|lines| !lines.is_empty())
                    {
                        let at = (lines.start - seen.start) * wide_line;
                        let out = &mut wide[at..at + lines.len() * wide_line];
                        let bits = wide_bits.as_mut().filter(|_| lines.end <= noted);
                        let bits = bits.map(|bits| {
                            let at = (lines.start - owned) * bytes;
                            Derivative::Bits(&mut bits[at..at + lines.len() * bytes])
                        });
                        let epilogue = Epilogue {
                            bias: Some(&expand.bias),
                            activation: expand.activation,
                            derivative: bits,
                            ..Default::default()
                        };
                        let (m, left) = (
                            lines.len() * self.input.w,
                            Left::rows(&x[lines.start * x_line..], self.input.c),
                        );
                        gemm(isa, m, left, &expand.weight, out, self.middle.c, epilogue);
                    }
                    held = seen.clone();
                    &wide[..seen.len() * wide_line]
                }
            };
            let (input, output) = (Shape { h: seen.len(), ..self.wide() }, Shape { h: count, ..self.middle });
            let rows = Line::forward(count, w.stride, w.kh, w.top)
                .moved(seen.start as isize - (strip.start * w.stride) as isize);
            let columns = Line::forward(self.middle.w, w.stride, w.kw, w.left);
            let sweep = Sweep {
                bias: Some(&self.depthwise.bias),
                activation: self.depthwise.activation,
                ..self.sweep(rows, columns, source, input, output)
            };
            let middle = &mut middle[..count * middle_line];
            sweep.run(1, isa, middle);
            if let Some(bits) = middle_bits {
                let bits = &mut bits[(strip.start - lines.start) * self.middle_bytes()..];
                on_vector!(isa, note::<T>(self.depthwise.activation, middle, bits));
            }
            let epilogue = Epilogue {
                bias: Some(&self.project.bias),
                residual: residual.map(|r| &r[strip.start * y_line..strip.end * y_line]),
                ..Default::default()
            };
            let out = &mut y[(strip.start - lines.start) * y_line..][..count * y_line];
            let left = Left::rows(&*middle, self.middle.c);
            gemm(
                isa,
                count * self.middle.w,
                left,
                &self.project.weight,
                out,
                self.project.bias.len(),
                epilogue,
            );
        }
    }

    /// Shape of the widened input.
    fn wide(&self) -> Shape {
        Shape { c: self.middle.c, ..self.input }
    }

    fn backward_lines(
        &self,
        isa: Isa,
        grad: &[T],
        bits: &[u8],
        (accumulate, slope): (bool, Option<Slope<T>>),
        share: &mut Backward<'_, T>,
    ) {
        let Backward { lines, dx, wide, middle } = share;
        let w = self.depthwise.window;
        let (step, _, _) = self.backward_strip();
        let (wide_line, middle_line) = (self.wide_line(), self.middle_line());
        let (wide_bits, middle_bits) = bits.split_at(self.input.h * self.wide_bytes());
        let (wide_bits, middle_bits) = (Slope::<T>::Bits(wide_bits), Slope::<T>::Bits(middle_bits));
        let (dx_line, grad_line) = (self.input.w * self.input.c, self.middle.w * self.project.bias.len());
        let narrow = self.project.transposed.get_or_init(|| self.project.weight.transposed());
        let mut held = 0..0;
        for from in lines.clone().step_by(step) {
            let strip = from..lines.end.min(from + step);
            let seeing = self.seeing(&strip);
            if held.end > seeing.start && held.start <= seeing.start {
                middle.copy_within((seeing.start - held.start) * middle_line..held.len() * middle_line, 0);
            } else {
                held = seeing.start..seeing.start;
            }
            let new = held.end..seeing.end.max(held.end);
            if !new.is_empty() {
                let out = &mut middle[(new.start - seeing.start) * middle_line..][..new.len() * middle_line];
                let left = Left::rows(&grad[new.start * grad_line..], self.project.bias.len());
                let slope = Some(middle_bits.from(new.start * middle_line));
                let epilogue = Epilogue { slope, ..Default::default() };
                gemm(isa, new.len() * self.middle.w, left, narrow, out, self.middle.c, epilogue);
            }
            held = seeing.start..new.end;
            let gradient = &middle[..seeing.len() * middle_line];
            let (input, output) =
                (Shape { h: seeing.len(), ..self.middle }, Shape { h: strip.len(), ..self.wide() });
            let at = (strip.start - lines.start) * dx_line;
            let slope = slope.map(|s| s.from(strip.start * dx_line));
            let out = &mut dx[at..at + strip.len() * dx_line];
            // Strips begin at multiples of the stride: by so many outputs is this one moved.
            let moved = seeing.start as isize - (strip.start / w.stride) as isize;
            for rest_y in 0..w.stride {
                for rest_x in 0..w.stride {
                    let rows = Line::backward(strip.len(), rest_y, w.stride, w.kh, w.top).moved(moved);
                    let columns = Line::backward(self.input.w, rest_x, w.stride, w.kw, w.left);
                    let sweep = self.sweep(rows, columns, gradient, input, output);
                    match self.expand {
                        Some(_) => {
                            let slope = Some(wide_bits.from(strip.start * wide_line));
                            Sweep { slope, ..sweep }.run(1, isa, &mut wide[..strip.len() * wide_line]);
                        }
                        None => Sweep { slope, accumulate, ..sweep }.run(1, isa, out),
                    }
                }
            }
            if let Some(expand) = &self.expand {
                let wide = &wide[..strip.len() * wide_line];
                let transposed = expand.transposed.get_or_init(|| expand.weight.transposed());
                let epilogue = Epilogue { accumulate, slope, ..Default::default() };
                let left = Left::rows(wide, self.middle.c);
                gemm(isa, strip.len() * self.input.w, left, transposed, out, self.input.c, epilogue);
            }
        }
    }
}

/// Sets the bit of each value behind `f` where a gradient passes.
#[inline(always)]
fn note<T: Real, V: Vector<T>>(f: Activation, y: &[T], bits: &mut [u8]) {
    for (i, y) in y.chunks(V::LANES).enumerate() {
        store_bits(f, [V::load_part(y)], i * V::LANES, y.len(), bits);
    }
}

/// `count` ranges of nearly one length that cover 0..`total`, all but the last ending at multiples of `step`.
fn ranges(total: usize, count: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    let end = move |i: usize| if i == count { total } else { (total * i / count / step * step).min(total) };
    (0..count).map(move |i| end(i)..end(i + 1)).filter(|r| !r.is_empty())
}

impl<T: Real> Rule<T> for InvertedResidualRule<T> {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        save: bool,
    ) -> (Tensor<T>, Saved<T>) {
        assert!(!x[0].is_jet(), "a piecewise linear block has no jet");
        let mut y = ws.like(x[0], shape);
        let images = y.planes();
        let mut saved = save.then(|| ws.pool.take((images * self.bytes()).div_ceil(size_of::<T>())));
        let mut all_bits = saved.as_mut().map(|saved| saved.bytes_mut());
        for image in 0..images {
            let bits = first(&mut all_bits, self.bytes());
            let residual = self.project.residual.then(|| x[1].plane(image));
            self.forward_image(ws, x[0].plane(image), residual, bits, y.plane_mut(image));
        }
        (y, saved)
    }

    fn vjp(&self, ws: &mut Workspace<T>, grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        if self.project.residual {
            let mut copy = ws.like(&grad, grad.shape);
            copy.data.copy_from_slice(&grad.data);
            into.add(ws, back.nodes[1], copy);
        }
        let saved = back.saved.as_ref().expect("forward saved the bits");
        let (mut dx, fresh) = into.open(ws, back.nodes[0], self.input);
        for image in 0..grad.planes() {
            let bits = &saved.bytes()[image * self.bytes()..][..self.bytes()];
            let slope = back.slopes[0].map(|s| s.from(image * self.input.len()));
            self.backward_image(ws, grad.plane(image), bits, (!fresh, slope), dx.plane_mut(image));
        }
        into.finish(ws, back.nodes[0], dx, back.slopes[0].is_some());
        if let Some(saved) = back.saved {
            ws.pool.give(saved);
        }
        ws.pool.give(grad.data);
    }
}

/// Cuts the first `len` off `rest`.
fn first<'a>(rest: &mut Option<&'a mut [u8]>, len: usize) -> Option<&'a mut [u8]> {
    let (mine, others) = rest.take()?.split_at_mut(len);
    *rest = Some(others);
    Some(mine)
}

/// Calls `f` on each share, in the threads of the pool if there are several.
fn each<S: Send>(shares: &mut [S], f: &(dyn Fn(&mut S) + Sync)) {
    match shares {
        [] => {}
        [share] => f(share),
        [share, rest @ ..] => {
            rayon::join(|| f(share), || each(rest, f));
        }
    }
}
