//! The command line; a doc comment is the help text.

use std::path::{Path, PathBuf};

use anomaly_score::backbone::{self, Arithmetic, Backbone, OnnxOptions, Pool};
use anomaly_score::evaluate::{Preset, Selection, presets};
use anomaly_score::image::{Fit, Preprocessing, Resampler};
use anomaly_score::measure::{Protocol, protocol};
use anomaly_score::table::{Noise, ProtocolSettings};
use anyhow::{Result, bail};
use clap::{Parser, Subcommand, ValueEnum};

use crate::output::TextOutput;

/// How far are a generative model's images from real photos, and which of them look wrong?
///
/// Image sources: a folder (searched recursively), .zip, .tar, .tar.gz, an .npz with `arr_0`
/// (uint8 N×H×W×3), or one image; png, jpg, webp, bmp, gif, tif, ppm, qoi.
///
/// Exit status: 0 done; 1 failed; 2 done, but images were left out (see --on-error); 130 interrupted.
///
/// Environment: ANOMALY_SCORE_CACHE is the folder measurements are kept in; ANOMALY_SCORE_ISA (portable, avx2, avx512
/// or amx) the instructions networks are computed with, whatever --arithmetic would choose: for comparing kernels.
#[derive(Parser)]
#[command(name = "anomaly-score", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Look through the images for what would spoil a comparison, before hours of measuring
    ///
    /// Copies within and across sets, compression, sizes, colours, exchanged sets, too few images: each with what to do
    /// (docs/preflight.md). `compare` and `measure` do the same before they begin.
    ///
    /// Exit status: 0 nothing heavier than a note; 1 failed; 2 images could not be read (see --on-error); 3 something was
    /// found; 130 interrupted.
    Preflight(Preflight),
    /// Print the Anomaly Score of generated images against real photos
    Compare(Compare),
    /// Measure every image of a source into a table
    Measure(Measure),
    /// Rank images by AS-i, the most natural first
    Rank(Rank),
    /// Write the backbone's features as a numpy file: one forward pass an image
    Features(Features),
    /// Ask a CSV table whether a score agrees with what people said
    Correlate(Correlate),
    /// List the backbones, or look into one
    Backbones(Backbones),
    /// Run `compare` on the images this program ships
    Demo(Demo),
}

#[derive(clap::Args)]
pub(crate) struct Preflight {
    /// Real photos: an image source, or a table made by `measure`, of which less is known
    pub(crate) reference: PathBuf,
    /// Models' images, each an image source or a table; without, the first set is looked at by itself
    pub(crate) generated: Vec<PathBuf>,
    /// Real images the models were not trained on
    #[arg(long, value_name = "IMAGES")]
    pub(crate) held_out: Option<PathBuf>,
    /// What will be asked of the images: whether there are enough depends on it
    #[arg(long, value_name = "NAME[,NAME…]", value_delimiter = ',', default_value = "as",
          value_parser = Selection::words())]
    pub(crate) metrics: Vec<String>,
    /// The tool that will be followed
    #[arg(long, value_name = "TOOL", value_parser = presets().map(|p| p.name))]
    pub(crate) preset: Option<String>,
    /// The network that will be used, by name [default: efficientnet-lite0, or the preset's]
    #[arg(long, value_name = "NAME")]
    pub(crate) backbone: Option<String>,
    /// How images will become square [default: as the backbone was trained]
    #[arg(long, value_enum)]
    pub(crate) resize: Option<Resize>,
    /// Look at a seeded sample of N images of each source: the one that `compare` would measure
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Seed of the sample
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Worker threads [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) threads: Option<u64>,
    /// What an unreadable image means: `report` ends with status 2, `skip` with 0. It is listed either way
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = OnError::Report)]
    pub(crate) on_error: OnError,
    /// Write everything as JSON, with all images concerned; `-` is stdout, which then holds nothing else
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct Compare {
    /// Real photos: an image source, a table made by `measure`, features (an .npz or .npy with N×D floats), or statistics (an
    /// .npz with `mu` and `sigma`), which suffice for fd and fd-infinity
    pub(crate) reference: PathBuf,
    /// The model's images, likewise. With several models, each is compared with the
    /// reference, and every two with each other
    #[arg(required = true)]
    pub(crate) generated: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) score: Score,
    #[command(flatten)]
    pub(crate) measuring: Measuring,
}

