//! The host as Kymo tells it, beside a real node_exporter on the same host: the same names, types and help, and values
//! that lie between one round before and one after.
//!
//! Needs the programs that `cargo xtask peers` unpacks, named by `KYMO_PEERS`; says so and does nothing where they are
//! absent.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kymo_core::pool::{Job, PoolFull};
use kymo_core::storage::ColumnValue;
use kymo_core::text::{parse_series_text, unescape_label_value};
use kymo_core::{BlockingPool, Columns, Labels, MemoryStorage, MetricStorage, QueryContext, Selector};
use kymo_ingest::collect::{CollectParts, Collector, CollectorOptions, HostOptions};
use tokio_util::sync::CancellationToken;

/// Collectors that both have.
const COLLECTORS: [&str; 28] = [
    "arp",
    "conntrack",
    "cpu",
    "cpufreq",
    "diskstats",
    "entropy",
    "filefd",
    "filesystem",
    "hwmon",
    "kernel_hung",
    "loadavg",
    "meminfo",
    "netclass",
    "netdev",
    "netstat",
    "os",
    "pressure",
    "schedstat",
    "selinux",
    "sockstat",
    "softnet",
    "stat",
    "thermal_zone",
    "time",
    "timex",
    "udp_queues",
    "uname",
    "vmstat",
];

/// Families of these collectors that Kymo leaves out, on purpose: what tells of node_exporter, and a constant for another
/// system.
const LEFT_OUT: [&str; 2] = ["node_exporter_build_info", "node_filesystem_purgeable_bytes"];

/// Gauges that may be anything from one moment to the next.
const FLEETING: [&str; 14] = [
    "node_cpu_frequency_hertz",
    "node_cpu_scaling_frequency_hertz",
    "node_disk_io_now",
    "node_entropy_available_bits",
    "node_filefd_allocated",
    "node_hwmon_",
    "node_load",
    "node_netstat_Tcp_CurrEstab",
    "node_nf_conntrack_entries",
    "node_procs_",
    "node_sockstat_",
    "node_timex_maxerror_seconds",
    "node_timex_offset_seconds",
    "node_udp_queues",
];

/// A label of `node_disk_info` that node_exporter says 0 for when any other attribute of the disk's queue is absent.
const UNRELIABLE: &str = "rotational";

/// One look at the host.
struct Look {
    samples: BTreeMap<Labels, f64>,
    /// Type and help by family.
    families: BTreeMap<String, (String, String)>,
}

/// Runs jobs at once, and the collector for one round.
struct OneRound(CancellationToken);

impl BlockingPool for OneRound {
    fn try_execute(&self, job: Job) -> Result<(), PoolFull> {
        job();
        self.0.cancel();
        Ok(())
    }
}

async fn look() -> Look {
    let storage = Arc::new(MemoryStorage::default());
    let stop = CancellationToken::new();
    let parts = CollectParts::around(storage.clone(), Arc::new(OneRound(stop.clone())));
    let collector = Collector::host(CollectorOptions::host(), HostOptions::default(), parts).unwrap();
    collector.run(stop).await;
    let context = QueryContext::unlimited();
    let set = storage.select(&Selector::everything(), &context).unwrap();
    let (mut samples, mut columns) = (BTreeMap::new(), Columns::default());
    for at in 0..set.len() {
        set.read(at, &mut columns).unwrap();
        let values: Vec<ColumnValue<'_>> = columns.iter().map(|(_, value)| value).collect();
        let [ColumnValue::Float(value), ColumnValue::Stale] = values.as_slice() else {
            panic!("{}: a value and a marker expected", set.labels(at));
        };
        samples.insert(without(&set.labels(at), &["job", "instance", UNRELIABLE]), *value);
    }
    let metadata = storage.metadata(None, &context).unwrap().into_iter();
    let families = metadata
        .map(|(name, metadata)| (name, (metadata[0].family_type.as_str().to_owned(), metadata[0].help.clone())));
    Look { samples, families: families.collect() }
}

fn without(labels: &Labels, names: &[&str]) -> Labels {
    Labels::from_pairs(labels.iter().filter(|(name, _)| !names.contains(name)))
}

/// A page of node_exporter. It has a line per sample, no timestamps, no blank within braces but in values.
fn read_page(page: &str) -> Look {
    let mut look = Look { samples: BTreeMap::new(), families: BTreeMap::new() };
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            look.families.entry(name.to_owned()).or_default().1 = unescape_label_value(help).into_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            let kind = if kind == "untyped" { "unknown" } else { kind };
            look.families.entry(name.to_owned()).or_default().0 = kind.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let labels = without(&Labels::from_pairs(parse_series_text(series).unwrap()), &[UNRELIABLE]);
            look.samples.insert(labels, value.parse().unwrap());
        }
    }
    let is_ours = |name: &str| name.starts_with("node_") && !LEFT_OUT.contains(&name);
    look.samples.retain(|labels, _| is_ours(labels.metric_name().unwrap()));
    look.families.retain(|name, _| is_ours(name));
    look
}

