//! A whole machine in `testdata/host`, and what is made of it; the kernel's files when they are absent or wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kymo_core::registry::Registry;
use kymo_core::text::{FloatText, SeriesText};
use kymo_core::{Clock, Labels, ManualClock};

use super::super::gathered::pairs_of_key;
use super::*;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/host")
}

fn host(roots: Roots, registry: &Registry) -> Host {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(1_700_000_000_250));
    Host::new(HostOptions { roots, ..HostOptions::default() }, clock, registry).unwrap()
}

/// `name{labels} value`, sorted.
fn lines(out: &Gathered) -> Vec<String> {
    let line = |(key, value): (&[u8], f64)| {
        let labels = Labels::from_pairs(pairs_of_key(key));
        format!("{} {}", SeriesText(&labels), FloatText::general(value).as_str())
    };
    let mut lines: Vec<String> = out.floats().map(line).collect();
    lines.sort_unstable();
    lines
}

/// Samples that are not of the fixture: the real file system's sizes, the real kernel's name and clock.
fn is_of_this_machine(line: &str) -> bool {
    let sizes = ["avail_bytes", "files", "files_free", "free_bytes", "size_bytes", "readonly"];
    let is_size = |name: &&str| line.starts_with(&format!("node_filesystem_{name}{{"));
    sizes.iter().any(is_size)
        || ["node_uname_info", "node_timex_", "node_time_zone_"].iter().any(|name| line.starts_with(name))
}

#[test]
fn a_machine_is_told_as_node_exporter_tells_it() {
    let registry = Registry::new();
    let mut out = Gathered::default();
    host(Roots::under(fixture()), &registry).gather(&mut out);
    let lines = lines(&out);
    let file = fixture().join("expected.txt");
    let found: String = lines.iter().filter(|line| !is_of_this_machine(line)).map(|line| format!("{line}\n")).collect();
    let wanted = fs::read_to_string(&file).unwrap();
    for (found, wanted) in found.lines().zip(wanted.lines()) {
        assert_eq!(found, wanted);
    }
    assert_eq!(found.lines().count(), wanted.lines().count());

    let real: Vec<&String> = lines.iter().filter(|line| is_of_this_machine(line)).collect();
    assert_eq!(real.len(), 26, "{real:?}");
    assert!(lines.windows(2).all(|pair| pair[0].rsplit_once(' ').unwrap().0 != pair[1].rsplit_once(' ').unwrap().0));
    assert!(registry.snapshot()[0].series.is_empty(), "nothing failed: {:?}", registry.snapshot());
}

#[test]
fn what_a_machine_does_not_have_is_no_failure() {
    let registry = Registry::new();
    let mut out = Gathered::default();
    host(Roots::under("/nowhere"), &registry).gather(&mut out);
    let (told, other): (Vec<String>, Vec<String>) =
        lines(&out).into_iter().partition(|line| line.starts_with("node_scrape_collector_"));
    let of_no_file: Vec<&str> = other.iter().map(|line| line.split(['{', ' ']).next().unwrap()).collect();
    let of_no_file: Vec<&str> = of_no_file.into_iter().filter(|name| !name.starts_with("node_timex_")).collect();
    assert_eq!(
        of_no_file,
        ["node_selinux_enabled", "node_time_seconds", "node_time_zone_offset_seconds", "node_uname_info"]
    );
    let succeeded: Vec<&String> =
        told.iter().filter(|line| line.contains("_success") && line.ends_with(" 1")).collect();
    assert_eq!(succeeded.len(), 7, "only those that need no file: {succeeded:?}");
    assert!(registry.snapshot()[0].series.is_empty());
}

#[test]
fn a_part_that_fails_stops_no_other_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("proc/meminfo", "MemTotal: 1 kB\nMemFree: none kB\n");
    put("proc/loadavg", "0.5 0.25 0.125 1/2 3\n");
    put("proc/net/softnet_stat", "zz\n");
    put("proc/1/mountinfo", "1 2\n");
    let registry = Registry::new();
    let mut host = host(Roots::under(dir.path()), &registry);
    let mut out = Gathered::default();
    host.gather(&mut out);
    host.gather(&mut out);
    let lines = lines(&out);
    for wanted in [
        "node_load15 0.125",
        "node_memory_MemTotal_bytes 1024",
        r#"node_scrape_collector_success{collector="loadavg"} 1"#,
        r#"node_scrape_collector_success{collector="meminfo"} 0"#,
        r#"node_scrape_collector_success{collector="softnet"} 0"#,
    ] {
        assert!(lines.iter().any(|line| line == wanted), "{wanted} in {lines:#?}");
    }
    let counted = &registry.snapshot()[0];
    let failures: Vec<(&str, f64)> =
        counted.series.iter().map(|series| (series.labels[0].1.as_str(), series.value.value())).collect();
    assert_eq!(
        (counted.name.as_str(), failures),
        ("kymo_collect_failures_total", vec![("filesystem", 2.0), ("meminfo", 2.0), ("softnet", 2.0)])
    );
}

#[test]
fn processor_times_do_not_fall_but_for_a_processor_that_was_put_back() {
    let dir = tempfile::tempdir().unwrap();
    let stat = dir.path().join("proc/stat");
    fs::create_dir_all(stat.parent().unwrap()).unwrap();
    let roots = Roots::under(dir.path());
    let mut cpu = cpu::Cpu::default();
    let mut round = |text: &str| {
        fs::write(&stat, text).unwrap();
        let mut out = Gathered::default();
        cpu.read(&roots, &mut out).unwrap();
        lines(&out).into_iter().filter(|line| line.contains("idle") || line.contains("iowait")).collect::<Vec<_>>()
    };
    let lines = |idle: &str, iowait: &str| {
        [("idle", idle), ("iowait", iowait)]
            .map(|(mode, value)| format!(r#"node_cpu_seconds_total{{cpu="0", mode="{mode}"}} {value}"#))
            .to_vec()
    };
    assert_eq!(round("cpu0 1 1 1 5000 300 0 0 0 0 0\n"), lines("50", "3"));
    assert_eq!(round("cpu0 1 1 1 4900 299 0 0 0 0 0\n"), lines("50", "3"));
    assert_eq!(round("cpu0 1 1 1 5100 301 0 0 0 0 0\n"), lines("51", "3.01"));
    assert_eq!(round("cpu0 0 0 0 10 2 0 0 0 0 0\n"), lines("0.1", "0.02"));
}

#[test]
fn any_line_of_the_kernel_cut_anywhere_is_an_error_or_a_value() {
    let dir = tempfile::tempdir().unwrap();
    let files = ["stat", "meminfo", "diskstats", "1/mountinfo", "net/dev", "net/netstat", "net/snmp", "net/sockstat"];
    for file in files {
        let whole = fs::read(fixture().join("proc").join(file)).unwrap();
        let path = dir.path().join("proc").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut host = host(Roots::under(dir.path()), &Registry::new());
        for len in (0..whole.len()).step_by(3) {
            fs::write(&path, &whole[..len]).unwrap();
            let mut out = Gathered::default();
            host.gather(&mut out);
            assert!(out.floats().count() > 50, "{file} cut at {len}: the results of all parts are there");
        }
        fs::remove_file(&path).unwrap();
    }
}
