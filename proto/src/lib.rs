//! Protocol messages of Doorward, generated from `doorward/v1/*.proto`, whose comments are their documentation.
//!
//! * `bundle.proto`: the compiled policy of one scope, in canonical form.
//! * `policy.proto`: policy push between control plane and proxies.
//! * `audit.proto`: audit records, their stream, tail and query.
//! * `admin.proto`: what operators ask the control plane.
//! * `identity.proto`: what proxies ask about callers whom only an identity provider knows.
//!
//! With feature `grpc` the tonic clients and servers are generated as well, and [`FILE_DESCRIPTOR_SET`] for reflection.

#[cfg(feature = "grpc")]
pub mod codec;
#[cfg(feature = "grpc")]
pub mod wire;

/// Package `doorward.v1`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::indexing_slicing,
    reason = "generated; the .proto files hold the documentation"
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/doorward.v1.rs"));
}

impl std::fmt::Debug for v1::IntrospectRequest {
    /// Without the token: tokens never reach logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IntrospectRequest")
            .field("node", &self.node)
            .field("scope", &self.scope)
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

/// Encoded `FileDescriptorSet` of all Doorward services, for gRPC reflection.
#[cfg(feature = "grpc")]
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

#[cfg(test)]
mod tests {
    #[test]
    fn a_question_about_a_token_is_printed_without_the_token() {
        let request = super::v1::IntrospectRequest { token: "s3cret".into(), ..Default::default() };
        assert!(!format!("{request:?}").contains("s3cret"));
    }
}
