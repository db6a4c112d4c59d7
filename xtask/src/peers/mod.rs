//! `peers`: unpacks the reference servers that tests and benches compare with, installing nothing.
//!
//! Each comes from the newest suite Debian has, as the stable ones are years behind. A binary that does not start on
//! this machine's own libraries is started through a launcher with the libraries of its suite, the C library and its
//! loader included; when that fails too, the suite this machine was installed from is tried.
//!
//! `peers.json` beside them maps a name to `{"path", "version"}`, or to `{"missing"}` with the reason.

mod apt;
pub(crate) mod node;
pub(crate) mod python;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use self::apt::{Apt, Mirror};
use crate::process;
use crate::workspace::Workspace;

const NEWEST_SUITE: &str = "sid";

struct Peer {
    /// Name of the binary in `/usr/bin`, and of the package that is asked for its version.
    name: &'static str,
    /// Packages that hold the binary.
    packages: &'static [&'static str],
}

const PEERS: [Peer; 6] = [
    Peer { name: "prometheus", packages: &["prometheus"] },
    Peer { name: "promtool", packages: &["promtool"] },
    Peer { name: "prometheus-alertmanager", packages: &["prometheus-alertmanager"] },
    Peer { name: "victoria-metrics", packages: &["victoria-metrics"] },
    Peer { name: "prometheus-node-exporter", packages: &["prometheus-node-exporter"] },
    // The server is a link to a program of the tools package.
    Peer { name: "redis-server", packages: &["redis-server", "redis-tools"] },
];

/// What can be had of one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    Unpacked { path: PathBuf, version: String },
    Missing { reason: String },
}

/// Every peer with what was found of it.
#[derive(Debug)]
pub(crate) struct Peers(BTreeMap<&'static str, Found>);

impl Peers {
    pub(crate) fn is_complete(&self) -> bool {
        self.0.values().all(|found| matches!(found, Found::Unpacked { .. }))
    }

    /// Peers of an earlier run whose binaries are still there; the rest count as missing.
    fn load(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap_or_default();
        let known: Value = serde_json::from_str(&text).unwrap_or_default();
        let found = |name: &str| {
            let entry = &known[name];
            match (entry["path"].as_str(), entry["version"].as_str()) {
                (Some(path), Some(version)) if Path::new(path).is_file() => {
                    Found::Unpacked { path: path.into(), version: version.to_owned() }
                }
                _ => Found::Missing { reason: "not unpacked yet".to_owned() },
            }
        };
        Self(PEERS.iter().map(|peer| (peer.name, found(peer.name))).collect())
    }

    fn save(&self, file: &Path) -> Result<()> {
        let entries: serde_json::Map<String, Value> = self
            .0
            .iter()
            .map(|(name, found)| {
                let entry = match found {
                    Found::Unpacked { path, version } => {
                        json!({ "path": path, "version": version })
                    }
                    Found::Missing { reason } => json!({ "missing": reason }),
                };
                ((*name).to_owned(), entry)
            })
            .collect();
        let text = serde_json::to_string_pretty(&entries)? + "\n";
        let partial = file.with_extension("json.partial");
        fs::write(&partial, text).with_context(|| format!("cannot write {}", partial.display()))?;
        fs::rename(&partial, file).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Prints what was found, and what is missing once per reason.
    fn print(&self) {
        let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, found) in &self.0 {
            match found {
                Found::Unpacked { path, version } => println!("peers: {name} {version}: {}", path.display()),
                Found::Missing { reason } => missing.entry(reason).or_default().push(name),
            }
        }
        for (reason, names) in missing {
            println!("peers: missing: {}: {reason}", names.join(", "));
        }
    }
}

pub(crate) fn default_dir(workspace: &Workspace) -> PathBuf {
    workspace.root.join("target/peers")
}

/// The table that tests read.
pub(crate) fn table(dir: &Path) -> PathBuf {
    dir.join("peers.json")
}

/// Unpacks into `dir` what is not there yet. A peer that cannot be had is a missing entry, not an error.
pub(crate) fn unpack_all(dir: &Path) -> Result<Peers> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let dir = &dir.canonicalize()?;
    let lock = fs::File::create(dir.join("lock")).with_context(|| format!("cannot lock {}", dir.display()))?;
    lock.lock().with_context(|| format!("cannot lock {}", dir.display()))?;

    let mut peers = Peers::load(&table(dir));
    if !peers.is_complete() {
        let mut suites = Mirror::of_this_machine().and_then(|mirror| Suites::new(dir, mirror));
        for peer in &PEERS {
            if let Some(found @ Found::Missing { .. }) = peers.0.get_mut(peer.name) {
                *found = match &mut suites {
                    Ok(suites) => suites.find(peer),
                    Err(error) => Found::Missing { reason: format!("{error:#}") },
                };
            }
        }
        peers.save(&table(dir))?;
        // The lists are large and of no further use.
        let state = dir.join("apt");
        if peers.is_complete() && state.exists() {
            fs::remove_dir_all(state)?;
        }
    }
    peers.print();
    Ok(peers)
}

