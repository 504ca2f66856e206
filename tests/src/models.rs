//! Models on a session that runs, ends, and goes on: exchanged at a step, told when they are others, trained once, replayed as they were.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::util::display::array_value_to_string;
use eagre::{InputHandle, Session};
use eagre_engine::checkpoint::{CheckpointStore, MemoryStore};
use libtest_mimic::Trial;

use crate::harness::folder;
use crate::process::eagre;

pub(crate) fn trials() -> Vec<Trial> {
    let trial =
        |name: &str, test: fn() -> Result<(), String>| Trial::test(format!("models::{name}"), move || Ok(test()?));
    vec![
        trial("a_model_is_exchanged_while_rows_come", exchanged),
        trial("a_model_stays_where_its_answers_are_taken_back", stays),
        trial("a_query_asks_what_a_name_means_at_its_place", meant_at_its_place),
        trial("another_file_is_told_when_a_pipeline_goes_on", another_file),
        trial("a_replay_asks_the_models_of_then", replay),
        trial("a_service_is_asked_once_and_never_in_a_replay", service),
        trial("a_service_reads_and_gives_arrays", arrays_of_a_service),
        trial("what_was_trained_is_not_trained_again", trained_once),
        trial("describe_and_show_tell_what_is_known", described),
    ]
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn file(name: &str) -> String {
    folder("cases/slt/data/models").join(name).display().to_string()
}

/// A network of one layer and one input: `factor` times that.
fn times(factor: f32) -> Vec<u8> {
    let header = r#"{"weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(&factor.to_le_bytes());
    bytes
}

fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let mut lines = vec![];
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| array_value_to_string(column, row).expect("printable"));
            lines.push(cells.collect::<Vec<_>>().join("|"));
        }
    }
    lines.sort();
    lines
}

fn read(session: &Session, sql: &str) -> Result<Vec<String>, String> {
    Ok(lines(&session.execute(sql).map_err(text)?.tables))
}

