//! Rows in columns that stay where they are: what is stored is never copied to be probed.
//!
//! Rows are kept in pages of up to [`PAGE_ROWS`] in the order in which they came. A row's id names its page and its place there, so that
//! finding it is arithmetic; it stays the same until the row is removed, and is then given out again. Full batches are taken over as they are; small ones
//! gather in the last page and are merged so that sizes fall by half from one to the next (a row is copied no more often than the
//! logarithm of their number). A page without rows is freed at once; one with few is squeezed, and its ids are looked up from then
//! on. Views of strings are packed when a page is full, because a few short strings may hold on to a large buffer.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat, interleave, take};
use arrow::datatypes::{DataType, SchemaRef};

use super::for_each_bit;
use crate::error::Result;

/// Rows of a page, a power of two.
const PAGE_ROWS: usize = 1 << PAGE_BITS;
const PAGE_BITS: u32 = 13;
const _: () = assert!(PAGE_ROWS <= crate::delta::DELTA_ROWS_MAX, "the rows of a page make a delta");
/// A page with fewer than this part of its rows left is squeezed.
const SQUEEZE: usize = 4;
/// A last page with more pieces has some merged.
const PIECES_MAX: usize = 8;

/// Rows with stable ids.
pub(crate) struct Pages {
    width: usize,
    pages: Vec<Page>,
    /// Pages that hold nothing and will be used again.
    free: Vec<u32>,
    /// The page that takes the next rows.
    open: Option<u32>,
    live: usize,
    bytes: usize,
}

#[derive(Default)]
struct Page {
    pieces: Vec<Piece>,
    /// Ids given out, live or not.
    given: usize,
    /// Which of them are in use.
    live: Vec<u64>,
    live_count: usize,
    /// In a squeezed page: the rows that were left; the n-th of them is row n of the only piece.
    left: Option<Left>,
    bytes: usize,
}

/// Some rows of a page, each of which is found without a search.
struct Left {
    bits: Vec<u64>,
    /// How many there are in the words before each word.
    before: Vec<u16>,
    count: usize,
}

impl Left {
    fn new(bits: &[u64]) -> Self {
        let mut count = 0;
        let before = bits.iter().map(|word| {
            let before = count;
            count += word.count_ones() as usize;
            before as u16
        });
        Self { before: before.collect(), bits: bits.to_vec(), count }
    }

    /// How many of them are before a row.
    #[inline]
    fn rank(&self, place: usize) -> usize {
        let below = self.bits[place / 64] & ((1 << (place % 64)) - 1);
        usize::from(self.before[place / 64]) + below.count_ones() as usize
    }

    fn bytes(&self) -> usize {
        self.bits.len() * 8 + self.before.len() * 2
    }
}

struct Piece {
    /// The place in the page of its first row.
    start: usize,
    rows: usize,
    columns: Vec<ArrayRef>,
}

