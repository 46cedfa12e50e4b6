//! Complexity and vulnerability against PyTorch's, on the fixtures of `reference/method_fixture.py`.

use nn::engine::Network;
use nn::real::Real;
use nn::tap::Pool;
use serde_json::Value;

use self::support::{channels_last, generated, graph, numbers, read};
use super::complexity::Bend;
use super::vulnerability::Target;
use super::{FEATURES_ONLY, Measured, Measurer, Subject, protocol};

#[path = "../../../nn/tests/support/mod.rs"]
mod support;

/// One image of a fixture, channels last: pixels, unit direction, start in units of 1e−6.
struct Image {
    pixels: Vec<f32>,
    direction: Vec<f64>,
    start: Vec<f64>,
}

fn image(case: &Value, network: &Value) -> Image {
    let px = network["input_px"].as_u64().unwrap() as usize;
    let len = 3 * px * px;
    let stream = |key: &str| generated(case[key].as_str().unwrap(), len, 0.0, 1.0);
    let input = &case["image"];
    let (centre, scale) = (input["centre"].as_f64().unwrap(), input["scale"].as_f64().unwrap());
    let mut pixels = generated(input["name"].as_str().unwrap(), len, centre, scale);
    if case["faces"] == true {
        pixels.iter_mut().step_by(7).for_each(|p| *p = 0.0);
        pixels.iter_mut().skip(3).step_by(7).for_each(|p| *p = 1.0);
    }
    let wide = |x: Vec<f32>| channels_last(&x).into_iter().map(f64::from).collect::<Vec<f64>>();
    let mut direction = wide(stream("noise"));
    let length = super::norm(direction.iter().copied());
    direction.iter_mut().for_each(|v| *v /= length);
    Image { pixels: channels_last(&pixels), direction, start: wide(stream("start")) }
}

/// One image measured by itself.
fn measure(measurer: &mut Measurer, pixels: &[f32], hash: u8, outputs: &[usize]) -> Vec<Measured> {
    measurer.measure(&[Subject { pixels, content_hash: &[hash; 32] }], outputs).unwrap().swap_remove(0)
}

fn close(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((found / expected - 1.0).abs() < tolerance, "{what}: {found} for {expected}");
}

/// Every number of one protocol in precision `T`, against the f64 run of PyTorch.
fn check<T: Real>(name: &str, protocol_name: &str, c_tolerance: f64, v_tolerance: f64) {
    let network_case = read(&format!("network/{name}.json"));
    let network = Network::<T>::new(&graph(&network_case));
    for case in read(&format!("method/{name}.json"))["images"].as_array().unwrap() {
        let image = image(case, &network_case);
        let x: Vec<T> = image.pixels.iter().map(|&p| T::of_f32(p)).collect();
        let expected = &case["float64"];
        let (c_key, v_key) = match protocol_name {
            "paper" => ("complexity", "ascent"),
            "official-code" => ("complexity", "descent"),
            _ => ("complexity_exact", "exact_start"),
        };
        let constants = protocol(protocol_name);
        let mut measurer = Measurer::new(&network, &constants, 0).unwrap();
        let bends = if protocol_name == "exact" {
            measurer.curvature_along(&x, &image.direction, &[0]).unwrap()
        } else {
            measurer.path_complexity_along(&[(&x, &image.direction)], &[0]).swap_remove(0)
        };
        let Bend { feature, complexity, .. } = &bends[0];
        let what = |key: &str| format!("{name}, {protocol_name}, {}: {key}", case["image"]["name"]);
        close(complexity.unwrap(), expected[c_key].as_f64().unwrap(), c_tolerance, &what(c_key));
        for (j, expected) in numbers(&expected[v_key]).into_iter().enumerate().skip(1) {
            let constants = crate::table::ProtocolSettings { attack_steps: j as u32, ..constants.clone() };
            let mut measurer = Measurer::new(&network, &constants, 0).unwrap();
            let target = Target { pixels: &x, feature, start: image.start.clone() };
            let v = measurer.attack(&[target], 0).unwrap();
            close(v[0], expected, v_tolerance, &what(&format!("{v_key}[{j}]")));
        }
    }
}

