//! The metrics that can be asked for by name, and what each of them is.

use serde::Serialize;

use crate::table::BackboneSettings;
use crate::{Error, ErrorKind, Result};

/// Which values are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Lower is better.
    Lower,
    /// Higher is better.
    Higher,
    /// Neither.
    None,
}

/// A metric of a generated set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Anomaly Score.
    AnomalyScore,
    /// Fréchet distance; FID or sFID where features are Inception's.
    FrechetDistance,
    /// Fréchet distance extrapolated to infinitely many images.
    FrechetInfinity,
    /// Kernel distance with the cubic kernel; KID where features are Inception's.
    KernelDistance,
    /// Kernel distance with a Gaussian kernel.
    KernelDistanceRbf,
    /// CLIP maximum mean discrepancy.
    Cmmd,
    /// Inception Score.
    InceptionScore,
    /// Precision.
    Precision,
    /// Recall.
    Recall,
    /// Density.
    Density,
    /// Coverage.
    Coverage,
    /// Mean realism.
    Realism,
    /// Mean rarity.
    Rarity,
    /// Share of authentic images.
    Authenticity,
    /// Vendi score.
    Vendi,
    /// Sliced Wasserstein distance in its closed approximation.
    SlicedWasserstein,
    /// Monge Inception Distance.
    Mind,
    /// Memorisation-informed Fréchet distance.
    Mifid,
    /// Feature likelihood score.
    Fls,
    /// Percentage of overfit Gaussians.
    OverfitGaussians,
    /// Feature likelihood divergence.
    Fld,
    /// The data-copying test.
    DataCopying,
}

use Metric::*;

/// What is fixed about a metric.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The metric.
    pub metric: Metric,
    /// As it is asked for.
    pub option: &'static str,
    /// As results name it, where the backbone gives it no other name.
    pub name: &'static str,
    /// As people call it.
    pub title: &'static str,
    /// Which values are better.
    pub direction: Direction,
    /// What it is, in a line.
    pub definition: &'static str,
    /// Where it is defined.
    pub source: &'static str,
}

