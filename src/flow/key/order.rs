//! Ranges of ids as ranges of the bytes that spell them.

use crate::flow::key::KeyType;

/// The first key, and the one that follows the last; `None` where the range ends with the store.
pub(crate) type Range = (Vec<u8>, Option<Vec<u8>>);

/// How the keys of a type ascend, which a store keeps by their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// As their bytes do.
    Bytes,
    /// As numbers with a sign in so many big-endian bytes do: by their bytes those below zero come last.
    Signed(usize),
}

impl KeyType {
    /// The order of the ids; `None` where a range of them is none of bytes: `10` stands in front of `9`.
    pub(crate) const fn order(self) -> Option<Order> {
        match self {
            Self::Text | Self::TextField(_) | Self::Uuid | Self::UuidField(_) | Self::UuidBytes | Self::Bytes => {
                Some(Order::Bytes)
            }
            Self::I64BigEndian => Some(Order::Signed(8)),
            Self::I32BigEndian => Some(Order::Signed(4)),
            Self::I64 | Self::Field(_) | Self::Fields(_) => None,
        }
    }
}

impl Order {
    /// The ranges of bytes, ascending, that hold the keys from `first` to `last`, both included; `None` where `first` is behind
    /// `last`. Without a first or a last key nothing bounds that side.
    pub(crate) fn ranges(self, first: Option<Vec<u8>>, last: Option<Vec<u8>>) -> Option<Vec<Range>> {
        let is_behind =
            first.as_ref().zip(last.as_ref()).is_some_and(|(first, last)| self.place(first) > self.place(last));
        if is_behind {
            return None;
        }
        let Self::Signed(width) = self else {
            return Some(vec![(first.unwrap_or_default(), last.map(after))]);
        };
        let filled =
            |first: u8, others: u8| std::iter::once(first).chain(std::iter::repeat_n(others, width - 1)).collect();
        let [lowest, highest]: [Vec<u8>; 2] = [filled(0x80, 0), filled(0x7f, u8::MAX)];
        let (first, last) = (first.unwrap_or(lowest), last.unwrap_or(highest));
        if is_below_zero(&first) && !is_below_zero(&last) {
            return Some(vec![(Vec::new(), Some(after(last))), (first, None)]);
        }
        Some(vec![(first, Some(after(last)))])
    }

    fn place(self, key: &[u8]) -> (bool, &[u8]) {
        (self != Self::Bytes && !is_below_zero(key), key)
    }
}

fn is_below_zero(key: &[u8]) -> bool {
    key.first().is_some_and(|byte| *byte >= 0x80)
}

/// The first bytes behind a key.
fn after(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::key::Key;

    /// Whether a key lies in one of the ranges, which have to ascend.
    fn has(ranges: &[Range], key: &[u8]) -> bool {
        assert!(ranges.windows(2).all(|pair| pair[0].1.as_ref().is_some_and(|end| *end <= pair[1].0)), "{ranges:?}");
        ranges.iter().any(|(first, end)| **first <= *key && end.as_ref().is_none_or(|end| key < &**end))
    }

    #[test]
    fn a_range_of_numbers_holds_those_between_its_ends_whatever_their_signs() {
        let numbers = [i64::MIN, -256, -2, -1, 0, 1, 2, 255, 256, i64::MAX];
        let key_type = KeyType::I64BigEndian;
        let bytes = |number: i64| key_type.spell(&Key::I64(number));
        let bounds: Vec<Option<i64>> = numbers.iter().copied().map(Some).chain([None]).collect();
        for first in &bounds {
            for last in &bounds {
                let ranges = key_type.order().unwrap().ranges(first.map(bytes), last.map(bytes));
                let is_behind = first.zip(*last).is_some_and(|(first, last)| first > last);
                assert_eq!(ranges.is_none(), is_behind, "{first:?} to {last:?}");
                let Some(ranges) = ranges else { continue };
                for number in numbers {
                    let is_between =
                        first.is_none_or(|first| first <= number) && last.is_none_or(|last| number <= last);
                    assert_eq!(has(&ranges, &bytes(number)), is_between, "{number} in {first:?} to {last:?}");
                }
            }
        }
    }

    #[test]
    fn a_range_of_texts_holds_both_its_ends_and_nothing_behind() {
        let ranges = |first: &str, last: &str| Order::Bytes.ranges(Some(first.into()), Some(last.into()));
        let some = ranges("b", "d").unwrap();
        let held: Vec<&str> =
            ["a", "b", "ba", "c", "d", "da", "e"].into_iter().filter(|key| has(&some, key.as_bytes())).collect();
        assert_eq!(held, ["b", "ba", "c", "d"]);
        assert_eq!(ranges("d", "b"), None);
        let all = Order::Bytes.ranges(None, None).unwrap();
        assert!(has(&all, b"") && has(&all, &[u8::MAX; 9]));
    }
}