#[tokio::test]
async fn values_agree_with_node_exporter_on_the_same_host() {
    let name = "values_agree_with_node_exporter_on_the_same_host";
    let program = match node_exporter() {
        Ok(program) => program,
        Err(reason) => return skip(name, &reason),
    };
    let port = free_port();
    let child = Command::new(program)
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args(["--web.disable-exporter-metrics", "--collector.disable-defaults"])
        .args(COLLECTORS.map(|collector| format!("--collector.{collector}")))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _running = Running(child);
    // The first page starts what is slow in it.
    page(port);
    let before = look().await;
    let theirs = read_page(&page(port));
    let after = look().await;
    assert!(theirs.samples.len() > 100, "a page of {} samples", theirs.samples.len());

    for (family, theirs) in &theirs.families {
        let ours = after.families.get(family).unwrap_or_else(|| panic!("no family {family}"));
        assert_eq!(ours, theirs, "{family}");
    }
    // All of meminfo is told, also what node_exporter does not know yet.
    let is_extra = |name: &str| name.starts_with("node_memory_") || name == "up";
    let names = |look: &Look| -> BTreeSet<String> {
        let names = look.samples.keys().map(|labels| labels.metric_name().unwrap().to_owned());
        names.filter(|name| !is_extra(name) || theirs.families.contains_key(name)).collect()
    };
    assert_eq!(names(&after), names(&theirs));

    let value = |look: &Look, labels: &Labels| look.samples.get(labels).copied();
    let (mut compared, mut faults) = (0, Vec::new());
    for (labels, there) in &theirs.samples {
        let name = labels.metric_name().unwrap();
        if name.starts_with("node_scrape_collector_duration") || FLEETING.iter().any(|start| name.starts_with(start)) {
            continue;
        }
        let (Some(before), Some(after)) = (value(&before, labels), value(&after, labels)) else {
            faults.push(format!("{labels}: {there} there, absent here"));
            continue;
        };
        let of = |name: &str| {
            let mut pairs: Vec<(&str, &str)> = labels.iter().filter(|pair| pair.0 != "__name__").collect();
            pairs.push(("__name__", name));
            theirs.samples.get(&Labels::from_pairs(pairs)).copied().unwrap_or(0.0)
        };
        // What is counted lies between two looks; the kernel takes back a little of a processor's idle and waiting times.
        // Levels may go somewhere else and come back.
        let slack = match name {
            "node_cpu_seconds_total" => 1.0,
            "node_boot_time_seconds" => 1.0,
            _ if name.starts_with("node_memory_") => of("node_memory_MemTotal_bytes") / 10.0,
            "node_filesystem_avail_bytes" | "node_filesystem_free_bytes" => of("node_filesystem_size_bytes") / 10.0,
            "node_filesystem_files_free" => of("node_filesystem_files") / 10.0,
            _ => 0.0,
        };
        compared += 1;
        if *there < before.min(after) - slack || *there > before.max(after) + slack {
            faults.push(format!("{labels}: {there} there, {before} before, {after} after"));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(compared > 100, "only {compared} values compared");
}

fn node_exporter() -> Result<PathBuf, String> {
    let file = std::env::var("KYMO_PEERS").map_err(|_| "KYMO_PEERS names no table of peers".to_owned())?;
    let text = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    let table: serde_json::Value = serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))?;
    let entry = &table["prometheus-node-exporter"];
    match entry["path"].as_str() {
        Some(path) => Ok(PathBuf::from(path)),
        None => Err(format!("no node_exporter: {}", entry["missing"].as_str().unwrap_or("not in the table"))),
    }
}

fn skip(test: &str, reason: &str) {
    println!("SKIPPED {test}: {reason}");
    if let Ok(log) = std::env::var("KYMO_SKIP_LOG") {
        let mut log = OpenOptions::new().create(true).append(true).open(log).unwrap();
        writeln!(log, "{test}: {reason}").unwrap();
    }
}

/// A child that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `/metrics` of a program that may just be starting.
fn page(port: u16) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "node_exporter does not listen: {error}"),
        }
        std::thread::yield_now();
    };
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{head}");
    body.to_owned()
}

/// A port that was free a moment ago; node_exporter does not tell which one it picked by itself.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
