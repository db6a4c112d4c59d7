//! What runs while the server serves: every way in, the API, and the engine's upkeep.

use std::sync::Arc;

use axum::Router;
use kymo::config::Collect;
use kymo_context::ContextFacts;
use kymo_core::pool::ThreadPool;
use kymo_core::random::OsRandom;
use kymo_core::registry::{RegisterError, Registry};
use kymo_core::status::{StatusSource, StatusSources};
use kymo_core::{BlockingPool, Budget, Clock, Deletion, LossLedger, MetricStorage, QueryContext};
use kymo_export::api::{
    self, Admin, AdminFailure, ApiOptions, ApiState, BlockFacts, CleanFigures, DeleteFigures, DeleteMode, FactsState,
    Lifecycle, QueryLog, RetentionQuestion, TargetFamilies,
};
use kymo_export::exposition::{self, Exposition};
use kymo_export::process::Process;
use kymo_ingest::collect::{CollectParts, Collector, CollectorOptions, HostOptions};
use kymo_ingest::otlp::{self, OtlpLimits, OtlpState};
use kymo_ingest::remote_write::handler::RemoteWriteState;
use kymo_ingest::remote_write::{Receiver, ReceiverParts, RemoteWriteConfig};
use kymo_ingest::scrape::{ScrapeManager, ScrapeParts};
use kymo_ingest::services::ServiceWatch;
use kymo_query::EngineConfig;
use kymo_storage::{BlockSummary, DeleteError, Engine, SnapshotExtent};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Remembered;
use super::door;
use super::engine::Opened;
use super::facts::Facts;
use super::features::{self, Feature};
use super::plan::Plan;
use super::reload::{Logged, Reload, Retained};
use super::scrape;
use super::tree::Tree;
use super::upkeep::{LetGo, Upkeep};
use crate::describe::Limit;
use crate::failure::{Failure, chain};
use crate::retention as ahead;

/// Threads of the ingest pool. An append is CPU work under short locks, and waits only for its log write.
const INGEST_THREADS: usize = 4;
/// Requests that wait for the ingest pool; the next is answered 503, which senders repeat.
const INGEST_QUEUE: usize = 256;
/// Threads beside those of queries, for lists of labels and series, which must not wait for queries.
const CATALOGUE_THREADS: usize = 4;
/// Questions that wait for one of those threads; the next is answered 503.
const CATALOGUE_QUEUE: usize = 256;
/// Share of the memory limit that the engine may hold. The shares overlap: the limit itself holds for all together.
const STORAGE_PERCENT: u64 = 80;
/// Share of the memory limit for requests and scrapes on their way in.
const INGEST_PERCENT: u64 = 30;
/// Share of the memory limit for queries and their answers.
const QUERIES_PERCENT: u64 = 50;

/// Share of the memory limit for answers that are kept because they will be asked for again.
const ANSWERS_PERCENT: u64 = 5;

/// What each part may reserve.
pub(super) struct Shares {
    pub(super) storage: Budget,
    ingest: Budget,
    queries: Budget,
    answers: Budget,
}

impl Shares {
    pub(super) fn of(memory: &Budget, limit_bytes: u64) -> Shares {
        let share = |name, percent| memory.child_set_by(name, limit_bytes / 100 * percent, "--memory-limit");
        Shares {
            storage: share("storage", STORAGE_PERCENT),
            ingest: share("ingest", INGEST_PERCENT),
            queries: share("queries", QUERIES_PERCENT),
            answers: share("answers", ANSWERS_PERCENT),
        }
    }
}

