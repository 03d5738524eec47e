//! What a token may bring at most.

/// Groups, and values of one claim, that a token may bring at most. Leaving some out could leave out the one that a
/// restriction names, so more are refused.
pub(super) const MAX_VALUES: usize = 512;
