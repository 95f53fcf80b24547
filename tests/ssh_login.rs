//! Getting in: key files, passphrases, the agent, certificates, second factors, and being refused.

use push::transport::prompt::{Asker, Prompt, Question, Refusal};
use push::transport::ssh::SshDialer;
use push::transport::target::{Asking, Identity, NamedBy, Offer};
use push::transport::{Connection, Dialer, Error, NoPrompt, Pending, Route, Target};
use push_tests::sshd::{Lab, Sshd, Wishes, account, host_key, identity, public, run};
use secrecy::SecretString;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A server that knows the keys in `authorized`, and a target without identities.
fn server(lab: &Lab, authorized: Vec<String>, config: &str) -> (Sshd, Target) {
    let host = lab.path("host");
    if !host.exists() {
        lab.key("host", &["ed25519"]);
    }
    let wishes = Wishes {
        host_keys: vec![host.clone()],
        authorized,
        config: config.into(),
    };
    let sshd = lab.sshd("sshd", &wishes);
    let target = Target {
        pinned: vec![host_key(&host)],
        ..sshd.target("web1")
    };
    (sshd, target)
}

async fn dial(target: &Target) -> Result<Box<dyn Connection>, Error> {
    SshDialer::new(Arc::new(NoPrompt))
        .dial(target, Route::Shared)
        .await
}

fn with(target: &Target, keys: &[&Path]) -> Target {
    Target {
        identities: keys.iter().map(|key| identity(key)).collect(),
        ..target.clone()
    }
}

fn error(result: Result<Box<dyn Connection>, Error>) -> Error {
    result.err().expect("this login must be refused")
}

/// Answers from a list, and remembers the questions.
#[derive(Default)]
struct Operator {
    answers: Mutex<Vec<&'static str>>,
    asked: Mutex<Vec<Question>>,
}

