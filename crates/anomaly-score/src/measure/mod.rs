//! From images to their complexity, vulnerability and anomaly score, and from a source of
//! images to a table of them.

mod complexity;
mod pipeline;
mod protocol;
mod vulnerability;

#[cfg(test)]
mod tests;

pub use pipeline::{Options, Outcome, Progress, measure};
pub use protocol::{Protocol, protocol};

pub use crate::table::FEATURES_ONLY;

use nn::engine::Network;
use nn::real::Real;
use nn::tensor::Workspace;

use complexity::Bend;

use crate::Result;
use crate::table::ProtocolSettings;

/// What was measured on one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The feature of the undisturbed image.
    pub feature: Vec<f32>,
    /// C, radians, in [0, π]; `None` where a step has no angle.
    pub complexity: Option<f64>,
    /// The part of C that is rounding, radians; `None` under `exact`, which has none.
    pub noise_floor: Option<f64>,
    /// V, feature units, ≥ 0; `None` where only features are measured.
    pub vulnerability: Option<f64>,
    /// Largest minus smallest V over the starts; `None` with one start.
    pub restart_spread: Option<f64>,
}

impl Measured {
    /// AS-i = V / C; higher is less natural. `None` where C is undefined or 0.
    pub fn anomaly_score_i(&self) -> Option<f64> {
        let complexity = self.complexity.filter(|c| *c > 0.0)?;
        Some(self.vulnerability? / complexity)
    }
}

/// An image to measure.
#[derive(Clone, Copy)]
pub struct Subject<'a, T = f32> {
    /// px × px × 3 (H W C) in [0, 1]; what lies outside is clipped, unless only features are asked for.
    pub pixels: &'a [T],
    /// SHA-256 of the decoded pixels. It keys the random numbers.
    pub content_hash: &'a [u8; 32],
}

/// Measures images: a network, this thread's memory, and the settings.
///
/// Runs are in f32; f64 serves to check them.
pub struct Measurer<'a, T: Real = f32> {
    network: &'a Network<T>,
    workspace: Workspace<T>,
    protocol: Protocol,
    constants: &'a ProtocolSettings,
    seed: u64,
    /// Measures C while this one attacks, where threads share an image.
    beside: Option<Box<Self>>,
}

impl<'a, T: Real> Measurer<'a, T> {
    /// # Errors
    /// `InvalidOption` for constants outside their range; under `exact`, the engine's error
    /// naming the first layer that has no second derivative.
    pub fn new(network: &'a Network<T>, constants: &'a ProtocolSettings, seed: u64) -> Result<Self> {
        let protocol = Protocol::of(constants)?;
        if protocol == Protocol::Exact {
            network.smooth()?;
        }
        Ok(Measurer { network, workspace: network.workspace(), protocol, constants, seed, beside: None })
    }
}