#[derive(clap::Args)]
pub(crate) struct Score {
    /// Write the whole report as JSON; `-` is stdout, which then holds nothing else
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write path, complexity, vulnerability, AS-i and what metrics say of every generated image, its model first where there
    /// are several; `-` as above
    #[arg(long, value_name = "FILE.csv")]
    pub(crate) images: Option<PathBuf>,
    /// Measure at once, without looking through the images first (see `preflight`)
    #[arg(long)]
    pub(crate) no_preflight: bool,
    /// Permutations for the p-value and the null floor
    #[arg(long, value_name = "N", default_value_t = 999)]
    pub(crate) permutations: u32,
    #[command(flatten)]
    pub(crate) metrics: Metrics,
}

/// Further metrics of the generated set, from the features of both.
#[derive(clap::Args)]
#[command(next_help_heading = "Further metrics")]
pub(crate) struct Metrics {
    /// What to report: the Anomaly Score (as), Fréchet and kernel distances, precision to coverage (prdc), …; `claims`
    /// tests the paper's two claims, `all` is everything the backbone allows. Without as, claims or all, images are
    /// measured by one forward pass: features only
    #[arg(long, value_name = "NAME[,NAME…]", value_delimiter = ',', default_value = "as",
          value_parser = Selection::words())]
    pub(crate) metrics: Vec<String>,
    /// Follow a published tool in backbone, resizing and the conventions of metrics; what it cannot reproduce is said in a
    /// warning
    #[arg(long, value_name = "TOOL", value_parser = presets().map(|p| p.name))]
    pub(crate) preset: Option<String>,
    /// Real images the model was not trained on, an image source or a table, for fls, pog, fld and ct; the reference then
    /// counts as its training images
    #[arg(long, value_name = "IMAGES")]
    pub(crate) held_out: Option<PathBuf>,
    /// Every metric and AS-i by class too. Classes are the first folders below each source, or the columns `path` and `class`
    /// of a CSV (with `source` where two sets name images alike)
    #[arg(long, value_name = "FILE.csv", num_args = 0..=1)]
    pub(crate) by_class: Option<Option<PathBuf>>,
    /// Bootstrap resamples for standard errors and intervals, 0 for none [default: 200, but none for a metric that
    /// would take long]
    #[arg(long, value_name = "N")]
    pub(crate) bootstrap: Option<u32>,
    /// Exchanges of images between two models for the p-value of their difference [default: 999, or 199 or none for a
    /// metric that would take long]
    #[arg(long, value_name = "N")]
    pub(crate) pair_permutations: Option<u32>,
    /// Random splits of the reference set for the value of each metric where nothing differs, 0 for none [default: 100,
    /// but none for a metric that would take long]
    #[arg(long, value_name = "N")]
    pub(crate) null_splits: Option<u32>,
}

#[derive(clap::Args)]
pub(crate) struct Measure {
    /// Image source
    pub(crate) images: PathBuf,
    /// The table to write; an interrupted run to the same table goes on where it stopped
    #[arg(short, long, value_name = "TABLE.parquet")]
    pub(crate) output: PathBuf,
    /// One forward pass an image: neither complexity nor vulnerability, for `compare` with metrics of features alone
    #[arg(long, conflicts_with = "Method")]
    pub(crate) features_only: bool,
    /// Measure at once, without looking through the images first (see `preflight`)
    #[arg(long)]
    pub(crate) no_preflight: bool,
    #[command(flatten)]
    pub(crate) measuring: Measuring,
}

#[derive(clap::Args)]
pub(crate) struct Rank {
    /// Image source, or a table made by `measure`
    pub(crate) images: PathBuf,
    /// Only the N most natural images (lowest AS-i)
    #[arg(long, value_name = "N")]
    pub(crate) top: Option<usize>,
    /// Only the N least natural images (highest AS-i), the worst first
    #[arg(long, value_name = "N")]
    pub(crate) worst: Option<usize>,
    /// Write the ranking as CSV; `-` is stdout, which then holds nothing else
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
    /// Copy the listed images here, their rank before their name
    #[arg(long, value_name = "DIR")]
    pub(crate) copy_to: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) measuring: Measuring,
}

