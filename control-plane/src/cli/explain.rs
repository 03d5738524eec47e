//! `doorward explain`: one request, its decision, and why.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use doorward_policy::{
    decide::Verdict,
    engine::{self, Outcome},
    identity,
};
use doorward_policy_compiler::{
    document::common::{OneOrMany, Scalar},
    document::policy_test::TestIdentity,
};
use serde_json::{Value, json};

use super::{
    output::{BOLD, DIM, Format, GREEN, RED, YELLOW, clean, paint},
    question::{self, Answer, Asker, Request},
    sources::Sources,
    values,
};
use crate::host::LocalHost;

/// Say what policy would do with a request, and why.
///
/// Runs the same code as the filter in Envoy, on local documents. Either the request's own credentials are verified
/// (--token, or -H with an API key), or an identity is assumed (--as-user, --key-name and so on).
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:\n  \
    As John of support, read orders through the query language of the API:\n    \
    doorward explain policies/ --as-user john@example.com --group support --attribute region=EMEA \\\n      \
    https://data.example.com/api/v2/crm/_table/orders\n  \
    With a real token, verified against a downloaded key set:\n    \
    doorward explain policies/ --token \"$TOKEN\" --jwks corporate=jwks.json \\\n      \
    https://data.example.com/api/v2/crm/_table/orders\n  \
    A write through an agent:\n    \
    doorward explain policies/ --as-user john@example.com --agent assistant \\\n      \
    -X PATCH -d '{\"status\":\"open\"}' https://data.example.com/api/v2/crm/_table/orders/7\n\n\
    EXIT CODES:\n  0  allowed, rewritten or not\n  1  errors\n  2  the command line is wrong\n  3  denied")]
