//! What a running server tells those who run it: counts for Prometheus ([`metrics`]), the log ([`json`]), and the spans of
//! requests ([`requests`]), which OpenTelemetry may be given as traces (`otlp`).
//!
//! All of it leaves the server, so none of it is secret or personal: no tokens, no bodies, no variables, and of clients'
//! own words only the names of operations and well-formed ids of requests.

pub mod json;
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod requests;
mod traceparent;
