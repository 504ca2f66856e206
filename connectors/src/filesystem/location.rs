//! Where files are: a local path or an object of a store, behind one face that reads ranges.
//!
//! Local files go through `std::fs`: it is the fast way, and a crash-safe sink needs `fsync` and `rename`, which `object_store`
//! does not promise. Requests to a store run on the injected runtime while the calling thread waits; threads of this room are plain
//! ones, so waiting there blocks nobody else.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use futures::TryStreamExt;
use object_store::path::Path as StorePath;
use object_store::{ObjectStore, ObjectStoreExt};
use url::Url;

use crate::error::{ConnectorError, Result, io_reason};
use crate::table::Environment;

/// Fetched from a store at a time when a file is read from front to back.
const STORE_READ_BYTES: u64 = 8 << 20;

/// A store and the runtime that talks to it.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) store: Arc<dyn ObjectStore>,
    runtime: tokio::runtime::Handle,
    /// The URL in front of every path.
    base: String,
}

impl Store {
    /// Runs a request and waits for it. Works on any thread, also on one that runs tasks itself.
    pub(crate) fn wait<T: Send>(&self, request: impl Future<Output = object_store::Result<T>> + Send) -> io::Result<T> {
        let run = || self.runtime.block_on(request);
        let answer = match tokio::runtime::Handle::try_current() {
            Err(_) => run(),
            // Blocking inside a task is refused by the runtime; a thread of its own may.
            Ok(_) => std::thread::scope(|scope| {
                scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }),
        };
        answer.map_err(store_error)
    }

    pub(crate) fn url(&self, path: &StorePath) -> String {
        format!("{}/{path}", self.base.trim_end_matches('/'))
    }
}

pub(crate) fn store_error(error: object_store::Error) -> io::Error {
    let kind = match &error {
        object_store::Error::NotFound { .. } => io::ErrorKind::NotFound,
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
            io::ErrorKind::AlreadyExists
        }
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            io::ErrorKind::PermissionDenied
        }
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

/// One file.
#[derive(Clone)]
pub(crate) enum Location {
    Local(PathBuf),
    Store(Store, StorePath),
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// Reads an object from front to back in large ranges.
struct StoreRead {
    location: Location,
    at: u64,
    size: u64,
    chunk: io::Cursor<Vec<u8>>,
}

impl Read for StoreRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.chunk.read(buffer)?;
        if read > 0 || self.at >= self.size || buffer.is_empty() {
            return Ok(read);
        }
        let bytes = STORE_READ_BYTES.min(self.size - self.at);
        self.chunk = io::Cursor::new(self.location.read_range(self.at, bytes)?);
        self.at += bytes;
        self.chunk.read(buffer)
    }
}

impl Location {
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// The path or URL.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Local(path) => path.to_string_lossy().into_owned(),
            Self::Store(store, path) => store.url(path),
        }
    }

    /// Size and time of the last change.
    pub(crate) fn stat(&self) -> io::Result<(u64, i64)> {
        match self {
            Self::Local(path) => {
                let metadata = std::fs::metadata(path)?;
                Ok((metadata.len(), modified_ms(&metadata)))
            }
            Self::Store(store, path) => {
                let meta = store.wait(store.store.head(path))?;
                Ok((meta.size, meta.last_modified.timestamp_millis()))
            }
        }
    }

    /// Reads from `offset` to the end.
    pub(crate) fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        match self {
            Self::Local(path) => {
                let mut file = File::open(path)?;
                if file.metadata()?.is_dir() {
                    return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder"));
                }
                if offset > 0 {
                    file.seek(SeekFrom::Start(offset))?;
                }
                Ok(Box::new(file))
            }
            Self::Store(..) => {
                let size = self.stat()?.0;
                Ok(Box::new(StoreRead { location: self.clone(), at: offset, size, chunk: io::Cursor::default() }))
            }
        }
    }

    /// Reads a range, or what there is of it.
    pub(crate) fn read_range(&self, start: u64, bytes: u64) -> io::Result<Vec<u8>> {
        match self {
            Self::Local(path) => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(start))?;
                let mut out = Vec::with_capacity(bytes as usize);
                file.take(bytes).read_to_end(&mut out)?;
                Ok(out)
            }
            Self::Store(_, _) if bytes == 0 => Ok(Vec::new()),
            Self::Store(store, path) => Ok(store.wait(store.store.get_range(path, start..start + bytes))?.to_vec()),
        }
    }
}

