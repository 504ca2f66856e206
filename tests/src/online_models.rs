//! Models that go on learning: killed and resumed at other numbers of shards, replayed, looked at while they learn.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, TimestampMillisecondArray};
use arrow::compute::cast;
use arrow::util::display::array_value_to_string;
use eagre::{InputHandle, Session};
use eagre_engine::checkpoint::{CheckpointStore, MemoryStore};
use libtest_mimic::Trial;

use crate::harness::{Random, run_killed};
use crate::process::{eagre, visible_lines};
use crate::scores::write_in_order;

const ROWS: u64 = 1_500;

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn() -> Result<(), String>| {
        Trial::test(format!("online_models::{name}"), move || Ok(test()?))
    };
    vec![
        trial("killed_and_resumed_with_what_was_learnt", killed),
        trial("what_is_learnt_is_shown_and_asked_while_it_goes_on", shown),
    ]
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Payments, and verdicts on some of them a while later; in disorder of a few seconds.
fn write_rows(folder: &Path) -> Result<(), String> {
    let mut random = Random::named("online models");
    let (mut payments, mut verdicts) = (Vec::new(), Vec::new());
    for id in 0..ROWS {
        let amount = random.between(1, 1_000);
        let (items, second) = (random.between(1, 9), id / 3);
        let time = |second: u64| format!("2026-01-01 00:{:02}:{:02}", second / 60 % 60, second % 60);
        let fraud = amount / items > 120 + random.between(0, 60);
        payments.push((
            second * 10 + random.between(0, 40),
            format!("{{\"id\":{id},\"ts\":\"{}\",\"amount\":{amount},\"items\":{items}}}", time(second)),
        ));
        // Some verdicts are no lessons.
        let items = if id % 97 == 0 { "null".to_owned() } else { items.to_string() };
        verdicts.push((
            (second + 20) * 10 + random.between(0, 40),
            format!("{{\"ts\":\"{}\",\"amount\":{amount},\"items\":{items},\"fraud\":{fraud}}}", time(second + 20)),
        ));
    }
    write_in_order(&folder.join("payments.json"), payments)?;
    write_in_order(&folder.join("verdicts.json"), verdicts)
}

fn definitions(folder: &Path, options: &str) -> String {
    let folder = folder.display();
    format!(
        "CREATE TABLE payment (id INT, ts TIMESTAMP(3), amount DOUBLE, items INT, WATERMARK FOR ts AS ts - INTERVAL '10' SECOND)
         WITH ('connector' = 'filesystem', 'path' = '{folder}/payments.json', 'format' = 'json');
         CREATE TABLE verdict (ts TIMESTAMP(3), amount DOUBLE, items INT, fraud BOOLEAN, WATERMARK FOR ts AS ts - INTERVAL '10' SECOND)
         WITH ('connector' = 'filesystem', 'path' = '{folder}/verdicts.json', 'format' = 'json');
         CREATE MODEL fraud WITH ('learn' = 'online', 'label' = 'fraud', 'window-rows' = '200', {options}) AS SELECT ts, amount, items, fraud FROM verdict;"
    )
}

const ANSWERS: &str =
    "SELECT id, c.label, c.probability FROM (SELECT id, classify(fraud, amount, items) AS c FROM payment)";
const DRIFT: &str = "SELECT rows_learnt, accuracy, log_loss, psi FROM fraud.drift";

fn sorted(lines: &str) -> Vec<String> {
    let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn killed() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(text)?;
    let folder = folder.path();
    write_rows(folder)?;
    for (name, options) in [
        ("logistic", "'arch' = 'logistic'"),
        ("mlp", "'arch' = 'mlp', 'task' = 'classifier', 'hidden' = '6', 'half-life' = '500'"),
    ] {
        let definitions = definitions(folder, options);
        let calm = |query: &str, shards: &str| {
            let sql = format!("{definitions}{query}");
            Ok::<_, String>(sorted(&eagre(&["run", "--format", "ndjson", "--shards", shards, "-e", &sql]).ok()?.stdout))
        };
        let (answers, drift) = (calm(ANSWERS, "1")?, calm(DRIFT, "1")?);
        if answers.len() as u64 != ROWS || answers != calm(ANSWERS, "3")? || drift != calm(DRIFT, "3")? {
            return Err(format!("{name}: 3 shards answer otherwise than 1"));
        }
        // It has learnt something: of the last window it knows more than the most frequent label.
        let told = calm("SELECT rows_learnt, accuracy > baseline_accuracy + 0.05 AS good FROM fraud.drift", "1")?;
        if !told.iter().any(|line| line == "{\"rows_learnt\":1400,\"good\":true}") {
            return Err(format!("{name}: {told:?}"));
        }
        let sinks = format!(
            "{definitions}
             CREATE TABLE answered (id INT, label STRING, probability DOUBLE) WITH ('connector' = 'filesystem', 'path' = '{0}/{name}_a', 'format' = 'json');
             CREATE TABLE drifted (rows_learnt BIGINT, accuracy DOUBLE, log_loss DOUBLE, psi DOUBLE) WITH ('connector' = 'filesystem', 'path' = '{0}/{name}_d', 'format' = 'json');
             EXECUTE STATEMENT SET BEGIN INSERT INTO answered {ANSWERS}; INSERT INTO drifted {DRIFT}; END;",
            folder.display()
        );
        let state = folder.join(format!("{name}_state")).display().to_string();
        let settings = [("eagre.step.rows_max", "60"), ("eagre.checkpoint.steps", "2")];
        run_killed(
            &sinks,
            &state,
            &settings,
            &[(1u64, Some(5)), (3, Some(14)), (2, Some(19)), (1, Some(31)), (3, None)],
        )?;
        for (query, calm, written) in [(ANSWERS, &answers, "a"), (DRIFT, &drift, "d")] {
            let mut lines = visible_lines(&folder.join(format!("{name}_{written}")));
            lines.sort();
            if &lines != calm {
                let odd = lines.iter().zip(calm).find(|(killed, calm)| killed != calm);
                return Err(format!(
                    "{name}: {query}: {} rows and {} undisturbed, first {odd:?}",
                    lines.len(),
                    calm.len()
                ));
            }
        }
    }
    Ok(())
}

fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let mut lines = vec![];
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| array_value_to_string(column, row).expect("printable"));
            lines.push(cells.collect::<Vec<_>>().join("|"));
        }
    }
    lines
}

fn read(session: &Session, sql: &str) -> Result<Vec<String>, String> {
    Ok(lines(&session.execute(sql).map_err(text)?.tables))
}

/// Labelled numbers a second apart: `x` and whether it is above 5.
fn push(handle: &mut InputHandle, first: i64, xs: &[f64]) -> Result<(), String> {
    let times = TimestampMillisecondArray::from_iter_values((first..).take(xs.len()).map(|second| second * 1_000));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(times),
        Arc::new(Float64Array::from(xs.to_vec())),
        Arc::new(xs.iter().map(|x| Some(*x > 5.0)).collect::<BooleanArray>()),
    ];
    let schema = Arc::clone(handle.schema());
    let columns = columns.iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()));
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(text)?;
    let batch = RecordBatch::try_new(schema, columns).map_err(text)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(text)?;
    runtime.block_on(handle.push(batch)).map_err(text)
}

/// Reads until the answer has this line.
fn until(session: &Session, sql: &str, line: &str) -> Result<Vec<String>, String> {
    let mut found = vec![];
    for _ in 0..5_000 {
        found = read(session, sql)?;
        if found.iter().any(|found| found == line) {
            return Ok(found);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Err(format!("no `{line}` in {found:?}"))
}

fn shown() -> Result<(), String> {
    for shards in ["1", "3"] {
        let store: Arc<dyn CheckpointStore> = Arc::new(MemoryStore::new());
        let session = || Session::builder().set("eagre.shards", shards).store(Arc::clone(&store)).build().map_err(text);
        let first = session()?;
        first
            .execute("CREATE TABLE t (ts TIMESTAMP(3), x DOUBLE, above BOOLEAN, WATERMARK FOR ts AS ts) WITH ('connector' = 'push')")
            .map_err(text)?;
        let create = "CREATE MODEL m WITH ('learn' = 'online', 'arch' = 'logistic', 'label' = 'above', 'window-rows' = '20', 'reference-rows' = '20') \
                      AS SELECT ts, x, above FROM t";
        first.execute(create).map_err(text)?;
        if read(&first, "SHOW MODELS")?
            != [
                "m|online logistic(1, 2), version: 0, rows learnt: 0|x DOUBLE|label STRING, probability DOUBLE, priority DOUBLE, \
                                              probabilities ROW<false DOUBLE, true DOUBLE>",
            ]
        {
            return Err(format!("{:?}", read(&first, "SHOW MODELS")?));
        }
        first.execute("CREATE MATERIALIZED VIEW health AS SELECT rows_learnt, accuracy FROM m.drift").map_err(text)?;
        first.execute("CREATE MATERIALIZED VIEW v AS SELECT x, predict(m, x) AS p FROM t").map_err(text)?;
        let mut rows = first.input("t").map_err(text)?;
        // 0 to 10 and back, so that nothing is to be seen of the order.
        let xs: Vec<f64> = (0..201).map(|row| f64::from(row * 7 % 11)).collect();
        push(&mut rows, 0, &xs)?;
        // The last row waits until time has passed it.
        until(&first, "DESCRIBE MODEL m", "learning|version|200")?;
        let described = read(&first, "DESCRIBE MODEL m")?;
        for wanted in [
            "model|m|online logistic(1, 2)",
            "option|learn|online",
            "learning|rows learnt|200",
            "learning|accuracy, last 20 rows|1",
        ] {
            if !described.iter().any(|line| line == wanted) {
                return Err(format!("no `{wanted}` in {described:?}"));
            }
        }
        until(&first, "SELECT count(*) FROM v", "200")?;
        until(&first, "SELECT count(*), min(rows_learnt), max(rows_learnt) FROM health", "10|20|200")?;
        // Rows that are kept are answered by what is known now.
        let now = read(&first, "SELECT DISTINCT x, predict(m, x) FROM v WHERE x IN (1, 10) ORDER BY x")?;
        if now != ["1.0|false", "10.0|true"] {
            return Err(format!("{now:?}"));
        }
        let job = first.execute("SUBSCRIBE TO v").map_err(text)?.job.ok_or("no pipeline runs")?;
        job.stop();
        job.wait_blocking().map_err(text)?;
        drop((rows, first));
        // It goes on with what it has learnt.
        let second = session()?;
        second.resume().map_err(text)?;
        until(&second, "DESCRIBE MODEL m", "learning|version|200")?;
        let mut rows = second.input("t").map_err(text)?;
        push(&mut rows, 201, &[9.0, 1.0, 9.0])?;
        until(&second, "DESCRIBE MODEL m", "learning|version|203")?;
        until(&second, "SELECT count(*), count(*) FILTER (WHERE p = 'true') > 60 FROM v", "203|true")?;
    }
    Ok(())
}
