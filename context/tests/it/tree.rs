use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kymo_context::{Context, MetricValue, Settings, current, global};
use serde_json::json;

use super::{at_rest, settle};

fn living(root: &Context) -> Vec<String> {
    root.status().contexts.into_iter().map(|context| context.path).collect()
}

#[test]
fn a_child_holds_its_parent_and_a_parent_only_knows_its_children() {
    let root = Context::new("app");
    let parent = root.child("parent").begin();
    let child = parent.child("child").begin();
    let weak = Arc::downgrade(&parent);
    drop(parent);
    assert!(weak.upgrade().is_some(), "the child needs its parent");
    assert_eq!(living(&root), ["app", "app.parent", "app.parent.child"]);
    drop(child);
    assert!(weak.upgrade().is_none(), "nobody needs the parent any more");
    assert_eq!(living(&root), ["app"]);
}

#[test]
fn names_of_every_kind_have_a_path_and_siblings_may_share_one() {
    let root = Context::new("app");
    let names = ["", "a.b", "alice@bv478gen", "two words", "größe", "twin", "twin"];
    let children: Vec<_> = names.iter().map(|name| root.child(name).begin()).collect();
    let paths: Vec<String> = children.iter().map(|child| child.path()).collect();
    assert_eq!(
        paths,
        ["app.", r"app.a\.b", "app.alice@bv478gen", "app.two words", "app.größe", "app.twin", "app.twin"]
    );
    assert_eq!(children.iter().map(|child| child.name()).collect::<Vec<_>>(), names);
    assert_eq!(root.status().contexts.len(), 1 + names.len());
    for (child, path) in children.iter().zip(&paths) {
        child.child("request").begin().persist();
        assert!(root.counter(&format!("{path}.requests_last_hour")).is_some(), "{path}");
    }
    assert_eq!(root.counter("app.twin.requests_since_start"), Some(2), "twins are counted together");
}

#[test]
fn a_chain_far_deeper_than_the_stack_begins_shows_cancels_and_ends() {
    const DEEP: usize = 200_000;
    let root = Context::with_settings("app", Settings { finished_max: 0, ..Settings::default() });
    let mut deepest = root.clone();
    for _ in 0..DEEP {
        deepest = deepest.child("").begin();
    }
    deepest.persist();
    root.cancel();
    assert!(deepest.is_cancelled());
    drop(deepest);
    let status = root.status_with_latest();
    assert_eq!((status.contexts.len(), status.finished), (1, DEEP as u64));
    assert_eq!(root.counter("app.requests_since_start"), Some(1));
}

#[test]
fn cancelling_reaches_everything_below_and_nothing_beside() {
    let root = Context::new("app");
    let (left, right) = (root.child("left").begin(), root.child("right").begin());
    let below = left.child("a").begin().child("b").begin();
    left.cancel();
    assert!(left.is_cancelled() && below.is_cancelled());
    assert!(!root.is_cancelled() && !right.is_cancelled());
    let late = below.child("late").begin();
    assert!(late.is_cancelled(), "a child of what is cancelled begins cancelled");
    left.cancel();
}

#[tokio::test]
async fn who_waits_for_a_cancel_is_woken_by_it() {
    let root = Context::new("app");
    let woken = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for name in ["a", "b", "c"] {
        let woken = woken.clone();
        tasks.push(root.spawn_child(name, |ctx| async move {
            tokio::select! {
                () = ctx.cancelled() => {}
                () = std::future::pending() => {}
            }
            ctx.wait().await;
            woken.fetch_add(1, Ordering::Relaxed);
        }));
    }
    // One that gives up waiting leaves nothing behind.
    tokio::select! {
        () = root.cancelled() => unreachable!("nobody cancelled yet"),
        () = settle() => {}
    }
    assert_eq!(woken.load(Ordering::Relaxed), 0);
    root.cancel();
    for task in tasks {
        task.await.unwrap();
    }
    root.cancelled().await;
    assert_eq!(woken.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_task_knows_its_context_and_its_output_comes_back() {
    let root = Context::new("app");
    assert_eq!(current().path(), global().path(), "outside of any task of ours");
    let task = root.spawn_child("outer", |outer| async move {
        assert!(Arc::ptr_eq(&current(), &outer));
        let same = outer.spawn(async { current().path() }).await.unwrap();
        let inner = outer.spawn_child("inner", |inner| async move { (inner.path(), current().path()) }).await.unwrap();
        let borrowed = outer.child("borrowed").begin();
        let inline = borrowed.run(async { current().path() }).await;
        assert!(Arc::ptr_eq(&current(), &outer), "what ran inside has gone out again");
        (same, inner, inline)
    });
    let (same, inner, inline) = task.await.unwrap();
    assert_eq!(same, "app.outer");
    assert_eq!(inner, ("app.outer.inner".to_owned(), "app.outer.inner".to_owned()));
    assert_eq!(inline, "app.outer.borrowed");
    assert_eq!(living(&root), ["app"]);
}

#[test]
fn blocking_code_has_a_context_and_waits_as_well() {
    let root = Context::new("app");
    let job = root.child("job").begin();
    assert!(kymo_context::try_current().is_none());
    let seen = job.enter(|| {
        let _waiting = job.blocking_on("the disk");
        (current().path(), root.status().contexts[1].clone())
    });
    assert_eq!(seen.0, "app.job");
    assert_eq!((seen.1.waits[0].what.as_str(), seen.1.tasks), ("the disk", 1));
    let after = root.status().contexts[1].clone();
    assert!(after.waits.is_empty() && after.tasks == 0);
    let panicked =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job.enter(|| panic!("of the user's code"))));
    assert!(panicked.is_err() && kymo_context::try_current().is_none());
    assert_eq!(root.status().contexts[1].tasks, 0);
}

