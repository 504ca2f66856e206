//! `eagre checkpoint list | inspect | drop`.

use clap::{Args, Subcommand};
use eagre_engine::checkpoint::{self, CheckpointStore, Manifest, drop_checkpoint, read_chunks, read_manifest};

use super::text::print;
use crate::error::{Error, Result};

/// What to do with the checkpoints of a state folder.
#[derive(Debug, Subcommand)]
pub(super) enum CheckpointCommand {
    /// All checkpoints, oldest first.
    List(StateArgs),
    /// One checkpoint: sources, operators, files; reads and verifies every file.
    Inspect(OneArgs),
    /// Removes a checkpoint and the files that only it needs.
    Drop(OneArgs),
}

#[derive(Debug, Args)]
pub(super) struct StateArgs {
    /// The state folder (or object store URL).
    #[arg(long, value_name = "DIR")]
    state: String,
}

#[derive(Debug, Args)]
pub(super) struct OneArgs {
    #[command(flatten)]
    state: StateArgs,
    /// Number of the checkpoint (inspect: default the newest).
    checkpoint: Option<u64>,
}

/// Opens a state folder that must hold something.
pub(super) fn open(location: &str) -> Result<impl CheckpointStore + use<>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| Error::File { path: "the io runtime".to_owned(), error })?;
    let handle = runtime.handle().clone();
    // The command ends soon; its runtime ends with the process.
    std::mem::forget(runtime);
    let nothing = || {
        Error::usage(format!("there are no checkpoints in `{location}`; `eagre run --state {location}` writes them"))
    };
    // Opening makes the folder, and looking must not.
    if !location.contains("://") && !std::path::Path::new(location).exists() {
        return Err(nothing());
    }
    let environment =
        eagre_connectors::Environment { runtime: Some(handle), ..eagre_connectors::Environment::new("checkpoint") };
    let store = eagre_connectors::ObjectCheckpointStore::open(location, &environment)?;
    if checkpoint::list(&store)?.is_empty() {
        return Err(nothing());
    }
    Ok(store)
}

pub(super) fn run(command: CheckpointCommand) -> Result<()> {
    match command {
        CheckpointCommand::List(args) => {
            let store = open(&args.state)?;
            print(format_args!(
                "{:>10} {:>10} {:>12} {:>8} {:>14} finished",
                "checkpoint", "step", "rows", "shards", "state_bytes"
            ))?;
            for id in checkpoint::list(&store)? {
                match read_manifest(&store, id) {
                    Ok(manifest) => print(format_args!(
                        "{id:>10} {:>10} {:>12} {:>8} {:>14} {}",
                        manifest.step,
                        live_rows(&manifest),
                        manifest.shards,
                        manifest.state_bytes(),
                        if manifest.finished { "yes" } else { "no" }
                    ))?,
                    Err(error) => print(format_args!("{id:>10} {error}"))?,
                }
            }
            Ok(())
        }
        CheckpointCommand::Inspect(args) => {
            let store = open(&args.state.state)?;
            let newest = checkpoint::list(&store)?.last().copied();
            let id = args.checkpoint.or(newest).ok_or_else(|| Error::usage("there is no checkpoint"))?;
            inspect(&store, &read_manifest(&store, id)?)
        }
        CheckpointCommand::Drop(args) => {
            let store = open(&args.state.state)?;
            // Who runs there reuses the files of earlier checkpoints.
            let _locked = super::run::lock(&args.state.state, true, "stop it before a checkpoint is dropped")?;
            let id = args.checkpoint.ok_or_else(|| {
                Error::command_line("which checkpoint is to be dropped? `eagre checkpoint list` shows them")
            })?;
            let all = checkpoint::list(&store)?;
            if all == [id] {
                return Err(Error::usage(format!(
                    "checkpoint {id} is the only one: without it the pipeline would begin anew and write all its rows a second time, beside \
                     those that it has published; to have that, empty its outputs and run it with --fresh"
                )));
            }
            let newest = all.last() == Some(&id);
            drop_checkpoint(&store, id)?;
            print(format_args!("dropped checkpoint {id}"))?;
            if newest {
                print(format_args!(
                    "it was the newest: when the pipeline goes on, files that were published with it are replaced; what went to \
                     standard output comes again"
                ))?;
            }
            Ok(())
        }
    }
}

fn live_rows(manifest: &Manifest) -> u64 {
    manifest.operators.values().map(|operator| operator.live_rows).sum()
}

fn inspect(store: &dyn CheckpointStore, manifest: &Manifest) -> Result<()> {
    print(format_args!(
        "checkpoint {} after step {} ({} shards, format {}, hash {}{})",
        manifest.checkpoint,
        manifest.step,
        manifest.shards,
        manifest.format_version,
        manifest.hash_version,
        if manifest.finished { ", finished" } else { "" }
    ))?;
    for source in manifest.sources.values() {
        print(format_args!("source {}", source.table))?;
        for (name, partition) in &source.partitions {
            let place = partition
                .place
                .as_ref()
                .map_or("beginning".to_owned(), |place| format!("{} + {} rows", place.position, place.rows));
            print(format_args!("  partition {name}: at {place}{}", if partition.ended { ", ended" } else { "" }))?;
        }
    }
    for (id, operator) in &manifest.operators {
        let rows: u64 = operator.files.iter().map(|file| file.rows).sum();
        let chunks = read_chunks(store, manifest, operator)?;
        print(format_args!(
            "operator {} ({id}): {} live rows, {} files with {rows} rows in {} chunks, all readable",
            operator.name,
            operator.live_rows,
            operator.files.len(),
            chunks.len()
        ))?;
        for file in &operator.files {
            print(format_args!("  {} ({} bytes)", file.name, file.bytes))?;
        }
    }
    for id in manifest.sinks.keys() {
        let transaction =
            manifest.sink_transaction(id).map_or_else(|| "nothing to publish".to_owned(), ToString::to_string);
        print(format_args!("sink {id}: {transaction}"))?;
    }
    Ok(())
}
