//! Connectors: bytes outside become batches inside, and the other way round.
//!
//! A connector is a system (`filesystem`, `stdin`, `datagen`, ..) and a format is how rows are written there (`json`, `csv`,
//! `parquet`, `arrow`, `raw`, and for changes `changelog-json` and `debezium-json`). Both are chosen by the options of a table. [`source`] and [`sink`] open them as the traits of
//! `eagre-engine`; [`connectors()`] and [`formats()`] describe them to users; [`ObjectCheckpointStore`] keeps checkpoints in the same
//! places that tables are read from.
//!
//! What this room lacks is its design: it knows no SQL and plans nothing; it reads no environment variables and starts no runtime, all
//! of that comes in by an [`Environment`]. One bad row is data and not a failure: it comes out as a
//! [`BadRow`](eagre_engine::source::BadRow) with its place, its bytes and a reason that names column and value.

mod error;
mod filesystem;
mod format;
mod generate;
mod options;
mod registry;
mod stdio;
mod store;
mod table;

use std::sync::Arc;

use eagre_engine::sink::SinkFactory;
use eagre_engine::source::Source;

pub use error::{ConnectorError, Result};
pub use format::changelog::ChangelogMode;
pub use format::encode::json_encoder;
pub use options::{TableOptions, parse_duration, parse_size};
pub use registry::{ConnectorInfo, FormatInfo, OptionInfo, common_options, connectors, formats};
pub use store::ObjectCheckpointStore;
pub use table::{Clock, Environment, InferredTable, InputFactory, OutputFactory, TableDefinition};

use options::OptionReader;

fn check(table: &TableDefinition) -> Result<&'static ConnectorInfo> {
    let columns: Vec<&str> = table.schema.fields().iter().map(|field| field.name().as_str()).collect();
    registry::check_options(&table.name, &table.options, &columns)
}

/// Checks a table's options without opening anything: for `CREATE TABLE`.
///
/// # Errors
/// The connector or an option is not known, or `'changelog.mode'` asks for a key that the table does not have.
pub fn check_table(table: &TableDefinition) -> Result<()> {
    check(table)?;
    changelog_mode(table).map(drop)
}

/// Opens a table for reading.
///
/// # Errors
/// An option is unknown, missing or has a value that it cannot have; the connector cannot be read; a column has a type or a metadata
/// key that the connector does not have.
pub fn source(table: &TableDefinition, environment: &Environment) -> Result<Arc<dyn Source>> {
    let connector = check(table)?;
    if changelog_mode(table)? == Some(ChangelogMode::Retract) && connector.formats.is_empty() {
        return Err(table.reader().bad("changelog.mode", format!("connector `{}` takes no row back", connector.name)));
    }
    match connector.name {
        "filesystem" => Ok(Arc::new(filesystem::source::FilesystemSource::new(table, environment)?)),
        "stdin" => Ok(Arc::new(stdio::StdinSource::new(table, environment)?)),
        "datagen" => Ok(Arc::new(generate::datagen::DatagenSource::new(table, environment)?)),
        name => match eagre_datasets::catalog().iter().find(|dataset| dataset.name == name) {
            Some(dataset) => Ok(Arc::new(generate::dataset::DatasetSource::new(dataset, table)?)),
            None => Err(table.unsupported(format!(
                "connector `{name}` can be written and not read; the connectors that can be read are {}",
                names(|connector| connector.is_source)
            ))),
        },
    }
}

/// How rows of a table that is read are taken back; `None`: they are only inserted.
///
/// # Errors
/// `'changelog.mode'` has a value that it cannot have, or replaces rows by a key that the table does not have.
pub fn changelog_mode(table: &TableDefinition) -> Result<Option<ChangelogMode>> {
    format::changelog::check_key(table)?;
    let options = table.reader();
    let mode = format::changelog::mode_of(&options)?;
    let by_format = options.text("format").is_some_and(format::is_changelog).then_some(ChangelogMode::Retract);
    Ok(mode.or(by_format))
}

/// Opens a table for writing.
///
/// # Errors
/// As [`source`].
pub fn sink(table: &TableDefinition, environment: &Environment) -> Result<Arc<dyn SinkFactory>> {
    let connector = check(table)?;
    match connector.name {
        "filesystem" => Ok(Arc::new(filesystem::sink::FilesystemSinkFactory::new(table, environment)?)),
        "stdout" => Ok(Arc::new(stdio::StdoutSinkFactory::stdout(table, environment)?)),
        "print" => Ok(Arc::new(stdio::StdoutSinkFactory::print(table, environment)?)),
        "blackhole" => Ok(Arc::new(stdio::BlackholeSinkFactory)),
        name => Err(table.unsupported(format!(
            "connector `{name}` can be read and not written; the connectors that can be written are {}",
            names(|connector| connector.is_sink)
        ))),
    }
}

fn names(wanted: impl Fn(&ConnectorInfo) -> bool) -> String {
    let names: Vec<&str> =
        connectors().iter().filter(|connector| wanted(connector)).map(|connector| connector.name).collect();
    names.join(", ")
}

/// The columns of a table that is created without: those of its first file and of the folders on the way there, or of the generated
/// table.
///
/// # Errors
/// As [`source`]; or there is no file, or nothing in it to tell columns from.
pub fn infer_schema(table: &str, options: &TableOptions, environment: &Environment) -> Result<InferredTable> {
    let connector = registry::check_options(table, options, &[])?;
    let reader = OptionReader::new(table, options);
    let unknown = |message: String| ConnectorError::Schema { table: table.to_owned(), message };
    match connector.name {
        "filesystem" => filesystem::columns::infer_files(table, &reader, environment),
        name => match eagre_datasets::catalog().iter().find(|dataset| dataset.name == name) {
            Some(dataset) => {
                let schema = generate::dataset::DatasetSource::infer(dataset, table, options.get("table"));
                schema.map(|schema| InferredTable { schema, partitioned_by: Vec::new() }).map_err(unknown)
            }
            None => Err(unknown(format!(
                "connector `{name}` does not know the columns; name them in `CREATE TABLE {table} (..)`"
            ))),
        },
    }
}
