//! Statements as a user writes them, and what is read; mistakes as a user makes them, and what is said.

use datafusion::sql::sqlparser::ast::Query;

use super::*;
use crate::error::{Location, SqlError};
use crate::types::sql_name;

/// A statement in one line, so that tests can compare it at a glance.
fn summary(statement: &Statement) -> String {
    let query = |query: &QueryText| {
        let emit = match query.emit.map(|emit| emit.kind) {
            Some(EmitKind::Changes) => " / changes",
            Some(EmitKind::OnWindowClose) => " / close",
            None => "",
        };
        format!("[{}{emit}]", query.ast)
    };
    let flags = |flags: &[(bool, &str)]| {
        flags.iter().filter(|(set, _)| *set).map(|(_, word)| format!(" {word}")).collect::<String>()
    };
    let names = |names: &[Name]| names.iter().map(Name::to_string).collect::<Vec<_>>().join(", ");
    let options = |options: &[TableOption]| {
        options.iter().map(|option| format!("{}={}", option.key, option.value)).collect::<Vec<_>>().join("; ")
    };
    match &statement.kind {
        StatementKind::CreateTable(table) => {
            let columns = table.columns.iter().map(|column| {
                let not_null = |not_null: &bool| if *not_null { " not null" } else { "" };
                let kind = match &column.kind {
                    ColumnKind::Physical { data_type, not_null: required } => {
                        format!("{}{}", sql_name(data_type), not_null(required))
                    }
                    ColumnKind::Metadata { data_type, not_null: required, key, is_virtual } => format!(
                        "{}{} from {}{}",
                        sql_name(data_type),
                        not_null(required),
                        key.as_deref().unwrap_or("-"),
                        if *is_virtual { " virtual" } else { "" }
                    ),
                    ColumnKind::Computed { expr } => format!("= {}", expr.text),
                };
                let comment = column.comment.iter().map(|comment| format!(" -- {comment}")).collect::<String>();
                format!("{} {kind}{comment}", column.name)
            });
            let mut parts = vec![columns.collect::<Vec<_>>().join(", ")];
            if let Some(watermark) = &table.watermark {
                let expr = watermark.expr.as_ref().map_or("itself", |expr| &expr.text);
                parts.push(format!("watermark {}: {expr}", watermark.column));
            }
            parts.extend(table.primary_key.iter().map(|key| format!("key {}", names(&key.columns))));
            parts.extend(table.comment.iter().map(|comment| format!("comment {comment}")));
            if !table.partitioned_by.is_empty() {
                parts.push(format!("by {}", names(&table.partitioned_by)));
            }
            parts.push(options(&table.options));
            parts.extend(table.query.iter().map(query));
            let flags = flags(&[
                (table.or_replace, "replace"),
                (table.temporary, "temporary"),
                (table.if_not_exists, "if not exists"),
            ]);
            parts.retain(|part| !part.is_empty());
            format!("{:?}{flags} {}: {}", table.role, table.name, parts.join(" | "))
        }
        StatementKind::CreateView(view) => {
            let flags = flags(&[
                (view.materialized, "materialized"),
                (view.or_replace, "replace"),
                (view.temporary, "temporary"),
                (view.if_not_exists, "if not exists"),
            ]);
            format!("View{flags} {}({}): {}", view.name, names(&view.columns), query(&view.query))
        }
        StatementKind::CreateModel(model) => {
            let columns = |columns: &Option<Vec<FunctionArg>>| match columns {
                Some(columns) => {
                    let column = |column: &FunctionArg| format!("{} {}", column.name, sql_name(&column.data_type));
                    columns.iter().map(column).collect::<Vec<_>>().join(", ")
                }
                None => "-".to_string(),
            };
            let flags = flags(&[(model.or_replace, "replace"), (model.if_not_exists, "if not exists")]);
            let rows = model.query.iter().map(query).collect::<String>();
            let (input, output) = (columns(&model.input), columns(&model.output));
            format!("Model{flags} {}: {input} -> {output} | {}{rows}", model.name, options(&model.options))
        }
        StatementKind::CreateFunction(function) => {
            let args = function.args.iter().map(|arg| format!("{} {}", arg.name, sql_name(&arg.data_type)));
            let args = args.collect::<Vec<_>>().join(", ");
            format!("Function {}({args}) {}: {}", function.name, sql_name(&function.returns), function.body.text)
        }
        StatementKind::Insert(insert) => {
            format!("Insert {}({}): {}", insert.table, names(&insert.columns), query(&insert.query))
        }
        StatementKind::StatementSet(statements) => {
            format!("Set of {}", statements.iter().map(summary).collect::<Vec<_>>().join(" + "))
        }
        StatementKind::Query(text) => format!("Query {}", query(text)),
        StatementKind::Subscribe(view) => format!("Subscribe {view}"),
        StatementKind::Explain(explain) => {
            let analyze = match &explain.analyze {
                Some(Analyze { duration_ms: Some(duration_ms), .. }) => format!(" analyze {duration_ms} ms"),
                Some(_) => " analyze".into(),
                None => String::new(),
            };
            let matching = explain.matching.as_ref().map(|matching| {
                let key = matching.key.iter().map(|(column, value)| format!(" {column} = {}", value.text));
                let bound = |word: &str, value: &Option<ExprText>| {
                    value.as_ref().map(|value| format!(" {word} {}", value.text)).unwrap_or_default()
                };
                let bounds = (bound("from", &matching.from), bound("to", &matching.to));
                format!(" match{}{}{}", key.collect::<String>(), bounds.0, bounds.1)
            });
            format!("Explain{analyze}{}: {}", matching.unwrap_or_default(), summary(&explain.statement))
        }
        StatementKind::Show(Show::Create(name)) => format!("Show create {name}"),
        StatementKind::Show(Show::Setting { key, .. }) => format!("Show setting {key}"),
        StatementKind::Show(show) => format!("Show {show:?}"),
        StatementKind::Describe(Describe::Table(name)) => format!("Describe {name}"),
        StatementKind::Describe(Describe::Model(name)) => format!("Describe model {name}"),
        StatementKind::Describe(Describe::Connector(name)) => format!("Describe connector {}", name.text),
        StatementKind::Drop(drop) => {
            let flags = flags(&[(drop.if_exists, "if exists"), (drop.cascade, "cascade")]);
            format!("Drop {:?}{flags} {}", drop.kind, drop.name)
        }
        StatementKind::Set { key, value, .. } => format!("Set {key} = {value}"),
        StatementKind::Reset { key } => {
            format!("Reset {}", key.as_ref().map_or("all", |(key, _)| key.as_str()))
        }
    }
}

