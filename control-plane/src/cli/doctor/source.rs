//! Where a dump comes from: a file, standard input, or a running Envoy. All of it is bounded.

use std::{collections::BTreeMap, io::Read as _, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use reqwest::{Client, StatusCode, Url};
use serde_json::Value;

use super::{
    dump::{Dump, Version},
    finding::Live,
    json::Node,
};
use crate::{outbound, regular};

/// Bytes of a dump. In memory it takes some twenty times as much while it is read.
const MAX_DUMP: u64 = 64 << 20;
/// Bytes of any other answer.
const MAX_ANSWER: u64 = 8 << 20;
/// For one answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A dump from a file; `-`: standard input.
///
/// # Errors
/// It cannot be read, or is no dump.
pub fn file(path: &Path) -> anyhow::Result<Dump> {
    let mut bytes = Vec::new();
    let name = if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() };
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(MAX_DUMP + 1).read_to_end(&mut bytes)
    } else {
        regular::open(path).and_then(|file| file.take(MAX_DUMP + 1).read_to_end(&mut bytes))
    };
    read.with_context(|| format!("cannot read {name}"))?;
    if bytes.len() as u64 > MAX_DUMP {
        bail!("{name} is longer than {MAX_DUMP} bytes");
    }
    Dump::parse(&bytes).with_context(|| format!("cannot check {name}"))
}

/// What an Envoy says at its admin interface.
///
/// # Errors
/// It does not answer, or not as Envoy does.
pub async fn admin(address: &str) -> anyhow::Result<(Dump, Live)> {
    let base = Url::parse(address).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(base) = base else {
        bail!("--admin is not an address such as http://127.0.0.1:15000");
    };
    if !base.username().is_empty() || base.password().is_some() {
        bail!("--admin takes no user and no password");
    }
    // Nothing chooses between ring and others otherwise, and an HTTP client cannot be made without.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = outbound::client(TIMEOUT, None).context("cannot set up HTTP")?;
    let (_, config) = get(&client, &base, "config_dump?include_eds", MAX_DUMP).await?;
    let mut dump = Dump::parse(&config).context("cannot check /config_dump")?;
    let (_, info) = get(&client, &base, "server_info", MAX_ANSWER).await?;
    let info: Value =
        serde_json::from_slice(&info).context("/server_info is not JSON; is this Envoy's admin address?")?;
    let info = Node::new(&info);
    dump.version = version(info.get("version").text()).or(dump.version);
    let (ready, _) = get(&client, &base, "ready", MAX_ANSWER).await?;
    let (_, stats) = get(&client, &base, "stats?filter=^wasm", MAX_ANSWER).await?;
    let live = Live {
        ready: ready == StatusCode::OK,
        stats: statistics(&String::from_utf8_lossy(&stats)),
        workers: info.at(&["command_line_options", "concurrency"]).number().unwrap_or(1),
    };
    Ok((dump, live))
}

async fn get(client: &Client, base: &Url, path: &str, most: u64) -> anyhow::Result<(StatusCode, Vec<u8>)> {
    let url = base.join(path).with_context(|| format!("--admin cannot have /{path} appended"))?;
    let asked = format!("cannot read /{path} of --admin");
    let mut answer = client.get(url).send().await.map_err(reqwest::Error::without_url).context(asked.clone())?;
    let status = answer.status();
    if status != StatusCode::OK && path != "ready" {
        bail!("{asked}: the answer was status {}", status.as_u16());
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url).context(asked.clone())? {
        if (bytes.len() + chunk.len()) as u64 > most {
            bail!("{asked}: the answer is longer than {most} bytes");
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok((status, bytes))
}

/// `COMMIT/1.40.0/Clean/RELEASE/BoringSSL`
fn version(text: &str) -> Option<Version> {
    let number = text.split('/').nth(1)?;
    let mut parts = number.split(['.', '-']).map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

/// Counters and gauges, one a line; histograms are left out.
fn statistics(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (name, value) = line.rsplit_once(": ")?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_statistics_are_read_as_envoy_writes_them() {
        assert_eq!(version("9e55/1.40.0/Clean/RELEASE/BoringSSL"), Some((1, 40, 0)));
        assert_eq!(version("9e55/1.36.3-dev/Clean/RELEASE/BoringSSL"), Some((1, 36, 3)));
        assert_eq!(version("1.40.0"), None);
        let stats = statistics("wasmcustom.doorward.policy.epoch: 7\nwasmcustom.doorward.x: P0(1,1)\n");
        assert_eq!(stats.len(), 1);
        assert_eq!(stats["wasmcustom.doorward.policy.epoch"], 7);
    }
}
