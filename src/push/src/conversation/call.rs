//! Gets push-host to speak: starts it, installs it where it is missing, replaces it where it is
//! another one than this build carries. All of it over the connection that is there already.

use std::cmp::Ordering;
use std::time::Duration;

use bytes::Bytes;
use push_wire::PROTOCOL;
use push_wire::facts;
use push_wire::frame::{CONTENT_BYTES_MAX, Kind, encode};
use push_wire::message::{Holder, Refusal, Reply, Request};
use serde::Deserialize;
use tokio::time::timeout;

use super::frames::{First, Reader, Writer, halves, parse};
use super::talk::{Course, kind};
use super::{Conversation, Error, sudo};
use crate::embedded::Program;
use crate::event::{Obstacle, Step};
use crate::name::HostName;
use crate::transport::{Connection, Pending, Prompt};
use crate::visible;

/// How long push-host may take to say Hello: it reads facts, it waits for nobody.
pub const HELLO_MAX: Duration = Duration::from_secs(15);

/// How long an installed or replaced push-host may take to say Hello, the upload included.
pub const INSTALL_MAX: Duration = Duration::from_secs(300);

/// How long a command that has said nothing may take to tell how it ended.
const ENDING_MAX: Duration = Duration::from_secs(5);

/// How much of a host's refusal is shown, in bytes.
const SHOWN_BYTES_MAX: usize = 500;

/// Runs push-host, or prints `push-host missing MACHINE`. A constant: nothing is ever put into it.
const START: &str = concat!(
    "exec /bin/sh -c '",
    include_str!("start.sh"),
    "' push-start"
);

/// The same for an account that sudo asks for a password.
const START_ASKED: &str = concat!(
    "exec /bin/sh -c '",
    include_str!("start.sh"),
    "' push-start asked"
);

/// The two ways to run a script as root; constants as well.
#[derive(Clone, Copy)]
struct Ways {
    /// For root, and for an account that sudo asks nothing.
    plain: &'static str,
    /// For an account that sudo asks for a password.
    asked: &'static str,
}

macro_rules! as_root {
    ($name:literal) => {
        Ways {
            plain: as_root!($name, ""),
            asked: as_root!($name, " asked"),
        }
    };
    ($name:literal, $argument:literal) => {
        concat!(
            "exec /bin/sh -c '",
            include_str!("as_root.sh"),
            "' ",
            $name,
            " '",
            include_str!("install.sh"),
            "'",
            $argument
        )
    };
}

/// Installs push-host from stdin and runs it.
const INSTALL: Ways = as_root!("push-install");

/// Runs push-host from stdin, once, and leaves nothing of it.
const LOOK: Ways = as_root!("push-look");

/// What [`Ways::asked`] prints once it runs as root.
const WELCOME: &str = "push-host welcome";

/// What [`START`] prints before the machine's name.
const MISSING: &str = "push-host missing ";

/// Finds the program for a machine, as `uname -m` names it: [`crate::embedded::program`].
pub type Programs = fn(&str) -> Option<Program>;

/// What may be done about a push-host that is missing or another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is installed or replaced.
    Install,
    /// A missing one is run once, to say Hello, and not installed; another one is used as it is.
    Look,
    /// It is used as it is found.
    AsFound,
}

/// Is asked before anything is written on a host; what it says no with is the conversation's error.
pub type Permit<'a> = &'a (dyn Fn() -> Pending<'static, Result<(), Obstacle>> + Sync);

/// How a conversation is to be opened.
pub struct Opening<'a> {
    /// The host.
    pub host: &'a HostName,
    /// The account that the connection was let in as.
    pub login: &'a str,
    /// The programs that this build carries.
    pub programs: Programs,
    /// What may be done about a push-host that is missing or another one.
    pub presence: Presence,
    /// Who is asked where sudo wants a password.
    pub prompt: &'a dyn Prompt,
    /// Whether it may be done after all.
    pub permit: Permit<'a>,
    /// Is told of an installation.
    pub tell: &'a (dyn Fn(Step) + Sync),
}

