//! Sort keys as values that compare as the query orders its rows.
//!
//! Columns of fixed width become a string of bits, most significant first: a bit for null where the column may be null, then the value
//! with its sign turned, inverted where the order descends. A few words hold it, so comparing two rows is comparing two integers, and
//! a key needs no memory of its own. All other columns take arrow's row format. The last word is the *tie*: what decides between rows
//! that the query's columns do not tell apart (an arrival number, or a hash of the row).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use arrow_row::{RowConverter, SortField};
use half::f16;

use super::SortColumn;
use crate::error::{EngineError, Result};
use crate::hash::{Words, native_values};
use crate::keys::canonical_values;

/// The most words of a key, the tie included, that are kept in place.
pub(super) const WORDS_MAX: usize = 5;

/// A row's place in the order of its partition.
pub(super) trait SortKey: Ord + Clone + Send + Sync + 'static {
    /// What decides between rows with the same sort columns.
    fn tie(&self) -> u64;
    /// The key of the same sort columns with another tie.
    fn with_tie(&self, tie: u64) -> Self;
    /// Whether the sort columns are the same.
    fn ties_with(&self, other: &Self) -> bool;
    /// Bytes outside of the value itself.
    fn heap_bytes(&self) -> usize;
    /// The keys of rows with these sort columns and ties, into `out` (which is overwritten).
    fn encode(encoder: &Encoder, columns: &[ArrayRef], ties: &[u64], out: &mut Vec<Self>) -> Result<()>;
}

/// Turns sort columns into keys.
pub(super) struct Encoder {
    columns: Vec<Column>,
    /// Words that the sort columns take; `None`: they take arrow's row format.
    words: Option<usize>,
    converter: RowConverter,
}

struct Column {
    descending: bool,
    nulls_first: bool,
    nullable: bool,
}

impl Encoder {
    /// For the columns `order` of `schema`.
    ///
    /// # Errors
    /// A type that has no order.
    pub(super) fn new(schema: &SchemaRef, order: &[SortColumn]) -> Result<Self> {
        let mut fields = Vec::new();
        let mut bits = Some(0);
        let mut columns = Vec::new();
        for sort in order {
            let field = schema.field(sort.column);
            let options = SortOptions { descending: sort.descending, nulls_first: sort.nulls_first };
            fields.push(SortField::new_with_options(field.data_type().clone(), options));
            let width = width_of(field.data_type()).map(|width| width + u32::from(field.is_nullable()));
            bits = bits.zip(width).map(|(bits, width)| bits + width);
            columns.push(Column {
                descending: sort.descending,
                nulls_first: sort.nulls_first,
                nullable: field.is_nullable(),
            });
        }
        if !RowConverter::supports_fields(&fields) {
            let names: Vec<&str> = order.iter().map(|sort| schema.field(sort.column).name().as_str()).collect();
            return Err(EngineError::Plan {
                message: format!("rows cannot be ordered by ({}): the type has no order", names.join(", ")),
            });
        }
        let words = bits.map(|bits| bits.div_ceil(64) as usize).filter(|words| *words < WORDS_MAX);
        Ok(Self { columns, words, converter: RowConverter::new(fields)? })
    }

    /// The words of a key with its tie, where it is kept in place.
    pub(super) fn words(&self) -> Option<usize> {
        self.words.map(|words| words + 1)
    }
}

/// How many bits an ordered value takes, without its null.
fn width_of(data_type: &DataType) -> Option<u32> {
    use DataType as D;
    Some(match data_type {
        D::Boolean => 1,
        D::Int8 | D::UInt8 => 8,
        D::Int16 | D::UInt16 | D::Float16 => 16,
        D::Int32 | D::UInt32 | D::Float32 | D::Date32 | D::Time32(_) | D::Decimal32(..) => 32,
        D::Int64 | D::UInt64 | D::Float64 | D::Date64 | D::Time64(_) => 64,
        D::Timestamp(..) | D::Duration(_) | D::Decimal64(..) => 64,
        D::Decimal128(..) => 128,
        _ => return None,
    })
}

/// A value whose bits can be put in order.
trait Bits: arrow::datatypes::ArrowNativeType {
    const WIDTH: u32;
    /// The low `WIDTH` bits compare as the values do.
    fn ordered(self) -> u128;
}

macro_rules! signed_bits {
    ($($native:ty: $unsigned:ty),*) => {$(
        impl Bits for $native {
            const WIDTH: u32 = <$native>::BITS;
            #[inline(always)]
            fn ordered(self) -> u128 {
                u128::from(self as $unsigned ^ (1 << (<$native>::BITS - 1)))
            }
        }
    )*};
}
signed_bits!(i8: u8, i16: u16, i32: u32, i64: u64, i128: u128);

macro_rules! unsigned_bits {
    ($($native:ty),*) => {$(
        impl Bits for $native {
            const WIDTH: u32 = <$native>::BITS;
            #[inline(always)]
            fn ordered(self) -> u128 {
                u128::from(self)
            }
        }
    )*};
}
unsigned_bits!(u8, u16, u32, u64);

macro_rules! float_bits {
    ($($native:ty: $unsigned:ty),*) => {$(
        impl Bits for $native {
            const WIDTH: u32 = <$unsigned>::BITS;
            /// Zeros are equal, NaN is equal to itself and above all others.
            #[inline(always)]
            fn ordered(self) -> u128 {
                let bits = self.to_words()[0] as $unsigned;
                let sign = 1 << (<$unsigned>::BITS - 1);
                u128::from(if bits & sign == 0 { bits | sign } else { !bits })
            }
        }
    )*};
}
float_bits!(f16: u16, f32: u32, f64: u64);

