//! Reading one suite of the machine's own Debian mirror through a private apt state.
//!
//! The mirror and the keyring come from the machine's apt sources; lists, caches and locks lie in a folder of ours, so
//! nothing of the system is changed and root is not needed. The machine's `Acquire` settings (proxies, clock checks)
//! are taken over; its hooks are not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One entry of the machine's apt sources that serves Debian itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirror {
    uri: String,
    keyring: PathBuf,
    /// Suite this machine was installed from, such as a code name.
    pub(crate) suite: String,
}

impl Mirror {
    /// The first Debian entry of the machine's sources.
    pub(crate) fn of_this_machine() -> Result<Self> {
        let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
        if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
            files.extend(entries.flatten().map(|entry| entry.path()));
        }
        files.sort();
        for file in files {
            let Ok(text) = fs::read_to_string(&file) else {
                continue;
            };
            let found = match file.extension().and_then(|extension| extension.to_str()) {
                Some("sources") => Self::in_deb822(&text),
                Some("list") => Self::in_one_line_form(&text),
                _ => None,
            };
            if let Some(mirror) = found {
                return Ok(mirror);
            }
        }
        bail!("the apt sources of this machine name no Debian mirror")
    }

    /// The stanza form of `*.sources` files: fields, continued by indented lines, stanzas divided by empty lines.
    fn in_deb822(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        lines.split(|line| line.trim().is_empty()).find_map(|stanza| {
            let field = |name: &str| {
                stanza.iter().find_map(|line| {
                    let (key, value) = line.split_once(':')?;
                    key.eq_ignore_ascii_case(name).then(|| value.trim())
                })
            };
            if field("Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"))
                || !field("Types")?.split_whitespace().any(|kind| kind == "deb")
            {
                return None;
            }
            let uri = field("URIs")?.split_whitespace().find(|uri| serves_debian(uri))?;
            Self::new(uri, field("Suites")?.split_whitespace().next()?, field("Signed-By"))
        })
    }

    /// The form of `*.list` files: `deb [options] URI SUITE COMPONENT...`.
    fn in_one_line_form(text: &str) -> Option<Self> {
        text.lines().find_map(|line| {
            let rest = line.trim().strip_prefix("deb")?;
            let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
            let (options, rest) = match rest.strip_prefix('[') {
                Some(rest) => rest.split_once(']')?,
                None => ("", rest),
            };
            let mut words = rest.split_whitespace();
            let uri = words.next().filter(|uri| serves_debian(uri))?;
            let keyring = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
            Self::new(uri, words.next()?, keyring)
        })
    }

    /// A keyring written into the source itself, or none, means the one Debian installs.
    fn new(uri: &str, suite: &str, keyring: Option<&str>) -> Option<Self> {
        let keyring = keyring.filter(|path| path.starts_with('/')).unwrap_or(DEBIAN_KEYRING);
        Some(Self { uri: uri.to_owned(), keyring: PathBuf::from(keyring), suite: suite.to_owned() })
    }
}

/// A mirror of Debian proper ends in `/debian`; the security archive and other vendors' archives do not.
fn serves_debian(uri: &str) -> bool {
    uri.trim_end_matches('/').ends_with("/debian")
}

/// What the archive says about a package.
pub(crate) struct Record {
    /// Version of the packaged program, without Debian's epoch and revision.
    pub(crate) version: String,
    /// Names it depends on, the first of each group of alternatives.
    pub(crate) depends: Vec<String>,
    pub(crate) is_library: bool,
}

/// A private apt state over one suite.
pub(crate) struct Apt {
    config: PathBuf,
    packages: PathBuf,
}

