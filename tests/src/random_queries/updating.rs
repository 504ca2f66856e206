//! Queries without time: any operator stands on any other.
//!
//! Every relation of a query has the columns `k INT, s STRING, v BIGINT`. Where an operator has to choose (ranks, limits, frames), it orders
//! by all columns: rows that it cannot tell apart are equal. Tables hold nulls and duplicates; one of them takes rows back, and one has a key.

use std::sync::Arc;

use arrow::array::{Int32Array, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema};
use eagre_sql::catalog::TableDefinition;

use super::{Case, Table};
use crate::harness::Random;

/// Names of the tables.
const TABLES: [&str; 4] = ["t0", "t1", RETRACTED, KEYED];
/// The one whose rows are taken back.
const RETRACTED: &str = "t2";
/// The one whose rows take the place of those with the same `k`, or delete them.
const KEYED: &str = "t3";

/// A row with its weight.
type Row = (Option<i32>, Option<&'static str>, Option<i64>, i64);

pub(super) fn case(random: &mut Random) -> Case {
    let tables = tables(random);
    let depth = random.between(1, 3);
    Case::new(tables, Queries::over(random, 0, TABLES.to_vec()).top(depth))
}

/// A query over materialized views, one of which may stand on another.
pub(super) fn over_views(random: &mut Random) -> Case {
    let tables = tables(random);
    let (first, second) = (random.between(1, 2), random.between(1, 2));
    let first = Queries::over(random, 0, TABLES.to_vec()).top(first);
    let second = Queries::over(random, 100, vec!["v0", "t0", "v0"]).top(second);
    let depth = random.between(0, 2);
    let mut query = Queries::over(random, 200, vec!["v0", "v1", "v1"]).top(depth);
    if random.between(0, 2) == 0 {
        query.push_str([" WHERE k = 2", " WHERE k IN (1, 3) AND s = 'a'"][random.between(0, 1) as usize]);
    }
    let views = format!("CREATE MATERIALIZED VIEW v0 AS {first}; CREATE MATERIALIZED VIEW v1 AS {second}");
    let case = Case::new(tables, format!("WITH v0 AS ({first}), v1 AS ({second}) {query}"));
    Case { run: format!("{views}; {query}"), ..case }
}

fn tables(random: &mut Random) -> Vec<Table> {
    let table = |name: &&str| {
        let rows = rows(random, name);
        let weights = [RETRACTED, KEYED].contains(name).then(|| rows.iter().map(|row| row.3).collect::<Int64Array>());
        let keyed = *name == KEYED;
        let rows = batch(&rows, keyed);
        let mut definition = TableDefinition::from_schema(*name, &rows.schema());
        definition.primary_key = if keyed { vec!["k".to_owned()] } else { vec![] };
        Table::new(definition, rows, weights, random.between(1, 20) as usize)
    };
    TABLES.iter().map(table).collect()
}

fn batch(rows: &[Row], keyed: bool) -> RecordBatch {
    let fields = [("k", DataType::Int32), ("s", DataType::Utf8View), ("v", DataType::Int64)];
    let fields = fields.map(|(name, data_type)| Field::new(name, data_type, !(keyed && name == "k")));
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.0).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|row| row.1).collect::<StringViewArray>()),
        Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>()),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), columns).expect("one length")
}

fn rows(random: &mut Random, table: &str) -> Vec<Row> {
    let (keyed, changes) = (table == KEYED, [RETRACTED, KEYED].contains(&table));
    let mut rows: Vec<Row> = Vec::new();
    let mut alive: Vec<Row> = Vec::new();
    for _ in 0..random.between(0, 22) {
        if changes && !alive.is_empty() && random.between(0, 3) == 0 {
            let row = alive.swap_remove(random.between(0, alive.len() as u64 - 1) as usize);
            rows.push((row.0, row.1, row.2, -1));
            continue;
        }
        let k = (keyed || random.between(0, 9) > 0).then(|| random.between(0, 4) as i32);
        let s = [None, Some("a"), Some("b"), Some("a text of more than twelve bytes")][random.between(0, 3) as usize];
        let v = (random.between(0, 6) > 0).then(|| random.between(0, 12) as i64 - 4);
        rows.push((k, s, v, 1));
        alive.retain(|row| !keyed || row.0 != k);
        alive.push((k, s, v, 1));
    }
    rows
}

/// Makes queries.
struct Queries<'r> {
    random: &'r mut Random,
    aliases: u32,
    /// What they may read.
    tables: Vec<&'static str>,
}

