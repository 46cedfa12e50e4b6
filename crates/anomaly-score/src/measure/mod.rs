//! From one image to its complexity, vulnerability and anomaly score, and from a source of
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

/// Measures images one at a time: a network, this thread's memory, and the settings.
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

    /// Measures one image at each of `outputs` of the network, no output twice: one number set an output, in their
    /// order. The outputs share the path of C; V takes an attack of its own for each.
    ///
    /// `x`: px × px × 3 (H W C) in [0, 1]; what lies outside is clipped, unless only features are asked for. `content_hash` keys the random numbers, so that a
    /// result depends on the image, the layer and the seed alone, not on the other outputs.
    ///
    /// # Errors
    /// The engine's, for a network without second derivative under `exact`.
    pub fn measure(
        &mut self,
        x: &[f32],
        content_hash: &[u8; 32],
        outputs: &[usize],
    ) -> Result<Vec<Measured>> {
        if self.protocol == Protocol::FeaturesOnly {
            let only = |feature| Measured {
                feature,
                complexity: None,
                noise_floor: None,
                vulnerability: None,
                restart_spread: None,
            };
            return Ok(self.features(x, outputs).into_iter().map(only).collect());
        }
        // The method is defined on [0, 1]; a resampler that reproduces its tool may overshoot.
        let x = &x.iter().map(|v| v.clamp(0.0, 1.0)).collect::<Vec<_>>();
        let n = self.direction(x.len(), content_hash);
        let beside = if self.protocol == Protocol::Exact { None } else { self.beside.take() };
        let (bends, attacks) = match beside {
            None => {
                let bends = match self.protocol {
                    Protocol::Exact => self.curvature(x, &n, outputs)?,
                    _ => self.path_complexity(x, &n, outputs),
                };
                let features: Vec<&[f32]> = bends.iter().map(|b| &b.feature[..]).collect();
                let attacks = self.attacks(x, &features, content_hash, outputs)?;
                (bends, attacks)
            }
            Some(mut beside) => {
                // The passes along the path need nothing of the attack, whose own steps wait for each other.
                let features = self.features(x, outputs);
                let features: Vec<&[f32]> = features.iter().map(|f| &f[..]).collect();
                let (bends, attacks) = rayon::join(
                    || beside.path_complexity(x, &n, outputs),
                    || self.attacks(x, &features, content_hash, outputs),
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
        Ok(bends.into_iter().zip(attacks).map(together).collect())
    }

    /// (strongest, weakest) V at each of `outputs`, whose features of the undisturbed image are given.
    fn attacks(
        &mut self,
        x: &[f32],
        features: &[&[f32]],
        content_hash: &[u8; 32],
        outputs: &[usize],
    ) -> Result<Vec<(f64, f64)>> {
        let attack =
            |(&output, feature): (&usize, &&[f32])| self.vulnerability(x, feature, content_hash, output);
        outputs.iter().zip(features).map(attack).collect()
    }
}

impl<T: Real> Measurer<'_, T> {
    /// M(x) at each of `outputs`, no output twice, in one pass.
    fn features(&mut self, x: &[T], outputs: &[usize]) -> Vec<Vec<T>> {
        match *outputs {
            [output] => vec![self.network.forward_at(&mut self.workspace, x, output)],
            _ => {
                let mut all = self.network.features(&mut self.workspace, x);
                outputs.iter().map(|&o| std::mem::take(&mut all[o])).collect()
            }
        }
    }
}

/// Euclidean norm, summed in f64.
fn norm(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|v| v * v).sum::<f64>().sqrt()
}

/// ‖a − b‖₂ in f64.
fn distance<T: Real>(a: &[T], b: &[T]) -> f64 {
    norm(a.iter().zip(b).map(|(a, b)| a.f64() - b.f64()))
}
