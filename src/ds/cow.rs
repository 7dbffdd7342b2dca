//! Copy on write: who may write to a shared chunk.
//!
//! Every container that can grow is a tree of counted chunks (see the tour of `ds`). A snapshot clones
//! the root; a writer that meets a chunk with more than one owner copies it first. Whether a chunk has
//! more than one owner is asked here and nowhere else, because the answer is easy to get subtly wrong:
//!
//! - A chunk may be written when *every* owner on the path from the root is unique. An entry with a
//!   count of one inside a shared segment is shared. So callers walk down from the root, make each
//!   chunk their own, and only then ask about the next.
//! - The count falls with `Release` and is asked with `Acquire`: when a saver lets go of a chunk on its
//!   thread and the writer then finds itself alone, the saver's reads have happened before the
//!   writer's first write.
//! - There is no weak count, so an owner that finds a count of one is alone for good: nobody is left
//!   who could clone behind its back. That also lets the last owner skip the atomic subtraction.
//!
//! [`Count`] is the bare counter for allocations that are laid out by hand (entries, segments, pages);
//! [`Shared`] is a counted pointer for everything else. The protocol is generic over the atomic it runs
//! on, so that `cargo test` checks it under every interleaving with `loom`.

use std::alloc::Layout;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{Bytes, BytesMut};

use super::defrag::Mover;

/// The atomic that a [`Count`] stands on: the processor's, or the model checker's.
pub trait Counter {
    fn new(value: u32) -> Self;
    fn load(&self, order: Ordering) -> u32;
    /// Adds one, gives the value before.
    fn add_one(&self, order: Ordering) -> u32;
    /// Takes one away, gives the value before.
    fn sub_one(&self, order: Ordering) -> u32;
}

impl Counter for AtomicU32 {
    #[inline(always)]
    fn new(value: u32) -> Self {
        AtomicU32::new(value)
    }
    #[inline(always)]
    fn load(&self, order: Ordering) -> u32 {
        AtomicU32::load(self, order)
    }
    #[inline(always)]
    fn add_one(&self, order: Ordering) -> u32 {
        self.fetch_add(1, order)
    }
    #[inline(always)]
    fn sub_one(&self, order: Ordering) -> u32 {
        self.fetch_sub(1, order)
    }
}

/// The number of owners of an allocation, four bytes at its start.
#[repr(transparent)]
pub struct Count<A: Counter = AtomicU32>(A);

impl<A: Counter> Count<A> {
    /// A count of one: the maker is the owner.
    #[inline]
    #[expect(
        clippy::new_without_default,
        reason = "a count without an allocation means nothing"
    )]
    pub fn new() -> Self {
        Count(A::new(1))
    }

    /// One more owner. Only an owner may call it.
    #[inline]
    pub fn inc(&self) {
        // Relaxed: whoever hands the new reference to another thread orders that itself.
        if self.0.add_one(Ordering::Relaxed) > u32::MAX / 2 {
            // Two thousand million owners are a leak, and wrapping around would free a chunk in use.
            std::process::abort();
        }
    }

    /// One owner fewer; true when it was the last, who then has to free the allocation.
    ///
    /// # Safety
    /// The caller owns one of the references and does not touch the allocation afterwards, unless
    /// the answer was true.
    #[inline]
    #[must_use]
    pub unsafe fn dec(&self) -> bool {
        // Alone already: nobody can clone meanwhile, so the locked instruction can be saved.
        if self.is_unique() {
            return true;
        }
        if self.0.sub_one(Ordering::Release) != 1 {
            return false;
        }
        // The other owners' last uses happen before the free.
        self.0.load(Ordering::Acquire);
        true
    }

    /// Whether the asking owner is the only one, and so may write (if its own owners are unique too).
    #[inline]
    pub fn is_unique(&self) -> bool {
        self.0.load(Ordering::Acquire) == 1
    }

    /// The number of owners, for statistics and tests: stale as soon as it is read.
    pub fn owners(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl<A: Counter> fmt::Debug for Count<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Count({})", self.owners())
    }
}

#[repr(C)]
struct Inner<T> {
    count: Count,
    value: T,
}

