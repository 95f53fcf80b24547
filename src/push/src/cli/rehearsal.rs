//! The story of a rehearsal, step by step, on hosts that are up: a bootstrap, a first push, a push that changes
//! nothing, a new release, a broken one that is taken back, a rollback, and forward again.
//!
//! Each step does what the command of that name does, and says what it expects of the outcomes; the
//! first one that ends otherwise ends the story. A further step is one more line in [`Rehearsal::tell`].

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::arguments::Asking;
use super::environment::Environment;
use super::{Stop, bootstrap, deploy, reach, rollback, shipment};
use crate::event::{ExitCode, Outcome, VERSION, Verb};
use crate::inventory::App;
use crate::name::{AppName, HostName};
use crate::rehearse::Fleet;
use crate::release::Payload;
use crate::report::style::{GOOD, TITLE, paint};
use crate::report::table::Table;
use crate::report::{Complaint, Report, measure};
use crate::rollout::{Deploy, Interrupt};
use crate::template::{Template, Templated};

/// The program of a release that never becomes healthy.
const BROKEN: &[u8] = include_bytes!("broken.sh");

/// The variable that makes a second release differ from the first.
const MARK: &str = "PUSH_REHEARSAL";

/// Whom a fresh host lets in.
const ROOT: &str = "root";

/// Throw-away hosts are not asked about.
const YES: Asking = Asking { yes: true };

/// A rehearsal as it goes on.
pub struct Rehearsal {
    environment: Environment,
    report: Report,
    interrupt: Interrupt,
    timings: Vec<(String, Duration)>,
}

/// What a step is to end in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// Hosts are at a new generation; those that it does not concern are as they were.
    Committed,
    /// No host has anything to do.
    Unchanged,
    /// Hosts have taken a broken release back, and none keeps it.
    TakenBack,
}

type Outcomes = BTreeMap<HostName, Outcome>;

impl Rehearsal {
    /// A story to be told on the environment's hosts.
    pub fn new(environment: Environment, report: Report, interrupt: Interrupt) -> Self {
        Self {
            environment,
            report,
            interrupt,
            timings: Vec::new(),
        }
    }

    /// Notes how long the hosts took to come up; they did so side by side.
    pub fn note_boot(&mut self, fleet: &Fleet) {
        let slowest = fleet
            .hosts()
            .iter()
            .map(crate::rehearse::RehearsalHost::boot_time)
            .max();
        self.timings.push((
            format!("boot {}", measure::count(fleet.hosts().len(), "host")),
            slowest.unwrap_or_default(),
        ));
    }

    /// Tells the story to its end, or to the first step that does not end as it should.
    pub async fn tell(&mut self) -> Result<ExitCode, Stop> {
        if self.environment.fleet.bootstrap.is_some() {
            self.bootstrap(
                "bootstrap fresh hosts, root by password",
                Expected::Committed,
            )
            .await?;
            self.bootstrap("bootstrap again", Expected::Unchanged)
                .await?;
        }
        self.push(
            "first push, push-host installed with it",
            Expected::Committed,
        )
        .await?;
        self.push("push again", Expected::Unchanged).await?;
        let Some(app) = self.breakable() else {
            self.report.say("\nno app has a service and a single file as its source, so nothing can be broken on purpose\n");
            return Ok(ExitCode::Done);
        };
        self.only_hosts_of(&app);
        self.mark(&app)?;
        self.push(&format!("push a change to {app}"), Expected::Committed)
            .await?;
        self.push_broken(&app).await?;
        self.roll_back().await?;
        self.push("forward again", Expected::Committed).await?;
        self.report.say(&format!(
            "\n{}\n",
            paint(GOOD, "everything went as it should")
        ));
        Ok(ExitCode::Done)
    }

    /// How long each step took, for people.
    pub fn timings(&self) -> String {
        let mut table = Table::new();
        for (step, took) in &self.timings {
            table.row([step.clone(), measure::took(*took)]);
        }
        format!("\n{}\n{}", paint(TITLE, "Timings"), table.render("  "))
    }

    /// The same for programs.
    pub fn timings_json(&self) -> serde_json::Value {
        let steps = self
            .timings
            .iter()
            .map(|(step, took)| json!({"step": step, "took_ms": took.as_millis()}));
        json!({"v": VERSION, "type": "timings", "steps": steps.collect::<Vec<_>>()})
    }

    async fn push(&mut self, step: &str, expected: Expected) -> Result<(), Stop> {
        self.begin(step)?;
        let shipment = self.shipment()?;
        self.carry_out(step, shipment, expected).await
    }

