//! A compiled policy as a worker evaluates it: interned, indexed, immutable.
//!
//! Hosts and tools build [`Tables`], and read their names, services and providers. How roles, bindings and restrictions are
//! looked up ([`roles`], [`subjects`], and what [`Tables`] gives of them) is meant for the engine alone: a decision is the
//! engine's to make, and whoever looks a grant up without it skips the restrictions.

mod access;
mod decode;
mod pattern;
pub mod roles;
mod route;
mod schema;
mod spki;
pub mod subjects;
mod tables;

pub use access::{AttributeClaim, ClaimPath, Delegation, Introspection, Key, Network, Provider, RequiredClaim};
pub use decode::TablesError;
pub use schema::{Component, Field, FieldSet, HeaderMapping, Operation, Parameter, Relation, Service, Upstream};
pub use spki::subject_public_key_info;
pub use tables::Tables;

/// A table by name. Names come from the signed policy, never from requests, so a fixed hash state is safe.
type Map<V> = hashbrown::HashMap<crate::Name, V, foldhash::fast::FixedState>;
