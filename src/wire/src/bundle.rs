//! A secret file that is composed on the host: text, and secrets sealed to the host each by itself. So a
//! laptop that can open none of them still says how they stand together.

use serde::{Deserialize, Serialize};

use crate::encode::environment_file_line;
use crate::message::Bytes;

/// The first line of a bundle. No age file starts like this.
const HEAD: &[u8] = b"push-bundle/1\n";

/// The most pieces of one.
const PIECES_MAX: usize = 10_000;

/// What a secret file is put together from, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// The pieces.
    pub pieces: Vec<Piece>,
}

/// One piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Piece {
    /// Text as it is; nothing in it is secret.
    Text(String),
    /// A secret.
    Sealed {
        /// The age file.
        content: Bytes,
        /// How its content is written.
        form: Form,
    },
}

/// How the content of a secret is written among other text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// As it is, without the line feed with which editors end a file.
    Inline,
    /// As the line of an environment file that sets this variable.
    Variable(String),
}

/// Why a content cannot be written in a form. Never holds content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// It is no text.
    #[error("it is not UTF-8, so that no variable {0} can hold it")]
    NotText(String),
    /// Something in it has no spelling there.
    #[error("it holds a character that no variable {0} can hold")]
    Character(String),
}

impl Form {
    /// The content as it is written; wiped by whoever asked.
    pub fn write(&self, content: &[u8]) -> Result<Vec<u8>, FormError> {
        match self {
            Self::Inline => Ok(content.strip_suffix(b"\n").unwrap_or(content).to_vec()),
            Self::Variable(name) => {
                let text =
                    std::str::from_utf8(content).map_err(|_| FormError::NotText(name.clone()))?;
                let text = text.strip_suffix('\n').unwrap_or(text);
                environment_file_line(name, text)
                    .map(String::into_bytes)
                    // The error's own text would name a character of the secret.
                    .map_err(|_| FormError::Character(name.clone()))
            }
        }
    }
}

impl Bundle {
    /// The bytes that travel and are kept.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = HEAD.to_vec();
        serde_json::to_writer(&mut bytes, self)?;
        Ok(bytes)
    }

    /// The bundle in these bytes; `None` when they are something else, such as an age file.
    pub fn decode(bytes: &[u8]) -> Option<Result<Self, String>> {
        let json = bytes.strip_prefix(HEAD)?;
        let bundle = serde_json::from_slice(json).map_err(|error| error.to_string());
        Some(bundle.and_then(|bundle: Self| {
            if bundle.pieces.len() > PIECES_MAX {
                return Err(format!("it has more than {PIECES_MAX} pieces"));
            }
            Ok(bundle)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_read_as_it_was_written_and_an_age_file_is_none() {
        let bundle = Bundle {
            pieces: vec![
                Piece::Text("password = \"".into()),
                Piece::Sealed {
                    content: Bytes(b"age-encryption.org/v1\n\xff".to_vec()),
                    form: Form::Inline,
                },
                Piece::Sealed {
                    content: Bytes(Vec::new()),
                    form: Form::Variable("TOKEN".into()),
                },
            ],
        };
        assert_eq!(Bundle::decode(&bundle.encode().unwrap()), Some(Ok(bundle)));
        assert_eq!(Bundle::decode(b"age-encryption.org/v1\n"), None);
        assert!(Bundle::decode(b"push-bundle/1\n{").is_some_and(|found| found.is_err()));
    }

    #[test]
    fn a_form_never_repeats_what_it_refuses() {
        let token = Form::Variable("TOKEN".into());
        assert_eq!(token.write(b"a\"b\n").unwrap(), b"TOKEN=\"a\\\"b\"\n");
        assert_eq!(Form::Inline.write(b"a\n\n").unwrap(), b"a\n");
        for wrong in [b"\xffcanary".as_slice(), b"can\0ary"] {
            let error = token.write(wrong).unwrap_err().to_string();
            assert!(error.contains("TOKEN") && !error.contains("canary"));
        }
    }
}