    /// Makes those hosts members that are to be, coming to them as a provider hands them over.
    async fn bootstrap(&mut self, step: &str, expected: Expected) -> Result<(), Stop> {
        let intent = bootstrap::intent(&self.environment)?;
        let selected = &self.environment.hosts;
        if selected.is_disjoint(&intent.bootstrap.on) {
            return Ok(());
        }
        self.begin(step)?;
        let began = Instant::now();
        let environment = bootstrap::narrowed(self.environment.clone(), &intent.bootstrap)?;
        let root = ROOT
            .parse()
            .map_err(|error| Stop::not_started(Complaint::of(&error)))?;
        let first = bootstrap::First {
            user: Some(root),
            port: None,
        };
        let arrival = bootstrap::Arrival {
            environment: &environment,
            first: &first,
            dialer: Arc::new(reach::dialer(&environment, &self.report)),
        };
        let stage = (&self.report, self.interrupt.clone());
        let pushed = bootstrap::push(arrival, intent, (Verb::Bootstrap, YES), stage).await?;
        self.end(step, began, expected.check(&pushed.outcomes))
    }

    async fn carry_out(
        &mut self,
        step: &str,
        shipment: Deploy,
        expected: Expected,
    ) -> Result<(), Stop> {
        let began = Instant::now();
        let stage = (&self.report, self.interrupt.clone());
        let pushed = deploy::push(&self.environment, shipment, YES, stage).await?;
        self.end(step, began, expected.check(&pushed.outcomes))
    }

    /// Ships a program that exits at once in place of the app's own.
    async fn push_broken(&mut self, app: &AppName) -> Result<(), Stop> {
        let step = "push a broken release: taken back";
        self.begin(step)?;
        let scratch = tempfile::tempdir().map_err(|error| unwritable(&error))?;
        let name = self.source_name(app);
        let program = scratch.path().join(name);
        fs::write(&program, BROKEN).map_err(|error| unwritable(&error))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
            .map_err(|error| unwritable(&error))?;
        let payload = Payload::open(app, &program)
            .map_err(|error| Stop::not_started(Complaint::of(&error).help(error.help())))?;
        let shipment = shipment::with(self.shipment()?, payload);
        self.carry_out(step, shipment, Expected::TakenBack).await
    }

    async fn roll_back(&mut self) -> Result<(), Stop> {
        let step = "roll back";
        self.begin(step)?;
        let began = Instant::now();
        let stage = (&self.report, self.interrupt.clone());
        let to = rollback::Goal {
            project: self.environment.fleet.project.clone(),
            generation: None,
            limit: vec![],
            verb: Verb::Rollback,
        };
        let pushed = rollback::go_back(&self.environment, to, YES, stage).await?;
        self.end(step, began, Expected::Committed.check(&pushed.outcomes))
    }

    fn begin(&self, step: &str) -> Result<(), Stop> {
        if self.interrupt.is_asked() {
            return Err(Stop {
                exit: ExitCode::Interrupted,
                complaint: Complaint::new("the rehearsal was interrupted"),
            });
        }
        self.report
            .say(&format!("\n{} {}\n", paint(TITLE, "▶"), paint(TITLE, step)));
        Ok(())
    }

    fn end(&mut self, step: &str, began: Instant, result: Result<(), String>) -> Result<(), Stop> {
        self.timings.push((step.to_owned(), began.elapsed()));
        result.map_err(|why| {
            if self.interrupt.is_asked() {
                return Stop {
                    exit: ExitCode::Interrupted,
                    complaint: Complaint::new(format!(
                        "the rehearsal was interrupted at \"{step}\""
                    )),
                };
            }
            let complaint = Complaint::new(format!("the rehearsal ended at \"{step}\": {why}"));
            Stop {
                exit: ExitCode::InDoubt,
                complaint: complaint.help("`--keep` leaves the hosts up to be looked at"),
            }
        })
    }

    fn shipment(&self) -> Result<Deploy, Stop> {
        tokio::task::block_in_place(|| shipment::prepare(&self.environment, &self.report))
    }

    /// The first app of a selected host that runs something and ships a single file.
    fn breakable(&self) -> Option<AppName> {
        let root = self.environment.project.root();
        let is_file = |app: &&App| {
            app.source
                .as_ref()
                .is_some_and(|source| root.join(source).is_file())
        };
        let runs = |app: &&App| !app.services.is_empty();
        let carried = |app: &&App| {
            app.on
                .iter()
                .any(|host| self.environment.hosts.contains(host))
        };
        let mut apps = self.environment.fleet.apps.values().filter(carried);
        apps.find(|app| runs(app) && is_file(app))
            .map(|app| app.name.clone())
    }

    /// Goes on with the hosts that an app concerns: the others have nothing to go back from.
    fn only_hosts_of(&mut self, app: &AppName) {
        let environment = &mut self.environment;
        if let Some(app) = environment.fleet.apps.get(app) {
            environment.hosts.retain(|host| app.on.contains(host));
        }
    }

