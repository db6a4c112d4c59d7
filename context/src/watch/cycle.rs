//! Tasks that wait for each other in a circle.
//!
//! The graph has a node per task that waits for one of our locks. It is stuck when what it waits for can only be given
//! by tasks that are stuck:
//! * for a mutex or a lock for readers and writers: when any holder in its way is stuck, or anybody before it in the
//!   queue, since the queues are fair;
//! * for permits: when every holder is stuck, or anybody before it in the queue.
//!
//! The largest set of tasks that are stuck by this rule is found by taking away, over and over, who is not; what remains
//! waits for ever, and every task in it has an edge that stays inside, so following edges ends in a circle.
//!
//! Locks are looked at one after the other, so a first look may join what was never true at once. Every wait and hold has
//! a number that is never used again: a circle is reported when a second look finds all the same numbers, because then
//! each was there from its first sighting to its second, and all of these stretches contain the moment between the looks.
//!
//! A task that waits for a lock it holds itself is a circle of one. When branches of one task share a lock (`join!`), it
//! is not: the other branch may go on. That cannot be told apart from outside; the finding says so.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::{Finding, Link};
use crate::lock::{LockKind, LockView, Party, Use};
use crate::scope::Actor;
use crate::tree::Tree;

/// Somebody in the way of a wait.
struct Blocker {
    id: u64,
    actor: Actor,
    path: String,
    since: Duration,
    holds: bool,
}

struct Edge<'a> {
    view: &'a LockView,
    id: u64,
    party: &'a Party,
    blockers: Vec<Blocker>,
    /// Whether one stuck holder is enough.
    any_holder: bool,
}

/// The address of a lock, which the first look keeps alive over the second, and the number of a wait or hold there.
type PartyId = (usize, u64);

fn party_id(view: &LockView, id: u64) -> PartyId {
    (Arc::as_ptr(&view.lock).addr(), id)
}

/// All circles of the tree, each once.
pub(crate) fn cycles(tree: &Tree) -> Vec<Finding> {
    let first = look(tree);
    let candidates = circles(&first, tree.now());
    if candidates.is_empty() {
        return Vec::new();
    }
    let again = look(tree);
    let there: BTreeSet<PartyId> = again
        .iter()
        .flat_map(|view| view.holders.iter().chain(&view.waiters).map(|(id, _)| party_id(view, *id)))
        .collect();
    let is_true = |(ids, _): &(Vec<PartyId>, Finding)| ids.iter().all(|id| there.contains(id));
    candidates.into_iter().filter(is_true).map(|(_, finding)| finding).collect()
}

fn look(tree: &Tree) -> Vec<LockView> {
    tree.contended().iter().map(|lock| lock.view()).collect()
}

/// Circles with the numbers of the waits and holds they are made of.
fn circles(views: &[LockView], now: Duration) -> Vec<(Vec<PartyId>, Finding)> {
    let edges: Vec<Edge<'_>> = views.iter().flat_map(edges_of).collect();
    // A task has several waits when branches of it wait; it is taken for stuck while any of them is.
    let mut by_actor: HashMap<Actor, Vec<usize>> = HashMap::new();
    for (index, edge) in edges.iter().enumerate() {
        by_actor.entry(edge.party.scope.actor).or_default().push(index);
    }
    let mut is_stuck = vec![true; edges.len()];
    loop {
        let actor_is_stuck =
            |actor: &Actor| by_actor.get(actor).is_some_and(|waits| waits.iter().any(|wait| is_stuck[*wait]));
        let freed: Vec<usize> =
            (0..edges.len()).filter(|index| is_stuck[*index] && !edges[*index].is_stuck(&actor_is_stuck)).collect();
        if freed.is_empty() {
            break;
        }
        freed.into_iter().for_each(|index| is_stuck[index] = false);
    }

    let next = |index: usize| -> Option<(usize, &Blocker)> {
        let stuck_wait = |actor: &Actor| by_actor.get(actor)?.iter().copied().find(|wait| is_stuck[*wait]);
        edges[index].blockers.iter().find_map(|blocker| Some((stuck_wait(&blocker.actor)?, blocker)))
    };
    let mut found = Vec::new();
    let mut seen = vec![false; edges.len()];
    for start in (0..edges.len()).filter(|index| is_stuck[*index]) {
        let mut way: Vec<usize> = Vec::new();
        let mut here = start;
        while !seen[here] {
            seen[here] = true;
            way.push(here);
            match next(here) {
                Some((there, _)) => here = there,
                None => break,
            }
        }
        // A way that ran into an earlier one brings no circle of its own.
        let Some(begin) = way.iter().position(|index| *index == here) else { continue };
        let circle = &way[begin..];
        let mut ids = Vec::new();
        let mut links = Vec::new();
        for index in circle {
            let edge = &edges[*index];
            let Some((_, blocker)) = next(*index) else { continue };
            ids.extend([party_id(edge.view, edge.id), party_id(edge.view, blocker.id)]);
            links.push(edge.link(blocker, now));
        }
        if links.len() == circle.len() {
            let within_one_task =
                circle.iter().all(|index| edges[*index].party.scope.actor == edges[circle[0]].party.scope.actor);
            found.push((ids, Finding::Cycle { links, within_one_task }));
        }
    }
    found
}

fn edges_of(view: &LockView) -> Vec<Edge<'_>> {
    let mut edges = Vec::with_capacity(view.waiters.len());
    for (place, (id, party)) in view.waiters.iter().enumerate() {
        let is_in_the_way = |holder: &&(u64, Party)| match (party.how, holder.1.how) {
            (Use::Shared, Use::Shared) => false,
            (_, _) => true,
        };
        let holders = view.holders.iter().filter(is_in_the_way).map(|party| Blocker::new(party, true));
        let own = party.scope.actor;
        let before = view.waiters[..place].iter().filter(|other| other.1.scope.actor != own);
        let blockers = holders.chain(before.map(|party| Blocker::new(party, false))).collect();
        edges.push(Edge { view, id: *id, party, blockers, any_holder: view.lock.kind() != LockKind::Semaphore });
    }
    edges
}

impl Blocker {
    fn new((id, party): &(u64, Party), holds: bool) -> Blocker {
        let path = party.scope.context.path();
        Blocker { id: *id, actor: party.scope.actor, path, since: party.since, holds }
    }
}

impl Edge<'_> {
    fn is_stuck(&self, actor_is_stuck: &impl Fn(&Actor) -> bool) -> bool {
        let stuck = |holds: bool| {
            self.blockers
                .iter()
                .filter(move |blocker| blocker.holds == holds)
                .map(|blocker| actor_is_stuck(&blocker.actor))
        };
        let by_queue = stuck(false).any(|stuck| stuck);
        let by_holders = if self.any_holder {
            stuck(true).any(|stuck| stuck)
        } else {
            stuck(true).next().is_some() && stuck(true).all(|stuck| stuck)
        };
        by_queue || by_holders
    }

    fn link(&self, blocker: &Blocker, now: Duration) -> Link {
        Link {
            context: self.party.scope.context.path(),
            lock: self.view.lock.name().to_owned(),
            kind: self.view.lock.kind(),
            owner: self.view.lock.owner().to_owned(),
            waited: now.saturating_sub(self.party.since),
            blocked_by: blocker.path.clone(),
            holds: blocker.holds,
            held: now.saturating_sub(blocker.since),
        }
    }
}
