//! The plan of a repair. Pure: from the state of one source partition and the operator's action it makes the position
//! and the committed offset as they are to be, or a refusal.
//!
//! A crash between the two writes leaves numbers that halt at the next takeover, or that are right already, and the
//! same command finishes the work. That is why the database comes first, with P = D (a K elsewhere then contradicts
//! it), except where the rows shall catch up with K: then K alone knows how far the messages are published, and is
//! written before D goes back.
//!
//! A step without rows has no position: there K alone is written.

use crate::engine::protocol::metadata::{
    SetBack, accepted, committed as our_committed, is_ours, is_replay, partition_count, replayed, set_back, topic_id,
};
use crate::flow::record::NextOffset;
use crate::flow::topology::CommitKind;
use crate::ports::rows::Position;
use crate::ports::source::{Bounds, Committed, LogIds};
use std::fmt;

/// The target of a repair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// This offset is the next one.
    Offset(NextOffset),
    /// The log's start at the time of the repair.
    Start,
    /// The log's end at the time of the repair.
    End,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offset(offset) => write!(f, "{offset}"),
            Self::Start => f.write_str("start"),
            Self::End => f.write_str("end"),
        }
    }
}

/// The handling of messages that were published before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outputs {
    /// They are published again.
    Emit,
    /// They are not published again.
    Suppress,
}

/// The operator's action.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// K decides.
    AdoptGroup,
    /// D decides.
    AdoptDatabase,
    /// Both go to `to`.
    Reset {
        /// The next offset.
        to: Target,
        /// Must be given where records are taken again.
        outputs: Option<Outputs>,
    },
    /// The rows catch up with K.
    Replay {
        /// Whether published messages are published again.
        outputs: Outputs,
    },
    /// Both go forward; the records before have no effect.
    Skip {
        /// The next offset.
        to: Target,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = |outputs: Outputs| match outputs {
            Outputs::Emit => " --emit",
            Outputs::Suppress => " --suppress-output",
        };
        match self {
            Self::AdoptGroup => f.write_str("adopt --from-group"),
            Self::AdoptDatabase => f.write_str("adopt --from-database"),
            Self::Reset { to, outputs } => write!(f, "reset --to {to}{}", outputs.map_or("", flag)),
            Self::Replay { outputs } => write!(f, "replay{}", flag(*outputs)),
            Self::Skip { to } => write!(f, "skip --to {to}"),
        }
    }
}

/// The state of one source partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The commit of its step.
    pub commit: CommitKind,
    /// Whether its step has stores.
    pub is_stateful: bool,
    /// The position, where there is one.
    pub position: Option<Position>,
    /// K.
    pub committed: Option<Committed>,
    /// L and H.
    pub bounds: Bounds,
    /// The ids of the present log.
    pub log_ids: LogIds,
    /// Partition count of the topic.
    pub partition_count: i32,
    /// The least offset that it had when changelog records were decided that came with other inputs of its task and may not be
    /// published yet. Beyond it, it would pass for the proof that they are.
    pub unproved: Option<NextOffset>,
    /// Whether changelog records that came with it may not be published yet.
    pub has_changelog_rows: bool,
}

/// Why an input is not moved on, and the way out.
pub(crate) const UNORDERED: &str = "changelog records of its task are decided and may not be published, and their order runs over all \
     inputs of the task. Start an instance, whose takeover publishes them, and wait until it runs; then stop it and repeat this \
     command. Where it halts as `inputs-deleted`, give it `pipeline.on_data_loss: skip`; as `group-reset`, delete the group's offset \
     of that partition first";

/// The plan for one source partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The position to write, but for its epoch; `None` where the step has no rows.
    pub position: Option<Position>,
    /// The K to write, with the position's present epoch.
    pub committed: Committed,
    /// Half-open: decided inputs whose messages are looked up first, and published where they are missing.
    pub unpublished: (NextOffset, NextOffset),
    /// The inputs of [`excused`](crate::ports::repair::NotedRepair::excused).
    pub excused: (NextOffset, NextOffset),
    /// K is written before the position.
    pub is_group_first: bool,
    /// Position and K are as planned already.
    pub is_done: bool,
}

