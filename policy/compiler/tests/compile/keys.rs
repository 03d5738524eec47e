//! Which keys of a provider are used, and what else it may say of itself.

use super::{BASE, EC, compiled, found, provider};
use doorward_policy::bundle::Tables;
use doorward_policy_compiler::{
    compile::has_usable_key,
    document::{Spec, identity_provider::Preset},
};
use doorward_test_support::{
    policy::documents,
    token::{RFC_7517_RSA as RSA, base64url},
};

#[test]
fn keys_of_another_use_or_issuer_are_passed_over() {
    let usable = |spec: &str, key: String| {
        let parsed = documents(&provider(spec));
        let found = parsed.iter().find_map(|document| match &document.spec {
            Spec::IdentityProvider(spec) if document.name == "more" => {
                Some(has_usable_key(spec, &format!("{{\"keys\":[{key}]}}"), true))
            }
            _ => None,
        });
        found.unwrap()
    };
    let rsa = |more: &str| RSA.replace("\"kty\"", &format!("{more}\"kty\""));
    let entra = "{preset: entra, tenants: [aaaabbbb-0000-cccc-1111-dddd2222eeee], audiences: [a]}";
    let of = |tenant: &str| rsa(&format!("\"issuer\":\"https://login.microsoftonline.com/{tenant}/v2.0\","));
    assert!(
        usable(entra, rsa(""))
            && usable(entra, of("{tenantid}"))
            && usable(entra, of("aaaabbbb-0000-cccc-1111-dddd2222eeee"))
    );
    assert!(!usable(entra, of("9188040d-6c67-4c5b-b112-36a304b66dad")), "the keys of personal accounts");
    let spiffe = "{preset: spiffe, trustDomain: x, audiences: [a], jwks: {uri: 'https://x'}}";
    assert!(usable(spiffe, rsa("\"use\":\"jwt-svid\",")) && !usable(spiffe, rsa("\"use\":\"x509-svid\",")));
    assert!(!usable(entra, rsa("\"use\":\"jwt-svid\",")));
    assert!(!usable(entra, EC.to_owned()) && !usable(entra, String::new()) && !usable(entra, "7".to_owned()));
}

/// The secret is written by its bytes, so that nobody copies it from here.
#[test]
fn a_secret_that_is_published_is_none() {
    let published = [
        104, 98, 121, 102, 73, 66, 110, 107, 89, 78, 81, 118, 51, 113, 97, 66, 89, 113, 71, 100, 50, 57, 88, 106, 98,
        82, 103, 109, 57, 112, 52, 72,
    ];
    let found = |secret: &[u8]| {
        let secret = base64url(secret);
        found(
            &provider(&format!(
                "{{preset: dreamfactory, issuer: x, jwks: {{inline: {{keys: [{{kty: oct, k: {secret}}}]}}}}}}"
            )),
            EC,
        )
    };
    assert!(found(&published).contains("publishes as its default"));
    assert_eq!(found(&[7; 32]), "");
}

