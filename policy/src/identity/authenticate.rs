//! The credentials of one request → its principal.

use super::{
    Agent, Principal, TokenCache,
    cache::{AskedAt, Entry},
    credentials::{Mesh, Settings, Unidentified, check_key, find_key, find_token, refuse_in_query},
    denied::{Denied, fingerprint},
    introspection::{self, Introspection, PolicyId},
    jws::{MAX_TOKEN_BYTES, invalid},
    mesh, token,
};
use crate::{
    Name,
    bundle::{Provider, Tables},
    code::{Code, Denial},
    host::Host,
    request::HttpRequest,
};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// What the credentials of a request lead to.
#[derive(Clone, Debug)]
pub enum Identified {
    /// The caller is verified.
    Known {
        /// Who is asking.
        principal: Arc<Principal>,
        /// What an identity provider answered, where it was asked: good for the rest of this request.
        held: Option<Held>,
    },
    /// An identity provider has to be asked first.
    Ask(Introspection),
}

/// An identity provider's answer that was found good, for the rest of the request that it was found good for.
#[derive(Clone, Debug)]
pub struct Held {
    /// Of the token alone, without key and peer.
    principal: Arc<Principal>,
    /// Unix seconds from which the token has expired.
    expired_from: i64,
    /// Unix seconds from which nobody knows any more whether the token is still good.
    used_until: i64,
    token: [u8; 32],
    /// A principal refers to the tables that it was verified with.
    policy: PolicyId,
}

/// So long a request may use the answer that it holds, where answers are kept for less: its body takes its time.
const HELD_SECONDS: i64 = 60;

/// What is there besides the request itself.
#[derive(Clone, Copy, Debug)]
pub enum Given<'a> {
    /// Nothing yet.
    Nothing,
    /// The answer to a question.
    Answer {
        /// What was asked.
        question: &'a Introspection,
        /// The provider's answer: the JSON of RFC 7662, section 2.2.
        claims: &'a [u8],
    },
    /// What was found good at the head of this request.
    Held(&'a Held),
}

/// [`identify`] where nobody can be asked: a token that its provider has to be asked about is refused.
///
/// # Errors
/// As [`identify`], and `identity_unavailable`.
pub fn authenticate(
    tables: &Tables,
    host: &dyn Host,
    settings: &Settings,
    cache: &mut TokenCache,
    request: &HttpRequest<'_>,
) -> Result<Arc<Principal>, Denied> {
    match identify(tables, host, settings, cache, request, Given::Nothing)? {
        Identified::Known { principal, .. } => Ok(principal),
        Identified::Ask(question) => Err(question.unanswered()),
    }
}

/// Verifies every credential of a request and says who is asking, or what has to be asked first.
///
/// A token found in `cache` costs a comparison, and its expiry and revocation are checked all the same; nothing is
/// allocated then, unless it comes with another key or peer than last time.
///
/// # Errors
/// A `credential_*` code, or `delegation_denied` for a delegation chain that is not understood.
#[inline(never)]
pub fn identify(
    tables: &Tables,
    host: &dyn Host,
    settings: &Settings,
    cache: &mut TokenCache,
    request: &HttpRequest<'_>,
    given: Given<'_>,
) -> Result<Identified, Denied> {
    let mut known = None;
    verify(tables, host, settings, cache, request, given, &mut known).map_err(|mut denied| {
        denied.key = known.and_then(|index| Some(tables.keys().get(index)?.name.clone()));
        denied
    })
}

