//! The command `eagre`.
//!
//! Exit codes: 0 done, 1 an error (one message on standard error; `--errors json` for programs), 2 a wrong command line, 130 stopped by
//! Ctrl-C before the end of input that has one, so that the results are those of a part of it.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::error::{Error, Result};

pub(crate) mod backtest;
mod bench;
mod checkpoint;
mod demo;
mod gpu;
mod output;
mod print;
mod progress;
mod replay;
mod run;
mod text;
mod train;

/// The exit code of a run that was stopped before its end.
const INTERRUPTED: u8 = 130;

/// Streaming SQL over real events: exact, replayable, unharmed by a crash.
#[derive(Debug, Parser)]
#[command(name = "eagre", version, about, max_term_width = 100)]
struct Cli {
    /// How errors are told on standard error.
    #[arg(long, global = true, value_enum, default_value_t = ErrorFormat::Text)]
    errors: ErrorFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ErrorFormat {
    /// A sentence.
    Text,
    /// One JSON object: code, message, line, column.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs all statements of a file, or those given with -e.
    ///
    /// Input that ends gives final results; input that does not gives the stream of changes until Ctrl-C, which writes a checkpoint
    /// (with --state) and stops. Ctrl-C before the end of input that ends gives the results so far, a note that says so, and exit
    /// code 130.
    Run(RunArgs),
    /// Plans all statements and runs nothing.
    Check(Statements),
    /// Lists, shows or drops checkpoints.
    #[command(subcommand)]
    Checkpoint(checkpoint::CheckpointCommand),
    /// Runs the steps of a state folder again: the same rows, bit for bit, as JSON lines on standard output.
    Replay(replay::ReplayArgs),
    /// Shows eagre on real data: taxi rides, machine temperatures and road traffic as one live stream.
    Demo(demo::DemoArgs),
    /// Shows adapters, limits, the self-test and what things cost on the best one: what may run on a GPU here, and why or why not.
    Gpu(eagre_kernels::cli::GpuArgs),
    /// Tries scoring and pattern queries on labelled history: precision, recall, alarms a day, delay.
    Backtest(backtest::BacktestArgs),
    /// Trains what comes with eagre.
    #[command(subcommand)]
    Train(train::TrainCommand),
    /// Measures throughput.
    #[command(subcommand)]
    Bench(bench::BenchCommand),
}

/// Where statements come from.
#[derive(Debug, Args)]
#[group(multiple = false, args = ["file", "execute"])]
struct Source {
    /// A file of statements; `-` reads them from standard input.
    file: Option<PathBuf>,
    /// Statements on the command line.
    #[arg(short, long, value_name = "SQL", allow_hyphen_values = true, value_parser = statements)]
    execute: Option<String>,
}

/// SQL may begin with a comment; what is one word of it is an option, before which the SQL was forgotten.
fn statements(text: &str) -> std::result::Result<String, String> {
    match text.starts_with('-') && !text.contains(char::is_whitespace) {
        true => Err("this is an option, and before it goes a text of SQL".to_owned()),
        false => Ok(text.to_owned()),
    }
}

#[derive(Debug, Args)]
struct Statements {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Settings, in order of precedence: `SET` in the text, `--set`, the environment, the configuration file, the default.
#[derive(Debug, Args, Default)]
struct SettingsArgs {
    /// A TOML file of settings: `[checkpoint] interval = "1s"`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, like `--set eagre.step.rows_max=1000`; may be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    statements: Statements,
    /// How results of a top-level SELECT are written to standard output.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// How many shards run the pipeline (default: one for each core).
    #[arg(long, value_name = "N")]
    shards: Option<u64>,
    /// A folder (or object store URL) for checkpoints: a killed pipeline goes on where its last checkpoint was.
    #[arg(long, value_name = "DIR")]
    state: Option<String>,
    /// Forgets the state and starts over.
    #[arg(long, requires = "state")]
    fresh: bool,
    /// Goes on with the views that the state folder holds; statements, if any are given, change them: what is not touched keeps its state.
    #[arg(long, requires = "state", conflicts_with = "fresh")]
    resume: bool,
    /// Where kernels run: on what measures faster, on the CPU, or on a GPU (a software one too).
    #[arg(long, value_name = "auto|cpu|gpu")]
    device: Option<String>,
    /// Writes metrics in Prometheus' text format to this file, every second and at the end.
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns.
    Table,
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object a line; every column, nulls included.
    Ndjson,
    /// An Arrow IPC stream.
    Arrow,
}

/// How a command ended that met no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// All was done.
    Done,
    /// Input that ends was not read to its end, because the user stopped it.
    Partial,
}

/// Runs the command line; what the binary calls.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are printed this way too, with exit code 0.
            if error.use_stderr() && wants_json(&args) {
                let text = error.render().to_string();
                report(ErrorFormat::Json, &Error::command_line(text.trim().trim_start_matches("error: ")));
            } else {
                let _ = error.print();
            }
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    let done = |done: Result<()>| done.map(|()| Outcome::Done);
    let ended = match cli.command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => done(run::check(args)),
        Command::Checkpoint(command) => done(checkpoint::run(command)),
        Command::Replay(args) => done(replay::run(args)),
        Command::Demo(args) => done(demo::run(args)),
        Command::Gpu(args) => done(gpu::run(&args)),
        Command::Backtest(args) => done(backtest::run(args)),
        Command::Train(command) => done(train::run(&command)),
        Command::Bench(command) => done(bench::run(command)),
    };
    match ended {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Partial) => ExitCode::from(INTERRUPTED),
        // Whoever read our output has gone (`eagre run .. | head`): nothing to say, and nobody to say it to.
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            report(cli.errors, &error);
            ExitCode::from(if matches!(error, Error::CommandLine { .. }) { 2 } else { 1 })
        }
    }
}

