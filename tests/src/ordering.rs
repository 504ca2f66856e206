//! `ORDER BY` as it shows: of a view that is read, and of a stream that does not end.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::Int64Type;
use arrow::{array::ArrayRef, array::AsArray};
use eagre::Session;
use libtest_mimic::Trial;

use crate::process::eagre;

pub(crate) fn trials() -> Vec<Trial> {
    let trial =
        |name: &str, test: fn() -> Result<(), String>| Trial::test(format!("ordering::{name}"), move || Ok(test()?));
    vec![
        trial("a_view_is_read_in_its_order", views),
        trial("rows_of_a_stream_leave_in_the_order_that_is_asked_for", streams),
    ]
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// What is printed, row by row, of a query over letters, with a plain view of them and a materialized one.
fn views() -> Result<(), String> {
    for kind in ["VIEW", "MATERIALIZED VIEW"] {
        for (query, expected) in [
            ("SELECT id FROM urgent", "2 4 1 5 3"),
            ("SELECT id FROM urgent LIMIT 2", "2 4"),
            ("SELECT id FROM urgent WHERE kind <> 'b'", "4 1 3"),
            // By the view's column, whatever the query calls so; its own order stands; what groups has none.
            ("SELECT id, -priority AS priority FROM urgent AS u", "2,-9.5 4,-7.25 1,-2.0 5,-0.5 3,"),
            ("SELECT id FROM urgent ORDER BY id", "1 2 3 4 5"),
            ("SELECT count(*) FROM urgent", "5"),
            ("SELECT a FROM renamed", "3 5 1 4 2"),
            // The order of the view's own query, whose names are not those of the view.
            ("SELECT k FROM swapped", "5 4 3 2 1"),
            ("SELECT p FROM twice", "0.5 7.25 \"\" 9.5 2.0"),
            ("SELECT id FROM whole", "5 4 3 2 1"),
        ] {
            let sql = format!(
                "CREATE TABLE letter (id BIGINT, kind STRING, priority DOUBLE);
                 INSERT INTO letter VALUES (1, 'a', 2.0), (2, 'b', 9.5), (3, 'a', NULL), (4, 'c', 7.25), (5, 'b', 0.5);
                 CREATE {kind} urgent AS SELECT id, kind, priority FROM letter ORDER BY priority DESC NULLS LAST;
                 CREATE {kind} renamed (a, b) AS SELECT id, priority FROM letter ORDER BY 2 NULLS FIRST;
                 CREATE {kind} swapped (id, k) AS SELECT priority, id FROM letter ORDER BY id DESC;
                 CREATE {kind} twice AS SELECT priority AS p, -id AS priority FROM letter ORDER BY priority;
                 CREATE {kind} whole AS SELECT * FROM letter ORDER BY id DESC;
                 {query}"
            );
            let shown = eagre(&["run", "--shards", "2", "-e", &sql, "--format", "csv"]).ok()?.stdout;
            let rows: Vec<&str> = shown.lines().skip(1).collect();
            if rows.join(" ") != expected {
                return Err(format!("{kind}: {query}: expected {expected}, got {rows:?}"));
            }
        }
    }
    Ok(())
}

/// Rows leave when the watermark has passed their time, or their window has closed, those of one time in the order of the other keys.
fn streams() -> Result<(), String> {
    let cases: [(&str, &[i64]); 3] = [
        ("SELECT id FROM t ORDER BY ts, priority DESC", &[2, 1, 4, 3, 5]),
        (
            "SELECT id, priority FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) ORDER BY window_end, priority DESC",
            &[2, 3, 1, 4, 5],
        ),
        (
            "SELECT id, n FROM (SELECT id, count(*) AS n, max(priority) AS p, window_end FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) \
             GROUP BY id, window_start, window_end) ORDER BY window_end, p DESC",
            &[2, 3, 1, 4, 5],
        ),
    ];
    for (query, expected) in cases {
        let session = Session::builder().set("eagre.shards", "2").build().map_err(text)?;
        session
            .execute("CREATE TABLE t (id BIGINT, priority BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'push')")
            .map_err(text)?;
        let execution = session.execute(query).map_err(|error| format!("{query}: {error}"))?;
        let mut job = execution.job.ok_or("no pipeline runs")?;
        let mut result = job.take_results().remove(0);
        let input = session.input("t").map_err(text)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(text)?;
        // The last row is there for the watermark.
        for (id, priority, second) in [(1, 5, 1), (2, 9, 1), (3, 8, 3), (4, 1, 2), (5, 2, 11), (6, 0, 40), (7, 0, 80)] {
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from_value(id, 1)),
                Arc::new(Int64Array::from_value(priority, 1)),
                Arc::new(TimestampMillisecondArray::from_value(second * 1_000, 1)),
            ];
            let batch = RecordBatch::try_new(Arc::clone(input.schema()), columns).map_err(text)?;
            runtime.block_on(input.push(batch)).map_err(text)?;
        }
        let mut ids: Vec<i64> = vec![];
        while ids.len() < expected.len() {
            let change = result.blocking_next().ok_or("the pipeline has ended")?;
            ids.extend(change.batch.column(0).as_primitive::<Int64Type>().values().iter());
        }
        if ids[..expected.len()] != *expected {
            return Err(format!("{query}: {ids:?}, expected {expected:?}"));
        }
        job.stop();
        job.wait_blocking().map_err(text)?;
    }
    Ok(())
}
