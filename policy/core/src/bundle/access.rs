//! Who may come in: identity providers and API keys, as a bundle gives them.

use crate::{
    Name,
    key::{Algorithm, VerificationKey},
};
use std::net::IpAddr;

/// A dotted path into a token's claims, e.g. `["realm_access", "roles"]`.
pub type ClaimPath = Vec<Name>;

/// An issuer whose tokens are trusted.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Document name.
    pub name: Name,
    /// `iss`, exactly.
    pub issuer: Name,
    /// A token must name one of these in `aud`.
    pub audiences: Vec<Name>,
    /// Algorithms that are accepted; never taken from the token.
    pub algorithms: Vec<Algorithm>,
    /// Keys, by `kid`.
    pub keys: Vec<VerificationKey>,
    /// `exp - iat` may not exceed this.
    pub max_token_age_seconds: u32,
    /// Clocks may differ by this much.
    pub clock_skew_seconds: u32,
    /// Where the user is; the first path present wins.
    pub user_claims: Vec<ClaimPath>,
    /// Where token roles are; they become groups `role:NAME`.
    pub role_claims: Vec<ClaimPath>,
    /// Where groups are.
    pub group_claims: Vec<ClaimPath>,
    /// Where the tenant is; the first path present wins.
    pub tenant_claims: Vec<ClaimPath>,
    /// Where attributes are, by attribute name.
    pub attributes: Vec<AttributeClaim>,
    /// How delegation is told; `None`: tokens of this provider do not delegate.
    pub delegation: Option<Delegation>,
    /// Top-level claims that must be present.
    pub required_claims: Vec<Name>,
    /// Issuers whose agents may act here.
    pub agent_issuers: Vec<Name>,
    /// Other issuers that its tokens may come from.
    pub more_issuers: Vec<Name>,
    /// SPIFFE trust domain that every `sub` must be of; `None`: no SPIFFE provider.
    pub trust_domain: Option<Name>,
    /// Top-level claims that hold the audience; the first one present decides. Empty: `aud`.
    pub audience_claims: Vec<Name>,
    /// No audience is demanded.
    pub any_audience: bool,
    /// Header `typ` values, lower case, without `application/`; `none`: it may be absent. Empty: `jwt`, `at+jwt`, `none`.
    pub token_types: Vec<Name>,
    /// Claims that must be there with one of some values.
    pub required: Vec<RequiredClaim>,
    /// It can be asked about tokens; `None`: it is never asked.
    pub introspection: Option<Introspection>,
}

/// How a provider is asked about tokens (RFC 7662). Where, and as whom, only the control plane knows.
#[derive(Clone, Debug)]
pub struct Introspection {
    /// Only opaque tokens that begin so are its own; `None`: all.
    pub token_prefix: Option<Name>,
    /// An answer is used for so long.
    pub cache_seconds: u32,
    /// It has no keys, so it is asked about its JWTs as well.
    pub jwts: bool,
    /// An answer must say when the token was issued and when it expires, so that its age is known.
    pub demands_age: bool,
}

/// A demand on the claims of every token.
#[derive(Clone, Debug, Default)]
pub struct RequiredClaim {
    /// Top-level claims, one of which must be there.
    pub claims: Vec<Name>,
    /// Texts that are allowed.
    pub texts: Vec<Name>,
    /// Whole numbers that are allowed, in decimal.
    pub numbers: Vec<Name>,
    /// `true` is allowed.
    pub yes: bool,
    /// `false` is allowed.
    pub no: bool,
}

impl RequiredClaim {
    /// True if any value will do.
    #[must_use]
    pub fn is_presence(&self) -> bool {
        self.texts.is_empty() && self.numbers.is_empty() && !self.yes && !self.no
    }
}

/// Where one attribute of the principal comes from.
#[derive(Clone, Debug)]
pub struct AttributeClaim {
    /// Attribute name.
    pub name: Name,
    /// Claim paths; the first present wins.
    pub claims: Vec<ClaimPath>,
}

/// How a provider's tokens tell of delegation.
#[derive(Clone, Debug)]
pub struct Delegation {
    /// Top-level claim with the RFC 8693 `act` chain.
    pub actor_claim: Option<Name>,
    /// Top-level claim with scopes.
    pub scope_claim: Option<Name>,
    /// Scopes that begin with this name roles; `None`: scopes do not narrow.
    pub scope_prefix: Option<Name>,
}

/// An API key, known by its hash only.
#[derive(Clone, Debug)]
pub struct Key {
    /// Document name.
    pub name: Name,
    /// The one role it stands for.
    pub role: Name,
    /// Tenant of whoever presents it.
    pub tenant: Option<Name>,
    /// Unix seconds from which it is good.
    pub not_before: Option<i64>,
    /// Unix seconds until which it is good.
    pub not_after: Option<i64>,
    /// Revoked keys stay known, so that the denial can say so.
    pub revoked: bool,
    /// Networks it may be used from; empty: any.
    pub networks: Vec<Network>,
    /// Authorities (lower case) it may be used for; empty: any.
    pub hosts: Vec<Name>,
    /// Attributes for `{key.NAME}`, sorted by name.
    pub attributes: Vec<(Name, Vec<Name>)>,
    /// The agent that the key identifies; `None`: a plain tool.
    pub agent: Option<Name>,
}

/// A network in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Parses `192.0.2.0/24`, `2001:db8::/32`, or a bare address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Network> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address.parse::<IpAddr>().ok()?, Some(prefix)),
            None => (text.parse::<IpAddr>().ok()?, None),
        };
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse::<u8>().ok()?,
            Some(_) => return None,
            None => width,
        };
        (prefix <= width).then_some(Network { address, prefix })
    }

    /// True if the address is in the network. An IPv4 address in IPv6 clothes (`::ffff:a.b.c.d`) counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                // A mapped network keeps its prefix relative to 128 bits.
                let prefix = if self.address.is_ipv6() { self.prefix.saturating_sub(96) } else { self.prefix };
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix.min(128))).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        let holds = |network: &str, address: &str| Network::parse(network).unwrap().contains(address.parse().unwrap());
        assert!(holds("10.1.0.0/16", "10.1.255.3"));
        assert!(!holds("10.1.0.0/16", "10.2.0.1"));
        assert!(holds("0.0.0.0/0", "203.0.113.9"));
        assert!(!holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("192.0.2.7", "192.0.2.7") && !holds("192.0.2.7", "192.0.2.8"));
        assert!(holds("10.0.0.0/8", "::ffff:10.9.9.9"));
        assert!(holds("2001:db8::/32", "2001:db8:5::1") && !holds("2001:db8::/32", "2001:db9::1"));
        for bad in ["", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0/8", "::/129", "10.0.0.0/"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }
}
