//! The answer of a query, worked out as the standard tells it: every way to match, the preferred one first, each condition evaluated from
//! the labels given so far. Exponential, so rows are few and the work is bounded.
//!
//! After ISO/IEC 19075-5. Where an iteration of a quantifier takes no row: beyond the least number of iterations it does not count, below it
//! it stands for all that are left.

use super::query::{
    Column, D, Expr, Function, ID, K, Of, Pattern, Query, Row, RowExpr, RowsPerMatch, S, Skip, T, V, VARIABLES, Word,
};
use crate::value::{self, Value};

/// Steps of matching for one partition, beyond which there is no answer.
const STEPS_MAX: u64 = 300_000;

/// A value while it is computed.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    Time(i64),
    List(Vec<Cell>),
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// It takes too long.
    Unfinished,
    /// `SKIP TO` leads nowhere, or to the first row of the match.
    BadSkip,
}

/// Where matching stands in a row, and what it may see from there.
struct Scope<'a> {
    query: &'a Query,
    rows: &'a [&'a Row],
    /// Of the match, with the number of its first row.
    start: usize,
    labels: &'a [usize],
    /// Rows before this one are seen by `RUNNING`.
    current_end: usize,
    number: i64,
    complete: bool,
    /// Whether what says neither `RUNNING` nor `FINAL` sees the whole match.
    finals: bool,
}

/// The rows of a query over `rows`, in any order; `bad_skip_is_error`: else matching goes on at the next row.
pub(super) fn answer(query: &Query, rows: &[Row], bad_skip_is_error: bool) -> Result<Vec<value::Row>, NoAnswer> {
    let mut partitions: Vec<(Vec<Cell>, Vec<&Row>)> = Vec::new();
    for row in rows {
        let key: Vec<Cell> = query.partition.iter().map(|column| cell(row, *column)).collect();
        match partitions.iter_mut().find(|(known, _)| *known == key) {
            Some((_, rows)) => rows.push(row),
            None => partitions.push((key, vec![row])),
        }
    }
    let mut out = Vec::new();
    for (key, mut rows) in partitions {
        for (column, descends) in query.order.iter().rev() {
            // Nulls are the greatest.
            let by = |row: &&Row| {
                let cell = cell(row, *column);
                (cell == Cell::Null, cell)
            };
            rows.sort_by(|a, b| {
                let order = by(a).partial_cmp(&by(b)).expect("cells of one column compare");
                if *descends { order.reverse() } else { order }
            });
        }
        partition(query, &key, &rows, bad_skip_is_error, &mut out)?;
    }
    Ok(out)
}

impl PartialOrd for Cell {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Self::Null, Self::Null) => Some(std::cmp::Ordering::Equal),
            (Self::Bool(a), Self::Bool(b)) => a.partial_cmp(b),
            (Self::Int(a), Self::Int(b)) | (Self::Time(a), Self::Time(b)) => a.partial_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.partial_cmp(b),
            (Self::Int(a), Self::Double(b)) => (*a as f64).partial_cmp(b),
            (Self::Double(a), Self::Int(b)) => a.partial_cmp(&(*b as f64)),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            _ => None,
        }
    }
}

fn partition(
    query: &Query,
    key: &[Cell],
    rows: &[&Row],
    bad_skip_is_error: bool,
    out: &mut Vec<value::Row>,
) -> Result<(), NoAnswer> {
    if let RowsPerMatch::Window { following, seek } = query.rows {
        return windows(query, rows, (following, seek), bad_skip_is_error, out);
    }
    let mut position = 0;
    let mut number = 0;
    let mut matched = vec![false; rows.len()];
    // Rows before this one are in a partial match that was told.
    let mut told_until = 0;
    let mut steps = 0;
    while position < rows.len() {
        let attempt = Attempt {
            query,
            rows,
            start: position,
            end: rows.len(),
            number: number + 1,
            labels: Vec::new(),
            longest: Vec::new(),
            steps: &mut steps,
        };
        let (labels, complete) = attempt.run()?;
        let end = position + labels.len();
        if !complete {
            let told = query.skip == Skip::PastLastRow && end <= told_until;
            if query.partial && !labels.is_empty() && !told {
                told_until = told_until.max(end);
                show_match(query, key, rows, (position, &labels, number + 1, false), out);
            }
            if query.rows == RowsPerMatch::AllWithUnmatched && !matched[position] {
                out.push(shown(query, key, rows[position], &vec![Cell::Null; query.measures.len()]));
            }
            position += 1;
            continue;
        }
        number += 1;
        show_match(query, key, rows, (position, &labels, number, true), out);
        if labels.is_empty() {
            position += 1;
            continue;
        }
        matched[position..end].fill(true);
        position = next_position(query, position, (position, &labels), bad_skip_is_error)?;
    }
    Ok(())
}

