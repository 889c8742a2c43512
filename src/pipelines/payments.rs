//! Announces each payment that nobody confirmed within ten minutes.
//!
//! Topics `payments`, `payments-open-changelog`, `payments-deadlines-changelog` and `unconfirmed-payments`, described in the folder
//! `topics/payments`. The source is keyed by payment: that it was made, and that it was confirmed, are records of one key. No
//! database: payments that wait for their confirmation lie in the store `open`, beside the partition, and a timer of each in
//! `deadlines`.
//!
//! Ten minutes of event time: any later record of the partition, of whichever payment, fires the timer.

use crate::flow::{Algorithm, At, Context, Reject, Topology};
use serde::{Deserialize, Serialize};

/// The time within which a payment is confirmed.
const WAIT_MS: i64 = 10 * 60 * 1_000;
/// The name of the timer.
const SILENT: &str = "silent";

/// The pipeline; `tidegate::run` gives it a command line.
#[must_use]
pub fn topology() -> Topology {
    let mut topology = Topology::new("payments");
    topology.source("payments").aggregate("open", Confirmations).with_timers("deadlines").to("unconfirmed-payments");
    topology
}

/// The event.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Payment {
    Made { cents: i64 },
    Confirmed,
}

/// A payment that waits for its confirmation.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Debug)]
struct Open {
    cents: i64,
    made_ms: i64,
}

/// The notice for the next topic.
#[derive(Serialize, PartialEq, Debug)]
struct Unconfirmed {
    payment: String,
    #[serde(flatten)]
    open: Open,
}

type Told = Result<Option<Unconfirmed>, Reject>;

/// Waits for the confirmation of each payment.
struct Confirmations;

impl Algorithm for Confirmations {
    type Event = Payment;
    type Row = Option<Open>;
    type Notices = Option<Unconfirmed>;

    fn apply(&self, payment: Payment, open: &mut Option<Open>, context: &mut Context<'_>) -> Told {
        let at_ms = context.event_time_ms();
        match (payment, *open) {
            (Payment::Made { .. }, Some(_)) => return Err(Reject::new("this payment was made already")),
            (Payment::Made { cents }, None) => {
                *open = Some(Open { cents, made_ms: at_ms });
                context.set_timer(SILENT, At::Event(at_ms + WAIT_MS))?;
            }
            // The confirmation may be the first record behind the deadline: it is too late all the same.
            (Payment::Confirmed, Some(Open { made_ms, .. })) if at_ms >= made_ms + WAIT_MS => {}
            (Payment::Confirmed, _) => context.cancel_timer(SILENT).map(|()| *open = None)?,
        }
        Ok(None)
    }

    fn timer(&self, _: &str, open: &mut Option<Open>, context: &mut Context<'_>) -> Told {
        Ok(open.take().map(|open| Unconfirmed { payment: context.key().to_string(), open }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::TopicName;
    use crate::flow::{ExampleStores, Key};

    fn after(payment: Payment, at_ms: i64, mut open: Option<Open>) -> Option<Open> {
        let (topic, key) = (TopicName::parse("payments").unwrap(), Key::from("p-1"));
        let notices = Confirmations.apply(payment, &mut open, &mut Context::example(&topic, &key).at(at_ms));
        assert_eq!(notices.unwrap(), None);
        open
    }

    #[test]
    fn a_confirmation_counts_until_the_deadline() {
        let open = after(Payment::Made { cents: 990 }, 5, None);
        assert_eq!(open, Some(Open { cents: 990, made_ms: 5 }));
        assert_eq!(after(Payment::Confirmed, 4 + WAIT_MS, open), None);
        assert_eq!(after(Payment::Confirmed, 5 + WAIT_MS, open), open);
    }

    #[test]
    fn a_payment_sets_its_deadline_and_the_confirmation_takes_it_back() {
        let (topic, key) = (TopicName::parse("payments").unwrap(), Key::from("p-1"));
        let (mut open, mut stores) = (None, ExampleStores::new().with_timers());
        let made = Payment::Made { cents: 990 };
        Confirmations
            .apply(made, &mut open, &mut Context::example(&topic, &key).at(5).with_stores(&mut stores))
            .unwrap();
        let timers: Vec<_> = stores.timers().into_iter().map(|timer| (timer.key, timer.name, timer.at)).collect();
        assert_eq!(timers, [(b"p-1".to_vec(), SILENT.to_owned(), 5 + WAIT_MS)]);
        let mut context = Context::example(&topic, &key).at(6).with_stores(&mut stores);
        Confirmations.apply(Payment::Confirmed, &mut open, &mut context).unwrap();
        assert_eq!((open, stores.timers()), (None, vec![]));
    }

    #[test]
    fn a_payment_that_waits_no_more_is_told_of_by_nothing() {
        let (topic, key) = (TopicName::parse("payments").unwrap(), Key::from("p-1"));
        let mut context = Context::example(&topic, &key);
        let mut open = Some(Open { cents: 990, made_ms: 5 });
        let told = Confirmations.timer(SILENT, &mut open, &mut context).unwrap().unwrap();
        assert_eq!(serde_json::to_string(&told).unwrap(), r#"{"payment":"p-1","cents":990,"made_ms":5}"#);
        assert_eq!(Confirmations.timer(SILENT, &mut open, &mut context).unwrap(), None);
    }
}