pub struct Args {
    /// Policy files and directories, or other sources as KIND:REST; then the URL.
    // One at a time: with a minimum here, clap wants it met anew on each side of an option between path and URL.
    #[arg(required = true, num_args = 1.., value_name = "PATH... URL")]
    paths_and_url: Vec<String>,
    /// HTTP method [default: GET, or POST with -d].
    #[arg(short = 'X', long, value_name = "METHOD")]
    request: Option<String>,
    /// A header; may be repeated.
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// The body; @FILE reads it from a file.
    #[arg(short = 'd', long, value_name = "BODY")]
    data: Option<String>,
    /// Address of the client, for API keys that are locked to networks.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    source: std::net::IpAddr,
    /// A token; its signature, times, issuer and audience are verified.
    #[arg(long, env = "DOORWARD_TOKEN", hide_env_values = true, value_name = "JWT")]
    token: Option<String>,
    /// JWK set of an IdentityProvider, for those that are fetched from a URL.
    #[arg(long, value_name = "PROVIDER=FILE", value_parser = values::pair)]
    jwks: Vec<(String, String)>,
    /// Let a request without any credential go on as unidentified, as a proxy does whose configuration says so.
    #[arg(long)]
    allow_unidentified: bool,
    /// Assume this user.
    #[arg(long, value_name = "NAME", conflicts_with = "token")]
    as_user: Option<String>,
    /// Assume this IdentityProvider.
    #[arg(long, value_name = "NAME", conflicts_with = "token")]
    provider: Option<String>,
    /// Assume this group; may be repeated. Token roles are written role:NAME.
    #[arg(long, value_name = "NAME", conflicts_with = "token")]
    group: Vec<String>,
    /// Assume this attribute; several of one name are a list.
    #[arg(long, value_name = "NAME=VALUE", conflicts_with = "token", value_parser = values::pair)]
    attribute: Vec<(String, String)>,
    /// Assume this claim, by its path; several of one name are a list.
    #[arg(long, value_name = "PATH=VALUE", conflicts_with = "token", value_parser = values::pair)]
    claim: Vec<(String, String)>,
    /// Assume this tenant.
    #[arg(long, value_name = "NAME", conflicts_with = "token")]
    tenant: Option<String>,
    /// Assume this agent acts for the user; repeat for a chain, outermost first.
    #[arg(long, value_name = "NAME", conflicts_with = "token")]
    agent: Vec<String>,
    /// Assume that the token narrows to this role; may be repeated.
    #[arg(long, value_name = "ROLE", conflicts_with = "token")]
    delegated_role: Vec<String>,
    /// Assume this API key, by the name of its AccessKey.
    #[arg(long, value_name = "NAME", conflicts_with = "token")]
    key_name: Option<String>,
    /// Ask for this role, as with the header x-doorward-role.
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// Form of the answer.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Args {
    fn question(&self, url: &str) -> anyhow::Result<Request> {
        let mut request = Request { source: self.source.to_string(), ..Request::default() };
        request.set_url(url)?;
        request.body = match self.data.as_deref().map(|data| (data, data.strip_prefix('@'))) {
            None => None,
            Some((_, Some(file))) => Some(std::fs::read(file).with_context(|| format!("cannot read {file}"))?),
            Some((text, None)) => Some(text.as_bytes().to_vec()),
        };
        let method = self.request.as_deref().unwrap_or(if self.data.is_some() { "POST" } else { "GET" });
        request.method = method.to_owned();
        for header in &self.header {
            let Some((name, value)) = header.split_once(':') else {
                bail!("a header given with -H has no colon; write it as 'Name: value'");
            };
            request.headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
        if let Some(token) = &self.token {
            request.headers.push(("authorization".into(), format!("Bearer {}", token.trim())));
        }
        if let Some(role) = &self.role {
            request.headers.push((engine::ROLE_HEADER.into(), role.clone()));
        }
        request.describe_body();
        Ok(request)
    }

    fn asker(&self) -> Asker {
        let many = |pairs: &[(String, String)]| {
            let mut map = std::collections::BTreeMap::<String, Vec<Scalar>>::new();
            for (name, value) in pairs {
                map.entry(name.clone()).or_default().push(Scalar::Text(value.clone()));
            }
            map.into_iter().map(|(name, values)| (name, OneOrMany::Many(values))).collect()
        };
        let identity = TestIdentity {
            user: self.as_user.clone(),
            provider: self.provider.clone(),
            groups: self.group.clone(),
            tenant: self.tenant.clone(),
            attributes: many(&self.attribute),
            claims: many(&self.claim),
            agents: self.agent.clone(),
            delegated_roles: (!self.delegated_role.is_empty()).then(|| self.delegated_role.clone()),
            key: self.key_name.clone(),
            token: None,
            mesh: None,
        };
        if identity == TestIdentity::default() { Asker::Credentials } else { Asker::As(Box::new(identity)) }
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Some((url, paths)) = args.paths_and_url.split_last().filter(|(_, paths)| !paths.is_empty()) else {
        bail!("give the paths of the policy first, then the URL of the request");
    };
    let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    let sources = Sources::load(&paths, "default", &values::keys(args.jwks.clone()))?;
    if sources.errors() > 0 {
        sources.report();
        eprintln!("warning: documents with errors are left out of what follows");
    }
    let mut settings = engine::Settings { tokenization_key: true, ..engine::Settings::default() };
    if args.allow_unidentified {
        settings.identity.unidentified = identity::Unidentified::Allow;
    }
    let request = args.question(url)?;
    let answer = question::ask(&sources.tables()?, &LocalHost::default(), &settings, &args.asker(), &request)?;
    if args.format == Format::Json {
        writeln!(std::io::stdout(), "{:#}", as_json(&sources, &request, &answer))?;
    } else {
        text(&sources, &request, &answer)?;
    }
    Ok(if answer.denial().is_some() { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

/// Values of credentials are not repeated.
fn headers_upstream(request: &Request, answer: &Answer) -> Vec<(String, String)> {
    let Some(rewrite) = answer.rewrite() else { return Vec::new() };
    let secret = identity::Settings::default();
    let mut headers: Vec<(String, String)> = request
        .headers
        .iter()
        .filter(|(name, _)| {
            !rewrite.remove_headers.contains(name) && !rewrite.set_headers.iter().any(|(n, _)| n == name)
        })
        .map(|(name, value)| {
            let hidden = secret.credential_headers().any(|credential| credential == name);
            (name.clone(), if hidden { "(credential)".to_owned() } else { value.clone() })
        })
        .collect();
    if let (Some(body), Some(length)) = (&rewrite.body, headers.iter_mut().find(|(name, _)| name == "content-length")) {
        length.1 = body.len().to_string();
    }
    headers.extend(rewrite.set_headers.iter().cloned());
    headers
}

fn text(sources: &Sources, request: &Request, answer: &Answer) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let record = &answer.verdict.record;
    match (&answer.verdict.outcome, answer.outcome()) {
        (Outcome::Deny(denial), _) => {
            writeln!(out, "{} {} ({})", paint(RED, "DENY"), denial.code.as_str(), denial.code.status())?;
            writeln!(out, "  {}", clean(&denial.detail))?;
        }
        (_, "rewrite") => writeln!(out, "{}", paint(YELLOW, "REWRITE"))?,
        _ => writeln!(out, "{}", paint(GREEN, "ALLOW"))?,
    }
    if let Some(decision) = record.decision.as_ref().filter(|decision| !decision.would.is_empty()) {
        writeln!(out, "  shadow: {} {}", decision.would, decision.would_code)?;
    }
    if !record.role.is_empty() {
        writeln!(out, "{} {}", paint(BOLD, "role"), clean(&record.role))?;
    }
    for operation in &record.operations {
        writeln!(out, "{} {} {}", paint(BOLD, "operation"), operation.verb, clean(&operation.component))?;
        let lines = [
            ("visible", operation.visible.join(", ")),
            ("masked", operation.masked.join(", ")),
            ("rows", operation.rows.clone()),
            ("check", operation.check.clone()),
            ("max rows", if operation.max_rows == 0 { String::new() } else { operation.max_rows.to_string() }),
        ];
        for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
            writeln!(out, "  {name:<9}{}", clean(value))?;
        }
    }
    if answer.denial().is_none() {
        writeln!(out, "{}", paint(BOLD, "sent upstream"))?;
        writeln!(out, "  {} {}{}", clean(&request.method), clean(&request.authority), clean(answer.path(request)))?;
        for (name, value) in headers_upstream(request, answer) {
            writeln!(out, "  {name}: {}", clean(&value))?;
        }
        if let Some(body) = answer.body(request) {
            writeln!(out, "\n  {}", clean(&String::from_utf8_lossy(body)))?;
        }
    }
    if !answer.trace.steps.is_empty() {
        writeln!(out, "{}", paint(BOLD, "why"))?;
    }
    for step in &answer.trace.steps {
        let style = match step.verdict {
            Verdict::Pass => GREEN,
            Verdict::Deny => RED,
            Verdict::Constrain => YELLOW,
            Verdict::Note => DIM,
        };
        let verdict = paint(style, &format!("{:<9}", step.verdict.as_str()));
        writeln!(out, "  {verdict} {:<11} {}", step.step, clean(&step.sentence))?;
        if let Some((file, line)) = sources.place(step.kind, &step.name, &step.path) {
            let at = if step.path.is_empty() { String::new() } else { format!(" {}", step.path) };
            writeln!(out, "{:23}{}", "", paint(DIM, &format!("{file}:{line} {} {}{at}", step.kind, step.name)))?;
        }
    }
    Ok(())
}

fn as_json(sources: &Sources, request: &Request, answer: &Answer) -> Value {
    let record = &answer.verdict.record;
    let steps: Vec<Value> = answer
        .trace
        .steps
        .iter()
        .map(|step| {
            let place = sources.place(step.kind, &step.name, &step.path);
            json!({
                "step": step.step, "verdict": step.verdict.as_str(), "sentence": step.sentence,
                "kind": step.kind, "name": &*step.name, "path": step.path,
                "file": place.as_ref().map(|(file, _)| file), "line": place.as_ref().map(|(_, line)| line),
            })
        })
        .collect();
    let upstream = answer.denial().is_none().then(|| {
        let headers: Vec<Value> = headers_upstream(request, answer)
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        json!({
            "method": request.method, "authority": request.authority, "path": answer.path(request), "headers": headers,
            "removedHeaders": answer.rewrite().map(|rewrite| &rewrite.remove_headers),
            "body": answer.body(request).map(String::from_utf8_lossy),
        })
    });
    json!({
        "decision": answer.outcome(),
        "code": answer.denial().map(|denial| denial.code.as_str()),
        "status": answer.denial().map(|denial| denial.code.status()),
        "detail": answer.denial().map(|denial| &denial.detail),
        "role": Some(&record.role).filter(|role| !role.is_empty()),
        "user": answer.principal.as_ref().and_then(|principal| principal.user.as_deref()),
        "would": record.decision.as_ref().map(|decision| &decision.would).filter(|would| !would.is_empty()),
        "operations": crate::audit::json::operations(record),
        "upstream": upstream,
        "trace": steps,
    })
}
