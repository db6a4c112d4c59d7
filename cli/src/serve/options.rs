//! The flags of `kymo serve`, as given. What a flag leaves open the configuration file may say (`config::KymoSection`).

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use kymo::config::{Address, AddressOrOff, Collect, MemoryBytes, Retention};
use kymo_storage::SyncPolicy;

use super::features::Feature;

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
    #[arg(long, env = "KYMO_LISTEN", hide_env_values = true, value_name = "ADDRESS")]
    pub(super) listen: Option<Address>,
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
    /// Parts of PromQL that are off by default, by Prometheus' names, with commas between them
    #[arg(long, env = "KYMO_ENABLE_FEATURE", hide_env_values = true, value_name = "NAMES", value_delimiter = ',')]
    pub(super) enable_feature: Vec<Feature>,
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
    /// Open a socket for kymo status with this process's id, in the user's runtime folder
    #[arg(long, env = "KYMO_STATUS_SOCKET", hide_env_values = true, value_parser = BoolishValueParser::new())]
    pub(super) status_socket: bool,
    /// File with bearer tokens, one a line, of which every request must carry one
    #[arg(long, env = "KYMO_AUTH_TOKEN_FILE", hide_env_values = true, value_name = "FILE")]
    pub(super) auth_token_file: Option<PathBuf>,
}
