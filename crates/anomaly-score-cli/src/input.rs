//! What a command is given: images to measure, a table measured before, or a file of features or statistics.

use std::cell::RefCell;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anomaly_score::Error;
use anomaly_score::backbone::{Arithmetic, Backbone, Entry, Request, is_onnx};
use anomaly_score::evaluate::{FeatureSet, Preset, Selection, SetStatistics, Side, of_a_file};
use anomaly_score::image::Source;
use anomaly_score::measure::{FEATURES_ONLY, Measurer, Options, Protocol, measure, protocol};
use anomaly_score::preflight::Question;
use anomaly_score::report::{Measured, Set, Warning};
use anomaly_score::set_metric::{ArrayFile, FeatureMatrix, Statistics, read_features, read_statistics};
use anomaly_score::table::{BackboneSettings, Cache, ProtocolSettings, Settings, Table};
use anyhow::{Context, Result, bail};

use crate::Skips;
use crate::args::{Measuring, OnError, Reading};
use crate::progress::{Bar, STOP, fetch};

/// Any kind of input, checked before anything is measured.
pub(crate) enum Input {
    Table(Box<Table>, PathBuf),
    Images(Source),
    Features(FeatureMatrix, PathBuf),
    Statistics(Statistics, PathBuf),
}

impl Input {
    pub(crate) fn open(path: &Path) -> Result<Input> {
        Input::open_for(path, false)
    }

    /// As [`Input::open`]; of a file that holds images and statistics, the latter where `moments` suffice.
    pub(crate) fn open_for(path: &Path, moments: bool) -> Result<Input> {
        let is_array =
            ["npz", "npy"].iter().any(|e| path.extension().is_some_and(|x| x.eq_ignore_ascii_case(e)));
        if is_array && path.is_file() {
            match ArrayFile::of(path)? {
                ArrayFile::Images | ArrayFile::Statistics { with_images: true } if !moments => {}
                ArrayFile::Images => {}
                ArrayFile::Features => return Ok(Input::Features(read_features(path)?, path.to_owned())),
                ArrayFile::Statistics { with_images } => {
                    if with_images {
                        eprintln!("note: {}: its statistics are read, not its images", path.display());
                    }
                    return Ok(Input::Statistics(read_statistics(path)?, path.to_owned()));
                }
            }
        }
        let mut magic = [0; 4];
        let is_table =
            File::open(path).and_then(|mut f| f.read_exact(&mut magic)).is_ok() && magic == *b"PAR1";
        let named_table = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("parquet"));
        if is_table || named_table {
            return Ok(Input::Table(Box::new(Table::open(path)?), path.to_owned()));
        }
        Ok(Input::Images(Source::open(path)?))
    }

    /// What an error calls it.
    pub(crate) fn name(&self) -> String {
        match self {
            Input::Table(table, path) => {
                format!("{} (a table of {})", path.display(), table.settings().source)
            }
            Input::Images(source) => source.name().to_owned(),
            Input::Features(_, path) | Input::Statistics(_, path) => path.display().to_string(),
        }
    }

    /// Whether complexity and vulnerability are there or will be, if asked for.
    pub(crate) fn can_have_scores(&self) -> bool {
        match self {
            Input::Images(_) => true,
            Input::Table(table, _) => table.settings().has_scores(),
            Input::Features(..) | Input::Statistics(..) => false,
        }
    }

    /// The source as results call it, and the paths of its images.
    pub(crate) fn paths(&self) -> Result<(String, Vec<String>)> {
        Ok(match self {
            Input::Images(source) => {
                (source.name().to_owned(), source.entries().iter().map(|e| e.path().to_owned()).collect())
            }
            Input::Table(table, _) => {
                let paths = table.scores()?.map(|image| Ok(image?.path)).collect::<Result<_>>()?;
                (table.settings().source.clone(), paths)
            }
            Input::Features(matrix, _) => (self.name(), matrix.paths().unwrap_or_default().to_vec()),
            Input::Statistics(..) => (self.name(), Vec::new()),
        })
    }

    /// What is to be said, of results at a layer, of a file that was read.
    pub(crate) fn unknown_origin(&self, loader: &Loader, layer: usize) -> Option<Warning> {
        let (Input::Features(_, path) | Input::Statistics(_, path)) = self else { return None };
        let backbone = &loader.assumed.get(layer)?.backbone;
        let layer = backbone.layer.as_ref().map(|layer| format!(" at {layer}")).unwrap_or_default();
        let features = match backbone.name.as_str() {
            UNKNOWN => "the same network as the other file".to_owned(),
            name => format!("{name}{layer}"),
        };
        Some(Warning::FileOfUnknownOrigin { file: path.display().to_string(), features })
    }

    /// As [`Input::into_tables`], statistics as they are.
    pub(crate) fn measured(self, loader: &Loader) -> Result<Vec<MeasuredInput>> {
        match self {
            Input::Statistics(statistics, path) => loader
                .assumed
                .iter()
                .map(|like| Ok(SetStatistics::new(&statistics, &path.display().to_string(), like)?))
                .map(|set| set.map(MeasuredInput::Statistics))
                .collect(),
            other => Ok(other.into_tables(loader)?.into_iter().map(MeasuredInput::Table).collect()),
        }
    }

    /// The table itself, or the tables of its images measured now, one a layer.
    pub(crate) fn into_tables(self, loader: &Loader) -> Result<Vec<Table>> {
        match self {
            Input::Table(table, _) => Ok(vec![*table]),
            Input::Images(source) => loader.measure(&source, None),
            Input::Features(matrix, path) => {
                let name = path.display().to_string();
                let features = matrix.features(&name)?;
                let settings = of_a_file(
                    &name,
                    features.dim(),
                    loader.assumed.first().context("a file is like another input")?,
                );
                Ok(vec![Table::of_features(features, matrix.paths(), settings)?])
            }
            Input::Statistics(_, path) => {
                bail!("{}: holds mean and covariance of a set, not its images", path.display())
            }
        }
    }

    /// The tables of its images measured now, at these paths.
    ///
    /// # Panics
    /// If it is not images.
    pub(crate) fn measured_into(&self, loader: &Loader, outputs: &[PathBuf]) -> Result<Vec<Table>> {
        match self {
            Input::Images(source) => loader.measure(source, Some(outputs)),
            _ => unreachable!("`measure` opens images"),
        }
    }
}

