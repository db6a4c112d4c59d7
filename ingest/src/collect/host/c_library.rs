//! The two facts about the machine's time that have no safe binding.
#![expect(unsafe_code, reason = "adjtimex and localtime_r; both only write to what they are given")]

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;

/// How the kernel keeps its clock, and the clock's state. Changes nothing and needs no privilege.
pub(super) fn adjtimex() -> io::Result<(libc::timex, libc::c_int)> {
    let mut asked = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: the pointer is to a whole `timex` that lives through the call. All of it is zero, so `modes` is too, with
    // which the kernel changes nothing and only writes.
    let state = unsafe { libc::adjtimex(asked.as_mut_ptr()) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a `timex` is integers alone, for which zeroes and whatever the kernel wrote are values.
    Ok((unsafe { asked.assume_init() }, state))
}

/// The machine's time zone at a moment: its short name, and how many seconds it is ahead of UTC.
pub(super) fn time_zone(now_ms: i64) -> Option<(String, i64)> {
    let seconds = libc::time_t::try_from(now_ms.div_euclid(1000)).ok()?;
    let mut broken_down = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to whole values that live through the call; a failure is told by a null pointer.
    let written = unsafe { libc::localtime_r(&raw const seconds, broken_down.as_mut_ptr()) };
    if written.is_null() {
        return None;
    }
    // SAFETY: `localtime_r` has written all of it, and before that it was zeroes, which are values of its integers and of
    // its pointer.
    let broken_down = unsafe { broken_down.assume_init() };
    let name = if broken_down.tm_zone.is_null() {
        String::new()
    } else {
        // SAFETY: the name is a C string that the C library keeps for as long as the process lives.
        unsafe { CStr::from_ptr(broken_down.tm_zone) }.to_string_lossy().into_owned()
    };
    #[expect(clippy::useless_conversion, reason = "`c_long` is 32 bits wide on some machines")]
    Some((name, i64::from(broken_down.tm_gmtoff)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_of_its_clock_and_the_zone_is_one_of_this_world() {
        let (timex, state) = adjtimex().unwrap();
        assert!(timex.tick > 0 && (0..=libc::TIME_ERROR).contains(&state), "{state}: a tick of {}", timex.tick);
        let (name, offset) = time_zone(1_700_000_000_000).unwrap();
        assert!(!name.is_empty() && offset.abs() <= 15 * 3600, "{name}: {offset}");
    }
}
