//! Big strings: values too large to live inside their key's allocation.
//!
//! Up to 256 KB a big string is one buffer. Above, it is a directory of 64 KB chunks, 64 chunks to a page:
//!
//! ```text
//! BigStr ── pages ──▶ Page (shared, 4 MB of string) ── chunks ──▶ Bytes (64 KB, shared)
//! ```
//!
//! Pages and chunks are counted, so a clone copies the row of page pointers (128 of them at 512 MB) and nothing
//! else, and a write into a string that a snapshot or a reply also holds copies the one page and the one chunk it
//! touches. Three things follow from one rule, *a buffer may be shorter than its place, and what is missing reads as
//! zeros*: a chunk nobody wrote has no memory (SETBIT far out on an empty key is cheap), growth by SETRANGE touches
//! only the chunks it writes, and a page pointer may be absent altogether.
//!
//! A value that arrives as one buffer straight off the network is kept as it came: its chunks are views of that
//! buffer. A view is never the only owner, so the first write into each 64 KB copies them, and the buffer itself
//! goes when its last view does. Replies take the same buffers to writev, again without a copy.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering as AtomicOrdering};

use bytes::{Bytes, BytesMut};

use crate::ds::cow::{self, Shared};
use crate::ds::defrag::Mover;

/// Bytes a chunk of a paged string covers.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Up to this length a big string is one buffer.
pub const ONE_BUFFER_MAX: usize = 256 * 1024;
const PAGE_CHUNKS: usize = 64;
const PAGE_BYTES: usize = PAGE_CHUNKS * CHUNK_BYTES;

static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];

/// A string of any length in shared chunks. It never shrinks: Redis has no command that shortens a string in place.
#[derive(Clone)]
pub struct BigStr {
    len: usize,
    body: Body,
}

#[derive(Clone)]
enum Body {
    One(Bytes),
    Paged(Vec<Option<Shared<Page>>>),
}

struct Page {
    chunks: [Bytes; PAGE_CHUNKS],
    /// Another page was copied from this one or this from another, so that a chunk with several owners may well be
    /// that one's too, and not just one of many views of the same buffer.
    copied: AtomicBool,
}

impl Page {
    fn empty() -> Page {
        Page {
            chunks: [const { Bytes::new() }; PAGE_CHUNKS],
            copied: AtomicBool::new(false),
        }
    }

    fn freed_by_drop(&self) -> usize {
        let copied = self.copied.load(AtomicOrdering::Relaxed);
        let goes = |chunk: &&Bytes| !copied || chunk.is_unique();
        size_of::<Page>()
            + self
                .chunks
                .iter()
                .filter(goes)
                .map(Bytes::len)
                .sum::<usize>()
    }
}

impl Clone for Page {
    fn clone(&self) -> Page {
        self.copied.store(true, AtomicOrdering::Relaxed);
        Page {
            chunks: self.chunks.clone(),
            copied: AtomicBool::new(true),
        }
    }
}

/// A stretch of the string that lies in one place: bytes of a buffer, or so many zeros that no buffer holds.
enum Run<'a> {
    Stored(&'a Bytes, Range<usize>),
    Zeros(usize),
}

impl BigStr {
    /// Shows its buffer to a mover, if it is one that the allocator puts beside others.
    pub fn defrag(&mut self, mover: &mut Mover<'_>) {
        if let Body::One(buffer) = &mut self.body {
            mover.bytes(buffer);
        }
    }

    /// Copies `data`, each chunk into a buffer of its own.
    pub fn copy_from(data: &[u8]) -> BigStr {
        if data.len() <= ONE_BUFFER_MAX {
            return BigStr::from_bytes(Bytes::copy_from_slice(data));
        }
        let mut s = BigStr {
            len: 0,
            body: Body::Paged(Vec::new()),
        };
        s.append(data);
        s
    }

    /// Keeps `data` as it is, without a copy. The whole buffer behind it stays allocated while any chunk still
    /// views it, so it should hold this value and nothing else.
    pub fn from_bytes(data: Bytes) -> BigStr {
        BigStr {
            len: data.len(),
            body: if data.len() <= ONE_BUFFER_MAX {
                Body::One(data)
            } else {
                Body::Paged(paged_views(&data))
            },
        }
    }