fn modified_ms(metadata: &std::fs::Metadata) -> i64 {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    modified.map_or(0, |since| since.as_millis() as i64)
}

/// A file that was found.
#[derive(Debug, Clone)]
pub(crate) struct FoundFile {
    pub(crate) location: Location,
    /// The path or URL: the partition's name.
    pub(crate) shown: String,
    pub(crate) size: u64,
    pub(crate) modified_ms: i64,
}

/// The option `path`, resolved: a file, a folder or a pattern.
#[derive(Clone)]
pub(crate) struct Root {
    table: String,
    path: String,
    kind: RootKind,
}

#[derive(Clone)]
enum RootKind {
    Local(PathBuf),
    Store(Store, StorePath),
}

fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// Files that other programs are still writing, or that are not data: their names start with a dot or an underscore.
fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || name.starts_with('_')
}

impl Root {
    pub(crate) fn new(table: &str, path: &str, environment: &Environment) -> Result<Self> {
        let kind = match path.split_once("://") {
            Some((scheme, _)) if !scheme.contains('/') => Self::of_url(table, path, environment)?,
            _ => RootKind::Local(PathBuf::from(path.strip_prefix("file:").unwrap_or(path))),
        };
        Ok(Self { table: table.to_owned(), path: path.to_owned(), kind })
    }

    fn of_url(table: &str, path: &str, environment: &Environment) -> Result<RootKind> {
        let bad = |expected: String| ConnectorError::BadValue {
            table: table.to_owned(),
            option: "path".into(),
            value: path.to_owned(),
            expected,
        };
        // Patterns are no part of a URL's grammar, so only the part before them is parsed.
        let url = Url::parse(path).map_err(|error| bad(format!("it is no URL: {error}")))?;
        if url.scheme() == "file" {
            let local = path.trim_start_matches("file://");
            return Ok(RootKind::Local(PathBuf::from(local)));
        }
        let runtime = || {
            environment.runtime.clone().ok_or_else(|| ConnectorError::Unsupported {
                table: table.to_owned(),
                message: format!("'{path}' needs a tokio runtime; give one to the session (`Environment::runtime`)"),
            })
        };
        let known = environment.object_stores.iter().find(|(base, _)| path.starts_with(base.as_str()));
        if let Some((base, store)) = known {
            let store = Store { store: Arc::clone(store), runtime: runtime()?, base: base.clone() };
            let rest = StorePath::from(path[base.len()..].trim_matches('/'));
            return Ok(RootKind::Store(store, rest));
        }
        let feature = match url.scheme() {
            "s3" | "s3a" => Some(("aws", cfg!(feature = "aws"))),
            "gs" => Some(("gcp", cfg!(feature = "gcp"))),
            "az" | "abfs" | "abfss" | "azure" => Some(("azure", cfg!(feature = "azure"))),
            "http" | "https" => Some(("http", cfg!(feature = "http"))),
            _ => None,
        };
        match feature {
            None => {
                Err(bad("use a local path, or a URL with file://, s3://, gs://, az://, http:// or https://".into()))
            }
            Some((feature, false)) => {
                Err(ConnectorError::Feature { table: table.to_owned(), url: path.to_owned(), feature })
            }
            Some((_, true)) => {
                let options =
                    environment.object_store_options.iter().map(|(key, value)| (key.as_str(), value.as_str()));
                let (store, rest) =
                    object_store::parse_url_opts(&url, options).map_err(|error| bad(error.to_string()))?;
                // What comes before the path within the store.
                let base = path.strip_suffix(rest.as_ref()).unwrap_or(path).trim_end_matches('/').to_owned();
                Ok(RootKind::Store(Store { store: store.into(), runtime: runtime()?, base }, rest))
            }
        }
    }

    /// The option as written.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The local folder, or the place in a store.
    pub(crate) fn local(&self) -> Option<&FsPath> {
        match &self.kind {
            RootKind::Local(path) => Some(path),
            RootKind::Store(..) => None,
        }
    }

    /// The store and the prefix in it.
    pub(crate) fn store(&self) -> Option<(&Store, &StorePath)> {
        match &self.kind {
            RootKind::Local(_) => None,
            RootKind::Store(store, path) => Some((store, path)),
        }
    }

    pub(crate) fn error(&self, action: &'static str, path: &str, error: &io::Error) -> ConnectorError {
        ConnectorError::Io { table: self.table.clone(), action, path: path.to_owned(), reason: io_reason(error) }
    }

