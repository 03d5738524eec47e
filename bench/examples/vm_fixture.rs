//! Writes what `bench/vm.mjs` feeds the filter with into a folder: `policy.bin` (signed, as it lies in Envoy's shared
//! data) and `vm.json` (the key that signed it, a token, and requests by name).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use doorward_bench::{HOST, REQUESTS, compiled, documents, known_token};
use doorward_proto::v1::{Kind, PolicyEnvelope, StoredPolicy};
use doorward_test_support::host::NOW;
use prost::Message as _;

fn main() {
    let folder = std::path::PathBuf::from(std::env::args().nth(1).expect("a folder"));
    let policy = compiled(&documents(1_000, 10, 1));
    let pair = ed25519_compact::KeyPair::from_seed(ed25519_compact::Seed::new([7; 32]));
    let digest = policy.digest.to_vec();
    let envelope = PolicyEnvelope {
        scope: "default".into(),
        epoch: 1,
        digest: digest.clone(),
        kind: Kind::Snapshot.into(),
        payload_sha256: digest,
        key_id: "bench".into(),
        ..PolicyEnvelope::default()
    }
    .encode_to_vec();
    let signature = pair.sk.sign([b"doorward.dev/policy/v1\0", envelope.as_slice()].concat(), None).to_vec();
    let stored = StoredPolicy { envelope, signature, payload: policy.bundle.encode_to_vec() };
    std::fs::write(folder.join("policy.bin"), stored.encode_to_vec()).expect("a folder that can be written to");
    let requests = REQUESTS.map(|(name, path)| format!("\"{name}\": \"{path}\"")).join(", ");
    let text = format!(
        "{{\"now\": {NOW}, \"host\": \"{HOST}\", \"key\": \"{}\", \"token\": \"{}\", \"requests\": {{{requests}}}}}\n",
        STANDARD.encode(pair.pk.as_ref()),
        known_token()
    );
    std::fs::write(folder.join("vm.json"), text).expect("a folder that can be written to");
}
