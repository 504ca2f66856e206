//! What keeps a column on its side.

use arrow::error::ArrowError;
use polars::error::PolarsError;

/// Why a frame has no batches, or batches no frame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The other side has no such type.
    #[error("column `{column}` is {data_type}, which {side} has not; {way_out}")]
    UnsupportedType {
        /// The column, or the part of one (`a.b`).
        column: String,
        /// The type, in the words of the library that has it.
        data_type: String,
        /// Who lacks it.
        side: &'static str,
        /// What to do.
        way_out: &'static str,
    },
    /// A value of a column does not fit the type that the other side has for it.
    #[error("column `{column}`: {error}")]
    Value {
        /// The column.
        column: String,
        /// What arrow says.
        error: ArrowError,
    },
    /// A record batch that cannot be.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// What polars says: of a lazy frame's plan, or of columns that make no frame.
    #[error(transparent)]
    Polars(#[from] PolarsError),
}

/// The result type of this crate.
pub(crate) type Result<T, E = FrameError> = std::result::Result<T, E>;