/// Where the next match is looked for behind one that was looked for from `position` on, and begins at `start`.
fn next_position(
    query: &Query,
    position: usize,
    (start, labels): (usize, &[Label]),
    bad_skip_is_error: bool,
) -> Result<usize, NoAnswer> {
    let first = |of| labels.iter().position(|(variable, _)| has(query, of, *variable)).map(|at| start + at);
    let last = |of| labels.iter().rposition(|(variable, _)| has(query, of, *variable)).map(|at| start + at);
    let target = match query.skip {
        Skip::PastLastRow => Some(start + labels.len()),
        Skip::ToNextRow => Some(position + 1),
        Skip::ToFirst(of) => first(of),
        Skip::ToLast(of) => last(of),
    };
    match target {
        Some(target) if target > position => Ok(target),
        _ if bad_skip_is_error => Err(NoAnswer::BadSkip),
        _ => Ok(position + 1),
    }
}

/// The rows of a partition, each with the match that is looked for from it on: its measures, and how many rows it has and the first and the last
/// of them.
fn windows(
    query: &Query,
    rows: &[&Row],
    (following, seek): (Option<usize>, bool),
    bad_skip_is_error: bool,
    out: &mut Vec<value::Row>,
) -> Result<(), NoAnswer> {
    let mut steps = 0;
    let mut show = |row: usize, measures: Vec<Cell>, members: Option<(usize, usize)>| {
        let mut cells: Vec<Cell> = (K..=D).map(|column| cell(rows[row], column)).collect();
        cells.extend(measures);
        let id = |row: usize| Cell::Int(rows[row].id);
        cells.push(Cell::Int(members.map_or(0, |(first, last)| (last + 1 - first) as i64)));
        cells.push(members.map_or(Cell::Null, |(first, _)| id(first)));
        cells.push(members.map_or(Cell::Null, |(_, last)| id(last)));
        out.push(cells.into_iter().map(value_of).collect());
    };
    let nothing = || vec![Cell::Null; query.measures.len()];
    let mut position = 0;
    while position < rows.len() {
        let end = following.map_or(rows.len(), |rows_on| rows.len().min(position + rows_on + 1));
        let mut found = None;
        for start in position..if seek { end } else { position + 1 } {
            let (labels, longest) = (Vec::new(), Vec::new());
            let attempt = Attempt { query, rows, start, end, number: 1, labels, longest, steps: &mut steps };
            if let (labels, true) = attempt.run()? {
                found = Some((start, labels));
                break;
            }
        }
        let mut next = position + 1;
        match found {
            None => show(position, nothing(), None),
            Some((start, labels)) => {
                let variables: Vec<usize> = labels.iter().map(|(variable, _)| *variable).collect();
                let current_end = start + labels.len();
                let scope = Scope {
                    query,
                    rows,
                    start,
                    labels: &variables,
                    current_end,
                    number: 1,
                    complete: true,
                    finals: true,
                };
                let measures = query.measures.iter().map(|measure| scope.evaluate(measure)).collect();
                show(position, measures, (!labels.is_empty()).then(|| (start, current_end - 1)));
                if !labels.is_empty() {
                    next = next_position(query, position, (start, &labels), bad_skip_is_error)?;
                }
            }
        }
        (position + 1..next).for_each(|row| show(row, nothing(), None));
        position = next;
    }
    Ok(())
}

/// The rows of a match: its first row, its labels, its number, whether it is complete.
fn show_match(
    query: &Query,
    key: &[Cell],
    rows: &[&Row],
    (start, labels, number, complete): (usize, &[Label], i64, bool),
    out: &mut Vec<value::Row>,
) {
    let all = query.rows != RowsPerMatch::One;
    let variables: Vec<usize> = labels.iter().map(|(variable, _)| *variable).collect();
    let measures = |current_end: usize| -> Vec<Cell> {
        let scope = Scope { query, rows, start, labels: &variables, current_end, number, complete, finals: !all };
        query.measures.iter().map(|measure| scope.evaluate(measure)).collect()
    };
    let end = start + labels.len();
    if !all || labels.is_empty() {
        if query.rows != RowsPerMatch::AllOmitEmpty || !labels.is_empty() {
            out.push(shown(query, key, rows[start], &measures(end)));
        }
        return;
    }
    for (row, (_, excluded)) in (start..end).zip(labels) {
        if !excluded {
            out.push(shown(query, key, rows[row], &measures(row + 1)));
        }
    }
}

