//! One host of a push: its connection, the conversation on it, and how it is called again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Access, Known};
use crate::conversation::{Conversation, Error, Opening, Permit, Presence};
use crate::event::{Obstacle, ObstacleKind, Outcome, Step, Whose};
use crate::name::HostName;
use crate::transport::{self, Connection, HostKey, Route, Target};

/// The longest that making one connection may take, all of its own bounds included.
const DIAL_MAX: Duration = Duration::from_secs(120);

/// A host that said Hello.
pub struct Contact {
    pub host: HostName,
    pub access: Arc<Access>,
    pub conversation: Conversation,
    connection: Box<dyn Connection>,
    /// The way that it was reached by.
    target: Target,
}

/// A connection and the conversation on it.
pub struct Call {
    pub connection: Box<dyn Connection>,
    pub conversation: Conversation,
}

/// Where a host is and who it has to be.
#[derive(Clone)]
pub struct Whereabouts {
    pub host: HostName,
    pub target: Target,
    /// Where the operator comes in again, if that is another way.
    pub returns: Option<Target>,
    /// The key that it proved to hold when it was first called in this push.
    pub key: HostKey,
}

impl Contact {
    /// Calls a host for the first time.
    pub async fn make(
        access: Arc<Access>,
        host: HostName,
        permit: Permit<'_>,
    ) -> Result<Self, Outcome> {
        let began = Instant::now();
        let Some(target) = access.targets.get(&host) else {
            return Err(failed(no_target(&host)));
        };
        access.tell(&host, Step::Connecting);
        let returns = access.returns.get(&host);
        let dialled = dial_either(&access, (target, returns), Route::Shared).await;
        let (connection, target) = dialled.map_err(|error| unreachable(&access, &error.into()))?;
        access.tell(&host, Step::Connected { took_ms: ms(began) });
        let called = Instant::now();
        let opening = (&host, target.user.as_str(), access.presence);
        let opened = open(&access, opening, connection.as_ref(), permit).await;
        match opened {
            Ok(conversation) => {
                let generation = conversation.hello().manifest.generation;
                let took_ms = ms(called);
                access.tell(
                    &host,
                    Step::Greeted {
                        took_ms,
                        generation,
                    },
                );
                let target = target.clone();
                if let Some(found) = &conversation.hello().recovered {
                    let (transaction, state) = (found.transaction.clone(), found.state.clone());
                    access.tell(&host, Step::Recovered { transaction, state });
                }
                Ok(Self {
                    host,
                    access,
                    conversation,
                    connection,
                    target,
                })
            }
            Err(error) => {
                hang_up(&access, connection).await;
                Err(before_switch(&access, &error))
            }
        }
    }

    /// Where the host is, for calling it again.
    pub fn whereabouts(&self) -> Whereabouts {
        Whereabouts {
            host: self.host.clone(),
            target: self.target.clone(),
            returns: self.access.returns.get(&self.host).cloned(),
            key: self.connection.server_key().key.clone(),
        }
    }

    /// What is known of the host without its past.
    pub fn known(&self) -> Known {
        Known {
            host: self.host.clone(),
            way_in: self.target.port,
            hello: self.conversation.hello().clone(),
            history: Vec::new(),
            lacking: BTreeSet::new(),
            earlier: None,
        }
    }

    /// Tells of the host's groundwork, as long as it is made.
    pub fn working(&self) -> impl Fn(&str) + Sync + use<> {
        let (access, host) = (Arc::clone(&self.access), self.host.clone());
        move |what| {
            let what = what.to_owned();
            access.tell(&host, Step::Working { what });
        }
    }

    /// Replaces a connection that was lost.
    pub async fn renew(&mut self) -> Result<(), Error> {
        let whereabouts = self.whereabouts();
        let call = call_again(&self.access, &whereabouts, Route::Shared).await?;
        self.conversation = call.conversation;
        let old = std::mem::replace(&mut self.connection, call.connection);
        hang_up(&self.access, old).await;
        Ok(())
    }

    /// Ends the conversation and the connection.
    pub async fn end(self) {
        self.conversation.end().await;
        hang_up(&self.access, self.connection).await;
    }
}

/// Calls a host that was called before in this push, and sees that it is still the same.
pub async fn call_again(
    access: &Access,
    whereabouts: &Whereabouts,
    route: Route,
) -> Result<Call, Error> {
    let ways = (&whereabouts.target, whereabouts.returns.as_ref());
    let (connection, target) = dial_either(access, ways, route).await?;
    if connection.server_key().key != whereabouts.key {
        let error = transport::Error::HostKeyChanged {
            host: whereabouts.host.to_string(),
            key: connection.server_key().key.clone(),
            expected: vec![whereabouts.key.to_string()],
        };
        hang_up(access, connection).await;
        return Err(error.into());
    }
    let opening = (&whereabouts.host, target.user.as_str(), Presence::AsFound);
    let permit: Permit<'_> = &|| Box::pin(async { Ok(()) });
    let opened = open(access, opening, connection.as_ref(), permit).await;
    match opened {
        Ok(conversation) => Ok(Call {
            connection,
            conversation,
        }),
        Err(error) => {
            hang_up(access, connection).await;
            Err(error)
        }
    }
}

