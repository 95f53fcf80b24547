//! Opens what a generation keeps sealed: one secret, or several that are put together here, so that
//! nobody else has to be able to open them.

use push_wire::bundle::{Bundle, Piece};
use zeroize::Zeroizing;

use crate::machine::World;

/// The content of a secret file. The reason why not never holds content.
pub fn open<M: World>(machine: &M, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    let Some(bundle) = Bundle::decode(sealed) else {
        return machine.unseal(sealed);
    };
    let mut whole = Zeroizing::new(Vec::new());
    for piece in bundle?.pieces {
        match piece {
            Piece::Text(text) => append(&mut whole, text.as_bytes()),
            Piece::Sealed { content, form } => {
                let opened = machine.unseal(&content.0)?;
                let written = form.write(&opened).map_err(|error| error.to_string())?;
                append(&mut whole, &Zeroizing::new(written));
            }
        }
    }
    Ok(whole)
}

/// Grows into new memory, and wipes the old.
fn append(whole: &mut Zeroizing<Vec<u8>>, more: &[u8]) {
    if whole.len() + more.len() > whole.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(2 * (whole.len() + more.len())));
        larger.extend_from_slice(whole);
        *whole = larger;
    }
    whole.extend_from_slice(more);
}

#[cfg(test)]
mod tests {
    use push_wire::bundle::Form;
    use push_wire::message::Bytes;

    use super::*;
    use crate::machine::simulated::{SEAL, Simulated};

    fn sealed(content: &[u8]) -> Bytes {
        Bytes([SEAL, content].concat())
    }

    fn opened(pieces: Vec<Piece>) -> Result<Vec<u8>, String> {
        let bundle = Bundle { pieces }.encode().unwrap();
        open(&Simulated::default(), &bundle).map(|content| content.to_vec())
    }

    #[test]
    fn pieces_are_put_together_in_their_order_and_forms() {
        let pieces = vec![
            Piece::Text("password = ".into()),
            Piece::Sealed {
                content: sealed(b"hunter 2\n"),
                form: Form::Inline,
            },
            Piece::Text("\n".into()),
            Piece::Sealed {
                content: sealed(b"a \"b\"\n"),
                form: Form::Variable("TOKEN".into()),
            },
        ];
        let expected = "password = hunter 2\nTOKEN=\"a \\\"b\\\"\"\n";
        assert_eq!(opened(pieces).unwrap(), expected.as_bytes());
    }

    #[test]
    fn what_grows_past_its_memory_is_whole() {
        let texts: Vec<String> = (0..200).map(|length| "x".repeat(length) + "\n").collect();
        let pieces = texts.iter().cloned().map(Piece::Text).collect();
        assert_eq!(opened(pieces).unwrap(), texts.concat().as_bytes());
    }

    #[test]
    fn one_secret_that_cannot_be_opened_or_written_gives_nothing_and_no_content() {
        let foreign = Piece::Sealed {
            content: Bytes(b"age-encryption.org/v1\n".to_vec()),
            form: Form::Inline,
        };
        let why = opened(vec![Piece::Text("user = a\n".into()), foreign]).unwrap_err();
        assert!(why.contains("not sealed to this host"), "{why}");
        let unwritable = Piece::Sealed {
            content: sealed(b"canary\0"),
            form: Form::Variable("TOKEN".into()),
        };
        let why = opened(vec![unwritable]).unwrap_err();
        assert!(why.contains("TOKEN") && !why.contains("canary"), "{why}");
    }
}
