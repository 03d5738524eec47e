//! Prometheus metrics of the control plane. Label values are bounded: no user, record or path ever becomes one.

use std::sync::{Mutex, PoisonError, atomic::AtomicU64};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// A label set of one pair, or two.
pub type Labels = Vec<(&'static str, String)>;

/// All metrics; cheap to share behind an `Arc`.
pub struct Metrics {
    registry: Mutex<Registry>,
    /// Audit records that became durable.
    pub records_durable: Counter,
    /// Audit records that were sent again and already stored.
    pub records_duplicate: Counter,
    /// Audit batches refused, by stable code.
    pub batches_refused: Family<Labels, Counter>,
    /// Group commits of the audit log.
    pub commits: Counter,
    /// Seconds from receiving an audit batch to its acknowledgement.
    pub ack_latency: Histogram,
    /// Open tails.
    pub tails: Gauge,
    /// Records that each named cursor of the audit log has not passed.
    cursor_lag: Family<Labels, Gauge>,
    /// Records that were deleted before each had passed them, in all.
    cursor_lost: Family<Labels, Gauge>,
    /// Unix time at which each moved last.
    cursor_updated: Family<Labels, Gauge>,
    /// Connected proxies.
    pub proxies: Gauge,
    /// Connections with requests.
    pub connections: Gauge,
    /// Connections and streams refused or cut, by reason.
    pub connections_refused: Family<Labels, Counter>,
    /// Proxies' answers to updates, by outcome.
    pub updates: Family<Labels, Counter>,
    /// Epoch of the policy in force.
    pub epoch: Gauge,
    /// Unix time at which the policy in force expires.
    pub expires: Gauge,
    /// Seconds that reading and compiling all documents took.
    pub compile_seconds: Histogram,
    /// Diagnostics of the last compilation, by severity.
    pub diagnostics: Family<Labels, Gauge>,
    /// Documents held at their last good version.
    pub held_documents: Gauge,
    /// 1 while the policy in force is not on the disk.
    pub unstored: Gauge,
    /// Seconds since each key set was fetched, by its host.
    pub jwks_age: Family<Labels, Gauge<f64, AtomicU64>>,
    /// 1 for hosts with a key set of which no key can be used, whether or not the last good set stands in.
    pub jwks_unusable: Family<Labels, Gauge>,
    /// Failed fetches of key sets, by host.
    pub jwks_failures: Family<Labels, Counter>,
    /// Questions about tokens, by provider and outcome.
    pub introspections: Family<Labels, Counter>,
    /// Seconds since the most silent watch of the Kubernetes API server heard from it.
    pub kubernetes_silence: Gauge<f64, AtomicU64>,
    /// 1 on the replica that writes the status of documents.
    pub leads: Gauge,
    /// Statuses of documents that were written.
    pub statuses: Counter,
    /// Attempts to write a lease or a status that failed.
    pub status_failures: Counter,
    /// Answers of the admission webhook, by outcome.
    pub reviews: Family<Labels, Counter>,
    /// Seconds that each took.
    pub review_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let latency =
            || Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
        let mut registry = Registry::with_prefix("doorward");
        macro_rules! metric {
            ($name:literal, $help:literal, $value:expr) => {{
                let metric = $value;
                registry.register($name, $help, metric.clone());
                metric
            }};
        }
        Self {
            records_durable: metric!("audit_records_durable", "Audit records that became durable", Counter::default()),
            records_duplicate: metric!(
                "audit_records_duplicate",
                "Audit records sent again and already stored",
                Counter::default()
            ),
            batches_refused: metric!("audit_batches_refused", "Audit batches refused, by code", Family::default()),
            commits: metric!("audit_commits", "Group commits of the audit log", Counter::default()),
            ack_latency: metric!(
                "audit_ack_latency_seconds",
                "From receiving a batch to its acknowledgement",
                latency()
            ),
            tails: metric!("audit_tails", "Open tails of the audit log", Gauge::default()),
            cursor_lag: metric!(
                "audit_cursor_lag_records",
                "Records that a named cursor has not passed, as of the last minute",
                Family::default()
            ),
            cursor_lost: metric!(
                "audit_cursor_lost_records",
                "Records that were deleted before a named cursor had passed them, in all",
                Family::default()
            ),
            cursor_updated: metric!(
                "audit_cursor_updated_timestamp_seconds",
                "When a named cursor moved last",
                Family::default()
            ),
            proxies: metric!("proxies_connected", "Connected proxies", Gauge::default()),
            connections: metric!("connections", "Connections that have made a request", Gauge::default()),
            connections_refused: metric!(
                "connections_refused",
                "Connections and streams refused or cut, by reason",
                Family::default()
            ),
            updates: metric!("policy_results", "Answers of proxies to policy updates, by outcome", Family::default()),
            epoch: metric!("policy_epoch", "Epoch of the policy in force", Gauge::default()),
            expires: metric!("policy_expires_timestamp_seconds", "When the policy in force expires", Gauge::default()),
            compile_seconds: metric!("policy_compile_seconds", "Reading and compiling all documents", latency()),
            diagnostics: metric!(
                "policy_diagnostics",
                "Diagnostics of the last compilation, by severity",
                Family::default()
            ),
            held_documents: metric!(
                "policy_documents_held",
                "Documents held at their last good version",
                Gauge::default()
            ),
            unstored: metric!(
                "policy_unstored",
                "1 while the policy in force cannot be stored and a restart would not find it",
                Gauge::default()
            ),
            jwks_age: metric!("jwks_age_seconds", "Age of each key set, by host", Family::default()),
            jwks_unusable: metric!("jwks_unusable", "Hosts whose newest key set has no usable key", Family::default()),
            jwks_failures: metric!("jwks_fetch_failures", "Failed fetches of key sets, by host", Family::default()),
            introspections: metric!(
                "introspections",
                "Questions to identity providers about tokens, by provider and outcome",
                Family::default()
            ),
            kubernetes_silence: metric!(
                "kubernetes_watch_silence_seconds",
                "Since the most silent watch of the Kubernetes API server heard from it; a minute is usual",
                Gauge::default()
            ),
            leads: metric!(
                "kubernetes_leader",
                "1 on the replica that writes the status of documents",
                Gauge::default()
            ),
            statuses: metric!("kubernetes_statuses_written", "Statuses of documents written", Counter::default()),
            status_failures: metric!(
                "kubernetes_status_failures",
                "Attempts to write a lease or a status that failed",
                Counter::default()
            ),
            reviews: metric!("webhook_reviews", "Answers of the admission webhook, by outcome", Family::default()),
            review_seconds: metric!("webhook_review_seconds", "From question to answer of the webhook", latency()),
            registry: Mutex::new(registry),
        }
    }
}

impl Metrics {
    /// Where a named cursor stands; `updated`: microseconds since the Unix epoch. There are at most 64 names, which an
    /// administrator has chosen.
    pub fn measure_cursor(&self, name: &str, lag: u64, lost: u64, updated: i64) {
        let labels = vec![("cursor", name.to_owned())];
        self.cursor_lag.get_or_create(&labels).set(i64::try_from(lag).unwrap_or(i64::MAX));
        self.cursor_lost.get_or_create(&labels).set(i64::try_from(lost).unwrap_or(i64::MAX));
        self.cursor_updated.get_or_create(&labels).set(updated / 1_000_000);
    }

    /// A named cursor is gone.
    pub fn forget_cursor(&self, name: &str) {
        let labels = vec![("cursor", name.to_owned())];
        self.cursor_lag.remove(&labels);
        self.cursor_lost.remove(&labels);
        self.cursor_updated.remove(&labels);
    }

    /// OpenMetrics text of all metrics.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}
