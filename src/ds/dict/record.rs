//! What a dict holds: records, each a counted pointer to one allocation that carries its own key.

use std::hash::{BuildHasher, Hasher};
use std::mem::size_of;
use std::ptr::NonNull;

use crate::base::slot::Slot;

/// The word a record consists of: a pointer in the low 48 bits, and 16 bits above it that belong to
/// the dict (hash bits of the slot the record lies in). Outside a dict they mean nothing.
///
/// A record type is `#[repr(transparent)]` around a `Handle` and reaches its allocation only through
/// [`Handle::ptr`], which masks the dict's bits off: one instruction, and it buys the 8-byte slot and a
/// `find` that can lend `&R` straight out of it.
#[repr(transparent)]
pub struct Handle(NonNull<u8>);

/// The low 48 bits: the pointer proper.
const POINTER: usize = (1 << 48) - 1;

impl Handle {
    /// Wraps a pointer to an allocation. Its address fits 48 bits, as every address that a process on
    /// x86-64 or AArch64 gets without asking for more.
    #[inline]
    pub fn new(pointer: NonNull<u8>) -> Handle {
        assert!(pointer.addr().get() >> 48 == 0, "an address beyond 48 bits");
        Handle(pointer)
    }

    /// The pointer as it was given to `new`.
    #[inline(always)]
    pub fn ptr(&self) -> NonNull<u8> {
        // SAFETY: `new` was given a non-null pointer that fits the mask, and only the bits above the
        // mask change afterwards.
        unsafe { NonNull::new_unchecked(self.0.as_ptr().map_addr(|a| a & POINTER)) }
    }

    /// Points to where the allocation is now.
    pub fn set_ptr(&mut self, pointer: NonNull<u8>) {
        let bits = self.bits();
        *self = Handle::new(pointer);
        self.set_bits(bits);
    }

    /// A second handle to the same allocation; counting it is the record's business.
    #[inline(always)]
    #[must_use]
    pub fn duplicate(&self) -> Handle {
        Handle(self.0)
    }

    /// The dict's 16 bits.
    #[inline(always)]
    pub(super) fn bits(&self) -> u16 {
        (self.0.addr().get() >> 48) as u16
    }

    #[inline(always)]
    pub(super) fn set_bits(&mut self, bits: u16) {
        let p = self
            .0
            .as_ptr()
            .map_addr(|a| (a & POINTER) | (usize::from(bits) << 48));
        // SAFETY: the low 48 bits are those of a non-null pointer.
        self.0 = unsafe { NonNull::new_unchecked(p) };
    }
}

/// A counted pointer to a key's allocation.
///
/// # Safety
/// - The type is `#[repr(transparent)]` around a [`Handle`] and never looks at the handle other than
///   through [`Handle::ptr`]; clones are made with [`Handle::duplicate`].
/// - `clone` counts one more owner of the same allocation (see [`Count`](crate::ds::cow::Count)), drop
///   one fewer; both may happen on several threads at once.
/// - `key` stays the same for as long as the record lives.
pub unsafe trait Record: Sized + Clone {
    /// The key's bytes.
    fn key(&self) -> &[u8];

    /// When the record expires, in unix milliseconds. It changes only through `&mut Self`.
    fn deadline(&self) -> Option<u64>;

    /// Whether this is the only owner, by [`Count::is_unique`](crate::ds::cow::Count::is_unique).
    fn is_unique(&self) -> bool;

    /// Bytes that go when this owner goes, nothing while there are others: a [`Walk`](super::Walk) adds up what it
    /// lets go of.
    fn freed_by_drop(&self) -> usize {
        0
    }

    /// Hints the processor that the allocation will be read soon: by default the lines of its first 48
    /// bytes, which a short key and a short value lie in. The pointer may be stale: never dereference it.
    #[inline(always)]
    fn prefetch(pointer: NonNull<u8>) {
        prefetch_read(pointer.as_ptr());
        prefetch_read(pointer.as_ptr().wrapping_add(47));
    }

    /// As `prefetch`, for the front alone, where the owner count and the deadline are.
    #[inline(always)]
    fn prefetch_front(pointer: NonNull<u8>) {
        prefetch_read(pointer.as_ptr());
    }
}

/// Every record is one word.
pub(super) const fn check_size<R: Record>() {
    assert!(size_of::<R>() == size_of::<Handle>() && size_of::<Handle>() == 8);
}

/// Fetches the cache line of an address, a pure hint.
#[inline(always)]
pub fn prefetch_read(p: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(p.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch never faults, whatever the address.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) p, options(nostack, readonly, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = p;
}

/// The seeds of the keyed hash, shared by all dicts of a server. Given from outside, so that a run can
/// be replayed; drawn at random in production, so that nobody can flood a segment with chosen keys.
///
/// The lowest bit of the first word says that hashes are *by slot*: they begin with the key's slot in a cluster, so that
/// a slot's records are neighbours (`range`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKey(u64, u64);

impl HashKey {
    const BY_SLOT: u64 = 1;

    /// A key from two random words.
    pub const fn new(seed0: u64, seed1: u64) -> HashKey {
        HashKey(seed0 & !HashKey::BY_SLOT, seed1)
    }

    /// The same key, whose hashes begin with the slot.
    pub const fn by_slot(self) -> HashKey {
        HashKey(self.0 | HashKey::BY_SLOT, self.1)
    }

    /// The same key, whose hashes are nothing but that.
    pub const fn plain(self) -> HashKey {
        HashKey(self.0 & !HashKey::BY_SLOT, self.1)
    }

    /// Whether hashes begin with the slot.
    #[inline]
    pub const fn is_by_slot(self) -> bool {
        self.0 & HashKey::BY_SLOT != 0
    }

    /// The hash of a key: all 64 bits are good ones (the dict takes the top 53 and the low 8).
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        let hash = self.scattered(key);
        match self.is_by_slot() {
            false => hash,
            true => in_slot(hash, key),
        }
    }

    #[inline]
    fn scattered(&self, key: &[u8]) -> u64 {
        let mut hasher =
            ahash::RandomState::with_seeds(self.0, self.1, !self.0, self.1.rotate_left(32))
                .build_hasher();
        hasher.write(key);
        hasher.finish()
    }
}

/// A key's hash with the key's slot in front. (A server that is no node of a cluster has no time to lose for this.)
#[cold]
#[inline(never)]
fn in_slot(hash: u64, key: &[u8]) -> u64 {
    Slot::of(key).first_hash() | hash & (u64::MAX >> Slot::BITS)
}
