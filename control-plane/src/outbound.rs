//! What holds for every HTTP request to an identity provider: whom it may go to, and whom it trusts.

use std::{net::IpAddr, time::Duration};

use reqwest::{Client, Url};

/// An address that nothing is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// Plain HTTP to another machine.
    #[error("over https only (plain http is allowed from loopback, or with --insecure-jwks)")]
    PlainHttp,
    /// Neither HTTPS nor HTTP.
    #[error("over https, not by another scheme")]
    Scheme,
}

/// Whether a request may go to this address. `insecure`: plain HTTP may leave this machine.
///
/// # Errors
/// It may not.
pub fn allowed(url: &Url, insecure: bool) -> Result<(), Forbidden> {
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let loopback = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    match url.scheme() {
        "https" => Ok(()),
        "http" if loopback || insecure => Ok(()),
        "http" => Err(Forbidden::PlainHttp),
        _ => Err(Forbidden::Scheme),
    }
}

/// The proxy of the environment for HTTPS, which it only passes on (CONNECT). Empty variables are none.
fn secure_proxy(variable: impl Fn(&str) -> Option<String>) -> Option<reqwest::Result<reqwest::Proxy>> {
    let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let address = names.into_iter().filter_map(variable).find(|address| !address.is_empty())?;
    Some(reqwest::Proxy::https(address).map(|proxy| proxy.no_proxy(reqwest::NoProxy::from_env())))
}

/// A client that takes so long at most. `authorities`: additional roots, PEM.
///
/// # Errors
/// The authorities cannot be read, or TLS cannot be set up.
pub fn client(timeout: Duration, authorities: Option<&[u8]>) -> reqwest::Result<Client> {
    let mut client = Client::builder()
        .user_agent(concat!("doorward/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(5))
        .timeout(timeout)
        // A redirect would let one host name another as the authority over its tokens.
        .redirect(reqwest::redirect::Policy::none())
        // Plain HTTP is for this machine. Through a proxy of the environment it would leave it, and the proxy's answer count.
        .no_proxy();
    if let Some(proxy) = secure_proxy(|name| std::env::var(name).ok()) {
        client = client.proxy(proxy?);
    }
    if let Some(pem) = authorities {
        for certificate in reqwest::Certificate::from_pem_bundle(pem)? {
            client = client.add_root_certificate(certificate);
        }
    }
    client.build()
}
