//! Running a graph: forward, gradient towards the input, second-order jet.

mod compile;

pub(crate) use compile::make_rule;

use crate::graph::{Graph, NodeId};
use crate::kernel::isa::Isa;
use crate::op::activation::Activation;
use crate::op::{Back, Rule, Saved, Slope};
use crate::pass::merge::{Merged, Neighbours, Work};
use crate::pass::{Known, Reduced};
use crate::real::Real;
use crate::tensor::{Gradients, Planes, Shape, Tensor, Workspace};
use crate::{Error, ErrorKind, Result};

/// Bytes of weights up to which a network keeps those of its vjp beside those of its forward pass, once they are asked for.
/// Larger networks transpose a layer's weights each time: measuring with a ViT-B takes about 4 % longer for it, and 400 MB less.
const KEPT_TWICE: usize = 256 << 20;

/// Bytes that the tape of several images may take, a thread.
const TAPES: usize = 120 << 20;
/// Floating-point operations of a forward pass over several images: some tenths of a second. A run that is to stop waits for the
/// images under way, which take some two dozen such passes.
const LONGEST: usize = 48_000_000_000;
/// Most images of a pass. Weights pass by for all of them at once; from then on that is a small part of the time.
const MOST_IMAGES: usize = 8;

struct Step<T: Real> {
    info: StepInfo,
    rule: Box<dyn Rule<T>>,
    inputs: Vec<NodeId>,
    output: NodeId,
}

/// A step before its weights are packed.
struct Outline {
    info: StepInfo,
    work: Work,
    /// Shapes of what its first node reads.
    read: Vec<Shape>,
    /// The first of the nodes it computes; `output` is the last.
    first: NodeId,
    inputs: Vec<NodeId>,
    output: NodeId,
}

impl Outline {
    fn compile<T: Real>(self, isa: Isa) -> Step<T> {
        let Outline { info, work, read, inputs, output, .. } = self;
        Step { info, rule: T::rule(isa, &work, &read), inputs, output }
    }
}

/// A plan before its steps are compiled.
struct Outlined {
    /// Indices into the steps, in the order they run.
    chosen: Vec<usize>,
    outputs: Vec<NodeId>,
}

impl Outlined {
    /// Merges neighbours as far as `outputs` allow: an output's value must exist by itself. Steps that `steps` holds
    /// already are shared, so that only the layers at an output are there twice.
    ///
    /// The merging decides the order in which gradients are summed. Since every output has a plan of its own, its
    /// gradient has the same bits whatever else the network gives out.
    fn new(graph: &Graph, outputs: &[NodeId], known: &mut Known, steps: &mut Vec<Outline>) -> Self {
        let Reduced { nodes, outputs } = Reduced::new(graph, outputs);
        let ids = known.ids(&nodes);
        let mut chosen = Vec::new();
        for Merged { work, inputs, nodes: members } in Neighbours::new(&nodes, &outputs).steps() {
            let (first, last) = (members[0], members[members.len() - 1]);
            // A step is known by its first and last node: between them there is one way.
            let same = |s: &Outline| s.first == ids[first] && s.output == ids[last];
            let index = steps.iter().position(same).unwrap_or_else(|| {
                let shapes = |of: &[NodeId]| of.iter().map(|&n| nodes[n].shape).collect::<Vec<Shape>>();
                let flops = |&n: &NodeId| nodes[n].op.flops(&shapes(&nodes[n].inputs), nodes[n].shape);
                let info = StepInfo {
                    name: graph.nodes()[nodes[first].origin.0].name.clone(),
                    kind: work.kind(),
                    flops: members.iter().map(flops).sum(),
                    shape: nodes[last].shape,
                };
                let read = shapes(&nodes[first].inputs);
                let inputs = inputs.iter().map(|&input| ids[input]).collect();
                steps.push(Outline { info, work, read, first: ids[first], inputs, output: ids[last] });
                steps.len() - 1
            });
            chosen.push(index);
        }
        Outlined { chosen, outputs: outputs.iter().map(|&i| ids[i]).collect() }
    }
}

/// What a step of a compiled network is, for profiles.
#[derive(Clone, Debug)]
pub struct StepInfo {
    /// The layer's upstream name.
    pub name: String,
    /// The operator.
    pub kind: &'static str,
    /// Floating-point operations of the forward pass: two a multiply-add, pointwise work not counted.
    pub flops: usize,
    /// Shape of the output.
    pub shape: Shape,
}

