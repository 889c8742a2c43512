//! Standard output of a command. No output decides what a command does or how it ends: where nobody reads any more
//! (`topics plan | head -1`), the command goes on in silence and ends with its own exit code.

use std::io::{self, ErrorKind, Write};

/// A writer that never fails. It remembers the first error, and from then on swallows everything.
pub(super) struct Outlet<W> {
    inner: W,
    error: Option<io::Error>,
}

impl<W: Write> Outlet<W> {
    pub(super) const fn new(inner: W) -> Self {
        Self { inner, error: None }
    }

    /// The error that a person must hear of: output is lost, although somebody wants it. A reader that went away has what it
    /// wanted.
    pub(super) fn end(mut self) -> Option<io::Error> {
        let _ = self.flush(); // never fails
        self.error.filter(|error| error.kind() != ErrorKind::BrokenPipe)
    }

    /// The answer in place of `answer`, so that the command goes on.
    fn noted<T>(&mut self, answer: io::Result<T>, instead: T) -> io::Result<T> {
        match answer {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                self.error = Some(error);
                Ok(instead)
            }
            answer => answer,
        }
    }
}

impl<W: Write> Write for Outlet<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.error.is_some() {
            return Ok(bytes.len());
        }
        let answer = self.inner.write(bytes);
        self.noted(answer, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.error.is_some() {
            return Ok(());
        }
        let answer = self.inner.flush();
        self.noted(answer, ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_command_never_fails_by_its_output_and_only_a_lost_output_is_told() {
        for (kind, is_told) in [(ErrorKind::BrokenPipe, false), (ErrorKind::StorageFull, true)] {
            let mut outlet = Outlet::new(Failing(kind));
            for _ in 0..2 {
                writeln!(outlet, "a line").unwrap();
                outlet.flush().unwrap();
            }
            assert_eq!(outlet.end().map(|error| error.kind()), is_told.then_some(kind));
        }
    }
}
