//! JWK sets (RFC 7517) → verification keys. Key material is never quoted in a message.

use super::{
    issuers::{TENANT, issuers},
    key_source::{KeyLocation, KeySource},
    out::Out,
};
use crate::document::{IdentityProvider, identity_provider::Algorithm};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward_policy::{
    identity::weakness,
    key::{KeyMaterial, VerificationKey},
};
use doorward_proto::v1::{self, Curve, EcKey, RsaKey, verification_key::Material};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Keys a set may have.
const MAX_KEYS: usize = 200;
/// Largest set in bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// SHA-256 of the secret that DreamFactory's `config/jwt.php` falls back on. Whoever reads that can be anyone.
const PUBLISHED_SECRET: &str = "9fe8a01d587f402a4a62ce03b4c1aa482d431314a059e617a2bcd398b9e21044";

/// A key that was accepted.
#[derive(Clone, PartialEq)]
pub(super) struct Jwk {
    pub kid: Option<String>,
    pub algorithm: Option<Algorithm>,
    pub material: Material,
}

/// Reads a provider's keys. A key that cannot be used is skipped with a warning; so is a set that is not there yet.
pub(super) fn load(out: &mut Out<'_>, provider: &IdentityProvider, source: &dyn KeySource) -> Vec<Jwk> {
    if provider.is_keyless() {
        return Vec::new();
    }
    let name = out.document.name.clone();
    let jwks = provider.jwks.clone().unwrap_or_default();
    let issuers = issuers(provider);
    let mut given = Vec::new();
    if let Some(uri) = &jwks.uri {
        given.push(("uri", KeyLocation::Uri(uri)));
    }
    if let Some(file) = &jwks.file {
        given.push(("file", KeyLocation::File(file)));
    }
    if let Some(secret) = &jwks.secret_ref {
        let key = secret.key.as_deref().unwrap_or("jwks.json");
        given.push(("secretRef", KeyLocation::Secret { name: &secret.name, key }));
    }
    let sources = given.len() + usize::from(jwks.inline.is_some());
    if sources > 1 {
        out.error("keys_source", "spec.jwks", "give exactly one of uri, inline, file and secretRef");
        return Vec::new();
    }
    let (path, text, public) = match (&jwks.inline, given.first()) {
        (Some(inline), _) => match &inline.0 {
            Value::String(text) => ("spec.jwks.inline".to_owned(), Some(text.clone()), false),
            value => ("spec.jwks.inline".to_owned(), Some(value.to_string()), false),
        },
        (None, Some((field, location))) => {
            let public = matches!(location, KeyLocation::Uri(_));
            (format!("spec.jwks.{field}"), source.jwks(&name, *location), public)
        }
        (None, None) => {
            let message = match issuers.as_slice() {
                // What is wrong with the issuer is told elsewhere.
                [] => return Vec::new(),
                [one] if one.starts_with("https://") || one.starts_with("http://") => None,
                [_] => Some("the issuer is no URL, so its keys cannot be discovered; give jwks"),
                _ => Some("keys are discovered at a single issuer, and there are several; give jwks"),
            };
            if let Some(message) = message {
                out.error("keys_source", "spec.issuer", message);
                return Vec::new();
            }
            let issuer = issuers.first().map_or("", String::as_str);
            ("spec.issuer".to_owned(), source.jwks(&name, KeyLocation::Discovery(issuer)), true)
        }
    };
    if let Some(uri) = &jwks.uri
        && !uri.starts_with("https://")
    {
        if uri.starts_with("http://") {
            out.warn("keys_insecure", &path, "keys fetched without TLS can be replaced on the way; use https");
        } else {
            out.error("keys_source", &path, "the URI of a JWK set starts with https://");
        }
    }
    let Some(text) = text else {
        out.warn(
            "keys_missing",
            path,
            "the keys are not there yet; every token of this provider is refused until they are",
        );
        return Vec::new();
    };
    let Some(entries) = entries(&text) else {
        let message = "this is not a JWK set: an object with a list \"keys\", at most 1 MiB";
        if jwks.inline.is_some() {
            out.error("keys_invalid", path, message);
        } else {
            out.warn("keys_invalid", path, message);
        }
        return Vec::new();
    };
    if entries.len() > MAX_KEYS {
        out.warn("keys_skipped", &path, format!("only the first {MAX_KEYS} keys are used"));
    }
    let mut keys: Vec<Jwk> = Vec::new();
    for (at, entry) in entries.iter().take(MAX_KEYS).enumerate() {
        match key(entry, provider, &issuers, public) {
            Ok(None) => {}
            Ok(Some(key)) if keys.contains(&key) => {}
            Ok(Some(key)) => keys.push(key),
            Err(why) => out.warn("key_skipped", format!("{path}.keys[{at}]"), format!("the key is not used: {why}")),
        }
    }
    if keys.is_empty() {
        out.warn("keys_missing", path, "the set holds no usable key; every token of this provider is refused");
    }
    keys
}

