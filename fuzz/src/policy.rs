//! One policy with a service of each dialect, compiled, and the people who ask.

use crate::token;
use doorward_policy::{
    Name,
    bundle::Tables,
    identity::{Agent, Attribute, Principal},
};
use doorward_policy_compiler::compile::Compiled;
use doorward_test_support::policy::{self, Keys};
use std::sync::LazyLock;

/// The documents.
pub const TEXT: &str = include_str!("policy.yaml");

/// The policy as a bundle.
pub static BUNDLE: LazyLock<Compiled> =
    LazyLock::new(|| policy::compiled(&policy::documents(TEXT), &Keys(token::key_set)));

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
