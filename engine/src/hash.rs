//! Which shard owns a key: a fixed hash of key columns, hash groups, and their division among shards.
//!
//! State is kept per *hash group* so that a checkpoint restores at any number of shards: a shard owns a contiguous range of the
//! groups. The function is versioned in the manifest; it has no random seed, so the same key meets the same group in every run.
//!
//! Equal values hash equal whatever their layout: a string is hashed by its bytes in any of the string types and inside a dictionary,
//! an integer by its value in any width. Floats are hashed in canonical form, -0.0 as 0.0 and every NaN as one NaN, because keys
//! compare so. Fixed-width values take one multiplication of 64 x 64 to 128 bits whose halves are folded together (as in wyhash and
//! foldhash): every input bit reaches both the high bits, which name the group, and the low ones. Bytes take XXH3. A seeded or
//! "random state" hash was refused: a checkpoint would not find its shard again.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, downcast_primitive};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowNativeType, DataType, IntervalDayTime, IntervalMonthDayNano, i256};
use arrow_row::{RowConverter, SortField};
use half::f16;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::Result;
use crate::keys::canonical_values;

/// Changes whenever [`hash_columns`] gives another value for some key.
pub const HASH_VERSION: u32 = 1;

/// How many hash groups there are, and so the most shards.
pub const HASH_GROUP_COUNT: u16 = 1_024;

/// The hash group of a hash.
#[inline]
pub fn group_of(hash: u64) -> u16 {
    // The high bits: hash tables use the low ones, and a shard's table must not lose them.
    (hash >> 54) as u16
}

/// The shard that owns a hash group when there are `shards`.
#[inline]
pub fn shard_of(group: u16, shards: usize) -> usize {
    group as usize * shards / HASH_GROUP_COUNT as usize
}

/// A contiguous range of hash groups, `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashGroups {
    /// The first group.
    pub start: u16,
    /// One past the last.
    pub end: u16,
}

impl HashGroups {
    /// All of them.
    pub const ALL: Self = Self { start: 0, end: HASH_GROUP_COUNT };

    /// What `shard` of `shards` owns.
    pub fn of_shard(shard: usize, shards: usize) -> Self {
        let start = (shard * HASH_GROUP_COUNT as usize).div_ceil(shards);
        let end = ((shard + 1) * HASH_GROUP_COUNT as usize).div_ceil(shards);
        Self { start: start as u16, end: end as u16 }
    }

    /// Whether the key with this hash belongs to the range.
    #[inline]
    pub fn owns(&self, hash: u64) -> bool {
        let group = group_of(hash);
        self.start <= group && group < self.end
    }
}

/// The rows of a batch by the shard that owns them; those of one shard keep their order.
pub(crate) struct ByOwner {
    rows: Vec<u32>,
    /// Where in `rows` those of each shard begin, and where the last ones end.
    bounds: Vec<usize>,
}

impl ByOwner {
    /// Of rows with these hashes, in one pass that counts and one that places.
    pub(crate) fn new(hashes: &[u64], shards: usize) -> Self {
        let owner = |hash: &u64| shard_of(group_of(*hash), shards);
        let mut bounds = vec![0; shards + 1];
        hashes.iter().for_each(|hash| bounds[owner(hash) + 1] += 1);
        for shard in 0..shards {
            bounds[shard + 1] += bounds[shard];
        }
        let mut next = bounds.clone();
        let mut rows = vec![0; hashes.len()];
        for (row, hash) in hashes.iter().enumerate() {
            let next = &mut next[owner(hash)];
            rows[*next] = row as u32;
            *next += 1;
        }
        Self { rows, bounds }
    }

    /// The rows of a shard, ascending.
    pub(crate) fn rows_of(&self, shard: usize) -> &[u32] {
        &self.rows[self.bounds[shard]..self.bounds[shard + 1]]
    }
}

/// What a null hashes to, before it is combined with other columns.
const NULL_HASH: u64 = 0x9e6c_63d0_876a_3f6b;
const MIX_XOR: u64 = 0x2d35_8dcc_aa6c_78a5;
const MIX_MULTIPLY: u64 = 0x8bb8_4b93_962e_acc9;

