//! `doorward audit`: what a person asks of the audit log.
//!
//! * `args`: what tail and query are told
//! * `read`: tail and query
//! * `cursors`, `export`: named cursors, and what is delivered by them
//! * `follow`: a tail over lost connections
//! * `render`: records for people, and as JSON

mod args;
mod cursors;
mod export;
mod follow;
mod read;
mod render;

use std::process::ExitCode;

use anyhow::bail;

use self::{
    args::{QueryArgs, RecordFormat, TailArgs},
    render::Printer,
};
use super::connect::{self, block_on};

/// Read and export the audit log.
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
    /// Deliver records elsewhere, each at least once.
    Export(export::ExportArgs),
    /// See, make and remove the cursors of exports.
    #[command(subcommand)]
    Cursors(cursors::Command),
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
        // It ends itself by a signal, in order.
        Command::Export(args) => connect::block_on_all(export::run(&args))?,
        Command::Cursors(command) => block_on(cursors::run(&command))?,
    }
    Ok(ExitCode::SUCCESS)
}
