//! Rows in blocks of one size.
//!
//! Matrix kernels choose their way by the shape of what they get, and another way rounds otherwise. So a model always gets
//! [`BLOCK_ROWS`] rows, the last ones filled up with zeros: what it says of a row then depends on the row alone, and neither steps nor
//! shards show.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::Float64Type;
use eagre_engine::model::Refusal;

/// How many rows a network gets at once.
pub(crate) const BLOCK_ROWS: usize = 64;

/// Numbers by row, with those that no network computes with told apart.
pub(crate) struct Rows {
    /// `width` for each row; a refused row has zeros.
    pub(crate) numbers: Vec<f32>,
    pub(crate) width: usize,
    pub(crate) refused: Vec<Refusal>,
}

impl Rows {
    /// Refuses rows whose numbers in some columns are not whole, or of more digits than 32 bits hold: a graph that takes whole numbers would get
    /// others in their place.
    pub(crate) fn refuse_fractions(&mut self, columns: &[ArrayRef], names: &[&str], of: Range<usize>) {
        let width = self.width;
        for place in of {
            for (row, value) in columns[place].as_primitive::<Float64Type>().values().iter().enumerate() {
                let held = f64::from(*value as f32);
                if value.is_finite() && (value.fract() != 0.0 || held != *value) {
                    let what =
                        if value.fract() != 0.0 { "no whole number" } else { "of more digits than 32 bits hold" };
                    let reason =
                        format!("its input `{}` is {value}, {what}, and the graph takes whole numbers", names[place]);
                    self.refused.push(Refusal { row: row as u32, reason });
                    self.numbers[row * width..(row + 1) * width].fill(0.0);
                }
            }
        }
        self.refused.sort_by_key(|refusal| refusal.row);
        self.refused.dedup_by_key(|refusal| refusal.row);
    }
}

/// Columns of `DOUBLE` without nulls, as rows.
pub(crate) fn rows_of(columns: &[ArrayRef], names: &[&str], rows: usize) -> Rows {
    let width = columns.len();
    let mut numbers = vec![0.0f32; rows * width];
    let mut refused: Vec<Refusal> = Vec::new();
    for (place, column) in columns.iter().enumerate() {
        let values = column.as_primitive::<Float64Type>();
        for (row, value) in values.values().iter().enumerate() {
            match number(*value) {
                Ok(value) => numbers[row * width + place] = value,
                Err(why) => {
                    refused.push(Refusal { row: row as u32, reason: format!("its input `{}` is {why}", names[place]) })
                }
            }
        }
    }
    // Told once, by the first input at fault.
    refused.sort_by_key(|refusal| refusal.row);
    refused.dedup_by_key(|refusal| refusal.row);
    for refusal in &refused {
        let start = refusal.row as usize * width;
        numbers[start..start + width].fill(0.0);
    }
    Rows { numbers, width, refused }
}

/// The numbers of each array.
pub(crate) fn sequences_of(column: &ArrayRef, name: &str) -> (Vec<Vec<f32>>, Vec<Refusal>) {
    let (mut sequences, mut refused) = (Vec::with_capacity(column.len()), Vec::new());
    for (row, array) in column.as_list::<i32>().iter().enumerate() {
        let mut why = None;
        let array = array.unwrap_or_else(|| arrow::array::new_empty_array(&arrow::datatypes::DataType::Float64));
        let values = array.as_primitive::<Float64Type>();
        let sequence = values.iter().map(|value| match value.map(number) {
            Some(Ok(value)) => value,
            Some(Err(wrong)) => {
                why = Some(wrong);
                0.0
            }
            None => {
                why = Some("null in a place");
                0.0
            }
        });
        let sequence: Vec<f32> = sequence.collect();
        if sequence.is_empty() {
            why = Some("empty");
        }
        if let Some(why) = why {
            refused.push(Refusal { row: row as u32, reason: format!("its input `{name}` is {why}") });
        }
        sequences.push(sequence);
    }
    (sequences, refused)
}

fn number(value: f64) -> Result<f32, &'static str> {
    match value as f32 {
        number if number.is_finite() => Ok(number),
        _ if value.is_nan() => Err("not a number"),
        _ if value.is_infinite() => Err("infinite"),
        _ => Err("beyond what 32 bits hold"),
    }
}

/// Has each block of rows answered by `forward`, which gets [`BLOCK_ROWS`] rows of `width` numbers and gives as many rows. The answers of all
/// rows, and how many numbers each has; a block that cannot be answered is refused with its reason.
pub(crate) fn by_blocks(
    numbers: &[f32],
    width: usize,
    block_rows: usize,
    answer_width: usize,
    mut forward: impl FnMut(&[f32]) -> Result<Vec<f32>, String>,
) -> (Vec<f64>, Vec<Refusal>) {
    let rows = numbers.len().checked_div(width).unwrap_or(0);
    let (mut answers, mut refused) = (Vec::with_capacity(rows * answer_width), Vec::new());
    let mut block = vec![0.0f32; block_rows * width];
    for (index, part) in numbers.chunks(block_rows * width).enumerate() {
        block[..part.len()].copy_from_slice(part);
        block[part.len()..].fill(0.0);
        let (first, count) = (index * block_rows, part.len() / width);
        match forward(&block) {
            Ok(answer) if answer.len() == block_rows * answer_width => {
                answers.extend(answer[..count * answer_width].iter().map(|value| f64::from(*value)));
            }
            other => {
                let reason = match other {
                    Ok(answer) => format!("it gave {} numbers for {block_rows} rows", answer.len()),
                    Err(reason) => reason,
                };
                answers.resize(answers.len() + count * answer_width, 0.0);
                refused.extend((first..first + count).map(|row| Refusal { row: row as u32, reason: reason.clone() }));
            }
        }
    }
    (answers, refused)
}
