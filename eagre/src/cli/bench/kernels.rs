//! `eagre bench kernels`: the kernels alone, on the device and on the CPU. All of it is the kernels' own.

use eagre_kernels::bench::BenchError;
use eagre_kernels::cli::KernelsArgs;

use crate::error::{Error, Result};

/// Measures.
pub(super) fn run(args: &KernelsArgs) -> Result<()> {
    match args.run(&mut std::io::stdout().lock()) {
        Ok(report) if report.is_right() => Ok(()),
        Ok(_) => Err(Error::usage("the device and the CPU do not agree: see the answers above")),
        Err(BenchError::Write { what, error }) => Err(Error::File { path: what, error }),
        Err(error) => Err(Error::command_line(error.to_string())),
    }
}
