//! ES384 in pure Rust.

use jwt_compact::{Algorithm, AlgorithmSignature};
use p384::ecdsa::signature::{Signer, Verifier};
use std::{borrow::Cow, num::NonZeroUsize};

/// The key at this point; `None`: it is not on the curve.
pub(super) fn key(x: &[u8; 48], y: &[u8; 48]) -> Option<p384::ecdsa::VerifyingKey> {
    let point = p384::EncodedPoint::from_affine_coordinates(x.into(), y.into(), false);
    p384::ecdsa::VerifyingKey::from_encoded_point(&point).ok()
}

/// ES384 (RFC 7518 section 3.4), which `jwt-compact` does not bring.
#[derive(Clone, Copy, Debug, Default)]
pub struct Es384;

/// A signature of [`Es384`]: r‖s.
#[derive(Clone, Debug)]
pub struct Es384Signature(p384::ecdsa::Signature);

impl AlgorithmSignature for Es384Signature {
    const LENGTH: Option<NonZeroUsize> = NonZeroUsize::new(96);
    fn try_from_slice(slice: &[u8]) -> anyhow::Result<Self> {
        Ok(Es384Signature(p384::ecdsa::Signature::from_slice(slice)?))
    }
    fn as_bytes(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.0.to_bytes().to_vec())
    }
}

impl Algorithm for Es384 {
    type SigningKey = p384::ecdsa::SigningKey;
    type VerifyingKey = p384::ecdsa::VerifyingKey;
    type Signature = Es384Signature;

    fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed("ES384")
    }
    fn sign(&self, signing_key: &Self::SigningKey, message: &[u8]) -> Es384Signature {
        Es384Signature(signing_key.sign(message))
    }
    fn verify_signature(&self, signature: &Es384Signature, key: &Self::VerifyingKey, message: &[u8]) -> bool {
        key.verify(message, &signature.0).is_ok()
    }
}
