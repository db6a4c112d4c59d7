use std::sync::Arc;

use kymo_core::status::{StatusSource, TargetHealth};
use tokio_util::sync::CancellationToken;

use super::support::{Answer, Rig, START_MS, TestTarget, follow, job, page, scraper, text, until};
use crate::scrape::job::targets_of;
use crate::scrape::jobs::ScrapeManager;
use crate::scrape::{ScrapeConfig, ScrapeDefaults, discovery};

fn config(interval: &str, targets: &[std::net::SocketAddr]) -> String {
    let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
    format!(
        r#"{{"job_name":"j","scrape_interval":"{interval}","static_configs":[{{"targets":{targets:?},"labels":{{"env":"t"}}}}]}}"#
    )
}

#[tokio::test(start_paused = true)]
async fn configured_targets_are_scraped_until_shutdown() {
    let rig = Rig::new();
    follow(&rig.clock);
    let target = TestTarget::start(text("# HELP a Help.\na 1\n")).await;
    let manager = rig.manager();
    manager.apply(vec![job(&config("15s", &[target.address]))]).unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let (manager, shutdown) = (manager.clone(), shutdown.clone());
        async move { manager.run(shutdown).await }
    });
    until(|| rig.samples("a").len() >= 3).await;
    let status = manager.targets().unwrap().remove(0);
    assert_eq!((status.pool.as_str(), status.health, status.interval_ms), ("j", TargetHealth::Up, 15_000));
    assert_eq!((status.labels["env"].as_str(), status.discovered_labels["__scheme__"].as_str()), ("t", "http"));
    until(|| !manager.metadata()[0].families.is_empty()).await;
    assert_eq!(manager.metadata()[0].families[0].1.help, "Help.");
    shutdown.cancel();
    running.await.unwrap();
    // Nothing is marked stale: after a restart the target goes on.
    assert!(rig.samples("a").iter().all(|line| !line.contains("stale")));
    let count = target.requests().len();
    tokio::task::yield_now().await;
    assert_eq!(target.requests().len(), count);
}

