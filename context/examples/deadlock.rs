//! Two tasks that lock two mutexes in opposite order: `cargo run -p kymo-context --example deadlock` prints within a second
//! who waits for whom. With `hold` as an argument it stays deadlocked, for `kymo status` to look at.

use std::time::Duration;

use kymo_context::{Finding, Watch, WatchOptions};

#[kymo_context::main(watch = false, attach = true)]
async fn main() -> std::io::Result<()> {
    let bank = kymo_context::global().child("bank").begin();
    let (alice, bob) = (bank.mutex("alice", 100_u32), bank.mutex("bob", 100_u32));

    let (found, mut on_found) = tokio::sync::mpsc::unbounded_channel();
    let report = Box::new(move |finding: &Finding| drop(found.send(finding.to_string())));
    let _watch = Watch::start(&bank, WatchOptions { report, ..WatchOptions::default() })?;

    let meet = std::sync::Arc::new(tokio::sync::Barrier::new(2));
    for (name, first, second) in [("alice-to-bob", &alice, &bob), ("bob-to-alice", &bob, &alice)] {
        let (first, second, meet) = (first.clone(), second.clone(), meet.clone());
        bank.spawn_child(name, |_transfer| async move {
            let mut from = first.lock().await;
            meet.wait().await;
            let mut to = second.lock().await;
            *from -= 10;
            *to += 10;
        });
    }

    match tokio::time::timeout(Duration::from_secs(10), on_found.recv()).await {
        Ok(Some(finding)) => println!("{finding}"),
        _ => return Err(std::io::Error::other("the deadlock was not found")),
    }
    if std::env::args().any(|argument| argument == "hold") {
        println!("holding; look with: kymo status {}", std::process::id());
        kymo_context::current().cancelled().await;
    }
    Ok(())
}
