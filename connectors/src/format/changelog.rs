//! Formats whose rows say what happens to them: `changelog-json` and `debezium-json`.
//!
//! Both are JSON, one change a line, and both become rows with weights: a row that comes counts 1, a row that goes counts -1. What a
//! change must carry depends on the table's `'changelog.mode'`. In `retract` mode a row that goes is written in full, because a
//! weight takes back exactly that row; so an update is two rows, and a line that lacks one of them is a bad row. In `upsert` mode
//! the row of a key is replaced, so the old row is not needed: a `-U` says nothing new and is read over, and of a row that is deleted
//! only its key counts, the rest may be missing or stale.
//!
//! A line whose old or new row cannot be read is bad as a whole: half an update would be a wrong answer.

use arrow::datatypes::Field;
use eagre_engine::Delta;
use eagre_engine::changes::{ChangeOp, Changes};

use super::cell::{Cell, CellKind, clip};
use super::decode::Rows;
use super::json::{ObjectScanner, ScanError};
use super::{Format, JsonFormat};
use crate::error::Result;
use crate::options::OptionReader;
use crate::table::TableDefinition;

/// Table option: how rows of a changelog are taken back.
pub(crate) const CHANGELOG_MODE: &str = "changelog.mode";
/// The name of the member that holds the word, by default.
const OP_COLUMN: &str = "op";
/// In the enveloped form of `changelog-json` the row is in this member.
const DATA: &str = "data";

/// How rows of a changelog are taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangelogMode {
    /// The old row is repeated in full.
    Retract,
    /// The row of a primary key is replaced or removed.
    Upsert,
}

/// A format of changes with its options.
#[derive(Debug, Clone)]
pub(crate) struct ChangelogFormat {
    pub(crate) json: JsonFormat,
    pub(crate) form: ChangelogForm,
    pub(crate) mode: ChangelogMode,
    /// `PRIMARY KEY`: names of columns.
    pub(crate) key: Vec<String>,
}

/// How a line carries its change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChangelogForm {
    /// The row, and beside its columns the word.
    Flat {
        /// The member that holds the word.
        op_column: String,
    },
    /// `before`, `after` and `op`; written within `payload` where `envelope` is set, read with and without.
    Debezium {
        /// Whether lines are written as `{"payload": ..}`.
        envelope: bool,
    },
}

/// What `'changelog.mode'` says.
pub(crate) fn mode_of(options: &OptionReader<'_>) -> Result<Option<ChangelogMode>> {
    Ok(match options.one_of(CHANGELOG_MODE, &["retract", "upsert"])? {
        Some(0) => Some(ChangelogMode::Retract),
        Some(_) => Some(ChangelogMode::Upsert),
        None => None,
    })
}

impl ChangelogFormat {
    /// The options of `changelog-json`.
    pub(crate) fn flat(options: &OptionReader<'_>) -> Result<Self> {
        let op_column = options.text("changelog-json.op-column").unwrap_or(OP_COLUMN).to_owned();
        if op_column.is_empty() {
            return Err(options.bad("changelog-json.op-column", "it is the name of the member that holds the word"));
        }
        Self::of(options, "changelog-json", ChangelogForm::Flat { op_column })
    }

    /// The options of `debezium-json`.
    pub(crate) fn debezium(options: &OptionReader<'_>) -> Result<Self> {
        let envelope = options.bool("debezium-json.schema-include", false)?;
        Self::of(options, "debezium-json", ChangelogForm::Debezium { envelope })
    }

