//! Where parts wait until a checkpoint says that they count.
//!
//! Parts are written into a hidden folder inside the output folder (so that publishing is a rename within one file system), synced,
//! and listed in the checkpoint's manifest. Publishing moves a part to its place; it does nothing if the part is there already, so
//! it can be cut off anywhere and done again. The names of parts and of the hidden folder hold the pipeline and the writer: what
//! others write, or have written, is never touched. A file of the part's own name that is in its place while the part still waits was
//! published with a checkpoint that is gone (dropped, or damaged): it is replaced.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use object_store::path::Path as StorePath;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};

use super::location::{Location, Root, Store};
use crate::error::Result;

/// Sent to a store at a time.
const UPLOAD_BYTES: usize = 8 << 20;

/// A part that is written and hidden.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct StagedPart {
    /// Its name in the hidden folder.
    pub(crate) staged: String,
    /// Where it goes, relative to the output folder.
    pub(crate) file: String,
}

enum PartFile {
    Local(BufWriter<File>),
    Store { store: Store, upload: Box<dyn MultipartUpload>, buffer: Vec<u8> },
}

/// A part being written.
pub(crate) struct PartOutput {
    file: PartFile,
    written: u64,
}

impl PartOutput {
    /// Bytes written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Makes the part whole and durable.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self.file {
            PartFile::Local(file) => file.into_inner().map_err(|error| error.into_error())?.sync_all(),
            PartFile::Store { store, mut upload, buffer } => {
                // A store refuses an upload without parts, so an empty file sends an empty one.
                store.wait(upload.put_part(PutPayload::from(buffer)))?;
                store.wait(upload.complete()).map(drop)
            }
        }
    }
}

impl Write for PartOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.file {
            PartFile::Local(file) => file.write_all(bytes)?,
            PartFile::Store { store, upload, buffer } => {
                buffer.extend_from_slice(bytes);
                if buffer.len() >= UPLOAD_BYTES {
                    let part = PutPayload::from(std::mem::take(buffer));
                    store.wait(upload.put_part(part))?;
                }
            }
        }
        self.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.file {
            PartFile::Local(file) => file.flush(),
            PartFile::Store { .. } => Ok(()),
        }
    }
}

/// The output folder and the hidden folder in it.
pub(crate) struct Staging {
    root: Root,
    folder: String,
}

/// Makes a folder's entries durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    // Only Unix lets a folder be opened and synced; elsewhere the rename itself has to do.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

impl Staging {
    pub(crate) fn new(root: Root, folder: String) -> Self {
        Self { root, folder }
    }

    fn shown(&self, relative: &str) -> String {
        format!("{}/{relative}", self.root.path().trim_end_matches('/'))
    }

    fn local(&self) -> Option<(&Path, PathBuf)> {
        self.root.local().map(|root| (root, root.join(&self.folder)))
    }

    /// Starts a part in the hidden folder.
    pub(crate) fn create(&self, staged: &str) -> Result<PartOutput> {
        let shown = self.shown(&format!("{}/{staged}", self.folder));
        let fail = |error: io::Error| self.root.error("write", &shown, &error);
        let file = match (self.local(), self.root.store()) {
            (Some((root, folder)), _) => {
                if root.is_file() {
                    let error = io::Error::new(
                        io::ErrorKind::NotADirectory,
                        "it is a file, and rows are written as parts into a folder; name a folder",
                    );
                    return Err(self.root.error("write to", self.root.path(), &error));
                }
                std::fs::create_dir_all(&folder).map_err(fail)?;
                let file = OpenOptions::new().write(true).create(true).truncate(true).open(folder.join(staged));
                PartFile::Local(BufWriter::with_capacity(256 << 10, file.map_err(fail)?))
            }
            (None, Some((store, prefix))) => {
                let path = self.store_staged(prefix, staged);
                let upload = store.wait(store.store.put_multipart(&path)).map_err(fail)?;
                PartFile::Store { store: store.clone(), upload, buffer: Vec::new() }
            }
            (None, None) => unreachable!("a root is local or in a store"),
        };
        Ok(PartOutput { file, written: 0 })
    }

    fn store_staged(&self, prefix: &StorePath, staged: &str) -> StorePath {
        prefix.clone().join(self.folder.as_str()).join(staged)
    }

    fn store_file(prefix: &StorePath, file: &str) -> StorePath {
        file.split('/').fold(prefix.clone(), |path, part| path.join(part))
    }

    /// An error that names a part.
    pub(crate) fn part_error(&self, action: &'static str, staged: &str, error: &io::Error) -> crate::ConnectorError {
        self.root.error(action, &self.shown(&format!("{}/{staged}", self.folder)), error)
    }

    /// Makes the names of staged parts durable.
    pub(crate) fn sync(&self) -> Result<()> {
        match self.local() {
            Some((root, folder)) if folder.is_dir() => sync_folder(&folder)
                .and_then(|()| sync_folder(root))
                .map_err(|error| self.root.error("sync", &self.shown(&self.folder), &error)),
            _ => Ok(()),
        }
    }

    /// Shows parts. Those that are shown already stay as they are.
    pub(crate) fn publish(&self, parts: &[StagedPart]) -> Result<()> {
        self.publish_parts(parts, true)
    }

    /// Publishes those of the parts that are staged still.
    pub(crate) fn publish_left(&self, parts: &[StagedPart]) -> Result<()> {
        self.publish_parts(parts, false)
    }

