//! The supported operators: which there are, which attributes each may have, and who reads it.

mod blocks;
mod elementwise;
mod fuse;
mod join;
mod matmul;
mod normalise;
mod pad;
mod place;
mod reduce;
mod resize;
mod select;
mod shape;
mod window;

use super::call::Call;
use super::constant::Constant;
pub(super) use super::import::{Importer, Value};
use super::view::{View, row_major};
use crate::engine::Network;
use crate::graph::{Graph, Op};
use crate::tensor::Shape;
use crate::weights::shown;
use crate::{Error, Result};

/// What reading an operator gives: a value for each of its outputs.
type Read<'m> = Result<Vec<Value<'m>>>;

type Reader = for<'m> fn(&mut Importer<'m>, Call<'m>) -> Read<'m>;

/// Operators that read alike.
struct Family {
    reader: Reader,
    /// What becomes of it where all inputs are constants.
    constants: Constants,
    operators: &'static [(&'static str, &'static [&'static str])],
}

/// How an operator is read whose inputs are all constants.
#[derive(Clone, Copy, PartialEq)]
enum Constants {
    /// By its reader, which works on constants too.
    Read,
    /// By running it once; its cost is bounded by the multiply-adds of the engine's operators.
    Run,
    /// As if they were activations.
    Ride,
}