    fn of(options: &OptionReader<'_>, name: &str, form: ChangelogForm) -> Result<Self> {
        Ok(Self {
            json: JsonFormat::of(options, name)?,
            form,
            mode: mode_of(options)?.unwrap_or(ChangelogMode::Retract),
            key: Vec::new(),
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.form {
            ChangelogForm::Flat { .. } => "changelog-json",
            ChangelogForm::Debezium { .. } => "debezium-json",
        }
    }

    /// Knows the table's key, and refuses columns that the form has no place for.
    fn complete(&mut self, table: &TableDefinition) -> Result<()> {
        self.key.clone_from(&table.primary_key);
        if let ChangelogForm::Flat { op_column } = &self.form
            && table.schema.fields().iter().any(|field| field.name() == op_column)
        {
            return Err(table.schema_error(format!(
                "column `{op_column}` has the name under which format `changelog-json` keeps what happens to the row; give that \
                 another name with 'changelog-json.op-column'"
            )));
        }
        Ok(())
    }
}

/// Checks `'changelog.mode'` against the table's key and format, and completes the format. `is_sink`: the table is to be written.
pub(crate) fn complete(table: &TableDefinition, format: &mut Format, is_sink: bool) -> Result<()> {
    let mode = mode_of(&table.reader())?;
    check_key(table)?;
    match format {
        Format::Changelog(changelog) => {
            changelog.complete(table)?;
            if changelog.mode == ChangelogMode::Upsert
                && let Some(outside) = table.partitioned_by.iter().find(|name| !table.primary_key.contains(name))
            {
                return Err(table.schema_error(format!(
                    "PARTITIONED BY `{outside}`: in 'changelog.mode' = 'upsert' the changes of a key must stay in one folder, in order; \
                     partition by columns of the PRIMARY KEY"
                )));
            }
            Ok(())
        }
        _ if mode == Some(ChangelogMode::Retract) || (mode.is_some() && is_sink) => {
            let name = format.name();
            let upsert = if is_sink { "" } else { ", or 'changelog.mode' = 'upsert' with a PRIMARY KEY" };
            Err(table.reader().bad(
                CHANGELOG_MODE,
                format!(
                    "format `{name}` has no word for a row that is taken back; use 'format' = 'changelog-json' or \
                     'debezium-json'{upsert}"
                ),
            ))
        }
        _ => Ok(()),
    }
}

/// In upsert mode rows are told apart by their key.
pub(crate) fn check_key(table: &TableDefinition) -> Result<()> {
    if mode_of(&table.reader())? == Some(ChangelogMode::Upsert) && table.primary_key.is_empty() {
        let column = table.schema.fields().first().map_or("id", |field| field.name());
        return Err(table.reader().bad(
            CHANGELOG_MODE,
            format!("it replaces rows by their key, and the table has none; add `PRIMARY KEY ({column}) NOT ENFORCED`"),
        ));
    }
    Ok(())
}

// ---------------------------------------------------------------- reading

/// Reads the lines of one block.
pub(super) struct ChangeScanner<'a> {
    format: &'a ChangelogFormat,
    fields: &'a [Field],
    /// By wanted column: whether it is of the key.
    is_key: Vec<bool>,
    outer: ObjectScanner,
    payload: ObjectScanner,
    row: ObjectScanner,
    /// The members around the rows, by member and line; of the flat form also the row's own.
    members: Vec<Vec<Cell>>,
    inner: Vec<Vec<Cell>>,
    lines: usize,
    enveloped: bool,
}

/// The members of Debezium's form.
const BEFORE: usize = 0;
const AFTER: usize = 1;
const OP: usize = 2;
const PAYLOAD: usize = 3;

/// What one line means, or why it means nothing.
type Meaning = std::result::Result<(), String>;

impl<'a> ChangeScanner<'a> {
    pub(super) fn new(format: &'a ChangelogFormat, fields: &'a [Field]) -> Self {
        let names = || fields.iter().map(|field| field.name().as_str());
        let has_data = names().any(|name| name.eq_ignore_ascii_case(DATA));
        let (outer, count): (Vec<&str>, usize) = match &format.form {
            ChangelogForm::Flat { op_column } => {
                let mut outer: Vec<&str> = names().collect();
                outer.push(op_column);
                outer.extend((!has_data).then_some(DATA));
                let count = outer.len();
                (outer, count)
            }
            ChangelogForm::Debezium { .. } => (vec!["before", "after", "op", "payload"], 4),
        };
        Self {
            format,
            fields,
            is_key: names().map(|name| format.key.iter().any(|key| key == name)).collect(),
            outer: ObjectScanner::new(outer.into_iter()),
            payload: ObjectScanner::new(["before", "after", "op"].into_iter()),
            row: ObjectScanner::new(names()),
            members: vec![Vec::new(); count],
            inner: vec![Vec::new(); 3],
            lines: 0,
            enveloped: !has_data,
        }
    }