    /// `all`: each of them is staged or published.
    fn publish_parts(&self, parts: &[StagedPart], all: bool) -> Result<()> {
        match (self.local(), self.root.store()) {
            (Some((root, folder)), _) => self.publish_local(root, &folder, parts, all),
            (None, Some((store, prefix))) => {
                parts.iter().try_for_each(|part| self.publish_stored(store, prefix, part, all))
            }
            (None, None) => Ok(()),
        }
    }

    fn vanished(&self, part: &StagedPart) -> crate::ConnectorError {
        let error = io::Error::new(
            io::ErrorKind::NotFound,
            "the part is neither staged nor published, so rows are missing: it was written to another 'path', which this one has to name \
             again, or somebody removed it; restore the folder, or start over (`--fresh`)",
        );
        self.root.error("publish", &self.shown(&part.file), &error)
    }

    fn publish_local(&self, root: &Path, folder: &Path, parts: &[StagedPart], all: bool) -> Result<()> {
        let mut changed = BTreeSet::new();
        for part in parts {
            let (from, to) = (folder.join(&part.staged), root.join(&part.file));
            let fail = |error: io::Error| self.root.error("publish", &self.shown(&part.file), &error);
            match (from.try_exists().map_err(fail)?, to.try_exists().map_err(fail)?) {
                (false, true) => {}
                (false, false) if all => return Err(self.vanished(part)),
                (false, false) => continue,
                (true, _) => {
                    let parent = to.parent().unwrap_or(root);
                    std::fs::create_dir_all(parent).map_err(fail)?;
                    std::fs::rename(&from, &to).map_err(fail)?;
                }
            }
            // Also where the rename was done before: the crash may have come before the sync.
            for parent in to.ancestors().skip(1).take_while(|parent| parent.starts_with(root)) {
                changed.insert(parent.to_owned());
            }
        }
        for parent in changed {
            sync_folder(&parent).map_err(|error| self.root.error("sync", &parent.to_string_lossy(), &error))?;
        }
        Ok(())
    }

    fn publish_stored(&self, store: &Store, prefix: &StorePath, part: &StagedPart, all: bool) -> Result<()> {
        let (from, to) = (self.store_staged(prefix, &part.staged), Self::store_file(prefix, &part.file));
        let fail = |error: io::Error| self.root.error("publish", &self.shown(&part.file), &error);
        let is_there = |path: &StorePath| match store.wait(store.store.head(path)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(fail(error)),
        };
        match (is_there(&from)?, is_there(&to)?) {
            (false, false) if all => Err(self.vanished(part)),
            (false, _) => Ok(()),
            // Also where the copy was made and the crash came before the removal.
            (true, _) => {
                store.wait(store.store.copy(&from, &to)).map_err(fail)?;
                store.wait(store.store.delete(&from)).map_err(fail)
            }
        }
    }

    /// Removes published files whose names `unwanted` says so, but none of these parts.
    pub(crate) fn remove_published(&self, kept: &[StagedPart], unwanted: impl Fn(&str) -> bool) -> Result<()> {
        for file in self.root.list(true)? {
            if !file.shown.rsplit('/').next().is_some_and(&unwanted) {
                continue;
            }
            let removed = match (&file.location, self.root.local(), self.root.store()) {
                (Location::Local(path), Some(root), _) if kept.iter().all(|part| root.join(&part.file) != *path) => {
                    std::fs::remove_file(path)
                }
                (Location::Store(store, path), _, Some((_, prefix)))
                    if kept.iter().all(|part| Self::store_file(prefix, &part.file) != *path) =>
                {
                    store.wait(store.store.delete(path))
                }
                _ => Ok(()),
            };
            removed.map_err(|error| self.root.error("remove", &file.shown, &error))?;
        }
        Ok(())
    }

    /// Removes all staged parts but these.
    pub(crate) fn retain(&self, kept: &[StagedPart]) -> Result<()> {
        let keep = |name: &str| kept.iter().any(|part| part.staged == name);
        let fail = |error: io::Error| self.root.error("clean up", &self.shown(&self.folder), &error);
        match (self.local(), self.root.store()) {
            (Some((_, folder)), _) => {
                let entries = match std::fs::read_dir(&folder) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                    entries => entries.map_err(fail)?,
                };
                for entry in entries {
                    let entry = entry.map_err(fail)?;
                    if !keep(&entry.file_name().to_string_lossy()) {
                        std::fs::remove_file(entry.path()).map_err(fail)?;
                    }
                }
            }
            (None, Some((store, prefix))) => {
                let folder = prefix.clone().join(self.folder.as_str());
                let staged: Vec<_> = store.wait(store.store.list(Some(&folder)).try_collect()).map_err(fail)?;
                for meta in staged {
                    if !meta.location.filename().is_some_and(keep) {
                        store.wait(store.store.delete(&meta.location)).map_err(fail)?;
                    }
                }
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// Removes the hidden folder if nothing is in it.
    pub(crate) fn remove_folder(&self) {
        if let Some((_, folder)) = self.local() {
            // A folder that is in use, or was never made, stays as it is.
            let _ = std::fs::remove_dir(folder);
        }
    }

    /// The names of all published files.
    pub(crate) fn published(&self) -> Result<Vec<String>> {
        let found = self.root.list(true)?;
        Ok(found.into_iter().filter_map(|file| file.shown.rsplit('/').next().map(str::to_owned)).collect())
    }
}