/// In f64 only the folded weights, rounded to f32, differ from PyTorch: 1e-7 of a feature, and a
/// step of the path is 1e-3 to 1e-2 of one. A pixel whose gradient is nearly 0 may change its sign.
#[test]
fn f64_gives_pytorchs_numbers() {
    for name in ["dinov2-vits14-56", "resnet20-cifar"] {
        check::<f64>(name, "paper", 1e-3, 2e-3);
        check::<f64>(name, "official-code", 1e-3, 2e-3);
    }
    check::<f64>("dinov2-vits14-56", "exact", 1e-5, 2e-3);
}

/// `exact` does not depend on rounding: f32 gives the f64 numbers.
#[test]
fn exact_in_f32_gives_the_f64_numbers() {
    check::<f32>("dinov2-vits14-56", "exact", 1e-4, 2e-3);
}

/// `exact` is what the finite steps tend to: within 1 % of them at ε = 0.01 in f64.
#[test]
fn exact_complexity_is_the_limit_of_the_path() {
    for case in read("method/dinov2-vits14-56.json")["images"].as_array().unwrap() {
        // On the faces of the box the path leaves it and the two are no longer the same thing.
        if case["faces"] == true {
            continue;
        }
        let value = |key: &str| case["float64"][key].as_f64().unwrap();
        close(value("complexity_exact"), value("complexity"), 0.01, "exact against path");
    }
}

/// C in f32 is √(true² + floor²), the floor measured from three passes: within a third, since
/// both are single draws of rounding.
#[test]
fn noise_floor_says_how_much_of_c_is_rounding() {
    let network_case = read("network/dinov2-vits14-56.json");
    let network = Network::<f32>::new(&graph(&network_case));
    let constants = protocol("paper");
    for case in read("method/dinov2-vits14-56.json")["images"].as_array().unwrap() {
        let image = image(case, &network_case);
        let mut measurer = Measurer::new(&network, &constants, 0).unwrap();
        let Bend { complexity, noise_floor: floor, .. } = measurer
            .path_complexity_along(&[(&image.pixels, &image.direction)], &[0])
            .swap_remove(0)
            .swap_remove(0);
        let true_c = case["float64"]["complexity"].as_f64().unwrap();
        let rounding = (complexity.unwrap().powi(2) - true_c.powi(2)).sqrt();
        let ratio = floor.unwrap() / rounding;
        println!(
            "C {:.5} true {true_c:.5} rounding {rounding:.5} floor {:.5}",
            complexity.unwrap(),
            floor.unwrap()
        );
        assert!((2.0 / 3.0..1.5).contains(&ratio), "floor / rounding = {ratio}");
    }
}

/// A network that never moves has no angle, and no number stands for that.
#[test]
fn a_still_feature_has_no_complexity() {
    use nn::graph::{Graph, Op};
    use nn::op::conv::Window;
    let mut graph = Graph::new(4);
    let op = Op::Conv {
        window: Window::POINT,
        size: (4, 4),
        weight: vec![0.0; 3].into(),
        bias: vec![1.0],
        groups: 1,
    };
    graph.add("constant", op, &[0]).unwrap();
    let network = Network::<f32>::new(&graph);
    for name in ["paper", "exact"] {
        let constants = protocol(name);
        let mut measurer = Measurer::new(&network, &constants, 0).unwrap();
        let measured = measure(&mut measurer, &[0.5; 48], 7, &[0]).swap_remove(0);
        assert_eq!(
            (measured.complexity, measured.anomaly_score_i(), measured.vulnerability),
            (None, None, Some(0.0))
        );
    }
}

/// Several layers in one pass give what each gives alone, to the bit, under every protocol.
#[test]
fn layers_measured_together_give_what_each_gives_alone() {
    let case = read("network/resnet20-cifar.json");
    let (px, layers) = (32, [("conv1", None), ("layer1.2", Some(Pool::Std)), ("layer3.2", None)]);
    let x: Vec<f32> = generated("layers", px * px * 3, 0.5, 0.4);
    let network = |layers: &[(&str, Option<Pool>)]| {
        let mut graph = graph(&case);
        graph.read_at(layers).unwrap();
        Network::<f32>::new(&graph)
    };
    let joint = network(&layers);
    for name in ["paper", "official-code"] {
        let constants = protocol(name);
        let mut measurer = Measurer::new(&joint, &constants, 5).unwrap();
        let together = measure(&mut measurer, &x, 3, &[0, 1, 2]);
        assert_eq!(measure(&mut measurer, &x, 3, &[2, 0]), [together[2].clone(), together[0].clone()]);
        for (layer, expected) in layers.iter().zip(&together) {
            let alone = network(&[*layer]);
            let found = measure(&mut Measurer::new(&alone, &constants, 5).unwrap(), &x, 3, &[0]);
            assert_eq!(found[0], *expected, "{layer:?}");
        }
    }
}

