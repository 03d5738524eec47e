//! The issuers of a provider, with its tenants filled in.

use std::collections::BTreeSet;

use crate::document::IdentityProvider;

/// Issuers of one provider, tenants filled in.
pub(super) const MAX_ISSUERS: usize = 5_000;

/// What stands for each tenant in an issuer.
pub(super) const TENANT: &str = "{tenantid}";

/// Every issuer whose tokens the provider takes, patterns expanded; the first one is the one it is known by. A SPIFFE
/// provider without an issuer is known by its trust domain, which is no `iss` of any token.
pub(super) fn issuers(spec: &IdentityProvider) -> Vec<String> {
    let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
    let domain = spec.trust_domain.iter().map(|domain| format!("spiffe://{domain}"));
    let written = spec.issuers().iter().flat_map(|issuer| {
        let tenants = if issuer.contains(TENANT) { spec.tenants.len() } else { 1 };
        (0..tenants).map(|at| issuer.replace(TENANT, spec.tenants.get(at).map_or(TENANT, String::as_str)))
    });
    for issuer in written.chain(domain).take(MAX_ISSUERS + 1) {
        if seen.insert(issuer.clone()) {
            all.push(issuer);
        }
    }
    all
}