impl Whereabouts {
    /// The same, as the operator comes in again.
    pub fn returning(&self) -> Self {
        Self {
            target: self.returns.clone().unwrap_or_else(|| self.target.clone()),
            returns: None,
            ..self.clone()
        }
    }
}

impl Call {
    /// Ends the conversation and the connection.
    pub async fn end(self, access: &Access) {
        self.conversation.end().await;
        hang_up(access, self.connection).await;
    }
}

/// Dials, and where the login is refused the other way that there is: a host that has become a member lets
/// nobody in any more as it did when it was fresh. Returns the way that led in.
async fn dial_either<'t>(
    access: &Access,
    (target, returns): (&'t Target, Option<&'t Target>),
    route: Route,
) -> Result<(Box<dyn Connection>, &'t Target), transport::Error> {
    match (dial(access, target, route).await, returns) {
        (Err(first @ transport::Error::AuthRefused { .. }), Some(returns)) => {
            match dial(access, returns, route).await {
                Ok(connection) => Ok((connection, returns)),
                Err(second) => Err(worth_telling(first, second)),
            }
        }
        (dialled, _) => Ok((dialled?, target)),
    }
}

/// Why neither way led in. Where the other login is refused as well, it may not be there yet, and nothing
/// that is done about it helps: what the operator asked for is to be put right.
fn worth_telling(first: transport::Error, second: transport::Error) -> transport::Error {
    let is_refused = matches!(
        second,
        transport::Error::AuthRefused { .. }
            | transport::Error::AuthCutOff { .. }
            | transport::Error::PasswordNeeded { .. }
    );
    if is_refused { first } else { second }
}

async fn dial(
    access: &Access,
    target: &Target,
    route: Route,
) -> Result<Box<dyn Connection>, transport::Error> {
    match timeout(DIAL_MAX, access.dialer.dial(target, route)).await {
        Ok(dialled) => dialled,
        Err(_) => Err(transport::Error::Silent {
            host: target.host.clone(),
            at: target.place(),
            stage: "the whole of connecting",
            waited: DIAL_MAX,
        }),
    }
}

async fn open(
    access: &Access,
    (host, login, presence): (&HostName, &str, Presence),
    connection: &dyn Connection,
    permit: Permit<'_>,
) -> Result<Conversation, Error> {
    let opening = Opening {
        host,
        login,
        programs: access.programs,
        presence,
        prompt: access.dialer.prompt(),
        permit,
        tell: &|step| access.tell(host, step),
    };
    Conversation::open(connection, &opening).await
}

async fn hang_up(access: &Access, connection: Box<dyn Connection>) {
    access.traffic.add(connection.traffic());
    connection.disconnect().await;
}

/// The outcome of an error at a time when the host has not been told to switch.
pub fn before_switch(access: &Access, error: &Error) -> Outcome {
    match error {
        Error::NotPermitted(obstacle) => failed(obstacle.clone()),
        // No push has the lock of a host that it has not greeted yet.
        Error::Locked { holder, .. } => Outcome::Locked {
            holder: holder.as_ref().clone(),
            whose: Whose::Others,
        },
        error if error.is_unreachable() => unreachable(access, error),
        error => failed(obstacle(access, error)),
    }
}

fn unreachable(access: &Access, error: &Error) -> Outcome {
    Outcome::Unreachable {
        obstacle: Obstacle {
            kind: ObstacleKind::Reach,
            ..obstacle(access, error)
        },
    }
}

/// The outcome of an obstacle at a time when the host has not been told to switch.
pub fn failed(obstacle: Obstacle) -> Outcome {
    Outcome::Failed { obstacle }
}

/// An error in words.
pub fn obstacle(access: &Access, error: &Error) -> Obstacle {
    Obstacle {
        kind: ObstacleKind::Start,
        code: error.code().to_owned(),
        why: error.to_string(),
        help: error.help(&access.environment),
    }
}

fn no_target(host: &HostName) -> Obstacle {
    Obstacle {
        kind: ObstacleKind::Start,
        code: "push::rollout::no_target".into(),
        why: format!("nobody has said where {host} is"),
        help: "this is a mistake in push; please report it".into(),
    }
}

/// Milliseconds since `began`.
pub fn ms(began: Instant) -> u64 {
    milliseconds(began.elapsed())
}

/// A time in milliseconds, as the wire has it.
pub fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(user: &str) -> transport::Error {
        transport::Error::AuthRefused {
            host: "web1".into(),
            user: user.into(),
            offered: vec![],
            unusable: vec![],
            allowed: "password".into(),
        }
    }

    #[test]
    fn where_neither_login_is_let_in_the_one_that_was_asked_for_is_told_of() {
        let needed = transport::Error::PasswordNeeded {
            host: "web1".into(),
            user: "deploy".into(),
        };
        for second in [refused("deploy"), needed] {
            let told = worth_telling(refused("root"), second).to_string();
            assert!(told.contains("does not let root in"), "{told}");
        }
        let gone = transport::Error::lost("web1", "it is gone");
        let told = worth_telling(refused("root"), gone).to_string();
        assert!(told.contains("it is gone"), "{told}");
    }
}
