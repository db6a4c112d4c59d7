//! The flags of `kymo serve`, as given. What a flag leaves open the configuration file may say (`config::KymoSection`).

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use kymo::config::{Address, AddressOrOff, BlockBytes, Collect, DiskShare, MemoryBytes, Retention};
use kymo_core::config::{ByteSize, ConfigDuration};
use kymo_export::server::CorsOrigins;
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
    /// Answer the paths under /api/v1/admin, which change what is stored
    #[arg(long, env = "KYMO_ENABLE_ADMIN_API", hide_env_values = true, value_parser = BoolishValueParser::new())]
    pub(super) enable_admin_api: bool,
    /// Allow reloading (POST /-/reload) and stopping (POST /-/quit) over HTTP
    #[arg(long, env = "KYMO_ENABLE_LIFECYCLE", hide_env_values = true, value_parser = BoolishValueParser::new())]
    pub(super) enable_lifecycle: bool,
    /// Parts of PromQL that are off by default, by Prometheus' names, with commas between them
    #[arg(long, env = "KYMO_ENABLE_FEATURE", hide_env_values = true, value_name = "NAMES", value_delimiter = ',')]
    pub(super) enable_feature: Vec<Feature>,
    /// How long samples are kept, whatever the file says of which series, as a Prometheus duration; 0 keeps them for ever
    /// [default: 30d]
    #[arg(long, env = "KYMO_RETENTION", hide_env_values = true, value_name = "DURATION")]
    pub(super) retention: Option<Retention>,
    /// Bytes of blocks beyond which the oldest go, in bytes or with KiB, MiB, GiB; 0 for any number [default: 0]
    #[arg(long, env = "KYMO_RETENTION_SIZE", hide_env_values = true, value_name = "SIZE")]
    pub(super) retention_size: Option<BlockBytes>,
    /// The same as a percentage of the size of the file system, like 80%; of both the lower holds [default: no limit]
    #[arg(long, env = "KYMO_RETENTION_DISK_SHARE", hide_env_values = true, value_name = "PERCENT")]
    pub(super) retention_disk_share: Option<DiskShare>,
    /// Memory for everything together, in bytes or with KiB, MiB, GiB [default: 60 % of what the process may have]
    #[arg(long, env = "KYMO_MEMORY_LIMIT", hide_env_values = true, value_name = "SIZE")]
    pub(super) memory_limit: Option<MemoryBytes>,
    /// Series that take samples at once; samples of new ones beyond are rejected and counted by metric and label
    /// [default: 10000000]
    #[arg(long, env = "KYMO_SERIES_LIMIT", hide_env_values = true, value_name = "COUNT")]
    pub(super) series_limit: Option<u32>,
    /// When the log is synced against power loss; a kill of the process loses nothing under any policy [default: interval]
    #[arg(long, env = "KYMO_SYNC", hide_env_values = true, value_name = "POLICY")]
    pub(super) sync: Option<SyncPolicy>,
    /// Most queries that run at once; a quarter of them no client gets for itself alone
    #[arg(long, env = "KYMO_QUERY_CONCURRENCY", hide_env_values = true, value_name = "COUNT", default_value = "20")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) query_concurrency: u16,
    /// Threads that evaluate queries: what is not taken by one per query helps with those that read much [default: as many as processors may be used]
    #[arg(long, env = "KYMO_QUERY_THREADS", hide_env_values = true, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) query_threads: Option<u16>,
    /// Most queries that wait for their turn; the next is refused
    #[arg(long, env = "KYMO_QUERY_QUEUE", hide_env_values = true, value_name = "COUNT", default_value = "256")]
    pub(super) query_queue: u16,
    /// Most time of a query, waiting included, as a Prometheus duration
    #[arg(long, env = "KYMO_QUERY_TIMEOUT", hide_env_values = true, value_name = "DURATION", default_value = "2m")]
    pub(super) query_timeout: ConfigDuration,
    /// Most memory of one query, its answer included
    #[arg(long, env = "KYMO_QUERY_MEMORY", hide_env_values = true, value_name = "SIZE", default_value = "1GiB")]
    pub(super) query_memory: ByteSize,
    /// Most samples that one query may hold at once
    #[arg(
        long,
        env = "KYMO_QUERY_MAX_SAMPLES",
        hide_env_values = true,
        value_name = "COUNT",
        default_value = "50000000"
    )]
    pub(super) query_max_samples: u64,
    /// How far back an instant selector looks for a sample
    #[arg(long, env = "KYMO_QUERY_LOOKBACK", hide_env_values = true, value_name = "DURATION", default_value = "5m")]
    pub(super) query_lookback: ConfigDuration,
    /// File that gets a line of JSON for every query, with what it cost [default: query_log_file of the file, or none]
    #[arg(long, env = "KYMO_QUERY_LOG", hide_env_values = true, value_name = "FILE")]
    pub(super) query_log: Option<PathBuf>,
    /// Origins whose pages may read answers: an expression that matches the whole, or none
    #[arg(long, env = "KYMO_CORS_ORIGIN", hide_env_values = true, value_name = "REGEX|none", default_value = ".*")]
    #[arg(value_parser = cors)]
    pub(super) cors_origin: CorsOrigins,
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

fn cors(text: &str) -> Result<CorsOrigins, String> {
    match text {
        ".*" => Ok(CorsOrigins::Any),
        "none" => Ok(CorsOrigins::None),
        expression => CorsOrigins::matching(expression).map_err(|error| error.to_string()),
    }
}
