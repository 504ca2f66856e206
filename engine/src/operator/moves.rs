//! Where an operator's kernels run, as the step log and checkpoints have it.
//!
//! CPU and device agree within a tolerance only, so each move between them is an answer from outside: it goes into the step log, and a
//! replay repeats it. A checkpoint has where each kernel was, and after how many of its batches.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type, UInt64Type};
use eagre_kernels::placed::Placement;
use eagre_kernels::placer::{DeviceChoice, Side, Switch};
use serde_json::{Map, Value};

use super::Output;
use crate::delta::batch_of;
use crate::error::{EngineError, Result};
use crate::hash::HashGroups;

const SHARD: &str = "shard";
const PLACES: &str = "places";

/// Where operators of such a placement may run, for `EXPLAIN`.
pub(super) fn runs_on(placement: &Placement) -> &'static str {
    match placement.settings().device {
        DeviceChoice::Cpu => "CPU",
        DeviceChoice::Gpu => "GPU",
        DeviceChoice::Auto => "CPU or GPU, whichever measures faster",
    }
}

/// Moves in the step log: who moved, at which of its batches, and to where.
fn answers_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("first_group", DataType::UInt32, false),
        Field::new("end_group", DataType::UInt32, false),
        Field::new("call", DataType::UInt32, false),
        Field::new("batch", DataType::UInt64, false),
        Field::new("device", DataType::Boolean, false),
    ]))
}

/// Hands over the moves of a shard's kernels, each with its number, where anyone writes them down.
pub(super) fn record(owned: HashGroups, moves: &[(u32, Switch)], out: &mut Output) -> Result<()> {
    if !out.records_answers || moves.is_empty() {
        return Ok(());
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from(vec![u32::from(owned.start); moves.len()])),
        Arc::new(UInt32Array::from(vec![u32::from(owned.end); moves.len()])),
        Arc::new(UInt32Array::from_iter_values(moves.iter().map(|(call, _)| *call))),
        Arc::new(UInt64Array::from_iter_values(moves.iter().map(|(_, switch)| switch.step))),
        Arc::new(moves.iter().map(|(_, switch)| Some(switch.side == Side::Device)).collect::<BooleanArray>()),
    ];
    out.answers.push(batch_of(&answers_schema(), columns, moves.len())?);
    Ok(())
}

/// The recorded moves of one step for each of a shard's kernels; `next` is the number of the batch that each does next.
pub(super) fn recorded(
    operator: &str,
    owned: HashGroups,
    answers: &[RecordBatch],
    next: &[u64],
) -> Result<Vec<Vec<Switch>>> {
    let mut moves: Vec<Vec<Switch>> = vec![Vec::new(); next.len()];
    for answer in answers {
        if answer.schema().fields() != answers_schema().fields() {
            return Err(EngineError::bug(format!("the step log has answers of another operator for `{operator}`")));
        }
        let word = |column: usize, row: usize| answer.column(column).as_primitive::<UInt32Type>().value(row);
        // At another number of shards a shard follows the one that had its first keys then.
        let mine = u32::from(owned.start);
        for row in (0..answer.num_rows()).filter(|row| word(0, *row) <= mine && mine < word(1, *row)) {
            let recorded = answer.column(3).as_primitive::<UInt64Type>().value(row);
            let side = if answer.column(4).as_boolean().value(row) { Side::Device } else { Side::Cpu };
            let call = word(2, row) as usize;
            if let (Some(moves), Some(next)) = (moves.get_mut(call), next.get(call)) {
                // Its batches are counted otherwise then: the move is one of this step.
                let same = word(0, row) == mine && word(1, row) == u32::from(owned.end);
                moves.push(Switch { step: if same { recorded.max(*next) } else { *next }, side });
            }
        }
    }
    Ok(moves)
}

/// What stands in the step log in the place of a kernel's number where an operator has noted something of itself.
const NOTE: u32 = u32::MAX;

/// Hands over a note of this shard, where anyone writes it down: what it means is the operator's.
pub(super) fn record_note(owned: HashGroups, out: &mut Output) -> Result<()> {
    record(owned, &[(NOTE, Switch { step: 0, side: Side::Cpu })], out)
}

/// Whether a shard left a note in a step.
pub(super) fn has_note(owned: HashGroups, answers: &[RecordBatch]) -> bool {
    let mine = u32::from(owned.start);
    answers.iter().any(|answer| {
        let word = |column: usize, row: usize| answer.column(column).as_primitive::<UInt32Type>().value(row);
        (0..answer.num_rows()).any(|row| word(2, row) == NOTE && word(0, row) <= mine && mine < word(1, row))
    })
}

/// Writes where a shard's kernels are into the meta of a checkpoint.
pub(super) fn put_places(owned: HashGroups, places: impl Iterator<Item = (u64, Side)>, meta: &mut Map<String, Value>) {
    meta.insert(SHARD.into(), owned.start.into());
    let places = places.map(|(batches, side)| Value::from(vec![batches.into(), Value::from(side == Side::Device)]));
    meta.insert(PLACES.into(), places.collect());
}

/// Where the kernels of a checkpoint were, in order: those of this shard; at another number of shards, those of some shard.
pub(super) fn places_of(owned: HashGroups, metas: &[Map<String, Value>]) -> Vec<Option<(u64, Side)>> {
    let of_shard = |meta: &&Map<String, Value>| meta.get(SHARD).and_then(Value::as_u64) == Some(u64::from(owned.start));
    let Some(meta) = metas.iter().find(of_shard).or(metas.first()) else { return Vec::new() };
    let places = meta.get(PLACES).and_then(Value::as_array);
    let place = |place: &Value| {
        let side = if place[1].as_bool()? { Side::Device } else { Side::Cpu };
        Some((place[0].as_u64()?, side))
    };
    places.into_iter().flatten().map(place).collect()
}
