//! Clauses as users write them, and what is read.

use super::*;
use crate::parser::source::Source;

/// The clauses of a text, innermost first.
fn clauses(sql: &str) -> Vec<Clause> {
    let tokens = Source::new(sql).tokens().unwrap_or_else(|error| panic!("{sql}: {error}"));
    let texts = tokens.windows(2).filter_map(|pair| match (&pair[0].token, &pair[1].token) {
        (Token::Comma, Token::SingleQuotedString(text)) => serde_json::from_str(text).ok(),
        _ => None,
    });
    texts.collect()
}

fn clause(inside: &str) -> Clause {
    let sql = format!("SELECT * FROM t MATCH_RECOGNIZE ({inside})");
    clauses(&sql).pop().unwrap_or_else(|| panic!("no clause in {sql}"))
}

fn pattern(text: &str) -> String {
    let clause = clause(&format!("PATTERN ({text})"));
    let names: Vec<String> = clause.variables.iter().map(|variable| variable.name.clone()).collect();
    clause.pattern.text(&names).to_string()
}

/// What the tokeniser takes for operators, placeholders and parts of names means what it means in a pattern.
#[test]
fn patterns_are_read_as_they_are_written() {
    for (written, read) in [
        ("a", "A"),
        ("A B|C", "A B | C"),
        ("(A | B) C", "(A | B) C"),
        ("A*B+C?D{2}", "A* B+ C? D{2}"),
        ("A*?B+?C??D{2}?", "A*? B+? C?? D{2}?"),
        ("A{2,}B{,3}C{2,3}D{,}", "A{2,} B{0,3} C{2,3} D*"),
        ("A{1,}?B{0,1}C{0,}", "A+? B? C*"),
        ("(A B)*(A|B)+?(A)?", "(A B)* (A | B)+? A?"),
        ("((A*)*)?", "((A*)*)?"),
        ("^A$", "^ A $"),
        ("^A $", "^ A $"),
        ("A$|^ B", "A $ | ^ B"),
        ("^* $+", "^* $+"),
        ("A$+B$", "A $+ B $"),
        ("$A", "$ A"),
        ("$A$", "$ A $"),
        ("A$$ B$C$", "A $ $ B $ C $"),
        ("$é$|$$", "$ É $ | $ $"),
        ("()", "()"),
        ("()|A", "() | A"),
        ("()+?", "()+?"),
        ("{-A-}{- B+ -}", "{- A -} {- B+ -}"),
        ("{- A | B -}*", "{- A | B -}*"),
        ("A {- {- B -} C -}", "A {- {- B -} C -}"),
        ("permute(A, B C | D, E*)+", "PERMUTE(A, B C | D, E*)+"),
        ("permute PERMUTE (permute)", "PERMUTE PERMUTE(PERMUTE)"),
        ("first LAST within define", "FIRST LAST WITHIN DEFINE"),
    ] {
        assert_eq!(pattern(written), read, "{written}");
        assert_eq!(pattern(read), read, "{written}, as it is shown");
    }
    assert_eq!(pattern(""), "()");
    assert_eq!(pattern("\"a b\" A"), "a b A");
    assert_eq!(pattern("\"$\"$ /* $A */ \"a$b\""), "$ $ a$b");
}

