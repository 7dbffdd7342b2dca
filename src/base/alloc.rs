//! The allocator: jemalloc, and beside it a count of the bytes in use that is exact and nearly free.
//!
//! `used_memory` decides evictions, so it must be true to the byte and cost nothing. Redis asks jemalloc
//! for the size of every block; here the size is known without asking: Rust hands the layout to both
//! ends of a block's life, and the class that jemalloc rounds a layout to is a few instructions
//! ([`size_class`], which a test compares with jemalloc's own answer).
//!
//! Each thread adds up its own changes in a thread-local cell. Only when they exceed [`FLUSH_AT`] do they
//! go to the global count, so that threads do not fight over one cache line. A thread that asks reads
//! the global count plus its own cell: exact as far as its own work goes, and off by at most
//! [`FLUSH_AT`] for each other thread in the middle of something. Background jobs call
//! [`flush_thread`] when they are done.
//!
//! The settings of jemalloc stand in [`MALLOC_CONF`]. `--cfg system_alloc` (for sanitizers, which
//! want to see every block) takes the system's allocator instead and count all the same.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::ptr::{self, NonNull};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};

use tikv_jemalloc_sys as je;

/// jemalloc's settings, read by it before `main`. Chosen for a small resident size with one busy thread:
/// - `narenas:1`: what one thread frees another can use; the background threads allocate little;
/// - `dirty_decay_ms`: under load unused pages are kept for ten seconds, since giving one back and taking it again
///   costs the loop more than it saves; a server that nobody asks anything gives them back at once ([`purge`]);
/// - `slab_sizes`: blocks of 8 KB, the nodes of long lists, share the record that jemalloc would keep for each. (For
///   those of 4 KB it would cost more: tables' segments pass through that size, and leave holes.)
///
/// And it is built without `cache_oblivious`, which gives every block of 16 KB and more another page.
#[cfg(not(system_alloc))]
#[used]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static MALLOC_CONF: Settings =
    Settings(c"narenas:1,dirty_decay_ms:10000,slab_sizes:8192-8192:16".as_ptr());

/// A C string's address, as jemalloc wants its settings.
#[cfg(not(system_alloc))]
#[repr(transparent)]
pub struct Settings(*const c_char);

// SAFETY: it points to a constant.
#[cfg(not(system_alloc))]
unsafe impl Sync for Settings {}

/// How far a thread's own count may run before it goes to the global one, in bytes.
const FLUSH_AT: i64 = 16 * 1024;

/// Bytes in use by all threads, without what the threads have not flushed.
static GLOBAL: AtomicI64 = AtomicI64::new(0);
/// The highest value [`GLOBAL`] has had.
static PEAK: AtomicI64 = AtomicI64::new(0);

thread_local! {
    /// This thread's changes since its last flush. It has no destructor, so that it can be used from
    /// the first allocation of a thread to its last.
    static DELTA: Cell<i64> = const { Cell::new(0) };
}

/// jemalloc's size class for a request, in bytes: what the block really takes. Classes are multiples of 8
/// to 64 (`.cargo/config.toml` asks for so many), of 16 to 128, then four to each doubling. Exact for
/// alignments up to 16; a larger alignment is looked up, which is rare.
#[inline]
pub fn size_class(size: usize, align: usize) -> usize {
    if align > 16 {
        return aligned_class(size, align);
    }
    let size = size.max(align);
    if size <= 64 && align <= 8 {
        return ((size + 7) & !7).max(8);
    }
    if size <= 128 {
        return (size + 15) & !15;
    }
    // The spacing is an eighth of the power of two that the size reaches into (a quarter of the one
    // below), so that rounding up to it gives four classes between one power and the next.
    let spacing = 1usize << (usize::BITS - 1 - ((size << 1) - 1).leading_zeros() - 3);
    (size + spacing - 1) & !(spacing - 1)
}