/// A step at its place in a plan.
struct Planned {
    /// Index into the network's steps.
    step: usize,
    /// Nodes that no later step of the plan reads.
    done: Vec<NodeId>,
    /// For each input: the step that makes it, if this step alone reads it and its gradient is to be
    /// multiplied by the slope of an activation.
    slope_of: Vec<Option<usize>>,
}

/// The steps that some outputs depend on, and how long values live meanwhile.
struct Plan {
    outputs: Vec<NodeId>,
    steps: Vec<Planned>,
    /// Nodes whose values a vjp reads.
    kept: Vec<bool>,
    /// Values of an image's tape.
    tape_len: usize,
    /// Floating-point operations of a forward pass.
    flops: usize,
    /// Whether some step takes one image at a time.
    one_image: bool,
}

impl Plan {
    fn of_steps<T: Real>(
        steps: &[Step<T>],
        Outlined { chosen, outputs }: Outlined,
        shapes: &[Shape],
    ) -> Self {
        let nodes = shapes.len();
        let mut kept = vec![false; nodes];
        let mut read = vec![false; nodes];
        let run = || chosen.iter().map(|&i| &steps[i]);
        let flops = run().map(|s| s.info.flops).sum();
        let one_image = run().any(|s| s.rule.takes_one_image());
        let saved: usize = run().map(|s| s.rule.saved_len(shapes[s.output])).sum();
        outputs.iter().for_each(|&n| read[n] = true);
        let mut uses = vec![0; nodes];
        chosen.iter().flat_map(|&i| &steps[i].inputs).chain(&outputs).for_each(|&n| uses[n] += 1);
        let mut made_by = vec![None; nodes];
        for &i in &chosen {
            made_by[steps[i].output] = (steps[i].rule.activation() != Activation::Identity).then_some(i);
        }
        let mut planned = Vec::with_capacity(chosen.len());
        // Backwards: the first reader met is the last that runs.
        for step in chosen.into_iter().rev() {
            let Step { rule, inputs, output, .. } = &steps[step];
            let mut done = Vec::new();
            for &n in inputs {
                if !std::mem::replace(&mut read[n], true) {
                    done.push(n);
                }
                kept[n] |= rule.keeps_inputs();
            }
            kept[*output] |= rule.keeps_output();
            let slope_of = inputs.iter().map(|&n| made_by[n].filter(|_| uses[n] == 1)).collect();
            planned.push(Planned { step, done, slope_of });
        }
        planned.reverse();
        let kept_len: usize = shapes.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(s, _)| s.len()).sum();
        Plan { outputs, steps: planned, kept, tape_len: saved + kept_len, flops, one_image }
    }

    /// Images of one pass, at least 1; `saving` a tape of numbers of `size` bytes.
    fn images(&self, saving: Option<usize>) -> usize {
        if self.one_image {
            return 1;
        }
        let by_time = LONGEST / self.flops.max(1);
        let by_memory = saving.map_or(usize::MAX, |size| TAPES / (self.tape_len * size).max(1));
        by_time.min(by_memory).clamp(1, MOST_IMAGES)
    }
}

/// A network ready to run: weights packed for one instruction set, neighbouring operators merged.
///
/// It gives one feature for each output of its graph ([`Graph::outputs`]); methods that speak of "the" feature mean
/// the first. It is immutable and shared between threads; each thread brings its own [`Workspace`].
pub struct Network<T: Real> {
    isa: Isa,
    steps: Vec<Step<T>>,
    shapes: Vec<Shape>,
    /// All outputs in one pass.
    joint: Plan,
    /// Each output alone.
    single: Vec<Plan>,
    kink: Option<String>,
    keeps_transposes: bool,
}

/// What a forward pass keeps for [`Network::vjp`].
pub struct Tape<T: Real> {
    /// Which output.
    output: usize,
    images: usize,
    values: Vec<Option<Tensor<T>>>,
    saved: Vec<Saved<T>>,
}

impl<T: Real> Network<T> {
    /// Compiles `graph` for the widest instruction set of this machine.
    pub fn new(graph: &Graph) -> Self {
        Self::with_isa(graph, Isa::detect())
    }

    /// Compiles `graph` for `isa`.
    pub fn with_isa(graph: &Graph, isa: Isa) -> Self {
        Self::consuming(graph.clone(), isa)
    }