/// Reads until the view has so many rows.
fn settled(session: &Session, view: &str, rows: usize) -> Result<Vec<String>, String> {
    for _ in 0..5_000 {
        let found = read(session, &format!("SELECT * FROM {view}"))?;
        if found.len() >= rows {
            return Ok(found);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Err(format!("{view} does not have {rows} rows"))
}

fn expect<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{found:?}, expected {expected:?}")) }
}

fn push(handle: &mut InputHandle, ids: &[i64]) -> Result<(), String> {
    let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
    let schema = handle.schema();
    let ids = cast(&ids, schema.field(0).data_type()).map_err(text)?;
    let batch = RecordBatch::try_new(Arc::clone(schema), vec![ids]).map_err(text)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(text)?;
    runtime.block_on(handle.push(batch)).map_err(text)
}

fn create(path: &Path) -> String {
    format!("CREATE OR REPLACE MODEL m INPUT (x DOUBLE) WITH ('path' = '{}', 'arch' = 'linear')", path.display())
}

fn exchanged() -> Result<(), String> {
    for shards in ["1", "3"] {
        let folder = tempfile::tempdir().map_err(text)?;
        let path = folder.path().join("m.safetensors");
        let store: Arc<dyn CheckpointStore> = Arc::new(MemoryStore::new());
        let session = || Session::builder().set("eagre.shards", shards).store(Arc::clone(&store)).build().map_err(text);
        let first = session()?;
        std::fs::write(&path, times(2.0)).map_err(text)?;
        first.execute("CREATE TABLE t (id BIGINT) WITH ('connector' = 'push')").map_err(text)?;
        first.execute(&create(&path)).map_err(text)?;
        let view = "CREATE MATERIALIZED VIEW v AS SELECT id, predict(m, id) AS p FROM t";
        first.execute(view).map_err(text)?;
        let mut rows = first.input("t").map_err(text)?;
        push(&mut rows, &[1, 2])?;
        expect(settled(&first, "v", 2)?, vec!["1|2.0".into(), "2|4.0".into()])?;
        std::fs::write(&path, times(10.0)).map_err(text)?;
        first.execute(&create(&path)).map_err(text)?;
        push(&mut rows, &[3, 4])?;
        let all = vec!["1|2.0".to_owned(), "2|4.0".into(), "3|30.0".into(), "4|40.0".into()];
        expect(settled(&first, "v", 4)?, all.clone())?;
        // One that takes or gives something else cannot be asked in its place.
        let other =
            format!("CREATE OR REPLACE MODEL m WITH ('path' = '{}', 'arch' = 'linear')", file("linear.safetensors"));
        let error = first.execute(&other).err().map(text).ok_or("it has two inputs")?;
        if !error.contains("model `m` is in use and takes (x DOUBLE)") {
            return Err(error);
        }
        // Two pipelines must not write one state.
        let job = first.execute("SUBSCRIBE TO v").map_err(text)?.job.ok_or("no pipeline runs")?;
        job.stop();
        job.wait_blocking().map_err(text)?;
        drop((rows, first));
        // It goes on with the one that came last, also where the text has both.
        let second = session()?;
        second.resume().map_err(text)?;
        let mut rows = second.input("t").map_err(text)?;
        expect(settled(&second, "v", 4)?, all)?;
        push(&mut rows, &[5])?;
        expect(settled(&second, "v", 5)?.pop(), Some("5|50.0".into()))?;
    }
    Ok(())
}

fn stays() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(text)?;
    let path = folder.path().join("m.safetensors");
    std::fs::write(&path, times(2.0)).map_err(text)?;
    let session = Session::builder().build().map_err(text)?;
    session.execute("CREATE TABLE t (id BIGINT) WITH ('connector' = 'push')").map_err(text)?;
    session.execute(&create(&path)).map_err(text)?;
    let view = "CREATE MATERIALIZED VIEW v AS SELECT k, predict(m, c) AS p FROM (SELECT id % 2 AS k, count(*) AS c FROM t GROUP BY id % 2)";
    session.execute(view).map_err(text)?;
    let mut rows = session.input("t").map_err(text)?;
    push(&mut rows, &[1, 2, 3])?;
    for _ in 0..5_000 {
        if read(&session, "SELECT * FROM v")? == ["0|2.0", "1|4.0"] {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    std::fs::write(&path, times(3.0)).map_err(text)?;
    let error = session.execute(&create(&path)).err().map(text).ok_or("its answers are taken back")?;
    if !error.contains("rows that can be taken back") {
        return Err(error);
    }
    push(&mut rows, &[5])?;
    for _ in 0..5_000 {
        if read(&session, "SELECT * FROM v")? == ["0|2.0", "1|6.0"] {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Err(format!("{:?}", read(&session, "SELECT * FROM v")?))
}

fn run(model: &Path, out: &Path, rows: u64) -> String {
    format!(
        "SET 'eagre.step.rows_max' = '4'; SET 'eagre.checkpoint.steps' = '2'; SET 'eagre.checkpoint.retain' = '100';
         CREATE TABLE gen (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '{rows}', 'fields.n.kind' = 'sequence',
           'fields.n.start' = '0', 'fields.n.end' = '39');
         CREATE TABLE out (n BIGINT, p DOUBLE) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv', 'csv.header' = 'false');
         {}; INSERT INTO out SELECT n, predict(m, n) FROM gen",
        out.display(),
        create(model)
    )
}

fn another_file() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(text)?;
    let path = |name: &str| folder.path().join(name);
    // A fresh one for each try: what the killed run has published belongs to its checkpoint.
    let open = |store: &MemoryStore, abort: Option<u64>| {
        let builder = Session::builder().store(Arc::new(store.clone()));
        match abort {
            Some(step) => builder.abort_after_step(step),
            None => builder,
        }
        .build()
        .map_err(text)
    };
    let go = |store: &MemoryStore, out: &Path, abort: Option<u64>| -> Result<(), String> {
        let session = open(store, abort)?;
        let job = session.execute(&run(&path("m.safetensors"), out, 40)).map_err(text)?.job.ok_or("nothing runs")?;
        job.wait_blocking().map(drop).map_err(text)
    };
    std::fs::write(path("m.safetensors"), times(2.0)).map_err(text)?;
    // It vanishes, as by `kill -9`, until it does so after a checkpoint, which is written beside the steps.
    let mut vanished = None;
    for attempt in 0..100 {
        let (store, out) = (MemoryStore::new(), path(&format!("out{attempt}")));
        go(&store, &out, Some(6))?;
        if open(&store, None)?.checkpoint().map_err(text)?.is_some() {
            vanished = Some((store, out));
            break;
        }
    }
    let (store, out) = vanished.ok_or("no run came past a checkpoint")?;
    let go = |abort| go(&store, &out, abort);
    std::fs::write(path("m.safetensors"), times(3.0)).map_err(text)?;
    let error = go(None).err().ok_or("it goes on with another model")?;
    for wanted in ["model `m` (safetensors linear(1, 1)) is another one than that of the checkpoint", "--fresh"] {
        if !error.contains(wanted) {
            return Err(error);
        }
    }
    std::fs::write(path("m.safetensors"), times(2.0)).map_err(text)?;
    go(None)?;
    let rows = crate::process::visible_lines(&out);
    let mut expected: Vec<String> = (0..40).map(|n| format!("{n},{:?}", f64::from(n) * 2.0)).collect();
    expected.sort();
    expect(rows, expected)
}

fn replay() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(text)?;
    let path = |name: &str| folder.path().join(name);
    let state = path("state").display().to_string();
    std::fs::write(path("m.safetensors"), times(2.0)).map_err(text)?;
    eagre(&["run", "--state", &state, "-e", &run(&path("m.safetensors"), &path("out"), 40)]).ok()?;
    let replayed = || eagre(&["replay", "--state", &state]);
    let before = replayed().ok()?;
    // What lies under the path by now is asked by nobody.
    std::fs::write(path("m.safetensors"), times(100.0)).map_err(text)?;
    let after = replayed().ok()?;
    if !before.stdout.contains("78") {
        return Err(before.stdout);
    }
    expect(after.stdout, before.stdout)
}

/// A service that answers each of the instances of a request by `predict`, and counts them; its address.
fn serve(
    rows: Arc<AtomicUsize>,
    predict: impl Fn(&serde_json::Value) -> serde_json::Value + Send + Sync + 'static,
) -> Result<String, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(text)?;
    let url = format!("http://{}/predict", listener.local_addr().map_err(text)?);
    let answer = move |stream: TcpStream| -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut stream = stream;
        loop {
            let mut length = 0;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            let body: serde_json::Value = serde_json::from_slice(&body)?;
            let asked = body["instances"].as_array().cloned().unwrap_or_default();
            rows.fetch_add(asked.len(), Ordering::SeqCst);
            let predictions: Vec<serde_json::Value> = asked.iter().map(&predict).collect();
            let text = serde_json::json!({ "predictions": predictions }).to_string();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())?;
        }
    };
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || answer(stream));
        }
    });
    Ok(url)
}