/// Spreads every bit of `word` over the whole result.
#[inline(always)]
pub(crate) fn mix(word: u64) -> u64 {
    let product = u128::from(word ^ MIX_XOR) * u128::from(MIX_MULTIPLY);
    (product as u64) ^ ((product >> 64) as u64)
}

/// The hash of a row of words.
#[inline(always)]
pub(crate) fn mix_words(words: &[u64]) -> u64 {
    let mut hash = 0_u64;
    for word in words {
        hash = mix(hash.rotate_left(32) ^ *word);
    }
    hash
}

/// A fixed-width value as 64-bit words, in the form by which keys compare: integers widened by value, floats canonical.
pub(crate) trait Words: ArrowNativeType {
    /// How many words there are, at most four.
    const COUNT: usize;
    /// The words; those past [`COUNT`](Self::COUNT) are zero.
    fn to_words(self) -> [u64; 4];
    /// The value of [`COUNT`](Self::COUNT) words.
    fn from_words(words: &[u64]) -> Self;
}

macro_rules! integer_words {
    ($($native:ty: $wide:ty),*) => {$(
        impl Words for $native {
            const COUNT: usize = 1;
            #[inline(always)]
            fn to_words(self) -> [u64; 4] {
                [<$wide>::from(self) as u64, 0, 0, 0]
            }
            #[inline(always)]
            fn from_words(words: &[u64]) -> Self {
                words[0] as Self
            }
        }
    )*};
}
integer_words!(i8: i64, i16: i64, i32: i64, i64: i64, u8: u64, u16: u64, u32: u64, u64: u64);

macro_rules! float_words {
    ($($native:ty: $bits:ty),*) => {$(
        impl Words for $native {
            const COUNT: usize = 1;
            #[inline(always)]
            fn to_words(self) -> [u64; 4] {
                let bits = self.to_bits();
                // All bits but the sign are zero: a zero of either sign.
                let canonical = if bits << 1 == 0 {
                    0
                } else if self.is_nan() {
                    <$native>::NAN.to_bits()
                } else {
                    bits
                };
                [u64::from(canonical), 0, 0, 0]
            }
            #[inline(always)]
            fn from_words(words: &[u64]) -> Self {
                <$native>::from_bits(words[0] as $bits)
            }
        }
    )*};
}
float_words!(f16: u16, f32: u32, f64: u64);

impl Words for i128 {
    const COUNT: usize = 2;
    #[inline(always)]
    fn to_words(self) -> [u64; 4] {
        [self as u64, (self >> 64) as u64, 0, 0]
    }
    #[inline(always)]
    fn from_words(words: &[u64]) -> Self {
        (i128::from(words[1] as i64) << 64) | i128::from(words[0])
    }
}

impl Words for i256 {
    const COUNT: usize = 4;
    #[inline(always)]
    fn to_words(self) -> [u64; 4] {
        let (low, high) = self.to_parts();
        [low as u64, (low >> 64) as u64, high as u64, (high >> 64) as u64]
    }
    #[inline(always)]
    fn from_words(words: &[u64]) -> Self {
        i256::from_parts(i128::from_words(&words[..2]) as u128, i128::from_words(&words[2..4]))
    }
}

impl Words for IntervalDayTime {
    const COUNT: usize = 1;
    #[inline(always)]
    fn to_words(self) -> [u64; 4] {
        [(u64::from(self.days as u32) << 32) | u64::from(self.milliseconds as u32), 0, 0, 0]
    }
    #[inline(always)]
    fn from_words(words: &[u64]) -> Self {
        Self { days: (words[0] >> 32) as i32, milliseconds: words[0] as i32 }
    }
}

impl Words for IntervalMonthDayNano {
    const COUNT: usize = 2;
    #[inline(always)]
    fn to_words(self) -> [u64; 4] {
        [(u64::from(self.months as u32) << 32) | u64::from(self.days as u32), self.nanoseconds as u64, 0, 0]
    }
    #[inline(always)]
    fn from_words(words: &[u64]) -> Self {
        Self { months: (words[0] >> 32) as i32, days: words[0] as i32, nanoseconds: words[1] as i64 }
    }
}