    /// Reads the object at `start` of the line that begins at `line_start`; the index behind the object. Rows are added as the change
    /// has them: none, one or two. A line that is JSON and no change becomes one bad row.
    pub(super) fn scan(
        &mut self,
        text: &str,
        line_start: usize,
        start: usize,
        rows: &mut Rows,
    ) -> std::result::Result<usize, ScanError> {
        // What a compacted log of Debezium's has after a deletion, to let go of the key: it says nothing new.
        if matches!(self.format.form, ChangelogForm::Debezium { .. }) && text[start..].starts_with("null") {
            return Ok(start + "null".len());
        }
        let line = self.lines;
        self.lines += 1;
        self.members.iter_mut().chain(&mut self.inner).for_each(|column| column.push(Cell::MISSING));
        let end = self.outer.scan(text.as_bytes(), start, line, &mut self.members)?;
        let first = rows.len();
        let meaning = match &self.format.form {
            ChangelogForm::Flat { .. } => self.flat(text, line_start, line, rows),
            ChangelogForm::Debezium { .. } => self.debezium(text, line_start, line, rows),
        };
        if let Err(reason) = meaning {
            rows.truncate(first);
            let row = rows.push_change(line_start, 1);
            rows.errors.set(row, || reason);
        }
        Ok(end)
    }

    fn flat(&mut self, text: &str, line_start: usize, line: usize, rows: &mut Rows) -> Meaning {
        let ChangelogForm::Flat { op_column } = &self.format.form else {
            return Ok(());
        };
        let op = self.members[self.fields.len()][line];
        let word = match op.kind {
            CellKind::Text | CellKind::Escaped => op.text(text),
            CellKind::Missing | CellKind::Null => {
                return Err(format!(
                    "`{op_column}` is missing: it says what happens to the row, +I, -U, +U or -D (format `changelog-json`)"
                ));
            }
            _ => {
                return Err(format!(
                    "`{op_column}` is `{}`, and not one of '+I', '-U', '+U', '-D'",
                    clip(op.text(text))
                ));
            }
        };
        let op = ChangeOp::parse(word)
            .ok_or_else(|| format!("`{op_column}` is '{}', and not one of '+I', '-U', '+U', '-D'", clip(word)))?;
        if self.format.mode == ChangelogMode::Upsert && op == ChangeOp::UpdateBefore {
            return Ok(());
        }
        let data = self.enveloped.then(|| self.members[self.fields.len() + 1][line]);
        let data = data.filter(|data| data.kind == CellKind::Object);
        let empty = match data {
            Some(data) => is_empty_object(text, data),
            None => self.outer.member_count() == 1,
        };
        if empty {
            return Err(match self.format.mode {
                ChangelogMode::Retract if op.weight() < 0 => format!(
                    "`{word}` carries no row: in 'changelog.mode' = 'retract' it repeats the old row in full; with a PRIMARY KEY, \
                     'changelog.mode' = 'upsert' does without"
                ),
                _ => format!("`{word}` carries no row"),
            });
        }
        let row = rows.push_change(line_start, op.weight());
        match data {
            Some(data) => self.image(text, data, row, rows),
            None => {
                for (column, member) in rows.cells.iter_mut().zip(&self.members) {
                    column[row] = member[line];
                }
            }
        }
        self.check_row(row, op.weight(), rows)
    }

