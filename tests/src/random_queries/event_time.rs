//! Queries in event time: windows of all kinds, sessions, frames, ranks, joins in time, and queries over their results.
//!
//! Every stream that a query is built of has the columns of its tables, so that any of them stands on any other. Rows of `t2` are taken back
//! before the watermark has passed them.

use super::Case;
use super::timed_tables::{Columns, Rows};
use crate::harness::Random;

pub(super) fn case(random: &mut Random) -> Case {
    let columns = Columns::drawn(random);
    let tables = [("t0", Rows::InTime), ("t1", Rows::InTime), ("t2", Rows::Retracted)];
    let tables = tables.map(|(name, come)| columns.table(random, name, come));
    let query = Queries::new(random, columns.number_sql).top();
    Case::new(tables.into(), query)
}

/// Makes queries.
pub(super) struct Queries<'r> {
    pub(super) random: &'r mut Random,
    aliases: u32,
    /// The type of `v`.
    number: &'static str,
    /// Whether rows of the stream at hand come as the watermark says, so that what is asked of it can be final.
    timely: bool,
}

/// Names that stand for what a query is made of.
pub(super) type Parts<'a> = &'a [(&'a str, &'a str)];

pub(super) fn fill(text: &str, parts: Parts<'_>) -> String {
    parts.iter().fold(text.to_owned(), |text, (name, part)| text.replace(&format!("{{{name}}}"), part))
}

impl<'r> Queries<'r> {
    pub(super) fn new(random: &'r mut Random, number: &'static str) -> Self {
        Self { random, aliases: 0, number, timely: true }
    }
}

