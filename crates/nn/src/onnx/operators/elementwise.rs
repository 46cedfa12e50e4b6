//! Arithmetic with broadcasting and functions of one number.

use super::place::view_of;
use super::{Importer, Read, fuse};
use crate::Result;
use crate::graph::Op;
use crate::onnx::call::Call;
use crate::onnx::constant::Constant;
use crate::onnx::import::Value;
use crate::onnx::view::{View, broadcast};
use crate::op::activation::Activation;
use crate::op::binary::{Arithmetic, Binary, Operand};
use crate::op::pointwise::Pointwise;

/// Scale and shift of `view` along the logical axis `axis`, one value each or one for all; folded
/// into what made it where that is possible.
pub(super) fn affine<'m>(
    importer: &mut Importer<'m>,
    call: Call<'m>,
    view: &View,
    axis: Option<usize>,
    scale: &[f64],
    shift: &[f64],
) -> Result<View> {
    let order = view.order();
    let node = view.node;
    let shape = importer.graph.shape(node);
    let is_whole = view.is_dense(&order) && view.len() == shape.len();
    let by_channel = axis.is_none_or(|a| view.strides[a] == 1 && view.dims[a] == shape.c && shape.c > 1);
    if is_whole && by_channel {
        let all = |v: &[f64]| if v.len() == 1 { vec![v[0]; shape.c] } else { v.to_vec() };
        let (scale, shift) = (all(scale), all(shift));
        importer.budget.pass(fuse::weights(importer.graph.op_mut(node))).ok_or_else(|| call.too_large())?;
        if importer.is_exclusive(node) && fuse::fold_affine(importer.graph.op_mut(node), &scale, &shift) {
            importer.forget(node);
            importer.fused("scale and shift folded into the layer before");
            return Ok(view.clone());
        }
        let f32s = |v: Vec<f64>| v.into_iter().map(|x| x as f32).collect::<Vec<f32>>();
        let op = Op::Affine { scale: f32s(scale), shift: f32s(shift) };
        let node = importer.emit(call, op, &[node])?;
        return Ok(View::dense(node, view.dims.clone(), &order));
    }
    let mut dims = vec![1; view.rank()];
    if let Some(axis) = axis {
        dims[axis] = view.dims[axis];
    }
    let mut result = Value::Active(view.clone());
    for (kind, values, neutral) in [(Arithmetic::Multiply, scale, 1.0), (Arithmetic::Add, shift, 0.0)] {
        if values.iter().any(|v| *v != neutral) {
            let dims = if values.len() == 1 { vec![1; view.rank()] } else { dims.clone() };
            let constant = Constant::floats(dims, values.iter().map(|&v| v as f32).collect());
            result = Value::Active(binary(importer, call, kind, &result, &Value::Constant(constant))?);
        }
    }
    Ok(view_of(&result))
}

