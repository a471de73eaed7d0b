//! Metrics of this process. Global, like the log, so that anything can be counted where it happens.
//!
//! Names follow Prometheus: base units, and `_total` for counters. Label values are constants of the program, so their
//! cardinality is low: none comes from a client, and none identifies a tenant.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

/// From a cached response to one close to its timeout.
const SECONDS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

pub struct Metrics {
    registry: Registry,
    pub http_requests: IntCounterVec,
    pub http_request_duration: HistogramVec,
    pub operation_duration: HistogramVec,
    pub subscriptions: IntCounter,
    pub errors: IntCounterVec,
    pub caches: IntCounterVec,
    pub ledger_events: IntCounterVec,
    pub ledger_batches: IntCounterVec,
    pub ledger_commit_duration: HistogramVec,
    pub live_updates: IntCounter,
    pub live_catch_ups: IntCounter,
    pub stream_foreign: IntCounter,
    pub socket_closes: IntCounterVec,
    pub deliveries: IntCounterVec,
    due: IntGaugeVec,
    pub fit_duration: HistogramVec,
}

impl Metrics {
    /// Sets the number of items of a kind that were due at the last poll.
    pub fn set_due(&self, kind: &str, found: usize) {
        self.due.with_label_values(&[kind]).set(i64::try_from(found).unwrap_or(i64::MAX));
    }

    fn new() -> Metrics {
        let registry = Registry::new();
        let new = Definitions(&registry);
        #[cfg(target_os = "linux")]
        new.add(prometheus::process_collector::ProcessCollector::for_self());
        Metrics {
            http_requests: new.counters(
                "salespulse_http_requests_total",
                "Requests answered, by method, route and status.",
                &["method", "route", "status"],
            ),
            http_request_duration: new.durations(
                "salespulse_http_request_duration_seconds",
                "Time from a request's headers to those of its answer.",
                &["route"],
            ),
            operation_duration: new.durations(
                "salespulse_operation_duration_seconds",
                "Time in which a GraphQL query or mutation ran, over any transport. Cached answers are not run.",
                &["kind"],
            ),
            subscriptions: new.counter("salespulse_subscriptions_total", "GraphQL subscriptions begun."),
            errors: new.counters("salespulse_errors_total", "GraphQL errors made, by their code.", &["code"]),
            caches: new.counters(
                "salespulse_cache_requests_total",
                "Look-ups in the caches of this process: hit, or miss where it was absent or no longer valid.",
                &["cache", "result"],
            ),
            ledger_events: new.counters(
                "salespulse_ledger_events_total",
                "Events that were given an outcome.",
                &["outcome"],
            ),
            ledger_batches: new.counters(
                "salespulse_ledger_batches_total",
                "Batches of events, by whether they were committed.",
                &["result"],
            ),
            ledger_commit_duration: new.durations(
                "salespulse_ledger_commit_duration_seconds",
                "Time in which a batch of events was recorded, or failed to be.",
                &[],
            ),
            live_updates: new.counter(
                "salespulse_live_updates_total",
                "Live answers made, each of which may go to many subscribers.",
            ),
            live_catch_ups: new.counter(
                "salespulse_live_catch_ups_total",
                "Times that batches were read from a ledger because the stream had not brought them.",
            ),
            stream_foreign: new.counter(
                "salespulse_stream_foreign_total",
                "Entries in Redis that are no batches of their tenant, keys that are no streams, streams ahead of their ledger.",
            ),
            socket_closes: new.counters(
                "salespulse_socket_closes_total",
                "WebSockets that have ended, by the code that the server closed them with: none where the client went.",
                &["code"],
            ),
            deliveries: new.counters(
                "salespulse_deliveries_total",
                "Attempts to deliver to recipients of alerts: delivered, failed when to be tried again, dead when given up.",
                &["channel", "result"],
            ),
            fit_duration: new.durations(
                "salespulse_fit_duration_seconds",
                "Time in which models were fitted, for requests or in the background.",
                &["origin"],
            ),
            due: new.gauges("salespulse_due", "What the last look found to be due, of all tenants.", &["work"]),
            registry,
        }
    }

    /// Initializes the series that alerts are based on: a counter that appears with its first event shows no increase.
    pub fn begin(&self) {
        for code in ["INTERNAL_SERVER_ERROR", "SERVICE_UNAVAILABLE", "DECRYPTION_FAILED", "QUERY_TIMEOUT"] {
            self.errors.with_label_values(&[code]);
        }
        for (channel, result) in
            ["email", "webhook"].into_iter().flat_map(|c| ["delivered", "failed", "dead"].map(|r| (c, r)))
        {
            self.deliveries.with_label_values(&[channel, result]);
        }
        for result in ["committed", "failed"] {
            self.ledger_batches.with_label_values(&[result]);
        }
    }

    pub fn cache_was_asked(&self, cache: &str, is_hit: bool) {
        self.caches.with_label_values(&[cache, if is_hit { "hit" } else { "miss" }]).inc();
    }

    /// Records how long a batch took, and whether it was committed.
    pub fn batch_has_ended(&self, took: Duration, is_committed: bool) {
        self.ledger_batches.with_label_values(&[if is_committed { "committed" } else { "failed" }]).inc();
        self.ledger_commit_duration.with_label_values::<&str>(&[]).observe(took.as_secs_f64());
    }

    /// All metrics and `more`, in the Prometheus text format.
    pub fn to_text(&self, more: Vec<MetricFamily>) -> prometheus::Result<String> {
        let families: Vec<MetricFamily> = self.registry.gather().into_iter().chain(more).collect();
        TextEncoder::new().encode_to_string(&families)
    }
}

/// Creates metrics in a registry.
pub struct Definitions<'a>(pub &'a Registry);

impl Definitions<'_> {
    fn register<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let collector = made.expect("names and labels stand in the program");
        self.add(collector.clone());
        collector
    }

    fn add(&self, collector: impl Collector + 'static) {
        self.0.register(Box::new(collector)).expect("each name is there once");
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::new(name, help))
    }

    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn durations(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        self.register(HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels))
    }
}
