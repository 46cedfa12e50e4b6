//! Features out of a file as a table.

use sha2::{Digest, Sha256};

use super::{Flags, Measurement, Row, Scores, Settings, Table, Writer};
use crate::Result;
use crate::set_metric::Features;

/// Keeps the hash of a feature apart from that of a picture.
const TAG: &[u8] = b"anomaly-score feature\0";

impl Table {
    /// A temporary table of features that were not measured here, taken to be made as `settings` say. Rows are named by `paths`,
    /// or by their number. Of pictures nothing is known: sizes are 0, and what stands for the hash of the content is that of
    /// the feature.
    ///
    /// # Errors
    /// `Format` if two paths are equal; `Io` if no temporary file can be written.
    pub fn of_features(features: Features, paths: Option<&[String]>, settings: Settings) -> Result<Table> {
        let digits = features.n().saturating_sub(1).to_string().len().max(6);
        let mut writer = Writer::create(None, settings, None)?;
        for (i, feature) in features.rows().enumerate() {
            let path = match paths.and_then(|paths| paths.get(i)) {
                Some(path) => path.clone(),
                None => format!("features[{i:0digits$}]"),
            };
            let mut hash = Sha256::new_with_prefix(TAG);
            feature.iter().for_each(|v| hash.update(v.to_le_bytes()));
            let scores = Scores {
                content_hash: hash.finalize().into(),
                width: 0,
                height: 0,
                complexity: None,
                vulnerability: None,
                anomaly_score_i: None,
                noise_floor: None,
                restart_spread: None,
                flags: Flags::default(),
            };
            writer.append(&Row { path, measurement: Measurement { scores, feature: feature.to_vec() } })?;
        }
        writer.finish()
    }
}