/// A row that leaves.
fn shown(query: &Query, key: &[Cell], row: &Row, measures: &[Cell]) -> value::Row {
    let mut cells = key.to_vec();
    if query.rows == RowsPerMatch::One {
        cells.extend_from_slice(measures);
    } else {
        let order: Vec<Column> = query.order.iter().map(|(column, _)| *column).collect();
        let rest = (K..=D).filter(|column| !query.partition.contains(column) && !order.contains(column));
        cells.extend(order.iter().map(|column| cell(row, *column)));
        cells.extend_from_slice(measures);
        cells.extend(rest.map(|column| cell(row, column)));
    }
    cells.into_iter().map(value_of).collect()
}

fn cell(row: &Row, column: Column) -> Cell {
    let int = |value: Option<i64>| value.map_or(Cell::Null, Cell::Int);
    let text = |value: Option<&str>| value.map_or(Cell::Null, |text| Cell::Text(text.to_owned()));
    match column {
        K => text(row.k),
        T => Cell::Time(row.t),
        ID => Cell::Int(row.id),
        V => int(row.v),
        S => text(row.s),
        D => row.d.map_or(Cell::Null, Cell::Double),
        other => panic!("there is no column {other}"),
    }
}

fn value_of(cell: Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Bool(value) => Value::Bool(value),
        Cell::Int(value) => Value::exact(&value.to_string()).expect("a whole number"),
        Cell::Double(value) => Value::Double(value),
        Cell::Text(text) => Value::Text(text),
        Cell::Time(seconds) => Value::Text(time_text(seconds)),
        Cell::List(cells) => Value::List(cells.into_iter().map(value_of).collect()),
    }
}

/// As [`value::rows`] has it.
pub(super) fn time_text(seconds: i64) -> String {
    let time =
        arrow::temporal_conversions::timestamp_s_to_datetime(seconds).expect("a time within some thousand years");
    time.format("%Y-%m-%d %H:%M:%S.000").to_string()
}

fn has(query: &Query, of: Of, variable: usize) -> bool {
    match of {
        Of::All => true,
        Of::Variable(wanted) => wanted == variable,
        Of::Subset(subset) => query.subsets[subset].contains(&variable),
    }
}

// ---------------------------------------------------------------- matching

/// The variable of a row, and whether it is within an exclusion.
type Label = (usize, bool);

/// What begins at one row.
struct Attempt<'a> {
    query: &'a Query,
    rows: &'a [&'a Row],
    start: usize,
    /// No row from here on is taken.
    end: usize,
    number: i64,
    /// Of the rows taken.
    labels: Vec<Label>,
    /// The most rows that were ever taken, in the way that is preferred.
    longest: Vec<Label>,
    steps: &'a mut u64,
}

/// What follows a part of the pattern: takes the row at which it goes on, and tells whether it led to a match.
type Then<'t, 'a> = &'t mut dyn FnMut(&mut Attempt<'a>, usize) -> Result<bool, NoAnswer>;

impl<'a> Attempt<'a> {
    /// The labels of the preferred match, or else of what came nearest; and whether it is a match.
    fn run(mut self) -> Result<(Vec<Label>, bool), NoAnswer> {
        let mut found = None;
        let pattern = &self.query.pattern;
        self.part(pattern, self.start, false, &mut |attempt, _| {
            found = Some(attempt.labels.clone());
            Ok(true)
        })?;
        Ok(match found {
            Some(labels) => (labels, true),
            None => (self.longest, false),
        })
    }

