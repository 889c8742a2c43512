//! The crash points K1 to K31 (docs/glossary.md) by their names: each ends or stops this process when a test asked
//! for it.
//!
//! They exist with the feature `failpoints` only, which nothing but tests turns on. Without it `failpoint!` expands to
//! nothing, and a test searches the binary for remains of it. A process reads its crash point from the environment:
//! `FAILPOINT=K21=kill@3` sends it SIGKILL where it comes to K21 for the third time, `FAILPOINT=K5=pause@1` SIGSTOP, until
//! somebody sends SIGCONT. Several are separated by commas. The name has no prefix `TIDEGATE_`, under which everything is a
//! setting.
//!
//! It stands among the ports since both the engine and the adapters come to such points.
//!
//! | point | where |
//! |---|---|
//! | K1 | `engine::worker::rows`: records are drawn, no transaction is open |
//! | K2 | behind the steps `OpenDatabase`, `MovePosition`, `WriteRows`: one after the other |
//! | K3 | behind `WriteOutbox` |
//! | K4 | `adapters::postgres::connection`: COMMIT is on the wire, its answer is not read |
//! | K5, K6 | behind `CommitDatabase`; behind `OpenKafka` |
//! | K7 | `engine::relay`: behind each message |
//! | K8, K9 | behind `Produce` and `Flush`; behind `SendOffsets` |
//! | K10 | `adapters::kafka::producer`: a millisecond after `EndTxn` was asked for; on a slow broker before it is answered |
//! | K11 | behind `CommitKafka` |
//! | K12, K13 | `adapters::postgres::partitions`: before and behind the commit that drops an outbox partition |
//! | K14 | `engine::worker::takeover`: a claim is about to be made; behind `Claim`, `ReadCommitted`, `PublishRemainder` |
//! | K15 | `engine::member`: a revoke came, its tasks still hold their batches |
//! | K16 | `adapters::kafka::consumer`: everything is revoked, the group is not left |
//! | K17 | `app::run`: SIGTERM was seen, nothing is drained |
//! | K18, K19, K20 | no place in one process: the tests kill several instances, and servers, at a time |
//! | K21 | `engine::worker::upkeep`: K is proved, the store's write batch is not begun |
//! | K22 | `adapters::rocksdb::store`: another thread ends the process while `RocksDB` writes a batch; where exactly is chance |
//! | K23 | `engine::worker::log`: a batch is decided in memory, its Kafka transaction is not begun |
//! | K24 | `engine::worker::restore`: a slice of the changelog is read, not written |
//! | K25 | `adapters::rocksdb::store`: a batch is written and `RocksDB` says that it flushes or compacts |
//! | K26 | `app::intake`: readings from HTTP are acknowledged, nobody is answered |
//! | K27 | `adapters::postgres::schema`: behind each statement of a migration |
//! | K28, K29 | `adapters::postgres::rollups`: before and behind the commit that makes or drops a partition of a roll-up |
//! | K30, K31 | likewise: a device is deleted from one table more; behind the commit |

#[cfg(feature = "failpoints")]
macro_rules! failpoint {
    ($point:ident) => {
        $crate::ports::failpoint::reach($crate::ports::failpoint::Point::$point)
    };
    // A thread of its own comes to the point so much later, while this one goes on.
    ($point:ident, after $delay:expr) => {
        $crate::ports::failpoint::reach_after($crate::ports::failpoint::Point::$point, $delay)
    };
    // Only where the condition holds.
    ($point:ident, if $condition:expr) => {
        if $condition {
            failpoint!($point)
        }
    };
    // At the point where the future, polled once, waits for an answer.
    ($point:ident, within $exchange:expr) => {
        $crate::ports::failpoint::reach_within($crate::ports::failpoint::Point::$point, $exchange)
    };
}

#[cfg(not(feature = "failpoints"))]
macro_rules! failpoint {
    ($point:ident, within $exchange:expr) => {
        $exchange
    };
    ($($nothing:tt)*) => {};
}

pub(crate) use failpoint;

#[cfg(feature = "failpoints")]
pub(crate) use points::{Point, reach, reach_after, reach_within};

#[cfg(feature = "failpoints")]
mod points {
    use signal_hook::consts::{SIGKILL, SIGSTOP};
    use signal_hook::low_level::raise;
    use std::pin::pin;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Poll;
    use std::time::Duration;

    /// The environment variable in which a test names the crash points and their actions.
    const VARIABLE: &str = "FAILPOINT";

    /// The points that a process comes to.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[rustfmt::skip]
    pub(crate) enum Point {
        K1, K2, K3, K4, K5, K6, K7, K8, K9, K10, K11, K12, K13, K14, K15, K16, K17, K21, K22, K23, K24, K25, K26, K27,
        K28, K29, K30, K31,
    }

