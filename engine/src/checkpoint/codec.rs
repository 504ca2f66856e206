//! The bytes of a state file: a magic word, then frames of a table name and an Arrow IPC stream, which says itself how it is compressed.
//!
//! Compressing a row with several texts costs three times what writing it to a disk does, and more than the join that keeps it. So files in a
//! folder are written as the columns lie in memory; what goes to a bucket is compressed, because there each byte costs time and money.
//!
//! A column of string views is packed first: IPC writes its buffers whole, and a few short strings may hold on to large ones.

use std::io::Cursor;
use std::str::FromStr;

use arrow::array::{Array, ArrayData, ArrayRef, RecordBatch, make_array};
use arrow::buffer::{Buffer, NullBuffer};
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};

use crate::delta::batch_of;
use crate::error::{EngineError, Result};
use crate::operator::{SavedChunk, StateChunk};
use crate::rows::pack;

const MAGIC: &[u8; 8] = b"EAGRE\0\0\x01";

/// A file that has grown to this is closed, and the next chunks go into another: what is encoded never needs much more memory.
pub(super) const FILE_BYTES: usize = 32 << 20;
/// The fastest level that still takes all that the default one takes of columns of numbers and short texts (0.29 of their size).
const ZSTD_LEVEL: i32 = 1;

/// How state files are compressed; each can be read whatever is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// A little faster than [`Zstd`](Self::Zstd), and larger by half.
    Lz4,
    /// Least bytes.
    Zstd,
}

impl FromStr for Compression {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "none" => Ok(Self::None),
            "lz4" => Ok(Self::Lz4),
            "zstd" => Ok(Self::Zstd),
            other => Err(EngineError::bug(format!("`{other}` is no compression of state files"))),
        }
    }
}

impl Compression {
    fn options(self) -> Result<IpcWriteOptions> {
        let (codec, level) = match self {
            Self::None => (None, None),
            Self::Lz4 => (Some(CompressionType::LZ4_FRAME), None),
            Self::Zstd => (Some(CompressionType::ZSTD), Some(ZSTD_LEVEL)),
        };
        Ok(IpcWriteOptions::default().try_with_compression(codec)?.try_with_compression_level(level)?)
    }
}

/// Encodes the first of some chunks, as many as one file takes, into `bytes`, which is overwritten; tells how many they were.
/// Consecutive chunks of one table and schema share a stream.
pub fn encode_chunks(chunks: &[SavedChunk], compression: Compression, bytes: &mut Vec<u8>) -> Result<usize> {
    bytes.clear();
    bytes.extend(MAGIC);
    let mut done = 0;
    while done < chunks.len() && bytes.len() < FILE_BYTES {
        let (table, schema) = (chunks[done].table, chunks[done].schema());
        bytes.extend((table.len() as u32).to_le_bytes());
        bytes.extend(table.as_bytes());
        bytes.extend([0; 8]);
        let start = bytes.len();
        let mut writer = StreamWriter::try_new_with_options(&mut *bytes, &schema, compression.options()?)?;
        while let Some(chunk) = chunks.get(done).filter(|chunk| chunk.table == table && chunk.schema() == schema)
            && writer.get_ref().len() < FILE_BYTES
        {
            let rows = chunk.rows()?;
            let columns = rows.columns().iter().map(pack).collect::<Result<Vec<_>>>()?;
            writer.write(&batch_of(&schema, columns, rows.num_rows())?)?;
            done += 1;
        }
        writer.finish()?;
        drop(writer);
        let length = (bytes.len() - start) as u64;
        bytes[start - 8..start].copy_from_slice(&length.to_le_bytes());
    }
    Ok(done)
}

