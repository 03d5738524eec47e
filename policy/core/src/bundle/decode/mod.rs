//! Bundle → [`Tables`]: every index and every number is checked, and what this build does not know is refused.
//!
//! The reader looks up strings; a file for each part of a bundle adds to it what the part needs.

mod access;
mod bindings;
mod reader;
mod roles;
mod schema;

pub use reader::TablesError;

use super::{subjects, tables::Tables};
use crate::Name;
use bindings::{AsBinding, Outline};
use doorward_proto::v1::{self, Bundle};
use reader::{Decoder, Result, duplicate, error, known, known_or, malformed, position, positive, time, verbs};

impl Tables {
    /// Decodes and indexes a bundle; `digest` is SHA-256 of its canonical bytes, `epoch` the one it was pushed with.
    ///
    /// # Errors
    /// If anything in the bundle is out of range or unknown to this build: it is then rejected whole.
    pub fn build(bundle: &Bundle, digest: [u8; 32], epoch: u64) -> Result<Self> {
        let strings = bundle.strings.iter().map(|text| Name::from(text.as_str())).collect();
        build(bundle, strings, &bundle.bindings, digest, epoch)
    }

    /// As [`Tables::build`], from the bundle's canonical bytes. Takes half the memory, because it makes no `Bundle`.
    ///
    /// # Errors
    /// As [`Tables::build`]; and `malformed` at `payload` if the bytes are no bundle.
    pub fn decode(payload: &[u8], digest: [u8; 32], epoch: u64) -> Result<Self> {
        // Strings and bindings, which are most of a big policy, are read where they are.
        let outline = Outline::read(payload).ok_or_else(|| malformed("payload", "the bundle does not decode"))?;
        build(&outline.rest, outline.strings, &outline.bindings, digest, epoch)
    }
}

fn build<B: AsBinding>(
    bundle: &v1::Bundle,
    strings: Vec<Name>,
    bindings: &[B],
    digest: [u8; 32],
    epoch: u64,
) -> Result<Tables> {
    if !matches!(bundle.format, 1 | 2) {
        return Err(error("unknown", "format", format!("bundle format {} is not 1 or 2", bundle.format)));
    }
    if strings.first().is_none_or(|first| !first.is_empty()) {
        return Err(malformed("strings", "the first string must be empty"));
    }
    let decoder = Decoder { strings };
    let mut tables = Tables { digest, epoch, scope: bundle.scope.clone(), ..Tables::default() };
    tables.claim_paths = decoder.claim_paths(&bundle.claim_paths, "claim_paths")?;
    for (at, service) in bundle.services.iter().enumerate() {
        let path = format!("services[{at}]");
        let decoded = decoder.service(service, &path)?;
        if tables.service_names.insert(decoded.name.clone(), at).is_some() {
            return Err(duplicate(&path, "another service has this name"));
        }
        for each in &service.matches {
            let (host, prefix) = (decoder.text(each.host, &path)?, decoder.text(each.path, &path)?);
            if !tables.router.insert(&host, &prefix, at) {
                return Err(duplicate(&path, "a match is taken by another service, or is no host and path prefix"));
            }
            tables.router.insert_unversioned(decoded.dialect, &host, &prefix);
        }
        tables.services.push(decoded);
    }
    for (at, provider) in bundle.providers.iter().enumerate() {
        let path = format!("providers[{at}]");
        let provider = decoder.provider(provider, &path)?;
        for issuer in std::iter::once(&provider.issuer).chain(&provider.more_issuers) {
            if tables.issuers.insert(issuer.clone(), at).is_some() {
                return Err(duplicate(&path, "another provider has this issuer"));
            }
        }
        tables.providers.push(provider);
    }
    for (at, key) in bundle.keys.iter().enumerate() {
        let path = format!("keys[{at}]");
        let hash = <[u8; 32]>::try_from(key.hash.as_slice());
        let hash = hash.map_err(|_| malformed(&path, "the hash must have 32 bytes"))?;
        if tables.key_hashes.insert(hash, at).is_some() {
            return Err(duplicate(&path, "another key has this hash"));
        }
        tables.keys.push(decoder.key(key, &path)?);
    }
    let mut views = 0;
    for (at, role) in bundle.roles.iter().enumerate() {
        let path = format!("roles[{at}]");
        let role = decoder.role(role, &tables, &mut views, &path)?;
        if tables.role_names.insert(role.name.clone(), at).is_some() {
            return Err(duplicate(&path, "another role has this name"));
        }
        tables.roles.push(role);
    }
    decoder.bindings(bindings, &mut tables)?;
    restrictions(&decoder, bundle, &mut tables)?;
    Ok(tables)
}

fn restrictions(decoder: &Decoder, bundle: &v1::Bundle, tables: &mut Tables) -> Result<()> {
    tables.restricted = subjects::Subjects::new(tables.claim_paths.len());
    for (at, restriction) in bundle.restrictions.iter().enumerate() {
        let path = format!("restrictions[{at}]");
        decoder.subjects(&restriction.subjects, &mut tables.restricted, position(at, &path)?, &path)?;
        tables.restrictions.push(subjects::Restriction {
            name: decoder.name(restriction.name, &path)?,
            period: subjects::Period::new(restriction.from, restriction.until),
            effect: known(restriction.effect, &path)?,
            issued_before: time(restriction.issued_before),
            services: decoder.names(&restriction.services, &path)?,
            verbs: verbs(&restriction.verbs, &path)?,
            max_rows: positive(restriction.max_rows),
            shadow: known_or(restriction.enforcement, v1::Enforcement::Enforce, &path)? == v1::Enforcement::Shadow,
            within: match restriction.confined {
                true => Some(decoder.names(&restriction.within, &path)?),
                false => None,
            },
        });
    }
    Ok(())
}