/// What became of an input at one layer.
pub(crate) enum MeasuredInput {
    Table(Table),
    Statistics(SetStatistics),
}

impl MeasuredInput {
    pub(crate) fn measured(&self) -> Measured<'_> {
        match self {
            MeasuredInput::Table(table) => Measured::Table(table),
            MeasuredInput::Statistics(set) => Measured::Statistics(set),
        }
    }

    /// The features, read; `None` of statistics.
    pub(crate) fn features(&self, name: &'static str) -> Result<Option<FeatureSet>> {
        match self {
            MeasuredInput::Table(table) => Ok(Some(FeatureSet::read(table, name)?)),
            MeasuredInput::Statistics(_) => Ok(None),
        }
    }

    /// The set as metrics see it; `features` are what [`MeasuredInput::features`] read.
    pub(crate) fn side<'a>(&'a self, features: &'a Option<FeatureSet>) -> Option<Side<'a>> {
        match self {
            MeasuredInput::Table(_) => features.as_ref().map(Side::Images),
            MeasuredInput::Statistics(set) => Some(Side::Statistics(set)),
        }
    }

    pub(crate) fn table(&self) -> Option<&Table> {
        match self {
            MeasuredInput::Table(table) => Some(table),
            MeasuredInput::Statistics(_) => None,
        }
    }
}

/// Name of the network of files whose origin nobody tells.
const UNKNOWN: &str = "unknown";

/// One table out of those of an input, for a command that reads one layer.
pub(crate) fn only_one(mut tables: Vec<Table>, command: &str) -> Result<Table> {
    if tables.len() > 1 {
        bail!("--layer: `{command}` reads one layer at a time; expected one name, found {}", tables.len());
    }
    tables.pop().context("an input has at least one table")
}

