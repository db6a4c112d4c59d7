//! What is wrong: locks that wait in a circle, locks held long, long waits, tasks that do nothing.

mod cycle;
mod thread;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use thread::{Watch, WatchOptions};

use crate::context::Context;
use crate::lock::LockKind;
use crate::status::text::DurationText;
use crate::value::seconds;
use crate::wait::WaitFor;

pub(crate) use cycle::cycles;

/// Something that a person should look at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// Tasks wait for each other in a circle: none of them will ever go on.
    Cycle {
        /// Each waits for the next, the last for the first.
        links: Vec<Link>,
        /// The circle is one task that waits for what it holds. If branches of it share the lock, another may let go.
        within_one_task: bool,
    },
    /// A lock is held for long.
    LongHold {
        /// By which context.
        context: String,
        /// The lock's name.
        lock: String,
        /// Its kind.
        kind: LockKind,
        /// For how long.
        #[serde(with = "seconds")]
        held: Duration,
        /// How many wait for it.
        waiting: usize,
    },
    /// A wait takes long.
    LongWait {
        /// In which context.
        context: String,
        /// For what: the name of the wait or of the lock.
        what: String,
        /// For how long.
        #[serde(with = "seconds")]
        waited: Duration,
    },
    /// Nobody has polled the tasks of a context for long, and none waits for anything with a name.
    IdleTasks {
        /// Which context.
        context: String,
        /// How many tasks.
        tasks: u32,
        /// For how long.
        #[serde(with = "seconds")]
        idle: Duration,
    },
}

/// One wait of a circle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Who waits.
    pub context: String,
    /// For which lock.
    pub lock: String,
    /// Its kind.
    pub kind: LockKind,
    /// The context it belongs to.
    pub owner: String,
    /// For how long.
    #[serde(with = "seconds")]
    pub waited: Duration,
    /// Who is in the way.
    pub blocked_by: String,
    /// Whether that one holds the lock; else it waits for it too, and came before.
    pub holds: bool,
    /// For how long it holds or waits.
    #[serde(with = "seconds")]
    pub held: Duration,
}

impl Finding {
    /// The same for the same trouble, however long it lasts.
    pub(crate) fn key(&self) -> String {
        match self {
            Finding::Cycle { links, .. } => {
                let mut parts: Vec<String> =
                    links.iter().map(|link| format!("{}\0{}\0{}", link.context, link.owner, link.lock)).collect();
                parts.sort_unstable();
                format!("cycle\0{}", parts.join("\0"))
            }
            Finding::LongHold { context, lock, .. } => format!("hold\0{context}\0{lock}"),
            Finding::LongWait { context, what, .. } => format!("wait\0{context}\0{what}"),
            Finding::IdleTasks { context, .. } => format!("idle\0{context}"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Cycle { links, within_one_task } => {
                f.write_str(if *within_one_task {
                    "a task waits for a lock that it holds itself (unless another branch of it lets go):"
                } else {
                    "deadlock:"
                })?;
                for link in links {
                    write!(
                        f,
                        "\n  {} waits for {} {:?} ({}), which {} {} ({})",
                        link.context,
                        link.kind.as_str(),
                        link.lock,
                        DurationText(link.waited),
                        link.blocked_by,
                        if link.holds { "holds" } else { "waits for before it" },
                        DurationText(link.held),
                    )?;
                }
                Ok(())
            }
            Finding::LongHold { context, lock, kind, held, waiting } => {
                write!(f, "{context} holds {} {lock:?} for {}", kind.as_str(), DurationText(*held))?;
                if *waiting > 0 {
                    write!(f, ", and {waiting} wait for it")?;
                }
                Ok(())
            }
            Finding::LongWait { context, what, waited } => {
                write!(f, "{context} is stuck on {what:?} {}", DurationText(*waited))
            }
            Finding::IdleTasks { context, tasks, idle } => {
                write!(f, "{tasks} task(s) of {context} were not polled for {}", DurationText(*idle))
            }
        }
    }
}

impl Context {
    /// Everything in the tree of this context that a person should look at: circles first, then long holds, long waits
    /// and idle tasks, each sorted by path. Walks the whole tree.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = cycles(self.tree());
        findings.extend(long_holds(self));
        findings.extend(long_waits_and_idle_tasks(self.root()));
        findings
    }

    /// Only the circles of locks. Costs nothing while nobody waits for a lock.
    #[must_use]
    pub fn cycles(&self) -> Vec<Finding> {
        cycles(self.tree())
    }
}

fn long_holds(context: &Context) -> Vec<Finding> {
    let tree = context.tree();
    let now = tree.now();
    let mut found = BTreeMap::new();
    for lock in tree.locks() {
        let view = lock.view();
        for (id, party) in view.holders {
            let held = now.saturating_sub(party.since);
            if held >= tree.settings.held_after {
                let context = party.scope.context.path();
                let (lock, kind, waiting) = (lock.name().to_owned(), lock.kind(), view.waiters.len());
                found.insert((context.clone(), id), Finding::LongHold { context, lock, kind, held, waiting });
            }
        }
    }
    found.into_values().collect()
}

fn long_waits_and_idle_tasks(root: &Context) -> Vec<Finding> {
    let settings = &root.tree().settings;
    let now = root.tree().now();
    let mut waits = Vec::new();
    let mut idle_tasks = Vec::new();
    each(root, &mut |context, path| {
        let mut waits_at_all = false;
        for wait in context.waits().iter() {
            waits_at_all = true;
            let waited = now.saturating_sub(wait.since);
            if waited >= settings.stuck_after {
                let what = match &wait.what {
                    WaitFor::Named(name) => name.clone().into_owned(),
                    WaitFor::Lock(lock) => lock.name().to_owned(),
                };
                waits.push(Finding::LongWait { context: path.to_owned(), what, waited });
            }
        }
        let tasks = context.tasks();
        let idle = context.idle(now);
        if tasks > 0 && !waits_at_all && idle >= settings.idle_task_after {
            idle_tasks.push(Finding::IdleTasks { context: path.to_owned(), tasks, idle });
        }
    });
    waits.append(&mut idle_tasks);
    waits
}

/// Visits `root` and everything below, parents first, siblings by name and age.
fn each(root: &Context, visit: &mut impl FnMut(&Context, &str)) {
    let mut left: Vec<(Arc<Context>, String)> = vec![(root.own(), root.path())];
    while let Some((context, path)) = left.pop() {
        visit(&context, &path);
        let mut children = context.children();
        children.sort_by(|a, b| b.name().cmp(a.name()).then(b.started().cmp(&a.started())));
        for child in children {
            let mut child_path = String::with_capacity(path.len() + 1 + child.name().len());
            child_path.push_str(&path);
            child_path.push('.');
            crate::path::write_name(&mut child_path, child.name());
            left.push((child, child_path));
        }
    }
}

/// Whether somebody still has the tree.
fn is_alive(root: &Weak<Context>) -> Option<Arc<Context>> {
    root.upgrade()
}
