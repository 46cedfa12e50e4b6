//! Sum, difference, product and quotient of two tensors, or of one and a constant, each walked
//! with its own strides: a stride of 0 repeats (broadcasts) it.

use crate::kernel::isa::on_isa;
use crate::op::strided::{collapse, walk};
use crate::op::{Back, Rule, Saved, product_jet};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

/// What is done with two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// a + b
    Add,
    /// a − b
    Subtract,
    /// a·b
    Multiply,
    /// a/b
    Divide,
    /// The larger; where they are equal, each gets half of the gradient.
    Maximum,
    /// The smaller; where they are equal, each gets half of the gradient.
    Minimum,
}

/// One side of [`Binary`].
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// Index among the inputs, `None` for the constant.
    pub input: Option<usize>,
    /// Its first value.
    pub offset: usize,
    /// Elements moved by a step along each axis of the output.
    pub strides: Vec<usize>,
}

/// An arithmetic operator with broadcasting; the output is row-major over `dims`.
#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    /// What is done.
    pub kind: Arithmetic,
    /// Axes of the output, the last fastest.
    pub dims: Vec<usize>,
    /// Left side.
    pub a: Operand,
    /// Right side.
    pub b: Operand,
    /// Values of the side that is no input.
    pub constant: Vec<f32>,
}

/// Ready to run.
pub(crate) struct BinaryRule<T> {
    kind: Arithmetic,
    dims: Vec<usize>,
    strides: [Vec<usize>; 2],
    offsets: [usize; 2],
    inputs: [Option<usize>; 2],
    constant: Vec<T>,
}

impl<T: Real> BinaryRule<T> {
    pub(crate) fn new(op: &Binary) -> Self {
        let (dims, strides) = collapse(&op.dims, [&op.a.strides, &op.b.strides]);
        BinaryRule {
            kind: op.kind,
            dims,
            strides,
            offsets: [op.a.offset, op.b.offset],
            inputs: [op.a.input, op.b.input],
            constant: op.constant.iter().map(|&x| T::of_f32(x)).collect(),
        }
    }

