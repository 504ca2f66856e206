//! Queries over rows some of which come too late: the answer is that of the others, and which they are is told.
//!
//! Which rows are late depends on how they were cut into steps, so each run is compared with the batch answer over the rows that it did not
//! refuse. A query reads each table once and looks at each row's id, and no window of a row may be open while another is closed: then a row is
//! late or it is not, and is told with its id. There are no sessions: a row in time may be near one that has closed, which no batch answer
//! keeps apart.

use super::event_time::{Queries, fill};
use super::timed_tables::{Columns, Rows};
use super::{Case, pick};
use crate::harness::Random;

pub(super) fn case(random: &mut Random) -> Case {
    let columns = Columns::drawn(random);
    let tables = ["t0", "t1"].map(|name| columns.table(random, name, Rows::Late));
    let query = Queries::new(random, columns.number_sql).over_late_rows();
    Case::new(tables.into(), query)
}

impl Queries<'_> {
    fn over_late_rows(&mut self) -> String {
        let (first, second) = (self.aggregate(), self.aggregate());
        let having = self.pick(&["", " HAVING COUNT(*) > 1"]);
        match self.random.between(0, 7) {
            0 => {
                let windowed = self.windowed("SELECT * FROM t0", true);
                let (keys, shown) = pick(self.random, &[("", ""), (", k", ", k"), (", ROLLUP (k, s)", ", k, s")]);
                format!(
                    "SELECT window_start, window_end{shown}, SUM(id) AS ids, {first} AS x, {second} AS y FROM {windowed} AS w \
                     GROUP BY window_start, window_end{keys}{having}"
                )
            }
            1 => format!("SELECT id, ts, {} AS x FROM t0 WHERE {}", self.over(), self.condition()),
            2 => {
                let (before, after) = (self.seconds(3), self.seconds(2));
                let kind = self.pick(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
                format!(
                    "SELECT a.id, a.ts, b.id AS other, b.v FROM t0 AS a {kind} t1 AS b \
                     ON a.k = b.k AND a.ts BETWEEN b.ts - {before} AND b.ts + {after}"
                )
            }
            3 => {
                let kind = self.pick(&["ASOF JOIN", "LEFT ASOF JOIN"]);
                format!(
                    "SELECT a.id, a.ts, b.id AS other, b.v FROM t0 AS a {kind} t1 AS b \
                     MATCH_CONDITION (a.ts >= b.ts) ON a.k = b.k"
                )
            }
            4 => {
                let windowed = self.windowed("SELECT * FROM t0", true);
                format!(
                    "SELECT window_start, id FROM (SELECT *, ROW_NUMBER() OVER (\
                     PARTITION BY window_start, window_end ORDER BY v DESC, id) AS rn FROM {windowed} AS w) AS ranked WHERE rn <= 2"
                )
            }
            5 => {
                let kind = self.pick(&["JOIN", "LEFT JOIN"]);
                format!(
                    "WITH version AS (SELECT id, ts, k, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) AS rn FROM t1) \
                     AS b WHERE rn = 1) SELECT a.id, a.ts, version.id AS other, version.v FROM t0 AS a \
                     {kind} version FOR SYSTEM_TIME AS OF a.ts ON a.k = version.k"
                )
            }
            6 => {
                let (size, kind) = (self.seconds(3), self.pick(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]));
                let windowed = |table: &str| format!("TABLE(TUMBLE(TABLE {table}, DESCRIPTOR(ts), {size}))");
                format!(
                    "SELECT a.id, a.window_start, b.id AS other, b.window_end FROM {} AS a {kind} {} AS b \
                     ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.k = b.k",
                    windowed("t0"),
                    windowed("t1")
                )
            }
            _ => {
                let (pattern, skip) = (self.pattern(), self.pick(&["PAST LAST ROW", "TO NEXT ROW"]));
                let text = "SELECT k, first_id, last_id, n FROM t0 MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts, id \
                     MEASURES FIRST(id) AS first_id, LAST(id) AS last_id, COUNT(*) AS n AFTER MATCH SKIP {skip} PATTERN ({pattern}) \
                     DEFINE A AS v >= 0, B AS v > PREV(v) OR v IS NULL, C AS s IS NOT NULL)";
                fill(text, &[("skip", skip), ("pattern", pattern)])
            }
        }
    }
}