/// As much of a Hello as all versions of the protocol share.
#[derive(Deserialize)]
struct Shared {
    hello: SharedHello,
}

#[derive(Deserialize)]
struct SharedHello {
    protocol: u16,
    program: facts::Program,
    facts: SharedFacts,
    running: Option<Holder>,
}

#[derive(Deserialize)]
struct SharedFacts {
    machine: String,
}

/// The two halves of a session, before it is a conversation.
pub(super) struct Line {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
}

impl Conversation {
    /// Opens a conversation on a connection.
    pub async fn open(connection: &dyn Connection, opening: &Opening<'_>) -> Result<Self, Error> {
        let mut line = exec(connection, opening, START).await?;
        let first = within(HELLO_MAX, opening, line.reader.first("starting")).await;
        let (line, body) = match first {
            Ok(First::Message(body)) => (line, body),
            Ok(First::Text(text)) => match missing_machine(&text) {
                Some(machine) => bring(connection, opening, machine).await?,
                None => return Err(noise(opening, text)),
            },
            Err(error) => match why_no_word(error, line, opening).await {
                Error::Sudo { stderr, .. } if sudo::wants_password(&stderr) => {
                    start_asked(connection, opening).await?
                }
                error => return Err(error),
            },
        };
        line.greeted(body, opening).await
    }
}

impl Line {
    /// Takes a Hello in; replaces push-host first if it is another one.
    async fn greeted(mut self, body: Bytes, opening: &Opening<'_>) -> Result<Conversation, Error> {
        let shared = shared(opening, &body)?;
        let body = match self.upgrade(&shared, opening).await? {
            Some(body) => body,
            None => body,
        };
        let protocol = self::shared(opening, &body)?.protocol;
        check_protocol(opening, protocol)?;
        match parse(opening.host, &body)? {
            Reply::Hello(hello) => {
                self.writer.beat();
                Ok(Conversation {
                    reader: self.reader,
                    writer: self.writer,
                    hello: *hello,
                    course: Course::Open,
                })
            }
            other => Err(unexpected(opening, &other)),
        }
    }

    /// The Hello of the program that replaced the one that spoke first, if one did.
    async fn upgrade(
        &mut self,
        found: &SharedHello,
        opening: &Opening<'_>,
    ) -> Result<Option<Bytes>, Error> {
        const DURING: &str = "being replaced";
        if opening.presence != Presence::Install || !is_replaced(&found.program.version) {
            return Ok(None);
        }
        let program = match (opening.programs)(&found.facts.machine) {
            Some(program) if program.digest != found.program.digest => program,
            _ => return Ok(None),
        };
        if let Err(obstacle) = (opening.permit)().await {
            // One that speaks this protocol serves as it is, and may not need what is not there.
            return match found.protocol {
                PROTOCOL => Ok(None),
                _ => Err(Error::NotPermitted(obstacle)),
            };
        }
        if let Some(holder) = &found.running {
            return Err(locked(opening, holder.clone()));
        }
        (opening.tell)(Step::Upgrading {
            from: visible::escape(found.program.version.as_bytes(), SHOWN_BYTES_MAX),
            bytes: program.gzip.len() as u64,
        });
        let request = Request::Upgrade {
            digest: program.digest,
            packed_bytes: program.gzip.len() as u64,
        };
        self.writer.request(&request, DURING).await?;
        for piece in program.gzip.chunks(CONTENT_BYTES_MAX) {
            let frame = encode(Kind::Content, piece).map_err(|source| Error::TooLarge {
                host: opening.host.clone(),
                source,
            })?;
            self.writer.write(frame.into(), DURING).await?;
        }
        let body = within(INSTALL_MAX, opening, self.reader.message(DURING)).await?;
        match serde_json::from_slice(&body) {
            Ok(Reply::Refused(refusal)) => Err(match *refusal {
                Refusal::Locked(holder) => locked(opening, holder),
                other => Error::NotUpgraded {
                    host: opening.host.clone(),
                    why: visible::escape(other.to_string().as_bytes(), SHOWN_BYTES_MAX),
                },
            }),
            Ok(_) | Err(_) => Ok(Some(body)),
        }
    }
}

