//! Convolution of stride 1 by fewer multiplications, with bias, residual and activation as in [`super::conv`].

use std::sync::OnceLock;

use crate::kernel::epilogue::{Derivative, Epilogue};
use crate::kernel::isa::Isa;
use crate::kernel::winograd::{Place, Scheme, Winograd};
use crate::op::activation::{Activation, jet_in_place, pull_back};
use crate::op::conv::Window;
use crate::op::{Back, Rule, Saved};
use crate::real::Real;
use crate::tensor::{Gradients, Shape, Tensor, Workspace};

/// The scheme for a convolution of these shapes, if one is faster than a plain product.
///
/// A rule of shapes alone, so that one input has one result everywhere. Times are counted in multiply-adds of a
/// product; the constants were fitted to both directions of ResNet's and Inception's layers on a Zen 4 core.
pub(crate) fn choose(window: Window, input: Shape, output: Shape) -> Option<Scheme> {
    let schemes: &[Scheme] = match (window.kh, window.kw, window.stride) {
        (3, 3, 1) => &[Scheme::square(4, 3), Scheme::square(2, 3)],
        (5, 5, 1) => &[Scheme::square(2, 5)],
        (1, 7, 1) => &[Scheme::across(2, 7)],
        (7, 1, 1) => &[Scheme::down(2, 7)],
        (1, 3, 1) => &[Scheme::across(4, 3)],
        (3, 1, 1) => &[Scheme::down(4, 3)],
        _ => return None,
    };
    let (k, n) = (input.c, output.c);
    // A register holds no fewer channels.
    if k < 16 || n < 16 {
        return None;
    }
    let product = |rows: usize, matrices: usize| {
        // Reading a weight from a cache shared with other cores takes as long as so many products with it.
        const WEIGHT: usize = 8;
        (rows + WEIGHT) * matrices * k * n
    };
    // Moving a value into or out of a matrix.
    const MOVE: usize = 6;
    let taps = window.kh * window.kw;
    let plain = product(output.rows(), taps) + MOVE * output.rows() * taps * k;
    let cost = |scheme: &Scheme| {
        let tiles = scheme.tiles(output);
        product(tiles, scheme.points()) + MOVE * tiles * scheme.points() * (k + n)
    };
    schemes.iter().copied().min_by_key(cost).filter(|scheme| cost(scheme) < plain)
}

/// A convolution that [`choose`] has a scheme for.
pub(crate) struct WinogradRule<T: Real> {
    window: Window,
    input: Shape,
    weight: Winograd<T>,
    /// Made when the first vjp asks for it.
    reversed: OnceLock<Winograd<T>>,
    bias: Vec<T>,
    activation: Activation,
    /// Whether the second input is added before the activation.
    residual: bool,
}

impl<T: Real> WinogradRule<T> {
    /// `weight`: out × in × kh × kw.
    pub(crate) fn new(
        isa: Isa,
        scheme: Scheme,
        window: Window,
        input: Shape,
        weight: &[f32],
        bias: Vec<T>,
        activation: Activation,
        residual: bool,
    ) -> Self {
        let weight = Winograd::new(isa, scheme, weight, bias.len(), input.c);
        WinogradRule { window, input, weight, reversed: OnceLock::new(), bias, activation, residual }
    }
}

impl<T: Real> Rule<T> for WinogradRule<T> {
    fn forward(
        &self,
        ws: &mut Workspace<T>,
        x: &[&Tensor<T>],
        shape: Shape,
        save: bool,
    ) -> (Tensor<T>, Saved<T>) {
        let mut y = ws.like(x[0], shape);
        let (planes, jet) = (y.planes(), y.is_jet());
        let saved = self.activation.saved_slopes::<T>(y.data.len(), shape.c).filter(|_| save);
        let mut slope = saved.map(|len| ws.pool.take(len));
        let place = Place {
            input: self.input,
            output: shape,
            top: self.window.top as isize,
            left: self.window.left as isize,
        };
        let epilogue = Epilogue {
            bias: Some(&self.bias),
            biased: if jet { shape.len() } else { usize::MAX },
            residual: self.residual.then(|| &x[1].data[..]),
            activation: if jet { Activation::Identity } else { self.activation },
            derivative: slope.as_mut().map(|s| Derivative::within(self.activation, s, 0..y.data.len())),
            ..Default::default()
        };
        let mut scratch = ws.pool.take(self.weight.scratch(ws.threads, place, planes));
        self.weight.convolve(ws.threads, ws.isa, place, &x[0].data, &mut y.data, epilogue, &mut scratch);
        ws.pool.give(scratch);
        if jet && self.activation != Activation::Identity {
            jet_in_place(ws.isa, self.activation, &mut y);
        }
        (y, slope)
    }