fn service() -> Result<(), String> {
    for shards in ["1", "3"] {
        let (factor, rows) = (Arc::new(AtomicUsize::new(10)), Arc::new(AtomicUsize::new(0)));
        let by = Arc::clone(&factor);
        // Ten times as much, and nothing that fits about 3.
        let url = serve(Arc::clone(&rows), move |instance| match instance["n"].as_i64() {
            Some(3) => "three".into(),
            number => (number.unwrap_or(0) * by.load(Ordering::SeqCst) as i64).into(),
        })?;
        let folder = tempfile::tempdir().map_err(text)?;
        let path = |name: &str| folder.path().join(name);
        let state = path("state").display().to_string();
        let table = |name: &str, columns: &str| {
            let path = path(name).display().to_string();
            format!(
                "CREATE TABLE {name} ({columns}) WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'csv', 'csv.header' = 'false');"
            )
        };
        let sql = format!(
            "SET 'eagre.step.rows_max' = '4'; SET 'eagre.checkpoint.steps' = '2'; SET 'eagre.checkpoint.retain' = '100';
             CREATE TABLE gen (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '40', 'fields.n.kind' = 'sequence',
               'fields.n.start' = '0', 'fields.n.end' = '39');
             {}{}
             CREATE MODEL m INPUT (n BIGINT) OUTPUT (tenfold BIGINT) WITH ('provider' = 'http', 'url' = '{url}', 'payload' = 'vertex',
               'cache.max-rows' = '1000', 'batch-rows' = '3');
             CREATE VIEW asked AS SELECT n, predict(m, n % 5) AS p FROM gen;
             BEGIN STATEMENT SET; INSERT INTO out SELECT n, p FROM asked; INSERT INTO bad SELECT origin, reason FROM asked.errors; END",
            table("out", "n BIGINT, p BIGINT"),
            table("bad", "origin STRING, reason STRING"),
        );
        eagre(&["run", "--state", &state, "--shards", shards, "-e", &sql]).ok()?;
        let mut expected: Vec<String> =
            (0..40).map(|n| if n % 5 == 3 { format!("{n},") } else { format!("{n},{}", n % 5 * 10) }).collect();
        expected.sort();
        expect(crate::process::visible_lines(&path("out")), expected)?;
        let bad = crate::process::visible_lines(&path("bad"));
        expect(bad.len(), 8)?;
        if !bad[0].starts_with("model m,") || !bad[0].contains("and not a whole number") {
            return Err(bad[0].clone());
        }
        // Each of four answers once, and the one that fails whenever it comes, once a step.
        let asked = rows.load(Ordering::SeqCst);
        if !(12..=14).contains(&asked) {
            return Err(format!("{asked} rows were asked for"));
        }
        factor.store(77, Ordering::SeqCst);
        let replayed = eagre(&["replay", "--state", &state]).ok()?;
        expect(rows.load(Ordering::SeqCst), asked)?;
        if !replayed.stdout.contains(r#""p":40"#) || replayed.stdout.contains(r#""p":77"#) {
            return Err(replayed.stdout);
        }
    }
    Ok(())
}

