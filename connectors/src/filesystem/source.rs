//! Many files as one source.
//!
//! Each file is an ordered partition. A few files are read at a time, each by a thread that reads, decompresses and cuts blocks; the
//! blocks of all files are decoded on one pool of threads. The answers are taken file by file in turn, in the order in which the
//! blocks were cut, so the order of batches follows from the files and not from which thread was faster. Everything in between is a
//! bounded queue: memory is that of a few blocks a file, however large the files are.
//!
//! In a watched folder new files join as they appear, and plain text files are read on as they grow, whole lines only. A file at its
//! end leaves the watermark's minimum (`PartitionEnd`) once a newer file has appeared, as when logs rotate; the newest stays, since a
//! source without partitions would promise everything. A file that grows after all is announced again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{Field, SchemaRef};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use eagre_engine::EngineError;
use eagre_engine::source::{PartitionId, Places, Source, SourceEvent, SourceReader, StopFlag};
use eagre_engine::thread::start_detached;

use super::file::{ColumnOrigin, FileEvent, FilePosition, FileTask, Job, ReadPlan, metadata_fits};
use super::location::{FoundFile, Root};
use crate::error::{ConnectorError, Result};
use crate::format::compression::{COMPRESSION_NAMES, Compression};
use crate::format::{Format, cell, changelog, format_of_path, scalar};
use crate::table::{Environment, TableDefinition};

/// The metadata keys of files.
pub(crate) const METADATA_KEYS: &[&str] = &["file.path", "file.name", "file.size", "file.modification-time", "offset"];

/// So many files are read at a time, where their order does not matter.
const OPEN_FILES_MAX: usize = 4;
/// So many blocks of a file wait for their turn.
const FILE_BLOCKS_MAX: usize = 4;
/// A reader looks at its stop flag at least this often.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// The source `filesystem`.
pub(crate) struct FilesystemSource {
    table: String,
    root: Root,
    format: Format,
    compression: Option<Compression>,
    monitor_interval: Option<Duration>,
    schema: SchemaRef,
    origins: Vec<ColumnOrigin>,
    file_columns: Vec<Field>,
    threads: usize,
    /// One file after the other: a change must not overtake the one that it corrects.
    in_order: bool,
}

impl FilesystemSource {
    pub(crate) fn new(table: &TableDefinition, environment: &Environment) -> Result<Self> {
        let options = table.reader();
        let path = options.required("path", "a file, a folder, a pattern or a URL", "data/*.json")?;
        let root = Root::new(&table.name, path, environment)?;
        let monitor_interval = options.duration("source.monitor-interval")?;
        let found = match options.text("format").is_none() && format_of_path(path).is_none() {
            true => root.list(monitor_interval.is_some())?,
            false => Vec::new(),
        };
        let mut format = Format::of_files(&options, path, &found)?;
        changelog::complete(table, &mut format, false)?;
        let compression = Compression::of_option(options.one_of("compression", COMPRESSION_NAMES)?);
        table.check_metadata(METADATA_KEYS)?;
        let mut file_columns: Vec<Field> = Vec::new();
        let mut origins = Vec::new();
        for (index, field) in table.schema.fields().iter().enumerate() {
            if let Some(key) = table.metadata_key(index) {
                if !metadata_fits(key, field.data_type()) {
                    let (name, kind) = (field.name(), scalar::type_name(field.data_type()));
                    return Err(
                        table.schema_error(format!("metadata `{key}` does not fit column `{name}` of type {kind}"))
                    );
                }
                origins.push(ColumnOrigin::Metadata(key.to_owned()));
            } else if table.is_partition_column(field) {
                origins.push(ColumnOrigin::Path);
            } else {
                check_type(table, field, &format)?;
                origins.push(ColumnOrigin::File(file_columns.len()));
                file_columns.push(field.as_ref().clone());
            }
        }
        if matches!(format, Format::Raw) && file_columns.len() != 1 {
            let count = file_columns.len();
            return Err(table.schema_error(format!("format `raw` has one column, a line; the table has {count}")));
        }
        Ok(Self {
            table: table.name.clone(),
            root,
            compression,
            monitor_interval,
            schema: Arc::clone(&table.schema),
            origins,
            file_columns,
            threads: environment.decode_threads.max(1),
            in_order: matches!(format, Format::Changelog(_)) || changelog::mode_of(&options)?.is_some(),
            format,
        })
    }

