//! `eagre-kernels`: the benchmark of the kernels alone, small enough to be carried to any machine with a GPU.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use eagre_kernels::bench::cli::{KernelsArgs, command};
use eagre_kernels::bench::{self, BenchError};

// As in `eagre` itself, so that what is measured here is what is had there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The kernels of eagre: what they reach on this machine, and what is known of its adapters.
#[derive(Debug, Parser)]
#[command(name = "eagre-kernels", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures each kernel on the device and on the CPU, and compares the answers.
    Bench(KernelsArgs),
}

fn main() -> ExitCode {
    let Command::Bench(args) = Cli::parse().command;
    let run = args
        .options()
        .map_err(BenchError::from)
        .and_then(|options| bench::run(&options, command(std::env::args_os()), &mut std::io::stdout().lock()));
    match run {
        Ok(report) if report.is_right() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere to report that standard error is closed.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(if matches!(error, BenchError::Options(_)) { 2 } else { 1 })
        }
    }
}
