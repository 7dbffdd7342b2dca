//! Defragmentation: blocks move from pages that are nearly empty to pages that are nearly full, so that the empty ones
//! can be given back.
//!
//! An allocator can't move what it has handed out; only the owner of the one pointer to a block can. Every container
//! therefore has a method `defrag` that shows each of its blocks to a [`Mover`], and takes the new address of those that
//! the mover has moved. It is the way of a writer (see [`cow`](super::cow)): root first, and only where every owner is
//! alone. What a snapshot or a copy of the key shares stays where it is, and nothing is copied to be moved.
//!
//! A walk goes in steps, each of a few hundred blocks, and a value may be changed between them: [`Step`] names a place
//! that means something whatever has come and gone.

use std::alloc::Layout;
use std::ptr::{self, NonNull};

use bytes::Bytes;

use crate::base::alloc::relocate;

/// Where the next step of a walk over a value begins. The default is its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Which of the value's parts, in an order of its own.
    pub part: u8,
    /// Where in the part: a leaf's number, a place in hash order.
    pub at: u64,
}

impl Step {
    /// The beginning of a part.
    pub fn of(part: u8) -> Step {
        Step { part, at: 0 }
    }
}

/// Decides which blocks move, and moves them.
pub struct Mover<'a> {
    wants: &'a dyn Fn(NonNull<u8>) -> bool,
    /// Blocks that were moved.
    pub hits: u64,
    /// Blocks that were looked at and left where they are.
    pub misses: u64,
}

impl<'a> Mover<'a> {
    /// One that moves the blocks that `wants` names.
    pub fn new(wants: &'a dyn Fn(NonNull<u8>) -> bool) -> Mover<'a> {
        Mover {
            wants,
            hits: 0,
            misses: 0,
        }
    }

    /// Blocks that were looked at.
    pub fn seen(&self) -> u64 {
        self.hits + self.misses
    }

    /// Whether a block should move.
    pub fn wants(&mut self, block: NonNull<u8>) -> bool {
        let wanted = (self.wants)(block);
        self.misses += u64::from(!wanted);
        wanted
    }

    /// Moves a block, whatever it holds; `None` if there is no memory. The old one is gone.
    ///
    /// # Safety
    /// The block was allocated with this layout, and nobody reaches it but the caller, who forgets its old address.
    #[must_use]
    pub unsafe fn carry(&mut self, block: NonNull<u8>, layout: Layout) -> Option<NonNull<u8>> {
        // SAFETY: the caller's promise.
        let new = unsafe { relocate(block, layout) }?;
        self.hits += 1;
        Some(new)
    }

    /// Moves a block if that is wanted.
    ///
    /// # Safety
    /// As for [`carry`](Self::carry).
    #[must_use]
    pub unsafe fn block(&mut self, block: NonNull<u8>, layout: Layout) -> Option<NonNull<u8>> {
        if !self.wants(block) {
            return None;
        }
        // SAFETY: the caller's promise.
        unsafe { self.carry(block, layout) }
    }

    /// Moves what a box holds, if that is wanted.
    pub fn boxed<T>(&mut self, place: &mut Box<T>) {
        let layout = Layout::new::<T>();
        if layout.size() == 0 {
            return;
        }
        let block = NonNull::from(&mut **place).cast::<u8>();
        // SAFETY: a box is the one pointer to its block; the old box is overwritten, not dropped.
        unsafe {
            if let Some(new) = self.block(block, layout) {
                ptr::write(place, Box::from_raw(new.cast().as_ptr()));
            }
        }
    }

    /// Moves the bytes in a box, if that is wanted.
    pub fn slice(&mut self, place: &mut Box<[u8]>) {
        let layout = Layout::for_value(&**place);
        if layout.size() == 0 {
            return;
        }
        let block = NonNull::from(&mut **place).cast::<u8>();
        // SAFETY: as for `boxed`; the new block is as long as the old one.
        unsafe {
            if let Some(new) = self.block(block, layout) {
                let slice = ptr::slice_from_raw_parts_mut(new.as_ptr(), layout.size());
                ptr::write(place, Box::from_raw(slice));
            }
        }
    }

    /// Moves the buffer of a vector, if that is wanted.
    pub fn vec<T>(&mut self, place: &mut Vec<T>) {
        let (len, capacity) = (place.len(), place.capacity());
        let Ok(layout) = Layout::array::<T>(capacity) else {
            return;
        };
        if layout.size() == 0 {
            return;
        }
        // SAFETY: as for `boxed`; length and capacity stay what they are.
        unsafe {
            let block = NonNull::new_unchecked(place.as_mut_ptr()).cast();
            if let Some(new) = self.block(block, layout) {
                ptr::write(
                    place,
                    Vec::from_raw_parts(new.cast().as_ptr(), len, capacity),
                );
            }
        }
    }

    /// Copies a buffer that nobody else has a part of, if its block should move.
    pub fn bytes(&mut self, place: &mut Bytes) {
        if place.is_empty() || !place.is_unique() {
            return;
        }
        if self.wants(NonNull::from(&**place).cast()) {
            *place = Bytes::copy_from_slice(place);
            self.hits += 1;
        }
    }
}
