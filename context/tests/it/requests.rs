use std::time::Duration;

use kymo_context::{Context, Settings};

use super::{at_rest, seconds};

/// All five, longest first.
fn windows(root: &Context, path: &str) -> Option<[u64; 5]> {
    let count = |window: &str| root.counter(&format!("{path}.requests_{window}"));
    let all = ["since_start", "last_day", "last_hour", "last_minute", "last_second"].map(count);
    all.iter().all(Option::is_some).then(|| all.map(Option::unwrap_or_default))
}

#[test]
fn a_persisted_request_counts_on_its_parent_and_everything_above() {
    let (root, _clock) = at_rest(Settings::default());
    let alice = root.child("p2p").begin().child("alice@bv478gen").begin();
    alice.child("stream-123").begin().persist();
    for path in ["global.p2p.alice@bv478gen", "global.p2p", "global"] {
        assert_eq!(windows(&root, path), Some([1; 5]), "{path}");
    }
    assert_eq!(windows(&root, "global.p2p.alice@bv478gen.stream-123"), None, "the request itself is no path");
}

#[test]
fn windows_slide_and_empty_by_themselves() {
    let (root, clock) = at_rest(Settings::default());
    let http = root.child("http").begin();
    let request = || http.child("request").begin().persist();
    request();
    clock.advance(seconds(30));
    request();
    assert_eq!(windows(&root, "global.http"), Some([2, 2, 2, 2, 1]));
    clock.advance(seconds(31));
    assert_eq!(windows(&root, "global.http"), Some([2, 2, 2, 1, 0]), "the first has slid out of the minute");
    clock.advance(seconds(3_600));
    assert_eq!(windows(&root, "global"), Some([2, 2, 0, 0, 0]));
    clock.advance(seconds(90_000));
    assert_eq!(windows(&root, "global"), Some([2, 0, 0, 0, 0]));
}

#[test]
fn jumps_of_the_wall_clock_do_no_harm() {
    let (root, clock) = at_rest(Settings::default());
    let request = root.child("request").begin();
    request.persist();
    for wall_ms in [0, i64::MAX, i64::MIN, 1_600_000_000_000] {
        clock.set_wall_ms(wall_ms);
        request.persist();
        assert_eq!(root.status().contexts[0].uptime, Duration::ZERO);
    }
    assert_eq!(windows(&root, "global"), Some([5; 5]));
}

#[test]
fn every_call_counts_also_twice_after_a_cancel_and_after_completion() {
    let (root, _clock) = at_rest(Settings::default());
    let request = root.child("http").begin().child("request").begin();
    request.persist();
    request.persist();
    assert_eq!(windows(&root, "global.http"), Some([2; 5]));
    request.cancel();
    request.persist();
    request.complete_with_status(false, "cancelled");
    request.persist();
    assert_eq!(windows(&root, "global.http"), Some([4; 5]));
}

#[test]
fn the_root_counts_itself() {
    let (root, _clock) = at_rest(Settings::default());
    assert_eq!(windows(&root, "global"), Some([0; 5]), "the root's path is there from the beginning");
    root.persist();
    assert_eq!(windows(&root, "global"), Some([1; 5]));
}

#[test]
fn counts_outlive_contexts_and_belong_to_the_path() {
    let (root, _clock) = at_rest(Settings::default());
    for _ in 0..3 {
        root.child("p2p").begin().child("alice").begin().child("stream").begin().persist();
    }
    assert_eq!(root.status().contexts.len(), 1, "nobody lives but the root");
    assert_eq!(windows(&root, "global.p2p.alice"), Some([3; 5]));
}

#[test]
fn what_is_no_counter_has_no_value() {
    let (root, _clock) = at_rest(Settings::default());
    root.child("a.b").begin().child("request").begin().persist();
    for (name, expected) in [
        (r"global.a\.b.requests_last_hour", Some(1)),
        ("global.a.b.requests_last_hour", None),
        ("global.requests_last_week", None),
        ("global.last_hour", None),
        ("global", None),
        ("", None),
        ("other.requests_last_hour", None),
        (r"global\", None),
    ] {
        assert_eq!(root.counter(name), expected, "{name}");
    }
}

#[test]
fn paths_are_bounded_and_nothing_that_was_counted_is_lost() {
    let (root, clock) = at_rest(Settings { paths_max: 100, ..Settings::default() });
    let p2p = root.child("p2p").begin();
    for peer in 0..10_000 {
        p2p.child(&format!("peer-{peer}")).begin().child("stream").begin().persist();
        clock.advance(Duration::from_millis(1));
    }
    let status = root.status();
    assert!(
        status.paths.counted <= 100 && status.paths.folded >= 9_900 && status.paths.refused == 0,
        "{:?}",
        status.paths
    );
    assert_eq!(windows(&root, "global.p2p").unwrap()[0], 10_000);
    assert_eq!(windows(&root, "global.p2p.peer-9999"), Some([1; 5]));
    assert_eq!(windows(&root, "global.p2p.peer-0"), None);
    assert!(status.to_string().contains("folded into their parents"), "{status}");
}
