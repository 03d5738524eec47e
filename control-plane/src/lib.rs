//! The Doorward control plane and command line.
//!
//! Dependencies point inward: [`policies`] turns documents into a signed bundle and knows no gRPC; [`audit`] stores and
//! reads records; [`push`] and [`admin`] serve both; [`introspection`] asks identity providers for proxies; [`access`] says to whom; [`connections`] and [`streams`] bound
//! how much of it one client gets; [`kubernetes`] watches an API server, tells there what proxies enforce, and answers its webhook; [`server`] wires them and watches that none of its tasks dies;
//! [`cli`] is what a person types.

pub mod access;
pub mod admin;
pub mod audit;
pub mod certificate;
pub mod cli;
pub mod clock;
pub mod connections;
pub mod host;
pub mod introspection;
pub mod jwks;
pub mod kubernetes;
pub mod metrics;
pub mod outbound;
pub mod owned;
pub mod policies;
pub mod policy_store;
pub mod private;
pub mod push;
pub mod regular;
pub mod server;
pub mod signing;
pub mod source;
pub mod streams;
pub mod text;
pub mod wake;
