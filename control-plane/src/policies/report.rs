//! What came of a reading, to people: status, log and metrics.

use std::{sync::Arc, time::Duration};

use doorward_proto::v1::{Diagnostic, PolicyStatus};
use tokio::sync::watch;

use super::{compiler, resolve::Resolution};
use crate::{clock::now_micros, metrics::Metrics};

/// Between attempts to store what could not be stored, and to read what could not be read.
pub const AGAIN: Duration = Duration::from_secs(5);
/// Findings of one compilation that are logged.
const MAX_LOGGED: usize = 100;
/// Code of the diagnostic while the policy in force is not on the disk.
pub const NOT_STORED: &str = "not_stored";
/// Code of the diagnostic while the documents are not in force as a whole.
pub const NOT_PUBLISHED: &str = "not_published";

/// Who tells people.
pub struct Reporter {
    metrics: Arc<Metrics>,
    status: watch::Sender<PolicyStatus>,
}

impl Reporter {
    /// With an empty status.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, status: watch::Sender::new(PolicyStatus::default()) }
    }

    /// What the last compilation found.
    pub fn status(&self) -> watch::Receiver<PolicyStatus> {
        self.status.subscribe()
    }

    /// Nothing could be read from the source that has this name.
    pub fn unreadable(&self, source: &str, error: &dyn std::error::Error) {
        tracing::error!(source, %error, "the source of policy cannot be read; the last policy stays in force");
        self.metrics.diagnostics.get_or_create(&vec![("severity", compiler::ERROR.to_owned())]).set(1);
        // It begins the sentence.
        let (first, rest) = source.split_at(source.chars().next().map_or(0, char::len_utf8));
        let first = first.to_uppercase();
        let message = format!("{first}{rest} cannot be read, and the last policy stays in force: {error}.");
        self.status.send_modify(|status| {
            status.compiled_at_micros = now_micros();
            status.diagnostics.retain(|found| found.code == NOT_STORED);
            status.diagnostics.push(Diagnostic {
                severity: compiler::ERROR.into(),
                code: NOT_PUBLISHED.into(),
                message,
                ..Default::default()
            });
        });
    }

    /// What came of compiling.
    pub fn report(&self, resolution: &Resolution, seconds: f64) {
        for severity in ["error", "warning"] {
            let count = resolution.diagnostics.iter().filter(|d| d.severity == severity).count();
            self.metrics
                .diagnostics
                .get_or_create(&vec![("severity", severity.to_owned())])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let held = resolution.documents.iter().filter(|d| d.last_good).count();
        self.metrics.held_documents.set(i64::try_from(held).unwrap_or(i64::MAX));
        let more = resolution.diagnostics.len().saturating_sub(MAX_LOGGED);
        // Errors before warnings, where not all are logged.
        let mut logged: Vec<&Diagnostic> = resolution.diagnostics.iter().collect();
        logged.sort_by_key(|found| found.severity != compiler::ERROR);
        for Diagnostic { severity, code, kind, name, file, line, path, message } in logged.into_iter().take(MAX_LOGGED)
        {
            if severity == compiler::ERROR {
                tracing::error!(code, kind, name, file, line, path, "{message}");
            } else {
                tracing::warn!(code, kind, name, file, line, path, "{message}");
            }
        }
        if more > 0 {
            tracing::warn!("{more} more findings; `doorward proxies` shows all");
        }
        tracing::info!(documents = resolution.documents.len(), held, seconds, "documents compiled");
        self.status.send_modify(|status| {
            let mut diagnostics = std::mem::take(&mut status.diagnostics);
            diagnostics.retain(|found| found.code == NOT_STORED);
            diagnostics.extend(resolution.diagnostics.iter().cloned());
            *status = PolicyStatus {
                compiled_at_micros: now_micros(),
                documents: resolution.documents.clone(),
                diagnostics,
                ..Default::default()
            };
        });
    }

    /// The policy in force cannot be stored for this reason, or is stored.
    pub fn unstored(&self, reason: Option<&str>) {
        self.metrics.unstored.set(reason.is_some().into());
        self.status.send_modify(|status| {
            status.diagnostics.retain(|found| found.code != NOT_STORED);
            if let Some(reason) = reason {
                status.diagnostics.insert(
                    0,
                    Diagnostic {
                        severity: compiler::ERROR.into(),
                        code: NOT_STORED.into(),
                        message: format!(
                            "The policy in force is pushed to proxies, but cannot be stored, and a restart would serve an \
                            older one until the policy directory has been read: {reason}. It is tried again every {} seconds.",
                            AGAIN.as_secs()
                        ),
                        ..Default::default()
                    },
                );
            }
        });
    }
}
