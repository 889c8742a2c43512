//! A source whose readings are rolled up.

use crate::flow::codec::Format;
use crate::flow::events::ReadEvent;
use crate::flow::record::TopicName;
use crate::flow::rollup::{Gather, Metered, Patience, RollUp, SeriesKey, Tier, TierRow, Write};
use crate::flow::route::Route;
use crate::flow::table::Table;
use crate::flow::topology::Source;
use std::sync::Arc;

impl<S> Source<'_, S> {
    /// Rolls readings of meters and sensors up, by device and metric: into quarters of an hour, hours and days of UTC, each tier in a
    /// table of its own, and for whoever wants to know in a topic of its own. The records' keys name the devices.
    ///
    /// Readings wait in the stores `<name>-minutes` and `<name>-late`, and the timers of their quarters in `<name>-timers`. The topics
    /// are `<name>-quarters`, `<name>-hours` and `<name>-days`, the tables `<name>_quarters`, `<name>_hours` and `<name>_days`:
    /// `device text, metric text, start_ms bigint, version bigint, buckets bytea`, of which the first three are the key.
    ///
    /// A quarter is told once its end and the patience's grace are over by the task's clock, and again whenever it has changed; each
    /// time it makes its hour anew, of all of the hour's quarters, and that its day.
    pub fn roll_up<M: Metered>(self, name: &str, metered: M, patience: Patience)
    where
        S: ReadEvent<M::Event>,
    {
        let metered = Arc::new(metered);
        let lead = self.group.topics.first().cloned().flatten();
        let is_written = |topic: &TopicName| self.group.topology.outputs().contains(topic);
        let fed = lead.filter(|topic| self.group.reading.format == Format::Json && !is_written(topic));
        let gather = Gather::new(name, Arc::clone(&metered), patience);
        let (minutes, late) = (gather.minutes.clone(), gather.late.clone());
        let step = self.process(gather).with_store(&minutes).with_store(&late).with_timers(&format!("{name}-timers"));
        let topic = |tier: Tier| format!("{name}-{}", tier.word());
        let mut topology = step.into(&topic(Tier::Quarters));
        for tier in Tier::ALL {
            let table = Table::new(&tier.table(name)).compound_key::<SeriesKey>();
            let step = topology.source(&topic(tier)).update(table, Write { metered: Arc::clone(&metered), tier });
            let step = step.insert_missing(|_| TierRow::default());
            topology = match tier.parent() {
                Some(parent) => step.into(&topic(parent)),
                None => step.finish(Route::Nowhere),
            };
        }
        topology.roll_ups.push(RollUp::new(name, metered, fed));
    }
}
