//! The same query over a materialized view, answered at once, and over the table behind it, answered by a pipeline: the same rows.

use super::{Outcome, expect, lines, read, session, text};

/// Both zeros, NaNs of two signs, and maps whose entries stand in another order.
const TABLE: &str = "CREATE TABLE t (id BIGINT, d DOUBLE, m MAP<STRING, INT>, r ROW<x DOUBLE, n INT>);
    INSERT INTO t VALUES (1, 0.0e0, MAP['a', 1, 'b', 2], ROW(0.0e0, 1)), (2, -0.0e0, MAP['b', 2, 'a', 1], ROW(-0.0e0, 1)),
        (3, 'NaN', MAP['a', 1], ROW(1.0e0, NULL)), (4, '-NaN', NULL, NULL), (5, 1.5e0, MAP['b', 2, 'a', 1], ROW(1.0e0, NULL));";

/// Queries over `t`, with their answers.
const QUERIES: [(&str, &[&str]); 31] = [
    ("SELECT count(*) FROM (SELECT id, d, count(*) AS n FROM t GROUP BY GROUPING SETS ((id, d), (id))) AS q", &["10"]),
    ("SELECT DISTINCT ON (d) id FROM t ORDER BY d, id", &["1", "3", "5"]),
    ("SELECT array_to_string(array_agg(id ORDER BY m, id), ',') FROM t", &["3,1,2,5,4"]),
    ("SELECT min(id), count(*) FROM t GROUP BY d", &["1,2", "3,2", "5,1"]),
    ("SELECT min(id), count(*) FROM t GROUP BY m", &["1,3", "3,1", "4,1"]),
    ("SELECT min(id), count(*) FROM t GROUP BY r", &["1,2", "3,2", "4,1"]),
    ("SELECT count(*) FROM (SELECT DISTINCT m FROM t) AS q", &["3"]),
    ("SELECT count(DISTINCT d), count(DISTINCT m), count(DISTINCT r) FROM t", &["3,2,2"]),
    ("SELECT id, count(*) OVER (PARTITION BY m) FROM t", &["1,3", "2,3", "3,1", "4,1", "5,3"]),
    ("SELECT id, rank() OVER (ORDER BY d) FROM t", &["1,1", "2,1", "3,4", "4,4", "5,3"]),
    ("SELECT id, count(*) OVER (ORDER BY d) FROM t", &["1,2", "2,2", "3,5", "4,5", "5,3"]),
    ("SELECT id FROM t ORDER BY d, id DESC LIMIT 1", &["2"]),
    ("SELECT DISTINCT ON (m) id FROM t ORDER BY m, id", &["1", "3", "4"]),
    ("SELECT id FROM t WHERE m IN (SELECT m FROM t AS u WHERE id = 2)", &["1", "2", "5"]),
    ("SELECT a.id, b.id FROM t AS a JOIN t AS b ON a.r = b.r AND a.id < b.id", &["1,2"]),
    ("SELECT count(*) FROM (SELECT m FROM t EXCEPT SELECT m FROM t AS u WHERE id = 2) AS q", &["2"]),
    ("SELECT count(*) FROM (SELECT max(r) OVER (ORDER BY id) AS g FROM t) AS q WHERE q.g.n IS NULL", &["3"]),
    // Both zeros are equal, so the greatest row (d, id) is that of the greater id.
    (
        "SELECT id, arg_max(id, d) OVER w FROM t WHERE id < 3 WINDOW w AS (ORDER BY id ROWS 1 PRECEDING)",
        &["1,1", "2,2"],
    ),
    ("SELECT id, row_number() OVER (ORDER BY r NULLS FIRST, id) FROM t", &["1,2", "2,3", "3,4", "4,1", "5,5"]),
    (
        "SELECT count(*) FROM (SELECT lag(r.n, 0, -1) IGNORE NULLS OVER (ORDER BY id) AS g FROM t) AS q WHERE g IS NULL",
        &["3"],
    ),
    (
        "SELECT id, count(*) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND 3 PRECEDING) FROM t",
        &["1,0", "2,0", "3,0", "4,0", "5,0"],
    ),
    (
        "SELECT a.id, x.y FROM t AS a JOIN t AS b ON true, LATERAL (SELECT b.id AS y FROM t LIMIT 1) AS x WHERE a.id = x.y - 1",
        &["1,2", "2,3", "3,4", "4,5"],
    ),
    (
        "SELECT a.id, x.id FROM t AS a, LATERAL (SELECT DISTINCT ON (b.m) b.id FROM t AS b WHERE b.id <= a.id ORDER BY b.m, b.id DESC) AS x",
        &["1,1", "2,2", "3,2", "3,3", "4,2", "4,3", "4,4", "5,3", "5,4", "5,5"],
    ),
    (
        "SELECT id, rank() OVER (ORDER BY CAST(id AS INT) > 2) FROM t ORDER BY CAST(id AS INT) > 2, id LIMIT 3",
        &["1,1", "2,1", "3,3"],
    ),
    ("SELECT a.id, (SELECT count(*) FROM t AS b WHERE b.m = a.m) FROM t AS a", &["1,3", "2,3", "3,1", "4,0", "5,3"]),
    // Whichever rows they are, they are the same in all places.
    (
        "SELECT count(*) FROM (SELECT id FROM t LIMIT 3) AS a WHERE (SELECT min(w.x) FROM (VALUES (1), (2), (3), (4), (5)) AS w (x) WHERE w.x >= a.id) = a.id",
        &["3"],
    ),
    (
        "SELECT count(*), count(u.x) FROM (SELECT id FROM t LIMIT 3) AS a LEFT JOIN UNNEST(ARRAY[a.id]) AS u (x) ON true WHERE u.x = a.id",
        &["3,3"],
    ),
    ("WITH q AS (SELECT id FROM t LIMIT 3) SELECT count(*) FROM q AS a JOIN q AS b ON a.id = b.id", &["3"]),
    (
        "WITH q AS (SELECT id, row_number() OVER (ORDER BY length(CAST(id AS STRING))) AS n FROM t)
         SELECT count(*) FROM q AS a JOIN q AS b ON a.id = b.id AND a.n = b.n",
        &["5"],
    ),
    ("WITH q AS (SELECT array_agg(id) AS g FROM t) SELECT count(*) FROM q AS a JOIN q AS b ON a.g = b.g", &["1"]),
    (
        "SELECT count(*) FROM (SELECT id FROM t LIMIT 3) AS a WHERE EXISTS (SELECT 1 FROM t AS b WHERE b.id >= a.id)",
        &["3"],
    ),
];