impl Plan {
    /// Whether it would write the same, whatever epochs the positions have by now: the repair of another input of the task raises
    /// them.
    pub(crate) fn does_as(&self, shown: &Self) -> bool {
        let written = |plan: &Self| {
            let position = plan.position.clone().map(|position| Position { epoch: 0, ..position });
            (position, plan.committed.next_offset, plan.unpublished, plan.excused, plan.is_group_first, plan.is_done)
        };
        written(self) == written(shown)
    }
}

/// Plans. Pure.
///
/// # Errors
/// A sentence for the operator: the reason of the refusal, and the command to use instead.
pub fn plan(pipeline: &str, action: Action, known: &Known) -> Result<Plan, String> {
    let plan = match known.commit {
        CommitKind::Rows => Rowed { pipeline, known }.plan(action),
        CommitKind::Log => plan_log(pipeline, action, known),
    }?;
    let published = plan.position.as_ref().map_or(NextOffset(0), |position| position.published);
    let reached = published.max(plan.committed.next_offset);
    let passes = known.unproved.is_some_and(|at| reached > at);
    let publishes = known.has_changelog_rows && plan.unpublished.0 < plan.unpublished.1;
    if (passes || publishes) && !plan.is_done { Err(UNORDERED.into()) } else { Ok(plan) }
}

/// The offset that a target stands for.
fn resolve(to: Target, bounds: Bounds) -> Result<NextOffset, String> {
    let Bounds { start, end } = bounds;
    match to {
        Target::Start => Ok(start),
        Target::End => Ok(end),
        Target::Offset(to) if to < start => {
            Err(format!("the records before {start} are gone; `--to start` is the furthest back"))
        }
        Target::Offset(to) if to > end => Err(format!("{to} lies beyond the log's end {end}")),
        Target::Offset(to) => Ok(to),
    }
}

/// A step with rows.
struct Rowed<'a> {
    pipeline: &'a str,
    known: &'a Known,
}

