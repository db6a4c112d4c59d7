//! One job: its sources of targets, and a scraper for each target.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kymo_core::status::{LabelMap, TargetHealth, TargetStatus};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::client::{BoxError, ClientFactory, ScrapeClient};
use super::config::JobConfig;
use super::discovery::{Discovery, DiscoveryConfig, Group};
use super::error::{ScrapeError, chain};
use super::jobs::Shared;
use super::scraper::Scraper;
use super::target::{Made, Target, make};

/// Groups that wait to be made targets of; sources wait when they are more.
const UPDATES_MAX: usize = 16;

/// A job in force.
pub(super) struct Job {
    config: Arc<JobConfig>,
    client: ScrapeClient,
    /// A client for each source that needs one.
    source_clients: Vec<Option<ScrapeClient>>,
    /// Held only to copy or replace.
    state: Mutex<State>,
    /// How many targets there are if they are too many, else 0.
    excess: AtomicUsize,
}

#[derive(Default)]
struct State {
    /// What each source gave last.
    found: Vec<Option<Vec<Group>>>,
    scrapers: Vec<Arc<Scraper>>,
    /// Labels of targets that relabelling dropped.
    dropped: Vec<LabelMap>,
}

/// Targets of a job that are being scraped.
#[derive(Default)]
struct Running {
    /// By identity.
    scrapers: BTreeMap<u64, (Arc<Scraper>, CancellationToken)>,
    tasks: JoinSet<Arc<Scraper>>,
}

/// What groups come to.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Targets {
    /// By identity.
    pub(super) targets: BTreeMap<u64, Target>,
    pub(super) dropped: Vec<LabelMap>,
    pub(super) errors: Vec<String>,
}

/// Makes targets of groups; equal ones are one.
pub(super) fn targets_of(config: &JobConfig, groups: &[Group]) -> Targets {
    let mut all = Targets::default();
    for group in groups {
        for target in &group.targets {
            match make(config, target, &group.labels) {
                Ok(Made::Target(target)) => {
                    all.targets.entry(target.identity).or_insert(target);
                }
                Ok(Made::Dropped(labels)) => all.dropped.push(labels),
                Err(error) => all.errors.push(format!("{target:?}: {error}")),
            }
        }
    }
    all
}

impl Job {
    pub(super) fn new(config: JobConfig, clients: &ClientFactory) -> Result<Job, BoxError> {
        let client = clients(&config.http)?;
        let client_of = |source: &DiscoveryConfig| match source {
            DiscoveryConfig::Http(endpoint) => clients(&endpoint.http_client()).map(Some),
            _ => Ok(None),
        };
        let source_clients = config.discovery.iter().map(client_of).collect::<Result<Vec<_>, _>>()?;
        let state = State { found: vec![None; config.discovery.len()], ..State::default() };
        let (config, excess) = (Arc::new(config), AtomicUsize::new(0));
        Ok(Job { config, client, source_clients, state: Mutex::new(state), excess })
    }

    pub(super) fn config(&self) -> &Arc<JobConfig> {
        &self.config
    }