/// Arithmetic on two values, at least one of which depends on the image.
pub(super) fn binary<'m>(
    importer: &mut Importer<'m>,
    call: Call<'m>,
    kind: Arithmetic,
    a: &Value<'m>,
    b: &Value<'m>,
) -> Result<View> {
    let (va, vb) = (view_of(a), view_of(b));
    let dims = broadcast(&va.dims, &vb.dims).ok_or_else(|| {
        call.broken("works on tensors that do not broadcast")
            .expected(format!("lengths that fit {:?}", va.dims), format!("{:?}", vb.dims))
    })?;
    super::place::checked_len(call, &dims)?;
    if dims.contains(&0) {
        return Err(call.unsupported("works on a tensor without values"));
    }
    // The output lies as the larger activation does.
    let active = |value: &Value| matches!(value, Value::Active(_));
    let leads = active(a) && (!active(b) || va.len() >= vb.len());
    let order = if leads { va.expand(&dims).order() } else { vb.expand(&dims).order() };
    if kind == Arithmetic::Add
        && let (Value::Active(x), Value::Active(y)) = (a, b)
        && x.dims == y.dims
        && [x, y].iter().all(|v| v.is_dense(&order) && importer.graph.shape(v.node).len() == v.len())
        && importer.graph.shape(x.node) == importer.graph.shape(y.node)
    {
        let node = importer.emit(call, Op::Add, &[x.node, y.node])?;
        return Ok(View::dense(node, dims, &order));
    }
    let mut constant = Vec::new();
    let mut inputs = Vec::new();
    let mut operand = |importer: &mut Importer<'m>, value: &Value<'m>, view: &View| -> Result<Operand> {
        let (input, view) = match value {
            Value::Constant(c) => {
                // Laid out in the order of the output, so that both sides are walked alike.
                importer.budget.charge(c.len(), 4).ok_or_else(|| call.too_large())?;
                let missing = dims.len() - view.rank();
                let own: Vec<usize> = order.iter().filter_map(|a| a.checked_sub(missing)).collect();
                let floats = c.to_floats();
                constant = view.offsets(&own).map(|i| floats[i]).collect();
                (None, View::dense(usize::MAX, view.dims.clone(), &own))
            }
            _ => {
                inputs.push(view.node);
                (Some(inputs.len() - 1), view.clone())
            }
        };
        let expanded = view.expand(&dims);
        let strides = order.iter().map(|&axis| expanded.strides[axis]).collect();
        Ok(Operand { input, offset: view.offset, strides })
    };
    let (a, b) = (operand(importer, a, &va)?, operand(importer, b, &vb)?);
    let lengths = order.iter().map(|&axis| dims[axis]).collect();
    let op = Binary { kind, dims: lengths, a, b, constant };
    // Where the output has the values of one input one by one, it keeps the rows of that input.
    let lead = if leads { &va } else { &vb };
    let shape = importer.graph.shape(lead.node);
    let keeps = lead.dims == dims && lead.is_dense(&order) && shape.len() == lead.len();
    let shape = if keeps { shape } else { Importer::natural_shape(&dims, &order) };
    let node = importer.emit(call, Op::Binary(op, shape), &inputs)?;
    Ok(View::dense(node, dims, &order))
}

/// A constant as scale or shift: its only axis longer than 1 within a tensor of `rank` axes, if
/// there is at most one.
fn only_axis(constant: &Constant, rank: usize) -> Option<Option<usize>> {
    let mut long = constant.dims.iter().enumerate().filter(|(_, d)| **d != 1).map(|(a, _)| a);
    match (long.next(), long.next()) {
        (None, _) => Some(None),
        (Some(axis), None) => (axis + rank).checked_sub(constant.dims.len()).map(Some),
        _ => None,
    }
}

/// Add, Sub, Mul, Div with one constant side.
fn with_constant<'m>(
    importer: &mut Importer<'m>,
    call: Call<'m>,
    kind: Arithmetic,
    view: &View,
    constant: &Constant,
    constant_first: bool,
) -> Result<View> {
    let c = Value::Constant(constant.clone());
    let v = Value::Active(view.clone());
    let fits = constant.dims.len() <= view.rank()
        && broadcast(&view.dims, &constant.dims).is_some_and(|dims| dims == view.dims);
    let general = |importer: &mut Importer<'m>| {
        if constant_first {
            binary(importer, call, kind, &c, &v)
        } else {
            binary(importer, call, kind, &v, &c)
        }
    };
    let neutral = match kind {
        Arithmetic::Add => Some(0.0),
        Arithmetic::Subtract if !constant_first => Some(0.0),
        Arithmetic::Multiply => Some(1.0),
        Arithmetic::Divide if !constant_first => Some(1.0),
        _ => None,
    };
    if fits && neutral.is_some_and(|n| constant.to_floats().iter().all(|&x| x == n)) {
        return Ok(view.clone());
    }
    let Some(axis) = only_axis(constant, view.rank()).filter(|_| fits) else { return general(importer) };
    let values: Vec<f64> = constant.to_floats().iter().map(|&x| f64::from(x)).collect();
    let map = |f: fn(f64) -> f64| values.iter().map(|&x| f(x)).collect::<Vec<_>>();
    let (scale, shift) = match (kind, constant_first) {
        (Arithmetic::Add, _) => (map(|_| 1.0), values),
        (Arithmetic::Subtract, false) => (map(|_| 1.0), map(|x| -x)),
        (Arithmetic::Subtract, true) => (map(|_| -1.0), values),
        (Arithmetic::Multiply, _) => (values.clone(), map(|_| 0.0)),
        (Arithmetic::Divide, false) => (map(|x| 1.0 / x), map(|_| 0.0)),
        _ => return general(importer),
    };
    affine(importer, call, view, axis, &scale, &shift)
}

