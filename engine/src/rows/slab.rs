//! Rows that come and go one by one: each is a few words side by side, in a place of its own.
//!
//! Where some rows of many keys are kept, as those of matches under way are, rows that came together do not go together. Columns that stay as
//! they came ([`pages`](super::pages)) would be copied again and again to get rid of rows that are gone, and what is read of a row would lie a
//! column apart. Here a row is written once, its columns share a line or two of a cache, and the place of one that went is written over by
//! the next that comes: places are given out in order, chunk by chunk, so rows that come together are written side by side where there is room.
//!
//! Values of fixed width and short strings are words; longer strings have memory of their own, a piece each.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowNativeType, DataType, Schema, i256};

use super::{for_each_bit, words_of};
use crate::hash::{buffer_column, values_buffer};
use crate::keys::bytes_column;

/// Places of a chunk, a power of two.
const CHUNK_BITS: u32 = if cfg!(test) { 7 } else { 13 };
const CHUNK_ROWS: usize = 1 << CHUNK_BITS;
/// A chunk with fewer rows has places to give out; the others would be looked through for little.
const CROWDED: usize = CHUNK_ROWS * 3 / 4;
/// Longer strings than this are not in their view.
const INLINE_MAX: u32 = 12;
/// Bits of the first word of a row.
const COLUMNS_MAX: usize = 64;

/// Rows with stable ids.
pub(crate) struct Slab {
    columns: Vec<Column>,
    /// Words of a row.
    stride: usize,
    /// Columns of strings.
    strings: usize,
    chunks: Vec<Chunk>,
    /// Chunks that hold nothing and will be used again.
    free: Vec<u32>,
    /// The chunk whose places are given out, and the next of them.
    open: Option<(u32, usize)>,
    /// No chunk before this one has places to give out.
    first_roomy: u32,
    live: usize,
    bytes: usize,
}

/// Where a row has its value of a column.
struct Column {
    data_type: DataType,
    form: Form,
    /// The place of its first word.
    offset: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// So many bytes.
    Fixed(usize),
    Boolean,
    /// A view; one of a longer string tells its length alone. The number among the columns of strings.
    View(usize),
}

impl Form {
    fn of(data_type: &DataType, strings: usize) -> Option<Self> {
        match data_type {
            DataType::Boolean => Some(Self::Boolean),
            DataType::Utf8View | DataType::BinaryView => Some(Self::View(strings)),
            _ => data_type.primitive_width().filter(|width| matches!(width, 1 | 2 | 4 | 8 | 16 | 32)).map(Self::Fixed),
        }
    }

    fn words(self) -> usize {
        match self {
            Self::Fixed(width) => width.div_ceil(8),
            Self::Boolean => 1,
            Self::View(_) => 2,
        }
    }
}

#[derive(Default)]
struct Chunk {
    /// Of the places given out so far.
    words: Vec<u64>,
    /// Which places are in use.
    live: Vec<u64>,
    live_count: usize,
    /// Longer strings by place, those of a row side by side; empty where there never was one.
    strings: Vec<Option<Box<[u8]>>>,
}

impl Chunk {
    fn bytes(&self) -> usize {
        self.words.capacity() * 8 + self.live.capacity() * 8 + self.strings.capacity() * size_of::<Option<Box<[u8]>>>()
    }
}

fn place_of(id: u32) -> (usize, usize) {
    ((id >> CHUNK_BITS) as usize, id as usize & (CHUNK_ROWS - 1))
}

