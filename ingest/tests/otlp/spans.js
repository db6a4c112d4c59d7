// Sends the spans of a call with the OpenTelemetry JavaScript SDK, as JSON over HTTP, both sides of it as services of their
// own: spans.js ENDPOINT none|gzip. Exit code 77: the SDK is not installed.
"use strict";

let api;
try {
  api = {
    ...require("@opentelemetry/api"),
    ...require("@opentelemetry/sdk-trace"),
    ...require("@opentelemetry/exporter-trace-otlp-http"),
    ...require("@opentelemetry/resources"),
  };
} catch (missing) {
  console.log(missing.message.split("\n")[0]);
  process.exit(77);
}

const [endpoint, compression] = process.argv.slice(2);
const providers = ["checkout", "cart"].map((service) => {
  const exporter = new api.OTLPTraceExporter({ url: endpoint, compression });
  const resource = api.resourceFromAttributes({ "service.name": service, "service.namespace": "shop" });
  return new api.TracerProvider({ resource, spanProcessors: [new api.BatchSpanProcessor({ exporter })] });
});
const [checkout, cart] = providers.map((provider) => provider.getTracer("spans"));

async function main() {
  for (const status of [200, 503]) {
    const code = { "http.request.method": "GET", "http.response.status_code": status };
    const call = { "url.template": "/cart/{id}", "server.address": "cart.local", ...code };
    const outer = checkout.startSpan("GET", { kind: api.SpanKind.CLIENT, attributes: call });
    const context = api.trace.setSpan(api.ROOT_CONTEXT, outer);
    const route = { "http.route": "/cart/{id}", ...code };
    cart.startSpan("GET", { kind: api.SpanKind.SERVER, attributes: route }, context).end();
    outer.end();
  }
  for (const provider of providers) {
    await provider.forceFlush();
    await provider.shutdown();
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
