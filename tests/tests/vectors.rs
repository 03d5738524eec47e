//! The public RSA and ECDSA vectors through Envoy's own `verify_signature`, called by the filter's code, on the oldest and
//! the newest Envoy: its verdict on each is that of the pure-Rust verifier.

use doorward_policy::{
    host::Verification,
    identity::{Algorithm, VerificationKey, verify_compact, verify_signature},
};
use doorward_signature_probe::{Batch, Check, INVALID, UNAVAILABLE, VALID, Verdicts};
use doorward_test_support::{
    TestHost,
    vectors::{self, ALL, RSA_PKCS1, RSA_PSS, TOKENS, corpus, each, hex, jwk, keys},
};
use doorward_tests::{
    http,
    process::{self, Process},
    stack::{ENVOY, OLDEST_ENVOY},
};
use prost::Message;
use serde_json::Value;
use std::{cell::RefCell, process::Command, time::Duration};

/// A check, where it comes from, and what must come out.
struct Vector {
    source: String,
    check: Check,
    verdict: u32,
}

fn vector(source: String, algorithm: Algorithm, key: &VerificationKey, message: &[u8], signature: &[u8]) -> Vector {
    let check = Check::new(algorithm, &key.material, message, signature).unwrap();
    let verdict = match algorithm {
        // The host has no PSS: the filter then asks the pure-Rust verifier.
        Algorithm::Ps256 => UNAVAILABLE,
        _ if verify_signature(algorithm, key, message, signature) => VALID,
        _ => INVALID,
    };
    Vector { source, check, verdict }
}

/// The checks that this token leads to with these keys.
fn of_token(source: &str, keys: &[VerificationKey], token: &str) -> Vec<Vector> {
    let found = RefCell::new(Vec::new());
    let host = TestHost::new().verifying(|algorithm, key, message, signature| {
        if !key.spki.is_empty() {
            found.borrow_mut().push(vector(source.into(), algorithm, key, message, signature));
        }
        Verification::Unavailable
    });
    let _ = verify_compact(&ALL, keys, &host, token);
    drop(host);
    found.into_inner()
}

fn all() -> Vec<Vector> {
    let mut found = Vec::new();
    for (name, algorithm) in RSA_PKCS1.into_iter().chain([(RSA_PSS, Algorithm::Ps256)]) {
        each(name, |group, test| {
            let key = vectors::rsa(group);
            let source = format!("{name} {}", test["tcId"]);
            found.push(vector(source, algorithm, &key, &hex(&test["msg"]), &hex(&test["sig"])));
        });
    }
    for (name, algorithm) in [
        ("ecdsa_secp256r1_sha256_p1363_test.json", Algorithm::Es256),
        ("ecdsa_secp384r1_sha384_p1363_test.json", Algorithm::Es384),
        // DER instead of r‖s, and points of another curve: never good in JWS.
        ("ecdsa_secp256r1_sha256_test.json", Algorithm::Es256),
        ("ecdsa_secp256k1_sha256_p1363_test.json", Algorithm::Es256),
    ] {
        each(name, |group, test| {
            let key = if algorithm == Algorithm::Es384 { vectors::p384(group) } else { vectors::p256(group) };
            let source = format!("{name} {}", test["tcId"]);
            found.push(vector(source, algorithm, &key, &hex(&test["msg"]), &hex(&test["sig"])));
        });
    }
    for name in TOKENS {
        each(name, |group, test| {
            if let Some(token) = test["jws"].as_str() {
                found.extend(of_token(&format!("{name} {}", test["tcId"]), &keys(group), token));
            }
        });
    }
    for name in ["jws_4_1.rsa_v15_signature.json", "jws_4_2.rsa-pss_signature.json", "jws_4_3.ecdsa_signature.json"] {
        let file: Value = corpus(&format!("jwt/cookbook/{name}")).unwrap_or_default();
        let keys: Vec<VerificationKey> = jwk(&file["input"]["key"]).into_iter().collect();
        if let Some(token) = file["output"]["compact"].as_str() {
            found.extend(of_token(name, &keys, token));
        }
    }
    found
}

/// An Envoy with the probe; its port.
fn probe(folder: &std::path::Path, version: &str) -> (Process, u16) {
    let port = process::free_port();
    let wasm = process::probe();
    let config = format!(
        r#"
static_resources:
  listeners:
    - name: probe
      address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: probe
                route_config:
                  virtual_hosts:
                    - {{ name: probe, domains: ["*"], routes: [{{ match: {{ prefix: "/" }}, direct_response: {{ status: 404 }} }}] }}
                http_filters:
                  - name: probe
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
                      config:
                        name: probe
                        allow_on_headers_stop_iteration: true
                        vm_config:
                          runtime: envoy.wasm.runtime.v8
                          code: {{ local: {{ filename: "{}" }} }}
                  - name: envoy.filters.http.router
                    typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
"#,
        wasm.display()
    );
    let file = folder.join(format!("probe-{version}.yaml"));
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(process::envoy(version));
    command.arg("-c").arg(file).args(["--concurrency", "1", "--disable-hot-restart", "-l", "warning"]);
    let mut envoy = Process::start(command, &folder.join(format!("probe-{version}.log")));
    envoy.listens(port, Duration::from_secs(60));
    (envoy, port)
}

#[test]
fn envoys_verifier_agrees_with_pure_rust_on_every_public_vector() {
    let vectors = all();
    if vectors.is_empty() {
        return; // No corpora; said so already.
    }
    let count = |verdict: u32| vectors.iter().filter(|vector| vector.verdict == verdict).count();
    println!("{} good, {} bad, {} not for the host", count(VALID), count(INVALID), count(UNAVAILABLE));
    assert!(count(VALID) > 400 && count(INVALID) > 2_000 && count(UNAVAILABLE) > 100);
    let folder = tempfile::tempdir().unwrap();
    for version in [OLDEST_ENVOY, ENVOY] {
        let (_envoy, port) = probe(folder.path(), version);
        let mut disagree = Vec::new();
        // Well below Envoy's buffer of 1 MiB.
        for part in vectors.chunks(200) {
            let batch = Batch { checks: part.iter().map(|vector| vector.check.clone()).collect() }.encode_to_vec();
            let answer = http::Request { body: Some(batch), ..http::request("POST", port, "/") }.send();
            assert_eq!(answer.status, 200, "Envoy {version}: {}", answer.text());
            let said = Verdicts::decode(answer.body.as_slice()).unwrap().verdicts;
            assert_eq!(said.len(), part.len());
            let other = part.iter().zip(said).filter(|(vector, said)| *said != vector.verdict);
            disagree.extend(other.map(|(vector, said)| format!("{}: {said}, not {}", vector.source, vector.verdict)));
        }
        assert!(disagree.is_empty(), "Envoy {version} disagrees with the pure-Rust verifier: {disagree:#?}");
    }
}
