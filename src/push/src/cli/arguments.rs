//! The arguments that several commands share, and the rule by which `push prod` means
//! `push deploy prod`. A command's own arguments stand in the command's file.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, Args, Command};

use crate::desired::Applying;
use crate::inventory::{DURATION_MAX, QuantityError, duration};
use crate::report::{Form, Verbosity};

/// What clap calls the folder to work in.
const DIRECTORY: &str = "directory";

/// Arguments that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Work as if started in this folder
    #[arg(short = 'C', long = "directory", id = DIRECTORY, value_name = "DIR", global = true)]
    pub directory: Option<PathBuf>,

    /// Answer in JSON lines on stdout
    #[arg(long, global = true)]
    pub json: bool,

    /// Tell more: -v every step with its time, -vv frames and logins, -vvv everything
    #[arg(short, long, action = ArgAction::Count, global = true, conflicts_with = "quiet")]
    pub verbose: u8,

    /// Tell only the answer and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// Which hosts of which environment.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// The environment: its inventory is inventory/ENVIRONMENT.toml
    #[arg(value_name = "ENVIRONMENT")]
    pub environment: Option<String>,

    /// Only these hosts: names, tags, patterns; "!" takes away [repeatable]
    #[arg(short, long, value_name = "SELECTOR")]
    pub limit: Vec<String>,

    /// Take the password for logins and sudo from this file and ask for none; "-" is stdin
    #[arg(long, value_name = "FILE")]
    pub password_from: Option<PathBuf>,
}

/// One host, for commands that are about exactly one.
#[derive(Debug, Clone, Args)]
pub struct OneHost {
    /// The host; its environment stands before it where several have a host of that name
    #[arg(value_name = "HOST", num_args = 1..=2, required = true)]
    words: Vec<String>,
}

impl OneHost {
    /// The environment, if it was named, and the host.
    pub fn words(&self) -> (Option<&str>, &str) {
        match self.words.as_slice() {
            [environment, host, ..] => (Some(environment), host),
            [host] => (None, host),
            [] => (None, ""),
        }
    }
}

/// How hosts are worked on.
#[derive(Debug, Clone, Copy, Args)]
pub struct Pace {
    /// How many hosts at once, instead of what the inventory says
    #[arg(short, long, value_name = "HOSTS", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub parallel: Option<u32>,
}

/// What is done about a host that another push holds.
#[derive(Debug, Clone, Copy, Args)]
pub struct Waiting {
    /// Wait until another push lets go of a host, at most so long: 90s, 10m; a mere number is seconds
    /// [without a time: 10m]
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        default_value = "0",
        default_missing_value = "10m",
        hide_default_value = true,
        require_equals = true,
        value_parser = time
    )]
    wait: Duration,
}

impl Waiting {
    /// How long a host that another push holds is waited for.
    pub fn patience(self) -> Duration {
        self.wait
    }
}

/// A time as the inventory writes it, or a mere number of seconds.
fn time(text: &str) -> Result<Duration, QuantityError> {
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds))
            .filter(|time| *time <= DURATION_MAX)
            .ok_or(QuantityError::TooLong),
        Err(_) => duration(text),
    }
}

/// What of the plan is applied.
#[derive(Debug, Clone, Copy, Args)]
pub struct Again {
    /// Apply all of it again, changed or not: releases are built anew, units restarted, the firewall and nginx
    /// loaded. Puts right what somebody changed on a host by hand
    #[arg(long)]
    again: bool,
}

impl Again {
    /// What is applied.
    pub fn applying(self) -> Applying {
        if self.again {
            Applying::Everything
        } else {
            Applying::Changes
        }
    }
}

/// Whether questions are asked.
#[derive(Debug, Clone, Copy, Args)]
pub struct Asking {
    /// Answer yes to every question, a protected environment's name included; never covers a lock, a host
    /// key that nobody knows or a host that changed since the plan
    #[arg(short, long)]
    pub yes: bool,
}

/// How hosts are brought to something else.
#[derive(Debug, Clone, Copy, Args)]
pub struct Manner {
    /// Whether questions are asked.
    #[command(flatten)]
    pub asking: Asking,
    /// How many hosts at once.
    #[command(flatten)]
    pub pace: Pace,
    /// How long a host that another push holds is waited for.
    #[command(flatten)]
    pub waiting: Waiting,
}

impl Common {
    /// In which form the answer is given.
    pub fn form(&self) -> Form {
        if self.json { Form::Json } else { Form::Text }
    }

    /// How much is told.
    pub fn verbosity(&self) -> Verbosity {
        match self.verbose {
            _ if self.quiet => Verbosity::Quiet,
            0 => Verbosity::Normal,
            1 => Verbosity::Info,
            2 => Verbosity::Debug,
            3.. => Verbosity::Trace,
        }
    }
}

/// Puts the verb `deploy` in front when the first word is not a verb: `push prod`, `push -n prod`.
/// Then that word is returned as well.
pub fn with_verb(command: &Command, arguments: Vec<OsString>) -> (Vec<OsString>, Option<String>) {
    let verbs: Vec<&str> = command
        .get_subcommands()
        .flat_map(Command::get_name_and_visible_aliases)
        .collect();
    match first_word(command, &arguments) {
        Some(word) if word != "help" && !verbs.contains(&word) => {
            let word = word.to_owned();
            let mut arguments = arguments;
            arguments.insert(1, "deploy".into());
            (arguments, Some(word))
        }
        Some(_) | None => (arguments, None),
    }
}

