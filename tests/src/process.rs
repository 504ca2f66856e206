//! The command as a process: run to its end, or interrupted; and a small pipeline for it in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The command, built by this package from the real one's `main.rs`.
pub(crate) const EAGRE: &str = env!("CARGO_BIN_EXE_eagre-under-test");
/// No run of a test takes so long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a run of the command gave.
#[derive(Debug)]
pub(crate) struct Ended {
    /// None: killed by a signal.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The command with arguments and without the settings of whoever runs the tests.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(EAGRE);
    command.args(args);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("EAGRE_")) {
        command.env_remove(name);
    }
    command
}

/// Runs the command to its end.
pub(crate) fn eagre(args: &[&str]) -> Ended {
    ended(command(args).stdin(Stdio::null()))
}

/// Runs a command to its end.
pub(crate) fn ended(command: &mut Command) -> Ended {
    let output = command.output().expect("the command starts");
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Ended {
    /// Exit code 0, else all that it said.
    pub(crate) fn ok(self) -> Result<Self, String> {
        match self.code {
            Some(0) => Ok(self),
            _ => Err(format!("exit code {:?}\n{}{}", self.code, self.stdout, self.stderr)),
        }
    }

    /// This exit code and each of these texts on standard error.
    pub(crate) fn says(&self, code: i32, texts: &[&str]) -> Result<(), String> {
        let missing: Vec<&&str> = texts.iter().filter(|text| !self.stderr.contains(**text)).collect();
        match self.code == Some(code) && missing.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "expected exit code {code} and {missing:?}; exit code {:?}, standard error:\n{}standard output:\n{}",
                self.code, self.stderr, self.stdout
            )),
        }
    }
}

/// A process that is killed when the test ends, however it ends.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    pub(crate) fn start(args: &[&str]) -> Self {
        let child = command(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self(child.expect("the command starts"))
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        let sent = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status().expect("there is a `kill`");
        assert!(sent.success(), "the process is gone before Ctrl-C");
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Ended {
        let (stdout, stderr) = (self.0.stdout.take(), self.0.stderr.take());
        let read = |pipe: Option<Box<dyn std::io::Read + Send>>| {
            std::thread::spawn(move || {
                pipe.map_or_else(String::new, |pipe| std::io::read_to_string(pipe).unwrap_or_default())
            })
        };
        let stdout = read(stdout.map(|pipe| Box::new(pipe) as _));
        let stderr = read(stderr.map(|pipe| Box::new(pipe) as _));
        let status = self.0.wait().expect("a child can be waited for");
        let text = |thread: std::thread::JoinHandle<String>| thread.join().expect("no panic while reading");
        Ended { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }
}

/// Waits until `done` says so.
pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) -> Result<(), String> {
    let started = Instant::now();
    while !done() {
        if started.elapsed() > PATIENCE {
            return Err(format!("waited too long for {what}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// All files below a folder that a reader of the folder would see.
pub(crate) fn visible_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let hidden = entry.file_name().to_string_lossy().starts_with(['.', '_']);
        match entry.path() {
            _ if hidden => {}
            path if path.is_dir() => files.extend(visible_files(&path)),
            path => files.push(path),
        }
    }
    files.sort();
    files
}

/// All lines of the visible files of a folder, sorted.
pub(crate) fn visible_lines(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for file in visible_files(folder) {
        let text = std::fs::read_to_string(&file).expect("a visible file is readable text");
        lines.extend(text.lines().map(str::to_owned));
    }
    lines.sort();
    lines
}

/// A pipeline in a folder of its own: `in/events.json` to `out/`, state in `state/`.
pub(crate) struct Pipeline {
    pub(crate) folder: TempDir,
}

const EVENTS: &str = "\
{\"ts\": \"2026-01-01 00:00:01\", \"k\": \"a\", \"v\": 1}
{\"ts\": \"2026-01-01 00:00:04\", \"k\": \"b\", \"v\": 2}
{\"ts\": \"2026-01-01 00:00:11\", \"k\": \"a\", \"v\": 3}
{\"ts\": \"2026-01-01 00:00:12\", \"k\": \"a\", \"v\": null}
{\"ts\": \"2026-01-01 00:00:25\", \"k\": \"c\", \"v\": 5}
";

impl Pipeline {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("in")).expect("an empty folder");
        std::fs::write(folder.path().join("in/events.json"), EVENTS).expect("a small file");
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Tables `events` and `out`; `watched`: the input does not end.
    pub(crate) fn tables(&self, watched: bool) -> String {
        let monitor = if watched { ", 'source.monitor-interval' = '20 ms'" } else { "" };
        format!(
            "SET 'eagre.checkpoint.interval' = '20 ms';
             CREATE TABLE events (ts TIMESTAMP(3), k STRING, v BIGINT, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
             WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json'{monitor});
             CREATE TABLE out (window_start TIMESTAMP(3), k STRING, n BIGINT, total BIGINT)
             WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');\n",
            self.path("in"),
            self.path("out")
        )
    }

    pub(crate) fn sql(&self, watched: bool) -> String {
        self.tables(watched) + INSERT
    }

    pub(crate) fn run(&self, sql: &str, more: &[&str]) -> Ended {
        let state = self.path("state");
        let mut args = vec!["run", "-e", sql, "--state", &state];
        args.extend(more);
        eagre(&args)
    }

    /// Runs the watched pipeline until it has a checkpoint, then Ctrl-C: a state folder that is not finished.
    pub(crate) fn interrupted(&self) -> Result<Ended, String> {
        let running = Running::start(&["run", "-e", &self.sql(true), "--state", &self.path("state")]);
        wait_for("the first windows", || !visible_files(&self.folder.path().join("out")).is_empty())?;
        running.interrupt();
        running.end().ok()
    }
}

pub(crate) const INSERT: &str = "\
INSERT INTO out SELECT window_start, k, COUNT(*), SUM(v) FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, k";