    /// A string of `len` bytes of which `part` makes one chunk after the other; where it gives nothing are zeros.
    pub fn from_parts(len: usize, mut part: impl FnMut(Range<usize>) -> Option<Bytes>) -> BigStr {
        if len <= ONE_BUFFER_MAX {
            let whole = part(0..len).unwrap_or_else(|| Bytes::from(vec![0; len]));
            return BigStr::from_bytes(whole);
        }
        let mut pages = vec![None; len.div_ceil(PAGE_BYTES)];
        for at in (0..len).step_by(CHUNK_BYTES) {
            if let Some(chunk) = part(at..len.min(at + CHUNK_BYTES)) {
                debug_assert!(chunk.len() <= CHUNK_BYTES);
                let page = &mut pages[at / PAGE_BYTES];
                let page = page.get_or_insert_with(|| Shared::new(Page::empty()));
                Shared::make_mut(page).chunks[at % PAGE_BYTES / CHUNK_BYTES] = chunk;
            }
        }
        BigStr {
            len,
            body: Body::Paged(pages),
        }
    }

    /// Length in bytes, zeros that take no memory included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for the empty string.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The byte at `at`, or `None` past the end.
    pub fn get(&self, at: usize) -> Option<u8> {
        (at < self.len).then(|| match self.run(at, at + 1) {
            Run::Stored(buf, r) => buf[r.start],
            Run::Zeros(_) => 0,
        })
    }

    /// The bytes of `range` (cut to the string's end) as slices, in order. Zeros that have no memory come as slices
    /// of a static page.
    pub fn slices(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        self.runs(range).map(|run| match run {
            Run::Stored(buf, r) => &buf[r],
            Run::Zeros(n) => &ZEROS[..n],
        })
    }

    /// As [`slices`](Self::slices), but as buffers that stay valid and unchanged however the string is written later.
    pub fn chunks(&self, range: Range<usize>) -> impl Iterator<Item = Bytes> {
        self.runs(range).map(|run| match run {
            Run::Stored(buf, r) => buf.slice(r),
            Run::Zeros(n) => Bytes::from_static(&ZEROS[..n]),
        })
    }

    /// The stretches of `range` that some buffer holds, each with the offset it begins at; all else are zeros.
    pub fn stored(&self, range: Range<usize>) -> impl Iterator<Item = (usize, &[u8])> {
        let mut at = range.start;
        self.runs(range).filter_map(move |run| {
            let from = at;
            match run {
                Run::Stored(buf, r) => {
                    at += r.len();
                    Some((from, &buf[r]))
                }
                Run::Zeros(n) => {
                    at += n;
                    None
                }
            }
        })
    }

    /// The whole string where it lies in one piece.
    pub fn as_slice(&self) -> Option<&[u8]> {
        match &self.body {
            Body::One(buf) if buf.len() == self.len => Some(buf),
            _ => None,
        }
    }

    /// A contiguous copy of `range`, cut to the string's end.
    pub fn copy_range(&self, range: Range<usize>) -> Vec<u8> {
        let end = range.end.min(self.len);
        let mut out = Vec::with_capacity(end.saturating_sub(range.start));
        self.slices(range)
            .for_each(|slice| out.extend_from_slice(slice));
        out
    }

    /// A contiguous copy of the whole.
    pub fn to_vec(&self) -> Vec<u8> {
        self.copy_range(0..self.len)
    }

    /// Adds `data` at the end, amortised O(1) a byte. See [`write_at`](Self::write_at) for what it returns.
    pub fn append(&mut self, data: &[u8]) -> usize {
        self.write_at(self.len, data)
    }

    /// Writes `data` at offset `at`; the string grows as needed, a gap reads as zeros. The caller has checked the
    /// result against `proto-max-bulk-len`.
    ///
    /// Returns the bytes left behind to other owners (a snapshot, a reply): what was copied because it was shared.
    pub fn write_at(&mut self, at: usize, data: &[u8]) -> usize {
        let end = at.checked_add(data.len()).expect("a length in memory");
        if data.is_empty() {
            return 0;
        }
        self.len = self.len.max(end);
        if self.len > ONE_BUFFER_MAX
            && let Body::One(whole) = &self.body
        {
            self.body = Body::Paged(paged_views(whole));
        }
        match &mut self.body {
            Body::One(buf) => write_buffer(buf, at, data, ONE_BUFFER_MAX),
            Body::Paged(pages) => write_paged(pages, at, data),
        }
    }