/// The backbone, loaded once and only if some image has to be measured, and what is measured with it.
pub(crate) struct Loader<'a> {
    reading: &'a Reading,
    protocol: ProtocolSettings,
    backbone: Option<Rc<Backbone>>,
    /// What files of features or statistics are taken to be made by: the same as the first other input; one a layer.
    assumed: Vec<Settings>,
    cache_errors: Rc<RefCell<Vec<Warning>>>,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(measuring: &'a Measuring, inputs: &[&Input]) -> Result<Self> {
        Loader::of(&measuring.reading, measuring.method.constants(), inputs)
    }

    /// Of a protocol that is not the command line's.
    pub(crate) fn of(reading: &'a Reading, protocol: ProtocolSettings, inputs: &[&Input]) -> Result<Self> {
        let needed = inputs.iter().any(|i| matches!(i, Input::Images(_)));
        if let Some(asked) = reading.arithmetic() {
            asked.require_no_other()?;
        }
        let arithmetic = if needed { arithmetic(reading, &protocol, inputs)? } else { Arithmetic::default() };
        if needed && reading.weights.is_none() && !is_onnx(reading.backbone()) {
            fetch(Entry::find(reading.backbone())?)?;
        }
        let request = Request {
            name: reading.backbone(),
            weights: reading.weights.as_deref(),
            layers: &reading.layer,
            pool: reading.pool(),
            arithmetic,
            onnx: reading.onnx.options(),
        };
        if needed && is_onnx(reading.backbone()) && reading.onnx.mean.is_none() {
            eprintln!(
                "note: {} is given pixels in [0, 1] as they are; a model trained on normalised pixels needs --mean \
                 and --std",
                reading.backbone()
            );
        }
        let backbone = if needed { Some(Rc::new(Backbone::load(&request)?)) } else { None };
        if let Some(backbone) = &backbone {
            // What measuring would refuse is refused before the images are looked through.
            Measurer::new(backbone.network(), &protocol, reading.seed)?;
        }
        give_back_freed_memory();
        let mut loader =
            Loader { reading, protocol, backbone, assumed: Vec::new(), cache_errors: Rc::default() };
        let known = inputs.iter().find(|i| matches!(i, Input::Images(_) | Input::Table(..)));
        loader.assumed = match known {
            Some(input) => loader.settings(input)?,
            None => vec![loader.of_unknown_origin(inputs)?],
        };
        Ok(loader)
    }

    /// What all files are taken to be made by where there is nothing else: what the options say, which nothing confirms.
    fn of_unknown_origin(&self, inputs: &[&Input]) -> Result<Settings> {
        let dim = match inputs.first() {
            Some(Input::Features(matrix, path)) => matrix.features(&path.display().to_string())?.dim(),
            Some(Input::Statistics(statistics, _)) => statistics.pooled.dim(),
            _ => 0,
        };
        let backbone = BackboneSettings {
            name: self.reading.backbone.clone().unwrap_or_else(|| UNKNOWN.into()),
            weights_sha256: String::new(),
            input_px: 0,
            feature_dim: u32::try_from(dim).unwrap_or(u32::MAX),
            layer: self.reading.layer.first().cloned(),
        };
        let protocol = protocol(FEATURES_ONLY);
        Ok(Settings::new(protocol, backbone, None, UNKNOWN, self.reading.seed, String::new(), None))
    }

    /// The same network, measuring features only.
    pub(crate) fn of_features(&self) -> Loader<'a> {
        Loader {
            reading: self.reading,
            protocol: protocol(FEATURES_ONLY),
            backbone: self.backbone.clone(),
            assumed: self.assumed.clone(),
            cache_errors: self.cache_errors.clone(),
        }
    }

    /// How an input was measured or will be, one a layer.
    pub(crate) fn settings(&self, input: &Input) -> Result<Vec<Settings>> {
        Ok(match (input, &self.backbone) {
            (Input::Table(table, _), _) => vec![table.settings().clone()],
            (Input::Features(matrix, path), _) => {
                let name = path.display().to_string();
                let dim = matrix.features(&name)?.dim();
                self.assumed.first().map(|like| of_a_file(&name, dim, like)).into_iter().collect()
            }
            (Input::Statistics(statistics, path), _) => {
                let name = path.display().to_string();
                let of = |like| Ok(SetStatistics::new(statistics, &name, like)?.settings);
                self.assumed.iter().map(of).collect::<Result<_>>()?
            }
            (Input::Images(source), Some(backbone)) => (0..backbone.layers().len())
                .map(|layer| {
                    Settings::new(
                        self.protocol.clone(),
                        backbone.settings(layer),
                        Some(backbone.arithmetic()),
                        self.reading.preprocessing(backbone).name(),
                        self.reading.seed,
                        source.name().to_owned(),
                        None,
                    )
                })
                .collect(),
            (Input::Images(_), None) => Vec::new(),
        })
    }

    /// Refuses two inputs that will not be comparable before hours go into measuring one of them. `loader_of_b` is that of
    /// the second; where one of them has features only, they alone must be comparable.
    pub(crate) fn require_comparable(&self, a: &Input, loader_of_b: &Loader, b: &Input) -> Result<()> {
        let (mine, theirs) = (self.settings(a)?, loader_of_b.settings(b)?);
        if mine.len() != theirs.len() || (self.backbone.is_none() && self.reading.layer.len() > 1) {
            let most = mine.len().max(theirs.len()).max(self.reading.layer.len());
            bail!("--layer: a table holds one layer; expected one name or none beside it, found {most}");
        }
        for (mine, theirs) in mine.iter().zip(&theirs) {
            if mine.has_scores() && theirs.has_scores() {
                mine.require_same(&a.name(), theirs, &b.name())?;
            } else {
                mine.require_same_features(&a.name(), theirs, &b.name())?;
            }
        }
        Ok(())
    }

    /// Warns that two inputs, both of this loader, will be of two arithmetics, while it can still be had otherwise: before images
    /// are measured. Of tables alone the report says so.
    pub(crate) fn warn_of_arithmetics(&self, a: (Set, &Input), b: (Set, &Input)) -> Result<()> {
        let settings = [self.settings(a.1)?, self.settings(b.1)?];
        let sets = settings.iter().zip([a.0, b.0]).filter_map(|(layers, set)| Some((set, layers.first()?)));
        if let Some(warning) = Warning::of_arithmetics(&sets.collect::<Vec<_>>())
            && [a.1, b.1].iter().any(|input| matches!(input, Input::Images(_)))
        {
            eprintln!("warning: {}: {warning}", b.1.name());
        }
        Ok(())
    }

    /// What pre-flight has to know of the run. `like` is an input measured as all of them.
    pub(crate) fn question(
        &self,
        like: &Input,
        selection: Selection,
        preset: Option<&Preset>,
    ) -> Result<Question> {
        let settings = self.settings(like)?;
        Ok(Question {
            selection,
            conventions: preset.map(|p| p.conventions).unwrap_or_default(),
            squash: settings.iter().any(|s| s.resampler.ends_with("/squash")),
            layers: settings.into_iter().map(|s| s.backbone).collect(),
        })
    }

    /// Measures a source; one table a layer.
    pub(crate) fn measure(&self, source: &Source, outputs: Option<&[PathBuf]>) -> Result<Vec<Table>> {
        let backbone = self.backbone.as_ref().expect("a loader for images has a backbone");
        let cache = if self.reading.no_cache {
            None
        } else {
            match Cache::default_folder() {
                Ok(folder) => Some(folder),
                Err(e) => {
                    self.no_cache(&e);
                    None
                }
            }
        };
        let bar = Bar::new(source.name());
        let options = Options {
            protocol: self.protocol.clone(),
            seed: self.reading.seed,
            preprocessing: self.reading.preprocessing(backbone),
            limit: self.reading.limit.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            threads: self.reading.threads(),
            cache,
            stop: &STOP,
            progress: &|p| bar.update(p),
        };
        let outcome = measure(source, backbone, &options, outputs);
        bar.clear();
        let outcome = outcome?;
        if let Some(e) = outcome.cache_error {
            self.no_cache(&e);
        }
        Ok(outcome.tables)
    }

    fn no_cache(&self, e: &Error) {
        let message = format!("measurements are not cached: {e}");
        eprintln!("warning: {message}");
        self.cache_errors.borrow_mut().push(Warning::CacheUnusable { message });
    }

    /// What a report has to say about the cache.
    pub(crate) fn cache_errors(&self) -> Vec<Warning> {
        self.cache_errors.borrow().clone()
    }
}

