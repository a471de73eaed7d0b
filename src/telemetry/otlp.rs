//! Export of spans as OpenTelemetry traces over OTLP (protobuf over HTTP): requests, operations, and database
//! statements, whose text contains no values.
//!
//! Besides the endpoint, the standard OpenTelemetry variables apply: `OTEL_TRACES_SAMPLER`,
//! `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_BSP_...`.

use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::{Level, Metadata, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use super::traceparent::TraceParent;

/// Timeout of exporting a batch of spans.
const SEND_WAIT: Duration = Duration::from_secs(10);
/// Timeout of the final flush at shutdown.
const END_WAIT: Duration = Duration::from_secs(3);

/// Exports spans until dropped.
pub struct Export(SdkTracerProvider);

impl Export {
    /// Exports to the collector at `endpoint`, such as `http://127.0.0.1:4318`. Error: why it cannot be used.
    pub fn start(endpoint: &str, runtime: &Handle) -> Result<Export, Box<dyn std::error::Error>> {
        let client = reqwest::Client::builder().timeout(SEND_WAIT).build()?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client { client, runtime: runtime.clone() })
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .build()?;
        let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_service_name("salespulse").with_attribute(version).build();
        Ok(Export(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
    }

    /// The layer that forwards spans.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync>(&self) -> impl Layer<S> + use<S> {
        let layer = tracing_opentelemetry::layer().with_tracer(self.0.tracer("salespulse"));
        layer.with_location(false).with_threads(false).with_target(false).with_filter(filter_fn(is_traced))
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(END_WAIT) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// Spans of requests and operations, and those of database queries. Below level info those contain values.
fn is_traced(metadata: &Metadata<'_>) -> bool {
    let from = |module: &str| metadata.target().starts_with(module);
    metadata.is_span() && *metadata.level() <= Level::INFO && (from("salespulse::telemetry") || from("sea_orm"))
}

/// Makes `span` a child of `parent`, or the root of a trace; returns the trace's id.
pub fn join(span: &Span, parent: Option<TraceParent>) -> Option<u128> {
    if let Some(parent) = parent {
        let flags = if parent.is_sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
        let (trace, above) = (TraceId::from(parent.trace_id), SpanId::from(parent.span_id));
        let above = SpanContext::new(trace, above, flags, true, TraceState::default());
        // Fails where spans are not exported.
        let _ = span.set_parent(Context::new().with_remote_span_context(above));
    }
    let begun = span.context().span().span_context().trace_id();
    parent.map(|parent| parent.trace_id).or((begun != TraceId::INVALID).then(|| u128::from_be_bytes(begun.to_bytes())))
}

/// Sends on the server's own runtime, as the exporter's thread has none.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        // Errors are logged, and a URL may contain a password.
        let send = async move {
            let answer = client.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
            let status = answer.status();
            let body = answer.bytes().await.map_err(reqwest::Error::without_url)?;
            Ok::<_, HttpError>((status, body))
        };
        let (status, body) = self.runtime.spawn(send).await??;
        Ok(Response::builder().status(status).body(body)?)
    }
}