#[tokio::test(start_paused = true)]
async fn a_reload_leaves_unchanged_jobs_alone_and_marks_what_is_gone() {
    let rig = Rig::new();
    follow(&rig.clock);
    let (stays, goes) = (TestTarget::start(text("a 1\n")).await, TestTarget::start(text("b 1\n")).await);
    let manager = rig.manager();
    let named =
        |name: &str, target: &TestTarget| job(&config("15s", &[target.address]).replace("\"j\"", &format!("{name:?}")));
    manager.apply(vec![named("stays", &stays), named("goes", &goes)]).unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let (manager, shutdown) = (manager.clone(), shutdown.clone());
        async move { manager.run(shutdown).await }
    });
    until(|| !rig.samples("a").is_empty() && !rig.samples("b").is_empty()).await;
    assert_eq!(manager.scrape_pools().unwrap(), ["stays", "goes"]);
    manager.apply(vec![named("stays", &stays)]).unwrap();
    until(|| rig.samples("b").iter().any(|line| line.contains("stale"))).await;
    let at = rig.samples("a").len();
    until(|| rig.samples("a").len() > at).await;
    assert!(rig.samples("a").iter().all(|line| !line.contains("stale")));
    assert!(rig.samples("up").iter().any(|line| line.contains("goes") && line.contains("stale")));
    assert_eq!(manager.targets().unwrap().len(), 1);
    shutdown.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_successor_keeps_the_series_of_a_target_that_is_gone() {
    let rig = Rig::new();
    let target = TestTarget::start(text("a 1\nb 1\n")).await;
    let shared = rig.manager().shared();
    let plain = || job(r#"{"job_name":"j"}"#);
    // The same labels at another URL: another target with the same series.
    let moved = job(r#"{"job_name":"j","params":{"x":["y"]}}"#);
    let (old, new) = (scraper(&shared, plain(), target.address), scraper(&shared, moved, target.address));
    assert_ne!(old.target().identity, new.target().identity);
    shared.arrive(&old);
    old.scrape(START_MS).await;
    shared.depart(Ok(old.clone()));
    shared.arrive(&new);
    target.answers(text("a 2\n"));
    new.scrape(START_MS + 10).await;
    old.end(START_MS + 20).await;
    let values = |prefix: &str| -> Vec<String> {
        rig.samples(prefix).iter().map(|line| line.split_once("} ").unwrap().1.to_owned()).collect()
    };
    assert_eq!(values("a"), ["1 @0", "2 @10"]);
    assert_eq!(values("b"), ["1 @0", "stale @20"]);
    assert_eq!(values("up"), ["1 @0", "1 @10"]);
}

#[tokio::test(start_paused = true)]
async fn too_many_targets_fail_all_of_their_scrapes() {
    let rig = Rig::new();
    follow(&rig.clock);
    let target = TestTarget::start(text("a 1\n")).await;
    let manager = rig.manager();
    let two = config("15s", &[target.address, "127.0.0.1:1".parse().unwrap()]);
    manager.apply(vec![job(&two.replacen('{', r#"{"target_limit":1,"#, 1))]).unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let (manager, shutdown) = (manager.clone(), shutdown.clone());
        async move { manager.run(shutdown).await }
    });
    let all_down = |manager: &ScrapeManager| {
        let targets = manager.targets().unwrap();
        targets.len() == 2 && targets.iter().all(|target| target.health == TargetHealth::Down)
    };
    until(|| all_down(&manager)).await;
    assert_eq!(manager.targets().unwrap()[0].last_error, "target_limit exceeded (number of targets: 2, limit: 1)");
    shutdown.cancel();
    running.await.unwrap();
    assert!(target.requests().is_empty() && rig.samples("a").is_empty());
}

#[test]
fn a_client_that_cannot_be_made_keeps_the_old_jobs() {
    let rig = Rig::new();
    let manager = rig.manager();
    manager.apply(vec![job(r#"{"job_name":"old"}"#)]).unwrap();
    let parts = crate::scrape::ScrapeParts {
        storage: rig.storage.clone(),
        ledger: rig.ledger.clone(),
        clock: rig.clock.clone(),
        pool: Arc::new(kymo_core::pool::ThreadPool::start("test", 1, 1).unwrap()),
        budget: kymo_core::Budget::unlimited(),
        clients: Arc::new(|config| match config.bearer_token_file.is_some() {
            true => Err("no such file".into()),
            false => Ok(reqwest::Client::new().into()),
        }),
        registry: kymo_core::registry::Registry::new(),
        seed: 0,
    };
    let failing = ScrapeManager::new(parts).unwrap();
    let _ = super::support::clients();
    failing.apply(vec![job(r#"{"job_name":"old"}"#)]).unwrap();
    let error = failing.apply(vec![job(r#"{"job_name":"new","bearer_token_file":"x"}"#)]).unwrap_err();
    assert_eq!(error.to_string(), "scrape job \"new\": cannot make its HTTP client");
    assert_eq!(
        (failing.scrape_pools().unwrap(), manager.scrape_pools().unwrap()),
        (vec!["old".to_owned()], vec!["old".to_owned()])
    );
}

#[test]
fn equal_targets_are_one_and_bad_ones_are_named() {
    let json = r#"{"job_name":"j","relabel_configs":[{"source_labels":["env"],"regex":"off","action":"drop"}]}"#;
    let config: ScrapeConfig = serde_json::from_str(json).unwrap();
    let config = config.resolve(&ScrapeDefaults::default()).unwrap();
    let group = |targets: &[&str], env: &str| discovery::Group {
        targets: targets.iter().map(|t| [("__address__".to_owned(), (*t).to_owned())].into()).collect(),
        labels: [("env".to_owned(), env.to_owned())].into(),
    };
    let found = targets_of(&config, &[group(&["h:1", "h:2"], "a"), group(&["h:1", ""], "a"), group(&["h:3"], "off")]);
    assert_eq!((found.targets.len(), found.dropped.len(), found.errors.len()), (2, 1, 1));
    assert_eq!(found.dropped[0]["__address__"], "h:3");
    assert!(found.errors[0].ends_with("no address"), "{:?}", found.errors);
}

#[tokio::test(start_paused = true)]
async fn a_changed_job_begins_with_what_was_discovered_before() {
    let rig = Rig::new();
    follow(&rig.clock);
    let target = TestTarget::start(text("a 1\n")).await;
    let listed = format!(r#"[{{"targets":["{}"]}}]"#, target.address);
    let list = TestTarget::start(page("application/json", listed)).await;
    let manager = rig.manager();
    let named = |limit: u32| {
        let json = r#"{"job_name":"j","sample_limit":LIMIT,"http_sd_configs":[{"url":"http://ADDRESS/"}]}"#;
        job(&json.replace("LIMIT", &limit.to_string()).replace("ADDRESS", &list.address.to_string()))
    };
    manager.apply(vec![named(10)]).unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let (manager, shutdown) = (manager.clone(), shutdown.clone());
        async move { manager.run(shutdown).await }
    });
    until(|| !rig.samples("a").is_empty()).await;
    list.answers(Answer::Reset);
    manager.apply(vec![named(20)]).unwrap();
    let before = rig.samples("a").len();
    until(|| rig.samples("a").len() > before + 3).await;
    // Long after the reload the series has no marker: the new scraper goes on with it.
    assert!(rig.samples("a").iter().all(|line| !line.contains("stale")), "{:?}", rig.samples("a"));
    assert_eq!(manager.targets().unwrap().len(), 1);
    shutdown.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn without_a_free_thread_a_scrape_is_lost_and_told() {
    let rig = Rig::new();
    let target = TestTarget::start(text("a 1\n")).await;
    let shared = rig.manager_on(0, kymo_core::Budget::unlimited()).shared();
    let scraper = scraper(&shared, job(r#"{"job_name":"j"}"#), target.address);
    scraper.scrape(START_MS).await;
    let status = scraper.status();
    assert_eq!(
        (status.health, status.last_error.as_str()),
        (TargetHealth::Down, "the \"test\" pool is full: 0 jobs are waiting")
    );
    assert_eq!(rig.losses(), [("not_stored".to_owned(), 1)]);
}

#[tokio::test]
async fn an_answer_larger_than_the_memory_left_is_refused_and_the_memory_given_back() {
    let rig = Rig::new();
    let target = TestTarget::start(text("# a long comment\n".repeat(20_000))).await;
    let budget = kymo_core::Budget::root("process", 200 << 10);
    let shared = rig.manager_on(10, budget.clone()).shared();
    let scraper = scraper(&shared, job(r#"{"job_name":"j"}"#), target.address);
    scraper.scrape(START_MS).await;
    assert!(scraper.status().last_error.contains("\"process\""), "{}", scraper.status().last_error);
    assert_eq!(rig.losses(), [("memory_limit".to_owned(), 1)]);
    assert_eq!((rig.report("up", 0), budget.used()), (Some(0.0), 0));
    target.answers(text("a 1\n"));
    scraper.scrape(START_MS + 10).await;
    assert_eq!(rig.report("up", 10), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_delays_nobody_and_dropped_ones_are_shown() {
    let rig = Rig::new();
    follow(&rig.clock);
    let (good, hangs) = (TestTarget::start(text("a 1\n")).await, TestTarget::start(Answer::Hang).await);
    let manager = rig.manager();
    let rules = r#"{"relabel_configs":[{"source_labels":["__address__"],"regex":"dropped:.*","action":"drop"}],"#;
    let config = config("15s", &[good.address, hangs.address]).replace(r#"],"labels""#, r#","dropped:1"],"labels""#);
    manager.apply(vec![job(&config.replacen('{', rules, 1))]).unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let (manager, shutdown) = (manager.clone(), shutdown.clone());
        async move { manager.run(shutdown).await }
    });
    let ups = |health: &str| rig.samples("up").iter().filter(|line| line.contains(health)).count();
    until(|| ups(" 0 @") >= 2 && rig.samples("a").len() >= 2).await;
    let mut targets = manager.targets().unwrap();
    targets.sort_by_key(|target| target.health == TargetHealth::Dropped);
    let down = targets.iter().find(|target| target.url.contains(&hangs.address.to_string())).unwrap();
    assert!(down.last_error.ends_with("context deadline exceeded"), "{}", down.last_error);
    assert_eq!(targets.len(), 3);
    assert_eq!(targets[2].discovered_labels["__address__"], "dropped:1");
    assert!(targets[2].labels.is_empty() && targets[2].url.is_empty());
    shutdown.cancel();
    running.await.unwrap();
}