impl Pages {
    /// No rows, of as many columns as `schema` has.
    pub(crate) fn new(schema: &SchemaRef) -> Self {
        Self { width: schema.fields().len(), pages: Vec::new(), free: Vec::new(), open: None, live: 0, bytes: 0 }
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// One past the highest id ever given out: what is indexed by id needs this length.
    pub(crate) fn id_bound(&self) -> usize {
        self.pages.len() << PAGE_BITS
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Stores rows; their ids, in order, are added to `ids`.
    pub(crate) fn append(&mut self, batch: &RecordBatch, ids: &mut Vec<u32>) -> Result<()> {
        let mut offset = 0;
        while offset < batch.num_rows() {
            let page = self.open_page();
            let room = PAGE_ROWS - self.pages[page as usize].given;
            let rows = room.min(batch.num_rows() - offset);
            let columns = batch.columns().iter().map(|column| column.slice(offset, rows)).collect();
            let start = self.pages[page as usize].given;
            ids.extend((start..start + rows).map(|place| page << PAGE_BITS | place as u32));
            self.pages[page as usize].push(Piece { start, rows, columns }, self.width)?;
            if self.pages[page as usize].given == PAGE_ROWS {
                self.pages[page as usize].seal(self.width)?;
                self.open = None;
            }
            self.recount(page);
            self.live += rows;
            offset += rows;
        }
        Ok(())
    }

    fn open_page(&mut self) -> u32 {
        if let Some(page) = self.open {
            return page;
        }
        let page = self.free.pop().unwrap_or_else(|| {
            self.pages.push(Page::default());
            u32::try_from(self.pages.len() - 1).expect("memory ends before pages do")
        });
        self.open = Some(page);
        page
    }

    fn recount(&mut self, page: u32) {
        let page = &mut self.pages[page as usize];
        self.bytes -= page.bytes;
        page.bytes = page.pieces.iter().flat_map(|piece| &piece.columns).map(|c| c.get_array_memory_size()).sum();
        page.bytes += page.left.as_ref().map_or(0, Left::bytes);
        self.bytes += page.bytes;
    }

    /// Forgets rows, all of which are in use, each named once.
    pub(crate) fn remove(&mut self, ids: &[u32]) -> Result<()> {
        let mut touched = None;
        for id in ids {
            let (number, place) = (*id >> PAGE_BITS, *id as usize & (PAGE_ROWS - 1));
            let page = &mut self.pages[number as usize];
            debug_assert!(page.live[place / 64] >> (place % 64) & 1 == 1, "a row is removed once");
            page.live[place / 64] &= !(1 << (place % 64));
            page.live_count -= 1;
            self.live -= 1;
            if page.live_count == 0 {
                self.bytes -= page.bytes;
                *page = Page::default();
                if self.open == Some(number) {
                    self.open = None;
                }
                self.free.push(number);
            } else if touched != Some(number) {
                if let Some(touched) = touched {
                    self.squeeze(touched)?;
                }
                touched = Some(number);
            }
        }
        if let Some(touched) = touched {
            self.squeeze(touched)?;
        }
        Ok(())
    }

    /// Copies what is left of a page where that is little.
    fn squeeze(&mut self, number: u32) -> Result<()> {
        let page = &mut self.pages[number as usize];
        let held = page.left.as_ref().map_or(page.given, |left| left.count);
        if page.given < PAGE_ROWS || page.live_count == 0 || page.live_count * SQUEEZE > held {
            return Ok(());
        }
        let left = Left::new(&page.live);
        let mut rows = Vec::with_capacity(page.live_count);
        for_each_bit(&page.live, |place| rows.push(page.row_of(place).1 as u32));
        let rows = UInt32Array::from(rows);
        // A full page is one piece.
        let columns = page.pieces[0].columns.iter().map(|column| pack(&take(column, &rows, None)?));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        page.pieces = vec![Piece { start: 0, rows: left.count, columns }];
        page.left = Some(left);
        self.recount(number);
        Ok(())
    }

    /// These columns of the rows `ids`, in that order; at least one row.
    pub(crate) fn take_columns(&self, ids: &[u32], columns: &[usize]) -> Result<Vec<ArrayRef>> {
        if columns.is_empty() {
            return Ok(Vec::new());
        }
        // The pieces that the rows lie in, each once, and the place of each row among them.
        let mut pieces: Vec<&Piece> = Vec::new();
        let mut known: Vec<u32> = vec![u32::MAX; self.pages.len()];
        let mut places = Vec::with_capacity(ids.len());
        for id in ids {
            let number = *id >> PAGE_BITS;
            let page = &self.pages[number as usize];
            let (piece, row) = page.row_of(*id as usize & (PAGE_ROWS - 1));
            let entry = &mut known[number as usize];
            if *entry == u32::MAX {
                *entry = pieces.len() as u32;
                pieces.extend(&page.pieces);
            }
            places.push((*entry as usize + piece, row));
        }
        if let [only] = pieces.as_slice() {
            // Rows that lie one behind the other are shared.
            if places.windows(2).all(|pair| pair[1].1 == pair[0].1 + 1) {
                let first = places[0].1;
                return Ok(columns.iter().map(|column| only.columns[*column].slice(first, places.len())).collect());
            }
            let rows = UInt32Array::from_iter_values(places.iter().map(|(_, row)| *row as u32));
            return columns.iter().map(|column| Ok(take(&only.columns[*column], &rows, None)?)).collect();
        }
        let mut taken = Vec::with_capacity(columns.len());
        for column in columns {
            let arrays: Vec<_> = pieces.iter().map(|piece| piece.columns[*column].as_ref()).collect();
            taken.push(interleave(&arrays, &places)?);
        }
        Ok(taken)
    }

    /// The ids in use, ascending.
    pub(crate) fn live_ids(&self) -> Vec<u32> {
        let mut ids = Vec::with_capacity(self.live);
        (0..self.pages.len()).for_each(|number| self.live_of(number, &mut ids));
        ids
    }

    /// The same, those of each page by themselves.
    pub(crate) fn live_pages(&self) -> Vec<Vec<u32>> {
        let of_page = |number: usize| {
            let mut ids = Vec::with_capacity(self.pages[number].live_count);
            self.live_of(number, &mut ids);
            ids
        };
        (0..self.pages.len()).map(of_page).filter(|ids| !ids.is_empty()).collect()
    }

    fn live_of(&self, number: usize, ids: &mut Vec<u32>) {
        for_each_bit(&self.pages[number].live, |place| ids.push((number << PAGE_BITS | place) as u32));
    }
}

impl Page {
    /// The piece that a row lies in, and its row there.
    #[inline]
    fn row_of(&self, place: usize) -> (usize, usize) {
        if let Some(left) = &self.left {
            return (0, left.rank(place));
        }
        match self.pieces.len() {
            1 => (0, place),
            _ => {
                let piece = self.pieces.partition_point(|piece| piece.start <= place) - 1;
                (piece, place - self.pieces[piece].start)
            }
        }
    }

    fn push(&mut self, piece: Piece, width: usize) -> Result<()> {
        let rows = piece.rows;
        self.live.resize((self.given + rows).div_ceil(64), 0);
        for place in self.given..self.given + rows {
            self.live[place / 64] |= 1 << (place % 64);
        }
        self.given += rows;
        self.live_count += rows;
        self.pieces.push(piece);
        if self.pieces.len() > PIECES_MAX {
            let mut after: usize = self.pieces.iter().map(|piece| piece.rows).sum();
            let first = self.pieces.iter().position(|piece| {
                after -= piece.rows;
                piece.rows <= after
            });
            self.merge(first.unwrap_or(0), width)?;
        }
        Ok(())
    }

    /// Merges the pieces from `first` on into one.
    fn merge(&mut self, first: usize, width: usize) -> Result<()> {
        let merged: Vec<Piece> = self.pieces.drain(first..).collect();
        let mut columns = Vec::with_capacity(width);
        for column in 0..width {
            let arrays: Vec<_> = merged.iter().map(|piece| piece.columns[column].as_ref()).collect();
            columns.push(concat(&arrays)?);
        }
        let rows = merged.iter().map(|piece| piece.rows).sum();
        self.pieces.push(Piece { start: merged.first().map_or(0, |piece| piece.start), rows, columns });
        Ok(())
    }

    /// One piece of all, packed.
    fn seal(&mut self, width: usize) -> Result<()> {
        if self.pieces.len() > 1 {
            self.merge(0, width)?;
        }
        for column in &mut self.pieces[0].columns {
            *column = pack(column)?;
        }
        Ok(())
    }
}

/// The same values; views whose buffers hold more than twice their bytes get buffers of their own.
pub(crate) fn pack(column: &ArrayRef) -> Result<ArrayRef> {
    macro_rules! packed {
        ($views:expr) => {{
            let views = $views;
            let held: usize = views.data_buffers().iter().map(|buffer| buffer.len()).sum();
            match views.data_buffers().len() > 4 || held > 2 * views.total_buffer_bytes_used() {
                true => Arc::new(views.gc()),
                false => Arc::clone(column),
            }
        }};
    }
    Ok(match column.data_type() {
        DataType::Utf8View => packed!(column.as_string_view()),
        DataType::BinaryView => packed!(column.as_binary_view()),
        _ => Arc::clone(column),
    })
}
