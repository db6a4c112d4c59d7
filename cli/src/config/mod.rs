//! The configuration file: read, checked, completed, shown.
//!
//! ```text
//!  FILE ─▶ expand ─▶ read ─▶ ConfigFile ─▶ resolve ─▶ Configuration ─▶ serve, reload
//!         ${NAME}    YAML    (as written)   defaults,       │
//!                      │                    paths, jobs     └─▶ show (secrets masked)
//!                      └─▶ Faults: file, line, column, what was expected, the nearest right key
//! ```
//!
//! A Prometheus file is taken as it is; what Kymo reads and does not act on is named in
//! `Configuration::notices`. Settings of Kymo itself are in its section `kymo`.

mod expand;
mod fault;
mod file;
mod paths;
mod read;
pub mod reference;
mod retention;
mod show;
mod state;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kymo_core::status::LabelMap;
use kymo_export::MetricsEndpoint;
use kymo_export::client::{HttpBuildError, http_client};
use kymo_ingest::otlp::OtlpConfig;
use kymo_ingest::scrape::{DiscoveryConfig, JobConfig, ScrapeConfigError, ScrapeDefaults};
use kymo_ingest::services::ServiceHealthConfig;

pub use fault::{Faults, chain};
pub use file::{KymoSection, OtlpListeners};
pub use retention::{DiskShare, RetentionSection, selector};
pub use state::{RedisSection, StateBackend, StateSection};
pub use value::{Address, AddressOrOff, BlockBytes, Collect, MemoryBytes, Retention};

use fault::{Fault, Place};
use file::{ConfigFile, Global};

/// Largest file that is read. A thousand jobs written out take a tenth of it.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A file that can be acted on.
#[derive(Debug)]
pub struct Configuration {
    pub path: PathBuf,
    /// Settings of the server itself, paths resolved.
    pub kymo: KymoSection,
    /// Scrape jobs, complete.
    pub jobs: Vec<JobConfig>,
    pub otlp: OtlpConfig,
    /// What is known of services, and when one is well.
    pub service_health: ServiceHealthConfig,
    /// A listener of its own for the server's metrics.
    pub metrics: Option<MetricsEndpoint>,
    /// Labels that series get where they leave the server.
    pub external_labels: LabelMap,
    /// Where queries are logged.
    pub query_log_file: Option<PathBuf>,
    /// What is said in the file and not acted on, each with what is missing.
    pub notices: Vec<String>,
    /// The effective values as YAML, secrets masked.
    pub text: String,
    /// The same of each scrape job, by name.
    pub job_texts: BTreeMap<String, String>,
}

/// Says whether the HTTP clients of a job can be made.
type TryClients = fn(&JobConfig) -> Result<(), HttpBuildError>;

/// What is asked of the machine while a file is read.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings {
    /// The value of an environment variable, `None` if it is not set.
    pub variable: fn(&str) -> Option<String>,
    /// Tries the HTTP clients of a job.
    pub clients: TryClients,
}

impl Surroundings {
    /// The environment and the files of this process.
    const REAL: Surroundings = Surroundings { variable: |name| std::env::var(name).ok(), clients };
}

/// Reads and checks a file.
///
/// # Errors
/// Everything that is wrong with it, as far as one fault does not hide another.
pub fn load(path: &Path) -> Result<Configuration, Faults> {
    let unread = |message| Faults::unread(path, message);
    let size = std::fs::metadata(path).map_err(|error| unread(error.to_string()))?.len();
    if size > FILE_BYTES_MAX {
        return Err(unread(format!("it has {size} bytes; at most {FILE_BYTES_MAX} are read")));
    }
    let written = std::fs::read_to_string(path).map_err(|error| unread(error.to_string()))?;
    parse(path, &written, Surroundings::REAL)
}

/// Reads and checks the text of the file at `path`, which need not be there.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, written: &str, surroundings: Surroundings) -> Result<Configuration, Faults> {
    let refused = |faults| Faults::new(path, written.to_owned(), faults);
    let mut file = read::read(written, surroundings.variable).map_err(refused)?;
    paths::resolve(&mut file, path.parent().unwrap_or(Path::new("")));
    resolve(path, file, surroundings.clients).map_err(refused)
}

/// What holds where a file says nothing, as YAML.
pub fn defaults() -> String {
    show::yaml(&mut ConfigFile::default(), &[])
}

/// Completes what was read.
fn resolve(path: &Path, mut file: ConfigFile, clients: TryClients) -> Result<Configuration, Vec<Fault>> {
    let (defaults, mut notices, mut faults) = (file.global.defaults(), file.unserved(), Vec::new());
    let jobs = jobs(&mut file, &defaults, clients, &mut notices, &mut faults);
    let otlp = match &file.otlp {
        Some(section) => {
            if let Err(error) = section.value.validate() {
                faults.push(Fault::at(Place::of(&section.referenced), format!("otlp: {error}")));
            }
            section.value.clone()
        }
        None => OtlpConfig::default(),
    };
    let service_health = match &file.service_health {
        Some(section) => {
            if let Err(error) = section.value.validate() {
                faults.push(Fault::at(Place::of(&section.referenced), chain(&error)));
            }
            section.value.clone()
        }
        None => ServiceHealthConfig::default(),
    };
    if let Some(fault) = file.kymo.state.fault() {
        faults.push(Fault::new(fault));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let text = show::yaml(&mut file, &notices);
    let job_texts = show::jobs(&file);
    let Global { external_labels, query_log_file, .. } = file.global;
    let (path, metrics) = (path.to_owned(), file.metrics);
    Ok(Configuration {
        path,
        kymo: file.kymo,
        jobs,
        otlp,
        service_health,
        metrics,
        external_labels,
        query_log_file,
        notices,
        text,
        job_texts,
    })
}

/// The jobs that can be scraped. What they leave open is filled in in the file too.
fn jobs(
    file: &mut ConfigFile,
    defaults: &ScrapeDefaults,
    clients: TryClients,
    notices: &mut Vec<String>,
    faults: &mut Vec<Fault>,
) -> Vec<JobConfig> {
    let mut jobs: Vec<JobConfig> = Vec::new();
    for entry in &mut file.scrape_configs {
        let place = Place::of(&entry.referenced);
        let job = match entry.value.resolve(defaults) {
            Ok(job) if jobs.iter().any(|known| known.name == job.name) => {
                faults.push(Fault::at(place, ScrapeConfigError::NameTwice { job: job.name }.to_string()));
                continue;
            }
            Ok(job) => job,
            Err(error) => {
                faults.push(Fault::at(place, chain(&error)));
                continue;
            }
        };
        show::complete(&mut entry.value, &job);
        let name = &job.name;
        notices.extend(job.not_acted_on().iter().map(|what| format!("{what} of scrape job {name:?}")));
        match clients(&job) {
            Ok(()) => jobs.push(job),
            Err(error @ HttpBuildError::Unsupported { .. }) => {
                notices.push(format!("scrape job {name:?}, because {error}"));
            }
            Err(error) => {
                faults.push(Fault::at(place, format!("scrape job {name:?}: {}", chain(&error))));
            }
        }
    }
    jobs
}

/// Tries the HTTP clients of a job, so that a missing certificate is found now.
fn clients(job: &JobConfig) -> Result<(), HttpBuildError> {
    http_client(&job.http)?;
    for source in &job.discovery {
        if let DiscoveryConfig::Http(endpoint) = source {
            http_client(&endpoint.http_client())?;
        }
    }
    Ok(())
}
