//! How much a counter has risen, over resets and glitches.

use crate::flow::rollup::Point;
use crate::flow::rollup::bytes::{Damaged, Reader, write_number, write_unsigned};
use serde::{Deserialize, Serialize};

/// The rise of a counter between the first and the last reading of a bucket.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
pub struct Rise {
    /// How much it has risen. Behind a reset it has begun at 0.
    pub increase: f64,
    /// Falls that are resets, as far as is known.
    pub resets: u32,
    /// Falls that came back.
    pub glitches: u32,
    /// The latest fall that may still come back.
    fallen: Option<Fallen>,
    /// The highest step in front of the first fall that more than doubles the counter: where it would come back to, if it had
    /// fallen in front of the bucket.
    doubled: Option<Doubled>,
    has_fallen: bool,
}

/// A fall that may come back.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Debug)]
struct Fallen {
    /// The last reading in front of it.
    from: Point,
    /// What counts as risen since then, and as resets.
    since: f64,
    resets: u32,
}

/// A step that more than doubles a counter.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Debug)]
struct Doubled {
    to: Point,
    /// How much the counter has risen from the first reading of its bucket on, with the step.
    risen: f64,
}

impl Rise {
    /// The rise over two buckets: `last` is the last reading of the one in front, `first` the first one behind it.
    pub(super) fn merge(&self, next: &Self, (last, first): (Point, Point), outage_ms: i64) -> Self {
        let mut all = Self {
            increase: self.increase + next.increase,
            resets: self.resets.saturating_add(next.resets),
            glitches: self.glitches.saturating_add(next.glitches),
            fallen: self.fallen,
            doubled: self.doubled,
            has_fallen: self.has_fallen || next.has_fallen || first.value < last.value,
        };
        if first.value < last.value {
            all.increase += first.value;
            all.resets = all.resets.saturating_add(1);
            all.fall(last, first, outage_ms);
        } else {
            let step = first.value - last.value;
            all.increase += step;
            let doubled =
                (first.value > 2.0 * last.value).then_some(Doubled { to: first, risen: self.increase + step });
            if !self.has_fallen {
                all.doubled = higher(all.doubled, doubled);
            }
            if let Some(fallen) = &mut all.fallen {
                fallen.since += step;
            }
            if let Some(fallen) =
                all.fallen.filter(|fallen| doubled.is_some_and(|step| fallen.comes_back(step.to, outage_ms)))
            {
                all.undo(&fallen, first.value);
            }
        }
        if !self.has_fallen && first.value >= last.value {
            let further = next.doubled.map(|doubled| Doubled {
                risen: self.increase + (first.value - last.value) + doubled.risen,
                ..doubled
            });
            all.doubled = higher(all.doubled, further);
        }
        all.go_on(next, outage_ms);
        all
    }

    /// Falls. One from further up that may still come back stays what is waited for.
    fn fall(&mut self, from: Point, to: Point, outage_ms: i64) {
        match &mut self.fallen {
            Some(fallen) if fallen.from.value >= from.value && fallen.is_within(to, outage_ms) => {
                fallen.since += to.value;
                fallen.resets = fallen.resets.saturating_add(1);
            }
            fallen => *fallen = Some(Fallen { from, since: to.value, resets: 1 }),
        }
    }

    /// A fall comes back, or not, within the bucket behind it.
    fn go_on(&mut self, next: &Self, outage_ms: i64) {
        let Some(fallen) = self.fallen else {
            self.fallen = next.fallen;
            return;
        };
        if let Some(back) = next.doubled.filter(|doubled| fallen.comes_back(doubled.to, outage_ms)) {
            let fallen = Fallen { since: fallen.since + back.risen, ..fallen };
            self.undo(&fallen, back.to.value);
            self.fallen = next.fallen;
            return;
        }
        match next.fallen {
            Some(later) if later.from.value > fallen.from.value || !fallen.is_within(later.from, outage_ms) => {
                self.fallen = Some(later)
            }
            _ => {
                let since = fallen.since + next.increase;
                self.fallen = Some(Fallen { since, resets: fallen.resets.saturating_add(next.resets), ..fallen });
            }
        }
    }

    /// Takes a fall for the glitch that it was, now that it has come back to `to`.
    fn undo(&mut self, fallen: &Fallen, to: f64) {
        self.increase += to - fallen.from.value - fallen.since;
        self.resets = self.resets.saturating_sub(fallen.resets);
        self.glitches = self.glitches.saturating_add(1);
        self.fallen = None;
    }

    pub(super) fn write(&self, into: &mut Vec<u8>, start_ms: i64) {
        let flags =
            u8::from(self.fallen.is_some()) | u8::from(self.doubled.is_some()) << 1 | u8::from(self.has_fallen) << 2;
        into.push(flags);
        write_number(into, self.increase);
        if self.has_fallen {
            write_unsigned(into, self.resets.into());
            write_unsigned(into, self.glitches.into());
        }
        if let Some(Fallen { from, since, resets }) = self.fallen {
            from.write(into, start_ms);
            write_number(into, since);
            write_unsigned(into, resets.into());
        }
        if let Some(Doubled { to, risen }) = self.doubled {
            to.write(into, start_ms);
            write_number(into, risen);
        }
    }

    pub(super) fn read(from: &mut Reader<'_>, start_ms: i64) -> Result<Self, Damaged> {
        let small = |number: u64| u32::try_from(number).map_err(|_| Damaged);
        let (flags, increase) = (from.byte()?, from.number()?);
        let has_fallen = flags & 4 != 0;
        let (resets, glitches) = if has_fallen { (small(from.unsigned()?)?, small(from.unsigned()?)?) } else { (0, 0) };
        let fallen = if flags & 1 == 0 {
            None
        } else {
            Some(Fallen { from: Point::read(from, start_ms)?, since: from.number()?, resets: small(from.unsigned()?)? })
        };
        let doubled = if flags & 2 == 0 {
            None
        } else {
            Some(Doubled { to: Point::read(from, start_ms)?, risen: from.number()? })
        };
        Ok(Self { increase, resets, glitches, fallen, doubled, has_fallen })
    }
}

impl Fallen {
    const fn is_within(&self, point: Point, outage_ms: i64) -> bool {
        point.at_ms.saturating_sub(self.from.at_ms) <= outage_ms
    }

    const fn comes_back(&self, to: Point, outage_ms: i64) -> bool {
        to.value >= self.from.value && self.is_within(to, outage_ms)
    }
}

fn higher(one: Option<Doubled>, other: Option<Doubled>) -> Option<Doubled> {
    match (one, other) {
        (Some(one), Some(other)) if other.to.value > one.to.value => Some(other),
        (one, other) => one.or(other),
    }
}
