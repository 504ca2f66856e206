//! Lines on the standard streams. The macros of the standard library panic when the other end is closed (`eagre .. | head`); here that
//! is an error like any other, and of standard error nobody need be told.

use std::fmt::Arguments;
use std::io::Write as _;

use crate::error::{Error, Result};

/// A line on standard output.
pub(super) fn print(line: Arguments<'_>) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{line}")
        .map_err(|error| Error::File { path: "standard output".to_owned(), error })
}

/// A line on standard error.
pub(super) fn note(line: Arguments<'_>) {
    // There is nowhere to report that standard error is closed.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
