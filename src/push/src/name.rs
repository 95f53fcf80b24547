//! Checked names: those that both ends know, and those that only the laptop knows.
//!
//! Must not know where a name was written; messages about places are the inventory's. A new kind of
//! name is one `checked_text!` with its grammar below; a new verb of the program goes into [`VERBS`].

use push_wire::checked_text;
pub use push_wire::name::*;
pub use push_wire::path::*;

/// The verbs of the program. No environment may be called like one, so that `push WORD` means one thing.
pub const VERBS: &[&str] = &[
    "apply",
    "bootstrap",
    "completion",
    "deploy",
    "diff",
    "doctor",
    "exec",
    "help",
    "history",
    "init",
    "logs",
    "plan",
    "rehearse",
    "rollback",
    "secret",
    "ssh",
    "status",
    "trust",
    "upgrade",
    "verify",
];

/// The longest name of a host, in bytes (`HOST_NAME_MAX` of Linux).
pub const HOST_BYTES_MAX: usize = 64;

/// The longest name of an environment, a tag or a variable, in bytes.
pub const WORD_BYTES_MAX: usize = 64;

/// The longest name of an environment variable, in bytes.
pub const VARIABLE_BYTES_MAX: usize = 128;

const HOST: &str = "use a-z, 0-9, '-' and '.', starting with a letter or a digit";
const WORD: &str = "use a-z, 0-9, '-' and '_', starting with a letter";
const SERVICE: &str = "use a-z, 0-9 and '-', starting with a letter, not ending in '-'";
const VARIABLE: &str = "use letters, digits and '_', not starting with a digit";
const IDENTIFIER: &str = "use a-z, 0-9 and '_', starting with a letter";
const LOGIN: &str = "use letters, digits, '.', '_' and '-', starting with a letter or '_'";

checked_text!(
    /// What the inventory calls a host. Its address is something else, unless none is given.
    HostName,
    NameError,
    |text| host("host name", text)
);
checked_text!(
    /// One environment: the stem of its file in `inventory/`.
    EnvironmentName,
    NameError,
    |text| environment("environment name", text)
);
checked_text!(
    /// A word that several hosts share, for selectors.
    TagName,
    NameError,
    |text| word("tag", text)
);
checked_text!(
    /// A further service of an app: what follows the app's name in that of its unit.
    ServiceName,
    NameError,
    |text| service("service name", text)
);
checked_text!(
    /// The name of an environment variable of a service.
    VariableName,
    NameError,
    |text| variable("environment variable", text)
);
checked_text!(
    /// The name of a value under `hosts.NAME.vars`, as templates spell it.
    VarName,
    NameError,
    |text| identifier("host variable", text)
);
checked_text!(
    /// A person or a group of people that secrets are sealed to.
    PersonName,
    NameError,
    |text| person("person or group", text)
);
checked_text!(
    /// Whom push logs in as.
    LoginName,
    NameError,
    |text| login("login name", text)
);
fn host(kind: &'static str, text: &str) -> Result<(), NameError> {
    length(kind, text, HOST_BYTES_MAX)?;
    first_wrong(kind, text, HOST, |at, c| match c {
        'a'..='z' | '0'..='9' => false,
        '-' | '.' => at == 0 || at + 1 == text.len() || text[at..].starts_with(".."),
        _ => true,
    })
}

fn environment(kind: &'static str, text: &str) -> Result<(), NameError> {
    word(kind, text)?;
    if VERBS.contains(&text) {
        return Err(NameError::Reserved {
            name: text.to_owned(),
            why: "it is a command of push",
        });
    }
    Ok(())
}

fn word(kind: &'static str, text: &str) -> Result<(), NameError> {
    length(kind, text, WORD_BYTES_MAX)?;
    first_wrong(kind, text, WORD, |at, c| match c {
        'a'..='z' => false,
        '0'..='9' | '-' | '_' => at == 0,
        _ => true,
    })
}

fn service(kind: &'static str, text: &str) -> Result<(), NameError> {
    length(kind, text, NAME_BYTES_MAX)?;
    first_wrong(kind, text, SERVICE, |at, c| match c {
        'a'..='z' => false,
        '0'..='9' => at == 0,
        '-' => at == 0 || at + 1 == text.len(),
        _ => true,
    })
}

fn person(kind: &'static str, text: &str) -> Result<(), NameError> {
    word(kind, text)?;
    if text == "hosts" {
        return Err(NameError::Reserved {
            name: text.to_owned(),
            why: "it stands for the hosts that use a secret",
        });
    }
    Ok(())
}

fn variable(kind: &'static str, text: &str) -> Result<(), NameError> {
    length(kind, text, VARIABLE_BYTES_MAX)?;
    first_wrong(kind, text, VARIABLE, |at, c| match c {
        'a'..='z' | 'A'..='Z' | '_' => false,
        '0'..='9' => at == 0,
        _ => true,
    })
}

fn identifier(kind: &'static str, text: &str) -> Result<(), NameError> {
    length(kind, text, WORD_BYTES_MAX)?;
    first_wrong(kind, text, IDENTIFIER, |at, c| match c {
        'a'..='z' => false,
        '0'..='9' | '_' => at == 0,
        _ => true,
    })
}

fn login(kind: &'static str, text: &str) -> Result<(), NameError> {
    length(kind, text, WORD_BYTES_MAX)?;
    first_wrong(kind, text, LOGIN, |at, c| match c {
        'a'..='z' | 'A'..='Z' | '_' => false,
        '0'..='9' | '.' | '-' => at == 0,
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_environment_is_called_like_a_command() {
        for verb in VERBS {
            let refused = verb.parse::<EnvironmentName>();
            assert!(matches!(refused, Err(NameError::Reserved { .. })), "{verb}");
        }
        assert!("prod".parse::<EnvironmentName>().is_ok());
    }

    #[test]
    fn a_host_name_cannot_be_an_option_or_a_path() {
        for hostile in [
            "",
            "-oProxyCommand=x",
            "a/b",
            "..",
            "a..b",
            ".a",
            "a.",
            "a-",
            "a b",
            "a\n",
            "host;id",
            "$(id)",
            "wеb1",
            "A",
        ] {
            assert!(hostile.parse::<HostName>().is_err(), "{hostile:?}");
        }
        for good in ["web1", "web-1.example.com", "10-0-0-1", "1"] {
            assert!(good.parse::<HostName>().is_ok(), "{good:?}");
        }
        assert!("a".repeat(HOST_BYTES_MAX + 1).parse::<HostName>().is_err());
    }
}