fn check(sql: &str, expected: &str) {
    let statements = parse(sql).unwrap_or_else(|error| panic!("{sql}\n{error}"));
    let actual = statements.iter().map(summary).collect::<Vec<_>>().join("\n");
    assert_eq!(actual, expected, "{sql}");
}

fn check_error(sql: &str, expected: &str) {
    match parse(sql) {
        Ok(statements) => {
            panic!("{sql}\nwas read as {}", statements.iter().map(summary).collect::<Vec<_>>().join("\n"))
        }
        Err(error) => assert!(error.to_string().contains(expected), "{sql}\nsaid:     {error}\nexpected: {expected}"),
    }
}

/// A table definition written for Flink is read as it is meant.
#[test]
fn create_table() {
    check(
        "CREATE TABLE bid (\n  auction BIGINT,\n  price DECIMAL(10, 2) NOT NULL COMMENT 'in dollars',\n  channel VARCHAR,\n  \
         extra ROW<a INT, b ARRAY<ARRAY<STRING>>>,\n  `date time` TIMESTAMP(3),\n  part INT METADATA FROM 'partition' VIRTUAL,\n  \
         `offset` BIGINT METADATA,\n  cents AS CAST(price * 100 AS BIGINT),\n  \
         WATERMARK FOR `date time` AS `date time` - INTERVAL '4' SECOND,\n  PRIMARY KEY (auction) NOT ENFORCED\n) COMMENT 'bids' \
         PARTITIONED BY (channel) WITH ('connector' = 'filesystem', format = json, scan.batch-size = 10, x = -1)",
        "Table bid: auction BIGINT not null, price DECIMAL(10, 2) not null -- in dollars, channel STRING, \
         extra ROW<a INT, b ARRAY<ARRAY<STRING>>>, \"date time\" TIMESTAMP(3), part INT from partition virtual, \
         \"offset\" BIGINT from -, cents = CAST(price * 100 AS BIGINT) | watermark \"date time\": `date time` - INTERVAL '4' SECOND \
         | key auction | comment bids | by channel | connector=filesystem; format=json; scan.batch-size=10; x=-1",
    );
    check("create temporary table if not exists a.b.t with ('a'='b',)", "Table temporary if not exists a.b.t: a=b");
    check("CREATE SOURCE s (ts TIMESTAMP(3), WATERMARK FOR ts)", "Source s: ts TIMESTAMP(3) | watermark ts: itself");
    check("CREATE SINK s (k INT PRIMARY KEY NOT ENFORCED)", "Sink s: k INT not null | key k");
    check("CREATE TABLE s (k INT, CONSTRAINT x PRIMARY KEY (K) NOT ENFORCED)", "Table s: k INT not null | key K");
    check("CREATE TABLE t WITH ('a' = 'b') AS SELECT 1 AS x", "Table t: a=b | [SELECT 1 AS x]");
    // Words of the grammar are names where a name stands.
    check(
        "CREATE TABLE t (watermark INT, primary STRING, `like` INT)",
        "Table t: watermark INT, primary STRING, \"like\" INT",
    );
}

