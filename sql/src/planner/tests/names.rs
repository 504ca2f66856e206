//! How names are found, and what output columns are called.

use super::harness::{catalog, job, refused};
use crate::error::Location;
use crate::parser::{Name, ObjectName};

const TABLES: &str = "
CREATE TABLE Bid (auction BIGINT, `dateTime` TIMESTAMP(3), Price DOUBLE, info ROW<Seller STRING, `where` ROW<city STRING>>)
  WITH ('connector' = 'x');
CREATE TABLE \"select\" (\"from\" INT, \"two words\" INT) WITH ('connector' = 'x');
CREATE VIEW v (first, \"Second\") AS SELECT auction, price FROM bid;
CREATE TABLE found WITH ('connector' = 'x');
";

/// The columns that are shown.
fn columns(sql: &str) -> Vec<String> {
    let job = job(TABLES, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let output = &job.outputs[0];
    let shown = output.final_sort.as_ref().map_or(usize::MAX, |sort| sort.visible);
    output.schema.fields().iter().take(shown).map(|field| field.name().clone()).collect()
}

/// A column matches exactly first, else ignoring case; its output is called as the user wrote it.
#[test]
fn names_ignore_case_and_keep_their_spelling() {
    for (sql, expected) in [
        (
            "SELECT dateTime, datetime AS d, \"dateTime\" AS q, `dateTime` AS b FROM bid",
            &["dateTime", "d", "q", "b"][..],
        ),
        ("SELECT DATETIME, AUCTION FROM BID", &["DATETIME", "AUCTION"]),
        ("SELECT b.Auction, B.price FROM bid AS b", &["Auction", "price"]),
        ("SELECT bid.auction FROM Bid", &["auction"]),
        ("SELECT * FROM bid", &["auction", "dateTime", "Price", "info"]),
        ("SELECT \"from\", \"two words\" FROM \"select\"", &["from", "two words"]),
        ("SELECT FIRST, second, \"Second\" AS s FROM V", &["FIRST", "second", "s"]),
        ("SELECT count(*), SUM(price), price + 1 FROM bid GROUP BY PRICE", &["count(*)", "SUM(price)", "price + 1"]),
        ("SELECT auction + 1, auction + 1 FROM bid", &["auction + 1", "auction + 1_2"]),
        ("SELECT auction, *, price FROM bid AS b", &["auction", "auction_2", "dateTime", "Price", "info", "price"]),
        ("SELECT info.seller, info.\"where\".CITY AS c FROM bid", &["seller", "c"]),
        ("WITH X AS (SELECT auction AS Aa FROM bid) SELECT aa, x.AA AS y FROM x", &["aa", "y"]),
        ("SELECT auction AS Total FROM bid ORDER BY total", &["Total"]),
        ("SELECT auction % 2 AS Odd, count(*) AS n FROM bid GROUP BY odd HAVING N > 1", &["Odd", "n"]),
        ("SELECT bid.info.SELLER, b2.x FROM bid CROSS JOIN UNNEST(ARRAY[1]) AS b2(x)", &["SELLER", "x"]),
        ("SELECT Found FROM found", &["Found"]),
        (
            "SELECT 1 + (SELECT max(n) FROM (VALUES (1)) AS w(x) MATCH_RECOGNIZE (ORDER BY x MEASURES COUNT(*) AS n PATTERN (A))) FROM bid",
            &["1 + (SELECT max(n) FROM (VALUES (1)) AS w (x) MATCH_RECOGNIZE (..))"],
        ),
        ("SELECT array_transform(ARRAY[1, 2], x -> x + auction) AS l FROM bid", &["l"]),
        ("SELECT E.Raw FROM bid.ERRORS AS e", &["Raw"]),
    ] {
        assert_eq!(columns(sql), expected, "{sql}");
    }
}

/// An unknown name says where it is and what was probably meant.
#[test]
fn unknown_names_are_placed_and_corrected() {
    for (sql, message) in [
        ("SELECT auction,\n  prise FROM bid", "line 2, column 3: column `prise` is not known; did you mean `Price`?"),
        ("SELECT b.prce FROM bid b", "line 1, column 8: column `b.prce` is not known; did you mean `Price`?"),
        ("SELECT \"datetime\" FROM bid", "line 1, column 8: column `datetime` is not known; did you mean `dateTime`?"),
        ("SELECT 1 FROM bidd", "line 1, column 15: table `bidd` is not known; did you mean `Bid`?"),
        ("SELECT 1 FROM \"bid\"", "line 1, column 15: table `bid` is not known; did you mean `Bid`?"),
        ("SELECT summ(price) FROM bid", "line 1, column 8: function `summ` is not known; did you mean `sum`?"),
        ("SELECT 1 FROM bid.eror", "table `bid.eror` is not known; did you mean `Bid.errors`?"),
        (
            "SELECT auction FROM bid GROUP BY auktion",
            "line 1, column 34: column `auktion` is not known; did you mean `auction`?",
        ),
        ("SELECT x.auction FROM bid", "line 1, column 8: column `x.auction` is not known"),
        (
            "SELECT 1 FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '1' DAY))",
            "line 1, column 50: column `date_time` is not known; did you mean `dateTime`?",
        ),
        ("WITH cte AS (SELECT 1 AS a) SELECT a FROM ctee", "table `ctee` is not known; did you mean `cte`?"),
        ("INSERT INTO bod SELECT 1", "line 1, column 13: table `bod` is not known; did you mean `Bid`?"),
        (
            "INSERT INTO bid (auctoin) SELECT 1",
            "line 1, column 18: column `auctoin` is not known; did you mean `auction`?",
        ),
    ] {
        let error = refused(TABLES, sql);
        assert!(error.contains(message), "{sql}\n{error}");
    }
}

/// `DESCRIBE` and `SHOW CREATE` give back what was said.
#[test]
fn definitions_can_be_read_back() {
    let catalog = catalog(
        "CREATE TABLE t (a INT NOT NULL COMMENT 'first', ts TIMESTAMP(3), file STRING METADATA FROM 'path' VIRTUAL, b AS a + 1,
           WATERMARK FOR ts AS ts - INTERVAL '1' SECOND, PRIMARY KEY (a) NOT ENFORCED)
         WITH ('connector' = 'x', 'path' = 'it''s')",
    )
    .expect("it is created");
    let name = |text: &str| ObjectName(vec![Name { text: text.into(), quoted: false, location: Location::new(1, 1) }]);
    let rows = catalog.describe(&name("T")).expect("it is there");
    let rows: Vec<_> =
        rows.iter().map(|row| (row.name.as_str(), row.data_type.as_str(), row.extra.as_str(), row.key)).collect();
    assert_eq!(
        rows,
        [
            ("a", "INT", "", true),
            ("ts", "TIMESTAMP(3)", "WATERMARK AS ts - INTERVAL '1' SECOND", false),
            ("file", "STRING", "METADATA FROM 'path'", false),
            ("b", "BIGINT", "AS a + 1", false),
        ]
    );
    let text = catalog.show_create(&name("t")).expect("it is there");
    let again = super::harness::catalog(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(again.show_create(&name("t")).expect("it is there"), text);
}

/// What can be called is listed, with its kind, in order and once; also what is resolved before functions are looked up.
#[test]
fn functions_are_listed_wherever_they_are_resolved() {
    let catalog = catalog("CREATE FUNCTION twice(x BIGINT) RETURNS BIGINT LANGUAGE SQL AS 'x * 2'").expect("it can be");
    let listed = catalog.function_names();
    for expected in [
        ("anomaly_score", "window"),
        ("detect_anomalies", "window"),
        ("ml_detect_anomalies", "window"),
        ("anomalydetection_changepoint", "window"),
        ("random_cut_forest", "table"),
        ("forecast", "table"),
        ("tumble", "table"),
        ("ml_predict", "table"),
        ("predict", "scalar"),
        ("classify", "scalar"),
        ("sum", "aggregate"),
        ("twice", "sql"),
    ] {
        assert!(listed.iter().any(|(name, kind)| (name.as_str(), *kind) == expected), "{expected:?}");
    }
    assert!(listed.is_sorted_by(|one, other| one.0 < other.0), "{listed:?}");
}
