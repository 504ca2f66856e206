//! Rows to learn from, of which only so many are held.
//!
//! Of more rows than that, those with the smallest hashes of their content and the seed are kept: an even sample, and the same one in whatever order the rows come (the
//! bottom-k sketch of Cohen and Kaplan, PODC 2007). Rows that are equal are kept together or not at all.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::SchemaRef;
use eagre_engine::EngineError;
use eagre_engine::hash::hash_columns;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::settings::{number, seed};
use crate::error::Result;
use crate::options::Definition;

const ROWS_MAX: f64 = 1_000_000.0;

/// See the [module](self).
pub struct Sample {
    schema: SchemaRef,
    rows_max: usize,
    seed: u64,
    batches: Vec<RecordBatch>,
    /// Of the rows of all batches, in order.
    hashes: Vec<u64>,
    /// Rows with greater ones are not among the smallest.
    greatest: u64,
    seen: usize,
}

impl Sample {
    /// For rows of these columns, as many as the definition's `'max-rows'`.
    ///
    /// # Errors
    /// An option that cannot be.
    pub fn new(definition: &Definition, schema: &SchemaRef) -> Result<Self> {
        Ok(Self {
            schema: schema.clone(),
            rows_max: number(definition, "max-rows", ROWS_MAX, 10.0..=1e9)? as usize,
            seed: seed(definition)?,
            batches: Vec::new(),
            hashes: Vec::new(),
            greatest: u64::MAX,
            seen: 0,
        })
    }

    /// Takes rows in; at no time are more held than twice as many as the most, and these.
    ///
    /// # Errors
    /// Columns that cannot be compared.
    pub fn push(&mut self, batch: &RecordBatch) -> eagre_engine::Result<()> {
        let mut hashes = Vec::new();
        hash_columns(batch.columns(), batch.num_rows(), &mut hashes)?;
        hashes.iter_mut().for_each(|hash| *hash = xxh3_64_with_seed(&hash.to_le_bytes(), self.seed));
        self.seen += hashes.len();
        let (batch, hashes) = keep(batch, &hashes, |hash| hash <= self.greatest)?;
        self.batches.push(batch);
        self.hashes.extend(hashes);
        if self.hashes.len() > 2 * self.rows_max { self.shrink() } else { Ok(()) }
    }

    /// Keeps as many as may be held.
    fn shrink(&mut self) -> eagre_engine::Result<()> {
        if self.hashes.len() <= self.rows_max {
            return Ok(());
        }
        let hashes = std::mem::take(&mut self.hashes);
        let whole = concat_batches(&self.schema, &std::mem::take(&mut self.batches))?;
        let mut ordered = hashes.clone();
        let (below, greatest, _) = ordered.select_nth_unstable(self.rows_max - 1);
        self.greatest = *greatest;
        // Of equal rows, which is which does not matter.
        let mut equal = self.rows_max - below.iter().filter(|hash| **hash < *greatest).count();
        let greatest = self.greatest;
        let (batch, kept) = keep(&whole, &hashes, |hash| {
            let fits = hash < greatest || hash == greatest && equal > 0;
            equal -= usize::from(fits && hash == greatest);
            fits
        })?;
        (self.batches, self.hashes) = (vec![batch], kept);
        Ok(())
    }

    /// The rows, and how many there were.
    ///
    /// # Errors
    /// Batches of other columns.
    pub fn finish(mut self) -> eagre_engine::Result<(RecordBatch, usize)> {
        self.shrink()?;
        let rows = concat_batches(&self.schema, &self.batches).map_err(EngineError::from)?;
        Ok((rows, self.seen))
    }
}

/// The rows whose hash is wanted, and these.
fn keep(
    batch: &RecordBatch,
    hashes: &[u64],
    mut wanted: impl FnMut(u64) -> bool,
) -> eagre_engine::Result<(RecordBatch, Vec<u64>)> {
    let mask: Vec<bool> = hashes.iter().map(|hash| wanted(*hash)).collect();
    let kept = hashes.iter().zip(&mask).filter(|(_, kept)| **kept).map(|(hash, _)| *hash).collect();
    Ok((filter_record_batch(batch, &BooleanArray::from(mask))?, kept))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use proptest::prelude::*;

    use super::*;

    fn sample(batches: &[Vec<i64>], rows_max: usize) -> (Vec<i64>, usize) {
        let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Int64, false)]));
        let options = vec![("max-rows".to_owned(), rows_max.to_string()), ("seed".to_owned(), "3".to_owned())];
        let definition = Definition { name: "m".into(), options, ..Definition::default() };
        let mut sample = Sample::new(&definition, &schema).expect("it can be");
        for values in batches {
            let column = Arc::new(Int64Array::from(values.clone()));
            sample
                .push(&RecordBatch::try_new(Arc::clone(&schema), vec![column]).expect("one column"))
                .expect("it fits");
            assert!(sample.hashes.len() <= 2 * rows_max.max(values.len()));
        }
        let (rows, seen) = sample.finish().expect("it fits");
        let mut values = rows.column(0).as_primitive::<Int64Type>().values().to_vec();
        values.sort_unstable();
        (values, seen)
    }

    proptest! {
        /// The same rows are kept in whatever order and batches they come; where there is room, all.
        #[test]
        fn the_sample_does_not_depend_on_order(
            batches in prop::collection::vec(prop::collection::vec(0i64..200, 0..40), 0..12),
            rows_max in 10usize..100,
        ) {
            let mut all: Vec<i64> = batches.concat();
            let (kept, seen) = sample(&batches, rows_max);
            prop_assert_eq!((kept.len(), seen), (all.len().min(rows_max), all.len()));
            all.reverse();
            prop_assert_eq!(&sample(&[all.clone()], rows_max).0, &kept);
            all.sort_unstable();
            if all.len() <= rows_max {
                prop_assert_eq!(kept, all);
            }
        }
    }

    /// No part of the rows is preferred.
    #[test]
    fn the_sample_is_even() {
        let batches: Vec<Vec<i64>> = (0..100).map(|batch| (batch * 1_000..(batch + 1) * 1_000).collect()).collect();
        let (kept, _) = sample(&batches, 10_000);
        let first_half = kept.iter().filter(|value| **value < 50_000).count();
        assert!((4_800..5_200).contains(&first_half), "{first_half}");
    }
}
