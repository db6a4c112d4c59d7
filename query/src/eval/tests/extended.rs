//! `anchored` and `smoothed` over native histograms, and labels of type, as scripts.

use std::sync::Arc;

use kymo_core::query::{EngineOptions, Grid, QueryRequest};
use kymo_core::{MetricStorage, QueryBackend, QueryContext};

use crate::Engine;
use crate::promqltest::{memory_storage, run_script};

fn hold(script: &str) {
    let over = |storage: Arc<dyn MetricStorage>| Box::new(Engine::new(storage)) as Box<dyn QueryBackend>;
    let report = run_script("inline", script, &mut memory_storage, &over).unwrap();
    assert!(report.failed.is_empty() && report.passed > 0, "{:#?}", report.failed);
}

#[test]
fn histograms_are_anchored_and_smoothed_like_floats() {
    hold(
        "load 1m
           h {{schema:0 sum:1 count:1 buckets:[1]}}+{{schema:0 sum:2 count:2 buckets:[2]}}x10
           fell {{schema:0 sum:5 count:5 buckets:[5]}}x1 {{schema:0 sum:1 count:1 buckets:[1]}}+{{schema:0 sum:2 count:2 buckets:[2]}}x4
           mixed 1x3 {{schema:0 sum:1 count:1 buckets:[1]}}x5
           kinds {{schema:0 sum:1 count:1 buckets:[1]}}x3 {{schema:-53 sum:1 count:1 custom_values:[1] buckets:[1]}}x3

         eval instant at 5m30s increase(h[2m] anchored)
           {} {{schema:0 sum:4 count:4 buckets:[4] counter_reset_hint:gauge}}

         eval instant at 5m30s increase(h[2m] smoothed)
           {} {{schema:0 sum:4 count:4 buckets:[4] counter_reset_hint:gauge}}

         eval instant at 5m30s rate(h[1m] smoothed)
           {} {{schema:0 sum:0.03333333333333333 count:0.03333333333333333 buckets:[0.03333333333333333] counter_reset_hint:gauge}}

         eval instant at 5m30s delta(h[1m] anchored)
           expect warn msg: PromQL warning: this native histogram metric is not a gauge: \"h\" (1:7)
           {} {{schema:0 sum:2 count:2 buckets:[2] counter_reset_hint:gauge}}

         # 5 until 1m, from nothing to 1 at 2m, 3 at 3m.
         eval instant at 3m increase(fell[2m] anchored)
           {} {{schema:0 sum:3 count:3 buckets:[3] counter_reset_hint:gauge}}

         # Half of the way from nothing to 1 at 1m30s.
         eval instant at 3m increase(fell[90s] smoothed)
           {} {{schema:0 sum:2.5 count:2.5 buckets:[2.5] counter_reset_hint:gauge}}

         eval instant at 4m resets(fell[4m] anchored)
           {} 1

         eval instant at 4m changes(fell[2m30s] anchored)
           {} 3

         eval instant at 5m30s h smoothed
           h {{schema:0 sum:12 count:12 buckets:[12]}}

         eval instant at 3m30s mixed smoothed
           expect warn msg: PromQL warning: encountered a mix of histograms and floats for metric name \"mixed\" (1:1)

         eval instant at 5m rate(mixed[4m] smoothed)
           expect warn msg: PromQL warning: encountered a mix of histograms and floats for metric name \"mixed\" (1:6)

         eval instant at 5m rate(kinds[4m] anchored)
           expect warn msg: PromQL warning: vector contains a mix of histograms with exponential and custom buckets schemas for metric name \"kinds\" (1:6)
        ",
    );
}

#[test]
fn a_counter_is_told_by_the_label_of_its_type_where_that_is_on() {
    let storage = memory_storage();
    let over = |storage: Arc<dyn MetricStorage>| Box::new(Engine::new(storage)) as Box<dyn QueryBackend>;
    let data = "load 1m
           x{__type__=\"counter\"} 0+1x5
           y_total{__type__=\"gauge\"} 0+1x5
        ";
    run_script("inline", data, &mut || Arc::clone(&storage), &over).unwrap();
    let engine = Engine::new(storage);
    let infos = |text: &str, typed: bool| {
        let mut request = QueryRequest::new(text, Grid::Instant { at_ms: 300_000 });
        let mut options = EngineOptions::all();
        options.type_and_unit_labels = typed;
        request.options = Some(options);
        engine.query(&request, &QueryContext::unlimited()).unwrap().annotations.infos
    };
    assert_eq!(infos("rate(x[5m])", true), [""; 0]);
    assert_eq!(infos("rate(y_total[5m])", false), [""; 0]);
    assert_eq!(
        infos("rate(y_total[5m])", true),
        ["PromQL info: metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", \
          got \"gauge\": \"y_total\" (1:6)"]
    );
}
