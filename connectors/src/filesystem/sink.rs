//! Rows become files, each row once.
//!
//! A part closes when it is large or old enough and at every checkpoint: what a checkpoint covers must be durable, and only a closed
//! file is whole in every format (the price is that files are no larger than what comes between two checkpoints; a longer
//! `eagre.checkpoint.interval` makes larger files). A transaction lists all parts that are not known to be published, also those
//! of an earlier checkpoint whose manifest may have been lost, and the number of the next part; names follow from that number, so
//! publishing twice is publishing once.
//!
//! A pipeline that goes on from an older checkpoint (the newest was dropped, or is damaged) makes rows again that are published. Its
//! first transaction therefore says from which number on parts are of the lost checkpoints; they are removed when that transaction
//! is committed and not before: only then does the manifest say that this process, and no other on the same state, goes on.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::compute::{cast, partition, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use eagre_engine::EngineError;
use eagre_engine::delta::Delta;
use eagre_engine::sink::{Sink, SinkFactory};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::location::Root;
use super::source::check_type;
use super::staging::{PartOutput, StagedPart, Staging};
use crate::error::{ConnectorError, Result};
use crate::format::Format;
use crate::format::changelog::{ChangelogFormat, StepWords};
use crate::format::compression::{COMPRESSION_NAMES, Compression, Compressor};
use crate::format::encode::FileEncoder;
use crate::table::{Clock, Environment, TableDefinition};

/// What Hive calls the folder of null.
pub(crate) const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// So many parts are open at once; with more partitions, the oldest part is closed.
const OPEN_PARTS_MAX: usize = 64;

/// Opens the sink `filesystem`.
pub(crate) struct FilesystemSinkFactory {
    settings: Arc<Settings>,
}

struct Settings {
    table: String,
    root: Root,
    format: Format,
    compression: Compression,
    schema: SchemaRef,
    words: StepWords,
    /// Columns that go into the path, in the order of `PARTITIONED BY`.
    partition_columns: Vec<usize>,
    /// Columns that go into the files.
    file_columns: Vec<usize>,
    file_schema: SchemaRef,
    part_bytes: u64,
    part_age_ms: Option<i64>,
    /// `part-<pipeline>-<writer>-`.
    prefix: String,
    staging_folder: String,
    state_enabled: bool,
    clock: Clock,
}

/// Whether there is an INTERVAL in a type.
fn has_interval(data_type: &DataType) -> bool {
    match data_type {
        DataType::Interval(_) => true,
        DataType::List(element) | DataType::Map(element, _) => has_interval(element.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_interval(field.data_type())),
        _ => false,
    }
}

fn file_name_word(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '.' { c } else { '_' }).collect()
}