/// The folder to work in, of arguments that could not be parsed.
pub fn directory_of(command: &Command, arguments: &[OsString]) -> Option<PathBuf> {
    let mut rest = arguments
        .iter()
        .skip(1)
        .take_while(|argument| *argument != "--");
    while let Some(argument) = rest.next() {
        if let Some((flag, joined)) = valued(command, argument.to_str()?) {
            let value = joined.map(PathBuf::from);
            let value = value.or_else(|| rest.next().map(PathBuf::from));
            if flag.get_id() == DIRECTORY {
                return value;
            }
        }
    }
    None
}

/// The first argument that is neither a flag nor a flag's value.
fn first_word<'a>(command: &Command, arguments: &'a [OsString]) -> Option<&'a str> {
    let mut rest = arguments.iter().skip(1);
    while let Some(argument) = rest.next() {
        let text = argument.to_str()?;
        if text == "--" {
            return rest.next()?.to_str();
        } else if !text.starts_with('-') {
            return Some(text);
        } else if let Some((_, None)) = valued(command, text) {
            rest.next();
        }
    }
    None
}

/// The flag in a word that takes a value, and that value when it stands in the same word. Flags of `deploy`
/// count too, since they may stand before the environment. Of joined letters, the first that takes a value
/// takes the rest: `-lapp` is `-l app`, and `-nC dir` is `-n -C dir`.
fn valued<'a>(command: &'a Command, word: &'a str) -> Option<(&'a Arg, Option<&'a str>)> {
    let deploy = command.find_subcommand("deploy");
    let flags = command
        .get_arguments()
        .chain(deploy.into_iter().flat_map(Command::get_arguments))
        // A value that must follow a '=' is never the next word.
        .filter(|flag| flag.get_action().takes_values() && !flag.is_require_equals_set());
    let flags: Vec<&Arg> = flags.collect();
    if let Some(long) = word.strip_prefix("--") {
        let (name, value) = long
            .split_once('=')
            .map_or((long, None), |(name, value)| (name, Some(value)));
        let flag = flags.iter().find(|flag| flag.get_long() == Some(name))?;
        return Some((flag, value));
    }
    let letters = word.strip_prefix('-')?;
    letters.char_indices().find_map(|(at, letter)| {
        let flag = flags.iter().find(|flag| flag.get_short() == Some(letter))?;
        let joined = &letters[at + letter.len_utf8()..];
        let value = (!joined.is_empty()).then(|| joined.strip_prefix('=').unwrap_or(joined));
        Some((*flag, value))
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn completed(line: &str) -> String {
        let arguments = line.split(' ').map(OsString::from).collect();
        let words: Vec<String> = with_verb(&Cli::command(), arguments)
            .0
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect();
        words.join(" ")
    }

    #[test]
    fn an_environment_alone_means_deploy_wherever_the_flags_stand() {
        assert_eq!(completed("push prod"), "push deploy prod");
        assert_eq!(completed("push -n prod"), "push deploy -n prod");
        assert_eq!(
            completed("push -l web1 prod -y"),
            "push deploy -l web1 prod -y"
        );
        assert_eq!(completed("push -yl web1 prod"), "push deploy -yl web1 prod");
        assert_eq!(
            completed("push -C dir --parallel 3 prod"),
            "push deploy -C dir --parallel 3 prod"
        );
        assert_eq!(
            completed("push --limit=web1 prod"),
            "push deploy --limit=web1 prod"
        );
        assert_eq!(completed("push -- prod"), "push deploy -- prod");
        assert_eq!(
            completed("push --wait prod --yes"),
            "push deploy --wait prod --yes"
        );
    }

    #[test]
    fn a_value_that_is_joined_to_its_flag_takes_no_further_word() {
        for line in [
            "-lapp prod",
            "-lC prod",
            "-nlpool prod",
            "-p3 prod",
            "-l=app prod",
            "-Cdir/l prod",
        ] {
            assert_eq!(
                completed(&format!("push {line}")),
                format!("push deploy {line}")
            );
        }
        assert_eq!(completed("push -lapp plan prod"), "push -lapp plan prod");
    }

    #[test]
    fn the_folder_is_found_in_what_cannot_be_parsed() {
        let found = |line: &str| {
            let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            directory_of(&Cli::command(), &arguments)
        };
        for line in [
            "push -C dir plann prod",
            "push plann prod -C dir",
            "push plann -vC dir prod",
            "push plann prod -Cdir",
            "push plann prod --directory dir",
            "push plann prod --directory=dir",
            "push plann -lC prod -C dir",
            "push plann -lpC -C=dir prod",
        ] {
            assert_eq!(found(line), Some("dir".into()), "{line}");
        }
        assert_eq!(found("push plann prod"), None);
        assert_eq!(found("push plann -- -C dir"), None);
        assert_eq!(found("push plann -lC prod"), None);
    }

    #[test]
    fn a_wait_is_told_in_seconds_or_as_the_inventory_tells_times() {
        let waited = |flag: &str| {
            let words = ["push", "deploy", "prod", flag];
            let found = Cli::command().try_get_matches_from(words).ok()?;
            let (_, found) = found.subcommand()?;
            found.get_one::<Duration>("wait").map(Duration::as_secs)
        };
        assert_eq!(waited("--wait=90"), Some(90));
        assert_eq!(waited("--wait=1h30m"), Some(5400));
        assert_eq!(waited("--wait"), Some(600));
        assert_eq!(waited("--yes"), Some(0));
        assert_eq!(waited("--wait=25h"), None);
        assert_eq!(waited("--wait=86401"), None);
        assert_eq!(waited("--wait=soon"), None);
    }

    #[test]
    fn a_verb_stays_a_verb_and_no_word_stays_no_word() {
        for line in [
            "push plan prod",
            "push -C dir status prod",
            "push -v plan prod",
            "push help plan",
            "push",
            "push --version",
        ] {
            assert_eq!(completed(line), line);
        }
    }
}
