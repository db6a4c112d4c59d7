use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kymo_core::MetricStorage;
use kymo_core::contract::{self, Subject};
use kymo_storage::fs::SimFs;
use kymo_storage::fs::{Fs, RealFs};
use kymo_storage::{Engine, Lane, Limits, MaintainLimit, Next, Options, RetentionPolicy};

/// An engine on some disk; each test of the suite gets its own directory.
struct OnDisk {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    options: Option<Options>,
    engine: Option<Arc<Engine>>,
    /// Whether the engine is closed in order before it is opened again, or just dropped.
    closes: bool,
    opened: u32,
}

impl OnDisk {
    fn open_again(&mut self) -> Arc<dyn MetricStorage> {
        let options = self.options.clone().expect("opened before");
        let (engine, report) = Engine::open(Arc::clone(&self.fs), &self.dir, options).expect("open");
        assert!(report.log_damage.is_empty() && report.quarantined.is_empty(), "{report:?}");
        let engine = Arc::new(engine);
        self.engine = Some(Arc::clone(&engine));
        engine
    }
}

impl Subject for OnDisk {
    fn open(&mut self, options: contract::Options) -> Arc<dyn MetricStorage> {
        self.engine = None;
        self.opened += 1;
        self.dir.set_file_name(format!("data-{}", self.opened));
        self.options = Some(Options {
            clock: options.clock,
            retention: RetentionPolicy::of_age(options.retention),
            limits: Limits { active_series: options.series_max, ..Limits::default() },
            flush_age: Duration::ZERO,
            ..Options::default()
        });
        self.open_again()
    }

    fn reopen(&mut self) -> Arc<dyn MetricStorage> {
        let engine = self.engine.take().expect("opened before");
        if self.closes {
            engine.close().expect("close");
        }
        drop(engine);
        self.open_again()
    }

    fn flush(&mut self) {
        let engine = self.engine.as_ref().expect("opened before");
        let limit = MaintainLimit::default();
        engine.flush().expect("flush");
        while engine.maintain(Lane::Merge, limit).expect("merge") == Next::Now {}
        engine.maintain(Lane::Sync, limit).expect("sync");
    }
}

fn subject(fs: Arc<dyn Fs>, base: &Path, closes: bool) -> Box<dyn Subject> {
    Box::new(OnDisk { fs, dir: base.join("data-0"), options: None, engine: None, closes, opened: 0 })
}

#[test]
fn the_engine_keeps_the_contract_on_a_simulated_disk() {
    for closes in [false, true] {
        contract::run(&mut || subject(Arc::new(SimFs::new(1)), Path::new("/"), closes));
    }
}

#[test]
fn the_engine_keeps_the_contract_on_the_real_disk() {
    let base = tempfile::tempdir().expect("a temporary directory");
    let mut number = 0;
    contract::run(&mut || {
        number += 1;
        let own = base.path().join(number.to_string());
        std::fs::create_dir(&own).expect("a directory of its own");
        subject(Arc::new(RealFs), &own, false)
    });
}
