//! Who may do what at the control plane's gRPC port.
//!
//! A client is known by the certificate that its TLS handshake proved: its URI names (a SPIFFE ID) and DNS names. Which
//! name has which role is said on the command line or in a file. Without client certificates nobody can be told apart, so
//! everybody may do everything; `doorward serve` then listens on the loopback only, unless told otherwise.

use std::{
    path::Path,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use anyhow::{Context as _, bail};
use rustls::pki_types::CertificateDer;
use tonic::{Request, Status};

use crate::{
    certificate::{Name, Names, Owner},
    clock::now_seconds,
    connections::Peer,
};

const MAX_FILE_BYTES: u64 = 1 << 20;

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Subscribe to policy and send audit records.
    Proxy,
    /// Read the audit log.
    Auditor,
    /// Read the audit log, and see which proxies and documents there are.
    Admin,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
        }
    }
}

/// One role for one name, or for all names of a pattern: `ROLE=NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    role: Role,
    name: String,
}

/// Text that is no grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoGrant {
    /// There is no equals sign.
    #[error("`{0}` is not ROLE=NAME; write e.g. proxy=spiffe://corp.example/ns/edge/sa/envoy")]
    Form(String),
    /// There is no such role.
    #[error("`{0}` is not a role; the roles are proxy, auditor and admin")]
    Role(String),
    /// A name or pattern that no certificate can have.
    #[error(
        "`{0}` is not the name of a client; write a SPIFFE ID, which may end in /*, or a DNS name, which may begin with *."
    )]
    Name(String),
    /// A URI of another kind, or an address.
    #[error("`{0}` is neither a SPIFFE ID (spiffe://DOMAIN/PATH) nor a DNS name")]
    Kind(String),
}

impl FromStr for Grant {
    type Err = NoGrant;

    fn from_str(text: &str) -> Result<Self, NoGrant> {
        let Some((role, name)) = text.trim().split_once('=') else {
            return Err(NoGrant::Form(text.to_owned()));
        };
        let role = match role.trim() {
            "proxy" => Role::Proxy,
            "auditor" => Role::Auditor,
            "admin" => Role::Admin,
            other => return Err(NoGrant::Role(other.to_owned())),
        };
        let name = name.trim();
        let (plain, rest) = if let Some(rest) = name.strip_prefix("spiffe://") {
            (rest.strip_suffix("/*").unwrap_or(rest), rest)
        } else {
            (name.strip_prefix("*.").unwrap_or(name), name)
        };
        if plain.is_empty()
            || rest.len() > 2048
            || plain.contains(|c: char| c == '*' || c == ',' || !c.is_ascii_graphic())
        {
            return Err(NoGrant::Name(name.to_owned()));
        }
        if !name.starts_with("spiffe://") && plain.contains(['/', ':']) {
            return Err(NoGrant::Kind(name.to_owned()));
        }
        Ok(Self { role, name: name.to_owned() })
    }
}

impl Grant {
    fn covers(&self, name: &Name) -> bool {
        match (name, self.name.strip_prefix("spiffe://")) {
            (Name::Spiffe(id), Some(_)) => match self.name.strip_suffix('*') {
                // The slash before the star stays: `…/ns/prod/*` is not `…/ns/production`.
                Some(start) => id.strip_prefix(start).is_some_and(|rest| !rest.is_empty()),
                None => *id == self.name,
            },
            (Name::Dns(host), None) => match self.name.strip_prefix('*') {
                // One label, as in certificates.
                Some(end) => {
                    let split = host.find('.').unwrap_or(host.len());
                    split > 0 && host.get(split..).is_some_and(|rest| rest.eq_ignore_ascii_case(end))
                }
                None => host.eq_ignore_ascii_case(&self.name),
            },
            _ => false,
        }
    }
}

/// The rules of the port.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// `None`: clients have no certificates.
    grants: Option<Arc<[Grant]>>,
}

