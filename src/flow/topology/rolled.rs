//! A source whose readings are rolled up.

use crate::flow::codec::Format;
use crate::flow::events::ReadEvent;
use crate::flow::notice::Notice;
use crate::flow::record::TopicName;
use crate::flow::rollup::{Gather, Given, Metered, Patience, RollUp, SeriesKey, Tier, TierRow, Write};
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
    /// `device text, metric text, start_ms bigint, version bigint, buckets bytea`, of which the first three are the key. Where devices
    /// are [watched](Metered::watch), what is known of them is kept in the store `<name>-watched`, and the topic `<name>-alerts` tells of
    /// them.
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
        let watch = metered.watch();
        let mistakes = watch.mistakes(|metric| metered.metric(metric).is_some());
        self.group.topology.errors.extend(mistakes.into_iter().map(|mistake| format!("roll_up {name}: {mistake}")));
        let gather = Gather::new(name, Arc::clone(&metered), patience, watch);
        let (minutes, late, counted) = (gather.minutes.clone(), gather.late.clone(), Arc::clone(&gather.counted));
        let watched = gather.watcher.as_ref().map(|watcher| watcher.store.clone());
        let step = self.process(gather).with_store(&minutes).with_store(&late);
        let timers = format!("{name}-timers");
        let topic = |tier: Tier| format!("{name}-{}", tier.word());
        let mut topology = match watched {
            None => step.with_timers(&timers).into(&topic(Tier::Quarters)),
            Some(watched) => {
                let step = step.with_store(&watched).with_wall_timers(&timers);
                let names = [topic(Tier::Quarters), format!("{name}-alerts")].map(|topic| TopicName::parse(&topic));
                match names {
                    [Ok(quarters), Ok(alerts)] => {
                        let number =
                            |given: &Notice<Given>| Some(usize::from(matches!(given.value(), Some(Given::Alert(_)))));
                        step.finish(Route::Choice(vec![quarters, alerts], Box::new(number)))
                    }
                    // Says what is wrong with the name.
                    _ => step.into(&topic(Tier::Quarters)),
                }
            }
        };
        for tier in Tier::ALL {
            let table = Table::new(&tier.table(name)).compound_key::<SeriesKey>();
            let step = topology
                .source(&topic(tier))
                .update(table, Write { metered: Arc::clone(&metered), tier, counted: Arc::clone(&counted) });
            let step = step.insert_missing(|_| TierRow::default());
            topology = match tier.parent() {
                Some(parent) => step.into(&topic(parent)),
                None => step.finish(Route::Nowhere),
            };
        }
        topology.roll_ups.push(RollUp::new(name, metered, fed, counted));
    }
}
