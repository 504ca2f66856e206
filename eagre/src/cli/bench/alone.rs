//! Each query in a process of its own: what it costs does not go by what ran before it, whose memory the allocator and the system still have.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::figure::Figure;
use super::query::{Folder, Query};
use super::report::Refused;
use crate::error::{Error, Result};

/// What a process has measured of its query.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub figures: Vec<Figure>,
    pub refused: Vec<Refused>,
}

impl Outcome {
    /// Hands it over to the process that asked for it.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string(self).map_err(eagre_engine::EngineError::bug)?;
        std::fs::write(path, text).map_err(|error| Error::File { path: path.display().to_string(), error })
    }
}

/// Measures a query by this program, with the options that it was called with, in another process.
///
/// # Errors
/// The process cannot be started, or ends without an outcome.
pub(super) fn measure(query: &Query, folder: &Folder) -> Result<Outcome> {
    let program = PathBuf::from("/proc/self/exe");
    let program = if program.exists() { Ok(program) } else { std::env::current_exe() };
    let program = program.map_err(|error| Error::File { path: "this program".to_owned(), error })?;
    let path = folder.path(&format!("{}.json", query.name));
    let status = Command::new(&program)
        .args(std::env::args_os().skip(1))
        .args(["--queries", query.name, "--outcome"])
        .arg(&path)
        .status()
        .map_err(|error| Error::File { path: program.display().to_string(), error })?;
    let ended = || Error::usage(format!("the process that measures {} has ended: {status}", query.name));
    let text = std::fs::read_to_string(&path).map_err(|_| ended())?;
    serde_json::from_str(&text).map_err(|_| ended())
}
