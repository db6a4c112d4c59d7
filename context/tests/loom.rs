//! Cancelling, coming and going of children, and waiting, under every interleaving of a few threads: loom takes the place
//! of the standard library.

#[path = "../src/branch.rs"]
mod branch;
#[path = "../src/slots.rs"]
mod slots;
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
    pub(crate) use std::sync::PoisonError;
}

use std::task::{Context, Poll, Wake, Waker};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::branch::Branch;

type Node = Branch<u32>;

fn node() -> Arc<Node> {
    Arc::new(Branch::new())
}

/// A waker that counts. It is called by loom's threads but only passed through `std`'s types.
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_child_adopted_beside_a_cancel_is_told_or_reached() {
    loom::model(|| {
        let node = node();
        let adopting = {
            let node = node.clone();
            thread::spawn(move || node.adopt(7).1)
        };
        let reached = node.cancel(|child| Some(*child)).unwrap();
        let told = adopting.join().unwrap();
        assert!(told || reached == [7], "told: {told}, reached: {reached:?}");
        assert!(node.is_cancelled());
    });
}

#[test]
fn a_child_that_leaves_beside_a_cancel_does_not_disturb_it() {
    loom::model(|| {
        let node = node();
        let (stays, goes) = (node.adopt(1).0, node.adopt(2).0);
        let leaving = {
            let node = node.clone();
            thread::spawn(move || node.forget(goes))
        };
        let reached = node.cancel(|child| Some(*child)).unwrap();
        assert!(reached.contains(&1), "{reached:?}");
        leaving.join().unwrap();
        assert_eq!(node.children(|child| Some(*child)), [1]);
        node.forget(stays);
        assert!(node.children(|child| Some(*child)).is_empty());
    });
}

#[test]
fn two_that_cancel_do_it_once() {
    loom::model(|| {
        let node = node();
        node.adopt(1);
        let other = {
            let node = node.clone();
            thread::spawn(move || node.cancel(|child| Some(*child)).is_some())
        };
        let here = node.cancel(|child| Some(*child)).is_some();
        assert!(here != other.join().unwrap());
    });
}

#[test]
fn who_waits_beside_a_cancel_sees_it_or_is_woken() {
    loom::model(|| {
        let node = node();
        let canceller = {
            let node = node.clone();
            thread::spawn(move || drop(node.cancel(|child| Some(*child))))
        };
        let count = std::sync::Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        let mut key = None;
        let polled = node.poll_cancelled(&mut key, &mut Context::from_waker(&waker));
        canceller.join().unwrap();
        let woken = count.0.load(Ordering::SeqCst);
        match polled {
            Poll::Ready(()) => assert_eq!((key, woken), (None, 0)),
            Poll::Pending => assert_eq!(woken, 1, "nobody woke the waiter"),
        }
        assert_eq!(node.poll_cancelled(&mut key, &mut Context::from_waker(&waker)), Poll::Ready(()));
    });
}

#[test]
fn who_stops_waiting_beside_a_cancel_takes_nobody_elses_place() {
    loom::model(|| {
        let node = node();
        let count = std::sync::Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        let (mut gives_up, mut stays) = (None, None);
        assert!(node.poll_cancelled(&mut gives_up, &mut Context::from_waker(Waker::noop())).is_pending());
        assert!(node.poll_cancelled(&mut stays, &mut Context::from_waker(&waker)).is_pending());
        let leaving = {
            let node = node.clone();
            thread::spawn(move || node.leave(gives_up.unwrap()))
        };
        node.cancel(|child| Some(*child));
        leaving.join().unwrap();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    });
}
