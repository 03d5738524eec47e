//! `doorward dev`: tokens for development, signed with a key of one's own.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use p256::ecdsa::{Signature, SigningKey, signature::Signer as _};
use rand::TryRngCore as _;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::values;
use crate::clock;

/// Helpers for development.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a signed token with any claims. For development: whoever has the key file can be anyone.
    Token(TokenArgs),
}

/// Make a signed token with any claims. For development: whoever has the key file can be anyone.
///
/// The first call creates the key file. Trust its public half only where no real data is: put the output of --jwks into
/// the `jwks` of an IdentityProvider with the same issuer and audience.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:\n  doorward dev token --jwks > dev-jwks.json\n  \
    TOKEN=$(doorward dev token --user john@example.com --group support --claim region=EMEA)\n  \
    doorward dev token --user john@example.com --act assistant --scope 'role:support' --expires 5m\n\n\
    EXIT CODES:\n  0  printed\n  1  errors\n  2  the command line is wrong")]
struct TokenArgs {
    /// The private key (ES256, a JWK); created with mode 0600 if it does not exist.
    #[arg(long, env = "DOORWARD_DEV_KEY", value_name = "FILE", default_value = "doorward-dev-key.json")]
    key_file: PathBuf,
    /// Print the public key set instead of a token.
    #[arg(long)]
    jwks: bool,
    /// `iss`
    #[arg(long, value_name = "URL", default_value = "https://dev.doorward.local")]
    issuer: String,
    /// `aud`; may be repeated.
    #[arg(long, value_name = "NAME", default_value = "doorward")]
    audience: Vec<String>,
    /// `sub`
    #[arg(long, value_name = "NAME", required_unless_present = "jwks")]
    user: Option<String>,
    /// One of `groups`; may be repeated.
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    /// Any other claim; the value is JSON where it parses as such (`level=3`, `regions=["EMEA","APAC"]`), else text.
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::pair)]
    claim: Vec<(String, String)>,
    /// The agent that acts for the user (`act`); repeat for a chain, outermost first.
    #[arg(long, value_name = "AGENT")]
    act: Vec<String>,
    /// One of the scopes in `scope`; may be repeated.
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// How long it is valid.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = values::duration)]
    expires: Duration,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::Token(args) = args.command;
    let key = load(&args.key_file)?;
    let (public, kid) = public(&key)?;
    let mut out = std::io::stdout().lock();
    if args.jwks {
        writeln!(out, "{:#}", json!({"keys": [public]}))?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{}", sign(&key, &kid, &claims(&args)))?;
    Ok(ExitCode::SUCCESS)
}

fn claims(args: &TokenArgs) -> Value {
    let now = clock::now_seconds();
    let expires = now.saturating_add(i64::try_from(args.expires.as_secs()).unwrap_or(i64::MAX));
    let mut claims = Map::new();
    for (name, value) in &args.claim {
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.clone()));
        claims.insert(name.clone(), value);
    }
    let mut set = |name: &str, value: Value| drop(claims.insert(name.to_owned(), value));
    set("iss", json!(args.issuer));
    set("aud", if let [one] = args.audience.as_slice() { json!(one) } else { json!(args.audience) });
    set("iat", json!(now));
    set("exp", json!(expires));
    set("jti", json!(uuid::Uuid::new_v4().to_string()));
    if let Some(user) = &args.user {
        set("sub", json!(user));
    }
    if !args.group.is_empty() {
        set("groups", json!(args.group));
    }
    if !args.scope.is_empty() {
        set("scope", json!(args.scope.join(" ")));
    }
    let chain = args.act.iter().rev().fold(None, |inner, agent| {
        Some(match inner {
            None => json!({"sub": agent}),
            Some(inner) => json!({"sub": agent, "act": Value::clone(&inner)}),
        })
    });
    if let Some(chain) = chain {
        set("act", chain);
    }
    Value::Object(claims)
}

fn sign(key: &SigningKey, kid: &str, claims: &Value) -> String {
    let header = json!({"alg": "ES256", "typ": "JWT", "kid": kid});
    let input = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
    let signature: Signature = key.sign(input.as_bytes());
    format!("{input}.{}", BASE64.encode(signature.to_bytes()))
}

/// The public JWK and its RFC 7638 thumbprint.
fn public(key: &SigningKey) -> anyhow::Result<(Value, String)> {
    let point = key.verifying_key().to_encoded_point(false);
    let (Some(x), Some(y)) = (point.x(), point.y()) else { bail!("the key has no public point; make a new one") };
    let (x, y) = (BASE64.encode(x), BASE64.encode(y));
    let thumbprint = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    let kid = BASE64.encode(Sha256::digest(thumbprint));
    Ok((json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": "ES256", "use": "sig", "kid": kid}), kid))
}

fn load(path: &Path) -> anyhow::Result<SigningKey> {
    let shown = path.display();
    match fs::read_to_string(path) {
        Ok(text) => {
            let mode = fs::metadata(path)?.permissions().mode();
            if mode & 0o077 != 0 {
                bail!("others can read the key file {shown}; run chmod 600 {shown}");
            }
            let jwk: Value = serde_json::from_str(&text).ok().unwrap_or_default();
            let secret = jwk.get("d").and_then(Value::as_str).and_then(|d| BASE64.decode(d).ok());
            let key = secret.and_then(|secret| SigningKey::from_slice(&secret).ok());
            key.with_context(|| format!("{shown} holds no P-256 private key; remove it to get a new one"))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => create(path),
        Err(error) => Err(error).with_context(|| format!("cannot read the key file {shown}")),
    }
}

fn create(path: &Path) -> anyhow::Result<SigningKey> {
    let mut secret = [0_u8; 32];
    let key = loop {
        rand::rngs::OsRng.try_fill_bytes(&mut secret).context("the system gives no randomness")?;
        // All but about one in 2^32 numbers are below the curve's order.
        if let Ok(key) = SigningKey::from_slice(&secret) {
            break key;
        }
    };
    let (mut jwk, _) = public(&key)?;
    if let Value::Object(members) = &mut jwk {
        members.insert("d".into(), json!(BASE64.encode(secret)));
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot create the key file {}", path.display()))?;
    writeln!(file, "{jwk:#}").and_then(|()| file.sync_all()).context("cannot write the key file")?;
    eprintln!("created the development key {}; do not trust it where real data is", path.display());
    Ok(key)
}