async fn exec(
    connection: &dyn Connection,
    opening: &Opening<'_>,
    command: &'static str,
) -> Result<Line, Error> {
    let session = connection.exec(command).await?;
    let (reader, writer) = halves(opening.host, session);
    Ok(Line { reader, writer })
}

/// Starts push-host by way of a sudo that asks.
async fn start_asked(
    connection: &dyn Connection,
    opening: &Opening<'_>,
) -> Result<(Line, Bytes), Error> {
    let line = exec(connection, opening, START_ASKED).await?;
    match sudo::let_in(line, opening, HELLO_MAX).await? {
        (line, First::Message(body)) => Ok((line, body)),
        (_, First::Text(said)) => Err(noise(opening, said)),
    }
}

/// Starts the installer by way of a sudo that asks, up to where it takes the program.
async fn installer_asked(
    connection: &dyn Connection,
    (opening, ways): (&Opening<'_>, Ways),
) -> Result<Line, Error> {
    let line = exec(connection, opening, ways.asked).await?;
    match sudo::let_in(line, opening, HELLO_MAX).await? {
        (mut line, First::Text(said)) if said == WELCOME => {
            line.reader.skip_line();
            Ok(line)
        }
        (_, First::Text(said)) => Err(noise(opening, said)),
        (_, First::Message(_)) => Err(noise(opening, String::new())),
    }
}

/// Brings push-host to a host that has none: to stay there, or to say Hello once.
async fn bring(
    connection: &dyn Connection,
    opening: &Opening<'_>,
    machine: &str,
) -> Result<(Line, Bytes), Error> {
    if opening.presence == Presence::AsFound {
        return Err(Error::NotInstalled {
            host: opening.host.clone(),
        });
    }
    let program = (opening.programs)(machine).ok_or_else(|| Error::NoProgram {
        host: opening.host.clone(),
        machine: machine.to_owned(),
    })?;
    let ways = announced(opening, machine, program.gzip.len() as u64).await?;
    let line = exec(connection, opening, ways.plain).await?;
    match upload(line, &program, opening).await {
        Err(Error::Install { stderr, .. }) if sudo::wants_password(&stderr) => {
            let line = installer_asked(connection, (opening, ways)).await?;
            upload(line, &program, opening).await
        }
        done => done,
    }
}

/// Sends the program to an installer, which runs it.
async fn upload(
    mut line: Line,
    program: &Program,
    opening: &Opening<'_>,
) -> Result<(Line, Bytes), Error> {
    const DURING: &str = "being brought there";
    let parameters = format!("{}\n{}\n", program.digest, program.gzip.len());
    let sent = async {
        line.writer.write(parameters.into(), DURING).await?;
        line.writer
            .write(Bytes::from_static(program.gzip), DURING)
            .await?;
        // The installer's own words are on stderr; what comes first on stdout is push-host.
        within(INSTALL_MAX, opening, line.reader.first(DURING)).await
    };
    match sent.await {
        Ok(First::Message(body)) => Ok((line, body)),
        Ok(First::Text(said)) => Err(noise(opening, said)),
        Err(error) if error.is_lost_on_the_way() => Err(error),
        Err(_) => {
            let stderr = last_words(line).await;
            Err(expired(opening, &stderr).unwrap_or_else(|| Error::Install {
                host: opening.host.clone(),
                login: opening.login.to_owned(),
                presence: opening.presence,
                stderr,
            }))
        }
    }
}

/// Tells what is going to be done about a push-host that is missing, and returns how.
async fn announced(opening: &Opening<'_>, machine: &str, bytes: u64) -> Result<Ways, Error> {
    let machine = machine.to_owned();
    if opening.presence == Presence::Look {
        (opening.tell)(Step::Looking { machine, bytes });
        return Ok(LOOK);
    }
    (opening.permit)().await.map_err(Error::NotPermitted)?;
    (opening.tell)(Step::Installing { machine, bytes });
    Ok(INSTALL)
}

/// Why nothing was said at all: push-host itself has said so on stderr, and ended; or else, for an
/// account other than root, mostly sudo.
async fn why_no_word(error: Error, line: Line, opening: &Opening<'_>) -> Error {
    let Error::Ended { host, during, .. } = error else {
        return error;
    };
    let stderr = last_words(line).await;
    if let Some(unable) = unable(&host, &stderr).or_else(|| expired(opening, &stderr)) {
        return unable;
    }
    if opening.login == "root" {
        return Error::Ended {
            host,
            during,
            stderr,
        };
    }
    Error::Sudo {
        host,
        login: opening.login.to_owned(),
        stderr,
    }
}

/// What push-host says of itself when it cannot go on: a line that begins with its name, and one that
/// begins with `help`.
pub(super) fn unable(host: &HostName, stderr: &[String]) -> Option<Error> {
    let after = |start| stderr.iter().find_map(|line| line.strip_prefix(start));
    let shown = |text: &str| visible::escape(text.as_bytes(), SHOWN_BYTES_MAX);
    Some(Error::Unable {
        host: host.clone(),
        why: shown(after("push-host: ")?),
        help: shown(after("help: ")?),
    })
}

/// Why an account that was let in may do nothing: its password is to be changed first, as providers have it
/// with the one that they send by mail. The words are those of sshd, PAM and sudo.
pub(super) fn expired(opening: &Opening<'_>, stderr: &[String]) -> Option<Error> {
    const WORDS: [&str; 4] = [
        "Password change required but no TTY available",
        "You are required to change your password",
        "Your password has expired",
        "Account or password is expired",
    ];
    let is_said = |line: &String| WORDS.iter().any(|words| line.contains(words));
    stderr.iter().any(is_said).then(|| Error::PasswordExpired {
        host: opening.host.clone(),
        login: opening.login.to_owned(),
    })
}

/// What a command that has ended said on stderr; that may arrive a moment after its output ended.
pub(super) async fn last_words(line: Line) -> Vec<String> {
    let so_far = line.reader.stderr();
    drop(line.writer);
    match line.reader.status(ENDING_MAX).await {
        Some((_, stderr)) => stderr,
        None => so_far,
    }
}

async fn within<T>(
    limit: Duration,
    opening: &Opening<'_>,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(Error::Silent {
            host: opening.host.clone(),
            during: "starting",
            waited: limit,
        }),
    }
}