impl Operator {
    fn answering(answers: &[&'static str]) -> Arc<Self> {
        let answers = answers.iter().rev().copied().collect();
        Arc::new(Self {
            answers: Mutex::new(answers),
            asked: Mutex::default(),
        })
    }
}

impl Prompt for Operator {
    fn ask<'a>(&'a self, question: &'a Question) -> Pending<'a, Result<SecretString, Refusal>> {
        Box::pin(async move {
            // Typing takes longer than deciding: others must not be asked the same meanwhile.
            tokio::time::sleep(Duration::from_millis(200)).await;
            self.asked.lock().unwrap().push(question.clone());
            self.answers
                .lock()
                .unwrap()
                .pop()
                .map(SecretString::from)
                .ok_or(Refusal::Declined)
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_usual_kind_of_key_file_gets_in() {
    let Some(lab) = Lab::new() else { return };
    let keys = [
        lab.key("ed", &["ed25519"]),
        lab.key("ec", &["ecdsa", "-b", "384"]),
        lab.key("rsa", &["rsa", "-b", "2048"]),
        lab.key("pem", &["rsa", "-b", "2048", "-m", "PEM"]),
        lab.key("pkcs8", &["ecdsa", "-m", "PKCS8"]),
    ];
    let (_sshd, target) = server(&lab, keys.iter().map(|key| public(key)).collect(), "");
    for key in keys {
        if let Err(error) = dial(&with(&target, &[&key])).await {
            panic!("{}: {error}", key.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passphrase_is_asked_for_once_however_many_hosts_need_the_key() {
    let Some(lab) = Lab::new() else { return };
    let key = lab.key("locked", &["ed25519", "-N", "right", "-a", "4"]);
    let (_sshd, target) = server(&lab, vec![public(&key)], "");
    let operator = Operator::answering(&["wrong", "right"]);
    let dialer = SshDialer::new(operator.clone());
    let target = with(&target, &[&key]);
    let (one, two, three) = tokio::join!(
        dialer.dial(&target, Route::Shared),
        dialer.dial(&target, Route::Shared),
        dialer.dial(&target, Route::Shared)
    );
    assert!(one.is_ok() && two.is_ok() && three.is_ok());
    let asked = operator.asked.lock().unwrap().clone();
    let ask = |attempt| Question::Passphrase {
        path: key.clone(),
        attempt,
    };
    assert_eq!(asked, [ask(1), ask(2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_for_a_key_that_the_host_does_not_want() {
    let Some(lab) = Lab::new() else { return };
    let unwanted = lab.key("unwanted", &["ed25519", "-N", "secret", "-a", "4"]);
    let plain = lab.key("plain", &["ed25519"]);
    let (_sshd, target) = server(&lab, vec![public(&plain)], "");
    let operator = Operator::answering(&[]);
    let dialer = SshDialer::new(operator.clone());
    dialer
        .dial(&with(&target, &[&unwanted, &plain]), Route::Shared)
        .await
        .unwrap();
    let refused = dialer
        .dial(&with(&target, &[&unwanted]), Route::Shared)
        .await;
    assert!(matches!(error(refused), Error::AuthRefused { .. }));
    assert_eq!(operator.asked.lock().unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_a_locked_key_fails_at_once_and_says_what_to_do() {
    let Some(lab) = Lab::new() else { return };
    let key = lab.key("locked", &["ed25519", "-N", "secret", "-a", "4"]);
    let (_sshd, target) = server(&lab, vec![public(&key)], "");
    let error = error(dial(&with(&target, &[&key])).await);
    assert!(
        matches!(&error, Error::PassphraseNeeded { path, .. } if *path == key),
        "{error:?}"
    );
    assert!(
        error.help(&"prod".parse().unwrap()).contains("ssh-add"),
        "{}",
        error.help(&"prod".parse().unwrap())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_what_was_offered_and_what_the_host_accepts() {
    let Some(lab) = Lab::new() else { return };
    let (key, open) = (lab.key("key", &["ed25519"]), lab.key("open", &["ed25519"]));
    run(Command::new("chmod").arg("644").arg(&open));
    let (sshd, target) = server(&lab, vec![], "");
    let absent = lab.path("absent");
    let error = error(dial(&with(&target, &[&key, &open, &absent])).await);
    let Error::AuthRefused {
        offered,
        unusable,
        allowed,
        ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(allowed, "publickey");
    assert!(
        offered.len() == 1 && offered[0].contains(&host_key(&key).fingerprint()),
        "{offered:?}"
    );
    let unusable = unusable.join("\n");
    assert!(
        unusable.contains("mode 0644") && unusable.contains("no such file"),
        "{unusable}"
    );
    assert_eq!(
        sshd.logged().matches("Connection from").count(),
        1,
        "a refused login was tried again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_five_keys_are_offered_and_the_named_ones_first() {
    let Some(lab) = Lab::new() else { return };
    let keys: Vec<PathBuf> = (0..8)
        .map(|index| lab.key(&format!("k{index}"), &["ed25519"]))
        .collect();
    let (_sshd, target) = server(&lab, vec![public(&keys[7])], "");
    let named_by = |index: usize| {
        if index == 7 {
            NamedBy::Operator
        } else {
            NamedBy::Default
        }
    };
    let identities = keys.iter().enumerate();
    let identities = identities.map(|(index, key)| Identity {
        path: key.clone(),
        named_by: named_by(index),
    });
    dial(&Target {
        identities: identities.collect(),
        ..target.clone()
    })
    .await
    .unwrap();

    let all: Vec<&Path> = keys.iter().take(7).map(PathBuf::as_path).collect();
    let error = error(dial(&with(&target, &all)).await);
    let Error::AuthRefused { offered, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(offered.len(), 5, "{offered:?}");
    let said = error.to_string();
    let (_, kept_back) = said.split_once("could not use").unwrap();
    for key in &keys[5..7] {
        assert!(kept_back.contains(&host_key(key).fingerprint()), "{said}");
    }
    assert!(kept_back.contains("5 keys are the most"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_up_during_the_login_is_told_apart_from_a_refusal() {
    let Some(lab) = Lab::new() else { return };
    let keys = [
        lab.key("a", &["ed25519"]),
        lab.key("b", &["ed25519"]),
        lab.key("c", &["ed25519"]),
    ];
    let (_sshd, target) = server(&lab, vec![public(&keys[2])], "MaxAuthTries 2\n");
    let error = error(dial(&with(&target, &[&keys[0], &keys[1], &keys[2]])).await);
    let Error::AuthCutOff { said, offered, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(said.contains("Too many authentication failures"), "{error}");
    assert!(!offered.is_empty());
}

/// An agent of the test's own.
struct Agent {
    socket: PathBuf,
    child: std::process::Child,
}

impl Agent {
    fn start(lab: &Lab, keys: &[&Path]) -> Self {
        let socket = lab.path("agent.sock");
        let child = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let agent = Self { socket, child };
        // Its socket is there a moment before somebody listens at it.
        for _ in 0..500 {
            if UnixStream::connect(&agent.socket).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        for key in keys {
            run(Command::new("ssh-add")
                .arg("-q")
                .arg(key)
                .env("SSH_AUTH_SOCK", &agent.socket));
        }
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_signs_with_every_kind_of_key() {
    let Some(lab) = Lab::new() else { return };
    let keys = [
        lab.key("ed", &["ed25519"]),
        lab.key("rsa", &["rsa", "-b", "2048"]),
        lab.key("ec", &["ecdsa"]),
    ];
    for key in &keys {
        let agent = Agent::start(&lab, &[key]);
        let (_sshd, target) = server(&lab, vec![public(key)], "");
        let target = Target {
            agent: Some(agent.socket.clone()),
            ..target
        };
        dial(&target).await.unwrap();
        drop(agent);
        let _ = std::fs::remove_file(lab.path("agent.sock"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn identities_only_offers_from_the_agent_what_is_named_and_nothing_else() {
    let Some(lab) = Lab::new() else { return };
    let keys: Vec<PathBuf> = (0..7)
        .map(|index| lab.key(&format!("k{index}"), &["ed25519"]))
        .collect();
    let all: Vec<&Path> = keys.iter().map(PathBuf::as_path).collect();
    let agent = Agent::start(&lab, &all);
    let (_sshd, target) = server(&lab, vec![public(&keys[6])], "");
    // The public half names the key; the private half is in the agent alone.
    let public_half = PathBuf::from(format!("{}.pub", keys[6].display()));
    let target = Target {
        agent: Some(agent.socket.clone()),
        ..target
    };

    let only = Target {
        offer: Offer::OnlyIdentities,
        ..with(&target, &[&public_half])
    };
    dial(&only).await.unwrap();
    dial(&with(&target, &[&public_half])).await.unwrap();
    let unnamed = error(dial(&target).await);
    let Error::AuthRefused { offered, .. } = &unnamed else {
        panic!("{unnamed:?}")
    };
    assert_eq!(
        offered.len(),
        5,
        "the seventh key of an agent is not reached"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_gone_or_silent_does_not_keep_a_key_file_out() {
    let Some(lab) = Lab::new() else { return };
    let key = lab.key("key", &["ed25519"]);
    let (_sshd, target) = server(&lab, vec![public(&key)], "");
    let gone = Target {
        agent: Some(lab.path("gone")),
        ..with(&target, &[&key])
    };
    dial(&gone).await.unwrap();
    let silent = std::os::unix::net::UnixListener::bind(lab.path("silent")).unwrap();
    let target = Target {
        agent: Some(lab.path("silent")),
        ..with(&target, &[&key])
    };
    let dialed = tokio::time::timeout(Duration::from_secs(20), dial(&target)).await;
    assert!(dialed.unwrap().is_ok());
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_certificate_gets_in_from_a_file_and_from_the_agent() {
    let Some(lab) = Lab::new() else { return };
    let ca = lab.key("ca", &["ed25519"]);
    for kind in [&["ed25519"][..], &["rsa", "-b", "2048"]] {
        let key = lab.key(&format!("user_{}", kind[0]), kind);
        lab.certify(&ca, &key, &["-I", "me", "-n", &account()]);
        let trusted = format!("TrustedUserCAKeys {}.pub\n", ca.display());
        let (sshd, target) = server(&lab, vec![], &trusted);
        dial(&with(&target, &[&key])).await.unwrap();
        let agent = Agent::start(&lab, &[&key]);
        dial(&Target {
            agent: Some(agent.socket.clone()),
            ..target
        })
        .await
        .unwrap();
        let logged = sshd.logged();
        let accepted = logged
            .lines()
            .filter(|line| line.contains("Accepted publickey") && line.contains("-CERT"));
        assert_eq!(accepted.count(), 2, "{logged}");
        drop(agent);
        let _ = std::fs::remove_file(lab.path("agent.sock"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_on_file_is_used_with_a_key_that_only_the_agent_holds() {
    let Some(lab) = Lab::new() else { return };
    let (ca, key) = (lab.key("ca", &["ed25519"]), lab.key("user", &["ed25519"]));
    // The agent gets the key before there is a certificate, which ssh-add would load as well.
    let agent = Agent::start(&lab, &[&key]);
    lab.certify(&ca, &key, &["-I", "me", "-n", &account()]);
    std::fs::remove_file(&key).unwrap();
    let trusted = format!("TrustedUserCAKeys {}.pub\n", ca.display());
    let (_sshd, target) = server(&lab, vec![], &trusted);
    let target = with(&target, &[&key]);
    let missing = error(dial(&target).await);
    assert!(
        missing
            .to_string()
            .contains("neither there nor in the agent"),
        "{missing}"
    );
    let socket = agent.socket.clone();
    dial(&Target {
        agent: Some(socket),
        ..target
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_keys_are_given_where_two_are_asked_for() {
    let Some(lab) = Lab::new() else { return };
    let keys = [lab.key("one", &["ed25519"]), lab.key("two", &["ed25519"])];
    let (_sshd, target) = server(
        &lab,
        keys.iter().map(|key| public(key)).collect(),
        "AuthenticationMethods publickey,publickey\n",
    );
    dial(&with(&target, &[&keys[0], &keys[1]])).await.unwrap();
    let half = error(dial(&with(&target, &[&keys[0]])).await);
    assert!(half.to_string().contains("more is asked"), "{half}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_may_be_corrected_once_and_not_without_a_terminal() {
    let Some(lab) = Lab::new() else { return };
    let (sshd, target) = server(
        &lab,
        vec![],
        "PasswordAuthentication yes\nAuthenticationMethods password\n",
    );
    let needed = error(dial(&target).await);
    assert!(matches!(needed, Error::PasswordNeeded { .. }), "{needed:?}");
    assert!(
        needed
            .help(&"prod".parse().unwrap())
            .contains("--password-from"),
        "{}",
        needed.help(&"prod".parse().unwrap())
    );
    // Which password is right is the machine's business; that a wrong one ends soon is ours.
    let operator = Operator::answering(&["certainly not", "nor this", "a third"]);
    let refused = SshDialer::new(operator.clone())
        .dial(&target, Route::Shared)
        .await;
    assert!(matches!(error(refused), Error::AuthRefused { .. }));
    let ask = |attempt| Question::Password {
        user: account(),
        host: "web1".into(),
        asker: Asker::Host,
        attempt,
    };
    assert_eq!(*operator.asked.lock().unwrap(), [ask(1), ask(2)]);
    assert_eq!(sshd.logged().matches("Failed password").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_is_to_be_asked_no_password_is_tried() {
    let Some(lab) = Lab::new() else { return };
    let key = lab.key("key", &["ed25519"]);
    let (sshd, target) = server(&lab, vec![], "PasswordAuthentication yes\n");
    let quiet = Target {
        asking: Asking::Nobody,
        ..with(&target, &[&key])
    };
    let operator = Operator::answering(&["for another"]);
    let refused = SshDialer::new(operator.clone())
        .dial(&quiet, Route::Shared)
        .await;
    let refused = error(refused);
    assert!(matches!(refused, Error::AuthRefused { .. }), "{refused:?}");
    assert!(
        refused
            .help(&"prod".parse().unwrap())
            .contains("--password-from"),
        "{refused:?}"
    );
    assert_eq!(*operator.asked.lock().unwrap(), []);
    assert_eq!(sshd.logged().matches("Failed password").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_host_that_asks_is_named_as_one() {
    let Some(lab) = Lab::new() else { return };
    let (_sshd, target) = server(&lab, vec![], "PasswordAuthentication yes\n");
    let hop = Target {
        host: "bastion".into(),
        ..target.clone()
    };
    let behind = Target {
        jumps: vec![hop],
        ..target
    };
    let operator = Operator::answering(&["certainly not"]);
    let dialer = SshDialer::new(operator.clone());
    for route in [Route::Shared, Route::Fresh] {
        let refused = dialer.dial(&behind, route).await;
        assert!(matches!(error(refused), Error::Jump { .. }));
        let asked = std::mem::take(&mut *operator.asked.lock().unwrap());
        assert!(
            matches!(asked.first(), Some(Question::Password { host, asker: Asker::JumpHost, .. }) if host == "bastion"),
            "{route:?} {asked:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_came_in_without_a_question_is_asked_none_on_the_way_in_again() {
    let Some(lab) = Lab::new() else { return };
    let (_sshd, target) = server(&lab, vec![], "PasswordAuthentication yes\n");
    let operator = Operator::answering(&["certainly not"]);
    let refused = SshDialer::new(operator.clone())
        .dial(&target, Route::Fresh)
        .await;
    assert!(matches!(error(refused), Error::AuthRefused { .. }));
    assert!(operator.asked.lock().unwrap().is_empty());
}

/// Stands before a real agent, and lists a key more, of a type that nobody knows.
fn stand_before(agent: &Agent, socket: &Path) {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::{UnixListener, UnixStream};
    const IDENTITIES_ANSWER: u8 = 12;
    let (listener, behind) = (UnixListener::bind(socket).unwrap(), agent.socket.clone());
    let message = |stream: &mut UnixStream| -> Option<Vec<u8>> {
        let mut length = [0; 4];
        stream.read_exact(&mut length).ok()?;
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).ok()?];
        stream.read_exact(&mut body).ok()?;
        Some(body)
    };
    let say = |stream: &mut UnixStream, body: &[u8]| {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length, body].concat()).is_ok()
    };
    let string = |text: &[u8]| {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&length, text].concat()
    };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut front, mut back) = (stream.unwrap(), UnixStream::connect(&behind).unwrap());
            while let Some(asked) = message(&mut front) {
                assert!(say(&mut back, &asked));
                let mut answer = message(&mut back).unwrap();
                if answer[0] == IDENTITIES_ANSWER {
                    let count = u32::from_be_bytes(answer[1..5].try_into().unwrap());
                    let blob = [string(b"ssh-ed448"), string(&[7; 57])].concat();
                    let strange = [string(&blob), string(b"strange")].concat();
                    answer.splice(1..5, (count + 1).to_be_bytes());
                    answer.splice(5..5, strange);
                }
                if !say(&mut front, &answer) {
                    break;
                }
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_also_holds_a_key_of_an_unknown_type_signs_with_the_others() {
    let Some(lab) = Lab::new() else { return };
    let key = lab.key("key", &["ed25519"]);
    let agent = Agent::start(&lab, &[&key]);
    let socket = lab.path("before.sock");
    stand_before(&agent, &socket);
    let (_sshd, target) = server(&lab, vec![public(&key)], "");
    dial(&Target {
        agent: Some(socket),
        ..target
    })
    .await
    .unwrap();
}
