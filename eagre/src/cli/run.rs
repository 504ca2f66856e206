//! `eagre run` and `eagre check`.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use eagre_engine::metrics::{Metrics, MetricsSnapshot};
use eagre_engine::operator::{array_lengths, chain};
use eagre_engine::runtime::Summary;
use eagre_engine::settings;
use eagre_engine::thread::start_detached;

use super::output::Output;
use super::print::{Printer, op_schema, with_op};
use super::progress::Progress;
use super::text::{note, print};
use super::{Format, INTERRUPTED, Outcome, RunArgs, Source, Statements};
use crate::error::{Error, Result};
use crate::job::{QueryResult, RunningJob};
use crate::session::{Execution, Session};
use crate::sink::results::changelog;

/// How often the metrics file is written.
const METRICS_EVERY_TICKS: u32 = 10;
const TICK: Duration = Duration::from_millis(100);
/// How long an interrupted run waits for whoever does not read its output.
const UNREAD_MAX: Duration = Duration::from_secs(5);

pub(super) fn check(args: Statements) -> Result<()> {
    let session = Session::builder().settings(args.settings.settings()?).build()?;
    let prepared = session.prepare(&args.source.text()?)?;
    for notice in prepared.job.iter().flat_map(|job| &job.notices) {
        note(format_args!("note: {}", notice.message));
    }
    print(format_args!("ok"))
}

pub(super) fn run(args: RunArgs) -> Result<Outcome> {
    let mut settings = args.statements.settings.settings()?;
    let wrong = |error: eagre_engine::EngineError| Error::command_line(error.to_string());
    if let Some(shards) = args.shards {
        settings.set(settings::SHARDS, &shards.to_string()).map_err(wrong)?;
    }
    if let Some(device) = &args.device {
        settings.set(settings::DEVICE, device).map_err(wrong)?;
    }
    let mut builder = Session::builder()
        .settings(settings)
        .fresh(args.fresh)
        .device_log(|line| note(format_args!("device: {line}")))
        .progress_log(|line| note(format_args!("{line}")));
    let way_out = "stop it, or give this one its own --state";
    let _locked = args.state.as_deref().map(|state| lock(state, args.resume, way_out)).transpose()?;
    if let Some(state) = &args.state {
        builder = builder.state(state);
    }
    let session = builder.build()?;
    if let Some(path) = &args.metrics {
        can_put(path).map_err(|error| Error::File { path: path.display().to_string(), error })?;
    }
    let source = &args.statements.source;
    let execution = match args.resume {
        true => resume(&session, source)?,
        false => session.execute(&source.text()?)?,
    };
    for table in &execution.tables {
        let mut printer = Printer::new(args.format, std::io::stdout().lock(), table.schema());
        printer.print_all(std::slice::from_ref(table))?;
        printer.finish()?;
    }
    for notice in &execution.notices {
        note(format_args!("note: {notice}"));
    }
    let Some(mut job) = execution.job else { return Ok(Outcome::Done) };
    if let Some(summary) = job.already_complete() {
        note(format_args!(
            "this pipeline is complete: all its input was read by step {} (checkpoint {}); start over with --fresh",
            summary.steps,
            summary.checkpoint.unwrap_or(0)
        ));
        // Materialized views still have their rows.
        let output = Output::default();
        Printers::start(job.take_results(), args.format, &output).finish(true, &output)?;
        return Ok(Outcome::Done);
    }
    watch(job, args.format, args.metrics.as_deref())
}

/// Goes on with what the state folder holds, and runs statements, if there are any, on that.
fn resume(session: &Session, source: &Source) -> Result<Execution> {
    let resumed = session.resume()?;
    if !source.is_given() {
        // Its tables were shown when the statements ran first.
        return Ok(Execution { tables: Vec::new(), ..resumed });
    }
    let mut execution = session.execute(&source.text()?)?;
    match &mut execution.job {
        Some(job) => {
            let before = resumed.job.map(|mut job| job.take_results()).unwrap_or_default();
            job.results.splice(..0, before);
        }
        None => execution.job = resumed.job,
    }
    Ok(execution)
}

