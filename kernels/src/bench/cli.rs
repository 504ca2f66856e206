//! The command line of `bench kernels`, the same in `eagre` and in the small binary.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::options::{Options, OptionsError, parse_rows, parse_seconds, parse_sides};

/// Options of `bench kernels`.
#[derive(Debug, Args)]
pub struct KernelsArgs {
    /// What is measured, separated by commas: `cpu` (the twins), `gpu` (the device). Both where this build has both.
    #[arg(long, value_name = "cpu,gpu")]
    device: Option<String>,
    /// Which kernels, separated by commas: a kernel's name for all its workloads, or one of them, like `half_space_forest/100x12`.
    #[arg(long, value_name = "NAMES", default_value = "all")]
    kernels: Vec<String>,
    /// Batch sizes: a list (`1k,64k,1M`), or a range of which each is four times the one before.
    #[arg(long, default_value = "1k..16M")]
    rows: String,
    /// Takes the adapter with this in its name, a software one too.
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// Lets shaders check their indices, as they do in tests.
    #[arg(long)]
    checked: bool,
    /// Seed of the input.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// How long each figure is measured for.
    #[arg(long, default_value = "0.5", value_name = "SECONDS")]
    seconds: String,
    /// Batches that would take longer than this are left out.
    #[arg(long, default_value = "10", value_name = "SECONDS")]
    batch_seconds: String,
    /// Writes the figures to this file, as its name ends: .json, .md or .html; may be repeated.
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
}

impl KernelsArgs {
    /// The options they mean.
    ///
    /// # Errors
    /// What cannot be measured, with what can.
    pub fn options(&self) -> Result<Options, OptionsError> {
        let defaults = Options::default();
        Ok(Options {
            sides: self.device.as_deref().map_or(Ok(defaults.sides), parse_sides)?,
            kernels: self.kernels.clone(),
            rows: parse_rows(&self.rows)?,
            adapter: self.adapter.clone(),
            checked_shaders: self.checked,
            seed: self.seed,
            duration: parse_seconds(&self.seconds)?,
            batch_duration_max: parse_seconds(&self.batch_seconds)?,
            reports: self.report.clone(),
        })
    }
}

/// The command as it was given, for the report.
pub fn command(args: impl IntoIterator<Item = OsString>) -> String {
    let quoted = |arg: OsString| {
        let text = arg.to_string_lossy().into_owned();
        let plain = !text.is_empty()
            && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_./,:=+@%".contains(letter));
        if plain { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
    };
    let mut args = args.into_iter();
    let program =
        args.next().map(PathBuf::from).and_then(|path| path.file_name().map(ToOwned::to_owned)).unwrap_or_default();
    std::iter::once(program).chain(args).map(quoted).collect::<Vec<_>>().join(" ")
}
