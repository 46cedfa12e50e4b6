//! Matrix products, softmax, and attention where the two make it up.

use super::elementwise::{affine, binary};
use super::place::{checked_len, view_of};
use super::shape::reshape_to;
use super::{Importer, Read};
use crate::Result;
use crate::graph::Op;
use crate::onnx::call::Call;
use crate::onnx::constant::Constant;
use crate::onnx::import::Value;
use crate::onnx::view::{View, broadcast, row_major};
use crate::op::attention::{AttentionRule, Part};
use crate::op::binary::Arithmetic;
use crate::op::conv::Window;
use crate::op::matmul::{MatMul, Matrices};

/// Rows of `view` times a weight of out×in, plus a bias.
fn linear<'m>(
    importer: &mut Importer<'m>,
    call: Call<'m>,
    view: &View,
    weight: Vec<f32>,
    bias: Vec<f32>,
) -> Result<View> {
    let out = bias.len();
    let (node, order) = importer.rows(call, view)?;
    let shape = importer.graph.shape(node);
    let op =
        Op::Conv { window: Window::POINT, size: (shape.h, shape.w), weight: weight.into(), bias, groups: 1 };
    let node = importer.emit(call, op, &[node])?;
    let mut dims = view.dims.clone();
    *dims.last_mut().expect("rows have an axis") = out;
    Ok(View::dense(node, dims, &order))
}

/// The matrix rows×columns `values`, transposed.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    for (i, row) in values.chunks_exact(columns.max(1)).enumerate() {
        for (j, v) in row.iter().enumerate() {
            out[j * rows + i] = *v;
        }
    }
    out
}

/// A constant matrix, axes of length 1 before it left out.
fn matrix(c: &Constant) -> Option<(usize, usize)> {
    match c.dims[..] {
        [ref ones @ .., rows, columns] if ones.iter().all(|&d| d == 1) => Some((rows, columns)),
        _ => None,
    }
}

fn misfit(call: Call, a: &[usize], b: &[usize]) -> crate::Error {
    call.broken("multiplies matrices that do not fit")
        .expected(format!("as many rows as {a:?} has columns"), format!("{b:?}"))
}

fn swapped(view: &View) -> View {
    let mut permutation = row_major(view.rank());
    let n = permutation.len();
    permutation.swap(n - 1, n - 2);
    view.transpose(&permutation)
}

pub(super) fn matmul<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    if let Some(view) = attention(importer, call)? {
        return Ok(vec![Value::Active(view)]);
    }
    let (a, b) = (importer.required(call, 0)?, importer.required(call, 1)?);
    Ok(vec![Value::Active(product(importer, call, a, b)?)])
}

/// A·B, one of them an activation.
pub(super) fn product<'m>(
    importer: &mut Importer<'m>,
    call: Call<'m>,
    a: Value<'m>,
    b: Value<'m>,
) -> Result<View> {
    let (va, vb) = (view_of(&a), view_of(&b));
    if va.rank() < 2 || vb.rank() < 2 {
        return Err(call.unsupported("multiplies by a vector; supported are matrices and batches of them"));
    }
    let (k, rows) = (va.dims[va.rank() - 1], vb.dims[vb.rank() - 2]);
    if k != rows || va.len() == 0 || vb.len() == 0 {
        return Err(misfit(call, &va.dims, &vb.dims));
    }
    match (&a, &b) {
        (Value::Active(view), Value::Constant(c)) if c.dims.len() <= view.rank() => {
            if let Some((k, n)) = matrix(c) {
                let weight = transposed(&c.to_floats(), k, n);
                return linear(importer, call, view, weight, vec![0.0; n]);
            }
        }
        (Value::Constant(c), Value::Active(view)) if c.dims.len() <= view.rank() => {
            // (A·B)ᵀ = Bᵀ·Aᵀ
            if let Some((m, _)) = matrix(c) {
                let rows = swapped(view);
                let out = linear(importer, call, &rows, c.to_floats().to_vec(), vec![0.0; m])?;
                return Ok(swapped(&out));
            }
        }
        _ => {}
    }
    let mut node = |value: &Value<'m>| match value {
        Value::Constant(c) => importer.constant_node(call, c),
        other => Ok(view_of(other)),
    };
    let (va, vb) = (node(&a)?, node(&b)?);
    let (ra, rb) = (va.rank() - 2, vb.rank() - 2);
    let batch = broadcast(&va.dims[..ra], &vb.dims[..rb]).ok_or_else(|| misfit(call, &va.dims, &vb.dims))?;
    checked_len(call, &batch)?;
    let (m, n) = (va.dims[ra], vb.dims[rb + 1]);
    let side = |view: &View| {
        let mut dims = batch.clone();
        dims.extend(&view.dims[view.rank() - 2..]);
        let wide = view.expand(&dims);
        let (row, column) = (wide.strides[batch.len()], wide.strides[batch.len() + 1]);
        Matrices { offset: view.offset, batch: wide.strides[..batch.len()].to_vec(), row, column }
    };
    let mut dims = batch.clone();
    dims.extend([m, n]);
    let len = checked_len(call, &dims)?;
    let shape = crate::tensor::Shape::new(len / n, 1, n);
    let op = MatMul { dims: batch.clone(), m, k, n, a: side(&va), b: side(&vb) };
    let node = importer.emit(call, Op::MatMul(op, shape), &[va.node, vb.node])?;
    let order = row_major(dims.len());
    Ok(View::dense(node, dims, &order))
}