/// Add, Sub, Mul, Div, Max, Min, Sum of any number of inputs.
pub(super) fn arithmetic<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let kind = match call.node.op {
        "Add" | "Sum" => Arithmetic::Add,
        "Sub" => Arithmetic::Subtract,
        "Mul" => Arithmetic::Multiply,
        "Div" => Arithmetic::Divide,
        "Max" => Arithmetic::Maximum,
        _ => Arithmetic::Minimum,
    };
    if let Some(view) = fuse::elementwise(importer, call)? {
        return Ok(vec![Value::Active(view)]);
    }
    let mut sum = importer.required(call, 0)?;
    for i in 1..call.node.inputs.len() {
        let next = importer.required(call, i)?;
        sum = match (&sum, &next) {
            (Value::Constant(a), Value::Constant(b)) => {
                Value::Constant(arithmetic_on(importer, call, kind, a, b)?)
            }
            (Value::Active(view), Value::Constant(c)) => {
                Value::Active(with_constant(importer, call, kind, view, c, false)?)
            }
            (Value::Constant(c), Value::Active(view)) => {
                Value::Active(with_constant(importer, call, kind, view, c, true)?)
            }
            _ => Value::Active(binary(importer, call, kind, &sum, &next)?),
        };
    }
    Ok(vec![sum])
}

fn arithmetic_on(
    importer: &mut Importer,
    call: Call,
    kind: Arithmetic,
    a: &Constant,
    b: &Constant,
) -> Result<Constant> {
    let misfit = || call.broken(format!("works on {:?} and {:?}", a.dims, b.dims));
    let dims = broadcast(&a.dims, &b.dims).ok_or_else(misfit)?;
    importer.budget.charge(super::place::checked_len(call, &dims)?, 8).ok_or_else(|| call.too_large())?;
    if kind == Arithmetic::Divide && !a.is_float() && !b.is_float() && b.to_ints().contains(&0) {
        return Err(call.broken("divides an integer by 0"));
    }
    match kind {
        Arithmetic::Add => a.zip(b, |x, y| x + y, i64::wrapping_add),
        Arithmetic::Subtract => a.zip(b, |x, y| x - y, i64::wrapping_sub),
        Arithmetic::Multiply => a.zip(b, |x, y| x * y, i64::wrapping_mul),
        Arithmetic::Divide => a.zip(b, |x, y| x / y, i64::wrapping_div),
        Arithmetic::Maximum => a.zip(b, f32::max, i64::max),
        Arithmetic::Minimum => a.zip(b, f32::min, i64::min),
    }
    .ok_or_else(misfit)
}

