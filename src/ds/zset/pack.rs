//! The leaf of a sorted set's tree: up to 152 marks in one allocation that grows with them.
//!
//! ```text
//! 0        4     6          8                     8 + 4 cap
//! | owners | len | capacity | heads, u32 each ... | words, 6 bytes each ... |
//! ```
//! The heads decide nearly every comparison, and 16 of them share a cache line. Capacities are those that the allocator's
//! size classes leave room for, so that about nine tenths of a leaf are in use; a fixed array would have two thirds.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::{self, NonNull};

use super::order::{Mark, Target, Word};
use crate::base::alloc::size_class;
use crate::ds::cow::Count;
use crate::ds::defrag::Mover;
use crate::ds::dict::prefetch_read;
use crate::ds::tree::{Beside, Chunk, Leaf};

#[repr(C)]
struct Head {
    owners: Count,
    len: u16,
    cap: u16,
}

const HEAD: usize = size_of::<Head>();
const MARK: usize = size_of::<u32>() + size_of::<Word>();
const ALIGN: usize = 8;
/// Marks of a full leaf: what fits the class of 1536 bytes.
pub(super) const MARKS_MAX: usize = (1536 - HEAD) / MARK;
/// A leaf with no more marks than this looks for a neighbour to join.
pub(super) const SPARSE: usize = MARKS_MAX / 4;
/// Leaves that together have no more marks than this are joined.
pub(super) const JOINED_MAX: usize = MARKS_MAX * 3 / 4;

const _: () = assert!(HEAD == 8 && MARKS_MAX == 152);

/// A counted pointer to a leaf; the owner on whose path every owner is alone may write.
pub(super) struct Pack(NonNull<Head>, PhantomData<Head>);

// SAFETY: the count is atomic, the rest is only written by a sole owner. The members are not touched from here.
unsafe impl Send for Pack {}
// SAFETY: as above.
unsafe impl Sync for Pack {}

impl Pack {
    /// An empty leaf with room for so many marks at least.
    fn with_room(len: usize) -> Pack {
        let cap = capacity(len);
        let layout = layout(cap);
        // SAFETY: the layout is not empty.
        let Some(at) = NonNull::new(unsafe { alloc(layout) }.cast::<Head>()) else {
            handle_alloc_error(layout)
        };
        let head = Head {
            owners: Count::new(),
            len: 0,
            cap: cap as u16,
        };
        // SAFETY: the head lies at the start of the fresh allocation, which is aligned for it.
        unsafe { at.write(head) };
        Pack(at, PhantomData)
    }

    /// A leaf of these marks, at most [`MARKS_MAX`].
    pub fn of(marks: &[Mark]) -> Pack {
        let mut pack = Pack::with_room(marks.len());
        for (i, mark) in marks.iter().enumerate() {
            pack.put(i, *mark);
        }
        pack.set_len(marks.len());
        pack
    }

    #[inline(always)]
    fn head(&self) -> &Head {
        // SAFETY: an owner keeps the allocation alive, and it is written only through a sole owner.
        unsafe { self.0.as_ref() }
    }

    #[inline(always)]
    fn cap(&self) -> usize {
        usize::from(self.head().cap)
    }

    #[inline(always)]
    fn set_len(&mut self, len: usize) {
        debug_assert!(len <= self.cap() && self.head().owners.is_unique());
        // SAFETY: the sole owner is borrowed mutably.
        unsafe { (*self.0.as_ptr()).len = len as u16 };
    }

    #[inline(always)]
    fn heads_at(&self) -> *mut u32 {
        // SAFETY: heads follow the leaf's own.
        unsafe { self.0.as_ptr().add(1).cast() }
    }

    #[inline(always)]
    fn words_at(&self) -> *mut Word {
        // SAFETY: words follow the heads, of which there is room for `cap`.
        unsafe { self.heads_at().add(self.cap()).cast() }
    }

    #[inline(always)]
    fn heads(&self) -> &[u32] {
        // SAFETY: so many heads are written.
        unsafe { std::slice::from_raw_parts(self.heads_at(), self.len()) }
    }

    #[inline(always)]
    pub fn words(&self) -> &[Word] {
        // SAFETY: so many words are written.
        unsafe { std::slice::from_raw_parts(self.words_at(), self.len()) }
    }

