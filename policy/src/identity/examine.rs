//! What each provider makes of a token, told check by check: for `doorward identity check`.

use super::{
    Principal,
    denied::fingerprint,
    json::Json,
    jws::Compact,
    steps::{Steps, tell},
    token,
};
use crate::{Name, bundle::Tables, code::Denial, decide, host::Host};

/// One check of a token against one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What was checked: `issuer`, `type`, `algorithm`, `key`, `signature`, `expiry`, `start`, `issue`, `lifetime`,
    /// `audience`, `subject`, `required`, `binding`, `overage`, `claims` or `revocation`.
    pub step: &'static str,
    /// How it went.
    pub passed: bool,
    /// One sentence. It may quote claims, never the token or its signature.
    pub sentence: String,
}

/// What one provider makes of a token.
#[derive(Clone, Debug)]
pub struct Examined {
    /// Name of the `IdentityProvider`.
    pub provider: Name,
    /// Every check, in the order of the filter; those after a failed one are made all the same.
    pub steps: Vec<Checked>,
    /// The first denial, which is the one that a caller would get.
    pub denial: Option<Denial>,
    /// What the claims make of the caller, also where something else is wrong. Nothing vouches for it then.
    pub principal: Option<Principal>,
}

impl Steps for Examined {
    fn passed(&mut self, step: &'static str, sentence: impl FnOnce() -> String) {
        self.steps.push(Checked { step, passed: true, sentence: sentence() });
    }
    fn failed(&mut self, step: &'static str, denial: Denial) -> Result<(), Denial> {
        self.steps.push(Checked { step, passed: false, sentence: denial.detail.clone().into_owned() });
        self.denial.get_or_insert(denial);
        Ok(())
    }
}

/// What a token says of itself, and what each provider makes of it.
#[derive(Clone, Debug)]
pub struct Examination {
    /// `alg`
    pub algorithm: String,
    /// `kid`
    pub kid: Option<String>,
    /// `typ`
    pub typ: Option<String>,
    /// `iss`, where it is text.
    pub issuer: Option<String>,
    /// The provider that the filter would choose.
    pub chosen: Option<Name>,
    /// Every provider, by issuer.
    pub providers: Vec<Examined>,
}

/// Runs the filter's checks of a token against every provider, without stopping at the first denial.
///
/// # Errors
/// `credential_invalid` where it is no token that any provider could be asked about.
pub fn examine(tables: &Tables, host: &dyn Host, token: &str) -> Result<Examination, Denial> {
    let now = i64::try_from(host.now_millis() / 1000).unwrap_or(i64::MAX);
    let compact = Compact::parse(token)?;
    let claims = token::payload(&compact)?;
    let chosen = token::chosen(tables, &claims);
    let mut providers = Vec::new();
    for provider in tables.providers() {
        let mut examined =
            Examined { provider: provider.name.clone(), steps: Vec::new(), denial: None, principal: None };
        let issuer = match &chosen {
            Ok(chosen) if std::ptr::eq(*chosen, provider) => Ok(()),
            Ok(chosen) => Err(token::of_another(chosen)),
            Err(denial) => Err(denial.clone()),
        };
        tell(&mut examined, "issuer", issuer, |()| "The token's issuer is this provider's.".to_owned())?;
        let verified =
            token::against(tables, host, now, provider, &compact, &claims, fingerprint(token), &mut examined)?;
        if let Some(verified) = verified {
            let revoked = decide::revoked(tables, &verified.principal, now).map_or(Ok(()), Err);
            tell(&mut examined, "revocation", revoked, |()| "No restriction revokes it.".to_owned())?;
            examined.principal = Some(verified.principal);
        }
        providers.push(examined);
    }
    Ok(Examination {
        issuer: claims.get("iss").and_then(Json::as_str).map(str::to_owned),
        chosen: chosen.ok().map(|provider| provider.name.clone()),
        providers,
        algorithm: compact.algorithm,
        kid: compact.kid,
        typ: compact.typ,
    })
}