const fn entry(
    metric: Metric,
    [option, name, title]: [&'static str; 3],
    direction: Direction,
    definition: &'static str,
    source: &'static str,
) -> Entry {
    Entry { metric, option, name, title, direction, definition, source }
}

/// All metrics, in the order of results.
pub const METRICS: [Entry; 22] = [
    entry(
        AnomalyScore,
        ["as", "anomaly_score", "Anomaly Score"],
        Direction::Lower,
        "two-sample 2-D Kolmogorov–Smirnov statistic of complexity and vulnerability",
        "Hwang et al. 2024, arXiv:2312.10634",
    ),
    entry(
        FrechetDistance,
        ["fd", "frechet_distance", "Fréchet distance"],
        Direction::Lower,
        "squared Fréchet distance of the normal distributions fitted to the features",
        "Heusel et al. 2017, arXiv:1706.08500",
    ),
    entry(
        FrechetInfinity,
        ["fd-infinity", "frechet_distance_infinity", "Fréchet distance ∞"],
        Direction::Lower,
        "Fréchet distance extrapolated to infinitely many generated images",
        "Chong and Forsyth 2020, arXiv:1911.07023",
    ),
    entry(
        KernelDistance,
        ["kd", "kernel_distance", "Kernel distance"],
        Direction::Lower,
        "unbiased squared maximum mean discrepancy over all images, kernel (x·y/D + 1)³",
        "Bińkowski et al. 2018, arXiv:1801.01401",
    ),
    entry(
        KernelDistanceRbf,
        ["kd-rbf", "kernel_distance_rbf", "RBF kernel distance"],
        Direction::Lower,
        "the same with a Gaussian kernel, σ = 10",
        "Gretton et al. 2012, JMLR 13",
    ),
    entry(
        Cmmd,
        ["cmmd", "cmmd", "CMMD"],
        Direction::Lower,
        "1000 times the biased squared MMD of CLIP L/14-336 features of unit length, Gaussian kernel, σ = 10",
        "Jayasumana et al. 2024, arXiv:2401.09603",
    ),
    entry(
        InceptionScore,
        ["is", "inception_score", "Inception Score"],
        Direction::Higher,
        "exp of the mean divergence of class probabilities from their mean, over ten splits",
        "Salimans et al. 2016, arXiv:1606.03498",
    ),
    entry(
        Precision,
        ["precision", "precision", "Precision"],
        Direction::Higher,
        "share of the generated images inside the reference manifold",
        "Kynkäänniemi et al. 2019, arXiv:1904.06991",
    ),
    entry(
        Recall,
        ["recall", "recall", "Recall"],
        Direction::Higher,
        "share of the reference images inside the generated manifold",
        "Kynkäänniemi et al. 2019, arXiv:1904.06991",
    ),
    entry(
        Density,
        ["density", "density", "Density"],
        Direction::Higher,
        "reference balls a generated image lies in, over k, averaged",
        "Naeem et al. 2020, arXiv:2002.09797",
    ),
    entry(
        Coverage,
        ["coverage", "coverage", "Coverage"],
        Direction::Higher,
        "share of the reference balls with a generated image inside",
        "Naeem et al. 2020, arXiv:2002.09797",
    ),
    entry(
        Realism,
        ["realism", "realism", "Realism"],
        Direction::Higher,
        "mean over the generated images of how deep each lies in the reference manifold",
        "Kynkäänniemi et al. 2019, arXiv:1904.06991",
    ),
    entry(
        Rarity,
        ["rarity", "rarity", "Rarity"],
        Direction::None,
        "mean radius of the smallest reference ball around a generated image, over those inside any",
        "Han et al. 2023, arXiv:2206.08549",
    ),
    entry(
        Authenticity,
        ["authpct", "authpct", "AuthPct"],
        Direction::Higher,
        "percentage of generated images no nearer to a reference image than that one's nearest neighbour",
        "Alaa et al. 2022, arXiv:2102.08921",
    ),
    entry(
        Vendi,
        ["vendi", "vendi_score", "Vendi score"],
        Direction::Higher,
        "effective number of different generated images; knows no reference",
        "Friedman and Dieng 2023, arXiv:2210.02410",
    ),
    entry(
        SlicedWasserstein,
        ["asw", "sliced_wasserstein", "Sliced Wasserstein"],
        Direction::Lower,
        "sliced Wasserstein distance approximated from means and total variances",
        "Nadjahi et al. 2021, arXiv:2106.15427",
    ),
    entry(
        Mind,
        ["mind", "mind", "MIND"],
        Direction::Lower,
        "3·D times the squared sliced 2-Wasserstein distance, 1000 directions",
        "Berthet et al., arXiv:2605.06797",
    ),
    entry(
        Mifid,
        ["mifid", "mifid", "MiFID"],
        Direction::Lower,
        "Fréchet distance over the mean distance to the nearest reference image where that is below 0.1",
        "Bai et al. 2021, arXiv:2106.03062",
    ),
    entry(
        Fls,
        ["fls", "fls", "FLS"],
        Direction::Higher,
        "likelihood of held-out images under Gaussians at the generated ones, 100 = as good as training images",
        "Jiralerspong et al. 2023, arXiv:2302.04440, as dgm-eval",
    ),
    entry(
        OverfitGaussians,
        ["pog", "fls_overfit_gaussians", "FLS-POG"],
        Direction::None,
        "percentage of those Gaussians likelier to have made training than held-out images, less 50: 0 is best",
        "Jiralerspong et al. 2023, arXiv:2302.04440, as dgm-eval",
    ),
    entry(
        Fld,
        ["fld", "fld", "FLD"],
        Direction::Lower,
        "negative log-likelihood of held-out images beside that under training images, 0 = as good",
        "Jiralerspong et al. 2023, arXiv:2302.04440, as fld",
    ),
    entry(
        DataCopying,
        ["ct", "ct", "CT"],
        Direction::None,
        "z of being nearer to training images than held-out images are: below 0 copies, 0 is best",
        "Meehan et al. 2020, arXiv:2004.05675, as dgm-eval",
    ),
];

/// Words of `--metrics` that mean several metrics.
const GROUPS: [(&str, &[Metric]); 1] = [("prdc", &[Precision, Recall, Density, Coverage])];
/// Everything.
const ALL: &str = "all";
/// The two claims of the paper, which are tests and no metrics.
const CLAIMS: &str = "claims";

impl Metric {
    /// What is fixed about it.
    pub fn entry(self) -> &'static Entry {
        // Every metric stands in the table, in the order of the enum; `tests` holds that.
        &METRICS[self as usize]
    }

    /// Whether it is a mean over the generated images of what the reference alone says of each.
    pub(super) fn is_mean_over_generated(self) -> bool {
        matches!(self, Precision | Density | Realism | Rarity | Authenticity)
    }

    /// Whether it knows no reference.
    pub(super) fn is_of_generated_alone(self) -> bool {
        matches!(self, Vendi | InceptionScore)
    }

    /// Whether mean and covariance of the reference are all it reads of it.
    pub fn reads_reference_moments(self) -> bool {
        matches!(self, FrechetDistance | FrechetInfinity)
    }

    /// Whether it fits Gaussians to the generated images.
    pub(super) fn fits_likelihoods(self) -> bool {
        matches!(self, Fls | OverfitGaussians | Fld)
    }

    /// Whether it needs images of the reference's distribution that the model never saw. The reference is then taken for the
    /// model's training images.
    pub fn needs_held_out(self) -> bool {
        matches!(self, Fls | OverfitGaussians | Fld | DataCopying)
    }

    /// Why no table of this backbone and layer can have the metric, with what to do; `None` where it can.
    pub fn impossible_for(self, backbone: &BackboneSettings) -> Option<String> {
        match self {
            InceptionScore if tap(backbone) != Tap::Logits => Some(format!(
                "needs class logits, not {}; read --backbone inception-v3-fid at --layer logits_unbiased",
                label(backbone)
            )),
            Cmmd if backbone.name != CMMD_BACKBONE || backbone.layer.is_some() => Some(format!(
                "is defined on the embedding of {CMMD_BACKBONE}, not on {}; take that backbone, or kd-rbf",
                label(backbone)
            )),
            _ => None,
        }
    }

    /// The name of a result: `fid`, `sfid` and `kid` only where features are those the names stand for.
    pub fn name(self, backbone: &BackboneSettings) -> &'static str {
        match (self, tap(backbone)) {
            (FrechetDistance, Tap::Pool3) => "fid",
            (FrechetDistance, Tap::Spatial) => "sfid",
            (FrechetInfinity, Tap::Pool3) => "fid_infinity",
            (KernelDistance, Tap::Pool3) => "kid",
            _ => self.entry().name,
        }
    }

    /// What people call a result.
    pub fn title(self, backbone: &BackboneSettings) -> &'static str {
        match (self, tap(backbone)) {
            (FrechetDistance, Tap::Pool3) => "FID",
            (FrechetDistance, Tap::Spatial) => "sFID",
            (FrechetInfinity, Tap::Pool3) => "FID ∞",
            (KernelDistance, Tap::Pool3) => "KID",
            _ => self.entry().title,
        }
    }

    /// The features a result is of, in words; `None` for the Anomaly Score, which is of none.
    pub fn features(self, backbone: &BackboneSettings) -> Option<String> {
        (self != AnomalyScore).then(|| label(backbone))
    }
}

