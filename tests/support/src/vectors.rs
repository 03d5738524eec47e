//! The public test vectors, and what is needed to read them.
//!
//! The files are read from the folder in `DOORWARD_CORPORA`; where it is not set, the tests say so and pass.

use base64::{
    Engine, alphabet,
    engine::general_purpose::{GeneralPurpose, NO_PAD},
};
use doorward_policy::{
    bundle::subject_public_key_info,
    identity::{Algorithm, KeyMaterial, VerificationKey, algorithm_from_name, weakness},
};
use serde_json::Value;
use std::path::PathBuf;

/// A JSON file of the corpora, such as `jwt/cookbook/NAME`; none if there are none here.
#[must_use]
pub fn corpus(name: &str) -> Option<Value> {
    let Some(folder) = std::env::var_os("DOORWARD_CORPORA") else {
        println!("skipped {name}: DOORWARD_CORPORA is not set to the folder of public test vectors");
        return None;
    };
    let path = PathBuf::from(folder).join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Some(serde_json::from_slice(&bytes).unwrap())
}

/// Every (group, test) of a Wycheproof file, by the file's name.
pub fn each(name: &str, mut run: impl FnMut(&Value, &Value)) {
    let Some(file) = corpus(&format!("jwt/wycheproof/{name}")) else { return };
    let mut count = 0;
    for group in file["testGroups"].as_array().unwrap() {
        for test in group["tests"].as_array().unwrap() {
            run(group, test);
            count += 1;
        }
    }
    assert_eq!(Some(count), file["numberOfTests"].as_u64(), "{name}");
    println!("{name}: {count} vectors");
}

/// Bytes of a text of hexadecimal digits.
#[must_use]
pub fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap().as_bytes();
    text.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// A number without leading zeros.
fn stripped(bytes: Vec<u8>) -> Vec<u8> {
    bytes.into_iter().skip_while(|byte| *byte == 0).collect()
}

/// A number of exactly this width.
fn fixed<const N: usize>(bytes: Vec<u8>) -> Option<[u8; N]> {
    let bytes = stripped(bytes);
    let mut all = [0; N];
    all.get_mut(N.checked_sub(bytes.len())?..)?.copy_from_slice(&bytes);
    Some(all)
}

/// A key of no name, for any algorithm of its type.
#[must_use]
pub fn key(material: KeyMaterial) -> VerificationKey {
    VerificationKey { kid: None, algorithm: None, spki: subject_public_key_info(&material), material }
}

/// Wycheproof's files of RSASSA-PKCS1-v1_5.
pub const RSA_PKCS1: [(&str, Algorithm); 5] = [
    ("rsa_signature_2048_sha256_test.json", Algorithm::Rs256),
    ("rsa_signature_2048_sha384_test.json", Algorithm::Rs384),
    ("rsa_signature_2048_sha512_test.json", Algorithm::Rs512),
    ("rsa_signature_3072_sha256_test.json", Algorithm::Rs256),
    ("rsa_signature_4096_sha256_test.json", Algorithm::Rs256),
];

/// Wycheproof's file of RSASSA-PSS with the parameters of PS256.
pub const RSA_PSS: &str = "rsa_pss_2048_sha256_mgf1_32_test.json";

/// Wycheproof's files of whole tokens.
pub const TOKENS: [&str; 3] = ["json_web_signature_test.json", "json_web_key_test.json", "json_web_crypto_test.json"];

/// The RSA key of a group of Wycheproof's.
#[must_use]
pub fn rsa(group: &Value) -> VerificationKey {
    let public = &group["publicKey"];
    let (modulus, exponent) = (stripped(hex(&public["modulus"])), stripped(hex(&public["publicExponent"])));
    key(KeyMaterial::Rsa { modulus, exponent })
}

fn point<const N: usize>(group: &Value) -> ([u8; N], [u8; N]) {
    let coordinate = |name: &str| fixed(hex(&group["publicKey"][name])).unwrap();
    (coordinate("wx"), coordinate("wy"))
}

/// The point of a group of Wycheproof's as a key of P-256, whatever its curve.
#[must_use]
pub fn p256(group: &Value) -> VerificationKey {
    let (x, y) = point(group);
    key(KeyMaterial::P256 { x, y })
}

/// As `p256`, of P-384.
#[must_use]
pub fn p384(group: &Value) -> VerificationKey {
    let (x, y) = point(group);
    key(KeyMaterial::P384 { x, y })
}

/// The keys of a group of [`TOKENS`], as far as this product takes them. A private JWK holds the public members too.
#[must_use]
pub fn keys(group: &Value) -> Vec<VerificationKey> {
    let source = group.get("public").unwrap_or(&group["private"]);
    match source["keys"].as_array() {
        Some(keys) => keys.iter().filter_map(jwk).collect(),
        None => jwk(source).into_iter().collect(),
    }
}

/// A public or symmetric JWK as far as signatures need it; `None` for what this product does not take.
#[must_use]
pub fn jwk(jwk: &Value) -> Option<VerificationKey> {
    // One key of the files has stray bits at its end; it must count, so that the set is ambiguous as the file means it.
    let lenient = GeneralPurpose::new(&alphabet::URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));
    let part = |name: &str| lenient.decode(jwk[name].as_str()?).ok();
    let material = match (jwk["kty"].as_str()?, jwk["crv"].as_str()) {
        ("RSA", None) => KeyMaterial::Rsa { modulus: stripped(part("n")?), exponent: stripped(part("e")?) },
        ("EC", Some("P-256")) => KeyMaterial::P256 { x: part("x")?.try_into().ok()?, y: part("y")?.try_into().ok()? },
        ("EC", Some("P-384")) => KeyMaterial::P384 { x: part("x")?.try_into().ok()?, y: part("y")?.try_into().ok()? },
        ("OKP", Some("Ed25519")) => KeyMaterial::Ed25519(part("x")?.try_into().ok()?),
        ("oct", None) => KeyMaterial::Secret(part("k")?),
        _ => return None,
    };
    if jwk.get("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    if jwk.get("key_ops").and_then(Value::as_array).is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
        return None;
    }
    let algorithm = match jwk.get("alg").and_then(Value::as_str) {
        Some(name) => Some(algorithm_from_name(name)?),
        None => None,
    };
    let key = VerificationKey { kid: jwk["kid"].as_str().map(Into::into), algorithm, ..key(material) };
    weakness(&key).is_none().then_some(key)
}

/// Every algorithm there is.
pub const ALL: [Algorithm; 10] = [
    Algorithm::Hs256,
    Algorithm::Hs384,
    Algorithm::Hs512,
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::Eddsa,
];
