//! `doorward key`: API keys, of which the policy knows the hash only.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use doorward_policy_compiler::document::{self, API_VERSION, Document, Kind, Spec};
use rand::TryRngCore as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    output::{clean, hex},
    sources, values,
};
use crate::{
    clock,
    source::{
        Unread,
        directory::{self, Directory},
    },
};

/// Create and revoke API keys.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a new key and its AccessKey document.
    Create(CreateArgs),
    /// Set `revoked: true` in the document of a key.
    Revoke(RevokeArgs),
}

/// Make a new key and its AccessKey document.
///
/// The key is printed once and stored nowhere: the document holds its SHA-256. A client sends it in the header
/// x-doorward-key. Rotate by creating a second key for the same role and revoking the first.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:\n  \
    doorward key create --name etl-2026 --role etl --expires 90d --network 10.0.0.0/8 \\\n    \
    --write policies/keys.yaml\n  \
    doorward key create --name report-bot --role reporting --tenant acme --agent report-bot\n\n\
    With --write, standard output has the key alone; without it, the document follows after a line `---`.\n\n\
    EXIT CODES:\n  0  created\n  1  errors; no key was made\n  2  the command line is wrong")]
struct CreateArgs {
    /// Name of the AccessKey.
    #[arg(long)]
    name: String,
    /// The AccessRole that it holds.
    #[arg(long)]
    role: String,
    /// Tenant that it stands for.
    #[arg(long)]
    tenant: Option<String>,
    /// How long it is valid [default: until it is revoked].
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    expires: Option<std::time::Duration>,
    /// Network that it may come from, in CIDR notation; may be repeated.
    #[arg(long, value_name = "CIDR")]
    network: Vec<String>,
    /// Host that it may be used for; may be repeated.
    #[arg(long)]
    host: Vec<String>,
    /// Agent that it identifies.
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Add the document to this file (created if it does not exist) instead of printing it.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// Set `revoked: true` in the document of a key.
///
/// The rest of the file stays as it is, comments included, and the file is replaced in one step. A running
/// `doorward serve` on this directory pushes the change within a second.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:\n  doorward key revoke etl-2026 --policies policies/\n\n\
    EXIT CODES:\n  0  revoked, or was already\n  1  errors; nothing was changed\n  2  the command line is wrong")]
struct RevokeArgs {
    /// Name of the AccessKey.
    name: String,
    /// The policy directory.
    #[arg(long, env = "DOORWARD_POLICIES", value_name = "DIR")]
    policies: PathBuf,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Create(args) => create(args),
        Command::Revoke(args) => revoke(&args),
    }
}

fn create(args: CreateArgs) -> anyhow::Result<ExitCode> {
    let mut secret = [0_u8; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut secret).context("the system gives no randomness")?;
    let key = format!("dwk_{}", BASE64.encode(secret));
    // JSON strings are YAML strings, whatever is in them.
    let mut spec = vec![("hash", json!(format!("sha256:{}", hex(&Sha256::digest(&key))))), ("role", json!(args.role))];
    spec.extend(args.tenant.map(|tenant| ("tenant", json!(tenant))));
    if let Some(expires) = args.expires {
        let until = clock::now_seconds().saturating_add(i64::try_from(expires.as_secs()).unwrap_or(i64::MAX));
        let until = jiff::Timestamp::from_second(until).context("--expires lies too far away")?;
        spec.push(("notAfter", json!(until.to_string())));
    }
    if !args.network.is_empty() {
        spec.push(("networks", json!(args.network)));
    }
    if !args.host.is_empty() {
        spec.push(("hosts", json!(args.host)));
    }
    spec.extend(args.agent.map(|agent| ("agent", json!(agent))));
    let mut yaml =
        format!("apiVersion: {API_VERSION}\nkind: AccessKey\nmetadata:\n  name: {}\nspec:\n", json!(args.name));
    for (name, value) in spec {
        yaml.push_str(&format!("  {name}: {value}\n"));
    }
    let alone = document::parse_file("the new document", &yaml);
    if let Some(wrong) = alone.diagnostics.first() {
        bail!("{}", clean(&format!("{}: {}", wrong.path, wrong.message)));
    }
    let mut out = std::io::stdout().lock();
    let Some(path) = &args.write else {
        write!(out, "{key}\n---\n{yaml}")?;
        return Ok(ExitCode::SUCCESS);
    };
    let before = if path.exists() { sources::read(path)? } else { String::new() };
    let taken = document::parse_file(&path.to_string_lossy(), &before);
    if taken.documents.iter().any(|one| one.kind == Kind::AccessKey && one.name == args.name) {
        bail!("{} already has an AccessKey \"{}\"; choose another name", path.display(), clean(&args.name));
    }
    let glue = match before.as_str() {
        "" => "",
        text if text.ends_with('\n') => "---\n",
        _ => "\n---\n",
    };
    let after = format!("{before}{glue}{yaml}");
    if document::parse_file("", &after).documents.len() != taken.documents.len() + 1 {
        bail!("the document cannot be added to {} without breaking it; use a new file", path.display());
    }
    replace(path, &after)?;
    writeln!(out, "{key}")?;
    eprintln!("added AccessKey {} to {}; the key is not shown again", args.name, path.display());
    Ok(ExitCode::SUCCESS)
}