const FAMILIES: &[Family] = &[
    Family {
        reader: elementwise::arithmetic,
        constants: Constants::Read,
        operators: &[
            ("Add", &[]),
            ("Sub", &[]),
            ("Mul", &[]),
            ("Div", &[]),
            ("Sum", &[]),
            ("Max", &[]),
            ("Min", &[]),
        ],
    },
    Family {
        reader: elementwise::function,
        constants: Constants::Run,
        operators: &[
            ("Clip", &[]),
            ("Elu", &["alpha"]),
            ("Erf", &[]),
            ("Gelu", &["approximate"]),
            ("HardSigmoid", &["alpha", "beta"]),
            ("HardSwish", &[]),
            ("LeakyRelu", &["alpha"]),
            ("Mish", &[]),
            ("PRelu", &[]),
            ("Pow", &[]),
            ("Sigmoid", &[]),
            ("Softplus", &[]),
            ("Tanh", &[]),
        ],
    },
    Family {
        reader: elementwise::function,
        constants: Constants::Read,
        operators: &[
            ("Abs", &[]),
            ("Ceil", &[]),
            ("Cos", &[]),
            ("Exp", &[]),
            ("Floor", &[]),
            ("Log", &[]),
            ("Neg", &[]),
            ("Not", &[]),
            ("Reciprocal", &[]),
            ("Relu", &[]),
            ("Round", &[]),
            ("Sign", &[]),
            ("Sin", &[]),
            ("Sqrt", &[]),
        ],
    },
    Family {
        reader: elementwise::logic,
        constants: Constants::Read,
        operators: &[
            ("And", &[]),
            ("Equal", &[]),
            ("Greater", &[]),
            ("GreaterOrEqual", &[]),
            ("Less", &[]),
            ("LessOrEqual", &[]),
            ("Mod", &["fmod"]),
            ("Or", &[]),
            ("Xor", &[]),
        ],
    },
    Family { reader: elementwise::is_nan, constants: Constants::Read, operators: &[("IsNaN", &[])] },
    Family {
        reader: elementwise::cast,
        constants: Constants::Read,
        operators: &[("Cast", &["to", "saturate"]), ("CastLike", &["saturate"])],
    },
    Family {
        reader: elementwise::constant,
        constants: Constants::Read,
        operators: &[
            ("Constant", &["value", "value_float", "value_floats", "value_int", "value_ints"]),
            ("ConstantOfShape", &["value"]),
            ("Range", &[]),
        ],
    },
    Family {
        reader: shape::identity,
        constants: Constants::Read,
        operators: &[("Identity", &[]), ("Dropout", &["ratio", "seed"])],
    },
    Family {
        reader: shape::shape,
        constants: Constants::Read,
        operators: &[("Shape", &["start", "end"]), ("Size", &[])],
    },
    Family { reader: shape::reshape, constants: Constants::Read, operators: &[("Reshape", &["allowzero"])] },
    Family { reader: shape::flatten, constants: Constants::Read, operators: &[("Flatten", &["axis"])] },
    Family { reader: shape::transpose, constants: Constants::Read, operators: &[("Transpose", &["perm"])] },
    Family { reader: shape::squeeze, constants: Constants::Read, operators: &[("Squeeze", &["axes"])] },
    Family { reader: shape::unsqueeze, constants: Constants::Read, operators: &[("Unsqueeze", &["axes"])] },
    Family { reader: shape::expand, constants: Constants::Read, operators: &[("Expand", &[])] },
    Family { reader: shape::tile, constants: Constants::Read, operators: &[("Tile", &[])] },
    Family { reader: join::concat, constants: Constants::Read, operators: &[("Concat", &["axis"])] },
    Family {
        reader: join::split,
        constants: Constants::Read,
        operators: &[("Split", &["axis", "split", "num_outputs"])],
    },
    Family {
        reader: elementwise::running_sum,
        constants: Constants::Read,
        operators: &[("CumSum", &["exclusive", "reverse"])],
    },
    Family { reader: select::slice, constants: Constants::Read, operators: &[("Slice", &[])] },
    Family { reader: select::gather, constants: Constants::Read, operators: &[("Gather", &["axis"])] },
    Family {
        reader: select::gather_at,
        constants: Constants::Read,
        operators: &[("GatherND", &["batch_dims"])],
    },
    Family { reader: pad::pad, constants: Constants::Read, operators: &[("Pad", &["mode"])] },
    Family {
        reader: select::scatter_at,
        constants: Constants::Read,
        operators: &[("ScatterND", &["reduction"])],
    },
    Family { reader: select::choose, constants: Constants::Read, operators: &[("Where", &[])] },
    Family {
        reader: blocks::blocks,
        constants: Constants::Read,
        operators: &[("DepthToSpace", &["blocksize", "mode"]), ("SpaceToDepth", &["blocksize"])],
    },
    Family {
        reader: window::conv,
        constants: Constants::Ride,
        operators: &[("Conv", &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"])],
    },
    Family {
        reader: window::pool,
        constants: Constants::Ride,
        operators: &[
            (
                "AveragePool",
                &[
                    "auto_pad",
                    "ceil_mode",
                    "count_include_pad",
                    "dilations",
                    "kernel_shape",
                    "pads",
                    "strides",
                ],
            ),
            (
                "MaxPool",
                &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"],
            ),
        ],
    },
    Family {
        reader: window::global_pool,
        constants: Constants::Ride,
        operators: &[("GlobalAveragePool", &[]), ("GlobalMaxPool", &[])],
    },
    Family {
        reader: window::batch_norm,
        constants: Constants::Ride,
        operators: &[("BatchNormalization", &["epsilon", "momentum", "training_mode"])],
    },
    Family { reader: matmul::einsum, constants: Constants::Ride, operators: &[("Einsum", &["equation"])] },
    Family { reader: matmul::matmul, constants: Constants::Run, operators: &[("MatMul", &[])] },
    Family {
        reader: matmul::gemm,
        constants: Constants::Run,
        operators: &[("Gemm", &["alpha", "beta", "transA", "transB"])],
    },
    Family { reader: matmul::softmax, constants: Constants::Run, operators: &[("Softmax", &["axis"])] },
    Family {
        reader: normalise::layer,
        constants: Constants::Run,
        operators: &[("LayerNormalization", &["axis", "epsilon", "stash_type"])],
    },
    Family {
        reader: normalise::group,
        constants: Constants::Run,
        operators: &[
            ("GroupNormalization", &["epsilon", "num_groups", "stash_type"]),
            ("InstanceNormalization", &["epsilon"]),
        ],
    },
    Family {
        reader: reduce::reduce,
        constants: Constants::Read,
        operators: &[
            ("ReduceL1", &["axes", "keepdims", "noop_with_empty_axes"]),
            ("ReduceL2", &["axes", "keepdims", "noop_with_empty_axes"]),
            ("ReduceMax", &["axes", "keepdims", "noop_with_empty_axes"]),
            ("ReduceMean", &["axes", "keepdims", "noop_with_empty_axes"]),
            ("ReduceMin", &["axes", "keepdims", "noop_with_empty_axes"]),
            ("ReduceProd", &["axes", "keepdims", "noop_with_empty_axes"]),
            ("ReduceSum", &["axes", "keepdims", "noop_with_empty_axes"]),
            ("ReduceSumSquare", &["axes", "keepdims", "noop_with_empty_axes"]),
        ],
    },
    Family {
        reader: resize::resize,
        constants: Constants::Read,
        operators: &[
            (
                "Resize",
                &[
                    "antialias",
                    "axes",
                    "coordinate_transformation_mode",
                    "cubic_coeff_a",
                    "exclude_outside",
                    "extrapolation_value",
                    "keep_aspect_ratio_policy",
                    "mode",
                    "nearest_mode",
                ],
            ),
            ("Upsample", &["mode"]),
        ],
    },
];

/// All supported operators with their attributes.
pub(super) fn supported() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    FAMILIES.iter().flat_map(|f| f.operators).copied()
}

/// The names of all supported operators, in order.
pub(super) fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = supported().map(|(name, _)| name).collect();
    names.sort_unstable();
    names
}

