//! Start timestamps in rates and resets, as scripts, and that they are looked at only where that is on.

use std::sync::Arc;

use kymo_core::query::{EngineOptions, Grid};
use kymo_core::{MetricStorage, QueryBackend};

use super::{ask, engine, shown};
use crate::Engine;
use crate::promqltest::{memory_storage, run_script};

/// Runs a script and gives the storage it leaves.
fn hold(script: &str) -> Arc<dyn MetricStorage> {
    let storage = memory_storage();
    let over = |storage: Arc<dyn MetricStorage>| Box::new(Engine::new(storage)) as Box<dyn QueryBackend>;
    let report = run_script("inline", script, &mut || Arc::clone(&storage), &over).unwrap();
    assert!(report.failed.is_empty() && report.passed > 0, "{:#?}", report.failed);
    storage
}

#[test]
fn a_counter_that_began_anew_counts_from_zero_whatever_its_value() {
    // Began anew behind 2m, by its start alone: 10, 20, 30 | 40, 50, and as 10, 20, 30, 70, 80.
    hold(
        "load 1m
           told@st -1m -2m -3m -30s -90s
           told 10 20 30 40 50
           untold 10 20 30 40 50
           same 10 20 30 70 80

         eval instant at 4m increase(told[2m1ms])
           {} 50.0004166666

         eval instant at 4m increase(same[2m1ms])
           {} 50.0004166666

         eval instant at 4m increase(untold[2m1ms])
           {} 20.0001666666

         eval instant at 3m irate(told[2m])
           {} 0.6666666666666666

         eval instant at 3m irate(untold[2m])
           {} 0.16666666666666666

         eval instant at 4m resets(told[5m])
           {} 1

         eval instant at 4m delta(told[2m1ms])
           {} 20.0001666666

         # What an expression makes has no start timestamps.
         eval instant at 4m resets(told[5m:1m])
           {} 0
        ",
    );
}

#[test]
fn deltas_add_up_and_a_counter_of_unknown_start_does_not() {
    hold(
        "load 1m
           delta@st _ _ -1mx5
           delta _ _ 7x5
           unknown@st _ _ 0s -1m -2m -3m -4m -5m
           unknown _ _ 7x5

         eval instant at 7m increase(delta[5m])
           {} 35

         eval instant at 7m rate(delta[5m])
           {} 0.11666666666666667

         eval instant at 7m resets(delta[6m])
           {} 5

         eval instant at 7m increase(unknown[5m])
           {} 0
        ",
    );
}

#[test]
fn the_first_sample_s_start_stands_for_zero_if_it_lies_in_the_window() {
    hold(
        "load 1m
           one{at=\"inside\"}@st _ _ _ -30s
           one{at=\"inside\"} _ _ _ 9
           one{at=\"edge\"}@st _ _ _ -1m
           one{at=\"edge\"} _ _ _ 9
           one{at=\"own\"}@st _ _ _ 0s
           one{at=\"own\"} _ _ _ 9
           one{at=\"later\"}@st _ _ _ 1s
           one{at=\"later\"} _ _ _ 9
           two@st _ _ _ -30s -90s
           two _ _ _ 9 12

         eval instant at 4m increase(one[3m])
           {at=\"edge\"} 9
           {at=\"inside\"} 9

         eval instant at 3m increase(one[1m])
           {at=\"inside\"} 9

         eval instant at 4m rate(one{at=\"inside\"}[2m])
           {at=\"inside\"} 0.075

         # 12 in 90 s, and to the end of the window, which is near.
         eval instant at 4m30s increase(two[3m])
           {} 16

         # Half of the minute between samples to an end that is far.
         eval instant at 9m increase(two[7m])
           {} 16

         eval instant at 9m delta(two[7m])
           {} 7.5
        ",
    );
}

#[test]
fn native_histograms_have_starts_too() {
    hold(
        "load 1m
           h@st _ _ -1mx3
           h _ _ {{schema:0 sum:2 count:2 buckets:[2]}}x3
           one@st _ _ -30s
           one _ _ {{schema:0 sum:2 count:2 buckets:[2]}}

         eval instant at 5m increase(h[3m])
           {} {{schema:0 sum:6 count:6 buckets:[6]}}

         eval instant at 5m irate(h[3m])
           {} {{schema:0 sum:0.03333333333333333 count:0.03333333333333333 buckets:[0.03333333333333333]}}

         eval instant at 5m resets(h[4m])
           {} 3

         eval instant at 3m increase(one[2m])
           {} {{schema:0 sum:2 count:2 buckets:[2]}}

         eval instant at 3m start_timestamp(one)
           {} 90
        ",
    );
}

#[test]
fn spans_that_overlap_are_warned_of_once() {
    hold(
        "load 1m
           c_total@st _ _ -1m -90s -90s
           c_total _ _ 1 2 3

         eval range from 4m to 4m step 1m increase(c_total[5m])
           expect warn msg: PromQL warning: start timestamps overlap with earlier samples for metric name \"c_total\" (1:10)
           {} 3

         eval instant at 4m irate(c_total[5m])
           expect no_warn
           {} 0.016666666666666666
        ",
    );
}

#[test]
fn start_timestamps_are_looked_at_only_where_that_is_on() {
    let storage = hold(
        "load 1m
           c_total@st _ _ -1mx5
           c_total _ _ 7x5
           g _ _ 1x5

         eval instant at 7m start_timestamp(c_total)
           {} 360

         eval instant at 7m start_timestamp(g)
           {} 0

         eval instant at 7m start_timestamp(-c_total)
        ",
    );
    let mut options = EngineOptions::all();
    let grid = Grid::Instant { at_ms: 420_000 };
    let mut answers = |on: bool| {
        options.start_timestamps = on;
        let engine = engine(storage.clone(), options);
        ["increase(c_total[5m])", "resets(c_total[5m])", "irate(c_total[5m]) * 60", "start_timestamp(c_total)"]
            .map(|text| shown(&ask(&engine, text, grid).unwrap().value))
    };
    assert_eq!(answers(true), [vec!["{} 35"], vec!["{} 4"], vec!["{} 7"], vec!["{} 360"]]);
    assert_eq!(answers(false), [vec!["{} 0"], vec!["{} 0"], vec!["{} 0"], vec![]]);
}
