//! The page `docs/configuration.md`: prose (`page.md`), and a table of keys per section (`rows.rs`).
//!
//! Which keys there are is asked of the structs that read them (`keys_of`). A key without a row is one that is read
//! and not acted on; that this is so, and that each row has its key, is held by the tests of the program.

mod keys;
mod rows;

use std::fmt::Write as _;

use kymo_core::config::{Authorization, BasicAuth, HeaderValues, RelabelFields, TlsConfig};
use kymo_ingest::otlp::OtlpConfig;
use kymo_ingest::scrape::{DnsSdConfig, FileSdConfig, HttpSdConfig, ScrapeConfig, TargetGroup};

use super::file::{ConfigFile, Global, KymoSection, OtlpListeners};
use keys::keys_of;

/// A key that is acted on.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub key: &'static str,
    /// What may be written there.
    pub kind: &'static str,
    /// What holds without it; empty if nothing does.
    pub default: &'static str,
    pub meaning: &'static str,
}

/// The keys of one struct.
#[derive(Debug)]
pub struct Section {
    /// As in the file, or what the page calls it.
    pub name: &'static str,
    /// Keys that are acted on. Those of a struct that is a part of another are rows of that part alone.
    pub rows: &'static [Row],
    /// Every key that is read, in the order of the struct.
    pub keys: Vec<String>,
}

impl Section {
    fn new(name: &'static str, rows: &'static [Row], keys: &[&str]) -> Section {
        Section { name, rows, keys: keys.iter().map(|key| (*key).to_owned()).collect() }
    }

    fn without(mut self, parts: &[Row]) -> Section {
        self.keys.retain(|key| parts.iter().all(|part| part.key != key));
        self
    }

    /// Keys that are read and not acted on.
    pub fn unserved(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(String::as_str).filter(|key| self.rows.iter().all(|row| row.key != *key))
    }
}

/// All sections, in the order of the page.
pub fn sections() -> Vec<Section> {
    let mut file = Section::new("file", &[], keys_of::<ConfigFile>());
    file.keys.retain(|key| !["global", "scrape_configs", "otlp", "kymo"].contains(&key.as_str()));
    let mut kymo = Section::new("kymo", rows::KYMO, keys_of::<KymoSection>());
    kymo.keys.retain(|key| key != "otlp");
    kymo.keys.extend(keys_of::<OtlpListeners>().iter().map(|key| format!("otlp.{key}")));
    // The settings of the HTTP client are spelled out in both structs that have them.
    let mut http = Section::new("http", rows::HTTP, keys_of::<HttpSdConfig>());
    http.keys.retain(|key| rows::HTTP_SD.iter().all(|own| own.key != key));
    vec![
        file,
        kymo,
        Section::new("global", rows::GLOBAL, keys_of::<Global>()),
        Section::new("scrape_configs", rows::SCRAPE, keys_of::<ScrapeConfig>()).without(rows::HTTP),
        Section::new("static_configs", rows::STATIC, keys_of::<TargetGroup>()),
        Section::new("file_sd_configs", rows::FILE_SD, keys_of::<FileSdConfig>()),
        Section::new("http_sd_configs", rows::HTTP_SD, keys_of::<HttpSdConfig>()).without(rows::HTTP),
        Section::new("dns_sd_configs", rows::DNS_SD, keys_of::<DnsSdConfig>()),
        Section::new("relabel_configs", rows::RELABEL, keys_of::<RelabelFields>()),
        http,
        Section::new("basic_auth", rows::BASIC_AUTH, keys_of::<BasicAuth>()),
        Section::new("authorization", rows::AUTHORIZATION, keys_of::<Authorization>()),
        Section::new("tls_config", rows::TLS, keys_of::<TlsConfig>()),
        Section::new("http_headers", rows::HEADERS, keys_of::<HeaderValues>()),
        Section::new("otlp", rows::OTLP, keys_of::<OtlpConfig>()),
    ]
}

/// The page without its head, in Markdown.
pub fn page() -> String {
    sections().iter().fold(include_str!("page.md").to_owned(), |page, section| {
        let unserved: Vec<String> = section.unserved().map(|key| format!("`{key}`")).collect();
        page.replace(&format!("{{{{rows {}}}}}", section.name), table(section.rows).trim_end())
            .replace(&format!("{{{{unserved {}}}}}", section.name), &unserved.join(", "))
    })
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from("| Key | Value | Default | Meaning |\n|---|---|---|---|\n");
    for Row { key, kind, default, meaning } in rows {
        // A value, unless it is told in words.
        let is_value = !default.is_empty() && !default.contains(' ');
        let default = if is_value { format!("`{default}`") } else { (*default).to_owned() };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{key}` | {kind} | {default} | {meaning} |");
    }
    text
}
