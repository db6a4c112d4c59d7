//! From the living tree to values.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::{
    ContextStatus, CounterStatus, FinishedStatus, HoldStatus, OutcomeStatus, PathsStatus, Requests, RequestsStatus,
    State, Status, WaitStatus,
};
use crate::context::Context;
use crate::counts::{PathSum, Tally};
use crate::finished::{Finished, Outcome};
use crate::lock::LockView;
use crate::path;
use crate::settings::Settings;
use crate::wait::WaitFor;
use crate::watch::Finding;

pub(super) fn status(root: &Context, with_latest: bool) -> Status {
    let tree = root.tree();
    let findings = root.findings();
    let taken_ms = tree.settings.clock.now_ms();
    let now = tree.now();
    let sums = tree.paths.sums(now);
    let contexts = contexts(root, now, &sums, &findings);
    let living: HashSet<&str> = contexts.iter().map(|context| context.path.as_str()).collect();
    let requests = sums
        .iter()
        .map(|sum| RequestsStatus {
            path: sum.path.clone(),
            lives: living.contains(sum.path.as_str()),
            requests: Requests::from(&sum.requests),
            counters: counters(&sum.tallies),
        })
        .collect();
    let usage = tree.paths.usage();
    Status {
        taken_ms,
        requests,
        contexts,
        findings,
        finished: tree.finished.count(),
        latest: with_latest.then(|| tree.finished.last().iter().map(|last| finished(last, now)).collect()),
        paths: PathsStatus { counted: usage.counted, folded: usage.folded, refused: usage.refused },
    }
}

fn contexts(root: &Context, now: Duration, sums: &[PathSum], findings: &[Finding]) -> Vec<ContextStatus> {
    let settings = &root.tree().settings;
    let sums: HashMap<&str, &PathSum> = sums.iter().map(|sum| (sum.path.as_str(), sum)).collect();
    let views: Vec<LockView> = root.tree().locks().iter().map(|lock| lock.view()).collect();
    let holds = holds(&views, now);
    let deadlocked: HashSet<&str> = findings
        .iter()
        .filter_map(|finding| match finding {
            Finding::Cycle { links, within_one_task: false } => Some(links),
            _ => None,
        })
        .flatten()
        .map(|link| link.context.as_str())
        .collect();

    let mut all: Vec<ContextStatus> = Vec::new();
    // A stack and no recursion: a tree may be deeper than the stack of a thread.
    let mut left: Vec<(Arc<Context>, Option<usize>)> = vec![(root.own(), None)];
    let mut parents: Vec<Option<usize>> = Vec::new();
    while let Some((context, parent)) = left.pop() {
        let (mut full_path, depth) = match parent {
            None => (String::new(), 0),
            Some(parent) => (format!("{}.", all[parent].path), all[parent].depth + 1),
        };
        path::write_name(&mut full_path, context.name());
        let sum = sums.get(full_path.as_str()).copied();
        let own_holds = holds.get(&Arc::as_ptr(&context)).cloned().unwrap_or_default();
        let is_deadlocked = deadlocked.contains(full_path.as_str());
        let status = context_status(&context, full_path, depth, now, settings, sum, own_holds);
        let at = all.len();
        all.push(if is_deadlocked { ContextStatus { state: State::Deadlocked, ..status } } else { status });
        parents.push(parent);
        let mut children = context.children();
        children.sort_by(|a, b| b.name().cmp(a.name()).then(b.started().cmp(&a.started())));
        left.extend(children.into_iter().map(|child| (child, Some(at))));
    }
    // Children come after their parents: backwards, each has all of its own when it is handed up.
    for at in (0..all.len()).rev() {
        if let Some(parent) = parents[at] {
            all[parent].idle = all[parent].idle.min(all[at].idle);
        }
    }
    for context in &mut all {
        if context.state == State::Idle && context.idle < settings.idle_after {
            context.state = State::Active;
        }
    }
    all
}