/// Everything that was started, and what its routes need.
pub(super) struct Parts {
    tree: Tree,
    engine: Arc<Engine>,
    upkeep: Upkeep,
    registry: Registry,
    /// What the system says of this process.
    process: Arc<Process>,
    remote_write: RemoteWriteState,
    otlp: OtlpState,
    scrape: Arc<ScrapeManager>,
    reload: Arc<Reload>,
    api: Arc<ApiState>,
    facts: FactsState,
    /// `None` unless it was switched on.
    lifecycle: Option<Lifecycle>,
    /// `None` unless it was switched on.
    admin: Option<Admin>,
    /// What the server keeps of itself; over HTTP only with the rest of `admin`.
    remembered: Remembered,
    /// Not begun yet.
    collectors: Vec<Collector>,
    /// Not begun yet.
    services: Option<ServiceWatch>,
    /// What gathers on its own account, until told to stop.
    watching: JoinSet<()>,
}

impl Parts {
    pub(super) fn start(
        plan: &Plan,
        opened: Opened,
        registry: Registry,
        clock: Arc<dyn Clock>,
        shares: &Shares,
        facts: Facts,
        quit: CancellationToken,
    ) -> Result<Parts, Failure> {
        let Opened { engine, health } = opened;
        let remembered = facts.remembered.clone();
        let engine = Arc::new(engine);
        let storage: Arc<dyn MetricStorage> = engine.clone();
        let ledger = LossLedger::counted(&registry)
            .map_err(|error| Failure::because("cannot register the metrics of what comes in", &error))?;
        let ledger = Arc::new(ledger);
        let tree = Tree::start(&registry, plan.status_socket)?;
        let queries = &plan.queries;
        let ingest_pool = tree.pool(pool("kymo-ingest", INGEST_THREADS, INGEST_QUEUE)?, "ingest", "kymo-ingest");
        let query_threads = pool("kymo-query", queries.concurrency + CATALOGUE_THREADS, CATALOGUE_QUEUE)?;
        let query_pool = tree.pool(query_threads, "query", "kymo-query");

        let receiver = Receiver::new(
            RemoteWriteConfig::default(),
            ReceiverParts {
                storage: storage.clone(),
                ledger: ledger.clone(),
                clock: clock.clone(),
                budget: shares.ingest.clone(),
                registry: registry.clone(),
            },
        );
        let unregistered =
            |what| move |error| Failure::because(format_args!("cannot register the metrics of {what}"), &error);
        let remote_write = RemoteWriteState {
            receiver: Arc::new(receiver.map_err(unregistered("remote write"))?),
            pool: ingest_pool.clone(),
        };
        let otlp = otlp::Receiver::new(
            plan.config.as_ref().map(|config| config.otlp.clone()).unwrap_or_default(),
            OtlpLimits::default(),
            ReceiverParts {
                storage: storage.clone(),
                ledger: ledger.clone(),
                clock: clock.clone(),
                budget: shares.ingest.clone(),
                registry: registry.clone(),
            },
        );
        let receiver = Arc::new(otlp.map_err(unregistered("OTLP"))?.with_health(health.clone()));
        let otlp = OtlpState { receiver, pool: ingest_pool.clone() };
        let collect = CollectParts {
            storage: storage.clone(),
            pool: ingest_pool.clone(),
            ledger: ledger.clone(),
            clock: clock.clone(),
            registry: registry.clone(),
        };
        let process = Arc::new(Process::default());
        let collectors = collectors(plan.collect, &collect, &process).map_err(unregistered("the collectors"))?;
        let of_services = plan.config.as_ref().map(|config| config.service_health.clone()).unwrap_or_default();
        let services = ServiceWatch::new(health.clone(), of_services, collect, shares.queries.clone());
        let services = services.map_err(unregistered("service health"))?;
        let scrape = ScrapeManager::new(ScrapeParts {
            storage: storage.clone(),
            ledger: ledger.clone(),
            clock: clock.clone(),
            pool: ingest_pool,
            budget: shares.ingest.clone(),
            clients: scrape::clients(),
            registry: registry.clone(),
            seed: scrape::seed(),
        });
        let scrape = Arc::new(scrape.map_err(unregistered("scraping"))?);
        let query_log = QueryLog::default();
        let logged = Logged { log: query_log.clone(), file: queries.log.clone() };
        let retained = Retained { engine: engine.clone(), flags: plan.retention_flags };
        let reload = Reload::new(
            plan.config.as_ref(),
            scrape.clone(),
            logged,
            retained,
            health.clone(),
            clock.clone(),
            &registry,
        );
        let reload = Arc::new(reload.map_err(unregistered("the configuration"))?);
        reload
            .apply(plan.config.as_ref())
            .map_err(|reason| Failure::new(format!("cannot put the configuration file in force: {reason}")))?;

        let mut sources = StatusSources::new();
        sources.push(scrape.clone());
        sources.push(reload.clone());
        sources.push(Arc::new(facts));
        sources.push(Arc::new(ContextFacts(tree.global.clone())));
        sources.push(health);
        let sources: Arc<dyn StatusSource> = Arc::new(sources);
        let language = features::engine_options(&plan.features);
        let config = EngineConfig {
            max_samples: queries.samples_max,
            threads: queries.threads,
            lookback: queries.lookback.as_duration(),
            options: language,
            ..EngineConfig::default()
        };
        let backend = kymo_query::Engine::with_config(storage.clone(), config).keeping_answers(shares.answers.clone());
        let backend = Arc::new(backend);
        let options = ApiOptions {
            timeout_max: queries.timeout.as_duration(),
            query_memory_max: queries.memory.0,
            queries_max: queries.concurrency,
            queries_waiting_max: queries.waiting_max,
            engine: language,
            search: plan.features.contains(&Feature::Search),
            ..ApiOptions::default()
        };
        let admin = plan.enable_admin_api.then(|| admin(&engine));
        let families = {
            let registry = registry.clone();
            move || registry.snapshot()
        };
        let (by_remote_write, by_otlp) = (remote_write.receiver.clone(), otlp.receiver.clone());
        let let_go: Vec<LetGo> =
            vec![Box::new(move || by_remote_write.forget_idle()), Box::new(move || by_otlp.forget_idle())];
        Ok(Parts {
            upkeep: Upkeep::start(&engine, &clock, &tree.global, let_go)?,
            tree,
            engine,
            registry,
            process,
            remote_write,
            otlp,
            scrape,
            lifecycle: plan.enable_lifecycle.then(|| lifecycle(&reload, quit)),
            reload,
            facts: FactsState { sources: sources.clone(), clock: clock.clone() },
            api: Arc::new(
                ApiState::new(backend, query_pool, ledger, clock, shares.queries.clone())
                    .with_options(options)
                    .with_query_log(query_log)
                    .with_storage(storage)
                    .with_sources(sources)
                    .with_families(families)
                    .answering_brief_ones_at_once(),
            ),
            admin,
            remembered,
            collectors,
            services: Some(services),
            watching: JoinSet::new(),
        })
    }

