//! The flags of `kymo serve`, as given. What a flag leaves open the configuration file may say (`config::KymoSection`).

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use kymo_core::text::{DurationText, parse_duration_ms, parse_size, write_size};
use kymo_storage::SyncPolicy;

/// Run the server: scraping, OTLP and remote write in, PromQL out, everything kept on disk
#[derive(Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "\
Examples:
  kymo serve
  kymo serve --config prometheus.yml
  kymo serve --data-dir /var/lib/kymo --retention 90d --memory-limit 2GiB
  kymo serve --listen 0.0.0.0:9911 --auth-token-file token
  kymo serve --listen 127.0.0.1:0 --ports-file ports.json

SIGTERM and SIGINT finish requests in flight, flush, and end with status 0; a second one leaves at once with 128 + signal.
Nothing acknowledged is lost either way. SIGHUP reads the configuration file again; a bad one keeps the old one in force."
)]
pub(crate) struct ServeArgs {
    /// Configuration file: scrape jobs as in Prometheus, settings of the server in its section kymo
    #[arg(long, env = "KYMO_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Where the data lives; created when missing [default: ./kymo-data]
    #[arg(long, env = "KYMO_DATA_DIR", hide_env_values = true, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// Address of the HTTP listener; port 0 picks a free one [default: 127.0.0.1:9911]
    #[arg(long, env = "KYMO_LISTEN", hide_env_values = true, value_name = "ADDRESS", value_parser = address)]
    pub(super) listen: Option<SocketAddr>,
    /// Address for OTLP over gRPC, or off [default: 127.0.0.1:4317]
    #[arg(long, env = "KYMO_OTLP_GRPC", hide_env_values = true, value_name = "ADDRESS|off")]
    pub(super) otlp_grpc: Option<AddressOrOff>,
    /// Address for OTLP over HTTP, or off [default: 127.0.0.1:4318]
    #[arg(long, env = "KYMO_OTLP_HTTP", hide_env_values = true, value_name = "ADDRESS|off")]
    pub(super) otlp_http: Option<AddressOrOff>,
    /// What to watch without being told where [default: host,self; with a configuration file what it says]
    #[arg(long, env = "KYMO_COLLECT", hide_env_values = true, value_name = "host,self|none")]
    pub(super) collect: Option<Collect>,
    /// Allow deleting series and taking snapshots over HTTP (not served yet)
    #[arg(long, env = "KYMO_ENABLE_ADMIN_API", hide_env_values = true, value_parser = BoolishValueParser::new())]
    pub(super) enable_admin_api: bool,
    /// Allow reloading (POST /-/reload) and stopping (POST /-/quit) over HTTP
    #[arg(long, env = "KYMO_ENABLE_LIFECYCLE", hide_env_values = true, value_parser = BoolishValueParser::new())]
    pub(super) enable_lifecycle: bool,
    /// How long samples are kept, as a Prometheus duration; 0 keeps them for ever [default: 30d]
    #[arg(long, env = "KYMO_RETENTION", hide_env_values = true, value_name = "DURATION")]
    pub(super) retention: Option<Retention>,
    /// Memory for everything together, in bytes or with KiB, MiB, GiB [default: 60 % of what the process may have]
    #[arg(long, env = "KYMO_MEMORY_LIMIT", hide_env_values = true, value_name = "SIZE")]
    pub(super) memory_limit: Option<MemoryBytes>,
    /// When the log is synced against power loss; a kill of the process loses nothing under any policy [default: interval]
    #[arg(long, env = "KYMO_SYNC", hide_env_values = true, value_name = "POLICY")]
    pub(super) sync: Option<SyncPolicy>,
    /// File that gets the real ports, as JSON
    #[arg(long, env = "KYMO_PORTS_FILE", hide_env_values = true, value_name = "FILE")]
    pub(super) ports_file: Option<PathBuf>,
    /// File with bearer tokens, one a line, of which every request must carry one
    #[arg(long, env = "KYMO_AUTH_TOKEN_FILE", hide_env_values = true, value_name = "FILE")]
    pub(super) auth_token_file: Option<PathBuf>,
}

/// Where a listener that can be switched off listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddressOrOff {
    At(SocketAddr),
    Off,
}

impl FromStr for AddressOrOff {
    type Err = String;

    fn from_str(text: &str) -> Result<AddressOrOff, String> {
        match text {
            "off" => Ok(AddressOrOff::Off),
            _ => address(text).map(AddressOrOff::At).map_err(|reason| format!("{reason}, or off")),
        }
    }
}

impl AddressOrOff {
    pub(super) fn address(self) -> Option<SocketAddr> {
        match self {
            AddressOrOff::At(address) => Some(address),
            AddressOrOff::Off => None,
        }
    }
}

impl fmt::Display for AddressOrOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressOrOff::At(address) => address.fmt(f),
            AddressOrOff::Off => f.write_str("off"),
        }
    }
}

/// What the server watches without being told where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Collect {
    pub(crate) host: bool,
    pub(crate) itself: bool,
}

impl FromStr for Collect {
    type Err = String;

    fn from_str(text: &str) -> Result<Collect, String> {
        let mut collect = Collect::default();
        if text == "none" {
            return Ok(collect);
        }
        for name in text.split(',') {
            match name {
                "host" => collect.host = true,
                "self" => collect.itself = true,
                _ => {
                    return Err(format!("unknown collector {name:?}: expected host, self, both with a comma, or none"));
                }
            }
        }
        Ok(collect)
    }
}

impl Collect {
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        [("host", self.host), ("self", self.itself)].into_iter().filter(|(_, asked)| *asked).map(|(name, _)| name)
    }
}

impl fmt::Display for Collect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.names().collect();
        f.write_str(if names.is_empty() { "none".to_owned() } else { names.join(",") }.as_str())
    }
}

/// How long samples are kept; `None` for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retention(pub(crate) Option<Duration>);

impl FromStr for Retention {
    type Err = String;

    fn from_str(text: &str) -> Result<Retention, String> {
        let ms =
            parse_duration_ms(text).map_err(|error| format!("{error}; expected a duration like 30d, 12h or 1y"))?;
        Ok(Retention(u64::try_from(ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis)))
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.map_or(0, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        DurationText(ms).fmt(f)
    }
}

/// Less would refuse the first requests of a single Prometheus.
const MEMORY_LIMIT_MIN: u64 = 64 << 20;

/// Memory for everything together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryBytes(pub(crate) u64);

impl FromStr for MemoryBytes {
    type Err = String;

    fn from_str(text: &str) -> Result<MemoryBytes, String> {
        match parse_size(text) {
            Ok(bytes) if bytes < MEMORY_LIMIT_MIN => Err("at least 64MiB are needed".to_owned()),
            Ok(bytes) => Ok(MemoryBytes(bytes)),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl fmt::Display for MemoryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        write_size(&mut text, self.0);
        f.write_str(&text)
    }
}

/// Reads `ADDRESS:PORT`; a name (`localhost:9911`) stands for its first address.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    const EXPECTED: &str = "expected an address and a port, like 127.0.0.1:9911, [::1]:9911 or localhost:9911";
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let is_named = text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    let found = if is_named { text.to_socket_addrs().ok().and_then(|mut found| found.next()) } else { None };
    found.ok_or_else(|| EXPECTED.to_owned())
}
