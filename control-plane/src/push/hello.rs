//! The first message of a subscription: who a proxy is, and what it holds.

use doorward_proto::v1::Hello;
use tonic::Status;

const PROTOCOL_VERSION: u32 = 1;
/// Texts of a hello.
const MAX_NAME_BYTES: usize = 256;
const MAX_ID_BYTES: usize = 128;
const MAX_LABELS: usize = 16;
const MAX_LABEL_NAME_BYTES: usize = 64;
/// SHA-256.
pub(super) const DIGEST_BYTES: usize = 32;

/// Why a hello is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// Another generation of the protocol.
    #[error("protocol version {0} is not supported; this control plane speaks {PROTOCOL_VERSION}")]
    Protocol(u32),
    /// Policy for other services.
    #[error("this control plane serves scope `{0}`; correct the plugin's `scope`")]
    Scope(String),
    /// No node, or one that cannot be shown.
    #[error("the hello names no usable node; set Envoy's node.id (at most 256 bytes)")]
    Node,
    /// A text of so many bytes, of at most so many.
    #[error("`{0}` of the hello has {1} bytes; at most {2} are taken")]
    Long(&'static str, usize, usize),
    /// So many labels.
    #[error("the hello has {0} labels; at most {MAX_LABELS} are taken")]
    Labels(usize),
    /// A digest of so many bytes.
    #[error("`digest` of the hello has {0} bytes; a digest has {DIGEST_BYTES}")]
    Digest(usize),
}

impl From<Unfit> for Status {
    fn from(unfit: Unfit) -> Self {
        let message = unfit.to_string();
        match unfit {
            Unfit::Protocol(_) => Status::failed_precondition(message),
            Unfit::Scope(_) => Status::not_found(message),
            Unfit::Node | Unfit::Long(..) | Unfit::Labels(_) | Unfit::Digest(_) => Status::invalid_argument(message),
        }
    }
}

/// Whether a hello can be taken where this scope is served. What is taken is remembered, and shown to others.
pub(super) fn check(hello: &Hello, scope: &str) -> Result<(), Unfit> {
    if hello.protocol_version != PROTOCOL_VERSION {
        return Err(Unfit::Protocol(hello.protocol_version));
    }
    if hello.scope != scope {
        return Err(Unfit::Scope(scope.to_owned()));
    }
    let proxy = hello.proxy.clone().unwrap_or_default();
    if proxy.node.is_empty() || proxy.node.contains(char::is_control) {
        return Err(Unfit::Node);
    }
    let names = [
        ("node", &proxy.node, MAX_NAME_BYTES),
        ("cluster", &proxy.cluster, MAX_NAME_BYTES),
        ("build", &proxy.build, MAX_ID_BYTES),
        ("boot_id", &proxy.boot_id, MAX_ID_BYTES),
        ("process", &proxy.process, MAX_ID_BYTES),
        ("emitter", &proxy.emitter, MAX_NAME_BYTES + MAX_ID_BYTES),
    ];
    let labels = proxy.labels.iter().flat_map(|label| {
        [("labels.name", &label.name, MAX_LABEL_NAME_BYTES), ("labels.value", &label.value, MAX_NAME_BYTES)]
    });
    if let Some((field, text, most)) = names.into_iter().chain(labels).find(|(_, text, most)| text.len() > *most) {
        return Err(Unfit::Long(field, text.len(), most));
    }
    if proxy.labels.len() > MAX_LABELS {
        return Err(Unfit::Labels(proxy.labels.len()));
    }
    if !hello.digest.is_empty() && hello.digest.len() != DIGEST_BYTES {
        return Err(Unfit::Digest(hello.digest.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use doorward_proto::v1::{Label, ProxyIdentity};

    fn hello(change: impl FnOnce(&mut Hello, &mut ProxyIdentity)) -> Hello {
        let (mut hello, mut proxy) = (
            Hello { protocol_version: PROTOCOL_VERSION, ..Default::default() },
            ProxyIdentity { node: "n".into(), ..Default::default() },
        );
        change(&mut hello, &mut proxy);
        hello.proxy = Some(proxy);
        hello
    }

    #[test]
    fn every_field_of_a_hello_has_a_bound_and_the_refusal_names_it() {
        let long = "x".repeat(257);
        let label = |name: &str, value: &str| Label { name: name.into(), value: value.into() };
        assert_eq!(check(&hello(|_, _| {}), ""), Ok(()));
        let most = hello(|hello, proxy| {
            hello.digest = vec![0; 32];
            (proxy.node, proxy.cluster) = ("x".repeat(256), "x".repeat(256));
            proxy.labels = vec![label(&"x".repeat(64), &"x".repeat(256)); 16];
        });
        assert_eq!(check(&most, ""), Ok(()));
        for (field, hello) in [
            ("node", hello(|_, proxy| proxy.node.clear())),
            ("node", hello(|_, proxy| proxy.node = "a\nb".into())),
            ("`node`", hello(|_, proxy| proxy.node = long.clone())),
            ("`cluster`", hello(|_, proxy| proxy.cluster = long.clone())),
            ("`build`", hello(|_, proxy| proxy.build = long.clone())),
            ("`boot_id`", hello(|_, proxy| proxy.boot_id = long.clone())),
            ("17 labels", hello(|_, proxy| proxy.labels = vec![label("a", "b"); 17])),
            ("`labels.name`", hello(|_, proxy| proxy.labels = vec![label(&long, "b")])),
            ("`labels.value`", hello(|_, proxy| proxy.labels = vec![label("a", &long)])),
            ("`digest`", hello(|hello, _| hello.digest = vec![0; 33])),
        ] {
            let problem = check(&hello, "").expect_err(field).to_string();
            assert!(problem.contains(field), "{field}: {problem}");
        }
    }
}
