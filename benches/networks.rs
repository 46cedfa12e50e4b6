//! Time of a forward pass, of a forward pass with the input gradient, and of a jet, on one core.
//!
//!     cargo bench -p anomaly-score-nn --bench networks -- [--profile] [--layers] [--images 1] [--rounds 9] [NAME …]
//!
//! NAME: a fixture of `fixtures/network` (default: the two networks users start with), whose weights are generated;
//! `NAME@PX` runs it on images of that size, which only networks of convolutions can do.
//! Each line: images/s, GF/s of multiply-adds, and their share of the FMA peak measured in the same run.
//! `--profile` lists the operators by their share of the time, `--layers` the layers; `--images` is how many a pass takes
//! (jets one).

mod common;
#[allow(dead_code, reason = "the tests need more of it")]
#[path = "../crates/nn/tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;

use common::{fma_peak, median_seconds};
use nn::engine::Network;
use nn::tensor::Workspace;

const DEFAULT: [&str; 2] = ["efficientnet-lite0-224", "dinov2-vits14-224"];

/// What is timed.
#[derive(Clone, Copy, PartialEq)]
enum Pass {
    Forward,
    Saving,
    Gradient,
    Jet,
}

struct Bench {
    network: Network<f32>,
    workspace: Workspace<f32>,
    images: Vec<Vec<f32>>,
    direction: Vec<f32>,
    cotangent: Vec<f32>,
}

impl Bench {
    fn run(&mut self, pass: Pass) {
        let (net, ws) = (&self.network, &mut self.workspace);
        let images: Vec<&[f32]> = self.images.iter().map(|x| &x[..]).collect();
        match pass {
            Pass::Forward => drop(net.forward_at(ws, &images, 0)),
            Pass::Saving | Pass::Gradient => {
                let (_, tape) = net.forward_saving_at(ws, &images, 0);
                net.vjp_of(ws, tape, &vec![&self.cotangent[..]; images.len()]);
            }
            Pass::Jet => drop(net.jet(ws, images[0], &self.direction).expect("a smooth network")),
        }
    }

    /// Seconds by step of one pass, each step's best of `rounds`, so that other programs on the machine do not show;
    /// `Saving` and `Gradient` are each timed alone.
    fn profile(&mut self, pass: Pass, rounds: usize) -> Vec<f64> {
        let steps = self.network.steps().count();
        let mut times = vec![Vec::new(); steps];
        for _ in 0..rounds {
            let (net, ws) = (&self.network, &mut self.workspace);
            let images: Vec<&[f32]> = self.images.iter().map(|x| &x[..]).collect();
            let cotangents = vec![&self.cotangent[..]; images.len()];
            let seconds = match pass {
                Pass::Gradient => {
                    let (_, tape) = net.forward_saving_at(ws, &images, 0);
                    ws.clock.on(common::thread_seconds);
                    net.vjp_of(ws, tape, &cotangents);
                    ws.clock.off(steps)
                }
                Pass::Saving => {
                    ws.clock.on(common::thread_seconds);
                    let (_, tape) = net.forward_saving_at(ws, &images, 0);
                    let seconds = ws.clock.off(steps);
                    net.vjp_of(ws, tape, &cotangents);
                    seconds
                }
                _ => {
                    ws.clock.on(common::thread_seconds);
                    self.run(pass);
                    self.workspace.clock.off(steps)
                }
            };
            times.iter_mut().zip(seconds).for_each(|(t, s)| t.push(s));
        }
        times.iter().map(|t| t.iter().copied().fold(f64::INFINITY, f64::min)).collect()
    }
}

fn main() {
    let mut names = Vec::new();
    let (mut profile, mut by_layer, mut rounds, mut count) = (false, false, 9, 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => {} // cargo's own
            "--profile" => profile = true,
            "--layers" => by_layer = true,
            "--rounds" => rounds = arguments.next().and_then(|n| n.parse().ok()).expect("--rounds N"),
            "--images" => count = arguments.next().and_then(|n| n.parse().ok()).expect("--images N"),
            name => names.push(name.to_owned()),
        }
    }
    if names.is_empty() {
        names = DEFAULT.map(String::from).to_vec();
    }
    let peak = fma_peak();
    println!("FMA peak of this core: {peak:.1} GF/s");
    for name in names {
        let (fixture, px) = name.split_once('@').unwrap_or((&name, ""));
        let mut case = support::read(&format!("network/{fixture}.json"));
        if let Ok(px) = px.parse::<u64>() {
            case["input_px"] = px.into();
        }
        let network = Network::<f32>::new(&support::graph(&case));
        let stream = |name: &str, len| support::generated(name, len, 0.0, 1.0);
        let image = |i| support::generated(&format!("bench image {i}"), network.input_len(), 0.5, 0.5);
        let mut bench = Bench {
            workspace: network.workspace(),
            direction: stream("bench direction", network.input_len()),
            cotangent: stream("bench cotangent", network.feature_len()),
            images: (0..count).map(image).collect(),
            network,
        };
        let flops: usize = bench.network.steps().map(|s| s.flops).sum();
        let smooth = bench.network.smooth().is_ok();
        let passes =
            [(Pass::Forward, "forward", 1), (Pass::Gradient, "forward + vjp", 2), (Pass::Jet, "jet", 6)];
        for (pass, what, times) in passes {
            if pass == Pass::Jet && !smooth {
                continue;
            }
            let images = if pass == Pass::Jet { 1 } else { count };
            let seconds = median_seconds(rounds, || bench.run(pass)) / images as f64;
            // A jet multiplies three planes by weights but six pairs of planes by each other.
            let work = if pass == Pass::Jet {
                bench.network.steps().map(|s| s.flops * if s.kind == "attention" { times } else { 3 }).sum()
            } else {
                flops * times
            };
            let rate = work as f64 / seconds / 1e9;
            let share = 100.0 * rate / peak;
            println!("{name} {what}: {:.2} images/s, {rate:.1} GF/s, {share:.0} % of peak", 1.0 / seconds);
        }
        if !profile && !by_layer {
            continue;
        }
        for (pass, what) in [
            (Pass::Forward, "forward"),
            (Pass::Saving, "forward, saving"),
            (Pass::Gradient, "vjp"),
            (Pass::Jet, "jet"),
        ] {
            if pass == Pass::Jet && !smooth {
                continue;
            }
            let images = if pass == Pass::Jet { 1 } else { count };
            let seconds: Vec<f64> =
                bench.profile(pass, rounds).into_iter().map(|s| s / images as f64).collect();
            let total: f64 = seconds.iter().sum();
            println!("{name}, {what}: {:.2} ms an image in steps", 1e3 * total);
            let mut kinds: BTreeMap<String, (f64, usize)> = BTreeMap::new();
            for (i, (step, s)) in bench.network.steps().zip(&seconds).enumerate() {
                let key = if by_layer {
                    format!("{i:03} {:12} {:28} {}", step.kind, step.name, step.shape)
                } else {
                    step.kind.into()
                };
                let kind = kinds.entry(key).or_default();
                kind.0 += s;
                kind.1 += step.flops;
            }
            for (kind, (s, flops)) in kinds {
                let planes = if pass == Pass::Jet { 3 } else { 1 };
                let rate = (planes * flops) as f64 / s / 1e9;
                println!("  {kind:22} {:8.3} ms {:4.0} %  {rate:6.1} GF/s", 1e3 * s, 100.0 * s / total);
            }
        }
    }
}
