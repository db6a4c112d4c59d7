//! The tree as facts of [`kymo_core::status`], for surfaces that know no context.

use std::sync::Arc;
use std::time::Duration;

use kymo_core::status::{
    ContextFinding, ContextHold, ContextRequests, ContextState, ContextStatus as ContextFact, ContextWait, StatusError,
    StatusSource,
};

use crate::context::Context;
use crate::status::{ContextStatus, State, Status};
use crate::watch::Finding;

/// Tells of the tree of a context.
pub struct ContextFacts(pub Arc<Context>);

impl StatusSource for ContextFacts {
    fn contexts(&self) -> Result<Vec<ContextFact>, StatusError> {
        Ok(self.0.status().facts())
    }

    fn context_findings(&self) -> Result<Vec<ContextFinding>, StatusError> {
        Ok(self.0.status().finding_facts())
    }
}

impl Status {
    /// Its contexts as facts, sorted by path; also of a status that was read from another program.
    #[must_use]
    pub fn facts(&self) -> Vec<ContextFact> {
        let mut facts: Vec<ContextFact> = self.contexts.iter().map(|context| fact(context, self.taken_ms)).collect();
        facts.sort_by(|a, b| a.path.cmp(&b.path));
        facts
    }

    /// Its findings as facts, circles first.
    #[must_use]
    pub fn finding_facts(&self) -> Vec<ContextFinding> {
        let mut facts: Vec<ContextFinding> = self.findings.iter().map(finding).collect();
        facts.sort_by_key(|fact| !fact.is_cycle);
        facts
    }
}

fn fact(context: &ContextStatus, taken_ms: i64) -> ContextFact {
    let wait = |wait: &crate::status::WaitStatus| ContextWait {
        what: wait.what.clone(),
        waited_ms: millis(wait.waited),
        is_stuck: wait.stuck,
        held_by: wait.held_by.clone(),
    };
    let hold = |hold: &crate::status::HoldStatus| ContextHold {
        lock: hold.lock.clone(),
        held_ms: millis(hold.held),
        waiting: hold.waiting as u64,
    };
    ContextFact {
        path: context.path.clone(),
        state: match context.state {
            State::Active => ContextState::Running,
            State::Idle => ContextState::Idle,
            State::Waiting => ContextState::Waiting,
            State::Stuck => ContextState::Stuck,
            State::Deadlocked => ContextState::Deadlocked,
            State::Cancelled => ContextState::Cancelling,
            State::Failed => ContextState::Failed,
            State::Completed => ContextState::Completed,
        },
        started_ms: taken_ms.saturating_sub(millis(context.uptime)),
        message: context.outcome.as_ref().map(|outcome| outcome.message.clone()).unwrap_or_default(),
        waiting_for: context.waits.first().map(|wait| wait.what.clone()).unwrap_or_default(),
        tasks: u64::from(context.tasks),
        waits: context.waits.iter().map(wait).collect(),
        holds: context.holds.iter().map(hold).collect(),
        requests: context.requests.map(|requests| ContextRequests {
            since_start: requests.since_start,
            last_hour: requests.last_hour,
            last_minute: requests.last_minute,
            last_second: requests.last_second,
        }),
    }
}

fn finding(finding: &Finding) -> ContextFinding {
    let contexts = match finding {
        Finding::Cycle { links, .. } => links.iter().map(|link| link.context.clone()).collect(),
        Finding::LongHold { context, .. } | Finding::LongWait { context, .. } | Finding::IdleTasks { context, .. } => {
            vec![context.clone()]
        }
    };
    ContextFinding { text: finding.to_string(), is_cycle: matches!(finding, Finding::Cycle { .. }), contexts }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
