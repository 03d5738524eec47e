//! `IdentityProvider.introspection` → `Introspection`.

use super::{context::Context, out::Out};
use crate::document::{
    IdentityProvider,
    identity_provider::{self, SECRET_PREFIX},
};
use doorward_proto::v1;
use sha2::{Digest, Sha256};

const DEFAULT_CACHE: u64 = 30_000;
const MIN_CACHE: u64 = 1_000;
const MAX_CACHE: u64 = 600_000;
const MAX_TIMEOUT: u64 = 10_000;
const MAX_PREFIX_BYTES: usize = 64;

/// Checks all of it. The bundle says when the provider is asked, and whether where or as whom has changed; it never says where, or as whom.
pub(super) fn introspection(
    context: &Context<'_>,
    out: &mut Out<'_>,
    provider: &IdentityProvider,
    given: &identity_provider::Introspection,
) -> v1::Introspection {
    check_address(out, &given.url);
    if given.client_id.is_empty() {
        out.error("missing_field", "spec.introspection.clientId", "name the client that asks the provider");
    }
    check_secret(out, &given.client_secret);
    check_prefix(context, out, given.token_prefix.as_deref());
    let cache = given.cache_for.as_ref().map_or(DEFAULT_CACHE, |time| time.0);
    if !(MIN_CACHE..=MAX_CACHE).contains(&cache) {
        let message = "an answer is kept for 1s to 10m; for longer, tokens that were revoked would live on";
        out.error("invalid_value", "spec.introspection.cacheFor", message);
    }
    if given.timeout.as_ref().is_some_and(|time| time.0 > MAX_TIMEOUT) {
        let message = "callers would wait for longer than 10s for an answer";
        out.error("invalid_value", "spec.introspection.timeout", message);
    }
    v1::Introspection {
        token_prefix: out.optional(given.token_prefix.as_deref()),
        cache_seconds: u32::try_from(cache / 1000).unwrap_or(1),
        jwts: provider.is_keyless(),
        asked: asked(given),
        age: provider.max_token_age.is_some(),
    }
}

/// Tells places to ask at from each other without telling them to anybody.
fn asked(given: &identity_provider::Introspection) -> u64 {
    let digest = Sha256::digest(format!("{}\n{}", given.url, given.client_id));
    digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

fn check_address(out: &mut Out<'_>, url: &str) {
    const PATH: &str = "spec.introspection.url";
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest else {
        out.error("introspection_url", PATH, "the URL of an introspection endpoint starts with https://");
        return;
    };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    if authority.is_empty() || rest.contains('#') || !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
        out.error("introspection_url", PATH, "this is not a URL with a host and without a fragment");
    } else if authority.contains('@') {
        out.error("introspection_url", PATH, "the URL holds credentials; give them as clientId and clientSecret");
    } else if url.starts_with("http://") {
        let message =
            "tokens and the client's secret sent without TLS can be read and answers replaced on the way; use https";
        out.warn("introspection_insecure", PATH, message);
    }
}

fn check_secret(out: &mut Out<'_>, secret: &identity_provider::ClientSecret) {
    const PATH: &str = "spec.introspection.clientSecret";
    match (&secret.file, &secret.env) {
        (Some(file), None) if !file.is_empty() => {}
        (None, Some(name)) if name.starts_with(SECRET_PREFIX) && !name.contains(['=', '\0']) => {}
        (Some(_), None) => out.error("invalid_value", PATH, "name the file that holds the secret"),
        (None, Some(_)) => {
            let message = format!(
                "the variable that holds the secret has a name that begins with {SECRET_PREFIX}; no other is sent"
            );
            out.error("invalid_value", PATH, message);
        }
        _ => out.error("client_secret", PATH, "give exactly one of file and env"),
    }
}

/// Which provider an opaque token is of, only its first letters tell.
fn check_prefix(context: &Context<'_>, out: &mut Out<'_>, prefix: Option<&str>) {
    const PATH: &str = "spec.introspection.tokenPrefix";
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    if let Some(prefix) = prefix
        && (prefix.is_empty() || prefix.len() > MAX_PREFIX_BYTES || !prefix.bytes().all(sound))
    {
        let message = "a prefix has 1 to 64 characters that bearer tokens have: letters, digits, -, ., _, ~, + and /";
        out.error("invalid_value", PATH, message);
    }
    if context.checked {
        return;
    }
    let own = prefix.unwrap_or_default();
    let others = context.providers.iter().filter_map(|(name, (other, _))| {
        Some((*name, other.introspection.as_ref()?.token_prefix.as_deref().unwrap_or_default()))
    });
    let taken = others.into_iter().find(|(_, other)| own.starts_with(other) || other.starts_with(own));
    if let Some((name, _)) = taken {
        out.error(
            "token_prefix",
            PATH,
            format!(
                "a token could be of this provider and of IdentityProvider \"{name}\", which is asked about tokens too; give \
                 both a tokenPrefix, so that none begins as the other does"
            ),
        );
    }
}
