//! `push logs`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use push_wire::log::Excerpt;
use tokio::sync::mpsc::{Receiver, channel};

use super::arguments::{Pace, Target};
use super::environment::{Environment, shown};
use super::{Stop, reach, runtime, unanswered};
use crate::conversation::Presence;
use crate::event::{ExitCode, Outcome, VERSION, exit_code};
use crate::inventory::{Fleet, nearest};
use crate::name::{AppName, HostName, NameError, UnitName};
use crate::report::{Complaint, Report, logs};
use crate::rollout::{self, Access, Heard, Wanted, Whose};

/// How many parts of logs wait to be shown before the hosts wait.
const HEARD_MAX: usize = 64;

/// Show what apps say: the latest lines of their units in the log of each host
#[derive(Debug, clap::Args)]
pub struct Logs {
    #[command(flatten)]
    target: Target,
    /// Only these apps [default: all of the project]
    #[arg(value_name = "APP")]
    apps: Vec<String>,
    /// At most so many lines of each host
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    lines: u32,
    /// Go on with what comes, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Instead of apps: this unit, whoever declares it, such as nginx [repeatable]
    #[arg(long, value_name = "UNIT", conflicts_with = "apps")]
    unit: Vec<String>,
    /// Instead of apps: what push itself wrote there
    #[arg(long, conflicts_with_all = ["apps", "unit"])]
    push: bool,
    #[command(flatten)]
    pace: Pace,
}

/// Shows them.
pub fn run(arguments: &Logs, folder: &Path, report: &Report) -> Result<ExitCode, Stop> {
    let environment = Environment::read(&arguments.target, arguments.pace, folder)?;
    let wanted = Wanted {
        of: arguments.whose(&environment.fleet)?,
        lines: arguments.lines,
    };
    let teller = Teller::new(&environment, report);
    if arguments.follow {
        return runtime::run(async |interrupt| {
            let access = reach::access(&environment, Presence::AsFound, report, interrupt).await?;
            Ok(follow(access, wanted, &teller).await)
        });
    }
    let answers = runtime::run(async |interrupt| {
        let access = reach::access(&environment, Presence::AsFound, report, interrupt).await?;
        Ok(rollout::excerpts(access, wanted.clone()).await)
    })?;
    for (host, answer) in &answers {
        let Ok(present) = answer else { continue };
        teller.tell(host, &present.answer);
        if present.answer.lines.is_empty() {
            let asked = wanted.source(&present.hello.manifest);
            report.say(&logs::nothing(host.as_str(), &asked));
        }
    }
    Ok(unanswered::tell(&answers, &environment, report))
}

impl Logs {
    fn whose(&self, fleet: &Fleet) -> Result<Whose, Stop> {
        if self.push {
            return Ok(Whose::Push);
        }
        if !self.unit.is_empty() {
            let units: Result<BTreeSet<UnitName>, Stop> =
                self.unit.iter().map(|word| unit(word)).collect();
            return Ok(Whose::Units(units?));
        }
        let apps: Result<BTreeSet<AppName>, Stop> =
            self.apps.iter().map(|word| app(fleet, word)).collect();
        Ok(Whose::Project(fleet.project.clone(), apps?))
    }
}

/// A unit without its kind is a service, as systemctl(1) has it.
fn unit(word: &str) -> Result<UnitName, Stop> {
    let whole = if word.contains('.') {
        word.to_owned()
    } else {
        format!("{word}.service")
    };
    whole.parse().map_err(|error: NameError| {
        Stop::usage(Complaint::of(&error).help("name a unit, such as nginx or backup.timer"))
    })
}

fn app(fleet: &Fleet, word: &str) -> Result<AppName, Stop> {
    let known = fleet.apps.keys().find(|app| app.as_str() == word);
    known.cloned().ok_or_else(|| {
        let names: Vec<&str> = fleet.apps.keys().map(AppName::as_str).collect();
        let guess = nearest(word, &names).map(|near| format!("; did you mean `{near}`?"));
        let environment = &fleet.environment;
        let what = format!("the environment {environment} has no app {}", shown(word));
        Stop::usage(
            Complaint::new(what + &guess.unwrap_or_default()).help(format!(
                "it has: {}; without a name, `push logs {environment}` shows all that is on the hosts",
                names.join(", ")
            )),
        )
    })
}

/// Shows what comes, and each host that is lost as soon as it is.
async fn follow(access: Arc<Access>, wanted: Wanted, teller: &Teller<'_>) -> ExitCode {
    let (sender, receiver) = channel(HEARD_MAX);
    let ((), ended) = tokio::join!(
        rollout::follow(access, wanted, sender),
        hear(receiver, teller)
    );
    exit_code(ended.iter())
}

async fn hear(mut heard: Receiver<(HostName, Heard)>, teller: &Teller<'_>) -> Vec<Outcome> {
    let mut ended = vec![];
    while let Some((host, part)) = heard.recv().await {
        match part {
            Heard::Lines(excerpt) => teller.tell(&host, &excerpt),
            Heard::Ended(outcome) => {
                unanswered::tell_one((&host, &outcome), teller.environment, teller.report);
                ended.push(outcome);
            }
        }
        if !teller.report.is_heard() {
            break;
        }
    }
    ended
}

/// Shows parts of logs.
struct Teller<'a> {
    environment: &'a Environment,
    report: &'a Report,
    /// How wide hosts' names are, where there are several.
    width: Option<usize>,
}

impl<'a> Teller<'a> {
    fn new(environment: &'a Environment, report: &'a Report) -> Self {
        let widths = environment.hosts.iter().map(|host| host.as_str().len());
        Self {
            environment,
            report,
            width: widths.max().filter(|_| environment.hosts.len() > 1),
        }
    }

    fn tell(&self, host: &HostName, excerpt: &Excerpt) {
        self.report
            .answer(&logs::lines(host.as_str(), self.width, excerpt));
        for line in &excerpt.lines {
            self.report.json(
                &serde_json::json!({"v": VERSION, "type": "log", "host": host, "line": line}),
            );
        }
    }
}
