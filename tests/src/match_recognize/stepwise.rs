//! What leaves after each row, worked out by hand: time-outs, late rows, rows that are taken back, matches before they are final.
//!
//! One row is one step. Without another word the watermark is the newest time `t`, and so a row is passed when one with a later time has
//! come. `t` is in seconds, `v` numbers the rows, and partitions are by `k`. Lines of one step are sorted; what
//! the end of the input brings counts to the last row. Each case is also run with a kill after every row: the rows that are left in the
//! end must be the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMillisecondArray};
use eagre::{Change, Session};
use eagre_sql::catalog::TableDefinition;
use eagre_sql::error::Location;
use eagre_sql::parser::TableOption;
use libtest_mimic::Trial;

use crate::harness::{Crash, Schedule, run};
use crate::source::TestSource;
use crate::value;

/// A row: its weight, its time in seconds (none: null), `k` and `s`; `v` is its number. A row that is taken back has the number of the one
/// that came.
enum Event {
    Comes(i64, &'static str, &'static str),
    ComesWithoutTime(&'static str, &'static str),
    /// Takes back the row of this number.
    Goes(usize),
}
use Event::{Comes, ComesWithoutTime, Goes};

struct Case {
    name: &'static str,
    /// How far the watermark is behind the newest time, in seconds.
    delay_s: i64,
    /// Of the table; `None`: no late row corrects anything.
    allowed_lateness: Option<&'static str>,
    /// After `PARTITION BY k ORDER BY t`.
    clause: &'static str,
    rows: &'static [Event],
    /// The number of rows that have come, and what leaves.
    expected: &'static [(usize, &'static str)],
    /// `v` of the rows in `events.late`.
    late: &'static [i64],
}

const PLAIN: Case =
    Case { name: "", delay_s: 0, allowed_lateness: None, clause: "", rows: &[], expected: &[], late: &[] };

/// An `ask` and its `reply`, at most a minute later.
const ASK_REPLY: &str = "MEASURES ASK.v AS asked, REPLY.v AS replied, match_status() AS status PATTERN (ASK REPLY) \
                         WITHIN INTERVAL '1' MINUTE DEFINE ASK AS s = 'ask', REPLY AS s = 'reply' EMIT PARTIAL ON TIMEOUT";
/// First and last row of an `a` with a `b` right after it.
const A_B: &str = "MEASURES FIRST(v) AS f, LAST(v) AS l PATTERN (A B) DEFINE A AS s = 'a', B AS s = 'b'";

