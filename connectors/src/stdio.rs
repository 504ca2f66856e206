//! The process's own streams: `stdin` as a source, `stdout` and `print` as sinks, and `blackhole`, which is none.
//!
//! Standard input cannot be read twice, so it is not replayable. It is read by a thread of its own, because a read cannot be
//! interrupted and a reader must look at its stop flag; lines are handed over as they come.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use eagre_engine::EngineError;
use eagre_engine::changes::Changes;
use eagre_engine::delta::{Delta, batch_of};
use eagre_engine::sink::{Sink, SinkFactory};
use eagre_engine::source::{PartitionId, Places, Source, SourceBatch, SourceEvent, SourceReader, StopFlag};
use eagre_engine::thread::start_detached;
use serde_json::{Value, json};

use crate::error::{ConnectorError, Result, io_reason};
use crate::filesystem::file::csv_layout;
use crate::filesystem::source::check_type;
use crate::format::changelog::{StepWords, check_key};
use crate::format::decode::LineDecoder;
use crate::format::encode::{encode_changes, encode_lines};
use crate::format::lines::{Block, BlockReader, Cut};
use crate::format::{CsvHeader, Format};
use crate::table::{Environment, InputFactory, OutputFactory, TableDefinition};

const STOP_CHECK: Duration = Duration::from_millis(50);

/// The formats of streams: those of lines.
fn line_format(table: &TableDefinition, is_sink: bool) -> Result<Format> {
    let format = Format::of_table(table, Some("stdio.json"), is_sink)?;
    match format.is_lines() {
        true => Ok(format),
        false => {
            let expected = "a stream has lines: use 'json', 'csv', 'raw', 'changelog-json' or 'debezium-json'";
            Err(table.reader().bad("format", expected))
        }
    }
}

/// The source `stdin`.
pub(crate) struct StdinSource {
    table: String,
    schema: SchemaRef,
    format: Format,
    /// Columns of `schema` that are in the rows; the others are the offset.
    in_rows: Vec<bool>,
    input: InputFactory,
}

impl StdinSource {
    pub(crate) fn new(table: &TableDefinition, environment: &Environment) -> Result<Self> {
        table.check_metadata(&["offset"])?;
        let format = line_format(table, false)?;
        let mut in_rows = Vec::new();
        for (index, field) in table.schema.fields().iter().enumerate() {
            in_rows.push(table.metadata_key(index).is_none());
            check_type(table, field, &format)?;
        }
        Ok(Self {
            table: table.name.clone(),
            schema: Arc::clone(&table.schema),
            format,
            in_rows,
            input: Arc::clone(&environment.stdin),
        })
    }
}

