//! `file_sd_configs`: targets in JSON and YAML files, read again when they change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kymo_core::config::ConfigDuration;
use serde::{Deserialize, Serialize};

use super::{DiscoveryError, Group, TargetGroup};
use crate::scrape::error::chain;

/// How often files are looked at. A look is one `stat` for each, so this is more often than Prometheus'
/// `refresh_interval`, beside which it is told of changes by the system.
pub(super) const POLL: Duration = Duration::from_secs(5);
/// A list of targets larger than this is refused.
const FILE_BYTES_MAX: u64 = 64 << 20;
const ENDINGS: [&str; 6] = ["json", "yml", "yaml", "JSON", "YML", "YAML"];

/// One of `file_sd_configs`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct FileSdConfig {
    /// Files with groups of targets, ending in `.json`, `.yml` or `.yaml`; the last part of a path may hold `*`.
    pub files: Vec<String>,
    /// Accepted as in Prometheus; files are looked at every five seconds in any case. Default `5s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_interval: Option<ConfigDuration>,
}

/// Whether Prometheus takes this as a path: a star only in the last part, a known ending.
pub(super) fn is_pattern(pattern: &str) -> bool {
    let known = pattern.rsplit_once('.').is_some_and(|(stem, ending)| !stem.is_empty() && ENDINGS.contains(&ending));
    known && pattern.find('*').is_none_or(|star| !pattern[star..].contains('/'))
}

/// What tells a changed file from one that did not.
type Stamp = (Option<SystemTime>, u64);

#[derive(Debug)]
pub(super) struct Files {
    config: FileSdConfig,
    /// By path: the stamp it was read at, and what it said when it last could be read.
    known: BTreeMap<PathBuf, (Stamp, Vec<Group>)>,
    started: bool,
}

impl Files {
    pub(super) fn new(config: FileSdConfig) -> Files {
        Files { config, known: BTreeMap::new(), started: false }
    }

    /// Reads what changed. A file that cannot be read keeps its targets; one that is gone loses them.
    pub(super) fn refresh(&mut self) -> Result<Option<Vec<Group>>, DiscoveryError> {
        let mut changed = !self.started;
        let mut failed = None;
        let mut paths = Vec::new();
        for pattern in &self.config.files {
            paths.extend(matching(Path::new(pattern)));
        }
        let before = self.known.len();
        self.known.retain(|path, _| paths.contains(path));
        changed |= self.known.len() != before;
        for path in paths {
            let stamp = std::fs::metadata(&path).map(|meta| (meta.modified().ok(), meta.len())).unwrap_or_default();
            if self.known.get(&path).is_some_and(|(known, _)| *known == stamp) {
                continue;
            }
            match read(&path) {
                Ok(groups) => {
                    self.known.insert(path, (stamp, groups));
                    changed = true;
                }
                Err(error) => {
                    // Told once for each change, and what it said before stays.
                    self.known.entry(path).or_default().0 = stamp;
                    failed = Some(error);
                }
            }
        }
        match failed {
            Some(error) if !changed => Err(error),
            failed => {
                if let Some(error) = failed {
                    tracing::warn!(error = chain(&error), "a file of scrape targets cannot be used");
                }
                self.started = true;
                let groups = || self.known.values().flat_map(|(_, groups)| groups.iter().cloned()).collect();
                Ok(changed.then(groups))
            }
        }
    }
}

fn read(path: &Path) -> Result<Vec<Group>, DiscoveryError> {
    let unreadable = |source| DiscoveryError::Read { path: path.to_owned(), source };
    let bad = |reason: String| DiscoveryError::Content { path: path.to_owned(), reason };
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(bad(format!("larger than {FILE_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let json = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    let listed: Option<Vec<TargetGroup>> = match json {
        true => serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?,
        false => serde_saphyr::from_str(&text).map_err(|error| bad(error.to_string()))?,
    };
    let meta = path.to_string_lossy();
    Ok(listed.unwrap_or_default().iter().map(|group| Group::of(group, &[("__meta_filepath", &meta)])).collect())
}

/// Files that a pattern names, sorted.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !name.contains('*') {
        return if pattern.is_file() { vec![pattern.to_owned()] } else { Vec::new() };
    }
    let directory = pattern.parent().filter(|directory| !directory.as_os_str().is_empty());
    let entries = std::fs::read_dir(directory.unwrap_or(Path::new("."))).into_iter().flatten().flatten();
    let fits = |entry: &std::fs::DirEntry| entry.file_name().to_str().is_some_and(|file| matches_star(name, file));
    let mut paths: Vec<PathBuf> = entries
        .filter(fits)
        .map(|entry| directory.map_or_else(|| entry.file_name().into(), |at| at.join(entry.file_name())))
        .collect();
    paths.sort();
    paths
}

/// Whether `name` is `pattern` with each `*` standing for any text.
pub(super) fn matches_star(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    let mut whole = parts.peek().is_none() && rest.is_empty();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            whole = rest.ends_with(part);
        } else {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
    }
    whole
}
