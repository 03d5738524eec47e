//! The way to a decision, step by step, for `explain`.

use crate::Name;

/// Every step of one decision, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The steps.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was checked: `restriction`, `role`, `service`, `component`, `verb`, `field`, `row`, `limit`, `shadow`.
    pub step: &'static str,
    /// Kind of the document that spoke, e.g. `AccessRole`.
    pub kind: &'static str,
    /// Name of the document.
    pub name: Name,
    /// Where in the document, e.g. `spec.grants[0].rows`; "" for all of it.
    pub path: String,
    /// How it went.
    pub verdict: Verdict,
    /// One sentence.
    pub sentence: String,
}

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The check passed.
    Pass,
    /// The check denied.
    Deny,
    /// It passed, with a constraint.
    Constrain,
    /// For information.
    Note,
}

impl Verdict {
    /// Lower-case word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Deny => "deny",
            Verdict::Constrain => "constrain",
            Verdict::Note => "note",
        }
    }
}

/// Collects steps where someone wants them, and costs nothing where not.
pub(super) struct Tracer<'a>(pub(super) Option<&'a mut Trace>);

impl Tracer<'_> {
    pub(super) fn step(
        &mut self,
        step: &'static str,
        kind: &'static str,
        name: &Name,
        path: impl FnOnce() -> String,
        verdict: Verdict,
        sentence: impl FnOnce() -> String,
    ) {
        if let Some(trace) = &mut self.0 {
            trace.steps.push(Step { step, kind, name: name.clone(), path: path(), verdict, sentence: sentence() });
        }
    }
}