/// A service reads arrays and gives some, the one output by itself or all of them by name; a place that is no number is told.
fn arrays_of_a_service() -> Result<(), String> {
    let rows = Arc::new(AtomicUsize::new(0));
    // The numbers in the other order; for texts, what there is of them.
    let url = serve(Arc::clone(&rows), |instance| {
        let numbers = instance["v"].as_array().cloned().unwrap_or_default();
        let turned: Vec<serde_json::Value> = numbers.into_iter().rev().collect();
        match instance.get("tags") {
            Some(tags) => serde_json::json!({ "turned": turned, "first": tags[0], "tags": tags }),
            None if turned.first().and_then(serde_json::Value::as_f64) == Some(7.0) => {
                serde_json::json!([1.5, "seven"])
            }
            None if turned.len() == 1 => serde_json::json!([turned]),
            None => turned.into(),
        }
    })?;
    let session = Session::builder().build().map_err(text)?;
    session
        .execute(&format!(
            "CREATE TABLE asked (id INT, v DOUBLE ARRAY, tags STRING ARRAY);
             INSERT INTO asked VALUES (1, ARRAY[1.0, 2.0], ARRAY['a', 'b']), (2, ARRAY[3.0], ARRAY[CAST(NULL AS STRING)]),
               (3, NULL, ARRAY['c']), (4, ARRAY[CAST('NaN' AS DOUBLE)], ARRAY['d']), (5, ARRAY[2.0, 7.0], ARRAY['e']);
             CREATE MODEL turn INPUT (v DOUBLE ARRAY) OUTPUT (turned DOUBLE ARRAY) WITH ('provider' = 'http', 'url' = '{url}', 'payload' = 'vertex');
             CREATE MODEL all_of INPUT (v DOUBLE ARRAY, tags STRING ARRAY) OUTPUT (turned DOUBLE ARRAY, first STRING, tags STRING ARRAY)
               WITH ('provider' = 'http', 'url' = '{url}', 'payload' = 'vertex');
             CREATE MATERIALIZED VIEW answered AS SELECT id, predict(turn, v) AS t FROM asked;
             CREATE MATERIALIZED VIEW told AS SELECT id, p['turned'] AS t, p['first'] AS f, p['tags'] AS tags
               FROM (SELECT id, predict(all_of, v, tags) AS p FROM asked WHERE id < 3)"
        ))
        .map_err(text)?;
    expect(
        settled(&session, "answered", 5)?,
        vec!["1|[2.0, 1.0]".into(), "2|[3.0]".into(), "3|".into(), "4|".into(), "5|".into()],
    )?;
    expect(settled(&session, "told", 2)?, vec!["1|[2.0, 1.0]|a|[a, b]".into(), "2|[3.0]||[]".into()])?;
    session.execute("CREATE MATERIALIZED VIEW refused AS SELECT reason FROM answered.errors").map_err(text)?;
    let refused = settled(&session, "refused", 2)?;
    let expected = ["its input `v` is not a number in a place", "its output `turned` is \"seven\", and not a number"];
    expect(refused.len(), expected.len())?;
    match refused.iter().zip(expected).find(|(told, expected)| !told.contains(expected)) {
        Some((told, _)) => Err(told.clone()),
        None => Ok(()),
    }
}

const SALES: &str = "CREATE TABLE sale (size DOUBLE, dear BOOLEAN);
    INSERT INTO sale VALUES (1, false), (2, false), (3, false), (4, false), (5, false), (6, false), (7, false), (8, false), (9, false),
      (10, false), (51, true), (52, true), (53, true), (54, true), (55, true), (56, true), (57, true), (58, true), (59, true);
    CREATE MODEL dear WITH ('task' = 'classifier', 'arch' = 'logistic', 'label' = 'dear', 'epochs' = '30', 'learning-rate' = '0.1') AS SELECT * FROM sale";

