//! Multi-head softmax attention, head by head: softmax(Q·Kᵀ)·V. The factor 1/√d is
//! folded into the query weights.

use crate::kernel::epilogue::Epilogue;
use crate::kernel::gemm::{Left, gemm};
use crate::kernel::pack::{Packed, packed_len};
use crate::kernel::vector::{Vector, on_vector};
use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

/// Scores worked on together: with their gradients, three quarters of a 1 MiB L2 cache as f32.
const BLOCK: usize = 96 * 1024;
/// Most probabilities of a layer that are kept for its vjp, 16 MiB as f32; where there would be more, they are
/// computed again.
const SAVED: usize = 4 * 1024 * 1024;

/// Rows of `stride` scores worked on together.
fn block_rows(stride: usize) -> usize {
    (BLOCK / stride).max(12)
}

/// Where one of Q, K, V lies: columns from `column` of input `input`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Index among the step's inputs.
    pub input: usize,
    /// First column.
    pub column: usize,
}

/// Attention ready to run. Output: query rows × (heads·dim).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionRule {
    /// Number of heads.
    pub heads: usize,
    /// Channels a head.
    pub dim: usize,
    /// Queries.
    pub query: Part,
    /// Keys.
    pub key: Part,
    /// Values.
    pub value: Part,
}

/// Values a row of scores is padded to a multiple of: one register of the widest set, so that no row has a rest
/// and every set sums its values in the same order.
const LANES: usize = 16;

/// Length of a row of scores for `keys` keys.
pub(crate) fn row_len(keys: usize) -> usize {
    keys.next_multiple_of(LANES)
}

/// Sixteen sums side by side, in one register or in two.
#[inline(always)]
fn add_up<T: Real, V: Vector<T>>(sums: [V; 2]) -> T {
    let mut lanes = [T::ZERO; LANES];
    for r in 0..LANES / V::LANES {
        // SAFETY: the registers together have LANES lanes.
        unsafe { sums[r].store(lanes.as_mut_ptr().add(r * V::LANES)) };
    }
    let mut total = T::ZERO;
    for lane in lanes {
        total += lane;
    }
    total
}

/// s ← softmax of the first `n` of each row of [`row_len`]`(n)` values; the rest become as good as 0.
#[inline(always)]
pub(crate) fn softmax<T: Real, V: Vector<T>>(n: usize, s: &mut [T]) {
    let lowest = T::of(-1e30);
    for row in s.chunks_exact_mut(row_len(n)) {
        row[n..].fill(lowest);
        let mut tops = [V::splat(lowest); 2];
        for chunk in row.chunks_exact(LANES) {
            for r in 0..LANES / V::LANES {
                tops[r] = tops[r].max(V::load_part(&chunk[r * V::LANES..]));
            }
        }
        let mut top = lowest;
        let mut lanes = [T::ZERO; LANES];
        for r in 0..LANES / V::LANES {
            // SAFETY: the registers together have LANES lanes.
            unsafe { tops[r].store(lanes.as_mut_ptr().add(r * V::LANES)) };
        }
        for lane in lanes {
            top = Real::max(top, lane);
        }
        let top = V::splat(top);
        let mut sums = [V::splat(T::ZERO); 2];
        for chunk in row.chunks_exact_mut(LANES) {
            for r in 0..LANES / V::LANES {
                let part = &mut chunk[r * V::LANES..];
                let e = V::load_part(part).sub(top).exp();
                e.store_part(part);
                sums[r] = sums[r].add(e);
            }
        }
        let scale = V::splat(T::ONE / add_up(sums));
        for part in row.chunks_exact_mut(V::LANES) {
            V::load_part(part).mul(scale).store_part(part);
        }
    }
}

/// d ← p·(d − Σ p·d) row by row: the vjp of softmax, and its jvp, the Jacobian being symmetric.
#[inline(always)]
pub(crate) fn softmax_back<T: Real, V: Vector<T>>(n: usize, p: &[T], d: &mut [T]) {
    let len = row_len(n);
    for (p, d) in p.chunks_exact(len).zip(d.chunks_exact_mut(len)) {
        d[n..].fill(T::ZERO);
        let along = V::splat(sum_of_products::<T, V>(p, d));
        for (p, d) in p.chunks_exact(V::LANES).zip(d.chunks_exact_mut(V::LANES)) {
            V::load_part(p).mul(V::load_part(d).sub(along)).store_part(d);
        }
    }
}

