//! The networks of `fixtures/network`, whose weights both sides generate. Also used by the tests
//! of the measures, which run on the same networks.

#![allow(unreachable_pub, reason = "a module of test binaries, which export nothing")]

use std::path::PathBuf;

use nn::graph::Graph;
use nn::network::{
    Normalisation, clip, convnext, dinov2, efficientnet_lite, inception_v3, resnet, resnet_cifar, siglip, vit,
};
use nn::weights::Weights;
use serde_json::Value;

/// The folder of fixtures.
pub fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// One fixture.
pub fn read(name: &str) -> Value {
    let text = std::fs::read_to_string(fixtures().join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The generated stream of `name`: centre + scale·u, every operation rounded to f32.
pub fn generated(name: &str, len: usize, centre: f64, scale: f64) -> Vec<f32> {
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    for byte in name.bytes() {
        h = (h ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    (1..=len as u64)
        .map(|i| {
            let mut z = h.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            let u = (z >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
            centre as f32 + scale as f32 * u
        })
        .collect()
}

/// A list of numbers.
pub fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// Number of values of a shape.
pub fn len_of(shape: &Value) -> usize {
    shape.as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).product()
}

/// A tensor of a checkpoint: name, shape, values.
pub type NamedTensor = (String, Vec<usize>, Vec<f32>);

/// The generated tensors of the case.
pub fn tensors(case: &Value) -> Vec<NamedTensor> {
    let generate = |tensor: &Value| {
        let name = tensor["name"].as_str().unwrap();
        let (centre, scale) = (tensor["centre"].as_f64().unwrap(), tensor["scale"].as_f64().unwrap());
        let values = generated(name, len_of(&tensor["shape"]), centre, scale);
        (name.to_owned(), numbers(&tensor["shape"]).iter().map(|&d| d as usize).collect(), values)
    };
    case["tensors"].as_array().unwrap().iter().map(generate).collect()
}

/// Tensors as a safetensors file, so that the real reader is on the way.
fn checkpoint(tensors: &[NamedTensor]) -> Weights {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, shape, values) in tensors {
        let begin = data.len();
        values.iter().for_each(|v| data.extend(v.to_le_bytes()));
        let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]});
        header.insert(name.clone(), entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    Weights::from_safetensors(file, "generated weights").unwrap()
}

/// The case's network.
pub fn graph(case: &Value) -> Graph {
    graph_of(case, &tensors(case))
}

/// The case's network with these tensors.
pub fn graph_of(case: &Value, tensors: &[NamedTensor]) -> Graph {
    let mut weights = checkpoint(tensors);
    let px = case["input_px"].as_u64().unwrap() as usize;
    let three =
        |key: &str| <[f32; 3]>::try_from(numbers(&case[key]).iter().map(|&x| x as f32).collect::<Vec<_>>());
    let norm = Normalisation { mean: three("mean").unwrap(), std: three("std").unwrap() };
    let network = case["network"].as_str().unwrap();
    let depth = case["config"]["depth"].as_u64().map(|d| d as usize);
    let stages = case["config"]["depth"].is_array().then(|| {
        let blocks: Vec<usize> = numbers(&case["config"]["depth"]).iter().map(|&b| b as usize).collect();
        <[usize; 4]>::try_from(blocks).unwrap()
    });
    let (graph, ignorable): (_, fn(&str) -> bool) = match network {
        "efficientnet-lite0" | "efficientnet-lite1" | "efficientnet-lite2" => {
            let config = match network {
                "efficientnet-lite0" => efficientnet_lite::LITE0,
                "efficientnet-lite1" => efficientnet_lite::LITE1,
                _ => efficientnet_lite::LITE2,
            };
            (efficientnet_lite::graph(config, px, norm, &mut weights), efficientnet_lite::is_ignorable)
        }
        "resnet18" | "resnet50" | "swav-resnet50" => {
            let mut config = if network == "resnet18" { resnet::RESNET18 } else { resnet::RESNET50 };
            config.blocks = stages.unwrap_or(config.blocks);
            (resnet::graph(config, px, norm, &mut weights), resnet::is_ignorable)
        }
        "convnext-tiny" | "convnext-small" | "convnext-base" | "convnext-large" => {
            let mut config = match network {
                "convnext-tiny" => convnext::TINY,
                "convnext-small" => convnext::SMALL,
                "convnext-base" => convnext::BASE,
                _ => convnext::LARGE,
            };
            config.blocks = stages.unwrap_or(config.blocks);
            (convnext::graph(config, px, norm, &mut weights), convnext::is_ignorable)
        }
        "inception-v3-fid" => (inception_v3::graph(px, norm, &mut weights), inception_v3::is_ignorable),
        "vit-s16" | "deit-s16" | "vit-b16" | "mae-b16" | "vit-l16" => {
            let mut config = match network {
                "vit-s16" | "deit-s16" => vit::S16,
                "vit-l16" => vit::L16,
                _ => vit::B16,
            };
            config.depth = depth.unwrap_or(config.depth);
            (vit::graph(config, px, norm, &mut weights), vit::is_ignorable)
        }
        "clip-vit-b32" | "clip-vit-b32-laion2b" | "clip-vit-b16" | "clip-vit-l14" => {
            let mut config = match network {
                "clip-vit-b32" => clip::VITB32,
                "clip-vit-b32-laion2b" => clip::VITB32.gelu(),
                "clip-vit-b16" => clip::VITB16,
                _ => clip::VITL14,
            };
            config.depth = depth.unwrap_or(config.depth);
            (clip::graph(config, px, norm, &mut weights), clip::is_ignorable)
        }
        "siglip-b16" => {
            let config = siglip::Config { depth: depth.unwrap_or(12), ..siglip::VITB16 };
            (siglip::graph(config, px, norm, &mut weights), siglip::is_ignorable)
        }
        _ if network.starts_with("resnet") => {
            let depth = network[6..8].parse().unwrap();
            (resnet_cifar::graph(depth, px, norm, &mut weights), resnet_cifar::is_ignorable)
        }
        _ => {
            let mut config = match &network[..13] {
                "dinov2-vits14" => dinov2::VITS14,
                "dinov2-vitb14" => dinov2::VITB14,
                "dinov2-vitl14" => dinov2::VITL14,
                "dinov2-vitg14" => dinov2::VITG14,
                other => panic!("{other} is no known network"),
            };
            if network.ends_with("-reg4") {
                config = config.reg4();
            }
            config.depth = depth.unwrap_or(config.depth);
            (dinov2::graph(config, px, norm, &mut weights), dinov2::is_ignorable)
        }
    };
    weights.finish(ignorable).unwrap();
    graph.unwrap()
}

/// 3×H×W → H×W×3.
pub fn channels_last(x: &[f32]) -> Vec<f32> {
    let plane = x.len() / 3;
    (0..plane).flat_map(|i| [x[i], x[plane + i], x[2 * plane + i]]).collect()
}