    /// Everything behind the main listener.
    pub(super) fn routes(&self) -> Router {
        let routes = kymo_ingest::remote_write::handler::routes(self.remote_write.clone())
            .nest("/api/v1/otlp", otlp::routes(self.otlp.clone()))
            .merge(api::routes(self.api.clone()))
            .merge(api::status_routes(self.facts.clone()))
            .merge(self.target_metadata())
            .merge(self.block_list())
            .merge(kymo_export::remote_read::routes(self.api.clone()))
            .merge(api::admin_routes(self.api.clone(), self.admin.clone()))
            .merge(api::state_routes(self.api.clone(), self.admin.as_ref().map(|_| self.remembered.store.clone())))
            .merge(api::lifecycle_routes(self.lifecycle.clone()))
            .merge(self.own_metrics())
            .merge(kymo_export::page::routes(self.api.clone()));
        self.tree.routes(routes)
    }

    /// `/api/v1/targets/metadata`
    fn target_metadata(&self) -> Router {
        let scrape = self.scrape.clone();
        api::target_metadata_routes(self.api.clone(), move || {
            let targets = scrape.metadata().into_iter();
            targets.map(|target| TargetFamilies { labels: target.labels, families: target.families }).collect()
        })
    }

    /// `/api/v1/status/tsdb/blocks`
    fn block_list(&self) -> Router {
        let engine = self.engine.clone();
        api::block_routes(move || {
            let facts = |block: BlockSummary| {
                let BlockSummary { sequence, level, min_time_ms, max_time_ms, series, samples, .. } = block;
                BlockFacts { sequence, level, min_time_ms, max_time_ms, series, samples }
            };
            engine.block_list().into_iter().map(facts).collect()
        })
    }

