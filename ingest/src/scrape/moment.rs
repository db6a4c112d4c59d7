//! Waiting more exactly than the runtime's timer, which counts in milliseconds and rounds up.

use std::time::Duration;

/// The last part of a wait, which the runtime's timer would miss by up to its length.
const FINE: Duration = Duration::from_millis(2);

/// Sleeps for `left`, or for less: whoever waits for a moment asks the clock again and sleeps once more.
///
/// The last two milliseconds are a timer of the kernel's own where it has one, so a moment is met within some tens of
/// microseconds and nothing is done meanwhile. It costs four system calls.
pub(super) async fn sleep(left: Duration) {
    match left.checked_sub(FINE) {
        Some(coarse) if !coarse.is_zero() => tokio::time::sleep(coarse).await,
        _ => {
            if fine::sleep(left).await.is_err() {
                tokio::time::sleep(left).await;
            }
        }
    }
}

#[cfg(target_os = "linux")]
mod fine {
    #![expect(unsafe_code, reason = "the runtime asks for a promise about the descriptor it watches")]

    use std::io;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    /// # Errors
    /// No timer can be had, for instance because too many files are open.
    pub(super) async fn sleep(left: Duration) -> io::Result<()> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // A time of nothing would switch the timer off.
        let nanoseconds = i64::from(left.subsec_nanos()).max(1);
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: nanoseconds },
        };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once)?;
        // SAFETY: `timer` is an `OwnedFd`: open until it is dropped, and always the same descriptor. Nothing takes it out of
        // the `AsyncFd`, which drops its registration first.
        let watched = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) };
        watched.map_err(io::Error::from)?.readable().await.map(|_| ())
    }
}

#[cfg(not(target_os = "linux"))]
mod fine {
    use std::io;
    use std::time::Duration;

    pub(super) async fn sleep(_left: Duration) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_sleep_is_never_longer_in_one_go_than_to_just_before_its_end() {
        for asked in [Duration::ZERO, Duration::from_micros(300), Duration::from_millis(7)] {
            let began = Instant::now();
            let mut slept = 0;
            while let Some(left) = asked.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
                sleep(left).await;
                slept += 1;
            }
            assert!(began.elapsed() >= asked && slept <= 10, "{asked:?} took {slept} sleeps");
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_kernels_timer_does_not_end_early() {
        for asked in [Duration::ZERO, Duration::from_micros(50), Duration::from_millis(2)] {
            let began = Instant::now();
            fine::sleep(asked).await.unwrap();
            assert!(began.elapsed() >= asked, "{asked:?}");
        }
    }
}
