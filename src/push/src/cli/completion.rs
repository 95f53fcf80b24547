//! `push completion`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Cli;
use crate::event::ExitCode;
use crate::report::Report;

/// Print a script that completes push's arguments in a shell
#[derive(Debug, clap::Args)]
pub struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub fn run(arguments: &Completion, report: &Report) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "push", &mut script);
    report.document(&String::from_utf8_lossy(&script));
    ExitCode::Done
}
