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
const OVER: &str = "\0over";

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
    /// Forgets what has waited long enough, and tells of those that stayed alone, by their times. One that cannot be told takes
    /// no other along.
    fn forget(&self, waiting: &mut WaitingOf<P>, clock: i64, context: &Context<'_>) -> Vec<GivenOut<NoticeOf<P>>> {
        let (left, right) = waiting.take_over(self.reach, clock);
        let key = context.key;
        let lefts = left.iter().filter(|left| !left.is_paired).map(|left| {
            let pair = Pair { key, left_ms: Some(left.at_ms), right_ms: None };
            tell(&pair, || self.algorithm.left_alone(&left.event, &pair))
        });
        let rights = right.iter().filter(|right| !right.is_paired).map(|right| {
            let pair = Pair { key, left_ms: None, right_ms: Some(right.at_ms) };
            tell(&pair, || self.algorithm.right_alone(&right.event, &pair))
        });
        let mut told: Vec<_> = lefts.chain(rights).collect();
        told.sort_by_key(|one| one.start_ms);
        told
    }

    /// Pairs an event with those of the other stream that wait, by their times, and keeps it. A pair that cannot be told takes no
    /// other along.
    fn take(
        &self,
        waiting: &mut WaitingOf<P>,
        event: Side<P::Left, P::Right>,
        at_ms: i64,
        context: &Context<'_>,
    ) -> Vec<GivenOut<NoticeOf<P>>> {
        let (key, reach, algorithm) = (context.key, self.reach, &self.algorithm);
        let mut told = Vec::new();
        match event {
            Side::Left(event) => {
                for other in waiting.right.iter_mut().filter(|other| reach.pairs(at_ms, other.at_ms)) {
                    let pair = Pair { key, left_ms: Some(at_ms), right_ms: Some(other.at_ms) };
                    told.push(tell(&pair, || algorithm.pair(&event, &other.event, &pair)));
                    other.is_paired = true;
                }
                keep(&mut waiting.left, WaitingEvent { at_ms, event, is_paired: !told.is_empty() });
            }
            Side::Right(event) => {
                for other in waiting.left.iter_mut().filter(|other| reach.pairs(other.at_ms, at_ms)) {
                    let pair = Pair { key, left_ms: Some(other.at_ms), right_ms: Some(at_ms) };
                    told.push(tell(&pair, || algorithm.pair(&other.event, &event, &pair)));
                    other.is_paired = true;
                }
                keep(&mut waiting.right, WaitingEvent { at_ms, event, is_paired: !told.is_empty() });
            }
        }
        told
    }

    /// Sees to it that a timer forgets the next event, and keeps those that wait.
    fn put_back(&self, mut waiting: WaitingOf<P>, context: &mut Context<'_>) -> Result<Option<WaitingOf<P>>, Reject> {
        let next = waiting.next_over(self.reach);
        // One that has passed may be gone: a timer that failed is over.
        let is_ahead = |next: &i64| context.task_clock_ms().is_none_or(|clock| clock < *next);
        match next {
            _ if next == waiting.over_ms && next.as_ref().is_none_or(is_ahead) => {}
            Some(next) => context.set_own_timer(OVER, At::Event(next))?,
            None => context.cancel_own_timer(OVER)?,
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
                    "its time {} lies {} ms behind the clock of its task, and late events are waited for {} ms: give pairs more grace",
                    Timestamp(at).to_rfc3339(),
                    clock.saturating_sub(at),
                    self.reach.grace
                ),
            ),
        }
    }
}

/// What is told of a pair, or of an event that stayed alone, with the span of its times.
fn tell<N: IntoIterator>(pair: &Pair<'_>, notices: impl FnOnce() -> N) -> GivenOut<N::Item> {
    let times = || pair.left_ms.into_iter().chain(pair.right_ms);
    let (first, last) = (times().min().unwrap_or_default(), times().max().unwrap_or_default());
    let notices = in_net(|| Ok(notices().into_iter().collect()));
    GivenOut { start_ms: first, end_ms: last.saturating_add(1), at_ms: None, notices }
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
        if self.reach.is_late(at, clock) {
            return Err(self.too_late(at, clock));
        }
        // What has waited long enough is in nobody's reach that is not late; timers tell of it behind the record.
        let mut waiting = row.take().unwrap_or_default();
        let told = self.take(&mut waiting, event, at, context);
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
        // However far the clock has come: those of other keys are told in between.
        let told = self.forget(&mut waiting, context.event_time_ms(), context);
        *row = self.put_back(waiting, context)?;
        Ok(Panes::of(told))
    }

    fn parts(notices: Panes<NoticeOf<P>>) -> Parts<Panes<NoticeOf<P>>> {
        Parts::Panes(notices.into_parts())
    }

    fn is_too_late(&self, _: &Self::Event, _: &Self::Row, context: &Context<'_>) -> bool {
        let at = context.event_time_ms();
        let clock = context.task_clock_ms().map_or(at, |clock| clock.max(at));
        context.check_event_time(Timestamp(at)).is_ok() && self.reach.is_late(at, clock)
    }
}