#[inline(always)]
fn sum_of_products<T: Real, V: Vector<T>>(a: &[T], b: &[T]) -> T {
    let mut sums = [V::splat(T::ZERO); 2];
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        for r in 0..LANES / V::LANES {
            let (a, b) = (V::load_part(&a[r * V::LANES..]), V::load_part(&b[r * V::LANES..]));
            sums[r] = a.mul_add(b, sums[r]);
        }
    }
    add_up(sums)
}

/// (s0, s1, s2) ← the jet of softmax; s0 holds the probabilities already.
#[inline(always)]
pub(crate) fn softmax_jet<T: Real, V: Vector<T>>(n: usize, p0: &[T], s1: &mut [T], s2: &mut [T]) {
    let len = row_len(n);
    let rows = p0.chunks_exact(len).zip(s1.chunks_exact_mut(len)).zip(s2.chunks_exact_mut(len));
    for ((p0, s1), s2) in rows {
        s1[n..].fill(T::ZERO);
        s2[n..].fill(T::ZERO);
        let mean1 = V::splat(sum_of_products::<T, V>(p0, s1));
        // p′ = p·(s′ − mean′); its own derivative needs d(mean′)/dt = Σ p′s′ + Σ p s″.
        let mut sums = [V::splat(T::ZERO); 2];
        for ((p0, s1), s2) in p0.chunks_exact(LANES).zip(s1.chunks_exact(LANES)).zip(s2.chunks_exact(LANES)) {
            for r in 0..LANES / V::LANES {
                let at = r * V::LANES;
                let (p0, s1, s2) =
                    (V::load_part(&p0[at..]), V::load_part(&s1[at..]), V::load_part(&s2[at..]));
                sums[r] = p0.mul_add(s1.sub(mean1).mul_add(s1, s2), sums[r]);
            }
        }
        let mean2 = V::splat(add_up(sums));
        let rest = s1.chunks_exact_mut(V::LANES).zip(s2.chunks_exact_mut(V::LANES));
        for (p0, (s1, s2)) in p0.chunks_exact(V::LANES).zip(rest) {
            let p0 = V::load_part(p0);
            let centred = V::load_part(s1).sub(mean1);
            p0.mul(centred.mul_add(centred, V::load_part(s2).sub(mean2))).store_part(s2);
            p0.mul(centred).store_part(s1);
        }
    }
}

impl AttentionRule {
    /// Whether no two of Q, K and V share columns of an input.
    fn parts_are_apart(&self) -> bool {
        let width = self.heads * self.dim;
        let apart = |a: Part, b: Part| a.input != b.input || a.column.abs_diff(b.column) >= width;
        apart(self.query, self.key) && apart(self.query, self.value) && apart(self.key, self.value)
    }

    fn left<'a, T: Real>(
        &self,
        part: Part,
        x: &[&'a Tensor<T>],
        plane: usize,
        head: usize,
        row: usize,
    ) -> Left<'a, T> {
        let t = x[part.input];
        let at = row * t.shape.c + part.column + head * self.dim;
        Left::rows(&t.plane(plane)[at..], t.shape.c)
    }

    /// Packs the tokens×dim block of one head, as it is or transposed.
    fn pack<T: Real>(
        &self,
        ws: &mut Workspace<T>,
        source: &[T],
        tokens: usize,
        stride: usize,
        transpose: bool,
    ) -> Packed<T> {
        let (k, n, row, column) =
            if transpose { (self.dim, tokens, 1, stride) } else { (tokens, self.dim, stride, 1) };
        let buffer = ws.pool.take(packed_len(ws.isa, k, n));
        Packed::in_buffer(ws.isa, k, n, source, row, column, buffer)
    }

    fn pack_part<T: Real>(
        &self,
        ws: &mut Workspace<T>,
        part: Part,
        x: &[&Tensor<T>],
        plane: usize,
        head: usize,
        transpose: bool,
    ) -> Packed<T> {
        let t = x[part.input];
        let source = &t.plane(plane)[part.column + head * self.dim..];
        self.pack(ws, source, t.shape.rows(), t.shape.c, transpose)
    }
}