    /// `/metrics` and `/api/v1/status/self_metrics`: what the parts record, and what the system says of this process.
    fn own_metrics(&self) -> Router {
        let process = self.process.clone();
        let shown = Exposition::from(self.registry.clone()).with(move || process.families());
        exposition::routes(shown.clone()).merge(api::self_metrics_routes(move || shown.families()))
    }

    /// What the OTLP listeners need.
    pub(super) fn otlp(&self) -> OtlpState {
        self.otlp.clone()
    }

    pub(super) fn reload(&self) -> Arc<Reload> {
        self.reload.clone()
    }

    /// What is to be said of the run before.
    pub(super) fn run_before(&self) -> Option<String> {
        self.remembered.runs.greeting()
    }

    /// Begins to scrape and to collect, until `stop`.
    pub(super) fn watch(&mut self, stop: &CancellationToken) {
        let (scrape, until) = (self.scrape.clone(), stop.clone());
        let global = &self.tree.global;
        self.watching.spawn(global.child("scrape").begin().run(async move { scrape.run(until).await }));
        self.watching.spawn(self.remembered.runs.clone().watch(stop.clone()));
        let collect = global.child("collect").begin();
        self.watching.spawn(collect.run(self.otlp.clone().settle(stop.clone())));
        if let Some(services) = self.services.take() {
            self.watching.spawn(collect.run(services.run(stop.clone())));
        }
        for collector in self.collectors.drain(..) {
            self.watching.spawn(collect.run(collector.run(stop.clone())));
        }
    }

    /// Says that no traffic is taken any more.
    pub(super) fn is_stopping(&self) {
        self.api.readiness.set(false);
    }

    /// Waits for what [`watch`](Self::watch) began.
    pub(super) async fn unwatch(&mut self) {
        while let Some(ended) = self.watching.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a part ended by a fault of Kymo");
            }
        }
    }

    /// Ends what was started, in the order of invariant 3. The last requests are done by then.
    pub(super) fn stop(self) -> Result<(), Failure> {
        let Parts {
            tree,
            engine,
            upkeep,
            remote_write,
            otlp,
            scrape,
            reload,
            api,
            facts,
            lifecycle,
            collectors,
            remembered,
            ..
        } = self;
        upkeep.stop();
        // The pools end with their last owner.
        drop((tree, remote_write, otlp, scrape, reload, api, facts, lifecycle, collectors));
        engine.close().map_err(|error| {
            Failure::because("the last flush failed", &error)
                .hint("nothing is lost: what was acknowledged is in the log, and the next start reads it from there")
        })?;
        remembered.runs.end();
        tracing::info!("stopped; everything is on disk");
        Ok(())
    }
}

fn collectors(asked: Collect, parts: &CollectParts, process: &Arc<Process>) -> Result<Vec<Collector>, RegisterError> {
    let mut collectors = Vec::new();
    if asked.host {
        collectors.push(Collector::host(CollectorOptions::host(), HostOptions::default(), parts.clone())?);
    }
    if asked.itself {
        let process = process.clone();
        collectors.push(Collector::own(CollectorOptions::own(), parts.clone(), move || process.families())?);
    }
    Ok(collectors)
}

