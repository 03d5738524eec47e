//! One policy with a service of each dialect, compiled, and the people who ask.

use doorward_policy::{
    Name,
    bundle::Tables,
    identity::{Agent, Attribute, Principal},
};
use doorward_policy_compiler::compile::Compiled;
use doorward_test_support::{
    policy::{self, Keys},
    token::Signer,
};
use serde_json::json;
use std::sync::LazyLock;

/// The documents.
pub const TEXT: &str = include_str!("policy.yaml");

/// The key of the provider `corp`.
pub static ES256: LazyLock<Signer> = LazyLock::new(|| Signer::es256(7));
/// The key of the provider `tools`.
pub static HS256: LazyLock<Signer> = LazyLock::new(|| Signer::Hs256(b"0123456789abcdef0123456789abcdef".to_vec()));

/// The key set of a provider of the policy, as JSON.
#[must_use]
pub fn key_set(provider: &str) -> Option<String> {
    let (signer, kid) = match provider {
        "corp" => (&ES256, Some("k1")),
        "tools" => (&HS256, None),
        _ => return None,
    };
    let mut key = signer.jwk();
    key["alg"] = json!(signer.algorithm());
    if let Some(kid) = kid {
        key["kid"] = json!(kid);
    }
    Some(json!({"keys": [key]}).to_string())
}

/// The policy as a bundle.
pub static BUNDLE: LazyLock<Compiled> = LazyLock::new(|| policy::compiled(&policy::documents(TEXT), &Keys(key_set)));

/// The policy in force.
pub static TABLES: LazyLock<Tables> = LazyLock::new(|| policy::indexed(&BUNDLE));

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Sees some fields of the rows of one region.
    Analyst,
    /// Sees everything.
    Admin,
    /// An agent that acts for the analyst.
    Agent,
}

impl Caller {
    /// One of them.
    #[must_use]
    pub fn of(byte: u8) -> Caller {
        [Caller::Analyst, Caller::Analyst, Caller::Agent, Caller::Admin][usize::from(byte % 4)]
    }

    /// As an identity.
    #[must_use]
    pub fn principal(self) -> Principal {
        let group = if self == Caller::Admin { "admins" } else { "analysts" };
        Principal {
            user: Some("ann".into()),
            provider: Some("corp".into()),
            groups: vec![group.into()],
            tenant: Some("acme".into()),
            attributes: vec![
                ("ids".into(), Attribute::Many(vec!["1".into(), "2".into()])),
                ("level".into(), Attribute::One("7".into())),
                ("region".into(), Attribute::One("west".into())),
            ],
            agents: if self == Caller::Agent { vec![Agent { name: Name::from("helper") }] } else { Vec::new() },
            ..Principal::default()
        }
    }
}