/// Einsum of two tensors as transpositions and one product.
pub(super) fn einsum<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let equation: String = call.text("equation", "")?.split_whitespace().collect();
    let odd = || {
        call.unsupported("has an unsupported equation")
            .expected("two tensors, as in `bhik,bhkj->bhij`", &equation)
    };
    let (sides, out) = equation.split_once("->").ok_or_else(odd)?;
    let (a, b) = sides.split_once(',').ok_or_else(odd)?;
    let [a, b, out] = [a, b, out].map(|s| s.chars().collect::<Vec<char>>());
    let (va, vb) = (importer.required(call, 0)?, importer.required(call, 1)?);
    let dims = [view_of(&va).dims, view_of(&vb).dims];
    let once = |s: &Vec<char>| (0..s.len()).all(|i| s[i].is_ascii_alphabetic() && !s[..i].contains(&s[i]));
    if ![&a, &b, &out].into_iter().all(once) || dims[0].len() != a.len() || dims[1].len() != b.len() {
        return Err(odd());
    }
    let of = |from: &[char], other: &[char], shared: bool, kept: bool| -> Vec<char> {
        from.iter().copied().filter(|c| other.contains(c) == shared && out.contains(c) == kept).collect()
    };
    let (batch, summed) = (of(&a, &b, true, true), of(&a, &b, true, false));
    let (rows, columns) = (of(&a, &b, false, true), of(&b, &a, false, true));
    let all = [&batch[..], &rows, &columns].concat();
    // A letter of one side alone must be in the output; the output has no others.
    if batch.len() + summed.len() + rows.len() != a.len()
        || batch.len() + summed.len() + columns.len() != b.len()
        || all.len() != out.len()
    {
        return Err(odd());
    }
    let place = |of: &[char], c: &char| of.iter().position(|x| x == c);
    let length =
        |c: &char| place(&a, c).map(|i| dims[0][i]).or_else(|| place(&b, c).map(|i| dims[1][i])).unwrap_or(1);
    let lengths = |s: &[char]| s.iter().map(length).collect::<Vec<usize>>();
    if b.iter().zip(&dims[1]).any(|(c, d)| length(c) != *d) {
        return Err(call.broken(format!("multiplies {:?} and {:?} by `{equation}`", dims[0], dims[1])));
    }
    let mut flat = |value: Value<'m>, own: &[char], order: [&[char]; 2]| -> Result<Value<'m>> {
        let view = match value {
            Value::Constant(c) => importer.constant_node(call, &c)?,
            other => view_of(&other),
        };
        let wanted = [&batch[..], order[0], order[1]].concat();
        let permutation: Vec<usize> = wanted.iter().filter_map(|c| place(own, c)).collect();
        let mut to = lengths(&batch);
        to.extend(order.map(|s| lengths(s).iter().product::<usize>()));
        reshape_to(importer, call, Value::Active(view.transpose(&permutation)), to)
    };
    let (va, vb) = (flat(va, &a, [&rows, &summed])?, flat(vb, &b, [&summed, &columns])?);
    let result = product(importer, call, va, vb)?;
    let result = view_of(&reshape_to(importer, call, Value::Active(result), lengths(&all))?);
    let permutation: Vec<usize> = out.iter().filter_map(|c| place(&all, c)).collect();
    Ok(vec![Value::Active(result.transpose(&permutation))])
}

