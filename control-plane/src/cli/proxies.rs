//! `doorward proxies`: which proxy has which policy in force.

use std::{io::Write as _, process::ExitCode};

use comfy_table::{Table, presets};
use doorward_proto::v1::{
    Diagnostic, GetPolicyStatusRequest, ListProxiesRequest, ListProxiesResponse, PolicyStatus, ProxyStatus,
    admin_client::AdminClient,
};
use serde_json::{Value, json};
use tonic::{Code, Status, transport::Channel};

use super::{
    connect::{Connection, block_on, refused},
    output::{DIM, Format, GREEN, RED, YELLOW, clean, hex, paint, span, time},
};

/// How often the pages of a status are begun anew.
const ATTEMPTS: u32 = 5;

/// List the proxies and the policy that each has in force.
///
/// Before them comes what is wrong with the policy documents, as of their last reading.
/// A proxy that rejected the newest policy keeps its last good one; the reason is in the last column.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:\n  doorward proxies\n  \
    doorward proxies --format json | jq '.proxies[] | select(.current | not) | .node'\n  \
    doorward proxies --server https://doorward:7070 --ca ca.crt --cert me.crt --key me.key\n\n\
    EXIT CODES:\n  0  listed\n  1  the control plane cannot be reached\n  2  the command line is wrong")]