#[cold]
fn aligned_class(size: usize, align: usize) -> usize {
    // SAFETY: nallocx only computes; the flags are those of a valid alignment.
    unsafe { je::nallocx(size.max(1), je::MALLOCX_ALIGN(align)) }
}

#[inline]
fn count(change: i64) {
    DELTA.with(|delta| {
        let sum = delta.get() + change;
        if sum.unsigned_abs() > FLUSH_AT as u64 {
            delta.set(0);
            add_global(sum);
        } else {
            delta.set(sum);
        }
    });
}

#[cold]
fn add_global(sum: i64) {
    let now = GLOBAL.fetch_add(sum, Ordering::Relaxed) + sum;
    if now > PEAK.load(Ordering::Relaxed) {
        PEAK.fetch_max(now, Ordering::Relaxed);
    }
}

/// Bytes in use: all blocks the program holds, at the size they really take.
pub fn used_memory() -> u64 {
    let sum = GLOBAL.load(Ordering::Relaxed) + DELTA.get();
    u64::try_from(sum).unwrap_or(0)
}

/// The most that [`used_memory`] has been, to within what a thread may hold back.
pub fn peak_memory() -> u64 {
    used_memory().max(u64::try_from(PEAK.load(Ordering::Relaxed)).unwrap_or(0))
}

/// Adds this thread's count to the global one: what a background job does at its end.
pub fn flush_thread() {
    add_global(DELTA.replace(0));
}

/// jemalloc with a count. See the head of the file.
pub struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes through to an allocator that keeps the contract; counting touches only a
// thread-local cell and atomics, and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is the callee's.
        let block = unsafe { raw::alloc(layout) };
        if !block.is_null() {
            count(size_class(layout.size(), layout.align()) as i64);
        }
        block
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let block = unsafe { raw::alloc_zeroed(layout) };
        if !block.is_null() {
            count(size_class(layout.size(), layout.align()) as i64);
        }
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { raw::dealloc(block, layout) };
        count(-(size_class(layout.size(), layout.align()) as i64));
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as above.
        let moved = unsafe { raw::realloc(block, layout, new_size) };
        if !moved.is_null() {
            let (old, new) = (layout.size(), new_size);
            let align = layout.align();
            count(size_class(new, align) as i64 - size_class(old, align) as i64);
        }
        moved
    }
}

/// The allocator beneath, in jemalloc's own entry points. For alignments up to 8 the size alone says
/// enough (every class is so aligned), and the plain functions have a fast path that the ones with flags
/// lack.
#[cfg(not(system_alloc))]
mod raw {
    use super::{Layout, c_int, c_void, je};

    #[inline]
    fn plain(layout: Layout) -> Option<usize> {
        (layout.align() <= 8).then_some(layout.size())
    }

    #[inline]
    pub unsafe fn alloc(layout: Layout) -> *mut u8 {
        // SAFETY: the size is not zero, by the contract of GlobalAlloc.
        unsafe {
            match plain(layout) {
                Some(size) => je::malloc(size).cast(),
                None => je::mallocx(layout.size(), je::MALLOCX_ALIGN(layout.align())).cast(),
            }
        }
    }

    #[inline]
    pub unsafe fn alloc_zeroed(layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe {
            match plain(layout) {
                Some(size) => je::calloc(1, size).cast(),
                None => {
                    let flags = je::MALLOCX_ALIGN(layout.align()) | je::MALLOCX_ZERO;
                    je::mallocx(layout.size(), flags).cast()
                }
            }
        }
    }

    #[inline]
    pub unsafe fn dealloc(block: *mut u8, layout: Layout) {
        // SAFETY: the block came from `alloc` with this layout, so the size and flags are the same.
        unsafe {
            match plain(layout) {
                Some(size) => je::sdallocx(block.cast::<c_void>(), size, 0),
                None => je::sdallocx(
                    block.cast::<c_void>(),
                    layout.size(),
                    je::MALLOCX_ALIGN(layout.align()),
                ),
            }
        }
    }