/// Outside of patterns `$` is what it was, before a clause and in it, and places in the text stay the same.
#[test]
fn dollars_are_anchors_in_patterns_only() {
    let sql = "SELECT $$A$ MATCH_RECOGNIZE (PATTERN (A$))$$, a$b, $1 FROM \"t$\" AS pattern$ MATCH_RECOGNIZE (\n\
               MEASURES $tag$ ) 'é $A$ $tag$ AS m, LAST(a$b) AS n PATTERN (\"$\" $ $\"x\") DEFINE \"x\" AS a$b > $2)";
    let tokens = Source::new(sql).tokens().expect("it is read");
    let texts: Vec<String> = tokens.iter().map(|token| token.token.to_string()).collect();
    for text in
        ["$$A$ MATCH_RECOGNIZE (PATTERN (A$))$$", "a$b", "$1", "\"t$\"", "pattern$", "$tag$ ) 'é $A$ $tag$", "$2"]
    {
        assert!(texts.iter().any(|found| found == text), "{text} is not in {texts:?}");
    }
    let clause = clauses(sql).pop().expect("there is a clause");
    assert_eq!(clause.labels().collect::<Vec<_>>(), ["$", "x"]);
    let anchors = |part: &PatternSyntax| matches!(part, PatternSyntax::PartitionEnd);
    assert!(clause.pattern.any(&anchors));
    let error =
        Source::new("SELECT * FROM t MATCH_RECOGNIZE (\nPATTERN (A $ $ , B))").tokens().expect_err("it is no pattern");
    assert!(
        error.to_string().contains("expected the end of the pattern") && error.location() == Some(Location::new(2, 16)),
        "{error}"
    );
    // Texts with escapes, comments in each other, a name in quotes, a table of the clause's name.
    let sql = "SELECT E'\\' (', '\\', \"a\"\"(\" /* ( /* ' */ $( */ FROM match_recognize (a$b) -- ('\n\
               ; SELECT 1 FROM (SELECT 1) AS t MATCH_RECOGNIZE /* ( */ (MEASURES f('$') AS m PATTERN -- (\n ($A$) DEFINE A AS $1 = a$)";
    let clause = clauses(sql).pop().expect("there is a clause");
    assert_eq!(clause.pattern.text(&["A".to_owned()]).to_string(), "$ A $");
    let error = Source::new("SELECT * FROM t MATCH_RECOGNIZE (PATTERN (A{$}))").tokens().expect_err("it is no bound");
    assert!(error.to_string().contains("found `$`"), "{error}");
}

#[test]
fn variables_have_the_case_of_labels() {
    let clause = clause("PATTERN (a \"b\" A c) SUBSET u = (A, \"b\"), \"w\" = (C) DEFINE \"b\" AS true, C AS false");
    assert_eq!(clause.labels().collect::<Vec<_>>(), ["A", "b", "C", "U", "w"]);
    assert_eq!(clause.subsets.iter().map(|(_, set)| *set).collect::<Vec<_>>(), [0b011, 0b100]);
    assert_eq!(clause.defines.iter().map(|(variable, _)| *variable).collect::<Vec<_>>(), [1, 2]);
}

/// `NOT B` is a variable of its own, whose condition is that of `B`, negated, with itself for `B`.
#[test]
fn a_negation_is_a_variable_with_the_opposite_condition() {
    for (inside, read, labels, condition) in [
        ("A NOT B C) DEFINE B AS v > 1", "A NOT B C", "A,NOT B,C,B", "NOT ( v > 1 )"),
        ("a not \"b\" b+) DEFINE \"b\" AS b.v > 1", "A NOT b B+", "A,NOT b,B,b", "NOT ( b . v > 1 )"),
        (
            "(A NOT B C)+ NOT B (A | B)) DEFINE B AS B.v > t.b.v AND RUNNING SUM(b.v) > CLASSIFIER(B)",
            "(A NOT B C)+ NOT B (A | B)",
            "A,NOT B,C,B",
            "NOT ( \"NOT B\" . v > t . b . v AND __eagre_running . SUM ( \"NOT B\" . v ) > CLASSIFIER ( \"NOT B\" ) )",
        ),
        (
            "^ NOT B $) DEFINE B AS b.v IN (SELECT b.v FROM b WHERE (b.v) > 1) OR b.v = f(B.v)",
            "^ NOT B $",
            "NOT B,B",
            "NOT ( \"NOT B\" . v IN ( SELECT b . v FROM b WHERE ( b . v ) > 1 ) OR \"NOT B\" . v = f ( \"NOT B\" . v ) )",
        ),
    ] {
        let sql = format!("SELECT * FROM t MATCH_RECOGNIZE (PATTERN ({inside})");
        let clause = clauses(&sql).pop().unwrap_or_else(|| panic!("no clause in {sql}"));
        let names: Vec<String> = clause.variables.iter().map(|variable| variable.name.clone()).collect();
        assert_eq!(clause.pattern.text(&names).to_string(), read, "{inside}");
        assert_eq!(names.join(","), labels, "{inside}");
        let tokens = Source::new(&sql).tokens().expect("it is read");
        let texts: Vec<String> =
            tokens.iter().map(|token| token.token.to_string()).filter(|text| !text.trim().is_empty()).collect();
        assert!(texts.join(" ").contains(&format!("( {condition} )")), "{inside}: {}", texts.join(" "));
    }
}

