//! `doorward doctor`: whether an Envoy is configured as identity and safety need it.
//!
//! | module | does |
//! | --- | --- |
//! | [`source`] | reads a file, or asks a running Envoy |
//! | [`json`] | finds members of messages |
//! | [`dump`] | what of a dump matters, as plain types |
//! | [`plugin`] | our filter in a chain; its own configuration is read by the filter's own parser |
//! | [`finding`] | what rules are asked about, and what they answer |
//! | [`rules`] | every rule, in one table |
//! | [`report`] | the answer |

pub mod dump;
pub mod finding;
pub mod json;
pub mod plugin;
pub mod report;
pub mod rules;
pub mod source;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use self::{finding::Subject, report::Counts};
use super::{connect::block_on, output::Format};

/// Check that an Envoy is configured as identity and safety need it.
///
/// Reads a configuration dump, or asks a running Envoy at its admin address, and says what is wrong, where, and what to
/// do: whether every request comes through the filter, what can still change it afterwards, what a crash does, whom Envoy
/// believes, and whether the control plane can be reached. Asked live, it also looks at the version and at the filter's
/// metrics. Nothing is changed, and no secret is printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:\n  \
    doorward doctor --admin http://127.0.0.1:15000\n  \
    curl -s 'localhost:15000/config_dump?include_eds' | doorward doctor -\n  \
    istioctl proxy-config all POD -n NAMESPACE -o json | doorward doctor -\n  \
    doorward doctor dump.json --listener data --strict\n  \
    doorward doctor dump.json --allow host_rewritten --output json | jq '.findings[] | {code, place}'\n\n\
    EXIT CODES:\n  0  no errors (there may be warnings)\n  \
    1  errors; with --strict, warnings too; or there is no dump that can be read\n  2  the command line is wrong")]
pub struct Args {
    /// The dump; - reads it from standard input.
    #[arg(value_name = "FILE", required_unless_present = "admin", conflicts_with = "admin")]
    file: Option<PathBuf>,
    /// Ask this Envoy, at its admin address.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// A listener that must have the filter. Without this, one suffices, and others must not lead to the same clusters.
    #[arg(long, value_name = "NAME")]
    listener: Vec<String>,
    /// A code that does not count, because you want it so. It is still told.
    #[arg(long, value_name = "CODE", value_parser = code)]
    allow: Vec<String>,
    /// Let warnings fail too.
    #[arg(long)]
    strict: bool,
    /// Form of the answer.
    #[arg(long, visible_alias = "format", value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// A code that no rule has.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("there is no such code; the command prints them, and docs/operations.md lists them")]
struct NoCode;

fn code(text: &str) -> Result<String, NoCode> {
    let known = rules::RULES.iter().any(|rule| rule.code == text);
    if known { Ok(text.to_owned()) } else { Err(NoCode) }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (dump, live) = match (&args.file, &args.admin) {
        (Some(path), _) => (source::file(path)?, None),
        (None, address) => {
            let address = address.as_deref().unwrap_or_default();
            let Some((dump, live)) = block_on(async { Ok(Some(source::admin(address).await?)) })? else {
                return Ok(ExitCode::FAILURE);
            };
            (dump, Some(live))
        }
    };
    let subject = Subject::new(&dump, live.as_ref(), &args.listener);
    let findings = rules::examine(&subject, &args.allow);
    let mut out = std::io::stdout().lock();
    match args.output {
        Format::Text => report::text(&mut out, &subject, &findings)?,
        Format::Json => writeln!(out, "{:#}", report::as_json(&subject, &findings))?,
    }
    let Counts { errors, warnings } = Counts::of(&findings);
    Ok(if errors > 0 || (args.strict && warnings > 0) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
