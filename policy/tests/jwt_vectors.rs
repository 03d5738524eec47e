//! Public test vectors through every pure-Rust verifier. Expected results come from the files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward_policy::identity::{Algorithm, KeyMaterial, VerificationKey, verify_compact, verify_signature, weakness};
use doorward_test_support::{
    TestHost,
    vectors::{self, ALL, RSA_PKCS1, RSA_PSS, TOKENS, corpus, each, hex, jwk, key, keys},
};
use hmac::{Hmac, Mac};
use p256::ecdsa::signature::Verifier;
use rsa::{BigUint, RsaPublicKey};
use serde_json::Value;
use sha2::{Sha256, Sha384, Sha512};

/// What a file expects: `acceptable` may go either way, but all verifiers the same.
fn judge(name: &str, test: &Value, verdicts: &[(&str, bool)]) {
    let agreed = verdicts.iter().all(|(_, verdict)| *verdict == verdicts[0].1);
    assert!(agreed, "{name} {}: verifiers disagree: {verdicts:?}", test["tcId"]);
    match test["result"].as_str().unwrap() {
        "valid" => assert!(verdicts[0].1, "{name} {} refused: {}", test["tcId"], test["comment"]),
        "invalid" => assert!(!verdicts[0].1, "{name} {} accepted: {}", test["tcId"], test["comment"]),
        "acceptable" => {}
        other => panic!("unknown result {other}"),
    }
}

/// The key of a group, as the `rsa` crate's own verifier takes it.
fn second_rsa(group: &Value) -> RsaPublicKey {
    let number = |name: &str| BigUint::from_bytes_be(&hex(&group["publicKey"][name]));
    RsaPublicKey::new(number("modulus"), number("publicExponent")).unwrap()
}

#[test]
fn wycheproof_rsa_pkcs1() {
    for (name, algorithm) in RSA_PKCS1 {
        each(name, |group, test| {
            let (second, ours) = (second_rsa(group), vectors::rsa(group));
            let (message, signature) = (hex(&test["msg"]), hex(&test["sig"]));
            let other =
                rsa::pkcs1v15::Signature::try_from(signature.as_slice()).is_ok_and(|signature| match algorithm {
                    Algorithm::Rs256 => {
                        rsa::pkcs1v15::VerifyingKey::<Sha256>::new(second).verify(&message, &signature).is_ok()
                    }
                    Algorithm::Rs384 => {
                        rsa::pkcs1v15::VerifyingKey::<Sha384>::new(second).verify(&message, &signature).is_ok()
                    }
                    _ => rsa::pkcs1v15::VerifyingKey::<Sha512>::new(second).verify(&message, &signature).is_ok(),
                });
            judge(name, test, &[("ours", verify_signature(algorithm, &ours, &message, &signature)), ("rsa", other)]);
        });
    }
}

#[test]
fn wycheproof_rsa_pss() {
    let name = RSA_PSS;
    each(name, |group, test| {
        let (second, ours) = (second_rsa(group), vectors::rsa(group));
        let (message, signature) = (hex(&test["msg"]), hex(&test["sig"]));
        let other = rsa::pss::Signature::try_from(signature.as_slice()).is_ok_and(|signature| {
            rsa::pss::VerifyingKey::<Sha256>::new_with_salt_len(second, 32).verify(&message, &signature).is_ok()
        });
        judge(name, test, &[("ours", verify_signature(Algorithm::Ps256, &ours, &message, &signature)), ("rsa", other)]);
    });
    // Other hashes and salts: never PS256, whatever the file says, unless they are its very parameters.
    for name in
        ["rsa_pss_misc_test.json", "rsa_pss_2048_sha384_mgf1_48_test.json", "rsa_pss_4096_sha512_mgf1_64_test.json"]
    {
        each(name, |group, test| {
            let verdict =
                verify_signature(Algorithm::Ps256, &vectors::rsa(group), &hex(&test["msg"]), &hex(&test["sig"]));
            if group["sha"] == "SHA-256" && group["mgfSha"] == "SHA-256" && group["sLen"] == 32 {
                judge(name, test, &[("ours", verdict)]);
            } else {
                assert!(!verdict, "{name} {}", test["tcId"]);
            }
        });
    }
}

