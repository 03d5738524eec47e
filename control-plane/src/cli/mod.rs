//! The command line. One file per subcommand; each has `Args` and `run(args) -> anyhow::Result<ExitCode>`.

pub mod serve;

use std::process::ExitCode;

/// Fine-grained, audited access for agents and people to data APIs behind Envoy.
#[derive(Debug, clap::Parser)]
#[command(name = "doorward", version, about, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run the control plane: compile, sign and push policy; store and serve the audit log.
    Serve(serve::Args),
}

impl Cli {
    /// Runs the chosen subcommand. An error is printed as one sentence with its causes; the exit code is then 1.
    pub fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Serve(args) => serve::run(args),
        };
        match result {
            Ok(code) => code,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}