/// The machine that [`START`] says push-host is missing for.
fn missing_machine(text: &str) -> Option<&str> {
    let machine = text.strip_prefix(MISSING)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (!machine.is_empty() && machine.bytes().all(plain)).then_some(machine)
}

fn noise(opening: &Opening<'_>, said: String) -> Error {
    Error::Noise {
        host: opening.host.clone(),
        login: opening.login.to_owned(),
        said,
    }
}

/// What a program began is ended by the same program, so it is not replaced meanwhile.
fn locked(opening: &Opening<'_>, holder: Holder) -> Error {
    Error::Locked {
        host: opening.host.clone(),
        holder: Box::new(holder),
    }
}

fn shared(opening: &Opening<'_>, body: &[u8]) -> Result<SharedHello, Error> {
    match serde_json::from_slice::<Shared>(body) {
        Ok(shared) => Ok(shared.hello),
        // Whatever is wrong with it, the parser of whole replies says it in one form.
        Err(_) => match parse(opening.host, body)? {
            Reply::Hello(hello) => Ok(SharedHello {
                protocol: hello.protocol,
                program: hello.program,
                facts: SharedFacts {
                    machine: hello.facts.machine,
                },
                running: hello.running,
            }),
            other => Err(unexpected(opening, &other)),
        },
    }
}

