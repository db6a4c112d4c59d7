//! Waiting until a context is cancelled.

use std::future::Future;
use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context as TaskContext, Poll};

use crate::branch::Branch;
use crate::context::Context;

/// Ready once its context is cancelled; made by [`Context::cancelled`].
#[must_use = "futures do nothing unless awaited"]
pub struct Cancelled<'a> {
    branch: &'a Branch<Weak<Context>>,
    key: Option<u32>,
}

impl<'a> Cancelled<'a> {
    pub(crate) fn new(branch: &'a Branch<Weak<Context>>) -> Self {
        Self { branch, key: None }
    }
}

impl Future for Cancelled<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<()> {
        let branch = self.branch;
        branch.poll_cancelled(&mut self.key, task)
    }
}

impl Drop for Cancelled<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.branch.leave(key);
        }
    }
}