/// Views, functions and inserts keep their query and its `EMIT`.
#[test]
fn create_view_function_insert() {
    check("CREATE VIEW v AS SELECT * FROM t", "View v(): [SELECT * FROM t]");
    check(
        "CREATE OR REPLACE TEMPORARY VIEW v (a, \"B\") COMMENT 'c' AS SELECT 1, 2 EMIT CHANGES",
        "View replace temporary v(a, \"B\"): [SELECT 1, 2 / changes]",
    );
    check(
        "CREATE MATERIALIZED VIEW IF NOT EXISTS v AS SELECT count(*) FROM t EMIT ON WINDOW CLOSE",
        "View materialized if not exists v(): [SELECT count(*) FROM t / close]",
    );
    check(
        "CREATE FUNCTION f(a INT, b STRING) RETURNS DOUBLE LANGUAGE SQL AS 'a * 2.5'",
        "Function f(a INT, b STRING) DOUBLE: a * 2.5",
    );
    check("CREATE FUNCTION f() RETURNS INT AS $$ SELECT 1 + 1; $$", "Function f() INT: 1 + 1");
    check("CREATE TEMPORARY FUNCTION f(a INT) RETURNS INT RETURN a + 1", "Function f(a INT) INT: a + 1");
    check("INSERT INTO t SELECT a FROM s", "Insert t(): [SELECT a FROM s]");
    check("INSERT INTO t (a, `b`) VALUES (1, 'x'), (2, 'y')", "Insert t(a, \"b\"): [VALUES (1, 'x'), (2, 'y')]");
    check("INSERT INTO t (SELECT 1)", "Insert t(): [(SELECT 1)]");
    check(
        "BEGIN STATEMENT SET; INSERT INTO a SELECT 1; INSERT INTO b SELECT 2 EMIT CHANGES; END;",
        "Set of Insert a(): [SELECT 1] + Insert b(): [SELECT 2 / changes]",
    );
    check(
        "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; INSERT INTO b SELECT 2; END; SELECT 3",
        "Set of Insert a(): [SELECT 1] + Insert b(): [SELECT 2]\nQuery [SELECT 3]",
    );
}

/// `EMIT` is no alias, and may stand on either side of `ORDER BY`.
#[test]
fn emit() {
    check("SELECT * FROM bid EMIT CHANGES", "Query [SELECT * FROM bid / changes]");
    check(
        "SELECT a FROM t GROUP BY a EMIT ON WINDOW CLOSE ORDER BY a LIMIT 3",
        "Query [SELECT a FROM t GROUP BY a ORDER BY a LIMIT 3 / close]",
    );
    check("SELECT a FROM t ORDER BY a LIMIT 3 emit changes", "Query [SELECT a FROM t ORDER BY a LIMIT 3 / changes]");
    check("SELECT emit FROM t AS emit WHERE emit > 1", "Query [SELECT emit FROM t AS emit WHERE emit > 1]");
}