#[test]
fn wycheproof_ecdsa_p1363() {
    let name = "ecdsa_secp256r1_sha256_p1363_test.json";
    each(name, |group, test| {
        let second = p256::ecdsa::VerifyingKey::from_sec1_bytes(&hex(&group["publicKey"]["uncompressed"])).unwrap();
        let (message, signature) = (hex(&test["msg"]), hex(&test["sig"]));
        let other = p256::ecdsa::Signature::from_slice(&signature)
            .is_ok_and(|signature| second.verify(&message, &signature).is_ok());
        let ours = vectors::p256(group);
        assert_eq!(weakness(&ours), None);
        judge(
            name,
            test,
            &[("ours", verify_signature(Algorithm::Es256, &ours, &message, &signature)), ("p256", other)],
        );
    });
    let name = "ecdsa_secp384r1_sha384_p1363_test.json";
    each(name, |group, test| {
        let second = p384::ecdsa::VerifyingKey::from_sec1_bytes(&hex(&group["publicKey"]["uncompressed"])).unwrap();
        let (message, signature) = (hex(&test["msg"]), hex(&test["sig"]));
        let other = p384::ecdsa::Signature::from_slice(&signature)
            .is_ok_and(|signature| second.verify(&message, &signature).is_ok());
        let ours = vectors::p384(group);
        judge(
            name,
            test,
            &[("ours", verify_signature(Algorithm::Es384, &ours, &message, &signature)), ("p384", other)],
        );
    });
    // The same signatures in DER are not signatures in JWS, where r‖s has a fixed width.
    let name = "ecdsa_secp256r1_sha256_test.json";
    each(name, |group, test| {
        let ours = vectors::p256(group);
        assert!(!verify_signature(Algorithm::Es256, &ours, &hex(&test["msg"]), &hex(&test["sig"])), "{}", test["tcId"]);
    });
    // Points of other curves are not points of ours.
    let name = "ecdsa_secp256k1_sha256_p1363_test.json";
    each(name, |group, test| {
        let ours = vectors::p256(group);
        assert!(weakness(&ours).is_some());
        assert!(!verify_signature(Algorithm::Es256, &ours, &hex(&test["msg"]), &hex(&test["sig"])), "{}", test["tcId"]);
    });
}

#[test]
fn wycheproof_ed25519() {
    let name = "ed25519_test.json";
    each(name, |group, test| {
        let bytes: [u8; 32] = hex(&group["publicKey"]["pk"]).try_into().unwrap();
        judge(name, test, &ed25519(bytes, &hex(&test["msg"]), &hex(&test["sig"])));
    });
}

/// Ours, and the library behind it called directly, at once and piece by piece.
fn ed25519(bytes: [u8; 32], message: &[u8], signature: &[u8]) -> [(&'static str, bool); 3] {
    let public = ed25519_compact::PublicKey::new(bytes);
    let parsed = ed25519_compact::Signature::from_slice(signature);
    let direct = parsed.as_ref().is_ok_and(|signature| public.verify(message, signature).is_ok());
    let streamed = parsed.as_ref().is_ok_and(|signature| {
        public.verify_incremental(signature).is_ok_and(|mut state| {
            message.chunks(3).for_each(|chunk| state.absorb(chunk));
            state.verify().is_ok()
        })
    });
    let ours = verify_signature(Algorithm::Eddsa, &key(KeyMaterial::Ed25519(bytes)), message, signature);
    [("ours", ours), ("ed25519-compact", direct), ("streamed", streamed)]
}

#[test]
fn cctv_ed25519_edge_cases_follow_the_documented_rule() {
    let Some(file) = corpus("jwt/cctv_ed25519vectors.json") else { return };
    let vectors = file.as_array().unwrap();
    assert_eq!(vectors.len(), 914);
    for vector in vectors {
        let none = Vec::new();
        let flags = vector["flags"].as_array().unwrap_or(&none);
        let refused = ["low_order_A", "low_order_R", "non_canonical_A", "non_canonical_R"];
        let expected = !flags.iter().any(|flag| refused.iter().any(|name| flag == name));
        let bytes: [u8; 32] = hex(&vector["key"]).try_into().unwrap();
        for (who, verdict) in ed25519(bytes, vector["msg"].as_str().unwrap().as_bytes(), &hex(&vector["sig"])) {
            assert_eq!(verdict, expected, "{who} on vector {}: {flags:?}", vector["number"]);
        }
        let weak = flags.iter().any(|flag| flag == "low_order_A" || flag == "non_canonical_A");
        assert_eq!(weakness(&key(KeyMaterial::Ed25519(bytes))).is_some(), weak, "vector {}", vector["number"]);
    }
}

#[test]
fn wycheproof_hmac() {
    for (name, algorithm, size) in [
        ("hmac_sha256_test.json", Algorithm::Hs256, 32),
        ("hmac_sha384_test.json", Algorithm::Hs384, 48),
        ("hmac_sha512_test.json", Algorithm::Hs512, 64),
    ] {
        each(name, |_, test| {
            let (secret, message, tag) = (hex(&test["key"]), hex(&test["msg"]), hex(&test["tag"]));
            let ours = verify_signature(algorithm, &key(KeyMaterial::Secret(secret.clone())), &message, &tag);
            // JWS has neither truncated tags nor keys shorter than the hash, so those are refused though good HMACs.
            if secret.len() < size || tag.len() != size {
                assert!(!ours, "{name} {}", test["tcId"]);
                return;
            }
            let other = match algorithm {
                Algorithm::Hs256 => {
                    Hmac::<Sha256>::new_from_slice(&secret).unwrap().chain_update(&message).verify_slice(&tag)
                }
                Algorithm::Hs384 => {
                    Hmac::<Sha384>::new_from_slice(&secret).unwrap().chain_update(&message).verify_slice(&tag)
                }
                _ => Hmac::<Sha512>::new_from_slice(&secret).unwrap().chain_update(&message).verify_slice(&tag),
            };
            judge(name, test, &[("ours", ours), ("hmac", other.is_ok())]);
        });
    }
}

/// True if the token's own header names an algorithm that exists and is not offered.
fn unsupported(token: &str) -> bool {
    let header = token.split('.').next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok()).unwrap_or_default();
    let header: Value = serde_json::from_slice(&header).unwrap_or_default();
    matches!(header["alg"].as_str(), Some("PS384" | "PS512" | "ES512"))
}