    /// Writes a mark within the capacity.
    #[inline(always)]
    fn put(&mut self, i: usize, mark: Mark) {
        debug_assert!(i < self.cap());
        // SAFETY: within the capacity, and the sole owner is borrowed mutably.
        unsafe {
            self.heads_at().add(i).write(mark.head);
            self.words_at().add(i).write(mark.word);
        }
    }

    #[inline(always)]
    pub fn mark(&self, i: usize) -> Mark {
        Mark {
            head: self.heads()[i],
            word: self.words()[i],
        }
    }

    /// Hints that the members of a range will be read.
    #[inline]
    pub fn prefetch(&self, range: Range<usize>) {
        let words = self.words();
        for word in &words[range.start.min(words.len())..range.end.min(words.len())] {
            prefetch_read(word.ptr().as_ptr());
        }
    }

    /// How many marks stand before a gap.
    ///
    /// # Safety
    /// The members of all marks are alive.
    #[inline]
    pub unsafe fn partition(&self, target: &Target<'_>) -> usize {
        let (words, heads) = (self.words(), self.heads());
        let (from, until) = match target.head() {
            Some(head) => {
                let from = heads.partition_point(|&have| have < head);
                let equal = heads[from..].partition_point(|&have| have == head);
                (from, from + equal)
            }
            None => (0, words.len()),
        };
        // SAFETY: promised by the caller.
        from + words[from..until].partition_point(|&word| unsafe { target.is_past_word(word) })
    }

    /// Puts a mark in at an index. A full leaf gives a second one, to stand beside it: the new mark alone if it comes at
    /// an end, else the back half.
    pub fn insert(&mut self, i: usize, mark: Mark) -> Beside<Pack> {
        let len = self.len();
        if len < MARKS_MAX {
            self.insert_within(i, mark);
            return Beside::Nothing;
        }
        if i == 0 {
            return Beside::Before(Pack::of(&[mark]));
        }
        if i == len {
            return Beside::After(Pack::of(&[mark]));
        }
        let mut back = self.split_off(len / 2);
        match i.checked_sub(self.len()) {
            Some(i) => back.insert_within(i, mark),
            None => self.insert_within(i, mark),
        }
        Beside::After(back)
    }

    fn insert_within(&mut self, i: usize, mark: Mark) {
        let len = self.len();
        if len == self.cap() {
            self.resize(len + 1);
        }
        self.shift(i..len, i + 1);
        self.put(i, mark);
        self.set_len(len + 1);
    }

    /// Takes the mark at an index out.
    pub fn remove(&mut self, i: usize) {
        self.remove_range(i..i + 1);
    }

    /// Takes the marks of a range out.
    pub fn remove_range(&mut self, range: Range<usize>) {
        let len = self.len();
        self.shift(range.end..len, range.start);
        let left = len - range.len();
        self.set_len(left);
        // Some room is kept, so that the next mark does not bring the old size back.
        if capacity(left + left / 8 + 2) < self.cap() {
            self.resize(left);
        }
    }

    /// Keeps the first marks and gives those from an index on.
    fn split_off(&mut self, at: usize) -> Pack {
        let mut back = Pack::with_room(self.len() - at);
        back.append_range(self, at..self.len());
        self.set_len(at);
        self.resize(at);
        back
    }

    /// Adds all marks of another leaf behind its own; there are not too many.
    pub fn append(&mut self, other: &Pack) {
        let len = self.len() + other.len();
        if len > self.cap() {
            self.resize(len);
        }
        self.append_range(other, 0..other.len());
    }

    fn append_range(&mut self, other: &Pack, range: Range<usize>) {
        let (len, more) = (self.len(), range.len());
        assert!(len + more <= self.cap() && range.end <= other.len());
        // SAFETY: from what the other has into the room that was just asked for; two leaves never overlap.
        unsafe {
            let (words, heads) = (other.words_at(), other.heads_at());
            ptr::copy_nonoverlapping(words.add(range.start), self.words_at().add(len), more);
            ptr::copy_nonoverlapping(heads.add(range.start), self.heads_at().add(len), more);
        }
        self.set_len(len + more);
    }