const CASES: &[Case] = &[
    // ---------------------------------------------------------------- partial matches
    // The bound is inclusive: `a` may be answered at 60, so it times out when the watermark is at 61, and `c`, asked at 60, is answered at
    // 120. What waits at the end of the input times out there.
    Case {
        name: "timeout_when_the_bound_has_passed",
        clause: ASK_REPLY,
        rows: &[
            Comes(0, "a", "ask"),
            Comes(10, "b", "ask"),
            Comes(30, "b", "reply"),
            Comes(60, "c", "ask"),
            Comes(61, "d", "ask"),
            Comes(120, "c", "reply"),
            Comes(122, "e", "ask"),
        ],
        expected: &[
            (4, "+ b | 2 | 3 | complete"),
            (5, "+ a | 1 | NULL | timeout"),
            (7, "+ c | 4 | 6 | complete"),
            (7, "+ d | 5 | NULL | timeout"),
            (7, "+ e | 7 | NULL | timeout"),
        ],
        ..PLAIN
    },
    // The `noise` after row 1 is no reply, so row 1 cannot be completed, however much time is left. A reply without an ask begins nothing.
    Case {
        name: "timeout_when_a_row_does_not_fit",
        clause: ASK_REPLY,
        rows: &[
            Comes(0, "a", "ask"),
            Comes(1, "a", "noise"),
            Comes(2, "a", "ask"),
            Comes(3, "a", "reply"),
            Comes(4, "a", "reply"),
        ],
        expected: &[(3, "+ a | 1 | NULL | timeout"), (5, "+ a | 3 | 4 | complete")],
        ..PLAIN
    },
    Case {
        name: "timeout_when_the_input_ends",
        clause: ASK_REPLY,
        rows: &[Comes(0, "a", "ask"), Comes(5, "b", "ask")],
        expected: &[(2, "+ a | 1 | NULL | timeout"), (2, "+ b | 2 | NULL | timeout")],
        ..PLAIN
    },
    // Rows 1 and 2 are the beginning of a match that never comes; row 2 alone is a beginning too, but lies in what was told. Row 4 does not.
    Case {
        name: "timeout_is_told_once_where_matches_do_not_overlap",
        clause: "MEASURES FIRST(v) AS f, LAST(v) AS l, match_status() AS status AFTER MATCH SKIP PAST LAST ROW PATTERN (A A A B) \
                 WITHIN INTERVAL '1' MINUTE DEFINE A AS s = 'a', B AS s = 'b' EMIT PARTIAL ON TIMEOUT",
        rows: &[Comes(0, "k", "a"), Comes(10, "k", "a"), Comes(20, "k", "x"), Comes(30, "k", "a"), Comes(40, "k", "x")],
        expected: &[(4, "+ k | 1 | 2 | timeout"), (5, "+ k | 4 | 4 | timeout")],
        ..PLAIN
    },
    Case {
        name: "timeout_is_told_for_each_row_where_matches_overlap",
        clause: "MEASURES FIRST(v) AS f, LAST(v) AS l, match_status() AS status AFTER MATCH SKIP TO NEXT ROW PATTERN (A A A B) \
                 WITHIN INTERVAL '1' MINUTE DEFINE A AS s = 'a', B AS s = 'b' EMIT PARTIAL ON TIMEOUT",
        rows: &[Comes(0, "k", "a"), Comes(10, "k", "a"), Comes(20, "k", "x"), Comes(30, "k", "a"), Comes(40, "k", "x")],
        expected: &[(4, "+ k | 1 | 2 | timeout"), (4, "+ k | 2 | 2 | timeout"), (5, "+ k | 4 | 4 | timeout")],
        ..PLAIN
    },
    // Row 2 is where the attempt of row 1 fails, and where a match begins. A time-out has the number that its match would have had.
    Case {
        name: "timeout_does_not_change_which_matches_there_are",
        clause: "MEASURES MATCH_NUMBER() AS number, FIRST(v) AS f, LAST(v) AS l, match_status() AS status PATTERN (A B) \
                 WITHIN INTERVAL '1' MINUTE DEFINE A AS s = 'a', B AS s = 'b' EMIT PARTIAL ON TIMEOUT",
        rows: &[Comes(0, "k", "a"), Comes(10, "k", "a"), Comes(20, "k", "b"), Comes(30, "k", "a"), Comes(40, "k", "x")],
        expected: &[
            (3, "+ k | 1 | 1 | 1 | timeout"),
            (4, "+ k | 1 | 2 | 3 | complete"),
            (5, "+ k | 2 | 4 | 4 | timeout"),
        ],
        ..PLAIN
    },
    // Of the ways to begin, the one that took most rows is told (A B C, not the preferred A D); of two that took as many, the preferred
    // one (X, not Y).
    Case {
        name: "timeout_tells_what_came_nearest",
        clause: "MEASURES COUNT(*) AS n, CLASSIFIER() AS label PATTERN (A (D E | B C Z)) WITHIN INTERVAL '1' MINUTE \
                 DEFINE A AS s = 'a', D AS s = 'b', E AS s = 'e', B AS s = 'b', C AS s = 'c', Z AS s = 'z' EMIT PARTIAL ON TIMEOUT",
        rows: &[Comes(0, "k", "a"), Comes(10, "k", "b"), Comes(20, "k", "c"), Comes(30, "k", "x"), Comes(40, "k", "x")],
        expected: &[(5, "+ k | 3 | C")],
        ..PLAIN
    },
    Case {
        name: "timeout_tells_what_is_preferred",
        clause: "MEASURES COUNT(*) AS n, CLASSIFIER() AS label PATTERN (A (X | Y) Z) WITHIN INTERVAL '1' MINUTE \
                 DEFINE A AS s = 'a', X AS s <> 'z', Y AS s <> 'z', Z AS s = 'z' EMIT PARTIAL ON TIMEOUT",
        rows: &[Comes(0, "k", "a"), Comes(10, "k", "b"), Comes(20, "k", "c"), Comes(30, "k", "c")],
        expected: &[(4, "+ k | 2 | X")],
        ..PLAIN
    },
    // Row by row: what runs is that of the rows so far, what is final is that of the partial match.
    Case {
        name: "timeout_of_all_rows",
        clause: "MEASURES CLASSIFIER() AS label, RUNNING COUNT(*) AS so_far, FINAL COUNT(*) AS all_of_it, match_status() AS status \
                 ALL ROWS PER MATCH PATTERN (A B+ C) WITHIN INTERVAL '1' MINUTE DEFINE A AS s = 'a', B AS s = 'b', C AS s = 'c' \
                 EMIT PARTIAL ON TIMEOUT",
        rows: &[Comes(0, "k", "a"), Comes(10, "k", "b"), Comes(20, "k", "b"), Comes(81, "l", "x")],
        expected: &[
            (4, "+ k | 2026-01-01 00:00:00.000 | A | 1 | 3 | timeout | a | 1"),
            (4, "+ k | 2026-01-01 00:00:10.000 | B | 2 | 3 | timeout | b | 2"),
            (4, "+ k | 2026-01-01 00:00:20.000 | B | 3 | 3 | timeout | b | 3"),
        ],
        ..PLAIN
    },
    Case {
        name: "timeout_is_not_told_without_being_asked_for",
        clause: "MEASURES ASK.v AS asked, REPLY.v AS replied, match_status() AS status PATTERN (ASK REPLY) WITHIN INTERVAL '1' MINUTE \
                 DEFINE ASK AS s = 'ask', REPLY AS s = 'reply'",
        rows: &[Comes(0, "a", "ask"), Comes(10, "b", "ask"), Comes(30, "b", "reply"), Comes(90, "c", "ask")],
        expected: &[(4, "+ b | 2 | 3 | complete")],
        ..PLAIN
    },
    // A login without a logout: what does not come is told when it cannot come in time any more.
    Case {
        name: "timeout_tells_of_what_does_not_follow",
        clause: "MEASURES A.v AS login, COUNT(N.*) AS others, match_status() AS status PATTERN (A N* B) WITHIN INTERVAL '1' MINUTE \
                 DEFINE A AS s = 'login', N AS s <> 'logout', B AS s = 'logout' EMIT PARTIAL ON TIMEOUT",
        rows: &[
            Comes(0, "a", "login"),
            Comes(10, "a", "click"),
            Comes(20, "b", "login"),
            Comes(30, "b", "click"),
            Comes(40, "b", "logout"),
            Comes(61, "c", "x"),
        ],
        expected: &[(6, "+ a | 1 | 1 | timeout"), (6, "+ b | 3 | 1 | complete")],
        ..PLAIN
    },
    // ---------------------------------------------------------------- when a match is final
    // B is the last row, whatever comes.
    Case {
        name: "a_match_leaves_with_its_last_row",
        clause: A_B,
        rows: &[Comes(0, "k", "a"), Comes(10, "k", "b"), Comes(20, "l", "x"), Comes(30, "l", "x")],
        expected: &[(3, "+ k | 1 | 2")],
        ..PLAIN
    },
    // Of `B?` no more can come than one, of `B*` there can: it ends with the row that is no b.
    Case {
        name: "a_greedy_match_leaves_when_it_cannot_grow",
        clause: "MEASURES FIRST(v) AS f, LAST(v) AS l PATTERN (A B? | C D*) DEFINE A AS s = 'a', B AS s = 'b', C AS s = 'c', D AS s = 'd'",
        rows: &[
            Comes(0, "k", "a"),
            Comes(10, "k", "b"),
            Comes(20, "k", "c"),
            Comes(30, "k", "d"),
            Comes(40, "k", "d"),
            Comes(50, "k", "x"),
            Comes(60, "k", "x"),
        ],
        expected: &[(3, "+ k | 1 | 2"), (7, "+ k | 3 | 5")],
        ..PLAIN
    },
    // Reluctant: the first b is enough.
    Case {
        name: "a_reluctant_match_leaves_at_once",
        clause: "MEASURES FIRST(v) AS f, LAST(v) AS l PATTERN (A B+?) DEFINE A AS s = 'a', B AS s = 'b'",
        rows: &[Comes(0, "k", "a"), Comes(10, "k", "b"), Comes(20, "k", "b"), Comes(30, "k", "b")],
        expected: &[(3, "+ k | 1 | 2")],
        ..PLAIN
    },
    // Nothing at 61 or later can be a part of what began at 0, though the partition itself says nothing.
    Case {
        name: "a_match_leaves_when_its_bound_has_passed",
        clause: "MEASURES FIRST(v) AS f, LAST(v) AS l PATTERN (A B*) WITHIN INTERVAL '1' MINUTE DEFINE A AS s = 'a', B AS s = 'b'",
        rows: &[Comes(0, "k", "a"), Comes(10, "k", "b"), Comes(60, "l", "x"), Comes(61, "l", "x"), Comes(70, "l", "x")],
        expected: &[(4, "+ k | 1 | 2")],
        ..PLAIN
    },
    // A condition that looks at the next row waits for it.
    Case {
        name: "a_condition_on_the_next_row_waits_for_it",
        clause: "MEASURES FIRST(v) AS f PATTERN (A) DEFINE A AS s = 'a' AND NEXT(s) = 'b'",
        rows: &[Comes(0, "k", "a"), Comes(10, "k", "b"), Comes(20, "k", "a"), Comes(30, "k", "c"), Comes(40, "k", "a")],
        expected: &[(3, "+ k | 1")],
        ..PLAIN
    },
    // The end of a partition is the end of the input.
    Case {
        name: "the_end_of_a_partition_is_the_end_of_the_input",
        clause: "MEASURES FIRST(v) AS f, LAST(v) AS l PATTERN (A B* $) DEFINE A AS s = 'a', B AS s = 'b'",
        rows: &[Comes(0, "k", "a"), Comes(10, "k", "b"), Comes(20, "l", "a"), Comes(30, "l", "x"), Comes(90, "l", "a")],
        expected: &[(5, "+ k | 1 | 2"), (5, "+ l | 5 | 5")],
        ..PLAIN
    },
    // ---------------------------------------------------------------- late rows
    // Row 3 is behind the watermark (10), row 4 is not: it is exactly at it.
    Case {
        name: "a_late_row_is_left_out_and_told",
        clause: A_B,
        rows: &[
            Comes(0, "k", "a"),
            Comes(10, "k", "a"),
            Comes(5, "k", "b"),
            Comes(10, "l", "a"),
            Comes(20, "k", "b"),
            Comes(30, "l", "b"),
            Comes(40, "l", "x"),
        ],
        expected: &[(6, "+ k | 2 | 5"), (7, "+ l | 4 | 6")],
        late: &[3],
        ..PLAIN
    },
    // Ten seconds behind: row 3 comes in time, and in its place. Row 4 lets the watermark pass it.
    Case {
        name: "a_row_within_the_delay_is_not_late",
        delay_s: 10,
        clause: A_B,
        rows: &[
            Comes(0, "k", "a"),
            Comes(10, "k", "c"),
            Comes(5, "k", "b"),
            Comes(20, "k", "a"),
            Comes(30, "k", "b"),
            Comes(50, "k", "x"),
        ],
        expected: &[(4, "+ k | 1 | 3"), (6, "+ k | 4 | 5")],
        ..PLAIN
    },
    // Row 3 belongs between what was passed already: a match that there is now. Row 6 parts another that was told.
    Case {
        name: "a_late_row_corrects_within_the_allowed_lateness",
        allowed_lateness: Some("1 m"),
        clause: A_B,
        rows: &[
            Comes(0, "k", "a"),
            Comes(10, "k", "a"),
            Comes(5, "k", "b"),
            Comes(20, "k", "b"),
            Comes(30, "k", "x"),
            Comes(15, "k", "c"),
        ],
        expected: &[(3, "+ k | 1 | 3"), (5, "+ k | 2 | 4"), (6, "- k | 2 | 4")],
        ..PLAIN
    },
    // The watermark is at 90: what is before 30 is too late, what is at 30 is not.
    Case {
        name: "a_row_behind_the_allowed_lateness_is_told_late",
        allowed_lateness: Some("1 m"),
        clause: A_B,
        rows: &[
            Comes(20, "k", "a"),
            Comes(90, "k", "x"),
            Comes(29, "k", "b"),
            Comes(30, "k", "b"),
            Comes(91, "k", "x"),
        ],
        expected: &[(4, "+ k | 1 | 4")],
        late: &[3],
        ..PLAIN
    },
    // A longer match takes the place of the one that was told.
    Case {
        name: "a_late_row_makes_a_match_longer",
        allowed_lateness: Some("1 m"),
        clause: "MEASURES FIRST(v) AS f, COUNT(*) AS n PATTERN (A+) DEFINE A AS s = 'a'",
        rows: &[Comes(0, "k", "a"), Comes(20, "k", "x"), Comes(30, "k", "x"), Comes(10, "k", "a"), Comes(15, "k", "x")],
        expected: &[(3, "+ k | 1 | 1"), (4, "+ k | 1 | 2"), (4, "- k | 1 | 1")],
        ..PLAIN
    },
    // A row without a time has no place in the order of a stream.
    Case {
        name: "a_row_without_a_time_is_told_late",
        clause: A_B,
        rows: &[Comes(0, "k", "a"), ComesWithoutTime("k", "x"), Comes(10, "k", "b"), Comes(20, "k", "x")],
        expected: &[(4, "+ k | 1 | 3")],
        late: &[2],
        ..PLAIN
    },
    // ---------------------------------------------------------------- rows that are taken back
    // Row 2 goes before the watermark has passed it: it was never there.
    Case {
        name: "a_row_that_goes_in_time_was_never_there",
        allowed_lateness: Some("1 m"),
        clause: A_B,
        rows: &[Comes(0, "k", "a"), Comes(5, "k", "x"), Goes(2), Comes(10, "k", "b"), Comes(20, "k", "y")],
        expected: &[(5, "+ k | 1 | 4")],
        ..PLAIN
    },
    Case {
        name: "a_match_goes_with_its_row",
        allowed_lateness: Some("1 m"),
        clause: A_B,
        rows: &[Comes(0, "k", "a"), Comes(10, "k", "b"), Comes(20, "k", "x"), Goes(2), Comes(12, "k", "b")],
        expected: &[(3, "+ k | 1 | 2"), (4, "- k | 1 | 2"), (5, "+ k | 1 | 5")],
        ..PLAIN
    },
    // The watermark is at 120: row 2, of 10, cannot be undone any more. What would have taken it back is told late.
    Case {
        name: "what_goes_too_late_is_told_late_and_stays",
        allowed_lateness: Some("1 m"),
        clause: A_B,
        rows: &[Comes(0, "k", "a"), Comes(10, "k", "b"), Comes(20, "k", "x"), Comes(120, "k", "x"), Goes(2)],
        expected: &[(3, "+ k | 1 | 2")],
        late: &[2],
        ..PLAIN
    },
    // Row 2 parted an a and a b.
    Case {
        name: "a_match_comes_when_what_parted_it_goes",
        allowed_lateness: Some("1 m"),
        clause: A_B,
        rows: &[Comes(0, "k", "a"), Comes(5, "k", "x"), Comes(10, "k", "b"), Comes(20, "k", "x"), Goes(2)],
        expected: &[(5, "+ k | 1 | 3")],
        ..PLAIN
    },
    // Pairs: without row 1, all that follow pair anew.
    Case {
        name: "matches_shift_when_the_first_row_goes",
        allowed_lateness: Some("1 m"),
        clause: "MEASURES FIRST(v) AS f, LAST(v) AS l PATTERN (A A) DEFINE A AS s = 'a'",
        rows: &[
            Comes(0, "k", "a"),
            Comes(1, "k", "a"),
            Comes(2, "k", "a"),
            Comes(3, "k", "a"),
            Comes(10, "k", "x"),
            Goes(1),
        ],
        expected: &[(3, "+ k | 1 | 2"), (5, "+ k | 3 | 4"), (6, "+ k | 2 | 3"), (6, "- k | 1 | 2"), (6, "- k | 3 | 4")],
        ..PLAIN
    },
    // Row 5 is no part of a match, and goes unseen; so does one of another partition.
    Case {
        name: "a_row_that_no_match_has_goes_unseen",
        allowed_lateness: Some("1 m"),
        clause: A_B,
        rows: &[
            Comes(0, "k", "a"),
            Comes(10, "k", "b"),
            Comes(11, "k", "x"),
            Comes(12, "l", "b"),
            Comes(20, "k", "x"),
            Goes(3),
            Goes(4),
        ],
        expected: &[(3, "+ k | 1 | 2")],
        ..PLAIN
    },
    // A partial match is undone like any other.
    Case {
        name: "a_timeout_goes_when_the_reply_comes_late",
        allowed_lateness: Some("10 m"),
        clause: ASK_REPLY,
        rows: &[Comes(0, "a", "ask"), Comes(61, "b", "x"), Comes(60, "a", "reply"), Goes(3)],
        expected: &[
            (2, "+ a | 1 | NULL | timeout"),
            (3, "+ a | 1 | 3 | complete"),
            (3, "- a | 1 | NULL | timeout"),
            (4, "+ a | 1 | NULL | timeout"),
            (4, "- a | 1 | 3 | complete"),
        ],
        ..PLAIN
    },
    // ---------------------------------------------------------------- EMIT CHANGES
    // The watermark is half a minute behind: nothing is final, all is shown.
    Case {
        name: "changes_show_a_match_as_soon_as_it_exists",
        delay_s: 30,
        clause: "MEASURES FIRST(v) AS f, LAST(v) AS l PATTERN (A B) DEFINE A AS s = 'a', B AS s = 'b' EMIT CHANGES",
        rows: &[Comes(0, "k", "a"), Comes(5, "k", "b"), Comes(6, "k", "x"), Comes(7, "k", "x")],
        expected: &[(2, "+ k | 1 | 2")],
        ..PLAIN
    },
    Case {
        name: "changes_correct_a_match_that_grows",
        delay_s: 30,
        clause: "MEASURES FIRST(v) AS f, LAST(v) AS l PATTERN (A B*) DEFINE A AS s = 'a', B AS s = 'b' EMIT CHANGES",
        rows: &[Comes(0, "k", "a"), Comes(5, "k", "b"), Comes(6, "k", "b"), Comes(7, "k", "x"), Comes(8, "k", "b")],
        expected: &[(1, "+ k | 1 | 1"), (2, "+ k | 1 | 2"), (2, "- k | 1 | 1"), (3, "+ k | 1 | 3"), (3, "- k | 1 | 2")],
        ..PLAIN
    },
    // Alone, row 1 is a match without a B to skip to, which is an error only if it stays so.
    Case {
        name: "changes_wait_where_a_skip_leads_nowhere_yet",
        delay_s: 30,
        clause: "MEASURES FIRST(v) AS f, LAST(v) AS l AFTER MATCH SKIP TO LAST B PATTERN (A B*) \
                 DEFINE A AS s = 'a', B AS s = 'b' EMIT CHANGES",
        rows: &[Comes(0, "k", "a"), Comes(5, "k", "b"), Comes(6, "k", "b"), Comes(7, "k", "x")],
        expected: &[(2, "+ k | 1 | 2"), (3, "+ k | 1 | 3"), (3, "- k | 1 | 2")],
        ..PLAIN
    },
    // Row 3 comes between, then row 4 before it.
    Case {
        name: "changes_follow_rows_out_of_order",
        delay_s: 30,
        clause: "MEASURES FIRST(v) AS f, LAST(v) AS l PATTERN (A B) DEFINE A AS s = 'a', B AS s = 'b' EMIT CHANGES",
        rows: &[
            Comes(10, "k", "a"),
            Comes(20, "k", "b"),
            Comes(15, "k", "x"),
            Comes(12, "k", "b"),
            Comes(21, "k", "x"),
        ],
        expected: &[(2, "+ k | 1 | 2"), (3, "- k | 1 | 2"), (4, "+ k | 1 | 4")],
        ..PLAIN
    },
    // Pairs: row 5 comes before all of them.
    Case {
        name: "changes_shift_all_that_follows",
        delay_s: 60,
        clause: "MEASURES FIRST(v) AS f, LAST(v) AS l PATTERN (A A) DEFINE A AS s = 'a' EMIT CHANGES",
        rows: &[Comes(10, "k", "a"), Comes(20, "k", "a"), Comes(30, "k", "a"), Comes(40, "k", "a"), Comes(5, "k", "a")],
        expected: &[
            (2, "+ k | 1 | 2"),
            (4, "+ k | 3 | 4"),
            (5, "+ k | 2 | 3"),
            (5, "+ k | 5 | 1"),
            (5, "- k | 1 | 2"),
            (5, "- k | 3 | 4"),
        ],
        ..PLAIN
    },
    // What is preferred wins also when it comes later: A C is a match until A B D is one.
    Case {
        name: "changes_correct_what_a_preferred_match_replaces",
        delay_s: 30,
        clause: "MEASURES COUNT(*) AS n, LAST(v) AS l PATTERN (A B D | A B) DEFINE A AS s = 'a', B AS s = 'b', D AS s = 'd' EMIT CHANGES",
        rows: &[Comes(0, "k", "a"), Comes(5, "k", "b"), Comes(6, "k", "d"), Comes(7, "k", "x")],
        expected: &[(2, "+ k | 2 | 2"), (3, "+ k | 3 | 3"), (3, "- k | 2 | 2")],
        ..PLAIN
    },
    // What the watermark has passed is final there too.
    Case {
        name: "changes_have_late_rows_too",
        delay_s: 30,
        clause: "MEASURES FIRST(v) AS f, LAST(v) AS l PATTERN (A B) DEFINE A AS s = 'a', B AS s = 'b' EMIT CHANGES",
        rows: &[Comes(0, "k", "a"), Comes(60, "k", "x"), Comes(29, "k", "b"), Comes(30, "k", "b")],
        expected: &[(4, "+ k | 1 | 4")],
        late: &[3],
        ..PLAIN
    },
    // What is shown is what the rows so far give: a row that no match has is taken back when a match has it.
    Case {
        name: "changes_of_unmatched_rows",
        delay_s: 30,
        clause: "MEASURES CLASSIFIER() AS label ALL ROWS PER MATCH WITH UNMATCHED ROWS PATTERN (A B) \
                 DEFINE A AS s = 'a', B AS s = 'b' EMIT CHANGES",
        rows: &[Comes(0, "k", "a"), Comes(10, "k", "x"), Comes(5, "k", "b")],
        expected: &[
            (1, "+ k | 2026-01-01 00:00:00.000 | NULL | a | 1"),
            (2, "+ k | 2026-01-01 00:00:10.000 | NULL | x | 2"),
            (3, "+ k | 2026-01-01 00:00:00.000 | A | a | 1"),
            (3, "+ k | 2026-01-01 00:00:05.000 | B | b | 3"),
            (3, "- k | 2026-01-01 00:00:00.000 | NULL | a | 1"),
        ],
        ..PLAIN
    },
];