    fn plan(&self, projection: &[usize]) -> eagre_engine::Result<ReadPlan> {
        let mut fields = Vec::new();
        let origins = projection.iter().map(|&index| match &self.origins[index] {
            ColumnOrigin::File(column) => {
                fields.push(self.file_columns[*column].clone());
                ColumnOrigin::File(fields.len() - 1)
            }
            other => other.clone(),
        });
        let origins = origins.collect();
        Ok(ReadPlan {
            table: self.table.clone(),
            format: self.format.clone(),
            compression: self.compression,
            file_columns: self.file_columns.clone(),
            fields,
            schema: Arc::new(self.schema.project(projection)?),
            origins,
            watched: self.monitor_interval.is_some(),
            threads: self.threads,
        })
    }
}

/// Refuses types that a text format has no words for.
pub(crate) fn check_type(table: &TableDefinition, field: &Field, format: &Format) -> Result<()> {
    if !format.is_lines() || cell::is_supported(field.data_type()) {
        return Ok(());
    }
    let (name, kind, format) = (field.name(), scalar::type_name(field.data_type()), format.name());
    Err(table.schema_error(format!(
        "column `{name}`: format `{format}` has no {kind}; declare it STRING and cast it in the query"
    )))
}

impl Source for FilesystemSource {
    fn revision(&self) -> eagre_engine::Result<Option<String>> {
        let files = self.root.list(self.monitor_interval.is_some()).map_err(ConnectorError::into_source_error)?;
        let word = |file: &FoundFile| format!("{} {} {}", file.shown, file.size, file.modified_ms);
        Ok(Some(files.iter().map(word).collect::<Vec<_>>().join("\n")))
    }

