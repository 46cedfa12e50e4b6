//! Activations: rows of channels, of one image or several, and their jets.

use crate::buffer::{Buffer, Pool};
use crate::kernel::isa::Isa;
use crate::real::Real;

/// Shape of an activation: `h`·`w` rows of `c` channels. Token sequences have `w` = 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Height, or number of tokens.
    pub h: usize,
    /// Width.
    pub w: usize,
    /// Channels.
    pub c: usize,
}

impl Shape {
    /// `h`×`w`×`c`.
    pub fn new(h: usize, w: usize, c: usize) -> Self {
        Shape { h, w, c }
    }

    /// Rows: `h`·`w`.
    pub fn rows(self) -> usize {
        self.h * self.w
    }

    /// Values: `h`·`w`·`c`.
    pub fn len(self) -> usize {
        self.rows() * self.c
    }

    /// Whether there are no values.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}×{}×{}", self.h, self.w, self.c)
    }
}

/// What the planes of a [`Tensor`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planes {
    /// The values of one image each.
    Images,
    /// The values of one image, their first and, unless the jet ends there, their second derivatives along a line.
    Jet,
}

/// An activation of one image or several, or the jet of one; planes follow each other in memory, each row-major.
pub struct Tensor<T: Real> {
    /// Shape of one plane.
    pub shape: Shape,
    /// What the planes are.
    pub kind: Planes,
    /// All planes.
    pub data: Buffer<T>,
}

impl<T: Real> Tensor<T> {
    /// Number of images, or 3 for a second-order jet and 2 for one of the first order.
    pub fn planes(&self) -> usize {
        self.data.len() / self.shape.len().max(1)
    }

    /// Whether the planes are derivatives of one another.
    pub fn is_jet(&self) -> bool {
        self.kind == Planes::Jet
    }

    /// Whether plane `p` holds values, not derivatives: what is constant is added there.
    pub fn holds_values(&self, p: usize) -> bool {
        p == 0 || self.kind == Planes::Images
    }

    /// Plane `p`.
    pub fn plane(&self, p: usize) -> &[T] {
        &self.data[p * self.shape.len()..][..self.shape.len()]
    }

    /// Plane `p`.
    pub fn plane_mut(&mut self, p: usize) -> &mut [T] {
        let len = self.shape.len();
        &mut self.data[p * len..][..len]
    }
}

/// What a rule works with: the instruction set and this thread's free memory.
pub struct Workspace<T: Real> {
    pub(crate) isa: Isa,
    pub(crate) pool: Pool<T>,
    /// Whether a rule may keep its weights a second time, transposed for the vjp.
    pub(crate) keeps_transposes: bool,
    /// Threads of the rayon pool this thread belongs to that share one image; 1: none but this. Results do not depend
    /// on it. For more than 1, run the network inside `rayon::ThreadPool::install`.
    pub threads: usize,
    /// Time spent in each step, where asked for.
    pub clock: Clock,
}

/// Adds up the time of each step of a network; off unless [`Clock::on`] was called.
#[derive(Default)]
pub struct Clock {
    /// Seconds since some moment.
    now: Option<fn() -> f64>,
    seconds: Vec<f64>,
}

impl Clock {
    /// Begins a profile in the time that `now` gives, in seconds: that of the wall or that of the thread.
    pub fn on(&mut self, now: fn() -> f64) {
        *self = Clock { now: Some(now), seconds: Vec::new() };
    }

    /// Ends it: seconds by step of the network, 0 for steps that did not run.
    pub fn off(&mut self, steps: usize) -> Vec<f64> {
        let mut seconds = std::mem::take(self).seconds;
        seconds.resize(steps, 0.0);
        seconds
    }

    pub(crate) fn start(&self) -> Option<f64> {
        self.now.map(|now| now())
    }

    pub(crate) fn stop(&mut self, step: usize, since: Option<f64>) {
        let (Some(now), Some(since)) = (self.now, since) else { return };
        if self.seconds.len() <= step {
            self.seconds.resize(step + 1, 0.0);
        }
        self.seconds[step] += now() - since;
    }
}

impl<T: Real> Workspace<T> {
    /// A workspace for kernels of `isa`.
    pub fn new(isa: Isa) -> Self {
        Workspace {
            isa: T::set(isa),
            pool: Pool::default(),
            keeps_transposes: true,
            threads: 1,
            clock: Clock::default(),
        }
    }

    /// `planes` planes of `shape`, to be overwritten.
    pub(crate) fn tensor(&mut self, shape: Shape, kind: Planes, planes: usize) -> Tensor<T> {
        Tensor { shape, kind, data: self.pool.take(shape.len() * planes) }
    }

    /// Planes of `shape`, of the kind and number of those of `other`, to be overwritten.
    pub(crate) fn like(&mut self, other: &Tensor<T>, shape: Shape) -> Tensor<T> {
        self.tensor(shape, other.kind, other.planes())
    }

    /// The same, of zeros.
    pub(crate) fn zeros_like(&mut self, other: &Tensor<T>, shape: Shape) -> Tensor<T> {
        Tensor { shape, kind: other.kind, data: self.pool.take_zeroed(shape.len() * other.planes()) }
    }
}

/// Gradients on their way back, one slot a node.
pub struct Gradients<T: Real> {
    /// Planes of each.
    pub(crate) images: usize,
    pub(crate) slots: Vec<Option<Tensor<T>>>,
    /// Nodes whose gradient is multiplied by the slope of their activation already.
    pub(crate) pulled: Vec<bool>,
}

impl<T: Real> Gradients<T> {
    /// Adds `gradient` to the slot of `node`.
    pub(crate) fn add(&mut self, ws: &mut Workspace<T>, node: usize, gradient: Tensor<T>) {
        match &mut self.slots[node] {
            Some(sum) => {
                for (s, g) in sum.data.iter_mut().zip(gradient.data.iter()) {
                    *s += *g;
                }
                ws.pool.give(gradient.data);
            }
            slot => *slot = Some(gradient),
        }
    }

    /// Ends what [`Gradients::open`] began; `pulled`: the gradient is multiplied by the slope that
    /// [`Back::slopes`](crate::op::Back::slopes) gave for this node.
    pub(crate) fn finish(&mut self, ws: &mut Workspace<T>, node: usize, gradient: Tensor<T>, pulled: bool) {
        self.pulled[node] = pulled;
        self.add(ws, node, gradient);
    }

    /// The slot's gradient so far and whether it is new (then its contents are to be overwritten).
    pub(crate) fn open(&mut self, ws: &mut Workspace<T>, node: usize, shape: Shape) -> (Tensor<T>, bool) {
        match self.slots[node].take() {
            Some(tensor) => (tensor, false),
            None => (ws.tensor(shape, Planes::Images, self.images), true),
        }
    }
}
