//! What a connection has received and not yet answered. Each request's header holds a PIN, so nothing is left behind unwiped.
#![forbid(unsafe_code)]

use std::io::{self, Read};

use zeroize::{Zeroize, Zeroizing};

/// Bytes that a connection keeps between requests; what one larger request needed is given back after it.
pub(super) const KEPT: usize = 16 * 1024;

/// The received bytes, the next request first. It grows with what has arrived, never with what a peer announces.
#[derive(Default)]
pub(super) struct Inbox {
    /// Zero from `filled` on.
    buf: Zeroizing<Vec<u8>>,
    filled: usize,
}

impl Inbox {
    pub fn bytes(&self) -> &[u8] {
        self.buf.get(..self.filled).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Appends the `len` bytes that `from` has ready.
    pub fn take(&mut self, len: usize, mut from: impl Read) -> io::Result<()> {
        let filled = self.filled.saturating_add(len);
        self.make_room(filled);
        if let Some(room) = self.buf.get_mut(self.filled..filled) {
            from.read_exact(room)?;
            self.filled = filled;
        }
        Ok(())
    }

    /// Wipes the first `len` bytes; those behind them come to the front.
    pub fn consume(&mut self, len: usize) {
        let len = len.min(self.filled);
        let rest = self.filled.saturating_sub(len);
        self.buf.copy_within(len..self.filled, 0);
        if let Some(done) = self.buf.get_mut(rest..self.filled) {
            done.zeroize();
        }
        self.filled = rest;
        if self.buf.len() > KEPT && rest <= KEPT {
            self.resize(if rest == 0 { 0 } else { KEPT });
        }
    }

    fn make_room(&mut self, len: usize) {
        if len > self.buf.len() {
            // Doubling keeps the copying linear, and the buffer at less than twice what has arrived.
            self.resize(len.max(self.buf.len().saturating_mul(2)).next_multiple_of(4096));
        }
    }

    /// Never by the vector's own growth, which would leave the old bytes in freed memory.
    fn resize(&mut self, size: usize) {
        let mut buf = Zeroizing::new(vec![0; size]);
        if let (Some(to), Some(from)) = (buf.get_mut(..self.filled), self.buf.get(..self.filled)) {
            to.copy_from_slice(from);
        }
        self.buf = buf;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wipes_a_request_and_keeps_what_follows_it() {
        let mut inbox = Inbox::default();
        inbox.take(10, &b"secret-pin"[..]).unwrap();
        inbox.take(4, &b"next"[..]).unwrap();
        inbox.consume(10);
        assert_eq!(inbox.bytes(), b"next");
        assert!(inbox.buf[4..].iter().all(|&byte| byte == 0));
        inbox.consume(99);
        assert!(inbox.is_empty());
        assert!(inbox.buf.iter().all(|&byte| byte == 0));
    }

    #[test]
    fn grows_with_what_arrives_and_shrinks_after_it() {
        let mut inbox = Inbox::default();
        let block = [7; 1000];
        for arrived in 1..=500 {
            inbox.take(block.len(), &block[..]).unwrap();
            assert!(inbox.buf.len() <= (2 * arrived * block.len()).next_multiple_of(4096));
        }
        assert_eq!(inbox.bytes(), [7; 500_000]);
        inbox.consume(499_000);
        assert_eq!((inbox.bytes(), inbox.buf.len()), (&block[..], KEPT));
        inbox.take(KEPT, &[1; KEPT][..]).unwrap();
        inbox.consume(1000 + KEPT);
        assert_eq!(inbox.buf.len(), 0);
    }

    #[test]
    fn is_as_before_when_the_promised_bytes_are_not_there() {
        let mut inbox = Inbox::default();
        inbox.take(4, &b"here"[..]).unwrap();
        inbox.take(9, &b"short"[..]).unwrap_err();
        assert_eq!(inbox.bytes(), b"here");
    }
}
