//! Multi-head softmax attention, head by head: softmax(Q·Kᵀ)·V. The factor 1/√d is
//! folded into the query weights.

use crate::kernel::gemm::{Epilogue, Left, Packed, gemm, packed_len};
use crate::kernel::isa::on_isa;
use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

/// Rows of the score matrix worked on together: 96·257 f32 fit a tenth of the L2 cache.
const BLOCK: usize = 96;

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

/// s ← softmax of each row of `n`.
#[inline(always)]
pub(crate) fn softmax<T: Real, const FMA: bool>(n: usize, s: &mut [T]) {
    for row in s.chunks_exact_mut(n) {
        let mut lanes = [T::of(-1e30); 16];
        let (whole, rest) = row.as_chunks::<16>();
        for chunk in whole {
            for l in 0..16 {
                lanes[l] = Real::max(lanes[l], chunk[l]);
            }
        }
        let top = lanes.iter().chain(rest).fold(T::of(-1e30), |a, &b| Real::max(a, b));
        let mut sums = [T::ZERO; 16];
        let (whole, rest) = row.as_chunks_mut::<16>();
        for chunk in whole {
            for l in 0..16 {
                chunk[l] = (chunk[l] - top).exp();
                sums[l] += chunk[l];
            }
        }
        let mut total = T::ZERO;
        for x in rest {
            *x = (*x - top).exp();
            total += *x;
        }
        for s in sums {
            total += s;
        }
        let scale = T::ONE / total;
        row.iter_mut().for_each(|x| *x *= scale);
    }
}

/// d ← p·(d − Σ p·d) row by row: the vjp of softmax.
#[inline(always)]
pub(crate) fn softmax_back<T: Real, const FMA: bool>(n: usize, p: &[T], d: &mut [T]) {
    for (p, d) in p.chunks_exact(n).zip(d.chunks_exact_mut(n)) {
        let mut lanes = [T::ZERO; 16];
        for (i, (p, d)) in p.iter().zip(d.iter()).enumerate() {
            lanes[i % 16] += *p * *d;
        }
        let along = lanes.iter().fold(T::ZERO, |a, &b| a + b);
        for (p, d) in p.iter().zip(d.iter_mut()) {
            *d = *p * (*d - along);
        }
    }
}

/// (s0, s1, s2) ← the jet of softmax; s0 holds the probabilities already.
#[inline(always)]
pub(crate) fn softmax_jet<T: Real, const FMA: bool>(n: usize, p0: &[T], s1: &mut [T], s2: &mut [T]) {
    let rows = p0.chunks_exact(n).zip(s1.chunks_exact_mut(n)).zip(s2.chunks_exact_mut(n));
    for ((p0, s1), s2) in rows {
        let mean1 = p0.iter().zip(s1.iter()).fold(T::ZERO, |a, (p, s)| a + *p * *s);
        // p′ = p·(s′ − mean′); its own derivative needs d(mean′)/dt = Σ p′s′ + Σ p s″.
        let mut mean2 = T::ZERO;
        for i in 0..n {
            let centred = s1[i] - mean1;
            mean2 += p0[i] * (centred * s1[i] + s2[i]);
        }
        for i in 0..n {
            let centred = s1[i] - mean1;
            s2[i] = p0[i] * (centred * centred + s2[i] - mean2);
            s1[i] = p0[i] * centred;
        }
    }
}

