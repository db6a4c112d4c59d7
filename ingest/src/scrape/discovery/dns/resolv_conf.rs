//! `resolv.conf`: which name servers there are and which names stand for a short one.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

// Limits and defaults of resolv.conf(5).
const SERVERS_MAX: usize = 3;
const NDOTS_MAX: usize = 15;
const TIMEOUT_SECONDS: u64 = 5;
const TIMEOUT_SECONDS_MAX: u64 = 30;
const ATTEMPTS: usize = 2;
const ATTEMPTS_MAX: usize = 5;
/// Domains of a search list; each may cost a round of questions per lookup.
const SEARCH_MAX: usize = 32;

/// The resolver's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResolvConf {
    /// Name servers; this host's if none is named.
    pub(super) servers: Vec<IpAddr>,
    /// Domains that are appended to short names.
    pub(super) search: Vec<String>,
    /// A name with at least this many dots is tried as it is first.
    pub(super) ndots: usize,
    /// How long a server has to answer.
    pub(super) timeout: Duration,
    /// How often all servers are asked.
    pub(super) attempts: usize,
}

impl ResolvConf {
    /// Reads settings. Lines and values that say nothing known are passed over, as by the system's own resolver.
    pub(super) fn read(text: &str) -> ResolvConf {
        let mut conf = ResolvConf {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(TIMEOUT_SECONDS),
            attempts: ATTEMPTS,
        };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") if conf.servers.len() < SERVERS_MAX => {
                    conf.servers.extend(words.next().and_then(|address| address.parse::<IpAddr>().ok()));
                }
                Some("domain") => conf.search = words.take(1).map(str::to_owned).collect(),
                Some("search") => conf.search = words.take(SEARCH_MAX).map(str::to_owned).collect(),
                Some("options") => words.for_each(|option| conf.option(option)),
                _ => {}
            }
        }
        if conf.servers.is_empty() {
            conf.servers.push(Ipv4Addr::LOCALHOST.into());
        }
        conf
    }

    fn option(&mut self, option: &str) {
        let Some((name, value)) = option.split_once(':') else { return };
        let Ok(value) = value.parse::<u32>() else { return };
        let count = value as usize;
        match name {
            "ndots" => self.ndots = count.min(NDOTS_MAX),
            "timeout" => self.timeout = Duration::from_secs(u64::from(value).clamp(1, TIMEOUT_SECONDS_MAX)),
            "attempts" => self.attempts = count.clamp(1, ATTEMPTS_MAX),
            _ => {}
        }
    }

    /// The rooted names that `name` may stand for, in the order in which they are tried.
    pub(super) fn names(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let searched = self.search.iter().map(|domain| match domain.trim_end_matches('.') {
            "" => format!("{name}."),
            domain => format!("{name}.{domain}."),
        });
        let mut names: Vec<String> = searched.collect();
        let first = name.matches('.').count() >= self.ndots;
        names.insert(if first { 0 } else { names.len() }, format!("{name}."));
        names
    }
}