pub struct Args {
    /// Form of the answer.
    #[arg(long, value_enum, default_value_t = TableFormat::Table)]
    format: TableFormat,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum TableFormat {
    /// For people.
    #[value(alias = "text")]
    Table,
    /// One JSON value.
    Json,
}

impl From<TableFormat> for Format {
    fn from(format: TableFormat) -> Self {
        if format == TableFormat::Json { Format::Json } else { Format::Text }
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let answer: Option<(ListProxiesResponse, PolicyStatus)> = block_on(async {
        let mut client = AdminClient::new(args.connection.connect().await?);
        let answer = proxies(&mut client).await.map_err(|status| refused(&status))?;
        let status = diagnostics(&mut client).await.map_err(|status| refused(&status))?;
        Ok(Some((answer, status)))
    })?;
    let Some((answer, PolicyStatus { diagnostics, .. })) = answer else { return Ok(ExitCode::SUCCESS) };
    let mut out = std::io::stdout().lock();
    if Format::from(args.format) == Format::Json {
        let proxies: Vec<Value> = answer.proxies.iter().map(as_json).collect();
        let digest = hex(&answer.current_digest);
        let diagnostics: Vec<Value> = diagnostics.iter().map(diagnostic_as_json).collect();
        let all = json!({"currentDigest": digest, "currentEpoch": answer.current_epoch, "diagnostics": diagnostics,
            "proxies": proxies});
        writeln!(out, "{all:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "policy {} epoch {}", short(&answer.current_digest), answer.current_epoch)?;
    for found in &diagnostics {
        let style = if found.severity == "error" { RED } else { YELLOW };
        writeln!(out, "{}", paint(style, &clean(&diagnostic_as_text(found))))?;
    }
    if answer.proxies.is_empty() {
        writeln!(out, "No proxy has connected yet.")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["NODE", "SCOPE", "WORKERS", "DIGEST", "EPOCH", "LAG", "CONNECTED", "STATE", "LAST REJECTION"]);
    for proxy in &answer.proxies {
        table.add_row(row(proxy));
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// All pages of the proxies.
async fn proxies(client: &mut AdminClient<Channel>) -> Result<ListProxiesResponse, Status> {
    let mut all = ListProxiesResponse::default();
    loop {
        let request = ListProxiesRequest { page_size: 0, page_token: all.next_page_token };
        let page = client.list_proxies(request).await?.into_inner();
        all.proxies.extend(page.proxies);
        all = ListProxiesResponse { proxies: all.proxies, ..page };
        if all.next_page_token.is_empty() {
            return Ok(all);
        }
    }
}

/// All pages of the state of the documents that hold diagnostics; where they are read anew in between, from the start.
async fn diagnostics(client: &mut AdminClient<Channel>) -> Result<PolicyStatus, Status> {
    let (mut all, mut begun) = (PolicyStatus::default(), 0);
    loop {
        let request = GetPolicyStatusRequest { page_size: 0, page_token: all.next_page_token };
        let page = match client.get_policy_status(request).await {
            Ok(page) => page.into_inner(),
            Err(status) if status.code() == Code::Aborted && begun < ATTEMPTS => {
                (all, begun) = (PolicyStatus::default(), begun + 1);
                continue;
            }
            Err(status) => return Err(status),
        };
        // The documents follow the last diagnostic, and are not shown.
        let last = page.next_page_token.is_empty() || !page.documents.is_empty();
        all.diagnostics.extend(page.diagnostics);
        all = PolicyStatus { diagnostics: all.diagnostics, documents: Vec::new(), ..page };
        if last {
            return Ok(all);
        }
    }
}

/// What the last reading of the policies found wrong or doubtful.
fn diagnostic_as_text(found: &Diagnostic) -> String {
    let place = if found.file.is_empty() { String::new() } else { format!("{}:{}: ", found.file, found.line) };
    let subject = if found.name.is_empty() { String::new() } else { format!("{} {}: ", found.kind, found.name) };
    let path = if found.path.is_empty() { String::new() } else { format!("{}: ", found.path) };
    format!("{}: {place}{subject}{path}{} ({})", found.severity, found.message, found.code)
}

fn diagnostic_as_json(found: &Diagnostic) -> Value {
    json!({
        "severity": found.severity, "code": found.code, "kind": found.kind, "name": found.name, "file": found.file,
        "line": found.line, "path": found.path, "message": found.message,
    })
}

fn short(digest: &[u8]) -> String {
    if digest.is_empty() { "none".into() } else { hex(digest.get(..6).unwrap_or(digest)) }
}

fn row(proxy: &ProxyStatus) -> Vec<String> {
    let identity = proxy.proxy.clone().unwrap_or_default();
    let rejection = proxy.last_rejection.as_ref().map(|last| {
        let place = if last.path.is_empty() { String::new() } else { format!("{}: ", last.path) };
        format!("{} epoch {}: {place}{}", last.code, last.epoch, last.message)
    });
    let state = match (proxy.connected, proxy.current) {
        (false, _) => paint(DIM, "gone"),
        (true, true) => paint(GREEN, "current"),
        (true, false) if proxy.last_rejection.is_some() => paint(RED, "rejected"),
        (true, false) => paint(YELLOW, "behind"),
    };
    vec![
        clean(&identity.node),
        clean(&proxy.scope),
        identity.workers.to_string(),
        short(&proxy.digest),
        proxy.epoch.to_string(),
        span(proxy.lag_micros),
        if proxy.connected {
            time(proxy.connected_at_micros)
        } else {
            format!("no, last {}", time(proxy.last_seen_micros))
        },
        state,
        clean(&rejection.unwrap_or_default()),
    ]
}

fn as_json(proxy: &ProxyStatus) -> Value {
    let identity = proxy.proxy.clone().unwrap_or_default();
    let labels: serde_json::Map<String, Value> =
        identity.labels.into_iter().map(|label| (label.name, Value::String(label.value))).collect();
    json!({
        "node": identity.node, "cluster": identity.cluster, "build": identity.build, "workers": identity.workers,
        "labels": labels, "scope": proxy.scope, "digest": hex(&proxy.digest), "epoch": proxy.epoch,
        "lagMicros": proxy.lag_micros, "connected": proxy.connected, "current": proxy.current,
        "connectedAt": time(proxy.connected_at_micros), "lastSeen": time(proxy.last_seen_micros),
        "acknowledged": time(proxy.acknowledged_micros),
        "lastRejection": proxy.last_rejection.as_ref().map(|last| json!({
            "at": time(proxy.last_rejection_micros), "epoch": last.epoch, "digest": hex(&last.digest),
            "path": last.path, "code": last.code, "message": last.message,
        })),
    })
}
