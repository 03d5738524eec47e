//! `doorward identity check`: what each provider makes of a token, by the checks of the filter.

use std::{
    io::{Read as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use doorward_policy::{
    bundle::{Provider, Tables},
    identity::{Attribute, Examination, Examined, Principal, examine},
};
use serde_json::{Map, Value, json};

use super::{
    output::{BOLD, DIM, Format, GREEN, RED, YELLOW, clean, paint},
    sources::Sources,
    values,
};
use crate::host::LocalHost;

/// Bytes read of a token; one that is longer than the filter takes is told as such.
const MAX_BYTES: u64 = 1 << 20;

/// Questions about identity.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say what each IdentityProvider makes of a token, and why not.
    Check(CheckArgs),
}

/// Say what each IdentityProvider makes of a token, and why not.
///
/// Runs the filter's own checks, one by one, and goes on after the first that fails. Nothing is fetched: keys that are
/// at a URL are given with --jwks, and without them the signature is not checked. The token is never printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:\n  \
    pbpaste | doorward identity check - policies/\n  \
    doorward identity check @token.jwt policies/ --jwks corporate=jwks.json\n  \
    doorward identity check \"$TOKEN\" policies/ --at 2026-01-31T12:00:00Z --output json | jq '.providers[].steps'\n\n\
    EXIT CODES:\n  0  a provider accepts the token\n  1  errors\n  2  the command line is wrong\n  \
    3  refused, or not verified because the keys are not there")]
struct CheckArgs {
    /// The token; - reads it from standard input, @FILE from a file. Other users of this machine can see what stands on a
    /// command line.
    #[arg(value_name = "TOKEN")]
    token: String,
    /// Policy files and directories, or other sources as KIND:REST.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// JWK set of an IdentityProvider, for those that are fetched from a URL.
    #[arg(long, value_name = "PROVIDER=FILE", value_parser = values::pair)]
    jwks: Vec<(String, String)>,
    /// Check as of this time (RFC 3339), for a token that has expired since.
    #[arg(long, value_name = "TIME", value_parser = values::moment)]
    at: Option<i64>,
    /// Form of the answer.
    #[arg(long, visible_alias = "format", value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::Check(args) = args.command;
    // It would be told as a path that is not there.
    if args.paths.iter().any(|path| path.to_str().is_some_and(|text| text.starts_with("eyJ") && !path.exists())) {
        bail!(
            "a token stands where paths are expected; it comes first, and in quotes where it has a blank: \"Bearer TOKEN\""
        );
    }
    let token = read(&args.token)?;
    let sources = Sources::load(&args.paths, "default", &values::keys(args.jwks))?;
    if sources.errors() > 0 {
        sources.report();
        eprintln!("warning: documents with errors are left out of what follows");
    }
    let tables = sources.tables()?;
    if tables.providers().is_empty() {
        bail!("there is no IdentityProvider that is valid under the given paths");
    }
    let told = examine(&tables, &LocalHost::at(args.at), &token);
    let accepted = told.as_ref().is_ok_and(|told| judged(&tables, told).any(|(_, _, fate)| fate == Fate::Accepted));
    let mut out = std::io::stdout().lock();
    match (&told, args.output) {
        (Ok(told), Format::Text) => text(&tables, told)?,
        (Ok(told), Format::Json) => writeln!(out, "{:#}", as_json(&tables, told))?,
        (Err(denial), Format::Text) => {
            writeln!(out, "{} {}", paint(RED, "REFUSED"), denial.code.as_str())?;
            writeln!(out, "  {}", clean(&denial.detail))?;
        }
        (Err(denial), Format::Json) => {
            let answer =
                json!({"verdict": "refused", "code": denial.code.as_str(), "detail": denial.detail, "providers": []});
            writeln!(out, "{answer:#}")?;
        }
    }
    Ok(if accepted { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

/// The bare token, whatever it is wrapped in.
fn read(given: &str) -> anyhow::Result<String> {
    let bounded = |reader: &mut dyn std::io::Read, name: &str| {
        let mut text = String::new();
        reader
            .take(MAX_BYTES + 1)
            .read_to_string(&mut text)
            .with_context(|| format!("cannot read a token from {name}"))?;
        if text.len() as u64 > MAX_BYTES {
            bail!("{name} is longer than {MAX_BYTES} bytes; that is no token");
        }
        Ok(text)
    };
    let text = match given.strip_prefix('@') {
        Some(file) => {
            let mut opened = std::fs::File::open(file).with_context(|| format!("cannot read {file}"))?;
            bounded(&mut opened, file)?
        }
        None if given == "-" => bounded(&mut std::io::stdin(), "standard input")?,
        None => given.to_owned(),
    };
    let text = text.trim();
    let bare = match text.split_once(' ') {
        Some((scheme, token)) if scheme.trim_end_matches(':').eq_ignore_ascii_case("bearer") => token.trim(),
        _ => text,
    };
    if bare.is_empty() {
        bail!("there is no token; give it as an argument, as @FILE, or as - on standard input");
    }
    Ok(bare.to_owned())
}

/// What became of the token at one provider.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Accepted,
    Refused,
    /// Everything but the signature passed, for which there is no key here.
    Unverified,
}

impl Fate {
    fn as_str(self) -> &'static str {
        match self {
            Fate::Accepted => "accepted",
            Fate::Refused => "refused",
            Fate::Unverified => "unverified",
        }
    }
}

/// Providers in the order of the answer: the chosen one first.
fn judged<'t>(tables: &'t Tables, told: &'t Examination) -> impl Iterator<Item = (&'t Examined, &'t Provider, Fate)> {
    let mut all: Vec<_> = told.providers.iter().zip(tables.providers()).collect();
    all.sort_by_key(|(examined, _)| told.chosen.as_ref() != Some(&examined.provider));
    all.into_iter().map(|(examined, provider)| {
        let failed: Vec<_> = examined.steps.iter().filter(|step| !step.passed).map(|step| step.step).collect();
        let fate = match failed.as_slice() {
            [] => Fate::Accepted,
            ["key"] if provider.keys.is_empty() => Fate::Unverified,
            _ => Fate::Refused,
        };
        (examined, provider, fate)
    })
}