impl<'r> Queries<'r> {
    /// `aliases`: how many names there are already.
    fn over(random: &'r mut Random, aliases: u32, tables: Vec<&'static str>) -> Self {
        Self { random, aliases, tables }
    }
}

impl Queries<'_> {
    fn top(&mut self, depth: u64) -> String {
        let relation = self.relation(depth);
        format!("SELECT k, s, v FROM ({relation}) AS answer")
    }

    fn pick<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        super::pick(self.random, texts)
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("q{}", self.aliases)
    }

    fn condition(&mut self, of: &str) -> String {
        let text = self.pick(&[
            "{}v > 0",
            "{}k <> 2",
            "{}s IS NOT NULL",
            "{}s = 'a' OR {}k IS NULL",
            "{}v IS DISTINCT FROM 1 AND {}k >= 1",
            "{}v % 2 = 0",
        ]);
        text.replace("{}", of)
    }

    /// A query with the columns `k`, `s`, `v`.
    fn relation(&mut self, depth: u64) -> String {
        if depth == 0 {
            let table = super::pick(self.random, &self.tables);
            return format!("SELECT k, s, v FROM {table}");
        }
        let input = self.relation(depth - 1);
        let a = self.alias();
        match self.random.between(0, 20) {
            0 => {
                let condition = self.condition("");
                format!("SELECT k, s, v FROM ({input}) AS {a} WHERE {condition}")
            }
            1 => {
                format!("SELECT CAST(v % 3 AS INT) AS k, UPPER(s) AS s, v + COALESCE(k, 7) AS v FROM ({input}) AS {a}")
            }
            2 | 3 => {
                let call = self.pick(&[
                    "SUM(v)",
                    "COUNT(*)",
                    "MAX(v)",
                    "MIN(v)",
                    "COUNT(DISTINCT v)",
                    "COUNT(v) FILTER (WHERE s = 'a')",
                    "SUM(DISTINCT v)",
                    "CAST(AVG(v) AS BIGINT)",
                    "CAST(median(v) AS BIGINT)",
                ]);
                let having = self.pick(&["", " HAVING COUNT(*) > 1", " HAVING MAX(s) IS NOT NULL"]);
                let keys = self.pick(&["k", "k, s", "s"]);
                let k = if keys == "s" { "MAX(k)" } else { "k" };
                let s = if keys == "k" { "MIN(s)" } else { "s" };
                format!("SELECT {k} AS k, {s} AS s, {call} AS v FROM ({input}) AS {a} GROUP BY {keys}{having}")
            }
            4 | 5 => {
                let other = self.relation(depth - 1);
                let b = self.alias();
                let kind = self.pick(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
                let on = self.pick(&[
                    "{a}.k = {b}.k",
                    "{a}.k = {b}.k AND {a}.v < {b}.v",
                    "{a}.k = {b}.k AND {a}.s = {b}.s",
                    "{a}.k IS NOT DISTINCT FROM {b}.k AND {a}.s = {b}.s",
                    "{a}.v + 1 = {b}.v",
                ]);
                let on = on.replace("{a}", &a).replace("{b}", &b);
                format!(
                    "SELECT {a}.k AS k, {b}.s AS s, COALESCE({a}.v, 0) - COALESCE({b}.v, 0) AS v \
                     FROM ({input}) AS {a} {kind} ({other}) AS {b} ON {on}"
                )
            }
            6 => {
                let other = self.relation(depth - 1);
                let b = self.alias();
                let condition = self.pick(&[
                    "{a}.k IN (SELECT k FROM ({other}) AS {b})",
                    "{a}.v NOT IN (SELECT v FROM ({other}) AS {b} WHERE {b}.k = {a}.k)",
                    "{a}.k NOT IN (SELECT k FROM ({other}) AS {b})",
                    "EXISTS (SELECT 1 FROM ({other}) AS {b} WHERE {b}.k = {a}.k AND {b}.v > {a}.v)",
                    "NOT EXISTS (SELECT 1 FROM ({other}) AS {b} WHERE {b}.s = {a}.s)",
                    "{a}.v > (SELECT AVG(v) FROM ({other}) AS {b})",
                    "{a}.v <= (SELECT COUNT(*) FROM ({other}) AS {b} WHERE {b}.k = {a}.k)",
                ]);
                let condition = condition.replace("{a}", &a).replace("{b}", &b).replace("{other}", &other);
                format!("SELECT {a}.k, {a}.s, {a}.v FROM ({input}) AS {a} WHERE {condition}")
            }
            7 | 8 => {
                let other = self.relation(depth - 1);
                let b = self.alias();
                let operation =
                    self.pick(&["UNION ALL", "UNION", "INTERSECT", "INTERSECT ALL", "EXCEPT", "EXCEPT ALL"]);
                format!("SELECT k, s, v FROM ({input}) AS {a} {operation} SELECT k, s, v FROM ({other}) AS {b}")
            }
            9 => {
                let function = self.pick(&["ROW_NUMBER", "RANK", "DENSE_RANK"]);
                let order = self.pick(&["v DESC, s, k", "s NULLS FIRST, v, k", "k, v, s"]);
                let partition = self.pick(&["PARTITION BY k ", "PARTITION BY s ", ""]);
                let bound = self.pick(&["rn <= 2", "rn = 1", "rn BETWEEN 2 AND 3"]);
                format!(
                    "SELECT k, s, v FROM (SELECT k, s, v, {function}() OVER ({partition}ORDER BY {order}) AS rn \
                     FROM ({input}) AS {a}) AS {a}_ranked WHERE {bound}"
                )
            }
            10 => {
                let call = self.pick(&[
                    "SUM(v) OVER (PARTITION BY k ORDER BY v, s)",
                    "COUNT(*) OVER (PARTITION BY s ORDER BY v, k ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING)",
                    "MAX(v) OVER (PARTITION BY k)",
                    "LAG(v) OVER (PARTITION BY k ORDER BY v, s)",
                    "CAST(RANK() OVER (ORDER BY v, k, s) AS BIGINT)",
                    "LEAD(v, 2, 0) OVER (PARTITION BY s ORDER BY v DESC, k)",
                    "MIN(v) OVER (PARTITION BY k ORDER BY v RANGE BETWEEN 2 PRECEDING AND CURRENT ROW)",
                    "SUM(v) OVER (PARTITION BY k ORDER BY v, s ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING EXCLUDE CURRENT ROW)",
                    "COUNT(*) OVER (PARTITION BY k ORDER BY v RANGE BETWEEN 3 PRECEDING AND 3 FOLLOWING EXCLUDE GROUP)",
                    "MAX(v) OVER (ORDER BY s, k GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW)",
                    "COUNT(DISTINCT v) OVER (PARTITION BY s ORDER BY k ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING EXCLUDE GROUP)",
                    "SUM(v) FILTER (WHERE k > 1) OVER (PARTITION BY s ORDER BY k RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE TIES)",
                ]);
                format!("SELECT k, s, {call} AS v FROM ({input}) AS {a}")
            }
            11 => format!("SELECT DISTINCT k, s, v FROM ({input}) AS {a}"),
            12 => {
                let limit = self.random.between(1, 6);
                let order = self.pick(&["v, k, s", "k DESC, s, v", "s, v DESC NULLS LAST, k"]);
                format!("SELECT k, s, v FROM ({input}) AS {a} ORDER BY {order} LIMIT {limit}")
            }
            17..=20 => self.less_usual(&input, &a, depth),
            13 => {
                let (kind, table) = (self.pick(&["JOIN", "LEFT JOIN"]), self.pick(&TABLES[..2]));
                let b = self.alias();
                let more = self.pick(&["", " AND {b}.v > 0", " AND {a}.v < {b}.v", " AND {a}.s = {b}.s"]);
                let more = more.replace("{a}", &a).replace("{b}", &b);
                format!(
                    "SELECT {a}.k, {b}.s, {b}.v FROM ({input}) AS {a} \
                     {kind} {table} FOR SYSTEM_TIME AS OF PROCTIME() AS {b} ON {a}.k = {b}.k{more}"
                )
            }
            14 => {
                let array = self.pick(&["array_agg(v)", "array_agg(DISTINCT v)", "ARRAY[MIN(v), MAX(v), NULL]"]);
                let (b, keys) = (self.alias(), self.pick(&["k", "s", "k, s"]));
                let (k, s) = (if keys == "s" { "MAX(k)" } else { "k" }, if keys == "k" { "MIN(s)" } else { "s" });
                let made = format!("SELECT {k} AS k, {s} AS s, {array} AS vs FROM ({input}) AS {a} GROUP BY {keys}");
                match self.random.between(0, 2) {
                    0 => format!("SELECT k, s, UNNEST(vs) AS v FROM ({made}) AS {b}"),
                    1 => format!("SELECT {b}.k, {b}.s, u.v FROM ({made}) AS {b} CROSS JOIN UNNEST({b}.vs) AS u(v)"),
                    _ => format!(
                        "SELECT {b}.k, {b}.s, COUNT(*) AS v FROM ({made}) AS {b}, UNNEST({b}.vs) AS u(v) GROUP BY {b}.k, {b}.s"
                    ),
                }
            }
            15 => {
                let other = self.relation(depth - 1);
                let b = self.alias();
                // Each of them ends: the key grows, or no value is new.
                let step = self.pick(&[
                    "UNION ALL SELECT CAST(k + 1 AS INT), s, v FROM {a} WHERE k < 3",
                    "UNION SELECT {b}.k, {a}.s, {b}.v FROM {a} JOIN ({other}) AS {b} ON {a}.v = {b}.k",
                    "UNION SELECT {a}.k, {b}.s, {a}.v FROM {a} LEFT JOIN ({other}) AS {b} ON {a}.k = {b}.k AND {b}.v > {a}.v",
                    "UNION SELECT CAST(k - 1 AS INT), UPPER(s), v FROM {a} WHERE k > 0 AND k IN (SELECT k FROM ({other}) AS {b})",
                ]);
                let step = step.replace("{a}", &a).replace("{b}", &b).replace("{other}", &other);
                format!(
                    "SELECT * FROM (WITH RECURSIVE {a} AS (SELECT k, s, v FROM ({input}) AS {a}_first {step}) SELECT k, s, v FROM {a}) AS {a}_made"
                )
            }
            _ => {
                let other = self.relation(depth - 1);
                let b = self.alias();
                format!(
                    "SELECT {a}.k, {a}.s, (SELECT MAX({b}.v) FROM ({other}) AS {b} WHERE {b}.k = {a}.k) AS v \
                     FROM ({input}) AS {a}"
                )
            }
        }
    }

    /// What is written less often.
    fn less_usual(&mut self, input: &str, a: &str, depth: u64) -> String {
        let (other, b) = (self.relation(depth - 1), self.alias());
        let text = self.pick(&[
            "SELECT k, s, v FROM ({input}) AS {a} QUALIFY ROW_NUMBER() OVER (PARTITION BY k ORDER BY v, s) <= 2",
            "SELECT DISTINCT ON (k) k, s, v FROM ({input}) AS {a} ORDER BY k, v DESC, s",
            "SELECT k, s, v FROM ({input}) AS {a} ORDER BY v NULLS LAST FETCH FIRST 2 ROWS WITH TIES",
            "SELECT k, s, v FROM ({input}) AS {a} ORDER BY v, k, s LIMIT 2 OFFSET 1",
            "SELECT CAST(COUNT(*) AS INT) AS k, MAX(s) AS s, SUM(v) AS v FROM ({input}) AS {a}",
            // What rises or falls, where rows are only inserted.
            "SELECT k, s, v FROM (SELECT k, s, COUNT(*) AS v FROM ({input}) AS {a}_in GROUP BY k, s) AS {a} ORDER BY v DESC, k, s LIMIT 3",
            "SELECT k, s, v FROM (SELECT k, s, MAX(v) AS v FROM ({input}) AS {a}_in GROUP BY k, s) AS {a} \
             QUALIFY RANK() OVER (PARTITION BY k ORDER BY v DESC NULLS LAST) <= 2",
            "SELECT k, s, v FROM (SELECT k, s, MIN(v) AS v, COUNT(*) AS c FROM ({input}) AS {a}_in GROUP BY k, s) AS {a} \
             QUALIFY ROW_NUMBER() OVER (PARTITION BY s ORDER BY v, k) = 1",
            "SELECT k, MIN(s) AS s, MAX(c) - MIN(v) AS v FROM (SELECT k, s, COUNT(*) AS c, MIN(v) AS v FROM ({input}) AS {a}_in GROUP BY k, s) AS {a} \
             GROUP BY k HAVING MAX(c) > 1",
            "SELECT k, s, CAST(k + 1 AS BIGINT) AS v FROM ({input}) AS {a} GROUP BY k, s HAVING COUNT(*) > 1 AND MAX(v) > 0",
            "SELECT {a}.k, {a}.s, {a}.v FROM ({input}) AS {a} WHERE k IN (SELECT k FROM ({other}) AS {b} GROUP BY k, s HAVING COUNT(v) >= 2)",
            "SELECT k, s, CAST(SUM(v) + 10 * GROUPING(k) AS BIGINT) AS v FROM ({input}) AS {a} GROUP BY CUBE (k, s)",
            "SELECT k, string_agg(s, ',' ORDER BY s) AS s, FIRST_VALUE(v ORDER BY v, s) AS v FROM ({input}) AS {a} GROUP BY k",
            "SELECT MIN(k) AS k, s, NTH_VALUE(v, 2 ORDER BY v DESC) AS v FROM ({input}) AS {a} GROUP BY s",
            "SELECT k, string_agg(DISTINCT s, '' ORDER BY s DESC) AS s, BIT_XOR(v) AS v FROM ({input}) AS {a} GROUP BY k HAVING SUM(v) > 0",
            "SELECT NULLIF(k, 2) AS k, CASE WHEN v > 2 THEN s WHEN k = 1 THEN 'z' END AS s, ABS(v) AS v FROM ({input}) AS {a}",
            "SELECT k, s, LAST_VALUE(v) IGNORE NULLS OVER (PARTITION BY k ORDER BY s, v ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS v \
             FROM ({input}) AS {a}",
            "SELECT k, s, CAST(NTILE(2) OVER (PARTITION BY k ORDER BY v, s) AS BIGINT) AS v FROM ({input}) AS {a}",
            "SELECT k, s, CAST(100 * CUME_DIST() OVER (PARTITION BY s ORDER BY v) AS BIGINT) AS v FROM ({input}) AS {a}",
            "SELECT {a}.k, u.s, u.v FROM ({input}) AS {a} CROSS JOIN LATERAL \
             (SELECT s, v FROM ({other}) AS {b} WHERE {b}.k = {a}.k ORDER BY v, s LIMIT 2) AS u",
            "SELECT {a}.k, {a}.s, u.v FROM ({input}) AS {a} LEFT JOIN LATERAL \
             (SELECT SUM(v) AS v FROM ({other}) AS {b} WHERE {b}.k = {a}.k HAVING COUNT(*) > 1) AS u ON true",
            "SELECT {a}.k, {a}.s, (SELECT COUNT(*) FROM ({other}) AS {b} WHERE {b}.k = {a}.k AND {b}.v < {a}.v) AS v FROM ({input}) AS {a}",
            "SELECT k, MAX(s) AS s, SUM((SELECT COUNT(*) FROM ({other}) AS {b} WHERE {b}.k = {a}.k)) AS v FROM ({input}) AS {a} GROUP BY k",
            "SELECT k, {a}.s, {b}.v FROM ({input}) AS {a} FULL JOIN ({other}) AS {b} USING (k)",
            "SELECT k, s, {a}.v FROM ({input}) AS {a} NATURAL LEFT JOIN (SELECT k, s FROM ({other}) AS {b}) AS {b}_keys",
            "SELECT {a}.k, {a}.s, {a}.v - {b}.m AS v FROM ({input}) AS {a} CROSS JOIN (SELECT MAX(v) AS m FROM ({other}) AS {b}_all) AS {b}",
            "SELECT {a}.k, {b}.s, {a}.v FROM ({input}) AS {a} LEFT JOIN (VALUES (1, 'a'), (2, 'b'), (2, NULL)) AS {b}(k, s) ON {a}.k = {b}.k",
            "SELECT k, s, v FROM ({input}) AS {a} WHERE (k, s) IN (SELECT k, s FROM ({other}) AS {b})",
            "SELECT k, s, v FROM ({input}) AS {a} WHERE k IN (SELECT k FROM ({other}) AS {b}) OR v > 5 OR s IS NULL",
            "SELECT k, s, v FROM ({input}) AS {a} WHERE NOT (EXISTS (SELECT 1 FROM ({other}) AS {b} WHERE {b}.k = {a}.k) AND v < 3)",
            "SELECT k, s, v FROM ({input}) AS {a} WHERE v > ALL (SELECT v FROM ({other}) AS {b} WHERE {b}.k = {a}.k)",
            "SELECT k, s, v FROM ({input}) AS {a} WHERE v = ANY (SELECT v + 1 FROM ({other}) AS {b})",
            "SELECT k, s, v FROM ({input}) AS {a} WHERE k BETWEEN (SELECT MIN(k) FROM ({other}) AS {b}) AND 2",
            "SELECT k, MIN(s) AS s, v FROM (SELECT k, s, v FROM ({input}) AS {a} UNION ALL SELECT k, s, v FROM ({input}) AS {a}_again \
             UNION ALL SELECT k, s, -v FROM ({other}) AS {b}) AS {a}_all GROUP BY k, v HAVING COUNT(*) <> 2",
        ]);
        text.replace("{a}", a).replace("{b}", &b).replace("{input}", input).replace("{other}", &other)
    }
}
