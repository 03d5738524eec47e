//! Figures for Envoy's statistics. Counted in the worker and handed over at the tick, because each call into the host costs
//! as much as a decision.

use crate::proxy::{Metric, Proxy};
use doorward_policy::{code::Code, identity::CacheCounts};
use std::collections::HashMap;

/// Durations kept between two ticks; more are left out of the histogram.
const MAX_DURATIONS: usize = 64;

/// A worker's figures.
#[derive(Debug)]
pub struct Metrics {
    prefix: String,
    ids: HashMap<String, Option<u32>>,
    allowed: u64,
    passed: u64,
    asked: u64,
    unanswered: u64,
    denied: [u64; Code::ALL.len()],
    durations: Vec<u64>,
    depth: i64,
}

impl Metrics {
    /// Figures under this prefix.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Metrics {
            prefix: prefix.to_owned(),
            ids: HashMap::new(),
            allowed: 0,
            passed: 0,
            asked: 0,
            unanswered: 0,
            denied: [0; Code::ALL.len()],
            durations: Vec::new(),
            depth: 0,
        }
    }

    /// A request was allowed.
    pub fn allowed(&mut self) {
        self.allowed = self.allowed.saturating_add(1);
    }

    /// A request passed without a decision.
    pub fn passed(&mut self) {
        self.passed = self.passed.saturating_add(1);
    }

    /// A question was sent.
    pub fn asked(&mut self) {
        self.asked = self.asked.saturating_add(1);
    }

    /// A question could not be sent, or no answer came that can be used.
    pub fn unanswered(&mut self) {
        self.unanswered = self.unanswered.saturating_add(1);
    }

    /// A request or response was denied.
    pub fn denied(&mut self, code: Code) {
        let at = Code::ALL.iter().position(|have| *have == code);
        if let Some(count) = at.and_then(|at| self.denied.get_mut(at)) {
            *count = count.saturating_add(1);
        }
    }

    /// True while another duration fits before the next tick.
    #[must_use]
    pub fn wants_durations(&self) -> bool {
        self.durations.len() < MAX_DURATIONS
    }

    /// A decision took so long.
    pub fn decided_in(&mut self, nanos: u64) {
        if self.wants_durations() {
            self.durations.push(nanos / 1000);
        }
    }

    fn id(&mut self, proxy: &impl Proxy, kind: Metric, name: &str) -> Option<u32> {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = proxy.define_metric(kind, &format!("{}.{name}", self.prefix)).ok();
        self.ids.insert(name.to_owned(), id);
        id
    }

    fn count(&mut self, proxy: &impl Proxy, name: &str, more: u64) {
        if more > 0
            && let Some(id) = self.id(proxy, Metric::Counter, name)
        {
            let _ = proxy.increment_metric(id, i64::try_from(more).unwrap_or(i64::MAX));
        }
    }

    /// Sets a gauge that is the proxy's, not the worker's.
    pub fn gauge(&mut self, proxy: &impl Proxy, name: &str, value: u64) {
        if let Some(id) = self.id(proxy, Metric::Gauge, name) {
            let _ = proxy.record_metric(id, value);
        }
    }

    /// Hands over what was counted. The depth of the queue is a sum over workers, so its change is added.
    pub fn flush(&mut self, proxy: &impl Proxy, audit: crate::audit::Counts, tokens: CacheCounts, depth: usize) {
        let (allowed, passed) = (std::mem::take(&mut self.allowed), std::mem::take(&mut self.passed));
        self.count(proxy, "decisions.allow", allowed);
        self.count(proxy, "decisions.pass", passed);
        let (asked, unanswered) = (std::mem::take(&mut self.asked), std::mem::take(&mut self.unanswered));
        self.count(proxy, "questions.asked", asked);
        self.count(proxy, "questions.unanswered", unanswered);
        let denied = std::mem::replace(&mut self.denied, [0; Code::ALL.len()]);
        for (code, count) in Code::ALL.iter().zip(denied) {
            if count > 0 {
                self.count(proxy, &format!("decisions.{}", code.as_str()), count);
            }
        }
        self.count(proxy, "audit.acknowledged", audit.acknowledged);
        self.count(proxy, "audit.lost", audit.lost);
        self.count(proxy, "audit.summed", audit.summed);
        self.count(proxy, "token_cache.hit", tokens.hits);
        self.count(proxy, "token_cache.miss", tokens.misses);
        let depth = i64::try_from(depth).unwrap_or(i64::MAX);
        if depth != self.depth {
            if let Some(id) = self.id(proxy, Metric::Gauge, "audit.queue_records") {
                let _ = proxy.increment_metric(id, depth.saturating_sub(self.depth));
            }
            self.depth = depth;
        }
        if !self.durations.is_empty() {
            if let Some(id) = self.id(proxy, Metric::Histogram, "decision_microseconds") {
                for duration in &self.durations {
                    let _ = proxy.record_metric(id, *duration);
                }
            }
            self.durations.clear();
        }
    }
}