#[derive(clap::Args)]
pub(crate) struct Features {
    /// Image source, a table made by `measure`, or features in an .npz or .npy
    pub(crate) images: PathBuf,
    /// The file to write: `features` (N×D float32) and `paths`
    #[arg(short, long, value_name = "FEATURES.npz", required_unless_present = "statistics")]
    pub(crate) output: Option<PathBuf>,
    /// Write mean and covariance, `mu` and `sigma` in float64, as pytorch-fid and clean-fid read them; with --layer
    /// pool3,spatial one file with `mu_s` and `sigma_s` too, as ADM reads them
    #[arg(long, value_name = "STATISTICS.npz")]
    pub(crate) statistics: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

#[derive(clap::Args)]
pub(crate) struct Correlate {
    /// CSV with a line of column names (.tsv: tabs). Empty, NA, NaN and null are missing values
    pub(crate) table: PathBuf,
    /// Column of the score under test
    #[arg(long, value_name = "COLUMN")]
    pub(crate) score: String,
    /// Column of what people said; higher = better
    #[arg(long, value_name = "COLUMN")]
    pub(crate) human: String,
    /// Also answer for each value of this column by itself
    #[arg(long, value_name = "COLUMN")]
    pub(crate) group: Option<String>,
    /// Average the rows with equal values of this column first: one row a model out of one a rater
    #[arg(long, value_name = "COLUMN")]
    pub(crate) mean_by: Option<String>,
    /// Add the columns of this CSV, an image a row, as `compare --images` and `rank --csv` write it
    #[arg(long, value_name = "IMAGES.csv")]
    pub(crate) join: Option<PathBuf>,
    /// Column of the images' paths, with --join
    #[arg(long, value_name = "COLUMN", default_value = "path")]
    pub(crate) on: String,
    /// A lower score is better, as of AS and FID; turns the pairwise accuracy only
    #[arg(long)]
    pub(crate) lower_is_better: bool,
    /// Bootstrap resamples behind each interval
    #[arg(long, value_name = "N", default_value_t = 9999)]
    pub(crate) resamples: u32,
    /// Coverage of the intervals
    #[arg(long, value_name = "X", default_value_t = 0.95)]
    pub(crate) confidence: f64,
    /// Seed of the resamples
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Write everything as JSON; `-` is stdout, which then holds nothing else
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the scatter as a picture; `-` as above
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) svg: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct Demo {
    #[command(flatten)]
    pub(crate) score: Score,
    #[command(flatten)]
    pub(crate) measuring: Measuring,
}

#[derive(clap::Args)]
pub(crate) struct Backbones {
    #[command(subcommand)]
    pub(crate) command: Option<BackbonesCommand>,
}

#[derive(Subcommand)]
pub(crate) enum BackbonesCommand {
    /// All of them: input size, feature length, origin of their weights (what `backbones` alone does)
    List,
    /// An ONNX file: whether it can be read, at which layers, its cost, and whether `exact` applies
    Check {
        /// The model
        model: PathBuf,
        #[command(flatten)]
        onnx: Onnx,
    },
    /// One of them: preprocessing, weights, and the layers it can be read at
    Show {
        /// The network
        name: String,
    },
    /// Fetch weights from the Hugging Face hub into its cache, or say where they are
    ///
    /// Honours HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_HUB_OFFLINE and HF_TOKEN as Python programs do. A measurement
    /// with `--backbone NAME` fetches by itself what is not there.
    Fetch {
        /// The networks
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

/// Which images are read, and through which network: what all commands that read images share.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Images and backbone")]
pub(crate) struct Reading {
    /// The network: a name that `anomaly-score backbones` lists, or an ONNX file [default: efficientnet-lite0, or the
    /// preset's]
    #[arg(long, value_name = "NAME|MODEL.onnx")]
    pub(crate) backbone: Option<String>,
    /// Weights of the backbone: .safetensors, or a PyTorch .pth, .th, .bin [default: from the Hugging Face hub,
    /// fetched once into its cache]
    #[arg(long, value_name = "FILE")]
    pub(crate) weights: Option<PathBuf>,
    /// Read the network at these layers instead of its end, in one pass; `backbones show NAME` lists them. With
    /// several, every output file is written once a layer, the layer's name in its own
    #[arg(long, value_name = "NAME[,NAME…]", value_delimiter = ',')]
    pub(crate) layer: Vec<String>,
    /// How a layer becomes one vector [default: cls where there is a class token, otherwise mean]
    #[arg(long, value_name = "HOW", value_parser = Pool::NAMES.map(|(name, _)| name))]
    pub(crate) pool: Option<String>,
    /// How an image becomes square: short side to size and centre crop, or squashed [default: as the backbone was
    /// trained]
    #[arg(long, value_enum)]
    pub(crate) resize: Option<Resize>,
    /// The arithmetic of resizing, named for the tool it reproduces (docs/preprocessing.md) [default: as the backbone
    /// was trained]
    #[arg(long, value_name = "NAME", value_parser = Resampler::NAMES.map(|(name, _)| name))]
    pub(crate) resampler: Option<String>,
    /// Measure a seeded sample of N images of each source
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Seed of every random number
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Worker threads [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) threads: Option<u64>,
    /// What an unreadable image means: `report` ends with status 2, `skip` with 0. It is listed either way
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = OnError::Report)]
    pub(crate) on_error: OnError,
    /// How the network rounds. `fused`: the same bits on all x86-64 machines with AVX2. `fastest`: by Intel's tile unit
    /// too, which has bits of its own. `auto`: fastest where rounding decides no number (--protocol exact, features alone)
    /// and no table beside is fused, otherwise fused
    #[arg(long, value_enum, value_name = "HOW", default_value_t = ArithmeticArg::Auto)]
    pub(crate) arithmetic: ArithmeticArg,
    /// Neither read nor write the cache of measurements
    #[arg(long)]
    pub(crate) no_cache: bool,
    #[command(flatten)]
    pub(crate) onnx: Onnx,
}

/// What an ONNX file does not say of itself.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "ONNX files")]
pub(crate) struct Onnx {
    /// Side of the input in pixels, for a model that leaves it open
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) input_px: Option<u32>,
    /// Mean of the pixels in [0, 1] that the model was trained with, RGB [default: pixels go in as they are]
    #[arg(long, value_name = "R,G,B", value_parser = three, allow_hyphen_values = true)]
    pub(crate) mean: Option<[f32; 3]>,
    /// Their deviation; (pixel − mean)/std is what the model sees
    #[arg(long, value_name = "R,G,B", value_parser = three)]
    pub(crate) std: Option<[f32; 3]>,
}