impl FilesystemSinkFactory {
    pub(crate) fn new(table: &TableDefinition, environment: &Environment) -> Result<Self> {
        let options = table.reader();
        let path = options.required("path", "the folder that is written to", "out")?;
        let root = Root::new(&table.name, path, environment)?;
        if path.contains(['*', '?']) {
            return Err(options.bad("path", "a pattern can be read and not written; name a folder"));
        }
        let format = Format::of_table(table, None, true)?;
        let words = StepWords::of_table(table)?;
        let compression =
            Compression::of_option(options.one_of("compression", COMPRESSION_NAMES)?).unwrap_or(Compression::None);
        if compression != Compression::None && !format.is_lines() {
            let own = if let Format::Parquet(_) = format { "; use 'parquet.compression'" } else { "" };
            return Err(
                options.bad("compression", format!("format `{}` is not compressed as a whole{own}", format.name()))
            );
        }
        let interval = table.schema.fields().iter().find(|field| has_interval(field.data_type()));
        if let (Format::Parquet(_), Some(field)) = (&format, interval) {
            return Err(table.schema_error(format!(
                "column `{}` is, or holds, an INTERVAL, which no Parquet file is written with; cast it to STRING, or \
                 write 'format' = 'arrow'",
                field.name()
            )));
        }
        if let Some((index, key)) = table.metadata_columns.first() {
            let column = table.schema.field(*index).name();
            return Err(table.schema_error(format!(
                "metadata column `{column}` (`{key}`) can be read and not written; leave it out"
            )));
        }
        let mut partition_columns = Vec::new();
        for name in &table.partitioned_by {
            match table.schema.index_of(name) {
                Ok(index) if table.schema.field(index).data_type().is_nested() => {
                    return Err(
                        table.schema_error(format!("PARTITIONED BY `{name}`: a nested column has no place in a path"))
                    );
                }
                Ok(index) => partition_columns.push(index),
                Err(_) => {
                    let names = table.schema.fields().iter().map(|field| field.name().as_str());
                    let near = crate::error::nearest(name, names);
                    return Err(table.schema_error(format!(
                        "PARTITIONED BY `{name}`: there is no such column; did you mean `{near}`?"
                    )));
                }
            }
        }
        let file_columns: Vec<usize> =
            (0..table.schema.fields().len()).filter(|index| !partition_columns.contains(index)).collect();
        if file_columns.is_empty() {
            return Err(
                table.schema_error("all columns are in PARTITIONED BY; at least one must be left for the files")
            );
        }
        for index in &file_columns {
            check_type(table, table.schema.field(*index), &format)?;
        }
        if matches!(format, Format::Raw) && file_columns.len() != 1 {
            return Err(
                table.schema_error(format!("format `raw` has one column; the table has {}", file_columns.len()))
            );
        }
        let fields: Vec<Field> = file_columns.iter().map(|index| table.schema.field(*index).clone()).collect();
        let (pipeline, writer) = (file_name_word(&environment.pipeline_id), file_name_word(&environment.writer_id));
        let interval = options.duration("sink.rolling-policy.rollover-interval")?;
        Ok(Self {
            settings: Arc::new(Settings {
                table: table.name.clone(),
                root,
                format,
                compression,
                schema: Arc::clone(&table.schema),
                words,
                partition_columns,
                file_columns,
                file_schema: Arc::new(Schema::new(fields)),
                part_bytes: options.size("sink.rolling-policy.file-size")?.unwrap_or(128 << 20).max(1),
                part_age_ms: Some(interval.map_or(30 * 60_000, |interval| interval.as_millis() as i64)),
                prefix: format!("part-{pipeline}-{writer}-"),
                staging_folder: format!(".eagre-staging-{pipeline}-{writer}"),
                state_enabled: environment.state_enabled,
                clock: Arc::clone(&environment.clock),
            }),
        })
    }
}

impl SinkFactory for FilesystemSinkFactory {
    fn describe(&self) -> String {
        format!("filesystem(path={}, format={})", self.settings.root.path(), self.settings.format.name())
    }

    fn accepts_retractions(&self) -> bool {
        matches!(self.settings.format, Format::Changelog(_))
    }

    fn replaces_by(&self) -> Option<&[usize]> {
        self.settings.words.replaces_by()
    }

    fn exactly_once(&self) -> bool {
        true
    }

    fn create(&self) -> eagre_engine::Result<Box<dyn Sink>> {
        let settings = Arc::clone(&self.settings);
        let staging = Staging::new(settings.root.clone(), settings.staging_folder.clone());
        Ok(Box::new(FilesystemSink {
            settings,
            staging,
            open: BTreeMap::new(),
            unpublished: Vec::new(),
            next_part: None,
            lost_from: None,
        }))
    }
}

/// The sink's part of a checkpoint's manifest.
#[derive(Debug, Serialize, Deserialize)]
struct Transaction {
    version: u32,
    /// Number of the next part.
    next_part: u64,
    /// Parts from this number on that are published and not listed are of checkpoints that are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lost_from: Option<u64>,
    /// As what the files are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    format: Option<String>,
    parts: Vec<StagedPart>,
}

const TRANSACTION_VERSION: u32 = 1;

struct OpenPart {
    part: StagedPart,
    encoder: FileEncoder<Compressor<PartOutput>>,
    opened_ms: i64,
}

/// Rows of a batch that go to one folder.
enum FolderRows {
    /// One behind the other.
    Run(Range<usize>),
    Some(UInt32Array),
}

struct FilesystemSink {
    settings: Arc<Settings>,
    staging: Staging,
    /// By folder.
    open: BTreeMap<String, OpenPart>,
    /// Closed, and not known to be published.
    unpublished: Vec<StagedPart>,
    /// `None`: not known yet.
    next_part: Option<u64>,
    /// See [`Transaction::lost_from`]; `None`: nothing of the kind is left.
    lost_from: Option<u64>,
}

impl FilesystemSink {
    fn fail(&self, message: impl Into<String>) -> EngineError {
        EngineError::Sink { table: self.settings.table.clone(), message: message.into() }
    }

    /// The number in the name of a part of this pipeline and writer.
    fn number_of(&self, name: &str) -> Option<u64> {
        name.strip_prefix(self.settings.prefix.as_str())?.split('.').next()?.parse().ok()
    }