/// The keys of a JWK set, not looked at yet.
fn entries(text: &str) -> Option<Vec<Value>> {
    let set: Value = (text.len() <= MAX_BYTES).then(|| serde_json::from_str(text).ok()).flatten()?;
    match set {
        Value::Object(mut set) => match set.swap_remove("keys")? {
            Value::Array(entries) => Some(entries),
            _ => None,
        },
        _ => None,
    }
}

/// True if a JWK set has a key that can verify this provider's tokens. `public`: it was fetched, so that secrets do not
/// count.
#[must_use]
pub fn has_usable_key(provider: &IdentityProvider, text: &str, public: bool) -> bool {
    let issuers = issuers(provider);
    let entries = entries(text).unwrap_or_default();
    entries.iter().take(MAX_KEYS).any(|entry| matches!(key(entry, provider, &issuers, public), Ok(Some(_))))
}

/// `Ok(None)`: a sound key that is meant for something else.
fn key(entry: &Value, provider: &IdentityProvider, issuers: &[String], public: bool) -> Result<Option<Jwk>, String> {
    let allowed = provider.algorithms.as_slice();
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    // Entra's lists hold keys of other clouds and of personal accounts, each with the issuer that it is for.
    if text("issuer").is_some_and(|of| !of.contains(TENANT) && issuers.iter().any(|own| own != of)) {
        return Ok(None);
    }
    let kind = text("kty").ok_or("it has no kty")?;
    match text("use") {
        None | Some("sig") => {}
        // SPIFFE trust bundles (SPIFFE Trust Domain and Bundle, section 4.2.2).
        Some("jwt-svid") if provider.trust_domain.is_some() => {}
        Some("x509-svid") if provider.trust_domain.is_some() => return Ok(None),
        Some(_) => return Err("its use is not sig".into()),
    }
    if let Some(operations) = entry.get("key_ops").and_then(Value::as_array)
        && !operations.iter().any(|operation| operation == "verify")
    {
        return Err("its key_ops do not include verify".into());
    }
    if kind != "oct" && ["d", "p", "q", "dp", "dq", "qi", "oth"].iter().any(|name| entry.get(name).is_some()) {
        return Err("it holds private key material; publish the public part, and replace the key".into());
    }
    let algorithm = match text("alg") {
        None => None,
        Some(name) => Some(
            serde_json::from_value::<Algorithm>(Value::from(name))
                .ok()
                .filter(|algorithm| allowed.contains(algorithm))
                .ok_or("its alg is not among the provider's algorithms")?,
        ),
    };
    let bytes = |name: &str| {
        let encoded = text(name).ok_or(format!("it has no {name}"))?;
        URL_SAFE_NO_PAD.decode(encoded.trim_end_matches('=')).map_err(|_| format!("its {name} is not base64url"))
    };
    use Algorithm as A;
    let (material, fits): (Material, &[Algorithm]) = match kind {
        "RSA" => (rsa(&bytes("n")?, &bytes("e")?)?, &[A::RS256, A::RS384, A::RS512, A::PS256]),
        "EC" => {
            let (x, y) = (bytes("x")?, bytes("y")?);
            match text("crv") {
                Some("P-256") => {
                    on_curve::<32>(&x, &y, |point| p256::PublicKey::from_sec1_bytes(point).is_ok())?;
                    (Material::Ec(EcKey { curve: Curve::P256.into(), x, y }), &[A::ES256])
                }
                Some("P-384") => {
                    on_curve::<48>(&x, &y, |point| p384::PublicKey::from_sec1_bytes(point).is_ok())?;
                    (Material::Ec(EcKey { curve: Curve::P384.into(), x, y }), &[A::ES384])
                }
                _ => return Err("its curve is not P-256 or P-384".into()),
            }
        }
        "OKP" => {
            let x = bytes("x")?;
            if text("crv") != Some("Ed25519") || x.len() != 32 {
                return Err("it is not an Ed25519 key of 32 bytes".into());
            }
            (Material::Ed25519(x), &[A::EdDSA])
        }
        "oct" => {
            if public {
                return Err("a secret that is fetched from a public place is none; use secretRef or file".into());
            }
            let secret = bytes("k")?;
            if hex(&Sha256::digest(&secret)) == PUBLISHED_SECRET {
                return Err("it is the secret that DreamFactory publishes as its default; set JWT_SECRET there".into());
            }
            let symmetric = [A::HS256, A::HS384, A::HS512];
            let strongest = algorithm.or_else(|| allowed.iter().copied().filter(|a| a.is_symmetric()).max());
            let (name, least) = match strongest {
                Some(A::HS512) => ("HS512", 64),
                Some(A::HS384) => ("HS384", 48),
                _ => ("HS256", 32),
            };
            if secret.len() < least {
                return Err(format!("a secret for {name} has at least {least} bytes"));
            }
            (Material::Secret(secret), &{ symmetric })
        }
        _ => return Err("its kty is not RSA, EC, OKP or oct".into()),
    };
    match algorithm {
        Some(algorithm) if !fits.contains(&algorithm) => return Err("its alg does not fit its type".into()),
        None if !fits.iter().any(|fit| allowed.contains(fit)) => {
            return Err("none of the provider's algorithms fits its type".into());
        }
        _ => {}
    }
    if let Some(weakness) = weakness_of(&material, algorithm) {
        return Err(format!("it is weak. {weakness}"));
    }
    let kid = text("kid").filter(|kid| !kid.is_empty()).map(str::to_owned);
    if kid.as_ref().is_some_and(|kid| kid.len() > 512) {
        return Err("its kid is longer than 512 bytes".into());
    }
    Ok(Some(Jwk { kid, algorithm, material }))
}

