//! What a user reads in `EXPLAIN`. The expected texts are in `plans.txt`; `EAGRE_BLESS=1` writes them anew, and the diff is to be read.

use std::collections::HashSet;
use std::fmt::Write as _;

use eagre_engine::graph::NodeKind;

use super::harness::{explained, job};

const TABLES: &str = "
CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `dateTime` TIMESTAMP(3), extra STRING,
  tags ARRAY<INT>, day AS CAST(`dateTime` AS DATE),
  WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND
) WITH ('connector' = 'endless');
CREATE TABLE lax (k BIGINT, v BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
  WITH ('connector' = 'endless', 'allowed-lateness' = '10 s', 'scan.watermark.idle-timeout' = '5 s', 'bad-rows' = 'fail');
CREATE TABLE payment_raw (card STRING, amount DOUBLE, event_time TIMESTAMP(3)) WITH ('connector' = 'endless');
CREATE TABLE done (k INT, v BIGINT) WITH ('connector' = 'finite');
CREATE TABLE sink_append (auction BIGINT, n BIGINT) WITH ('connector' = 'x');
CREATE TABLE sink_changes (auction BIGINT, n BIGINT, PRIMARY KEY (auction) NOT ENFORCED) WITH ('connector' = 'x', 'changes' = 'y');
CREATE VIEW dear AS SELECT auction, price FROM bid WHERE price > 1000;
";

const QUERIES: &[(&str, &str)] = &[
    ("q0: columns as they are", "SELECT auction, bidder, price, dateTime, extra FROM bid"),
    ("q1: a projection", "SELECT auction, bidder, 0.908 * price AS price, dateTime FROM bid"),
    ("q2: a filter, through a view", "SELECT auction, price FROM dear WHERE auction % 123 = 0"),
    (
        "hop windows close once",
        "SELECT auction, window_start, window_end, count(*) AS num, sum(price)
         FROM TABLE(HOP(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
         GROUP BY auction, window_start, window_end",
    ),
    (
        "a window without other keys",
        "SELECT max(price) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '10' SECOND)) GROUP BY window_end",
    ),
    (
        "early results",
        "SELECT auction, window_time, count(*) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '10' SECOND))
         GROUP BY auction, window_time EMIT CHANGES",
    ),
    (
        "allowed lateness",
        "SELECT window_end, sum(v) FROM TABLE(TUMBLE(TABLE lax, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_end",
    ),
    (
        "a window without a watermark",
        "SELECT card, sum(amount) FROM TABLE(TUMBLE(TABLE payment_raw, DESCRIPTOR(event_time), INTERVAL '1' HOUR))
         GROUP BY card, window_start",
    ),
    (
        "a window of a window",
        "SELECT window_end, max(n) FROM (
           SELECT auction, window_end, count(*) AS n
           FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '10' SECOND)) GROUP BY auction, window_end)
         GROUP BY window_end",
    ),
    (
        "keep the last row of each key",
        "SELECT bidder, auction, price FROM (
           SELECT *, row_number() OVER (PARTITION BY bidder, auction ORDER BY dateTime DESC) AS rn FROM bid) WHERE rn <= 1",
    ),
    (
        "the ten dearest bids of each auction, with their ranks",
        "SELECT auction, price, rn FROM (
           SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC) AS rn FROM bid) WHERE rn <= 10",
    ),
    (
        "the best of each window",
        "SELECT window_end, auction, n FROM (
           SELECT *, rank() OVER (PARTITION BY window_start, window_end ORDER BY n DESC) AS r FROM (
             SELECT auction, window_start, window_end, count(*) AS n
             FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '10' SECOND))
             GROUP BY auction, window_start, window_end)) WHERE r = 1",
    ),
    ("a limit is kept", "SELECT auction, price FROM bid ORDER BY price DESC LIMIT 5"),
    (
        "the first by a count that rises",
        "SELECT auction, count(*) AS n FROM bid GROUP BY auction ORDER BY n DESC LIMIT 10",
    ),
    (
        "the first by a count that rises, by its kind",
        "SELECT auction, price, r FROM (
           SELECT auction, price, RANK() OVER (PARTITION BY price ORDER BY count(*) DESC) AS r FROM bid GROUP BY auction, price)
         WHERE r <= 3",
    ),
    ("the last by a count that rises", "SELECT auction, count(*) AS n FROM bid GROUP BY auction ORDER BY n LIMIT 10"),
    ("the greatest of counts that rise", "SELECT max(n) FROM (SELECT auction, count(*) AS n FROM bid GROUP BY auction)"),
    (
        "the greatest of early counts",
        "SELECT window_end, max(n) FROM (
           SELECT auction, window_end, count(*) AS n
           FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '10' SECOND)) GROUP BY auction, window_end)
         GROUP BY window_end EMIT CHANGES",
    ),
    ("a condition that is met for good", "SELECT auction FROM bid GROUP BY auction HAVING count(*) > 5"),
    ("a condition that is met for a while", "SELECT auction FROM bid GROUP BY auction HAVING count(*) = 5"),
    ("the first rows stay", "SELECT k FROM (SELECT k FROM done LIMIT 5 OFFSET 1)"),
    ("rows of both", "SELECT auction FROM bid INTERSECT ALL SELECT v FROM lax"),
    ("rows of one", "SELECT k FROM done EXCEPT SELECT 1"),
    ("rows with their windows", "SELECT auction, window_start FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '1' DAY))"),
    ("updating groups", "SELECT channel, count(DISTINCT bidder), max(price) FROM bid GROUP BY channel HAVING count(*) > 10"),
    ("groups over groups", "SELECT n, count(*) FROM (SELECT bidder, count(*) AS n FROM bid GROUP BY bidder) GROUP BY n"),
    ("one row", "SELECT count(*), sum(v) FROM done"),
    ("grouping sets", "SELECT channel, bidder, count(*) FROM bid GROUP BY ROLLUP (channel, bidder)"),
    ("order of arrival", "SELECT bidder, first_value(url), array_agg(price) FROM bid GROUP BY bidder"),
    ("union and distinct", "SELECT auction FROM bid WHERE price > 5 UNION SELECT k FROM lax"),
    ("unnest", "SELECT bidder, unnest(tags) FROM bid"),
    ("functions of the step", "SELECT now(), random(), auction FROM bid"),
    ("a final order", "SELECT v FROM done ORDER BY k LIMIT 3"),
    (
        "broken and late rows",
        "SELECT count(*) FROM bid.errors;
         SELECT row FROM bid.late;
         SELECT count(*) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '1' DAY)) GROUP BY window_end",
    ),
    (
        "a join and groups that forget",
        "SELECT /*+ STATE_TTL('b' = '1 h', 'l' = '90 s') */ b.auction, l.v FROM bid AS b JOIN lax AS l ON b.auction = l.k;
         SELECT /*+ STATE_TTL('bid' = '2 d') */ channel, count(*) FROM bid WHERE price > 5 GROUP BY channel",
    ),
    ("values", "INSERT INTO sink_append VALUES (1, 2), (3, NULL)"),
    (
        "q7: the end of a window bounds what is kept of the rows that it looks back on",
        "SELECT b.auction, b.price FROM bid AS b JOIN (
           SELECT MAX(price) AS most, window_end AS ends
           FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '10' SECOND)) GROUP BY window_start, window_end
         ) AS w ON b.price = w.most WHERE b.dateTime BETWEEN w.ends - INTERVAL '10' SECOND AND w.ends",
    ),
    (
        "rows that leave when the watermark has passed them",
        "SELECT auction, dateTime FROM bid EMIT ON WINDOW CLOSE;
         SELECT auction, window_end FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '1' DAY)) EMIT ON WINDOW CLOSE;
         SELECT b.auction, l.ts, b.dateTime FROM bid AS b JOIN lax AS l ON b.auction = l.k AND l.ts BETWEEN b.dateTime AND b.dateTime + INTERVAL '1' DAY
         EMIT ON WINDOW CLOSE",
    ),
    (
        "a frame of the row's session",
        "SELECT auction, sum(price) OVER (PARTITION BY bidder ORDER BY dateTime SESSION WITH GAP INTERVAL '5' MINUTE) FROM bid",
    ),
    (
        "what holds rows back for others to come is computed behind what does not",
        "SELECT auction, lead(price) OVER (PARTITION BY auction ORDER BY dateTime) AS next, sum(price) OVER (PARTITION BY bidder ORDER BY dateTime) AS so_far,
           avg(price) OVER (ORDER BY dateTime RANGE BETWEEN CURRENT ROW AND INTERVAL '10' SECOND FOLLOWING) AS ahead FROM bid",
    ),
    (
        "intervals from one joined time to another: each bound is on the time that the condition names",
        "SELECT a.dateTime, b.price, c.price AS other FROM bid AS a
         JOIN bid AS b ON a.auction = b.auction AND b.dateTime BETWEEN a.dateTime AND a.dateTime + INTERVAL '60' MINUTE
         JOIN bid AS c ON b.bidder = c.bidder AND c.dateTime BETWEEN b.dateTime AND b.dateTime + INTERVAL '10' MINUTE",
    ),
];