/// What the engine can do when it is asked to.
fn admin(engine: &Arc<Engine>) -> Admin {
    let (engine, taken, compacting) = (engine.clone(), engine.clone(), engine.clone());
    let random = OsRandom::new();
    let snapshot = move |skip_head: bool| {
        let extent = if skip_head { SnapshotExtent::BlocksOnly } else { SnapshotExtent::Everything };
        taken.take_snapshot(extent, &random).map_err(|error| chain(&error))
    };
    let compact = move |ctx: &QueryContext| {
        compacting.compact(|| ctx.check().is_ok()).map_err(|error| chain(&error))?;
        ctx.check().map_err(|error| error.to_string())
    };
    let deleting = engine.clone();
    let delete = move |what: &Deletion, mode: DeleteMode, ctx: &QueryContext| {
        let failed = |error: DeleteError| AdminFailure { kind: error.kind(), message: chain(&error) };
        let mut took = DeleteFigures::default();
        if mode != DeleteMode::Delete {
            let measured = deleting.measure_delete(what, ctx).map_err(|error| failed(error.into()))?;
            took = crate::delete::figures(measured);
        }
        if mode != DeleteMode::DryRun {
            deleting.delete(what).map_err(failed)?;
        }
        Ok(took)
    };
    let looking = engine.clone();
    let retention = move |question: &RetentionQuestion, ctx: &QueryContext| ahead::of_server(&looking, question, ctx);
    let clean = move |ctx: &QueryContext| {
        let cleaned = engine.clean_tombstones(|| ctx.check().is_ok());
        let cleaned = cleaned.map_err(|error| AdminFailure { kind: error.kind(), message: chain(&error) })?;
        ctx.check().map_err(|error| AdminFailure { kind: error.kind(), message: error.to_string() })?;
        Ok(CleanFigures { blocks: cleaned.blocks, bytes: cleaned.bytes })
    };
    Admin {
        compact: Some(Arc::new(compact)),
        snapshot: Some(Arc::new(snapshot)),
        delete: Some(Arc::new(delete)),
        clean: Some(Arc::new(clean)),
        retention: Some(Arc::new(retention)),
    }
}

fn lifecycle(reload: &Arc<Reload>, quit: CancellationToken) -> Lifecycle {
    let reload = reload.clone();
    Lifecycle { reload: Arc::new(move || reload.reload()), quit: Arc::new(move || quit.cancel()) }
}

/// What the program itself limits, for the reference page.
pub(crate) fn limits() -> Vec<Limit> {
    let share = |percent: u64| format!("{percent} % of the memory limit");
    vec![
        Limit::new("memory (`--memory-limit`)", "60 % of what the process may have", "503 for writes, 422 for queries"),
        Limit::new("memory of the engine", share(STORAGE_PERCENT), "503, and the head is flushed"),
        Limit::new("memory of requests on their way in", share(INGEST_PERCENT), "503"),
        Limit::new("memory of queries and their answers", share(QUERIES_PERCENT), "422, naming the limit"),
        Limit::new("memory of answers kept for the next time", share(ANSWERS_PERCENT), "the least used are forgotten"),
        Limit::new("write requests waiting", INGEST_QUEUE, "503"),
        Limit::new(
            "queries at once (`--query-concurrency`)",
            20,
            "they wait for their turn, clients one after the other",
        ),
        Limit::new("queries waiting (`--query-queue`)", 256, "503"),
        Limit::new(
            "threads of all queries (`--query-threads`)",
            "as many as processors may be used",
            "each query goes on with its own thread alone",
        ),
        Limit::new("memory of one query (`--query-memory`)", "1 GiB", "422, naming the limit"),
        Limit::new("lists of labels and series waiting", CATALOGUE_QUEUE, "503"),
        Limit::new("requests waiting while blocks and log are read at the start", door::WAITING_MAX, "503"),
        Limit::new("how long each of them waits", format!("{} s", door::WAIT_MAX.as_secs()), "503"),
    ]
}

fn pool(name: &str, threads: usize, queue: usize) -> Result<Arc<dyn BlockingPool>, Failure> {
    let pool = ThreadPool::start(name, threads, queue)
        .map_err(|error| Failure::because(format_args!("cannot start the threads of {name}"), &error))?;
    Ok(Arc::new(pool))
}
