//! Providers and API keys of a bundle.

use super::reader::{Decoder, Result, known, malformed, time};
use crate::{
    bundle::{access, spki::subject_public_key_info},
    key::{KeyMaterial, VerificationKey},
};
use doorward_proto::v1::{self, verification_key::Material};

impl Decoder {
    pub(super) fn provider(&self, provider: &v1::Provider, path: &str) -> Result<access::Provider> {
        let delegation = provider.delegation.as_ref().map(|delegation| {
            Ok(access::Delegation {
                actor_claim: self.optional(delegation.actor_claim, path)?,
                scope_claim: self.optional(delegation.scope_claim, path)?,
                scope_prefix: self.optional(delegation.scope_prefix, path)?,
            })
        });
        let attribute = |each: &v1::AttributeClaim| {
            Ok(access::AttributeClaim {
                name: self.name(each.name, path)?,
                claims: self.claim_paths(&each.claims, path)?,
            })
        };
        let keys = provider.keys.iter().enumerate();
        Ok(access::Provider {
            name: self.name(provider.name, path)?,
            issuer: self.name(provider.issuer, path)?,
            audiences: self.names(&provider.audiences, path)?,
            algorithms: provider.algorithms.iter().map(|number| known(*number, path)).collect::<Result<_>>()?,
            keys: keys
                .map(|(at, key)| self.verification_key(key, &format!("{path}.keys[{at}]")))
                .collect::<Result<_>>()?,
            max_token_age_seconds: provider.max_token_age_seconds,
            clock_skew_seconds: provider.clock_skew_seconds,
            user_claims: self.claim_paths(&provider.user_claims, path)?,
            role_claims: self.claim_paths(&provider.role_claims, path)?,
            group_claims: self.claim_paths(&provider.group_claims, path)?,
            tenant_claims: self.claim_paths(&provider.tenant_claims, path)?,
            attributes: provider.attributes.iter().map(attribute).collect::<Result<_>>()?,
            delegation: delegation.transpose()?,
            required_claims: self.names(&provider.required_claims, path)?,
            agent_issuers: self.names(&provider.agent_issuers, path)?,
            more_issuers: self.names(&provider.more_issuers, path)?,
            trust_domain: self.optional(provider.trust_domain, path)?,
            audience_claims: self.names(&provider.audience_claims, path)?,
            any_audience: provider.any_audience,
            token_types: self.names(&provider.token_types, path)?,
            required: provider.required.iter().map(|each| self.required(each, path)).collect::<Result<_>>()?,
            introspection: provider.introspection.map(|each| self.introspection(each, path)).transpose()?,
        })
    }

    fn introspection(&self, introspection: v1::Introspection, path: &str) -> Result<access::Introspection> {
        if !(1..=600).contains(&introspection.cache_seconds) {
            return Err(malformed(path, "answers about tokens are kept for no time between 1 s and 600 s"));
        }
        Ok(access::Introspection {
            token_prefix: self.optional(introspection.token_prefix, path)?,
            cache_seconds: introspection.cache_seconds,
            jwts: introspection.jwts,
            demands_age: introspection.age,
        })
    }

    fn required(&self, required: &v1::RequiredClaim, path: &str) -> Result<access::RequiredClaim> {
        if required.claims.is_empty() {
            return Err(malformed(path, "a required claim has no name"));
        }
        Ok(access::RequiredClaim {
            claims: self.names(&required.claims, path)?,
            texts: self.texts(&required.texts, path)?,
            numbers: self.names(&required.numbers, path)?,
            yes: required.yes,
            no: required.no,
        })
    }

    fn verification_key(&self, key: &v1::VerificationKey, path: &str) -> Result<VerificationKey> {
        let wrong = || malformed(path, "the key does not have the size of its type");
        let material = match key.material.as_ref().ok_or_else(|| malformed(path, "the key has no known type"))? {
            Material::Rsa(key) => {
                // 2048 to 8192 bits: shorter is unsafe (RFC 7518 section 3.3), longer is slow.
                let fits = (256..=1024).contains(&key.modulus.len()) && (1..=8).contains(&key.exponent.len());
                if !fits || key.modulus.first() == Some(&0) || key.exponent.first() == Some(&0) {
                    return Err(wrong());
                }
                KeyMaterial::Rsa { modulus: key.modulus.clone(), exponent: key.exponent.clone() }
            }
            Material::Ec(key) => match known(key.curve, path)? {
                v1::Curve::P384 => {
                    let x = key.x.as_slice().try_into().map_err(|_| wrong())?;
                    let y = key.y.as_slice().try_into().map_err(|_| wrong())?;
                    KeyMaterial::P384 { x, y }
                }
                _ => {
                    let x = key.x.as_slice().try_into().map_err(|_| wrong())?;
                    let y = key.y.as_slice().try_into().map_err(|_| wrong())?;
                    KeyMaterial::P256 { x, y }
                }
            },
            Material::Ed25519(bytes) => KeyMaterial::Ed25519(bytes.as_slice().try_into().map_err(|_| wrong())?),
            Material::Secret(bytes) if bytes.is_empty() => return Err(wrong()),
            Material::Secret(bytes) => KeyMaterial::Secret(bytes.clone()),
        };
        let algorithm = if key.algorithm == 0 { None } else { Some(known(key.algorithm, path)?) };
        let spki = subject_public_key_info(&material);
        Ok(VerificationKey { kid: self.optional(key.kid, path)?, algorithm, material, spki })
    }

    pub(super) fn key(&self, key: &v1::Key, path: &str) -> Result<access::Key> {
        let network = |index: &u32| {
            let text = self.text(*index, path)?;
            access::Network::parse(&text).ok_or_else(|| malformed(path, "a network is not in CIDR notation"))
        };
        Ok(access::Key {
            name: self.name(key.name, path)?,
            role: self.name(key.role, path)?,
            tenant: self.optional(key.tenant, path)?,
            not_before: time(key.not_before),
            not_after: time(key.not_after),
            revoked: key.revoked,
            networks: key.networks.iter().map(network).collect::<Result<_>>()?,
            hosts: self.names(&key.hosts, path)?,
            attributes: self.attributes(&key.attributes, path)?,
            agent: self.optional(key.agent, path)?,
        })
    }
}
