//! Runs statements under schedules: how input is cut into steps, how many shards there are, where the process dies.
//!
//! A schedule must never show in an answer. A crash is simulated in this process: the pipeline vanishes after a step, without a last
//! checkpoint, and another session goes on from the same store at another shard count.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use eagre::Session;
use eagre_engine::checkpoint::MemoryStore;
use eagre_engine::runtime::Summary;

/// How one run of a query goes.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    pub(crate) shards: u64,
    pub(crate) rows_max: u64,
    /// Empty: the run is calm.
    pub(crate) crashes: Vec<Crash>,
    /// Steps between two checkpoints.
    pub(crate) checkpoint_steps: u64,
}

/// The end of a process, and the start of the next one.
#[derive(Debug, Clone)]
pub(crate) struct Crash {
    /// After which step.
    pub(crate) after_step: u64,
    /// The shards of the process that goes on.
    pub(crate) shards: u64,
}

/// What a query gave.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
    /// None: no pipeline ran (`SHOW`, `DESCRIBE`).
    pub(crate) summary: Option<Summary>,
}

/// What a session needs before the query: tables, settings.
pub(crate) type Scene<'a> = &'a dyn Fn(&Session) -> eagre::Result<()>;

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} shards, {} rows a step", self.shards, self.rows_max)?;
        for crash in &self.crashes {
            write!(f, ", killed after step {}, resumed with {} shards", crash.after_step, crash.shards)?;
        }
        if !self.crashes.is_empty() {
            write!(f, ", a checkpoint every {} steps", self.checkpoint_steps)?;
        }
        Ok(())
    }
}

impl Schedule {
    /// Each row a step of its own, one shard: the watermark moves after each row.
    pub(crate) fn row_by_row() -> Self {
        Self::calm(1, 1)
    }

    pub(crate) fn calm(shards: u64, rows_max: u64) -> Self {
        Self { shards, rows_max, crashes: Vec::new(), checkpoint_steps: 1 }
    }

    /// Calm ones that differ from row by row, then crashes within the first `steps` steps. `rows_max`: fixed, or random.
    pub(crate) fn others(random: &mut Random, rows_max: Option<u64>, steps: u64) -> Vec<Self> {
        let rows = |random: &mut Random| rows_max.unwrap_or_else(|| random.between(1, 12));
        let mut schedules =
            vec![Self::calm(3, rows_max.unwrap_or(1)), Self::calm(1, rows(random)), Self::calm(3, rows(random))];
        for (before, after) in [(1, 3), (3, 2)] {
            // `steps` is of a run with the fixed size, or row by row: larger steps are fewer, and a crash after the last one is none.
            let size = if before == 1 { rows_max.unwrap_or(1) } else { rows(random) };
            let last = if rows_max.is_some() { steps } else { steps.div_ceil(size) };
            let first = random.between(1, last.max(1));
            let mut crashes = vec![Crash { after_step: first, shards: after }];
            if random.between(0, 1) == 1 {
                crashes.push(Crash { after_step: first + random.between(0, 3), shards: before });
            }
            schedules.push(Self { shards: before, rows_max: size, crashes, checkpoint_steps: random.between(1, 3) });
        }
        schedules
    }
}

/// Runs `sql`, which holds one query, on a scene.
pub(crate) fn run(schedule: &Schedule, scene: Scene<'_>, sql: &str) -> eagre::Result<Answer> {
    let mut answers = run_all(schedule, scene, sql)?;
    assert!(answers.len() == 1, "`{sql}` gives {} results, one is needed", answers.len());
    Ok(answers.remove(0))
}

/// Runs `sql`, whose queries become one pipeline, on a scene: the answer of each query.
pub(crate) fn run_all(schedule: &Schedule, scene: Scene<'_>, sql: &str) -> eagre::Result<Vec<Answer>> {
    if schedule.crashes.is_empty() {
        return attempt(schedule, schedule.shards, None, None, scene, sql);
    }
    let store = MemoryStore::new();
    let mut shards = schedule.shards;
    for crash in &schedule.crashes {
        let answers = attempt(schedule, shards, Some(&store), Some(crash.after_step), scene, sql)?;
        if answers.iter().all(|answer| answer.summary.as_ref().is_none_or(|summary| summary.finished)) {
            // The input ended before the crash.
            return Ok(answers);
        }
        shards = crash.shards;
    }
    attempt(schedule, shards, Some(&store), None, scene, sql)
}