    fn part(&mut self, pattern: &'a Pattern, at: usize, excluded: bool, then: Then<'_, 'a>) -> Result<bool, NoAnswer> {
        *self.steps += 1;
        if *self.steps > STEPS_MAX {
            return Err(NoAnswer::Unfinished);
        }
        match pattern {
            Pattern::Empty => then(self, at),
            Pattern::Start => {
                if at == 0 {
                    then(self, at)
                } else {
                    Ok(false)
                }
            }
            Pattern::End => {
                if at == self.rows.len() {
                    then(self, at)
                } else {
                    Ok(false)
                }
            }
            Pattern::Variable(variable) => self.row(*variable, at, excluded, then),
            Pattern::Concatenation(parts) => self.sequence(&parts.iter().collect::<Vec<_>>(), at, excluded, then),
            Pattern::Alternation(parts) => {
                for part in parts {
                    if self.part(part, at, excluded, then)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Pattern::Permutation(parts) => {
                for order in permutations(parts.len()) {
                    let parts: Vec<&Pattern> = order.iter().map(|index| &parts[*index]).collect();
                    if self.sequence(&parts, at, excluded, then)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Pattern::Exclusion(body) => self.part(body, at, true, then),
            Pattern::Repetition { .. } => self.repetition(pattern, at, 0, excluded, then),
        }
    }

    fn row(&mut self, variable: usize, at: usize, excluded: bool, then: Then<'_, 'a>) -> Result<bool, NoAnswer> {
        let Some(row) = self.rows[..self.end].get(at) else {
            return Ok(false);
        };
        if self.query.within.is_some_and(|within| row.t - self.rows[self.start].t > within) {
            return Ok(false);
        }
        self.labels.push((variable, excluded));
        let holds = match self.query.define.iter().find(|(defined, _)| *defined == variable) {
            Some((_, condition)) => {
                let labels: Vec<usize> = self.labels.iter().map(|(variable, _)| *variable).collect();
                let scope = Scope {
                    query: self.query,
                    rows: self.rows,
                    start: self.start,
                    labels: &labels,
                    current_end: at + 1,
                    number: self.number,
                    complete: true,
                    finals: false,
                };
                scope.evaluate(condition) == Cell::Bool(true)
            }
            None => true,
        };
        if holds && self.labels.len() > self.longest.len() {
            self.longest.clone_from(&self.labels);
        }
        let matched = holds && then(self, at + 1)?;
        self.labels.pop();
        Ok(matched)
    }

    fn sequence(
        &mut self,
        parts: &[&'a Pattern],
        at: usize,
        excluded: bool,
        then: Then<'_, 'a>,
    ) -> Result<bool, NoAnswer> {
        match parts {
            [] => then(self, at),
            [first, rest @ ..] => {
                self.part(first, at, excluded, &mut |attempt, at| attempt.sequence(rest, at, excluded, then))
            }
        }
    }

    fn repetition(
        &mut self,
        pattern: &'a Pattern,
        at: usize,
        done: u32,
        excluded: bool,
        then: Then<'_, 'a>,
    ) -> Result<bool, NoAnswer> {
        let Pattern::Repetition { body, min, max, greedy } = pattern else {
            panic!("{pattern} is no repetition");
        };
        let enough = done >= *min;
        if enough && !greedy && then(self, at)? {
            return Ok(true);
        }
        if max.is_none_or(|max| done < max) {
            // Behind an empty iteration comes what follows, once there are enough (ISO/IEC 19075-5, 7.2.8).
            let matched = self.part(body, at, excluded, &mut |attempt, next| match next == at && done + 1 >= *min {
                true => then(attempt, next),
                false => attempt.repetition(pattern, next, done + 1, excluded, then),
            })?;
            if matched {
                return Ok(true);
            }
        }
        if enough && *greedy { then(self, at) } else { Ok(false) }
    }
}

/// All orders of so many things, the lexicographically first one first.
fn permutations(count: usize) -> Vec<Vec<usize>> {
    fn extend(order: &mut Vec<usize>, count: usize, all: &mut Vec<Vec<usize>>) {
        if order.len() == count {
            all.push(order.clone());
        }
        for next in 0..count {
            if !order.contains(&next) {
                order.push(next);
                extend(order, count, all);
                order.pop();
            }
        }
    }
    let mut all = Vec::new();
    extend(&mut Vec::new(), count, &mut all);
    all
}

// ---------------------------------------------------------------- expressions

impl Scope<'_> {
    /// The rows of some variables that are seen, in order.
    fn rows_of(&self, of: Of, word: Word) -> Vec<usize> {
        let whole = match word {
            Word::None => self.finals,
            Word::Running => false,
            Word::Final => true,
        };
        let end = if whole { self.start + self.labels.len() } else { self.current_end };
        (self.start..end).filter(|row| has(self.query, of, self.labels[row - self.start])).collect()
    }

    /// The row that navigation leads to.
    fn row(&self, of: Of, navigation: Option<&super::query::Navigation>) -> Option<usize> {
        match navigation {
            None => self.rows_of(of, Word::None).last().copied(),
            Some(navigation) => {
                let rows = self.rows_of(of, navigation.word);
                let offset = navigation.offset.unwrap_or(0);
                let index = if navigation.first { offset } else { rows.len().checked_sub(offset + 1)? };
                rows.get(index).copied()
            }
        }
    }

    fn at_row(&self, value: &RowExpr, row: usize) -> Cell {
        let label = || match row.checked_sub(self.start).and_then(|index| self.labels.get(index)) {
            Some(variable) => Cell::Text(VARIABLES[*variable].to_owned()),
            None => Cell::Null,
        };
        let plus = |column: Column, number: i64| match cell(self.rows[row], column) {
            Cell::Int(value) => Cell::Int(value + number),
            _ => Cell::Null,
        };
        match value {
            RowExpr::Column(column) => cell(self.rows[row], *column),
            RowExpr::Classifier => label(),
            RowExpr::Plus(column, number) => plus(*column, *number),
            RowExpr::PlusMatchNumber(column) => plus(*column, self.number),
            RowExpr::WithLabel => match (cell(self.rows[row], S), label()) {
                (Cell::Text(text), Cell::Text(label)) => Cell::Text(text + &label),
                _ => Cell::Null,
            },
        }
    }

    fn evaluate(&self, expr: &Expr) -> Cell {
        match expr {
            Expr::Int(value) => Cell::Int(*value),
            Expr::Text(text) => Cell::Text((*text).to_owned()),
            Expr::Bool(value) => Cell::Bool(*value),
            Expr::MatchNumber => Cell::Int(self.number),
            Expr::Status => Cell::Text(if self.complete { "complete" } else { "timeout" }.to_owned()),
            Expr::Classifier(of) => match self.rows_of(*of, Word::None).last() {
                Some(row) => self.at_row(&RowExpr::Classifier, *row),
                None => Cell::Null,
            },
            Expr::At { of, value, navigation, shift } => {
                let Some(row) = self.row(*of, navigation.as_ref()) else {
                    return Cell::Null;
                };
                let by = shift.as_ref().map_or(0, |shift| shift.by.unwrap_or(1) * if shift.next { 1 } else { -1 });
                match row.checked_add_signed(by as isize).filter(|row| *row < self.rows.len()) {
                    Some(row) => self.at_row(value, row),
                    None => Cell::Null,
                }
            }
            Expr::Aggregate { function, distinct, word, of, argument } => {
                let rows = self.rows_of(*of, *word);
                match argument {
                    None => Cell::Int(rows.len() as i64),
                    Some(argument) => {
                        aggregate(*function, *distinct, rows.iter().map(|row| self.at_row(argument, *row)).collect())
                    }
                }
            }
            Expr::Compare(operator, a, b) => {
                let (a, b) = (self.evaluate(a), self.evaluate(b));
                let Some(order) = a.partial_cmp(&b).filter(|_| a != Cell::Null) else {
                    return Cell::Null;
                };
                Cell::Bool(match *operator {
                    "=" => order.is_eq(),
                    "<>" => order.is_ne(),
                    "<" => order.is_lt(),
                    "<=" => order.is_le(),
                    ">" => order.is_gt(),
                    ">=" => order.is_ge(),
                    other => panic!("there is no `{other}`"),
                })
            }
            Expr::Arithmetic(operator, a, b) => match (self.evaluate(a), self.evaluate(b)) {
                (Cell::Int(a), Cell::Int(b)) => Cell::Int(match *operator {
                    "+" => a + b,
                    "-" => a - b,
                    "*" => a * b,
                    "%" => a % b,
                    "/" => a / b,
                    other => panic!("there is no `{other}`"),
                }),
                _ => Cell::Null,
            },
            Expr::And(a, b) => match (self.evaluate(a), self.evaluate(b)) {
                (Cell::Bool(false), _) | (_, Cell::Bool(false)) => Cell::Bool(false),
                (Cell::Bool(true), Cell::Bool(true)) => Cell::Bool(true),
                _ => Cell::Null,
            },
            Expr::Or(a, b) => match (self.evaluate(a), self.evaluate(b)) {
                (Cell::Bool(true), _) | (_, Cell::Bool(true)) => Cell::Bool(true),
                (Cell::Bool(false), Cell::Bool(false)) => Cell::Bool(false),
                _ => Cell::Null,
            },
            Expr::Not(a) => match self.evaluate(a) {
                Cell::Bool(value) => Cell::Bool(!value),
                _ => Cell::Null,
            },
            Expr::IsNull(a) => Cell::Bool(self.evaluate(a) == Cell::Null),
            Expr::In(a, list) => {
                let a = self.evaluate(a);
                let list: Vec<Cell> = list.iter().map(|other| self.evaluate(other)).collect();
                match a {
                    Cell::Null => Cell::Null,
                    a if list.contains(&a) => Cell::Bool(true),
                    _ if list.contains(&Cell::Null) => Cell::Null,
                    _ => Cell::Bool(false),
                }
            }
            Expr::Coalesce(a, b) => match self.evaluate(a) {
                Cell::Null => self.evaluate(b),
                a => a,
            },
            Expr::NoLaterThan(a, b, seconds) | Expr::NoFartherThan(a, b, seconds) => {
                match (self.evaluate(a), self.evaluate(b)) {
                    (Cell::Time(a), Cell::Time(b)) => Cell::Bool(a <= b + seconds),
                    _ => Cell::Null,
                }
            }
            Expr::Abs(a) => match self.evaluate(a) {
                Cell::Int(a) => Cell::Int(a.abs()),
                _ => Cell::Null,
            },
            Expr::IsDistinct(a, b) => Cell::Bool(self.evaluate(a) != self.evaluate(b)),
            Expr::Case { condition, then, otherwise } => match self.evaluate(condition) {
                Cell::Bool(true) => self.evaluate(then),
                _ => self.evaluate(otherwise),
            },
        }
    }
}

/// Of whole numbers, exactly: a fraction of whole numbers.
fn variance(cells: &[Cell], less: i64) -> Cell {
    let number = |cell: &Cell| match cell {
        Cell::Int(value) => *value,
        other => panic!("{other:?} is no whole number"),
    };
    let count = cells.len() as i64;
    if count <= less {
        return Cell::Null;
    }
    let sum: i64 = cells.iter().map(number).sum();
    let squares: i64 = cells.iter().map(|cell| number(cell) * number(cell)).sum();
    Cell::Double((count * squares - sum * sum) as f64 / (count * (count - less)) as f64)
}

fn aggregate(function: Function, distinct: bool, mut cells: Vec<Cell>) -> Cell {
    if function == Function::ArrayAgg {
        return if cells.is_empty() { Cell::Null } else { Cell::List(cells) };
    }
    cells.retain(|cell| *cell != Cell::Null);
    if distinct {
        let mut seen: Vec<Cell> = Vec::new();
        cells.retain(|cell| {
            let new = !seen.contains(cell);
            if new {
                seen.push(cell.clone());
            }
            new
        });
    }
    let number = |cell: &Cell| match cell {
        Cell::Int(value) => *value as f64,
        Cell::Double(value) => *value,
        other => panic!("{other:?} is no number"),
    };
    let greatest = |sign: std::cmp::Ordering| {
        cells.iter().cloned().reduce(|a, b| if b.partial_cmp(&a) == Some(sign) { b } else { a }).unwrap_or(Cell::Null)
    };
    match function {
        Function::Count => Cell::Int(cells.len() as i64),
        Function::VarPop => variance(&cells, 0),
        Function::VarSamp => variance(&cells, 1),
        Function::Stddev => match variance(&cells, 1) {
            Cell::Double(variance) => Cell::Double(variance.sqrt()),
            other => other,
        },
        Function::Min => greatest(std::cmp::Ordering::Less),
        Function::Max => greatest(std::cmp::Ordering::Greater),
        _ if cells.is_empty() => Cell::Null,
        Function::StringAgg => {
            let text = |cell: &Cell| match cell {
                Cell::Text(text) => text.clone(),
                other => panic!("{other:?} is no text"),
            };
            Cell::Text(cells.iter().map(text).collect::<Vec<_>>().join(","))
        }
        Function::Avg => Cell::Double(cells.iter().map(number).sum::<f64>() / cells.len() as f64),
        _ if cells.iter().all(|cell| matches!(cell, Cell::Int(_))) => {
            Cell::Int(cells.iter().map(|cell| number(cell) as i64).sum())
        }
        _ => Cell::Double(cells.iter().map(number).sum()),
    }
}
