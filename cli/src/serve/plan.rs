//! What a server is to be: flags over the configuration file over defaults.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kymo::config::{
    self, Address, AddressOrOff, BlockBytes, Collect, Configuration, DiskShare, KymoSection, Retention,
    RetentionSection, StateSection,
};
use kymo_core::config::{ByteSize, ConfigDuration};
use kymo_core::status::FlagStatus;
use kymo_export::server::{BearerTokens, CorsOrigins};
use kymo_query::EngineConfig;
use kymo_storage::{Limits, RetentionPolicy, SyncPolicy};

use super::features::{self, Feature};
use super::memory::MemoryLimit;
use super::options::ServeArgs;
use crate::failure::Failure;

const DATA_DIR: &str = "./kymo-data";
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9911);
/// The port that OTLP has over gRPC.
const OTLP_GRPC: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4317);
/// The port that OTLP has over HTTP.
const OTLP_HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4318);

/// How queries are answered.
#[derive(Debug)]
pub(super) struct Queries {
    pub(super) concurrency: usize,
    pub(super) threads: usize,
    pub(super) waiting_max: usize,
    pub(super) timeout: ConfigDuration,
    pub(super) memory: ByteSize,
    pub(super) samples_max: u64,
    pub(super) lookback: ConfigDuration,
    /// Wins over the file's.
    pub(super) log: Option<PathBuf>,
}

/// What the flags say of how long what is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct RetentionFlags {
    pub(super) age: Option<Retention>,
    pub(super) size: Option<BlockBytes>,
    pub(super) disk_share: Option<DiskShare>,
}

impl RetentionFlags {
    /// What holds with this section of a file.
    pub(super) fn over(&self, file: &KymoSection) -> RetentionPolicy {
        let section = self.age.map(RetentionSection::from).or_else(|| file.retention.clone());
        let of_others = section.as_ref().and_then(RetentionSection::of_others);
        // Rollups are the file's, whatever a flag says of samples.
        let [five_minutes, one_hour] = file.retention.as_ref().map(RetentionSection::of_rollups).unwrap_or_default();
        RetentionPolicy {
            five_minutes: five_minutes.map(of_rollups),
            one_hour: one_hour.map(of_rollups),
            raw: of_others.map_or(RetentionPolicy::default().raw, |age| age.0),
            rules: section.iter().flat_map(RetentionSection::rules).collect(),
            max_bytes: self.size.or(file.retention_size).and_then(|size| size.0),
            max_disk_share: self.disk_share.or(file.retention_disk_share).map(|share| share.0),
        }
    }
}

/// An age of rollups.
fn of_rollups(keep: Retention) -> Duration {
    keep.0.unwrap_or(Duration::MAX)
}

/// What a server is to be.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: Option<Configuration>,
    pub(super) data_dir: PathBuf,
    pub(super) listen: SocketAddr,
    pub(super) otlp_grpc: Option<SocketAddr>,
    pub(super) otlp_http: Option<SocketAddr>,
    pub(super) collect: Collect,
    pub(super) tokens: BearerTokens,
    pub(super) retention: RetentionPolicy,
    /// What the flags say of it, which a file that is read again cannot change.
    pub(super) retention_flags: RetentionFlags,
    pub(super) memory_limit: MemoryLimit,
    /// Series that take samples at once.
    pub(super) series_limit: usize,
    pub(super) sync: SyncPolicy,
    pub(super) state: StateSection,
    pub(super) ports_file: Option<PathBuf>,
    pub(super) enable_lifecycle: bool,
    /// Names of `--enable-feature`.
    pub(super) features: Vec<Feature>,
    pub(super) status_socket: bool,
    pub(super) enable_admin_api: bool,
    pub(super) queries: Queries,
    pub(super) cors: CorsOrigins,
    /// What was asked for and has no effect yet, each with what is missing.
    pub(super) not_served: Vec<String>,
}