impl Source for StdinSource {
    fn describe(&self) -> String {
        format!("stdin(format={})", self.format.name())
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn bounded(&self) -> bool {
        true
    }

    fn replayable(&self) -> bool {
        false
    }

    fn open(
        &self,
        projection: &[usize],
        _places: &Places,
        stop: StopFlag,
    ) -> eagre_engine::Result<Box<dyn SourceReader>> {
        let input = (self.input)().map_err(|error| EngineError::Source {
            table: self.table.clone(),
            message: format!("cannot read standard input: {}", io_reason(&error)),
        })?;
        let dialect = match &self.format {
            Format::Csv(csv) => Some(csv.dialect.clone()),
            _ => None,
        };
        let (sender, blocks) = crossbeam_channel::bounded(2);
        let read = move || {
            let mut reader = BlockReader::new(input, 0, dialect, true, true);
            loop {
                let block = match reader.next() {
                    Ok(Cut::Block(block)) => Ok(block),
                    Ok(Cut::End) => break,
                    Err(error) => Err(io_reason(&error)),
                };
                let failed = block.is_err();
                if sender.send(block).is_err() || failed {
                    break;
                }
            }
        };
        start_detached("stdin", read)?;
        let fields = |wanted: &mut dyn Iterator<Item = usize>| -> Vec<Field> {
            wanted.filter(|&index| self.in_rows[index]).map(|index| self.schema.field(index).clone()).collect()
        };
        Ok(Box::new(StdinReader {
            table: self.table.clone(),
            partition: Arc::from("stdin"),
            schema: Arc::new(self.schema.project(projection)?),
            from_rows: projection.iter().map(|&index| self.in_rows[index]).collect(),
            wanted: fields(&mut projection.iter().copied()),
            all: fields(&mut (0..self.schema.fields().len())),
            format: self.format.clone(),
            decoder: None,
            blocks,
            stop,
            state: StdinState::New,
        }))
    }
}

enum StdinState {
    New,
    Reading,
    Ended,
}

struct StdinReader {
    table: String,
    partition: PartitionId,
    schema: SchemaRef,
    from_rows: Vec<bool>,
    wanted: Vec<Field>,
    all: Vec<Field>,
    format: Format,
    decoder: Option<LineDecoder>,
    blocks: Receiver<Result<Block, String>>,
    stop: StopFlag,
    state: StdinState,
}

impl StdinReader {
    fn decode(&mut self, mut block: Block) -> Result<SourceBatch, String> {
        let start = block.start;
        if self.decoder.is_none() {
            let mut layout = None;
            if let Format::Csv(csv) = &self.format {
                let (found, after) = csv_layout(csv, &block.bytes, &self.all, &self.wanted)?;
                layout = Some(Arc::new(found));
                if csv.header != CsvHeader::No {
                    block.bytes.drain(..after as usize);
                    block.start += after;
                }
            }
            self.decoder = Some(LineDecoder::new(self.format.clone(), self.wanted.clone(), layout, Arc::from("stdin")));
        }
        let Some(decoder) = &self.decoder else {
            return Err("a bug in eagre: no decoder".into());
        };
        let decoded = decoder.decode(&block).map_err(|error| error.to_string())?;
        let rows = decoded.offsets.len();
        let offsets: ArrayRef =
            Arc::new(Int64Array::from_iter_values(decoded.offsets.iter().map(|offset| *offset as i64)));
        let mut from_rows = decoded.columns.into_iter();
        let mut columns = Vec::with_capacity(self.from_rows.len());
        for (index, in_rows) in self.from_rows.iter().enumerate() {
            columns.push(match (in_rows, from_rows.as_slice().is_empty()) {
                (true, false) => from_rows.next().unwrap_or_else(|| Arc::clone(&offsets)),
                _ => cast(&offsets, self.schema.field(index).data_type()).map_err(|error| error.to_string())?,
            });
        }
        Ok(SourceBatch {
            partition: Arc::clone(&self.partition),
            start: json!({ "offset": start }),
            end: json!({ "offset": block.end }),
            batch: batch_of(&self.schema, columns, rows).map_err(|error| error.to_string())?,
            weights: decoded.weights,
            bad_rows: decoded.bad_rows,
        })
    }
}

impl SourceReader for StdinReader {
    fn next(&mut self) -> eagre_engine::Result<SourceEvent> {
        if self.stop.is_stopped() {
            return Ok(SourceEvent::End);
        }
        match self.state {
            StdinState::New => {
                self.state = StdinState::Reading;
                return Ok(SourceEvent::Partitions(vec![Arc::clone(&self.partition)]));
            }
            StdinState::Ended => return Ok(SourceEvent::End),
            StdinState::Reading => {}
        }
        let block = match self.blocks.recv_timeout(STOP_CHECK) {
            Ok(block) => block,
            Err(RecvTimeoutError::Timeout) => return Ok(SourceEvent::Waiting),
            Err(RecvTimeoutError::Disconnected) => {
                self.state = StdinState::Ended;
                return Ok(SourceEvent::PartitionEnd(Arc::clone(&self.partition)));
            }
        };
        let decoded = block.and_then(|block| self.decode(block));
        decoded.map(SourceEvent::Batch).map_err(|reason| EngineError::Source {
            table: self.table.clone(),
            message: format!("standard input: {reason}"),
        })
    }
}

/// How rows are shown on standard output.
enum Shown {
    /// Flink's `print`: `+I[1, a]`, with what stands before it.
    Print { identifier: String },
    /// A line format; with the column `op`, changes can be shown.
    Lines { format: Format, op: bool },
}

/// The sinks `print` and `stdout`.
pub(crate) struct StdoutSinkFactory {
    table: String,
    shown: Arc<Shown>,
    words: StepWords,
    output: OutputFactory,
}

impl StdoutSinkFactory {
    pub(crate) fn print(table: &TableDefinition, environment: &Environment) -> Result<Self> {
        check_key(table)?;
        let identifier = table.options.get("print-identifier").map_or_else(String::new, |name| format!("{name}> "));
        Self::new(table, environment, Shown::Print { identifier })
    }

