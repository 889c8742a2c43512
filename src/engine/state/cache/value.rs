//! A value as the cache and its store keep it: in an envelope with the time of its expiry.

use crate::flow::record::Timestamp;
use std::time::Duration;

/// First byte of a kept value: `[PLAIN][version][JSON]`.
pub(super) const PLAIN: u8 = 1;
/// First byte of a value that expires: `[EXPIRING][ms since 1970, 8 bytes, big-endian][version][JSON]`.
const EXPIRING: u8 = 2;

/// A cached value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Value {
    /// Not read yet: the store's value counts.
    Unread,
    /// The key does not exist.
    Absent,
    /// The value with its envelope.
    Present(Vec<u8>),
}

impl Value {
    /// The value without its envelope, unless it has expired at `now`.
    #[inline]
    pub(super) fn at(&self, now: Timestamp) -> Option<&[u8]> {
        self.kept().and_then(|bytes| open_envelope(bytes, now))
    }

    /// The value with its envelope.
    #[inline]
    pub(super) fn kept(&self) -> Option<&[u8]> {
        match self {
            Self::Present(bytes) => Some(bytes),
            Self::Unread | Self::Absent => None,
        }
    }

    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.kept().map_or(0, <[u8]>::len)
    }
}

/// The moment `time` after `at`, in milliseconds since 1970.
pub(super) fn after(at: Timestamp, time: Duration) -> i64 {
    at.0.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

/// A kept value that expires: allocated to its exact size, because it is kept for long.
pub(super) fn expiring(value: &[u8], expires_at: i64) -> Vec<u8> {
    [&[EXPIRING], &expires_at.to_be_bytes()[..], value].concat()
}

/// The time at which a kept value expires, if it does.
pub(super) fn expiry(bytes: &[u8]) -> Option<i64> {
    let (&EXPIRING, rest) = bytes.split_first()? else { return None };
    Some(i64::from_be_bytes(*rest.first_chunk::<8>()?))
}

/// The content of a kept value, unless it has expired at `now`. A layout of a later release is empty, which no type's
/// decoder accepts.
#[inline]
pub(super) fn open_envelope(bytes: &[u8], now: Timestamp) -> Option<&[u8]> {
    match bytes.split_first()? {
        (&PLAIN, value) => Some(value),
        (&EXPIRING, rest) => {
            let (expires_at, value) = rest.split_first_chunk::<8>()?;
            (i64::from_be_bytes(*expires_at) > now.0).then_some(value)
        }
        _ => Some(&[]),
    }
}
