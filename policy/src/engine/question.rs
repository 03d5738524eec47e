//! What a decision may ask of others. The engine does no input or output: it says what to ask, and goes on with the answer.

use crate::identity::Introspection;

/// Questions that one request may ask at most. More than one is asked only where the policy changes meanwhile.
pub(super) const MAX_ROUNDS: u8 = 3;

/// What has to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether a token is good, and whose it is (RFC 7662).
    Introspection(Introspection),
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The identity provider's answer as it was given: JSON by RFC 7662, section 2.2. It is checked here.
    Introspection(&'a [u8]),
    /// None came in time, or it was no answer, or the question was one too many: the request is denied.
    None,
}

/// A request whose question is not answered yet.
#[derive(Clone, Debug)]
pub struct Unanswered {
    pub(super) decision_id: String,
    pub(super) question: Question,
    /// Questions asked so far.
    pub(super) rounds: u8,
}

impl Unanswered {
    /// Id of the decision to come.
    #[must_use]
    pub fn decision_id(&self) -> &str {
        &self.decision_id
    }
}
