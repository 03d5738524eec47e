//! What a client's certificate says: who it is, and until when.

use std::fmt;

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_cert::der::Decode as _;

/// Names of one certificate that are looked at.
const MAX_NAMES: usize = 64;

/// Why a certificate does not say who its client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Nameless {
    /// It is no certificate.
    #[error("the client's certificate cannot be read")]
    Unreadable,
    /// SPIFFE X.509-SVID, section 2, allows one.
    #[error("the client's certificate has more than one SPIFFE ID")]
    SeveralIds,
    /// It has names of no kind that is known.
    #[error("the client's certificate names nobody; it needs a SPIFFE ID or a DNS name")]
    Nobody,
}

/// A name in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// The URI of a SPIFFE ID.
    Spiffe(String),
    /// A host name in lower case.
    Dns(String),
}

/// Who a client is: nobody in particular, where there are no client certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Owner(pub(crate) [u8; 32]);

/// The names of a certificate that was verified: at most one SPIFFE ID, which comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names(Vec<Name>);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.first() {
            Some(Name::Spiffe(name) | Name::Dns(name)) => f.write_str(name),
            None => f.write_str("nobody"),
        }
    }
}

impl Names {
    /// Reads them. Host names with a wildcard name no single client, and are passed over.
    ///
    /// # Errors
    /// The certificate cannot be read, names nobody, or names two workloads.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, Nameless> {
        let certificate = webpki::EndEntityCert::try_from(certificate).map_err(|_| Nameless::Unreadable)?;
        let mut names: Vec<Name> = certificate
            .valid_uri_names()
            .filter(|uri| uri.starts_with("spiffe://") && uri.chars().all(|c| c.is_ascii_graphic()))
            .take(MAX_NAMES)
            .map(|uri| Name::Spiffe(uri.to_owned()))
            .collect();
        // SPIFFE X.509-SVID, 2: one URI name, no more. With several, which one speaks?
        if names.len() > 1 {
            return Err(Nameless::SeveralIds);
        }
        let mut hosts: Vec<String> = certificate
            .valid_dns_names()
            .filter(|host| !host.contains('*'))
            .take(MAX_NAMES)
            .map(str::to_ascii_lowercase)
            .collect();
        hosts.sort();
        names.extend(hosts.into_iter().map(Name::Dns));
        if names.is_empty() {
            return Err(Nameless::Nobody);
        }
        Ok(Self(names))
    }

    /// All names.
    pub fn all(&self) -> &[Name] {
        &self.0
    }

    /// Whom requests count for.
    pub fn owner(&self) -> Owner {
        Owner(Sha256::digest(self.to_string()).into())
    }
}

/// Which client this certificate is of; none, if it names nobody.
pub fn owner(certificate: &CertificateDer<'static>) -> Option<Owner> {
    Names::of(certificate).ok().map(|names| names.owner())
}

/// When this certificate ends, in Unix seconds; none, if that cannot be read.
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    i64::try_from(certificate.tbs_certificate.validity.not_after.to_unix_duration().as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_forms_of_time() {
        for (year, seconds) in [(2030, 1_893_456_000), (2075, 3_313_526_400)] {
            let mut params = CertificateParams::new(vec!["a.corp".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            assert_eq!(not_after(certificate.der()), Some(seconds));
        }
        assert_eq!(not_after(&CertificateDer::from(vec![0x30, 0])), None);
    }
}