impl Access {
    /// Everybody may do everything: for the loopback.
    pub fn open() -> Self {
        Self { grants: None }
    }

    /// Clients have certificates, and may do what these grants say.
    pub fn new(grants: Vec<Grant>) -> Self {
        Self { grants: Some(grants.into()) }
    }

    /// Whether the client of this request has one of these roles, and which identity it has.
    pub fn check<T>(&self, request: &Request<T>, roles: &[Role]) -> Result<Owner, Status> {
        let Some(grants) = &self.grants else { return Ok(Owner::default()) };
        let peer = request.extensions().get::<Peer>();
        judged(grants, peer.and_then(Peer::certificate), roles).inspect_err(|status| {
            // Once a second at most: a client may ask as often as it likes.
            static SAID: AtomicI64 = AtomicI64::new(0);
            let now = now_seconds();
            if SAID.swap(now, Ordering::Relaxed) == now {
                return;
            }
            tracing::warn!(code = ?status.code(), reason = status.message(), "a client was refused");
        })
    }
}

fn judged(grants: &[Grant], certificate: Option<&CertificateDer<'_>>, roles: &[Role]) -> Result<Owner, Status> {
    let certificate = certificate.ok_or_else(|| {
        Status::unauthenticated("this control plane knows its clients by their certificates; present one")
    })?;
    let client = Names::of(certificate).map_err(|nameless| Status::unauthenticated(nameless.to_string()))?;
    let allowed =
        grants.iter().any(|grant| roles.contains(&grant.role) && client.all().iter().any(|name| grant.covers(name)));
    if !allowed {
        let needed = roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(" or ");
        return Err(Status::permission_denied(format!(
            "{client} does not have the role {needed}; whoever runs the control plane can give it with --client"
        )));
    }
    Ok(client.owner())
}

