//! `eagre-kernels`: the benchmark of the kernels alone, small enough to be carried to any machine with a GPU.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use eagre_kernels::bench::BenchError;
use eagre_kernels::cli::{GpuArgs, KernelsArgs};

// As in `eagre` itself, so that what is measured here is what is had there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The kernels of eagre: what they reach on this machine, and what its adapters are fit for.
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
    /// Shows adapters, limits, the self-test and what things cost on the best one.
    Gpu(GpuArgs),
}

fn main() -> ExitCode {
    let out = &mut std::io::stdout().lock();
    let printed = |error| BenchError::Write { what: "standard output".to_owned(), error };
    let right = match Cli::parse().command {
        Command::Bench(args) => args.run(out).map(|report| report.is_right()),
        Command::Gpu(args) => args.run(out).map_err(printed),
    };
    match right {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere to report that standard error is closed.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(if matches!(error, BenchError::Options(_)) { 2 } else { 1 })
        }
    }
}