    /// Bytes of memory behind the string: buffers shared with others count as its own, room to grow does not.
    pub fn memory_bytes(&self) -> usize {
        size_of::<BigStr>()
            + match &self.body {
                Body::One(buf) => buf.len(),
                Body::Paged(pages) => {
                    pages.capacity() * size_of::<Option<Shared<Page>>>()
                        + pages
                            .iter()
                            .flatten()
                            .map(|page| {
                                size_of::<Page>()
                                    + page.chunks.iter().map(Bytes::len).sum::<usize>()
                            })
                            .sum::<usize>()
                }
            }
    }

    /// Of those, the bytes that go when this string goes, the rest being others' too.
    pub fn freed_by_drop(&self) -> usize {
        let body = match &self.body {
            Body::One(buf) if buf.is_unique() => buf.len(),
            Body::One(_) => 0,
            Body::Paged(pages) => {
                let ours = pages.iter().flatten().filter(|p| Shared::is_unique(p));
                pages.capacity() * size_of::<Option<Shared<Page>>>()
                    + ours.map(|page| page.freed_by_drop()).sum::<usize>()
            }
        };
        size_of::<BigStr>() + body
    }

    /// How many allocations freeing the string may touch: what decides whether another thread should do it.
    pub fn free_effort(&self) -> usize {
        match &self.body {
            Body::One(_) => 1,
            Body::Paged(pages) => pages.len() * PAGE_CHUNKS,
        }
    }

    fn runs(&self, range: Range<usize>) -> impl Iterator<Item = Run<'_>> {
        let end = range.end.min(self.len);
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let run = self.run(at, end);
            at += match &run {
                Run::Stored(_, r) => r.len(),
                Run::Zeros(n) => *n,
            };
            Some(run)
        })
    }

    /// The longest run that starts at `at` and ends by `end`; `at < end <= len`.
    fn run(&self, at: usize, end: usize) -> Run<'_> {
        static NOTHING: Bytes = Bytes::new();
        let (buf, start, stop) = match &self.body {
            Body::One(buf) => (buf, at, end),
            Body::Paged(pages) => {
                let chunk = at / CHUNK_BYTES;
                let base = chunk * CHUNK_BYTES;
                let buf = match pages.get(chunk / PAGE_CHUNKS) {
                    Some(Some(page)) => &page.chunks[chunk % PAGE_CHUNKS],
                    _ => &NOTHING,
                };
                (buf, at - base, (end - base).min(CHUNK_BYTES))
            }
        };
        if start < buf.len() {
            Run::Stored(buf, start..stop.min(buf.len()))
        } else {
            Run::Zeros((stop - start).min(ZEROS.len()))
        }
    }
}

/// Cuts one buffer into pages of views.
fn paged_views(whole: &Bytes) -> Vec<Option<Shared<Page>>> {
    let mut pages = Vec::with_capacity(whole.len().div_ceil(PAGE_BYTES));
    for page_at in (0..whole.len()).step_by(PAGE_BYTES) {
        let mut page = Page::empty();
        let ends = whole.len().min(page_at + PAGE_BYTES);
        for (chunk, at) in page
            .chunks
            .iter_mut()
            .zip((page_at..ends).step_by(CHUNK_BYTES))
        {
            *chunk = whole.slice(at..ends.min(at + CHUNK_BYTES));
        }
        pages.push(Some(Shared::new(page)));
    }
    pages
}

fn write_paged(pages: &mut Vec<Option<Shared<Page>>>, mut at: usize, mut data: &[u8]) -> usize {
    let mut left_behind = 0;
    let last_page = (at + data.len() - 1) / PAGE_BYTES;
    if pages.len() <= last_page {
        pages.resize(last_page + 1, None);
    }
    while !data.is_empty() {
        let page = pages[at / PAGE_BYTES].get_or_insert_with(|| Shared::new(Page::empty()));
        if !Shared::is_unique(page) {
            left_behind += size_of::<Page>();
        }
        let page = Shared::make_mut(page);
        let within = at % CHUNK_BYTES;
        let n = data.len().min(CHUNK_BYTES - within);
        let (now, rest) = data.split_at(n);
        let chunk = &mut page.chunks[at % PAGE_BYTES / CHUNK_BYTES];
        left_behind += write_buffer(chunk, within, now, CHUNK_BYTES);
        at += n;
        data = rest;
    }
    left_behind
}