/// Comparisons and logic on constants.
pub(super) fn logic<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    // A comparison of activations is left out; only what can do without it may follow.
    if call.node.op == "Greater"
        && let Value::Active(view) = importer.required(call, 0)?
    {
        return Ok(vec![Value::Folded(view.dims)]);
    }
    let mut side =
        |i| importer.constant(call, i, "what it compares")?.ok_or_else(|| call.broken("an input is missing"));
    let (a, b) = (side(0)?, side(1)?);
    let dims = broadcast(&a.dims, &b.dims).ok_or_else(|| call.broken("compares tensors that do not fit"))?;
    importer.budget.charge(super::place::checked_len(call, &dims)?, 8).ok_or_else(|| call.too_large())?;
    let floats = |f: fn(f32, f32) -> bool, i: fn(i64, i64) -> bool| {
        a.zip(&b, move |x, y| f(x, y) as u8 as f32, move |x, y| i64::from(i(x, y)))
    };
    let result = match call.node.op {
        "Equal" => floats(|x, y| x == y, |x, y| x == y),
        "Less" => floats(|x, y| x < y, |x, y| x < y),
        "LessOrEqual" => floats(|x, y| x <= y, |x, y| x <= y),
        "Greater" => floats(|x, y| x > y, |x, y| x > y),
        "GreaterOrEqual" => floats(|x, y| x >= y, |x, y| x >= y),
        "And" => floats(|_, _| false, |x, y| x != 0 && y != 0),
        "Or" => floats(|_, _| false, |x, y| x != 0 || y != 0),
        "Xor" => floats(|_, _| false, |x, y| (x != 0) != (y != 0)),
        _ if !a.is_float() && b.to_ints().contains(&0) => return Err(call.broken("divides an integer by 0")),
        // Mod: the sign of the divisor, with fmod that of the dividend.
        _ if call.int("fmod", 0)? != 0 => a.zip(&b, |x, y| x % y, i64::wrapping_rem),
        _ => a.zip(&b, f32::rem_euclid, |x, y| {
            let r = x.wrapping_rem(y);
            if r != 0 && (r < 0) != (y < 0) { r + y } else { r }
        }),
    };
    let result = result.ok_or_else(|| call.broken("compares tensors that do not fit"))?;
    // Truth values are integers here.
    Ok(vec![Value::Constant(match call.node.op {
        "Mod" => result,
        _ => Constant::ints(result.dims.clone(), result.to_ints()),
    })])
}

/// CumSum of a constant, as exporters count positions with it.
pub(super) fn running_sum<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let missing = || call.broken("an input is missing");
    let c = importer.constant(call, 0, "what it sums")?.ok_or_else(missing)?;
    let axis = importer.constant(call, 1, "the axis")?.ok_or_else(missing)?.to_ints();
    let axis = call.axis(axis.first().copied().unwrap_or(0), c.dims.len())?;
    if call.int("exclusive", 0)? != 0 || call.int("reverse", 0)? != 0 {
        return Err(call.unsupported("has the attribute `exclusive` or `reverse`"));
    }
    importer.budget.charge(c.len(), 8).ok_or_else(|| call.too_large())?;
    let inner: usize = c.dims[axis + 1..].iter().product();
    let block = inner * c.dims[axis];
    let follows = |i: &usize| i % block >= inner;
    if c.is_float() {
        let mut values = c.to_floats().to_vec();
        (0..values.len()).filter(follows).for_each(|i| values[i] += values[i - inner]);
        return Ok(vec![Value::Constant(Constant::floats(c.dims, values))]);
    }
    let mut values = c.to_ints();
    (0..values.len()).filter(follows).for_each(|i| values[i] = values[i].wrapping_add(values[i - inner]));
    Ok(vec![Value::Constant(Constant::ints(c.dims, values))])
}