/// The statements around the pipeline.
#[test]
fn short_statements() {
    check("EXPLAIN SELECT 1", "Explain: Query [SELECT 1]");
    check("EXPLAIN MATCH SELECT 1", "Explain match: Query [SELECT 1]");
    check(
        "EXPLAIN MATCH FOR (k = 'a' AND j = 1 + 1) FROM TIMESTAMP '2026-01-01' TO 5 SELECT 1",
        "Explain match k = 'a' j = 1 + 1 from TIMESTAMP '2026-01-01' to 5: Query [SELECT 1]",
    );
    check("EXPLAIN PLAN FOR INSERT INTO t SELECT 1", "Explain: Insert t(): [SELECT 1]");
    check("EXPLAIN ANALYZE SELECT 1", "Explain analyze: Query [SELECT 1]");
    check("EXPLAIN ANALYZE FOR INTERVAL '10' SECOND SELECT 1", "Explain analyze 10000 ms: Query [SELECT 1]");
    check("EXPLAIN ANALYZE FOR INTERVAL '2 minutes' SELECT 1", "Explain analyze 120000 ms: Query [SELECT 1]");
    check("EXPLAIN STATEMENT SET BEGIN INSERT INTO a SELECT 1; END", "Explain: Set of Insert a(): [SELECT 1]");
    check(
        "show tables; SHOW VIEWS; SHOW FUNCTIONS; SHOW SETTINGS; SHOW ALL; SHOW CONNECTORS; SHOW CREATE TABLE a.b",
        "Show Tables\nShow Views\nShow Functions\nShow Settings\nShow Settings\nShow Connectors\nShow create a.b",
    );
    check(
        "SHOW eagre.step.rows_max; SHOW 'eagre.device'",
        "Show setting eagre.step.rows_max\nShow setting eagre.device",
    );
    check("SHOW TIME ZONE; SHOW SOURCES; SHOW FORMATS", "Show setting eagre.sql.time_zone\nShow Sources\nShow Formats");
    check("SHOW COLUMNS FROM t", "Describe t");
    check_error(
        "SHOW server_version",
        "line 1, column 6: `SHOW server_version` is not known; it knows TABLES, SOURCES",
    );
    check_error("SHOW TABLS", "did you mean `SHOW TABLES`?");
    check_error("SHOW DATABASES", "`SHOW DATABASES` is not supported; all objects live in one namespace");
    check(
        "DESCRIBE t; DESC `T`; DESCRIBE CONNECTOR upsert-kafka; DESCRIBE connector",
        "Describe t\nDescribe \"T\"\nDescribe connector upsert-kafka\nDescribe connector",
    );
    check(
        "DROP TABLE IF EXISTS t; DROP TEMPORARY VIEW v; DROP SOURCE s; DROP SINK s; DROP FUNCTION f; DROP MATERIALIZED VIEW m",
        "Drop Table if exists t\nDrop View v\nDrop Source s\nDrop Sink s\nDrop Function f\nDrop MaterializedView m",
    );
    check(
        "DROP MATERIALIZED VIEW IF EXISTS m CASCADE; DROP VIEW v RESTRICT; SUBSCRIBE TO v; SUBSCRIBE \"V\"; SHOW MATERIALIZED VIEWS",
        "Drop MaterializedView if exists cascade m\nDrop View v\nSubscribe v\nSubscribe \"V\"\nShow MaterializedViews",
    );
    check(
        "SET 'a.b' = 'c'; SET a.b = 10s; SET a.b-c TO on; SET 'a'; SET; SET TIME ZONE 'Europe/Berlin'; SET 'table.local-time-zone' = 'UTC'; SET timezone TO 'UTC'; RESET 'a'; RESET",
        "Set a.b = c\nSet a.b = 10s\nSet a.b-c = on\nShow setting a\nShow Settings\nSet eagre.sql.time_zone = Europe/Berlin\n\
         Set eagre.sql.time_zone = UTC\nSet eagre.sql.time_zone = UTC\n\
         Reset a\nReset all",
    );
}