    /// The number behind all parts that an earlier run of this pipeline has published.
    fn behind_published(&self) -> Result<u64> {
        let published = self.staging.published()?;
        Ok(published.iter().filter_map(|name| self.number_of(name)).max().map_or(0, |last| last + 1))
    }

    /// Takes the number of the next part.
    fn next_part(&mut self) -> Result<u64> {
        let next = match self.next_part {
            Some(next) => next,
            None => self.behind_published()?,
        };
        self.next_part = Some(next + 1);
        Ok(next)
    }

    /// Shows the parts of a transaction, and removes what checkpoints that are gone have shown in their place.
    fn publish(&self, transaction: &Transaction) -> Result<()> {
        if let Some(lost_from) = transaction.lost_from {
            let lost = |name: &str| self.number_of(name).is_some_and(|number| number >= lost_from);
            self.staging.remove_published(&transaction.parts, lost)?;
        }
        self.staging.publish(&transaction.parts)
    }

    fn open_part(&mut self, folder: &str) -> Result<()> {
        if self.open.len() >= OPEN_PARTS_MAX {
            let oldest = self.open.iter().min_by_key(|(_, part)| part.opened_ms).map(|(folder, _)| folder.clone());
            if let Some(oldest) = oldest {
                self.close_part(&oldest)?;
            }
        }
        let number = self.next_part()?;
        let settings = &self.settings;
        let (ending, suffix) = (settings.format.ending(), settings.compression.suffix());
        let staged = format!("{}{number:06}.{ending}{suffix}", settings.prefix);
        let file = format!("{folder}{staged}");
        let output = self.staging.create(&staged)?;
        let encoder = Compressor::new(settings.compression, output)
            .and_then(|output| FileEncoder::new(&settings.format, &settings.file_schema, output))
            .map_err(|error| self.staging.part_error("write", &staged, &error))?;
        let opened_ms = (settings.clock)();
        self.open.insert(folder.to_owned(), OpenPart { part: StagedPart { staged, file }, encoder, opened_ms });
        Ok(())
    }

    fn close_part(&mut self, folder: &str) -> Result<()> {
        if let Some(OpenPart { part, encoder, .. }) = self.open.remove(folder) {
            encoder
                .finish()
                .and_then(Compressor::finish)
                .and_then(PartOutput::finish)
                .map_err(|error| self.staging.part_error("write", &part.staged, &error))?;
            self.unpublished.push(part);
        }
        Ok(())
    }

    fn close_all(&mut self) -> Result<()> {
        while let Some(folder) = self.open.keys().next().cloned() {
            self.close_part(&folder)?;
        }
        self.staging.sync()
    }

    fn write_rows(
        &mut self,
        folder: &str,
        write: impl FnOnce(&mut FileEncoder<Compressor<PartOutput>>) -> std::io::Result<()>,
    ) -> Result<()> {
        if !self.open.contains_key(folder) {
            self.open_part(folder)?;
        }
        let Some(open) = self.open.get_mut(folder) else {
            return Ok(());
        };
        let staging = &self.staging;
        write(&mut open.encoder).map_err(|error| staging.part_error("write", &open.part.staged, &error))?;
        let bytes = open.encoder.output().get_ref().written() + open.encoder.buffered_bytes();
        if bytes >= self.settings.part_bytes {
            self.close_part(folder)?;
        }
        Ok(())
    }

    /// Closes parts that have been open for too long.
    fn close_old(&mut self) -> Result<()> {
        let Some(age_max) = self.settings.part_age_ms else {
            return Ok(());
        };
        let now = (self.settings.clock)();
        let old = |(folder, part): (&String, &OpenPart)| (now - part.opened_ms >= age_max).then(|| folder.clone());
        let folders: Vec<String> = self.open.iter().filter_map(old).collect();
        folders.iter().try_for_each(|folder| self.close_part(folder))
    }

    /// The columns that go into files.
    fn file_rows(&self, batch: &RecordBatch) -> eagre_engine::Result<RecordBatch> {
        let columns = self.settings.file_columns.iter().map(|index| Arc::clone(batch.column(*index))).collect();
        Ok(RecordBatch::try_new(Arc::clone(&self.settings.file_schema), columns)?)
    }

