//! Whose query runs next.
//!
//! So many queries run at once; the others wait. A place that becomes free goes to the asker that has waited longest since
//! it last got one, so that a hundred queries of one dashboard delay another's single one by one query and not by a
//! hundred. Some places no asker may take for itself alone: whatever one asks, another finds one of them free or soon to
//! be. Queries at one moment and over a range are of two askers, also from one address: probes, alerts and single
//! values are not held up by charts.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kymo_core::ErrorKind;
use tokio::sync::oneshot;

use crate::status::ApiError;

/// Who asks; requests that came over no connection are one client.
pub(crate) type Client = Option<IpAddr>;

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asker {
    pub(crate) client: Client,
    /// Whether it asks over a range.
    pub(crate) is_range: bool,
}

/// Places for queries, shared by clones.
#[derive(Debug, Clone)]
pub(crate) struct QueryQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    running_max: usize,
    /// Of the places, those that one asker can have.
    per_asker_max: usize,
    waiting_max: usize,
    /// Held for a few steps only.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    waiting: usize,
    by_asker: BTreeMap<Asker, Line>,
    /// Askers with a query waiting, the next to get a place first.
    turns: VecDeque<Asker>,
}

/// One asker's queries.
#[derive(Debug, Default)]
struct Line {
    running: usize,
    waiting: VecDeque<oneshot::Sender<Place>>,
}

/// The right to run one query; dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct Place {
    /// `None` once it was given back.
    queue: Option<QueryQueue>,
    asker: Asker,
}