fn attempt(
    schedule: &Schedule,
    shards: u64,
    store: Option<&MemoryStore>,
    abort_after_step: Option<u64>,
    scene: Scene<'_>,
    sql: &str,
) -> eagre::Result<Vec<Answer>> {
    let mut builder = Session::builder()
        .set("eagre.shards", shards.to_string())
        .set("eagre.step.rows_max", schedule.rows_max.to_string())
        .set("eagre.checkpoint.steps", schedule.checkpoint_steps.to_string())
        .set("eagre.checkpoint.interval", "1 h")
        .set("eagre.seed", "7");
    if let Some(store) = store {
        builder = builder.store(Arc::new(store.clone()));
    }
    if let Some(step) = abort_after_step {
        builder = builder.abort_after_step(step);
    }
    let session = builder.build()?;
    scene(&session)?;
    let execution = session.execute(sql)?;
    let Some(mut job) = execution.job else {
        let answer = |batch: RecordBatch| Answer { schema: batch.schema(), batches: vec![batch], summary: None };
        return Ok(execution.tables.into_iter().map(answer).collect());
    };
    // An unread result holds the pipeline back: all are read at once.
    let readers: Vec<_> = job
        .take_results()
        .into_iter()
        .map(|result| (Arc::clone(result.schema()), std::thread::spawn(move || result.collect_blocking())))
        .collect();
    // Of two errors that of the pipeline is the cause.
    let summary = job.wait_blocking()?;
    let answer = |(schema, reader): (SchemaRef, std::thread::JoinHandle<eagre::Result<Vec<RecordBatch>>>)| {
        let batches = reader.join().expect("no panic while reading")?;
        Ok(Answer { schema, batches, summary: Some(summary.clone()) })
    };
    readers.into_iter().map(answer).collect()
}

/// A run of the other sort of input, that does not end: what came out once all `rows` of it were taken and worked on.
pub(crate) fn run_open(schedule: &Schedule, rows: u64, scene: Scene<'_>, sql: &str) -> eagre::Result<Answer> {
    let session = Session::builder()
        .set("eagre.shards", schedule.shards.to_string())
        .set("eagre.step.rows_max", schedule.rows_max.to_string())
        .build()?;
    scene(&session)?;
    let execution = session.execute(sql)?;
    let mut job = execution.job.expect("a query over a table is a pipeline");
    let result = job.take_results().remove(0);
    let schema = Arc::clone(result.schema());
    let metrics = Arc::clone(job.metrics().expect("it runs"));
    let reader = std::thread::spawn(move || result.collect_blocking());
    while metrics.rows_read.get() < rows && !job.is_finished() {
        std::thread::yield_now();
    }
    job.stop();
    let summary = job.wait_blocking()?;
    let batches = reader.join().expect("no panic while reading")?;
    Ok(Answer { schema, batches, summary: Some(summary) })
}

/// Runs statements to the end of their input, in the state folder `state`: at each of some numbers of shards in turn, and killed after a step
/// in all but the last.
pub(crate) fn run_killed(
    sql: &str,
    state: &str,
    settings: &[(&str, &str)],
    attempts: &[(u64, Option<u64>)],
) -> Result<(), String> {
    let text = |error: eagre::Error| error.to_string();
    let mut finished = false;
    for (shards, abort) in attempts {
        let mut builder = Session::builder().set("eagre.shards", shards.to_string()).state(state);
        for (name, value) in settings {
            builder = builder.set(*name, *value);
        }
        if let Some(step) = abort {
            builder = builder.abort_after_step(*step);
        }
        let job = builder.build().map_err(text)?.execute(sql).map_err(text)?.job.ok_or("no pipeline runs")?;
        finished = job.wait_blocking().map_err(text)?.finished;
    }
    if finished { Ok(()) } else { Err("the input does not end".to_owned()) }
}

/// SplitMix64: the same numbers on every machine.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// Numbers of their own for each name, all from the one seed of the run.
    pub(crate) fn named(name: &str) -> Self {
        let mut hash = seed() ^ 0xcbf2_9ce4_8422_2325;
        for byte in name.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Self(hash)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Both ends included.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }
}

/// The seed of this run: `EAGRE_TESTS_SEED`, or a fixed one.
pub(crate) fn seed() -> u64 {
    std::env::var("EAGRE_TESTS_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(2026)
}

/// How long each of so many trials goes on with random cases: all of them, beside each other, take `EAGRE_RANDOM_SECONDS` seconds.
pub(crate) fn time_of_each(trials: u64) -> Duration {
    let seconds: u64 = std::env::var("EAGRE_RANDOM_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let beside = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    Duration::from_millis(seconds * 1_000 * beside.min(trials) / trials)
}

/// A folder of this crate.
pub(crate) fn folder(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
