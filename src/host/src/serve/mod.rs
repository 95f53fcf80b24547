//! The conversation with one operator, over standard input and output. Nothing but frames is written
//! there, and nothing else keeps a switch going: the operator may vanish at any moment.
//!
//! | file | does |
//! |---|---|
//! | `channel` | frames in, frames out |
//! | `pulse` | signs of life, and what becomes of a session whose operator gives none |
//! | `session` | one request after the other, and the lock |
//! | `adrift` | before the first word: a transaction that nobody carries on is recovered |
//! | `hello` | the first word |
//! | `transfer` | contents that follow a request: packs, and push-host itself |
//! | `upgrade` | an upgrade of the operating system: tells how it goes on, takes it up |
//! | `watch` | tells how a transaction goes on; hands over a confirmation |
//! | `outside` | what a session lets other processes do: the real tools' checks, the transaction |
//!
//! To answer a new request: its variant in `push_wire::message`, and the compiler leads here.

mod adrift;
mod channel;
mod hello;
mod outside;
mod pulse;
mod session;
mod transfer;
mod upgrade;
pub(crate) mod watch;

use std::io::{Read, Write};

use push_wire::message::{Refusal, Reply, Request};

use crate::fingerprint;
use crate::groundwork;
use crate::layout::Layout;
use crate::machine::Machine;

pub use hello::reads;
pub use outside::{OnHost, Outside, USED_WRONGLY};
pub use pulse::GiveUp;

/// What a conversation is held over.
pub struct Line<R, W> {
    /// What the operator's side says.
    pub input: R,
    /// What it hears.
    pub output: W,
    /// What is done when nobody is there any more and the session is busy: its process has to end, so
    /// that the lock is free.
    pub give_up: GiveUp,
}

/// How a conversation ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The operator's side closed it, wherever that was.
    Gone,
    /// What came was not push's conversation; the operator's side has been told.
    Broken(String),
    /// push-host was replaced; the caller lets the new program go on with the same two pipes.
    Replaced,
}

/// Holds one conversation, from Hello to its end. Only a failure before the first word is an error:
/// then nobody is listening to frames yet.
pub fn serve<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    outside: &mut impl Outside,
    line: Line<impl Read + Send + 'static, impl Write + Send + 'static>,
) -> Result<End, crate::stage::Error> {
    let facts = outside.facts();
    let recovered = adrift::take_up(machine, layout, outside)?;
    let key = fingerprint::key(machine, layout)?;
    let said = (outside.program(), facts.clone());
    let hello = hello::hello((machine, layout), said, key, recovered)?;
    let channel = channel::Channel::new(line.input, line.output, line.give_up);
    Ok(session::Session::new((machine, layout), outside, channel, facts).hold(hello))
}

/// Says Hello to an operator who only wants to know what a push would do, tells what is lacking of a
/// groundwork, and refuses everything else.
/// Writes nothing on the host.
pub fn look<M: Machine>(
    machine: &mut M,
    layout: &Layout,
    outside: &impl Outside,
    line: Line<impl Read + Send + 'static, impl Write + Send + 'static>,
) -> Result<End, crate::stage::Error> {
    let key = fingerprint::key_to_look(machine, layout)?;
    let said = (outside.program(), outside.facts());
    let hello = hello::hello((machine, layout), said, key, None)?;
    let mut channel = channel::Channel::new(line.input, line.output, line.give_up);
    let mut told = channel.send(&Reply::Hello(Box::new(hello)));
    while told.is_ok()
        && let Ok(request) = channel.request()
    {
        let refused = |refusal| Reply::Refused(Box::new(refusal));
        let reply = if let Request::Survey(wanted) = request {
            groundwork::survey(machine, layout, &wanted).map_or_else(
                |error| {
                    let why = error.to_string();
                    refused(Refusal::Host { why })
                },
                Reply::Survey,
            )
        } else {
            let why = "this push-host only looks; it is not installed".to_owned();
            refused(Refusal::Protocol { why })
        };
        told = channel.send(&reply);
    }
    Ok(End::Gone)
}

#[cfg(test)]
mod tests;