pub(super) fn gemm<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let a = importer.required(call, 0)?;
    let b = importer.required(call, 1)?;
    let (alpha, beta) = (f64::from(call.float("alpha", 1.0)?), f64::from(call.float("beta", 1.0)?));
    let mut flip = |value: Value<'m>, name: &str| -> Result<Value<'m>> {
        if view_of(&value).rank() != 2 {
            return Err(call.broken("multiplies tensors that are no matrices"));
        }
        if call.int(name, 0)? == 0 {
            return Ok(value);
        }
        let view = swapped(&view_of(&value));
        Ok(match value {
            Value::Constant(c) => {
                importer.budget.charge(c.len(), 4).ok_or_else(|| call.too_large())?;
                Value::Constant(c.seen(&view))
            }
            _ => Value::Active(view),
        })
    };
    let (a, b) = (flip(a, "transA")?, flip(b, "transB")?);
    let view = product(importer, call, a, b)?;
    let view = if alpha == 1.0 { view } else { affine(importer, call, &view, None, &[alpha], &[0.0])? };
    let Some(c) = importer.input(call, 2)? else { return Ok(vec![Value::Active(view)]) };
    if let Value::Constant(bias) = &c {
        let n = view.dims[1];
        let values: Vec<f64> = bias.to_floats().iter().map(|&v| beta * f64::from(v)).collect();
        // A vector, or one value for all.
        if bias.dims.iter().rev().skip(1).all(|&d| d == 1) && (values.len() == n || values.len() == 1) {
            // The product is this node's own, so that a bias always folds into it.
            if let Op::Conv { bias, .. } = importer.graph.op_mut(view.node)
                && alpha == 1.0
            {
                for (i, b) in bias.iter_mut().enumerate() {
                    *b = (f64::from(*b) + values[if values.len() == 1 { 0 } else { i }]) as f32;
                }
                return Ok(vec![Value::Active(view)]);
            }
            return Ok(vec![Value::Active(affine(importer, call, &view, Some(1), &[1.0], &values)?)]);
        }
    }
    if beta != 1.0 {
        return Err(call.unsupported("has the attribute `beta` with a matrix").expected("1", beta));
    }
    Ok(vec![Value::Active(binary(importer, call, Arithmetic::Add, &Value::Active(view), &c)?)])
}

pub(super) fn softmax<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let view = importer.active(call, 0)?;
    // Up to opset 12 all axes from `axis` on are one.
    let old = call.opset < 13;
    let axis = call.axis(call.int("axis", if old { 1 } else { -1 })?, view.rank())?;
    if old && view.dims[axis + 1..].iter().any(|&d| d != 1) {
        return Err(call
            .unsupported("takes softmax over several axes")
            .expected("the last axis, or opset 13 or later", format!("axis {axis} of {:?}", view.dims)));
    }
    let mut permutation: Vec<usize> = (0..view.rank()).filter(|&a| a != axis).collect();
    permutation.push(axis);
    let moved = view.transpose(&permutation);
    let (node, order) = importer.rows(call, &moved)?;
    let node = importer.emit(call, Op::Softmax, &[node])?;
    let out = View::dense(node, moved.dims, &order);
    let back: Vec<usize> =
        (0..view.rank()).map(|a| permutation.iter().position(|&p| p == a).expect("a permutation")).collect();
    Ok(vec![Value::Active(out.transpose(&back))])
}

