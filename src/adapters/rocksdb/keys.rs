//! Where everything lies in the one key space of the database.
//!
//! ```text
//!  [0]format                                     → the version of all this, one byte
//!  [n][name, n bytes][partition, 4 bytes][0]     → the checkpoint of a store
//!  [n][name, n bytes][partition, 4 bytes][1][key] → one of its values
//! ```
//! The name's length comes first and the partition's is fixed, so no store's prefix begins another's: `a` and `ab` differ
//! in the first byte. Partitions are big-endian, so a store's lie side by side in their order. Checkpoint and values of a
//! store are one range, which one `delete_range` empties. Within it values keep the order of their keys.
//!
//! The prefix costs little on the disk, where RocksDB keeps only the difference from the key before; in the memtable it is
//! paid in full. A table of store numbers would save some ten bytes there, and be one more thing that can be damaged.

use crate::ports::Fault;
use crate::ports::store::StoreId;

/// Where the version of the layout lies. No store's key begins with 0, since no name is empty.
pub(super) const FORMAT_KEY: &[u8] = b"\0format";
/// The version of key layout and checkpoints together; another one is another format.
pub(super) const FORMAT: u8 = 1;

const CHECKPOINT: u8 = 0;
const VALUE: u8 = 1;
/// Past the last kind.
const END: u8 = 2;

/// The range of one partition of one store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// Length, name and partition.
    prefix: Vec<u8>,
}

impl Place {
    /// Where the store lies.
    ///
    /// # Errors
    /// `Fatal` for a name that is empty or longer than 255 bytes.
    pub(super) fn new(id: &StoreId) -> Result<Self, Fault> {
        let length = u8::try_from(id.name.len()).unwrap_or(0);
        if length == 0 {
            return Err(Fault::fatal(format!("store {:?}: a name has 1 to 255 bytes", id.name)));
        }
        let mut prefix = Vec::with_capacity(6 + id.name.len());
        prefix.push(length);
        prefix.extend_from_slice(id.name.as_bytes());
        prefix.extend_from_slice(&id.partition.0.to_be_bytes());
        Ok(Self { prefix })
    }

    fn with(&self, kind: u8) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.prefix.len() + 1);
        key.extend_from_slice(&self.prefix);
        key.push(kind);
        key
    }

    /// The key of the checkpoint, and the first of the range.
    pub(super) fn checkpoint(&self) -> Vec<u8> {
        self.with(CHECKPOINT)
    }

    /// The first key past the range.
    pub(super) fn end(&self) -> Vec<u8> {
        self.with(END)
    }

    /// Makes `out` the key of a value.
    pub(super) fn value_into(&self, key: &[u8], out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.prefix);
        out.push(VALUE);
        out.extend_from_slice(key);
    }

    /// The key of a value.
    pub(super) fn value(&self, key: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.prefix.len() + 1 + key.len());
        self.value_into(key, &mut out);
        out
    }

    /// The user's key within the key of a value; `None` for a key that is no value of this store.
    pub(super) fn user_key<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        key.strip_prefix(self.prefix.as_slice())?.strip_prefix(&[VALUE])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::Partition;

    fn place(name: &str, partition: i32) -> Place {
        Place::new(&StoreId { name: name.into(), partition: Partition(partition) }).unwrap()
    }

    #[test]
    fn a_key_is_length_name_partition_kind_and_key() {
        let scores = place("scores", 258);
        assert_eq!(scores.checkpoint(), b"\x06scores\x00\x00\x01\x02\x00");
        assert_eq!(scores.value(b"k"), b"\x06scores\x00\x00\x01\x02\x01k");
        assert_eq!(scores.user_key(&scores.value(b"k")), Some(&b"k"[..]));
        assert_eq!(scores.user_key(&scores.value(b"")), Some(&b""[..]));
        assert_eq!(scores.user_key(&scores.checkpoint()), None);
        assert_eq!(scores.user_key(&place("scores", 259).value(b"k")), None);
    }

    /// Each range holds its own keys, even the extreme ones, and nothing of another's.
    #[test]
    fn ranges_do_not_touch() {
        let longest = "x".repeat(255);
        let names = ["a", "ab", "b", "\u{1}", "\u{7f}", longest.as_str()];
        let places: Vec<Place> =
            names.iter().flat_map(|name| [0, 1, 0xff, 0x100, i32::MAX].map(|p| place(name, p))).collect();
        let keys: [&[u8]; 5] = [b"", b"\0", b"k", b"\xff", &[0xff; 300]];
        for one in &places {
            let (first, end) = (one.checkpoint(), one.end());
            for other in &places {
                let its = keys.iter().map(|key| other.value(key)).chain([other.checkpoint()]);
                for key in its {
                    assert_eq!(first <= key && key < end, one == other, "{one:?} and {key:?}");
                }
            }
            assert!(FORMAT_KEY < first.as_slice());
        }
    }

    #[test]
    fn values_keep_the_order_of_their_keys() {
        let place = place("a", 0);
        let mut keys: Vec<&[u8]> = vec![b"", b"\0", b"\0\0", b"a", b"aa", b"b", b"\xff", b"\xff\xff"];
        let mut stored: Vec<Vec<u8>> = keys.iter().map(|key| place.value(key)).collect();
        keys.sort_unstable();
        stored.sort_unstable();
        let shown: Vec<&[u8]> = stored.iter().filter_map(|key| place.user_key(key)).collect();
        assert_eq!(shown, keys);
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        for name in ["", &"x".repeat(256)] {
            assert!(Place::new(&StoreId { name: name.into(), partition: Partition(0) }).is_err());
        }
    }
}