    pub(crate) fn stdout(table: &TableDefinition, environment: &Environment) -> Result<Self> {
        let options = table.reader();
        let op = options.bool("op-column", false)?;
        let format = line_format(table, !op)?;
        for field in table.schema.fields() {
            check_type(table, field, &format)?;
        }
        if op && matches!(format, Format::Changelog(_)) {
            return Err(
                options.bad("op-column", format!("format `{}` says itself what happens to a row", format.name()))
            );
        }
        Self::new(table, environment, Shown::Lines { format, op })
    }

    fn new(table: &TableDefinition, environment: &Environment, shown: Shown) -> Result<Self> {
        Ok(Self {
            table: table.name.clone(),
            shown: Arc::new(shown),
            words: StepWords::of_table(table)?,
            output: Arc::clone(&environment.stdout),
        })
    }
}

impl SinkFactory for StdoutSinkFactory {
    fn describe(&self) -> String {
        match &*self.shown {
            Shown::Print { .. } => "print".to_owned(),
            Shown::Lines { format, .. } => format!("stdout(format={})", format.name()),
        }
    }

    fn accepts_retractions(&self) -> bool {
        match &*self.shown {
            Shown::Print { .. } | Shown::Lines { format: Format::Changelog(_), .. } => true,
            Shown::Lines { op, .. } => *op,
        }
    }

    fn replaces_by(&self) -> Option<&[usize]> {
        self.words.replaces_by()
    }

    fn keyed_by(&self, key: &[usize]) -> Option<Arc<dyn SinkFactory>> {
        let words = self.words.keyed_by(key)?;
        let (table, shown, output) = (self.table.clone(), Arc::clone(&self.shown), Arc::clone(&self.output));
        Some(Arc::new(Self { table, shown, words, output }))
    }

    fn exactly_once(&self) -> bool {
        false
    }

    fn create(&self) -> eagre_engine::Result<Box<dyn Sink>> {
        let output = (self.output)().map_err(|error| EngineError::Sink {
            table: self.table.clone(),
            message: format!("cannot write to standard output: {}", io_reason(&error)),
        })?;
        Ok(Box::new(StdoutSink {
            table: self.table.clone(),
            shown: Arc::clone(&self.shown),
            words: self.words.clone(),
            output,
            first: true,
        }))
    }
}

struct StdoutSink {
    table: String,
    shown: Arc<Shown>,
    words: StepWords,
    output: Box<dyn Write + Send>,
    first: bool,
}

impl StdoutSink {
    fn encode(&mut self, deltas: &[Delta], out: &mut Vec<u8>) -> eagre_engine::Result<()> {
        let shown = Arc::clone(&self.shown);
        let (format, op) = match &*shown {
            Shown::Print { identifier } => return print_rows(identifier, &self.words.changes(deltas)?, out),
            Shown::Lines { format: Format::Changelog(format), .. } => {
                return Ok(encode_changes(format, &self.words.changes(deltas)?, out)?);
            }
            Shown::Lines { format, op } => (format, *op),
        };
        let taken_back =
            |delta: &Delta| delta.weights.as_ref().is_some_and(|weights| weights.values().iter().any(|w| *w < 0));
        if !op && deltas.iter().any(taken_back) {
            return Err(EngineError::Sink {
                table: self.table.clone(),
                message:
                    "a row is taken back; set 'op-column' = 'true' to show changes, or make the query append-only \
                          (`EMIT ON WINDOW CLOSE`)"
                        .into(),
            });
        }
        let Changes { mut rows, ops } = match op {
            true => self.words.changes(deltas)?,
            false => Changes::of_step(deltas, None, false)?,
        };
        if op {
            let mut fields = vec![Arc::new(Field::new("op", DataType::Utf8, false))];
            fields.extend(rows.schema_ref().fields().iter().cloned());
            let words = ops.iter().map(|op| op.word());
            let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from_iter_values(words))];
            columns.extend(rows.columns().iter().cloned());
            rows = batch_of(&Arc::new(Schema::new(fields)), columns, ops.len())?;
        }
        encode_lines(format, &rows, self.first, out)?;
        self.first = false;
        Ok(())
    }
}

