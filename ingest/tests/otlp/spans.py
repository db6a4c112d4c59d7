"""Sends the spans of a call with the OpenTelemetry Python SDK, both sides of it as services of their own:
spans.py grpc|http ENDPOINT none|gzip.

Exit code 77: the SDK is not installed.
"""
import sys

try:
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    import opentelemetry.exporter.otlp.proto.grpc.trace_exporter as grpc_exporter
    import opentelemetry.exporter.otlp.proto.http.trace_exporter as http_exporter
    import grpc
except ImportError as missing:
    print(missing)
    sys.exit(77)

transport, endpoint, compression = sys.argv[1:]


def tracer_of(service):
    if transport == "grpc":
        chosen = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.NoCompression
        exporter = grpc_exporter.OTLPSpanExporter(endpoint=endpoint, insecure=True, compression=chosen)
    else:
        chosen = http_exporter.Compression.Gzip if compression == "gzip" else http_exporter.Compression.NoCompression
        exporter = http_exporter.OTLPSpanExporter(endpoint=endpoint, compression=chosen)
    resource = Resource({"service.name": service, "service.namespace": "shop"})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider, provider.get_tracer("spans")


providers, (checkout, cart) = zip(*[tracer_of(service) for service in ("checkout", "cart")])
route = {"http.request.method": "GET", "http.route": "/cart/{id}"}
for status in (200, 503):
    code = {"http.response.status_code": status}
    call = {"http.request.method": "GET", "url.template": "/cart/{id}", "server.address": "cart.local"}
    with checkout.start_as_current_span("GET", kind=trace.SpanKind.CLIENT, attributes={**call, **code}):
        with cart.start_as_current_span("GET", kind=trace.SpanKind.SERVER, attributes={**route, **code}):
            pass
for provider in providers:
    if not provider.force_flush():
        sys.exit(1)
    provider.shutdown()
