//! `push secret …`: one file a verb. Touches no host: what is changed here travels with the next push.
//!
//! | file | holds |
//! |---|---|
//! | [`place`] | which secrets of which environment; reading them, and changing them all or nothing |
//! | [`declare`] | the lines of the inventory that say who may open what, comments and order kept |
//! | [`kept`] | who opens a secret still after it was taken away |
//! | [`memory`] | a folder that no disk ever sees, for an editor |
//! | [`typed`] | values from stdin, from a prompt, or made up |
//! | the others | one verb each |

mod declare;
mod edit;
mod grant;
mod init;
mod kept;
mod list;
mod memory;
mod place;
mod rekey;
mod revoke;
mod rotate;
mod set;
mod show;
mod typed;
mod verify;

use std::path::Path;

use super::Stop;
use crate::event::ExitCode;
use crate::report::Report;

/// Make, change, show and share sealed secrets; touches no host
///
/// Secrets are age files below inventory/secrets, safe to commit. Who may open which is declared under
/// [secrets] in the inventory; secrets.lock beside the files says what each is and whom it is sealed to.
/// What changes here takes effect on hosts with the next push.
#[derive(Debug, clap::Args)]
#[command(subcommand_help_heading = "Verbs", subcommand_value_name = "VERB")]
pub struct Secret {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Init(init::Init),
    Set(set::Set),
    Edit(edit::Edit),
    Show(show::Show),
    List(list::List),
    Grant(grant::Grant),
    Revoke(revoke::Revoke),
    Rotate(rotate::Rotate),
    Rekey(rekey::Rekey),
    Verify(verify::Verify),
}

/// Finishes a change of secrets that was cut off, so that whoever reads them finds all files of one side.
pub fn settle(project: &Path) -> Result<(), Stop> {
    place::finish(project, place::Purpose::Look)
}

/// Does what the operator asked for.
pub fn run(arguments: &Secret, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    match &arguments.verb {
        Verb::Init(init) => init::run(init, folder, report),
        Verb::Set(set) => set::run(set, folder, report),
        Verb::Edit(edit) => edit::run(edit, folder, report),
        Verb::Show(show) => show::run(show, folder, report),
        Verb::List(list) => list::run(list, folder, report),
        Verb::Grant(grant) => grant::run(grant, folder, report),
        Verb::Revoke(revoke) => revoke::run(revoke, folder, report),
        Verb::Rotate(rotate) => rotate::run(rotate, folder, report),
        Verb::Rekey(rekey) => rekey::run(rekey, folder, report),
        Verb::Verify(verify) => verify::run(verify, folder, report),
    }
}