/// Verdict and sentence of a step, as far as they can be known here.
fn step<'s>(
    provider: &Provider,
    step: &'s doorward_policy::identity::Checked,
) -> (&'static str, std::borrow::Cow<'s, str>) {
    if step.step == "key" && !step.passed && provider.keys.is_empty() {
        let name = &provider.name;
        let sentence =
            format!("There are no keys here, so the signature was not checked; give them with --jwks {name}=FILE.");
        return ("unknown", sentence.into());
    }
    (if step.passed { "pass" } else { "deny" }, step.sentence.as_str().into())
}

fn text(tables: &Tables, told: &Examination) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let or = |text: &Option<String>| clean(text.as_deref().unwrap_or("(none)"));
    writeln!(
        out,
        "{}  alg {}  kid {}  typ {}  iss {}",
        paint(BOLD, "token"),
        clean(&told.algorithm),
        or(&told.kid),
        or(&told.typ),
        or(&told.issuer)
    )?;
    for (examined, provider, fate) in judged(tables, told) {
        let chosen = told.chosen.as_ref() == Some(&examined.provider);
        let style = match fate {
            Fate::Accepted => GREEN,
            Fate::Refused => RED,
            Fate::Unverified => YELLOW,
        };
        let name = paint(BOLD, &format!("IdentityProvider {}", examined.provider));
        let code = match (&examined.denial, fate) {
            (Some(denial), Fate::Refused) => format!(" {}", denial.code.as_str()),
            _ => String::new(),
        };
        writeln!(out, "{name}  {}{code}", paint(style, &fate.as_str().to_uppercase()))?;
        for each in &examined.steps {
            // Of a provider that is not asked, what would be wrong as well is enough.
            if each.passed && !chosen && told.chosen.is_some() {
                continue;
            }
            let (verdict, sentence) = step(provider, each);
            let style = match verdict {
                "pass" => GREEN,
                "deny" => RED,
                _ => YELLOW,
            };
            writeln!(out, "  {} {:<10} {}", paint(style, &format!("{verdict:<8}")), each.step, clean(&sentence))?;
        }
        let Some(principal) = examined.principal.as_ref().filter(|_| chosen) else { continue };
        let doubt = if fate == Fate::Accepted { "" } else { " (if it were accepted)" };
        writeln!(out, "  {}{}", paint(BOLD, "caller"), paint(DIM, doubt))?;
        for (name, value) in lines(principal) {
            writeln!(out, "    {name:<10} {}", clean(&value))?;
        }
    }
    Ok(())
}

