//! One write to a row of the database model.

use crate::adapters::memory::rows::transaction::refused;
use crate::adapters::memory::tables::{Place, StoredRow, StoredTable};
use crate::flow::row::Value;
use crate::ports::Fault;
use crate::ports::rows::{RowWrite, WriteFault, WriteKind};

/// The row that a write leaves of `current`, which is the row as the transaction has it, where it has locked it. `None` where
/// it is deleted.
pub(super) fn written(
    (name, stored, places): (&str, &StoredTable, &[Place]),
    row: &RowWrite,
    current: Option<&StoredRow>,
) -> Result<Option<StoredRow>, WriteFault> {
    let key = &row.key;
    let mut next = match (row.kind, current) {
        (WriteKind::Insert, Some(_)) => {
            return Err(
                Fault::retry(format!("table {name}: row {key} was inserted by another program meanwhile")).into()
            );
        }
        (WriteKind::Insert, None) => StoredRow { version: 0, values: vec![Value::Null; stored.value_count()] },
        (WriteKind::Update | WriteKind::Delete, Some(current)) => current.clone(),
        (WriteKind::Update | WriteKind::Delete, None) => {
            return Err(Fault::corrupt(format!("table {name}: row {key} is written and was not read")).into());
        }
    };
    if stored.has_version && next.version != row.from_version {
        let (found, believed) = (next.version, row.from_version);
        return Err(Fault::corrupt(format!("table {name}: row {key} has version {found}, not {believed}")).into());
    }
    if row.kind == WriteKind::Delete {
        return Ok(None);
    }
    for (place, value) in places.iter().zip(&row.values) {
        if let Place::Value(place) = place
            && !stored.made.contains_key(place)
            && let Some(cell) = next.values.get_mut(*place)
        {
            *cell = value.clone();
        }
    }
    if let Some(round) = &stored.rounding {
        round(&mut next.values);
    }
    stored.make(&mut next.values);
    if stored.has_version {
        next.version = row.to_version;
    }
    match stored.refusal(&next.values) {
        Some(message) => Err(refused(message)),
        None => Ok(Some(next)),
    }
}
