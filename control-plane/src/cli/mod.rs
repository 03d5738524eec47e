//! The command line. One file per subcommand; each has `Args` and `run(args) -> anyhow::Result<ExitCode>`.

pub mod audit;
pub mod check;
pub mod connect;
pub mod dev;
pub mod doctor;
pub mod explain;
pub mod identity;
pub mod key;
pub mod output;
pub mod presets;
pub mod proxies;
pub mod question;
pub mod reference;
pub mod serve;
pub mod sources;
pub mod test;
pub mod values;

use std::process::ExitCode;

/// Fine-grained, audited access for agents and people to data APIs behind Envoy.
#[derive(Debug, clap::Parser)]
#[command(name = "doorward", version, about, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "EXIT CODES:\n  \
    0  done\n  1  errors: a document is not valid, a test failed, a server cannot be reached, an Envoy is not safe\n  \
    2  the command line is wrong\n  3  `explain`: the request is denied; `identity check`: the token is refused")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// When to use colour. NO_COLOR turns it off too.
    #[arg(long, global = true, value_enum, default_value_t = output::Color::Auto, value_name = "WHEN")]
    color: output::Color,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run the control plane: compile, sign and push policy; store and serve the audit log.
    Serve(serve::Args),
    /// Check policy documents.
    Validate(check::ValidateArgs),
    /// Compile policy documents to a bundle.
    Compile(check::CompileArgs),
    /// Say what policy would do with a request, and why.
    Explain(Box<explain::Args>),
    /// Say what each IdentityProvider makes of a token.
    Identity(identity::Args),
    /// Run the PolicyTest documents.
    Test(test::Args),
    /// Create and revoke API keys.
    Key(key::Args),
    /// List the proxies and the policy that each has in force.
    Proxies(proxies::Args),
    // Without a line here, --help shows all that its arguments say about it.
    Doctor(doctor::Args),
    /// Read and export the audit log.
    Audit(audit::Args),
    /// Helpers for development.
    Dev(dev::Args),
    /// Print the reference of policy documents.
    Schema(reference::SchemaArgs),
    /// Print a completion script for a shell.
    Completion(reference::CompletionArgs),
}

impl Cli {
    /// Runs the chosen subcommand. An error is printed as one sentence with its causes; the exit code is then 1. A
    /// reader that closes the pipe early (`| head`) is no error.
    pub fn run(self) -> ExitCode {
        output::choose(self.color);
        let result = match self.command {
            Command::Serve(args) => serve::run(args),
            Command::Validate(args) => check::validate(args),
            Command::Compile(args) => check::compile(args),
            Command::Explain(args) => explain::run(*args),
            Command::Identity(args) => identity::run(args),
            Command::Test(args) => test::run(args),
            Command::Key(args) => key::run(args),
            Command::Proxies(args) => proxies::run(args),
            Command::Doctor(args) => doctor::run(args),
            Command::Audit(args) => audit::run(args),
            Command::Dev(args) => dev::run(args),
            Command::Schema(args) => reference::schema(args),
            Command::Completion(args) => reference::completion(args),
        };
        match result {
            Ok(code) => code,
            Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}