    fn uncached(layout: Layout) -> c_int {
        // (The size alone says enough where `plain` says so.)
        let align = plain(layout).map_or(je::MALLOCX_ALIGN(layout.align()), |_| 0);
        align | je::MALLOCX_TCACHE_NONE
    }

    pub unsafe fn alloc_uncached(layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { je::mallocx(layout.size(), uncached(layout)).cast() }
    }

    pub unsafe fn dealloc_uncached(block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { je::sdallocx(block.cast::<c_void>(), layout.size(), uncached(layout)) }
    }

    #[inline]
    pub unsafe fn realloc(block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the block came from here, and the new size is not zero.
        unsafe {
            match plain(layout) {
                Some(_) => je::realloc(block.cast(), new_size).cast(),
                None => {
                    let flags = je::MALLOCX_ALIGN(layout.align());
                    je::rallocx(block.cast(), new_size, flags).cast()
                }
            }
        }
    }
}

#[cfg(system_alloc)]
mod raw {
    use std::alloc::{GlobalAlloc, Layout, System};

    pub unsafe fn alloc(layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is the callee's, here and below.
        unsafe { System.alloc(layout) }
    }

    pub unsafe fn alloc_zeroed(layout: Layout) -> *mut u8 {
        // SAFETY: see `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    pub unsafe fn dealloc(block: *mut u8, layout: Layout) {
        // SAFETY: see `alloc`.
        unsafe { System.dealloc(block, layout) }
    }

    pub unsafe fn alloc_uncached(layout: Layout) -> *mut u8 {
        // SAFETY: see `alloc`.
        unsafe { System.alloc(layout) }
    }

    pub unsafe fn dealloc_uncached(block: *mut u8, layout: Layout) {
        // SAFETY: see `alloc`.
        unsafe { System.dealloc(block, layout) }
    }

    pub unsafe fn realloc(block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: see `alloc`.
        unsafe { System.realloc(block, layout, new_size) }
    }
}

/// What jemalloc says of itself, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AllocatorStats {
    /// In blocks the program (jemalloc's own blocks included) holds.
    pub allocated: u64,
    /// In pages that hold such blocks.
    pub active: u64,
    /// In pages that are mapped and in memory, jemalloc's own data included.
    pub resident: u64,
    /// Address space kept for later, without memory behind it.
    pub retained: u64,
    /// In pages given back to the kernel, which may not have taken them yet.
    pub muzzy: u64,
}

/// True if a block had better lie elsewhere: it is one of few on its pages, by the measure of all pages for blocks of its
/// size. (jemalloc fills the fuller pages first; those that it fills now are no place to move from.) About 100 ns.
#[cfg(not(system_alloc))]
pub fn is_sparse(block: NonNull<u8>) -> bool {
    /// What `experimental.utilization.query` tells of the pages of a block (`inspect.h` of jemalloc).
    #[repr(C)]
    #[derive(Default)]
    struct Use {
        filled_now: usize,
        free: usize,
        places: usize,
        bytes: usize,
        free_of_all: usize,
        places_of_all: usize,
    }
    /// The path of that name.
    static PATH: LazyLock<Option<[usize; 3]>> = LazyLock::new(|| {
        let (mut path, mut len) = ([0; 3], 3);
        let name = c"experimental.utilization.query";
        // SAFETY: the buffer has `len` places.
        let rc = unsafe { je::mallctlnametomib(name.as_ptr(), path.as_mut_ptr(), &mut len) };
        (rc == 0 && len == 3).then_some(path)
    });
    let Some(path) = *PATH else { return false };
    let (mut told, mut told_len) = (Use::default(), size_of::<Use>());
    let mut address = block.as_ptr().cast::<c_void>();
    // SAFETY: both buffers are what this name takes and gives; jemalloc refuses other sizes.
    let rc = unsafe {
        je::mallctlbymib(
            path.as_ptr(),
            path.len(),
            (&raw mut told).cast(),
            &mut told_len,
            (&raw mut address).cast(),
            size_of::<*mut c_void>(),
        )
    };
    let in_filled = block.addr().get().wrapping_sub(told.filled_now) < told.bytes;
    if rc != 0 || told.free == 0 || in_filled {
        return false;
    }
    let used = (told.places - told.free) as u128 * told.places_of_all as u128;
    used <= (told.places_of_all - told.free_of_all) as u128 * told.places as u128
}