/// Reads one operator.
pub(super) fn read<'m>(importer: &mut Importer<'m>, call: Call<'m>) -> Read<'m> {
    let op = call.node.op;
    if !matches!(call.node.domain, "" | "ai.onnx") {
        return Err(call
            .unsupported("belongs to an operator set of its own")
            .expected("operators of ONNX itself", shown(call.node.domain)));
    }
    let found = FAMILIES.iter().find_map(|f| f.operators.iter().find(|(n, _)| *n == op).map(|(_, a)| (f, a)));
    let Some((family, attributes)) = found else { return Err(Importer::not_supported(call)) };
    if let Some((name, _)) = call.node.attributes.iter().find(|(name, _)| !attributes.contains(name)) {
        return Err(call.unsupported(format!("has the unsupported attribute `{}`", shown(name))).expected(
            if attributes.is_empty() { "no attributes".into() } else { attributes.join(", ") },
            shown(name),
        ));
    }
    if family.constants == Constants::Run
        && let Some(values) = run_on_constants(importer, call, family.reader)?
    {
        return Ok(values);
    }
    (family.reader)(importer, call)
}

impl Importer<'_> {
    /// The error for an operator that is not supported.
    pub(super) fn not_supported(call: Call) -> Error {
        call.unsupported("this operator is not supported")
            .remedy(format!("Supported are: {}", names().join(", ")))
    }
}

/// Multiply-adds that may be spent on constants.
const CONSTANT_WORK: u64 = 1 << 28;

/// The outputs of an operator whose inputs are all known: it is run once, here.
fn run_on_constants<'m>(
    importer: &mut Importer<'m>,
    call: Call<'m>,
    reader: Reader,
) -> Result<Option<Vec<Value<'m>>>> {
    let is_active =
        |name: &&str| matches!(importer.value(name), Some(Value::Active(_) | Value::Folded(_)) | None);
    if call.node.inputs.iter().filter(|n| !n.is_empty()).any(is_active) {
        return Ok(None);
    }
    let Value::Constant(first) = importer.required(call, 0)? else { return Ok(None) };
    if !first.is_float() || first.len() == 0 {
        return Err(call.unsupported("works on integers, or on nothing"));
    }
    let graph = Graph::with_input(Shape::new(1, 1, first.len()));
    let view = View::dense(0, first.dims.clone(), &row_major(first.dims.len()));
    let values = importer.aside(graph, call.node.inputs[0], Value::Active(view), |importer| {
        let mut results = Vec::new();
        for value in reader(importer, call)? {
            let Value::Active(view) = value else { return Err(call.unsupported("has constant outputs")) };
            let placed = importer.place(call, &view, &row_major(view.rank()))?;
            // The graph may still be its input alone.
            let node = importer.emit(
                call,
                Op::Rearrange(whole(view.len()), Shape::new(1, 1, view.len())),
                &[placed.node],
            )?;
            importer.graph.outputs = vec![node];
            if importer.graph.multiply_adds() > CONSTANT_WORK {
                return Err(call.unsupported("computes too much from constants alone"));
            }
            let network = Network::<f64>::new(&importer.graph);
            let x: Vec<f64> = first.to_floats().iter().map(|&v| f64::from(v)).collect();
            let y = network.forward(&mut network.workspace(), &x);
            results.push(Constant::floats(view.dims, y.iter().map(|&v| v as f32).collect()));
        }
        Ok(results)
    })?;
    Ok(Some(values.into_iter().map(Value::Constant).collect()))
}

/// The rearrangement that changes nothing.
fn whole(len: usize) -> crate::op::rearrange::Rearrangement {
    crate::op::rearrange::Rearrangement { constants: vec![], run: len, runs: vec![0] }
}