    /// The rows of each folder. Rows one behind the other that have equal values are taken together: folders often follow time.
    fn folders(&self, batch: &RecordBatch) -> eagre_engine::Result<Vec<(String, FolderRows)>> {
        if self.settings.partition_columns.is_empty() {
            return Ok(vec![(String::new(), FolderRows::Run(0..batch.num_rows()))]);
        }
        let mut columns = Vec::new();
        for &index in &self.settings.partition_columns {
            columns.push(match batch.column(index).data_type() {
                DataType::Binary => cast(batch.column(index), &DataType::Utf8)?,
                _ => Arc::clone(batch.column(index)),
            });
        }
        let options = FormatOptions::default()
            .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
            .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f%:z"));
        let mut values = Vec::new();
        for (&index, column) in self.settings.partition_columns.iter().zip(&columns) {
            let name = percent_encode(self.settings.schema.field(index).name());
            values.push((name, column, ArrayFormatter::try_new(column, &options)?));
        }
        let runs = match partition(&columns) {
            Ok(runs) => runs.ranges(),
            // Values that cannot be compared.
            Err(_) => (0..batch.num_rows()).map(|row| row..row + 1).collect(),
        };
        let mut folders: BTreeMap<String, Vec<Range<usize>>> = BTreeMap::new();
        for run in runs {
            let mut folder = String::new();
            for (name, column, formatter) in &values {
                folder.push_str(name);
                folder.push('=');
                match column.is_null(run.start) {
                    true => folder.push_str(NULL_PARTITION),
                    false => folder.push_str(&percent_encode(&formatter.value(run.start).to_string())),
                }
                folder.push('/');
            }
            folders.entry(folder).or_default().push(run);
        }
        let rows_of = |runs: Vec<Range<usize>>| match runs.as_slice() {
            [run] => FolderRows::Run(run.clone()),
            _ => FolderRows::Some(runs.into_iter().flatten().map(|row| row as u32).collect::<Vec<_>>().into()),
        };
        Ok(folders.into_iter().map(|(folder, runs)| (folder, rows_of(runs))).collect())
    }

    fn write_inserts(&mut self, deltas: &[Delta]) -> eagre_engine::Result<()> {
        for delta in deltas {
            let batch = self.expand(delta)?;
            if batch.num_rows() == 0 {
                continue;
            }
            for (folder, rows) in self.folders(&batch)? {
                let rows = match rows {
                    FolderRows::Run(run) => batch.slice(run.start, run.len()),
                    FolderRows::Some(rows) => take_record_batch(&batch, &rows)?,
                };
                let rows = self.file_rows(&rows)?;
                self.write_rows(&folder, |encoder| encoder.write(&rows)).map_err(ConnectorError::into_sink_error)?;
            }
        }
        Ok(())
    }

    /// The changes of a step, folder by folder: a row that moves to another folder goes here and comes there.
    fn write_changes(&mut self, deltas: &[Delta], format: &ChangelogFormat) -> eagre_engine::Result<()> {
        let mut by_folder: BTreeMap<String, Vec<Delta>> = BTreeMap::new();
        for delta in deltas {
            for (folder, rows) in self.folders(&delta.batch)? {
                let delta = match rows {
                    FolderRows::Run(run) => delta.slice(run.start, run.len()),
                    FolderRows::Some(rows) => delta.take(&rows)?,
                };
                by_folder.entry(folder).or_default().push(delta);
            }
        }
        for (folder, deltas) in by_folder {
            let mut changes = self.settings.words.changes(&deltas)?;
            if changes.is_empty() {
                continue;
            }
            changes.rows = self.file_rows(&changes.rows)?;
            self.write_rows(&folder, |encoder| encoder.write_changes(format, &changes))
                .map_err(ConnectorError::into_sink_error)?;
        }
        Ok(())
    }

    /// Rows as often as their weights say.
    fn expand(&self, delta: &Delta) -> eagre_engine::Result<RecordBatch> {
        let Some(weights) = &delta.weights else {
            return Ok(delta.batch.clone());
        };
        if weights.values().iter().all(|weight| *weight == 1) {
            return Ok(delta.batch.clone());
        }
        let mut indices = Vec::new();
        for (row, &weight) in weights.values().iter().enumerate() {
            if weight < 0 {
                return Err(self.fail(
                    "a row is taken back, and a file only grows; make the query append-only (`EMIT ON WINDOW CLOSE`, a watermark), \
                     write it with 'format' = 'changelog-json', or to a sink that takes changes, such as `print`",
                ));
            }
            indices.extend(std::iter::repeat_n(row as u32, usize::try_from(weight).unwrap_or_default()));
        }
        Ok(take_record_batch(&delta.batch, &UInt32Array::from(indices))?)
    }