    fn debezium(&mut self, text: &str, line_start: usize, line: usize, rows: &mut Rows) -> Meaning {
        let mut members = [BEFORE, AFTER, OP, PAYLOAD].map(|member| self.members[member][line]);
        if members[OP].is_null() && members[PAYLOAD].kind == CellKind::Object {
            // The form was checked with the line's.
            let _ = self.payload.scan(text.as_bytes(), members[PAYLOAD].start as usize, line, &mut self.inner);
            for member in [BEFORE, AFTER, OP] {
                members[member] = self.inner[member][line];
            }
        }
        // The same, within an envelope.
        if members[PAYLOAD].kind == CellKind::Null
            && [BEFORE, AFTER, OP].iter().all(|member| members[*member].kind == CellKind::Missing)
        {
            return Ok(());
        }
        let op = match members[OP].kind {
            CellKind::Text => members[OP].text(text),
            CellKind::Missing | CellKind::Null => {
                return Err(
                    "`op` is missing: it says what happens to the row, c, r, u or d (format `debezium-json`)".into()
                );
            }
            _ => clip_op(text, members[OP]),
        };
        let image = |member: usize, name: &str| match members[member].kind {
            CellKind::Object => Ok(Some(members[member])),
            CellKind::Missing | CellKind::Null => Ok(None),
            _ => Err(format!("`{name}` is `{}`, and not an object", clip(members[member].text(text)))),
        };
        let (before, after) = (image(BEFORE, "before")?, image(AFTER, "after")?);
        let new = || after.ok_or_else(|| format!("`{op}` carries no row in `after`"));
        match op {
            "c" | "r" => self.push_image(text, line_start, new()?, 1, rows),
            "u" => {
                let new = new()?;
                match (self.format.mode, before) {
                    (ChangelogMode::Retract, None) => Err(
                        "`u` carries no old row in `before`, which 'changelog.mode' = 'retract' takes back: have the database log full \
                         rows (in PostgreSQL `REPLICA IDENTITY FULL`), or use 'changelog.mode' = 'upsert' with a PRIMARY KEY"
                            .into(),
                    ),
                    (ChangelogMode::Retract, Some(before)) => {
                        self.push_image(text, line_start, before, -1, rows)?;
                        self.push_image(text, line_start, new, 1, rows)
                    }
                    (ChangelogMode::Upsert, before) => {
                        if let Some(before) = before {
                            self.push_image(text, line_start, before, -1, rows)?;
                            let old = rows.len() - 1;
                            self.push_image(text, line_start, new, 1, rows)?;
                            if self.same_key(text, old, old + 1, rows) {
                                // The new row replaces the old one anyway.
                                rows.remove(old);
                            }
                            return Ok(());
                        }
                        self.push_image(text, line_start, new, 1, rows)
                    }
                }
            }
            "d" => {
                let old = before.ok_or("`d` carries no row in `before`, so it is not known which row goes")?;
                self.push_image(text, line_start, old, -1, rows)
            }
            other => Err(format!("`op` is '{}', and not one of 'c', 'r', 'u', 'd'", clip(other))),
        }
    }

    fn push_image(&mut self, text: &str, line_start: usize, image: Cell, weight: i64, rows: &mut Rows) -> Meaning {
        let row = rows.push_change(line_start, weight);
        self.image(text, image, row, rows);
        self.check_row(row, weight, rows)
    }

    /// The cells of a row out of its object, whose form was checked with the line's.
    fn image(&mut self, text: &str, image: Cell, row: usize, rows: &mut Rows) {
        // Rows are dropped and pushed again, so a row's number alone would not tell this object from the last one.
        self.row.forget_row();
        let _ = self.row.scan(text.as_bytes(), image.start as usize, row, &mut rows.cells);
    }

    /// In upsert mode the key must be there, and of a row that goes nothing else.
    fn check_row(&self, row: usize, weight: i64, rows: &mut Rows) -> Meaning {
        if self.format.mode == ChangelogMode::Retract {
            return Ok(());
        }
        for (index, column) in rows.cells.iter_mut().enumerate() {
            let cell = &mut column[row];
            if !cell.is_null() {
                continue;
            }
            if self.is_key[index] {
                return Err(format!("column `{}` of the PRIMARY KEY is missing or null", self.fields[index].name()));
            }
            if weight < 0 {
                cell.kind = CellKind::Stale;
            }
        }
        Ok(())
    }