/// Calls `$macro!(N)` with the native type of a primitive data type, or gives `$other`. Types that share their native share the code:
/// a timestamp is an `i64` here.
macro_rules! by_native {
    ($data_type:expr => $macro:ident, $($pattern:pat => $other:expr),+ $(,)?) => {{
        use arrow::datatypes::DataType as D;
        use arrow::datatypes::IntervalUnit as I;
        match $data_type {
            D::Int8 => $macro!(i8),
            D::Int16 => $macro!(i16),
            D::Int32 | D::Date32 | D::Time32(_) | D::Decimal32(..) | D::Interval(I::YearMonth) => $macro!(i32),
            D::Int64 | D::Date64 | D::Time64(_) | D::Timestamp(..) | D::Duration(_) | D::Decimal64(..) => $macro!(i64),
            D::UInt8 => $macro!(u8),
            D::UInt16 => $macro!(u16),
            D::UInt32 => $macro!(u32),
            D::UInt64 => $macro!(u64),
            D::Float16 => $macro!(half::f16),
            D::Float32 => $macro!(f32),
            D::Float64 => $macro!(f64),
            D::Decimal128(..) => $macro!(i128),
            D::Decimal256(..) => $macro!(arrow::datatypes::i256),
            D::Interval(I::DayTime) => $macro!(arrow::datatypes::IntervalDayTime),
            D::Interval(I::MonthDayNano) => $macro!(arrow::datatypes::IntervalMonthDayNano),
            $($pattern => $other),+
        }
    }};
}
pub(crate) use by_native;

/// The values of a primitive column whose native type is `N`, whatever lies under nulls included.
pub(crate) fn native_values<N: ArrowNativeType>(column: &ArrayRef) -> ScalarBuffer<N> {
    ScalarBuffer::from(values_buffer(column))
}

/// The same, whatever they are.
pub(crate) fn values_buffer(column: &ArrayRef) -> Buffer {
    macro_rules! buffer {
        ($type:ty) => {
            column.as_primitive::<$type>().values().inner().clone()
        };
    }
    let data_type = column.data_type();
    downcast_primitive! {
        data_type => (buffer),
        other => unreachable!("{other} is not primitive"),
    }
}

/// A primitive column of a type whose native type is `N`.
pub(crate) fn native_column<N: ArrowNativeType>(
    data_type: &DataType,
    values: Vec<N>,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    buffer_column(data_type, Buffer::from_vec(values), nulls)
}

/// A primitive column of the values in a buffer.
pub(crate) fn buffer_column(data_type: &DataType, values: Buffer, nulls: Option<NullBuffer>) -> ArrayRef {
    macro_rules! column {
        ($type:ty) => {
            Arc::new(PrimitiveArray::<$type>::new(values.into(), nulls).with_data_type(data_type.clone()))
        };
    }
    downcast_primitive! {
        data_type => (column),
        other => unreachable!("{other} is not primitive"),
    }
}

/// Whether [`hash_columns`] takes columns of this type.
pub fn is_hashable(data_type: &DataType) -> bool {
    RowConverter::supports_fields(&[SortField::new(data_type.clone())])
}

/// The hash of each row of `columns`, into `out` (which is overwritten). No columns: all 0.
///
/// # Errors
/// A nested type that arrow cannot encode as rows.
pub fn hash_columns(columns: &[ArrayRef], rows: usize, out: &mut Vec<u64>) -> Result<()> {
    out.clear();
    out.resize(rows, 0);
    for (index, column) in columns.iter().enumerate() {
        debug_assert_eq!(column.len(), rows);
        hash_column(column, index == 0, out)?;
    }
    Ok(())
}

/// Puts the hash of one value into the hash of its row.
#[inline(always)]
fn place(row: &mut u64, hash: u64, first: bool) {
    *row = if first { hash } else { mix(row.rotate_left(32) ^ hash) };
}

