//! What the system's allocator keeps back of freed memory.
//!
//! Nothing here is called by the crates of Kymo themselves: whether a process gives memory back is for the program to
//! decide, which knows what else it does.

/// Has the system's allocator give the pages back that it holds and nothing uses; `false` where it cannot be asked, or
/// had none.
///
/// An allocator keeps what was freed for the next to come. After a flush that lets go of a hundred thousand series those
/// are tens of megabytes, in holes between what stays. Walks the whole heap: milliseconds for some hundred
/// megabytes, with the heap's locks held, so it is for after large changes and not for every one.
/// [`malloc_trim(3)`](https://man7.org/linux/man-pages/man3/malloc_trim.3.html); does nothing off glibc, and for a program
/// with an allocator of its own.
pub fn give_back() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri), not(kymo_portable)))]
    {
        #[expect(unsafe_code, reason = "a call into the C library")]
        // SAFETY: takes an integer and may be called at any time from any thread.
        let given = unsafe { libc::malloc_trim(0) };
        given == 1
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu", not(miri), not(kymo_portable))))]
    {
        false
    }
}

/// Bytes of the process that are in memory now, as the kernel tells; `None` where it does not. Reads a small file.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    #[cfg_attr(miri, ignore = "a file of the kernel's")]
    fn what_is_resident_grows_with_what_is_written() {
        let before = super::resident_bytes().unwrap();
        let written = vec![1_u8; 64 << 20];
        let after = super::resident_bytes().unwrap();
        assert!(after > before + (32 << 20), "{before} bytes, then {after}");
        drop(written);
    }

    /// What is in use stays.
    #[test]
    fn what_is_in_use_survives() {
        let kept: Vec<Vec<usize>> = (0..1_000).map(|n| vec![n; 100]).collect();
        let freed: Vec<Vec<u8>> = (0..1_000).map(|_| vec![1; 4_000]).collect();
        drop(freed);
        super::give_back();
        assert!(kept.iter().enumerate().all(|(n, row)| row.iter().all(|value| *value == n)));
    }
}
