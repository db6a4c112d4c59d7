use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use kymo_context::{Context, ContextMutex, Finding, Settings, Watch, WatchOptions};
use tokio::sync::Barrier;
use tokio::task::JoinHandle;

use super::{at_rest, seconds, settle};

/// A task that locks one after the other, meeting the others in between.
fn lock_both(
    root: &Context,
    name: &str,
    first: &ContextMutex<()>,
    second: &ContextMutex<()>,
    meet: &Arc<Barrier>,
) -> JoinHandle<()> {
    let (first, second, meet) = (first.clone(), second.clone(), meet.clone());
    root.spawn_child(name, |_| async move {
        let _first = first.lock().await;
        meet.wait().await;
        let _second = second.lock().await;
    })
}

fn links(finding: &Finding) -> Vec<(String, String, String)> {
    match finding {
        Finding::Cycle { links, within_one_task: false } => {
            let mut links: Vec<_> =
                links.iter().map(|link| (link.context.clone(), link.lock.clone(), link.blocked_by.clone())).collect();
            links.sort();
            links
        }
        other => panic!("{other:?}"),
    }
}

fn link(context: &str, lock: &str, blocked_by: &str) -> (String, String, String) {
    (context.to_owned(), lock.to_owned(), blocked_by.to_owned())
}

#[tokio::test]
async fn a_circle_of_any_length_is_found_with_its_contexts_and_locks() {
    for length in [2, 3, 7] {
        let root = Context::new("global");
        let locks: Vec<_> = (0..length).map(|n| root.mutex(&format!("lock-{n}"), ())).collect();
        let meet = Arc::new(Barrier::new(length));
        let tasks: Vec<_> = (0..length)
            .map(|n| lock_both(&root, &format!("task-{n}"), &locks[n], &locks[(n + 1) % length], &meet))
            .collect();
        settle().await;
        let found = root.cycles();
        assert_eq!(found.len(), 1, "{found:?}");
        let expected: Vec<_> = (0..length)
            .map(|n| {
                let next = (n + 1) % length;
                link(&format!("global.task-{n}"), &format!("lock-{next}"), &format!("global.task-{next}"))
            })
            .collect();
        assert_eq!(links(&found[0]), expected);
        let status = root.status();
        assert_eq!(
            status.contexts.iter().filter(|c| c.state == kymo_context::status::State::Deadlocked).count(),
            length
        );
        assert!(status.to_string().starts_with("! deadlock:"), "{status}");

        tasks[0].abort();
        settle().await;
        assert!(root.cycles().is_empty(), "one that gives up opens the circle");
        for task in &tasks[1..] {
            task.abort();
        }
    }
}

#[tokio::test]
async fn who_only_waits_for_the_deadlocked_is_no_part_of_the_circle() {
    let root = Context::new("global");
    let (a, b) = (root.mutex("a", ()), root.mutex("b", ()));
    let meet = Arc::new(Barrier::new(2));
    let _one = lock_both(&root, "one", &a, &b, &meet);
    let _two = lock_both(&root, "two", &b, &a, &meet);
    settle().await;
    let _third = root.spawn_child("third", {
        let a = a.clone();
        |_| async move { drop(a.lock().await) }
    });
    settle().await;
    let found = root.cycles();
    assert_eq!(found.len(), 1);
    assert_eq!(links(&found[0]), [link("global.one", "b", "global.two"), link("global.two", "a", "global.one")]);
}