/// IsNaN of a softmax, by which PyTorch's exporter guards against rows that a mask forbids wholly. Rows with something
/// to choose from are never NaN.
pub(super) fn is_nan<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let view = match importer.required(call, 0)? {
        Value::Constant(c) => {
            let found = c.to_floats().iter().map(|v| i64::from(v.is_nan())).collect();
            return Ok(vec![Value::Constant(Constant::ints(c.dims, found))]);
        }
        value => view_of(&value),
    };
    let unsure = || {
        call.unsupported("asks of an activation whether it is NaN").expected("a softmax", "something else")
    };
    let softmax = importer.made_by(call.node.inputs[0], "Softmax").ok_or_else(unsure)?;
    let scores = softmax.inputs.first().copied().unwrap_or("");
    if let Some(sum) = importer.made_by(scores, "Add") {
        let sum = Call { node: sum, ..call };
        for i in 0..2 {
            if let Some(Value::Constant(mask)) = importer.input(sum, i)? {
                let width = mask.dims.last().copied().unwrap_or(1).max(1);
                let open = |row: &[f32]| row.iter().any(|v| v.is_finite());
                if !mask.to_floats().chunks(width).all(open) {
                    return Err(call.unsupported("guards a softmax with a row that its mask forbids wholly"));
                }
            }
        }
    }
    // One value, which broadcasts.
    Ok(vec![Value::Constant(Constant::ints(vec![1; view.rank()], vec![0]))])
}

pub(super) fn cast<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let to_float = match call.node.op {
        "CastLike" => match importer.required(call, 1)? {
            Value::Constant(c) => c.is_float(),
            _ => true,
        },
        _ => matches!(call.int("to", 1)?, 1 | 10 | 11 | 16),
    };
    Ok(vec![match importer.required(call, 0)? {
        Value::Constant(c) if to_float == c.is_float() => Value::Constant(c),
        Value::Constant(c) => {
            importer.budget.charge(c.len(), 8).ok_or_else(|| call.too_large())?;
            let is_bool = call.node.op == "Cast" && call.int("to", 1)? == 9;
            Value::Constant(match to_float {
                true => Constant::floats(c.dims.clone(), c.to_floats().to_vec()),
                false if is_bool => Constant::ints(
                    c.dims.clone(),
                    c.to_floats().iter().map(|&v| i64::from(v != 0.0)).collect(),
                ),
                false => Constant::ints(c.dims.clone(), c.to_ints()),
            })
        }
        Value::Active(view) if to_float => Value::Active(view),
        _ => {
            return Err(
                call.unsupported("turns an activation into integers, through which no gradient passes")
            );
        }
    }])
}

/// A function of each number.
pub(super) fn apply<'m>(importer: &mut Importer<'m>, call: Call<'m>, view: &View, op: Op) -> Result<View> {
    let order = view.order();
    let placed = importer.place(call, view, &order)?;
    let node = importer.emit(call, op, &[placed.node])?;
    Ok(View::dense(node, view.dims.clone(), &order))
}