/// The principal in lines; what it does not have is left out.
fn lines(principal: &Principal) -> Vec<(String, String)> {
    let list = |names: &[doorward_policy::Name]| names.iter().map(|name| &**name).collect::<Vec<_>>().join(", ");
    let mut out = vec![("user".to_owned(), principal.user.as_deref().unwrap_or_default().to_owned())];
    out.push(("groups".to_owned(), list(&principal.groups)));
    out.push(("tenant".to_owned(), principal.tenant.as_deref().unwrap_or_default().to_owned()));
    let agents: Vec<_> = principal.agents.iter().map(|agent| agent.name.clone()).collect();
    out.push(("agents".to_owned(), list(&agents)));
    out.push(("narrowed to".to_owned(), principal.delegated_roles.as_deref().map(list).unwrap_or_default()));
    for (name, value) in &principal.attributes {
        let value = match value {
            Attribute::One(value) => value.to_string(),
            Attribute::Many(values) => format!("[{}]", list(values)),
        };
        out.push((format!("{{user.{name}}}"), value));
    }
    out.retain(|(_, value)| !value.is_empty());
    out
}

fn as_json(tables: &Tables, told: &Examination) -> Value {
    let providers: Vec<Value> = judged(tables, told)
        .map(|(examined, provider, fate)| {
            let steps: Vec<Value> = examined
                .steps
                .iter()
                .map(|each| {
                    let (verdict, sentence) = step(provider, each);
                    json!({"step": each.step, "verdict": verdict, "sentence": sentence})
                })
                .collect();
            let denial = examined.denial.as_ref().filter(|_| fate == Fate::Refused);
            json!({
                "provider": &*examined.provider,
                "chosen": told.chosen.as_ref() == Some(&examined.provider),
                "verdict": fate.as_str(),
                "code": denial.map(|denial| denial.code.as_str()),
                "detail": denial.map(|denial| &denial.detail),
                "steps": steps,
                "principal": examined.principal.as_ref().map(principal),
            })
        })
        .collect();
    let best = judged(tables, told).find(|(examined, _, _)| told.chosen.as_ref() == Some(&examined.provider));
    json!({
        "verdict": best.map_or("refused", |(_, _, fate)| fate.as_str()),
        "algorithm": told.algorithm, "kid": told.kid, "type": told.typ, "issuer": told.issuer,
        "chosen": told.chosen.as_deref(), "providers": providers,
    })
}

fn principal(principal: &Principal) -> Value {
    let list = |names: &[doorward_policy::Name]| names.iter().map(|name| Value::from(&**name)).collect::<Value>();
    let attributes: Map<String, Value> = principal
        .attributes
        .iter()
        .map(|(name, value)| {
            let value = match value {
                Attribute::One(value) => Value::from(&**value),
                Attribute::Many(values) => list(values),
            };
            (name.to_string(), value)
        })
        .collect();
    let agents: Vec<Value> = principal.agents.iter().map(|agent| Value::from(&*agent.name)).collect();
    let token = principal.token.as_ref();
    json!({
        "user": principal.user.as_deref(), "groups": list(&principal.groups), "tenant": principal.tenant.as_deref(),
        "attributes": attributes, "agents": agents, "delegatedRoles": principal.delegated_roles.as_deref().map(list),
        "tokenSha256": token.map(|token| &*token.sha256),
        "issuedAt": token.map(|token| token.issued_at), "expiresAt": token.map(|token| token.expires_at),
    })
}
