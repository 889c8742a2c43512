//! A pairing algorithm as an aggregate: the events of a key that wait are the value under it.

use crate::flow::algorithm::{Algorithm, Context};
use crate::flow::effect::{GivenOut, Parts, Reject};
use crate::flow::net::in_net;
use crate::flow::pairing::waiting::{Reach, Waiting, WaitingEvent, keep};
use crate::flow::pairing::{Pair, Paired};
use crate::flow::record::Timestamp;
use crate::flow::timer::At;
use crate::flow::window::{LATE, Late, Panes};
use std::fmt;

/// The timer of the event that has waited long enough next.
const OVER: &str = "over";

/// A pairing algorithm with its times. Made by
/// [`PairedSource::aggregate`](crate::flow::topology::PairedSource::aggregate).
pub struct InPairs<P: Paired> {
    pub(crate) algorithm: P,
    pub(crate) reach: Reach,
    pub(crate) late: Late,
}

impl<P: Paired> fmt::Debug for InPairs<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InPairs").field("reach", &self.reach).finish_non_exhaustive()
    }
}

/// An event of one of the two streams.
#[derive(Clone, Debug)]
pub enum Side<L, R> {
    /// Of the stream that the source names.
    Left(L),
    /// Of the other one.
    Right(R),
}

type NoticeOf<P> = <<P as Paired>::Notices as IntoIterator>::Item;
type WaitingOf<P> = Waiting<<P as Paired>::Left, <P as Paired>::Right>;

impl<P: Paired> InPairs<P> {
    /// The time at which an event has waited long enough.
    fn over_at(&self, event: &Side<P::Left, P::Right>, at: i64) -> i64 {
        match event {
            Side::Left(_) => self.reach.left_over(at),
            Side::Right(_) => self.reach.right_over(at),
        }
    }

    /// Forgets what has waited long enough, and tells of those that stayed alone, by their times. One that cannot be told takes
    /// no other along.
    fn forget(&self, waiting: &mut WaitingOf<P>, clock: i64, context: &Context<'_>) -> Vec<GivenOut<NoticeOf<P>>> {
        let (left, right) = waiting.take_over(self.reach, clock);
        let key = context.key;
        let lefts = left.iter().filter(|left| !left.is_paired).map(|left| {
            let pair = Pair { key, left_ms: Some(left.at_ms), right_ms: None };
            alone(left.at_ms, || self.algorithm.left_alone(&left.event, &pair))
        });
        let rights = right.iter().filter(|right| !right.is_paired).map(|right| {
            let pair = Pair { key, left_ms: None, right_ms: Some(right.at_ms) };
            alone(right.at_ms, || self.algorithm.right_alone(&right.event, &pair))
        });
        let mut told: Vec<_> = lefts.chain(rights).collect();
        told.sort_by_key(|one| one.start_ms);
        told
    }

    /// Pairs an event with those of the other stream that wait, by their times, and keeps it.
    fn take(
        &self,
        waiting: &mut WaitingOf<P>,
        event: Side<P::Left, P::Right>,
        at_ms: i64,
        context: &Context<'_>,
    ) -> Vec<NoticeOf<P>> {
        let (key, reach) = (context.key, self.reach);
        let mut notices = Vec::new();
        match event {
            Side::Left(event) => {
                let mut is_paired = false;
                for other in waiting.right.iter_mut().filter(|other| reach.pairs(at_ms, other.at_ms)) {
                    let pair = Pair { key, left_ms: Some(at_ms), right_ms: Some(other.at_ms) };
                    notices.extend(self.algorithm.pair(&event, &other.event, &pair));
                    (is_paired, other.is_paired) = (true, true);
                }
                keep(&mut waiting.left, WaitingEvent { at_ms, event, is_paired });
            }
            Side::Right(event) => {
                let mut is_paired = false;
                for other in waiting.left.iter_mut().filter(|other| reach.pairs(other.at_ms, at_ms)) {
                    let pair = Pair { key, left_ms: Some(other.at_ms), right_ms: Some(at_ms) };
                    notices.extend(self.algorithm.pair(&other.event, &event, &pair));
                    (is_paired, other.is_paired) = (true, true);
                }
                keep(&mut waiting.right, WaitingEvent { at_ms, event, is_paired });
            }
        }
        notices
    }

