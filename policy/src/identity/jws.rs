//! The compact serialisation of a signed token, its header, and the choice of the key that must have signed it.

use super::{
    Algorithm, VerificationKey,
    json::Json,
    signature::{Hosted, Raw, algorithm_from_name, fits, strong_enough},
};
use crate::{
    code::{Code, Denial},
    host::Host,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jwt_compact::{Algorithm as _, UntrustedToken};

/// Bytes that a token may have at most.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Header parameters that would let the token choose its own key, its own processing, or another serialisation.
const REFUSED_PARAMETERS: [&str; 9] = ["crit", "b64", "jwk", "jku", "x5u", "x5c", "zip", "enc", "cty"];

/// A parsed, not yet verified token.
pub(super) struct Compact<'a> {
    pub(super) algorithm: String,
    pub(super) kid: Option<String>,
    pub(super) typ: Option<String>,
    pub(super) payload: Vec<u8>,
    signature: Raw,
    signed: &'a [u8],
}

#[inline(never)]
pub(super) fn invalid(detail: &'static str) -> Denial {
    Denial::new(Code::CredentialInvalid, detail)
}

impl<'a> Compact<'a> {
    /// Size, parts, strict base64url and header. Nothing is trusted yet.
    pub(super) fn parse(text: &'a str) -> Result<Compact<'a>, Denial> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(invalid("The token is larger than 16 KiB. Ask the identity provider for fewer claims."));
        }
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid("The token is not a signed JWT of three parts."));
        };
        let decode = |part: &str| {
            URL_SAFE_NO_PAD.decode(part).map_err(|_| invalid("A part of the token is not strict base64url."))
        };
        let header = decode(header)?;
        let malformed = || invalid("The token's header is not a JSON object with unique names.");
        let json = Json::parse(&header).ok_or_else(malformed)?;
        let Json::Object(_) = json else { return Err(malformed()) };
        if REFUSED_PARAMETERS.iter().any(|name| json.get(name).is_some()) {
            return Err(invalid(
                "The token's header has a parameter (crit, b64, jwk, jku, x5u, x5c, zip, enc or cty) that is never accepted.",
            ));
        }
        let text_of = |name: &str| match json.get(name) {
            None => Ok(None),
            Some(Json::String(value)) => Ok(Some(value.clone().into_owned())),
            Some(_) => Err(invalid("The token's alg, kid or typ is not a string.")),
        };
        let (algorithm, kid, typ) = (text_of("alg")?, text_of("kid")?, text_of("typ")?);
        let algorithm = algorithm.ok_or_else(|| invalid("The token's header names no algorithm."))?;
        let payload = decode(payload)?;
        let signature = decode(signature)?;
        // A second, independent parser must read the same token; where two differ, someone is being fooled.
        let second = UntrustedToken::new(text).map_err(|_| {
            // Nothing is done with thumbprints, but the second parser reads them, and its trouble is told by its name.
            if ["x5t", "x5t#S256"].iter().any(|name| json.get(name).is_some()) {
                invalid(
                    "The token's header has a certificate thumbprint (x5t or x5t#S256) that is not the base64url of a hash \
                     (RFC 7515 section 4.1.7).",
                )
            } else {
                malformed()
            }
        })?;
        if second.algorithm() != algorithm || second.header().key_id != kid {
            return Err(malformed());
        }
        if second.signature_bytes() != signature {
            return Err(malformed());
        }
        let signed = text.rsplit_once('.').map_or(&[][..], |(signed, _)| signed.as_bytes());
        Ok(Compact { algorithm, kid, typ, payload, signature: Raw(signature), signed })
    }

    /// The token's algorithm, if it is in the list.
    pub(super) fn algorithm(&self, algorithms: &[Algorithm]) -> Result<Algorithm, Denial> {
        algorithm_from_name(&self.algorithm)
            .filter(|algorithm| algorithms.contains(algorithm))
            .ok_or_else(|| invalid("The token's algorithm is not one that its identity provider is configured with."))
    }

    /// The exactly one key that must have signed the token.
    pub(super) fn key<'k>(
        &self,
        algorithm: Algorithm,
        keys: &'k [VerificationKey],
    ) -> Result<&'k VerificationKey, Denial> {
        let mut fitting = keys.iter().filter(|key| {
            fits(algorithm, key) && self.kid.as_deref().is_none_or(|kid| key.kid.as_deref() == Some(kid))
        });
        let key = match (fitting.next(), fitting.next()) {
            (Some(key), None) => key,
            (None, _) => {
                return Err(invalid("No key of the token's identity provider has the token's kid and algorithm."));
            }
            (Some(_), Some(_)) => {
                return Err(invalid("More than one key of the token's identity provider could have signed the token."));
            }
        };
        if !strong_enough(algorithm, key) {
            return Err(invalid("The key of the token's identity provider is too weak to be relied on."));
        }
        Ok(key)
    }

    /// The signature by this key.
    pub(super) fn check(&self, algorithm: Algorithm, key: &VerificationKey, host: &dyn Host) -> Result<(), Denial> {
        if (Hosted { algorithm, host }).verify_signature(&self.signature, key, self.signed) {
            Ok(())
        } else {
            Err(invalid("The token's signature is not valid."))
        }
    }
}

/// Verifies a compact JWS against pinned algorithms and keys and returns its payload: the token checks up to and with
/// the signature, for the command line and for tests. Claims are not looked at.
///
/// # Errors
/// `credential_invalid`, with the first check that failed.
pub fn verify_compact(
    algorithms: &[Algorithm],
    keys: &[VerificationKey],
    host: &dyn Host,
    token: &str,
) -> Result<Vec<u8>, Denial> {
    let compact = Compact::parse(token)?;
    let algorithm = compact.algorithm(algorithms)?;
    compact.check(algorithm, compact.key(algorithm, keys)?, host)?;
    Ok(compact.payload)
}
