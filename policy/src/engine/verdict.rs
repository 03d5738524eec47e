//! What a decision needs besides the request, and what comes of it.

use super::question::{Question, Unanswered};
use crate::{
    code::Denial,
    dialect::Rewrite,
    identity::{self, Held},
};
use doorward_proto::v1::AuditRecord;

/// Name of the header by which a caller picks one of its roles.
pub const ROLE_HEADER: &str = "x-doorward-role";

/// What a request without a matching service gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Unmatched {
    /// `no_route`
    #[default]
    Deny,
    /// It passes untouched (its record says so).
    Allow,
}

/// What the proxy's own configuration says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where credentials are looked for, and what mesh identity means.
    pub identity: identity::Settings,
    /// What a request without a matching service gets.
    pub unmatched: Unmatched,
    /// Bodies over this many bytes are `too_large`; a service may say less.
    pub max_body_bytes: usize,
    /// Bodies can be buffered before the request's head goes on; without it, dialects with bodies are `unsupported`.
    pub bodies: bool,
    /// A key for tokenising masks is there; without it, a decision that needs one is `response_unverifiable`.
    pub tokenization_key: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            identity: identity::Settings::default(),
            unmatched: Unmatched::Deny,
            max_body_bytes: 1 << 20,
            bodies: true,
            tokenization_key: false,
        }
    }
}

/// A request's fate, with its record.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// UUIDv7; also in the response and the record.
    pub decision_id: String,
    /// What to do.
    pub outcome: Outcome,
    /// The record, but for emitter, sequence and predecessor, which [`crate::audit::Chain::seal`] fills in.
    pub record: AuditRecord,
    /// The response may be released only after the record is durable.
    pub audit_required: bool,
}

/// What to do with a request.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// No service matches, and the configuration lets such requests pass.
    Pass,
    /// It goes on, changed as said (header changes included).
    Allow(Box<Rewrite>),
    /// It ends here.
    Deny(Denial),
}

/// Result of [`begin`](super::begin) and [`answer`](super::answer).
#[derive(Debug)]
pub enum Begin {
    /// Decided from the head alone.
    Done(Box<Verdict>),
    /// The body is needed: buffer at most `limit` bytes and call [`finish`](super::finish); over it, call that without a body.
    Body {
        /// Bytes.
        limit: usize,
        /// What is known so far.
        pending: Pending,
    },
    /// Somebody has to be asked: ask within a deadline, and call [`answer`](super::answer) with what came of it.
    Ask {
        /// What to ask.
        question: Question,
        /// What is known so far.
        pending: Unanswered,
    },
}

/// A request whose caller was verified and whose body is awaited.
#[derive(Clone, Debug)]
pub struct Pending {
    pub(super) decision_id: String,
    pub(super) held: Option<Held>,
}

impl Pending {
    /// Id of the decision to come.
    #[must_use]
    pub fn decision_id(&self) -> &str {
        &self.decision_id
    }
}
