use std::pin::pin;
use std::time::Duration;

use kymo_context::status::State;
use kymo_context::{Context, MetricValue, Paint, Settings, Status};
use serde_json::json;

use super::{at_rest, seconds, settle};

#[test]
fn the_text_is_the_one_that_was_asked_for() {
    let (root, clock) = at_rest(Settings::default());
    let alice = root.child("p2p").begin().child("alice@bv478gen").begin();
    let persist = |count: u64| (0..count).for_each(|_| alice.child("stream").begin().persist());
    persist(1_247 - 234);
    clock.advance(seconds(2 * 3_600));
    persist(234 - 45);
    let bob = root.child("bob").begin();
    clock.advance(seconds(22 * 60));
    persist(43);
    clock.advance(seconds(59));
    persist(2);
    let text = root.status().to_string();
    let expected = "\
✅ global (2h 22m, active)
    Requests: 1,247 total | 234 last hour | 45 last minute | 2/sec current | ↗ up
  💤 global.bob (22m, idle 22m)
  ✅ global.p2p (2h 22m, active)
      Requests: 1,247 total | 234 last hour | 45 last minute | 2/sec current | ↗ up
    ✅ global.p2p.alice@bv478gen (2h 22m, active)
        Requests: 1,247 total | 234 last hour | 45 last minute | 2/sec current | ↗ up
";
    assert_eq!(text, expected);
    drop(bob);
}

#[test]
fn values_counters_and_ends_are_shown() {
    let (root, clock) = at_rest(Settings::default());
    let handler = root.child("handler").with_data("peer", json!("alice")).begin();
    handler.add_metric("commands", MetricValue::Counter(1_000));
    handler.add_metric("load", MetricValue::Gauge(0.5));
    handler.add_metric("note", MetricValue::Text("all well".into()));
    handler.add_metric("size", MetricValue::Bytes(2_048));
    handler.add_metric("took", MetricValue::Duration(Duration::from_millis(1_500)));
    handler.increment_total("connections");
    handler.increment_live("connections");
    clock.advance(seconds(5));
    handler.complete_with_status(false, "Database timeout");
    assert_eq!(
        root.status().to_string(),
        "\
✅ global (5s, active)
    Counters: connections 1 total (1 live)
  ❌ global.handler (5s, failed: \"Database timeout\")
      Counters: connections 1 total (1 live)
      Metrics: commands=1,000, load=0.5, note=\"all well\", size=2,048 B, took=1.5 s
      Data: peer=\"alice\"
"
    );
    drop(handler);
    let request = root.child("http").begin().child("request").begin();
    request.persist();
    drop(request);
    clock.advance(seconds(7));
    assert_eq!(
        root.status_with_latest().to_string(),
        "\
✅ global (12s, active)
    Requests: 1 total | 1 last hour | 1 last minute | 0/sec current | → flat
    Counters: connections 1 total

Ended, still counted:
○ global.http
    Requests: 1 total | 1 last hour | 1 last minute | 0/sec current | → flat

Last finished of 3:
- global.http (0ms) 7s ago
- global.http.request (0ms) 7s ago
- global.handler (5s, failed: \"Database timeout\") 7s ago
"
    );
}

#[test]
fn colours_are_only_around_the_same_words() {
    let (root, _clock) = at_rest(Settings::default());
    root.child("gone").begin().cancel();
    let status = root.status_with_latest();
    let painted = status.painted(Paint::Ansi).to_string();
    assert!(painted.contains("\x1b[32mactive\x1b[0m"), "{painted}");
    let mut bare = String::new();
    let mut rest = painted.as_str();
    while let Some((before, after)) = rest.split_once("\x1b[") {
        bare.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    bare.push_str(rest);
    assert_eq!(bare, status.to_string());
}

#[tokio::test]
async fn what_a_task_waits_for_is_said_and_for_how_long() {
    let (root, clock) = at_rest(Settings::default());
    let (done, wait) = tokio::sync::oneshot::channel::<()>();
    let task = root.spawn_child("request", |ctx| async move { ctx.waiting_on("db query", wait).await });
    settle().await;
    clock.advance(Duration::from_millis(700));
    let state = |root: &Context| {
        let status = root.status();
        (status.contexts[1].state, status.to_string())
    };
    let (waiting, text) = state(&root);
    assert_eq!(waiting, State::Waiting);
    assert!(text.contains("⏳ global.request (700ms, waits for \"db query\" 700 ms)"), "{text}");
    clock.advance(Duration::from_millis(11_600));
    let (stuck, text) = state(&root);
    assert_eq!(stuck, State::Stuck);
    assert!(text.contains("stuck on \"db query\" 12.3 s"), "{text}");
    done.send(()).unwrap();
    task.await.unwrap().unwrap();
    assert!(root.status().contexts.iter().all(|context| context.waits.is_empty()));
}

#[tokio::test]
async fn a_wait_that_is_given_up_is_not_shown_any_more() {
    let (root, _clock) = at_rest(Settings::default());
    {
        let mut wait = pin!(root.waiting_on("nothing", std::future::pending::<()>()));
        tokio::select! {
            () = &mut wait => unreachable!("it never ends"),
            () = settle() => {}
        }
        assert_eq!(root.status().contexts[0].waits[0].what, "nothing");
    }
    assert!(root.status().contexts[0].waits.is_empty());
    assert_eq!(root.waiting_on("ready", async { 7 }).await, 7);
}

#[test]
fn json_says_the_same_and_is_read_back() {
    let (root, _clock) = at_rest(Settings::default());
    let ctx = root.child("a.b").with_data("k", json!({"x": [1, null]})).begin();
    ctx.add_metric("took", MetricValue::Duration(Duration::from_millis(250)));
    ctx.add_metric("words", MetricValue::Text("yes".into()));
    ctx.child("request").begin().persist();
    let status = root.status_with_latest();
    let json = root.status_json();
    assert_eq!(json, status.to_json());
    assert_eq!(json["contexts"][1]["path"], json!(r"global.a\.b"));
    assert_eq!(json["contexts"][1]["metrics"]["took"], json!({"duration": 0.25}));
    assert_eq!(json["contexts"][1]["requests"]["last_hour"], json!(1));
    assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status);
    root.add_metric("nan", MetricValue::Gauge(f64::NAN));
    let read: Status = serde_json::from_str(&root.status_json().to_string()).unwrap();
    assert!(matches!(read.contexts[0].metrics["nan"], MetricValue::Gauge(value) if value.is_nan()));
}

#[tokio::test(start_paused = true)]
async fn the_stream_gives_changes_only_and_one_a_second_at_most() {
    let (root, clock) = at_rest(Settings::default());
    let mut stream = root.status_stream();
    let began = tokio::time::Instant::now();
    assert_eq!(stream.next().await.contexts.len(), 1);
    assert_eq!(began.elapsed(), Duration::ZERO, "the first comes at once");

    clock.advance(seconds(30));
    let nothing = tokio::time::timeout(seconds(20), stream.next()).await;
    assert!(nothing.is_err(), "time alone is no change");

    let child = root.child("child").begin();
    let asked = tokio::time::Instant::now();
    let status = stream.next().await;
    assert!(asked.elapsed() <= seconds(1));
    assert_eq!(status.contexts.len(), 2);

    let asked = tokio::time::Instant::now();
    child.child("request").begin().persist();
    stream.next().await;
    child.cancel();
    let status = stream.next().await;
    assert!(status.contexts[1].is_cancelled);
    assert!(asked.elapsed() >= seconds(1), "two changes, a second apart: {:?}", asked.elapsed());
}