impl Slab {
    /// No rows; `None`: values of some column cannot be kept so.
    pub(crate) fn new(schema: &Schema) -> Option<Self> {
        if schema.fields().len() > COLUMNS_MAX {
            return None;
        }
        // The first word says what is null.
        let (mut stride, mut strings) = (1, 0);
        let mut columns = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let form = Form::of(field.data_type(), strings)?;
            strings += usize::from(matches!(form, Form::View(_)));
            columns.push(Column { data_type: field.data_type().clone(), form, offset: stride });
            stride += form.words();
        }
        Some(Self {
            columns,
            stride,
            strings,
            chunks: Vec::new(),
            free: Vec::new(),
            open: None,
            first_roomy: 0,
            live: 0,
            bytes: 0,
        })
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// One past the highest id ever given out: what is indexed by id needs this length.
    pub(crate) fn id_bound(&self) -> usize {
        self.chunks.len() << CHUNK_BITS
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Stores rows of a batch; their ids, in order, are added to `ids`.
    pub(crate) fn append(
        &mut self,
        batch: &RecordBatch,
        rows: impl ExactSizeIterator<Item = usize> + Clone,
        ids: &mut Vec<u32>,
    ) {
        let first = ids.len();
        self.give_out(rows.len(), ids);
        let ids = &ids[first..];
        let Self { columns, stride, strings, chunks, bytes, .. } = self;
        let stride = *stride;
        if let Some(words) = words_of(batch.columns()) {
            // A row is its columns, one behind the other.
            let words: Vec<&[u64]> = words.iter().map(|words| &**words).collect();
            for (id, row) in ids.iter().zip(rows) {
                let (chunk, place) = place_of(*id);
                let (valid, values) = chunks[chunk].words[place * stride..][..stride].split_at_mut(1);
                valid[0] = 0;
                values.iter_mut().zip(&words).for_each(|(value, words)| *value = words[row]);
            }
            return;
        }
        for (chunk, place) in ids.iter().map(|id| place_of(*id)) {
            chunks[chunk].words[place * stride] = 0;
        }
        let places = || ids.iter().map(|id| place_of(*id)).zip(rows.clone());
        for (bit, (column, values)) in columns.iter().zip(batch.columns()).enumerate() {
            let offset = column.offset;
            macro_rules! fixed {
                ($native:ty, $value:ident => $word:expr) => {{
                    let values = ScalarBuffer::<$native>::from(values_buffer(values));
                    for ((chunk, place), row) in places() {
                        let $value = values[row];
                        chunks[chunk].words[place * stride + offset] = $word;
                    }
                }};
            }
            match column.form {
                Form::Fixed(1) => fixed!(u8, value => u64::from(value)),
                Form::Fixed(2) => fixed!(u16, value => u64::from(value)),
                Form::Fixed(4) => fixed!(u32, value => u64::from(value)),
                Form::Fixed(8) => fixed!(u64, value => value),
                Form::Fixed(16) => {
                    let values = ScalarBuffer::<i128>::from(values_buffer(values));
                    for ((chunk, place), row) in places() {
                        let words = &mut chunks[chunk].words[place * stride + offset..][..2];
                        words.copy_from_slice(&halves(values[row] as u128));
                    }
                }
                Form::Fixed(_) => {
                    let values = ScalarBuffer::<i256>::from(values_buffer(values));
                    for ((chunk, place), row) in places() {
                        let (low, high) = values[row].to_parts();
                        let words = &mut chunks[chunk].words[place * stride + offset..][..4];
                        words[..2].copy_from_slice(&halves(low));
                        words[2..].copy_from_slice(&halves(high as u128));
                    }
                }
                Form::Boolean => {
                    let values = values.as_boolean().values();
                    for ((chunk, place), row) in places() {
                        chunks[chunk].words[place * stride + offset] = u64::from(values.value(row));
                    }
                }
                Form::View(number) => {
                    let views = views_of(values);
                    for ((chunk, place), row) in places() {
                        let chunk = &mut chunks[chunk];
                        let words = &mut chunk.words[place * stride + offset..][..2];
                        let view = views[row];
                        let length = view as u32;
                        if length <= INLINE_MAX || values.is_null(row) {
                            words.copy_from_slice(&halves(view));
                            continue;
                        }
                        words.copy_from_slice(&halves(u128::from(length)));
                        if chunk.strings.is_empty() {
                            chunk.strings.resize_with(CHUNK_ROWS * *strings, || None);
                            *bytes += chunk.strings.capacity() * size_of::<Option<Box<[u8]>>>();
                        }
                        let text = bytes_at(values, row);
                        *bytes += text.len();
                        chunk.strings[place * *strings + number] = Some(text.into());
                    }
                }
            }
            if let Some(nulls) = values.nulls().filter(|nulls| nulls.null_count() > 0) {
                for ((chunk, place), row) in places() {
                    chunks[chunk].words[place * stride] |= u64::from(nulls.is_null(row)) << bit;
                }
            }
        }
    }

    /// Makes room for rows: gives out places that are free, ascending in each chunk.
    fn give_out(&mut self, count: usize, ids: &mut Vec<u32>) {
        ids.reserve(count);
        let mut missing = count;
        while missing > 0 {
            let (number, mut next) = self.open_chunk();
            let chunk = &mut self.chunks[number as usize];
            let before = chunk.bytes();
            let mut given = 0;
            while given < missing && next < CHUNK_ROWS {
                let (word, bit) = (next / 64, next % 64);
                if word == chunk.live.len() {
                    chunk.live.push(0);
                }
                let free = !chunk.live[word] >> bit;
                if free == 0 {
                    next = (word + 1) * 64;
                    continue;
                }
                next += free.trailing_zeros() as usize;
                chunk.live[word] |= 1 << (next % 64);
                ids.push(number << CHUNK_BITS | next as u32);
                given += 1;
                next += 1;
            }
            chunk.live_count += given;
            let needed = next.min(CHUNK_ROWS) * self.stride;
            if chunk.words.len() < needed {
                if chunk.words.capacity() < needed {
                    // As a vector grows, but never past a chunk.
                    let wanted = (2 * chunk.words.len()).clamp(needed, CHUNK_ROWS * self.stride);
                    chunk.words.reserve_exact(wanted - chunk.words.len());
                }
                chunk.words.resize(needed, 0);
            }
            self.bytes += chunk.bytes() - before;
            self.live += given;
            missing -= given;
            self.open = (next < CHUNK_ROWS).then_some((number, next));
        }
    }

    /// The chunk whose places are given out, and the next of them: the first one with room, so that the last ones empty where rows become
    /// fewer.
    fn open_chunk(&mut self) -> (u32, usize) {
        if let Some(open) = self.open {
            return open;
        }
        let roomy = |chunk: &Chunk| chunk.live_count > 0 && chunk.live_count < CROWDED;
        let from = (self.first_roomy as usize).min(self.chunks.len());
        let number = match self.chunks[from..].iter().position(roomy) {
            Some(place) => {
                self.first_roomy = (from + place + 1) as u32;
                (from + place) as u32
            }
            None => {
                self.first_roomy = self.chunks.len() as u32;
                self.free.pop().unwrap_or_else(|| {
                    self.chunks.push(Chunk::default());
                    u32::try_from(self.chunks.len() - 1).expect("memory ends before chunks do")
                })
            }
        };
        (number, 0)
    }

    /// Forgets rows, all of which are in use, each named once.
    pub(crate) fn remove(&mut self, ids: &[u32]) {
        for id in ids {
            let (number, place) = place_of(*id);
            let chunk = &mut self.chunks[number];
            debug_assert!(chunk.live[place / 64] >> (place % 64) & 1 == 1, "a row is removed once");
            chunk.live[place / 64] &= !(1 << (place % 64));
            chunk.live_count -= 1;
            if !chunk.strings.is_empty() {
                for text in &mut chunk.strings[place * self.strings..(place + 1) * self.strings] {
                    self.bytes -= text.take().map_or(0, |text| text.len());
                }
            }
            if chunk.live_count < CROWDED {
                self.first_roomy = self.first_roomy.min(number as u32);
            }
            if chunk.live_count == 0 && self.open.is_none_or(|(open, _)| open as usize != number) {
                self.bytes -= chunk.bytes();
                *chunk = Chunk::default();
                self.free.push(number as u32);
            }
        }
        self.live -= ids.len();
        if self.live == 0 {
            // What is open is held no longer than its rows.
            if let Some((open, _)) = self.open.take() {
                let chunk = &mut self.chunks[open as usize];
                self.bytes -= chunk.bytes();
                *chunk = Chunk::default();
                self.free.push(open);
            }
        }
    }

    /// Where the first word of a row's value lies.
    #[inline(always)]
    fn words(&self, id: u32, offset: usize) -> &[u64] {
        let (chunk, place) = place_of(id);
        &self.chunks[chunk].words[place * self.stride + offset..]
    }

    /// These columns of the rows `ids`, in that order.
    pub(crate) fn take_columns(&self, ids: &[u32], columns: &[usize]) -> Vec<ArrayRef> {
        columns.iter().map(|column| self.take_column(ids, *column)).collect()
    }

    fn take_column(&self, ids: &[u32], bit: usize) -> ArrayRef {
        let Column { data_type, form, offset } = &self.columns[bit];
        let offset = *offset;
        let is_valid = |row: usize| self.words(ids[row], 0)[0] >> bit & 1 == 0;
        let nulls = Some(NullBuffer::new(BooleanBuffer::collect_bool(ids.len(), is_valid)));
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
        macro_rules! fixed {
            ($native:ty) => {{
                let values: Vec<$native> = ids.iter().map(|id| <$native>::of(self.words(*id, offset))).collect();
                buffer_column(data_type, Buffer::from_vec(values), nulls)
            }};
        }
        match *form {
            Form::Fixed(1) => fixed!(u8),
            Form::Fixed(2) => fixed!(u16),
            Form::Fixed(4) => fixed!(u32),
            Form::Fixed(8) => fixed!(u64),
            Form::Fixed(16) => fixed!(i128),
            Form::Fixed(_) => fixed!(i256),
            Form::Boolean => {
                let values = BooleanBuffer::collect_bool(ids.len(), |row| self.words(ids[row], offset)[0] != 0);
                Arc::new(BooleanArray::new(values, nulls))
            }
            Form::View(number) => {
                let texts: Vec<Option<Text<'_>>> =
                    (0..ids.len()).map(|row| is_valid(row).then(|| self.text(ids[row], offset, number))).collect();
                bytes_column(data_type, texts.iter().map(|text| text.as_ref().map(Text::bytes)))
            }
        }
    }

    fn text(&self, id: u32, offset: usize, number: usize) -> Text<'_> {
        let words = self.words(id, offset);
        let length = words[0] as u32;
        if length <= INLINE_MAX {
            let view = u128::from(words[0]) | u128::from(words[1]) << 64;
            return Text::Short(view.to_le_bytes(), length as usize);
        }
        let (chunk, place) = place_of(id);
        let text = self.chunks[chunk].strings.get(place * self.strings + number);
        Text::Long(text.and_then(Option::as_deref).expect("a longer string is there"))
    }

