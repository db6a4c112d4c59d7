//! A context before it begins.

use std::future::Future;
use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::context::Context;
use crate::path::Name;
use crate::scope::{Scope, Scoped};
use crate::value::{Details, MetricValue};

/// A context to be: given values in any order, then begun by [`spawn`](Self::spawn) or [`begin`](Self::begin). Dropped
/// before, it never was.
#[must_use = "a builder begins nothing before `spawn` or `begin`"]
pub struct ContextBuilder {
    parent: Arc<Context>,
    name: Name,
    details: Option<Box<Details>>,
}

impl ContextBuilder {
    pub(crate) fn new(parent: Arc<Context>, name: Name) -> Self {
        Self { parent, name, details: None }
    }

    /// Data that is there from the beginning; the later of two values under one key counts.
    pub fn with_data(mut self, key: &str, value: serde_json::Value) -> Self {
        self.details.get_or_insert_default().set_data(key, value);
        self
    }

    /// A metric that is there from the beginning; the later of two values under one key counts.
    pub fn with_metric(mut self, key: &str, value: MetricValue) -> Self {
        self.details.get_or_insert_default().set_metric(key, value);
        self
    }

    /// Begins the context without a task: for handlers that already run in one.
    pub fn begin(self) -> Arc<Context> {
        let context = Context::begin(self.parent, self.name);
        if let Some(details) = self.details {
            *context.details() = *details;
        }
        context
    }

    /// Begins the context and runs `task` in it on tokio. The task finds all values at its first instruction, and the
    /// context lives at least as long as the task.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[track_caller]
    pub fn spawn<F, Fut>(self, task: F) -> JoinHandle<Fut::Output>
    where
        F: FnOnce(Arc<Context>) -> Fut + Send + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: Send + 'static,
    {
        let context = self.begin();
        let scope = Scope::task_of(context.clone());
        tokio::spawn(Scoped::new(scope, async move { task(context).await }))
    }
}