impl Measurer<'_> {
    /// How many images [`Measurer::measure`] does well to be given at once, at least 1: the network's weights then pass by once
    /// for all of them. Results do not depend on it.
    pub fn images_at_once(&self) -> usize {
        let saving = self.protocol != Protocol::FeaturesOnly;
        let images = |output| self.network.images_of_a_pass(output, saving);
        (0..self.network.outputs()).map(images).min().unwrap_or(1)
    }

    /// Lets `threads` threads of a rayon pool share each image from now on; [`Measurer::measure`] is then to be called
    /// inside `ThreadPool::install`. Results do not depend on it.
    pub fn share(&mut self, threads: usize) {
        self.workspace.threads = threads;
        self.beside = (threads > 1).then(|| {
            let mut workspace = self.network.workspace();
            workspace.threads = threads;
            Box::new(Measurer { workspace, beside: None, ..*self })
        });
    }

    /// Measures `images` at each of `outputs` of the network, no output twice: for each image one number set an output, in
    /// their order. The outputs share the path of C; V takes an attack of its own for each.
    ///
    /// A result depends on the image, the layer and the seed alone, not on the other images and outputs.
    ///
    /// # Errors
    /// The engine's, for a network without second derivative under `exact`.
    pub fn measure(&mut self, images: &[Subject], outputs: &[usize]) -> Result<Vec<Vec<Measured>>> {
        if self.protocol == Protocol::FeaturesOnly {
            let only = |feature| Measured {
                feature,
                complexity: None,
                noise_floor: None,
                vulnerability: None,
                restart_spread: None,
            };
            let pixels: Vec<&[f32]> = images.iter().map(|image| image.pixels).collect();
            let features = self.features(&pixels, outputs).into_iter();
            return Ok(features.map(|of_one| of_one.into_iter().map(only).collect()).collect());
        }
        // The method is defined on [0, 1]; a resampler that reproduces its tool may overshoot.
        let clipped: Vec<Vec<f32>> =
            images.iter().map(|i| i.pixels.iter().map(|v| v.clamp(0.0, 1.0)).collect()).collect();
        let images: Vec<Subject> = std::iter::zip(images, &clipped)
            .map(|(image, pixels)| Subject { pixels, content_hash: image.content_hash })
            .collect();
        let beside = if self.protocol == Protocol::Exact { None } else { self.beside.take() };
        let (bends, attacks) = match beside {
            None => {
                let bends = match self.protocol {
                    Protocol::Exact => self.curvature(&images, outputs)?,
                    _ => self.path_complexity(&images, outputs),
                };
                let features: Vec<Vec<&[f32]>> =
                    bends.iter().map(|of_one| of_one.iter().map(|b| &b.feature[..]).collect()).collect();
                let attacks = self.attacks(&images, &features, outputs)?;
                (bends, attacks)
            }
            Some(mut beside) => {
                // The passes along the path need nothing of the attack, whose own steps wait for each other.
                let pixels: Vec<&[f32]> = images.iter().map(|image| image.pixels).collect();
                let features = self.features(&pixels, outputs);
                let features: Vec<Vec<&[f32]>> =
                    features.iter().map(|of_one| of_one.iter().map(|f| &f[..]).collect()).collect();
                let (bends, attacks) = rayon::join(
                    || beside.path_complexity(&images, outputs),
                    || self.attacks(&images, &features, outputs),
                );
                self.beside = Some(beside);
                (bends, attacks?)
            }
        };
        let together = |(bend, (strongest, weakest)): (Bend<f32>, (f64, f64))| Measured {
            feature: bend.feature,
            complexity: bend.complexity,
            noise_floor: bend.noise_floor,
            vulnerability: Some(strongest),
            restart_spread: (self.constants.restarts > 1).then_some(strongest - weakest),
        };
        let of_one = |(bends, attacks): (Vec<Bend<f32>>, Vec<(f64, f64)>)| {
            bends.into_iter().zip(attacks).map(together).collect()
        };
        Ok(bends.into_iter().zip(attacks).map(of_one).collect())
    }

    /// For each image (strongest, weakest) V at each of `outputs`, whose features of the undisturbed image are given.
    fn attacks(
        &mut self,
        images: &[Subject],
        features: &[Vec<&[f32]>],
        outputs: &[usize],
    ) -> Result<Vec<Vec<(f64, f64)>>> {
        let mut by_output = Vec::with_capacity(outputs.len());
        for (i, &output) in outputs.iter().enumerate() {
            let features: Vec<&[f32]> = features.iter().map(|of_one| of_one[i]).collect();
            by_output.push(self.vulnerability(images, &features, output)?);
        }
        Ok(by_image(images.len(), by_output))
    }
}

impl<T: Real> Measurer<'_, T> {
    /// M(x) of each image at each of `outputs`, no output twice.
    fn features(&mut self, images: &[&[T]], outputs: &[usize]) -> Vec<Vec<Vec<T>>> {
        let by_output = match *outputs {
            [output] => vec![self.network.forward_at(&mut self.workspace, images, output)],
            _ => {
                let mut all = self.network.features(&mut self.workspace, images);
                outputs.iter().map(|&o| std::mem::take(&mut all[o])).collect()
            }
        };
        by_image(images.len(), by_output)
    }
}

/// What is listed by output and then by image, by image and then by output.
fn by_image<A>(images: usize, by_output: Vec<Vec<A>>) -> Vec<Vec<A>> {
    let mut all: Vec<Vec<A>> = (0..images).map(|_| Vec::with_capacity(by_output.len())).collect();
    for of_output in by_output {
        all.iter_mut().zip(of_output).for_each(|(all, one)| all.push(one));
    }
    all
}

/// Euclidean norm, summed in f64.
fn norm(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|v| v * v).sum::<f64>().sqrt()
}

/// ‖a − b‖₂ in f64.
fn distance<T: Real>(a: &[T], b: &[T]) -> f64 {
    norm(a.iter().zip(b).map(|(a, b)| a.f64() - b.f64()))
}