fn revoke(args: &RevokeArgs) -> anyhow::Result<ExitCode> {
    let shown = clean(&args.name);
    let mut found = Vec::new();
    for path in Directory::given(vec![args.policies.clone()])?.files()? {
        let text = match directory::read_file(&path) {
            Ok(text) => text,
            // There is no key in it.
            Err(Unread::Empty) => continue,
            Err(unread) => return Err(unread).with_context(|| format!("cannot read {}", path.display())),
        };
        let parsed = document::parse_file(&path.to_string_lossy(), &text);
        for (at, one) in parsed.documents.iter().enumerate() {
            if one.kind == Kind::AccessKey && one.name == args.name {
                found.push((path.clone(), text.clone(), parsed.documents.clone(), at));
            }
        }
    }
    let (path, text, documents, at) = match found.len() {
        0 => bail!("there is no AccessKey \"{shown}\" under {}; check the name", args.policies.display()),
        1 => found.remove(0),
        _ => bail!("AccessKey \"{shown}\" is defined more than once under {}; remove one", args.policies.display()),
    };
    let mut out = std::io::stdout().lock();
    let Some(Document { spec: Spec::AccessKey(key), line, .. }) = documents.get(at) else {
        bail!("AccessKey \"{shown}\" cannot be read; correct it first");
    };
    if key.revoked {
        writeln!(out, "AccessKey {shown} in {} is already revoked", path.display())?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(after) = edits(&text, *line).into_iter().find(|after| only_revokes(after, &documents, at)) else {
        bail!(
            "{}:{line} is written in a way that cannot be edited safely; set `revoked: true` in its spec by hand",
            path.display()
        );
    };
    replace(&path, &after)?;
    writeln!(out, "revoked AccessKey {shown} in {}", path.display())?;
    Ok(ExitCode::SUCCESS)
}

/// Ways to write `revoked: true` into the document that starts at this line. Which one is right, [`only_revokes`] says.
fn edits(text: &str, first: usize) -> Vec<String> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let with = |at: usize, line: &str, drop: usize| {
        let (before, after) = (lines.get(..at).unwrap_or_default(), lines.get(at + drop..).unwrap_or_default());
        format!("{}{line}{}", before.concat(), after.concat())
    };
    let mut edits = Vec::new();
    for (at, line) in lines.iter().enumerate().skip(first.saturating_sub(1)).take(200) {
        if let Some((before, after)) = line.split_once("revoked:")
            && let Some(rest) = after.trim_start().strip_prefix("false")
        {
            edits.push(with(at, &format!("{before}revoked: true{rest}"), 1));
        }
        if line.starts_with("spec:") {
            if let Some((before, after)) = line.split_once('{') {
                edits.push(with(at, &format!("{before}{{revoked: true, {}", after.trim_start()), 1));
            }
            let child =
                lines.iter().skip(at + 1).find(|line| !matches!(line.trim_start().chars().next(), None | Some('#')));
            let child = child.copied().unwrap_or("");
            let indent = child.get(..child.len() - child.trim_start().len()).unwrap_or("");
            let end = if line.ends_with("\r\n") { "\r\n" } else { "\n" };
            edits.push(with(at + 1, &format!("{indent}revoked: true{end}"), 0));
        }
    }
    edits
}

/// True if the edited text holds the same documents, but for this key being revoked.
fn only_revokes(after: &str, before: &[Document], at: usize) -> bool {
    let after = document::parse_file("", after).documents;
    after.len() == before.len()
        && after.iter().zip(before).enumerate().all(|(index, (new, old))| {
            let mut wanted = old.spec.clone();
            if let (Spec::AccessKey(key), true) = (&mut wanted, index == at) {
                key.revoked = true;
            }
            new.name == old.name && new.spec == wanted
        })
}

/// Replaces a file in one step, keeping its permissions; a reader sees the old text or the new.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    // A link stays a link: what it points to is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        if let Ok(about) = fs::metadata(&path) {
            file.set_permissions(about.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    };
    write()
        .inspect_err(|_| drop(fs::remove_file(&temporary)))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revoked(text: &str) -> Option<String> {
        let documents = document::parse_file("f", text).documents;
        let at = documents.iter().position(|one| one.name == "k").unwrap();
        edits(text, documents[at].line).into_iter().find(|after| only_revokes(after, &documents, at))
    }

    #[test]
    fn revoking_changes_one_line_and_keeps_the_rest() {
        let hash = format!("sha256:{}", "ab".repeat(32));
        let other = format!(
            "apiVersion: {API_VERSION}\nkind: AccessKey\nmetadata: {{ name: other }}\nspec:\n  hash: sha256:{}\n  role: r\n",
            "cd".repeat(32)
        );
        let head = "---\n# the key\nkind: AccessKey\nmetadata: { name: k }\n";
        let cases = [
            (format!("{head}spec:\n  # why\n  hash: {hash}\n  role: r # note\n"), "spec:\n  revoked: true\n  # why\n"),
            (
                format!("{head}spec:\n    hash: {hash}\n    revoked: false # not yet\n    role: r\n"),
                "    revoked: true # not yet\n",
            ),
            (format!("{head}spec: {{ hash: \"{hash}\", role: r }}\n"), "spec: {revoked: true, hash:"),
            (format!("{head}spec: {{ hash: \"{hash}\", role: r, revoked: false }}\n"), "role: r, revoked: true }"),
        ];
        for (document, expected) in cases {
            let text =
                format!("{other}{document}---\n{}", other.replace("name: other", "name: third").replace("cd", "ef"));
            let after = revoked(&text).unwrap();
            assert!(after.contains(expected), "{after}");
            assert!(after.starts_with(&other) && after.contains("# the key"), "{after}");
        }
    }
}