/// Nothing is known of the system's allocator.
#[cfg(system_alloc)]
pub fn is_sparse(_: NonNull<u8>) -> bool {
    false
}

/// Moves a block to where jemalloc has the fullest pages, past the thread's cache of free blocks, which lie anywhere.
/// `None` if there is no memory.
///
/// # Safety
/// The block was allocated with this layout, and nobody reaches it but the caller, who forgets its old address.
pub unsafe fn relocate(block: NonNull<u8>, layout: Layout) -> Option<NonNull<u8>> {
    // SAFETY: no block is empty.
    let new = NonNull::new(unsafe { raw::alloc_uncached(layout) })?;
    // SAFETY: both hold the layout's size, and the old one is nobody's any more. (The count stays what it is.)
    unsafe {
        ptr::copy_nonoverlapping(block.as_ptr(), new.as_ptr(), layout.size());
        raw::dealloc_uncached(block.as_ptr(), layout);
    }
    Some(new)
}

/// Asks jemalloc. It adds up its counters first: tens of microseconds.
pub fn stats() -> AllocatorStats {
    let _ = ctl_write(c"epoch", 1u64);
    let size = |name| ctl_read::<usize>(name).map_or(0, |n| n as u64);
    // 4096 is jemalloc's number for "all arenas together".
    let muzzy_pages = size(c"stats.arenas.4096.pmuzzy");
    AllocatorStats {
        allocated: size(c"stats.allocated"),
        active: size(c"stats.active"),
        resident: size(c"stats.resident"),
        retained: size(c"stats.retained"),
        muzzy: muzzy_pages.saturating_mul(size(c"arenas.page")),
    }
}

/// Gives unused pages back to the kernel now (MEMORY PURGE), the caller's own cache of blocks included.
pub fn purge() -> io::Result<()> {
    ctl_call(c"thread.tcache.flush")?;
    ctl_call(c"arena.4096.purge")
}

/// Lets a thread of jemalloc's give pages back, so that memory shrinks without traffic too
/// (`jemalloc-bg-thread`). To be called after the last fork.
pub fn set_background_thread(enable: bool) -> io::Result<()> {
    ctl_write(c"background_thread", enable)
}

/// The name that INFO gives for the allocator, as in `jemalloc-5.3.0`.
pub fn allocator_name() -> String {
    if cfg!(system_alloc) {
        return "libc".into();
    }
    let full = mallctl_str("version", None)
        .ok()
        .flatten()
        .unwrap_or_default();
    format!("jemalloc-{}", full.split('-').next().unwrap_or_default())
}

/// jemalloc's report about itself (MEMORY MALLOC-STATS).
pub fn malloc_stats() -> String {
    unsafe extern "C" fn push(out: *mut c_void, text: *const c_char) {
        // SAFETY: `out` is the vector below, borrowed by nobody else during the call; `text` is a
        // C string that jemalloc keeps until this returns.
        unsafe { (*out.cast::<Vec<u8>>()).extend_from_slice(CStr::from_ptr(text).to_bytes()) }
    }
    let mut out = Vec::with_capacity(64 * 1024);
    // SAFETY: `push` matches the type of the callback, which is called before the function returns.
    unsafe { je::malloc_stats_print(Some(push), (&raw mut out).cast(), ptr::null()) };
    String::from_utf8_lossy(&out).into_owned()
}

