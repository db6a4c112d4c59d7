//! How the kernel keeps its clock: offset, frequency and errors as `adjtimex(2)` tells them, units as node_exporter shows
//! them.

use std::path::PathBuf;

use super::c_library::adjtimex;
use super::file::ReadError;
use super::{Gathered, Roots};

const MICROSECONDS: f64 = 1e6;
const NANOSECONDS: f64 = 1e9;
/// Frequencies are in parts per million with 16 bits after the point.
const PPM: f64 = 1e6 * 65536.0;

pub(super) fn read(_: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    let (timex, state) = adjtimex().map_err(|source| ReadError::Read { path: PathBuf::from("adjtimex"), source })?;
    let divisor = if timex.status & libc::STA_NANO == 0 { MICROSECONDS } else { NANOSECONDS };
    let is_synchronised = f64::from(u8::from(state != libc::TIME_ERROR));
    // `c_long` is 32 bits wide on some machines; no value here comes near what a float holds exactly.
    #[expect(clippy::unnecessary_cast, reason = "the fields' width depends on the machine")]
    let float = |value: libc::c_long| value as i64 as f64;
    let gauges = [
        ("offset_seconds", "Time offset in between local system and reference clock.", float(timex.offset) / divisor),
        ("frequency_adjustment_ratio", "Local clock frequency adjustment.", 1.0 + float(timex.freq) / PPM),
        ("maxerror_seconds", "Maximum error in seconds.", float(timex.maxerror) / MICROSECONDS),
        ("estimated_error_seconds", "Estimated error in seconds.", float(timex.esterror) / MICROSECONDS),
        ("status", "Value of the status array bits.", f64::from(timex.status)),
        ("loop_time_constant", "Phase-locked loop time constant.", float(timex.constant)),
        ("tick_seconds", "Seconds between clock ticks.", float(timex.tick) / MICROSECONDS),
        ("pps_frequency_hertz", "Pulse per second frequency.", float(timex.ppsfreq) / PPM),
        ("pps_jitter_seconds", "Pulse per second jitter.", float(timex.jitter) / divisor),
        ("pps_shift_seconds", "Pulse per second interval duration.", f64::from(timex.shift)),
        (
            "pps_stability_hertz",
            "Pulse per second stability, average of recent frequency changes.",
            float(timex.stabil) / PPM,
        ),
        ("tai_offset_seconds", "International Atomic Time (TAI) offset.", f64::from(timex.tai)),
        ("sync_status", "Is clock synchronized to a reliable server (1 = yes, 0 = no).", is_synchronised),
    ];
    for (name, help, value) in gauges {
        out.gauge(&format!("node_timex_{name}"), help, value);
    }
    let counters = [
        ("jitter_total", "Pulse per second count of jitter limit exceeded events.", timex.jitcnt),
        ("calibration_total", "Pulse per second count of calibration intervals.", timex.calcnt),
        ("error_total", "Pulse per second count of calibration errors.", timex.errcnt),
        ("stability_exceeded_total", "Pulse per second count of stability limit exceeded events.", timex.stbcnt),
    ];
    for (name, help, value) in counters {
        out.counter(&format!("node_timex_pps_{name}"), help, float(value));
    }
    Ok(())
}
