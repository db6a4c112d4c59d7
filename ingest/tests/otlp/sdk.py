"""Sends one of every instrument of the OpenTelemetry Python SDK in two rounds:
sdk.py grpc|http ENDPOINT none|gzip cumulative|delta.

Exit code 77: the SDK is not installed.
"""
import sys
import time

try:
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
    from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter
    from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
    from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
    from opentelemetry.sdk.resources import Resource
    import opentelemetry.exporter.otlp.proto.grpc.metric_exporter as grpc_exporter
    import opentelemetry.exporter.otlp.proto.http.metric_exporter as http_exporter
    import grpc
except ImportError as missing:
    print(missing)
    sys.exit(77)

transport, endpoint, compression, temporality = sys.argv[1:]
delta = {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
preferred = delta if temporality == "delta" else {}
if transport == "grpc":
    chosen = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.NoCompression
    exporter = grpc_exporter.OTLPMetricExporter(
        endpoint=endpoint, insecure=True, compression=chosen, preferred_temporality=preferred
    )
else:
    chosen = http_exporter.Compression.Gzip if compression == "gzip" else http_exporter.Compression.NoCompression
    exporter = http_exporter.OTLPMetricExporter(
        endpoint=endpoint, compression=chosen, preferred_temporality=preferred
    )

reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
view = View(instrument_name="payload.size", aggregation=ExponentialBucketHistogramAggregation())
resource = Resource(
    {
        "service.name": "checkout",
        "service.namespace": "shop",
        "service.instance.id": "i-1",
        "host.name": "web-1",
        "ports": [80, 443],
    }
)
provider = MeterProvider(
    metric_readers=[reader], views=[view], resource=resource, exemplar_filter=AlwaysOnExemplarFilter()
)
meter = provider.get_meter("sdk.py", "1.0", attributes={"edition": "test"})

requests = meter.create_counter("http.requests", unit="{request}", description="Requests.")
queue = meter.create_up_down_counter("queue.length")
meter.create_observable_gauge(
    "room.temperature", callbacks=[lambda _: [metrics.Observation(21.5, {"0k": True})]], unit="Cel"
)
span = trace.NonRecordingSpan(
    trace.SpanContext(0x5B8EFFF798038103D269B633813FC60C, 0xEEE19B7EC3C1B174, False, trace.TraceFlags(1))
)
latency = meter.create_histogram("latency", unit="s", explicit_bucket_boundaries_advisory=[0.1, 1.0])
size = meter.create_histogram("payload.size", unit="By")
for _ in range(2):
    requests.add(3, {"http.method": "GET"})
    queue.add(-2)
    with trace.use_span(span):
        for value in (0.0625, 0.5, 5.0):
            latency.record(value)
        for value in (1.0, 4.0, 16.0):
            size.record(value)
    if not provider.force_flush():
        sys.exit(1)
    # Times are kept in milliseconds, and every round is to have its own.
    end = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 <= end:
        pass
provider.shutdown()