/// What Flink and PostgreSQL write inside of queries, and sqlparser's other dialects do not read.
#[test]
fn queries() {
    for (sql, expected) in [
        (
            "SELECT * FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND))",
            "SELECT * FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND))",
        ),
        (
            "SELECT * FROM TABLE(HOP(DATA => TABLE a.bid, TIMECOL => DESCRIPTOR(ts), SLIDE => INTERVAL '1' MINUTE))",
            "SELECT * FROM TABLE(HOP(DATA => TABLE a.bid, TIMECOL => DESCRIPTOR(ts), SLIDE => INTERVAL '1' MINUTE))",
        ),
        (
            "SELECT * FROM TABLE(TUMBLE(TABLE (SELECT * FROM bid), DESCRIPTOR(ts), INTERVAL '1' DAY)) AS w",
            "SELECT * FROM TABLE(TUMBLE(TABLE (SELECT * FROM bid), DESCRIPTOR(ts), INTERVAL '1' DAY)) AS w",
        ),
        ("SELECT `a b`, \"C\" FROM `t`", "SELECT `a b`, \"C\" FROM `t`"),
        (
            "SELECT CAST(a AS ROW<x INT>), TRY_CAST(b AS TIMESTAMP_LTZ(3)) FROM t",
            "SELECT CAST(a AS STRUCT<x INT>), TRY_CAST(b AS TIMESTAMP(3) WITH TIME ZONE) FROM t",
        ),
        ("SELECT CAST(a AS MAP<STRING, ARRAY<INT>>)", "SELECT CAST(a AS Map(STRING, ARRAY<INT>))"),
        ("SELECT TIMESTAMP '2024-01-01 00:00:00.123456'", "SELECT TIMESTAMP(6) '2024-01-01 00:00:00.123456'"),
        ("SELECT TIMESTAMPDIFF(HOUR, a, b) FROM t", "SELECT timestampdiff('hour', a, b) FROM t"),
        ("SELECT FLOOR(ts TO HOUR), FLOOR(x) FROM t", "SELECT FLOOR(ts TO HOUR), FLOOR(x) FROM t"),
        ("SELECT CEIL(ts TO DAYS), CEILING(ts TO DAY), CEIL(x)", "SELECT CEIL(ts TO DAYS), CEIL(ts TO DAY), CEIL(x)"),
        ("SELECT MAP['a', 1, 'b', MAP[k, v]] FROM t", "SELECT MAP {'a': 1, 'b': MAP {k: v}} FROM t"),
        ("SELECT TOP 3 k FROM t ORDER BY k", "SELECT k FROM t ORDER BY k LIMIT 3"),
        ("SELECT * FROM (SELECT TOP (2) k FROM t) AS x", "SELECT * FROM (SELECT k FROM t LIMIT 2) AS x"),
        ("SELECT j -> 'a' ->> 'b', t.j -> 0 FROM t", "SELECT j -> 'a' ->> 'b', t.j -> 0 FROM t"),
        (
            "SELECT array_transform(a, x -> 1), array_filter(a, (x) -> x > 1)",
            "SELECT array_transform(a, x -> 1), array_filter(a, (x) -> x > 1)",
        ),
        ("SELECT lambda FROM t", "SELECT lambda FROM t"),
        (
            "SELECT count(*) FILTER (WHERE a > 1) FROM t GROUP BY GROUPING SETS ((a), ())",
            "SELECT count(*) FILTER (WHERE a > 1) FROM t GROUP BY GROUPING SETS ((a), ())",
        ),
        (
            "SELECT * FROM a JOIN b FOR SYSTEM_TIME AS OF a.ts ON a.x = b.x",
            "SELECT * FROM a JOIN b FOR SYSTEM_TIME AS OF a.ts ON a.x = b.x",
        ),
        ("SELECT [1, 2][1], {a: 1}, MAP {'k': 1}, IF(a, 1, 2)", "SELECT [1, 2][1], {a: 1}, MAP {'k': 1}, IF(a, 1, 2)"),
        (
            "SELECT CURRENT_TIMESTAMP, LOCALTIMESTAMP, now() -- comment\n",
            "SELECT CURRENT_TIMESTAMP, LOCALTIMESTAMP, now()",
        ),
        ("VALUES (1)", "VALUES (1)"),
        ("WITH x AS (SELECT 1) SELECT * FROM x", "WITH x AS (SELECT 1) SELECT * FROM x"),
    ] {
        check(sql, &format!("Query [{expected}]"));
    }
}