    /// All files, by name. With `may_be_missing` (a watched folder) there may be none yet.
    pub(crate) fn list(&self, may_be_missing: bool) -> Result<Vec<FoundFile>> {
        let mut found = match &self.kind {
            RootKind::Local(path) => self.list_local(path, may_be_missing)?,
            RootKind::Store(store, path) => self.list_store(store, path)?,
        };
        found.sort_by(|a, b| a.shown.cmp(&b.shown));
        if found.is_empty() && !may_be_missing {
            let reason = match is_pattern(&self.path) {
                true => "no file matches; check the pattern, which is taken relative to the working directory",
                false => {
                    "the folder has no files (names that start with `.` or `_` do not count); put some there, or set \
                          'source.monitor-interval' to wait for them"
                }
            };
            return Err(ConnectorError::Io {
                table: self.table.clone(),
                action: "read",
                path: self.path.clone(),
                reason: reason.into(),
            });
        }
        Ok(found)
    }

    fn list_local(&self, path: &FsPath, may_be_missing: bool) -> Result<Vec<FoundFile>> {
        let mut found = Vec::new();
        let text = path.to_string_lossy();
        if is_pattern(&text) && !path.exists() {
            let options = glob::MatchOptions {
                case_sensitive: true,
                require_literal_separator: true,
                require_literal_leading_dot: true,
            };
            let paths = glob::glob_with(&text, options).map_err(|error| ConnectorError::BadValue {
                table: self.table.clone(),
                option: "path".into(),
                value: self.path.clone(),
                expected: format!("it is no pattern: {error}"),
            })?;
            // A pattern may match a folder and, deeper, what is in it.
            let mut seen = BTreeSet::new();
            for path in paths {
                let path = path.map_err(|error| self.error("read", &error.path().to_string_lossy(), error.error()))?;
                let mut here = Vec::new();
                self.walk(&path, &mut here)?;
                found.extend(here.into_iter().filter(|file| seen.insert(file.shown.clone())));
            }
            return Ok(found);
        }
        match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && may_be_missing => Ok(found),
            Err(error) => Err(self.error("read", &self.path, &error)),
            Ok(_) => {
                self.walk(path, &mut found)?;
                Ok(found)
            }
        }
    }

    fn walk(&self, path: &FsPath, found: &mut Vec<FoundFile>) -> Result<()> {
        let shown = path.to_string_lossy().into_owned();
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            // Gone since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.error("read", &shown, &error)),
        };
        if !metadata.is_dir() {
            found.push(FoundFile {
                location: Location::Local(path.to_owned()),
                shown,
                size: metadata.len(),
                modified_ms: modified_ms(&metadata),
            });
            return Ok(());
        }
        let entries = std::fs::read_dir(path).map_err(|error| self.error("read", &shown, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| self.error("read", &shown, &error))?;
            if !is_hidden(&entry.file_name().to_string_lossy()) {
                self.walk(&entry.path(), found)?;
            }
        }
        Ok(())
    }

    fn list_store(&self, store: &Store, path: &StorePath) -> Result<Vec<FoundFile>> {
        let pattern = is_pattern(path.as_ref());
        let fail = |error: io::Error| self.error("read", &self.path, &error);
        let file = |meta: object_store::ObjectMeta| FoundFile {
            shown: store.url(&meta.location),
            size: meta.size,
            modified_ms: meta.last_modified.timestamp_millis(),
            location: Location::Store(store.clone(), meta.location),
        };
        if !pattern {
            match store.wait(store.store.head(path)) {
                Ok(meta) => return Ok(vec![file(meta)]),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // Not every store can answer for a folder; listing tells.
                Err(_) => {}
            }
        }
        let prefix: StorePath = match pattern {
            true => path.parts().take_while(|part| !is_pattern(part.as_ref())).collect(),
            false => path.clone(),
        };
        let listed: Vec<_> = store.wait(store.store.list(Some(&prefix)).try_collect()).map_err(fail)?;
        let matcher = glob::Pattern::new(path.as_ref()).ok().filter(|_| pattern);
        let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
        let inside = prefix.parts().count();
        let wanted = |meta: &object_store::ObjectMeta| {
            let visible = meta.location.parts().skip(inside).all(|part| !is_hidden(part.as_ref()));
            visible && matcher.as_ref().is_none_or(|matcher| matcher.matches_with(meta.location.as_ref(), options))
        };
        Ok(listed.into_iter().filter(wanted).map(file).collect())
    }
}