/// As [`identify`]. `known` becomes the place of the presented API key, also where it is refused.
fn verify(
    tables: &Tables,
    host: &dyn Host,
    settings: &Settings,
    cache: &mut TokenCache,
    request: &HttpRequest<'_>,
    given: Given<'_>,
    known: &mut Option<usize>,
) -> Result<Identified, Denied> {
    let known_as = |principal| Identified::Known { principal, held: None };
    let now = i64::try_from(host.now_millis() / 1000).unwrap_or(i64::MAX);
    cache.bind(tables);
    refuse_in_query(request.path)?;
    let token = find_token(settings, request)?;
    let key = find_key(settings, request)?;
    let peer = peer(settings.mesh, request)?;
    let key = key.map(|presented| check_key(tables, now, request, presented, known)).transpose()?;

    let Some(token) = token else {
        if key.is_none() && settings.unidentified == Unidentified::Deny {
            return Err(Denial::new(Code::CredentialMissing, "The request has neither a token nor an API key.").into());
        }
        let principal = combine(&cache.anonymous, tables, settings, key, peer)?;
        return match crate::decide::revoked(tables, &principal, now) {
            Some(denial) => Err(denial.into()),
            None => Ok(known_as(principal)),
        };
    };

    if token.len() > MAX_TOKEN_BYTES {
        return Err(invalid("The token is larger than 16 KiB. Ask the identity provider for fewer claims.").into());
    }
    let hash = cache.hash(token);
    let stale = |entry: &mut Entry| entry.asked.is_some_and(|asked| now >= entry.valid_until || now < asked.since);
    if cache.get(hash, token).is_none_or(stale) {
        cache.counts.misses = cache.counts.misses.saturating_add(1);
        if let Some((provider, terms)) = introspection::whose(tables, token) {
            let asked = Asked { tables, now, token, hash, provider, terms };
            let held = match asked.held(cache, given)? {
                Ok(held) => held,
                Err(question) => return Ok(Identified::Ask(question)),
            };
            let combined = combine(&held.principal, tables, settings, key, peer);
            let principal = finish(tables, now, combined, &held.principal)?;
            return Ok(Identified::Known { principal, held: Some(held) });
        }
        let sha256 = fingerprint(token);
        let mut provider = None;
        match token::verify(tables, host, now, token, sha256.clone(), &mut provider) {
            Ok(verified) => {
                let principal = Arc::new(verified.principal);
                cache.insert(hash, token, principal.clone(), verified.valid_until, None);
                let combined = combine(&principal, tables, settings, key, peer);
                return finish(tables, now, combined, &principal).map(known_as);
            }
            Err(denial) => return Err(Denied { denial, token_sha256: Some(sha256), provider, key: None }),
        }
    }
    cache.counts.hits = cache.counts.hits.saturating_add(1);
    let Some(entry) = cache.get(hash, token) else {
        return Err(invalid("The token could not be looked up.").into());
    };
    let verified = entry.principal.clone();
    if now >= entry.valid_until {
        cache.remove(hash);
        return Err(denied(token::expired(), &verified));
    }
    let held = entry.asked.map(|asked| Held {
        principal: verified.clone(),
        expired_from: asked.expired_from,
        used_until: entry.valid_until.max(held_until(now)),
        token: Sha256::digest(token).into(),
        policy: policy(tables),
    });
    let known_as = |principal| Identified::Known { principal, held };
    if key.is_none() && peer.is_none() {
        return finish(tables, now, Ok(verified.clone()), &verified).map(known_as);
    }
    let combined = match &entry.combined {
        Some((last_key, last_peer, principal)) if *last_key == key && last_peer.as_deref() == peer => {
            Ok(principal.clone())
        }
        _ => combine(&verified, tables, settings, key, peer)
            .inspect(|principal| entry.combined = Some((key, peer.map(Name::from), principal.clone()))),
    };
    finish(tables, now, combined, &verified).map(known_as)
}

fn policy(tables: &Tables) -> PolicyId {
    (*tables.digest(), tables.epoch())
}

/// Until when a request may use the answer that it holds, where answers are kept for less: its body takes its time.
fn held_until(now: i64) -> i64 {
    now.saturating_add(HELD_SECONDS)
}

/// A token that only its provider can say something about.
struct Asked<'a> {
    tables: &'a Tables,
    now: i64,
    token: &'a str,
    hash: u64,
    provider: &'a Provider,
    terms: &'a crate::bundle::Introspection,
}