    pub(super) fn client(&self) -> &ScrapeClient {
        &self.client
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins with what an earlier form of this job had found in sources that did not change, so that its targets need not
    /// be discovered anew.
    pub(super) fn inherit(&self, earlier: &Job) {
        let earlier_found = earlier.state().found.clone();
        let mut state = self.state();
        for (source, found) in self.config.discovery.iter().zip(&mut state.found) {
            let same = earlier.config.discovery.iter().position(|known| known == source);
            *found = same.and_then(|at| earlier_found[at].clone());
        }
    }

    /// The error of every scrape while the job has too many targets.
    pub(super) fn over_target_limit(&self) -> Option<ScrapeError> {
        // Relaxed: the count stands for itself, and a scrape may see it late.
        let count = self.excess.load(Ordering::Relaxed);
        (count > 0).then_some(ScrapeError::TargetLimit { count, limit: self.config.limits.targets })
    }

    /// Discovers and scrapes until `stop` or `shutdown`; has joined all its tasks when it ends.
    pub(super) async fn run(
        self: Arc<Self>,
        shared: Arc<Shared>,
        stop: CancellationToken,
        shutdown: CancellationToken,
    ) {
        let (found, mut updates) = mpsc::channel(UPDATES_MAX);
        let mut sources = JoinSet::new();
        for (number, (config, client)) in self.config.discovery.iter().zip(&self.source_clients).enumerate() {
            let discovery = shared.discovery(config, client.clone());
            sources.spawn(watch(discovery, number, found.clone(), self.config.name.clone(), Arc::clone(&shared)));
        }
        drop(found);
        let mut running = Running::default();
        self.sync(&shared, &mut running, &shutdown);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = stop.cancelled() => break,
                Some((number, groups)) = updates.recv() => {
                    self.state().found[number] = Some(groups);
                    self.sync(&shared, &mut running, &shutdown);
                }
                Some(ended) = running.tasks.join_next() => shared.depart(ended),
            }
        }
        sources.shutdown().await;
        for (_, token) in running.scrapers.values() {
            token.cancel();
        }
        while let Some(ended) = running.tasks.join_next().await {
            shared.depart(ended);
        }
        // Scrapers know their job: the circle is opened, so that both are freed.
        self.state().scrapers.clear();
        shared.metrics().set_targets(&self.config.name, 0);
    }

    /// Starts scrapers of new targets and stops those of targets that are gone.
    fn sync(self: &Arc<Self>, shared: &Arc<Shared>, running: &mut Running, shutdown: &CancellationToken) {
        let groups: Vec<Group> = self.state().found.iter().flatten().flatten().cloned().collect();
        let Targets { targets, mut dropped, errors } = targets_of(&self.config, &groups);
        for error in errors {
            tracing::error!(job = self.config.name, error, "creating target failed");
        }
        let limit = self.config.limits.targets;
        let over = limit > 0 && targets.len() as u64 > limit;
        self.excess.store(if over { targets.len() } else { 0 }, Ordering::Relaxed);
        running.scrapers.retain(|identity, (_, token)| {
            let stays = targets.contains_key(identity);
            if !stays {
                token.cancel();
            }
            stays
        });
        for (identity, target) in targets {
            if running.scrapers.contains_key(&identity) {
                continue;
            }
            let scraper = match Scraper::new(Arc::clone(shared), Arc::clone(self), target) {
                Ok(scraper) => Arc::new(scraper),
                Err(error) => {
                    tracing::error!(job = self.config.name, error = chain(&error), "creating target failed");
                    continue;
                }
            };
            let token = CancellationToken::new();
            shared.arrive(&scraper);
            running.tasks.spawn(Arc::clone(&scraper).run(token.clone(), shutdown.clone()));
            running.scrapers.insert(identity, (scraper, token));
        }
        if let kept @ 1.. = self.config.limits.dropped_targets {
            dropped.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        }
        shared.metrics().set_targets(&self.config.name, running.scrapers.len());
        let mut state = self.state();
        state.scrapers = running.scrapers.values().map(|(scraper, _)| Arc::clone(scraper)).collect();
        state.scrapers.sort_by(|a, b| a.target().url.cmp(&b.target().url));
        state.dropped = dropped;
    }

    /// Targets in force, by URL.
    pub(super) fn scrapers(&self) -> Vec<Arc<Scraper>> {
        self.state().scrapers.clone()
    }

    /// What is known of targets that relabelling dropped.
    pub(super) fn dropped(&self) -> Vec<TargetStatus> {
        let dropped = self.state().dropped.clone();
        let status = |discovered_labels| TargetStatus {
            pool: self.config.name.clone(),
            discovered_labels,
            health: TargetHealth::Dropped,
            ..TargetStatus::default()
        };
        dropped.into_iter().map(status).collect()
    }
}

/// Sends what a source finds, whenever it changes.
async fn watch(
    mut discovery: Discovery,
    number: usize,
    found: mpsc::Sender<(usize, Vec<Group>)>,
    job: String,
    shared: Arc<Shared>,
) {
    loop {
        let refreshed = discovery.refresh().await;
        shared.metrics().refreshed(&job, refreshed.is_ok());
        match refreshed {
            Ok(Some(groups)) => {
                if found.send((number, groups)).await.is_err() {
                    return;
                }
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(job, error = chain(&error), "discovery failed; its targets stay as they were"),
        }
        match discovery.interval() {
            Some(interval) => tokio::time::sleep(interval).await,
            None => return,
        }
    }
}
