//! `doorward validate` and `doorward compile`.

use std::{collections::BTreeMap, io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use serde_json::json;

use super::{
    output::{self, Format, GREEN, RED, YELLOW, clean, hex, paint},
    presets,
    sources::{self, Sources},
    values,
};
use crate::private;

/// Check policy documents.
///
/// Reads every *.yaml and *.yml file under the paths and checks each document alone and against the others: names,
/// references, row filters typed against the declared fields. Nothing is fetched and no server is needed.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:\n  doorward validate policies/\n  \
    doorward validate policies/ --format json | jq '.diagnostics[].message'\n  \
    doorward validate policies/ --show\n\n\
    EXIT CODES:\n  0  no errors (there may be warnings)\n  1  errors\n  2  the command line is wrong")]
pub struct ValidateArgs {
    /// Files and directories, or other sources as KIND:REST.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Print each IdentityProvider as it stands after its preset. Keys given inline are left out.
    #[arg(long)]
    show: bool,
    /// Form of the answer.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Compile policy documents to a bundle.
///
/// The same documents always give the same bytes. The bundle is not signed: `doorward serve` signs what it pushes.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:\n  doorward compile policies/ -o bundle.bin\n  \
    doorward compile policies/ -o bundle.bin --jwks corporate=jwks.json\n\n\
    EXIT CODES:\n  0  written\n  1  a document has errors; nothing is written\n  2  the command line is wrong")]
pub struct CompileArgs {
    /// Files and directories, or other sources as KIND:REST.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Where to write the bundle.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Name of the set of services that these policies govern.
    #[arg(long, default_value = "default", value_name = "NAME")]
    scope: String,
    /// JWK set of an IdentityProvider, for those that are fetched from a URL.
    #[arg(long, value_name = "PROVIDER=FILE", value_parser = values::pair)]
    jwks: Vec<(String, String)>,
}

/// Runs `validate`.
pub fn validate(args: ValidateArgs) -> anyhow::Result<ExitCode> {
    let sources = Sources::load(&args.paths, "default", &BTreeMap::new())?;
    let mut out = std::io::stdout().lock();
    let errors = sources.errors();
    let found = &sources.compiled.diagnostics;
    let (documents, accepted) = (sources.documents.len(), sources.compiled.accepted.len());
    let shown = if args.show { presets::shown(&sources) } else { Vec::new() };
    if args.format == Format::Json {
        let mut answer = json!({
            "valid": errors == 0,
            "files": sources.files,
            "documents": documents,
            "accepted": accepted,
            "diagnostics": found.iter().map(sources::diagnostic).collect::<Vec<_>>(),
        });
        if let (true, Some(members)) = (args.show, answer.as_object_mut()) {
            members.insert("providers".to_owned(), shown.into_iter().collect::<serde_json::Map<_, _>>().into());
        }
        writeln!(out, "{answer:#}")?;
    } else {
        for (name, spec) in shown {
            let mut text = String::new();
            presets::yaml(&spec, 2, &mut text);
            writeln!(out, "# IdentityProvider {name}\nspec:")?;
            text.lines().try_for_each(|line| writeln!(out, "{}", clean(line)))?;
        }
        for one in found {
            let style = if one.is_error() { RED } else { YELLOW };
            writeln!(out, "{}", paint(style, &clean(&one.to_string())))?;
        }
        let counts = format!("{documents} documents in {} files", sources.files);
        let warnings = found.len() - errors;
        if errors == 0 {
            writeln!(out, "{}: {counts}, {warnings} warnings", paint(GREEN, "valid"))?;
        } else {
            writeln!(out, "{}: {counts}, {errors} errors, {warnings} warnings", paint(RED, "not valid"))?;
        }
    }
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs `compile`.
pub fn compile(args: CompileArgs) -> anyhow::Result<ExitCode> {
    let sources = Sources::load(&args.paths, &args.scope, &values::keys(args.jwks))?;
    sources.report();
    let errors = sources.errors();
    if errors > 0 {
        eprintln!("error: {errors} errors; {} is not written. Correct the documents first.", args.output.display());
        return Ok(ExitCode::FAILURE);
    }
    sources.tables()?;
    // A bundle may hold secrets of identity providers.
    private::rewrite(&args.output)
        .and_then(|mut file| file.write_all(&sources.compiled.bytes))
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    let bundle = &sources.compiled.bundle;
    let mut out = std::io::stdout().lock();
    writeln!(out, "digest  sha256:{}", hex(&sources.compiled.digest))?;
    writeln!(out, "size    {} bytes", sources.compiled.bytes.len())?;
    let counts = [
        ("providers", bundle.providers.len()),
        ("services", bundle.services.len()),
        ("roles", bundle.roles.len()),
        ("bindings", bundle.bindings.len()),
        ("keys", bundle.keys.len()),
        ("restrictions", bundle.restrictions.len()),
    ];
    let counts: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    writeln!(out, "holds   {}", counts.join(", "))?;
    if bundle.providers.iter().any(|provider| provider.keys.is_empty()) {
        let sentence =
            "a provider has no keys here, so its tokens would be refused; give them with --jwks PROVIDER=FILE";
        eprintln!("{}: {sentence}", output::paint(YELLOW, "warning"));
    }
    Ok(ExitCode::SUCCESS)
}