/// All parts may be there or not, and words of one are names in another.
#[test]
fn parts_are_told_apart() {
    let plain = clause("PATTERN (A)");
    assert_eq!((plain.rows, plain.skip, plain.within.is_some()), (RowsSyntax::One, SkipSyntax::PastLastRow, false));
    assert_eq!((plain.partition, plain.order.len(), plain.measures.len(), plain.defines.len()), (0, 0, 0, 0));
    let full = clause(
        "PARTITION BY a, \"b\" ORDER BY c DESC NULLS LAST, d ASC, e
         MEASURES f(a, b) AS pattern, CASE WHEN x THEN 1 ELSE 2 END one, [1, 2][1] AS \"all\", RUNNING LAST(x) y, MAP['a', 1] AS m
         ALL ROWS PER MATCH SHOW EMPTY MATCHES AFTER MATCH SKIP TO LAST A PATTERN (A) WITHIN INTERVAL '1' HOUR
         EMIT PARTIAL ON TIMEOUT SUBSET U = (A) DEFINE A AS emit > 1 EMIT CHANGES",
    );
    assert_eq!(full.partition, 2);
    let order: Vec<_> = full.order.iter().map(|key| (key.descending, key.nulls_first)).collect();
    assert_eq!(order, [(true, Some(false)), (false, None), (false, None)]);
    assert_eq!(
        full.measures.iter().map(|measure| measure.name.as_str()).collect::<Vec<_>>(),
        ["pattern", "one", "all", "y", "m"]
    );
    assert_eq!(full.rows, RowsSyntax::All { show_empty: true, unmatched: false });
    assert_eq!(full.skip, SkipSyntax::To { first: false, name: "A".into(), variables: 1 });
    assert!(full.within.is_some() && full.emit_partial && full.emit_changes);
    let skip = |skip: &str| clause(&format!("{skip} PATTERN (A FIRST LAST)")).skip;
    let to = |first, name: &str, index: u32| SkipSyntax::To { first, name: name.into(), variables: 1 << index };
    assert_eq!(skip("AFTER MATCH SKIP PAST LAST ROW"), SkipSyntax::PastLastRow);
    assert_eq!(skip("AFTER MATCH SKIP TO NEXT ROW"), SkipSyntax::ToNextRow);
    assert_eq!(skip("AFTER MATCH SKIP TO a"), to(false, "A", 0));
    assert_eq!(skip("AFTER MATCH SKIP TO FIRST A"), to(true, "A", 0));
    assert_eq!(skip("AFTER MATCH SKIP TO FIRST"), to(false, "FIRST", 1));
    assert_eq!(skip("AFTER MATCH SKIP TO LAST LAST"), to(false, "LAST", 2));
}