    /// A reader of a column of values of eight bytes; `None`: it has others.
    pub(crate) fn reader(&self, column: usize) -> Option<Reader<'_>> {
        let Column { form, offset, .. } = &self.columns[column];
        (*form == Form::Fixed(8)).then_some(Reader { slab: self, offset: *offset, bit: column })
    }

    /// The ids in use, ascending.
    pub(crate) fn live_ids(&self) -> Vec<u32> {
        let mut ids = Vec::with_capacity(self.live);
        for (number, chunk) in self.chunks.iter().enumerate() {
            for_each_bit(&chunk.live, |place| ids.push((number << CHUNK_BITS | place) as u32));
        }
        ids
    }
}

/// Reads one column of rows.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    slab: &'a Slab,
    offset: usize,
    bit: usize,
}

impl Reader<'_> {
    /// The value of a row, whatever lies under a null, and whether it is there.
    #[inline(always)]
    pub(crate) fn value(&self, id: u32) -> (u64, bool) {
        let words = self.slab.words(id, 0);
        (words[self.offset], words[0] >> self.bit & 1 == 0)
    }
}

/// Values as they are kept.
trait OfWords: ArrowNativeType {
    /// The value that the first words are.
    fn of(words: &[u64]) -> Self;
}

macro_rules! of_words {
    ($($native:ty),*) => {$(
        impl OfWords for $native {
            #[inline(always)]
            fn of(words: &[u64]) -> Self {
                words[0] as Self
            }
        }
    )*};
}
of_words!(u8, u16, u32, u64);

impl OfWords for i128 {
    #[inline(always)]
    fn of(words: &[u64]) -> Self {
        (u128::from(words[0]) | u128::from(words[1]) << 64) as Self
    }
}

impl OfWords for i256 {
    #[inline(always)]
    fn of(words: &[u64]) -> Self {
        Self::from_parts(i128::of(words) as u128, i128::of(&words[2..]))
    }
}

/// A string that was kept.
enum Text<'a> {
    /// In a view.
    Short([u8; 16], usize),
    Long(&'a [u8]),
}

impl Text<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(view, length) => &view[4..4 + length],
            Self::Long(bytes) => bytes,
        }
    }
}

fn halves(value: u128) -> [u64; 2] {
    [value as u64, (value >> 64) as u64]
}

fn views_of(column: &ArrayRef) -> &ScalarBuffer<u128> {
    match column.data_type() {
        DataType::Utf8View => column.as_string_view().views(),
        _ => column.as_binary_view().views(),
    }
}

fn bytes_at(column: &ArrayRef, row: usize) -> &[u8] {
    match column.data_type() {
        DataType::Utf8View => column.as_string_view().value(row).as_bytes(),
        _ => column.as_binary_view().value(row),
    }
}