impl Asked<'_> {
    /// What the provider said of it, or the question to put to it.
    fn held(&self, cache: &mut TokenCache, given: Given<'_>) -> Result<Result<Held, Introspection>, Denied> {
        let refused = |denial| Denied {
            denial,
            token_sha256: Some(fingerprint(self.token)),
            provider: Some(self.provider.name.clone()),
            key: None,
        };
        introspection::sendable(self.token).map_err(refused)?;
        let sha256: [u8; 32] = Sha256::digest(self.token).into();
        let policy = policy(self.tables);
        let question = Introspection { provider: self.provider.name.clone(), token: self.token.into(), policy };
        match given {
            // What was learned since goes before what this request holds.
            Given::Nothing | Given::Held(_) if cache.is_inactive(&sha256, self.now) => {
                Err(refused(introspection::Refused::Inactive.into()))
            }
            Given::Held(held) if held.token == sha256 && held.policy == policy => {
                if self.now >= held.expired_from {
                    return Err(refused(token::expired()));
                }
                if self.now >= held.used_until {
                    return Err(question.unanswered());
                }
                Ok(Ok(held.clone()))
            }
            Given::Answer { question: asked, claims } if *asked == question => {
                let asked = (self.provider, self.terms);
                let answered = introspection::verify(self.tables, asked, self.now, self.token, claims);
                // Whatever was known before, this is newer.
                if cache.get(self.hash, self.token).is_some() {
                    cache.remove(self.hash);
                }
                let verified = answered.map_err(|error| {
                    if matches!(error, introspection::Refused::Inactive) {
                        let kept = i64::from(self.terms.cache_seconds).min(introspection::INACTIVE_SECONDS);
                        cache.insert_inactive(sha256, self.now.saturating_add(kept));
                    }
                    refused(error.into())
                })?;
                let principal = Arc::new(verified.principal);
                let kept = self.now.saturating_add(self.terms.cache_seconds.into());
                let until = kept.min(verified.valid_until);
                let asked = AskedAt { since: self.now, expired_from: verified.valid_until, bytes: claims.len() };
                cache.insert(self.hash, self.token, principal.clone(), until, Some(asked));
                let (expired_from, used_until) = (verified.valid_until, kept.max(held_until(self.now)));
                Ok(Ok(Held { principal, expired_from, used_until, token: sha256, policy }))
            }
            _ => Ok(Err(question)),
        }
    }
}

fn finish(
    tables: &Tables,
    now: i64,
    combined: Result<Arc<Principal>, Denial>,
    verified: &Principal,
) -> Result<Arc<Principal>, Denied> {
    let principal = combined.map_err(|denial| denied(denial, verified))?;
    match crate::decide::revoked(tables, &principal, now) {
        Some(denial) => Err(denied(denial, verified)),
        None => Ok(principal),
    }
}

fn denied(denial: Denial, verified: &Principal) -> Denied {
    let token_sha256 = verified.token.as_ref().map(|token| token.sha256.clone());
    Denied { denial, token_sha256, provider: verified.provider.clone(), key: None }
}

fn peer<'a>(mode: Mesh, request: &HttpRequest<'a>) -> Result<Option<&'a str>, Denial> {
    if mode == Mesh::Ignore {
        return Ok(None);
    }
    // Several lines are one list; the last element of the last line is the immediate peer.
    let line = request.headers.iter().rev().find(|header| header.name == "x-forwarded-client-cert");
    let id = match line.map(|header| std::str::from_utf8(header.value)) {
        None => Ok(None),
        Some(Ok(text)) => mesh::spiffe_id(text),
        Some(Err(_)) => Err(()),
    };
    match (mode, id) {
        (Mesh::Agent, Ok(None)) => {
            Err(Denial::new(Code::CredentialMissing, "The peer has no mesh identity (SPIFFE ID), and one is required."))
        }
        (Mesh::Agent, Err(())) => {
            Err(invalid("The peer's mesh identity (x-forwarded-client-cert) is malformed or ambiguous."))
        }
        (_, id) => Ok(id.unwrap_or(None)),
    }
}

/// Adds what the API key and the peer say.
fn combine(
    base: &Arc<Principal>,
    tables: &Tables,
    settings: &Settings,
    key: Option<usize>,
    peer: Option<&str>,
) -> Result<Arc<Principal>, Denial> {
    if key.is_none() && peer.is_none() {
        return Ok(base.clone());
    }
    let mut principal = Principal::clone(base);
    if let Some(index) = key {
        let key = tables.keys().get(index).ok_or_else(|| invalid("The API key is not known."))?;
        principal.key = Some(index);
        match (&principal.tenant, &key.tenant) {
            (Some(person), Some(tool)) if person != tool => {
                return Err(Denial::new(
                    Code::CredentialLocked,
                    "The API key belongs to another tenant than the token.",
                ));
            }
            (None, Some(tool)) => principal.tenant = Some(tool.clone()),
            _ => {}
        }
        principal.agents.extend(key.agent.clone().map(|name| Agent { name }));
    }
    if let Some(id) = peer {
        let id = Name::from(id);
        if settings.mesh == Mesh::Agent {
            principal.agents.push(Agent { name: id.clone() });
        }
        principal.mesh = Some(id);
    }
    Ok(Arc::new(principal))
}