    fn same_key(&self, text: &str, left: usize, right: usize, rows: &Rows) -> bool {
        let same = |column: &Vec<Cell>| {
            let (left, right) = (column[left], column[right]);
            left.kind == right.kind && left.text(text) == right.text(text)
        };
        rows.cells.iter().zip(&self.is_key).all(|(column, is_key)| !is_key || same(column))
    }
}

fn is_empty_object(text: &str, cell: Cell) -> bool {
    cell.text(text)[1..].trim_start().starts_with('}')
}

fn clip_op(text: &str, cell: Cell) -> &str {
    let op = cell.text(text);
    op.get(..op.len().min(20)).unwrap_or(op)
}

// ---------------------------------------------------------------- writing

/// Puts the words of a changelog around rows that were written as JSON lines.
pub(crate) fn wrap_lines(form: &ChangelogForm, ops: &[ChangeOp], lines: &[u8], out: &mut Vec<u8>) {
    let mut lines = lines.split(|byte| *byte == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    match form {
        ChangelogForm::Flat { op_column } => {
            // The name as JSON has it, quotes and escapes included.
            let name = serde_json::Value::from(op_column.as_str()).to_string();
            for op in ops {
                let row = next();
                out.extend_from_slice(format!("{{{name}:\"{}\"", op.word()).as_bytes());
                let members = row.strip_prefix(b"{").unwrap_or(row);
                if members != b"}" {
                    out.push(b',');
                }
                out.extend_from_slice(members);
                out.push(b'\n');
            }
        }
        ChangelogForm::Debezium { envelope } => {
            let mut old: Option<&[u8]> = None;
            for op in ops {
                let row = next();
                let (before, after, word) = match op {
                    ChangeOp::UpdateBefore => {
                        old = Some(row);
                        continue;
                    }
                    ChangeOp::UpdateAfter => (old.take(), Some(row), "u"),
                    ChangeOp::Insert => (None, Some(row), "c"),
                    ChangeOp::Delete => (Some(row), None, "d"),
                };
                if *envelope {
                    out.extend_from_slice(b"{\"payload\":");
                }
                out.extend_from_slice(b"{\"before\":");
                out.extend_from_slice(before.unwrap_or(b"null"));
                out.extend_from_slice(b",\"after\":");
                out.extend_from_slice(after.unwrap_or(b"null"));
                out.extend_from_slice(format!(",\"op\":\"{word}\"}}").as_bytes());
                if *envelope {
                    out.push(b'}');
                }
                out.push(b'\n');
            }
        }
    }
}

/// How the changes of a step are put into words for a table.
#[derive(Debug, Clone)]
pub(crate) struct StepWords {
    /// Indices of the columns of the key.
    key: Option<Vec<usize>>,
    mode: ChangelogMode,
}

impl StepWords {
    pub(crate) fn of_table(table: &TableDefinition) -> Result<Self> {
        let key: Vec<usize> = table.primary_key.iter().filter_map(|name| table.schema.index_of(name).ok()).collect();
        let key = Some(key).filter(|key| !key.is_empty());
        Ok(Self { key, mode: mode_of(&table.reader())?.unwrap_or(ChangelogMode::Retract) })
    }

    /// The columns by which rows are replaced, in upsert mode.
    pub(crate) fn replaces_by(&self) -> Option<&[usize]> {
        self.key.as_deref().filter(|_| self.mode == ChangelogMode::Upsert)
    }

    /// These words for rows that `key` identifies; `None`: the table's own key says more.
    pub(crate) fn keyed_by(&self, key: &[usize]) -> Option<Self> {
        self.key.is_none().then(|| Self { key: Some(key.to_vec()), mode: self.mode })
    }

    pub(crate) fn changes(&self, deltas: &[Delta]) -> eagre_engine::Result<Changes> {
        Changes::of_step(deltas, self.key.as_deref(), self.mode == ChangelogMode::Upsert)
    }
}
