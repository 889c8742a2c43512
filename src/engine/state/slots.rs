//! A hash map by byte key whose entries have stable numbers, so that a later access needs no second lookup.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher as _;

/// The number of places below which an array is not made smaller.
const PLACES_MIN: usize = if cfg!(test) { 8 } else { 1_024 };

/// Entries in one array, and a table of their numbers by key. A number is valid until its entry is removed, or the array is
/// made smaller.
#[derive(Debug)]
pub(crate) struct Slots<V> {
    table: HashTable<usize>,
    all: Vec<(Box<[u8]>, V)>,
    free: Vec<usize>,
    /// The number found last.
    last: Option<usize>,
    hasher: DefaultHashBuilder,
}

impl<V> Default for Slots<V> {
    fn default() -> Self {
        let hasher = DefaultHashBuilder::default();
        Self { table: HashTable::new(), all: Vec::new(), free: Vec::new(), last: None, hasher }
    }
}

impl<V> Slots<V> {
    /// The number of the entry under `key`.
    pub(crate) fn find(&self, key: &[u8]) -> Option<usize> {
        let is_it = |number: &usize| self.key(*number) == Some(key);
        // A key that is written was mostly read just before.
        self.last.filter(is_it).or_else(|| self.table.find(self.hasher.hash_one(key), is_it).copied())
    }

    /// [`Slots::find`]; the next search looks at the same entry first.
    pub(crate) fn seek(&mut self, key: &[u8]) -> Option<usize> {
        let found = self.find(key);
        self.last = found.or(self.last);
        found
    }

    /// Adds an entry under a key that has none.
    pub(crate) fn insert(&mut self, key: &[u8], value: V) -> usize {
        let slot = (key.into(), value);
        let number = self.free.pop().unwrap_or(self.all.len());
        match self.all.get_mut(number) {
            Some(place) => *place = slot,
            None => self.all.push(slot),
        }
        let Self { table, all, hasher, .. } = self;
        let hash = |number: &usize| all.get(*number).map_or(0, |(key, _)| hasher.hash_one(&**key));
        table.insert_unique(hasher.hash_one(key), number, hash);
        number
    }

    pub(crate) fn get(&self, number: usize) -> Option<&V> {
        self.all.get(number).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, number: usize) -> Option<&mut V> {
        self.all.get_mut(number).map(|(_, value)| value)
    }

    pub(crate) fn key(&self, number: usize) -> Option<&[u8]> {
        self.all.get(number).map(|(key, _)| &**key)
    }

    /// Every entry with its number, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &V)> {
        self.table.iter().filter_map(|number| Some((*number, self.get(*number)?)))
    }

    /// Removes the entries that `keep` does not accept; `empty` makes the content of their places until these are used
    /// again.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&[u8], &mut V) -> bool, empty: impl Fn() -> V) {
        let Self { table, all, free, last, .. } = self;
        table.retain(|number| {
            let Some((key, value)) = all.get_mut(*number) else { return false };
            let is_kept = keep(key, value);
            if !is_kept {
                (*key, *value) = (Box::default(), empty());
                free.push(*number);
            }
            is_kept
        });
        *last = None;
    }

    /// Frees memory where less than a quarter of the places is taken: entries get other numbers. Answers the new
    /// numbers, by the old ones; `None` where nothing changed. `empty`: as for [`Slots::retain`].
    pub(crate) fn shrink(&mut self, empty: impl Fn() -> V) -> Option<Vec<usize>> {
        if self.all.len() < PLACES_MIN || self.table.len() > self.all.len() / 4 {
            return None;
        }
        let Self { table, all, free, last, hasher } = self;
        let mut moved = vec![usize::MAX; all.len()];
        let mut kept = Vec::with_capacity(table.len());
        for number in &mut *table {
            let (Some(slot), Some(place)) = (all.get_mut(*number), moved.get_mut(*number)) else { continue };
            *place = kept.len();
            *number = kept.len();
            kept.push((std::mem::take(&mut slot.0), std::mem::replace(&mut slot.1, empty())));
        }
        (*all, *free, *last) = (kept, Vec::new(), None);
        let hash = |number: &usize| all.get(*number).map_or(0, |(key, _)| hasher.hash_one(&**key));
        table.shrink_to_fit(hash);
        Some(moved)
    }

    pub(crate) fn clear(&mut self) {
        self.table.clear();
        self.all.clear();
        self.free.clear();
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Against a map: the results of searches, and that a number stays while its entry does, whatever is removed
        /// beside it.
        #[test]
        fn an_entry_is_found_by_its_key_and_keeps_its_number(operations in proptest::collection::vec((0..40_u8, 0..5_u8), 0..200)) {
            let (mut slots, mut model, mut numbers) = (Slots::default(), BTreeMap::new(), BTreeMap::new());
            for (step, (key, operation)) in operations.into_iter().enumerate() {
                let bytes = vec![key; usize::from(key % 4)]; // the empty key, too
                match (operation, slots.seek(&bytes)) {
                    (0, _) => {
                        slots.retain(|_, value| *value % 2 == 0, || 0);
                        model.retain(|_, value| *value % 2 == 0);
                        numbers.retain(|key, _| model.contains_key(key));
                    }
                    (1, _) => {
                        if let Some(moved) = slots.shrink(|| 0) {
                            for number in numbers.values_mut() {
                                *number = moved[*number];
                            }
                            prop_assert!(slots.all.len() == model.len() && slots.free.is_empty());
                        }
                    }
                    (_, Some(number)) => {
                        *slots.get_mut(number).unwrap() = step;
                        model.insert(bytes, step);
                    }
                    (_, None) => {
                        numbers.insert(bytes.clone(), slots.insert(&bytes, step));
                        model.insert(bytes, step);
                    }
                }
                let all = slots.iter().map(|(number, value)| (slots.key(number).unwrap().to_vec(), *value));
                prop_assert_eq!(all.collect::<BTreeMap<_, _>>(), model.clone());
                for (key, number) in &numbers {
                    prop_assert_eq!(slots.find(key), Some(*number));
                }
            }
        }
    }
}