/// Where a table stands, with whatever alias, a clause may follow; elsewhere the word is a name.
#[test]
fn a_clause_follows_a_table() {
    let inside = "MATCH_RECOGNIZE (PATTERN (A))";
    for (sql, count) in [
        (format!("SELECT 1 FROM t {inside}, a.b.c AS x {inside} y JOIN u(v, w) {inside} ON true"), 3),
        (format!("SELECT 1 FROM (SELECT 1 FROM t {inside}) {inside} AS m {inside}"), 3),
        (format!("SELECT 1 FROM (a JOIN b ON true) {inside} LEFT JOIN \"c\" \"d\" {inside} ON true"), 2),
        (format!("SELECT 1 FROM generate_series(1, 2) AS g(i) {inside}; SELECT 1 FROM UNNEST(x) u {inside}"), 2),
        (format!("SELECT 1 FROM TABLE(f(TABLE t)) {inside}"), 1),
        ("SELECT match_recognize (a), match_recognize FROM t WHERE match_recognize (a, 1) > 2 AND match_recognize (b)".into(), 0),
        ("SELECT 1 FROM match_recognize (1), t AS match_recognize (a, b), u match_recognize (a)".into(), 0),
        ("SELECT 1 FROM t \"MATCH_RECOGNIZE\" JOIN u ON f(x) AND match_recognize (1 + 2)".into(), 0),
    ] {
        assert_eq!(clauses(&sql).len(), count, "{sql}");
    }
}

/// Parts in another order, twice, or written otherwise, are told as such; the same words as names are names.
#[test]
fn parts_that_stand_elsewhere() {
    for (inside, message) in [
        ("MEASURES a AS x MEASURES b AS y PATTERN (A)", "`MEASURES` cannot stand here, or stands twice"),
        ("MEASURES a AS x PARTITION BY k PATTERN (A)", "`PARTITION` cannot stand here"),
        ("ORDER BY ts PARTITION BY k PATTERN (A)", "`PARTITION` cannot stand here"),
        ("AFTER MATCH SKIP PAST LAST ROW ONE ROW PER MATCH PATTERN (A)", "`ONE` cannot stand here"),
        ("DEFINE A AS v > 1 PATTERN (A)", "`DEFINE` cannot stand here"),
        ("MEASURES a AS x DEFINE A AS v > 1 PATTERN (A)", "`DEFINE` cannot stand here"),
        ("PATTERN (A) DEFINE A AS v > 1 WITHIN INTERVAL '1' HOUR", "`WITHIN` cannot stand here"),
        ("PATTERN (A) DEFINE A AS v IS NOT NULL SUBSET U = (A)", "`SUBSET` cannot stand here"),
        ("PATTERN (A B) SUBSET U = (A, B) WITHIN INTERVAL '1' HOUR", "`WITHIN` cannot stand here"),
        ("PATTERN (A) WITHIN INTERVAL '1' HOUR MEASURES v AS x", "`MEASURES` cannot stand here"),
        ("PATTERN (A) MEASURES v AS x", "`MEASURES` cannot stand here"),
        ("PATTERN (A) PATTERN (B)", "`PATTERN` cannot stand here, or stands twice"),
        ("ONE ROWS PER MATCH PATTERN (A)", "this part of the clause is written `{ONE ROW | ALL ROWS} PER MATCH`"),
        ("MEASURES v AS x ALL ROW PER MATCH PATTERN (A)", "is written `{ONE ROW | ALL ROWS} PER MATCH`"),
        ("PATTERN A B DEFINE A AS v > 1", "this part of the clause is written `PATTERN (..)`"),
        ("MEASURES FINAL v AS x PATTERN (A)", "`FINAL` stands before a function: `FINAL LAST(..)`"),
        ("MEASURES RUNNING (v + 1) AS x PATTERN (A)", "`RUNNING` stands before a function"),
    ] {
        let sql = format!("SELECT * FROM t MATCH_RECOGNIZE ({inside})");
        let error = Source::new(&sql).tokens().expect_err(inside).to_string();
        assert!(error.contains(message), "{inside}: {error}");
    }
    for inside in [
        "MEASURES v AS within, w pattern, measures AS define, PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY v) AS p PATTERN (A)",
        "MEASURES final AS x, CASE WHEN v > 1 THEN final END AS y, running + 1 AS z PATTERN (A)",
        "PATTERN (define within) DEFINE define AS subset > 1 AND within BETWEEN measures AND all, within AS v = define",
        "PATTERN (A) WITHIN INTERVAL '1' HOUR DEFINE A AS v IS NOT NULL AND NOT one",
    ] {
        clause(inside);
    }
}
