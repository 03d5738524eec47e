//! An authority, and the certificates that it issues.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use std::{path::Path, time::Duration};

/// An authority of its own key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub pem: String,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// Another authority at every call.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key, as PEM, for these names: SPIFFE IDs or names of DNS. They are valid for a day.
    #[must_use]
    pub fn issue(&self, names: &[&str]) -> (String, String) {
        self.issue_for(names, Duration::from_secs(86_400))
    }

    /// As [`Self::issue`], valid for so long from now.
    #[must_use]
    pub fn issue_for(&self, names: &[&str], lifetime: Duration) -> (String, String) {
        let mut params = CertificateParams::default();
        let name = |name: &&str| match name.starts_with("spiffe://") {
            true => SanType::URI((*name).try_into().unwrap()),
            false => SanType::DnsName((*name).try_into().unwrap()),
        };
        params.subject_alt_names = names.iter().map(name).collect();
        params.distinguished_name.push(DnType::CommonName, "leaf");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + lifetime;
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// Writes `FILE.crt` and `FILE.key` for these names.
    pub fn write(&self, folder: &Path, file: &str, names: &[&str]) {
        let (certificate, key) = self.issue(names);
        std::fs::write(folder.join(format!("{file}.crt")), certificate).unwrap();
        std::fs::write(folder.join(format!("{file}.key")), key).unwrap();
    }
}
