//! Any text is evaluated or refused over samples of every kind, at an instant and over a range, within its limits;
//! what a range answers is sorted and lies on its steps.

#![no_main]

use std::sync::{Arc, OnceLock};

use kymo_core::query::{EngineOptions, Grid, QueryRequest, QueryValue};
use kymo_core::{Budget, MetricStorage, QueryBackend, QueryContext};
use kymo_query::promqltest::{memory_storage, run_script};
use kymo_query::{Engine, EngineConfig};
use libfuzzer_sys::fuzz_target;

/// Counters with a reset and gaps, odd numbers, staleness, classic and native histograms, a family of both kinds.
const DATA: &str = "\
load 30s
  c_total{job=\"a\",i=\"0\"} 0+7x20 3+5x20
  c_total{job=\"a\",i=\"1\"} 1 _ _ 4 9 stale _ 2 3 8 NaN Inf -Inf -0 1e300 -1e300 5 5 5 5
  c_total{job=\"b\",i=\"0\"} 100-3x40
  g{job=\"a\"} 3 1 4 1 5 9 2 6 5 3 5 8 9 7 9
  g{job=\"b\"} _x10 2x20 stale
  h_bucket{le=\"1\"} 0+1x40
  h_bucket{le=\"2\"} 0+3x40
  h_bucket{le=\"+Inf\"} 0+4x40
  n{job=\"a\"} {{schema:1 sum:4 count:5 z_bucket:1 buckets:[1 2] n_buckets:[1]}}+{{schema:1 sum:2 count:3 buckets:[1 2]}}x40
  n{job=\"b\"} {{schema:0 sum:4 count:3 buckets:[1 2] counter_reset_hint:gauge}}x10 1 2 3 {{schema:-53 sum:3 count:4 custom_values:[1 2] buckets:[1 2 1]}}x10
  target_info{job=\"a\",data=\"x\"} 1x40
";
/// Nothing that small inputs can ask for needs more.
const BYTES_MAX: u64 = 256 << 20;

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let storage = memory_storage();
        let over = |storage: Arc<dyn MetricStorage>| Box::new(Engine::new(storage)) as Box<dyn QueryBackend>;
        let report = run_script("data", DATA, &mut || Arc::clone(&storage), &over).expect("the data is in the language");
        assert!(report.failed.is_empty(), "{:?}", report.failed);
        let config = EngineConfig { max_samples: 200_000, options: EngineOptions::all(), ..EngineConfig::default() };
        Engine::with_config(storage, config)
    })
}

fuzz_target!(|query: &str| {
    let context = QueryContext { budget: Budget::root("fuzz", BYTES_MAX), ..QueryContext::unlimited() };
    let grids = [
        Grid::Instant { at_ms: 600_000 },
        Grid::Range { start_ms: 60_000, end_ms: 1_300_000, step_ms: 41_000 },
    ];
    for grid in grids {
        let Ok(answer) = engine().query(&QueryRequest::new(query, grid), &context) else { continue };
        let (Grid::Range { .. }, QueryValue::Matrix(series)) = (grid, &answer.value) else { continue };
        assert!(series.windows(2).all(|pair| pair[0].labels < pair[1].labels), "{query:?}");
        for one in series {
            assert!(!one.is_empty() && one.len() == one.points().count(), "{query:?}");
            let on_grid = |ms: i64| (60_000..=1_300_000).contains(&ms) && (ms - 60_000) % 41_000 == 0;
            assert!(one.points().all(|(ms, _)| on_grid(ms)), "{query:?}");
        }
    }
    assert_eq!(context.budget.used(), 0, "{query:?}");
});