impl Rowed<'_> {
    fn plan(&self, action: Action) -> Result<Plan, String> {
        match action {
            Action::AdoptGroup => self.adopt_group(),
            Action::AdoptDatabase => self.adopt_database(),
            Action::Reset { to, outputs } => self.reset(resolve(to, self.known.bounds)?, outputs),
            Action::Replay { outputs } => self.replay(outputs),
            Action::Skip { to } => self.skip(resolve(to, self.known.bounds)?),
        }
    }

    /// K, if this pipeline wrote it.
    fn our_k(&self) -> Option<NextOffset> {
        let ours = self.known.committed.as_ref().filter(|k| is_ours(self.pipeline, k));
        ours.map(|k| k.next_offset)
    }

    /// Refuses for stores: they hold committed state and cannot follow their rows back.
    fn without_stores(&self) -> Result<(), String> {
        if self.known.is_stateful {
            return Err(
                "the step has stores, which do not go back with its rows; restore the database, or `skip`".into()
            );
        }
        Ok(())
    }

    fn required(&self) -> Result<&Position, String> {
        self.known.position.as_ref().ok_or_else(|| {
            "the database has no position here; `adopt --from-group` or `reset --to` makes one".to_owned()
        })
    }

    fn is_same_log(&self, position: &Position) -> bool {
        let differs = |noted: &str, found: &str| !noted.is_empty() && !found.is_empty() && noted != found;
        let (noted, found) = (&position.log_ids, &self.known.log_ids);
        !differs(&noted.cluster_id, &found.cluster_id) && !differs(&noted.topic_id, &found.topic_id)
    }

    fn same_log(&self, position: &Position) -> Result<(), String> {
        if self.is_same_log(position) {
            return Ok(());
        }
        Err("the position belongs to another topic or cluster; `reset --to start` begins with this one".into())
    }

    /// The position at `at` in the present log.
    fn at(&self, at: NextOffset, published: NextOffset, incarnation: i32) -> Position {
        Position {
            epoch: self.known.position.as_ref().map_or(1, |position| position.epoch),
            next_offset: at,
            published,
            incarnation,
            group: self.pipeline.into(),
            log_ids: self.known.log_ids.clone(),
            partition_count: self.known.partition_count,
        }
    }

    /// Both offsets go to that of `position`, the database first.
    fn together(&self, position: Position, excused: (NextOffset, NextOffset)) -> Plan {
        let marks = self.known.is_stateful.then(|| accepted(None, self.known.partition_count, None));
        let committed = our_committed(self.pipeline, position.epoch, position.next_offset, marks.as_deref());
        self.made(position, committed, excused, false)
    }

    fn made(
        &self,
        position: Position,
        committed: Committed,
        excused: (NextOffset, NextOffset),
        is_group_first: bool,
    ) -> Plan {
        let unpublished = self.known.position.as_ref().map_or((NextOffset(0), NextOffset(0)), |before| {
            let (d, p) = (before.next_offset, before.published);
            // A K of ours beyond D in the same log: every message before D was published before the database went back.
            let is_published = |k: &NextOffset| *k >= p && (*k <= d || self.is_same_log(before));
            (self.our_k().filter(is_published).map_or(p, |k| k.min(d)), d)
        });
        // P may lag behind K for good; everything else must be as planned.
        let is_position_done = self.known.position.as_ref().is_some_and(|before| {
            *before == Position { published: before.published, ..position.clone() }
                && before.published <= committed.next_offset
        });
        let is_group_done = self.known.committed.as_ref().is_some_and(|k| {
            let is_same = k.next_offset == committed.next_offset && is_replay(k) == is_replay(&committed);
            is_same && is_ours(self.pipeline, k)
        });
        let is_done = is_position_done && is_group_done;
        Plan { position: Some(position), committed, unpublished, excused, is_group_first, is_done }
    }

    fn adopt_group(&self) -> Result<Plan, String> {
        let k = self.known.committed.as_ref().ok_or("the group has no committed offset here")?.next_offset;
        let incarnation = match &self.known.position {
            None => 0,
            Some(position) if self.is_same_log(position) && position.next_offset == k => position.incarnation,
            Some(position) => {
                return Err(format!(
                    "the database has a position here, {}; `reset --to {k}` moves it, `adopt --from-database` moves the group",
                    position.next_offset
                ));
            }
        };
        resolve(Target::Offset(k), self.known.bounds)?;
        let excused = if self.known.position.is_none() { (NextOffset(0), k) } else { (k, k) };
        Ok(self.together(self.at(k, k, incarnation), excused))
    }

    fn adopt_database(&self) -> Result<Plan, String> {
        let position = self.required()?;
        let d = position.next_offset;
        if let Some(k) = self.our_k().filter(|k| *k > d && self.is_same_log(position)) {
            return Err(format!(
                "the database, at {d}, lies behind the group, at {k}: `replay` or `skip --to {k}` says what becomes of the rows"
            ));
        }
        resolve(Target::Offset(d), self.known.bounds)?;
        Ok(self.together(self.at(d, d, position.incarnation), (d, d)))
    }

    fn reset(&self, to: NextOffset, outputs: Option<Outputs>) -> Result<Plan, String> {
        let k = self.our_k();
        let before = self.known.position.as_ref();
        let is_same_log = before.is_none_or(|position| self.is_same_log(position));
        let d = before.map_or_else(|| k.unwrap_or(to), |position| position.next_offset);
        // Everything below was published, or will have been before the position moves.
        let published = if is_same_log { k.map_or(d, |k| k.max(d)) } else { to };
        let is_again = to < published.min(self.known.bounds.end);
        if is_again || !is_same_log || to < d {
            self.without_stores()?;
        }
        match outputs {
            None if is_again => Err(format!(
                "the records from {to} to {published} would be taken again: say with --emit or --suppress-output whether their \
                 messages are published again"
            )),
            Some(Outputs::Suppress) if is_again => {
                let incarnation = before.map_or(0, |position| position.incarnation);
                let position = self.at(to, published, incarnation);
                let committed = replayed(self.pipeline, position.epoch, published);
                Ok(self.made(position, committed, (to, published), true))
            }
            Some(Outputs::Suppress) if !is_same_log => {
                Err("no message of this log was published, so there is nothing to suppress".into())
            }
            _ => {
                // Ids of a log that is gone, or of messages that the outbox still has, must not come again.
                let raise = before.is_some_and(|position| !is_same_log || to < position.next_offset);
                let incarnation = before.map_or(0, |position| position.incarnation).saturating_add(i32::from(raise));
                let excused = if is_same_log { (to.min(d), to.max(published)) } else { (to, to) };
                Ok(self.together(self.at(to, to, incarnation), excused))
            }
        }
    }

    fn replay(&self, outputs: Outputs) -> Result<Plan, String> {
        self.without_stores()?;
        let position = self.required()?;
        self.same_log(position)?;
        let (d, p) = (position.next_offset, position.published);
        let k = match &self.known.committed {
            Some(k) if !is_ours(self.pipeline, k) => {
                return Err("somebody reset the group; `adopt --from-database` undoes it".into());
            }
            Some(k) => k.next_offset,
            None => p,
        };
        if k < d {
            return Err(format!("the database, at {d}, is not behind the group, at {k}: there is nothing to replay"));
        }
        resolve(Target::Offset(d), self.known.bounds)?;
        if outputs == Outputs::Emit || k == d {
            return Ok(self.together(self.at(d, p.min(d), position.incarnation), (d, k)));
        }
        resolve(Target::Offset(k), self.known.bounds)?;
        let committed = replayed(self.pipeline, position.epoch, k);
        // The database first: D stays where it is, so until K has its mark nothing is allowed.
        Ok(self.made(self.at(d, k, position.incarnation), committed, (d, k), false))
    }

    fn skip(&self, to: NextOffset) -> Result<Plan, String> {
        let position = self.required()?;
        self.same_log(position)?;
        let d = position.next_offset;
        if to < d {
            return Err(format!("{to} lies before the position {d}; `reset --to {to}` goes back"));
        }
        if let Some(k) = self.our_k().filter(|k| *k > to) {
            return Err(format!(
                "records up to {k} were published: skip to {k} or beyond, or go to {to} with `reset --to {to} --emit`"
            ));
        }
        Ok(self.together(self.at(to, to, position.incarnation), (d, to)))
    }
}

