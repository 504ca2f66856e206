//! What can be wrong with a request for generated data.
//!
//! Making events cannot fail: all errors come from names and settings that a user wrote, or from a caller's projection.

use arrow::error::ArrowError;

/// The result of this crate's functions.
pub type Result<T, E = DatasetError> = std::result::Result<T, E>;

/// Why a dataset cannot be opened or a batch cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The query names a dataset that is not in the catalog.
    #[error("there is no dataset `{dataset}`; did you mean `{nearest}`? The datasets are: {known}")]
    UnknownDataset {
        /// The name that was asked for.
        dataset: String,
        /// The name in the catalog that is spelt most alike.
        nearest: String,
        /// All names, with commas.
        known: String,
    },
    /// The query names a table that the dataset does not have.
    #[error("dataset `{dataset}` has no table `{table}`; did you mean `{nearest}`? Its tables are: {known}")]
    UnknownTable {
        /// The dataset.
        dataset: &'static str,
        /// The name that was asked for.
        table: String,
        /// The table that is spelt most alike.
        nearest: String,
        /// All its tables, with commas.
        known: String,
    },
    /// The query sets an option that the dataset does not have.
    #[error("dataset `{dataset}`: option `{option}` is not known; did you mean `{nearest}`? Its options are: {known}")]
    UnknownOption {
        /// The dataset.
        dataset: &'static str,
        /// The option that was set.
        option: String,
        /// The option that is spelt most alike.
        nearest: String,
        /// All its options, with commas.
        known: String,
    },
    /// The query gives one option twice, under two spellings.
    #[error("dataset `{dataset}`: `{option}` sets `{meaning}` a second time; keep one of them")]
    RepeatedOption {
        /// The dataset.
        dataset: &'static str,
        /// The second spelling.
        option: String,
        /// The option that it stands for.
        meaning: String,
    },
    /// The value of an option has the wrong type.
    #[error("dataset `{dataset}`: option `{option}` = {value} cannot be read: {reason}; its default is {default}")]
    UnreadableOption {
        /// The dataset.
        dataset: &'static str,
        /// The option.
        option: String,
        /// The value as it was given.
        value: String,
        /// What was expected.
        reason: String,
        /// The default value, as an example of the type.
        default: String,
    },
    /// The value of an option is of the right type but outside its range.
    #[error("dataset `{dataset}`: option `{option}` = {value} is out of range; {way_out}")]
    OptionOutOfRange {
        /// The dataset.
        dataset: &'static str,
        /// The option.
        option: &'static str,
        /// The value as it was given.
        value: String,
        /// What values work.
        way_out: String,
    },
    /// A projection names a column that the table does not have.
    #[error(
        "column index {index} is not in the projected table, whose {column_count} columns count from 0; its columns are: {known}"
    )]
    UnknownColumn {
        /// The index in the projection.
        index: usize,
        /// How many columns the table has.
        column_count: usize,
        /// All columns, with commas.
        known: String,
    },
    /// Arrow refused the columns: a bug in this crate.
    #[error("Arrow refused a generated batch, which is a bug in eagre-datasets: {0}")]
    Arrow(#[from] ArrowError),
}
