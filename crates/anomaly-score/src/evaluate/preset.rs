//! The habits of published tools: which pixels, which network, which conventions.

use super::Conventions;
use crate::image::{Fit, Preprocessing, Resampler};
use crate::image_metric::RealismForm;
use crate::set_metric::{InceptionOptions, PrdcOptions, SplitOrder, Splits};
use crate::table::Settings;
use crate::{Error, ErrorKind, Result};

/// A published tool whose numbers are reproduced as far as its definitions allow.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Name on the command line.
    pub name: &'static str,
    /// The network.
    pub backbone: &'static str,
    /// The arithmetic of resizing.
    pub resampler: Resampler,
    /// The geometry of resizing.
    pub fit: Fit,
    /// What the metrics leave to convention.
    pub conventions: Conventions,
    /// What is not reproduced, and what to know.
    pub limits: &'static str,
}

/// How kernel distances are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelConvention {
    /// Over all pairs of images, with a standard error.
    Whole,
    /// As torch-fidelity: so many subsets of `size`, each drawn by numpy's `RandomState(seed).choice` first from the
    /// generated, then from the reference images, in the order of the table; refused where a set is smaller.
    Numpy {
        /// Number of subsets.
        subsets: usize,
        /// Images in each.
        size: usize,
        /// Seed.
        seed: u32,
    },
    /// As many of at most `size` images, drawn by this program.
    Seeded {
        /// Number of subsets.
        subsets: usize,
        /// Images in each, at most.
        size: usize,
    },
}

const INCEPTION: &str = "inception-v3-fid";
const DINOV2: &str = "dinov2-vitl14";

/// Conventions of the tools that compute FID alone.
fn fid() -> Conventions {
    Conventions::default()
}

/// All presets.
///
/// # Source
/// The tools at the commits that docs/preprocessing.md and the metrics' own documentation name.
pub fn presets() -> [Preset; 7] {
    let inception = |name, resampler, conventions, limits| Preset {
        name,
        backbone: INCEPTION,
        resampler,
        fit: Fit::Squash,
        conventions,
        limits,
    };
    let closed =
        Conventions { prdc: PrdcOptions::IMPROVED, realism: RealismForm::Squared, ..Conventions::default() };
    [
        inception(
            "ttur",
            Resampler::Tf1Bilinear,
            fid(),
            "FID as the original TensorFlow code; the network is its port to PyTorch, which agrees to about 1e-5 relative",
        ),
        inception(
            "pytorch-fid",
            Resampler::TorchBilinear,
            fid(),
            "pytorch-fid normalises pixels to 2x/255 − 1, the network here to (x − 128)/128, up to 0.4 % of the range \
             apart, so that FID differs a little",
        ),
        inception(
            "clean-fid",
            Resampler::PilBicubicF32,
            Conventions { kernel: KernelConvention::Seeded { subsets: 100, size: 1000 }, ..fid() },
            "FID of clean-fid's `clean` mode; its KID subsets are unseeded and met only in distribution",
        ),
        inception(
            "torch-fidelity",
            Resampler::Tf1Bilinear,
            Conventions {
                kernel: KernelConvention::Numpy { subsets: 100, size: 1000, seed: 2020 },
                inception: InceptionOptions::default(),
                ..closed
            },
            "input1 is the generated, input2 the reference set, files in byte order of their paths; KID is computed in f64, \
             about 1e-7 from torch-fidelity's f32; its precision and recall are of VGG16 features, which are not among \
             the backbones, and its MIND draws other directions",
        ),
        inception(
            "adm",
            Resampler::Tf1Bilinear,
            Conventions {
                inception: InceptionOptions { splits: Splits::Size(5000), order: SplitOrder::Given, ddof: 0 },
                ..closed
            },
            "read --layer pool3,spatial,logits_unbiased for FID, sFID and Inception Score; ADM's evaluator compares squared \
             distances of precision and recall rounded to f16, which is not reproduced, and takes images as they lie in its \
             .npz, here the order of their numbers",
        ),
        Preset {
            name: "dgm-eval",
            backbone: DINOV2,
            resampler: Resampler::PilBicubicU8,
            fit: Fit::Squash,
            conventions: Conventions {
                prdc: PrdcOptions::DGM_EVAL,
                kernel: KernelConvention::Seeded { subsets: 100, size: 1000 },
                inception: InceptionOptions { splits: Splits::Equal(10), ..InceptionOptions::default() },
                ..Conventions::default()
            },
            limits: "dgm-eval draws the subsets of KD and FD∞ and the 10,000 images of precision to coverage unseeded: those \
                     are met only in distribution",
        },
        Preset {
            name: "edm2",
            backbone: DINOV2,
            resampler: Resampler::TorchBicubicAntialias,
            fit: Fit::Squash,
            conventions: fid(),
            limits: "FD-DINOv2 as EDM2's default resizing has it; where complexity and vulnerability are measured too (as, \
                     claims), values outside [0, 1] are clipped and features are of clipped pixels: ask for metrics of \
                     features alone for the exact ones",
        },
    ]
}

impl Preset {
    /// The preset of this name.
    ///
    /// # Errors
    /// `InvalidOption` for another name, listing all.
    pub fn find(name: &str) -> Result<Preset> {
        presets().into_iter().find(|p| p.name == name).ok_or_else(|| {
            let names = presets().map(|p| p.name).join(", ");
            Error::new(ErrorKind::InvalidOption, "--preset", "there is no preset of that name")
                .expected(names, name)
        })
    }

    /// Refuses images measured, or about to be, in another way than the tool sees them. `name` is what an error calls them.
    ///
    /// # Errors
    /// `SettingsMismatch`, naming backbone and resampler.
    pub fn require(&self, name: &str, settings: &Settings) -> Result<()> {
        let resampler = Preprocessing { fit: self.fit, ..Preprocessing::squash(self.resampler, 1) }.name();
        if settings.backbone.name == self.backbone && settings.resampler == resampler {
            return Ok(());
        }
        Err(Error::new(ErrorKind::SettingsMismatch, name, format!("not as preset {} sees images", self.name))
            .expected(
                format!("backbone {}, resampler {resampler}", self.backbone),
                format!("backbone {}, resampler {}", settings.backbone.name, settings.resampler),
            )
            .remedy("Measure the images with the preset, or leave it out."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::BACKBONES;

    #[test]
    fn presets_name_what_exists() {
        for preset in presets() {
            assert!(BACKBONES.iter().any(|entry| entry.name == preset.backbone), "{}", preset.name);
            assert_eq!(Preset::find(preset.name).unwrap().limits, preset.limits);
        }
        let error = Preset::find("fid").unwrap_err().to_string();
        assert!(error.contains(
            "expected ttur, pytorch-fid, clean-fid, torch-fidelity, adm, dgm-eval, edm2, found fid"
        ));
    }
}
