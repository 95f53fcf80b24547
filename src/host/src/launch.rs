//! Starts the transaction in a unit of its own, so that it outlives the session, the network and the
//! laptop. Its fixed name lets systemd refuse a second one.

use std::time::Duration;

use push_wire::name::{TransactionId, UnitName};

use crate::layout::Layout;
use crate::machine::ToolError;
use crate::machine::real::process::Program;

/// The unit of a running transaction.
const UNIT: &str = "push-transaction.service";

/// How long systemd has to start it.
const START_WITHIN: Duration = Duration::from_secs(30);

/// How long a transaction may take in all. Health and confirmation have limits of their own, of a day
/// at most, and run side by side; this one is for a push-host that hangs.
const RUN_WITHIN: &str = "RuntimeMaxSec=30h";

/// What else the unit is: nearly the last to be killed when memory runs out, heard in the host's log
/// only, and asked before it is killed. One that is killed all the same is taken up by recovery.
const PROPERTIES: &[&str] = &[
    "Type=exec",
    "OOMScoreAdjust=-900",
    "KillMode=mixed",
    // Taking back what was killed is tried for minutes, by the `ExecStopPost=` below.
    "TimeoutStopSec=15min",
    "StandardInput=null",
    "StandardOutput=journal",
    "StandardError=journal",
    RUN_WITHIN,
];

/// The unit of a running transaction.
#[expect(
    clippy::expect_used,
    reason = "the text is a constant, and a test holds it"
)]
pub fn unit() -> UnitName {
    UNIT.parse().expect("a unit's name")
}

/// Starts the transaction whose request has been left; returns once its program runs.
pub fn launch(layout: &Layout, transaction: &TransactionId) -> Result<(), ToolError> {
    Program::new(&argv(layout, transaction), START_WITHIN)
        .succeed()
        .map(drop)
}

/// Starts a recovery in the place of a transaction that nobody carries on; returns once its program
/// runs.
pub fn recover(layout: &Layout) -> Result<(), ToolError> {
    let mut argv = unit_of("push: a recovery");
    argv.push("--".to_owned());
    argv.push(layout.program().display().to_string());
    argv.push("recover".to_owned());
    Program::new(&argv, START_WITHIN).succeed().map(drop)
}

/// Starts an upgrade of the operating system whose record has been begun, or takes it up; returns once its
/// program runs.
pub fn upgrade(layout: &Layout, id: &TransactionId) -> Result<(), ToolError> {
    let mut argv = unit_of("push: an upgrade of the operating system");
    argv.push("--".to_owned());
    argv.push(layout.program().display().to_string());
    argv.extend(["upgrade".to_owned(), id.to_string()]);
    Program::new(&argv, START_WITHIN).succeed().map(drop)
}

fn argv(layout: &Layout, transaction: &TransactionId) -> Vec<String> {
    let mut argv = unit_of("push: a switch to another generation");
    let program = layout.program();
    argv.push(format!(
        "--property=ExecStopPost={} recover",
        program.display()
    ));
    argv.push("--".to_owned());
    argv.push(program.display().to_string());
    argv.extend(["transact".to_owned(), transaction.to_string()]);
    argv
}

/// The beginning of an argv, up to what is to be run.
fn unit_of(description: &str) -> Vec<String> {
    let mut argv: Vec<String> = ["systemd-run", "--quiet", "--collect", "--no-ask-password"]
        .map(str::to_owned)
        .into();
    argv.push(format!("--unit={UNIT}"));
    argv.push(format!("--property=Description={description}"));
    argv.extend(
        PROPERTIES
            .iter()
            .map(|property| format!("--property={property}")),
    );
    argv
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_named_and_the_program_is_told_apart_from_options() {
        assert_eq!(unit().as_str(), UNIT);
        let argv = argv(&Layout::new("/"), &"t1".parse().unwrap());
        let end = argv.iter().position(|part| part == "--").unwrap();
        assert_eq!(
            argv[end + 1..],
            ["/usr/local/lib/push/push-host", "transact", "t1"]
        );
        // Longer than a health check may take: a day, as inventories go.
        assert!(argv[..end].contains(&"--property=RuntimeMaxSec=30h".to_owned()));
        assert!(
            argv[..end]
                .iter()
                .all(|part| part.starts_with("--") || part == "systemd-run")
        );
    }
}