/// How the network is to round: as asked, otherwise as suits the protocol; but fused beside a table that is, where bits of another
/// kind would be a difference of their own.
fn arithmetic(reading: &Reading, protocol: &ProtocolSettings, inputs: &[&Input]) -> Result<Arithmetic> {
    if let Some(asked) = reading.arithmetic() {
        return Ok(asked);
    }
    let fused = |input: &&Input| match input {
        Input::Table(table, _) => {
            table.settings().arithmetic.as_deref() == Some(Arithmetic::Fused.rounding())
        }
        _ => false,
    };
    let beside = inputs.iter().any(fused);
    Ok(if beside { Arithmetic::Fused } else { Protocol::of(protocol)?.arithmetic() })
}

/// Gives what was freed back to the system. A network is packed from a file and a graph as large as itself, and glibc keeps
/// blocks of that size once it has seen a few of them freed.
fn give_back_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lists the images that were left out, and says whether the user agreed to that.
pub(crate) fn report_skipped(table: &Table, reading: &Reading) -> Skips {
    let source = &table.settings().source;
    for skipped in table.skipped() {
        eprintln!("skipped: {source}: {}: {}", skipped.path, skipped.reason);
    }
    let agreed = reading.on_error == OnError::Skip || table.skipped().is_empty();
    if agreed { Skips::None } else { Skips::Some }
}