/// Runs a job to its end or to Ctrl-C: prints results, progress and metrics.
pub(super) fn watch(mut job: RunningJob, format: Format, metrics_file: Option<&Path>) -> Result<Outcome> {
    let (has_end, keeps_state) = (job.bounded(), job.keeps_state());
    let interrupts = Interrupts::count()?;
    let output = Output::default();
    let printers = Printers::start(job.take_results(), format, &output);
    let metrics = job.metrics().cloned();
    let stopper = job.stopper();
    let (done, ended) = bounded(1);
    let wait = move || {
        // Who waits may have given up after an error of the output.
        let _ = done.send(job.wait_blocking());
    };
    start_detached("eagre-job", wait)?;
    let mut progress = Progress::new();
    let mut stopped = false;
    let mut ticks = 0u32;
    let summary = loop {
        match ended.recv_timeout(TICK) {
            Ok(summary) => break summary,
            Err(RecvTimeoutError::Disconnected) => break Err(Error::usage("the pipeline's thread is gone")),
            Err(RecvTimeoutError::Timeout) => {}
        }
        ticks += 1;
        if let Some(metrics) = &metrics {
            progress.update(metrics);
            if let Some(path) = metrics_file.filter(|_| ticks.is_multiple_of(METRICS_EVERY_TICKS)) {
                write_metrics(path, &metrics.snapshot())?;
            }
        }
        let interrupted = interrupts.so_far();
        if (interrupted > 0 || printers.failed()) && !stopped {
            stopped = true;
            if let Some(stopper) = &stopper {
                stopper.stop();
            }
        }
        if interrupted > 1 {
            progress.clear();
            // The second Ctrl-C: whoever waits no longer wants an orderly end. The last checkpoint is whole.
            std::process::exit(INTERRUPTED.into());
        }
        if interrupted > 0 && output.is_unread_for(UNREAD_MAX) {
            progress.clear();
            let rest = if keeps_state { "; the same command goes on from the last checkpoint" } else { "" };
            unread("a last checkpoint", rest);
        }
    };
    progress.clear();
    if interrupts.end_at_once() {
        let output = output.clone();
        let watch = move || {
            while !output.is_unread_for(UNREAD_MAX) {
                std::thread::sleep(TICK);
            }
            unread("printing all rows", if keeps_state { "; the same command goes on after them" } else { "" });
        };
        start_detached("eagre-unread", watch)?;
    }
    let printed = printers.finish(summary.is_ok(), &output);
    let summary = summary?;
    printed?;
    if let Some(metrics) = &metrics {
        progress.finish(metrics);
        if let Some(path) = metrics_file {
            write_metrics(path, &metrics.snapshot())?;
        }
        tell_losses(metrics, &summary);
    }
    if summary.finished || !has_end {
        return Ok(Outcome::Done);
    }
    let rest = if keeps_state {
        "the same command goes on from here"
    } else {
        "with --state DIR a run can go on where it was stopped"
    };
    note(format_args!(
        "note: stopped before the end of the input: the results are those of the input read so far ({} rows by this run); {rest}",
        summary.rows_read
    ));
    Ok(Outcome::Partial)
}

/// Ends an interrupted run, the output of which nobody reads.
fn unread(without: &str, rest: &str) -> ! {
    let waited = UNREAD_MAX.as_secs();
    note(format_args!("note: ended without {without}: standard output has not been read for {waited} seconds{rest}"));
    std::process::exit(INTERRUPTED.into())
}

/// Rows that are not in the answer: never in silence.
fn tell_losses(metrics: &Metrics, _summary: &Summary) {
    let snapshot = metrics.snapshot();
    let (mut failed, mut refused, mut unscored) = (0, 0, 0);
    for node in &snapshot.nodes {
        let (bad, table) = (node.rows_bad, &node.label.table);
        match node.label.name.as_str() {
            chain::NAME => failed += node.state_rows,
            "Predict" | "RemotePredict" | "Questions" => refused += bad,
            array_lengths::NAME => unscored += bad,
            _ if bad == 0 => {}
            "ChangelogNormalize" | "RetractionCheck" => note(format_args!(
                "note: `{table}` took back {bad} rows that were not there; SELECT * FROM {table}.errors shows them"
            )),
            "Labelled" => note(format_args!(
                "note: model `{table}` could not learn from {bad} rows; SELECT * FROM {table}.errors shows them"
            )),
            _ => note(format_args!(
                "note: {bad} rows of `{table}` could not be read; SELECT * FROM {table}.errors shows them"
            )),
        }
    }
    let of_queries = [
        (failed, "rows are not in the answer, as something could not be computed of them so far"),
        (refused, "rows have null for an answer, as models refused them"),
        (unscored, "arrays have another length than `width` says, so their rows have no score"),
    ];
    for (count, what) in of_queries.into_iter().filter(|(count, _)| *count > 0) {
        note(format_args!("note: {count} {what}; make the query a view, and SELECT * FROM <view>.errors shows them"));
    }
    let late: u64 = snapshot.nodes.iter().map(|node| node.rows_late).sum();
    if late > 0 {
        let tables: Vec<String> = snapshot
            .nodes
            .iter()
            .filter(|node| node.label.name == "Source" && !node.label.table.is_empty())
            .map(|node| format!("{}.late", node.label.table))
            .collect();
        note(format_args!(
            "note: {late} rows came too late, or without an event time, for statements that need it (each of them counts its own); SELECT from {} beside the query shows them",
            tables.join(" or ")
        ));
    }
}

