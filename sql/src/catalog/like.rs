//! `CREATE TABLE b .. LIKE a`: what is said of `a` and not anew of `b`, written out before `b` is created.
//!
//! The columns of `a` come first; one that takes the place of another stands where that stood. Nothing of `a` is asked later: `b` stays as it is when
//! `a` changes or goes.

use super::Catalog;
use super::objects::Relation;
use super::table::{ColumnDefinition, ColumnKind, TableDefinition};
use crate::error::{Location, Result, SqlError};
use crate::parser::{
    Column, ColumnKind as AstColumnKind, CreateTable, Like, LikeFeature, LikeMerge, Name, PrimaryKey, Watermark,
};

impl Catalog {
    /// The table with what it takes over.
    ///
    /// # Errors
    /// The other one is unknown or no table, or both have what only one may.
    pub(super) fn written_out(&self, create: &CreateTable, like: &Like) -> Result<CreateTable> {
        let location = like.table.location();
        let relation = self.lookup(&like.table)?;
        let Relation::Table(other) = &relation else {
            let message = format!(
                "`{}` is no table, and `LIKE` takes over what a `CREATE TABLE` said; write `CREATE TABLE .. AS SELECT`, or the columns out",
                relation.name()
            );
            return Err(SqlError::plan(message, location));
        };
        let merging = Merging { other: &other.definition, like, location };
        let mut merged = create.clone();
        merged.like = None;
        merged.columns = merging.columns(create)?;
        merging.options(&mut merged)?;
        let other = merging.other;
        if let Some(watermark) = &other.watermark
            && merging.takes(LikeFeature::Watermarks, create.watermark.is_some(), "a watermark")?
        {
            merged.watermark = Some(Watermark {
                column: name(&watermark.column, location),
                expr: watermark.expr.clone(),
                location: watermark.location.unwrap_or(location),
            });
        }
        if !other.primary_key.is_empty()
            && merging.takes(LikeFeature::Constraints, create.primary_key.is_some(), "a primary key")?
        {
            let columns = other.primary_key.iter().map(|column| name(column, location)).collect();
            merged.primary_key = Some(PrimaryKey { columns, location });
        }
        if !other.partitioned_by.is_empty()
            && merging.takes(LikeFeature::Partitions, !create.partitioned_by.is_empty(), "partition columns")?
        {
            merged.partitioned_by = other.partitioned_by.iter().map(|column| name(column, location)).collect();
        }
        Ok(merged)
    }
}

struct Merging<'a> {
    other: &'a TableDefinition,
    like: &'a Like,
    location: Location,
}

impl Merging<'_> {
    /// Whether a feature that the other table has is taken over.
    fn takes(&self, feature: LikeFeature, is_said: bool, what: &str) -> Result<bool> {
        match self.like.merge(feature) {
            LikeMerge::Excluding => Ok(false),
            LikeMerge::Overwriting => Ok(!is_said),
            LikeMerge::Including if is_said => {
                let feature = feature.word();
                Err(self.twice(what, &format!("`LIKE {} (EXCLUDING {feature})`", self.other.name)))
            }
            LikeMerge::Including => Ok(true),
        }
    }

    fn twice(&self, what: &str, way_out: &str) -> SqlError {
        let message =
            format!("the table has {what}, and so has `{}`, which it is LIKE; write {way_out}", self.other.name);
        SqlError::plan(message, self.location)
    }

    fn columns(&self, create: &CreateTable) -> Result<Vec<Column>> {
        let mut own = create.columns.clone();
        let mut columns = vec![];
        for column in &self.other.columns {
            let place = own.iter().position(|own| own.name.text.eq_ignore_ascii_case(&column.name));
            let what = || format!("a column `{}`", column.name);
            let takes = match column.kind {
                ColumnKind::Physical if place.is_some() => {
                    return Err(self.twice(&what(), "another name: columns of data are always taken over"));
                }
                ColumnKind::Physical => true,
                ColumnKind::Metadata { .. } => self.takes(LikeFeature::Metadata, place.is_some(), &what())?,
                ColumnKind::Computed(_) => self.takes(LikeFeature::Generated, place.is_some(), &what())?,
            };
            match place {
                Some(place) => columns.push(own.remove(place)),
                None if takes => columns.push(self.taken(column)),
                None => {}
            }
        }
        columns.extend(own);
        // What is part of the key cannot be null, whether or not the other table says so.
        for column in &mut columns {
            if let AstColumnKind::Physical { not_null, .. } | AstColumnKind::Metadata { not_null, .. } =
                &mut column.kind
            {
                let is_key = |key: &PrimaryKey| key.columns.iter().any(|name| name.matches(&column.name.text));
                *not_null |= create.primary_key.as_ref().is_some_and(is_key);
            }
        }
        Ok(columns)
    }

    fn taken(&self, column: &ColumnDefinition) -> Column {
        let (data_type, not_null) = (column.data_type.clone(), !column.nullable);
        let kind = match &column.kind {
            ColumnKind::Physical => AstColumnKind::Physical { data_type, not_null },
            ColumnKind::Metadata { key, is_virtual } => {
                AstColumnKind::Metadata { data_type, not_null, key: Some(key.clone()), is_virtual: *is_virtual }
            }
            ColumnKind::Computed(expr) => AstColumnKind::Computed { expr: expr.as_ref().clone() },
        };
        let (is_json, comment) = (column.is_json, column.comment.clone());
        let default = column.default.as_deref().cloned();
        Column { name: name(&column.name, self.location), kind, is_json, default, comment }
    }

    fn options(&self, merged: &mut CreateTable) -> Result<()> {
        let merge = self.like.merge(LikeFeature::Options);
        if merge == LikeMerge::Excluding {
            return Ok(());
        }
        let mut options = self.other.options.clone();
        for own in std::mem::take(&mut merged.options) {
            match options.iter_mut().find(|option| option.key == own.key) {
                Some(_) if merge == LikeMerge::Including => {
                    let what = format!("an option `{}`", own.key);
                    return Err(self.twice(&what, &format!("`LIKE {} (OVERWRITING OPTIONS)`", self.other.name)));
                }
                Some(option) => *option = own,
                None => options.push(own),
            }
        }
        merged.options = options;
        Ok(())
    }
}

fn name(text: &str, location: Location) -> Name {
    Name { text: text.to_string(), quoted: true, location }
}
