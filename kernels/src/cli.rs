//! The command lines of `bench kernels` and `gpu`, the same in `eagre` and in the small binary.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::bench::{self, BenchError, Options, OptionsError, Report, parse_rows, parse_seconds, parse_sides};

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
    /// Measures, prints and writes the reports.
    ///
    /// # Errors
    /// Wrong options before anything runs; output that cannot be written.
    pub fn run(&self, out: &mut dyn Write) -> Result<Report, BenchError> {
        bench::run(&self.options()?, command(std::env::args_os()), out)
    }

    /// The options they mean.
    ///
    /// # Errors
    /// What cannot be measured, with what can.
    fn options(&self) -> Result<Options, OptionsError> {
        let defaults = Options::default();
        Ok(Options {
            sides: self.device.as_deref().map_or(Ok(defaults.sides), parse_sides)?,
            kernels: self.kernels.clone(),
            rows: parse_rows(&self.rows)?,
            adapter: self.adapter.clone(),
            checked_shaders: self.checked,
            seed: self.seed,
            duration: parse_seconds("--seconds", &self.seconds)?,
            batch_duration_max: parse_seconds("--batch-seconds", &self.batch_seconds)?,
            reports: self.report.clone(),
        })
    }
}

/// The command as it was given, for the report.
fn command(args: impl IntoIterator<Item = OsString>) -> String {
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

/// Options of `gpu`.
#[derive(Debug, Args)]
pub struct GpuArgs {
    /// Looks at the adapter with this in its name.
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// Where calibrations are kept [default: eagre/calibration.json among the user's caches].
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// Measures again what is kept.
    #[arg(long)]
    fresh: bool,
    /// About how long measuring may take; kernels that it does not come to are measured next time.
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = |text: &str| parse_seconds("--seconds", text))]
    seconds: std::time::Duration,
    /// One JSON object, for programs.
    #[arg(long)]
    json: bool,
}

impl GpuArgs {
    /// Looks at the adapters and prints what was found. False when the one that was asked for is not there.
    ///
    /// # Errors
    /// Output that cannot be written.
    #[cfg(feature = "gpu")]
    pub fn run(&self, out: &mut dyn Write) -> Result<bool, std::io::Error> {
        use crate::inspect::{InspectOptions, inspect};
        let found = inspect(&InspectOptions {
            adapter: self.adapter.clone(),
            calibration_file: self.calibration.clone().or_else(default_calibration_file),
            fresh: self.fresh,
            budget: self.seconds,
        });
        match self.json {
            true => writeln!(out, "{}", serde_json::to_string_pretty(&found)?)?,
            false => write!(out, "{found}")?,
        }
        Ok(self.adapter.is_none() || found.opened.is_some())
    }

    /// Says that this build has no device.
    ///
    /// # Errors
    /// Output that cannot be written.
    #[cfg(not(feature = "gpu"))]
    pub fn run(&self, out: &mut dyn Write) -> Result<bool, std::io::Error> {
        let _ = (&self.adapter, &self.calibration, self.fresh, self.seconds);
        match self.json {
            true => writeln!(out, "{{\"adapters\": []}}")?,
            false => {
                writeln!(out, "this build has no feature `gpu`: all kernels run on the CPU, with the same answers")?
            }
        }
        Ok(self.adapter.is_none())
    }
}

/// `eagre/calibration.json` in the folder of the user's caches, which is made if it is not there; none where there is no such folder.
#[cfg(feature = "gpu")]
pub fn default_calibration_file() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let caches = variable("XDG_CACHE_HOME")
        .or_else(|| variable("LOCALAPPDATA"))
        .or_else(|| Some(variable("HOME")?.join(".cache")))?;
    let folder = caches.join("eagre");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("calibration.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The command of a report is pasted into a shell.
    #[test]
    fn the_command_can_be_pasted() {
        let args = ["/usr/bin/eagre", "bench", "kernels", "--rows", "1k..16M", "--report", "a b.html", "it's", ""];
        let expected = r"eagre bench kernels --rows 1k..16M --report 'a b.html' 'it'\''s' ''";
        assert_eq!(command(args.map(OsString::from)), expected);
    }
}