fn three(text: &str) -> Result<[f32; 3], String> {
    let numbers: Result<Vec<f32>, _> = text.split(',').map(|t| t.trim().parse::<f32>()).collect();
    numbers
        .ok()
        .and_then(|n| <[f32; 3]>::try_from(n).ok())
        .ok_or_else(|| "expected three numbers separated by commas".to_owned())
}

impl Onnx {
    pub(crate) fn options(&self) -> OnnxOptions {
        let input_px = self.input_px.map(|px| px as usize);
        OnnxOptions { input_px, mean: self.mean, std: self.std }
    }
}

/// What is computed of an image.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Method")]
pub(crate) struct Method {
    /// What is computed: the published method, the released code's sign, or free of rounding
    #[arg(long, value_name = "P", default_value = "paper", value_parser = Protocol::NAMES)]
    pub(crate) protocol: String,
    /// Steps of the path of complexity
    #[arg(long, value_name = "N", default_value_t = protocol("paper").steps)]
    pub(crate) steps: u32,
    /// L2 length of one step over the whole image
    #[arg(long, value_name = "X", default_value_t = protocol("paper").epsilon)]
    pub(crate) epsilon: f64,
    /// Steps of the attack
    #[arg(long, value_name = "N", default_value_t = protocol("paper").attack_steps)]
    pub(crate) attack_steps: u32,
    /// Largest change of a pixel by the attack [default: 8/255]
    #[arg(long, value_name = "X")]
    pub(crate) attack_epsilon: Option<f64>,
    /// Change of a pixel in one step of the attack [default: 2/255]
    #[arg(long, value_name = "X")]
    pub(crate) attack_step_size: Option<f64>,
    /// Distribution of the direction of complexity
    #[arg(long, value_enum, default_value_t = NoiseArg::Gaussian)]
    pub(crate) noise: NoiseArg,
    /// Seeded starts of the attack, of which the strongest counts
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) restarts: u32,
}

