//! The program's allocator: jemalloc on Linux with glibc, elsewhere and without the feature of that name the system's.
//!
//! A heap of glibc can give back only what no piece that is still in use shares a page with: after a million series that
//! came and went, tens of megabytes of pages stayed with a server, each held by a few small pieces. jemalloc keeps pieces
//! of one size together. It serves the libraries in C, too, that allocate by `malloc`.

#[cfg(not(all(feature = "jemalloc", target_os = "linux", target_env = "gnu")))]
pub(crate) use kymo_core::heap::give_back;

#[cfg(all(feature = "jemalloc", target_os = "linux", target_env = "gnu"))]
pub(crate) use jemalloc::give_back;

#[cfg(all(feature = "jemalloc", target_os = "linux", target_env = "gnu"))]
mod jemalloc {
    #![expect(unsafe_code, reason = "jemalloc's options and controls are of C")]

    use std::ffi::CStr;
    use std::ptr::null_mut;

    use tikv_jemallocator::Jemalloc;

    #[global_allocator]
    static ALLOCATOR: Jemalloc = Jemalloc;

    /// Read by jemalloc at its first allocation; what `MALLOC_CONF` in the environment says comes after it. One arena, as
    /// each keeps pages half full: threads have caches of their own before it. Pages that are free for a second are
    /// given back by a thread of jemalloc's. The threads' caches keep no pieces above 4 KiB, of which few are asked for and
    /// each would keep many.
    // SAFETY: jemalloc declares the symbol for programs to define, and defines it weakly itself. The first word of the
    // reference is the address of the text, which is what it reads.
    #[used]
    #[unsafe(export_name = "malloc_conf")]
    static OPTIONS: &CStr = c"narenas:1,background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0,tcache_max:4096";

    /// `MALLCTL_ARENAS_ALL` stands for all arenas.
    const PURGE: &CStr = c"arena.4096.purge";

    /// Gives all pages back that nothing uses, and does not wait until they were free for a while.
    pub(crate) fn give_back() -> bool {
        // SAFETY: a control without a value, of a name that ends with zero; may be called at any time from any thread.
        unsafe { tikv_jemalloc_sys::mallctl(PURGE.as_ptr(), null_mut(), null_mut(), null_mut(), 0) == 0 }
    }
}
