// Sends one of every instrument of the OpenTelemetry JavaScript SDK in two rounds, as JSON over HTTP:
// sdk.js ENDPOINT none|gzip cumulative|delta. Exit code 77: the SDK is not installed.
"use strict";

let api;
try {
  api = {
    ...require("@opentelemetry/sdk-metrics"),
    ...require("@opentelemetry/exporter-metrics-otlp-http"),
    ...require("@opentelemetry/resources"),
  };
} catch (missing) {
  console.log(missing.message.split("\n")[0]);
  process.exit(77);
}

const [endpoint, compression, temporality] = process.argv.slice(2);
const exporter = new api.OTLPMetricExporter({
  url: endpoint,
  compression,
  temporalityPreference: api.AggregationTemporalityPreference[temporality.toUpperCase()],
});
const reader = new api.PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 });
const provider = new api.MeterProvider({
  readers: [reader],
  views: [{ instrumentName: "payload.size", aggregation: { type: api.AggregationType.EXPONENTIAL_HISTOGRAM } }],
  resource: api.resourceFromAttributes({
    "service.name": "checkout",
    "service.namespace": "shop",
    "service.instance.id": "i-1",
    "host.name": "web-1",
    ports: [80, 443],
  }),
});
const meter = provider.getMeter("sdk.js", "1.0");
const requests = meter.createCounter("http.requests", { unit: "{request}", description: "Requests." });
const queue = meter.createUpDownCounter("queue.length");
const temperature = meter.createObservableGauge("room.temperature", { unit: "Cel" });
temperature.addCallback((result) => result.observe(21.5, { "0k": true }));
const latency = meter.createHistogram("latency", { unit: "s", advice: { explicitBucketBoundaries: [0.1, 1] } });
const size = meter.createHistogram("payload.size", { unit: "By" });

async function main() {
  for (let round = 0; round < 2; round++) {
    requests.add(3, { "http.method": "GET" });
    queue.add(-2);
    for (const value of [0.0625, 0.5, 5]) latency.record(value);
    for (const value of [1, 4, 16]) size.record(value);
    await reader.forceFlush();
    // Times are kept in milliseconds, and every round is to have its own.
    for (const end = Date.now(); Date.now() <= end; );
  }
  await provider.shutdown();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