fn is_valid_elsewhere(group: &Value, test: &Value) -> bool {
    let tests = group["tests"].as_array().unwrap();
    tests.iter().any(|other| other["result"] == "valid" && other["jws"] == test["jws"])
}

#[test]
fn wycheproof_jws_and_jwk() {
    for name in TOKENS {
        let mut left_out = 0;
        each(name, |group, test| {
            let Some(token) = test.get("jws").map(|jws| jws.as_str().map_or_else(|| jws.to_string(), str::to_owned))
            else {
                return;
            };
            let accepted = verify_compact(&ALL, &keys(group), &TestHost::new(), &token).is_ok();
            let flagged =
                |name: &str| test["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == name));
            if unsupported(&token) && test["result"] == "valid" {
                assert!(!accepted);
                left_out += 1;
            } else if test["comment"].as_str().is_some_and(|text| text.starts_with("InvalidCharacterInserted")) {
                // The file has lenient base64 as valid; RFC 7515 section 2 allows the alphabet and nothing else.
                assert!(!accepted);
                left_out += 1;
            } else if test["result"] == "invalid" && is_valid_elsewhere(group, test) {
                // 367 and 370 ("invalidBase64Padding") are byte for byte the group's "ValidMac": the file contradicts itself.
                assert!(accepted);
                left_out += 1;
            } else if flagged("MixedKeySet") || test["comment"] == "rejectsValid" {
                // A set of symmetric and asymmetric keys is a policy's choice; the type of the key decides.
                left_out += 1;
            } else {
                judge(name, test, &[("ours", accepted)]);
            }
        });
        println!("{name}: {left_out} vectors of algorithms or leniencies that are not offered");
    }
}

#[test]
fn cookbook_examples_verify_and_their_variants_that_we_refuse_do_not() {
    for (name, good) in [
        ("jws_4_1.rsa_v15_signature.json", true),
        ("jws_4_2.rsa-pss_signature.json", false), // PS384
        ("jws_4_3.ecdsa_signature.json", false),   // ES512
        ("jws_4_4.hmac-sha2_integrity_protection.json", true),
        ("curve25519_jws.json", true),
        ("rfc7797_hmac-sha2_b64_false.json", false), // b64
    ] {
        let Some(file) = corpus(&format!("jwt/cookbook/{name}")) else { return };
        let keys: Vec<VerificationKey> = jwk(&file["input"]["key"]).into_iter().collect();
        let Some(token) = file["output"]["compact"].as_str() else {
            assert!(!good, "{name} has no compact form");
            continue;
        };
        let payload = verify_compact(&ALL, &keys, &TestHost::new(), token);
        assert_eq!(payload.is_ok(), good, "{name}: {payload:?}");
        if let Ok(payload) = payload {
            assert_eq!(std::str::from_utf8(&payload).ok(), file["input"]["payload"].as_str());
        }
        // Detached, JSON and multi-signature forms are not tokens.
        for form in ["json", "json_flat"] {
            assert!(verify_compact(&ALL, &keys, &TestHost::new(), &file["output"][form].to_string()).is_err());
        }
        let signed = token.rsplit_once('.').unwrap().0;
        assert!(verify_compact(&ALL, &keys, &TestHost::new(), &format!("{signed}.")).is_err());
    }
}
