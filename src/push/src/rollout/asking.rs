//! Questions to many hosts at once that change nothing anywhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use push_wire::message::{Hello, Status, Transaction};

use super::contact::{Contact, before_switch};
use super::each::each;
use super::{Access, Outcome};
use crate::conversation::{Conversation, Error};
use crate::name::HostName;
use crate::transport::Pending;

/// A host's answer, beside what it said first.
#[derive(Debug)]
pub struct Present<T> {
    /// What it said first.
    pub hello: Hello,
    /// Its answer.
    pub answer: T,
}

/// What came of asking each host; a host that could not be asked has an outcome instead.
pub type Answers<T> = BTreeMap<HostName, Result<Present<T>, Outcome>>;

/// What is in effect on each host of `access`.
pub async fn statuses(access: Arc<Access>) -> Answers<Status> {
    ask(access, |conversation| Box::pin(conversation.status())).await
}

/// What happened on each host of `access`, the latest first, at most `limit` transactions.
pub async fn histories(access: Arc<Access>, limit: u32) -> Answers<Vec<Transaction>> {
    ask(access, move |conversation| {
        Box::pin(conversation.history(limit))
    })
    .await
}

/// Asks each host of `access` a question that writes nothing.
pub(super) async fn ask<T, Q>(access: Arc<Access>, question: Q) -> Answers<T>
where
    T: Send + 'static,
    Q: Fn(&mut Conversation) -> Pending<'_, Result<T, Error>> + Clone + Send + Sync + 'static,
{
    let hosts = access
        .targets
        .keys()
        .map(|host| (host.clone(), ()))
        .collect();
    let parallel = access.parallel;
    each(hosts, parallel, |host, ()| {
        let (access, question) = (Arc::clone(&access), question.clone());
        async move {
            let interrupt = access.interrupt.clone();
            let asked = interrupt
                .unless_asked(ask_one(access, host, question))
                .await;
            asked.unwrap_or(Err(Outcome::Interrupted))
        }
    })
    .await
}

async fn ask_one<T, Q>(
    access: Arc<Access>,
    host: HostName,
    question: Q,
) -> Result<Present<T>, Outcome>
where
    Q: Fn(&mut Conversation) -> Pending<'_, Result<T, Error>>,
{
    // A question writes nothing, so nothing has to be permitted.
    let permit = || -> Pending<'static, _> { Box::pin(async { Ok(()) }) };
    let mut contact = Contact::make(Arc::clone(&access), host, &permit).await?;
    let answer = question(&mut contact.conversation).await;
    let hello = contact.conversation.hello().clone();
    contact.end().await;
    match answer {
        Ok(answer) => Ok(Present { hello, answer }),
        Err(error) => Err(before_switch(&access, &error)),
    }
}