/// Whether the arguments ask for errors as JSON, also where they are wrong in another way.
fn wants_json(args: &[OsString]) -> bool {
    let is = |index: usize, text: &str| args.get(index).is_some_and(|arg| arg == text);
    (0..args.len()).any(|index| is(index, "--errors=json") || (is(index, "--errors") && is(index + 1, "json")))
}

fn report(format: ErrorFormat, error: &Error) {
    let mut stderr = std::io::stderr().lock();
    // There is nowhere to report that standard error is closed.
    let _ = match format {
        ErrorFormat::Text => writeln!(stderr, "error: {error}"),
        ErrorFormat::Json => {
            let location = error.location();
            let object = serde_json::json!({
                "code": error.code(),
                "message": error.to_string(),
                "line": location.map(|location| location.line),
                "column": location.map(|location| location.column),
            });
            writeln!(stderr, "{object}")
        }
    };
}

impl Source {
    fn is_given(&self) -> bool {
        self.file.is_some() || self.execute.is_some()
    }

    fn text(&self) -> Result<String> {
        if let Some(text) = &self.execute {
            return Ok(text.clone());
        }
        let path = self.file.as_deref().ok_or_else(|| {
            Error::command_line(
                "there are no statements; give a file of them (`-` is standard input), or -e \"SELECT ..\"",
            )
        })?;
        if path.as_os_str() == "-" {
            return std::io::read_to_string(std::io::stdin())
                .map(without_mark)
                .map_err(|error| Error::File { path: "standard input".to_owned(), error });
        }
        std::fs::read_to_string(path).map(without_mark).map_err(|error| {
            let path = path.display().to_string();
            match error.kind() == std::io::ErrorKind::NotFound && path.contains(char::is_whitespace) {
                true => Error::command_line(format!(
                    "there is no file `{path}`; statements are given with -e: `-e \"{path}\"`"
                )),
                false => Error::File { path, error },
            }
        })
    }
}

/// A text without the byte order mark that some editors put before it.
fn without_mark(text: String) -> String {
    text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)
}

impl SettingsArgs {
    fn settings(&self) -> Result<eagre_engine::settings::Settings> {
        let mut settings = crate::config::load(self.config.as_deref())?;
        for pair in &self.set {
            let (name, value) = pair.split_once('=').ok_or_else(|| {
                Error::command_line(format!("--set takes NAME=VALUE, not `{pair}`; SHOW SETTINGS lists the names"))
            })?;
            crate::config::set(&mut settings, name.trim(), value)
                .map_err(|error| Error::command_line(format!("--set: {error}")))?;
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::without_mark;

    #[test]
    fn a_byte_order_mark_is_no_text() {
        assert_eq!(without_mark("\u{feff}SELECT 1".to_owned()), "SELECT 1");
        assert_eq!(without_mark("SELECT '\u{feff}'".to_owned()), "SELECT '\u{feff}'");
    }
}