    /// The name of the file that an app ships; its services call it so.
    fn source_name(&self, app: &AppName) -> String {
        let source = self
            .environment
            .fleet
            .apps
            .get(app)
            .and_then(|app| app.source.as_ref());
        let name = source
            .and_then(|source| source.file_name())
            .and_then(|name| name.to_str());
        name.unwrap_or(app.as_str()).to_owned()
    }

    /// Gives an app another environment, so that its next push is another generation.
    fn mark(&mut self, app: &AppName) -> Result<(), Stop> {
        let unmarkable = |error: &dyn std::error::Error| Stop::not_started(Complaint::of(error));
        let name = MARK.parse().map_err(|error| unmarkable(&error))?;
        let value = Template::parse("2").map_err(|error| unmarkable(&error))?;
        if let Some(app) = self.environment.fleet.apps.get_mut(app) {
            app.env.insert(name, Templated::new(value));
        }
        Ok(())
    }
}

impl Expected {
    /// What is not as it should be, if anything.
    fn check(self, outcomes: &Outcomes) -> Result<(), String> {
        let other = |is_fine: fn(&Outcome) -> bool| {
            let names: Vec<&str> = outcomes
                .iter()
                .filter(|(_, outcome)| !is_fine(outcome))
                .map(|(host, _)| host.as_str())
                .collect();
            if names.is_empty() {
                Ok(())
            } else {
                Err(names.join(", "))
            }
        };
        match self {
            Self::Committed => {
                other(|outcome| {
                    matches!(
                        outcome,
                        Outcome::Committed { .. } | Outcome::Unchanged { .. }
                    )
                })
                .map_err(|hosts| format!("not committed on {hosts}"))?;
                let committed = outcomes
                    .values()
                    .any(|outcome| matches!(outcome, Outcome::Committed { .. }));
                if committed {
                    Ok(())
                } else {
                    Err("there was nothing to do on any host".to_owned())
                }
            }
            Self::Unchanged => other(|outcome| matches!(outcome, Outcome::Unchanged { .. }))
                .map_err(|hosts| format!("there was something to do on {hosts}")),
            Self::TakenBack => {
                other(|outcome| {
                    matches!(outcome, Outcome::TakenBack { .. } | Outcome::Skipped { .. })
                })
                .map_err(|hosts| format!("not taken back on {hosts}"))?;
                let taken_back = outcomes
                    .values()
                    .any(|outcome| matches!(outcome, Outcome::TakenBack { .. }));
                if taken_back {
                    Ok(())
                } else {
                    Err("no host has switched to it".to_owned())
                }
            }
        }
    }
}

fn unwritable(error: &std::io::Error) -> Stop {
    Stop::not_started(
        Complaint::new(format!("a broken release cannot be made: {error}"))
            .help("look at `df -h /tmp`"),
    )
}

#[cfg(test)]
mod tests {
    use push_wire::journal::Cause;
    use push_wire::name::GenerationId;

    use super::*;

    const AT: GenerationId = GenerationId(1);

    fn outcomes(all: &[Outcome]) -> Outcomes {
        let name = |at: usize| format!("web{at}").parse().unwrap();
        all.iter()
            .cloned()
            .enumerate()
            .map(|(at, outcome)| (name(at), outcome))
            .collect()
    }

    #[test]
    fn a_step_that_ends_otherwise_than_it_should_names_the_hosts() {
        let committed = || Outcome::Committed { from: AT, to: AT };
        let unchanged = || Outcome::Unchanged { generation: AT };
        let back = || Outcome::TakenBack {
            back_at: AT,
            cause: Cause::Asked,
            evidence: None,
        };
        assert_eq!(
            Expected::Committed.check(&outcomes(&[committed(), committed()])),
            Ok(())
        );
        assert_eq!(
            Expected::Committed.check(&outcomes(&[committed(), unchanged()])),
            Ok(()),
            "it does not concern the other one"
        );
        assert_eq!(
            Expected::Committed.check(&outcomes(&[committed(), back()])),
            Err("not committed on web1".to_owned())
        );
        assert!(
            Expected::Committed
                .check(&outcomes(&[unchanged()]))
                .is_err(),
            "nothing was done"
        );
        assert!(
            Expected::Unchanged
                .check(&outcomes(&[unchanged(), committed()]))
                .is_err()
        );
        assert_eq!(Expected::TakenBack.check(&outcomes(&[back()])), Ok(()));
        assert!(
            Expected::TakenBack
                .check(&outcomes(&[back(), committed()]))
                .is_err(),
            "it was kept"
        );
        assert!(
            Expected::TakenBack.check(&outcomes(&[])).is_err(),
            "it was never tried"
        );
    }
}