#[test]
fn explain_says_how_a_query_runs() {
    let mut found = String::new();
    for (title, sql) in QUERIES {
        let _ = writeln!(found, "=== {title}\n{}", explained(TABLES, sql));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/planner/tests/plans.txt");
    if std::env::var_os("EAGRE_BLESS").is_some() {
        std::fs::write(path, &found).expect("the golden file is writable");
    }
    let expected = std::fs::read_to_string(path).expect("the golden file is there");
    assert!(found == expected, "plans differ; look at them with EAGRE_BLESS=1 and `git diff`:\n{found}");
}

/// A table has one source node, whatever the number of statements, and they share its columns.
#[test]
fn a_table_is_read_once() {
    let sql = "INSERT INTO sink_append SELECT auction, bidder FROM bid WHERE price > 5;
               INSERT INTO sink_changes SELECT auction, count(*) FROM bid GROUP BY auction;
               SELECT url FROM dear d, UNNEST(ARRAY[1]) AS u(url)";
    let job = job(TABLES, sql).expect("it plans");
    let sources = job.graph.nodes.iter().filter(|node| matches!(node.kind, NodeKind::Source(_)));
    assert_eq!(sources.count(), 1);
    assert_eq!(job.outputs.len(), 3);
    assert_eq!(job.outputs.iter().map(|output| output.statement).collect::<Vec<_>>(), [1, 2, 3]);
    for (index, node) in job.graph.nodes.iter().enumerate() {
        assert!(node.inputs.iter().all(|edge| edge.from < index), "nodes are in topological order");
    }
}

/// State is found again by an operator's identity: it may not depend on what else runs, and must be unique.
#[test]
fn identities_do_not_depend_on_other_statements() {
    let window = "SELECT auction, count(*) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '10' SECOND))
                  GROUP BY auction, window_start, window_end";
    let ids = |sql: &str| {
        let job = job(TABLES, sql).expect("it plans");
        let ids: Vec<_> = job.graph.nodes.iter().map(|node| node.id).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "identities are unique");
        let stateful = job.graph.nodes.iter().filter(|node| !node.state_bound.is_empty() || node.inputs.is_empty());
        stateful.map(|node| (node.name().to_string(), node.id)).collect::<Vec<_>>()
    };
    let alone = ids(window);
    let beside = ids(&format!("SELECT url, extra FROM bid; {window}; SELECT count(*) FROM lax"));
    assert!(alone.iter().all(|id| beside.contains(id)), "{alone:?}\n{beside:?}");
    // Twice the same query has two states.
    let twice = ids(&format!("{window}; {window}"));
    assert!(alone.iter().all(|id| twice.contains(id)));
    // Another question has another state.
    let other = ids(&window.replace("'10'", "'20'"));
    let same: Vec<_> = alone.iter().filter(|id| other.contains(id)).map(|(name, _)| name.as_str()).collect();
    assert_eq!(same, ["Source"]);
}

