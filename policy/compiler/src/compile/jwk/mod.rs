//! JWK sets (RFC 7517) → verification keys. Key material is never quoted in a message.

mod key;

use super::{
    issuers::issuers,
    key_source::{KeyLocation, KeySource},
    out::Out,
};
use crate::document::IdentityProvider;
use serde_json::Value;

pub(super) use self::key::Jwk;
use self::key::key;

/// Keys a set may have.
const MAX_KEYS: usize = 200;
/// Largest set in bytes.
const MAX_BYTES: usize = 1024 * 1024;

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
