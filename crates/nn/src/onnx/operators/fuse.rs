//! What is recognised as one operator: looking back from the last of a group of nodes. What the
//! earlier ones gave stays, and is dropped later if nothing else reads it.

use std::sync::Arc;

use super::Importer;
use super::elementwise::apply;
use crate::Result;
use crate::graph::Op;
use crate::onnx::call::Call;
use crate::onnx::proto::Node;
use crate::onnx::view::View;
use crate::op::activation::Activation;
use crate::op::pointwise::Pointwise;

/// How many numbers a folding goes over.
pub(super) fn weights(op: &Op) -> usize {
    match op {
        Op::Conv { weight, .. } => weight.len(),
        Op::Depthwise { weight, .. } => weight.len(),
        _ => 0,
    }
}

/// Folds y ↦ scale·y + shift by channel into the operator that gives y, if it is one that can take it.
pub(super) fn fold_affine(op: &mut Op, scale: &[f64], shift: &[f64]) -> bool {
    let bend = |values: &mut [f32], shift: Option<&[f64]>| {
        for (c, v) in values.iter_mut().enumerate() {
            *v = (f64::from(*v) * scale[c] + shift.map_or(0.0, |s| s[c])) as f32;
        }
    };
    let stretch = |weight: &mut [f32], channels: usize| {
        let per_channel = weight.len() / channels.max(1);
        for (c, row) in weight.chunks_exact_mut(per_channel.max(1)).enumerate() {
            row.iter_mut().for_each(|w| *w = (f64::from(*w) * scale[c]) as f32);
        }
    };
    match op {
        Op::Conv { weight, bias, .. } => {
            stretch(Arc::make_mut(weight), bias.len());
            bend(bias, Some(shift));
        }
        Op::Depthwise { weight, bias, .. } => {
            stretch(weight, bias.len());
            bend(bias, Some(shift));
        }
        Op::Affine { scale: s, shift: t } => {
            bend(s, None);
            bend(t, Some(shift));
        }
        Op::LayerNorm { affine, .. } => {
            let n = scale.len();
            let (s, t) = affine.get_or_insert_with(|| (vec![1.0; n], vec![0.0; n]));
            bend(s, None);
            bend(t, Some(shift));
        }
        _ => return false,
    }
    true
}

/// The two inputs of a node, in both orders.
fn both_ways<'m>(node: &Node<'m>) -> [(&'m str, &'m str); 2] {
    match node.inputs[..] {
        [a, b] => [(a, b), (b, a)],
        _ => [("", ""); 2],
    }
}

fn near(found: Option<f32>, wanted: f64) -> bool {
    found.is_some_and(|f| (f64::from(f) - wanted).abs() <= 1e-3 * wanted.abs())
}

/// The other input of `node`, which multiplies or adds (`op`) the constant `value`.
fn beside_constant<'m>(
    importer: &mut Importer<'m>,
    call: Call<'m>,
    name: &str,
    op: &str,
    value: f64,
) -> Option<&'m str> {
    let node = importer.made_by(name, op)?;
    for (x, c) in both_ways(node) {
        if near(importer.scalar(call, c), value) {
            return Some(x);
        }
    }
    None
}

/// `name` divided by `value`, or multiplied by its inverse.
fn divided<'m>(importer: &mut Importer<'m>, call: Call<'m>, name: &str, value: f64) -> Option<&'m str> {
    if let Some(node) = importer.made_by(name, "Div")
        && let [x, c] = node.inputs[..]
        && near(importer.scalar(call, c), value)
    {
        return Some(x);
    }
    beside_constant(importer, call, name, "Mul", 1.0 / value)
}

/// x, if `name` is 1 + erf(x/√2).
fn erf_of<'m>(importer: &mut Importer<'m>, call: Call<'m>, name: &str) -> Option<&'m str> {
    let erf = beside_constant(importer, call, name, "Add", 1.0)?;
    let erf = importer.made_by(erf, "Erf")?;
    divided(importer, call, erf.inputs.first()?, std::f64::consts::SQRT_2)
}

/// x, if `name` is min(max(x + 3, 0), 6).
fn shifted_clip<'m>(importer: &mut Importer<'m>, call: Call<'m>, name: &str) -> Option<&'m str> {
    let clip = importer.made_by(name, "Clip")?;
    let [shifted, low, high] = clip.inputs[..] else { return None };
    if importer.scalar(call, low) != Some(0.0) || importer.scalar(call, high) != Some(6.0) {
        return None;
    }
    beside_constant(importer, call, shifted, "Add", 3.0)
}

/// x, if `name` is the hard sigmoid of x that HardSwish has.
fn hard_gate<'m>(importer: &mut Importer<'m>, call: Call<'m>, name: &str) -> Option<&'m str> {
    if let Some(node) = importer.made_by(name, "HardSigmoid") {
        let call = Call { node, ..call };
        let exact = near(call.float("alpha", 0.2).ok(), 1.0 / 6.0) && near(call.float("beta", 0.5).ok(), 0.5);
        return exact.then(|| node.inputs.first().copied()).flatten();
    }
    let clip = divided(importer, call, name, 6.0)?;
    shifted_clip(importer, call, clip)
}

