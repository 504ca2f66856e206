//! The bytes of a state file: a magic word, then frames of a table name and an Arrow IPC stream, compressed with zstd.
//!
//! A column of string views is packed first: IPC writes its buffers whole, and a few short strings may hold on to large ones.

use std::io::Cursor;

use arrow::array::RecordBatch;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};

use crate::delta::batch_of;
use crate::error::{EngineError, Result};
use crate::operator::StateChunk;
use crate::rows::pack;

const MAGIC: &[u8; 8] = b"EAGRE\0\0\x01";

/// Encodes chunks in order; consecutive chunks of one table and schema share a stream.
pub fn encode_chunks(chunks: &[(&'static str, RecordBatch)]) -> Result<Vec<u8>> {
    let mut bytes = MAGIC.to_vec();
    let mut rest = chunks;
    while let Some((table, first)) = rest.first() {
        let schema = first.schema();
        let run = rest.iter().take_while(|(t, rows)| t == table && rows.schema() == schema).count();
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD))?;
        let mut writer = StreamWriter::try_new_with_options(Vec::new(), &schema, options)?;
        for (_, rows) in &rest[..run] {
            let columns = rows.columns().iter().map(pack).collect::<Result<Vec<_>>>()?;
            writer.write(&batch_of(&schema, columns, rows.num_rows())?)?;
        }
        let stream = writer.into_inner()?;
        bytes.extend((table.len() as u32).to_le_bytes());
        bytes.extend(table.as_bytes());
        bytes.extend((stream.len() as u64).to_le_bytes());
        bytes.extend(stream);
        rest = &rest[run..];
    }
    Ok(bytes)
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
            chunks.push(StateChunk { table: table.clone(), rows: rows? });
        }
    }
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray, StringViewBuilder};

    use super::*;

    /// A state file that does not come back as it went loses a user's answer; a cut one must be told, not read.
    #[test]
    fn chunks_come_back_and_damage_is_told() {
        let batch = |values: Vec<i64>| {
            RecordBatch::try_from_iter([("v", Arc::new(Int64Array::from(values)) as ArrayRef)]).expect("one column")
        };
        let names =
            RecordBatch::try_from_iter([("n", Arc::new(StringArray::from(vec!["a"])) as ArrayRef)]).expect("one");
        let chunks = vec![("rows", batch(vec![1, 2])), ("rows", batch(vec![3])), ("gone", names)];
        let bytes = encode_chunks(&chunks).expect("encodes");
        let back = decode_chunks(&bytes).expect("decodes");
        let back: Vec<_> = back.iter().map(|chunk| (chunk.table.as_str(), chunk.rows.clone())).collect();
        assert_eq!(back, chunks);
        assert!(decode_chunks(&bytes[..bytes.len() - 5]).is_err());
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
        let bytes = encode_chunks(&[("rows", rows.clone())]).expect("encodes");
        assert!(bytes.len() < 2_000, "{} bytes", bytes.len());
        assert_eq!(decode_chunks(&bytes).expect("decodes")[0].rows, rows);
    }
}
