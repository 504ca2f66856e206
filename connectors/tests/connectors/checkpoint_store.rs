//! Checkpoints survive in a folder and in an object store alike.

use std::path::Path;
use std::sync::Arc;

use eagre_connectors::{Environment, ObjectCheckpointStore};
use eagre_engine::checkpoint::store::CheckpointStore;
use object_store::memory::InMemory;

fn check(store: &ObjectCheckpointStore) {
    assert!(store.put_if_absent("a/1", b"one").expect("put"));
    assert!(!store.put_if_absent("a/1", b"two").expect("put"));
    assert!(store.put_if_absent("a/2", b"").expect("put"));
    assert!(store.put_if_absent("b", b"three").expect("put"));
    assert_eq!(store.get("a/1").expect("get").as_deref(), Some(&b"one"[..]));
    assert_eq!(store.get("a/2").expect("get").as_deref(), Some(&b""[..]));
    assert_eq!(store.get("c").expect("get"), None);
    assert_eq!(store.list("a/").expect("list"), ["a/1", "a/2"]);
    assert_eq!(store.list("").expect("list"), ["a/1", "a/2", "b"]);
    store.delete("a/1").expect("deleted");
    store.delete("a/1").expect("no error");
    assert_eq!(store.get("a/1").expect("get"), None);
    assert!(store.put_if_absent("a/1", b"again").expect("put"));
}

#[test]
fn a_local_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("new/state");
    let store = ObjectCheckpointStore::open(path.to_str().expect("UTF-8"), &Environment::new("p")).expect("a store");
    check(&store);
    // A crash while writing leaves a file that is no object, and that the next start removes.
    std::fs::write(path.join(".tmp-0-0"), "half").expect("written");
    // The first process of a system runs always: what it is writing is no rest of a crash.
    std::fs::write(path.join(".tmp-1-0"), "half").expect("written");
    assert_eq!(store.list("").expect("list"), ["a/1", "a/2", "b"]);
    drop(store);
    ObjectCheckpointStore::open(path.to_str().expect("UTF-8"), &Environment::new("p")).expect("a store");
    assert!(!path.join(".tmp-0-0").exists());
    assert!(path.join(".tmp-1-0").exists() || !Path::new("/proc").exists());
}

/// Many writers, one winner: all the fencing that checkpoints need.
#[test]
fn one_writer_wins() {
    let folder = tempfile::tempdir().expect("a folder");
    let store =
        ObjectCheckpointStore::open(folder.path().to_str().expect("UTF-8"), &Environment::new("p")).expect("a store");
    let winners = std::thread::scope(|scope| {
        let put = |number: u8| store.put_if_absent("manifest", &[number; 1_000]).expect("put");
        let threads: Vec<_> = (0..8).map(|number| scope.spawn(move || put(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).filter(|won| *won).count()
    });
    assert_eq!(winners, 1);
    let bytes = store.get("manifest").expect("get").expect("there");
    assert!(bytes.len() == 1_000 && bytes.iter().all(|byte| *byte == bytes[0]));
}

#[test]
fn an_object_store() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut environment = Environment::new("p");
    environment.object_stores.insert("memory://bucket".into(), Arc::new(InMemory::new()));
    let error =
        ObjectCheckpointStore::open("memory://bucket/state", &environment).err().expect("no runtime").to_string();
    assert!(error.starts_with("checkpoint store: ") && error.contains("needs a tokio runtime"), "{error}");
    environment.runtime = Some(runtime.handle().clone());
    let store = ObjectCheckpointStore::open("memory://bucket/state", &environment).expect("a store");
    check(&store);
    // Also from within a task.
    runtime.block_on(async { store.list("") }).expect("list");
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "x").expect("written");
    let path = file.to_str().expect("UTF-8");
    let error = ObjectCheckpointStore::open(path, &Environment::new("p")).err().expect("refused").to_string();
    assert!(error.contains("checkpoint store: cannot use the folder") && error.contains(path), "{error}");
    let error =
        ObjectCheckpointStore::open("s3://bucket/x", &Environment::new("p")).err().expect("refused").to_string();
    assert!(error.contains("`aws`"), "{error}");
}
