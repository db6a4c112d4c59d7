//! `kymo demo`: a server with made services and a program with made trouble, and the screen on both.
//!
//! The server is this program again, as `kymo serve`, with a data directory that goes away with it. The services of a shop, a
//! scrape target that is gone and this host come in as from anywhere: the services by the spans and metrics that they send by
//! OTLP, an hour and a half of history first. The gateway asks the checkout, which asks the payments, which are slow for a while.
//! The contexts are those of this process, where two tasks really wait for each other.

mod feed;
mod shop;

use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kymo_context::{Context, ContextFacts, Watch, WatchOptions};
use kymo_core::config::ConfigDuration;
use kymo_core::{Clock, SystemClock};
use kymo_dashboard::terminal::ViewId;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use self::feed::Feed;
use self::shop::Shop;
use crate::failure::Failure;
use crate::top::{leave_open, plain_options, server};

/// How long the server may take to begin.
const START: Duration = Duration::from_secs(20);
/// When the trouble began, before now, where nobody says.
const SLOW_SINCE_MS: i64 = 12 * 60_000;

/// Show the terminal with made services, in believable trouble
///
/// Starts a server of its own on a free port with a temporary data directory, fills it, and opens kymo top on it. Nothing
/// is left when it ends.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kymo demo
  kymo demo --slow-after 1m
  kymo demo --serve-only")]
pub(crate) struct DemoArgs {
    /// Only keep the server filled, and print its address, for a kymo top elsewhere; until it is interrupted
    #[arg(long)]
    serve_only: bool,
    /// Let all services be well at first, and the payments become slow so long after the start; without it they have been slow for
    /// twelve minutes. They are for 25 minutes of every 45
    #[arg(long, value_name = "DURATION")]
    slow_after: Option<ConfigDuration>,
}

pub(crate) fn run(args: &DemoArgs) -> Result<ExitCode, Failure> {
    let folder = std::env::temp_dir().join(format!("kymo-demo-{}", std::process::id()));
    std::fs::create_dir_all(&folder)
        .map_err(|error| Failure::because(format_args!("cannot make {}", folder.display()), &error))?;
    let folder = Folder(folder);
    let serving = Serving::start(&folder.0)?;
    let clock = Arc::new(SystemClock::new());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("kymo-demo")
        .enable_all()
        .build()
        .map_err(|error| Failure::because("cannot start the async threads", &error))?;
    runtime.block_on(end_when_told(&runtime, &serving, &folder))?;
    let now_ms = clock.now_ms();
    let since_ms = if args.slow_after.is_some() { i64::MAX } else { now_ms - SLOW_SINCE_MS };
    let mut feed = Feed::new(&serving.url, now_ms, Shop::new(since_ms))?;
    runtime.block_on(feed.send_history(now_ms))?;
    if let Some(after) = args.slow_after {
        feed.shop.slow_from(clock.now_ms().saturating_add(after.as_ms()));
    }
    let tree = Context::new("shop");
    let watch = Watch::start(&tree, WatchOptions::default())
        .map_err(|error| Failure::because("cannot start the thread that watches", &error))?;
    runtime.spawn(feed.go_on(clock.clone()));
    runtime.spawn(work(tree.clone()));
    let done = match args.serve_only {
        true => runtime.block_on(async {
            crate::output::print(&format!("{}\n", serving.url))?;
            // Until it is interrupted; a terminal that cannot say so ends it as well.
            let _ = tokio::signal::ctrl_c().await;
            Ok(ExitCode::SUCCESS)
        }),
        false => {
            let opened = server(&serving.url, None, clock, &[Arc::new(ContextFacts(tree))])?;
            leave_open(plain_options(&opened, ViewId::Overview), None, &opened, None)
        }
    };
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop((watch, serving, folder));
    done
}