/// Threads that share an image, one on the path and one on the attack, change no bit.
#[test]
fn a_shared_image_gives_what_one_thread_gives() {
    let case = read("network/resnet20-cifar.json");
    let mut graph = graph(&case);
    graph.read_at(&[("layer1.2", None), ("layer3.2", None)]).unwrap();
    let network = Network::<f32>::new(&graph);
    let x: Vec<f32> = generated("layers", 32 * 32 * 3, 0.5, 0.4);
    let team = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    for name in ["paper", "official-code"] {
        let constants = protocol(name);
        let mut alone = Measurer::new(&network, &constants, 5).unwrap();
        let mut shared = Measurer::new(&network, &constants, 5).unwrap();
        shared.share(3);
        for outputs in [&[0, 1][..], &[1]] {
            let found = team.install(|| measure(&mut shared, &x, 3, outputs));
            assert_eq!(found, measure(&mut alone, &x, 3, outputs), "{name} {outputs:?}");
        }
    }
}

/// What a resampler carried beyond black and white is clipped where the method needs [0, 1], and only there.
#[test]
fn overshoot_is_clipped_for_the_method_and_kept_for_features() {
    let network = Network::<f32>::new(&graph(&read("network/resnet20-cifar.json")));
    let wild: Vec<f32> = generated("overshoot", 32 * 32 * 3, 0.5, 0.6);
    let clipped: Vec<f32> = wild.iter().map(|v| v.clamp(0.0, 1.0)).collect();
    assert_ne!(wild, clipped);
    let measured = |name: &str, x: &[f32]| {
        let constants = protocol(name);
        measure(&mut Measurer::new(&network, &constants, 0).unwrap(), x, 1, &[0]).swap_remove(0)
    };
    assert_eq!(measured("paper", &wild), measured("paper", &clipped));
    assert_ne!(measured(FEATURES_ONLY, &wild).feature, measured(FEATURES_ONLY, &clipped).feature);
}

/// Images measured together give what each gives alone, to the bit: more of them than a pass takes, at several layers.
#[test]
fn images_measured_together_give_what_each_gives_alone() {
    for (network, px, layers, protocols) in [
        ("resnet20-cifar", 32, &[("layer1.2", None), ("layer3.2", Some(Pool::Std))][..], &["paper"][..]),
        ("dinov2-vits14-56", 56, &[], &["paper", "exact", FEATURES_ONLY]),
    ] {
        let mut graph = graph(&read(&format!("network/{network}.json")));
        if !layers.is_empty() {
            graph.read_at(layers).unwrap();
        }
        let network = Network::<f32>::new(&graph);
        let images: Vec<Vec<f32>> =
            (0..11).map(|i| generated(&format!("together {i}"), px * px * 3, 0.5, 0.4)).collect();
        let hashes: Vec<[u8; 32]> = (0..11).map(|i| [i; 32]).collect();
        let subjects: Vec<Subject> = images
            .iter()
            .zip(&hashes)
            .map(|(pixels, content_hash)| Subject { pixels, content_hash })
            .collect();
        let outputs: Vec<usize> = (0..network.outputs()).collect();
        for name in protocols {
            let constants = protocol(name);
            let mut measurer = Measurer::new(&network, &constants, 5).unwrap();
            assert!((2..11).contains(&measurer.images_at_once()), "{}", measurer.images_at_once());
            let together = measurer.measure(&subjects, &outputs).unwrap();
            for (i, (image, found)) in images.iter().zip(together).enumerate() {
                assert_eq!(found, measure(&mut measurer, image, i as u8, &outputs), "{name}, image {i}");
            }
        }
    }
}