impl Plan {
    pub(super) fn new(args: ServeArgs) -> Result<Plan, Failure> {
        let config = args.config.as_deref().map(config::load).transpose().map_err(|faults| Failure::faults(&faults))?;
        let file = config.as_ref().map(|config| config.kymo.clone()).unwrap_or_default();
        let retention_flags =
            RetentionFlags { age: args.retention, size: args.retention_size, disk_share: args.retention_disk_share };
        let retention = retention_flags.over(&file);
        let KymoSection {
            data_dir,
            listen,
            otlp,
            collect,
            memory_limit,
            series_limit,
            sync,
            state,
            auth_token_file,
            ..
        } = file;
        let tokens = match args.auth_token_file.or(auth_token_file) {
            Some(file) => tokens(&file)?,
            None => BearerTokens::default(),
        };
        let watched_unasked = Collect { host: config.is_none(), itself: config.is_none() };
        let queries = Queries {
            concurrency: args.query_concurrency.into(),
            threads: args.query_threads.map_or_else(|| EngineConfig::default().threads, usize::from),
            waiting_max: args.query_queue.into(),
            timeout: args.query_timeout,
            memory: args.query_memory,
            samples_max: args.query_max_samples,
            lookback: args.query_lookback,
            log: args.query_log,
        };
        let mut plan = Plan {
            data_dir: args.data_dir.or(data_dir).unwrap_or_else(|| DATA_DIR.into()),
            listen: args.listen.or(listen).map_or(Ok(LISTEN), |listen| resolved(&listen))?,
            otlp_grpc: listener(args.otlp_grpc.or(otlp.grpc), OTLP_GRPC)?,
            otlp_http: listener(args.otlp_http.or(otlp.http), OTLP_HTTP)?,
            collect: args.collect.or(collect).unwrap_or(watched_unasked),
            tokens,
            retention,
            retention_flags,
            memory_limit: args
                .memory_limit
                .or(memory_limit)
                .map_or_else(MemoryLimit::of_this_process, |limit| MemoryLimit::asked_for(limit.0)),
            series_limit: args
                .series_limit
                .or(series_limit)
                .map_or_else(|| Limits::default().active_series, |limit| limit as usize),
            state,
            sync: args.sync.or(sync).unwrap_or_default(),
            ports_file: args.ports_file,
            enable_admin_api: args.enable_admin_api || file.enable_admin_api.unwrap_or_default(),
            queries,
            cors: args.cors_origin,
            enable_lifecycle: args.enable_lifecycle || file.enable_lifecycle.unwrap_or_default(),
            features: args.enable_feature,
            status_socket: args.status_socket,
            not_served: config.as_ref().map(|config| config.notices.clone()).unwrap_or_default(),
            config,
        };
        for feature in &plan.features {
            if let Feature::NotHere(name) = feature {
                plan.not_served.push(format!("--enable-feature={name}: there is nothing to switch here"));
            }
        }
        Ok(plan)
    }

    /// An address at which others on the network can ask and write without a token.
    pub(super) fn open_to_the_network(&self) -> Option<SocketAddr> {
        let addresses = [Some(self.listen), self.otlp_grpc, self.otlp_http];
        addresses.into_iter().flatten().find(|address| self.tokens.is_open() && !address.ip().is_loopback())
    }

    /// The settings in force, by the names of their flags, sorted.
    pub(super) fn flags(&self) -> Vec<FlagStatus> {
        let address = |address: Option<SocketAddr>| address.map_or("off".to_owned(), |address| address.to_string());
        let text = |share: Option<DiskShare>| share.map(|share| share.to_string()).unwrap_or_default();
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let flags = [
            ("collect", self.collect.to_string()),
            ("config", self.config.as_ref().map(|config| config.path.display().to_string()).unwrap_or_default()),
            ("data-dir", self.data_dir.display().to_string()),
            ("enable-admin-api", self.enable_admin_api.to_string()),
            ("enable-feature", features::names(&self.features)),
            ("enable-lifecycle", self.enable_lifecycle.to_string()),
            ("listen", self.listen.to_string()),
            ("memory-limit", self.memory_limit.bytes.to_string()),
            ("otlp-grpc", address(self.otlp_grpc)),
            ("otlp-http", address(self.otlp_http)),
            ("ports-file", path(&self.ports_file)),
            ("query-concurrency", self.queries.concurrency.to_string()),
            ("query-log", path(&self.queries.log)),
            ("query-lookback", self.queries.lookback.to_string()),
            ("query-max-samples", self.queries.samples_max.to_string()),
            ("query-memory", self.queries.memory.to_string()),
            ("query-queue", self.queries.waiting_max.to_string()),
            ("query-threads", self.queries.threads.to_string()),
            ("query-timeout", self.queries.timeout.to_string()),
            ("retention", Retention(self.retention.raw).to_string()),
            ("retention-disk-share", text(self.retention.max_disk_share.map(DiskShare))),
            ("retention-size", self.retention.max_bytes.map_or("0".to_owned(), |bytes| bytes.to_string())),
            ("series-limit", self.series_limit.to_string()),
            ("status-socket", self.status_socket.to_string()),
            ("sync", self.sync.to_string()),
        ];
        flags.into_iter().map(|(name, value)| FlagStatus { name: name.to_owned(), value }).collect()
    }
}

/// Where a listener that can be switched off listens.
fn listener(asked: Option<AddressOrOff>, default: SocketAddr) -> Result<Option<SocketAddr>, Failure> {
    match asked {
        Some(asked) => asked.address().as_ref().map(resolved).transpose(),
        None => Ok(Some(default)),
    }
}

fn resolved(address: &Address) -> Result<SocketAddr, Failure> {
    address.resolve().map_err(|error| Failure::because(format_args!("cannot look up the address {address}"), &error))
}

fn tokens(file: &Path) -> Result<BearerTokens, Failure> {
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::because(format_args!("cannot read the token file {}", file.display()), &error))?;
    let tokens = BearerTokens::new(text.lines());
    if tokens.is_open() {
        return Err(Failure::new(format!("the token file {} holds no token", file.display()))
            .hint("write one token a line into it; without --auth-token-file the server is open to all who reach it"));
    }
    Ok(tokens)
}