/// Why a metric of held-out images is undefined without.
pub(super) const NEEDS_HELD_OUT: &str =
    "needs images like the reference that the model was not trained on; give them with --held-out";

/// The backbone CMMD is defined on.
const CMMD_BACKBONE: &str = "clip-vit-l14-336";

/// Features that metrics are named after.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tap {
    /// Inception-v3's 2048 pooled channels.
    Pool3,
    /// What sFID reads.
    Spatial,
    /// The 1008 logits without bias.
    Logits,
    /// Any other.
    Other,
}

pub(super) fn tap(backbone: &BackboneSettings) -> Tap {
    if backbone.name != "inception-v3-fid" {
        return Tap::Other;
    }
    let layer = backbone.layer.as_deref().map(|layer| layer.split(':').next().unwrap_or(layer));
    match layer {
        None | Some("pool3" | "2048") => Tap::Pool3,
        Some("spatial") if backbone.feature_dim == 2023 => Tap::Spatial,
        Some("logits_unbiased") => Tap::Logits,
        _ => Tap::Other,
    }
}

/// Backbone and layer, in words.
fn label(backbone: &BackboneSettings) -> String {
    match &backbone.layer {
        None => backbone.name.clone(),
        Some(layer) => format!("{} at {layer}", backbone.name),
    }
}