/// Reads a number of jemalloc's by name, and sets it if `new` is given: DEBUG MALLCTL. The number may
/// be 8, 4, 2 or 1 bytes wide; `None` for one that can only be written. The value before the change.
pub fn mallctl_int(name: &str, new: Option<i64>) -> io::Result<Option<i64>> {
    let name = c_name(name)?;
    for width in [8, 4, 2, 1] {
        let (mut old, mut value) = (0i64.to_ne_bytes(), 0i64.to_ne_bytes());
        if let Some(new) = new {
            // The low bytes, wherever this machine keeps them.
            let bytes = new.to_ne_bytes();
            let from = if cfg!(target_endian = "big") {
                8 - width
            } else {
                0
            };
            value[..width].copy_from_slice(&bytes[from..from + width]);
        }
        let value_ptr = new.map_or(ptr::null_mut(), |_| value.as_mut_ptr().cast::<c_void>());
        let value_len = if new.is_some() { width } else { 0 };
        let mut old_len = width;
        // SAFETY: both buffers hold 8 bytes, and jemalloc refuses a width that is not its own.
        let mut rc = unsafe {
            je::mallctl(
                name.as_ptr(),
                old.as_mut_ptr().cast(),
                &mut old_len,
                value_ptr,
                value_len,
            )
        };
        if rc == libc::EPERM && new.is_some() {
            // SAFETY: as above; a null pointer asks for no old value.
            rc = unsafe {
                je::mallctl(
                    name.as_ptr(),
                    ptr::null_mut(),
                    ptr::null_mut(),
                    value_ptr,
                    value_len,
                )
            };
            if rc == 0 {
                return Ok(None);
            }
        }
        match rc {
            0 => {
                let mut wide = [0; 8];
                let to = if cfg!(target_endian = "big") {
                    8 - width
                } else {
                    0
                };
                wide[to..to + width].copy_from_slice(&old[..width]);
                return Ok(Some(i64::from_ne_bytes(wide)));
            }
            libc::EINVAL => continue,
            rc => return Err(io::Error::from_raw_os_error(rc)),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EINVAL))
}

/// The names whose value is a C string; reading any other one as a string would follow a wild pointer.
fn is_string(name: &str) -> bool {
    const NAMES: [&str; 11] = [
        "version",
        "config.malloc_conf",
        "opt.metadata_thp",
        "opt.dss",
        "opt.percpu_arena",
        "opt.stats_print_opts",
        "opt.stats_interval_opts",
        "opt.junk",
        "opt.zero_realloc",
        "opt.thp",
        "opt.prof_prefix",
    ];
    NAMES.contains(&name) || (name.starts_with("arena.") && name.ends_with(".dss"))
}

/// Reads a string of jemalloc's by name, and sets it if `new` is given, where `VOID` calls a name that
/// takes no value: DEBUG MALLCTL-STR. `None` for one that can only be written.
pub fn mallctl_str(name: &str, new: Option<&str>) -> io::Result<Option<String>> {
    let c = c_name(name)?;
    let read = || {
        let text: *const c_char = ctl_read(&c)?;
        // SAFETY: jemalloc's strings are constants of its own.
        Ok((!text.is_null()).then(|| {
            unsafe { CStr::from_ptr(text) }
                .to_string_lossy()
                .into_owned()
        }))
    };
    let old: io::Result<Option<String>> = if is_string(name) {
        read()
    } else {
        Err(io::Error::from_raw_os_error(libc::EPERM))
    };
    let written = match new {
        None => return old,
        Some("VOID") => ctl_call(&c),
        Some(_) if !is_string(name) => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        Some(new) => {
            let new = c_name(new)?;
            ctl_write(&c, new.as_ptr())
        }
    };
    match old {
        Ok(Some(old)) => Ok(Some(old)),
        _ => written.map(|()| None),
    }
}