    /// Sees to it that a timer forgets the next event, and keeps those that wait.
    fn put_back(&self, mut waiting: WaitingOf<P>, context: &mut Context<'_>) -> Result<Option<WaitingOf<P>>, Reject> {
        let next = waiting.next_over(self.reach);
        match next {
            _ if next == waiting.over_ms => {}
            Some(next) => context.set_timer(OVER, At::Event(next))?,
            None => context.cancel_timer(OVER)?,
        }
        waiting.over_ms = next;
        Ok(next.map(|_| waiting))
    }

    fn too_late(&self, at: i64, clock: i64) -> Reject {
        match self.late {
            Late::Skip => Reject::skip(LATE),
            Late::DeadLetter => Reject::dead_letter(
                LATE,
                format!(
                    "its time {} lies {} ms behind the clock of its task, and no event of the other stream is waited for any more: give \
                     pairs more grace",
                    Timestamp(at).to_rfc3339(),
                    clock.saturating_sub(at)
                ),
            ),
        }
    }
}

/// What is told of an event that stayed alone.
fn alone<N: IntoIterator>(at_ms: i64, notices: impl FnOnce() -> N) -> GivenOut<N::Item> {
    let notices = in_net(|| Ok(notices().into_iter().collect()));
    GivenOut { start_ms: at_ms, end_ms: at_ms.saturating_add(1), notices }
}

impl<P: Paired> Algorithm for InPairs<P> {
    type Event = Side<P::Left, P::Right>;
    type Row = Option<WaitingOf<P>>;
    type Notices = Panes<NoticeOf<P>>;

    fn apply(
        &self,
        event: Self::Event,
        row: &mut Option<WaitingOf<P>>,
        context: &mut Context<'_>,
    ) -> Result<Panes<NoticeOf<P>>, Reject> {
        let at = context.event_time_ms();
        context.check_event_time(Timestamp(at))?;
        let clock = context.task_clock_ms().map_or(at, |clock| clock.max(at));
        if self.over_at(&event, at) <= clock {
            return Err(self.too_late(at, clock));
        }
        let mut waiting = row.take().unwrap_or_default();
        let mut told = self.forget(&mut waiting, clock, context);
        let pairs = self.take(&mut waiting, event, at, context);
        told.push(GivenOut { start_ms: at, end_ms: at.saturating_add(1), notices: Ok(pairs) });
        *row = self.put_back(waiting, context)?;
        Ok(Panes::of(told))
    }

    fn timer(
        &self,
        _: &str,
        row: &mut Option<WaitingOf<P>>,
        context: &mut Context<'_>,
    ) -> Result<Panes<NoticeOf<P>>, Reject> {
        let mut waiting = row.take().unwrap_or_default();
        waiting.over_ms = None;
        let due = context.event_time_ms();
        let clock = context.task_clock_ms().map_or(due, |clock| clock.max(due));
        let told = self.forget(&mut waiting, clock, context);
        *row = self.put_back(waiting, context)?;
        Ok(Panes::of(told))
    }

    fn parts(notices: Panes<NoticeOf<P>>) -> Parts<Panes<NoticeOf<P>>> {
        Parts::Panes(notices.into_parts())
    }

    fn is_too_late(&self, event: &Self::Event, _: &Self::Row, context: &Context<'_>) -> bool {
        let at = context.event_time_ms();
        let clock = context.task_clock_ms().map_or(at, |clock| clock.max(at));
        context.check_event_time(Timestamp(at)).is_ok() && self.over_at(event, at) <= clock
    }
}