fn context_status(
    context: &Context,
    path: String,
    depth: usize,
    now: Duration,
    settings: &Settings,
    sum: Option<&PathSum>,
    holds: Vec<HoldStatus>,
) -> ContextStatus {
    let idle = context.idle(now);
    let waits = waits(context, now, settings);
    let (metrics, data, left_out, outcome) = match context.known_details() {
        Some(details) => (
            details.metrics.iter().map(|(key, value)| (key.to_string(), value.clone())).collect(),
            details.data.iter().map(|(key, value)| (key.to_string(), value.clone())).collect(),
            details.left_out,
            details.outcome.as_ref().map(outcome_status),
        ),
        None => Default::default(),
    };
    let is_cancelled = context.is_cancelled();
    let state = match &outcome {
        Some(outcome) if outcome.ok => State::Completed,
        Some(_) => State::Failed,
        None if is_cancelled => State::Cancelled,
        None if waits.iter().any(|wait| wait.stuck) => State::Stuck,
        None if !waits.is_empty() => State::Waiting,
        None if idle >= settings.idle_after => State::Idle,
        None => State::Active,
    };
    let requests = sum.filter(|sum| sum.requests.since_start > 0).map(|sum| Requests::from(&sum.requests));
    ContextStatus {
        path,
        name: context.name().to_owned(),
        depth,
        uptime: now.saturating_sub(context.started()),
        state,
        idle,
        tasks: context.tasks(),
        is_cancelled,
        outcome,
        waits,
        holds,
        metrics,
        data,
        left_out,
        counters: sum.map(|sum| counters(&sum.tallies)).unwrap_or_default(),
        requests,
    }
}

fn waits(context: &Context, now: Duration, settings: &Settings) -> Vec<WaitStatus> {
    // Locks are looked into after the context's own lock was let go.
    let noted: Vec<_> = context
        .waits()
        .iter()
        .map(|wait| {
            let (name, lock) = match &wait.what {
                WaitFor::Named(name) => (Some(name.clone().into_owned()), None),
                WaitFor::Lock(lock) => (None, Some(lock.clone())),
            };
            (name, lock, now.saturating_sub(wait.since))
        })
        .collect();
    let mut waits: Vec<WaitStatus> = noted
        .into_iter()
        .map(|(name, lock, waited)| {
            let held_by = lock.as_ref().map(|lock| lock.view().holders).unwrap_or_default();
            WaitStatus {
                what: name.or_else(|| lock.as_ref().map(|lock| lock.name().to_owned())).unwrap_or_default(),
                lock: lock.map(|lock| lock.kind()),
                waited,
                stuck: waited >= settings.stuck_after,
                held_by: held_by.into_iter().map(|(_, party)| party.scope.context.path()).collect(),
            }
        })
        .collect();
    waits.sort_by(|a, b| b.waited.cmp(&a.waited).then_with(|| a.what.cmp(&b.what)));
    waits
}

fn holds(views: &[LockView], now: Duration) -> BTreeMap<*const Context, Vec<HoldStatus>> {
    let mut holds: BTreeMap<*const Context, Vec<HoldStatus>> = BTreeMap::new();
    for view in views {
        for (_, party) in &view.holders {
            holds.entry(Arc::as_ptr(&party.scope.context)).or_default().push(HoldStatus {
                lock: view.lock.name().to_owned(),
                kind: view.lock.kind(),
                held: now.saturating_sub(party.since),
                waiting: view.waiters.len(),
            });
        }
    }
    for held in holds.values_mut() {
        held.sort_by(|a, b| b.held.cmp(&a.held).then_with(|| a.lock.cmp(&b.lock)));
    }
    holds
}

fn counters(tallies: &BTreeMap<Box<str>, Tally>) -> BTreeMap<String, CounterStatus> {
    let status = |tally: &Tally| CounterStatus { total: tally.total, live: tally.live };
    tallies.iter().map(|(name, tally)| (name.to_string(), status(tally))).collect()
}

fn outcome_status(outcome: &Outcome) -> OutcomeStatus {
    OutcomeStatus { ok: outcome.is_ok, message: outcome.message.to_string() }
}

fn finished(last: &Finished, now: Duration) -> FinishedStatus {
    let mut path = format!("{}.", last.parent_path);
    path::write_name(&mut path, last.name.as_str());
    FinishedStatus {
        path,
        uptime: last.ended.saturating_sub(last.started),
        ago: now.saturating_sub(last.ended),
        outcome: last.outcome.as_ref().map(outcome_status),
        is_cancelled: last.is_cancelled,
    }
}