/// The text and the place of a statement are its own, whatever stands around it.
#[test]
fn texts_and_places() {
    let sql = "-- ein Käse; nicht wichtig\nSELECT 'ä;' ;\n\n  /* x */ INSERT INTO t -- y\n  SELECT a;;";
    let statements = parse(sql).expect("two statements");
    let found: Vec<_> = statements.iter().map(|statement| (statement.text.as_str(), statement.location)).collect();
    let insert = "INSERT INTO t -- y\n  SELECT a";
    assert_eq!(found, [("SELECT 'ä;'", Location::new(2, 1)), (insert, Location::new(4, 11))]);
    assert_eq!(parse(" \n-- nothing\n;").expect("nothing"), vec![]);
    let StatementKind::CreateFunction(function) =
        &parse("CREATE FUNCTION f(a INT) RETURNS INT AS '\n  a + b'").expect("a function")[0].kind
    else {
        panic!("no function");
    };
    assert_eq!(find_name(&function.body.ast, NameKind::Column, "b"), Some(Location::new(2, 7)));
}

/// A mistake is shown at its place in the file, with what to do.
#[test]
fn errors() {
    for (sql, expected) in [
        ("SELECT 1;\nSELECT FROM WHERE", "line 2, column 13: expected an expression, found `FROM`"),
        ("SELECT a FROM", "line 1, column 14: expected identifier, found the end of the statement"),
        ("SELECT (1 + 2;\nSELECT 1", "line 1, column 14: expected ), found the end of the statement"),
        ("SELECT 'abc", "line 1, column 8: unterminated string literal"),
        ("SELECT a FROM t t2 t3", "line 1, column 20: expected the end of the statement, found t3"),
        ("SELEC 1", "line 1, column 1: `SELEC` begins no statement; did you mean `SELECT`?"),
        (
            "FOO BAR baz qux",
            "line 1, column 1: `FOO BAR BAZ` begins no statement; statements begin with one of CREATE,",
        ),
        ("42", "expected a statement (it begins with one of CREATE"),
        ("\n  UPDATE t SET a = 1", "line 2, column 3: `UPDATE` is not supported; a stream is changed by new rows"),
        ("CREATE INDEX i", "line 1, column 1: `CREATE INDEX` is not supported; tables, sources"),
        ("CREATE MODEL m INPUT (a INT, A INT)", "line 1, column 30: column `A` is given twice"),
        (
            "CREATE MODEL m INPUTS (a INT)",
            "line 1, column 16: expected `INPUT (..)`, `OUTPUT (..)`, `COMMENT`, `WITH (..)` or `AS SELECT ..`",
        ),
        ("CREATE TABLE t (a INT", "line 1, column 22: expected `,` or `)` after the column, found the end"),
        ("CREATE TABLE t (a, b INT)", "line 1, column 18: expected a type after the column `a`, or `AS`"),
        ("CREATE TABLE t (a STRIN)", "line 1, column 19: type `STRIN` is not known; did you mean `STRING`?"),
        ("CREATE TABLE t (a DECIMAL(99))", "line 1, column 19: type `DECIMAL(99, 0)` is not known; the precision goes"),
        ("CREATE TABLE t (a INT, A STRING)", "line 1, column 24: column `A` is given twice"),
        ("CREATE TABLE t (a INT, PRIMARY KEY (b) NOT ENFORCED)", "line 1, column 37: column `b` is not known"),
        ("CREATE TABLE t (a INT, PRIMARY KEY (a))", "line 1, column 39: expected `NOT ENFORCED` after the primary key"),
        ("CREATE TABLE t (a INT, WATERMARK FOR b AS b)", "line 1, column 38: column `b` is not known"),
        ("CREATE TABLE t (a INT, WATERMARK FOR a, WATERMARK FOR a)", "line 1, column 41: a table has one watermark"),
        ("CREATE TABLE t (a INT DEFAULT 1 DEFAULT 2)", "line 1, column 33: the column `a` has two defaults"),
        ("CREATE TABLE t (a INT, UNIQUE (a))", "line 1, column 24: the constraint `UNIQUE` is not supported"),
        ("CREATE TABLE t LIKE s (INCLUDING COLUMNS)", "line 1, column 34: expected one of ALL, CONSTRAINTS"),
        ("CREATE TABLE t LIKE s (OVERWRITING PARTITIONS)", "line 1, column 36: `OVERWRITING PARTITIONS` is not there"),
        ("CREATE TABLE t (LIKE s) LIKE u", "line 1, column 25: a table is LIKE one other"),
        ("CREATE TABLE t LIKE s AS SELECT 1", "line 1, column 21: `LIKE` and `AS` do not go together"),
        ("CREATE TABLE t (a INT) WITH ('a' 'b')", "line 1, column 34: expected `=`, found `'b'`"),
        (
            "CREATE TABLE t WITH ('a' = '1', 'a' = '2')",
            "line 1, column 33: option `a` is given twice; the first is at line 1, column 22",
        ),
        ("CREATE TABLE t (a INT) EMIT CHANGES", "line 1, column 24: `EMIT` belongs to a query"),
        ("SELECT * FROM (SELECT a FROM t EMIT CHANGES)", "line 1, column 32: `EMIT` belongs to the end of a statement"),
        ("SELECT a FROM t EMIT FINAL", "line 1, column 17: expected `EMIT CHANGES` or `EMIT ON WINDOW CLOSE`"),
        ("INSERT OVERWRITE t SELECT 1", "line 1, column 8: `INSERT OVERWRITE` is not supported"),
        ("INSERT INTO t UPDATE x", "line 1, column 15: expected a query (`SELECT ..`, `WITH ..`, `VALUES ..`)"),
        (
            "BEGIN STATEMENT SET; INSERT INTO t SELECT 1",
            "line 1, column 20: the statement set does not end; add `END;`",
        ),
        (
            "BEGIN STATEMENT SET; SELECT 1; END",
            "line 1, column 22: a statement set holds `INSERT INTO` statements only",
        ),
        ("BEGIN STATEMENT SET; END", "line 1, column 20: a statement set needs at least one `INSERT INTO`"),
        ("END", "line 1, column 1: `END` without the `BEGIN STATEMENT SET`"),
        ("EXPLAIN SHOW TABLES", "line 1, column 9: `EXPLAIN` takes a query"),
        (
            "EXPLAIN ANALYZE FOR 10 SELECT 1",
            "line 1, column 21: expected a positive time such as `INTERVAL '10' SECOND`",
        ),
        ("SHOW TABELS", "line 1, column 6: `SHOW TABELS` is not known; did you mean `SHOW TABLES`?"),
        ("DROP DATABASE d", "line 1, column 6: expected one of TABLE, SOURCE, SINK, VIEW"),
        ("SET 'a' 'b'", "line 1, column 9: expected `=`, found `'b'`"),
        (
            "CREATE FUNCTION f AS 'com.acme.F' LANGUAGE JAVA",
            "line 1, column 19: a function of a class or a library is not",
        ),
        (
            "CREATE FUNCTION f() RETURNS INT LANGUAGE PYTHON AS 'x'",
            "line 1, column 33: `LANGUAGE PYTHON` is not supported",
        ),
        ("CREATE FUNCTION f() RETURNS INT AS '1 +'", "line 1, column 40: expected an expression, found the end"),
        ("CREATE FUNCTION f(a INT, A INT) RETURNS INT AS '1'", "line 1, column 26: argument `A` is given twice"),
        ("CREATE VIEW v SELECT 1", "line 1, column 15: expected `AS`, found `SELECT`"),
        ("SELECT * FROM t PREWHERE a", "expected the end of the statement"),
    ] {
        check_error(sql, expected);
    }
    assert_eq!(parse("GRANT x").map_err(|error| error.code()), Err("unsupported"));
    let deep = format!("SELECT {}1{}", "(".repeat(500), ")".repeat(500));
    assert!(
        matches!(parse(&deep), Err(SqlError::Unsupported { .. })),
        "a nesting too deep is refused, no stack overflow"
    );
}