/// A counted pointer to a chunk: `Arc` without a weak count, four bytes of count, and the one way to
/// ask for write access.
pub struct Shared<T> {
    inner: NonNull<Inner<T>>,
    owns: PhantomData<Inner<T>>,
}

// SAFETY: as for `Arc`: clones on several threads give shared access to one T (Sync), and the last one
// drops it on its thread (Send).
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above: a `&Shared` can be cloned into an owner.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// A chunk with one owner.
    pub fn new(value: T) -> Self {
        let inner = Box::new(Inner {
            count: Count::new(),
            value,
        });
        Shared {
            inner: NonNull::from(Box::leak(inner)),
            owns: PhantomData,
        }
    }

    #[inline(always)]
    fn inner(&self) -> &Inner<T> {
        // SAFETY: an owner keeps the allocation alive; it is only written through `get_mut`, which
        // borrows the sole owner mutably.
        unsafe { self.inner.as_ref() }
    }

    /// Whether this is the only owner.
    #[inline]
    pub fn is_unique(this: &Self) -> bool {
        this.inner().count.is_unique()
    }

    /// The chunk for writing, if this is the only owner.
    #[inline]
    pub fn get_mut(this: &mut Self) -> Option<&mut T> {
        if !Self::is_unique(this) {
            return None;
        }
        // SAFETY: the only owner is borrowed mutably, so nobody else can reach the value, and
        // is_unique's Acquire has put the former owners' reads behind us.
        Some(unsafe { &mut (*this.inner.as_ptr()).value })
    }

    /// The chunk for writing; a shared one is copied first.
    #[inline]
    pub fn make_mut(this: &mut Self) -> &mut T
    where
        T: Clone,
    {
        if !Self::is_unique(this) {
            Self::copy(this);
        }
        // SAFETY: unique by the check or by the copy; see get_mut.
        unsafe { &mut (*this.inner.as_ptr()).value }
    }

    #[cold]
    #[inline(never)]
    fn copy(this: &mut Self)
    where
        T: Clone,
    {
        *this = Shared::new(T::clone(this));
    }

    /// Shows the chunk to a mover, if this is the only owner; the chunk for writing, then.
    pub fn defrag<'a>(this: &'a mut Self, mover: &mut Mover<'_>) -> Option<&'a mut T> {
        if !Self::is_unique(this) {
            return None;
        }
        // SAFETY: the only owner is the one pointer to the block, which came from a Box.
        if let Some(moved) = unsafe { mover.block(this.inner.cast(), Layout::new::<Inner<T>>()) } {
            this.inner = moved.cast();
        }
        Self::get_mut(this)
    }

    /// The value itself, if this was the only owner; else the pointer back.
    pub fn try_unwrap(this: Self) -> Result<T, Self> {
        if !Self::is_unique(&this) {
            return Err(this);
        }
        let this = std::mem::ManuallyDrop::new(this);
        // SAFETY: the only owner, taken by value and not dropped; the allocation came from a Box.
        Ok(unsafe { Box::from_raw(this.inner.as_ptr()) }.value)
    }

    /// Whether both point to the same chunk.
    #[inline]
    pub fn ptr_eq(a: &Self, b: &Self) -> bool {
        a.inner == b.inner
    }

    /// The number of owners, for statistics and tests.
    pub fn owners(this: &Self) -> u32 {
        this.inner().count.owners()
    }
}

impl<T> Clone for Shared<T> {
    #[inline]
    fn clone(&self) -> Self {
        self.inner().count.inc();
        Shared {
            inner: self.inner,
            owns: PhantomData,
        }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        &self.inner().value
    }
}

