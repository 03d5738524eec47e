//! What the control plane tells about a document in its `status`: who writes it and who reads it share these names.

use super::Kind;
use serde_json::{Value, json};

/// The document is understood, as far as its own content goes.
pub const ACCEPTED: &str = "Accepted";
/// Proxies enforce it.
pub const PROGRAMMED: &str = "Programmed";

/// Why a document is accepted or not: the reasons of [`ACCEPTED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptedReason {
    /// It compiles.
    Accepted,
    /// It does not.
    Invalid,
    /// Another document has what it claims.
    Conflicted,
    /// What it refers to is not there, or not accepted.
    RefNotFound,
    /// It reaches beyond its namespace, and nobody there has allowed that.
    NotPermitted,
}

impl AcceptedReason {
    /// As it stands in a condition.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Invalid => "Invalid",
            Self::Conflicted => "Conflicted",
            Self::RefNotFound => "RefNotFound",
            Self::NotPermitted => "NotPermitted",
        }
    }

    /// The reason for what the compiler found, by its code.
    #[must_use]
    pub fn of_code(code: &str) -> Self {
        match code {
            "duplicate" | "duplicate_name" | "duplicate_hash" | "duplicate_issuer" | "match_overlap"
            | "host_claimed" => Self::Conflicted,
            "not_permitted" => Self::NotPermitted,
            "unknown_role" | "unknown_service" | "unknown_provider" | "unknown_key" => Self::RefNotFound,
            _ => Self::Invalid,
        }
    }
}

/// Why a document is in force or not: the reasons of [`PROGRAMMED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgrammedReason {
    /// Every connected proxy enforces it.
    Programmed,
    /// Some proxies do not, and have said that they will not.
    PartiallyProgrammed,
    /// It is on its way, or nothing can be published, or nobody is connected.
    Reconciling,
}

impl ProgrammedReason {
    /// As it stands in a condition.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Programmed => "Programmed",
            Self::PartiallyProgrammed => "PartiallyProgrammed",
            Self::Reconciling => "Reconciling",
        }
    }
}

/// Columns that every kind ends with: title, type, path.
pub(super) fn columns(kind: Kind) -> Vec<Value> {
    let condition = |of: &str| json!({"name": of, "type": "string", "jsonPath": format!(".status.conditions[?(@.type==\"{of}\")].status")});
    let mut all = vec![condition(ACCEPTED)];
    // Tests are run by `doorward test`; no proxy gets them.
    if kind != Kind::PolicyTest {
        all.push(condition(PROGRAMMED));
        all.push(json!({"name": "Proxies", "type": "string", "jsonPath": ".status.proxies"}));
    }
    all.push(json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}));
    all
}

/// The schema of `status`. The API server takes out of it what is not here.
pub(super) fn schema() -> Value {
    let text = |about: &str| json!({"type": "string", "description": about});
    let number = |about: &str| json!({"type": "integer", "format": "int64", "minimum": 0, "description": about});
    json!({
        "type": "object",
        "description": "What the control plane and the proxies have made of this document.",
        "properties": {
            "observedGeneration": number("The `metadata.generation` that this status is about."),
            "epoch": number("The epoch of the policy since which this content is in force."),
            "acknowledged": number("Connected proxies that enforce that epoch or a later one."),
            "total": number("Connected proxies."),
            "proxies": text("`acknowledged` of `total`, for reading."),
            "conditions": {
                "type": "array",
                "description": "`Accepted`: it compiles. `Programmed`: every connected proxy enforces it.",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": {
                    "type": "object",
                    "required": ["type", "status", "reason", "message", "lastTransitionTime"],
                    "properties": {
                        "type": text("`Accepted` or `Programmed`."),
                        "status": json!({"type": "string", "enum": ["True", "False", "Unknown"]}),
                        "reason": text("A word for machines."),
                        "message": text("A sentence for people."),
                        "observedGeneration": number("The `metadata.generation` that this condition is about."),
                        "lastTransitionTime": json!({"type": "string", "format": "date-time"}),
                    },
                },
            },
        },
    })
}
