//! Files that are written once, as a whole, and are on the disk on return.
//!
//! Large ones go around the page cache (`O_DIRECT`). Whoever writes a checkpoint reads it at a restart or never, so its pages would only
//! push out others; and finding and filling those pages takes the processor several times as long as the disk takes to write them
//! (docs/decisions/0015-memory-pages.md). Where the file system cannot (tmpfs, some network and overlay file systems) they are written as any file.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Files smaller than this go through the page cache: waiting for the disk once, at the end, is cheaper for them.
const DIRECT_MIN: usize = 1 << 20;

/// Writes a new file, or over an old one, and waits until its bytes are on the disk. Its name is not durable before its folder is synced.
///
/// # Errors
/// Whatever creating, writing or syncing says. The file may then be there in part.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if bytes.len() >= DIRECT_MIN && direct::write(path, bytes)? {
        return Ok(());
    }
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(target_os = "linux")]
mod direct {
    use std::fs::{File, OpenOptions};
    use std::io::{self, ErrorKind};
    use std::os::unix::fs::{FileExt, OpenOptionsExt};
    use std::path::Path;

    use rustix::fs::OFlags;

    /// Memory, offsets and lengths are multiples of the logical block of a disk, which is 512 or 4,096 bytes.
    const BLOCK: usize = 4096;
    /// Written at a time where it has to be copied: enough for a disk, and still in the cache of the core that has just filled it.
    const PIECE: usize = 256 * BLOCK;

    /// Whether the file system took the file. If not, what there is of it is to be written over.
    pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<bool> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).custom_flags(OFlags::DIRECT.bits().cast_signed());
        let written = options.open(path).and_then(|file| write_blocks(&file, bytes).map(|()| file));
        match written {
            Ok(file) => file.sync_all().map(|()| true),
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn write_blocks(file: &File, bytes: &[u8]) -> io::Result<()> {
        // What lies as the disk wants it is written from where it is; an allocator gives large memory by pages.
        let in_place = match bytes.as_ptr().align_offset(BLOCK) {
            0 => bytes.len() / BLOCK * BLOCK,
            _ => 0,
        };
        let (in_place, rest) = bytes.split_at(in_place);
        file.write_all_at(in_place, 0)?;
        let mut room = vec![0; rest.len().min(PIECE) + 2 * BLOCK];
        let aligned = room.as_ptr().align_offset(BLOCK);
        let room = &mut room[aligned..];
        for (number, piece) in rest.chunks(PIECE).enumerate() {
            room[..piece.len()].copy_from_slice(piece);
            let whole = piece.len().next_multiple_of(BLOCK);
            room[piece.len()..whole].fill(0);
            file.write_all_at(&room[..whole], (in_place.len() + number * PIECE) as u64)?;
        }
        // The last block is written whole.
        file.set_len(bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths around the blocks and pieces that a direct file is written in, and around the least one.
    #[test]
    fn any_length_comes_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let bytes: Vec<u8> = (0..4_u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mib = 1 << 20;
        for length in
            [0, 1, 4096, mib - 1, mib, mib + 1, mib + 4096, 2 * mib - 1, 2 * mib, 3 * mib + 4095, 3 * mib + 4097]
        {
            let path = folder.path().join("file");
            // Wherever they lie in memory.
            for start in [0, 1, bytes.as_ptr().align_offset(4096)] {
                let bytes = &bytes[start..start + length];
                write_durably(&path, bytes).expect("written");
                assert!(std::fs::read(&path).expect("read") == bytes, "{length} bytes from {start}");
            }
        }
    }

    /// Where there is no direct access a file is written all the same; where there is none at all it is an error.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_system_without_direct_access_takes_files() {
        let bytes = vec![7; DIRECT_MIN + 5];
        // A file system in memory, where there is one.
        if let Ok(folder) = tempfile::tempdir_in("/dev/shm") {
            let path = folder.path().join("file");
            write_durably(&path, &bytes).expect("written");
            assert!(std::fs::read(&path).expect("read") == bytes);
        }
        let folder = tempfile::tempdir().expect("a folder");
        let missing = write_durably(&folder.path().join("no/file"), &bytes).expect_err("there is no such folder");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