    fn describe(&self) -> String {
        format!("filesystem(path={}, format={})", self.root.path(), self.format.name())
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn bounded(&self) -> bool {
        self.monitor_interval.is_none()
    }

    fn replayable(&self) -> bool {
        true
    }

    fn open(
        &self,
        projection: &[usize],
        places: &Places,
        stop: StopFlag,
    ) -> eagre_engine::Result<Box<dyn SourceReader>> {
        let plan = Arc::new(self.plan(projection)?);
        let found = self.root.list(self.monitor_interval.is_some()).map_err(ConnectorError::into_source_error)?;
        let (jobs, queue) = crossbeam_channel::bounded::<Job>(self.threads * 2);
        for _ in 0..self.threads {
            let queue = queue.clone();
            let work = move || queue.iter().for_each(|job| job());
            start_detached("decode", work)?;
        }
        let mut reader = FilesystemReader {
            plan,
            root: self.root.clone(),
            open_files_max: if self.in_order { 1 } else { OPEN_FILES_MAX },
            monitor_interval: self.monitor_interval,
            stop,
            jobs,
            files: Vec::new(),
            waiting: VecDeque::new(),
            open: VecDeque::new(),
            said: VecDeque::new(),
            next_look: Instant::now(),
        };
        reader.next_look += self.monitor_interval.unwrap_or_default();
        for (name, place) in places {
            let position: FilePosition = serde_json::from_value(place.position.clone()).map_err(|error| {
                EngineError::Checkpoint { message: format!("table `{}`: position of `{name}`: {error}", self.table) }
            })?;
            reader.files.push(KnownFile {
                partition: Arc::from(name.as_str()),
                start: Some(position),
                found: None,
                state: FileState::Missing,
                same_since: None,
            });
        }
        reader.welcome(found);
        // A file that a checkpoint knows and the folder does not have: fine if it was read to its end.
        let missing = reader.files.iter().find(|file| {
            let unfinished = |start: &FilePosition| !plan_finished(&reader.plan, start);
            file.found.is_none() && file.start.as_ref().is_some_and(unfinished)
        });
        if let Some(file) = missing {
            return Err(EngineError::Source {
                table: self.table.clone(),
                message: format!(
                    "`{}` was being read at the checkpoint and is gone; put it back, or start over without the checkpoint \
                     (`--fresh`)",
                    file.partition
                ),
            });
        }
        Ok(Box::new(reader))
    }
}

/// Whether a position is at the end of its file, as far as it says itself.
fn plan_finished(plan: &ReadPlan, start: &FilePosition) -> bool {
    // Offsets in compressed files are those of the plain text, which say nothing of the file's end.
    plan.format.is_lines() && start.before != 0 && start.at >= start.size
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileState {
    /// In a checkpoint, and not there.
    Missing,
    Waiting,
    Open,
    /// Its end is not written yet.
    Unfinished,
    /// Read to its end; may grow.
    AtEnd,
    /// Read to its end, and said so.
    Ended,
}

struct KnownFile {
    partition: PartitionId,
    start: Option<FilePosition>,
    found: Option<FoundFile>,
    state: FileState,
    /// Of an unfinished file: since when it has been as large as it is.
    same_since: Option<Instant>,
}

struct OpenFile {
    file: usize,
    events: Receiver<FileEvent>,
}

struct FilesystemReader {
    plan: Arc<ReadPlan>,
    root: Root,
    open_files_max: usize,
    monitor_interval: Option<Duration>,
    stop: StopFlag,
    jobs: Sender<Job>,
    files: Vec<KnownFile>,
    /// Files to read, by index.
    waiting: VecDeque<usize>,
    /// Files being read; the first is asked next.
    open: VecDeque<OpenFile>,
    /// Events to hand over before anything else.
    said: VecDeque<SourceEvent>,
    next_look: Instant,
}

impl FilesystemReader {
    /// Takes in a listing: new files, and files that have grown.
    fn welcome(&mut self, mut found: Vec<FoundFile>) {
        let mut announced = Vec::new();
        if self.monitor_interval.is_some() {
            // Newer files come later, as their rows do.
            found.sort_by(|a, b| (a.modified_ms, &a.shown).cmp(&(b.modified_ms, &b.shown)));
        }
        self.give_up_unfinished(&found);
        for file in found {
            match self.files.iter().position(|known| *known.partition == *file.shown) {
                None => {
                    let partition: PartitionId = Arc::from(file.shown.as_str());
                    announced.push(Arc::clone(&partition));
                    self.waiting.push_back(self.files.len());
                    let (start, state) = (None, FileState::Waiting);
                    self.files.push(KnownFile { partition, start, found: Some(file), state, same_since: None });
                }
                Some(index) => {
                    let known = &mut self.files[index];
                    let size_before = known.found.as_ref().map_or(0, |found| found.size);
                    let again = match known.state {
                        FileState::Missing => true,
                        // Looked into again when it has stopped growing.
                        FileState::Unfinished => file.size == size_before,
                        FileState::AtEnd | FileState::Ended => file.size != size_before,
                        FileState::Waiting | FileState::Open => false,
                    };
                    if again {
                        if matches!(known.state, FileState::Missing | FileState::Ended) {
                            announced.push(Arc::clone(&known.partition));
                        }
                        known.state = FileState::Waiting;
                        known.found = Some(file);
                        self.waiting.push_back(index);
                    } else if matches!(known.state, FileState::Waiting | FileState::Unfinished) {
                        if file.size != size_before {
                            known.same_since = None;
                        }
                        known.found = Some(file);
                    }
                }
            }
        }
        if !announced.is_empty() {
            self.said.push_back(SourceEvent::Partitions(announced));
        }
        self.retire();
    }

    /// Unfinished files that have gone hold the watermark back no longer.
    fn give_up_unfinished(&mut self, found: &[FoundFile]) {
        for known in self.files.iter_mut().filter(|known| known.state == FileState::Unfinished) {
            if !found.iter().any(|file| file.shown == *known.partition) {
                known.state = FileState::Ended;
                self.said.push_back(SourceEvent::PartitionEnd(Arc::clone(&known.partition)));
            }
        }
    }

    /// In a watched folder: files at their end leave the watermark's minimum, except the newest.
    fn retire(&mut self) {
        let order = |file: &KnownFile| file.found.as_ref().map(|found| (found.modified_ms, found.shown.clone()));
        let newest = self.files.iter().filter_map(order).max();
        for file in &mut self.files {
            if file.state == FileState::AtEnd && order(file) < newest {
                file.state = FileState::Ended;
                self.said.push_back(SourceEvent::PartitionEnd(Arc::clone(&file.partition)));
            }
        }
    }

    fn look_for_files(&mut self) -> eagre_engine::Result<()> {
        let Some(interval) = self.monitor_interval else {
            return Ok(());
        };
        let now = Instant::now();
        if now >= self.next_look {
            self.next_look = now + interval.max(Duration::from_millis(1));
            let found = self.root.list(true).map_err(ConnectorError::into_source_error)?;
            self.welcome(found);
        }
        Ok(())
    }

    fn open_files(&mut self) -> eagre_engine::Result<()> {
        while self.open.len() < self.open_files_max {
            let Some(index) = self.waiting.pop_front() else {
                break;
            };
            let file = &mut self.files[index];
            let Some(found) = file.found.clone() else {
                continue;
            };
            file.state = FileState::Open;
            let (sender, events) = crossbeam_channel::bounded(FILE_BLOCKS_MAX);
            let task = FileTask {
                plan: Arc::clone(&self.plan),
                file: found,
                partition: Arc::clone(&file.partition),
                start: file.start.clone(),
                waited: file.same_since.map(|since| since.elapsed()),
                jobs: self.jobs.clone(),
                events: sender,
                stop: self.stop.clone(),
            };
            start_detached("read-file", move || task.run())?;
            self.open.push_back(OpenFile { file: index, events });
        }
        Ok(())
    }

    fn failed(&self, message: String) -> EngineError {
        EngineError::Source { table: self.plan.table.clone(), message }
    }

    fn file_ended(&mut self, index: usize, position: FilePosition) {
        let watched = self.monitor_interval.is_some();
        let file = &mut self.files[index];
        file.start = Some(position);
        file.state = FileState::AtEnd;
        if watched {
            self.retire();
        } else {
            file.state = FileState::Ended;
            self.said.push_back(SourceEvent::PartitionEnd(Arc::clone(&file.partition)));
        }
    }
}

impl SourceReader for FilesystemReader {
    fn next(&mut self) -> eagre_engine::Result<SourceEvent> {
        loop {
            if self.stop.is_stopped() {
                return Ok(SourceEvent::End);
            }
            if let Some(event) = self.said.pop_front() {
                return Ok(event);
            }
            self.look_for_files()?;
            self.open_files()?;
            if !self.said.is_empty() {
                continue;
            }
            let Some(front) = self.open.front() else {
                if self.monitor_interval.is_none() {
                    return Ok(SourceEvent::End);
                }
                let left = self.next_look.saturating_duration_since(Instant::now());
                std::thread::park_timeout(left.min(STOP_CHECK));
                return Ok(SourceEvent::Waiting);
            };
            let event = match front.events.recv_timeout(STOP_CHECK) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => return Ok(SourceEvent::Waiting),
                // Who reads a file goes away when all is to stop.
                Err(RecvTimeoutError::Disconnected) if self.stop.is_stopped() => return Ok(SourceEvent::End),
                Err(RecvTimeoutError::Disconnected) => {
                    let path = &self.files[front.file].partition;
                    return Err(EngineError::bug(format!("the thread that reads `{path}` has died")));
                }
            };
            let Some(front) = self.open.pop_front() else {
                continue;
            };
            let result = match event {
                FileEvent::End(position) => {
                    self.file_ended(front.file, position);
                    continue;
                }
                FileEvent::Unfinished => {
                    let file = &mut self.files[front.file];
                    file.state = FileState::Unfinished;
                    file.same_since.get_or_insert_with(Instant::now);
                    continue;
                }
                FileEvent::Batch(result) => result,
                FileEvent::Decoding(pending) => match pending.recv() {
                    Ok(result) => result,
                    Err(_) if self.stop.is_stopped() => return Ok(SourceEvent::End),
                    Err(_) => {
                        return Err(EngineError::bug(format!(
                            "decoding `{}` panicked",
                            self.files[front.file].partition
                        )));
                    }
                },
            };
            self.open.push_back(front);
            return result.map(|batch| SourceEvent::Batch(*batch)).map_err(|message| self.failed(message));
        }
    }
}
