//! A transaction's name and nonce, fresh from the operating system's randomness.

use std::fs::File;
use std::io::{self, Read as _};

use push_wire::digest::Digest;
use push_wire::name::TransactionId;

/// The digits of a name: two runs never share one. A nonce has twice as many.
const NAME_DIGITS: usize = 32;

/// What one run of one transaction is known by.
pub struct Ticket {
    /// Its name.
    pub transaction: TransactionId,
    nonce: String,
}

impl Ticket {
    /// A ticket that nobody has had before.
    pub fn draw() -> io::Result<Self> {
        let mut random = File::open("/dev/urandom")?;
        let transaction = digits(&mut random)?[..NAME_DIGITS]
            .parse()
            .map_err(io::Error::other)?;
        let nonce = digits(&mut random)?;
        Ok(Self { transaction, nonce })
    }

    /// What the host is told beforehand.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.nonce)
    }

    /// What only a confirmation carries.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ticket({})", self.transaction)
    }
}

/// 32 random bytes as hexadecimal digits, which is also how a digest is written.
fn digits(random: &mut File) -> io::Result<String> {
    let mut bytes = [0; 32];
    random.read_exact(&mut bytes)?;
    Ok(Digest::from_bytes(bytes).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tickets_are_alike_and_none_shows_its_nonce() {
        let (one, other) = (Ticket::draw().unwrap(), Ticket::draw().unwrap());
        assert_ne!(one.transaction, other.transaction);
        assert_ne!(one.digest(), other.digest());
        assert_eq!(one.nonce().len(), 2 * NAME_DIGITS);
        assert!(!format!("{one:?}").contains(one.nonce()));
    }
}