/// Decodes what [`encode_chunks`] made.
///
/// # Errors
/// Bytes that it did not make, or not all of them.
pub fn decode_chunks(bytes: &[u8]) -> Result<Vec<StateChunk>> {
    let broken = |reason: &str| EngineError::Checkpoint { message: reason.to_owned() };
    let mut rest = bytes.strip_prefix(MAGIC).ok_or_else(|| broken("it does not start as a state file"))?;
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        let mut take = |count: usize| -> Result<&[u8]> {
            let (head, tail) = rest.split_at_checked(count).ok_or_else(|| broken("it ends in the middle"))?;
            rest = tail;
            Ok(head)
        };
        let name_bytes = u32::from_le_bytes(take(4)?.try_into().expect("four bytes were taken")) as usize;
        let table = String::from_utf8(take(name_bytes)?.to_vec()).map_err(|_| broken("a table name is not text"))?;
        let stream_bytes = u64::from_le_bytes(take(8)?.try_into().expect("eight bytes were taken")) as usize;
        for rows in StreamReader::try_new(Cursor::new(take(stream_bytes)?), None)? {
            chunks.push(StateChunk { table: table.clone(), rows: apart(rows?)? });
        }
    }
    Ok(chunks)
}

/// The same rows with columns that do not share their memory, as those do that were read without being decompressed: each would be taken to hold
/// all of it, and one that is kept would hold on to the others.
fn apart(rows: RecordBatch) -> Result<RecordBatch> {
    let columns = rows.columns().iter().map(|column| own(&column.to_data()).map(make_array));
    let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
    batch_of(&rows.schema(), columns, rows.num_rows())
}