impl Apt {
    /// Sets up the state in `dir` and downloads the suite's package lists.
    pub(crate) fn update(dir: &Path, mirror: &Mirror, suite: &str) -> Result<Self> {
        let packages = dir.join("packages");
        for folder in ["lists/partial", "cache/archives/partial", "packages"] {
            fs::create_dir_all(dir.join(folder)).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        let (sources, status) = (dir.join("sources.list"), dir.join("status"));
        let line = format!("deb [signed-by={}] {} {suite} main\n", mirror.keyring.display(), mirror.uri);
        fs::write(&sources, line)?;
        fs::write(&status, "")?;

        let mut text = String::from(
            "Dir::Etc::Parts \"/dev/null\";\nDir::Etc::main \"/dev/null\";\nDir::Etc::SourceParts \"/dev/null\";\n\
             APT::Sandbox::User \"\";\nAPT::Update::Error-Mode \"any\";\nAcquire::Languages \"none\";\n\
             Acquire::Retries \"1\";\nAcquire::http::Timeout \"20\";\nAcquire::https::Timeout \"20\";\n",
        );
        for (key, path) in [
            ("Etc::SourceList", &sources),
            ("State::status", &status),
            ("State", &dir.into()),
            ("Cache", &dir.join("cache")),
        ] {
            text.push_str(&format!("Dir::{key} \"{}\";\n", path.display()));
        }
        text.push_str(&machine_acquire_settings()?);
        let config = dir.join("apt.conf");
        fs::write(&config, text)?;

        let apt = Self { config, packages };
        process::stdout(apt.command("apt-get").args(["--quiet", "update"]))
            .with_context(|| format!("no package lists of suite {suite}"))?;
        Ok(apt)
    }

    pub(crate) fn record(&self, package: &str) -> Result<Record> {
        let text = process::stdout(self.command("apt-cache").args(["show", "--no-all-versions", package]))?;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let version = field("Version").with_context(|| format!("package {package} has no version"))?;
        let depends = [field("Pre-Depends"), field("Depends")]
            .into_iter()
            .flatten()
            .flat_map(|list| list.split(','))
            .filter_map(|group| group.split(['|', '(']).next())
            .map(|name| name.trim().split(':').next().unwrap_or_default().to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        Ok(Record {
            version: upstream_version(version).to_owned(),
            depends,
            is_library: field("Section").is_some_and(|section| section == "libs"),
        })
    }

    /// Downloads `package` and unpacks its files below `root`.
    pub(crate) fn unpack(&self, package: &str, root: &Path) -> Result<()> {
        fs::create_dir_all(root).with_context(|| format!("cannot create {}", root.display()))?;
        let folder = self.packages.join(package);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        process::stdout(self.command("apt-get").current_dir(&folder).args(["--quiet", "download", package]))?;
        let archive = fs::read_dir(&folder)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .with_context(|| format!("apt-get downloaded no archive of {package}"))?;
        process::stdout(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(root))?;
        fs::remove_dir_all(&folder)?;
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.config).env("LC_ALL", "C");
        command
    }
}

/// The scalar `Acquire` settings of this machine, as configuration text.
fn machine_acquire_settings() -> Result<String> {
    const OWN: [&str; 5] = ["IndexTargets", "Changelogs", "CompressionTypes", "Languages", "cdrom"];
    let dump = process::stdout(Command::new("apt-config").arg("dump"))?;
    Ok(dump
        .lines()
        .filter(|line| {
            line.strip_prefix("Acquire::")
                .is_some_and(|rest| !rest.ends_with(" \"\";") && !OWN.iter().any(|section| rest.starts_with(section)))
        })
        .flat_map(|line| [line, "\n"])
        .collect())
}

/// `5:8.0.6+ds1-3` → `8.0.6`.
fn upstream_version(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    version.split(['+', '-', '~']).next().unwrap_or(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIRROR: &str = "http://mirror.test/debian";

    fn mirror(keyring: &str) -> Option<Mirror> {
        Mirror::new(MIRROR, "stable", Some(keyring))
    }

    #[test]
    fn the_stanza_form_gives_the_first_enabled_debian_mirror() {
        let text = format!(
            "# comment\nTypes: deb\nURIs: http://mirror.test/debian-security\nSuites: stable-security\n\n\
             Enabled: no\nTypes: deb\nURIs: http://off.test/debian\nSuites: stable\n\n\
             Types: deb deb-src\nURIs: {MIRROR}/\nSuites: stable stable-updates\nComponents: main\nSigned-By: /k.gpg\n"
        );
        let expected = Mirror::new(&format!("{MIRROR}/"), "stable", Some("/k.gpg"));
        assert_eq!(Mirror::in_deb822(&text), expected);
    }

    #[test]
    fn the_one_line_form_gives_uri_suite_and_keyring() {
        for (text, expected) in [
            (format!("deb {MIRROR} stable main contrib"), mirror(DEBIAN_KEYRING)),
            (
                format!("# deb http://no.test/debian x main\n deb\t[arch=amd64 signed-by=/k.gpg] {MIRROR} stable main"),
                mirror("/k.gpg"),
            ),
            (format!("deb-src {MIRROR} stable main"), None),
            ("deb http://vendor.test/apt stable main".to_owned(), None),
        ] {
            assert_eq!(Mirror::in_one_line_form(&text), expected, "{text}");
        }
    }

    #[test]
    fn the_packaged_version_is_shown_without_epoch_and_revision() {
        for (debian, upstream) in
            [("3.5.3+ds1-6", "3.5.3"), ("5:8.0.6-3", "8.0.6"), ("1.11.1", "1.11.1"), ("2.0~rc1-1", "2.0")]
        {
            assert_eq!(upstream_version(debian), upstream);
        }
    }
}