    const POINTS: [Point; 28] = [
        Point::K1,
        Point::K2,
        Point::K3,
        Point::K4,
        Point::K5,
        Point::K6,
        Point::K7,
        Point::K8,
        Point::K9,
        Point::K10,
        Point::K11,
        Point::K12,
        Point::K13,
        Point::K14,
        Point::K15,
        Point::K16,
        Point::K17,
        Point::K21,
        Point::K22,
        Point::K23,
        Point::K24,
        Point::K25,
        Point::K26,
        Point::K27,
        Point::K28,
        Point::K29,
        Point::K30,
        Point::K31,
    ];

    /// The action at a crash point.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Action {
        Kill,
        Pause,
    }

    /// One wish of the test.
    #[derive(Debug)]
    struct Armed {
        point: Point,
        action: Action,
        nth: u32,
        seen: AtomicU32,
    }

    impl Armed {
        /// `K21=kill@3`.
        fn parse(text: &str) -> Option<Self> {
            let (name, rest) = text.trim().split_once('=')?;
            let (action, nth) = rest.split_once('@')?;
            let point = POINTS.into_iter().find(|point| format!("{point:?}") == name)?;
            let action = match action {
                "kill" => Action::Kill,
                "pause" => Action::Pause,
                _ => return None,
            };
            let nth = nth.parse().ok().filter(|nth| *nth > 0)?;
            Some(Self { point, action, nth, seen: AtomicU32::new(0) })
        }

        /// Counts one arrival, and answers the action where it is the arrival that was asked for.
        fn arrive(&self) -> Option<Action> {
            (self.seen.fetch_add(1, Ordering::AcqRel) + 1 == self.nth).then_some(self.action)
        }
    }

    fn armed() -> &'static [Armed] {
        static ARMED: OnceLock<Vec<Armed>> = OnceLock::new();
        ARMED.get_or_init(|| {
            let text = std::env::var(VARIABLE).unwrap_or_default();
            let wishes = text.split(',').filter(|wish| !wish.trim().is_empty());
            let parse = |wish: &str| {
                Armed::parse(wish).unwrap_or_else(|| {
                    eprintln!("{VARIABLE}: {wish:?} is no K21=kill@3 and no K5=pause@1 with one of {POINTS:?}");
                    std::process::exit(64)
                })
            };
            wishes.map(parse).collect()
        })
    }

    fn due(point: Point) -> Option<Action> {
        // All of them count this arrival, also those behind one that is due.
        armed().iter().filter(|armed| armed.point == point).filter_map(Armed::arrive).last()
    }

    fn act(point: Point, action: Action) {
        eprintln!("failpoint {point:?}: {action:?}");
        let signal = match action {
            Action::Kill => SIGKILL,
            Action::Pause => SIGSTOP,
        };
        if raise(signal).is_err() {
            std::process::abort();
        }
    }

    /// The process is at `point`.
    pub(crate) fn reach(point: Point) {
        if let Some(action) = due(point) {
            act(point, action);
        }
    }

    /// The process will be at `point` in so long.
    pub(crate) fn reach_after(point: Point, delay: Duration) {
        if let Some(action) = due(point) {
            std::thread::spawn(move || {
                std::thread::sleep(delay);
                act(point, action);
            });
        }
    }

    /// The process is at `point` once `exchange` has sent its question and waits.
    pub(crate) async fn reach_within<T>(point: Point, exchange: impl Future<Output = T>) -> T {
        let mut exchange = pin!(exchange);
        let first = std::future::poll_fn(|context| Poll::Ready(exchange.as_mut().poll(context))).await;
        if let Poll::Ready(answer) = first {
            return answer;
        }
        reach(point);
        exchange.await
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_wish_is_a_point_a_deed_and_a_number() {
            let armed = Armed::parse(" K21=kill@3").unwrap();
            assert_eq!((armed.point, armed.action, armed.nth), (Point::K21, Action::Kill, 3));
            assert_eq!(Armed::parse("K5=pause@1").unwrap().action, Action::Pause);
            for text in ["K20=kill@1", "K5=kill", "K5=kill@0", "K5=wait@1", "K5@1", "k5=kill@1", ""] {
                assert!(Armed::parse(text).is_none(), "{text}");
            }
        }

        #[test]
        fn the_deed_is_done_at_the_nth_arrival_and_at_no_other() {
            let armed = Armed::parse("K7=pause@2").unwrap();
            let actions: Vec<_> = (0..4).map(|_| armed.arrive()).collect();
            assert_eq!(actions, [None, Some(Action::Pause), None, None]);
        }
    }
}
