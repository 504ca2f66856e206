//! Cuts a stream of bytes into blocks of whole records.
//!
//! A block holds as many records as a batch has rows, so that batches are full, or fewer where records are long: it is cut before it
//! grows past [`BLOCK_BYTES_MAX`]. Where a block ends follows from where it starts and from the bytes behind it, never from how the
//! bytes arrived; so a reader that starts again at a block's start cuts the same block.

use std::io::{self, Read};

use eagre_engine::delta::DELTA_ROWS_MAX;

use super::csv::{CsvDialect, Record};

/// Read at a time.
const READ_BYTES: usize = 1 << 20;
/// A block ends before it is larger, unless a single record is.
const BLOCK_BYTES_MAX: usize = 4 << 20;
/// A longer record is not read; what was seen of it becomes a bad row.
pub(crate) const RECORD_BYTES_MAX: usize = 64 << 20;
/// How much of a record that is too long is kept.
const OVERLONG_BYTES_KEPT: usize = 4 << 10;

/// Consecutive whole records.
#[derive(Debug)]
pub(crate) struct Block {
    /// Offset of the first byte in the (decompressed) stream.
    pub(crate) start: u64,
    /// Offset behind the last byte.
    pub(crate) end: u64,
    pub(crate) bytes: Vec<u8>,
    /// A record of more than [`RECORD_BYTES_MAX`]: `bytes` is its beginning.
    pub(crate) overlong: bool,
}

/// What a reader has next.
pub(crate) enum Cut {
    Block(Block),
    /// The stream ends here; a record without a line end may be left over, when `take_last` is not set.
    End,
}

/// Reads blocks.
pub(crate) struct BlockReader {
    input: Box<dyn Read + Send>,
    /// Quotes hide line ends; `None`: a record is a line.
    csv: Option<CsvDialect>,
    /// Whether a last record without a line end is one: not while the file may still grow.
    take_last: bool,
    /// Hand over what is there at once instead of waiting for a full block.
    prompt: bool,
    buffer: Vec<u8>,
    offset: u64,
    at_end: bool,
}

impl BlockReader {
    pub(crate) fn new(
        input: Box<dyn Read + Send>,
        offset: u64,
        csv: Option<CsvDialect>,
        take_last: bool,
        prompt: bool,
    ) -> Self {
        Self { input, csv, take_last, prompt, buffer: Vec::new(), offset, at_end: false }
    }

    /// Offset of the next block.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads and drops bytes, to start in the middle of a stream that cannot seek. Fails if the stream is shorter.
    pub(crate) fn skip(input: &mut dyn Read, bytes: u64) -> io::Result<()> {
        let skipped = io::copy(&mut input.take(bytes), &mut io::sink())?;
        match skipped == bytes {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it was")),
        }
    }

    /// Reads more; at most to `bytes` in the buffer.
    fn fill(&mut self, bytes: usize) -> io::Result<()> {
        while self.buffer.len() < bytes && !self.at_end {
            let start = self.buffer.len();
            let step = READ_BYTES.min(bytes - start);
            self.buffer.resize(start + step, 0);
            let read = loop {
                match self.input.read(&mut self.buffer[start..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read,
                }
            };
            let read = match read {
                Ok(read) => read,
                Err(error) => {
                    self.buffer.truncate(start);
                    return Err(error);
                }
            };
            self.buffer.truncate(start + read);
            self.at_end |= read == 0;
            if self.prompt {
                break;
            }
        }
        Ok(())
    }

    /// The next block.
    pub(crate) fn next(&mut self) -> io::Result<Cut> {
        let mut wanted = READ_BYTES;
        loop {
            let before = self.buffer.len();
            if !self.prompt || self.cut(false).is_none() {
                self.fill(wanted.max(if self.prompt { before + READ_BYTES } else { 0 }))?;
            }
            // More might still come into this block: read on, up to its greatest size.
            let full = self.buffer.len() >= BLOCK_BYTES_MAX || self.at_end || self.prompt;
            if let Some(end) = self.cut(full) {
                return Ok(Cut::Block(self.take(end)));
            }
            if self.at_end {
                if self.take_last && !self.buffer.is_empty() {
                    let end = self.buffer.len();
                    return Ok(Cut::Block(self.take(end)));
                }
                return Ok(Cut::End);
            }
            if self.buffer.len() >= RECORD_BYTES_MAX {
                return self.overlong();
            }
            wanted = (self.buffer.len() * 2).clamp(READ_BYTES, RECORD_BYTES_MAX);
            if self.buffer.len() < BLOCK_BYTES_MAX {
                wanted = wanted.min(BLOCK_BYTES_MAX);
            }
        }
    }

    /// Where to cut: behind the batch's last record, or (when no more may come in, `full`) behind the last whole one.
    fn cut(&self, full: bool) -> Option<usize> {
        let within = &self.buffer[..];
        let (mut records, mut last) = (0, None);
        match &self.csv {
            Some(csv) if csv.quote.is_some_and(|quote| memchr::memchr(quote, within).is_some()) => {
                let whole = self.at_end && self.take_last;
                let mut at = 0;
                while at < within.len() {
                    let skipped = csv.skipped_line(within, at, whole);
                    let end = match skipped {
                        Some(end) => end,
                        None => match csv.scan(within, at, whole, |_| {}) {
                            Record::Whole(end) | Record::Broken(end, _) => end,
                            Record::Open => break,
                        },
                    };
                    if end > BLOCK_BYTES_MAX && last.is_some() {
                        return last;
                    }
                    at = end;
                    last = Some(end);
                    records += 1;
                    if records == DELTA_ROWS_MAX {
                        return last;
                    }
                }
            }
            _ => {
                for at in memchr::memchr_iter(b'\n', within) {
                    if at >= BLOCK_BYTES_MAX && last.is_some() {
                        return last;
                    }
                    last = Some(at + 1);
                    records += 1;
                    if records == DELTA_ROWS_MAX {
                        return last;
                    }
                }
                if self.at_end && self.take_last && last.unwrap_or(0) < within.len() {
                    // The last line has no end.
                    if within.len() <= BLOCK_BYTES_MAX || last.is_none() {
                        last = (!within.is_empty()).then_some(within.len());
                    }
                }
            }
        }
        if full { last } else { None }
    }

    fn take(&mut self, end: usize) -> Block {
        let rest = self.buffer[end..].to_vec();
        let mut bytes = std::mem::replace(&mut self.buffer, rest);
        bytes.truncate(end);
        let start = self.offset;
        self.offset += end as u64;
        Block { start, end: self.offset, bytes, overlong: false }
    }

    /// Keeps the beginning of a record that is too long and reads over the rest of its line.
    fn overlong(&mut self) -> io::Result<Cut> {
        let start = self.offset;
        let kept = self.buffer[..OVERLONG_BYTES_KEPT].to_vec();
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer) {
                self.offset += at as u64 + 1;
                self.buffer.drain(..=at);
                break;
            }
            self.offset += self.buffer.len() as u64;
            self.buffer.clear();
            self.fill(READ_BYTES)?;
            if self.at_end && self.buffer.is_empty() {
                break;
            }
        }
        Ok(Cut::Block(Block { start, end: self.offset, bytes: kept, overlong: true }))
    }
}
