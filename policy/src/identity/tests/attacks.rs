//! RFC 8725, attack by attack.

use super::fixture::*;
use crate::{
    code::Code,
    host::Verification,
    identity::{
        Algorithm, KeyMaterial, Settings, TokenCache, VerificationKey, authenticate, verify_signature, weakness,
    },
    request::Header,
};
use hmac::{Hmac, Mac};
use proptest::prelude::*;
use rsa::traits::PublicKeyParts;
use serde_json::json;
use sha2::Sha256;

fn with_header(header: serde_json::Value) -> String {
    sign_text("ES256", &header.to_string(), &claims(json!({})).to_string())
}

#[test]
fn a_good_token_of_every_algorithm_is_accepted() {
    for algorithm in ["ES256", "ES384", "EdDSA", "RS256", "PS256"] {
        let principal = with_token(&token(algorithm, &claims(json!({})))).expect(algorithm);
        assert_eq!(principal.user.as_deref(), Some("alice@example.com"));
        assert_eq!(principal.provider.as_deref(), Some("corp"));
    }
    let payload = claims(json!({"iss": "https://hmac.example"})).to_string();
    assert!(with_token(&sign_text("HS256", r#"{"alg":"HS256"}"#, &payload)).is_ok());
}

#[test]
fn alg_none_is_refused_in_every_spelling() {
    for name in ["none", "None", "NONE", "nOnE", ""] {
        let header = json!({"alg": name, "kid": "ES256"}).to_string();
        let unsigned = format!("{}.{}.", b64(&header), b64(claims(json!({})).to_string()));
        refused(&unsigned, "algorithm");
        refused(&sign_text("ES256", &header, &claims(json!({})).to_string()), "algorithm");
    }
}

#[test]
fn hmac_with_the_public_key_as_secret_is_refused() {
    let point = es256().verifying_key().to_encoded_point(false);
    for (kid, secret) in [("RS256", RSA.n().to_bytes_be()), ("ES256", point.as_bytes().to_vec())] {
        let signed =
            format!("{}.{}", b64(json!({"alg": "HS256", "kid": kid}).to_string()), b64(claims(json!({})).to_string()));
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
        mac.update(signed.as_bytes());
        let forged = format!("{signed}.{}", b64(mac.finalize().into_bytes()));
        refused(&forged, "algorithm");
        // Even with a list that allows both, the key's type decides.
        let key = VerificationKey {
            kid: None,
            algorithm: None,
            material: KeyMaterial::Rsa { modulus: RSA.n().to_bytes_be(), exponent: RSA.e().to_bytes_be() },
            spki: Vec::new(),
        };
        let all = [Algorithm::Hs256, Algorithm::Rs256];
        assert!(crate::identity::verify_compact(&all, &[key], &clock(NOW), &forged).is_err());
    }
}

#[test]
fn an_algorithm_of_another_key_type_or_curve_is_refused() {
    for (algorithm, kid) in [("ES256", "ES384"), ("ES384", "ES256"), ("EdDSA", "ES256"), ("RS256", "EdDSA")] {
        let header = json!({"alg": algorithm, "kid": kid}).to_string();
        refused(&sign_text(algorithm, &header, &claims(json!({})).to_string()), "kid and algorithm");
    }
    // Supported, but not in this provider's list.
    refused(&with_header(json!({"alg": "RS512", "kid": "RS256"})), "algorithm");
}

#[test]
fn keys_and_extensions_in_the_header_are_refused() {
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"});
    for (name, value) in [
        ("jwk", jwk),
        ("jku", json!("https://evil.example/jwks")),
        ("x5u", json!("https://evil.example/cert")),
        ("x5c", json!(["MIIB"])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
        ("jku", json!(null)),
    ] {
        let mut header = json!({"alg": "ES256", "kid": "ES256"});
        header[name] = value;
        refused(&with_header(header), "never accepted");
    }
}

#[test]
fn kid_injection_finds_no_key() {
    for kid in ["../../dev/null", "' OR 1=1 --", "", "es256", "ES256\0", "ES384", "https://evil.example/k"] {
        refused(&with_header(json!({"alg": "ES256", "kid": kid})), "kid and algorithm");
    }
    refused(&with_header(json!({"alg": "ES256", "kid": ["ES256"]})), "not a string");
}

#[test]
fn without_kid_exactly_one_key_must_fit() {
    assert!(with_token(&with_header(json!({"alg": "ES256"}))).is_ok());
    let mut two = bundle();
    let corp = &mut two.providers[1];
    corp.keys[3].kid = corp.keys[0].kid;
    corp.keys.remove(3);
    let twin = corp.keys[0].clone();
    corp.keys.insert(0, doorward_proto::v1::VerificationKey { kid: 0, ..twin });
    let tables = crate::bundle::Tables::build(&two, [2; 32], 2).unwrap();
    let text = format!("Bearer {}", with_header(json!({"alg": "ES256"})));
    let headers = [header("authorization", &text)];
    let result =
        authenticate(&tables, &clock(NOW), &Settings::default(), &mut TokenCache::default(), &request("/", &headers));
    assert!(result.unwrap_err().denial.detail.contains("More than one key"));
}

#[test]
fn duplicate_names_in_header_or_payload_are_refused() {
    let payload = claims(json!({})).to_string();
    for header in
        [r#"{"alg":"none","alg":"ES256"}"#, r#"{"alg":"ES256","x":1,"x":2}"#, r#"{"alg":"ES256","\u0061lg":"ES256"}"#]
    {
        refused(&sign_text("ES256", header, &payload), "unique names");
    }
    for twice in [r#""email":"root@example.com""#, r#""exp":99999999999"#, r#""x":{"y":1,"y":2}"#] {
        let payload = format!("{},{twice}}}", payload.strip_suffix('}').unwrap());
        refused(&sign_text("ES256", r#"{"alg":"ES256"}"#, &payload), "unique names");
    }
}

#[test]
fn a_token_of_another_api_or_provider_is_refused() {
    refused(&token("ES256", &claims(json!({"aud": "other-api"}))), "not meant for this API");
    refused(&token("ES256", &claims(json!({"aud": ["x", "y"]}))), "not meant for this API");
    refused(&token("ES256", &claims(json!({"aud": ["data-api", 7]}))), "not meant for this API");
    refused(&token("ES256", &claims(json!({"aud": null}))), "not meant for this API");
    refused(&token("ES256", &claims(json!({"iss": "https://other.example"}))), "not meant for this API");
    refused(&token("ES256", &claims(json!({"iss": format!("{ISSUER}/")}))), "issuer");
    refused(&token("ES256", &claims(json!({"iss": [ISSUER]}))), "issuer");
    refused(&token("EdDSA", &claims(json!({"iss": "https://other.example", "aud": "other-api"}))), "kid and algorithm");
    assert!(with_token(&token("ES256", &claims(json!({"aud": ["x", "data-api"]})))).is_ok());
}

#[test]
fn a_token_of_another_use_is_refused_by_its_type() {
    refused(&with_header(json!({"alg": "ES256", "typ": "logout+jwt"})), "typ");
    assert!(with_token(&with_header(json!({"alg": "ES256", "typ": "at+JWT"}))).is_ok());
    refused(&token("ES256", &claims(json!({"cnf": {"jkt": "x"}}))), "bound");
}

#[test]
fn times_are_checked_with_the_skew_and_absent_ones_refused() {
    let at = |changes| code(with_token(&token("ES256", &claims(changes))));
    assert_eq!(at(json!({"exp": NOW - 30})), Some(Code::CredentialExpired));
    assert_eq!(at(json!({"exp": NOW - 29})), None);
    assert_eq!(at(json!({"nbf": NOW + 31})), Some(Code::CredentialExpired));
    assert_eq!(at(json!({"nbf": NOW + 30})), None);
    assert_eq!(at(json!({"iat": NOW + 31})), Some(Code::CredentialInvalid));
    assert_eq!(
        at(json!({"iat": NOW - 3001, "exp": NOW + 600})),
        Some(Code::CredentialInvalid),
        "older than the provider allows"
    );
    assert_eq!(at(json!({"iat": NOW - 3000, "exp": NOW + 600})), None);
    assert_eq!(at(json!({"iat": NOW + 10, "exp": NOW + 5})), Some(Code::CredentialInvalid));
    for changes in [
        json!({"exp": null}),
        json!({"iat": null}),
        json!({"exp": "1900000000"}),
        json!({"exp": 1e300}),
        json!({"exp": i64::MAX}),
        json!({"iat": i64::MIN}),
        json!({"nbf": "soon"}),
        json!({"iat": [1]}),
    ] {
        assert_eq!(at(changes.clone()), Some(Code::CredentialInvalid), "{changes}");
    }
    assert_eq!(at(json!({"iat": NOW as f64 - 0.5, "exp": NOW as f64 + 9.5})), None);
}

#[test]
fn required_claims_must_be_there() {
    refused(&token("ES256", &claims(json!({"sub": null}))), "'sub'");
    refused(&token("ES256", &claims(json!({"sub": ""}))), "'sub'");
}

#[test]
fn structure_and_encoding_are_strict() {
    let good = good();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    for bad in [
        signed.to_owned(),
        format!("{good}."),
        format!("{good}.x"),
        format!("{good}="),
        format!("{good}\t"),
        format!("{signed}."),
        format!(".{signature}"),
        "..".to_owned(),
        ".".to_owned(),
        format!("{} {signature}", signed),
        good.replacen('.', "..", 1),
        format!("{{\"payload\":\"{signed}\"}}"),
    ] {
        assert!(code(with_token(&bad)).is_some(), "{bad}");
    }
    // 64 bytes leave four unused bits in the last character: only one of sixteen spellings is canonical.
    let last = signature.bytes().last().unwrap();
    let twin = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = twin.iter().position(|byte| *byte == last).unwrap();
    let other = char::from(twin[at | 1]);
    refused(&format!("{}{other}", &good[..good.len() - 1]), "strict base64url");
    refused(&"x".repeat(16 * 1024 + 1), "16 KiB");
    for payload in ["[]", "1", "\"x\"", "null", ""] {
        refused(&sign_text("ES256", r#"{"alg":"ES256"}"#, payload), "payload");
    }
}

#[test]
fn a_signature_of_another_payload_or_key_is_refused() {
    let good = good();
    let signature = good.rsplit_once('.').unwrap().1;
    let other = token("ES256", &claims(json!({"email": "root@example.com"})));
    refused(&format!("{}.{signature}", other.rsplit_once('.').unwrap().0), "signature");
    for bytes in [vec![], vec![0; 64], vec![0xff; 64], vec![0; 63], vec![0; 65]] {
        refused(&format!("{}.{}", good.rsplit_once('.').unwrap().0, b64(bytes)), "signature");
    }
}

#[test]
fn weak_and_malformed_keys_verify_nothing() {
    let key = |material| VerificationKey { kid: None, algorithm: None, material, spki: Vec::new() };
    let point = es256().verifying_key().to_encoded_point(false);
    let x: [u8; 32] = (*point.x().unwrap()).into();
    let mut y: [u8; 32] = (*point.y().unwrap()).into();
    assert_eq!(weakness(&key(KeyMaterial::P256 { x, y })), None);
    y[31] ^= 1;
    let off_curve = key(KeyMaterial::P256 { x, y });
    assert!(weakness(&off_curve).is_some());
    let text = good();
    let (signed, signature) = text.rsplit_once('.').unwrap();
    use base64::Engine;
    let signature = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(signature).unwrap();
    assert!(!verify_signature(Algorithm::Es256, &off_curve, signed.as_bytes(), &signature));
    assert!(!verify_signature(Algorithm::Es256, &key(KeyMaterial::P256 { x: [0; 32], y: [0; 32] }), b"", &[0; 64]));
    let modulus = RSA.n().to_bytes_be();
    assert_eq!(weakness(&key(KeyMaterial::Rsa { modulus: modulus.clone(), exponent: vec![1, 0, 1] })), None);
    for (modulus, exponent) in [
        (modulus[..128].to_vec(), vec![1, 0, 1]),
        (modulus.clone(), vec![1]),
        (modulus.clone(), vec![2]),
        (modulus.clone(), vec![]),
        (modulus, vec![1; 9]),
        (vec![], vec![1, 0, 1]),
        (vec![0xff; 2000], vec![1, 0, 1]),
    ] {
        assert!(weakness(&key(KeyMaterial::Rsa { modulus, exponent })).is_some());
    }
    assert!(weakness(&key(KeyMaterial::Secret(b"short".to_vec()))).is_some());
    assert!(weakness(&key(KeyMaterial::Ed25519([0; 32]))).is_some());
    assert!(weakness(&key(KeyMaterial::Ed25519([0xff; 32]))).is_some());
    assert_eq!(weakness(&key(KeyMaterial::Ed25519(*ed25519().pk))), None);
    assert!(!verify_signature(Algorithm::Hs256, &key(KeyMaterial::Secret(vec![])), b"", b""));
}

#[test]
fn a_credential_in_the_query_string_is_refused_also_beside_a_good_one() {
    let bearer = format!("Bearer {}", good());
    let headers = [header("authorization", &bearer)];
    for (path, refused) in [
        ("/t?access_token=x", true),
        ("/t?a=1&API_KEY=x", true),
        ("/t?session%5Ftoken=x", true),
        ("/t?a=1;api_key", true),
        ("/t?a=access_token&b=api_key", false),
        ("/access_token?my_api_key=1", false),
    ] {
        let result = authenticate(
            &TABLES,
            &clock(NOW),
            &Settings::default(),
            &mut TokenCache::default(),
            &request(path, &headers),
        );
        assert_eq!(code(result), refused.then_some(Code::CredentialInvalid), "{path}");
    }
}

#[test]
fn a_token_in_two_places_is_refused_also_if_it_is_the_same() {
    let settings = Settings { token_headers: vec!["x-session".into()], ..Settings::default() };
    let token = good();
    let bearer = format!("Bearer {token}");
    assert!(with_headers(&[("x-session", &token)], &settings).is_ok());
    assert!(with_headers(&[("authorization", &format!("bearer   {token}"))], &settings).is_ok());
    for headers in [
        &[("authorization", &*bearer), ("x-session", &*token)][..],
        &[("authorization", &bearer), ("authorization", &bearer)],
        &[("x-session", &token), ("x-session", &token)],
        &[("authorization", "Basic YTpi")],
        &[("authorization", "Bearer")],
        &[("authorization", "Bearer ")],
        &[("authorization", &token)],
        &[("x-session", "")],
    ] {
        assert_eq!(code(with_headers(headers, &settings)), Some(Code::CredentialInvalid));
    }
}

#[test]
fn the_host_s_verdict_is_final_and_only_asked_for_rsa_and_ecdsa() {
    let hmac = sign_text("HS256", r#"{"alg":"HS256"}"#, &claims(json!({"iss": "https://hmac.example"})).to_string());
    for (token, asked) in
        [(good(), 1), (token("RS256", &claims(json!({}))), 1), (token("EdDSA", &claims(json!({}))), 0), (hmac, 0)]
    {
        let bearer = format!("Bearer {token}");
        let headers = [header("authorization", &bearer)];
        for native in [Verification::Invalid, Verification::Valid] {
            let host = clock(NOW).answering(native);
            let result =
                authenticate(&TABLES, &host, &Settings::default(), &mut TokenCache::default(), &request("/", &headers));
            assert_eq!(host.verifications(), asked);
            assert_eq!(result.is_ok(), asked == 0 || native == Verification::Valid);
        }
    }
}

#[test]
fn denials_hold_no_part_of_the_credential() {
    let token = token("ES256", &claims(json!({"aud": "secret-audience", "email": "secret-user"})));
    let denied = with_token(&token).unwrap_err();
    let shown = format!("{denied} {denied:?}");
    assert!(!shown.contains("secret") && token.split('.').all(|part| !shown.contains(part)));
    assert_eq!(denied.provider.as_deref(), Some("corp"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn changing_any_byte_of_a_valid_token_never_authenticates(
        algorithm in prop::sample::select(vec!["ES256", "EdDSA"]), at in any::<prop::sample::Index>(), byte in 33u8..127,
    ) {
        let good = token(algorithm, &claims(json!({})));
        let mut bytes = good.clone().into_bytes();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        prop_assert!(with_token(std::str::from_utf8(&bytes).unwrap()).is_err());
    }

    #[test]
    fn cutting_or_joining_parts_never_authenticates(cut in any::<prop::sample::Index>(), insert in "[A-Za-z0-9_.=-]{1,4}") {
        let good = good();
        let at = cut.index(good.len());
        prop_assert!(with_token(&good[..at]).is_err());
        let longer = format!("{}{insert}{}", &good[..at], &good[at..]);
        prop_assert!(with_token(&longer).is_err());
    }

    #[test]
    fn random_requests_never_panic_nor_authenticate(
        path in "\\PC{0,40}", value in prop::collection::vec(any::<u8>(), 0..120), text in "[A-Za-z0-9_.{}\":-]{0,80}",
        name in prop::sample::select(vec!["authorization", "x-api-key", "x-forwarded-client-cert", "x-session"]),
    ) {
        let settings = Settings {
            token_headers: vec!["x-session".into()], mesh: crate::identity::Mesh::Agent, ..Settings::default()
        };
        let bearer = format!("Bearer {text}");
        for value in [value.as_slice(), bearer.as_bytes()] {
            let headers = [Header { name, value }];
            let result = authenticate(
                &TABLES, &clock(NOW), &settings, &mut TokenCache::default(), &request(&path, &headers),
            );
            prop_assert!(result.is_err());
        }
        // Random JSON-ish text in well-encoded parts gets further.
        let shaped = format!("{}.{}.{}", b64(r#"{"alg":"ES256"}"#), b64(&value), b64(&text));
        prop_assert!(with_token(&shaped).is_err());
        let signed = sign_text("ES256", r#"{"alg":"ES256"}"#, &text);
        prop_assert!(with_token(&signed).is_err());
    }
}
