//! Windows that no record of their key closes, computed once more: by the clock of the partition, or for want of records.

use super::{FOR_ROW_LOST, GivenOut, Look, Pane, Sums, TABLES, Task, Windows, pane, signed};
use crate::pipeline::{REFUSED, StepDraw, SubDraw, Tables, WindowDraw};
use std::collections::BTreeMap;
use tidegate::testing::Message;

/// The time of a record, and the clock of its partition where windows go by that.
pub fn time(drawn: &WindowDraw, record: &Message, clock: Option<i64>) -> (i64, Option<i64>) {
    (record.timestamp.0, clock.filter(|_| drawn.by_partition))
}

impl Windows {
    /// When each window that is not closed closes, the grace included.
    fn ends(&self, drawn: &WindowDraw) -> impl Iterator<Item = i64> {
        self.spans.iter().filter(|span| span.is_due).map(|span| span.end + signed(drawn.grace_ms))
    }

    /// Closes what the clock has come to, and answers what is given out.
    fn close(&mut self, drawn: &WindowDraw, clock: i64) -> Vec<GivenOut> {
        let grace = signed(drawn.grace_ms);
        let mut out = Vec::new();
        for span in self.spans.iter_mut().filter(|span| span.is_due && span.end + grace <= clock) {
            out.push((span.start, span.sums, if span.emitted == 0 { 2 } else { 10 + span.emitted }));
            (span.emitted, span.is_due, span.early) = (span.emitted + 1, false, None);
        }
        self.spans.retain(|span| span.is_due || span.end + grace + signed(drawn.corrections_ms) > clock);
        self.clock = self.clock.max(Some(clock));
        out
    }
}

impl Look<'_> {
    /// A turn by the wall clock closes the windows of keys that had no record for long enough. The interpreter looks at what it
    /// gave out.
    pub fn close_idle(&mut self, task: (usize, i32), sub: &SubDraw, at: i64) {
        let Some((drawn, idle)) = sub.window.and_then(|drawn| Some((drawn, signed(drawn.idle_ms?)))) else { return };
        for windows in self.tasks.entry(task).or_default().windows.values_mut() {
            if let Some(last) = windows.ends(&drawn).max().filter(|_| windows.handled + idle <= at) {
                windows.close(&drawn, last.max(windows.clock.unwrap_or(last)));
            }
        }
    }

    /// The messages behind a record are those of its own windows, and of those that the clock of the partition closes then, by
    /// the times at which they close and by their keys.
    pub fn close_behind(
        &mut self,
        task: (usize, i32),
        sub: &SubDraw,
        (record, moves): (&Message, Option<i64>),
        late: Option<&str>,
        (notices, topics): (&BTreeMap<u64, &Message>, &BTreeMap<u64, &str>),
    ) -> Result<(), String> {
        let Some(drawn) = sub.window else { return Ok(()) };
        let record_key = record.key.clone().unwrap_or_default();
        if sub.has_rows() && sub.is_joined() {
            return Ok(()); // the interpreter looks at it
        }
        let pending = std::mem::take(&mut self.pending);
        let Task { clock, windows, .. } = self.tasks.entry(task).or_default();
        *clock = moves.max(*clock);
        let now = clock.unwrap_or(i64::MIN);
        let own = pending.len();
        let mut given_out = Vec::new();
        loop {
            let due = windows.iter().filter_map(|(key, windows)| Some((windows.ends(&drawn).min()?, key.clone())));
            let Some((end, key)) = due.filter(|(end, _)| *end <= now).min() else { break };
            let closed = windows.get_mut(&key).map_or(Vec::new(), |windows| windows.close(&drawn, end));
            let closed = closed.into_iter().map(|given_out| pane(&drawn, key.clone(), given_out));
            given_out.extend(closed.map(|pane| (end, pane)));
        }
        // Beside rows what the record gives out has timers, too, with the time that the clock has come to.
        let is_before = |at: i64, pane: &Pane| (at, &pane.key) <= (now, &record_key);
        let place = if sub.has_rows() { given_out.partition_point(|(at, pane)| is_before(*at, pane)) } else { 0 };
        let mut given_out: Vec<Pane> = given_out.into_iter().map(|(_, pane)| pane).collect();
        given_out.splice(place..place, pending);
        if sub.has_rows() {
            given_out = self.change_rows(sub, given_out);
        }
        self.judged.extend((given_out.len() > own).then_some("window of another key"));
        let is_late = |number: &u64| late.is_some() && topics.get(number).copied() == late;
        let told = notices.iter().filter(|(number, _)| !is_late(number)).map(|(number, told)| (*number, *told));
        self.judge_panes(task, sub, given_out, &told.collect())
    }

    /// Runs what was given out over the rows of their keys, in that order, and answers what is told of each.
    pub fn change_rows(&mut self, sub: &SubDraw, given_out: Vec<Pane>) -> Vec<Pane> {
        let StepDraw::Update(table) = sub.step else { return given_out };
        let tables = self.scenario.pipeline.tables;
        let mut out = Vec::new();
        for mut pane in given_out {
            let place = (table, pane.key.clone());
            let is_new = !self.rows.contains_key(&place);
            let is_missing = is_new && !sub.inserts && !pane.is_lost;
            if is_missing && self.scenario.knobs.missing_row.is_multiple_of(3) {
                continue;
            }
            let is_refused = pane.amount >= REFUSED && tables != Tables::Keep;
            if pane.is_lost || is_missing || is_refused {
                (pane.is_lost, pane.content) = (true, FOR_ROW_LOST);
                out.push(pane);
                continue;
            }
            if let (true, Some(name)) = (is_new, self.key_of(&pane.key)) {
                self.notes.remove(&(TABLES[usize::from(table)].to_owned(), name.to_string()));
            }
            let row = self.rows.entry(place).or_insert(Sums { last: Some(0), ..Sums::default() });
            (row.version, row.count, row.small) = (row.version + 1, row.count + 1, row.small + 1);
            row.sum = if pane.amount >= REFUSED { 2.0 * REFUSED } else { row.sum + 0.125 };
            if tables == Tables::Round {
                row.sum = (row.sum * 4.0).floor() / 4.0;
            }
            row.hash = row.hash.wrapping_mul(31).wrapping_add(pane.content.4);
            self.judged.insert("row of a window");
            out.push(pane);
        }
        out
    }
}