impl<T: Real> Rule<T> for AttentionRule {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        save: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let mut y = ws.like(x[0], shape);
        // Planes that belong together: all of a jet, one of several images.
        let (planes, images) = if y.is_jet() { (y.planes(), 1) } else { (1, y.planes()) };
        let (queries, keys) = (shape.rows(), x[self.key.input].shape.rows());
        let (isa, len, stride) = (ws.isa, shape.len(), row_len(keys));
        let block = block_rows(stride).min(queries);
        // Saved, the probabilities of all heads follow each other; else each block overwrites the last.
        let saved_len = self.heads * queries * stride;
        let mut saved = (save && saved_len <= SAVED).then(|| ws.pool.take(images * saved_len));
        let mut scores: Vec<_> = (0..planes).map(|_| ws.pool.take(block * stride)).collect();
        for (image, head) in (0..images).flat_map(|i| (0..self.heads).map(move |h| (i, h))) {
            let packs = |ws: &mut Workspace<T>, part, transpose| -> Vec<_> {
                (0..planes).map(|p| self.pack_part(ws, part, x, image + p, head, transpose)).collect()
            };
            let (k, v) = (packs(ws, self.key, true), packs(ws, self.value, false));
            for from in (0..queries).step_by(block) {
                let rows = block.min(queries - from);
                let n = rows * stride;
                let mut planes_of: Vec<&mut [T]> = scores.iter_mut().map(|s| &mut s[..n]).collect();
                if let Some(saved) = &mut saved {
                    let at = image * saved_len + (head * queries + from) * stride;
                    planes_of[0] = &mut saved[at..at + n];
                }
                for p in 0..planes {
                    // Leibniz: (q·k)⁽ᵖ⁾ = Σ binomial(p, i) q⁽ⁱ⁾·k⁽ᵖ⁻ⁱ⁾.
                    for (t, &(i, j)) in leibniz(p).iter().enumerate() {
                        let q = self.left(self.query, x, image + i, head, from);
                        let epilogue = Epilogue { accumulate: t > 0, ..Default::default() };
                        gemm(isa, rows, q, &k[j], planes_of[p], stride, epilogue);
                        if p == 2 && t == 0 {
                            planes_of[p].iter_mut().for_each(|s| *s += *s);
                        }
                    }
                }
                let (s0, rest) = planes_of.split_first_mut().expect("there is a plane");
                on_vector!(isa, softmax::<T>(keys, s0));
                match rest {
                    [s1] => on_vector!(isa, softmax_back::<T>(keys, s0, s1)),
                    [s1, s2] => on_vector!(isa, softmax_jet::<T>(keys, s0, s1, s2)),
                    _ => {}
                }
                for p in 0..planes {
                    let out = &mut y.data[(image + p) * len + from * shape.c + head * self.dim..];
                    for (t, &(i, j)) in leibniz(p).iter().enumerate() {
                        let epilogue = Epilogue { accumulate: t > 0, ..Default::default() };
                        let left = Left::rows(&*planes_of[i], stride);
                        gemm(isa, rows, left, &v[j], out, shape.c, epilogue);
                        if p == 2 && t == 0 {
                            for row in out.chunks_mut(shape.c).take(rows) {
                                row[..self.dim].iter_mut().for_each(|y| *y += *y);
                            }
                        }
                    }
                }
            }
            for packed in k.into_iter().chain(v) {
                ws.pool.give(packed.into_buffer());
            }
        }
        for s in scores {
            ws.pool.give(s);
        }
        (y, saved)
    }

    fn vjp(&self, ws: &mut Workspace<T>, grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        let x: Vec<&Tensor<T>> = (0..back.nodes.len()).map(|i| back.input(i)).collect();
        let (queries, keys, c) = (grad.shape.rows(), x[self.key.input].shape.rows(), grad.shape.c);
        let (isa, stride) = (ws.isa, row_len(keys));
        let block = block_rows(stride).min(queries);
        let mut dx: Vec<Tensor<T>> = back.shapes.iter().map(|&s| ws.zeros_like(&grad, s)).collect();
        let (mut again, mut dp) = (ws.pool.take(block * stride), ws.pool.take(block * stride));
        // The first gradient of a part overwrites the zeros, unless another part lies in the same place.
        let apart = self.parts_are_apart();
        let add = |first: bool| Epilogue { accumulate: !(first && apart), ..Default::default() };
        for (image, head) in (0..grad.planes()).flat_map(|i| (0..self.heads).map(move |h| (i, h))) {
            let offset = |part: Part| image * back.shapes[part.input].len() + part.column + head * self.dim;
            let v_t = self.pack_part(ws, self.value, &x, image, head, true);
            let k = self.pack_part(ws, self.key, &x, image, head, false);
            let k_t = back.saved.is_none().then(|| self.pack_part(ws, self.key, &x, image, head, true));
            for from in (0..queries).step_by(block) {
                let rows = block.min(queries - from);
                let n = rows * stride;
                let q = self.left(self.query, &x, image, head, from);
                let g_at = image * grad.shape.len() + from * c + head * self.dim;
                let p: &[T] = match (&back.saved, &k_t) {
                    (Some(saved), _) => {
                        &saved[((image * self.heads + head) * queries + from) * stride..][..n]
                    }
                    (None, None) => unreachable!("the keys are packed where no probabilities are saved"),
                    (None, Some(k_t)) => {
                        gemm(isa, rows, q, k_t, &mut again[..n], stride, Epilogue::default());
                        on_vector!(isa, softmax::<T>(keys, &mut again[..n]));
                        &again[..n]
                    }
                };
                let left = Left::rows(&grad.data[g_at..], c);
                gemm(isa, rows, left, &v_t, &mut dp[..n], stride, Epilogue::default());
                let g = self.pack(ws, &grad.data[g_at..], rows, c, false);
                let (values, width) = (&mut dx[self.value.input], back.shapes[self.value.input].c);
                let p_t = Left { data: p, row: 1, column: stride };
                gemm(isa, keys, p_t, &g, &mut values.data[offset(self.value)..], width, add(from == 0));
                ws.pool.give(g.into_buffer());
                on_vector!(isa, softmax_back::<T>(keys, p, &mut dp[..n]));
                let (query, width) = (&mut dx[self.query.input], back.shapes[self.query.input].c);
                let out = &mut query.data[from * width + offset(self.query)..];
                gemm(isa, rows, Left::rows(&dp[..n], stride), &k, out, width, add(true));
                let packed_q = self.pack(ws, q.data, rows, q.row, false);
                let (key, width) = (&mut dx[self.key.input], back.shapes[self.key.input].c);
                let dp_t = Left { data: &dp[..n], row: 1, column: stride };
                gemm(isa, keys, dp_t, &packed_q, &mut key.data[offset(self.key)..], width, add(from == 0));
                ws.pool.give(packed_q.into_buffer());
            }
            for packed in [Some(v_t), Some(k), k_t].into_iter().flatten() {
                ws.pool.give(packed.into_buffer());
            }
        }
        for buffer in [Some(again), Some(dp), Some(grad.data), back.saved].into_iter().flatten() {
            ws.pool.give(buffer);
        }
        for (node, dx) in back.nodes.iter().zip(dx) {
            into.add(ws, *node, dx);
        }
    }

    fn keeps_inputs(&self) -> bool {
        true
    }

    fn saved_len(&self, shape: Shape) -> usize {
        // As many keys as queries, or the last block's one query.
        Some(self.heads * shape.rows() * row_len(shape.rows())).filter(|&len| len <= SAVED).unwrap_or(0)
    }
}

/// Terms (i, p − i) of the p-th derivative of a product. The middle one of the second derivative comes first: it is
/// to be doubled before the others are added.
fn leibniz(p: usize) -> &'static [(usize, usize)] {
    match p {
        0 => &[(0, 0)],
        1 => &[(0, 1), (1, 0)],
        _ => &[(1, 1), (0, 2), (2, 0)],
    }
}