/// The suites that peers are taken from, best first, each opened when it is first needed.
struct Suites<'a> {
    dir: &'a Path,
    mirror: Mirror,
    /// Suite, and its package lists or why they cannot be had.
    opened: Vec<(String, Option<Result<Apt, String>>)>,
}

impl<'a> Suites<'a> {
    fn new(dir: &'a Path, mirror: Mirror) -> Result<Self> {
        for program in ["apt-get", "apt-cache", "apt-config", "dpkg-deb"] {
            if !process::is_installed(program) {
                bail!("this machine has no {program}");
            }
        }
        let mut names = vec![NEWEST_SUITE.to_owned()];
        if mirror.suite != NEWEST_SUITE {
            names.push(mirror.suite.clone());
        }
        Ok(Self { dir, mirror, opened: names.into_iter().map(|name| (name, None)).collect() })
    }

    fn find(&mut self, peer: &Peer) -> Found {
        let started = Instant::now();
        println!("peers: unpacking {}", peer.name);
        let mut reasons = Vec::new();
        for (suite, apt) in &mut self.opened {
            let state = self.dir.join("apt").join(&*suite);
            let apt = apt
                .get_or_insert_with(|| Apt::update(&state, &self.mirror, suite).map_err(|error| format!("{error:#}")));
            let unpacked = match apt {
                Ok(apt) => unpack(apt, self.dir, suite, peer),
                Err(reason) => Err(anyhow!("{reason}")),
            };
            match unpacked {
                Ok((path, version)) => {
                    println!("peers: {} {version} from {suite} in {:.1} s", peer.name, started.elapsed().as_secs_f64());
                    return Found::Unpacked { path, version };
                }
                Err(error) => reasons.push(format!("{suite}: {error:#}")),
            }
        }
        Found::Missing { reason: reasons.join("; ") }
    }
}

/// Unpacks one peer from one suite and makes sure that it starts.
fn unpack(apt: &Apt, dir: &Path, suite: &str, peer: &Peer) -> Result<(PathBuf, String)> {
    let version = apt.record(peer.name)?.version;
    let root = dir.join("root").join(suite);
    for package in peer.packages {
        apt.unpack(package, &root)?;
    }
    let program = root.join("usr/bin").join(peer.name);
    if starts(&program).is_ok() {
        return Ok((program, version));
    }
    for library in libraries(apt, peer)? {
        apt.unpack(&library, &root)?;
    }
    let launcher = dir.join("bin").join(peer.name);
    write_launcher(&launcher, &root, &program)?;
    starts(&launcher)?;
    Ok((launcher, version))
}

fn starts(program: &Path) -> Result<String> {
    process::stdout(Command::new(program).arg("--version"))
}

/// The libraries a peer needs, and those they need.
fn libraries(apt: &Apt, peer: &Peer) -> Result<BTreeSet<String>> {
    let mut libraries = BTreeSet::new();
    let mut waiting: Vec<String> = Vec::new();
    for package in peer.packages {
        waiting.extend(apt.record(package)?.depends);
    }
    let mut seen = BTreeSet::new();
    while let Some(package) = waiting.pop() {
        if !seen.insert(package.clone()) {
            continue;
        }
        // A name without a record is virtual; what provides it is either among the others or not a library.
        let Ok(record) = apt.record(&package) else {
            continue;
        };
        if record.is_library {
            waiting.extend(record.depends);
            libraries.insert(package);
        }
    }
    Ok(libraries)
}

/// Writes a program that starts `program` on the C library, loader and libraries below `root`.
///
/// The loader is named outright, since the one of the machine refuses a C library that is not its own.
fn write_launcher(launcher: &Path, root: &Path, program: &Path) -> Result<()> {
    let folder = library_folder(root)?;
    let loader = fs::read_dir(&folder)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux")))
        .with_context(|| format!("{} holds no loader", folder.display()))?;
    let text = format!(
        "#!/bin/sh\nexec '{}' --library-path '{}' '{}' \"$@\"\n",
        loader.display(),
        folder.display(),
        program.display()
    );
    if let Some(parent) = launcher.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(launcher, text)?;
    fs::set_permissions(launcher, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// `root/usr/lib/<architecture>-linux-gnu`.
fn library_folder(root: &Path) -> Result<PathBuf> {
    let folders =
        fs::read_dir(root.join("usr/lib")).with_context(|| format!("{} holds no libraries", root.display()))?;
    folders
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.join("libc.so.6").exists())
        .with_context(|| format!("{} holds no C library", root.display()))
}
