//! The shape of the source is a promise too: rooms import upwards only, one file knows russh, one
//! room prints, one room of push-host touches the world.

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of the laptop's program, in the order in which they may import each other: each those
/// before it, never those after it.
const ROOMS: &[&str] = &[
    "visible",
    "child",
    "embedded",
    "name",
    "template",
    "inventory",
    "secret",
    "release",
    "desired",
    "plan",
    "event",
    "transport",
    "conversation",
    "rollout",
    "rehearse",
    "report",
    "cli",
];

/// The longest file, in lines.
const FILE_LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(folder)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no source below {}", folder.display());
    found
}

/// The sources that are compiled into the programs: without the modules that only tests have.
fn shipped(folder: &Path) -> Vec<(String, String)> {
    let all = sources(folder);
    let only_tests: Vec<String> = all
        .iter()
        .flat_map(|(file, text)| {
            let place = match file.rsplit_once('/') {
                Some((folder, "mod.rs")) => format!("{folder}/"),
                None if file == "lib.rs" || file == "main.rs" => String::new(),
                Some(_) | None => format!("{}/", file.trim_end_matches(".rs")),
            };
            text.split("#[cfg(test)]\n")
                .skip(1)
                .filter_map(move |after| {
                    let name = after.split("mod ").nth(1)?.split(';').next()?;
                    let is_module = name.chars().all(|c| c.is_alphanumeric() || c == '_');
                    is_module.then(|| format!("{place}{name}"))
                })
        })
        .collect();
    all.into_iter()
        .filter(|(file, _)| {
            !only_tests.iter().any(|module| {
                file.strip_prefix(module.as_str())
                    .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
            })
        })
        .collect()
}

/// The room that a file belongs to: `rollout/waves.rs` and `rollout.rs` are both `rollout`.
fn room(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap()
}

/// The code of a file without its comments and without its unit tests, which may look anywhere.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn every_room_of_the_laptops_program_imports_upwards_only() {
    let place = |room: &str| ROOMS.iter().position(|known| *known == room);
    let mut wrong = Vec::new();
    for (file, text) in shipped(&root().join("src/push/src")) {
        if file == "lib.rs" || file == "main.rs" {
            continue;
        }
        let own = place(room(&file)).unwrap_or_else(|| panic!("{file} is in no room of DESIGN §5"));
        for part in code(&text).split("crate::").skip(1) {
            let names: Vec<&str> = match part.strip_prefix('{') {
                Some(list) => list
                    .split('}')
                    .next()
                    .unwrap()
                    .split(',')
                    .map(str::trim)
                    .collect(),
                None => vec![part],
            };
            for name in names {
                let name: String = name
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if place(&name).is_some_and(|there| there > own) {
                    wrong.push(format!("{file} imports {name}"));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports that point downwards:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn only_the_door_to_a_host_knows_russh() {
    for (file, text) in shipped(&root().join("src/push/src")) {
        if !file.starts_with("transport/ssh") {
            assert!(!code(&text).contains("russh::"), "{file} knows russh");
        }
    }
}

#[test]
fn only_the_report_prints() {
    for (file, text) in shipped(&root().join("src/push/src")) {
        if room(&file) == "report" {
            continue;
        }
        for print in [
            "println!",
            "print!",
            "eprintln!",
            "eprint!",
            "stdout()",
            "stderr()",
        ] {
            let prints = code(&text).match_indices(print).any(|(at, _)| {
                !code(&text)[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.')
            });
            assert!(!prints, "{file} speaks to a person by {print}");
        }
    }
}

#[test]
fn push_host_touches_the_world_through_one_door() {
    // The door itself, the conversation's own pipes, and what a namespace of its own is made for.
    let may = [
        "machine", "serve", "main", "view", "lock", "launch", "facts",
    ];
    for (file, text) in shipped(&root().join("src/host/src")) {
        if may.contains(&room(&file)) {
            continue;
        }
        for outside in [
            "std::fs",
            "std::process",
            "std::net",
            "std::thread::sleep",
            "SystemTime::now",
            "Instant::now",
        ] {
            assert!(
                !code(&text).contains(outside),
                "{file} reaches around the machine by {outside}"
            );
        }
    }
}

#[test]
fn the_wire_does_no_io() {
    for (file, text) in shipped(&root().join("src/wire/src")) {
        for outside in [
            "std::fs",
            "std::io",
            "std::net::Tcp",
            "std::process",
            "std::time",
            "std::env",
        ] {
            assert!(
                !code(&text).contains(outside),
                "{file} does I/O by {outside}"
            );
        }
    }
}

/// A key that opens secrets may stand in push's environment, and no child inherits it.
#[test]
fn the_laptops_program_starts_others_through_one_door() {
    for (file, text) in shipped(&root().join("src/push/src")) {
        if file == "child.rs" {
            continue;
        }
        for way in ["Command::new", "Command as "] {
            assert!(
                !code(&text).contains(way),
                "{file} starts a program by {way}, around child::command"
            );
        }
    }
}

#[test]
fn no_shell_text_is_assembled() {
    // The operator's own build command and ProxyCommand are the texts that go to a shell, as they are.
    let may = ["release/build.rs", "transport/ssh/open.rs"];
    for folder in ["src/push/src", "src/host/src"] {
        for (file, text) in shipped(&root().join(folder)) {
            let calls = ["sh", "/bin/sh", "bash"].map(|shell| format!("(\"{shell}\")"));
            let makers = ["Command::new", "child::command"];
            let shell = makers.iter().any(|maker| {
                let starts = |call: &String| code(&text).contains(&format!("{maker}{call}"));
                calls.iter().any(starts)
            });
            assert!(
                !shell || may.contains(&file.as_str()),
                "{folder}/{file} runs a shell"
            );
        }
    }
}

#[test]
fn no_file_is_too_long_to_read() {
    for folder in ["src", "tests"] {
        for (file, text) in sources(&root().join(folder)) {
            let lines = text.lines().count();
            assert!(
                lines <= FILE_LINES_MAX,
                "{folder}/{file} has {lines} lines: redraw the room"
            );
        }
    }
}

#[test]
fn the_top_level_is_what_was_agreed() {
    let agreed = [
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "inventory",
        "templates",
        "tests",
        "README.md",
        "LICENSE",
        "target",
    ];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            name.starts_with('.') || agreed.contains(&name.as_str()),
            "{name} stands beside the agreed files"
        );
    }
}