/// What the proxies' own check finds wrong with a key that is well-formed: ROCA, points of small order.
fn weakness_of(material: &Material, algorithm: Option<Algorithm>) -> Option<&'static str> {
    let algorithm = algorithm.map(v1::Algorithm::from);
    let material = match material.clone() {
        Material::Rsa(RsaKey { modulus, exponent }) => KeyMaterial::Rsa { modulus, exponent },
        Material::Ed25519(x) => KeyMaterial::Ed25519(x.try_into().ok()?),
        Material::Secret(secret) => KeyMaterial::Secret(secret),
        // That a point is on its curve is checked where it is read.
        Material::Ec(_) => return None,
    };
    weakness(&VerificationKey { kid: None, algorithm, material, spki: Vec::new() })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Material, String> {
    let strip = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
    let (modulus, exponent) = (strip(modulus), strip(exponent));
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if bits < 2048 {
        return Err(format!("an RSA key of {bits} bits is too weak; at least 2048 are needed"));
    }
    let odd = |bytes: &[u8]| bytes.last().is_some_and(|byte| byte & 1 == 1);
    if bits > 8192 || !odd(&modulus) || !odd(&exponent) || exponent.len() > 8 || exponent == [1] {
        return Err("it is no sound RSA key of at most 8192 bits".into());
    }
    Ok(Material::Rsa(RsaKey { modulus, exponent }))
}

/// Checks an uncompressed point; a point beside the curve can give away or forge.
fn on_curve<const WIDTH: usize>(x: &[u8], y: &[u8], valid: fn(&[u8]) -> bool) -> Result<(), String> {
    if x.len() != WIDTH || y.len() != WIDTH || !valid(&[&[4], x, y].concat()) {
        return Err("its point is not on the curve".into());
    }
    Ok(())
}