#[tokio::test]
async fn a_panic_leaves_the_tree_and_the_thread_as_they_were() {
    let root = Context::new("app");
    let task = root.spawn_child("doomed", |ctx| async move {
        let lock = ctx.mutex("lock", ());
        let _guard = lock.lock().await;
        panic!("of the user's code");
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(living(&root), ["app"]);
    assert_eq!(current().path(), "global");
}

#[tokio::test]
async fn the_builder_takes_values_in_any_order_and_the_task_finds_them_at_once() {
    let root = Context::new("app");
    let task = root
        .child("handler")
        .with_metric("commands", MetricValue::Counter(1))
        .with_data("peer", json!("alice"))
        .with_metric("commands", MetricValue::Counter(2))
        .with_data("shell", json!({"name": "bash"}))
        .spawn(|ctx| {
            let first = (ctx.get_data("peer"), ctx.get_data("shell"), ctx.get_metric("commands"));
            async move { first }
        });
    let (peer, shell, commands) = task.await.unwrap();
    assert_eq!((peer, shell), (Some(json!("alice")), Some(json!({"name": "bash"}))));
    assert_eq!(commands, Some(MetricValue::Counter(2)));
    let unused = root.child("never").with_data("a", json!(1));
    drop(unused);
    assert_eq!(root.status_with_latest().finished, 1, "a builder that was dropped begins nothing");
}

#[test]
fn the_newest_value_of_a_key_counts_and_keys_have_an_end() {
    let root = Context::new("app");
    for value in [
        MetricValue::Gauge(0.5),
        MetricValue::Text("ok".into()),
        MetricValue::Bytes(7),
        MetricValue::Duration(super::seconds(1)),
    ] {
        root.add_metric("key", value.clone());
        assert_eq!(root.get_metric("key"), Some(value));
    }
    root.set_data("key", json!(1));
    root.set_data("key", json!([2]));
    assert_eq!(root.get_data("key"), Some(json!([2])));
    assert_eq!(root.get_data("other"), None);
    for n in 0..1_000 {
        root.set_data(&n.to_string(), json!(n));
    }
    root.set_data("key", json!(3));
    let status = root.status();
    let own = &status.contexts[0];
    assert_eq!(own.data.len(), kymo_context::value::KEYS_MAX);
    assert_eq!(own.left_out, 1_001 - kymo_context::value::KEYS_MAX as u64);
    assert_eq!(own.data["key"], json!(3), "a key that is in can still change");
}

#[test]
fn totals_outlive_contexts_and_live_counts_are_given_back() {
    let root = Context::new("global");
    let p2p = root.child("p2p").begin();
    let alice = p2p.child("alice").begin();
    alice.increment_total("connections");
    alice.increment_total("connections");
    alice.increment_live("connections");
    alice.increment_live("streams");
    alice.decrement_live("streams");
    alice.decrement_live("streams");
    p2p.decrement_live("connections");
    assert_eq!((alice.get_total("connections"), root.get_total("connections")), (2, 2));
    assert_eq!((alice.get_live("connections"), root.get_live("connections")), (1, 1));
    assert_eq!(alice.get_live("streams"), 0, "no more is taken back than was added");
    assert_eq!(p2p.get_live("connections"), 1, "nor by another");
    drop(alice);
    assert_eq!((root.get_total("connections"), root.get_live("connections")), (2, 0));
    let again = p2p.child("alice").begin();
    assert_eq!(again.get_total("connections"), 2, "counts belong to the path");
    again.increment_live("connections");
    assert_eq!(p2p.get_live("connections"), 1);
}

#[test]
fn the_last_finished_are_remembered_and_no_more() {
    let (root, clock) = at_rest(Settings { finished_max: 2, ..Settings::default() });
    for name in ["first", "second", "third"] {
        let ctx = root.child(name).begin();
        clock.advance(super::seconds(3));
        match name {
            "second" => ctx.complete_with_status(true, "Processed 1.2MB"),
            _ => ctx.cancel(),
        }
    }
    clock.advance(super::seconds(60));
    let status = root.status_with_latest();
    let latest = status.latest.unwrap();
    assert_eq!(status.finished, 3);
    let told: Vec<_> =
        latest.iter().map(|last| (last.path.as_str(), last.uptime.as_secs(), last.ago.as_secs())).collect();
    assert_eq!(told, [("global.third", 3, 60), ("global.second", 3, 63)]);
    assert!(latest[0].is_cancelled && latest[0].outcome.is_none());
    let outcome = latest[1].outcome.as_ref().unwrap();
    assert_eq!((outcome.ok, outcome.message.as_str()), (true, "Processed 1.2MB"));
    assert_eq!(root.status().latest, None, "only when asked for");
}

#[test]
fn a_context_of_the_global_tree_is_reached_by_the_free_functions() {
    let ctx = global().child("free-functions").begin();
    ctx.child("request").begin().persist();
    assert_eq!(kymo_context::counter("global.free-functions.requests_since_start"), Some(1));
    assert!(kymo_context::status().contexts.iter().any(|context| context.path == "global.free-functions"));
    assert!(kymo_context::status_with_latest().latest.is_some());
    assert_eq!(kymo_context::status_json()["contexts"][0]["path"], json!("global"));
    assert!(kymo_context::configure(Settings::default()).is_err(), "the global tree has begun");
}
