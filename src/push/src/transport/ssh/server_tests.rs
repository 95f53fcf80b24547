//! Against a server made of the library's own parts: what a real sshd cannot be brought to do.

use super::*;
use crate::transport::prompt::{Asker, Echo, NoPrompt, Question, Refusal};
use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::server::{self, Auth, Response};
use russh::{MethodKind, MethodSet};
use secrecy::SecretString;
use std::borrow::Cow;
use tokio::net::TcpListener;

/// A server that asks for a password and a code, then for nothing, and wants `secret` and `123456`.
struct SecondFactor {
    round: usize,
}

impl server::Handler for SecondFactor {
    type Error = russh::Error;

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        let answers: Vec<Vec<u8>> = response
            .map(|response| response.map(|answer| answer.to_vec()).collect())
            .unwrap_or_default();
        self.round += 1;
        let prompts: Cow<'static, [(Cow<'static, str>, bool)]> = match self.round {
            1 => Cow::Borrowed(&[
                (Cow::Borrowed("Password\x1b[2J: "), false),
                (Cow::Borrowed("Code: "), true),
            ]),
            2 if answers == [b"secret".to_vec(), b"123456".to_vec()] => Cow::Borrowed(&[]),
            3 => return Ok(Auth::Accept),
            _ => return Ok(Auth::reject()),
        };
        Ok(Auth::Partial {
            name: Cow::Borrowed(""),
            instructions: Cow::Borrowed(""),
            prompts,
        })
    }

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, Self::Error> {
        let methods = MethodSet::from(&[MethodKind::KeyboardInteractive][..]);
        Ok(Auth::Reject {
            proceed_with_methods: Some(methods),
            partial_success: false,
        })
    }
}

/// Starts the server for one connection; gives its target and, later, its handle.
async fn serve() -> (Target, tokio::task::JoinHandle<server::Handle>) {
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
    let pinned = HostKey::from_blob(key.public_key().to_bytes().unwrap()).unwrap();
    let config = Arc::new(server::Config {
        keys: vec![key],
        auth_rejection_time: Duration::from_millis(10),
        methods: MethodSet::from(&[MethodKind::KeyboardInteractive][..]),
        ..server::Config::default()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let target = Target {
        user: "me".into(),
        pinned: vec![pinned],
        ..Target::at("web1", "127.0.0.1", port)
    };
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let running = server::run_stream(config, stream, SecondFactor { round: 0 })
            .await
            .unwrap();
        let handle = running.handle();
        tokio::spawn(running);
        handle
    });
    (target, served)
}

/// Gives the same answers to everybody, and remembers the questions.
struct Operator {
    code: &'static str,
    asked: Mutex<Vec<Question>>,
}

impl Prompt for Operator {
    fn ask<'a>(&'a self, question: &'a Question) -> Pending<'a, Result<SecretString, Refusal>> {
        self.asked.lock().unwrap().push(question.clone());
        let answer = match question {
            Question::Interactive {
                echo: Echo::Shown, ..
            } => self.code,
            _ => "secret",
        };
        Box::pin(async move { Ok(SecretString::from(answer)) })
    }
}

async fn log_in(
    code: &'static str,
) -> (
    Result<Box<dyn Connection>, Error>,
    Vec<Question>,
    server::Handle,
) {
    let (target, served) = serve().await;
    let operator = Arc::new(Operator {
        code,
        asked: Mutex::default(),
    });
    let dialed = SshDialer::new(operator.clone())
        .dial(&target, Route::Shared)
        .await;
    let asked = operator.asked.lock().unwrap().clone();
    (dialed, asked, served.await.unwrap())
}

#[tokio::test]
async fn a_second_factor_is_asked_for_and_empty_rounds_are_answered() {
    let (dialed, asked, _server) = log_in("123456").await;
    dialed.map(drop).unwrap();
    let question = |prompt: &str, echo| Question::Interactive {
        user: "me".into(),
        host: "web1".into(),
        asker: Asker::Host,
        prompt: prompt.into(),
        echo,
        attempt: 1,
    };
    assert_eq!(
        asked,
        [
            question("Password\\x1b[2J:", Echo::Hidden),
            question("Code:", Echo::Shown)
        ]
    );
}

#[tokio::test]
async fn a_wrong_code_is_not_tried_again() {
    let (dialed, asked, _server) = log_in("000000").await;
    let error = dialed.err().unwrap();
    assert!(matches!(error, Error::AuthRefused { .. }), "{error:?}");
    assert_eq!(asked.len(), 2);
}

#[tokio::test]
async fn without_a_terminal_a_question_ends_the_login_at_once() {
    let (target, _served) = serve().await;
    let dialed = SshDialer::new(Arc::new(NoPrompt))
        .dial(&target, Route::Shared)
        .await;
    let error = dialed.err().unwrap();
    assert!(matches!(error, Error::PasswordNeeded { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_may_open_nothing_towards_us() {
    let (dialed, _, server) = log_in("123456").await;
    let _connection = dialed.unwrap();
    let refused = [
        server.channel_open_session().await.err(),
        server.channel_open_agent().await.err(),
        server.channel_open_x11("::1", 1).await.err(),
        server
            .channel_open_direct_tcpip("::1", 22, "::1", 1)
            .await
            .err(),
        server.channel_open_direct_streamlocal("/run/x").await.err(),
        server
            .channel_open_forwarded_tcpip("::1", 22, "::1", 1)
            .await
            .err(),
        server
            .channel_open_forwarded_streamlocal("/run/x")
            .await
            .err(),
    ];
    for (index, error) in refused.iter().enumerate() {
        assert!(
            matches!(error, Some(russh::Error::ChannelOpenFailure(_))),
            "channel {index} was opened"
        );
    }
}
