//! Passes over several images.

use nn::engine::Network;
use nn::kernel::isa::Isa;

use super::{Values, cases};

/// A pass over several images gives what each gives alone, to the bit, whatever multiplies, also where threads share them.
#[test]
fn images_of_one_pass_do_not_meet() {
    let team = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let mut several = 0;
    for (name, graph) in cases() {
        for isa in Isa::available() {
            let net = Network::<f32>::with_isa(&graph, isa);
            let mut ws = net.workspace();
            let mut v = Values(8);
            let images: Vec<Vec<f32>> = (0..3).map(|_| v.f32(net.input_len(), 0.5)).collect();
            let images: Vec<&[f32]> = images.iter().map(|x| &x[..]).collect();
            let cotangents: Vec<Vec<f32>> = (0..3).map(|_| v.f32(net.feature_len(), 1.0)).collect();
            let cotangents: Vec<&[f32]> = cotangents.iter().map(|c| &c[..]).collect();
            let (mut features, mut gradients) = (Vec::new(), Vec::new());
            for (x, cotangent) in images.iter().zip(&cotangents) {
                let (feature, tape) = net.forward_saving(&mut ws, x);
                features.push(feature);
                gradients.push(net.vjp(&mut ws, tape, cotangent));
            }
            assert!(net.forward_at(&mut ws, &images, 0) == features, "{name}, {isa:?}: forward");
            if net.images_of_a_pass(0, true) == 1 {
                continue;
            }
            several += 1;
            for threads in [1, 3] {
                ws.threads = threads;
                let (found, pulled) = team.install(|| {
                    let (found, tape) = net.forward_saving_at(&mut ws, &images, 0);
                    (found, net.vjp_of(&mut ws, tape, &cotangents))
                });
                assert!(found == features, "{name}, {isa:?}, {threads} threads: forward, saving");
                assert!(pulled == gradients, "{name}, {isa:?}, {threads} threads: gradient");
            }
        }
    }
    assert!(several >= 15 * Isa::available().len(), "only {several} networks take several images");
}
