//! A compiled policy as a worker evaluates it: interned, indexed, immutable.

mod access;
mod schema;
mod tables;

pub use access::{AttributeClaim, ClaimPath, Delegation, Key, Network, Provider};
pub use schema::{Component, Field, FieldSet, HeaderMapping, Operation, Parameter, Relation, Service, Upstream};
pub use tables::{Tables, TablesError};