/// Writes into one buffer that may grow to `limit` bytes; a shared one is copied first. Returns the bytes left behind.
fn write_buffer(buf: &mut Bytes, at: usize, data: &[u8], limit: usize) -> usize {
    let end = at + data.len();
    let copy_of = |old: &[u8]| {
        let mut copy = BytesMut::with_capacity(new_capacity(old.len(), end, limit));
        copy.extend_from_slice(old);
        copy
    };
    let (mut out, left_behind) = match cow::take_writable(buf) {
        // The last view of a buffer owns all of it, perhaps many times what it shows: that one is given back.
        Ok(own) if own.capacity() >= end && own.capacity() <= 2 * limit => (own, 0),
        Ok(own) => (copy_of(&own), 0),
        Err(shared) => (copy_of(&shared), shared.len()),
    };
    if out.len() < at {
        out.resize(at, 0);
    }
    let overlap = data.len().min(out.len() - at);
    out[at..at + overlap].copy_from_slice(&data[..overlap]);
    out.extend_from_slice(&data[overlap..]);
    *buf = out.freeze();
    left_behind
}

/// What is written once is cut to measure; what grows gets room in powers of two, so that bytes appended one by one move
/// a handful of times.
fn new_capacity(old_len: usize, end: usize, limit: usize) -> usize {
    if old_len > 0 && end > old_len {
        end.next_power_of_two().min(limit)
    } else {
        end.max(old_len)
    }
}

impl PartialEq<[u8]> for BigStr {
    fn eq(&self, other: &[u8]) -> bool {
        self.len == other.len() && self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

impl PartialOrd<[u8]> for BigStr {
    fn partial_cmp(&self, other: &[u8]) -> Option<Ordering> {
        let mut at = 0;
        for slice in self.slices(0..self.len) {
            let n = slice.len().min(other.len() - at);
            match slice[..n].cmp(&other[at..at + n]) {
                Ordering::Equal if n < slice.len() => return Some(Ordering::Greater),
                Ordering::Equal => at += n,
                unequal => return Some(unequal),
            }
        }
        Some(at.cmp(&other.len()))
    }
}

impl PartialEq for BigStr {
    fn eq(&self, other: &BigStr) -> bool {
        if self.len != other.len {
            return false;
        }
        let mut at = 0;
        self.slices(0..self.len).all(|slice| {
            let mut rest = slice;
            for theirs in other.slices(at..at + slice.len()) {
                let (now, later) = rest.split_at(theirs.len());
                if now != theirs {
                    return false;
                }
                rest = later;
            }
            at += slice.len();
            true
        })
    }
}

impl Eq for BigStr {}

impl std::fmt::Debug for BigStr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BigStr").field("len", &self.len).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One step of a string's life; offsets are chosen to fall on either side of every boundary.
    #[derive(Debug, Clone)]
    enum Step {
        Write { at: usize, len: usize, byte: u8 },
        Append { len: usize, byte: u8 },
        Replace { len: usize, byte: u8 },
        Clone,
        HoldReply { at: usize, len: usize },
        DropClones,
    }

    fn offsets() -> impl Strategy<Value = usize> {
        prop_oneof![
            0..3usize,
            (0..24usize, 0..5usize).prop_map(|(k, d)| (k * CHUNK_BYTES + d).saturating_sub(2)),
            (PAGE_BYTES - 3..PAGE_BYTES + 3),
            0..2 * ONE_BUFFER_MAX,
        ]
    }

    fn lens() -> impl Strategy<Value = usize> {
        prop_oneof![
            1..40usize,
            CHUNK_BYTES - 2..CHUNK_BYTES + 3,
            1..5 * CHUNK_BYTES
        ]
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (offsets(), lens(), any::<u8>()).prop_map(|(at, len, byte)| Step::Write { at, len, byte }),
            4 => (lens(), any::<u8>()).prop_map(|(len, byte)| Step::Append { len, byte }),
            1 => (offsets(), any::<u8>()).prop_map(|(len, byte)| Step::Replace { len, byte }),
            2 => Just(Step::Clone),
            2 => (offsets(), lens()).prop_map(|(at, len)| Step::HoldReply { at, len }),
            1 => Just(Step::DropClones),
        ]
    }

