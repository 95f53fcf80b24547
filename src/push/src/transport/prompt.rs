//! How the operator is asked for what only a person knows.
//!
//! The transport says what it needs; whoever owns the terminal asks. Questions hold text from
//! servers only after it was made safe to show. Answers are secret types that no `Debug` prints.

use super::Pending;
use secrecy::SecretString;
use std::collections::HashMap;
use std::path::PathBuf;

/// Asks the operator. Implementations may be called from many tasks; the transport asks one
/// question at a time.
pub trait Prompt: Send + Sync {
    /// Asks one question.
    fn ask<'a>(&'a self, question: &'a Question) -> Pending<'a, Result<SecretString, Refusal>>;
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// The passphrase of a private key file. Asked once a file and push, again after a typing error.
    Passphrase {
        /// The key file.
        path: PathBuf,
        /// 1 for the first time.
        attempt: u32,
    },
    /// The password of an account, for the login.
    Password {
        /// The account.
        user: String,
        /// The host.
        host: String,
        /// What the host is.
        asker: Asker,
        /// 1 for the first time that this host asks.
        attempt: u32,
    },
    /// The password of an account, for sudo.
    Sudo {
        /// The account.
        user: String,
        /// The host.
        host: String,
        /// 1 for the first time that this host asks.
        attempt: u32,
    },
    /// One field of keyboard-interactive authentication: a password, a one-time code.
    Interactive {
        /// The account.
        user: String,
        /// The host.
        host: String,
        /// What the host is.
        asker: Asker,
        /// What the server asks, safe to show.
        prompt: String,
        /// Whether typing may be shown.
        echo: Echo,
        /// 1 for the first time that this host asks.
        attempt: u32,
    },
}

impl Question {
    /// The account whose password would be the answer, and how often its host has asked; `None` for
    /// anything else, such as a code that holds once.
    pub fn password_of(&self) -> Option<(&str, u32)> {
        match self {
            Self::Password { user, attempt, .. } | Self::Sudo { user, attempt, .. } => {
                Some((user, *attempt))
            }
            Self::Interactive {
                user,
                prompt,
                echo: Echo::Hidden,
                attempt,
                ..
            } if is_for_password(prompt) => Some((user, *attempt)),
            Self::Passphrase { .. } | Self::Interactive { .. } => None,
        }
    }

    /// The jump host that asks; `None` where it is a host of the fleet, or nobody but the laptop.
    fn jump_host(&self) -> Option<&str> {
        match self {
            Self::Password { host, asker, .. } | Self::Interactive { host, asker, .. } => {
                match asker {
                    Asker::JumpHost => Some(host),
                    Asker::Host => None,
                }
            }
            Self::Passphrase { .. } | Self::Sudo { .. } => None,
        }
    }
}

/// What a host that asks is to the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// One of its hosts: they share the passwords of their accounts.
    Host,
    /// One on the way to them, which has passwords of its own and is given no other.
    JumpHost,
}

/// Whether PAM asks for the password that the account has. One that it wants instead ("New
/// password:") and codes are something else, so nothing looser than its own words counts.
fn is_for_password(prompt: &str) -> bool {
    let prompt = prompt.trim().trim_end_matches(':').to_lowercase();
    prompt == "password" || prompt.ends_with("'s password")
}

/// Whether what is typed may be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// It may.
    Shown,
    /// It must not.
    Hidden,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody can be asked: there is no terminal.
    NoTerminal,
    /// The operator declined.
    Declined,
}

/// Asks for the password of an account once, however many hosts want it: the first answer is given
/// to all of them. A host that refuses it is the reason to ask once more, again for all. A jump host is
/// asked about apart, whatever its account is called, and once as well.
pub struct OnceAFleet<P> {
    asking: P,
    given: Option<SecretString>,
    answers: tokio::sync::Mutex<HashMap<Account, (u32, SecretString)>>,
}

/// An account on all hosts of the fleet, or on the jump host that is named.
type Account = (String, Option<String>);

impl<P: Prompt> OnceAFleet<P> {
    /// Asks by way of `asking`; `given` is the password that was brought along, in place of any question.
    pub fn new(asking: P, given: Option<SecretString>) -> Self {
        Self {
            asking,
            given,
            answers: tokio::sync::Mutex::default(),
        }
    }

    async fn password(
        &self,
        question: &Question,
        (user, attempt): (&str, u32),
    ) -> Result<SecretString, Refusal> {
        let jump_host = question.jump_host();
        if let (Some(given), None) = (&self.given, jump_host) {
            return if attempt == 1 {
                Ok(given.clone())
            } else {
                Err(Refusal::Declined)
            };
        }
        // Held while the operator types, so that the others wait for the same answer.
        let mut answers = self.answers.lock().await;
        let account = (user.to_owned(), jump_host.map(str::to_owned));
        match answers.get(&account) {
            Some((asked, answer)) if *asked >= attempt => Ok(answer.clone()),
            Some(_) | None => {
                let answer = self.asking.ask(question).await?;
                answers.insert(account, (attempt, answer.clone()));
                Ok(answer)
            }
        }
    }
}

