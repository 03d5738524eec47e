//! `doorward schema` and `doorward completion`.

use std::{fmt, io::Write as _, process::ExitCode};

use clap::CommandFactory as _;
use doorward_policy_compiler::document::{Kind, schema};
use serde_json::{Map, Value};

/// Print the reference of policy documents.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:\n  doorward schema > policy-reference.md\n  \
    doorward schema --format json --kind AccessRole > access-role.schema.json\n\n\
    EXIT CODES:\n  0  printed\n  2  the command line is wrong")]
pub struct SchemaArgs {
    /// Markdown for people, or JSON Schema (2020-12) of the `spec`s for editors.
    #[arg(long, value_enum, default_value_t = SchemaFormat::Markdown)]
    format: SchemaFormat,
    /// Only this kind (JSON).
    #[arg(long, value_parser = kind, requires = "format")]
    kind: Option<Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SchemaFormat {
    Markdown,
    Json,
}

/// Text that names no kind.
#[derive(Debug, Clone, Copy)]
struct NoKind;

impl fmt::Display for NoKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        write!(f, "use one of {}", names.join(", "))
    }
}

impl std::error::Error for NoKind {}

fn kind(text: &str) -> Result<Kind, NoKind> {
    Kind::ALL.iter().copied().find(|kind| kind.as_str() == text).ok_or(NoKind)
}

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:\n  doorward completion bash > /etc/bash_completion.d/doorward\n  \
    doorward completion zsh > ~/.zfunc/_doorward\n  \
    doorward completion fish > ~/.config/fish/completions/doorward.fish\n\n\
    EXIT CODES:\n  0  printed\n  2  the command line is wrong")]
pub struct CompletionArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Runs `schema`.
pub fn schema(args: SchemaArgs) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match (args.format, args.kind) {
        (SchemaFormat::Markdown, _) => out.write_all(schema::reference_markdown().as_bytes())?,
        (SchemaFormat::Json, Some(kind)) => writeln!(out, "{:#}", schema::spec_schema(kind))?,
        (SchemaFormat::Json, None) => {
            let all: Map<String, Value> =
                Kind::ALL.iter().map(|kind| (kind.to_string(), schema::spec_schema(*kind))).collect();
            writeln!(out, "{:#}", Value::Object(all))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `completion`.
pub fn completion(args: CompletionArgs) -> anyhow::Result<ExitCode> {
    // Generated in memory: the generator panics where standard output is closed.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "doorward", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