impl QueryQueue {
    /// `running_max` places, and `waiting_max` that may wait for one.
    pub(crate) fn new(running_max: usize, waiting_max: usize) -> QueryQueue {
        let running_max = running_max.max(1);
        // A quarter, at least one, is kept for others; of a single place nothing can be.
        let kept = (running_max / 4).max(1).min(running_max - 1);
        QueryQueue(Arc::new(Shared {
            running_max,
            per_asker_max: running_max - kept,
            waiting_max,
            state: Mutex::default(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place. Going away while waiting gives the turn to the next.
    ///
    /// # Errors
    /// Unavailable, at once, when too many wait already.
    pub(crate) async fn enter(&self, asker: Asker) -> Result<Place, ApiError> {
        let turn = {
            let mut state = self.state();
            if self.has_room(&state, asker) {
                return Ok(self.take(&mut state, asker));
            }
            if state.waiting >= self.0.waiting_max {
                let text = format!(
                    "too many queries: {} run and {} wait, which are the limits (--query-concurrency and --query-queue \
                     set them); ask again later",
                    state.running, state.waiting
                );
                return Err(ApiError::of_kind(ErrorKind::unavailable(), text));
            }
            state.waiting += 1;
            let line = state.by_asker.entry(asker).or_default();
            let (sender, turn) = oneshot::channel();
            let is_first = line.waiting.is_empty();
            line.waiting.push_back(sender);
            if is_first {
                state.turns.push_back(asker);
            }
            turn
        };
        // The sender is kept until it is used: an end without a place cannot be.
        turn.await.map_err(|_| ApiError::internal("the queue of queries is gone"))
    }

    fn has_room(&self, state: &State, asker: Asker) -> bool {
        let own = state.by_asker.get(&asker).map_or(0, |line| line.running);
        state.running < self.0.running_max && own < self.0.per_asker_max
    }

    fn take(&self, state: &mut State, asker: Asker) -> Place {
        state.running += 1;
        state.by_asker.entry(asker).or_default().running += 1;
        Place { queue: Some(self.clone()), asker }
    }

    /// Lets in whoever is next, as long as there are places.
    fn admit(&self, state: &mut State) {
        let mut passed_over = 0;
        while passed_over < state.turns.len() {
            let Some(asker) = state.turns.pop_front() else { return };
            if !self.has_room(state, asker) {
                state.turns.push_back(asker);
                passed_over += 1;
                continue;
            }
            let line = state.by_asker.entry(asker).or_default();
            let next = line.waiting.pop_front();
            if !line.waiting.is_empty() {
                state.turns.push_back(asker);
            }
            let Some(sender) = next else { continue };
            state.waiting -= 1;
            let place = self.take(state, asker);
            if let Err(mut place) = sender.send(place) {
                // The client went away while it waited. Its place must not come back through `drop`, which locks.
                Self::give_back(state, asker);
                place.queue = None;
            }
            passed_over = 0;
        }
    }

    fn give_back(state: &mut State, asker: Asker) {
        state.running -= 1;
        if let Some(line) = state.by_asker.get_mut(&asker) {
            line.running -= 1;
            if line.running == 0 && line.waiting.is_empty() {
                state.by_asker.remove(&asker);
            }
        }
    }

    /// How many run and how many wait.
    pub(crate) fn lengths(&self) -> (usize, usize) {
        let state = self.state();
        (state.running, state.waiting)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(queue) = self.queue.take() else { return };
        let mut state = queue.state();
        QueryQueue::give_back(&mut state, self.asker);
        queue.admit(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Entering<'a> = Pin<Box<dyn Future<Output = Result<Place, ApiError>> + 'a>>;

    fn asker(number: u8) -> Asker {
        Asker { client: Some(IpAddr::from([10, 0, 0, number])), is_range: true }
    }

    /// What a future came to, if it has ended.
    fn poll<T>(future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    fn enter_now(queue: &QueryQueue, number: u8) -> Place {
        poll(pin!(queue.enter(asker(number)))).unwrap().unwrap()
    }

    fn waiting(queue: &QueryQueue, number: u8) -> Entering<'_> {
        let mut entering: Entering<'_> = Box::pin(queue.enter(asker(number)));
        assert!(poll(entering.as_mut()).is_none());
        entering
    }

    #[test]
    fn one_client_cannot_have_all_places() {
        let queue = QueryQueue::new(4, 10);
        let _held: Vec<Place> = (0..3).map(|_| enter_now(&queue, 1)).collect();
        let _more = waiting(&queue, 1);
        let _other = enter_now(&queue, 2);
        assert_eq!(queue.lengths(), (4, 1));
    }

    #[test]
    fn a_single_value_does_not_wait_for_charts_of_the_same_client() {
        let queue = QueryQueue::new(4, 10);
        let _held: Vec<Place> = (0..3).map(|_| enter_now(&queue, 1)).collect();
        let _more = waiting(&queue, 1);
        let instant = Asker { is_range: false, ..asker(1) };
        assert!(poll(pin!(queue.enter(instant))).is_some());
    }

    #[test]
    fn clients_take_turns_however_many_queries_each_has() {
        let queue = QueryQueue::new(2, 10);
        let (first, second) = (enter_now(&queue, 1), enter_now(&queue, 2));
        let (mut a, mut b) = (waiting(&queue, 1), waiting(&queue, 1));
        let mut c = waiting(&queue, 3);
        drop(first);
        let place = poll(a.as_mut()).unwrap().unwrap();
        assert!(poll(b.as_mut()).is_none() && poll(c.as_mut()).is_none());
        drop(second);
        let other = poll(c.as_mut()).unwrap().unwrap();
        assert!(poll(b.as_mut()).is_none());
        drop(place);
        let last = poll(b.as_mut()).unwrap().unwrap();
        drop((last, other));
        assert_eq!(queue.lengths(), (0, 0));
        assert!(queue.state().by_asker.is_empty());
    }

    #[test]
    fn who_goes_away_while_waiting_gives_its_turn_away() {
        let queue = QueryQueue::new(1, 10);
        let first = enter_now(&queue, 1);
        let gone = waiting(&queue, 2);
        let mut next = waiting(&queue, 3);
        drop(gone);
        drop(first);
        drop(poll(next.as_mut()).unwrap().unwrap());
        assert_eq!(queue.lengths(), (0, 0));
    }

    #[test]
    fn a_full_queue_refuses_and_names_its_limits() {
        let queue = QueryQueue::new(1, 1);
        let _first = enter_now(&queue, 1);
        let _second = waiting(&queue, 1);
        let refused = poll(pin!(queue.enter(asker(2)))).unwrap().unwrap_err();
        assert_eq!(refused.status().as_u16(), 503);
        assert!(refused.message().contains("1 run and 1 wait") && refused.message().contains("--query-concurrency"));
    }
}