/// Puts the low `width` bits of `value` at bit `offset`, counted from the most significant of the first word.
#[inline(always)]
fn put(words: &mut [u64], offset: u32, width: u32, value: u64) {
    let (word, bit) = ((offset / 64) as usize, offset % 64);
    let room = 64 - bit;
    if width <= room {
        words[word] |= value << (room - width);
    } else {
        words[word] |= value >> (width - room);
        words[word + 1] |= value << (64 - (width - room));
    }
}

/// The value of each row.
fn put_values<const N: usize, B: Bits>(keys: &mut [[u64; N]], column: &ArrayRef, options: &Column, offset: u32) -> u32 {
    let values = native_values::<B>(column);
    put_bits(keys, column, options, offset, B::WIDTH, |row| values[row].ordered())
}

fn put_bits<const N: usize>(
    keys: &mut [[u64; N]],
    column: &ArrayRef,
    options: &Column,
    mut offset: u32,
    width: u32,
    value: impl Fn(usize) -> u128,
) -> u32 {
    let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
    if options.nullable {
        // Present rows have the bit where nulls come first, nulls where they come last.
        for (row, key) in keys.iter_mut().enumerate() {
            let null = nulls.is_some_and(|nulls| nulls.is_null(row));
            put(key, offset, 1, u64::from(null != options.nulls_first));
        }
        offset += 1;
    }
    let mask = if width >= 128 { u128::MAX } else { (1 << width) - 1 };
    let invert = if options.descending { mask } else { 0 };
    for (row, key) in keys.iter_mut().enumerate() {
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            continue;
        }
        let bits = value(row) ^ invert;
        if width <= 64 {
            put(key, offset, width, bits as u64);
        } else {
            put(key, offset, 64, (bits >> 64) as u64);
            put(key, offset + 64, 64, bits as u64);
        }
    }
    offset + width
}

fn put_column<const N: usize>(keys: &mut [[u64; N]], column: &ArrayRef, options: &Column, offset: u32) -> Result<u32> {
    use DataType as D;
    macro_rules! values {
        ($native:ty) => {
            put_values::<N, $native>(keys, column, options, offset)
        };
    }
    Ok(match column.data_type() {
        D::Boolean => {
            let values = column.as_boolean();
            put_bits(keys, column, options, offset, 1, |row| u128::from(values.value(row)))
        }
        D::Int8 => values!(i8),
        D::Int16 => values!(i16),
        D::Int32 | D::Date32 | D::Time32(_) | D::Decimal32(..) => values!(i32),
        D::Int64 | D::Date64 | D::Time64(_) | D::Timestamp(..) | D::Duration(_) | D::Decimal64(..) => values!(i64),
        D::UInt8 => values!(u8),
        D::UInt16 => values!(u16),
        D::UInt32 => values!(u32),
        D::UInt64 => values!(u64),
        D::Float16 => values!(f16),
        D::Float32 => values!(f32),
        D::Float64 => values!(f64),
        D::Decimal128(..) => values!(i128),
        other => return Err(EngineError::bug(format!("a sort key of fixed width has type {other}"))),
    })
}

impl<const N: usize> SortKey for [u64; N] {
    #[inline(always)]
    fn tie(&self) -> u64 {
        self[N - 1]
    }

    #[inline(always)]
    fn with_tie(&self, tie: u64) -> Self {
        let mut key = *self;
        key[N - 1] = tie;
        key
    }

    #[inline(always)]
    fn ties_with(&self, other: &Self) -> bool {
        self[..N - 1] == other[..N - 1]
    }

    fn heap_bytes(&self) -> usize {
        0
    }

    fn encode(encoder: &Encoder, columns: &[ArrayRef], ties: &[u64], out: &mut Vec<Self>) -> Result<()> {
        out.clear();
        out.extend(ties.iter().map(|tie| {
            let mut key = [0; N];
            key[N - 1] = *tie;
            key
        }));
        let mut offset = 0;
        for (column, options) in columns.iter().zip(&encoder.columns) {
            offset = put_column(out, column, options, offset)?;
        }
        debug_assert!(offset as usize <= (N - 1) * 64);
        Ok(())
    }
}

/// A key in arrow's row format, then the tie, most significant byte first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ByteKey(Arc<[u8]>);

impl ByteKey {
    fn sort_bytes(&self) -> &[u8] {
        &self.0[..self.0.len() - 8]
    }
}

impl SortKey for ByteKey {
    fn tie(&self) -> u64 {
        let tie = self.0[self.0.len() - 8..].try_into();
        u64::from_be_bytes(tie.expect("the last eight bytes are the tie"))
    }

    fn with_tie(&self, tie: u64) -> Self {
        let bytes: Vec<u8> = self.sort_bytes().iter().copied().chain(tie.to_be_bytes()).collect();
        Self(bytes.into())
    }

    fn ties_with(&self, other: &Self) -> bool {
        self.sort_bytes() == other.sort_bytes()
    }

    fn heap_bytes(&self) -> usize {
        self.0.len() + 16
    }

    fn encode(encoder: &Encoder, columns: &[ArrayRef], ties: &[u64], out: &mut Vec<Self>) -> Result<()> {
        out.clear();
        let columns: Vec<ArrayRef> = columns.iter().map(canonical_values).collect();
        let rows = encoder.converter.convert_columns(&columns)?;
        let mut bytes = Vec::new();
        for (row, tie) in rows.iter().zip(ties) {
            bytes.clear();
            bytes.extend_from_slice(row.data());
            bytes.extend_from_slice(&tie.to_be_bytes());
            out.push(Self(bytes.as_slice().into()));
        }
        Ok(())
    }
}