    /// [`Network::with_isa`], giving the graph's weights back layer by layer while they are packed: they are never in memory
    /// twice, unless somebody else holds the graph.
    pub fn consuming(graph: Graph, isa: Isa) -> Self {
        let isa = T::set(isa);
        let outputs = graph.outputs();
        let (mut known, mut outlines) = (Known::default(), Vec::new());
        let mut plan = |outputs: &[NodeId]| Outlined::new(&graph, outputs, &mut known, &mut outlines);
        let joint = plan(&outputs);
        let single: Vec<Outlined> = outputs.iter().map(|&n| plan(&[n])).collect();
        let kink = graph.first_kink().map(|n| n.name.clone());
        drop(graph);
        let weights: usize = outlines.iter().map(|o| o.work.weights()).sum();
        let steps: Vec<Step<T>> = outlines.into_iter().map(|o| o.compile(isa)).collect();
        let shapes = known.shapes().to_vec();
        let plan = |outlined: Outlined| Plan::of_steps(&steps, outlined, &shapes);
        let (joint, single) = (plan(joint), single.into_iter().map(plan).collect());
        let keeps_transposes = weights * size_of::<T>() <= KEPT_TWICE;
        Network { isa, steps, shapes, joint, single, kink, keeps_transposes }
    }

    /// The steps, in the order they run.
    pub fn steps(&self) -> impl Iterator<Item = &StepInfo> {
        self.steps.iter().map(|s| &s.info)
    }

    /// Memory for one thread.
    pub fn workspace(&self) -> Workspace<T> {
        Workspace { keeps_transposes: self.keeps_transposes, ..Workspace::new(self.isa) }
    }

    /// Values of the input: height × width × 3, channels last.
    pub fn input_len(&self) -> usize {
        self.shapes[0].len()
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.single.len()
    }

    /// Length of the feature vector.
    pub fn feature_len(&self) -> usize {
        self.feature_len_at(0)
    }

    /// Length of the feature of output `output`.
    pub fn feature_len_at(&self, output: usize) -> usize {
        self.shapes[self.joint.outputs[output]].len()
    }

    /// How many images one pass to output `output` does well to take: the weights pass by once for all. 1 where an operator
    /// takes one at a time; fewer where a pass takes long, or where its tape, if it is `saving` one, is large.
    pub fn images_of_a_pass(&self, output: usize, saving: bool) -> usize {
        self.single[output].images(saving.then_some(size_of::<T>()))
    }

    /// The feature of image `x` (height × width × 3, in [0, 1]).
    ///
    /// # Panics
    /// If `x` has another length than [`Network::input_len`].
    pub fn forward(&self, ws: &mut Workspace<T>, x: &[T]) -> Vec<T> {
        self.forward_at(ws, &[x], 0).swap_remove(0)
    }

    /// The feature of output `output` of every image, in passes of several; nothing behind it is computed.
    pub fn forward_at(&self, ws: &mut Workspace<T>, images: &[&[T]], output: usize) -> Vec<Vec<T>> {
        let plan = &self.single[output];
        let pass = |images| self.run(ws, plan, (Planes::Images, images), None).swap_remove(0);
        images.chunks(plan.images(None)).flat_map(pass).collect()
    }

    /// The features of all outputs, of every image: a list of the images' for each output.
    pub fn features(&self, ws: &mut Workspace<T>, images: &[&[T]]) -> Vec<Vec<Vec<T>>> {
        let mut all: Vec<Vec<Vec<T>>> = self.single.iter().map(|_| Vec::new()).collect();
        for images in images.chunks(self.joint.images(None)) {
            let some = self.run(ws, &self.joint, (Planes::Images, images), None);
            all.iter_mut().zip(some).for_each(|(all, some)| all.extend(some));
        }
        all
    }

    /// The feature, and what [`Network::vjp`] needs.
    pub fn forward_saving(&self, ws: &mut Workspace<T>, x: &[T]) -> (Vec<T>, Tape<T>) {
        let (mut features, tape) = self.forward_saving_at(ws, &[x], 0);
        (features.swap_remove(0), tape)
    }

    /// The feature of output `output` of every image, and what [`Network::vjp_of`] needs, in one pass.
    ///
    /// # Panics
    /// If there are several images, but [`Network::images_of_a_pass`] is 1.
    pub fn forward_saving_at(
        &self,
        ws: &mut Workspace<T>,
        images: &[&[T]],
        output: usize,
    ) -> (Vec<Vec<T>>, Tape<T>) {
        let plan = &self.single[output];
        assert!(images.len() == 1 || !plan.one_image, "an operator takes one image at a time");
        let mut tape = Tape {
            output,
            images: images.len(),
            values: (0..self.shapes.len()).map(|_| None).collect(),
            saved: (0..self.steps.len()).map(|_| None).collect(),
        };
        let features = self.run(ws, plan, (Planes::Images, images), Some(&mut tape)).swap_remove(0);
        (features, tape)
    }