impl Queries<'_> {
    pub(super) fn pick<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        super::pick(self.random, texts)
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("q{}", self.aliases)
    }

    pub(super) fn seconds(&mut self, most: u64) -> String {
        format!("INTERVAL '{}' SECOND", self.random.between(1, most))
    }

    /// A window function over `input`.
    pub(super) fn windowed(&mut self, input: &str, tumbles: bool) -> String {
        let (size, slide) = (self.random.between(1, 4), self.random.between(1, 3));
        let offset = self.pick(&["", "", ", INTERVAL '1' SECOND", ", INTERVAL '-500 milliseconds'"]);
        let call = match if tumbles { 0 } else { self.random.between(0, 2) } {
            0 => format!("TUMBLE(TABLE ({input}), DESCRIPTOR(ts), INTERVAL '{size}' SECOND{offset})"),
            1 => format!(
                "HOP(TABLE ({input}), DESCRIPTOR(ts), INTERVAL '{slide}' SECOND, INTERVAL '{size}' SECOND{offset})"
            ),
            _ => format!(
                "CUMULATE(TABLE ({input}), DESCRIPTOR(ts), INTERVAL '{slide}' SECOND, INTERVAL '{}' SECOND{offset})",
                slide * size
            ),
        };
        format!("TABLE({call})")
    }

    pub(super) fn session(&mut self, input: &str) -> String {
        let gap = self.seconds(3);
        format!("TABLE(SESSION(TABLE ({input}) PARTITION BY k, DESCRIPTOR(ts), {gap}))")
    }

    pub(super) fn condition(&mut self) -> &'static str {
        self.pick(&["v > 0", "s IS NOT NULL", "s = 'a' OR k IS NULL", "v IS DISTINCT FROM 1", "id % 3 <> 1"])
    }

    pub(super) fn aggregate(&mut self) -> &'static str {
        self.pick(&[
            "COUNT(*)",
            "COUNT(v)",
            "SUM(v)",
            "MIN(v)",
            "MAX(s)",
            "AVG(v)",
            "COUNT(DISTINCT v)",
            "SUM(DISTINCT v)",
            "COUNT(*) FILTER (WHERE v > 0)",
            "BOOL_OR(v > 2)",
            "MAX(ts)",
            "ARG_MAX(s, id)",
            "FIRST_VALUE(v ORDER BY id)",
        ])
    }

    /// An `OVER` call in the order of event time.
    pub(super) fn over(&mut self) -> &'static str {
        // These wait for rows that may come at any time.
        if self.random.between(0, 4) == 0 {
            self.timely = false;
            return self.pick(&[
                "LEAD(v, 2) OVER (PARTITION BY s ORDER BY ts, id)",
                "FIRST_VALUE(v) OVER (PARTITION BY k ORDER BY ts, id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING)",
                "SUM(v) OVER (PARTITION BY k ORDER BY ts SESSION WITH GAP INTERVAL '2' SECOND)",
                "COUNT(*) OVER (PARTITION BY k ORDER BY ts, id ROWS BETWEEN 2 PRECEDING AND 2 FOLLOWING EXCLUDE CURRENT ROW)",
            ]);
        }
        self.pick(&[
            "SUM(v) OVER (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '3' SECOND PRECEDING AND CURRENT ROW)",
            "COUNT(*) OVER (PARTITION BY k ORDER BY ts, id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)",
            "MAX(v) OVER (ORDER BY ts RANGE BETWEEN INTERVAL '2' SECOND PRECEDING AND INTERVAL '1' SECOND FOLLOWING)",
            "LAG(v) OVER (PARTITION BY k ORDER BY ts, id)",
            "SUM(v) OVER (PARTITION BY k ORDER BY ts GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW)",
            "NTH_VALUE(v, 2) OVER (PARTITION BY s ORDER BY ts, id ROWS BETWEEN 3 PRECEDING AND CURRENT ROW)",
            "RANK() OVER (PARTITION BY k ORDER BY ts)",
            "MIN(v) OVER (PARTITION BY s ORDER BY ts)",
            "MAX(v) OVER (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '3' SECOND PRECEDING AND CURRENT ROW EXCLUDE GROUP)",
            "LAST_VALUE(v) IGNORE NULLS OVER (PARTITION BY s ORDER BY ts, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)",
        ])
    }

    pub(super) fn pattern(&mut self) -> &'static str {
        self.pick(&["A B+ C?", "A (B | C)*? C", "(A | B){2,3} C*", "(A C*)+ B??"])
    }

    /// A table of which no row is taken back.
    fn table(&mut self) -> String {
        format!("SELECT id, ts, k, s, v FROM {}", self.pick(&["t0", "t1"]))
    }

    /// A stream, and a partition of which no two rows have one time.
    fn series(&mut self) -> (String, &'static str) {
        match self.random.between(0, 1) {
            0 => {
                let partition = self.pick(&["", "PARTITION BY k", "PARTITION BY k, s"]);
                (format!("SELECT id, ts, k, s, v FROM t1 WHERE {}", self.condition()), partition)
            }
            _ => {
                let (input, number, a) = (self.table(), self.number, self.alias());
                let windowed = self.windowed(&input, true);
                let series = format!(
                    "SELECT MAX(id) AS id, window_time AS ts, k, s, CAST(MIN(v) AS {number}) AS v FROM {windowed} AS {a} \
                     GROUP BY window_start, window_end, window_time, k, s"
                );
                (series, "PARTITION BY k, s")
            }
        }
    }

    /// A stream of the five columns, of which no row is taken back, and `ts` is an event time.
    fn stream(&mut self, depth: u64) -> String {
        if depth == 0 {
            return self.table();
        }
        let input = self.stream(depth - 1);
        let (a, b, number) = (self.alias(), self.alias(), self.number);
        match self.random.between(0, 10) {
            0 => format!("SELECT id, ts, k, s, v FROM ({input}) AS {a} WHERE {}", self.condition()),
            1 => format!("SELECT id, ts, k, UPPER(s) AS s, CAST(v + 1 AS {number}) AS v FROM ({input}) AS {a}"),
            2 => {
                let other = self.table();
                format!(
                    "SELECT 2 * id AS id, ts, k, s, v FROM ({input}) AS {a} \
                     UNION ALL SELECT 2 * id + 1, ts, k, s, v FROM ({other}) AS {b}"
                )
            }
            3 | 4 => format!("SELECT id, ts, k, s, CAST({} AS {number}) AS v FROM ({input}) AS {a}", self.over()),
            5 => {
                let (other, before, after) = (self.table(), self.seconds(3), self.seconds(2));
                format!(
                    "SELECT 100 * {a}.id + {b}.id AS id, {a}.ts AS ts, {a}.k AS k, {b}.s AS s, {a}.v AS v \
                     FROM ({input}) AS {a} JOIN ({other}) AS {b} \
                     ON {a}.k = {b}.k AND {a}.ts BETWEEN {b}.ts - {before} AND {b}.ts + {after}"
                )
            }
            6 => {
                let windowed = match self.random.between(0, 1) {
                    0 => self.windowed(&input, true),
                    _ => self.session(&input),
                };
                format!(
                    "SELECT MIN(id) AS id, window_time AS ts, k, MAX(s) AS s, CAST(SUM(v) AS {number}) AS v \
                     FROM {windowed} AS {a} GROUP BY window_start, window_end, window_time, k"
                )
            }
            7 => {
                let ((series, partition), rows) = (self.series(), self.random.between(1, 4));
                format!(
                    "SELECT id, ts, k, s, CAST(window_number AS {number}) AS v \
                     FROM TABLE(COUNT_WINDOW(TABLE ({series}) {partition}, DESCRIPTOR(ts), {rows})) AS {a}"
                )
            }
            8 => {
                let (pattern, skip) = (self.pattern(), self.pick(&["PAST LAST ROW", "TO NEXT ROW"]));
                let (input, within) = (self.table(), self.seconds(6));
                format!(
                    "SELECT id, ts, k, s, v FROM ({input}) AS {a} MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts, id \
                     MEASURES FIRST(id) AS id, MATCH_ROWTIME() AS ts, LAST(s) AS s, CAST(SUM(v) AS {number}) AS v \
                     AFTER MATCH SKIP {skip} PATTERN ({pattern}) WITHIN {within} \
                     DEFINE A AS v >= 0, B AS v > PREV(v) OR v IS NULL, C AS s IS NOT NULL)"
                )
            }
            9 => {
                // A row that comes later may be the first one.
                self.timely = false;
                format!(
                    "SELECT id, ts, k, s, v FROM (SELECT id, ts, k, s, v, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts, id) AS rn \
                     FROM ({input}) AS {a}) AS {b} WHERE rn = 1"
                )
            }
            _ => {
                let windowed = self.windowed(&input, true);
                let partition = self.pick(&["", ", k"]);
                format!(
                    "SELECT id, window_time AS ts, k, s, v FROM (SELECT *, ROW_NUMBER() OVER (\
                     PARTITION BY window_start, window_end{partition} ORDER BY v DESC, id) AS rn FROM {windowed} AS {a}) AS {b} \
                     WHERE rn <= 2"
                )
            }
        }
    }

    /// What is asked of a stream.
    fn top(&mut self) -> String {
        let depth = self.random.between(0, 2);
        let input = match self.random.between(0, 4) {
            // Windows and groups take changelogs.
            0 => return self.of_changes("SELECT id, ts, k, s, v FROM t2"),
            _ => self.stream(depth),
        };
        let (a, b) = (self.alias(), self.alias());
        match self.random.between(0, 9) {
            0 => input,
            9 => {
                let input = self.table();
                let method = self.pick(&["ewma", "novelty", "seasonal", "changepoint", "holt", "auto"]);
                let score = format!("anomaly_score(v, method => '{method}') OVER (PARTITION BY k ORDER BY ts, id)");
                format!("SELECT id, ts, {score} AS score FROM ({input}) AS {a}")
            }
            8 => {
                let ((series, partition), step) = (self.series(), self.seconds(2));
                let fill = self.pick(&["", ", LOCF(v)", ", LOCF(id), INTERPOLATE(v)", ", INTERPOLATE(v), LOCF(s)"]);
                format!(
                    "SELECT * FROM TABLE(GAP_FILL(TABLE ({series}) {partition}, DESCRIPTOR(ts), {step}{fill})) AS {a}"
                )
            }
            1 | 2 => self.of_changes(&input),
            3 => {
                let (other, before, after) = (self.stream(1), self.seconds(3), self.seconds(2));
                let kind = self.pick(&["LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
                let more = self.pick(&["", " AND {a}.v < {b}.v", " AND {a}.s IS NOT DISTINCT FROM {b}.s"]);
                let text = "SELECT {a}.id, {a}.ts, {a}.k, {b}.id AS other, {b}.ts AS at, {b}.v FROM ({input}) AS {a} {kind} ({other}) AS {b} \
                     ON {a}.k = {b}.k AND {a}.ts BETWEEN {b}.ts - {before} AND {b}.ts + {after}";
                let parts: Parts<'_> = &[("kind", kind), ("before", &before), ("after", &after)];
                let text = format!("{}{more}", fill(text, parts));
                fill(&text, &[("input", &input), ("other", &other), ("a", &a), ("b", &b)])
            }
            4 => {
                let size = self.seconds(3);
                let other = self.stream(1);
                let window =
                    |input: &str| format!("(SELECT * FROM TABLE(TUMBLE(TABLE ({input}), DESCRIPTOR(ts), {size})))");
                let same = "{a}.window_start = {b}.window_start AND {a}.window_end = {b}.window_end AND {a}.k = {b}.k";
                let text = self.pick(&[
                    "SELECT {a}.window_start, {a}.id, {b}.id AS other FROM {left} AS {a} JOIN {right} AS {b} ON {same}",
                    "SELECT {a}.window_end, {a}.id, {b}.id AS other FROM {left} AS {a} LEFT JOIN {right} AS {b} ON {same}",
                    "SELECT {b}.window_end, {a}.id, {b}.id AS other FROM {left} AS {a} RIGHT JOIN {right} AS {b} ON {same}",
                    "SELECT {a}.window_start, {b}.window_start AS start, {a}.id, {b}.id AS other FROM {left} AS {a} FULL JOIN {right} AS {b} ON {same}",
                    "SELECT {a}.id FROM {left} AS {a} WHERE EXISTS (SELECT 1 FROM {right} AS {b} WHERE {same})",
                    "SELECT {a}.id FROM {left} AS {a} WHERE NOT EXISTS (SELECT 1 FROM {right} AS {b} WHERE {same})",
                ]);
                let text = fill(text, &[("same", same), ("left", &window(&input)), ("right", &window(&other))]);
                fill(&text, &[("a", &a), ("b", &b)])
            }
            5 => {
                let kind = self.pick(&["ASOF JOIN", "LEFT ASOF JOIN"]);
                let order = self.pick(&[">=", ">"]);
                format!(
                    "SELECT {a}.id, {a}.ts, {b}.id AS other, {b}.v FROM ({input}) AS {a} {kind} t1 AS {b} \
                     MATCH_CONDITION ({a}.ts {order} {b}.ts) ON {a}.k = {b}.k"
                )
            }
            6 => {
                let kind = self.pick(&["JOIN", "LEFT JOIN"]);
                format!(
                    "WITH version AS (SELECT id, ts, k, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) AS rn FROM t1) \
                     AS {b} WHERE rn = 1) \
                     SELECT {a}.id, {a}.ts, version.id AS other, version.v FROM ({input}) AS {a} \
                     {kind} version FOR SYSTEM_TIME AS OF {a}.ts ON {a}.k = version.k"
                )
            }
            _ => self.updating(&input),
        }
    }

    /// Windows, groups and ranks, which take rows back.
    fn of_changes(&mut self, input: &str) -> String {
        let a = self.alias();
        let (first, second) = (self.aggregate(), self.aggregate());
        let having = self.pick(&["", "", " HAVING COUNT(*) > 1"]);
        let emits = ["", "", " EMIT CHANGES", " EMIT ON WINDOW CLOSE"];
        let emit = self.pick(if self.timely { &emits } else { &emits[..3] });
        match self.random.between(0, 4) {
            0 | 1 => {
                let windowed = self.windowed(input, false);
                let keys = self.pick(&[
                    "",
                    ", k",
                    ", k, s",
                    ", ROLLUP (k, s)",
                    ", CUBE (k, s)",
                    ", GROUPING SETS ((k), (s), ())",
                ]);
                let shown = match keys {
                    "" => "",
                    ", k" => ", k",
                    _ => ", k, s",
                };
                format!(
                    "SELECT window_start, window_end{shown}, {first} AS x, {second} AS y FROM {windowed} AS {a} \
                     GROUP BY window_start, window_end{keys}{having}{emit}"
                )
            }
            2 => {
                let windowed = self.session(input);
                format!(
                    "SELECT window_start, window_end, window_time, k, {first} AS x, {second} AS y FROM {windowed} AS {a} \
                     GROUP BY window_start, window_end, window_time, k{having}{emit}"
                )
            }
            3 => {
                let (slide, size) = (self.seconds(2), self.seconds(4));
                format!(
                    "SELECT HOP_START(ts, {slide}, {size}) AS began, HOP_END(ts, {slide}, {size}) AS ended, s, {first} AS x \
                     FROM ({input}) AS {a} GROUP BY HOP(ts, {slide}, {size}), s{having}{emit}"
                )
            }
            _ => self.updating(input),
        }
    }

    /// Results that are updated as rows come.
    fn updating(&mut self, input: &str) -> String {
        let (a, b, aggregate) = (self.alias(), self.alias(), self.aggregate());
        match self.random.between(0, 7) {
            0 => {
                let keys = self.pick(&["k, s", "ROLLUP (k, s)", "CUBE (k, s)", "GROUPING SETS ((k, s), (s))"]);
                format!("SELECT k, s, {aggregate} AS x, GROUPING(s) AS g FROM ({input}) AS {a} GROUP BY {keys}")
                    .replace(if keys == "k, s" { ", GROUPING(s) AS g" } else { "no such text" }, "")
            }
            1 => format!(
                "SELECT id, ts, k, s, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC, id) AS rn \
                 FROM ({input}) AS {a}) AS {b} WHERE rn = 1"
            ),
            2 => format!(
                "SELECT {a}.id, u.x, u.o FROM ({input}) AS {a} CROSS JOIN UNNEST(ARRAY[v, v, NULL]) WITH ORDINALITY AS u(x, o)"
            ),
            3 => format!("SELECT DISTINCT k, s FROM ({input}) AS {a}"),
            4 => {
                let operation = self.pick(&["INTERSECT", "INTERSECT ALL", "EXCEPT", "EXCEPT ALL"]);
                format!("SELECT k, s FROM ({input}) AS {a} {operation} SELECT k, s FROM ({}) AS {b}", self.table())
            }
            5 => {
                let condition = self.pick(&[
                    "v >= (SELECT AVG(v) FROM ({other}) AS {b})",
                    "k IN (SELECT k FROM ({other}) AS {b} WHERE {b}.v > 0)",
                    "v NOT IN (SELECT v FROM ({other}) AS {b})",
                    "EXISTS (SELECT 1 FROM ({other}) AS {b} WHERE {b}.k = {a}.k AND {b}.ts < {a}.ts)",
                    "v > (SELECT MAX({b}.v) FROM ({other}) AS {b} WHERE {b}.k = {a}.k AND {b}.ts <= {a}.ts)",
                ]);
                let condition = fill(condition, &[("other", &self.table()), ("a", &a), ("b", &b)]);
                format!("SELECT id, ts, k FROM ({input}) AS {a} WHERE {condition}")
            }
            6 => {
                let order = self.pick(&["ts, id", "ts DESC, id", "v DESC, id"]);
                format!("SELECT id, ts, v FROM ({input}) AS {a} ORDER BY {order} LIMIT {}", self.random.between(1, 5))
            }
            _ => {
                let windowed = self.windowed(input, false);
                format!(
                    "SELECT k, COUNT(*) AS windows, MAX(x) AS most FROM (SELECT window_start, k, {aggregate} AS x \
                     FROM {windowed} AS {a} GROUP BY window_start, window_end, k) AS {b} GROUP BY k"
                )
            }
        }
    }
}
