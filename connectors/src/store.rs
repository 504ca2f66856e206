//! Checkpoints on local disk or in any object store.
//!
//! The local store does not go through `object_store`: a checkpoint must survive a power cut, so bytes are synced before their name
//! appears (a hard link, which fails if the name is taken: put-if-absent in one step), and the folder is synced after.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use eagre_engine::EngineError;
use eagre_engine::checkpoint::store::CheckpointStore;
use futures::TryStreamExt;
use object_store::path::Path as StorePath;
use object_store::{ObjectStoreExt, PutMode, PutPayload};

use crate::error::{ConnectorError, io_reason};
use crate::filesystem::durable_file::write_durably;
use crate::filesystem::location::{Root, Store};
use crate::filesystem::staging::sync_folder;
use crate::table::Environment;

/// Names of files that are not whole yet.
const TEMPORARY_PREFIX: &str = ".tmp-";

/// A checkpoint store in a local folder or under a URL.
pub struct ObjectCheckpointStore {
    shown: String,
    place: Place,
}

enum Place {
    Local(PathBuf),
    Store(Store, StorePath),
}

static TEMPORARY_COUNT: AtomicU64 = AtomicU64::new(0);

impl ObjectCheckpointStore {
    /// Opens a folder (made if it is not there) or a URL such as `s3://bucket/path`.
    ///
    /// # Errors
    /// The folder cannot be made, read or written; or the URL needs a cargo feature or a runtime that is not there.
    pub fn open(path: &str, environment: &Environment) -> eagre_engine::Result<Self> {
        let unnamed = |error: ConnectorError| {
            // The options of a table are not what the user wrote here.
            let text = error.to_string();
            let text = text.strip_prefix("table `checkpoint store`: ").unwrap_or(&text).to_owned();
            EngineError::Store { message: text }
        };
        let root = Root::new("checkpoint store", path, environment).map_err(unnamed)?;
        let place = match (root.local(), root.store()) {
            (Some(folder), _) => {
                let fail = |error: io::Error| EngineError::Store {
                    message: format!("cannot use the folder `{path}`: {}", io_reason(&error)),
                };
                std::fs::create_dir_all(folder).map_err(fail)?;
                // Fails now and not at the first checkpoint if the folder cannot be read or written.
                std::fs::read_dir(folder).map_err(fail)?;
                let probe = temporary(folder);
                File::create(&probe).and_then(|_| std::fs::remove_file(&probe)).map_err(fail)?;
                Place::Local(folder.to_owned())
            }
            (None, Some((store, prefix))) => Place::Store(store.clone(), prefix.clone()),
            (None, None) => return Err(EngineError::bug("a root is local or in a store")),
        };
        let store = Self { shown: path.to_owned(), place };
        store.remove_temporaries()?;
        Ok(store)
    }

    fn fail(&self, action: &str, name: &str, error: &io::Error) -> EngineError {
        let path = format!("{}/{name}", self.shown.trim_end_matches('/'));
        EngineError::Store { message: format!("cannot {action} `{path}`: {}", io_reason(error)) }
    }

    /// What a crash left half-written. Files of a process that runs stay: whoever only looks at the folder must not take them away.
    fn remove_temporaries(&self) -> eagre_engine::Result<()> {
        if let Place::Local(folder) = &self.place {
            for path in walk(folder).map_err(|error| self.fail("list", "", &error))? {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let writer = name.strip_prefix(TEMPORARY_PREFIX).and_then(|rest| rest.split('-').next());
                if writer.is_some_and(|process| !is_running(process)) {
                    std::fs::remove_file(&path).map_err(|error| self.fail("remove", &name, &error))?;
                }
            }
        }
        Ok(())
    }
}

/// Whether the process of a number runs, as far as can be seen; of this one it is known.
fn is_running(process: &str) -> bool {
    let Ok(number) = process.parse::<u32>() else { return false };
    number == std::process::id() || Path::new("/proc").join(number.to_string()).exists()
}

