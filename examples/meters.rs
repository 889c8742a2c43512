//! Steps that wait, in one service: windows of keys that fall idle, windows by the clock of the partition, timers by
//! the wall clock, timers and windows beside rows, ticks, chains, a merge, and two tables as one. The system tests kill
//! this one.
//!
//! The sources share nothing but the process and the consumer group: each has a step of its own, so that one run tries
//! them all. What must come of the records is computed beside it (`tests/meters`).

use serde::{Deserialize, Serialize};
use std::time::Duration;
use tidegate::flow::window::{Clock, Pane, Tumbling, Window, Windowed};
use tidegate::flow::{Algorithm, At, Context, EVERY, Key, Reject, Store, TableJoin, Topology};

/// The length of a window, and the time behind its end for which it waits.
pub const WINDOW_MS: i64 = 10_000;
pub const GRACE_MS: i64 = 2_000;
/// The time by the wall clock after which a key of `readings` is idle.
pub const IDLE_MS: i64 = 3_000;
/// The time by the wall clock after which a device is silent.
pub const SILENT_MS: i64 = 1_500;
/// The time within which an order is confirmed.
pub const WAIT_MS: i64 = 60_000;
/// The time between two ticks.
pub const PERIOD_MS: i64 = 10_000;

const fn ms(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

#[derive(Deserialize)]
struct Reading {
    units: i64,
}

/// What a window gives out.
#[derive(Serialize)]
struct Sum {
    start_ms: i64,
    readings: i64,
    units: i64,
    /// 0 where the window is closed, n where it was corrected for the n-th time.
    correction: u32,
}

/// Counts the readings of a window and adds them up.
struct Sums;

impl Windowed for Sums {
    type Event = Reading;
    type Value = (i64, i64);
    type Notices = Option<Sum>;

    fn add(&self, reading: &Reading, (readings, units): &mut (i64, i64), _: &mut Context<'_>) -> Result<(), Reject> {
        *readings += 1;
        *units += reading.units;
        Ok(())
    }

    fn emit(&self, (readings, units): &(i64, i64), window: &Window<'_>) -> Option<Sum> {
        let correction = match window.pane {
            Pane::Correction(n) => n,
            Pane::Final | Pane::Early | Pane::Retraction | Pane::Withdrawal => 0,
        };
        Some(Sum { start_ms: window.start_ms, readings: *readings, units: *units, correction })
    }
}

/// A row: what all windows of a meter gave out, and how many.
#[derive(Serialize, Deserialize)]
struct Meter {
    units: i64,
    windows: i64,
}

#[derive(Serialize)]
struct Total {
    start_ms: i64,
    units: i64,
    windows: i64,
}

/// Adds closed windows up.
struct Bill;

impl Algorithm for Bill {
    type Event = Sum;
    type Row = Meter;
    type Notices = Option<Total>;

    fn apply(&self, sum: Sum, meter: &mut Meter, _: &mut Context<'_>) -> Result<Option<Total>, Reject> {
        meter.units += sum.units;
        meter.windows += 1;
        Ok(Some(Total { start_ms: sum.start_ms, units: meter.units, windows: meter.windows }))
    }
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Heartbeat {
    Alive,
    Off,
}

/// A device that was not heard for a while, or that was switched off: with the number of its heartbeats.
#[derive(Serialize)]
struct Silent {
    beats: i64,
    is_off: bool,
}

/// Tells of each device that is not heard any more.
struct Silence;

impl Algorithm for Silence {
    type Event = Heartbeat;
    type Row = i64;
    type Notices = Option<Silent>;

    fn apply(&self, beat: Heartbeat, beats: &mut i64, context: &mut Context<'_>) -> Result<Option<Silent>, Reject> {
        match beat {
            Heartbeat::Alive => {
                *beats += 1;
                context.set_timer("silent", At::Wall(context.now_ms() + SILENT_MS))?;
                Ok(None)
            }
            Heartbeat::Off => {
                context.cancel_timer("silent")?;
                Ok(Some(Silent { beats: *beats, is_off: true }))
            }
        }
    }

    fn timer(&self, _: &str, beats: &mut i64, _: &mut Context<'_>) -> Result<Option<Silent>, Reject> {
        Ok(Some(Silent { beats: *beats, is_off: false }))
    }
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Order {
    Placed {
        order: String,
        cents: i64,
    },
    Confirmed {
        order: String,
    },
    /// Moves the clock.
    Nothing,
}

/// An order that waits for its confirmation.
#[derive(Serialize, Deserialize)]
struct Placed {
    cents: i64,
    until_ms: i64,
}

/// A row: the cents of an account's orders that wait, that were confirmed in time, and that were not.
#[derive(Serialize, Deserialize)]
struct Account {
    open: i64,
    confirmed: i64,
    lapsed: i64,
}

#[derive(Serialize)]
struct Lapsed {
    order: String,
    cents: i64,
    at_ms: i64,
}

/// Gives up each order that is not confirmed in time; a timer of its account bears its name.
struct Orders {
    placed: Store<Placed>,
}

impl Algorithm for Orders {
    type Event = Order;
    type Row = Account;
    type Notices = Option<Lapsed>;

    fn apply(&self, order: Order, account: &mut Account, context: &mut Context<'_>) -> Result<Option<Lapsed>, Reject> {
        let at_ms = context.event_time_ms();
        match order {
            Order::Placed { order, cents } => {
                let until_ms = at_ms + WAIT_MS;
                context.store(&self.placed)?.put(&order, &Placed { cents, until_ms })?;
                context.set_timer(&order, At::Event(until_ms))?;
                account.open += cents;
            }
            Order::Confirmed { order } => {
                let mut placed = context.store(&self.placed)?;
                // The confirmation may be the first record behind the deadline: it is too late all the same.
                let in_time = placed.get(&order)?.filter(|placed| at_ms < placed.until_ms);
                if let Some(Placed { cents, .. }) = in_time {
                    placed.delete(&order);
                    context.cancel_timer(&order)?;
                    account.open -= cents;
                    account.confirmed += cents;
                }
            }
            Order::Nothing => {}
        }
        Ok(None)
    }

    fn timer(&self, order: &str, account: &mut Account, context: &mut Context<'_>) -> Result<Option<Lapsed>, Reject> {
        let at_ms = context.event_time_ms();
        let mut placed = context.store(&self.placed)?;
        let Some(Placed { cents, .. }) = placed.get(order)? else {
            return Err(Reject::new("a timer without its order"));
        };
        placed.delete(order);
        account.open -= cents;
        account.lapsed += cents;
        Ok(Some(Lapsed { order: order.into(), cents, at_ms }))
    }
}

#[derive(Deserialize)]
struct Payment {
    payer: String,
    cents: i64,
}

/// Adds up what each payer has paid, in whichever way.
struct Paid;

impl Algorithm for Paid {
    type Event = Payment;
    type Row = i64;
    type Notices = Option<i64>;

    fn apply(&self, payment: Payment, sum: &mut i64, _: &mut Context<'_>) -> Result<Option<i64>, Reject> {
        *sum += payment.cents;
        Ok(Some(*sum))
    }
}

/// What a partition has turned over since its last tick.
#[derive(Serialize, Deserialize, Default)]
struct Turned {
    payments: i64,
    cents: i64,
}

#[derive(Serialize)]
struct Turnover {
    partition: i32,
    at_ms: i64,
    #[serde(flatten)]
    turned: Turned,
}

/// Tells once a period what was paid in it.
struct Turnovers {
    turned: Store<Turned>,
}

const TURNED: &str = "turned";

impl Algorithm for Turnovers {
    type Event = Payment;
    type Row = ();
    type Notices = Option<Turnover>;

    fn apply(&self, payment: Payment, (): &mut (), context: &mut Context<'_>) -> Result<Option<Turnover>, Reject> {
        let mut store = context.store(&self.turned)?;
        let mut turned = store.get(TURNED)?.unwrap_or_default();
        turned.payments += 1;
        turned.cents += payment.cents;
        store.put(TURNED, &turned)?;
        Ok(None)
    }

    fn timer(&self, name: &str, (): &mut (), context: &mut Context<'_>) -> Result<Option<Turnover>, Reject> {
        if name != EVERY {
            return Err(Reject::new("a timer that nobody has set"));
        }
        let (partition, at_ms) = (context.partition(), context.event_time_ms());
        let mut store = context.store(&self.turned)?;
        let turned = store.get(TURNED)?.unwrap_or_default();
        store.delete(TURNED);
        Ok(Some(Turnover { partition, at_ms, turned }))
    }
}

#[derive(Serialize, Deserialize)]
struct Tariff {
    cents: i64,
}

#[derive(Serialize, Deserialize)]
struct Discount {
    percent: i64,
}

#[derive(Serialize)]
struct Price {
    cents: Option<i64>,
    percent: Option<i64>,
}

/// An outer join.
struct Prices;

impl TableJoin for Prices {
    type Left = Tariff;
    type Right = Discount;
    type Value = Price;

    fn join(&self, tariff: Option<&Tariff>, discount: Option<&Discount>, _: &Key) -> Option<Price> {
        let (cents, percent) = (tariff.map(|tariff| tariff.cents), discount.map(|discount| discount.percent));
        cents.or(percent).map(|_| Price { cents, percent })
    }
}

/// The pipeline.
pub fn topology() -> Topology {
    let mut topology = Topology::new("meters");
    let windows = || Tumbling::of(ms(WINDOW_MS)).grace(ms(GRACE_MS));

    // Whatever comes behind the idleness corrects its window, so that nothing is lost as late.
    let readings = topology.source("readings").window(windows()).idle_after(ms(IDLE_MS)).corrections_for(ms(3_600_000));
    readings.aggregate("readings", Sums).to("reading-sums");

    let clocked = topology.source("clocked").window(windows()).clock(Clock::PerPartition).late_to("clocked-late");
    clocked.aggregate("clocked", Sums).to("clocked-sums");

    topology.source("heartbeats").aggregate("heartbeats", Silence).with_wall_timers("watches").to("silent-devices");

    let placed = Store::new("placed");
    let orders = topology.source("orders").update("accounts", Orders { placed: placed.clone() });
    orders.with_store(&placed).with_timers("deadlines").to("lapsed-orders");

    topology.source("usage").window(windows()).update("meters", "usage", Sums, Bill).to("meter-totals");

    let by_payer = |payment: &Payment| payment.payer.clone();
    let turned = Store::new("turned");
    topology
        .source("card-payments")
        .chain("payers", |cards| {
            cards
                .key_by("card-payers", by_payer)
                .merge("transfers", |transfers| transfers.key_by("transfer-payers", by_payer))
                .aggregate("paid", Paid)
                .to("paid-sums");
        })
        .chain("turnover", |cards| {
            let turnovers = cards.process(Turnovers { turned: turned.clone() }).with_store(&turned);
            turnovers.with_timers("ticks").every(ms(PERIOD_MS)).to("turnovers");
        });

    topology.source("tariffs").join_tables("discounts").aggregate("prices", Prices).to("told-prices");
    topology
}

#[allow(dead_code, reason = "tests take the topology alone")]
fn main() -> tidegate::Exit {
    tidegate::run(topology())
}