impl AttentionRule {
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
        _: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let planes = x[0].planes();
        let (queries, keys) = (shape.rows(), x[self.key.input].shape.rows());
        let mut y = ws.tensor(shape, planes);
        let (isa, len) = (ws.isa, shape.len());
        let block = BLOCK.min(queries);
        let mut scores: Vec<_> = (0..planes).map(|_| ws.pool.take(block * keys)).collect();
        for head in 0..self.heads {
            let k: Vec<_> = (0..planes).map(|p| self.pack_part(ws, self.key, x, p, head, true)).collect();
            let v: Vec<_> = (0..planes).map(|p| self.pack_part(ws, self.value, x, p, head, false)).collect();
            for from in (0..queries).step_by(BLOCK) {
                let rows = BLOCK.min(queries - from);
                for (p, score) in scores.iter_mut().enumerate() {
                    // Leibniz: (q·k)⁽ᵖ⁾ = Σ binomial(p, i) q⁽ⁱ⁾·k⁽ᵖ⁻ⁱ⁾; the middle term of p = 2 counts twice.
                    let mut begun = false;
                    for (i, j, times) in leibniz(p) {
                        let q = self.left(self.query, x, i, head, from);
                        for _ in 0..times {
                            let epilogue = Epilogue { accumulate: begun, ..Default::default() };
                            gemm(isa, rows, q, &k[j], &mut score[..rows * keys], keys, epilogue);
                            begun = true;
                        }
                    }
                }
                let (s0, rest) = scores.split_first_mut().expect("there is a plane");
                on_isa!(isa, softmax::<T>(keys, &mut s0[..rows * keys]));
                if let [s1, s2] = rest {
                    let n = rows * keys;
                    on_isa!(isa, softmax_jet::<T>(keys, &s0[..n], &mut s1[..n], &mut s2[..n]));
                }
                for p in 0..planes {
                    let mut begun = false;
                    for (i, j, times) in leibniz(p) {
                        for _ in 0..times {
                            let epilogue = Epilogue { accumulate: begun, ..Default::default() };
                            let out = &mut y.data[p * len + from * shape.c + head * self.dim..];
                            gemm(isa, rows, Left::rows(&scores[i], keys), &v[j], out, shape.c, epilogue);
                            begun = true;
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
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        let x: Vec<&Tensor<T>> = (0..back.nodes.len()).map(|i| back.input(i)).collect();
        let (queries, keys, c) = (grad.shape.rows(), x[self.key.input].shape.rows(), grad.shape.c);
        let isa = ws.isa;
        let block = BLOCK.min(queries);
        let mut dx: Vec<Tensor<T>> = back.shapes.iter().map(|&s| ws.zeroed(s)).collect();
        let (mut p, mut dp) = (ws.pool.take(block * keys), ws.pool.take(block * keys));
        let add = || Epilogue { accumulate: true, ..Default::default() };
        for head in 0..self.heads {
            let offset = |part: Part| part.column + head * self.dim;
            let k_t = self.pack_part(ws, self.key, &x, 0, head, true);
            let v_t = self.pack_part(ws, self.value, &x, 0, head, true);
            let k = self.pack_part(ws, self.key, &x, 0, head, false);
            for from in (0..queries).step_by(BLOCK) {
                let rows = BLOCK.min(queries - from);
                let n = rows * keys;
                let q = self.left(self.query, &x, 0, head, from);
                let g_at = from * c + head * self.dim;
                gemm(isa, rows, q, &k_t, &mut p[..n], keys, Epilogue::default());
                on_isa!(isa, softmax::<T>(keys, &mut p[..n]));
                gemm(
                    isa,
                    rows,
                    Left::rows(&grad.data[g_at..], c),
                    &v_t,
                    &mut dp[..n],
                    keys,
                    Epilogue::default(),
                );
                let g = self.pack(ws, &grad.data[g_at..], rows, c, false);
                let (values, stride) = (&mut dx[self.value.input], back.shapes[self.value.input].c);
                let p_t = Left { data: &p[..n], row: 1, column: keys };
                gemm(isa, keys, p_t, &g, &mut values.data[offset(self.value)..], stride, add());
                ws.pool.give(g.into_buffer());
                on_isa!(isa, softmax_back::<T>(keys, &p[..n], &mut dp[..n]));
                let (query, stride) = (&mut dx[self.query.input], back.shapes[self.query.input].c);
                let out = &mut query.data[from * stride + offset(self.query)..];
                gemm(isa, rows, Left::rows(&dp[..n], keys), &k, out, stride, add());
                let packed_q = self.pack(ws, q.data, rows, q.row, false);
                let (key, stride) = (&mut dx[self.key.input], back.shapes[self.key.input].c);
                let dp_t = Left { data: &dp[..n], row: 1, column: keys };
                gemm(isa, keys, dp_t, &packed_q, &mut key.data[offset(self.key)..], stride, add());
                ws.pool.give(packed_q.into_buffer());
            }
            for packed in [k_t, v_t, k] {
                ws.pool.give(packed.into_buffer());
            }
        }
        for buffer in [p, dp, grad.data] {
            ws.pool.give(buffer);
        }
        for (node, dx) in back.nodes.iter().zip(dx) {
            into.add(ws, *node, dx);
        }
    }

    fn keeps_inputs(&self) -> bool {
        true
    }
}

/// Terms (i, p − i, binomial) of the p-th derivative of a product.
fn leibniz(p: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..=p).map(move |i| (i, p - i, if p == 2 && i == 1 { 2 } else { 1 }))
}