pub(super) fn trials() -> Vec<Trial> {
    let trial = |case: &'static Case| {
        Trial::test(format!("match_recognize::stepwise::{}", case.name), move || Ok(check(case)?))
    };
    CASES.iter().map(trial).collect()
}

impl Case {
    fn retracts(&self) -> bool {
        self.rows.iter().any(|row| matches!(row, Goes(_)))
    }

    fn query(&self) -> String {
        format!("SELECT * FROM events MATCH_RECOGNIZE (PARTITION BY k ORDER BY t {})", self.clause)
    }

    fn rows(&self) -> (RecordBatch, Option<Int64Array>) {
        let row = |number: usize| match &self.rows[number - 1] {
            Comes(t, k, s) => (Some(1_767_225_600_000 + t * 1_000), *k, *s, number as i64),
            ComesWithoutTime(k, s) => (None, *k, *s, number as i64),
            Goes(_) => panic!("row {number} takes one back"),
        };
        let rows: Vec<_> = (1..=self.rows.len())
            .map(|number| match self.rows[number - 1] {
                Goes(which) => row(which),
                _ => row(number),
            })
            .collect();
        let columns: [(&str, ArrayRef, bool); 4] = [
            ("t", Arc::new(rows.iter().map(|row| row.0).collect::<TimestampMillisecondArray>()), true),
            ("k", Arc::new(rows.iter().map(|row| Some(row.1)).collect::<StringViewArray>()), true),
            ("s", Arc::new(rows.iter().map(|row| Some(row.2)).collect::<StringViewArray>()), true),
            ("v", Arc::new(rows.iter().map(|row| Some(row.3)).collect::<Int64Array>()), true),
        ];
        let weights = self.rows.iter().map(|row| if matches!(row, Goes(_)) { -1 } else { 1 });
        let batch = RecordBatch::try_from_iter_with_nullable(columns).expect("one length");
        (batch, self.retracts().then(|| weights.collect::<Vec<i64>>().into()))
    }