    /// Values of side `s` in plane `p`, `None` where they are the zero derivatives of a constant or the jet has no such plane.
    fn side<'a>(&'a self, s: usize, x: &[&'a Tensor<T>], p: usize) -> Option<&'a [T]> {
        match self.inputs[s] {
            Some(input) if p >= x[input].planes() => None,
            Some(input) => Some(&x[input].plane(p)[self.offsets[s]..]),
            None if p == 0 => Some(&self.constant[self.offsets[s]..]),
            None => None,
        }
    }

    fn inner(&self) -> (usize, usize, usize) {
        let last = self.dims.len() - 1;
        (self.dims[last], self.strides[0][last], self.strides[1][last])
    }
}

/// Runs `$body` with `$kind`'s function and its derivatives by a and by b bound to `$f`, `$da`, `$db`.
macro_rules! with_arithmetic {
    ($kind:expr, $t:ty, $f:ident, $da:ident, $db:ident => $body:expr) => {
        match $kind {
            Arithmetic::Add => {
                with_arithmetic!(@ $t, $f = |a: $t, b: $t| a + b, $da = |_: $t, _: $t| <$t>::ONE, $db = |_: $t, _: $t| <$t>::ONE => $body)
            }
            Arithmetic::Subtract => {
                with_arithmetic!(@ $t, $f = |a: $t, b: $t| a - b, $da = |_: $t, _: $t| <$t>::ONE, $db = |_: $t, _: $t| -<$t>::ONE => $body)
            }
            Arithmetic::Multiply => {
                with_arithmetic!(@ $t, $f = |a: $t, b: $t| a * b, $da = |_: $t, b: $t| b, $db = |a: $t, _: $t| a => $body)
            }
            Arithmetic::Divide => with_arithmetic!(
                @ $t, $f = |a: $t, b: $t| a / b, $da = |_: $t, b: $t| <$t>::ONE / b, $db = |a: $t, b: $t| -(a / (b * b)) => $body
            ),
            Arithmetic::Maximum => with_arithmetic!(
                @ $t, $f = |a: $t, b: $t| Real::max(a, b), $da = |a: $t, b: $t| above(a, b), $db = |a: $t, b: $t| above(b, a) => $body
            ),
            Arithmetic::Minimum => with_arithmetic!(
                @ $t, $f = |a: $t, b: $t| Real::min(a, b), $da = |a: $t, b: $t| above(b, a), $db = |a: $t, b: $t| above(a, b) => $body
            ),
        }
    };
    (@ $t:ty, $f:ident = $value:expr, $da:ident = $by_a:expr, $db:ident = $by_b:expr => $body:expr) => {{
        let $f = |a: $t, b: $t| -> $t { let f = $value; f(a, b) };
        let $da = |a: $t, b: $t| -> $t { let f = $by_a; f(a, b) };
        let $db = |a: $t, b: $t| -> $t { let f = $by_b; f(a, b) };
        $body
    }};
}

/// 1 where a > b, ½ where they are equal.
#[inline(always)]
fn above<T: Real>(a: T, b: T) -> T {
    if a > b {
        T::ONE
    } else if a == b {
        T::of(0.5)
    } else {
        T::ZERO
    }
}

#[inline(always)]
fn forward<T: Real, const FMA: bool>(rule: &BinaryRule<T>, a: &[T], b: &[T], y: &mut [T]) {
    let (n, sa, sb) = rule.inner();
    let mut at = 0;
    walk(&rule.dims, [&rule.strides[0], &rule.strides[1]], |[a0, b0]| {
        let y = &mut y[at..at + n];
        at += n;
        with_arithmetic!(rule.kind, T, f, _da, _db => map(y, &a[a0..], sa, &b[b0..], sb, f));
    });
}

/// y[i] = f(a[i·sa], b[i·sb]).
#[inline(always)]
fn map<T: Real>(y: &mut [T], a: &[T], sa: usize, b: &[T], sb: usize, f: impl Fn(T, T) -> T) {
    let n = y.len();
    // A slice and a single value on either side are what nearly every network has.
    match (sa, sb) {
        (1, 1) => {
            let (a, b) = (&a[..n], &b[..n]);
            for i in 0..n {
                y[i] = f(a[i], b[i]);
            }
        }
        (1, 0) => {
            let (a, b) = (&a[..n], b[0]);
            for i in 0..n {
                y[i] = f(a[i], b);
            }
        }
        (0, 1) => {
            let (a, b) = (a[0], &b[..n]);
            for i in 0..n {
                y[i] = f(a, b[i]);
            }
        }
        _ => {
            for i in 0..n {
                y[i] = f(a[i * sa], b[i * sb]);
            }
        }
    }
}

/// Values whose slopes are found before they are added up.
const CHUNK: usize = 256;

/// d += g·slope along a row of stride `stride`; a single value (stride 0) gathers in `lanes`.
#[inline(always)]
fn accumulate<T: Real>(d: &mut [T], stride: usize, g: &[T], slope: &[T], lanes: &mut [T; 16]) {
    let n = g.len();
    match stride {
        0 => {
            let whole = n / 16 * 16;
            for i in (0..whole).step_by(16) {
                for l in 0..16 {
                    lanes[l] += g[i + l] * slope[i + l];
                }
            }
            for i in whole..n {
                lanes[i - whole] += g[i] * slope[i];
            }
        }
        1 => {
            let d = &mut d[..n];
            for i in 0..n {
                d[i] += g[i] * slope[i];
            }
        }
        _ => {
            for i in 0..n {
                d[i * stride] += g[i] * slope[i];
            }
        }
    }
}

/// da += g·∂f/∂a, and the same for b; either may be absent.
#[inline(always)]
fn pull_back<T: Real, const FMA: bool>(
    rule: &BinaryRule<T>,
    a: &[T],
    b: &[T],
    g: &[T],
    mut da: Option<&mut [T]>,
    mut db: Option<&mut [T]>,
) {
    let (n, sa, sb) = rule.inner();
    let mut slopes = [T::ZERO; CHUNK];
    let mut at = 0;
    walk(&rule.dims, [&rule.strides[0], &rule.strides[1]], |[a0, b0]| {
        let g = &g[at..at + n];
        at += n;
        let mut lanes = [[T::ZERO; 16]; 2];
        for from in (0..n).step_by(CHUNK) {
            let g = &g[from..n.min(from + CHUNK)];
            let slopes = &mut slopes[..g.len()];
            let (ai, bi) = (a0 + from * sa, b0 + from * sb);
            if let Some(da) = &mut da {
                with_arithmetic!(rule.kind, T, _f, by_a, _b => map(slopes, &a[ai..], sa, &b[bi..], sb, by_a));
                accumulate(&mut da[ai..], sa, g, slopes, &mut lanes[0]);
            }
            if let Some(db) = &mut db {
                with_arithmetic!(rule.kind, T, _f, _a, by_b => map(slopes, &a[ai..], sa, &b[bi..], sb, by_b));
                accumulate(&mut db[bi..], sb, g, slopes, &mut lanes[1]);
            }
        }
        let total = |lanes: [T; 16]| lanes.into_iter().fold(T::ZERO, |sum, lane| sum + lane);
        if let (Some(da), 0) = (&mut da, sa) {
            da[a0] += total(lanes[0]);
        }
        if let (Some(db), 0) = (&mut db, sb) {
            db[b0] += total(lanes[1]);
        }
    });
}

/// The jet of f(a, b) of `planes` planes; only smooth kinds come here.
#[inline(always)]
fn jet<T: Real, const FMA: bool>(
    rule: &BinaryRule<T>,
    a: [Option<&[T]>; 3],
    b: [Option<&[T]>; 3],
    planes: usize,
    y: &mut [T],
) {
    let (n, sa, sb) = rule.inner();
    let len = y.len() / planes;
    let two = T::of(2.0);
    let mut at = 0;
    walk(&rule.dims, [&rule.strides[0], &rule.strides[1]], |[a0, b0]| {
        for i in 0..n {
            let read =
                |side: &[Option<&[T]>; 3], at: usize| side.map(|plane| plane.map_or(T::ZERO, |x| x[at]));
            let (a, b) = (read(&a, a0 + i * sa), read(&b, b0 + i * sb));
            let value = match rule.kind {
                Arithmetic::Add => std::array::from_fn(|p| a[p] + b[p]),
                Arithmetic::Subtract => std::array::from_fn(|p| a[p] - b[p]),
                Arithmetic::Multiply => product_jet(a, b),
                Arithmetic::Divide => {
                    let q0 = a[0] / b[0];
                    let q1 = (a[1] - q0 * b[1]) / b[0];
                    [q0, q1, (a[2] - two * q1 * b[1] - q0 * b[2]) / b[0]]
                }
                Arithmetic::Maximum | Arithmetic::Minimum => unreachable!("kinks have no jet"),
            };
            for p in 0..planes {
                y[p * len + at + i] = value[p];
            }
        }
        at += n;
    });
}

impl<T: Real> Rule<T> for BinaryRule<T> {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        _: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let planes = x[0].planes();
        let mut y = ws.like(x[0], shape);
        if x[0].is_jet() {
            let (a, b) = ([0, 1, 2].map(|p| self.side(0, x, p)), [0, 1, 2].map(|p| self.side(1, x, p)));
            on_isa!(ws.isa, jet::<T>(self, a, b, planes, &mut y.data));
        } else {
            let side = |s| self.side(s, x, 0).expect("plane 0 of a constant is there");
            on_isa!(ws.isa, forward::<T>(self, side(0), side(1), &mut y.data));
        }
        (y, None)
    }

    fn vjp(&self, ws: &mut Workspace<T>, grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        let mut dx: [Option<Tensor<T>>; 2] =
            self.inputs.map(|input| input.map(|input| ws.zeros_like(&grad, back.shapes[input])));
        let side = |s: usize| match self.inputs[s] {
            None => &self.constant[self.offsets[s]..],
            Some(input) => &back.input(input).data[self.offsets[s]..],
        };
        let [da, db] = &mut dx;
        let da = da.as_mut().map(|d| &mut d.data[self.offsets[0]..]);
        let db = db.as_mut().map(|d| &mut d.data[self.offsets[1]..]);
        on_isa!(ws.isa, pull_back::<T>(self, side(0), side(1), &grad.data, da, db));
        ws.pool.give(grad.data);
        for (input, dx) in self.inputs.iter().zip(dx) {
            if let (Some(input), Some(dx)) = (input, dx) {
                into.add(ws, back.nodes[*input], dx);
            }
        }
    }

    fn keeps_inputs(&self) -> bool {
        // The derivatives of a sum are constants, but walking it needs sides of the right length.
        true
    }

    fn takes_one_image(&self) -> bool {
        true
    }
}