fn write_metrics(path: &Path, snapshot: &MetricsSnapshot) -> Result<()> {
    put_file(path, &snapshot.prometheus()).map_err(|error| Error::File { path: path.display().to_string(), error })
}

/// Where a file that others read meanwhile is written before it is renamed, and what it becomes then: nobody reads half of it. A link stays, and
/// what it leads to is written; `None`: devices and pipes, and whatever the system has there for our own output, are written through.
fn beside(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let target = match std::fs::read_link(path) {
        Ok(target) => path.parent().unwrap_or(Path::new("")).join(target),
        Err(_) => path.to_owned(),
    };
    let is_system = ["/dev", "/proc"].iter().any(|folder| path.starts_with(folder) || target.starts_with(folder));
    if is_system || std::fs::metadata(&target).is_ok_and(|metadata| !metadata.is_file()) {
        return None;
    }
    let mut beside = target.as_os_str().to_owned();
    beside.push(".tmp");
    Some((PathBuf::from(beside), target))
}

/// Whether [`put_file`] will be able to write: told before anything runs, and not when it ends.
fn can_put(path: &Path) -> std::io::Result<()> {
    match beside(path) {
        Some((beside, _)) => File::create(&beside).and_then(|_| std::fs::remove_file(&beside)),
        // To open a pipe and close it is to end it.
        None => Ok(()),
    }
}

/// Writes a file that others read meanwhile.
fn put_file(path: &Path, text: &str) -> std::io::Result<()> {
    let Some((beside, target)) = beside(path) else {
        return File::options().append(true).open(path)?.write_all(text.as_bytes());
    };
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, &target)
}

/// The file of a state folder that the process which runs there has locked.
const LOCK: &str = "eagre.lock";