    fn scene(&self, session: &Session) -> eagre::Result<()> {
        let (rows, weights) = self.rows();
        let mut table = TableDefinition::from_schema("events", &rows.schema());
        let mut option = |key: &str, value: &str| {
            let (key, value, at) = (key.to_owned(), value.to_owned(), Location::new(1, 1));
            table.options.push(TableOption { key, value, key_location: at, value_location: at });
        };
        if let Some(lateness) = self.allowed_lateness {
            option("allowed-lateness", lateness);
        }
        if self.retracts() {
            option("connector", "push");
            option("changelog.mode", "retract");
        }
        let watermark = format!("t - INTERVAL '{} seconds'", self.delay_s);
        let table = table.with_watermark("t", Some(&watermark)).expect("an expression of the dialect");
        session.register_source(table, Arc::new(TestSource::new(&rows, weights.as_ref(), 1, true)))
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn check(case: &Case) -> Result<(), String> {
    let in_context = |error: String| format!("{error}\n{}", case.query());
    let (told, late) = told(case).map_err(in_context)?;
    let mut expected: Vec<(usize, String)> =
        case.expected.iter().map(|(row, line)| (*row, (*line).to_owned())).collect();
    expected.sort();
    let show =
        |lines: &[(usize, String)]| lines.iter().map(|(row, line)| format!("  {row}: {line}\n")).collect::<String>();
    if told != expected {
        return Err(in_context(format!("expected, after each row:\n{}got:\n{}", show(&expected), show(&told))));
    }
    if late != case.late {
        return Err(in_context(format!("rows {:?} should be told late, {late:?} are", case.late)));
    }
    // What is left in the end, whatever was killed.
    let mut left: BTreeMap<&str, i64> = BTreeMap::new();
    for (_, line) in case.expected {
        let (sign, row) = line.split_once(' ').expect("a sign before the row");
        *left.entry(row).or_default() += if sign == "+" { 1 } else { -1 };
    }
    let left: Vec<&str> =
        left.into_iter().flat_map(|(row, count)| std::iter::repeat_n(row, count.max(0) as usize)).collect();
    for after_step in 1..=case.rows.len() as u64 {
        let crashes = vec![Crash { after_step, shards: 1 + after_step % 3 }];
        let schedule =
            Schedule { shards: 1 + after_step % 2, rows_max: 1, crashes, checkpoint_steps: 1 + after_step % 2 };
        let answer = run(&schedule, &|session| case.scene(session), &case.query());
        let answer = answer.map_err(|error| in_context(format!("{schedule}: {error}")))?;
        let mut rows: Vec<String> = value::rows(&answer.batches).iter().map(line).collect();
        rows.sort();
        if rows != left {
            return Err(in_context(format!("{schedule}: expected {left:#?}, got {rows:#?}")));
        }
    }
    Ok(())
}

fn line(row: &value::Row) -> String {
    row.iter().map(value::Value::to_string).collect::<Vec<_>>().join(" | ")
}

/// How many rows have come, and what leaves then.
type Told = Vec<(usize, String)>;

/// What leaves, and `v` of the late rows.
fn told(case: &Case) -> Result<(Told, Vec<i64>), String> {
    let session = Session::builder().set("eagre.shards", "1").set("eagre.step.rows_max", "1").build().map_err(text)?;
    case.scene(&session).map_err(text)?;
    // The rows themselves tell which step takes which of them.
    let sql = format!("SELECT v FROM events; {}; SELECT \"row\" FROM events.late", case.query());
    let mut job = session.execute(&sql).map_err(text)?.job.ok_or("no pipeline runs")?;
    let readers: Vec<_> =
        job.take_results().into_iter().map(|result| std::thread::spawn(move || changes(result))).collect();
    let ended = job.wait_blocking();
    let mut results = Vec::new();
    for reader in readers {
        results.push(reader.join().map_err(|_| "a reader panicked")?);
    }
    ended.map_err(text)?;
    let steps: Vec<u64> = results[0].iter().flat_map(|change| vec![change.step; change.batch.num_rows()]).collect();
    let mut told = Vec::new();
    for change in &results[1] {
        let row = steps.iter().filter(|step| **step <= change.step).count();
        for (index, cells) in value::rows(std::slice::from_ref(&change.batch)).iter().enumerate() {
            let weight = change.weights.as_ref().map_or(1, |weights| weights.value(index));
            let sign = if weight > 0 { '+' } else { '-' };
            told.extend((0..weight.abs()).map(|_| (row, format!("{sign} {}", line(cells)))));
        }
    }
    told.sort();
    let mut late = Vec::new();
    for row in results[2].iter().flat_map(|change| value::rows(std::slice::from_ref(&change.batch))) {
        let row: serde_json::Value = serde_json::from_str(&row[0].to_string()).map_err(text)?;
        late.push(row["v"].as_i64().ok_or_else(|| format!("a late row without its columns: {row}"))?);
    }
    Ok((told, late))
}

fn changes(mut result: eagre::QueryResult) -> Vec<Change> {
    std::iter::from_fn(|| result.blocking_next()).collect()
}
