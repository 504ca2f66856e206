//! `eagre train forecaster`: how the weights of the forecaster `conv` come about.
//!
//! The file that queries use is part of the repository, with the command that made it. Series are generated
//! ([`eagre_datasets::mixtures`]), so that whoever runs the command gets the same file.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use eagre_datasets::mixtures;
use eagre_models::forecaster::{
    CurvePoint, ForecasterSettings, Seasons, TrainingSeries, curve_csv, curve_svg, train_forecaster,
};

use crate::error::{Error, Result};

/// What to train.
#[derive(Debug, Subcommand)]
pub(super) enum TrainCommand {
    /// The network of `FORECAST(.., method => 'conv')`, on generated series.
    Forecaster(ForecasterArgs),
}

#[derive(Debug, Args)]
pub(super) struct ForecasterArgs {
    /// Where series and all chance come from: the same seed gives the same file.
    #[arg(long, default_value_t = ForecasterSettings::default().seed)]
    seed: u64,
    /// How many batches are learnt from.
    #[arg(long, default_value_t = ForecasterSettings::default().steps)]
    steps: usize,
    /// Windows in a batch.
    #[arg(long, default_value_t = ForecasterSettings::default().batch_windows)]
    batch: usize,
    /// Windows that are never learnt from, for the loss on them.
    #[arg(long, value_name = "WINDOWS", default_value_t = ForecasterSettings::default().held_out_windows)]
    held_out: usize,
    /// The weights, as safetensors.
    #[arg(long, value_name = "FILE", default_value = "forecaster.safetensors")]
    out: PathBuf,
    /// The loss curve, as numbers or a picture by the file's ending; may be repeated.
    #[arg(long, value_name = "FILE.csv|FILE.svg")]
    report: Vec<PathBuf>,
}

pub(super) fn run(command: &TrainCommand) -> Result<()> {
    let TrainCommand::Forecaster(args) = command;
    if args.steps == 0 || args.batch == 0 {
        return Err(Error::command_line("--steps and --batch are at least 1"));
    }
    if let Some(path) = args.report.iter().find(|path| !["csv", "svg"].contains(&ending(path))) {
        return Err(Error::command_line(format!("--report takes a .csv or .svg file, not `{}`", path.display())));
    }
    let settings = ForecasterSettings {
        seed: args.seed,
        steps: args.steps,
        batch_windows: args.batch,
        held_out_windows: args.held_out,
        ..ForecasterSettings::default()
    };
    let source = |number: u64, rows: usize| {
        let series = mixtures::series(args.seed, number, rows);
        let seasons = Seasons { season: series.season as usize, long: series.long_season as usize };
        TrainingSeries { values: series.values, seasons }
    };
    let mut told = |CurvePoint { step, steps, loss, held_out_loss }: CurvePoint| {
        // There is nowhere to report that standard error is closed.
        let _ = writeln!(
            std::io::stderr().lock(),
            "step {step:>6} of {steps}: loss {loss:.5}, held-out loss {held_out_loss:.5}"
        );
    };
    let trained = train_forecaster(&settings, &source, &mut told).map_err(|error| Error::usage(error.to_string()))?;
    write(&args.out, &trained.bytes)?;
    for path in &args.report {
        let title = format!("Forecaster: quantile loss, seed {}, {} steps of {}", args.seed, args.steps, args.batch);
        let text = match ending(path) {
            "csv" => curve_csv(&trained.curve),
            _ => curve_svg(&title, &trained.curve),
        };
        write(path, text.as_bytes())?;
    }
    Ok(())
}

fn ending(path: &Path) -> &str {
    path.extension().and_then(|ending| ending.to_str()).unwrap_or_default()
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(|error| Error::File { path: path.display().to_string(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(folder: &Path, reports: &[&str]) -> TrainCommand {
        TrainCommand::Forecaster(ForecasterArgs {
            seed: 3,
            steps: 2,
            batch: 4,
            held_out: 64,
            out: folder.join("out.safetensors"),
            report: reports.iter().map(|report| folder.join(report)).collect(),
        })
    }

    /// The command writes a file that the kernel reads, and the curve in both forms.
    #[test]
    fn a_forecaster_is_trained_and_its_curve_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        run(&args(folder.path(), &["curve.csv", "curve.svg"])).expect("it is trained");
        let read = |name: &str| std::fs::read(folder.path().join(name)).expect("it is written");
        eagre_kernels::conv_forecast::Weights::read(&read("out.safetensors")).expect("the kernel reads it");
        let csv = String::from_utf8(read("curve.csv")).expect("text");
        assert_eq!(csv.lines().next(), Some("step,loss,held_out_loss"));
        assert_eq!(csv.lines().count(), 4, "{csv}");
        assert!(read("curve.svg").starts_with(b"<svg "));
    }

    #[test]
    fn other_reports_are_refused() {
        let error = run(&args(Path::new("nowhere"), &["curve.png"])).expect_err("it is refused").to_string();
        assert_eq!(error, "--report takes a .csv or .svg file, not `nowhere/curve.png`");
    }
}
