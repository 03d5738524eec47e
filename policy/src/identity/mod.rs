//! Credentials → [`Principal`]: token verification, API keys, claim mapping, delegation, mesh identity.

mod authenticate;
mod cache;
mod claims;
mod credentials;
mod demands;
mod denied;
#[cfg(feature = "p384")]
mod es384;
mod examine;
mod introspection;
mod json;
mod jws;
mod limits;
mod mesh;
mod overage;
mod scopes;
mod signature;
mod steps;
#[cfg(test)]
mod tests;
mod token;

pub use crate::{
    key::{Algorithm, KeyMaterial, VerificationKey},
    principal::{Agent, Attribute, Principal, TokenInfo, is_exact},
};
pub use authenticate::{Given, Held, Identified, authenticate, identify};
pub use cache::{CacheCounts, TokenCache};
pub(crate) use credentials::refuse_in_query;
pub use credentials::{Mesh, Settings, Unidentified};
pub use denied::Denied;
#[cfg(feature = "p384")]
pub use es384::{Es384, Es384Signature};
pub use examine::{Checked, Examination, Examined, examine};
pub use introspection::{Introspection, MAX_ANSWER_BYTES, MAX_OPAQUE_BYTES};
pub use jws::{MAX_TOKEN_BYTES, verify_compact};
pub use signature::{algorithm_from_name, algorithm_name, fits, verify_signature, weakness};
