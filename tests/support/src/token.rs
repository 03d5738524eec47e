//! Keys of every algorithm and the tokens that they sign. Nothing here asks whether a token makes sense: what a test wants to be
//! wrong, it writes wrong.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use p256::ecdsa::signature::Signer as _;
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The public P-256 key of RFC 7517, appendix A.1, as a JWK.
pub const RFC_7517_EC: &str = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","kid":"1"}"#;
/// The public RSA key of RFC 7517, appendix A.1, as a JWK.
pub const RFC_7517_RSA: &str = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#;

/// Base64url without padding, as everything in a token is written (RFC 7515, section 2).
#[must_use]
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A private or shared key, and the algorithm that it signs by.
#[derive(Clone)]
pub enum Signer {
    /// HMAC with SHA-256.
    Hs256(Vec<u8>),
    /// ECDSA over P-256.
    Es256(p256::ecdsa::SigningKey),
    /// ECDSA over P-384.
    Es384(p384::ecdsa::SigningKey),
    /// Ed25519.
    Eddsa(ed25519_compact::KeyPair),
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256(rsa::RsaPrivateKey),
    /// RSASSA-PSS with SHA-256 and a salt of 32 bytes.
    Ps256(rsa::RsaPrivateKey),
}

impl Signer {
    /// A P-256 key that is made from this byte, which is not 0: the same at every call.
    #[must_use]
    pub fn es256(seed: u8) -> Self {
        Self::Es256(p256::ecdsa::SigningKey::from_slice(&[seed; 32]).expect("a scalar in range"))
    }

    /// A P-384 key that is made from this byte, which is not 0: the same at every call.
    #[must_use]
    pub fn es384(seed: u8) -> Self {
        Self::Es384(p384::ecdsa::SigningKey::from_slice(&[seed; 48]).expect("a scalar in range"))
    }

    /// The Ed25519 key of this seed.
    #[must_use]
    pub fn eddsa(seed: [u8; 32]) -> Self {
        Self::Eddsa(ed25519_compact::KeyPair::from_seed(ed25519_compact::Seed::new(seed)))
    }

    /// Another RSA key of 2048 bits at every call, which takes a moment.
    #[must_use]
    pub fn rs256() -> Self {
        Self::Rs256(rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).expect("a size that there are keys of"))
    }

    /// The algorithm's name in `alg` (RFC 7518, section 3.1; RFC 8037).
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Hs256(_) => "HS256",
            Self::Es256(_) => "ES256",
            Self::Es384(_) => "ES384",
            Self::Eddsa(_) => "EdDSA",
            Self::Rs256(_) => "RS256",
            Self::Ps256(_) => "PS256",
        }
    }

    /// The bare JWK by which others verify: no `kid`, no `alg`, no `use`.
    #[must_use]
    pub fn jwk(&self) -> Value {
        match self {
            Self::Hs256(secret) => json!({"kty": "oct", "k": base64url(secret)}),
            Self::Es256(key) => {
                let point = key.verifying_key().to_encoded_point(false);
                json!({"kty": "EC", "crv": "P-256", "x": point.x().map(base64url), "y": point.y().map(base64url)})
            }
            Self::Es384(key) => {
                let point = key.verifying_key().to_encoded_point(false);
                json!({"kty": "EC", "crv": "P-384", "x": point.x().map(base64url), "y": point.y().map(base64url)})
            }
            Self::Eddsa(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(*pair.pk)}),
            Self::Rs256(key) | Self::Ps256(key) => {
                json!({"kty": "RSA", "n": base64url(key.n().to_bytes_be()), "e": base64url(key.e().to_bytes_be())})
            }
        }
    }

    /// The signature of this text, in JWS form (raw r‖s for ECDSA).
    #[must_use]
    pub fn signature(&self, text: &str) -> Vec<u8> {
        match self {
            Self::Hs256(secret) => {
                let mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length will do");
                mac.chain_update(text).finalize().into_bytes().to_vec()
            }
            Self::Es256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(text.as_bytes());
                signature.to_vec()
            }
            Self::Es384(key) => {
                let signature: p384::ecdsa::Signature = key.sign(text.as_bytes());
                signature.to_vec()
            }
            Self::Eddsa(pair) => pair.sk.sign(text, None).to_vec(),
            Self::Rs256(key) => {
                key.sign(rsa::Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(text)).expect("a key that is large enough")
            }
            Self::Ps256(key) => key
                .sign_with_rng(&mut rsa::rand_core::OsRng, rsa::Pss::new_with_salt::<Sha256>(32), &Sha256::digest(text))
                .expect("a key that is large enough"),
        }
    }

    /// The compact token of these bytes as header and payload, signed whatever they say.
    #[must_use]
    pub fn sign(&self, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        let text = format!("{}.{}", base64url(header), base64url(payload));
        let signature = self.signature(&text);
        format!("{text}.{}", base64url(signature))
    }
}
