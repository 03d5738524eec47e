//! Signature algorithms: which key fits which, which keys are too weak, and the pure-Rust verifiers.

#[cfg(feature = "p384")]
use super::es384::{self, Es384};
use super::{Algorithm, KeyMaterial, VerificationKey};
use crate::host::{Host, Verification};
use jwt_compact::{
    Algorithm as JwtAlgorithm, AlgorithmSignature,
    alg::{Ed25519, Es256, Hs256, Hs256Key, Hs384, Hs384Key, Hs512, Hs512Key, Rsa},
};
use rsa::{BigUint, RsaPublicKey};
use std::{borrow::Cow, convert::Infallible};

/// RSA keys outside of this range are refused: below is breakable, above is a way to burn CPU.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The algorithm of this JWS name (RFC 7518, 8037), if it is supported. `none` is not.
#[must_use]
pub fn algorithm_from_name(name: &str) -> Option<Algorithm> {
    Some(match name {
        "HS256" => Algorithm::Hs256,
        "HS384" => Algorithm::Hs384,
        "HS512" => Algorithm::Hs512,
        "RS256" => Algorithm::Rs256,
        "RS384" => Algorithm::Rs384,
        "RS512" => Algorithm::Rs512,
        "PS256" => Algorithm::Ps256,
        "ES256" => Algorithm::Es256,
        "ES384" => Algorithm::Es384,
        "EdDSA" => Algorithm::Eddsa,
        _ => return None,
    })
}

/// The JWS name of an algorithm.
#[must_use]
pub fn algorithm_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Hs256 => "HS256",
        Algorithm::Hs384 => "HS384",
        Algorithm::Hs512 => "HS512",
        Algorithm::Rs256 => "RS256",
        Algorithm::Rs384 => "RS384",
        Algorithm::Rs512 => "RS512",
        Algorithm::Ps256 => "PS256",
        Algorithm::Es256 => "ES256",
        Algorithm::Es384 => "ES384",
        Algorithm::Eddsa => "EdDSA",
        Algorithm::Unspecified => "unspecified",
    }
}

/// True if the key is for this algorithm: type, curve, and the key's own pin.
#[must_use]
pub fn fits(algorithm: Algorithm, key: &VerificationKey) -> bool {
    let by_type = match algorithm {
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => matches!(key.material, KeyMaterial::Secret(_)),
        Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 | Algorithm::Ps256 => {
            matches!(key.material, KeyMaterial::Rsa { .. })
        }
        Algorithm::Es256 => matches!(key.material, KeyMaterial::P256 { .. }),
        Algorithm::Es384 => matches!(key.material, KeyMaterial::P384 { .. }),
        Algorithm::Eddsa => matches!(key.material, KeyMaterial::Ed25519(_)),
        Algorithm::Unspecified => false,
    };
    by_type && key.algorithm.is_none_or(|own| own == algorithm)
}

/// What is wrong with a key, as a sentence; `None`: nothing. Slower than the per-token check: for compilation.
#[must_use]
pub fn weakness(key: &VerificationKey) -> Option<&'static str> {
    match &key.material {
        KeyMaterial::Rsa { modulus, exponent } => {
            if !RSA_BITS.contains(&bits(modulus)) {
                Some("The RSA modulus is not between 2048 and 8192 bits long.")
            } else if !exponent_is_sound(exponent) || modulus.last().is_none_or(|last| last & 1 == 0) {
                Some("The RSA exponent is not an odd number from 3 to 2^33, or the modulus is even.")
            } else if looks_like_roca(modulus) {
                Some("The RSA modulus has the structure of keys with the ROCA weakness (CVE-2017-15361).")
            } else {
                None
            }
        }
        KeyMaterial::P256 { x, y } => p256_key(x, y).is_none().then_some("The point is not on the curve P-256."),
        #[cfg(feature = "p384")]
        KeyMaterial::P384 { x, y } => es384::key(x, y).is_none().then_some("The point is not on the curve P-384."),
        // The compiler looked at it, and the host does when it reads the key.
        #[cfg(not(feature = "p384"))]
        KeyMaterial::P384 { .. } => None,
        KeyMaterial::Ed25519(bytes) => {
            ed25519_is_weak(bytes).then_some("The Ed25519 key is not a canonical point of large order.")
        }
        KeyMaterial::Secret(secret) => {
            let needed = key.algorithm.map_or(32, secret_bytes);
            (secret.len() < needed).then_some("The HMAC secret is shorter than the hash it is used with.")
        }
    }
}

fn secret_bytes(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Hs384 => 48,
        Algorithm::Hs512 => 64,
        _ => 32,
    }
}

/// The part of [`weakness`] that costs nothing, done for every token.
pub(super) fn strong_enough(algorithm: Algorithm, key: &VerificationKey) -> bool {
    match &key.material {
        KeyMaterial::Rsa { modulus, exponent } => RSA_BITS.contains(&bits(modulus)) && exponent_is_sound(exponent),
        // RFC 7518 section 3.2: a key of at least the size of the hash.
        KeyMaterial::Secret(secret) => secret.len() >= secret_bytes(algorithm),
        _ => true,
    }
}

fn bits(big_endian: &[u8]) -> usize {
    let mut digits = big_endian.iter().skip_while(|byte| **byte == 0);
    digits.next().map_or(0, |top| 8 - top.leading_zeros() as usize) + 8 * digits.count()
}

fn exponent_is_sound(exponent: &[u8]) -> bool {
    (2..=33).contains(&bits(exponent)) && exponent.last().is_some_and(|last| last & 1 == 1)
}

