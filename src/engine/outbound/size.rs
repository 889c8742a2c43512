//! The size of a publication, or a bound on it.

/// A number of messages and bytes, or a bound on both.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Size {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Size {
    pub(crate) const MAX: Self = Self { messages: usize::MAX, bytes: usize::MAX };

    pub(crate) const fn is_within(self, room: Self) -> bool {
        self.messages <= room.messages && self.bytes <= room.bytes
    }

    pub(crate) const fn plus(self, other: Self) -> Self {
        Self { messages: self.messages + other.messages, bytes: self.bytes + other.bytes }
    }
}
