use std::sync::Arc;

use kymo_context::{Context, Settings};

use super::{at_rest, seconds, settle};

#[tokio::test]
async fn a_mutex_shows_who_holds_it_and_who_waits() {
    let (root, clock) = at_rest(Settings::default());
    let accounts = root.mutex("accounts", 0);
    let holder = root.child("holder").begin();
    let mut guard = holder.run(accounts.lock()).await;
    *guard += 1;
    assert!(accounts.try_lock().is_none());
    let waiter = {
        let accounts = accounts.clone();
        root.spawn_child("waiter", |_| async move { *accounts.lock().await })
    };
    settle().await;
    clock.advance(seconds(2));
    let status = root.status();
    assert_eq!(
        status.to_string(),
        "\
✅ global (2s, active)
  ✅ global.holder (2s, active)
      Holds mutex \"accounts\" 2.0 s, 1 waiting
  ⏳ global.waiter (2s, waits for \"accounts\" 2.0 s, held by global.holder)
"
    );
    drop(guard);
    assert_eq!(waiter.await.unwrap(), 1);
    let status = root.status();
    assert!(status.contexts.iter().all(|context| context.holds.is_empty() && context.waits.is_empty()));
}

#[tokio::test]
async fn readers_share_and_a_writer_waits_for_all_of_them() {
    let (root, _clock) = at_rest(Settings::default());
    let table = root.rwlock("table", vec![1]);
    let (first, second) = (root.child("first").begin(), root.child("second").begin());
    let guards = (first.run(table.read()).await, second.run(table.read()).await);
    assert_eq!((guards.0[0], guards.1[0]), (1, 1));
    let writer = {
        let table = table.clone();
        root.spawn_child("writer", |_| async move { table.write().await.push(2) })
    };
    settle().await;
    let status = root.status();
    let writing = status.contexts.iter().find(|context| context.name == "writer").unwrap();
    assert_eq!(writing.waits[0].held_by, ["global.first", "global.second"]);
    drop(guards);
    writer.await.unwrap();
    assert_eq!(*table.read().await, [1, 2]);
}

#[tokio::test]
async fn permits_are_given_out_in_turn_and_impossible_wishes_refused() {
    let root = Context::new("global");
    let slots = root.semaphore("slots", 2);
    let both = slots.acquire_many(2).await.unwrap();
    let refused = slots.acquire_many(3).await.err().unwrap();
    assert_eq!(refused.to_string(), "3 permits of the semaphore \"slots\" were asked for, and it has 2");
    let next = {
        let slots = slots.clone();
        root.spawn(async move { slots.acquire().await.map(drop).is_ok() })
    };
    settle().await;
    assert!(!next.is_finished());
    drop(both);
    assert!(next.await.unwrap());
}

#[tokio::test]
async fn a_wait_that_is_dropped_leaves_the_queue() {
    let root = Context::new("global");
    let lock = root.mutex("lock", ());
    let guard = lock.lock().await;
    let waiter = {
        let lock = lock.clone();
        root.spawn_child("waiter", |_| async move { drop(lock.lock().await) })
    };
    settle().await;
    waiter.abort();
    assert!(waiter.await.unwrap_err().is_cancelled());
    assert!(root.status().contexts[0].holds.iter().all(|hold| hold.waiting == 0));
    assert_eq!(root.status().contexts.len(), 1);
    drop(guard);
    assert!(lock.try_lock().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_contended_mutex_excludes_and_its_record_ends_empty() {
    const TASKS: u64 = 8;
    const EACH: u64 = 500;
    let root = Context::new("global");
    let total = root.mutex("total", 0_u64);
    let inside = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let tasks: Vec<_> = (0..TASKS)
        .map(|n| {
            let (total, inside) = (total.clone(), inside.clone());
            root.spawn_child(&format!("task-{n}"), |_| async move {
                for _ in 0..EACH {
                    let mut total = total.lock().await;
                    assert!(!inside.swap(true, std::sync::atomic::Ordering::SeqCst), "two hold it");
                    *total += 1;
                    tokio::task::yield_now().await;
                    inside.store(false, std::sync::atomic::Ordering::SeqCst);
                }
            })
        })
        .collect();
    while tasks.iter().any(|task| !task.is_finished()) {
        assert!(root.cycles().is_empty(), "a busy lock is no deadlock");
        tokio::task::yield_now().await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*total.lock().await, TASKS * EACH);
    assert!(root.status().contexts[0].waits.is_empty());
}
