//! From an operator of a graph to the rule that runs it.

use std::sync::OnceLock;

use crate::graph::Op;
use crate::kernel::isa::Isa;
use crate::op::Rule;
use crate::op::activation::{Activation, ActivationRule};
use crate::op::add::Add;
use crate::op::affine::Affine;
use crate::op::binary::BinaryRule;
use crate::op::channels::{Channels, Concat};
use crate::op::conv::{ConvRule, pack_weight};
use crate::op::depthwise::DepthwiseRule;
use crate::op::gated::GatedSilu;
use crate::op::grouped::GroupedRule;
use crate::op::inverted_residual::InvertedResidualRule;
use crate::op::layer_norm::LayerNormRule;
use crate::op::pool::PoolRule;
use crate::op::pool_rows::{PoolRows, Statistic};
use crate::op::rearrange::RearrangeRule;
use crate::op::reduce::ReduceRule;
use crate::op::shortcut::Shortcut;
use crate::op::softmax::Softmax;
use crate::op::tokens::{FirstTokens, Tokens};
use crate::op::winograd::{self, WinogradRule};
use crate::pass::merge::Work;
use crate::real::Real;
use crate::tensor::Shape;

/// The rule of a step. Called by [`Real::rule`] alone, so that all kernels are compiled in this crate, once.
pub(crate) fn make_rule<T: Real>(isa: Isa, work: &Work, inputs: &[Shape]) -> Box<dyn Rule<T>> {
    let input = inputs[0];
    let (op, activation, residual) = match work {
        Work::Operator { op, activation, residual } => (op, *activation, *residual),
        Work::InvertedResidual { expand, depthwise, middle, project, residual } => {
            let expand = expand.as_ref().map(|(op, f)| conv_rule(isa, op, input, *f, false));
            return Box::new(InvertedResidualRule {
                expand,
                depthwise: depthwise_rule(&depthwise.0, depthwise.1),
                project: conv_rule(isa, project, *middle, Activation::Identity, *residual),
                input,
                middle: *middle,
            });
        }
    };
    match op {
        Op::Input => unreachable!("the input is not a step"),
        Op::Affine { scale, shift } => Box::new(Affine { scale: real(scale), shift: real(shift) }),
        Op::Conv { window, weight, bias, groups, .. } if *groups > 1 => {
            Box::new(GroupedRule::new(isa, *window, weight, real(bias), input.c, *groups))
        }
        Op::Conv { window, size, weight, bias, .. } => {
            let scheme = winograd::choose(*window, input, Shape::new(size.0, size.1, bias.len()));
            let Some(scheme) = scheme else {
                return Box::new(conv_rule::<T>(isa, op, input, activation, residual));
            };
            let bias = real(bias);
            Box::new(WinogradRule::new(isa, scheme, *window, input, weight, bias, activation, residual))
        }
        Op::Depthwise { .. } => Box::new(depthwise_rule::<T>(op, activation)),
        Op::Activation(a) => Box::new(ActivationRule(*a)),
        Op::Add => Box::new(Add),
        Op::Concat => Box::new(Concat),
        Op::Channels { from, .. } => Box::new(Channels { from: *from }),
        Op::Binary(op, _) => Box::new(BinaryRule::new(op)),
        Op::Pointwise(f) => Box::new(*f),
        Op::Rearrange(map, _) => Box::new(RearrangeRule::new(map, inputs)),
        Op::Reduce(op, _) => Box::new(ReduceRule::new(op)),
        Op::MatMul(op, _) => Box::new(op.clone()),
        Op::Softmax => Box::new(Softmax),
        Op::Pool { window, kind, .. } => Box::new(PoolRule { window: *window, kind: *kind }),
        Op::GlobalAveragePool => Box::new(PoolRows { skip: 0, statistic: Statistic::Mean }),
        Op::PoolRows { skip, statistic } => Box::new(PoolRows { skip: *skip, statistic: *statistic }),
        Op::LayerNorm { eps, affine } => Box::new(LayerNormRule {
            eps: T::of(*eps),
            affine: affine.as_ref().map(|(scale, shift)| (real(scale), real(shift))),
        }),
        Op::Attention(rule) => Box::new(*rule),
        Op::Tokens { prefix, position } => {
            Box::new(Tokens { prefix: real(prefix), position: real(position) })
        }
        Op::FirstTokens(_) => Box::new(FirstTokens),
        Op::GatedSilu => Box::new(GatedSilu),
        Op::Shortcut { stride, pad_channels } => {
            Box::new(Shortcut { stride: *stride, pad_channels: *pad_channels })
        }
    }
}

fn real<T: Real>(x: &[f32]) -> Vec<T> {
    x.iter().map(|&v| T::of_f32(v)).collect()
}

fn conv_rule<T: Real>(
    isa: Isa,
    op: &Op,
    input: Shape,
    activation: Activation,
    residual: bool,
) -> ConvRule<T> {
    let Op::Conv { window, weight, bias, .. } = op else { unreachable!("the caller looked") };
    ConvRule {
        window: *window,
        input,
        weight: pack_weight(isa, weight, bias.len(), input.c, *window),
        transposed: OnceLock::new(),
        phases: OnceLock::new(),
        bias: real(bias),
        activation,
        residual,
    }
}

fn depthwise_rule<T: Real>(op: &Op, activation: Activation) -> DepthwiseRule<T> {
    let Op::Depthwise { window, weight, bias, .. } = op else { unreachable!("the caller looked") };
    let (taps, channels) = (window.kh * window.kw, bias.len());
    let mut by_tap = vec![T::ZERO; weight.len()];
    for c in 0..channels {
        for tap in 0..taps {
            by_tap[tap * channels + c] = T::of_f32(weight[c * taps + tap]);
        }
    }
    DepthwiseRule { window: *window, weight: by_tap, bias: real(bias), activation }
}