/// Leaves nothing behind either when the terminal is closed or the process is told to go.
async fn end_when_told(runtime: &Runtime, serving: &Serving, folder: &Folder) -> Result<(), Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::because("cannot listen for signals", &error));
    let (mut hangup, mut terminate) = (listen(SignalKind::hangup())?, listen(SignalKind::terminate())?);
    let (child, folder) = (serving.child.clone(), folder.0.clone());
    runtime.spawn(async move {
        let number = tokio::select! {
            _ = hangup.recv() => 1,
            _ = terminate.recv() => 15,
        };
        end(&child);
        drop(Folder(folder));
        std::process::exit(128 + number);
    });
    Ok(())
}

/// Its data goes away: there is nothing to end in order.
fn end(child: &Mutex<Child>) {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = child.kill();
    let _ = child.wait();
}

/// Removed with everything in it.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // A temporary folder that stays behind harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server that ends with this process.
struct Serving {
    child: Arc<Mutex<Child>>,
    url: String,
}

impl Serving {
    fn start(folder: &Path) -> Result<Serving, Failure> {
        let config = folder.join("kymo.yaml");
        // Nobody answers at the discard port: a target that is down.
        let text = "global: {scrape_interval: 15s}\nscrape_configs:\n- job_name: warehouse\n  static_configs:\n  - \
                    targets: ['127.0.0.1:9']\n";
        let ports = folder.join("ports.json");
        let failed = |error: std::io::Error| Failure::because("cannot start the server", &error);
        std::fs::write(&config, text).map_err(failed)?;
        let log = std::fs::File::create(folder.join("serve.log")).map_err(failed)?;
        let program = std::env::current_exe().map_err(failed)?;
        let child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--otlp-grpc", "off", "--otlp-http", "off"])
            .args(["--collect", "host,self", "--sync", "never"])
            .arg("--config")
            .arg(&config)
            .arg("--data-dir")
            .arg(folder.join("data"))
            .arg("--ports-file")
            .arg(&ports)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let mut serving = Serving { child: Arc::new(Mutex::new(child)), url: String::new() };
        let began = Instant::now();
        while serving.url.is_empty() {
            let port = std::fs::read(&ports).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
            if let Some(port) = port.and_then(|ports| ports["http"].as_u64()) {
                serving.url = format!("http://127.0.0.1:{port}");
            } else if let Ok(Some(status)) = serving.ended() {
                let log = std::fs::read_to_string(folder.join("serve.log")).unwrap_or_default();
                return Err(Failure::new(format!("the server ended at once ({status}): {}", log.trim())));
            } else if began.elapsed() > START {
                return Err(Failure::new(format!("the server has not begun for {START:?}")));
            } else {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(serving)
    }

    fn ended(&self) -> std::io::Result<Option<ExitStatus>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        end(&self.child);
    }
}

/// The contexts of a shop: requests that come and go, one that waits for its bank, and two that wait for each other.
async fn work(tree: Arc<Context>) {
    let orders = tree.child("orders").begin();
    let (stock, ledger) = (orders.mutex("stock", ()), orders.mutex("ledger", ()));
    let (stock, ledger) = (Arc::new(stock), Arc::new(ledger));
    let locks = [("reserve", stock.clone(), ledger.clone()), ("settle", ledger, stock)];
    let mut stuck = Vec::new();
    for (name, first, second) in locks {
        stuck.push(orders.spawn_child(name, move |_| async move {
            let _held = first.lock().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            let _never = second.lock().await;
        }));
    }
    let bank = tree.child("payments").begin();
    stuck.push(bank.spawn_child("charge-8812", move |context| async move {
        context.waiting_on("answer of the bank", std::future::pending::<()>()).await;
    }));
    let web = tree.child("web").begin();
    loop {
        for route in ["GET-products", "POST-orders"] {
            let request = web.child(route).begin();
            request.persist();
            let pause = tokio::time::sleep(Duration::from_millis(90));
            request.run(request.waiting_on("catalog", pause)).await;
            request.complete_with_status(true, "200");
        }
    }
}
