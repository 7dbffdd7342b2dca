//! The end of the replication stream, kept once for everybody.
//!
//! ```text
//!            first                                            end
//!              |  block  |  block  |  block  |  block  |  bl|
//!                    ^ a slow replica  ^                     ^ all others
//!                                      end - size
//! ```
//! The stream is appended to blocks. A replica has no buffer of its own: it is a *reader*, a place in the stream that moves
//! on with what its socket took. Behind all readers a tail of `repl-backlog-size` bytes stays for replicas that
//! come back; blocks go when they are beyond that tail and behind every reader. So a slow replica makes the backlog longer,
//! which all others may use.
//!
//! The byte of offset `n` is the n-th of the stream, the first being number 1.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;

use crate::base::planted::{self, Bug};
use crate::cmd::session::Token;

/// Less of a backlog than this, in bytes, helps no replica: a smaller size means this one.
pub const SIZE_MIN: usize = 16 * 1024;
/// What a block holds at least, unless the whole backlog is to be small.
const BLOCK_MIN: usize = 16 * 1024;
/// A block is at most this part of the backlog, so that it can be trimmed in small steps.
const BLOCKS_IN_BACKLOG: usize = 16;
/// Blocks that go in one step: a replica that was far behind may leave many when it goes.
const TRIM_STEP: usize = 64;
/// A list of so many blocks is not worth being shortened.
const LIST_MIN: usize = 64;

struct Block {
    /// Offset of its first byte.
    first: i64,
    /// Its capacity never changes.
    bytes: Vec<u8>,
}

impl Block {
    fn end(&self) -> i64 {
        self.first + self.bytes.len() as i64
    }
}

/// See the head of the file.
pub struct Backlog {
    blocks: VecDeque<Block>,
    /// `repl-backlog-size`
    size: usize,
    /// Offset of the byte that comes next.
    end: i64,
    /// The offsets that readers have to be given next.
    readers: BTreeMap<Token, i64>,
    /// Readers are given nothing from this offset on: what is there may yet be lost.
    closed_from: Option<i64>,
    /// Bytes that the blocks have room for.
    memory: usize,
}

impl Backlog {
    /// An empty one, of which the next byte will have the offset `end`.
    pub fn new(size: usize, end: i64) -> Backlog {
        Backlog {
            blocks: VecDeque::new(),
            size,
            end,
            readers: BTreeMap::new(),
            closed_from: None,
            memory: 0,
        }
    }

    /// Offset of the first byte that is held, or will be.
    pub fn first(&self) -> i64 {
        self.blocks.front().map_or(self.end, |block| block.first)
    }

    /// Offset of the byte that comes next.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        (self.end - self.first()) as usize
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory that the blocks take, and the list of them, which grows by doubling: what was left out would be taken for data,
    /// and evict keys.
    pub fn memory(&self) -> usize {
        self.memory + self.blocks.capacity() * size_of::<Block>()
    }

    /// True if the stream can be read on from this offset.
    pub fn holds(&self, offset: i64) -> bool {
        (self.first()..=self.end).contains(&offset)
    }

    /// Makes the tail behind all readers as long as this.
    pub fn resize(&mut self, size: usize) {
        self.size = size;
        self.trim(TRIM_STEP);
    }

