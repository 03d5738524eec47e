//! Why a response is withheld.

/// Why a response cannot be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransformError {
    /// Not JSON.
    #[error("the response is not well-formed JSON")]
    Malformed,
    /// JSON of another form than the service's API has.
    #[error("the response does not have the form that the service's dialect promises")]
    Unexpected,
    /// Nested too deeply, or a name or masked value is too long.
    #[error("the response exceeds a limit of the transformer")]
    Limit,
    /// A value cannot be masked (no tokenisation key, or not valid Unicode).
    #[error("a value of the response cannot be masked")]
    Unmaskable,
    /// The plan asks for one row ([`ResponsePlan::one_row`](super::ResponsePlan::one_row)), and there is none. Otherwise the response is as promised.
    #[error("the response has no row")]
    Absent,
}
