//! The tables of a pipeline's roll-ups: making them, looking after them, and the tokens of those who may see and write them.

use crate::app::service::Service;
use crate::ports::Clock as _;
use crate::ports::Fault;
use crate::ports::clock::SystemClock;
use crate::ports::rollups::{Keep, RollUpTables as _};

/// Makes the tables that are missing, with their partitions; answers their names.
pub(super) fn create(service: &Service) -> Result<Vec<String>, Fault> {
    let mut made = Vec::new();
    for rollup in service.topology.roll_ups() {
        made.extend(service.roll_up_tables()?.create(&rollup.name)?);
    }
    maintain(service)?;
    Ok(made)
}

/// Makes partitions ahead, and drops what is not kept any more.
pub(super) fn maintain(service: &Service) -> Result<(), Fault> {
    let settings = service.settings.rollup;
    let keep = Keep { quarters_days: settings.quarters_days, hours_days: settings.hours_days };
    let rollups = service.topology.roll_ups();
    if rollups.is_empty() {
        return Ok(());
    }
    let mut tables = service.roll_up_tables()?;
    for rollup in rollups {
        let (made, dropped) = tables.maintain(&rollup.name, keep, SystemClock::default().now().0)?;
        if made + dropped > 0 {
            tracing::info!(rollup = rollup.name, made, dropped, "partitions of a roll-up");
        }
    }
    Ok(())
}
