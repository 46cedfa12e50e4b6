//! The program under test, for all tests of the command line.

use std::process::Command;

use tempfile::TempDir;

/// With caches of its own in `home`, and no instructions forced: whoever runs the tests may have weights of their own, and a
/// network.
pub(crate) fn program(home: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anomaly-score"));
    command.env("ANOMALY_SCORE_CACHE", home.path().join("cache"));
    command.env_remove("ANOMALY_SCORE_ISA");
    command.env("HF_HUB_CACHE", home.path().join("hub")).env("HF_HUB_OFFLINE", "1");
    command
}

/// What it wrote.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