    /// Appends to the stream. True if that took a new block: it is then time to look at the readers that are behind.
    pub fn append(&mut self, mut bytes: &[u8]) -> bool {
        let mut grown = false;
        while !bytes.is_empty() {
            let room = |block: &mut Block| block.bytes.capacity() - block.bytes.len();
            let room = self.blocks.back_mut().map_or(0, room);
            if room == 0 {
                self.add_block(bytes.len());
                // At once: of a command of 512 MB nearly all is beyond the tail before its end is here.
                self.trim(TRIM_STEP);
                grown = true;
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            if let Some(block) = self.blocks.back_mut() {
                block.bytes.extend_from_slice(now);
            }
            self.end += now.len() as i64;
            bytes = later;
        }
        if grown {
            self.trim(TRIM_STEP);
        }
        grown
    }

    fn add_block(&mut self, wanted: usize) {
        let most = (self.size / BLOCKS_IN_BACKLOG).max(BLOCK_MIN);
        let block = Block {
            first: self.end,
            bytes: Vec::with_capacity(wanted.clamp(BLOCK_MIN, most)),
        };
        self.memory += block.bytes.capacity();
        self.blocks.push_back(block);
    }

    /// Lets go of up to so many blocks that nobody needs.
    pub fn trim(&mut self, most: usize) {
        let behind = self.readers.values().copied().min().unwrap_or(self.end);
        for _ in 0..most {
            let len = self.len();
            let Some(block) = self.blocks.front().filter(|_| self.blocks.len() > 1) else {
                break;
            };
            // A reader at its end has yet to be given the next one's first byte.
            let read = block.end() <= behind;
            if !read || len - block.bytes.len() <= self.size {
                break;
            }
            self.memory -= block.bytes.capacity();
            self.blocks.pop_front();
        }
        if self.blocks.capacity() > LIST_MIN.max(4 * self.blocks.len()) {
            self.blocks.shrink_to(2 * self.blocks.len());
        }
    }

    /// The same for as many as is done at leisure.
    pub fn trim_more(&mut self) {
        self.trim(10 * TRIM_STEP);
    }

    /// A reader begins at this offset, which is held. One that reads already moves there.
    pub fn read_from(&mut self, reader: Token, offset: i64) {
        debug_assert!(self.holds(offset), "{offset} is not in the backlog");
        let again = i64::from(planted::on(Bug::BacklogOffByOne) && offset > self.first());
        self.readers.insert(reader, offset - again);
    }

    /// The reader is gone.
    pub fn forget(&mut self, reader: Token) {
        if self.readers.remove(&reader).is_some() {
            self.trim(TRIM_STEP);
        }
    }

    /// The offset that a reader has to be given next.
    pub fn place_of(&self, reader: Token) -> Option<i64> {
        self.readers.get(&reader).copied()
    }

    /// Bytes that a reader has yet to be given, also those that it may not have yet.
    pub fn unread(&self, reader: Token) -> usize {
        self.place_of(reader)
            .map_or(0, |at| (self.end - at) as usize)
    }

    /// True if there is something that a reader may be given now.
    pub fn has_for(&self, reader: Token) -> bool {
        self.place_of(reader).is_some_and(|at| at < self.open_end())
    }

    /// Memory of the blocks that a reader has yet to be given.
    pub fn memory_from(&self, reader: Token) -> usize {
        let Some(at) = self.place_of(reader) else {
            return 0;
        };
        let begin = self.blocks.partition_point(|block| block.end() <= at);
        self.unread(reader) + (self.blocks.len() - begin) * size_of::<Block>()
    }

    /// Keeps what comes from this offset on from all readers, until it is known to be safe; `None`: they may have all.
    pub fn close_from(&mut self, offset: Option<i64>) {
        self.closed_from = offset;
    }

    fn open_end(&self) -> i64 {
        self.closed_from.map_or(self.end, |from| from.min(self.end))
    }

    /// What a reader has to be given next, in order, as far as `into` has room: how many pieces that are.
    pub fn io_slices<'a>(&'a self, reader: Token, into: &mut [IoSlice<'a>]) -> usize {
        let Some(at) = self.place_of(reader) else {
            return 0;
        };
        let mut left = usize::try_from(self.open_end() - at).unwrap_or(0);
        let mut n = 0;
        for (slot, piece) in into.iter_mut().zip(self.pieces(at)) {
            let piece = &piece[..piece.len().min(left)];
            if piece.is_empty() {
                break;
            }
            *slot = IoSlice::new(piece);
            left -= piece.len();
            n += 1;
        }
        n
    }

    /// The stream from an offset that is held to its end.
    pub fn pieces(&self, from: i64) -> impl Iterator<Item = &[u8]> {
        let begin = self.blocks.partition_point(|block| block.end() <= from);
        self.blocks.range(begin..).map(move |block| {
            let skip = usize::try_from(from - block.first).unwrap_or(0);
            &block.bytes[skip.min(block.bytes.len())..]
        })
    }

    /// A reader was given so many bytes.
    pub fn advance(&mut self, reader: Token, bytes: usize) {
        let Some(at) = self.readers.get_mut(&reader) else {
            return;
        };
        *at = (*at + bytes as i64).min(self.end);
    }

    /// The last bytes of the stream, up to so many.
    pub fn last(&self, most: usize) -> Vec<u8> {
        let from = self.end - most.min(self.len()) as i64;
        self.pieces(from).collect::<Vec<_>>().concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    /// All that a reader has yet to be given, and that it is in order.
    fn rest(backlog: &Backlog, reader: Token) -> Vec<u8> {
        let mut slices = vec![IoSlice::new(&[]); 10_000];
        let n = backlog.io_slices(reader, &mut slices);
        slices[..n].iter().flat_map(|s| s.to_vec()).collect()
    }

    #[test]
    fn every_offset_that_is_held_gives_the_stream_from_there() {
        let mut rng = Rng::new(7);
        for round in 0..8 {
            let size = 1 << (14 + rng.below(8));
            let begin = 1 + rng.below(1000) as i64;
            let mut backlog = Backlog::new(size, begin);
            // The whole stream, its first byte having the offset `begin`.
            let mut stream: Vec<u8> = Vec::new();
            let mut readers: Vec<(Token, usize)> = Vec::new();
            for step in 0..200 {
                match rng.below(10) {
                    0..=5 => {
                        let len = match rng.below(20) {
                            0 => rng.below(200_000),
                            _ => rng.below(3000),
                        };
                        let bytes: Vec<u8> = (0..len).map(|_| rng.below(256) as u8).collect();
                        backlog.append(&bytes);
                        stream.extend(&bytes);
                    }
                    6 if readers.len() < 4 => {
                        let held = backlog.len() as u64;
                        let offset = backlog.first() + rng.below(held + 1) as i64;
                        let reader = Token(step);
                        backlog.read_from(reader, offset);
                        readers.push((reader, (offset - begin) as usize));
                    }
                    7 if !readers.is_empty() => {
                        let at = rng.below(readers.len() as u64) as usize;
                        backlog.forget(readers.swap_remove(at).0);
                    }
                    _ => {
                        for (reader, at) in &mut readers {
                            let bytes = rng.below((stream.len() - *at) as u64 + 1) as usize;
                            backlog.advance(*reader, bytes);
                            *at += bytes;
                        }
                        backlog.trim_more();
                    }
                }
                let first = (backlog.first() - begin) as usize;
                assert_eq!(backlog.end() - begin, stream.len() as i64);
                assert_eq!(backlog.len(), stream.len() - first);
                for &(reader, at) in &readers {
                    assert!(first <= at, "round {round}: a reader lost its place");
                    assert_eq!(backlog.unread(reader), stream.len() - at);
                    assert!(rest(&backlog, reader) == stream[at..], "round {round}");
                }
                // It is never shorter than it should be while there is more.
                assert!(first == 0 || backlog.len() >= size);
                let offset = backlog.first() + rng.below(backlog.len() as u64 + 1) as i64;
                let from: Vec<u8> = backlog.pieces(offset).flatten().copied().collect();
                assert!(from == stream[(offset - begin) as usize..]);
                assert!(backlog.holds(offset) && !backlog.holds(backlog.first() - 1));
                assert!(!backlog.holds(backlog.end() + 1));
                assert!(backlog.memory() >= backlog.len());
            }
            for (reader, _) in readers {
                backlog.forget(reader);
            }
            backlog.trim_more();
            let longest = size + (size / BLOCKS_IN_BACKLOG).max(BLOCK_MIN);
            assert!(backlog.len() <= longest, "{} of {size}", backlog.len());
        }
    }

    #[test]
    fn what_may_be_lost_is_kept_from_readers() {
        let mut backlog = Backlog::new(1 << 20, 1);
        backlog.read_from(Token(1), 1);
        backlog.append(b"safe");
        backlog.close_from(Some(5));
        backlog.append(b"not yet");
        assert_eq!(rest(&backlog, Token(1)), b"safe");
        backlog.advance(Token(1), 4);
        assert!(!backlog.has_for(Token(1)) && backlog.unread(Token(1)) == 7);
        backlog.close_from(None);
        assert_eq!(rest(&backlog, Token(1)), b"not yet");
    }

    #[test]
    fn a_long_command_does_not_make_it_longer() {
        let size = 1 << 20;
        let mut backlog = Backlog::new(size, 1);
        backlog.append(&vec![7; 100 * size]);
        assert!(backlog.memory() < 2 * size, "{}", backlog.memory());
        // A reader that is behind keeps all of it.
        backlog.read_from(Token(1), backlog.end());
        backlog.append(&vec![8; 10 * size]);
        assert_eq!(backlog.unread(Token(1)), 10 * size);
        assert!(backlog.len() >= 10 * size);
    }

    #[test]
    fn the_last_bytes() {
        let mut backlog = Backlog::new(1 << 20, 1);
        backlog.append(b"0123456789");
        assert_eq!(backlog.last(3), b"789");
        assert_eq!(backlog.last(300), b"0123456789");
    }
}