/// Keeps other processes off a state folder until the lock is dropped, or the process ends in whatever way. Of an object store nothing is
/// locked, nor of a folder that cannot be written or whose file system has no locks: there a second process is stopped at its first checkpoint.
///
/// # Errors
/// Another process runs there, with the `way_out`; with `resume`, there is no folder.
pub(super) fn lock(state: &str, resume: bool, way_out: &str) -> Result<Option<File>> {
    let folder = Path::new(state.strip_prefix("file://").unwrap_or(state));
    if folder.to_string_lossy().contains("://") {
        return Ok(None);
    }
    if resume && !folder.exists() {
        return Err(Error::usage(format!("there is nothing to resume: there is no state folder {state}")));
    }
    if std::fs::create_dir_all(folder).is_err() {
        return Ok(None);
    }
    let Ok(file) = File::options().create(true).truncate(false).write(true).open(folder.join(LOCK)) else {
        return Ok(None);
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            Err(Error::usage(format!("another process runs on the state folder {state}; {way_out}")))
        }
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Ctrl-C and SIGTERM.
#[derive(Default)]
struct Interrupts {
    count: AtomicUsize,
    ends: AtomicBool,
}

impl Interrupts {
    /// Counts them from now on.
    fn count() -> Result<Arc<Self>> {
        let interrupts = Arc::new(Self::default());
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            let interrupts = Arc::clone(&interrupts);
            let registered = signal_hook::iterator::Signals::new([signal]);
            let mut signals = registered.map_err(|error| Error::File { path: "signal handler".to_owned(), error })?;
            let count_them = move || {
                for _ in signals.forever() {
                    interrupts.count.fetch_add(1, Ordering::SeqCst);
                    if interrupts.ends.load(Ordering::SeqCst) {
                        std::process::exit(INTERRUPTED.into());
                    }
                }
            };
            start_detached("eagre-signals", count_them)?;
        }
        Ok(interrupts)
    }

    fn so_far(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// The next one ends the process: the pipeline has ended, and rows are left to be printed. Whether there was one before.
    fn end_at_once(&self) -> bool {
        self.ends.store(true, Ordering::SeqCst);
        self.so_far() > 0
    }
}

/// One thread a result: bounded ones are collected and printed in the order of statements, unbounded ones as they come.
struct Printers {
    threads: Vec<JoinHandle<Result<Printed>>>,
    format: Format,
    failed: Arc<AtomicUsize>,
}

/// A result that is to be printed at the end; `None`: it was printed as it came.
type Printed = Option<(arrow::datatypes::SchemaRef, Vec<arrow::array::RecordBatch>)>;

impl Printers {
    fn start(results: Vec<QueryResult>, format: Format, output: &Output) -> Self {
        let failed = Arc::new(AtomicUsize::new(0));
        let threads = results
            .into_iter()
            .map(|result| {
                let (failed, output) = (Arc::clone(&failed), output.clone());
                std::thread::spawn(move || {
                    let printed = if result.info().bounded {
                        let schema = Arc::clone(result.schema());
                        result.collect_blocking().map(|rows| Some((schema, rows)))
                    } else {
                        stream(result, format, output).map(|()| None)
                    };
                    if printed.is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                    printed
                })
            })
            .collect();
        Self { threads, format, failed }
    }

    fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed) > 0
    }

    /// Prints what was collected; nothing of it when the pipeline failed, for it would be the answer for a part of the input.
    fn finish(self, succeeded: bool, output: &Output) -> Result<()> {
        for thread in self.threads {
            let printed = thread.join().map_err(|_| Error::usage("the thread of a result panicked"))?;
            if let (Some((schema, rows)), true) = (printed?, succeeded) {
                let mut printer = Printer::new(self.format, output.clone(), schema);
                printer.print_all(&rows)?;
                printer.finish()?;
            }
        }
        Ok(())
    }
}

/// Prints changes as they come, each row with its `op`.
fn stream(mut result: QueryResult, format: Format, output: Output) -> Result<()> {
    let info = result.info().clone();
    let mut printer = Printer::new(format, output, op_schema(&info.schema));
    while let Some(change) = result.blocking_next() {
        let (words, rows) = changelog(&change.batch, change.weights.as_ref(), info.key.as_deref())?;
        printer.print(&with_op(words, &rows)?)?;
    }
    printer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second process is kept off a state folder, however it is named, until the first one has ended.
    #[test]
    fn one_process_runs_on_a_state_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state").display().to_string();
        let error = lock(&state, true, "wait").expect_err("there is nothing yet");
        assert!(error.to_string().contains("there is no state folder"), "{error}");
        let first = lock(&state, false, "wait").expect("it is free");
        assert!(first.is_some());
        for again in [state.clone(), format!("file://{state}")] {
            let error = lock(&again, true, "wait").expect_err("it is locked");
            assert!(
                error.to_string().ends_with(&format!("another process runs on the state folder {again}; wait")),
                "{error}"
            );
        }
        drop(first);
        assert!(lock(&state, true, "wait").expect("it is free again").is_some());
        assert!(lock("memory://state", false, "wait").expect("nothing is locked").is_none());
    }

    /// A file is replaced whole; a link stays one, also where it leads to nothing yet; a device stays a device.
    #[test]
    fn files_are_put_where_links_lead() {
        use std::os::unix::fs::FileTypeExt;
        let folder = tempfile::tempdir().expect("a folder");
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::os::unix::fs::symlink("file", &link).expect("a link");
        for text in ["one", "two"] {
            put_file(&link, text).expect("writes");
            assert_eq!(std::fs::read_to_string(&file).expect("reads"), text);
            assert!(std::fs::symlink_metadata(&link).expect("is there").is_symlink());
        }
        put_file(&file, "three").expect("writes");
        assert_eq!(std::fs::read_to_string(&link).expect("reads"), "three");
        put_file(Path::new("/dev/null"), "four").expect("writes");
        assert!(std::fs::metadata("/dev/null").expect("is there").file_type().is_char_device());
    }
}