/// What `--metrics` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The metrics, in the order of [`METRICS`], each once.
    pub metrics: Vec<Metric>,
    /// Those of them that were asked for by their own name or a group's.
    pub named: Vec<Metric>,
    /// Whether the paper's two claims are tested.
    pub claims: bool,
}

impl Default for Selection {
    /// The Anomaly Score alone, which every report has.
    fn default() -> Self {
        Selection { metrics: vec![AnomalyScore], named: vec![AnomalyScore], claims: false }
    }
}

impl Selection {
    /// Every word that [`Selection::of`] knows.
    pub fn words() -> Vec<&'static str> {
        let groups = GROUPS.iter().map(|(word, _)| *word);
        METRICS.iter().map(|e| e.option).chain(groups).chain([CLAIMS, ALL]).collect()
    }

    /// The selection of some words: options of [`METRICS`], `prdc` for its four, `claims`, and `all`.
    ///
    /// # Errors
    /// `InvalidOption` for a word that is none of [`Selection::words`], which it lists.
    pub fn of(words: &[impl AsRef<str>]) -> Result<Self> {
        let (mut named, mut all, mut claims) = (Vec::new(), false, false);
        for word in words.iter().map(AsRef::as_ref) {
            match word {
                ALL => all = true,
                CLAIMS => claims = true,
                word => {
                    let group = GROUPS.iter().find(|(group, _)| *group == word).map(|(_, metrics)| *metrics);
                    let one = METRICS.iter().find(|e| e.option == word).map(|e| e.metric);
                    match (group, one) {
                        (Some(metrics), _) => named.extend(metrics),
                        (None, Some(metric)) => named.push(metric),
                        (None, None) => {
                            return Err(Error::new(ErrorKind::InvalidOption, "--metrics", "no such metric")
                                .expected(Selection::words().join(", "), word));
                        }
                    }
                }
            }
        }
        named.sort_unstable();
        named.dedup();
        let metrics = if all { METRICS.map(|e| e.metric).to_vec() } else { named.clone() };
        Ok(Selection { metrics, named, claims: claims || all })
    }

    /// Whether it asks for more than every report has.
    pub fn is_more_than_score(&self) -> bool {
        self.claims || self.metrics.iter().any(|&m| m != AnomalyScore)
    }

    /// Whether it asks for anything that complexity and vulnerability are needed for, besides features.
    pub fn needs_scores(&self) -> bool {
        self.claims || self.metrics.contains(&AnomalyScore)
    }

    /// Whether complexity and vulnerability are asked for by name, not by `all` alone.
    pub fn names_scores(&self) -> bool {
        let all = self.metrics.len() > self.named.len();
        self.named.contains(&AnomalyScore) || (self.claims && !all)
    }

    /// Whether it asks for what [`ImageColumns`](super::ImageColumns) hold.
    pub fn has_image_columns(&self) -> bool {
        self.has_neighbour_columns() || self.has_likelihood_column()
    }

    /// Of them those that the nearest reference images tell.
    pub(super) fn has_neighbour_columns(&self) -> bool {
        self.metrics.iter().any(|m| matches!(m, Realism | Rarity | Authenticity))
    }

    /// Of them the memorisation likelihood, which takes held-out images.
    pub(super) fn has_likelihood_column(&self) -> bool {
        self.metrics.iter().any(|m| m.fits_likelihoods())
    }

    /// Refuses a metric asked for by name that needs held-out images, where there are none.
    ///
    /// # Errors
    /// `InvalidOption`, naming the metric.
    pub fn require_held_out(&self) -> Result<()> {
        match self.named.iter().find(|metric| metric.needs_held_out()) {
            None => Ok(()),
            Some(metric) => {
                let option = format!("--metrics {}", metric.entry().option);
                Err(Error::new(ErrorKind::InvalidOption, option, NEEDS_HELD_OUT))
            }
        }
    }

    /// Refuses a metric asked for by name that none of `layers` of the backbone can give.
    ///
    /// # Errors
    /// `InvalidOption`, naming the metric, the reason and what to do.
    pub fn require_possible(&self, layers: &[BackboneSettings]) -> Result<()> {
        for metric in &self.named {
            let reasons: Vec<_> = layers.iter().map(|layer| metric.impossible_for(layer)).collect();
            if let Some(Some(reason)) = reasons.first()
                && reasons.iter().all(Option::is_some)
            {
                let option = metric.entry().option;
                return Err(Error::new(ErrorKind::InvalidOption, format!("--metrics {option}"), reason));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backbone(name: &str, layer: Option<&str>, feature_dim: u32) -> BackboneSettings {
        BackboneSettings {
            name: name.into(),
            weights_sha256: String::new(),
            input_px: 299,
            feature_dim,
            layer: layer.map(str::to_owned),
        }
    }

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (i, entry) in METRICS.iter().enumerate() {
            assert_eq!(entry.metric as usize, i, "{}", entry.option);
            assert_eq!(entry.metric.entry().option, entry.option);
        }
        let mut words = Selection::words();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), METRICS.len() + 3, "no word means two things");
    }

    #[test]
    fn words_become_metrics() {
        let of = |words: &[&str]| Selection::of(words).unwrap();
        assert_eq!(of(&["as"]), Selection::default());
        assert!(!of(&["as"]).is_more_than_score());
        assert_eq!(
            of(&["prdc", "fd", "recall"]).named,
            [FrechetDistance, Precision, Recall, Density, Coverage]
        );
        let all = of(&["all", "is"]);
        assert_eq!(
            (all.metrics.len(), all.named.as_slice(), all.claims),
            (METRICS.len(), &[InceptionScore][..], true)
        );
        let claims = of(&["claims"]);
        assert!(claims.metrics.is_empty() && claims.claims && claims.is_more_than_score());
        assert!(claims.needs_scores() && all.needs_scores() && of(&["as", "fd"]).needs_scores());
        assert!(!of(&["fd", "kd", "prdc", "is", "fls"]).needs_scores());
        assert!(claims.names_scores() && of(&["all", "as"]).names_scores() && !all.names_scores());
        let error = Selection::of(&["fd", "fdi"]).unwrap_err().to_string();
        assert!(error.starts_with("--metrics: no such metric; expected as, fd, fd-infinity, "), "{error}");
        assert!(error.ends_with("claims, all, found fdi"), "{error}");
    }

    #[test]
    fn names_follow_the_features() {
        let name =
            |metric: Metric, name: &str, layer: Option<&str>| metric.name(&backbone(name, layer, 2048));
        assert_eq!(name(FrechetDistance, "inception-v3-fid", None), "fid");
        assert_eq!(name(FrechetDistance, "inception-v3-fid", Some("2048:flat")), "fid");
        assert_eq!(name(FrechetDistance, "inception-v3-fid", Some("768:mean")), "frechet_distance");
        assert_eq!(name(FrechetDistance, "dinov2-vitl14", None), "frechet_distance");
        assert_eq!(name(KernelDistance, "inception-v3-fid", None), "kid");
        assert_eq!(name(KernelDistance, "resnet50", None), "kernel_distance");
        let spatial = backbone("inception-v3-fid", Some("spatial:flat"), 2023);
        assert_eq!(FrechetDistance.name(&spatial), "sfid");
        let layer = backbone("resnet18", Some("layer3:mean"), 256);
        assert_eq!(FrechetDistance.title(&layer), "Fréchet distance");
        assert_eq!(FrechetDistance.features(&layer).as_deref(), Some("resnet18 at layer3:mean"));
    }

    #[test]
    fn what_a_backbone_cannot_give_is_refused_only_by_name() {
        let lite = backbone("efficientnet-lite0", None, 1280);
        let logits = backbone("inception-v3-fid", Some("logits_unbiased:flat"), 1008);
        let named = Selection::of(&["is"]).unwrap();
        let error = named.require_possible(std::slice::from_ref(&lite)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOption);
        assert_eq!(
            error.to_string(),
            "--metrics is: needs class logits, not efficientnet-lite0; read --backbone inception-v3-fid at --layer \
             logits_unbiased"
        );
        assert!(named.require_possible(&[lite.clone(), logits]).is_ok(), "one layer has it");
        assert!(Selection::of(&["all"]).unwrap().require_possible(std::slice::from_ref(&lite)).is_ok());
        assert!(Selection::of(&["cmmd"]).unwrap().require_possible(&[lite]).is_err());
    }
}