fn temporary(folder: &Path) -> PathBuf {
    let count = TEMPORARY_COUNT.fetch_add(1, Ordering::Relaxed);
    folder.join(format!("{TEMPORARY_PREFIX}{}-{count}", std::process::id()))
}

fn walk(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    Ok(found)
}

fn put_local(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<bool> {
    let target = folder.join(name);
    let parent = target.parent().unwrap_or(folder);
    if target.try_exists()? {
        return Ok(false);
    }
    if !parent.is_dir() {
        std::fs::create_dir_all(parent)?;
        for made in parent.ancestors().skip(1).take_while(|made| made.starts_with(folder)) {
            sync_folder(made)?;
        }
    }
    let temporary = temporary(parent);
    let write = || {
        write_durably(&temporary, bytes)?;
        std::fs::hard_link(&temporary, &target)
    };
    let outcome = write();
    let removed = std::fs::remove_file(&temporary);
    match outcome {
        Ok(()) => {
            removed?;
            sync_folder(parent)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

impl CheckpointStore for ObjectCheckpointStore {
    fn describe(&self) -> String {
        self.shown.clone()
    }

    fn is_near(&self) -> bool {
        matches!(self.place, Place::Local(_))
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> eagre_engine::Result<bool> {
        let answer = match &self.place {
            Place::Local(folder) => put_local(folder, name, bytes),
            Place::Store(store, prefix) => {
                let path = object_path(prefix, name);
                let payload = PutPayload::from(bytes.to_vec());
                let put = async {
                    match object_store::ObjectStore::put_opts(&store.store, &path, payload, PutMode::Create.into())
                        .await
                    {
                        Ok(_) => Ok(true),
                        Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                            Ok(false)
                        }
                        Err(error) => Err(error),
                    }
                };
                store.wait(put)
            }
        };
        answer.map_err(|error| self.fail("write", name, &error))
    }

    fn get(&self, name: &str) -> eagre_engine::Result<Option<Vec<u8>>> {
        let answer = match &self.place {
            Place::Local(folder) => std::fs::read(folder.join(name)),
            Place::Store(store, prefix) => {
                let path = object_path(prefix, name);
                store.wait(async { store.store.get(&path).await?.bytes().await }).map(|bytes| bytes.to_vec())
            }
        };
        match answer {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.fail("read", name, &error)),
        }
    }

    fn list(&self, prefix: &str) -> eagre_engine::Result<Vec<String>> {
        let fail = |error: io::Error| self.fail("list", prefix, &error);
        let mut names: Vec<String> = match &self.place {
            Place::Local(folder) => {
                let paths = walk(folder).map_err(fail)?;
                let name =
                    |path: &PathBuf| path.strip_prefix(folder).map(|name| name.to_string_lossy().replace('\\', "/"));
                paths.iter().filter_map(|path| name(path).ok()).collect()
            }
            Place::Store(store, base) => {
                let listed = store.store.list(Some(base)).map_ok(|meta| meta.location).try_collect::<Vec<_>>();
                let strip = |path: StorePath| {
                    let rest = path.as_ref().strip_prefix(base.as_ref())?.trim_start_matches('/').to_owned();
                    Some(rest)
                };
                store.wait(listed).map_err(fail)?.into_iter().filter_map(strip).collect()
            }
        };
        let hidden = |name: &str| name.rsplit('/').next().is_some_and(|file| file.starts_with(TEMPORARY_PREFIX));
        names.retain(|name| name.starts_with(prefix) && !hidden(name));
        names.sort();
        Ok(names)
    }

    fn delete(&self, name: &str) -> eagre_engine::Result<()> {
        let answer = match &self.place {
            Place::Local(folder) => std::fs::remove_file(folder.join(name)),
            Place::Store(store, prefix) => store.wait(store.store.delete(&object_path(prefix, name))),
        };
        match answer {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.fail("remove", name, &error)),
            _ => Ok(()),
        }
    }
}

fn object_path(prefix: &StorePath, name: &str) -> StorePath {
    name.split('/').fold(prefix.clone(), |path, part| path.join(part))
}
