//! What has been done, in the form that Prometheus reads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Default)]
pub struct Metrics {
    pub requests: AtomicU64,
    /// Turned away for want of a place.
    pub rejected: AtomicU64,
    /// Given up by their clients.
    pub cancelled: AtomicU64,
    /// Being answered.
    pub active: AtomicU64,
    pub tokens: AtomicU64,
    pub network_calls: AtomicU64,
    /// Answers that took part in network calls; by calls, the mean batch.
    pub batched: AtomicU64,
}

impl Metrics {
    pub fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Relaxed);
    }

    pub fn text(&self) -> String {
        let rows = [
            (
                "requests_total",
                "counter",
                "Requests for an answer.",
                &self.requests,
            ),
            (
                "rejected_total",
                "counter",
                "Requests answered by 429.",
                &self.rejected,
            ),
            (
                "cancelled_total",
                "counter",
                "Requests given up by their clients.",
                &self.cancelled,
            ),
            ("active", "gauge", "Requests being answered.", &self.active),
            ("tokens_total", "counter", "Tokens written.", &self.tokens),
            (
                "network_calls_total",
                "counter",
                "Runs of the network.",
                &self.network_calls,
            ),
            (
                "batched_total",
                "counter",
                "Answers in runs of the network.",
                &self.batched,
            ),
        ];
        let row = |(name, kind, help, value): (&str, &str, &str, &AtomicU64)| {
            let value = value.load(Relaxed);
            format!("# HELP mdlm_{name} {help}\n# TYPE mdlm_{name} {kind}\nmdlm_{name} {value}\n")
        };
        rows.map(row).concat()
    }
}