/// The activation that ends in this multiplication or division, and its argument.
fn activation<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Option<(&'m str, Op, &'static str)> {
    let node = call.node;
    let gelu = (Op::Activation(Activation::Gelu), "GELU from erf");
    let swish = (Op::Pointwise(Pointwise::HardSwish), "HardSwish");
    if node.op == "Div" {
        // x·clip(x + 3, 0, 6)/6
        let [product, six] = node.inputs[..] else { return None };
        if !near(importer.scalar(call, six), 6.0) {
            return None;
        }
        for (x, gate) in both_ways(importer.made_by(product, "Mul")?) {
            if shifted_clip(importer, call, gate) == Some(x) {
                return Some((x, swish.0, swish.1));
            }
        }
        return None;
    }
    for (x, other) in both_ways(node) {
        if importer.made_by(other, "Sigmoid").is_some_and(|n| n.inputs.first() == Some(&x)) {
            return Some((x, Op::Activation(Activation::Silu), "SiLU"));
        }
        if let Some(sigmoid) = importer.made_by(other, "Sigmoid")
            && beside_constant(importer, call, sigmoid.inputs.first()?, "Mul", 1.702) == Some(x)
        {
            return Some((x, Op::Activation(Activation::QuickGelu), "GELU by the logistic function"));
        }
        if let Some(tanh) = importer.made_by(other, "Tanh")
            && importer
                .made_by(tanh.inputs.first()?, "Softplus")
                .is_some_and(|n| n.inputs.first() == Some(&x))
        {
            return Some((x, Op::Pointwise(Pointwise::Mish), "Mish"));
        }
        if hard_gate(importer, call, other) == Some(x) {
            return Some((x, swish.0, swish.1));
        }
        // (x·(1 + erf))·½, (½·x)·(1 + erf), x·((1 + erf)·½)
        if near(importer.scalar(call, other), 0.5)
            && let Some(product) = importer.made_by(x, "Mul")
        {
            for (x, e) in both_ways(product) {
                if erf_of(importer, call, e) == Some(x) {
                    return Some((x, gelu.0, gelu.1));
                }
            }
        }
        if let Some(argument) = erf_of(importer, call, other)
            && beside_constant(importer, call, x, "Mul", 0.5) == Some(argument)
        {
            return Some((argument, gelu.0, gelu.1));
        }
        if let Some(sum) = beside_constant(importer, call, other, "Mul", 0.5)
            && erf_of(importer, call, sum) == Some(x)
        {
            return Some((x, gelu.0, gelu.1));
        }
    }
    None
}

/// The softplus of x, if this node chooses it up to a threshold and x itself above, as PyTorch's exporter writes it.
/// Above 15 the two differ by 3e-7 and less, 2e-8 of x.
pub(super) fn guarded_softplus<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Option<View> {
    let [condition, x, softplus] = call.node.inputs[..] else { return None };
    let comparison = importer.made_by(condition, "Greater")?;
    let [compared, threshold] = comparison.inputs[..] else { return None };
    let is_softplus = importer.made_by(softplus, "Softplus").is_some_and(|n| n.inputs.first() == Some(&x));
    (compared == x && is_softplus && importer.scalar(call, threshold)? >= 15.0)
        .then(|| importer.view_of(softplus))?
}

/// x and ε, if this division is (x − mean)/√(variance + ε) along the last axis.
fn layer_norm<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Option<(&'m str, f32)> {
    let [centred, root] = call.node.inputs[..] else { return None };
    let subtraction = importer.made_by(centred, "Sub")?;
    let [x, mean] = subtraction.inputs[..] else { return None };
    let rank = importer.view_of(x)?.rank() as i64;
    let mean_of = |importer: &mut Importer<'m>, name: &str| -> Option<&'m str> {
        let node = importer.made_by(name, "ReduceMean")?;
        let call = Call { node, ..call };
        let axes = super::shape::axes_of(importer, call, 1).ok()??;
        let keeps = call.int("keepdims", 1).ok()? != 0;
        (matches!(axes[..], [a] if a == -1 || a == rank - 1) && keeps).then_some(node.inputs[0])
    };
    if mean_of(importer, mean)? != x {
        return None;
    }
    let root = importer.made_by(root, "Sqrt")?;
    let sum = importer.made_by(root.inputs.first()?, "Add")?;
    for (variance, eps) in both_ways(sum) {
        let Some(eps) = importer.scalar(call, eps) else { continue };
        let Some(square) = mean_of(importer, variance) else { continue };
        let square = importer.maker(square)?;
        let base = match (square.op, &square.inputs[..]) {
            ("Pow", [base, p]) if importer.scalar(call, p) == Some(2.0) => *base,
            ("Mul", [a, b]) if a == b => *a,
            _ => continue,
        };
        // Some exporters subtract the mean twice, once for each use.
        let again = importer.made_by(base, "Sub").map(|n| &n.inputs[..]);
        let again = matches!(again, Some([y, m]) if *y == x && mean_of(importer, m) == Some(x));
        if base == centred || again {
            return Some((x, eps));
        }
    }
    None
}

/// The activation or norm that ends in this node, if it is one.
pub(super) fn elementwise<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Result<Option<View>> {
    if !matches!(call.node.op, "Mul" | "Div") {
        return Ok(None);
    }
    if let Some((x, op, what)) = activation(importer, call)
        && let Some(view) = importer.view_of(x)
    {
        importer.fused(what);
        return apply(importer, call, &view, op).map(Some);
    }
    if call.node.op == "Div"
        && let Some((x, eps)) = layer_norm(importer, call)
        && let Some(view) = importer.view_of(x)
    {
        importer.fused("LayerNorm from means and a root");
        let (node, order) = importer.rows(call, &view)?;
        let op = Op::LayerNorm { eps: f64::from(eps), affine: None };
        let node = importer.emit(call, op, &[node])?;
        return Ok(Some(View::dense(node, view.dims, &order)));
    }
    Ok(None)
}