fn query(sql: &str) -> Box<Query> {
    parse_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}")).ast
}

/// What cannot be run yet is found, and where.
#[test]
fn constructs() {
    use Construct::*;
    for (sql, expected) in [
        ("SELECT a FROM t WHERE a > 1", vec![]),
        ("SELECT * FROM a JOIN b ON a.x = b.x", vec![(Join, 22)]),
        ("SELECT * FROM a, b", vec![(CommaJoin, 18)]),
        ("SELECT * FROM a CROSS JOIN UNNEST(a.l) AS u(x)", vec![(Unnest, 35)]),
        ("SELECT * FROM a, LATERAL (SELECT 1)", vec![(Lateral, 27)]),
        ("SELECT row_number() OVER (ORDER BY a) FROM t", vec![(Over, 8)]),
        ("SELECT a FROM t WHERE a IN (SELECT b FROM u)", vec![(Subquery, 29)]),
        ("SELECT (SELECT 1), EXISTS (SELECT 2)", vec![(Subquery, 9), (Subquery, 28)]),
        ("SELECT 1 UNION ALL SELECT 2", vec![(UnionAll, 20)]),
        ("SELECT 1 UNION SELECT 2 INTERSECT SELECT 3", vec![(Union, 16), (Intersect, 35)]),
        ("SELECT 1 EXCEPT SELECT 2", vec![(Except, 17)]),
        ("SELECT a FROM t ORDER BY a LIMIT 5", vec![(OrderBy, 26), (Limit, 34)]),
        ("SELECT * FROM (SELECT a FROM t ORDER BY a LIMIT 5)", vec![(SubqueryOrderBy, 41), (SubqueryLimit, 49)]),
        ("SELECT DISTINCT a FROM t", vec![(Distinct, 1)]),
        ("SELECT DISTINCT ON (a) a FROM t", vec![(DistinctOn, 21)]),
        ("SELECT a FROM t GROUP BY ROLLUP (a)", vec![(GroupingSets, 34)]),
        ("SELECT * FROM t FOR SYSTEM_TIME AS OF x", vec![(SystemTime, 15)]),
        ("SELECT * FROM t TABLESAMPLE BERNOULLI (10)", vec![(TableSample, 15)]),
        ("WITH RECURSIVE x AS (SELECT 1) SELECT * FROM x", vec![(RecursiveCte, 1)]),
        ("SELECT a FROM t QUALIFY a > 1", vec![(Qualify, 25)]),
        ("SELECT * FROM TABLE(TUMBLE(TABLE (SELECT * FROM t), DESCRIPTOR(a), INTERVAL '1' DAY))", vec![]),
        ("SELECT * FROM t MATCH_RECOGNIZE (ORDER BY a MEASURES A.x AS y PATTERN (A B) DEFINE A AS A.x > 1)", vec![]),
    ] {
        let found = find_constructs(&query(sql));
        let columns: Vec<_> = found.iter().map(|(construct, location)| (*construct, location.column)).collect();
        assert_eq!(columns, expected, "{sql}");
    }
}

/// An unknown name is shown where it first stands.
#[test]
fn names() {
    let query = query("SELECT t.Price, foo(x) FROM t, TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' DAY))");
    for (kind, name, column) in [
        (NameKind::Column, "price", Some(8)),
        (NameKind::Column, "t.price", Some(8)),
        (NameKind::Column, "x", Some(21)),
        (NameKind::Column, "ts", Some(67)),
        (NameKind::Column, "nothing", None),
        (NameKind::Table, "t", Some(29)),
        (NameKind::Table, "BID", Some(51)),
        (NameKind::Function, "foo", Some(17)),
    ] {
        let found = find_name(&*query, kind, name).map(|location| location.column);
        assert_eq!(found, column, "{kind:?} {name}");
    }
}