/// Operators that are a function of each number, with their attributes and further inputs.
pub(super) fn function<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    use Pointwise::{
        Abs, Clip, Elu, Erf, Exp, HardSigmoid, HardSwish, LeakyRelu, Log, Mish, Power, Sigmoid, Softplus,
    };
    let rounds = matches!(call.node.op, "Floor" | "Ceil" | "Round" | "Sign" | "Not" | "Sin" | "Cos");
    if let Value::Constant(c) = importer.required(call, 0)? {
        if rounds || matches!(call.node.op, "Neg" | "Abs" | "Sqrt" | "Exp" | "Reciprocal" | "Relu" | "Log") {
            return Ok(vec![Value::Constant(function_on(importer, call, &c)?)]);
        }
    } else if rounds {
        return Err(Importer::not_supported(call));
    }
    let view = importer.active(call, 0)?;
    let mut bound = |i: usize, default: f32| -> Result<f32> {
        match importer.constant(call, i, "a bound")? {
            None => Ok(default),
            Some(c) => c.scalar().ok_or_else(|| call.broken("a bound is not one number")),
        }
    };
    let op = match call.node.op {
        "Neg" => return Ok(vec![Value::Active(affine(importer, call, &view, None, &[-1.0], &[0.0])?)]),
        "Relu" => Op::Activation(Activation::Relu),
        "Gelu" => match call.text("approximate", "none")? {
            "none" => Op::Activation(Activation::Gelu),
            "tanh" => Op::Activation(Activation::GeluTanh),
            other => return Err(call.unsupported("approximates GELU").expected("none or tanh", other)),
        },
        "Clip" => match (bound(1, f32::MIN)?, bound(2, f32::MAX)?) {
            (0.0, 6.0) => Op::Activation(Activation::Relu6),
            (0.0, f32::MAX | f32::INFINITY) => Op::Activation(Activation::Relu),
            (low, high) => Op::Pointwise(Clip { low, high }),
        },
        "Sigmoid" => Op::Pointwise(Sigmoid),
        "HardSigmoid" => {
            Op::Pointwise(HardSigmoid { slope: call.float("alpha", 0.2)?, offset: call.float("beta", 0.5)? })
        }
        "HardSwish" => Op::Pointwise(HardSwish),
        "LeakyRelu" => Op::Pointwise(LeakyRelu(call.float("alpha", 0.01)?)),
        "PRelu" => {
            let slope = importer
                .constant(call, 1, "the slope")?
                .ok_or_else(|| call.broken("the slope is missing"))?;
            match slope.scalar() {
                Some(slope) => Op::Pointwise(LeakyRelu(slope)),
                None => return prelu(importer, call, &view, slope),
            }
        }
        "Elu" => Op::Pointwise(Elu(call.float("alpha", 1.0)?)),
        "Softplus" => Op::Pointwise(Softplus),
        "Mish" => Op::Pointwise(Mish),
        "Tanh" => Op::Pointwise(Pointwise::Tanh),
        "Erf" => Op::Pointwise(Erf),
        "Exp" => Op::Pointwise(Exp),
        "Log" => Op::Pointwise(Log),
        "Sqrt" => Op::Pointwise(Pointwise::Sqrt),
        "Abs" => Op::Pointwise(Abs),
        "Reciprocal" => Op::Pointwise(Power(-1.0)),
        "Pow" => match importer.constant(call, 1, "the exponent")?.and_then(|c| c.scalar()) {
            Some(1.0) => return Ok(vec![Value::Active(view)]),
            Some(0.5) => Op::Pointwise(Pointwise::Sqrt),
            Some(p) => Op::Pointwise(Power(p)),
            None => return Err(call.unsupported("the exponent is not one number")),
        },
        _ => return Err(Importer::not_supported(call)),
    };
    Ok(vec![Value::Active(apply(importer, call, &view, op)?)])
}

/// max(x, 0) + slope·min(x, 0), the slope by channel.
fn prelu<'m>(importer: &mut Importer<'m>, call: Call<'m>, view: &View, slope: Constant) -> Read<'m> {
    let positive = apply(importer, call, view, Op::Activation(Activation::Relu))?;
    let low = Pointwise::Clip { low: f32::MIN, high: 0.0 };
    let negative = Value::Active(apply(importer, call, view, Op::Pointwise(low))?);
    let bent = binary(importer, call, Arithmetic::Multiply, &negative, &Value::Constant(slope))?;
    let (a, b) = (Value::Active(positive), Value::Active(bent));
    Ok(vec![Value::Active(binary(importer, call, Arithmetic::Add, &a, &b)?)])
}

fn function_on(importer: &mut Importer, call: Call, c: &Constant) -> Result<Constant> {
    importer.budget.charge(c.len(), 8).ok_or_else(|| call.too_large())?;
    if !c.is_float() {
        let f: fn(i64) -> i64 = match call.node.op {
            "Neg" => i64::wrapping_neg,
            "Abs" => i64::wrapping_abs,
            "Sign" => i64::signum,
            "Relu" => |v| v.max(0),
            "Not" => |v| i64::from(v == 0),
            "Floor" | "Ceil" | "Round" => |v| v,
            _ => return Err(call.unsupported("works on integers")),
        };
        return Ok(Constant::ints(c.dims.clone(), c.to_ints().into_iter().map(f).collect()));
    }
    let f: fn(f64) -> f64 = match call.node.op {
        "Neg" => |v| -v,
        "Abs" => f64::abs,
        "Sign" => |v| if v == 0.0 { 0.0 } else { v.signum() },
        "Relu" => |v| v.max(0.0),
        "Sqrt" => f64::sqrt,
        "Exp" => libm::exp,
        "Log" => libm::log,
        "Sin" => libm::sin,
        "Cos" => libm::cos,
        "Reciprocal" => |v| 1.0 / v,
        "Floor" => f64::floor,
        "Ceil" => f64::ceil,
        "Round" => f64::round_ties_even,
        _ => return Err(call.unsupported("works on floating-point numbers")),
    };
    let values = c.to_floats().iter().map(|&v| f(f64::from(v)) as f32).collect();
    Ok(Constant::floats(c.dims.clone(), values))
}