#[tokio::test]
async fn a_queue_without_a_circle_is_none() {
    let root = Context::new("global");
    let lock = root.mutex("lock", ());
    let guard = root.child("holder").begin().run(lock.lock()).await;
    let tasks: Vec<_> = (0..5)
        .map(|n| {
            let lock = lock.clone();
            root.spawn_child(&format!("waiter-{n}"), |_| async move { drop(lock.lock().await) })
        })
        .collect();
    settle().await;
    assert_eq!(root.cycles(), []);
    drop(guard);
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_reader_behind_a_writer_that_waits_for_it_is_a_circle() {
    let root = Context::new("global");
    let table = root.rwlock("table", ());
    let meet = Arc::new(Barrier::new(2));
    let _reader = root.spawn_child("reader", {
        let (table, meet) = (table.clone(), meet.clone());
        |_| async move {
            let _outer = table.read().await;
            meet.wait().await;
            // The writer has to be in the queue.
            settle().await;
            let _inner = table.read().await;
        }
    });
    let _writer = root.spawn_child("writer", |_| async move {
        meet.wait().await;
        drop(table.write().await);
    });
    settle().await;
    settle().await;
    let found = root.cycles();
    assert_eq!(found.len(), 1, "{found:?}");
    let expected = [link("global.reader", "table", "global.writer"), link("global.writer", "table", "global.reader")];
    assert_eq!(links(&found[0]), expected);
    assert!(found[0].to_string().contains("waits for before it"), "{}", found[0]);
}

#[tokio::test]
async fn permits_are_stuck_only_when_every_holder_is() {
    let root = Context::new("global");
    let slots = root.semaphore("slots", 2);
    let door = root.mutex("door", ());
    let free = root.child("free").begin().run(slots.acquire()).await.unwrap();
    let meet = Arc::new(Barrier::new(2));
    // Has a permit and wants the door; the other has the door and wants a permit.
    let _one = root.spawn_child("one", {
        let (slots, door, meet) = (slots.clone(), door.clone(), meet.clone());
        |_| async move {
            let _slot = slots.acquire().await;
            meet.wait().await;
            let _door = door.lock().await;
        }
    });
    let two = root.spawn_child("two", {
        let slots = slots.clone();
        |_| async move {
            let _door = door.lock().await;
            meet.wait().await;
            let _slot = slots.acquire().await;
        }
    });
    settle().await;
    assert_eq!(root.cycles(), [], "the free one may give its permit back");
    drop(free);
    two.await.unwrap();
}

#[tokio::test]
async fn a_task_that_locks_what_it_holds_is_told_apart() {
    let root = Context::new("global");
    let lock = root.mutex("lock", ());
    let _task = root.spawn_child("twice", |_| async move {
        let _first = lock.lock().await;
        let _second = lock.lock().await;
    });
    settle().await;
    let found = root.cycles();
    assert!(matches!(&found[..], [Finding::Cycle { within_one_task: true, links }] if links.len() == 1), "{found:?}");
}

#[tokio::test]
async fn long_holds_long_waits_and_idle_tasks_are_flagged_at_their_thresholds() {
    let (root, clock) = at_rest(Settings::default());
    let lock = root.mutex("lock", ());
    let guard = root.child("holder").begin().run(lock.lock()).await;
    let _waiter = root.spawn_child("waiter", {
        let lock = lock.clone();
        |_| async move { drop(lock.lock().await) }
    });
    let _idle = root.spawn_child("idle", |_| std::future::pending::<()>());
    settle().await;
    assert_eq!(root.findings(), [], "from here on it is known when the tasks were polled");
    clock.advance(Settings::STUCK_AFTER_DEFAULT - Duration::from_millis(1));
    assert_eq!(root.findings(), []);
    clock.advance(Duration::from_millis(1));
    let told: Vec<String> = root.findings().iter().map(Finding::to_string).collect();
    assert_eq!(
        told,
        ["global.holder holds mutex \"lock\" for 5.0 s, and 1 wait for it", "global.waiter is stuck on \"lock\" 5.0 s"]
    );
    clock.advance(Settings::IDLE_TASK_AFTER_DEFAULT - seconds(5));
    let told: Vec<String> = root.findings().iter().map(Finding::to_string).collect();
    assert_eq!(told[2], "1 task(s) of global.idle were not polled for 10 min 0 s");
    drop(guard);
}

/// The pauses of the watch are real ones, so this waits for its report with a deadline.
#[tokio::test]
async fn a_watch_reports_a_deadlock_once_by_itself() {
    let root = Context::new("global");
    let (reports, on_report) = mpsc::channel();
    let report = Box::new(move |finding: &Finding| drop(reports.send(finding.clone())));
    let options = WatchOptions { interval: Duration::from_millis(1), report, ..WatchOptions::default() };
    let watch = Watch::start(&root, options).unwrap();
    let (a, b) = (root.mutex("a", ()), root.mutex("b", ()));
    let meet = Arc::new(Barrier::new(2));
    let _one = lock_both(&root, "one", &a, &b, &meet);
    let _two = lock_both(&root, "two", &b, &a, &meet);
    settle().await;
    let found = on_report.recv_timeout(seconds(30)).unwrap();
    assert_eq!(links(&found).len(), 2);
    assert_eq!(on_report.recv_timeout(Duration::from_millis(50)), Err(mpsc::RecvTimeoutError::Timeout), "told once");
    drop(watch);
    assert_eq!(on_report.recv(), Err(mpsc::RecvError), "the thread has ended");
}
