//! `eagre gpu`: the devices of this machine.

use eagre_kernels::cli::GpuArgs;

use crate::error::{Error, Result};

/// Prints what there is.
pub(super) fn run(args: &GpuArgs) -> Result<()> {
    match args.run(&mut std::io::stdout().lock()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::usage("the adapter that was asked for is not there, or does not open")),
        Err(error) => Err(Error::File { path: "standard output".to_owned(), error }),
    }
}