/// The grants of a file: `ROLE=NAME` lines; `#` begins a comment.
pub fn read(path: &Path) -> anyhow::Result<Vec<Grant>> {
    let file = path.display();
    let size = std::fs::metadata(path).with_context(|| format!("cannot read {file} (--clients)"))?.len();
    if size > MAX_FILE_BYTES {
        bail!("{file} (--clients) is longer than {MAX_FILE_BYTES} bytes");
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {file} (--clients)"))?;
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.split('#').next().unwrap_or_default().trim()));
    lines
        .filter(|(_, line)| !line.is_empty())
        .map(|(at, line)| line.parse().map_err(|problem| anyhow::anyhow!("{file}, line {at}: {problem}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(names: Vec<SanType>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }

    fn judge(grants: &[&str], names: Vec<SanType>, roles: &[Role]) -> Result<Owner, tonic::Code> {
        let grants: Vec<Grant> = grants.iter().map(|text| text.parse().unwrap()).collect();
        judged(&grants, Some(&certificate(names)), roles).map_err(|status| status.code())
    }

    #[test]
    fn a_grant_is_a_role_and_the_name_of_a_client() {
        for wrong in [
            "proxy",
            "root=a",
            "proxy=",
            "proxy=*",
            "proxy=*.",
            "proxy=a*",
            "proxy=spiffe://",
            "proxy=spiffe:///*",
            "proxy=spiffe://a/*/b",
            "proxy=https://a/b",
            "proxy=a b",
            "Proxy=a",
            "proxy=10.0.0.1:80",
        ] {
            let problem = wrong.parse::<Grant>().expect_err(wrong).to_string();
            assert!(problem.contains('`'), "{problem}");
        }
        for right in ["proxy=spiffe://corp/ns/a/*", "auditor = audit.corp", "admin=*.ops.corp"] {
            assert!(right.parse::<Grant>().is_ok(), "{right}");
        }
    }

    #[test]
    fn a_name_counts_as_it_stands_in_the_certificate_and_patterns_end_at_borders() {
        let proxy = [Role::Proxy];
        let spiffe = "spiffe://corp/ns/prod/sa/envoy";
        assert!(judge(&["proxy=spiffe://corp/ns/prod/sa/envoy"], vec![uri(spiffe)], &proxy).is_ok());
        assert!(judge(&["proxy=spiffe://corp/ns/prod/*"], vec![uri(spiffe)], &proxy).is_ok());
        assert!(judge(&["proxy=*.edge.corp"], vec![dns("A1.edge.corp")], &proxy).is_ok());
        for (grant, name) in [
            ("proxy=spiffe://corp/ns/pro/*", uri(spiffe)),
            ("proxy=spiffe://corp/ns/prod/sa/envoy/*", uri(spiffe)),
            ("proxy=spiffe://corp/ns/prod/sa/env", uri(spiffe)),
            ("proxy=*.edge.corp", dns("a.b.edge.corp")),
            ("proxy=*.edge.corp", dns("edge.corp")),
            ("proxy=edge.corp", dns("a.edge.corp")),
            // A name of one kind is none of the other.
            ("proxy=corp", uri("spiffe://corp")),
        ] {
            assert_eq!(
                judge(&[grant], vec![name.clone()], &proxy),
                Err(tonic::Code::PermissionDenied),
                "{grant} {name:?}"
            );
        }
    }

    #[test]
    fn a_client_has_the_roles_of_its_names_and_no_other() {
        let grants = ["proxy=spiffe://corp/envoy", "auditor=audit.corp", "admin=ops.corp"];
        let who = |name: SanType, roles: &[Role]| judge(&grants, vec![name], roles).map(|_| ());
        assert_eq!(who(dns("audit.corp"), &[Role::Auditor, Role::Admin]), Ok(()));
        assert_eq!(who(dns("ops.corp"), &[Role::Auditor, Role::Admin]), Ok(()));
        for (name, roles) in [
            (dns("audit.corp"), [Role::Proxy]),
            (dns("audit.corp"), [Role::Admin]),
            (dns("ops.corp"), [Role::Proxy]),
            (uri("spiffe://corp/envoy"), [Role::Auditor]),
        ] {
            assert_eq!(who(name, &roles), Err(tonic::Code::PermissionDenied));
        }
        assert_ne!(
            judge(&["proxy=*.corp"], vec![dns("a.corp")], &[Role::Proxy]),
            judge(&["proxy=*.corp"], vec![dns("b.corp")], &[Role::Proxy]),
        );
    }

    #[test]
    fn a_certificate_that_names_nobody_or_two_authenticates_nobody() {
        let all = ["proxy=spiffe://corp/*", "proxy=*.corp"];
        let two = vec![uri("spiffe://corp/a"), uri("spiffe://corp/b")];
        for names in [vec![], two, vec![uri("https://corp/a")], vec![dns("*.corp")]] {
            assert_eq!(judge(&all, names, &[Role::Proxy]), Err(tonic::Code::Unauthenticated));
        }
        let missing = judged(&[], None, &[Role::Proxy]).unwrap_err();
        assert_eq!(missing.code(), tonic::Code::Unauthenticated);
        let junk = judged(&[], Some(&CertificateDer::from(vec![1, 2, 3])), &[Role::Proxy]).unwrap_err();
        assert_eq!(junk.code(), tonic::Code::Unauthenticated);
    }

    #[test]
    fn a_file_of_clients_has_comments_and_a_mistake_has_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("clients");
        std::fs::write(&file, "# edge\nproxy=spiffe://corp/envoy # all of them\n\nauditor=audit.corp\n").unwrap();
        assert_eq!(read(&file).unwrap().len(), 2);
        std::fs::write(&file, "proxy=a.corp\nreader=b.corp\n").unwrap();
        let problem = read(&file).unwrap_err().to_string();
        assert!(problem.contains("line 2") && problem.contains("reader"), "{problem}");
    }
}
