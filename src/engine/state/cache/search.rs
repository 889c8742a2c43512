//! The search for expired keys in the store.

use crate::engine::state::cache::value::{PLAIN, Value, after, expiring, open_envelope};
use crate::engine::state::cache::{CLOCK, WriteBack};
use crate::flow::record::Timestamp;
use crate::ports::Fault;

/// Bytes that one search for expired keys may gather.
const EXPIRE_BYTES: usize = 4 << 20;

impl WriteBack {
    /// Deletes, with the open batch, the keys that have expired at `now`: looks at `keys_max` of them from `from` on,
    /// and answers the key to go on from; `None` at the end. A value that was written before its store had a time to
    /// live gets one.
    pub(crate) fn expire(&mut self, from: &[u8], now: Timestamp, keys_max: usize) -> Result<Option<Vec<u8>>, Fault> {
        let time = self.spec.time_to_live;
        let (mut found, mut seen, mut bytes, mut next) = (Vec::new(), 0, 0, None);
        let cached = |key: &[u8]| self.entries.get(self.entries.find(key)?);
        self.store.scan(from, None, &mut |key, stored| {
            if seen == keys_max || bytes > EXPIRE_BYTES {
                next = Some(key.to_vec());
                return false;
            }
            seen += 1;
            // A newer value may lie in the cache; the key is looked at again when that has reached the store.
            let is_newest =
                cached(key).is_none_or(|entry| entry.value == Value::Unread || entry.value.kept() == Some(stored));
            let value = match (open_envelope(stored, now), stored.first(), time) {
                (None, ..) => Value::Absent,
                (Some(value), Some(&PLAIN), Some(time)) if key != CLOCK => {
                    Value::Present(expiring(value, after(now, time)))
                }
                _ => return true,
            };
            if is_newest {
                bytes += key.len() + value.bytes();
                found.push((key.to_vec(), value));
            }
            true
        })?;
        for (key, value) in found {
            self.set(&key, value);
        }
        self.accept();
        Ok(next)
    }
}
