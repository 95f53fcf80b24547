//! The laptop's program: reads the inventory, asks the hosts, plans, pushes, reports.
//!
//! | module | holds |
//! |---|---|
//! | [`visible`] | makes text from outside safe to show; every module may use it |
//! | [`child`] | starts other programs here, none with the operator's keys |
//! | [`embedded`] | push-host, built in, for each machine it can run on |
//! | [`name`] | checked names: those both ends know, and those only the laptop knows |
//! | [`template`] | the built-in templates, the operator's own in their place, strict rendering |
//! | [`inventory`] | TOML to [`inventory::Fleet`]; every error names its line |
//! | [`secret`] | age files to secrets, which cannot be shown |
//! | [`release`] | what the operator ships: build, read, find out its needs, pack |
//! | [`desired`] | what one host shall have: slice, texts, listings |
//! | [`plan`] | the difference between that and what the host has |
//! | [`event`] | what the world is told, outcomes and exit codes; plain data |
//! | [`transport`] | the one door to a host |
//! | [`conversation`] | the typed client of push-host |
//! | [`rollout`] | waves, gates, outcomes: a push over many hosts |
//! | [`rehearse`] | throw-away local hosts |
//! | [`report`] | values to terminal, plain lines, JSON; alone may print |
//! | [`cli`] | arguments, and one file a command; joins the rest |
//!
//! Each module may import those above it and never those below.

pub mod child;
pub mod cli;
pub mod conversation;
pub mod desired;
pub mod embedded;
pub mod event;
pub mod inventory;
pub mod name;
pub mod plan;
pub mod rehearse;
pub mod release;
pub mod report;
pub mod rollout;
pub mod secret;
pub mod template;
pub mod transport;
pub mod visible;

#[cfg(test)]
mod testdata {
    //! Test data from elsewhere, which lies beside the checkout and not in it.

    use std::io::Write as _;
    use std::path::{Path, PathBuf};

    /// A file of that data; `None`, said aloud, where it is absent. `PUSH_TEST_DATA` names its
    /// folder; else it is `shared/data` beside the checkout or beside a folder above it.
    pub fn find(name: &str) -> Option<PathBuf> {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
        let named = std::env::var_os("PUSH_TEST_DATA").map(PathBuf::from);
        let beside = checkout
            .ancestors()
            .map(|folder| folder.join("shared/data"));
        let mut places = named
            .into_iter()
            .chain(beside)
            .map(|folder| folder.join(name));
        let found = places.find(|path| path.exists());
        if found.is_none() {
            skipped(&format!(
                "there is no {name} beside the checkout (PUSH_TEST_DATA names its folder)"
            ));
        }
        found
    }

    /// Says that a test did not run, past the harness, which shows nothing of a test that passes.
    pub fn skipped(why: &str) {
        let test = std::thread::current();
        let test = test.name().unwrap_or("a test");
        // Not `eprintln!`: the harness swallows that of tests that pass.
        let mut stderr = std::io::stderr();
        writeln!(stderr, "skipped: {why}: {test}").unwrap();
    }
}