fn hash_column(column: &ArrayRef, first: bool, out: &mut [u64]) -> Result<()> {
    macro_rules! primitive {
        ($native:ty) => {
            hash_natives(&native_values::<$native>(column), column.nulls(), first, out)
        };
    }
    macro_rules! bytes {
        ($array:expr) => {{
            let array = $array;
            hash_by(array.nulls(), first, out, |row| {
                let bytes: &[u8] = array.value(row).as_ref();
                xxh3_64(bytes)
            })
        }};
    }
    by_native! {
        column.data_type() => primitive,
        DataType::Null => hash_by(Some(&NullBuffer::new_null(column.len())), first, out, |_| NULL_HASH),
        DataType::Boolean => {
            let array = column.as_boolean();
            hash_by(array.nulls(), first, out, |row| mix(u64::from(array.value(row))));
        },
        DataType::Utf8 => bytes!(column.as_string::<i32>()),
        DataType::LargeUtf8 => bytes!(column.as_string::<i64>()),
        DataType::Utf8View => bytes!(column.as_string_view()),
        DataType::Binary => bytes!(column.as_binary::<i32>()),
        DataType::LargeBinary => bytes!(column.as_binary::<i64>()),
        DataType::BinaryView => bytes!(column.as_binary_view()),
        DataType::FixedSizeBinary(_) => bytes!(column.as_fixed_size_binary()),
        DataType::Dictionary(_, _) => {
            let dictionary = column.as_any_dictionary();
            let mut hashes = Vec::new();
            hash_columns(std::slice::from_ref(dictionary.values()), dictionary.values().len(), &mut hashes)?;
            // All rows are null where there are no values.
            let keys = if hashes.is_empty() { vec![] } else { dictionary.normalized_keys() };
            hash_by(dictionary.keys().nulls(), first, out, |row| hashes[keys[row]]);
        },
        other => {
            let converter = RowConverter::new(vec![SortField::new(other.clone())])?;
            let encoded = converter.convert_columns(&[canonical_values(column)])?;
            hash_by(column.logical_nulls().as_ref(), first, out, |row| xxh3_64(encoded.row(row).data()));
        }
    }
    Ok(())
}

fn hash_natives<N: Words>(values: &[N], nulls: Option<&NullBuffer>, first: bool, out: &mut [u64]) {
    let hash = |value: &N| mix_words(&value.to_words()[..N::COUNT]);
    match nulls.filter(|nulls| nulls.null_count() > 0) {
        None if first => out.iter_mut().zip(values).for_each(|(row, value)| *row = hash(value)),
        None => out.iter_mut().zip(values).for_each(|(row, value)| place(row, hash(value), false)),
        Some(nulls) => {
            for ((row, value), valid) in out.iter_mut().zip(values).zip(nulls.iter()) {
                place(row, if valid { hash(value) } else { NULL_HASH }, first);
            }
        }
    }
}