    /// Moves marks within the capacity.
    #[inline]
    fn shift(&mut self, range: Range<usize>, to: usize) {
        assert!(range.end <= self.len() && to + range.len() <= self.cap());
        // SAFETY: checked just now, and the sole owner is borrowed mutably.
        unsafe {
            let (words, heads) = (self.words_at(), self.heads_at());
            ptr::copy(words.add(range.start), words.add(to), range.len());
            ptr::copy(heads.add(range.start), heads.add(to), range.len());
        }
    }

    /// Gives a mark the new address of its member.
    pub fn readdress(&mut self, i: usize, mark: Mark) {
        assert!(i < self.len() && self.head().owners.is_unique());
        self.put(i, mark);
    }

    /// Changes the capacity to that for so many marks, which are at least those there are.
    fn resize(&mut self, len: usize) {
        let (old, new, have) = (self.cap(), capacity(len), self.len());
        if old == new {
            return;
        }
        assert!(have <= new && self.head().owners.is_unique());
        let words_from = HEAD + old * size_of::<u32>();
        let words_to = HEAD + new * size_of::<u32>();
        // SAFETY: the sole owner is borrowed mutably. The words move before what they lie in shrinks, and after it has
        // grown; both places hold `have` of them.
        unsafe {
            let at = self.0.as_ptr().cast::<u8>();
            let bytes = have * size_of::<Word>();
            if new < old {
                ptr::copy(at.add(words_from), at.add(words_to), bytes);
            }
            let moved = realloc(at, layout(old), layout(new).size());
            let Some(moved) = NonNull::new(moved) else {
                handle_alloc_error(layout(new))
            };
            if new > old {
                let at = moved.as_ptr();
                ptr::copy(at.add(words_from), at.add(words_to), bytes);
            }
            self.0 = moved.cast();
            (*self.0.as_ptr()).cap = new as u16;
        }
    }
}

/// The marks that fit the size class in which so many fit.
#[inline]
fn capacity(len: usize) -> usize {
    (size_class(HEAD + len.max(4) * MARK, ALIGN) - HEAD) / MARK
}

fn layout(cap: usize) -> Layout {
    let bytes = size_class(HEAD + cap * MARK, ALIGN);
    Layout::from_size_align(bytes, ALIGN).expect("a few hundred bytes")
}

impl Leaf for Pack {
    type Key = Mark;

    #[inline(always)]
    fn first_key(&self) -> Mark {
        self.mark(0)
    }

    #[inline(always)]
    fn len(&self) -> usize {
        usize::from(self.head().len)
    }

    #[inline(always)]
    fn heap_bytes(&self) -> usize {
        layout(self.cap()).size()
    }

    /// Nothing: it is its own block.
    fn defrag(&mut self, _: &mut Mover<'_>) {}
}

impl Chunk<Pack> for Pack {
    #[inline(always)]
    fn new(leaf: Pack) -> Self {
        leaf
    }

    #[inline(always)]
    fn leaf(&self) -> &Pack {
        self
    }

    #[inline(always)]
    fn is_unique(&self) -> bool {
        self.head().owners.is_unique()
    }

    #[inline(always)]
    fn leaf_mut(&mut self) -> &mut Pack {
        if !self.is_unique() {
            let mut copy = Pack::with_room(self.len());
            copy.append_range(self, 0..self.len());
            *self = copy;
        }
        self
    }

    fn defrag(&mut self, mover: &mut Mover<'_>) {
        if !self.is_unique() {
            return;
        }
        // SAFETY: the sole owner; allocated with the layout of its capacity.
        if let Some(moved) = unsafe { mover.block(self.0.cast(), layout(self.cap())) } {
            self.0 = moved.cast();
        }
    }
}

impl Clone for Pack {
    /// Counts one more owner.
    #[inline]
    fn clone(&self) -> Pack {
        self.head().owners.inc();
        Pack(self.0, PhantomData)
    }
}

impl Drop for Pack {
    #[inline]
    fn drop(&mut self) {
        let layout = layout(self.cap());
        // SAFETY: this owner's reference ends here; the last one frees what `with_room` or `resize` has allocated.
        unsafe {
            if self.head().owners.dec() {
                dealloc(self.0.as_ptr().cast(), layout);
            }
        }
    }
}