#[test]
fn a_key_with_a_known_weakness_is_not_used() {
    // 65537 to the power of 130: the subgroup that ROCA keys (CVE-2017-15361) lie in, modulo every small prime.
    let mut roca = vec![1_u8];
    for _ in 0..130 {
        let mut carry = 0_u32;
        let before = roca.clone();
        roca.extend([0, 0]);
        for (at, byte) in roca.iter_mut().enumerate() {
            let low = before.get(at).copied().unwrap_or(0);
            let shifted = at.checked_sub(2).and_then(|at| before.get(at)).copied().unwrap_or(0);
            let sum = u32::from(low) + u32::from(shifted) + carry;
            *byte = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
    }
    roca.reverse();
    let modulus: Vec<u8> = roca.into_iter().skip_while(|byte| *byte == 0).collect();
    let rsa = format!("{{kty: RSA, n: {}, e: AQAB}}", base64url(&modulus));
    let small_order = format!("{{kty: OKP, crv: Ed25519, x: {}}}", base64url([0; 32]));
    for (key, algorithm, why) in [(rsa, "RS256", "ROCA"), (small_order, "EdDSA", "large order")] {
        let spec = format!(
            "{{issuer: 'https://x', audiences: [a], algorithms: [{algorithm}], jwks: {{inline: {{keys: [{key}]}}}}}}"
        );
        let found = found(&provider(&spec), EC);
        assert!(found.contains("it is weak") && found.contains(why), "{found}");
    }
}

#[test]
fn every_example_of_the_page_on_providers_compiles() {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/identity-providers.md")).unwrap();
    let examples: Vec<&str> = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(examples.len(), Preset::ALL.len() + 1, "entra-v1 has none; no preset and opaque tokens have one each");
    for example in examples {
        let compiled = compiled(example, RSA);
        let errors: Vec<_> = compiled.diagnostics.iter().filter(|found| found.is_error()).collect();
        assert!(errors.is_empty() && compiled.bundle.providers.len() == 1, "{example}\n{errors:?}");
    }
    for preset in Preset::ALL {
        assert!(page.contains(&format!("preset: {}\n", preset.as_str())) || preset.as_str() == "entra-v1");
    }
}

#[test]
fn demands_of_a_provider_reach_the_bundle_in_one_order() {
    let compiled = |spec: &str| compiled(&provider(spec), RSA);
    let a =
        compiled("{preset: google, audiences: [b, a], requiredClaims: [{hd: [x, w], acr: 2, mfa: true}, [p, q], s]}");
    let b =
        compiled("{preset: google, audiences: [a, b], requiredClaims: [s, [q, p], {mfa: true, acr: 2, hd: [w, x]}]}");
    assert_eq!(a.digest, b.digest);
    let tables = Tables::build(&a.bundle, a.digest, 1).unwrap();
    let google = tables.provider("accounts.google.com").unwrap();
    assert_eq!(&*google.name, "more");
    assert_eq!((google.required_claims.len(), google.required.len()), (1, 5));
    assert!(google.required.iter().any(|demand| demand.yes && &*demand.claims[0] == "email_verified"));
}

#[test]
fn weak_wrong_or_private_keys_are_not_used_and_never_quoted() {
    let ec = |from: &str, to: &str| EC.replace(from, to);
    let cases: Vec<(String, &str)> = vec![
        (RSA.into(), ""),
        (EC.into(), ""),
        (String::new(), "the set holds no usable key"),
        (
            RSA.replace("0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_", ""),
            "too weak",
        ),
        (RSA.replace("\"RS256\"", "\"ES256\""), "its alg does not fit its type"),
        (RSA.replace("\"RS256\"", "\"PS256\""), "not among the provider's algorithms"),
        (ec("\"kid\"", "\"d\":\"c2VjcmV0LXBhcnQ\",\"kid\""), "private key material"),
        (ec("\"kid\"", "\"use\":\"enc\",\"kid\""), "its use is not sig"),
        (ec("4Etl6SRW", "5Etl6SRW"), "its point is not on the curve"),
        (ec("P-256", "P-384"), "its point is not on the curve"),
        (ec("P-256", "secp256k1"), "its curve is not"),
        (r#"{"kty":"oct","k":"c2VjcmV0LXBhcnQ"}"#.into(), "fetched from a public place"),
        (r#"{"kty":"OKP","crv":"Ed25519","x":"c2VjcmV0LXBhcnQ"}"#.into(), "not an Ed25519 key"),
    ];
    for (key, want) in cases {
        let shown = key.clone();
        let got = found(BASE, &format!("{key} "));
        assert!(if want.is_empty() { got.is_empty() } else { got.contains(want) }, "{shown}\n got {got}\nwant {want}");
        assert!(!got.contains("c2VjcmV0"), "{got}");
    }
    assert!(found(BASE, "").contains("spec.issuer: the keys are not there yet"));
}

#[test]
fn secrets_are_as_long_as_their_hash() {
    let inline = |algorithm: &str, length: usize| {
        let secret = base64url(vec![7; length]);
        let jwks = format!("  jwks: {{inline: {{keys: [{{kty: oct, k: {secret}}}]}}}}\n  audiences");
        found(&BASE.replace("[ES256, RS256]", &format!("[{algorithm}]")).replace("  audiences", &jwks), "")
    };
    for (algorithm, least) in [("HS256", 32), ("HS384", 48), ("HS512", 64)] {
        assert_eq!(inline(algorithm, least), "", "{algorithm}");
        assert!(inline(algorithm, least - 1).contains("[key_skipped]"), "{algorithm}");
    }
}
