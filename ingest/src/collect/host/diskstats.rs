//! `/proc/diskstats`: what every disk did, and what it is called.

use std::collections::BTreeMap;

use kymo_core::FamilyType::{self, Counter, Gauge};

use super::file::{ReadError, Text, fields, integer};
use super::{Gathered, Roots};

/// The kernel counts in these, whatever a disk's own sectors are.
const SECTOR_BYTES: f64 = 512.0;
/// Times are in milliseconds.
const MILLISECOND: f64 = 1.0 / 1000.0;

/// The numbers behind a disk's name: metric, factor, help. Older kernels have fewer.
const COLUMNS: [(FamilyType, &str, f64, &str); 17] = [
    (Counter, "node_disk_reads_completed_total", 1.0, "The total number of reads completed successfully."),
    (Counter, "node_disk_reads_merged_total", 1.0, "The total number of reads merged."),
    (Counter, "node_disk_read_bytes_total", SECTOR_BYTES, "The total number of bytes read successfully."),
    (Counter, "node_disk_read_time_seconds_total", MILLISECOND, "The total number of seconds spent by all reads."),
    (Counter, "node_disk_writes_completed_total", 1.0, "The total number of writes completed successfully."),
    (Counter, "node_disk_writes_merged_total", 1.0, "The number of writes merged."),
    (Counter, "node_disk_written_bytes_total", SECTOR_BYTES, "The total number of bytes written successfully."),
    (
        Counter,
        "node_disk_write_time_seconds_total",
        MILLISECOND,
        "This is the total number of seconds spent by all writes.",
    ),
    (Gauge, "node_disk_io_now", 1.0, "The number of I/Os currently in progress."),
    (Counter, "node_disk_io_time_seconds_total", MILLISECOND, "Total seconds spent doing I/Os."),
    (Counter, "node_disk_io_time_weighted_seconds_total", MILLISECOND, "The weighted # of seconds spent doing I/Os."),
    (Counter, "node_disk_discards_completed_total", 1.0, "The total number of discards completed successfully."),
    (Counter, "node_disk_discards_merged_total", 1.0, "The total number of discards merged."),
    (Counter, "node_disk_discarded_sectors_total", 1.0, "The total number of sectors discarded successfully."),
    (
        Counter,
        "node_disk_discard_time_seconds_total",
        MILLISECOND,
        "This is the total number of seconds spent by all discards.",
    ),
    (Counter, "node_disk_flush_requests_total", 1.0, "The total number of flush requests completed successfully"),
    (
        Counter,
        "node_disk_flush_requests_time_seconds_total",
        MILLISECOND,
        "This is the total number of seconds spent by all flush requests.",
    ),
];

pub(super) fn read(roots: &Roots, out: &mut Gathered) -> Result<(), ReadError> {
    let text = Text::read(roots.proc.join("diskstats"))?;
    for line in text.lines() {
        let fields = fields(line);
        let [major, minor, device, numbers @ ..] = fields.as_slice() else {
            return Err(text.wrong("two numbers and a name", line));
        };
        if is_partition_or_virtual(device) {
            continue;
        }
        info(roots, out, major, minor, device);
        for ((family_type, name, factor, help), field) in COLUMNS.iter().zip(numbers) {
            let value = text.number(field, line)? * factor;
            out.family(*family_type, name, help).push([("device", *device)], value);
        }
    }
    Ok(())
}

/// Says what the disk is; the system may know nothing but its numbers.
fn info(roots: &Roots, out: &mut Gathered, major: &str, minor: &str, device: &str) {
    let udev = Text::read(roots.udev.join(format!("b{major}:{minor}"))).ok();
    let known: BTreeMap<&str, &str> = udev
        .iter()
        .flat_map(Text::lines)
        .filter_map(|line| line.strip_prefix("E:").and_then(|line| line.split_once('=')))
        .collect();
    let of = |name: &str| known.get(name).copied().unwrap_or("");
    let serials = ["SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL"].map(of);
    let serial = serials.into_iter().find(|serial| !serial.is_empty()).unwrap_or("");
    let rotational = integer(&roots.sys.join("block").join(device).join("queue/rotational")).unwrap_or(0).to_string();
    out.family(Gauge, "node_disk_info", "Info of /sys/block/<block_device>.").push(
        [
            ("device", device),
            ("major", major),
            ("minor", minor),
            ("model", of("ID_MODEL")),
            ("path", of("ID_PATH")),
            ("revision", of("ID_REVISION")),
            ("rotational", &rotational),
            ("serial", serial),
            ("wwn", of("ID_WWN")),
        ],
        1.0,
    );
    if !of("ID_FS_TYPE").is_empty() {
        out.family(Gauge, "node_disk_filesystem_info", "Info about disk filesystem.").push(
            [
                ("device", device),
                ("type", of("ID_FS_TYPE")),
                ("usage", of("ID_FS_USAGE")),
                ("uuid", of("ID_FS_UUID")),
                ("version", of("ID_FS_VERSION")),
            ],
            1.0,
        );
    }
    if !of("DM_NAME").is_empty() {
        out.family(Gauge, "node_disk_device_mapper_info", "Info about disk device mapper.").push(
            [
                ("device", device),
                ("lv_layer", of("DM_LV_LAYER")),
                ("lv_name", of("DM_LV_NAME")),
                ("name", of("DM_NAME")),
                ("uuid", of("DM_UUID")),
                ("vg_name", of("DM_VG_NAME")),
            ],
            1.0,
        );
    }
}

/// node_exporter's default: `^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$`.
fn is_partition_or_virtual(device: &str) -> bool {
    let digits_off = |text: &str| text.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let stem = &device[..digits_off(device)];
    if stem.len() == device.len() {
        return false;
    }
    let is_letter = |text: &str| text.len() == 1 && text.bytes().all(|b| b.is_ascii_lowercase());
    let is_disk = ["hd", "sd", "vd", "xvd"].iter().any(|kind| stem.strip_prefix(kind).is_some_and(is_letter));
    let is_nvme = stem.strip_prefix("nvme").and_then(|rest| rest.strip_suffix('p')).is_some_and(|rest| {
        rest.split_once('n')
            .is_some_and(|parts| [parts.0, parts.1].iter().all(|part| !part.is_empty() && digits_off(part) == 0))
    });
    matches!(stem, "ram" | "zram" | "loop" | "fd") || is_disk || is_nvme
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_and_memory_disks_are_left_out() {
        for device in ["ram0", "zram12", "loop7", "fd0", "hda1", "sdb15", "vdc2", "xvda1", "nvme0n1p2"] {
            assert!(is_partition_or_virtual(device), "{device}");
        }
        let disks =
            ["sda", "sdaa1", "vda", "xvda", "nvme0n1", "nvme10n2", "dm-0", "md127", "mmcblk0", "sr0", "ram", ""];
        for device in disks {
            assert!(!is_partition_or_virtual(device), "{device}");
        }
    }
}