    /// The planes of all outputs.
    fn run(
        &self,
        ws: &mut Workspace<T>,
        plan: &Plan,
        (kind, planes): (Planes, &[&[T]]),
        mut tape: Option<&mut Tape<T>>,
    ) -> Vec<Vec<Vec<T>>> {
        let mut values: Vec<Option<Tensor<T>>> = (0..self.shapes.len()).map(|_| None).collect();
        let mut input = ws.tensor(self.shapes[0], kind, planes.len());
        for (p, plane) in planes.iter().enumerate() {
            input.plane_mut(p).copy_from_slice(plane);
        }
        values[0] = Some(input);
        let release =
            |ws: &mut Workspace<T>, tape: &mut Option<&mut Tape<T>>, n: NodeId, value: Option<Tensor<T>>| {
                match tape {
                    Some(tape) if plan.kept[n] => tape.values[n] = value,
                    _ => value.into_iter().for_each(|v| ws.pool.give(v.data)),
                }
            };
        for Planned { step: i, done, .. } in &plan.steps {
            let step = &self.steps[*i];
            let inputs: Vec<&Tensor<T>> = step
                .inputs
                .iter()
                .map(|&n| values[n].as_ref().expect("inputs are computed before their readers"))
                .collect();
            let lap = ws.clock.start();
            let (value, saved) = step.rule.forward(ws, &inputs, self.shapes[step.output], tape.is_some());
            ws.clock.stop(*i, lap);
            values[step.output] = Some(value);
            for &n in done {
                let value = values[n].take();
                release(ws, &mut tape, n, value);
            }
            if let Some(tape) = &mut tape {
                tape.saved[*i] = saved;
            }
        }
        let read = |&n: &NodeId| {
            let value = values[n].as_ref().expect("some step gives each output");
            (0..planes.len()).map(|p| value.plane(p).to_vec()).collect()
        };
        let features = plan.outputs.iter().map(read).collect();
        for &n in &plan.outputs {
            let value = values[n].take();
            release(ws, &mut tape, n, value);
        }
        features
    }

    /// The gradient of ⟨feature, `cotangent`⟩ towards the pixels, laid out as the input; the feature is that of the
    /// output the tape was made for, of one image.
    pub fn vjp(&self, ws: &mut Workspace<T>, tape: Tape<T>, cotangent: &[T]) -> Vec<T> {
        self.vjp_of(ws, tape, &[cotangent]).swap_remove(0)
    }

    /// [`Network::vjp`] for every image of the tape, with a cotangent each.
    ///
    /// # Panics
    /// If there are not as many cotangents as images.
    pub fn vjp_of(&self, ws: &mut Workspace<T>, mut tape: Tape<T>, cotangents: &[&[T]]) -> Vec<Vec<T>> {
        assert_eq!(cotangents.len(), tape.images, "one cotangent an image");
        let plan = &self.single[tape.output];
        let output = plan.outputs[0];
        let mut gradients = Gradients {
            images: tape.images,
            slots: (0..self.shapes.len()).map(|_| None).collect(),
            pulled: vec![false; self.shapes.len()],
        };
        let mut seed = ws.tensor(self.shapes[output], Planes::Images, tape.images);
        for (p, cotangent) in cotangents.iter().enumerate() {
            seed.plane_mut(p).copy_from_slice(cotangent);
        }
        gradients.slots[output] = Some(seed);
        for planned in plan.steps.iter().rev() {
            let i = planned.step;
            let step = &self.steps[i];
            // A step whose output nothing differentiable reads has no gradient.
            let Some(grad) = gradients.slots[step.output].take() else { continue };
            let shapes: Vec<Shape> = step.inputs.iter().map(|&n| self.shapes[n]).collect();
            let saved = tape.saved[i].take();
            let slope = |(maker, &n): (&Option<usize>, &NodeId)| {
                let slope = |m: usize| {
                    Slope::of(
                        self.steps[m].rule.activation(),
                        tape.saved[m].as_ref(),
                        tape.values[n].as_ref(),
                    )
                };
                maker.and_then(slope)
            };
            let back = Back {
                pulled: gradients.pulled[step.output],
                slopes: planned.slope_of.iter().zip(&step.inputs).map(slope).collect(),
                nodes: &step.inputs,
                shapes: &shapes,
                inputs: step.inputs.iter().map(|&n| tape.values[n].as_ref()).collect(),
                output: tape.values[step.output].as_ref(),
                saved,
            };
            let lap = ws.clock.start();
            step.rule.vjp(ws, grad, back, &mut gradients);
            ws.clock.stop(i, lap);
            if let Some(value) = tape.values[step.output].take() {
                ws.pool.give(value.data);
            }
        }
        for value in tape.values.into_iter().flatten() {
            ws.pool.give(value.data);
        }
        let gradient = gradients.slots[0].take().expect("every network reads its input");
        let results = (0..tape.images).map(|p| gradient.plane(p).to_vec()).collect();
        ws.pool.give(gradient.data);
        results
    }

