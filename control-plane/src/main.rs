//! The `doorward` command. Everything it does lives in the library beside it.

use clap::Parser as _;

fn main() -> std::process::ExitCode {
    doorward::cli::Cli::parse().run()
}
