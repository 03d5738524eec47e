//! A compiled policy as a worker evaluates it: interned, indexed, immutable.

mod access;
mod bindings;
mod decode;
pub mod roles;
mod route;
mod schema;
mod spki;
pub mod subjects;
mod tables;

pub use access::{AttributeClaim, ClaimPath, Delegation, Introspection, Key, Network, Provider, RequiredClaim};
pub use schema::{Component, Field, FieldSet, HeaderMapping, Operation, Parameter, Relation, Service, Upstream};
pub use spki::subject_public_key_info;
pub use tables::{Tables, TablesError};

/// A table by name. Names come from the signed policy, never from requests, so a fixed hash state is safe.
type Map<V> = hashbrown::HashMap<crate::Name, V, foldhash::fast::FixedState>;