fn hash_by(nulls: Option<&NullBuffer>, first: bool, out: &mut [u64], hash: impl Fn(usize) -> u64) {
    for (index, row) in out.iter_mut().enumerate() {
        let valid = nulls.is_none_or(|nulls| nulls.is_valid(index));
        place(row, if valid { hash(index) } else { NULL_HASH }, first);
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BinaryArray, BooleanArray, Decimal128Array, DictionaryArray, Float64Array, Int32Array, Int64Array,
        LargeStringArray, StringArray, StringViewArray, TimestampMillisecondArray,
    };
    use arrow::datatypes::Int8Type;

    use super::*;

    fn hashes(columns: &[ArrayRef]) -> Vec<u64> {
        let mut out = Vec::new();
        hash_columns(columns, columns[0].len(), &mut out).expect("hashable");
        out
    }

    /// A checkpoint written by another build finds its shard: these values are part of its format, see [`HASH_VERSION`].
    #[test]
    fn golden_values() {
        let int: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(1), Some(-1), Some(1_000_000), None]));
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some(""), Some("a"), Some("eagre"), None, Some("ä")]));
        let float: ArrayRef = Arc::new(Float64Array::from(vec![0.0, 1.5, -2.25, f64::INFINITY, f64::NAN]));
        let decimal: ArrayRef = Arc::new(
            Decimal128Array::from(vec![0, 1, -1, 10_i128.pow(30), 7]).with_precision_and_scale(38, 2).expect("fits"),
        );
        let flag: ArrayRef = Arc::new(BooleanArray::from(vec![Some(false), Some(true), None, None, None]));
        let all = [int, text, float, decimal, flag];
        let golden: Vec<Vec<u64>> = all.iter().map(|column| hashes(std::slice::from_ref(column))).collect();
        let together = hashes(&all);
        assert_eq!((golden, together), golden_expected());
    }

    fn golden_expected() -> (Vec<Vec<u64>>, Vec<u64>) {
        (
            vec![
                vec![
                    14592010190165110953,
                    6834713093399154144,
                    15065028879075506697,
                    7885271707228717115,
                    11415608902753599339,
                ],
                vec![
                    3244421341483603138,
                    16629034431890738719,
                    3517296354248719405,
                    11415608902753599339,
                    6066459093398238388,
                ],
                vec![
                    14592010190165110953,
                    4379329975919128879,
                    7694483337802483349,
                    4400437174457207762,
                    6608078137388816985,
                ],
                vec![
                    12244602446104662425,
                    867004960428559604,
                    1209889953666526286,
                    12771970726521077100,
                    8796525360018927881,
                ],
                vec![
                    14592010190165110953,
                    6834713093399154144,
                    11415608902753599339,
                    11415608902753599339,
                    11415608902753599339,
                ],
            ],
            vec![
                490894213305229978,
                14309682496835637035,
                7648735978415676055,
                13031178603364325158,
                11571113286067047612,
            ],
        )
    }

    /// A join or a restore across layouts of the same values would lose rows.
    #[test]
    fn the_layout_does_not_show() {
        let words = ["", "a", "eagre", "a longer string than twelve bytes"];
        let utf8: ArrayRef = Arc::new(StringArray::from(words.to_vec()));
        let expected = hashes(&[utf8]);
        let dictionary: DictionaryArray<Int8Type> = words.into_iter().collect();
        let others: Vec<ArrayRef> = vec![
            Arc::new(LargeStringArray::from(words.to_vec())),
            Arc::new(StringViewArray::from(words.to_vec())),
            Arc::new(BinaryArray::from_iter_values(words)),
            Arc::new(dictionary),
        ];
        for other in others {
            assert_eq!(hashes(&[Arc::clone(&other)]), expected, "{}", other.data_type());
        }
        let ints: ArrayRef = Arc::new(Int32Array::from(vec![7, -7]));
        let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![7, -7]));
        assert_eq!(hashes(&[ints]), hashes(&[times]));
    }

    /// Zeros of both signs are one key, and so are all NaNs.
    #[test]
    fn floats_hash_as_they_compare() {
        let other_nan = f64::from_bits(f64::NAN.to_bits() ^ 1 | (1 << 63));
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, other_nan]));
        let found = hashes(&[floats]);
        assert_eq!(found[0], found[1]);
        assert_eq!(found[2], found[3]);
        assert_ne!(found[0], found[2]);
    }

    /// Shards get about equal shares of sequential and of strided keys.
    #[test]
    fn groups_fill_evenly() {
        for stride in [1_i64, 1_000, 1 << 20, 1 << 40] {
            let keys: ArrayRef =
                Arc::new(Int64Array::from_iter_values((0..64 * 1_024).map(|k: i64| k.wrapping_mul(stride))));
            let mut counts = vec![0; usize::from(HASH_GROUP_COUNT)];
            hashes(&[keys]).iter().for_each(|hash| counts[usize::from(group_of(*hash))] += 1);
            let (least, most) = (counts.iter().min().expect("groups"), counts.iter().max().expect("groups"));
            assert!(*least > 16 && *most < 160, "stride {stride}: {least} to {most} of 64 on average");
        }
    }
}
