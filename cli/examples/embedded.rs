//! Contexts, the engine and PromQL in one process, without a listener: `cargo run -p kymo --example embedded`.

use std::{error::Error, sync::Arc};

use kymo::context::{Context, ContextMetrics};
use kymo::core::query::{Grid, QueryValue};
use kymo::core::{Clock, Labels, MetricStorage, QueryBackend, QueryContext, QueryRequest, Registry, SystemClock};

fn main() -> Result<(), Box<dyn Error>> {
    let (app, registry, dir) = (Context::new("app"), Registry::new(), tempfile::tempdir()?);
    let (engine, _) = kymo::storage::Engine::open(Arc::new(kymo::storage::fs::RealFs), dir.path(), Default::default())?;
    let (engine, now_ms) = (Arc::new(engine), SystemClock::new().now_ms());
    let http = app.child("http").begin();
    (0..7).for_each(|_| http.child("request").begin().persist());
    let _metrics = ContextMetrics::register(&registry, &app)?;
    for family in registry.snapshot() {
        for series in &family.series {
            let labels = series.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let labels = Labels::from_pairs([("__name__", &*family.name)].into_iter().chain(labels));
            engine.store_metric(labels.as_ref(), now_ms, series.value.value())?;
        }
    }
    let question =
        QueryRequest::new("kymo_context_requests_total{path=\"app.http\"} * 6", Grid::Instant { at_ms: now_ms });
    let answer = kymo::query::Engine::new(engine.clone()).query(&question, &QueryContext::unlimited())?;
    let QueryValue::Vector(series) = answer.value else { return Err("an instant vector was asked for".into()) };
    println!("{}7 requests × 6 = {:?}", app.status(), series[0].floats);
    Ok(engine.close()?)
}
