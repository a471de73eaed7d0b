//! Observability for operators: Prometheus metrics ([`metrics`]), the log ([`json`]), and request spans ([`requests`]),
//! which can be exported as OpenTelemetry traces (`otlp`).
//!
//! All of it leaves the server, so it contains nothing secret or personal: no tokens, no bodies, no variables, and of
//! client-chosen text only operation names and well-formed request ids.

pub mod json;
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod requests;
mod traceparent;
