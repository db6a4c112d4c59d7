//! A program of two services and what its tree says: `cargo run -p kymo-context --example request_tree`.

use kymo_context::MetricValue;

#[kymo_context::main]
async fn main() {
    let global = kymo_context::global();

    let p2p = global.child("p2p").begin();
    let alice = p2p.child("alice@bv478gen").with_data("shell", "bash".into()).begin();
    for stream in 0..1_247 {
        // A request is a context below its peer. It counts with one call, and leaves the tree when it is done.
        let stream = alice.child(&format!("stream-{stream}")).begin();
        stream.persist();
        stream.complete_with_status(true, "Processed 512KB");
    }
    alice.add_metric("commands_executed", MetricValue::Counter(12));
    alice.increment_total("connections");
    alice.increment_live("connections");

    let http = global.child("http").begin();
    let request = http.spawn_child("request-123", |request| async move {
        request.persist();
        // What a task waits for has a name.
        request.waiting_on("db query", tokio::task::yield_now()).await;
        request.complete_with_status(false, "Database timeout");
    });
    let _ = request.await;

    // Somebody waits, and the tree says what for and who is in the way.
    let accounts = http.mutex("accounts", ());
    let held = accounts.lock().await;
    let writer = {
        let accounts = accounts.clone();
        http.spawn_child("writer", |_| async move {
            let _guard = accounts.lock().await;
        })
    };
    tokio::task::yield_now().await;
    while !kymo_context::status().contexts.iter().any(|context| !context.waits.is_empty()) {
        tokio::task::yield_now().await;
    }
    // Nobody may read any more, which is no fault of this program.
    let _ = kymo_context::status_with_latest().print();
    for name in ["global.p2p.alice@bv478gen", "global.p2p", "global"] {
        let name = format!("{name}.requests_last_hour");
        println!("{name} = {:?}", kymo_context::counter(&name));
    }
    drop(held);
    let _ = writer.await;
}
