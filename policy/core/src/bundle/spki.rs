//! DER `SubjectPublicKeyInfo` of public keys: the form that the host's verifier takes.

use crate::key::KeyMaterial;

const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
const EC: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];

/// One DER element.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    if length < 0x80 {
        out.extend(u8::try_from(length));
    } else {
        let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        out.extend(u8::try_from(bytes.len()).map(|count| 0x80 | count));
        out.extend(bytes);
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

fn integer(big_endian: &[u8]) -> Vec<u8> {
    // A set top bit would read as negative.
    let sign: &[u8] = if big_endian.first().is_some_and(|byte| *byte >= 0x80) { &[0] } else { &[] };
    element(0x02, &[sign, big_endian])
}

fn info(algorithm: &[&[u8]], key: &[u8]) -> Vec<u8> {
    element(0x30, &[&element(0x30, algorithm), &element(0x03, &[&[0], key])])
}

/// Of this key; empty where there is none, as for secrets, or where the host has no use for it.
#[must_use]
pub fn subject_public_key_info(material: &KeyMaterial) -> Vec<u8> {
    match material {
        KeyMaterial::Rsa { modulus, exponent } => rsa(modulus, exponent),
        KeyMaterial::P256 { x, y } => p256(x, y),
        KeyMaterial::P384 { x, y } => p384(x, y),
        KeyMaterial::Ed25519(_) | KeyMaterial::Secret(_) => Vec::new(),
    }
}

/// Of an RSA key: big endian, without leading zeros.
fn rsa(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    info(&[RSA], &element(0x30, &[&integer(modulus), &integer(exponent)]))
}

/// Of a P-256 key.
fn p256(x: &[u8; 32], y: &[u8; 32]) -> Vec<u8> {
    info(&[EC, P256], &[&[4], x.as_slice(), y.as_slice()].concat())
}

/// Of a P-384 key.
fn p384(x: &[u8; 48], y: &[u8; 48]) -> Vec<u8> {
    info(&[EC, P384], &[&[4], x.as_slice(), y.as_slice()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::rsa::{BigUint, RsaPublicKey, pkcs8::DecodePublicKey, traits::PublicKeyParts};

    #[test]
    fn an_rsa_key_reads_back() {
        for first in [0x80, 0x7f] {
            let mut modulus = vec![0x5b; 256];
            modulus[0] = first;
            let key = RsaPublicKey::from_public_key_der(&rsa(&modulus, &[1, 0, 1])).unwrap();
            assert_eq!((key.n(), key.e()), (&BigUint::from_bytes_be(&modulus), &BigUint::from(65_537u32)));
        }
    }

    #[test]
    fn ec_keys_have_the_well_known_prefixes() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (small, large) = (p256(&[1; 32], &[2; 32]), p384(&[1; 48], &[2; 48]));
        assert_eq!(hex(&small[..28]), "3059301306072a8648ce3d020106082a8648ce3d030107034200040101"[..56]);
        assert_eq!(hex(&large[..25]), "3076301006072a8648ce3d020106052b8104002203620004010101"[..50]);
        assert_eq!((small.len(), large.len()), (91, 120));
    }
}