/// Where heads of `dim` channels lie: [1, heads, tokens, dim] in rows of a node, if they lie as the
/// attention operator wants them.
fn part_of(importer: &Importer, view: &View, input: usize) -> Option<Part> {
    let [1, heads, tokens, dim] = view.dims[..] else { return None };
    let shape = importer.graph.shape(view.node);
    let fits = (dim == 1 || view.strides[3] == 1)
        && (heads == 1 || view.strides[1] == dim)
        && (tokens == 1 || view.strides[2] == shape.c)
        && shape.rows() == tokens
        && view.offset + heads * dim <= shape.c;
    fits.then_some(Part { input, column: view.offset })
}

/// softmax(scale·Q·Kᵀ)·V, if the left side of this product is such a softmax.
fn attention<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Result<Option<View>> {
    let Some((q, k, v, scale)) = heads(importer, call) else { return Ok(None) };
    let [1, heads, tokens, dim] = q.dims[..] else { return Ok(None) };
    if k.dims != v.dims || k.dims[1] != heads || k.dims[3] != dim || k.dims[0] != 1 {
        return Ok(None);
    }
    let mut inputs = Vec::new();
    let mut parts = Vec::new();
    let q = if scale == 1.0 { q } else { affine(importer, call, &q, None, &[scale], &[0.0])? };
    for view in [&q, &k, &v] {
        // Heads lying apart are put side by side: tokens, heads, channels.
        let view = match part_of(importer, view, 0) {
            Some(_) => view.clone(),
            None => {
                let mut placed = importer.place(call, view, &[0, 2, 1, 3])?;
                let shape = crate::tensor::Shape::new(view.dims[2], 1, heads * dim);
                placed.node = importer.reshaped(call, placed.node, shape)?;
                placed
            }
        };
        let at = inputs.iter().position(|&n| n == view.node).unwrap_or_else(|| {
            inputs.push(view.node);
            inputs.len() - 1
        });
        parts.push(
            part_of(importer, &view, at).ok_or_else(|| call.broken("attention has heads out of place"))?,
        );
    }
    importer.fused("attention");
    let rule = AttentionRule { heads, dim, query: parts[0], key: parts[1], value: parts[2] };
    let node = importer.emit(call, Op::Attention(rule), &inputs)?;
    Ok(Some(View::dense(node, vec![1, heads, tokens, dim], &[0, 2, 1, 3])))
}

/// Q, K, V as [1, heads, tokens, channels] and the factor on Q·Kᵀ.
fn heads<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Option<(View, View, View, f64)> {
    let softmax = importer.made_by(call.node.inputs.first()?, "Softmax")?;
    let own = Call { node: softmax, ..call };
    let axis = own.int("axis", if call.opset < 13 { 1 } else { -1 }).ok()?;
    let v = importer.view_of(call.node.inputs.get(1)?)?;
    if v.rank() != 4 || !matches!(axis, -1 | 3) {
        return None;
    }
    let mut scale = 1.0;
    let mut name = *softmax.inputs.first()?;
    // softmax(x·c) or softmax(x/c)
    while let Some((inner, factor)) = scaled(importer, call, name) {
        (name, scale) = (inner, scale * factor);
    }
    let scores = importer.made_by(name, "MatMul")?;
    let (mut sides, names) = (Vec::new(), [*scores.inputs.first()?, *scores.inputs.get(1)?]);
    for mut name in names {
        while let Some((inner, factor)) = scaled(importer, call, name) {
            (name, scale) = (inner, scale * factor);
        }
        sides.push(importer.view_of(name)?);
    }
    let (q, k_t) = (sides.remove(0), sides.remove(0));
    (q.rank() == 4 && k_t.rank() == 4).then(|| (q, swapped(&k_t), v, scale))
}

/// x and c, if `name` is x·c or x/c, c one constant, and x is still to be had.
fn scaled<'m>(importer: &mut Importer<'m>, call: Call<'m>, name: &str) -> Option<(&'m str, f64)> {
    let node = importer.maker(name)?;
    let [a, b] = node.inputs[..] else { return None };
    let (x, c) = match node.op {
        "Mul" => match importer.scalar(call, b) {
            Some(c) => (a, c),
            None => (b, importer.scalar(call, a)?),
        },
        "Div" => (a, 1.0 / importer.scalar(call, b)?),
        _ => return None,
    };
    importer.view_of(x)?;
    Some((x, f64::from(c)))
}