pub(super) fn keys() -> Outcome {
    for shards in [1, 3] {
        let over_views = session(shards)?;
        let view = "CREATE MATERIALIZED VIEW v AS SELECT * FROM t";
        over_views
            .execute(&format!("{TABLE} {view}"))
            .map_err(text)?
            .job
            .ok_or("no pipeline")?
            .wait_blocking()
            .map_err(text)?;
        for (query, wanted) in QUERIES {
            let mut job =
                session(shards)?.execute(&format!("{TABLE} {query}")).map_err(text)?.job.ok_or("no pipeline")?;
            let result = job.take_results().pop().ok_or("no result")?;
            expect(query, &lines(&result.collect_blocking().map_err(text)?), wanted)?;
            job.wait_blocking().map_err(text)?;
            let query = query
                .replace("FROM t", "FROM v")
                .replace("JOIN t", "JOIN v")
                .replace("FROM v GROUP", "FROM v AS t GROUP");
            expect(&query, &read(&over_views, &query)?, wanted)?;
        }
        let values = "SELECT cardinality(array_agg(DISTINCT d)), cardinality(array_agg(DISTINCT m ORDER BY m)) FROM v";
        expect(values, &read(&over_views, values)?, &["3,3"])?;
        let both = "SELECT id, arg_max(id, d) OVER w, listagg(id::STRING, ',') OVER w FROM v WHERE id < 3 WINDOW w AS (ORDER BY id ROWS 1 PRECEDING)";
        expect(both, &read(&over_views, both)?, &["1,1,1", "2,2,1,2"])?;
    }
    Ok(())
}