impl<T> Drop for Shared<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this owner's reference ends here; only the last one frees, and it came from a Box.
        unsafe {
            if self.inner().count.dec() {
                drop(Box::from_raw(self.inner.as_ptr()));
            }
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<T: Default> Default for Shared<T> {
    fn default() -> Self {
        Shared::new(T::default())
    }
}

/// Takes a buffer out of its place to write to it: `Ok` if nobody else holds any part of it (a snapshot, a reply, a
/// view of the same buffer), else `Err` with the buffer as it was, to be copied from. [`Bytes`] keeps the same protocol
/// as [`Count`]: its count falls with `Release` and is asked with `Acquire`.
pub fn take_writable(buffer: &mut Bytes) -> Result<BytesMut, Bytes> {
    std::mem::take(buffer).try_into_mut()
}

#[cfg(test)]
mod tests {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU32 as ModelAtomic;

    impl Counter for ModelAtomic {
        fn new(value: u32) -> Self {
            ModelAtomic::new(value)
        }
        fn load(&self, order: Ordering) -> u32 {
            ModelAtomic::load(self, order)
        }
        fn add_one(&self, order: Ordering) -> u32 {
            self.fetch_add(1, order)
        }
        fn sub_one(&self, order: Ordering) -> u32 {
            self.fetch_sub(1, order)
        }
    }

    /// A chunk as the model sees it: loom fails the test when a write to `value` is not ordered after
    /// every read by another thread, and when `freed` is reached twice or never.
    struct Chunk {
        count: Count<ModelAtomic>,
        value: UnsafeCell<u32>,
        freed: UnsafeCell<u32>,
    }

    // SAFETY: the protocol under test is what makes access to the cells exclusive; loom checks it.
    unsafe impl Send for Chunk {}
    // SAFETY: as above.
    unsafe impl Sync for Chunk {}

    fn chunk() -> Arc<Chunk> {
        Arc::new(Chunk {
            count: Count::new(),
            value: UnsafeCell::new(1),
            freed: UnsafeCell::new(0),
        })
    }

    fn release(c: &Chunk) {
        // SAFETY: each caller gives up the one reference that it holds.
        if unsafe { c.count.dec() } {
            // The free touches everything, as a destructor would.
            // SAFETY: loom checks the exclusivity claimed here.
            c.value.with_mut(|v| unsafe { *v = 0 });
            // SAFETY: as above.
            c.freed.with_mut(|f| unsafe { *f += 1 });
        }
    }

    fn read(c: &Chunk) -> u32 {
        // SAFETY: loom checks that no write races with it.
        c.value.with(|v| unsafe { *v })
    }

    #[test]
    fn writer_beside_a_saver_that_lets_go() {
        loom::model(|| {
            let c = chunk();
            c.count.inc();
            let saver = {
                let c = c.clone();
                loom::thread::spawn(move || {
                    assert_eq!(read(&c), 1, "a snapshot never sees the writer's changes");
                    release(&c);
                })
            };
            if c.count.is_unique() {
                // SAFETY: unique, says the protocol; loom checks.
                c.value.with_mut(|v| unsafe { *v = 2 });
            }
            release(&c);
            saver.join().unwrap();
            // SAFETY: all threads have ended.
            assert_eq!(c.freed.with(|f| unsafe { *f }), 1);
        });
    }

    #[test]
    fn second_snapshot_taken_while_the_first_is_dropped() {
        loom::model(|| {
            let c = chunk();
            c.count.inc();
            let first = {
                let c = c.clone();
                loom::thread::spawn(move || {
                    read(&c);
                    release(&c);
                })
            };
            c.count.inc();
            let second = {
                let c = c.clone();
                loom::thread::spawn(move || {
                    assert_eq!(read(&c), 1);
                    release(&c);
                })
            };
            if c.count.is_unique() {
                // SAFETY: unique, says the protocol; loom checks.
                c.value.with_mut(|v| unsafe { *v = 2 });
            }
            release(&c);
            first.join().unwrap();
            second.join().unwrap();
            // SAFETY: all threads have ended.
            assert_eq!(c.freed.with(|f| unsafe { *f }), 1);
        });
    }

    #[test]
    fn a_shared_value_is_copied_before_the_write() {
        let mut a = Shared::new(vec![1, 2, 3]);
        assert!(Shared::get_mut(&mut a).is_some());
        let b = a.clone();
        assert!(Shared::ptr_eq(&a, &b) && Shared::get_mut(&mut a).is_none());
        Shared::make_mut(&mut a).push(4);
        assert_eq!((&*a, &*b), (&vec![1, 2, 3, 4], &vec![1, 2, 3]));
        assert!(Shared::is_unique(&a) && Shared::is_unique(&b));
        let b = Shared::try_unwrap(b).unwrap();
        assert_eq!(b, [1, 2, 3]);
        let c = a.clone();
        assert!(Shared::try_unwrap(c).is_err());
        assert_eq!(Shared::owners(&a), 1);
    }
}