fn trained_once() -> Result<(), String> {
    let store: Arc<dyn CheckpointStore> = Arc::new(MemoryStore::new());
    let trained = |store: &Arc<dyn CheckpointStore>| -> Result<(usize, Vec<String>), String> {
        let told = Arc::new(std::sync::Mutex::new(0));
        let count = Arc::clone(&told);
        let session = Session::builder()
            .store(Arc::clone(store))
            .progress_log(move |_| *count.lock().expect("no panic") += 1)
            .build()
            .map_err(text)?;
        let mut report = vec![];
        for statement in SALES.split(';') {
            for result in session.execute(statement).map_err(text)?.tables {
                report.extend(lines(&[result]));
            }
        }
        let told = *told.lock().expect("no panic");
        Ok((told, report))
    };
    let (told, report) = trained(&store)?;
    if told == 0 || report.is_empty() {
        return Err(format!("told {told} times, {report:?}"));
    }
    expect(trained(&store)?, (0, report.clone()))?;
    // Elsewhere it is trained again, to the same.
    let elsewhere: Arc<dyn CheckpointStore> = Arc::new(MemoryStore::new());
    expect(trained(&elsewhere)?, (told, report.clone()))?;
    // A materialized view that the same text makes has no rows yet: those that it reads are learnt.
    let view = "CREATE MATERIALIZED VIEW sold AS SELECT * FROM sale; CREATE MODEL";
    let sql = SALES.replace("CREATE MODEL", view);
    let sql = sql.strip_suffix("sale").map(|sql| format!("{sql}sold")).ok_or("the query is another one")?;
    let session = Session::builder().build().map_err(text)?;
    expect(lines(&session.execute(&sql).map_err(text)?.tables), report)
}

fn described() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(text)?;
    let path = folder.path().join("dear.safetensors");
    let sql = SALES.replace("'epochs' = '30'", &format!("'epochs' = '30', 'path' = '{}'", path.display()));
    let session = Session::builder().build().map_err(text)?;
    session.execute(&sql).map_err(text)?;
    // The file that was written says by itself what it is.
    session
        .execute(&format!("CREATE MODEL again COMMENT 'as it was' WITH ('path' = '{}')", path.display()))
        .map_err(text)?;
    let shown = read(&session, "SHOW MODELS")?;
    expect(
        shown,
        vec![
            "again|safetensors logistic(1, 2)|size DOUBLE|label STRING, probability DOUBLE, priority DOUBLE, probabilities ROW<false DOUBLE, true DOUBLE>".to_owned(),
            "dear|safetensors logistic(1, 2)|size DOUBLE|label STRING, probability DOUBLE, priority DOUBLE, probabilities ROW<false DOUBLE, true DOUBLE>".to_owned(),
        ],
    )?;
    let described = read(&session, "DESCRIBE MODEL again")?;
    for wanted in [
        "comment||as it was",
        "input|size|DOUBLE",
        "label|false|",
        "training|held_out_accuracy|1",
        "model|again|safetensors logistic(1, 2)",
    ] {
        if !described.iter().any(|line| line == wanted) {
            return Err(format!("no `{wanted}` in {described:?}"));
        }
    }
    let options = read(&session, "SHOW MODEL OPTIONS")?;
    if !options.iter().any(|line| line.starts_with("arch|linear | logistic | mlp | gru|")) {
        return Err(format!("{options:?}"));
    }
    Ok(())
}

/// A query asks the model that its name means where the query stands, whatever is created further down in the same text.
fn meant_at_its_place() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(text)?;
    let create = |verb: &str, name: &str, factor: f32| -> Result<String, String> {
        let path = folder.path().join(name);
        std::fs::write(&path, times(factor)).map_err(text)?;
        Ok(format!("{verb} m INPUT (x DOUBLE) WITH ('path' = '{}', 'arch' = 'linear');", path.display()))
    };
    let ask = "SELECT predict(m, id) AS p FROM t;";
    let first = create("CREATE MODEL", "first.safetensors", 2.0)?;
    for again in [
        create("CREATE OR REPLACE MODEL", "second.safetensors", 3.0)?,
        format!("DROP MODEL m; {}", create("CREATE MODEL", "second.safetensors", 3.0)?),
    ] {
        let sql = format!("CREATE TABLE t (id BIGINT); INSERT INTO t VALUES (1); {first} {ask} {again} {ask}");
        let told = eagre(&["run", "--format", "csv", "-e", &sql]).ok()?.stdout;
        let mut answers: Vec<&str> =
            told.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).collect();
        answers.sort_unstable();
        expect(answers, vec!["2.0", "3.0"])?;
    }
    Ok(())
}
