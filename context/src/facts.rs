//! The tree as facts of [`kymo_core::status`], for surfaces that know no context.

use std::sync::Arc;

use kymo_core::status::{ContextState, ContextStatus as ContextFact, StatusError, StatusSource};

use crate::context::Context;
use crate::status::State;

/// Tells of the tree of a context.
pub struct ContextFacts(pub Arc<Context>);

impl StatusSource for ContextFacts {
    fn contexts(&self) -> Result<Vec<ContextFact>, StatusError> {
        let status = self.0.status();
        let fact = |context: crate::status::ContextStatus| ContextFact {
            started_ms: status.taken_ms - i64::try_from(context.uptime.as_millis()).unwrap_or(i64::MAX),
            state: match context.state {
                State::Cancelled => ContextState::Cancelling,
                State::Failed => ContextState::Failed,
                State::Completed => ContextState::Completed,
                State::Active | State::Idle | State::Waiting | State::Stuck | State::Deadlocked => {
                    ContextState::Running
                }
            },
            message: context.outcome.map(|outcome| outcome.message).unwrap_or_default(),
            waiting_for: context.waits.first().map(|wait| wait.what.clone()).unwrap_or_default(),
            tasks: u64::from(context.tasks),
            path: context.path,
        };
        let mut facts: Vec<ContextFact> = status.contexts.into_iter().map(fact).collect();
        facts.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(facts)
    }
}