/// What `measure`, `compare`, `rank` and `demo` share.
#[derive(Clone, clap::Args)]
pub(crate) struct Measuring {
    #[command(flatten)]
    pub(crate) reading: Reading,
    #[command(flatten)]
    pub(crate) method: Method,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Resize {
    Crop,
    Squash,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArithmeticArg {
    Auto,
    Fused,
    Fastest,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnError {
    Report,
    Skip,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NoiseArg {
    Gaussian,
    Uniform,
}

impl Method {
    pub(crate) fn constants(&self) -> ProtocolSettings {
        let published = protocol(&self.protocol);
        ProtocolSettings {
            steps: self.steps,
            epsilon: self.epsilon,
            attack_steps: self.attack_steps,
            attack_epsilon: self.attack_epsilon.unwrap_or(published.attack_epsilon),
            attack_step_size: self.attack_step_size.unwrap_or(published.attack_step_size),
            noise: match self.noise {
                NoiseArg::Gaussian => Noise::Gaussian,
                NoiseArg::Uniform => Noise::Uniform,
            },
            restarts: self.restarts,
            ..published
        }
    }
}

impl Measuring {
    /// The same as a preset has it.
    ///
    /// # Errors
    /// For an option that says otherwise.
    pub(crate) fn with_preset(&self, preset: &Preset) -> Result<Measuring> {
        let fit = if preset.fit == Fit::Squash { Resize::Squash } else { Resize::Crop };
        let mut reading = self.reading.clone();
        let (backbone, resampler) = (preset.backbone, preset.resampler.name());
        let differs = |found: &Option<String>, own: &str| found.as_deref().is_some_and(|found| found != own);
        let contradiction = if differs(&reading.backbone, backbone) {
            Some(format!("--backbone {backbone}"))
        } else if differs(&reading.resampler, resampler) {
            Some(format!("--resampler {resampler}"))
        } else if reading.resize.is_some_and(|found| found != fit) {
            Some("the other --resize".to_owned())
        } else {
            None
        };
        if let Some(own) = contradiction {
            bail!("--preset {}: means {own}; leave out one of the two", preset.name);
        }
        reading.backbone = Some(backbone.to_owned());
        reading.resampler = Some(resampler.to_owned());
        reading.resize = Some(fit);
        Ok(Measuring { reading, method: self.method.clone() })
    }
}

impl Reading {
    /// Name of the network, or path of an ONNX file.
    pub(crate) fn backbone(&self) -> &str {
        self.backbone.as_deref().unwrap_or(backbone::DEFAULT)
    }

    pub(crate) fn preprocessing(&self, backbone: &Backbone) -> Preprocessing {
        let mut own = backbone.preprocessing();
        if let Some(name) = &self.resampler
            && let Some((_, resampler)) = Resampler::NAMES.iter().find(|(n, _)| n == name)
        {
            own = own.with_resampler(*resampler);
        }
        match self.resize {
            None => own,
            Some(Resize::Crop) => own.with_fit(Fit::Crop),
            Some(Resize::Squash) => own.with_fit(Fit::Squash),
        }
    }

    /// Where each layer's part of an output at `path` goes: `path` itself for one layer or a stream, otherwise the
    /// layer's name before the extension.
    pub(crate) fn outputs(&self, path: &Path) -> Result<Vec<PathBuf>> {
        if self.layer.len() < 2 || !matches!(TextOutput::of(path), TextOutput::File(_)) {
            return Ok(vec![path.to_owned(); self.layer.len().max(1)]);
        }
        let mut outputs: Vec<PathBuf> = Vec::new();
        // A layer named twice is refused where layers are looked up.
        for layer in &self.layer {
            let safe = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
            let mut file = path.file_stem().unwrap_or_default().to_owned();
            file.push(".");
            file.push(layer.chars().map(safe).collect::<String>());
            if let Some(extension) = path.extension() {
                file.push(".");
                file.push(extension);
            }
            let output = path.with_file_name(file);
            if outputs.contains(&output) && self.layer.iter().filter(|l| *l == layer).count() == 1 {
                bail!("{}: two layers would be written here; measure them one at a time", output.display());
            }
            outputs.push(output);
        }
        Ok(outputs)
    }

    pub(crate) fn pool(&self) -> Option<Pool> {
        let name = self.pool.as_deref()?;
        Pool::NAMES.iter().find(|(n, _)| *n == name).map(|(_, pool)| *pool)
    }

    /// What was asked for; `None`: what suits the protocol.
    pub(crate) fn arithmetic(&self) -> Option<Arithmetic> {
        match self.arithmetic {
            ArithmeticArg::Auto => None,
            ArithmeticArg::Fused => Some(Arithmetic::Fused),
            ArithmeticArg::Fastest => Some(Arithmetic::Fastest),
        }
    }

    pub(crate) fn threads(&self) -> usize {
        threads(self.threads)
    }
}

/// So many threads, or one a core.
pub(crate) fn threads(asked: Option<u64>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, |n| n.get());
    asked.map_or_else(cores, |n| n as usize)
}
