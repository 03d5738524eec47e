//! One key of a JWK set (RFC 7517): whether it verifies a provider's tokens. Key material is never quoted.

use crate::document::{IdentityProvider, identity_provider::Algorithm};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward_policy::{
    identity::weakness,
    key::{KeyMaterial, VerificationKey},
};
use doorward_proto::v1::{self, Curve, EcKey, RsaKey, verification_key::Material};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::super::issuers::TENANT;

/// SHA-256 of the secret that DreamFactory's `config/jwt.php` falls back on. Whoever reads that can be anyone.
const PUBLISHED_SECRET: &str = "9fe8a01d587f402a4a62ce03b4c1aa482d431314a059e617a2bcd398b9e21044";

/// A key that was accepted.
#[derive(Clone, PartialEq)]
pub struct Jwk {
    pub kid: Option<String>,
    pub algorithm: Option<Algorithm>,
    pub material: Material,
}

/// Why a key is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("it has no {0}")]
    Missing(&'static str),
    #[error("its {0} is not base64url")]
    Encoding(&'static str),
    #[error("its use is not sig")]
    Use,
    #[error("its key_ops do not include verify")]
    Operations,
    #[error("it holds private key material; publish the public part, and replace the key")]
    Private,
    #[error("its alg is not among the provider's algorithms")]
    Algorithm,
    #[error("its curve is not P-256 or P-384")]
    Curve,
    #[error("its point is not on the curve")]
    Point,
    #[error("it is not an Ed25519 key of 32 bytes")]
    Ed25519,
    #[error("a secret that is fetched from a public place is none; use secretRef or file")]
    PublicSecret,
    #[error("it is the secret that DreamFactory publishes as its default; set JWT_SECRET there")]
    PublishedSecret,
    /// An algorithm, and the bytes that it needs.
    #[error("a secret for {0} has at least {1} bytes")]
    ShortSecret(&'static str, usize),
    #[error("its kty is not RSA, EC, OKP or oct")]
    Type,
    #[error("its alg does not fit its type")]
    AlgorithmOfType,
    #[error("none of the provider's algorithms fits its type")]
    TypeOfProvider,
    /// Why, as the proxies would say it.
    #[error("it is weak. {0}")]
    Weak(&'static str),
    #[error("its kid is longer than 512 bytes")]
    LongKid,
    /// Its bits.
    #[error("an RSA key of {0} bits is too weak; at least 2048 are needed")]
    ShortRsa(usize),
    #[error("it is no sound RSA key of at most 8192 bits")]
    UnsoundRsa,
}

/// Reads one key of a set. `issuers`: whose tokens it would verify. `public`: it was fetched, so it can be no secret. `Ok(None)`: a
/// sound key that is meant for something else.
///
/// # Errors
/// The key verifies nothing.
pub(super) fn key(
    entry: &Value,
    provider: &IdentityProvider,
    issuers: &[String],
    public: bool,
) -> Result<Option<Jwk>, Unusable> {
    let allowed = provider.algorithms.as_slice();
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    // Entra's lists hold keys of other clouds and of personal accounts, each with the issuer that it is for.
    if text("issuer").is_some_and(|of| !of.contains(TENANT) && issuers.iter().any(|own| own != of)) {
        return Ok(None);
    }
    let kind = text("kty").ok_or(Unusable::Missing("kty"))?;
    match text("use") {
        None | Some("sig") => {}
        // SPIFFE trust bundles (SPIFFE Trust Domain and Bundle, section 4.2.2).
        Some("jwt-svid") if provider.trust_domain.is_some() => {}
        Some("x509-svid") if provider.trust_domain.is_some() => return Ok(None),
        Some(_) => return Err(Unusable::Use),
    }
    if let Some(operations) = entry.get("key_ops").and_then(Value::as_array)
        && !operations.iter().any(|operation| operation == "verify")
    {
        return Err(Unusable::Operations);
    }
    if kind != "oct" && ["d", "p", "q", "dp", "dq", "qi", "oth"].iter().any(|name| entry.get(name).is_some()) {
        return Err(Unusable::Private);
    }
    let algorithm = match text("alg") {
        None => None,
        Some(name) => Some(
            serde_json::from_value::<Algorithm>(Value::from(name))
                .ok()
                .filter(|algorithm| allowed.contains(algorithm))
                .ok_or(Unusable::Algorithm)?,
        ),
    };
    let bytes = |name: &'static str| {
        let encoded = text(name).ok_or(Unusable::Missing(name))?;
        URL_SAFE_NO_PAD.decode(encoded.trim_end_matches('=')).map_err(|_| Unusable::Encoding(name))
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
                _ => return Err(Unusable::Curve),
            }
        }
        "OKP" => {
            let x = bytes("x")?;
            if text("crv") != Some("Ed25519") || x.len() != 32 {
                return Err(Unusable::Ed25519);
            }
            (Material::Ed25519(x), &[A::EdDSA])
        }
        "oct" => {
            if public {
                return Err(Unusable::PublicSecret);
            }
            let secret = bytes("k")?;
            if hex(&Sha256::digest(&secret)) == PUBLISHED_SECRET {
                return Err(Unusable::PublishedSecret);
            }
            let symmetric = [A::HS256, A::HS384, A::HS512];
            let strongest = algorithm.or_else(|| allowed.iter().copied().filter(|a| a.is_symmetric()).max());
            let (name, least) = match strongest {
                Some(A::HS512) => ("HS512", 64),
                Some(A::HS384) => ("HS384", 48),
                _ => ("HS256", 32),
            };
            if secret.len() < least {
                return Err(Unusable::ShortSecret(name, least));
            }
            (Material::Secret(secret), &{ symmetric })
        }
        _ => return Err(Unusable::Type),
    };
    match algorithm {
        Some(algorithm) if !fits.contains(&algorithm) => return Err(Unusable::AlgorithmOfType),
        None if !fits.iter().any(|fit| allowed.contains(fit)) => {
            return Err(Unusable::TypeOfProvider);
        }
        _ => {}
    }
    if let Some(weakness) = weakness_of(&material, algorithm) {
        return Err(Unusable::Weak(weakness));
    }
    let kid = text("kid").filter(|kid| !kid.is_empty()).map(str::to_owned);
    if kid.as_ref().is_some_and(|kid| kid.len() > 512) {
        return Err(Unusable::LongKid);
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

fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Material, Unusable> {
    let strip = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
    let (modulus, exponent) = (strip(modulus), strip(exponent));
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if bits < 2048 {
        return Err(Unusable::ShortRsa(bits));
    }
    let odd = |bytes: &[u8]| bytes.last().is_some_and(|byte| byte & 1 == 1);
    if bits > 8192 || !odd(&modulus) || !odd(&exponent) || exponent.len() > 8 || exponent == [1] {
        return Err(Unusable::UnsoundRsa);
    }
    Ok(Material::Rsa(RsaKey { modulus, exponent }))
}

/// Checks an uncompressed point; a point beside the curve can give away or forge.
fn on_curve<const WIDTH: usize>(x: &[u8], y: &[u8], valid: fn(&[u8]) -> bool) -> Result<(), Unusable> {
    if x.len() != WIDTH || y.len() != WIDTH || !valid(&[&[4], x, y].concat()) {
        return Err(Unusable::Point);
    }
    Ok(())
}