/// ConstantOfShape, Range and the constant itself.
pub(super) fn constant<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    use crate::onnx::proto::Attribute;
    let value = match call.node.op {
        "Constant" => match call.node.attributes.first() {
            Some((_, Attribute::Tensor(t))) => importer.load(t, call)?,
            Some(("value_float", Attribute::Float(v))) => Constant::floats(vec![], vec![*v]),
            Some(("value_int", Attribute::Int(v))) => Constant::ints(vec![], vec![*v]),
            Some(("value_floats", Attribute::Floats(v))) => Constant::floats(vec![v.len()], v.clone()),
            Some(("value_ints", Attribute::Ints(v))) => Constant::ints(vec![v.len()], v.clone()),
            _ => return Err(call.unsupported("holds neither a tensor nor numbers")),
        },
        "ConstantOfShape" => {
            let shape = importer.constant(call, 0, "the shape")?.map(|c| c.to_ints()).unwrap_or_default();
            let dims: Option<Vec<usize>> = shape.iter().map(|&d| usize::try_from(d).ok()).collect();
            let dims = dims.ok_or_else(|| call.broken(format!("has the shape {shape:?}")))?;
            let len = super::place::checked_len(call, &dims)?;
            importer.budget.charge(len, 8).ok_or_else(|| call.too_large())?;
            match call.any("value") {
                None => Constant::floats(dims, vec![0.0; len]),
                Some(Attribute::Tensor(t)) => {
                    let fill = importer.load(t, call)?;
                    match (fill.is_float(), fill.scalar()) {
                        (true, Some(v)) => Constant::floats(dims, vec![v; len]),
                        (false, Some(_)) => Constant::ints(dims, vec![fill.to_ints()[0]; len]),
                        _ => return Err(call.broken("fills with more than one value")),
                    }
                }
                Some(_) => return Err(call.broken("fills with something that is no tensor")),
            }
        }
        _ => {
            let mut part = |i| {
                importer
                    .constant(call, i, "an end of the range")?
                    .ok_or_else(|| call.broken("an input is missing"))
            };
            let (start, limit, delta) = (part(0)?, part(1)?, part(2)?);
            let (Some(from), Some(to), Some(step)) = (start.scalar(), limit.scalar(), delta.scalar()) else {
                return Err(call.broken("has ends that are not one number each"));
            };
            let count = ((f64::from(to) - f64::from(from)) / f64::from(step)).ceil().max(0.0);
            if !count.is_finite() || count > 1e8 {
                return Err(call.too_large());
            }
            importer.budget.charge(count as usize, 8).ok_or_else(|| call.too_large())?;
            let at = |i: usize| from + step * i as f32;
            if start.is_float() {
                Constant::floats(vec![count as usize], (0..count as usize).map(at).collect())
            } else {
                let (from, step) = (start.to_ints()[0], delta.to_ints()[0]);
                let at = |i: usize| from.wrapping_add(step.wrapping_mul(i as i64));
                Constant::ints(vec![count as usize], (0..count as usize).map(at).collect())
            }
        }
    };
    if value.dims.len() > crate::onnx::proto::MAX_RANK {
        return Err(call.unsupported("gives a tensor of more than 16 axes"));
    }
    Ok(vec![Value::Constant(value)])
}