    fn transaction(&self, value: &Value) -> eagre_engine::Result<Transaction> {
        let read = |error: serde_json::Error| EngineError::Checkpoint {
            message: format!("sink `{}`: its transaction cannot be read: {error}", self.settings.table),
        };
        let transaction: Transaction = serde_json::from_value(value.clone()).map_err(read)?;
        if transaction.version != TRANSACTION_VERSION {
            let (table, version) = (&self.settings.table, transaction.version);
            return Err(EngineError::Checkpoint {
                message: format!(
                    "sink `{table}`: its transaction has version {version}, and this eagre reads {TRANSACTION_VERSION}"
                ),
            });
        }
        let now = self.settings.format.name();
        if let Some(before) = transaction.format.as_deref().filter(|before| *before != now) {
            return Err(EngineError::Checkpoint {
                message: format!(
                    "sink `{0}` wrote its files as `{before}` so far, and 'format' is `{now}` now: {1} would hold both; change it \
                     back, or start over with --fresh and another 'path'",
                    self.settings.table,
                    self.settings.root.path(),
                ),
            });
        }
        Ok(transaction)
    }
}

/// A value in a folder's name: what has a meaning in paths is written as `%` and two digits, as Hive does.
fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control()
            || matches!(
                c,
                '/' | '\\'
                    | '%'
                    | '='
                    | ':'
                    | '*'
                    | '?'
                    | '"'
                    | '\''
                    | '#'
                    | '<'
                    | '>'
                    | '|'
                    | '{'
                    | '}'
                    | '['
                    | ']'
                    | '^'
            )
        {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        } else {
            out.push(c);
        }
    }
    // A folder `.` or `..` would leave its place; an empty name is none.
    match out.as_str() {
        "" => NULL_PARTITION.to_owned(),
        _ => out,
    }
}

impl Sink for FilesystemSink {
    fn write(&mut self, _step: u64, deltas: &[Delta]) -> eagre_engine::Result<()> {
        self.close_old().map_err(ConnectorError::into_sink_error)?;
        let settings = Arc::clone(&self.settings);
        match &settings.format {
            Format::Changelog(format) => self.write_changes(deltas, format),
            _ => self.write_inserts(deltas),
        }
    }

    fn prepare(&mut self, _step: u64) -> eagre_engine::Result<Option<Value>> {
        self.close_all().map_err(ConnectorError::into_sink_error)?;
        let Some(next_part) = self.next_part else {
            return Ok(None);
        };
        let (lost_from, parts) = (self.lost_from, self.unpublished.clone());
        let format = Some(self.settings.format.name().to_owned());
        let transaction = Transaction { version: TRANSACTION_VERSION, next_part, lost_from, format, parts };
        serde_json::to_value(transaction).map(Some).map_err(EngineError::bug)
    }

    fn commit(&mut self, transaction: &Value) -> eagre_engine::Result<()> {
        let transaction = self.transaction(transaction)?;
        self.publish(&transaction).map_err(ConnectorError::into_sink_error)?;
        self.lost_from = None;
        self.unpublished.retain(|part| !transaction.parts.contains(part));
        Ok(())
    }

    fn recover(&mut self, transaction: Option<&Value>) -> eagre_engine::Result<()> {
        let transaction = transaction.map(|value| self.transaction(value)).transpose()?;
        let recovered = match &transaction {
            Some(transaction) => self.publish(transaction).map(|()| transaction.next_part),
            // Without a checkpoint what is there is of a run that was forgotten (`--fresh`), and stays.
            None => self.behind_published(),
        };
        let next_part = recovered.map_err(ConnectorError::into_sink_error)?;
        self.staging.retain(&[]).map_err(ConnectorError::into_sink_error)?;
        self.next_part = Some(next_part);
        self.lost_from = transaction.map(|_| next_part);
        Ok(())
    }

    fn publish_ended(&mut self, transaction: Option<&Value>) -> eagre_engine::Result<()> {
        let Some(transaction) = transaction else { return Ok(()) };
        let transaction = self.transaction(transaction)?;
        self.staging.publish_left(&transaction.parts).map_err(ConnectorError::into_sink_error)
    }

    fn finish(&mut self) -> eagre_engine::Result<()> {
        if self.settings.state_enabled {
            // What a checkpoint covers is published; anything after it will be made again.
            self.open.clear();
        } else {
            self.close_all().map_err(ConnectorError::into_sink_error)?;
            self.staging.publish(&self.unpublished).map_err(ConnectorError::into_sink_error)?;
            self.unpublished.clear();
        }
        self.staging.remove_folder();
        Ok(())
    }
}
