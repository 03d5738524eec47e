//! `doorward audit`: what a person asks of the audit log.
//!
//! * `args`: what the commands are told
//! * `read`: tail and query
//! * `follow`: a tail over lost connections
//! * `render`: records for people, and as JSON

mod args;
mod follow;
mod read;
mod render;

use std::process::ExitCode;

use anyhow::bail;

use self::{
    args::{QueryArgs, RecordFormat, TailArgs},
    render::Printer,
};
use super::connect::block_on;

/// Read the audit log.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the newest records, and with --follow those that come.
    Tail(TailArgs),
    /// Search the log.
    Query(QueryArgs),
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Tail(args) if args.follow && args.common.format == RecordFormat::Json => {
            bail!("a log that goes on is no JSON array; use --format jsonl with --follow")
        }
        Command::Tail(args) => {
            let mut printer = Printer::new(args.common.format);
            block_on(read::tail(&args, &mut printer))?;
            printer.end()?;
        }
        Command::Query(args) => {
            let mut printer = Printer::new(args.common.format);
            block_on(read::query(&args, &mut printer))?;
            printer.end()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
