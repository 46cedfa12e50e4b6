//! Product of two activations, matrix by matrix.

use crate::kernel::epilogue::Epilogue;
use crate::kernel::gemm::{Left, gemm};
use crate::kernel::pack::{Packed, packed_len};
use crate::op::strided::walk;
use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

/// One side of [`MatMul`]: a batch of matrices lying in a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrices {
    /// The first value.
    pub offset: usize,
    /// Elements moved by a step along each batch axis; 0 repeats the matrix.
    pub batch: Vec<usize>,
    /// Elements between rows.
    pub row: usize,
    /// Elements between columns.
    pub column: usize,
}

impl Matrices {
    /// The furthest value of a batch `dims` of `rows`×`columns` matrices.
    pub(crate) fn reach(&self, dims: &[usize], rows: usize, columns: usize) -> usize {
        let batch: usize = dims.iter().zip(&self.batch).map(|(d, s)| (d - 1) * s).sum();
        self.offset + batch + (rows - 1) * self.row + (columns - 1) * self.column
    }
}

/// A·B for every matrix of a batch: batch × `m`×`k` and batch × `k`×`n` → batch × `m`×`n`, row-major.
/// The first input holds A, the last holds B.
#[derive(Clone, Debug, PartialEq)]
pub struct MatMul {
    /// Batch axes.
    pub dims: Vec<usize>,
    /// Rows of A.
    pub m: usize,
    /// Columns of A, rows of B.
    pub k: usize,
    /// Columns of B.
    pub n: usize,
    /// Left side.
    pub a: Matrices,
    /// Right side.
    pub b: Matrices,
}

impl MatMul {
    /// Calls `visit(batch index, offset in A, offset in B)` for every matrix.
    fn matrices(&self, mut visit: impl FnMut(usize, usize, usize)) {
        // `walk` leaves the last axis to its visitor: here an axis of one matrix.
        let with_one = |axes: &[usize], last| [axes, &[last]].concat();
        let dims = with_one(&self.dims, 1);
        let (a, b) = (with_one(&self.a.batch, 0), with_one(&self.b.batch, 0));
        let mut index = 0;
        walk(&dims, [&a, &b], |[a, b]| {
            visit(index, self.a.offset + a, self.b.offset + b);
            index += 1;
        });
    }
}

/// (row, column, binomial) of the p-th derivative of a product.
fn leibniz(p: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..=p).map(move |i| (i, p - i, if p == 2 && i == 1 { 2 } else { 1 }))
}

fn pack<T: Real>(
    ws: &mut Workspace<T>,
    (k, n): (usize, usize),
    source: &[T],
    (row, column): (usize, usize),
) -> Packed<T> {
    let buffer = ws.pool.take(packed_len(ws.isa, k, n));
    Packed::in_buffer(ws.isa, k, n, source, row, column, buffer)
}

impl<T: Real> Rule<T> for MatMul {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        _: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let planes = x[0].planes();
        let mut y = ws.like(x[0], shape);
        let (m, k, n, isa) = (self.m, self.k, self.n, ws.isa);
        let (left, right) = (x[0], x[x.len() - 1]);
        self.matrices(|index, a, b| {
            let packed: Vec<_> = (0..planes)
                .map(|p| pack(ws, (k, n), &right.plane(p)[b..], (self.b.row, self.b.column)))
                .collect();
            for p in 0..planes {
                let out = &mut y.plane_mut(p)[index * m * n..][..m * n];
                let mut begun = false;
                for (i, j, times) in leibniz(p) {
                    let rows = Left { data: &left.plane(i)[a..], row: self.a.row, column: self.a.column };
                    for _ in 0..times {
                        let epilogue = Epilogue { accumulate: begun, ..Default::default() };
                        gemm(isa, m, rows, &packed[j], out, n, epilogue);
                        begun = true;
                    }
                }
            }
            packed.into_iter().for_each(|p| ws.pool.give(p.into_buffer()));
        });
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        let (m, k, n, isa) = (self.m, self.k, self.n, ws.isa);
        let last = back.shapes.len() - 1;
        let (mut da, mut db) =
            (ws.zeros_like(&grad, back.shapes[0]), ws.zeros_like(&grad, back.shapes[last]));
        let (left, right) = (back.input(0), back.input(last));
        let mut product = ws.pool.take(m.max(n) * k);
        self.matrices(|index, a, b| {
            let g = &grad.data[index * m * n..][..m * n];
            // dA = G·Bᵀ, then Bᵀ's gradient dBᵀ = Gᵀ·A; both to their places stride by stride.
            let packed = pack(ws, (n, k), &right.data[b..], (self.b.column, self.b.row));
            gemm(isa, m, Left::rows(g, n), &packed, &mut product[..m * k], k, Epilogue::default());
            ws.pool.give(packed.into_buffer());
            add_matrix(&product[..m * k], k, &mut da.data[a..], self.a.row, self.a.column);
            let packed = pack(ws, (m, k), &left.data[a..], (self.a.row, self.a.column));
            let g_t = Left { data: g, row: 1, column: n };
            gemm(isa, n, g_t, &packed, &mut product[..n * k], k, Epilogue::default());
            ws.pool.give(packed.into_buffer());
            add_matrix(&product[..n * k], k, &mut db.data[b..], self.b.column, self.b.row);
        });
        ws.pool.give(product);
        ws.pool.give(grad.data);
        into.add(ws, back.nodes[0], da);
        into.add(ws, back.nodes[last], db);
    }

    fn keeps_inputs(&self) -> bool {
        true
    }

    fn takes_one_image(&self) -> bool {
        true
    }
}

/// to[i·row + j·column] += from[i·width + j]
fn add_matrix<T: Real>(from: &[T], width: usize, to: &mut [T], row: usize, column: usize) {
    for (i, from) in from.chunks_exact(width).enumerate() {
        let to = &mut to[i * row..];
        if column == 1 {
            to[..width].iter_mut().zip(from).for_each(|(t, f)| *t += *f);
        } else {
            from.iter().enumerate().for_each(|(j, f)| to[j * column] += *f);
        }
    }
}