fn c_name(name: &str) -> io::Result<CString> {
    CString::new(name).map_err(|_| io::Error::from_raw_os_error(libc::ENOENT))
}

fn ctl_result(rc: c_int) -> io::Result<()> {
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(rc))
    }
}

/// Reads one value; jemalloc checks that its size is right.
fn ctl_read<T: Copy>(name: &CStr) -> io::Result<T> {
    let mut value = std::mem::MaybeUninit::<T>::uninit();
    let mut len = size_of::<T>();
    // SAFETY: the buffer is `len` bytes; on success all of them are written, with a value of the type
    // that the callers in this file know the name to have.
    unsafe {
        let to = value.as_mut_ptr().cast();
        ctl_result(je::mallctl(name.as_ptr(), to, &mut len, ptr::null_mut(), 0))?;
        Ok(value.assume_init())
    }
}

fn ctl_write<T: Copy>(name: &CStr, mut value: T) -> io::Result<()> {
    let from = (&raw mut value).cast();
    // SAFETY: the value outlives the call, and jemalloc checks its size.
    ctl_result(unsafe {
        je::mallctl(
            name.as_ptr(),
            ptr::null_mut(),
            ptr::null_mut(),
            from,
            size_of::<T>(),
        )
    })
}

/// Calls a name that takes no value and gives none.
fn ctl_call(name: &CStr) -> io::Result<()> {
    // SAFETY: null pointers and a length of zero ask for nothing and hand over nothing.
    ctl_result(unsafe {
        je::mallctl(
            name.as_ptr(),
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            0,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nallocx(size: usize, flags: c_int) -> usize {
        // SAFETY: it only computes.
        unsafe { je::nallocx(size, flags) }
    }

    #[test]
    fn classes_are_jemallocs_own() {
        let near_powers = (10..40).flat_map(|bit| {
            let p = 1usize << bit;
            [
                p - 1,
                p,
                p + 1,
                p + p / 4 - 1,
                p + p / 4,
                p + p / 4 + 1,
                p + p / 2 + 1,
                p + p / 4 * 3 + 1,
            ]
        });
        for size in (1..40_000).chain(near_powers) {
            assert_eq!(size_class(size, 1), nallocx(size, 0), "size {size}");
            for align in [2, 4, 8, 16, 32, 64, 4096, 65536] {
                let class = size_class(size, align);
                assert_eq!(
                    class,
                    nallocx(size.max(align.min(16)), je::MALLOCX_ALIGN(align))
                );
                assert!(class >= size);
            }
        }
    }

    /// What the closure's allocations add up to on this thread; it must stay under the flush limit.
    fn counted<T>(f: impl FnOnce() -> T) -> (T, i64) {
        flush_thread();
        let result = f();
        (result, DELTA.get())
    }

    #[test]
    fn counts_every_way_to_allocate() {
        let (mut v, n) = counted(|| Vec::<u8>::with_capacity(100));
        assert_eq!(n, 112);
        let ((), n) = counted(|| v.reserve_exact(1000));
        assert_eq!(n, 1024 - 112);
        let ((), n) = counted(|| v.shrink_to(10));
        assert_eq!(n, 16 - 1024);
        let ((), n) = counted(|| drop(v));
        assert_eq!(n, -16);
        let (z, n) = counted(|| vec![0u64; 200]);
        assert_eq!(n, 1792);
        drop(z);
        #[repr(align(64))]
        struct Line([u8; 65]);
        let (line, n) = counted(|| Box::new(Line([1; 65])));
        assert_eq!(line.0[64], 1);
        assert_eq!((n, &raw const *line as usize % 64), (128, 0));
        let ((), n) = counted(|| drop(line));
        assert_eq!(n, -128);
    }

    /// What other tests allocate and free meanwhile is noise, and another in the next try.
    #[test]
    fn what_one_thread_allocates_and_another_frees_is_even() {
        const MB: u64 = 1 << 20;
        let even = || {
            let before = used_memory();
            let blocks: Vec<Vec<u8>> = (0..64 * 1024).map(|_| Vec::with_capacity(5000)).collect();
            let full = used_memory().saturating_sub(before);
            let freeing = std::thread::spawn(move || {
                drop(blocks);
                flush_thread();
            });
            freeing.join().unwrap();
            assert!(peak_memory() >= before + full);
            // 5120 bytes each, and the outer vector.
            (320 * MB..400 * MB).contains(&full) && used_memory().abs_diff(before) < 48 * MB
        };
        assert!((0..8).any(|_| even()));
        purge().unwrap();
    }

    #[test]
    #[cfg(not(system_alloc))]
    fn settings_reach_jemalloc_and_can_be_read_by_name() {
        assert_eq!(ctl_read::<u32>(c"opt.narenas").unwrap(), 1);
        assert!(!ctl_read::<bool>(c"opt.cache_oblivious").unwrap());
        assert_eq!(
            mallctl_int("opt.dirty_decay_ms", None).unwrap(),
            Some(10_000)
        );
        assert!(allocator_name().starts_with("jemalloc-5."));
        assert!(malloc_stats().contains("End jemalloc statistics"));
        let s = stats();
        assert!(s.allocated > 0 && s.active > 0 && s.resident > 0); // unordered while others allocate

        assert_eq!(mallctl_int("background_thread", Some(0)).unwrap(), Some(0)); // a bool: one byte
        let errno = |e: io::Error| e.raw_os_error();
        assert_eq!(
            mallctl_int("no.such", None).map_err(errno),
            Err(Some(libc::ENOENT))
        );
        assert_eq!(
            mallctl_int("nul\0", None).map_err(errno),
            Err(Some(libc::ENOENT))
        );
        assert_eq!(
            mallctl_str("thread.tcache.flush", Some("VOID")).unwrap(),
            None
        );
        assert_eq!(
            mallctl_str("opt.dss", None).unwrap().as_deref(),
            Some("secondary")
        );
        assert!(mallctl_str("arenas.page", None).is_err());
    }

    #[test]
    fn blocks_on_pages_that_are_nearly_empty_move_together() {
        // A size that nobody else here has.
        let layout = Layout::from_size_align(832, 8).unwrap();
        let make = |i: usize| {
            // SAFETY: the size is not zero; all of the block is written.
            let block = NonNull::new(unsafe { std::alloc::alloc(layout) }).unwrap();
            unsafe { block.write_bytes(i as u8, layout.size()) };
            block
        };
        let mut blocks: Vec<_> = (0..4000).map(make).map(Some).collect();
        let free = |block: NonNull<u8>| {
            // SAFETY: allocated above, and forgotten here.
            unsafe { std::alloc::dealloc(block.as_ptr(), layout) }
        };
        let pages = |blocks: &[Option<NonNull<u8>>]| {
            let address = |block: &NonNull<u8>| block.addr().get() / 4096;
            let pages: std::collections::BTreeSet<_> =
                blocks.iter().flatten().map(address).collect();
            pages.len()
        };
        for (i, block) in blocks.iter_mut().enumerate() {
            if i % 8 != 0 {
                free(block.take().unwrap());
            }
        }
        let before = pages(&blocks);
        for block in blocks.iter_mut().flatten() {
            if is_sparse(*block) {
                // SAFETY: as above; the old address is overwritten.
                *block = unsafe { relocate(*block, layout) }.unwrap();
            }
        }
        assert!(
            pages(&blocks) < before / 2,
            "{} of {before}",
            pages(&blocks)
        );
        for (i, block) in blocks.into_iter().enumerate() {
            let Some(block) = block else { continue };
            // SAFETY: written in `make`, and moved as it was.
            let bytes = unsafe { std::slice::from_raw_parts(block.as_ptr(), layout.size()) };
            assert!(bytes.iter().all(|b| *b == i as u8));
            free(block);
        }
    }
}
