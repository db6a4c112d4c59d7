//! What a server says on standard output when it is ready.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use kymo::config::{Collect, StateBackend};
use kymo_core::text::{DurationText, write_size_rounded};
use kymo_storage::{OpenReport, SyncPolicy};

use super::engine;
use super::listeners::Addresses;
use super::plan::Plan;
use crate::failure::Failure;
use crate::output;

pub(super) fn print(
    plan: &Plan,
    addresses: Addresses,
    report: &OpenReport,
    before: Option<String>,
) -> Result<(), Failure> {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name:<11} {value}");
    };
    let url = url_of(addresses.http);
    line("listening", &url);
    if let Some(address) = addresses.otlp_grpc {
        line("otlp grpc", &url_of(address));
    }
    if let Some(address) = addresses.otlp_http {
        line("otlp http", &format!("{}/v1/metrics", url_of(address)));
    }
    if let Some(address) = addresses.metrics {
        line("metrics", &url_of(address));
    }
    if plan.collect != Collect::default() {
        line("collecting", &plan.collect.to_string());
    }
    if let Some(config) = &plan.config {
        line("config", &format!("{}: {} scrape jobs", config.path.display(), config.jobs.len()));
    }
    line("data", &path(&plan.data_dir));
    line("kept", &kept(plan));
    line("memory", &memory(plan));
    line("sync", &format!("{}: {}", plan.sync, risk(plan.sync)));
    for found in engine::found(report) {
        line("replay", &found);
    }
    if let Some(before) = before {
        line("before", &before);
    }
    if let Some(redis) = plan.state.redis.as_ref().filter(|_| plan.state.backend == StateBackend::Redis) {
        line("state", &redis.url);
    }
    line("auth", if plan.tokens.is_open() { "none" } else { "bearer token" });
    for missing in &plan.not_served {
        line("not served", missing);
    }
    let server = if url == "http://127.0.0.1:9911" { String::new() } else { format!(" --server {url}") };
    let token = if plan.tokens.is_open() { "" } else { " --auth-token-file FILE" };
    line("write to", &format!("{url}/api/v1/write (remote_write of Prometheus)"));
    let expression = match plan.collect.host {
        true => "sum by (mode) (rate(node_cpu_seconds_total[30s]))",
        false => "count({__name__!=\"\"})",
    };
    line("try", &format!("kymo query '{expression}'{server}{token}"));
    output::print(&format!("Kymo {} is ready\n{text}", env!("CARGO_PKG_VERSION")))?;
    if let Some(address) = plan.open_to_the_network() {
        anstream::eprintln!(
            "\x1b[1;33mWARNING\x1b[0m: {address} can be reached from other machines and asks for no token: anyone there \
             can read and write.\n         Listen on 127.0.0.1, or give --auth-token-file FILE."
        );
        tracing::warn!(%address, "the listener can be reached from other machines and asks for no token");
    }
    Ok(())
}

/// An address that a client on this machine can use: "any" is none.
fn url_of(address: SocketAddr) -> String {
    let mut local = address;
    if address.ip().is_unspecified() {
        local.set_ip(match address.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    format!("http://{local}")
}

fn path(path: &Path) -> String {
    path.canonicalize().unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn kept(plan: &Plan) -> String {
    let kept = match plan.retention.raw {
        Some(age) => DurationText(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)).to_string(),
        None => "for ever".to_owned(),
    };
    match plan.retention.rules.len() {
        0 => kept,
        1 => format!("{kept}, otherwise by one rule"),
        rules => format!("{kept}, otherwise by {rules} rules"),
    }
}

fn memory(plan: &Plan) -> String {
    let mut text = String::from("at most ");
    write_size_rounded(&mut text, plan.memory_limit.bytes);
    format!("{text} ({})", plan.memory_limit.reason)
}

/// What power loss can cost. A kill of the process costs nothing under any policy.
fn risk(sync: SyncPolicy) -> &'static str {
    match sync {
        SyncPolicy::Always => "power loss costs nothing that was acknowledged",
        SyncPolicy::Interval => "power loss can cost the last second of what was acknowledged",
        SyncPolicy::Never => "power loss can cost whatever the system had not written yet",
    }
}