    /// The jet of t ↦ feature(x + t·direction) at t = 0: value, first and second derivative.
    ///
    /// # Errors
    /// `NoSecondDerivative`, naming the layer, if the network has a piecewise linear one:
    /// its second derivative is 0 almost everywhere and says nothing.
    pub fn jet(&self, ws: &mut Workspace<T>, x: &[T], direction: &[T]) -> Result<[Vec<T>; 3]> {
        self.jet_at(ws, x, direction, 0)
    }

    /// [`Network::jet`] of output `output`.
    ///
    /// # Errors
    /// As there.
    pub fn jet_at(
        &self,
        ws: &mut Workspace<T>,
        x: &[T],
        direction: &[T],
        output: usize,
    ) -> Result<[Vec<T>; 3]> {
        Ok(self.jets_of(ws, &self.single[output], x, direction)?.swap_remove(0))
    }

    /// The first derivative of t ↦ feature(x + t·direction) at t = 0, the feature being that of output `output`: what a jet's is,
    /// to the bit, for two thirds of the work.
    ///
    /// # Errors
    /// As [`Network::jet`].
    pub fn tangent_at(
        &self,
        ws: &mut Workspace<T>,
        x: &[T],
        direction: &[T],
        output: usize,
    ) -> Result<Vec<T>> {
        self.smooth()?;
        let mut planes = self.run(ws, &self.single[output], (Planes::Jet, &[x, direction]), None);
        Ok(planes.swap_remove(0).swap_remove(1))
    }

    /// The jets of all outputs, in one pass.
    ///
    /// # Errors
    /// As [`Network::jet`].
    pub fn jets(&self, ws: &mut Workspace<T>, x: &[T], direction: &[T]) -> Result<Vec<[Vec<T>; 3]>> {
        self.jets_of(ws, &self.joint, x, direction)
    }

    fn jets_of(
        &self,
        ws: &mut Workspace<T>,
        plan: &Plan,
        x: &[T],
        direction: &[T],
    ) -> Result<Vec<[Vec<T>; 3]>> {
        self.smooth()?;
        let zeros = vec![T::ZERO; x.len()];
        let jet = |planes: Vec<Vec<T>>| planes.try_into().expect("a jet has three planes");
        let jets = self.run(ws, plan, (Planes::Jet, &[x, direction, &zeros]), None);
        Ok(jets.into_iter().map(jet).collect())
    }

    /// Whether jets can pass.
    ///
    /// # Errors
    /// As [`Network::jet`].
    pub fn smooth(&self) -> Result<()> {
        match &self.kink {
            None => Ok(()),
            Some(layer) => Err(Error::new(
                ErrorKind::NoSecondDerivative,
                layer,
                "this layer is piecewise linear, so the network has no second derivative and no exact complexity",
            )
            .remedy("Use the `paper` protocol with this backbone, or a smooth backbone such as DINOv2")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Op;
    use crate::op::conv::Window;

    /// A large network's gradients are a small one's to the bit, and it keeps nothing for them.
    #[test]
    fn transposing_each_time_changes_no_bit() {
        let values =
            |len: usize| (0..len).map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0).collect::<Vec<_>>();
        let mut graph = Graph::new(5);
        for (layer, out) in [("a", 300), ("b", 41)] {
            let input = graph.shape(graph.last()).c;
            let (weight, bias) = (values(input * out).into(), values(out));
            let op = Op::Conv { window: Window::POINT, size: (5, 5), weight, bias, groups: 1 };
            graph.add(layer, op, &[graph.last()]).unwrap();
        }
        let network = Network::<f32>::new(&graph);
        let (x, cotangent) = (values(network.input_len()), values(network.feature_len()));
        let gradient = |keeps_transposes| {
            let mut ws = Workspace { keeps_transposes, ..network.workspace() };
            let (_, tape) = network.forward_saving(&mut ws, &x);
            network.vjp(&mut ws, tape, &cotangent)
        };
        let each_time = gradient(false);
        assert_eq!(each_time, gradient(true));
    }
}