fn own(data: &ArrayData) -> Result<ArrayData> {
    // The only owner of all of an allocation has nobody to share it with.
    let own_buffer = |buffer: &Buffer| match buffer.len() == buffer.capacity() && buffer.ptr_offset() == 0 {
        true => buffer.clone(),
        false => Buffer::from_slice_ref(buffer.as_slice()),
    };
    let nulls = data.nulls().map(|nulls| nulls.iter().collect::<NullBuffer>());
    let children = data.child_data().iter().map(own).collect::<Result<Vec<_>>>()?;
    let built = ArrayData::builder(data.data_type().clone())
        .len(data.len())
        .offset(data.offset())
        .buffers(data.buffers().iter().map(own_buffer).collect())
        .nulls(nulls)
        .child_data(children)
        .build();
    Ok(built?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BooleanArray, DictionaryArray, Int64Array, ListArray, StringArray, StringViewArray, StringViewBuilder,
    };
    use arrow::datatypes::{Int32Type, Int64Type};

    use super::*;

    const ALL: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

    /// A state file that does not come back as it went loses a user's answer; a cut one must be told, not read.
    #[test]
    fn chunks_come_back_and_damage_is_told() {
        let batch = |values: Vec<i64>| {
            RecordBatch::try_from_iter([("v", Arc::new(Int64Array::from(values)) as ArrayRef)]).expect("one column")
        };
        let names =
            RecordBatch::try_from_iter([("n", Arc::new(StringArray::from(vec!["a"])) as ArrayRef)]).expect("one");
        let chunks = vec![("rows", batch(vec![1, 2])), ("rows", batch(vec![3])), ("gone", names)];
        for compression in ALL {
            let mut bytes = vec![7];
            let saved: Vec<_> = chunks.iter().map(|(table, rows)| SavedChunk::new(table, rows.clone())).collect();
            assert_eq!(encode_chunks(&saved, compression, &mut bytes).expect("encodes"), 3);
            let back = decode_chunks(&bytes).expect("decodes");
            let back: Vec<_> = back.iter().map(|chunk| (chunk.table.as_str(), chunk.rows.clone())).collect();
            assert_eq!(back, chunks);
            assert!(decode_chunks(&bytes[..bytes.len() - 5]).is_err());
        }
        assert!(decode_chunks(b"something else").is_err());
    }

    /// Two short texts out of a large buffer cost a few bytes in the store, not the buffer.
    #[test]
    fn views_bring_their_own_bytes_only() {
        let pool: String = (0..100_000_u32).map(|n| format!("{:x} ", n.wrapping_mul(2_654_435_761))).collect();
        let mut builder = StringViewBuilder::new();
        let block = builder.append_block(pool.into_bytes().into());
        for offset in [17, 500_000] {
            builder.try_append_view(block, offset, 20).expect("it is inside of the block");
        }
        let views = builder.finish();
        let rows = RecordBatch::try_from_iter([("v", Arc::new(views) as ArrayRef)]).expect("one column");
        let mut bytes = Vec::new();
        for compression in ALL {
            encode_chunks(&[SavedChunk::new("rows", rows.clone())], compression, &mut bytes).expect("encodes");
            assert!(bytes.len() < 2_000, "{} bytes", bytes.len());
            assert_eq!(decode_chunks(&bytes).expect("decodes")[0].rows, rows);
        }
    }

    /// However much there is, a file stays near its size, and no chunk is lost or written twice.
    #[test]
    fn large_states_are_cut_into_files() {
        let mut next = 1_u64;
        let mut noise = move || {
            next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            next as i64
        };
        let mut chunk = || Arc::new((0..300_000).map(|_| noise()).collect::<Int64Array>()) as ArrayRef;
        let chunks: Vec<_> = (0..30)
            .map(|n| {
                let table = if n < 20 { "left" } else { "right" };
                (table, RecordBatch::try_from_iter([("v", chunk())]).expect("one column"))
            })
            .collect();
        let saved: Vec<_> = chunks.iter().map(|(table, rows)| SavedChunk::new(table, rows.clone())).collect();
        let (mut rest, mut bytes, mut back) = (saved.as_slice(), Vec::new(), Vec::new());
        while !rest.is_empty() {
            let done = encode_chunks(rest, Compression::Zstd, &mut bytes).expect("encodes");
            assert!(done > 0 && bytes.len() < FILE_BYTES + (4 << 20), "{done} chunks in {} bytes", bytes.len());
            back.extend(decode_chunks(&bytes).expect("decodes"));
            rest = &rest[done..];
        }
        let back: Vec<_> = back.iter().map(|chunk| (chunk.table.as_str(), chunk.rows.clone())).collect();
        assert_eq!(back, chunks);
    }

    /// Columns that come back hold their own bytes and not those of their file: memory is counted, and freed, by column.
    #[test]
    fn columns_come_back_apart() {
        let rows = 1_000_i64;
        let texts: ArrayRef =
            Arc::new((0..rows).map(|n| (n % 7 > 0).then(|| format!("the text {n}"))).collect::<StringArray>());
        let views: ArrayRef = Arc::new(
            (0..rows).map(|n| (n % 5 > 0).then(|| format!("a rather long text {n}"))).collect::<StringViewArray>(),
        );
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(
            (0..rows).map(|n| (n % 3 > 0).then(|| vec![Some(n), None])),
        ));
        let flags: ArrayRef = Arc::new((0..rows).map(|n| (n % 4 > 0).then_some(n % 2 == 0)).collect::<BooleanArray>());
        let words: ArrayRef =
            Arc::new((0..rows).map(|n| ["a", "b", "c"][n as usize % 3]).collect::<DictionaryArray<Int32Type>>());
        let numbers: ArrayRef = Arc::new((0..rows).collect::<Int64Array>());
        let named = [("t", texts), ("v", views), ("l", lists), ("f", flags), ("w", words), ("n", numbers)];
        let batch = RecordBatch::try_from_iter_with_nullable(named.map(|(name, column)| (name, column, true)));
        let batch = batch.expect("columns of one length").slice(3, 900);
        for compression in ALL {
            let mut bytes = Vec::new();
            encode_chunks(&[SavedChunk::new("rows", batch.clone())], compression, &mut bytes).expect("encodes");
            let back = decode_chunks(&bytes).expect("decodes").swap_remove(0).rows;
            assert_eq!(back, batch);
            let held: usize = back.columns().iter().map(|column| column.get_array_memory_size()).sum();
            assert!(held < 2 * 120_000, "{held} bytes are held");
            let numbers = back.column(5).get_array_memory_size();
            assert!(numbers < 2 * 900 * 8, "{numbers} bytes for 900 integers");
        }
    }
}