impl<P: Prompt> Prompt for OnceAFleet<P> {
    fn ask<'a>(&'a self, question: &'a Question) -> Pending<'a, Result<SecretString, Refusal>> {
        Box::pin(async move {
            match question.password_of() {
                Some(whose) => self.password(question, whose).await,
                None => self.asking.ask(question).await,
            }
        })
    }
}

/// Refuses every question: for CI and for tests.
#[derive(Debug, Clone, Copy)]
pub struct NoPrompt;

impl Prompt for NoPrompt {
    fn ask<'a>(&'a self, _question: &'a Question) -> Pending<'a, Result<SecretString, Refusal>> {
        Box::pin(async { Err(Refusal::NoTerminal) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;
    use std::sync::Mutex;

    /// Answers `first`, `second`, … and counts.
    #[derive(Default)]
    struct Person(Mutex<Vec<Question>>);

    impl Prompt for Person {
        fn ask<'a>(&'a self, question: &'a Question) -> Pending<'a, Result<SecretString, Refusal>> {
            Box::pin(async move {
                tokio::task::yield_now().await;
                let mut asked = self.0.lock().unwrap();
                asked.push(question.clone());
                Ok(format!("answer {}", asked.len()).into())
            })
        }
    }

    fn login(host: &str, attempt: u32) -> Question {
        Question::Password {
            user: "root".into(),
            host: host.into(),
            asker: Asker::Host,
            attempt,
        }
    }

    fn at_jump_host(host: &str, attempt: u32) -> Question {
        Question::Password {
            user: "root".into(),
            host: host.into(),
            asker: Asker::JumpHost,
            attempt,
        }
    }

    fn interactive(prompt: &str, echo: Echo) -> Question {
        Question::Interactive {
            user: "root".into(),
            host: "web1".into(),
            asker: Asker::Host,
            prompt: prompt.into(),
            echo,
            attempt: 1,
        }
    }

    async fn answer(prompt: &impl Prompt, question: Question) -> String {
        let answer = prompt.ask(&question).await.unwrap();
        answer.expose_secret().to_owned()
    }

    #[tokio::test]
    async fn a_password_is_asked_for_once_and_once_more_when_it_was_wrong() {
        let prompt = OnceAFleet::new(Person::default(), None);
        let (one, two) = tokio::join!(
            answer(&prompt, login("web1", 1)),
            answer(&prompt, login("web2", 1))
        );
        assert_eq!((one.as_str(), two.as_str()), ("answer 1", "answer 1"));
        let sudo = Question::Sudo {
            user: "root".into(),
            host: "web3".into(),
            attempt: 1,
        };
        assert_eq!(answer(&prompt, sudo).await, "answer 1");
        assert_eq!(answer(&prompt, login("web1", 2)).await, "answer 2");
        assert_eq!(answer(&prompt, login("web2", 2)).await, "answer 2");
        assert_eq!(answer(&prompt, login("web4", 1)).await, "answer 2");
        assert_eq!(prompt.asking.0.lock().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_code_is_asked_for_each_time_and_a_new_password_is_not_the_old_one() {
        let prompt = OnceAFleet::new(Person::default(), None);
        assert_eq!(answer(&prompt, login("web1", 1)).await, "answer 1");
        let pam = interactive("Password: ", Echo::Hidden);
        assert_eq!(answer(&prompt, pam).await, "answer 1");
        for (number, other) in ["Verification code:", "New password:", "Current password:"]
            .iter()
            .enumerate()
        {
            let said = answer(&prompt, interactive(other, Echo::Hidden)).await;
            assert_eq!(said, format!("answer {}", number + 2), "{other}");
        }
        let shown = interactive("Password:", Echo::Shown);
        assert_eq!(answer(&prompt, shown).await, "answer 5");
    }

    #[tokio::test]
    async fn a_password_that_was_brought_along_is_tried_once_a_host_and_nobody_is_asked() {
        let prompt = OnceAFleet::new(NoPrompt, Some("brought".to_owned().into()));
        assert_eq!(answer(&prompt, login("web1", 1)).await, "brought");
        assert_eq!(answer(&prompt, login("web2", 1)).await, "brought");
        let again = prompt.ask(&login("web1", 2)).await;
        assert!(matches!(again, Err(Refusal::Declined)));
    }

    #[tokio::test]
    async fn a_jump_host_is_never_given_the_fleets_password_and_has_one_of_its_own() {
        let brought = Some("brought".to_owned().into());
        let prompt = OnceAFleet::new(Person::default(), brought);
        assert_eq!(
            answer(&prompt, at_jump_host("bastion", 1)).await,
            "answer 1"
        );
        assert_eq!(answer(&prompt, login("web1", 1)).await, "brought");
        let nobody = OnceAFleet::new(NoPrompt, Some("brought".to_owned().into()));
        let refused = nobody.ask(&at_jump_host("bastion", 1)).await;
        assert!(matches!(refused, Err(Refusal::NoTerminal)));

        let prompt = OnceAFleet::new(Person::default(), None);
        for (question, said) in [
            (login("web1", 1), "answer 1"),
            (at_jump_host("bastion", 1), "answer 2"),
            (at_jump_host("other", 1), "answer 3"),
            (at_jump_host("bastion", 1), "answer 2"),
            (login("bastion", 1), "answer 1"),
        ] {
            assert_eq!(
                answer(&prompt, question.clone()).await,
                said,
                "{question:?}"
            );
        }
    }
}
