//! How the cluster of the control plane is named to the host.

use std::borrow::Cow;

/// What the host takes for a gRPC stream or call to this cluster.
///
/// With a plain name, Envoy sends the name as `:authority`. Istio names its clusters `outbound|PORT|SUBSET|HOST`, which is no
/// authority: a server that reads it strictly, as the control plane does, resets the stream (`PROTOCOL_ERROR`). For such a name
/// this is Envoy's `GrpcService` message, with HOST as the authority.
#[must_use]
pub fn grpc_service(cluster: &str) -> Cow<'_, [u8]> {
    match cluster.rsplit_once('|') {
        Some((_, host)) if !host.is_empty() => {
            // envoy.config.core.v3.GrpcService { envoy_grpc { cluster_name, authority } }
            let mut target = Vec::new();
            for (tag, text) in [(1, cluster), (2, host)] {
                prost::encoding::string::encode(tag, &text.to_owned(), &mut target);
            }
            let mut service = Vec::new();
            prost::encoding::bytes::encode(1, &target, &mut service);
            Cow::Owned(service)
        }
        _ => Cow::Borrowed(cluster.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_stays_a_name() {
        for name in ["doorward", "control-plane.example:7070", "a|", ""] {
            assert_eq!(grpc_service(name), name.as_bytes());
        }
    }

    #[test]
    fn the_authority_of_an_istio_cluster_is_its_host() {
        assert_eq!(*grpc_service("outbound|1||d.e"), *b"\x0a\x16\x0a\x0foutbound|1||d.e\x12\x03d.e");
        assert!(grpc_service("outbound|1|v2|d.e").ends_with(b"\x12\x03d.e"));
    }
}
