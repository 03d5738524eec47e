//! The checks of a token as steps: silent in the filter, told one by one where somebody asks.

use crate::code::Denial;

/// Listens to the checks of one token against one provider. The filter and `doorward identity check` run the same checks;
/// they differ in their listener alone.
pub(super) trait Steps {
    /// A check passed. The sentence is made only where somebody listens.
    fn passed(&mut self, step: &'static str, sentence: impl FnOnce() -> String);
    /// A check failed.
    ///
    /// # Errors
    /// The denial, where the first one ends the checks.
    fn failed(&mut self, step: &'static str, denial: Denial) -> Result<(), Denial>;
}

/// Nobody listens: the first denial ends the checks.
pub(super) struct Silent;

impl Steps for Silent {
    fn passed(&mut self, _: &'static str, _: impl FnOnce() -> String) {}
    fn failed(&mut self, _: &'static str, denial: Denial) -> Result<(), Denial> {
        Err(denial)
    }
}

/// Tells a result; `None`: it failed, and the checks go on.
pub(super) fn tell<T, S: Steps>(
    steps: &mut S,
    step: &'static str,
    result: Result<T, Denial>,
    sentence: impl FnOnce(&T) -> String,
) -> Result<Option<T>, Denial> {
    match result {
        Ok(value) => {
            steps.passed(step, || sentence(&value));
            Ok(Some(value))
        }
        Err(denial) => steps.failed(step, denial).map(|()| None),
    }
}
