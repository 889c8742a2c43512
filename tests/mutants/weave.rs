//! The text of a file with all of its mutants in it, each behind its switch.

use crate::find::{Edit, Mutant};
use std::ops::Range;

/// A file as it is written into the copy.
#[derive(Default)]
pub struct Woven {
    pub text: String,
    /// Bytes of `text` that a mutant alone answers for.
    pub own: Vec<(Range<usize>, u32)>,
    /// Bytes of `text` that the mutants of one place answer for, the text as it was included.
    pub places: Vec<(Range<usize>, Vec<u32>)>,
    /// Bytes of `text` of the functions around mutants.
    pub functions: Vec<(Range<usize>, u32)>,
}

/// A place with its mutants, and the places within it.
struct Place<'a> {
    range: Range<usize>,
    rank: u8,
    mutants: Vec<&'a Mutant>,
    inner: Vec<Place<'a>>,
}

fn range_of(edit: &Edit) -> (Range<usize>, u8) {
    match edit {
        Edit::Return { at, .. } => (*at..*at, 0),
        Edit::Arm { at } => (*at..*at, 1),
        Edit::Guard { whole, .. } => (whole.clone(), 2),
        Edit::Binary { whole, .. } | Edit::Unary { whole, .. } => (whole.clone(), 3),
    }
}

fn places<'a>(mutants: &[&'a Mutant]) -> Vec<Place<'a>> {
    let mut all: Vec<Place<'a>> = Vec::new();
    for &mutant in mutants {
        let (range, rank) = range_of(&mutant.edit);
        match all.iter_mut().find(|place| place.range == range && place.rank == rank) {
            Some(place) => place.mutants.push(mutant),
            None => all.push(Place { range, rank, mutants: vec![mutant], inner: Vec::new() }),
        }
    }
    all.sort_by_key(|place| (place.range.start, std::cmp::Reverse(place.range.end), place.rank));
    let mut roots: Vec<Place<'a>> = Vec::new();
    for place in all {
        put(&mut roots, place);
    }
    roots
}

/// Puts a place into the one that it lies in; those before it begin before it.
fn put<'a>(among: &mut Vec<Place<'a>>, place: Place<'a>) {
    match among.last_mut() {
        Some(last)
            if last.range.start <= place.range.start && place.range.end <= last.range.end && !last.range.is_empty() =>
        {
            put(&mut last.inner, place);
        }
        _ => among.push(place),
    }
}

/// Writes the mutants into the text of their file.
pub fn weave(text: &str, mutants: &[&Mutant]) -> Woven {
    let mut weaver = Weaver { source: text, woven: Woven::default() };
    let places = places(mutants);
    weaver.text(&(0..text.len()), &places);
    let mut woven = weaver.woven;
    // Edits only add text: the function of a mutant ends where the function's own end was moved to.
    for mutant in mutants {
        let moved = |at: usize| woven.text.len() - tail_of(text, at, &places);
        woven.functions.push((moved(mutant.within.start)..moved(mutant.within.end), mutant.id));
    }
    woven
}

/// Number of bytes that follow in the woven text behind this byte of the source.
fn tail_of(source: &str, at: usize, places: &[Place]) -> usize {
    let mut weaver = Weaver { source, woven: Woven::default() };
    let behind: Vec<&Place> = places.iter().filter(|place| place.range.start >= at).collect();
    let mut cursor = at;
    for place in behind {
        weaver.woven.text.push_str(&source[cursor..place.range.start]);
        weaver.place(place);
        cursor = place.range.end;
    }
    weaver.woven.text.len() + source.len() - cursor
}

struct Weaver<'a> {
    source: &'a str,
    woven: Woven,
}

impl Weaver<'_> {
    fn push(&mut self, text: &str) {
        self.woven.text.push_str(text);
    }

    /// The source of a range with the places in it.
    fn text(&mut self, range: &Range<usize>, places: &[Place]) {
        let mut cursor = range.start;
        for place in places.iter().filter(|place| range.start <= place.range.start && place.range.end <= range.end) {
            self.push(&self.source[cursor..place.range.start]);
            self.place(place);
            cursor = place.range.end;
        }
        self.push(&self.source[cursor..range.end]);
    }

    fn place(&mut self, place: &Place) {
        let start = self.woven.text.len();
        let is_inserted = place.range.is_empty();
        if !is_inserted {
            self.push("(");
        }
        for mutant in &place.mutants {
            let own = self.woven.text.len();
            self.mutant(mutant, place);
            self.woven.own.push((own..self.woven.text.len(), mutant.id));
        }
        if !is_inserted {
            self.push("{ (");
            self.text(&place.range, &place.inner);
            self.push(") })");
        }
        let ids = place.mutants.iter().map(|mutant| mutant.id).collect();
        self.woven.places.push((start..self.woven.text.len(), ids));
    }

    fn mutant(&mut self, mutant: &Mutant, place: &Place) {
        let is_on = format!("crate::mutants::is_on({})", mutant.id);
        match &mutant.edit {
            Edit::Return { value, .. } => self.push(&format!(" if {is_on} {{ return {value}; }}")),
            Edit::Arm { .. } => self.push(&format!(" if !{is_on}")),
            Edit::Guard { value, .. } => self.push(&format!("if {is_on} {{ {value} }} else ")),
            Edit::Binary { left, right, operator, .. } => {
                self.push(&format!("if {is_on} {{ ("));
                self.text(left, &place.inner);
                self.push(&format!(") {operator} ("));
                self.text(right, &place.inner);
                self.push(") } else ");
            }
            Edit::Unary { operand, .. } => {
                self.push(&format!("if {is_on} {{ ("));
                self.text(operand, &place.inner);
                self.push(") } else ");
            }
        }
    }
}