/// A step without rows: K is all there is.
fn plan_log(pipeline: &str, action: Action, known: &Known) -> Result<Plan, String> {
    let Known { committed, bounds, log_ids, .. } = known;
    let is_same_topic = |k: &Committed| topic_id(k).is_none_or(|id| id == log_ids.topic_id);
    let k = committed.as_ref().filter(|k| is_same_topic(k)).map(|k| k.next_offset);
    let to = match action {
        Action::AdoptGroup => committed.as_ref().ok_or("the group has no committed offset here")?.next_offset,
        Action::Reset { to, outputs } => {
            let to = resolve(to, *bounds)?;
            match outputs {
                Some(Outputs::Suppress) => {
                    return Err("outputs of a step without rows are decided with its records: use --emit".into());
                }
                None if k.is_some_and(|k| to < k) && committed.as_ref().is_some_and(|k| is_ours(pipeline, k)) => {
                    return Err(format!(
                        "the records from {to} on would be taken again, counted again in stores and published again: use --emit"
                    ));
                }
                _ => to,
            }
        }
        Action::Skip { to } => {
            let to = resolve(to, *bounds)?;
            match k {
                Some(k) if to < k => {
                    return Err(format!("{to} lies before the committed offset {k}; `reset --to {to}`"));
                }
                Some(_) => to,
                None => return Err("the group has no committed offset in this topic; use `reset --to`".into()),
            }
        }
        Action::AdoptDatabase | Action::Replay { .. } => {
            return Err("the step has no rows, so there is no position in a database".into());
        }
    };
    resolve(Target::Offset(to), *bounds)?;
    // An earlier count says which partitions were there from the beginning.
    let begun_with = committed.as_ref().and_then(partition_count).unwrap_or(known.partition_count);
    // Offsets that disks remember were committed: no further than the log goes, or K went before. Of a K that is gone
    // nobody knows.
    let was = committed.as_ref().filter(|k| is_ours(pipeline, k)).map_or(SetBack::FromAnywhere, |k| {
        SetBack::From(k.next_offset.max(bounds.end)).max(set_back(k).unwrap_or(SetBack::From(to)))
    });
    let marks = accepted(Some(&log_ids.topic_id), begun_with, Some(was).filter(|was| *was > SetBack::From(to)));
    let planned = our_committed(pipeline, 0, to, Some(&marks));
    let is_done = committed.as_ref() == Some(&planned);
    let none = (NextOffset(0), NextOffset(0));
    Ok(Plan { position: None, committed: planned, unpublished: none, excused: none, is_group_first: true, is_done })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPELINE: &str = "p";

    /// P, D and K of a log from 0 to 20, in which the position was made.
    fn known(published: i64, decided: i64, committed: i64) -> Known {
        let log_ids = LogIds { cluster_id: "c".into(), topic_id: "t".into() };
        let position = Position {
            epoch: 1,
            next_offset: NextOffset(decided),
            published: NextOffset(published),
            incarnation: 0,
            group: PIPELINE.into(),
            log_ids: log_ids.clone(),
            partition_count: 1,
        };
        Known {
            commit: CommitKind::Rows,
            is_stateful: false,
            position: Some(position),
            committed: Some(our_committed(PIPELINE, 1, NextOffset(committed), None)),
            bounds: Bounds { start: NextOffset(0), end: NextOffset(20) },
            log_ids,
            partition_count: 1,
            unproved: None,
            has_changelog_rows: false,
        }
    }

    fn to_offset(to: i64, outputs: Option<Outputs>) -> Action {
        Action::Reset { to: Target::Offset(NextOffset(to)), outputs }
    }

    #[test]
    fn the_database_decides_only_where_the_group_is_not_ahead_of_it() {
        let adopt = |known: &Known| plan(PIPELINE, Action::AdoptDatabase, known);
        assert!(adopt(&known(5, 7, 9)).unwrap_err().contains("lies behind the group"));
        let behind = adopt(&known(5, 7, 6)).unwrap();
        assert_eq!((behind.committed.next_offset, behind.unpublished), (NextOffset(7), (NextOffset(6), NextOffset(7))));
    }

    #[test]
    fn what_is_announced_first_begins_at_p_where_k_went_back_behind_it() {
        let plan = plan(PIPELINE, Action::AdoptDatabase, &known(5, 7, 3)).unwrap();
        assert_eq!(plan.unpublished, (NextOffset(5), NextOffset(7)));
    }

    #[test]
    fn stores_follow_no_reset_below_what_was_announced_nor_into_another_log() {
        let stateful = |known: Known| Known { is_stateful: true, ..known };
        let waits = |at| Known { unproved: Some(NextOffset(at)), ..stateful(known(4, 4, 4)) };
        let skip = Action::Skip { to: Target::Offset(NextOffset(6)) };
        assert_eq!(plan("p", skip, &waits(5)), Err(UNORDERED.to_owned()));
        assert!(plan("p", skip, &waits(6)).is_ok(), "no later batch");
        let emit = Some(Outputs::Emit);
        assert!(plan(PIPELINE, to_offset(7, emit), &stateful(known(5, 5, 9))).unwrap_err().contains("stores"));
        assert!(plan(PIPELINE, to_offset(7, emit), &known(5, 5, 9)).is_ok());
        let mut elsewhere = stateful(known(5, 5, 5));
        elsewhere.log_ids.topic_id = "another".into();
        assert!(plan(PIPELINE, to_offset(7, emit), &elsewhere).unwrap_err().contains("stores"));
        assert!(plan(PIPELINE, to_offset(9, emit), &stateful(known(5, 5, 5))).is_ok());
    }

    #[test]
    fn nothing_is_suppressed_in_a_log_of_which_nothing_was_announced() {
        let mut known = known(5, 5, 5);
        known.log_ids.topic_id = "another".into();
        let refused = plan(PIPELINE, to_offset(7, Some(Outputs::Suppress)), &known).unwrap_err();
        assert!(refused.contains("nothing to suppress"), "{refused}");
        assert!(plan(PIPELINE, to_offset(7, Some(Outputs::Emit)), &known).is_ok());
    }
}