/// Moduli of the ROCA library are powers of 65537 modulo every small prime; a random modulus is that with
/// probability 2^-27 or less.
fn looks_like_roca(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 38] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107,
        109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
    ];
    PRIMES.iter().all(|&prime| {
        let residue = modulus.iter().fold(0, |rest, &byte| (rest * 256 + u32::from(byte)) % prime);
        let mut power = 1;
        (0..prime).any(|_| {
            power = power * (65537 % prime) % prime;
            power == residue
        })
    })
}

fn ed25519_is_weak(bytes: &[u8; 32]) -> bool {
    // The library decodes the point, and refuses non-canonical and small-order ones, when a verification starts.
    ed25519_compact::PublicKey::new(*bytes).verify_incremental(&ed25519_probe()).is_err()
}

/// A signature whose own point is sound (the base point), to look at a key alone.
fn ed25519_probe() -> ed25519_compact::Signature {
    let mut bytes = [0x66; 64];
    for (at, byte) in bytes.iter_mut().enumerate() {
        if at == 0 {
            *byte = 0x58;
        } else if at >= 32 {
            *byte = 0;
        }
    }
    ed25519_compact::Signature::new(bytes)
}

/// Checks a signature in JWS form (raw r‖s for ECDSA) in pure Rust. False as well for a key that does not fit the
/// algorithm, is malformed or too weak, and for ES384 without the feature `p384`.
#[must_use]
pub fn verify_signature(algorithm: Algorithm, key: &VerificationKey, message: &[u8], signature: &[u8]) -> bool {
    if !fits(algorithm, key) || !strong_enough(algorithm, key) {
        return false;
    }
    match (&key.material, algorithm) {
        (KeyMaterial::Secret(secret), Algorithm::Hs256) => check(&Hs256, &Hs256Key::new(secret), message, signature),
        (KeyMaterial::Secret(secret), Algorithm::Hs384) => check(&Hs384, &Hs384Key::new(secret), message, signature),
        (KeyMaterial::Secret(secret), Algorithm::Hs512) => check(&Hs512, &Hs512Key::new(secret), message, signature),
        (KeyMaterial::Rsa { modulus, exponent }, _) => {
            let scheme = match algorithm {
                Algorithm::Rs256 => Rsa::rs256(),
                Algorithm::Rs384 => Rsa::rs384(),
                Algorithm::Rs512 => Rsa::rs512(),
                Algorithm::Ps256 => Rsa::ps256(),
                _ => return false,
            };
            let (modulus, exponent) = (BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent));
            RsaPublicKey::new_with_max_size(modulus, exponent, *RSA_BITS.end())
                .is_ok_and(|key| check(&scheme, &key, message, signature))
        }
        (KeyMaterial::P256 { x, y }, _) => p256_key(x, y).is_some_and(|key| check(&Es256, &key, message, signature)),
        #[cfg(feature = "p384")]
        (KeyMaterial::P384 { x, y }, _) => es384::key(x, y).is_some_and(|key| check(&Es384, &key, message, signature)),
        (KeyMaterial::Ed25519(bytes), _) => {
            check(&Ed25519, &ed25519_compact::PublicKey::new(*bytes), message, signature)
        }
        _ => false,
    }
}

fn p256_key(x: &[u8; 32], y: &[u8; 32]) -> Option<p256::ecdsa::VerifyingKey> {
    let point = p256::EncodedPoint::from_affine_coordinates(x.into(), y.into(), false);
    p256::ecdsa::VerifyingKey::from_encoded_point(&point).ok()
}

fn check<A: JwtAlgorithm>(algorithm: &A, key: &A::VerifyingKey, message: &[u8], signature: &[u8]) -> bool {
    // `try_from_slice` relies on the length having been checked.
    A::Signature::LENGTH.is_none_or(|length| length.get() == signature.len())
        && A::Signature::try_from_slice(signature)
            .is_ok_and(|signature| algorithm.verify_signature(&signature, key, message))
}

/// A signature as bytes, checked by whoever verifies it.
#[derive(Clone, Debug)]
pub struct Raw(pub(super) Vec<u8>);

impl AlgorithmSignature for Raw {
    fn try_from_slice(slice: &[u8]) -> anyhow::Result<Self> {
        Ok(Raw(slice.to_vec()))
    }
    fn as_bytes(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.0)
    }
}

/// Verification by the host where it can, in pure Rust where it cannot. It verifies only: its signing key has no value.
pub(super) struct Hosted<'h> {
    pub(super) algorithm: Algorithm,
    pub(super) host: &'h dyn Host,
}

impl JwtAlgorithm for Hosted<'_> {
    type SigningKey = Infallible;
    type VerifyingKey = VerificationKey;
    type Signature = Raw;

    fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed(algorithm_name(self.algorithm))
    }
    fn sign(&self, signing_key: &Infallible, _: &[u8]) -> Raw {
        match *signing_key {}
    }
    fn verify_signature(&self, signature: &Raw, key: &VerificationKey, message: &[u8]) -> bool {
        // Only types for which the host's rules and ours are the same: HMAC and Ed25519 stay here.
        let hosted = match key.material {
            KeyMaterial::Rsa { .. } | KeyMaterial::P256 { .. } | KeyMaterial::P384 { .. } => {
                self.host.verify(self.algorithm, key, message, &signature.0)
            }
            KeyMaterial::Ed25519(_) | KeyMaterial::Secret(_) => Verification::Unavailable,
        };
        match hosted {
            Verification::Valid => true,
            Verification::Invalid => false,
            Verification::Unavailable => verify_signature(self.algorithm, key, message, &signature.0),
        }
    }
}
