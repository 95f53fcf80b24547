//! The vault of a push: sealed files of `inventory/secrets`, opened with the operator's keys.

use push_wire::digest::Digest;

use super::Stop;
use super::environment::Environment;
use crate::desired::{Opened, Vault, VaultError};
use crate::name::FileName;
use crate::report::Report;

/// The vault of an environment. Asks for nothing yet: a push whose hosts hold every secret already
/// opens none.
pub fn open(_: &Environment, _: &Report) -> Result<Box<dyn Vault + Send>, Stop> {
    Ok(Box::new(Closed))
}

/// Stands here until the secret room does: says so instead of opening anything.
struct Closed;

fn closed() -> VaultError {
    VaultError {
        why: "this build cannot open secrets yet".to_owned(),
        help: "take `secrets` out of the inventory".to_owned(),
    }
}

impl Vault for Closed {
    fn source(&self, _: &FileName) -> Result<Digest, VaultError> {
        Err(closed())
    }

    fn open(&self, _: &FileName) -> Result<Opened, VaultError> {
        Err(closed())
    }

    fn seal(&self, _: &[u8], _: &str) -> Result<Vec<u8>, VaultError> {
        Err(closed())
    }
}