/// A query whose state grows without bound says so, with the way out; one that is bounded says nothing.
#[test]
fn notices_speak_of_unbounded_state() {
    let notices = |sql: &str| {
        let job = job(TABLES, sql).expect("it plans");
        job.notices.into_iter().map(|notice| notice.message).collect::<Vec<_>>()
    };
    let found = notices("SELECT channel, count(*) FROM bid GROUP BY channel");
    assert!(found.len() == 1 && found[0].contains("never freed") && found[0].contains("window"), "{found:?}");
    let found = notices(
        "SELECT count(*) FROM TABLE(TUMBLE(TABLE payment_raw, DESCRIPTOR(event_time), INTERVAL '1' HOUR)) GROUP BY window_end",
    );
    assert!(found[0].contains("WATERMARK FOR event_time AS event_time - INTERVAL '5' SECOND"), "{found:?}");
    assert_eq!(notices("SELECT k, count(*) FROM done GROUP BY k"), Vec::<String>::new());
    assert_eq!(notices("SELECT count(*) FROM bid"), Vec::<String>::new());
}

/// A condition with the clock is asked once of a row, which whoever expects rows to leave is told; where all rows come at once it is as good.
#[test]
fn notices_speak_of_the_clock_in_conditions() {
    let notices = |sql: &str| job(TABLES, sql).expect("it plans").notices.into_iter().map(|notice| notice.message);
    let lately = "event_time > now() - INTERVAL '1' HOUR";
    let found: Vec<String> = notices(&format!("SELECT * FROM payment_raw WHERE {lately}")).collect();
    assert!(found.len() == 1 && found[0].contains("is asked once of each row"), "{found:?}");
    assert_eq!(notices("SELECT *, now() AS seen FROM payment_raw WHERE event_time IS NOT NULL").count(), 0);
    assert_eq!(notices("SELECT * FROM done WHERE k > EXTRACT(YEAR FROM now())").count(), 0);
}

/// A group of a window is identified by the part of it that is read, so that a sink may be keyed by the beginning of the window.
#[test]
fn windows_are_keyed_by_what_is_read() {
    for part in ["window_start", "window_end"] {
        let sql = format!(
            "SELECT {part}, channel, count(*) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '1' HOUR))
             GROUP BY window_start, window_end, channel EMIT CHANGES"
        );
        let text = explained(TABLES, &sql);
        assert!(text.contains(&format!("key=({part}, channel)")), "{text}");
    }
}