fn check_protocol(opening: &Opening<'_>, theirs: u16) -> Result<(), Error> {
    let host = opening.host.clone();
    match theirs.cmp(&PROTOCOL) {
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(Error::Newer { host, theirs }),
        Ordering::Less => Err(Error::Older { host, theirs }),
    }
}

fn unexpected(opening: &Opening<'_>, reply: &Reply) -> Error {
    Error::Unexpected {
        host: opening.host.clone(),
        during: "starting",
        found: kind(reply),
    }
}

/// Whether a push-host of this version gives way to this build's: it is not a later one.
fn is_replaced(theirs: &str) -> bool {
    numbers(theirs) <= numbers(env!("CARGO_PKG_VERSION"))
}

/// The numbers of a version. What is no number counts as 0: such a version gives way.
fn numbers(version: &str) -> [u64; 3] {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let mut parts = core.split('.').map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_one_constant_that_every_login_shell_reads_alike() {
        for (command, quoted) in [
            (START, 1),
            (START_ASKED, 1),
            (INSTALL.plain, 2),
            (INSTALL.asked, 2),
            (LOOK.plain, 2),
            (LOOK.asked, 2),
        ] {
            assert_eq!(command.matches('\'').count(), 2 * quoted, "{command}");
        }
    }

    #[tokio::test]
    async fn a_password_that_has_expired_is_named_and_what_to_do_about_it() {
        let host = "web1".parse().unwrap();
        let opening = |login| Opening {
            host: &host,
            login,
            programs: |_| None,
            presence: Presence::AsFound,
            permit: &|| Box::pin(async { Ok(()) }),
            prompt: &crate::transport::NoPrompt,
            tell: &|_| {},
        };
        for (login, said) in [
            (
                "root",
                "WARNING: Your password has expired.\nPassword change required but no TTY available.\n",
            ),
            (
                "admin",
                "You are required to change your password immediately (administrator enforced).\n",
            ),
            (
                "admin",
                "sudo: Account or password is expired, reset your password and try again\n",
            ),
        ] {
            let (session, far) = crate::transport::Session::pair("web1");
            far.stderr.push(said.as_bytes());
            far.end.tell(Ok(crate::transport::Status::Code(1)));
            drop(far);
            let (reader, writer) = halves(&host, session);
            let mut line = Line { reader, writer };
            let ended = line.reader.first("starting").await.map(|_| ()).unwrap_err();
            let error = why_no_word(ended, line, &opening(login)).await;
            assert!(matches!(error, Error::PasswordExpired { .. }), "{error:?}");
            assert!(!error.is_lost(), "another connection ends the same way");
            assert!(
                error
                    .help(&"prod".parse().unwrap())
                    .contains(&format!("ssh {login}@web1"))
            );
        }
    }

    #[test]
    fn only_an_earlier_or_equal_version_gives_way() {
        assert!(is_replaced(env!("CARGO_PKG_VERSION")));
        assert!(is_replaced("0.0.9"));
        assert!(is_replaced("not a version"));
        assert!(!is_replaced("0.1.1"));
        assert!(!is_replaced("0.10.0"));
        assert!(!is_replaced("1.0.0-rc1"));
    }

    #[test]
    fn a_machine_is_believed_only_when_it_is_a_plain_word() {
        assert_eq!(missing_machine("push-host missing x86_64"), Some("x86_64"));
        for hostile in [
            "push-host missing ",
            "push-host missing a b",
            "push-host missing ../x",
            "push-host missing $(id)",
            "welcome",
        ] {
            assert_eq!(missing_machine(hostile), None, "{hostile}");
        }
    }
}