    fn vjp(&self, ws: &mut Workspace<T>, mut grad: Tensor<T>, back: Back<T>, into: &mut Gradients<T>) {
        if !back.pulled {
            pull_back(ws.isa, self.activation, &mut grad.data, &back.saved, back.output);
        }
        if let Some(slope) = back.saved {
            ws.pool.give(slope);
        }
        let weight = self.reversed.get_or_init(|| self.weight.reversed());
        let place = Place {
            input: grad.shape,
            output: self.input,
            top: self.window.kh as isize - 1 - self.window.top as isize,
            left: self.window.kw as isize - 1 - self.window.left as isize,
        };
        let (mut dx, fresh) = into.open(ws, back.nodes[0], self.input);
        let slope = back.slopes[0];
        let epilogue = Epilogue { accumulate: !fresh, slope, ..Default::default() };
        let mut scratch = ws.pool.take(weight.scratch(ws.threads, place, grad.planes()));
        weight.convolve(ws.threads, ws.isa, place, &grad.data, &mut dx.data, epilogue, &mut scratch);
        ws.pool.give(scratch);
        into.finish(ws, back.nodes[0], dx, slope.is_some());
        if self.residual {
            into.add(ws, back.nodes[1], grad);
        } else {
            ws.pool.give(grad.data);
        }
    }

    fn activation(&self) -> Activation {
        self.activation
    }

    fn keeps_output(&self) -> bool {
        let saved = self.activation.saved_slopes::<T>(0, self.bias.len());
        self.activation != Activation::Identity && saved.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layers that the rule was fitted to, and those that tests/derivatives/winograd.rs counts on.
    #[test]
    fn the_rule_chooses() {
        let (none, two, four) = (None, Some(Scheme::square(2, 3)), Some(Scheme::square(4, 3)));
        let five = Some(Scheme::square(2, 5));
        let (wide, tall) = (Some(Scheme::across(2, 7)), Some(Scheme::down(2, 7)));
        let (row, column) = (Some(Scheme::across(4, 3)), Some(Scheme::down(4, 3)));
        for ((kh, kw), (h, w), (input, out), expected) in [
            ((3, 3), (56, 56), (64, 64), four),
            ((3, 3), (28, 28), (128, 128), four),
            ((3, 3), (14, 14), (256, 256), four),
            ((3, 3), (7, 7), (512, 512), two),
            ((3, 3), (147, 147), (32, 64), four),
            ((3, 3), (8, 8), (448, 384), two),
            ((3, 3), (3, 3), (512, 512), none),
            ((3, 3), (224, 224), (3, 64), none),
            ((5, 5), (35, 35), (48, 64), five),
            ((1, 7), (17, 17), (192, 192), wide),
            ((7, 1), (17, 17), (128, 128), tall),
            ((1, 3), (8, 8), (384, 384), row),
            ((3, 1), (8, 8), (384, 384), column),
            ((2, 2), (56, 56), (64, 64), none),
            ((3, 3), (14, 14), (24, 24), four),
            ((3, 3), (13, 13), (21, 19), four),
            ((3, 3), (10, 11), (33, 17), four),
            ((3, 3), (7, 7), (40, 40), two),
            ((3, 3), (8, 7), (16, 37), four),
            ((5, 5), (9, 9), (19, 24), five),
            ((5, 5), (9, 8), (24, 17), five),
            ((1, 7), (13, 13), (17, 24), wide),
            ((7, 1), (13, 13), (24, 17), tall),
            ((1, 7), (12, 9), (16, 16), wide),
            ((1, 3), (9, 9), (24, 24), row),
            ((3, 1), (9, 10), (17, 33), column),
        ] {
            let (input, output) = (Shape::new(h, w, input), Shape::new(h, w, out));
            let found = choose(Window::centred(kh, kw, 1), input, output);
            assert_eq!(found, expected, "{kh}×{kw} on {input} to {output}");
            assert_eq!(choose(Window::centred(kh, kw, 2), input, output), None);
        }
    }
}