/// Rows as Flink's `print` shows them.
fn print_rows(identifier: &str, changes: &Changes, out: &mut Vec<u8>) -> eagre_engine::Result<()> {
    let options = FormatOptions::default()
        .with_null("null")
        .with_timestamp_format(Some("%Y-%m-%dT%H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.fZ"));
    let columns = changes.rows.columns();
    let formatters =
        columns.iter().map(|column| ArrayFormatter::try_new(column, &options)).collect::<Result<Vec<_>, _>>()?;
    let mut text = String::new();
    for (row, op) in changes.ops.iter().enumerate() {
        text.clear();
        text.push_str(identifier);
        text.push_str(op.word());
        text.push('[');
        for (index, (column, formatter)) in columns.iter().zip(&formatters).enumerate() {
            if index > 0 {
                text.push_str(", ");
            }
            match column.is_null(row) {
                true => text.push_str("null"),
                false => formatter.value(row).write(&mut text).map_err(EngineError::bug)?,
            }
        }
        text.push_str("]\n");
        out.extend_from_slice(text.as_bytes());
    }
    Ok(())
}

impl Sink for StdoutSink {
    fn write(&mut self, _step: u64, deltas: &[Delta]) -> eagre_engine::Result<()> {
        let mut out = Vec::new();
        self.encode(deltas, &mut out)?;
        self.output.write_all(&out).and_then(|()| self.output.flush()).map_err(|error| EngineError::Sink {
            table: self.table.clone(),
            message: format!("cannot write to standard output: {}", io_reason(&error)),
        })
    }

    fn prepare(&mut self, _step: u64) -> eagre_engine::Result<Option<Value>> {
        Ok(None)
    }

    fn commit(&mut self, _transaction: &Value) -> eagre_engine::Result<()> {
        Ok(())
    }

    fn recover(&mut self, _transaction: Option<&Value>) -> eagre_engine::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> eagre_engine::Result<()> {
        self.output.flush().map_err(|error| {
            let reason = io_reason(&error);
            let (table, path) = (self.table.clone(), "standard output".to_owned());
            ConnectorError::Io { table, action: "write", path, reason }.into_sink_error()
        })
    }
}

/// The sink `blackhole`: takes everything, keeps nothing.
pub(crate) struct BlackholeSinkFactory;

impl SinkFactory for BlackholeSinkFactory {
    fn describe(&self) -> String {
        "blackhole".to_owned()
    }

    fn accepts_retractions(&self) -> bool {
        true
    }

    fn exactly_once(&self) -> bool {
        true
    }

    fn create(&self) -> eagre_engine::Result<Box<dyn Sink>> {
        Ok(Box::new(BlackholeSink))
    }
}

struct BlackholeSink;

impl Sink for BlackholeSink {
    fn write(&mut self, _step: u64, _deltas: &[Delta]) -> eagre_engine::Result<()> {
        Ok(())
    }

    fn prepare(&mut self, _step: u64) -> eagre_engine::Result<Option<Value>> {
        Ok(None)
    }

    fn commit(&mut self, _transaction: &Value) -> eagre_engine::Result<()> {
        Ok(())
    }

    fn recover(&mut self, _transaction: Option<&Value>) -> eagre_engine::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> eagre_engine::Result<()> {
        Ok(())
    }
}