    /// Bytes that differ at every place, so that a chunk put down in the wrong one is seen.
    fn pattern(byte: u8, len: usize) -> Vec<u8> {
        (0..len)
            .map(|i| byte ^ (i as u8) ^ ((i >> 8) as u8).wrapping_mul(7))
            .collect()
    }

    fn write_model(model: &mut Vec<u8>, at: usize, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        if model.len() < at + data.len() {
            model.resize(at + data.len(), 0);
        }
        model[at..at + data.len()].copy_from_slice(data);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn agrees_with_a_vec_while_clones_and_replies_stay_as_they_were(
            steps in proptest::collection::vec(steps(), 1..24)
        ) {
            let (mut big, mut model) = (BigStr::copy_from(b""), Vec::new());
            let mut clones: Vec<(BigStr, Vec<u8>)> = Vec::new();
            let mut replies: Vec<(Vec<Bytes>, Vec<u8>)> = Vec::new();
            for step in steps {
                match step {
                    Step::Write { at, len, byte } => {
                        big.write_at(at, &pattern(byte, len));
                        write_model(&mut model, at, &pattern(byte, len));
                    }
                    Step::Append { len, byte } => {
                        big.append(&pattern(byte, len));
                        model.extend_from_slice(&pattern(byte, len));
                    }
                    Step::Replace { len, byte } => {
                        model = pattern(byte, len);
                        big = BigStr::from_bytes(Bytes::from(model.clone()));
                    }
                    Step::Clone => clones.push((big.clone(), model.clone())),
                    Step::HoldReply { at, len } => {
                        let end = (at + len).min(model.len());
                        replies.push((big.chunks(at..at + len).collect(), model[at.min(end)..end].to_vec()));
                    }
                    Step::DropClones => {
                        clones.clear();
                        replies.clear();
                    }
                }
                prop_assert_eq!(big.len(), model.len());
                prop_assert!(big == model[..]);
                let at = model.len() / 3;
                prop_assert_eq!(big.get(at), model.get(at).copied());
                prop_assert_eq!(big.copy_range(at..at + 70_000), &model[at..model.len().min(at + 70_000)]);
            }
            for (clone, was) in &clones {
                prop_assert!(*clone == was[..]);
                prop_assert!(*clone == BigStr::copy_from(was));
                prop_assert_eq!(clone.partial_cmp(&model[..]), was[..].partial_cmp(&model[..]));
            }
            for (reply, was) in &replies {
                prop_assert_eq!(&reply.concat(), was);
            }
        }
    }

    #[test]
    fn a_far_bit_takes_the_memory_of_one_chunk() {
        let mut s = BigStr::copy_from(b"");
        s.write_at(512 * 1024 * 1024 - 1, &[1]);
        assert_eq!(s.len(), 512 * 1024 * 1024);
        assert!(
            s.memory_bytes() < 2 * CHUNK_BYTES,
            "{} bytes",
            s.memory_bytes()
        );
        assert_eq!((s.get(77), s.get(s.len() - 1)), (Some(0), Some(1)));
    }

    #[test]
    fn a_write_under_a_clone_leaves_one_chunk_behind_and_the_next_one_nothing() {
        let mut s = BigStr::copy_from(&pattern(1, 40 * CHUNK_BYTES));
        let snapshot = s.clone();
        assert_eq!(
            s.write_at(5 * CHUNK_BYTES + 9, b"x"),
            CHUNK_BYTES + size_of::<Page>()
        );
        assert_eq!(s.write_at(5 * CHUNK_BYTES + 10, b"y"), 0);
        assert_eq!(s.write_at(6 * CHUNK_BYTES, b"z"), CHUNK_BYTES);
        assert!(snapshot == pattern(1, 40 * CHUNK_BYTES)[..]);
        drop(snapshot);
        assert_eq!(s.write_at(7 * CHUNK_BYTES, b"z"), 0);
    }

    #[test]
    fn a_value_from_the_network_keeps_its_buffer() {
        let data = Bytes::from(pattern(3, 3 * ONE_BUFFER_MAX));
        let at = data.as_ptr() as usize;
        let s = BigStr::from_bytes(data);
        for (i, chunk) in s.chunks(0..s.len()).enumerate() {
            assert_eq!(chunk.as_ptr() as usize, at + i * CHUNK_BYTES);
        }
    }
}
